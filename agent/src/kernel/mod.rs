//! What only the kernel can tell or do: its types, its programs, its sockets. All of the agent's `unsafe` is here.
//!
//! It hands out typed handles and facts, and must not know a pipeline stage.

pub mod btf;
pub mod cgroup;
pub mod closing;
pub mod cost;
pub mod descriptors;
pub mod egress;
pub mod elf;
pub mod gate;
pub mod links;
pub mod listener;
pub mod load;
pub mod mapped;
pub mod mappings;
pub mod memory;
pub mod netlink;
mod own;
pub mod pins;
pub mod probe;
pub mod probes;
pub mod registers;
pub mod returns;
pub mod ring;
pub mod run_times;
pub mod sends;
mod shelf;
pub mod site;
pub mod together;
pub mod turns;
mod undisturbed;
mod user_probe;
