//! libFuzzer's entry to targets/http2.rs.
#![no_main]

#[path = "../targets/http2.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
