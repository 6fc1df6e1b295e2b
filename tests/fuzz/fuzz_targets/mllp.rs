//! libFuzzer's entry to targets/mllp.rs.
#![no_main]

#[path = "../targets/mllp.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
