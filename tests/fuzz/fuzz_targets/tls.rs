//! libFuzzer's entry to targets/tls.rs.
#![no_main]

#[path = "../targets/tls.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
