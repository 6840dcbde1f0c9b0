//! The host of this edition, as [`keyward_edge`] knows it: the functions of [`host`] behind its trait.

use crate::host::{self, Metric};
use crate::meter::Proxy;
use crate::source::Source;
use keyward_edge::host::{Host, StateName};
use keyward_edge::plugin::{self, Counters};
use keyward_policy::config::route_metadata;
use keyward_policy::rule::Access;
use std::cell::RefCell;
use std::sync::Arc;

/// A plugin configuration of this edition.
pub type Plugin = plugin::Plugin<Proxy>;

thread_local! {
    /// A VM runs on one thread, and its root contexts come and go with the plugin's configuration.
    static COUNTERS: RefCell<Option<Arc<Counters<Metric>>>> = const { RefCell::new(None) };
}

/// Returns the counters of this VM. They are defined once.
pub fn counters() -> Arc<Counters<Metric>> {
    COUNTERS.with_borrow_mut(|counters| Arc::clone(counters.get_or_insert_with(|| Arc::new(Counters::define(Proxy)))))
}

impl Host for Proxy {
    type Metric = Metric;
    type Source = Source;

    fn wall_clock_ns(self) -> u64 {
        host::wall_clock_ns()
    }

    fn request_headers(self) -> Vec<u8> {
        host::request_headers()
    }

    fn recycle(self, headers: Vec<u8>) {
        host::recycle(headers);
    }

    fn request_trailers(self) -> Vec<u8> {
        host::request_trailers()
    }

    fn remove_request_trailer(self, name: &[u8]) {
        host::remove_request_trailer(name);
    }

    fn set_request_header(self, name: &str, value: &[u8]) {
        host::set_request_header(name, value);
    }

    fn remove_request_header(self, name: &[u8]) {
        host::remove_request_header(name);
    }

    fn set_filter_state(self, name: &'static StateName, value: &[u8]) {
        host::set_filter_state(name.property, value);
    }

    fn clear_route_cache(self) {
        host::clear_route_cache();
    }

    fn route_metadata(self) -> Result<Option<Access>, String> {
        match host::property("xds\0route_metadata") {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => route_metadata::parse(&bytes).map_err(|why| why.to_string()),
            Err(status) => Err(format!("the route's metadata cannot be read: status {status}")),
        }
    }

    fn send_local_response(self, status: u16, details: &str, headers: &[u8], body: &[u8], grpc_status: i32) {
        host::send_local_response(status, details, headers, body, grpc_status);
    }

    fn count(self, metric: Metric, count: u64) {
        metric.add(count);
    }
}
