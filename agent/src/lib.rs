//! The node agent. The folders are the life of a call, in order; `pipeline` wires them.

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
