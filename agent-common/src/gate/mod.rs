//! The place of the gate: the policy, compiled to tables, decided in the kernel before the bytes move.
//!
//! Incremental, allocation-free, generic over a `Tables` trait, so that the same code runs over eBPF maps and
//! over ordinary collections on the host. The pipeline decides alone until it is here: nothing claims otherwise.
