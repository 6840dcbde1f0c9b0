//! Envoy, as one request sees it.
//!
//! A [`Stream`] is the pointer that Envoy passes to each hook of a request. It is valid while the hook runs.

use crate::abi::{self, Abi, Buffer, FilterPtr, Header};
use crate::host::{Metric, Scheduler, copy, serialize, wall_clock_ns};
use crate::source::Source;
use keyward_edge::head::Headers;
use keyward_edge::host::{Host, StateName};
use keyward_policy::config::route_metadata;
use keyward_policy::rule::Access;
use smallvec::SmallVec;

/// One request, on its worker.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    abi: &'static Abi,
    filter: FilterPtr,
}

impl Stream {
    /// Takes the pointer that Envoy passes to a hook of a request.
    ///
    /// # Safety
    /// The value must not outlive the hook.
    pub unsafe fn new(abi: &'static Abi, filter: FilterPtr) -> Self {
        Self { abi, filter }
    }

    fn map(self, kind: u32) -> Vec<u8> {
        let mut headers: SmallVec<[Header; 32]> = SmallVec::new();
        // SAFETY: the filter is live.
        let count = unsafe { (self.abi.http_get_headers_size)(self.filter, kind) };
        headers.resize(count, Header::EMPTY);
        // SAFETY: the filter is live, and there is room for as many headers as Envoy has.
        if count == 0 || !unsafe { (self.abi.http_get_headers)(self.filter, kind, headers.as_mut_ptr()) } {
            return Vec::new();
        }
        // SAFETY: Envoy has just written them, and nothing was changed since.
        unsafe { serialize(&headers) }
    }

    fn remove(self, kind: u32, name: &[u8]) {
        // SAFETY: the filter is live, and so is the name for the call. A null value removes.
        unsafe { (self.abi.http_set_header)(self.filter, kind, Buffer::lend(name), Buffer::NULL) };
    }

    /// Lets a request go on that was stopped.
    pub fn continue_decoding(self) {
        // SAFETY: the filter is live.
        unsafe { (self.abi.http_filter_continue_decoding)(self.filter) };
    }

    /// Makes a scheduler, which calls `on_http_filter_scheduled` of this request.
    pub fn scheduler(self) -> Option<Scheduler> {
        // SAFETY: the filter is live.
        let scheduler = unsafe { (self.abi.http_filter_scheduler_new)(self.filter) };
        let (commit, delete) = (self.abi.http_filter_scheduler_commit, self.abi.http_filter_scheduler_delete);
        // SAFETY: Envoy has just made it, or has made none, and both functions are for this kind.
        unsafe { Scheduler::own(scheduler, commit, delete) }
    }

    /// Returns the keys of the namespace in the metadata of the route.
    fn metadata_keys(self, namespace: Buffer) -> Vec<Buffer> {
        // SAFETY: the filter is live, and so is the namespace.
        let count = unsafe { (self.abi.http_get_metadata_keys_count)(self.filter, abi::ROUTE, namespace) };
        let mut keys = vec![Buffer::NULL; count];
        // SAFETY: as above, and there is room for as many keys as Envoy has.
        let read = count > 0
            && unsafe { (self.abi.http_get_metadata_keys)(self.filter, abi::ROUTE, namespace, keys.as_mut_ptr()) };
        if read { keys } else { Vec::new() }
    }

    /// Returns whether the metadata of the route has the namespace, although it has no keys there.
    fn has_namespace(self, namespace: &[u8]) -> bool {
        // SAFETY: the filter is live.
        let count = unsafe { (self.abi.http_get_metadata_namespaces_count)(self.filter, abi::ROUTE) };
        let mut names = vec![Buffer::NULL; count];
        // SAFETY: as above, and there is room for as many names as Envoy has.
        let read = count > 0
            && unsafe { (self.abi.http_get_metadata_namespaces)(self.filter, abi::ROUTE, names.as_mut_ptr()) };
        // SAFETY: Envoy has just written them.
        read && names.into_iter().any(|name| unsafe { copy(name) } == namespace)
    }
}

impl Host for Stream {
    type Metric = Metric;
    type Source = Source;

