//! The gate: a policy, compiled to tables, decided in the kernel before the bytes move.
//!
//! Incremental, allocation-free, generic over [`Tables`], so that the same code runs over eBPF maps and over ordinary
//! collections on the host. It follows the requests of one direction of one connection: every byte in clear, in
//! order, is fed to [`step`], which keeps what it knows in a [`Stream`] and decides at the end of each head.
//!
//! ```text
//! bytes → Window (a word at a time) → step ──► Stream (state, hashes, framing)
//!                                       │
//!                                       └────► Tables (edges, nodes, methods, peers, workloads, rates) → Decision
//! ```
//!
//! It never guesses. What two parsers may read differently is *ambiguous*, and the policy says whether that is denied;
//! what only the agent can decide is *left* to it. Where it no longer knows where a message begins, the boundary is
//! *lost*: what comes behind it is denied by rules that have to be able to prevent, and, where the bytes themselves are the
//! reason, by policies that deny what is ambiguous; the agent decides otherwise.
//!
//! For the verifier's sake: one word (8 bytes) of input a step, state in memory rather than in registers, no index that
//! is not masked, no loop but the caller's.

mod bits;
mod fields;
mod framing;
mod hash;
mod judge;
mod odd;
mod proxy;
mod scan;
pub mod segments;
mod stream;
mod tables;
#[cfg(test)]
mod tests;
mod words;

pub use bits::{Bits, RULES_MAX};
pub use hash::Hash;
pub use judge::strict;
pub use scan::step;
pub use segments::GateFlow;
pub use stream::{Decision, Facts, Reason, Scan, Stream, Window, direction, flag, state};
pub use tables::{
    Charge, EdgeKey, Generation, METHODS, Method, MethodKey, NO_NODE, Node, PeerKey, Rate, RateKey, Tables,
    Workload, WorkloadKey, method, node,
};
pub use words::is_blank;

/// Generations of tables that are kept at once: the one in force, and those before it for heads that began under them.
/// A head that outlives all of them is denied by the first denial in force that is for its connection.
pub const SLOTS: u32 = 4;
/// States of the automata of one generation.
pub const NODES_MAX: u32 = 8 * 1024;
/// Bytes that are looked at before more are fetched. The window behind it has 8 readable bytes more.
pub const CHUNK_BYTES: usize = 256;
/// A head longer than this is ambiguous: it is scanned no further. nginx takes 33 KiB by default.
pub const HEAD_BYTES_MAX: u32 = 34 * 1024;
/// A path longer than this is ambiguous, as it is for the agent.
pub const PATH_BYTES_MAX: u16 = 4096;
/// Header fields beyond this many make a head ambiguous, as they do for the agent.
pub const FIELDS_MAX: u16 = 256;
/// Bytes of lines that are no requests before the first one; behind more of them it is another protocol. Few: as long as
/// something is looked at, a segment that comes before the socket has taken the last one is dropped, and comes again 200 ms
/// later. What is binary has a line feed in every 256 bytes or so, and is over with its first segment then.
pub const GARBAGE_BYTES_MAX: u32 = 256;
/// Bytes of one chunk-size line with its extensions.
pub const CHUNK_LINE_BYTES_MAX: u32 = 4096;
/// Rules with a rate that one head may be charged to; with more, it is left to the agent.
pub const RATED_MAX: u8 = 8;
