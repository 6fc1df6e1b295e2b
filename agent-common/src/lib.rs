//! What kernel and agent share: record layouts, limits, map values, the gate.
//!
//! `no_std`, no allocation, nothing but `core`: every line here also runs inside the kernel. Layouts are
//! `repr(C)` without implicit padding, and assertions beside them hold their sizes.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod asleep;
pub mod flow;
pub mod gate;
pub mod life;
pub mod limits;
pub mod offsets;
pub mod owner;
pub mod record;
pub mod scope;
pub mod site;
pub mod undisturbed;