    fn wall_clock_ns(self) -> u64 {
        wall_clock_ns()
    }

    fn request_headers(self) -> Vec<u8> {
        self.map(abi::REQUEST_HEADERS)
    }

    fn recycle(self, _: Vec<u8>) {}

    fn request_trailers(self) -> Vec<u8> {
        self.map(abi::REQUEST_TRAILERS)
    }

    fn remove_request_trailer(self, name: &[u8]) {
        self.remove(abi::REQUEST_TRAILERS, name);
    }

    fn set_request_header(self, name: &str, value: &[u8]) {
        let (name, value) = (Buffer::lend(name.as_bytes()), Buffer::lend(value));
        // SAFETY: the filter is live, and so are both texts for the call.
        unsafe { (self.abi.http_set_header)(self.filter, abi::REQUEST_HEADERS, name, value) };
    }

    fn remove_request_header(self, name: &[u8]) {
        self.remove(abi::REQUEST_HEADERS, name);
    }

    fn set_filter_state(self, name: &'static StateName, value: &[u8]) {
        let (name, value) = (Buffer::lend(name.key.as_bytes()), Buffer::lend(value));
        // SAFETY: the filter is live, and so are both texts for the call.
        unsafe { (self.abi.http_set_filter_state_bytes)(self.filter, name, value) };
    }

    fn clear_route_cache(self) {
        // SAFETY: the filter is live.
        unsafe { (self.abi.http_clear_route_cache)(self.filter) };
    }

    fn route_metadata(self) -> Result<Option<Access>, String> {
        let namespace = Buffer::lend(route_metadata::NAMESPACE.as_bytes());
        let keys = self.metadata_keys(namespace);
        let key = match keys[..] {
            // A namespace without keys looks like none, except in the list of the namespaces.
            [] if self.has_namespace(route_metadata::NAMESPACE.as_bytes()) => {
                return Err(route_metadata::InvalidRouteMetadata::Empty.to_string());
            }
            [] => return Ok(None),
            [key] => key,
            _ => return Err(route_metadata::InvalidRouteMetadata::TwoFields.to_string()),
        };
        let mut value = Buffer::NULL;
        // SAFETY: the filter is live, and so are namespace and key; the out-pointer is to a live value.
        let read = unsafe { (self.abi.http_get_metadata_string)(self.filter, abi::ROUTE, namespace, key, &mut value) };
        if !read {
            return Err(route_metadata::InvalidRouteMetadata::NotAString.to_string());
        }
        // SAFETY: Envoy has just written both.
        let (key, value) = unsafe { (copy(key), copy(value)) };
        let (Ok(key), Ok(value)) = (std::str::from_utf8(&key), std::str::from_utf8(&value)) else {
            return Err(route_metadata::InvalidRouteMetadata::NotMetadata.to_string());
        };
        route_metadata::parse_field(key, value).map(Some).map_err(|why| why.to_string())
    }

    fn send_local_response(self, status: u16, details: &str, headers: &[u8], body: &[u8], grpc_status: i32) {
        let map = Headers::parse(headers);
        let mut list: SmallVec<[Header; 8]> =
            map.as_slice().iter().map(|(name, value)| Header::lend(name, value)).collect();
        // Envoy answers a gRPC request with status 0, which means success, unless the status is among the headers.
        let grpc_status = (grpc_status >= 0).then(|| grpc_status.to_string());
        list.extend(grpc_status.as_ref().map(|status| Header::lend(b"grpc-status", status.as_bytes())));
        let (body, details) = (Buffer::lend(body), Buffer::lend(details.as_bytes()));
        // SAFETY: the filter is live, and so are all texts for the call.
        unsafe {
            let (first, count) = (list.as_mut_ptr(), list.len());
            (self.abi.http_send_response)(self.filter, u32::from(status), first, count, body, details);
        }
    }

    fn count(self, metric: Metric, count: u64) {
        if let Some(id) = metric.0 {
            // SAFETY: the filter is live, and there are no labels.
            unsafe { (self.abi.http_filter_increment_counter)(self.filter, id, std::ptr::null_mut(), 0, count) };
        }
    }
}
