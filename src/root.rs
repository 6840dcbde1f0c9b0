//! The root context: one for each plugin configuration in each VM.

use crate::hold;
use crate::host;
use crate::http::Http;
use crate::plugin::{self, Plugin};
use crate::reply::Replies;
use keyward_policy::config::Config;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::cell::Cell;
use std::rc::Rc;

/// One plugin configuration in one VM.
pub struct Root {
    context_id: u32,
    plugin: Option<Rc<Plugin>>,
}

impl Root {
    pub fn new(context_id: u32) -> Self {
        Self { context_id, plugin: None }
    }
}

impl Context for Root {}

impl RootContext for Root {
    /// A function of the configuration's bytes alone. Were it to fail in a worker after it had passed on the main
    /// thread, Envoy would run that worker without the filter, and let everything pass.
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
        self.plugin = Some(Rc::new(Plugin {
            replies: Replies::new(&config),
            counters: plugin::counters(),
            source: None,
            complained: Cell::new(false),
            config,
        }));
        true
    }

    fn on_tick(&mut self) {
        hold::look_again(self.context_id);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(context_id, self.plugin.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
