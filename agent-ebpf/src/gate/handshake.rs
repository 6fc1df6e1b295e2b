//! Requests that begin before their connection does: on the SYN (RFC 7413), or while the handshake's last segment is
//! lost or late.
//!
//! Their socket is still the listener, so that what is known of them goes by both ends. Where the stream begins is in the
//! request that waits for the handshake's end: the segment at hand need not be the first.

use apiward_common::flow::Tuple;
use apiward_common::gate::{Facts, direction};
use apiward_common::limits::HANDSHAKES_MAX;
use aya_ebpf::bindings::{__sk_buff, BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::SkBuffContext;

use super::packets::{FlowKey, GATE_BLANK, Gated, TCP_LISTEN};
use crate::emit::count;
use crate::maps::{EXEMPT_PEERS, OFFSETS};
use crate::owner::{self, class_of};
use crate::packet::{self, Segment};
use crate::sock::field;

/// By both ends.
#[map]
pub static GATE_HANDSHAKES: LruHashMap<Tuple, Gated> = LruHashMap::with_max_entries(HANDSHAKES_MAX, 0);

/// The request waits for the handshake's end: its first byte's sequence number is in the lower half.
const WAITS: u64 = 1 << 32;
/// Somebody has ended the handshake just now.
const ENDED: u64 = 2 << 32;

/// The first byte's sequence number of the connection that a listener's segment is for. `None`: it is a connection by now,
/// and TCP drops the segment, which comes again.
#[inline(always)]
pub fn begins(ctx: &SkBuffContext, segment: &Segment) -> Option<u32> {
    if segment.syn {
        return Some(segment.sequence.wrapping_add(1));
    }
    match apiward_begins(ctx.skb.skb, segment.header) {
        // Nobody waits: the listener knows the number by its cookie (RFC 4987 §3.6), and takes no segment but the first.
        0 => Some(segment.sequence),
        ENDED => None,
        waits => Some(waits as u32),
    }
}

/// [`WAITS`] with a number, [`ENDED`], or 0 where there is no request. Global, so that the verifier looks at it once.
/// `header`: where the TCP header begins.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_begins(skb: *mut __sk_buff, header: u32) -> u64 {
    let ctx = SkBuffContext::new(skb);
    // SAFETY: zeros are an address and ports.
    let mut ends: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let first: u8 = ctx.load(0).unwrap_or(0);
    let ports: [u16; 2] = ctx.load(header as usize).unwrap_or([0; 2]);
    // SAFETY: a union of plain numbers.
    let bytes = unsafe {
        if first >> 4 == 4 {
            let addresses: [u32; 2] = ctx.load(12).unwrap_or([0; 2]);
            let v4 = &mut ends.__bindgen_anon_1.ipv4;
            (v4.saddr, v4.daddr) = (addresses[0], addresses[1]);
            (v4.sport, v4.dport) = (ports[0], ports[1]);
            size_of_val(v4)
        } else {
            let addresses: [[u32; 4]; 2] = ctx.load(8).unwrap_or([[0; 4]; 2]);
            let v6 = &mut ends.__bindgen_anon_1.ipv6;
            (v6.saddr, v6.daddr) = (addresses[0], addresses[1]);
            (v6.sport, v6.dport) = (ports[0], ports[1]);
            size_of_val(v6)
        }
    };
    // SAFETY: the program's own context and memory; what is found is released, and read before that, at an offset that the
    // verifier knows.
    unsafe {
        let found = bpf_skc_lookup_tcp(
            skb.cast(),
            &mut ends,
            bytes as u32,
            BPF_F_CURRENT_NETNS as i64 as u64,
            0,
        );
        if found.is_null() {
            return 0;
        }
        let request: *const core::ffi::c_void = bpf_skc_to_tcp_request_sock(found.cast()).cast_const().cast();
        let begins = if request.is_null() {
            if core::ptr::read_volatile(&raw const (*found).state) == TCP_LISTEN as u32 {
                0
            } else {
                ENDED
            }
        } else {
            WAITS | field::<u32>(request, OFFSETS.request_rcv_isn()).wrapping_add(1) as u64
        };
        bpf_sk_release(found.cast());
        begins
    }
}

/// Payload before the connection. `first`: where its stream begins.
#[inline(always)]
pub fn handshake(ctx: &SkBuffContext, key: &FlowKey, segment: &Segment, first: u32) -> Option<*mut Gated> {
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    packet::ends(ctx, segment, true, &mut ends);
    // SAFETY: only asks whether it is there.
    if unsafe { EXEMPT_PEERS.get(&ends) }.is_some() {
        return None;
    }
    // SAFETY: copied out at once.
    let Some(owner) = (unsafe { owner::LISTENERS.get(&key.cookie) }) else {
        count(|c| unsafe { &raw mut (*c).gate_unowned }, 1);
        return None;
    };
    let class = class_of(&owner.identity());
    if let Some(gated) = GATE_HANDSHAKES.get_ptr_mut(&ends) {
        // SAFETY: a live map value. The same place again is a repetition; another one another connection.
        if unsafe { (*gated).flow.base.next } == first {
            return Some(gated);
        }
    }
    let blank = GATE_BLANK.get_ptr(0)?;
    // SAFETY: a live map value that nobody writes.
    let _ = GATE_HANDSHAKES.insert(&ends, unsafe { &*blank }, 0);
    let gated = GATE_HANDSHAKES.get_ptr_mut(&ends)?;
    // SAFETY: a live map value.
    unsafe {
        (*gated).flow.start(first);
        (*gated).listener = key.cookie;
        (*gated).facts = Facts {
            peer: packet::address(ctx, true),
            class,
            direction: direction::INBOUND,
        };
    }
    Some(gated)
}
