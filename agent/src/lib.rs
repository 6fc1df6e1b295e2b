//! The node agent. `capture flow decode call detect policy enforce export` are the life of a call, in order;
//! `pipeline` wires them, `run` starts it, `kernel` is what it stands on. docs/architecture.md follows one call.

// Text comes from outside: an index within a character would end the agent.
#![cfg_attr(not(test), warn(clippy::string_slice))]

pub mod call;
pub mod capture;
pub mod cli;
pub mod config;
pub mod decode;
pub mod detect;
pub mod enforce;
pub mod errors;
pub mod export;
pub mod flow;
pub mod kernel;
pub mod pipeline;
pub mod policy;
pub mod run;
pub mod telemetry;
pub mod yaml;
