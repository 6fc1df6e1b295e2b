//! What every test stands on: a world of its own (cgroup, folder), real servers and clients in it, the real agent.
//!
//! Whatever is started ends with its owner, also after a failure: values are dropped in the reverse order of their
//! making, so children end before the agent, and the agent before the world.

pub mod agent;
pub mod certificates;
pub mod cgroup;
pub mod clients;
pub mod code;
pub mod events;
pub mod policy;
pub mod process;
pub mod servers;
pub mod skip;
pub mod veth;
pub mod wait;
pub mod wire;
pub mod world;

pub use agent::Agent;
pub use process::Process;
pub use wait::{until, within};
pub use world::{Place, World};

/// How a test ends: an error is a failure, or a skip (see [`skip`]).
pub type Result<T = ()> = anyhow::Result<T>;
