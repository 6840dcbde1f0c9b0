//! Crashes and failures that tests ask for. It is only in a module with the feature `failpoint`, which is never shipped:
//! `cargo xtask build` leaves it out.

use crate::host;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

const REQUEST_HEADER: &str = "x-keyward-failpoint";
const CONFIGURED: &str = "keyward.failpoint.configured";

/// Traps when a request asks for it by a header.
pub fn at_request() {
    if let Ok(Some(_)) = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, REQUEST_HEADER) {
        host::trap();
    }
}

/// Returns whether configuring has to fail: in workers alone, where the configuration of the VM is `workers-fail`. The
/// canary and the main thread are configured first.
pub fn refuses_configuration() -> bool {
    let vm = hostcalls::get_buffer(BufferType::VmConfiguration, 0, usize::MAX).ok().flatten();
    if vm.as_deref() != Some(b"workers-fail") {
        return false;
    }
    let (counted, _) = hostcalls::get_shared_data(CONFIGURED).unwrap_or_default();
    let before = counted.and_then(|bytes| bytes.first().copied()).unwrap_or(0);
    let _ = hostcalls::set_shared_data(CONFIGURED, Some(&[before.saturating_add(1)]), None);
    before >= 2
}
