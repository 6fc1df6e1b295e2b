//! What the gate knows of the connections that it follows.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use apiward_common::gate::segments::GateFlow;
use apiward_common::gate::{Facts, direction};
use apiward_common::limits::{GATED_MAX, WITHHELD_MAX};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};

/// By socket cookie and direction.
#[map]
pub static GATE_FLOWS: LruHashMap<FlowKey, Gated> = LruHashMap::with_max_entries(GATED_MAX, 0);
/// Denied inbound connections that live: the table above forgets, a denial must not.
#[map]
pub static GATE_DEAD: HashMap<u64, u32> = HashMap::with_max_entries(WITHHELD_MAX, 0);
/// An entry as it begins: too large for the stack.
#[map]
pub static GATE_BLANK: Array<Gated> = Array::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowKey {
    pub cookie: u64,
    pub direction: u64,
}

/// One direction of one connection, and who may look at it now.
#[repr(C)]
pub struct Gated {
    pub flow: GateFlow,
    pub facts: Facts,
    /// Not 0: somebody looks at it. Segments of a connection come one by one, but for rare moments.
    claimed: u64,
    /// Whose socket it is to be, before it is established: the listener's cookie.
    pub listener: u64,
    /// Not 0: it is dead, or is to be, and the agent is told only when so many segments more have come. With [`AGAIN`], the
    /// agent was told, when there was no connection yet.
    pub untold: u64,
}

/// Of [`Gated::untold`].
pub const AGAIN: u64 = 1 << 8;

impl Gated {
    /// `false`: somebody else looks at it.
    #[inline(always)]
    pub fn claim(&mut self) -> bool {
        self.exchange(1) == 0
    }

    #[inline(always)]
    pub fn release(&mut self) {
        self.exchange(0);
    }

    #[inline(always)]
    fn exchange(&mut self, value: u64) -> u64 {
        // SAFETY: a live map value; the word is only ever changed in one piece.
        unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(&raw mut self.claimed, value) }
    }
}

/// What is known of a connection that a segment is for.
pub enum Found {
    At(*mut Gated),
    /// Another CPU makes its entry just now: the segment comes again.
    Busy,
    /// It is not judged.
    Unjudged,
}

impl Found {
    #[inline(always)]
    pub fn known(gated: *mut Gated) -> Found {
        // SAFETY: a live map value.
        match unsafe { (*gated).flow.started } {
            0 => Found::Busy,
            _ => Found::At(gated),
        }
    }
}

/// The connection is over.
#[inline(always)]
pub fn closed(cookie: u64) {
    let _ = GATE_DEAD.remove(&cookie);
    for direction in [direction::INBOUND, direction::OUTBOUND] {
        let key = FlowKey {
            cookie,
            direction: direction as u64,
        };
        let _ = GATE_FLOWS.remove(&key);
    }
}
