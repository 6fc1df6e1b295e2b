//! libFuzzer's entry to targets/content.rs.
#![no_main]

#[path = "../targets/content.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
