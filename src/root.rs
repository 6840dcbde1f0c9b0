//! The root context. Each VM has one for each plugin configuration.

use crate::edition::{self, Plugin};
use crate::host;
use crate::requests;
use crate::source::Source;
use keyward_edge::plugin::Compiled;
use keyward_policy::config::{Config, TokenSecret};
use proxy_wasm::traits::{Context, RootContext};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// The root context of one plugin configuration in one VM.
pub struct Root {
    context_id: u32,
    plugin: Option<Rc<Plugin>>,
}

impl Root {
    /// Makes a root context without a configuration.
    pub fn new(context_id: u32) -> Self {
        Self { context_id, plugin: None }
    }

    fn source(&self) -> Option<&Source> {
        self.plugin.as_ref().and_then(|plugin| plugin.source.as_ref())
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _: usize, _: usize) {
        #[cfg(feature = "callback-times")]
        let _stopwatch = crate::stopwatch::Stopwatch::start();
        if let Some(source) = self.source() {
            source.on_answer(token, headers);
        }
        requests::decide_held(self.context_id);
    }
}

impl Drop for Root {
    /// The proxy has dropped this configuration: no answer arrives here any more.
    fn drop(&mut self) {
        if let Some(source) = self.source() {
            source.detach();
        }
    }
}

impl RootContext for Root {
    /// Compiles the configuration. The result depends on the configuration's bytes alone: were it to fail in a worker
    /// after it had passed on the main thread, Envoy would run that worker without the filter, and let everything pass.
    fn on_configure(&mut self, _: usize) -> bool {
        #[cfg(feature = "failpoint")]
        if crate::failpoint::refuses_configuration() {
            return false;
        }
        let config = match Config::parse(&host::plugin_configuration()) {
            Ok(config) => config,
            Err(errors) => {
                for problem in errors.problems() {
                    log::error!("keyward: invalid configuration: {problem}");
                }
                return false;
            }
        };
        if config.admin.as_ref().is_some_and(|admin| admin.token_secret.is_some()) {
            log::error!("keyward: invalid configuration: {}", TokenSecret::NATIVE_ONLY);
            return false;
        }
        if let Some(source) = self.source() {
            source.detach();
        }
        let compiled = Compiled::new(config);
        let config = &compiled.config;
        let plugin = Rc::new(Plugin {
            counters: edition::counters(),
            source: config.admin.as_ref().map(|admin| Source::attach(admin, config)),
            complained: AtomicBool::new(false),
            compiled,
        });
        requests::configured(self.context_id, &plugin);
        self.plugin = Some(plugin);
        if let Some(source) = self.source() {
            source.start();
        }
        true
    }

    fn on_tick(&mut self) {
        #[cfg(feature = "callback-times")]
        let _stopwatch = crate::stopwatch::Stopwatch::start();
        if let Some(source) = self.source() {
            source.on_tick();
        }
        requests::decide_held(self.context_id);
    }
}
