//! What an edition provides.

use keyward_policy::decision::Decision;
use keyward_policy::policy::Unavailable;
use keyward_policy::rule::Access;
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;

/// The host of the filter, as one request sees it.
pub trait Host: Copy {
    /// A counter of the host.
    type Metric: Copy;
    /// The fetched keys.
    type Source: Source;

    /// Returns the wall clock, in nanoseconds since 1970.
    fn wall_clock_ns(self) -> u64;

    /// Returns the request's headers, serialized, to be given back to [`recycle`](Self::recycle). They are empty where
    /// the host does not hand them over, which refuses the request.
    fn request_headers(self) -> Vec<u8>;

    /// Takes back the memory of [`request_headers`](Self::request_headers).
    fn recycle(self, headers: Vec<u8>);

    /// Returns the request's trailers, serialized.
    fn request_trailers(self) -> Vec<u8>;

    /// Removes every request trailer of that name.
    fn remove_request_trailer(self, name: &[u8]);

    /// Sets a request header and replaces all that have its name.
    fn set_request_header(self, name: &str, value: &[u8]);

    /// Removes every request header of that name.
    fn remove_request_header(self, name: &[u8]);

    /// Writes a filter state.
    fn set_filter_state(self, name: &'static StateName, value: &[u8]);

    /// Lets the proxy choose the route again from the current headers.
    fn clear_route_cache(self);

    /// Returns what the metadata of the route asks for. `Ok(None)` means that it says nothing to Keyward.
    ///
    /// # Errors
    /// Why the metadata has no single meaning. Then the route is denied.
    fn route_metadata(self) -> Result<Option<Access>, String>;

    /// Answers the request instead of the upstream.
    fn send_local_response(self, status: u16, details: &str, headers: &[u8], body: &[u8], grpc_status: i32);

    /// Adds to a counter.
    fn count(self, metric: Self::Metric, count: u64);
}

/// The name of a filter state.
#[derive(Debug)]
pub struct StateName {
    /// The name of the property that a WebAssembly module sets.
    pub property: &'static str,
    /// The name of the filter state: Envoy puts `wasm.` before that of a property.
    pub key: &'static str,
}

/// The code of the decision.
pub static DECISION: StateName = StateName { property: "keyward.decision", key: "wasm.keyward.decision" };
/// The id of the key that was found.
pub static KEY_ID: StateName = StateName { property: "keyward.key_id", key: "wasm.keyward.key_id" };
/// The name of the key that was found.
pub static KEY_NAME: StateName = StateName { property: "keyward.key_name", key: "wasm.keyward.key_name" };
/// The id of the key that was allowed.
pub static IDENTITY_ID: StateName = StateName { property: "keyward.identity_id", key: "wasm.keyward.identity_id" };
/// The name of the key that was allowed.
pub static IDENTITY_NAME: StateName =
    StateName { property: "keyward.identity_name", key: "wasm.keyward.identity_name" };

/// The keys fetched from one admin service, as one configuration holds them.
pub trait Source {
    /// The keys while one request is decided.
    type Fetched<'a>: Fetched
    where
        Self: 'a;

    /// Returns the fetched keys, for one request.
    fn borrow(&self) -> Self::Fetched<'_>;

    /// Notes that a key was let through.
    fn record_use(&self, decision: &Decision<'_>, at: Timestamp);

    /// Notes that a request was refused. It counts where its key is known.
    fn record_denial(&self, decision: &Decision<'_>, at: Timestamp);
}

/// The fetched keys while one request is decided.
pub trait Fetched {
    /// Returns the table in use.
    ///
    /// # Errors
    /// Returns why there is none that may be used.
    fn table(&self) -> Result<&KeyTable, Unavailable>;

    /// Returns the last complete table, however old it is.
    fn last_table(&self) -> Option<&KeyTable>;
}

/// The host's metrics, outside of requests.
pub trait Meter: Copy {
    /// A counter or a gauge of the host.
    type Metric: Copy;

    /// Defines a counter.
    fn counter(self, name: &str) -> Self::Metric;

    /// Defines a gauge.
    fn gauge(self, name: &str) -> Self::Metric;

    /// Adds to a counter. Nothing happens for zero.
    fn add(self, counter: Self::Metric, count: u64);

    /// Sets a gauge.
    fn set(self, gauge: Self::Metric, value: u64);
}
