//! A proxy that a control plane configures, as its admin interface shows it.

use crate::process::Process;
use keyward_testbed::http1;
use serde_json::Value;
use std::net::SocketAddr;

/// A running proxy; it ends with the value.
pub struct Proxy {
    process: Process,
    admin: SocketAddr,
}

impl Proxy {
    /// Waits until the proxy that `process` starts is ready.
    pub fn ready(mut process: Process, admin: SocketAddr) -> Self {
        process.wait_for("the proxy is ready", || {
            http1::get(admin, "/ready", &[]).is_ok_and(|response| response.status == 200).then_some(())
        });
        Self { process, admin }
    }

    /// Envoy's configuration as it runs, with the endpoints.
    pub fn config_dump(&self) -> Value {
        http1::get(self.admin, "/config_dump?include_eds", &[]).unwrap().json()
    }

    /// The statistics whose names match a regular expression, as Envoy prints them.
    pub fn stats(&self, filter: &str) -> String {
        http1::get(self.admin, &format!("/stats?usedonly&filter={filter}"), &[]).unwrap().text()
    }

    /// What the process wrote: logs and access log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
