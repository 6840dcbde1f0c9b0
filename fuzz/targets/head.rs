//! Fuzzes `properties::head`.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target fuzzes one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::head(data));
