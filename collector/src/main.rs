//! `apiward-collector`: receives the agents' events, keeps them, and speaks back.
//!
//! An event is acknowledged once it is committed to the disk, and is in the store once, however often it is sent.
//! What comes in is decoded by the contract's own types and trusted no further: sizes are bounded, names are checked,
//! and text that ends on a terminal is stripped of control characters.
//!
//! Exit codes: 0 done · 1 it did not work, the message says what to do · 2 the command line is wrong.

// Text comes from outside: an index within a character would end the collector.
#![cfg_attr(not(test), warn(clippy::string_slice))]

use std::process::ExitCode;

mod agents;
mod cli;
mod metrics;
mod service;
mod store;

fn main() -> ExitCode {
    cli::main()
}
