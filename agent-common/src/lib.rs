//! What kernel and agent share: record layouts, limits, the gate.
#![no_std]

pub mod site;
