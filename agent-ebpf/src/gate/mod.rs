//! The gate's side of the kernel: its tables, as maps, and the hooks that feed it.
//!
//! What it decides, and how it follows a stream, is `apiward_common::gate`; here bytes are fetched for it and its word is
//! carried out.

use apiward_common::gate::{
    Bits, Charge, EdgeKey, Generation, Method, MethodKey, NODES_MAX, Node, PeerKey, RULES_MAX, Rate, RateKey,
    SLOTS, Tables, Workload, WorkloadKey,
};
use apiward_common::life::{LEASE_TURN, LEASE_UNTIL, LEASE_WORDS};
use apiward_common::limits::{CLASSES_MAX, RATE_KEYS_MAX};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap};

use crate::emit::count;
use crate::maps::SETTINGS;

mod concern;
pub mod gated;
mod handshake;
pub mod packets;
mod scan;
mod tell;
pub mod tls;

/// As the verifier counts them.
const RULES: u32 = RULES_MAX as u32;

#[map]
/// The generation in force; whether there ever was one; and whether one had rules for what leaves.
pub static GATE_ACTIVE: Array<u32> = Array::with_max_entries(3, 0);
#[map]
pub static GATE_GENERATIONS: Array<Generation> = Array::with_max_entries(SLOTS, 0);
#[map]
pub static GATE_NODES: Array<Node> = Array::with_max_entries(SLOTS * NODES_MAX, 0);
#[map]
pub static GATE_EDGES: HashMap<EdgeKey, u32> = HashMap::with_max_entries(SLOTS * NODES_MAX, 1);
#[map]
pub static GATE_METHODS: HashMap<MethodKey, Method> = HashMap::with_max_entries(2048, 1);
#[map]
pub static GATE_PEERS: LpmTrie<PeerKey, Bits> = LpmTrie::with_max_entries(32 * 1024, 1);
#[map]
pub static GATE_WORKLOADS: HashMap<WorkloadKey, Workload> = HashMap::with_max_entries(SLOTS * CLASSES_MAX, 1);
#[map]
pub static GATE_RATES: Array<Rate> = Array::with_max_entries(SLOTS * RULES, 0);
#[map]
pub static GATE_ACCOUNTS: LruHashMap<RateKey, u64> = LruHashMap::with_max_entries(RATE_KEYS_MAX, 0);

#[map]
/// Until when denials hold (ns, as the kernel's clock); beside it, what the agent notes for the one after it.
pub static GATE_LEASE: Array<u64> = Array::with_max_entries(LEASE_WORDS, 0);

/// No agent has renewed the lease in time: whatever is denied passes, so that one that is gone for good leaves no host
/// down.
#[inline(always)]
pub fn has_expired(now: u64) -> bool {
    GATE_LEASE.get(LEASE_UNTIL).copied().unwrap_or(0) < now
}

/// A segment that is denied passes after all, and is counted.
#[inline(always)]
pub fn passes_after_all() -> bool {
    // SAFETY: helper without arguments.
    let expired = has_expired(unsafe { bpf_ktime_get_ns() });
    if expired {
        count(|c| unsafe { &raw mut (*c).gate_expired }, 1);
    }
    expired
}

/// At TLS libraries it is these programs' turn to judge, and not another run's.
#[inline(always)]
pub fn has_turn() -> bool {
    GATE_LEASE.get(LEASE_TURN).copied().unwrap_or(0) as u32 == SETTINGS.run()
}

/// And they may make calls fail.
#[inline(always)]
pub fn may_refuse() -> bool {
    GATE_LEASE.get(LEASE_TURN).copied().unwrap_or(0) == SETTINGS.run() as u64
}

/// Some policy is enforced by the gate.
#[inline(always)]
pub fn is_on() -> bool {
    GATE_ACTIVE.get(0).copied().unwrap_or(0) != 0
}

/// One was since the programs were loaded: connections may be dead by it.
#[inline(always)]
pub fn was_on() -> bool {
    GATE_ACTIVE.get(1).copied().unwrap_or(0) != 0
}

/// One since then had rules for what leaves: connections may be followed there.
#[inline(always)]
pub fn judged_what_leaves() -> bool {
    GATE_ACTIVE.get(2).copied().unwrap_or(0) != 0
}

/// The tables, asked by [`Tables`].
pub struct Maps;

#[inline(always)]
fn slot(generation: u32) -> u32 {
    generation & (SLOTS - 1)
}

impl Tables for Maps {
    #[inline(always)]
    fn active(&self) -> u32 {
        GATE_ACTIVE.get(0).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn generation(&self, number: u32) -> Option<&Generation> {
        GATE_GENERATIONS
            .get(slot(number))
            .filter(|generation| generation.number == number && number != 0)
    }

    #[inline(always)]
    fn edge(&self, key: &EdgeKey) -> Option<u32> {
        // SAFETY: copied out at once.
        unsafe { GATE_EDGES.get(key) }.copied()
    }

    #[inline(always)]
    fn node(&self, generation: u32, node: u32) -> Option<&Node> {
        if node >= NODES_MAX {
            return None;
        }
        GATE_NODES.get(slot(generation) * NODES_MAX + node)
    }

    #[inline(always)]
    fn method(&self, key: &MethodKey) -> Option<&Method> {
        // SAFETY: entries of a generation are never changed while it may be used.
        unsafe { GATE_METHODS.get(key) }
    }

    #[inline(always)]
    fn peer(&self, key: &PeerKey) -> Option<&Bits> {
        GATE_PEERS.get(&Key::new(160, *key))
    }

    #[inline(always)]
    fn workload(&self, generation: u32, class: u32) -> Option<&Workload> {
        // SAFETY: as above.
        unsafe { GATE_WORKLOADS.get(&WorkloadKey { generation, class }) }
    }

    #[inline(always)]
    fn charge(&self, key: &RateKey) -> Charge {
        let Some(rate) = GATE_RATES.get(slot(key.generation) * RULES + (key.rule & (RULES - 1))) else {
            return Charge::Unknown;
        };
        // SAFETY: helper without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        let Some(account) = GATE_ACCOUNTS.get_ptr_mut(key) else {
            let Some(first) = rate.charge(0, now) else {
                return Charge::Beyond;
            };
            return match GATE_ACCOUNTS.insert(key, &first, 0) {
                Ok(()) => Charge::Within,
                Err(_) => Charge::Unknown,
            };
        };
        // SAFETY: a live map value.
        unsafe {
            match rate.charge(*account, now) {
                Some(next) => {
                    *account = next;
                    Charge::Within
                }
                None => Charge::Beyond,
            }
        }
    }
}
