//! libFuzzer's entry to targets/gate.rs.
#![no_main]

#[path = "../targets/gate.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
