//! Which connections some rule is for: the others are not followed, and cost next to nothing.
//!
//! It must not know what a rule says.

use apiward_common::flow::{Flow, Tuple, tls};
use apiward_common::gate::{Stream, Tables, direction};

use super::Maps;
use super::gated::{FlowKey, GATE_FLOWS, Gated};
use super::handshake::{GATE_HANDSHAKES, GATE_SYNS};
use super::packets::Socket;
use crate::maps::OFFSETS;
use crate::sock::{field, tuple};

/// Some rule of the generation in force can stop calls of this [`direction`], or counts them. Where none does, none is
/// looked at; where rules come that do, connections that are open then are ones whose beginning was not seen.
#[inline(always)]
pub fn concerns(direction: u32) -> bool {
    let Some(generation) = Maps.generation(Maps.active()) else {
        // It changes just now, or there is none, which is asked elsewhere.
        return true;
    };
    let rules = if direction == direction::INBOUND {
        &generation.inbound
    } else {
        &generation.outbound
    };
    rules.meets(&generation.matters)
}

/// Some such rule concerns this connection, by what is known of it.
#[inline(always)]
pub fn concerns_some(stream: &Stream) -> bool {
    match Maps.generation(stream.base_generation) {
        Some(generation) => stream.base.meets(&generation.matters),
        None => true,
    }
}

/// No rule is for this direction now: the connection is followed no further, but for what was denied and for a head that has
/// begun, which the tables judge that it began under.
#[inline(always)]
pub fn forget(known: *mut Gated, key: &FlowKey, direction: u32) -> bool {
    if concerns(direction) {
        return false;
    }
    // SAFETY: a live map value, which is claimed before it goes: its place may be another connection's at once.
    let gated = unsafe { &mut *known };
    let forgets = gated.flow.dead == 0 && !gated.flow.is_inside_head() && gated.claim();
    if forgets {
        let _ = GATE_FLOWS.remove(key);
    }
    forgets
}

/// No rule is for what comes, and nothing of this connection is known. `false` as long as something may be: its handshake
/// may have been denied.
#[inline(always)]
pub fn is_unconcerned(tp: Socket) -> bool {
    /// What was denied in a handshake is within its first window.
    const WINDOW_BYTES: u64 = 64 << 10;
    if concerns(direction::INBOUND) {
        return false;
    }
    // SAFETY: `tp` is a socket that the verifier knows.
    let received: u64 = unsafe { field(tp, OFFSETS.tp_bytes_received()) };
    if received == 0 || received >= WINDOW_BYTES {
        return received != 0;
    }
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    tuple(tp as u64, &mut ends);
    GATE_HANDSHAKES.get_ptr(&ends).is_none() && GATE_SYNS.get_ptr(&ends).is_none()
}

/// It carries TLS or HTTP/2: nothing that is judged here. By its library's calls, or by its first bytes, where those were
/// seen: else a peer could hide all of its requests behind one body that looks like it.
#[inline(always)]
pub fn is_opaque(flow: &Flow) -> bool {
    flow.tls == tls::BOUND || (flow.started != 0 && (flow.framed != 0 || flow.tls != tls::CLEAR))
}
