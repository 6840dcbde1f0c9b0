//! Fuzzes `exchange::manifest_sync`.

#![no_main]

#[path = "../exchange.rs"]
mod exchange;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exchange::manifest_sync(data));
