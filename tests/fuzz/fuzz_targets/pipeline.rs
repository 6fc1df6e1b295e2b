//! libFuzzer's entry to targets/pipeline.rs.
#![no_main]

#[path = "../targets/pipeline.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
