//! What outlives an agent: the words of its lease, and the shape of the maps that the next one goes on with.

use core::mem::size_of;

use crate::flow::{Tuple, Withhold};
use crate::gate::segments::GateFlow;
use crate::gate::{
    Bits, EdgeKey, Facts, Generation, Method, MethodKey, NODES_MAX, Node, PeerKey, RULES_MAX, Rate, RateKey,
    SLOTS, Workload, WorkloadKey,
};
use crate::limits::{
    CLASSES_MAX, EXEMPT_PEERS_MAX, FLOWS_MAX, GATED_MAX, HANDSHAKES_MAX, LISTENERS_MAX, RATE_KEYS_MAX,
    SYNS_MAX, WITHHELD_MAX,
};
use crate::owner::{Identity, Owner, Port};

/// Words of the lease: until when denials hold; how many heads had been denied when an agent last looked.
pub const LEASE_UNTIL: u32 = 0;
pub const LEASE_DENIED: u32 = 1;
/// And how many agents have begun with it since one has last renewed it.
pub const LEASE_STARTS: u32 = 2;
/// Not 0: `apiward release` was asked for, and the agent did not answer. It is to let go by itself.
pub const LEASE_RELEASED: u32 = 3;
/// The run whose programs judge at TLS libraries: those of an earlier one may still be there, and a call is judged once.
pub const LEASE_TURN: u32 = 4;
/// Above the number in that word: it takes its turn just now, and makes no call fail yet. A call that both runs' programs
/// made to fail would go on at a wild place.
pub const TURN_BEGINS: u64 = 1 << 32;
pub const LEASE_WORDS: u32 = 5;

/// What the numbers in the shared maps mean. To be raised by whoever changes that and keeps their sizes.
pub const MEANING: u32 = 3;

/// The sizes of all that is in the shared maps, and how much of it there can be, as one number (FNV-1a): two builds
/// with the same one can share maps.
pub const SHAPE: u32 = {
    let parts = [
        size_of::<GateFlow>(),
        size_of::<Facts>(),
        size_of::<Tuple>(),
        size_of::<Withhold>(),
        size_of::<Bits>(),
        size_of::<EdgeKey>(),
        size_of::<Generation>(),
        size_of::<Method>(),
        size_of::<MethodKey>(),
        size_of::<Node>(),
        size_of::<PeerKey>(),
        size_of::<Rate>(),
        size_of::<RateKey>(),
        size_of::<Workload>(),
        size_of::<WorkloadKey>(),
        size_of::<Identity>(),
        size_of::<Owner>(),
        // The listeners' key, a cookie, and what follows a connection.
        0x100 + size_of::<u64>(),
        size_of::<Port>(),
        size_of::<crate::gate::GateFlow>(),
        NODES_MAX as usize,
        RULES_MAX,
        SLOTS as usize,
        LEASE_WORDS as usize,
        CLASSES_MAX as usize,
        EXEMPT_PEERS_MAX as usize,
        FLOWS_MAX as usize,
        GATED_MAX as usize,
        HANDSHAKES_MAX as usize,
        SYNS_MAX as usize,
        RATE_KEYS_MAX as usize,
        LISTENERS_MAX as usize,
        WITHHELD_MAX as usize,
    ];
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < parts.len() {
        hash = (hash ^ parts[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
};
