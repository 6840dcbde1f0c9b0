//! Fuzzes `hooks::hooks`.

#![no_main]

#[path = "../hooks.rs"]
mod hooks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hooks::hooks(data));
