//! Requests that begin before their connection does: on the SYN (RFC 7413), or while the handshake's last segment is
//! lost or late.
//!
//! Their socket is still the listener, so that what is known of them goes by both ends. Where the stream begins is in the
//! request that waits for the handshake's end: the segment at hand need not be the first.
//!
//! Anybody can send such a segment, so an entry is made only for one that TCP may take in: on a SYN where the listener
//! takes Fast Open, else with the number that the request waits for, or while cookies of the listener are about.

use apiward_common::flow::Tuple;
use apiward_common::gate::{Facts, direction};
use apiward_common::limits::{HANDSHAKES_MAX, SYNS_MAX};
use aya_ebpf::bindings::{__sk_buff, BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{
    bpf_jiffies64, bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::SkBuffContext;

use super::gated::{FlowKey, Found, GATE_BLANK, Gated};
use super::packets::{BPF_NOEXIST, Socket, TCP_LISTEN};
use crate::emit::count;
use crate::maps::{EXEMPT_PEERS, OFFSETS};
use crate::owner::{self, class_of};
use crate::packet::{self, Segment};
use crate::sock::field;

/// By both ends.
#[map]
pub static GATE_HANDSHAKES: LruHashMap<Tuple, Gated> = LruHashMap::with_max_entries(HANDSHAKES_MAX, 0);
/// Of these what came on the SYN. Beside the others: nobody has to own his address for one.
#[map]
pub static GATE_SYNS: LruHashMap<Tuple, Gated> = LruHashMap::with_max_entries(SYNS_MAX, 0);

/// The request waits for the handshake's end: its first byte's sequence number is in the lower half.
const WAITS: u64 = 1 << 32;
/// Somebody has ended the handshake just now.
const ENDED: u64 = 2 << 32;
/// Ticks of the kernel's clock for which a cookie is good after the listener had no room for a request (two minutes,
/// `TCP_SYNCOOKIE_VALID`); longer where the clock ticks slower than a thousand times a second.
const COOKIES_JIFFIES: u32 = 120 * 1000;
/// How often a denied head has to come before it is told where nobody can say whether it is one: what is behind a first
/// segment that was lost comes once or twice, and not again before that one.
const UNSURE_TIMES: u64 = 3;

/// Where the connection begins that a listener's segment is for.
#[derive(Clone, Copy)]
pub enum Begins {
    /// The first byte's sequence number.
    At(u32),
    /// Only the listener knows, by its cookie (RFC 4987 §3.6): it takes in no segment but the first, which this may be.
    Perhaps(u32),
    /// It is a connection by now, and TCP drops the segment, which comes again.
    Ended,
    /// TCP takes nothing of the segment in.
    Nowhere,
}

/// Where the stream of a segment with payload begins. `listener`: its socket.
#[inline(always)]
pub fn begins(ctx: &SkBuffContext, segment: &Segment, listener: Socket) -> Begins {
    if segment.syn() {
        // SAFETY: a socket that the verifier knows.
        let fast_open: i32 = unsafe { field(listener, OFFSETS.fast_open_max()) };
        return match fast_open {
            // What is on the SYN is left out, and comes again.
            0 => Begins::Nowhere,
            _ => Begins::At(segment.sequence.wrapping_add(1)),
        };
    }
    match apiward_begins(ctx.skb.skb, segment.header) {
        0 if gives_cookies(listener) => Begins::Perhaps(segment.sequence),
        0 => Begins::Nowhere,
        ENDED => Begins::Ended,
        waits => Begins::At(waits as u32),
    }
}

/// The listener, or one that shares its port, has had no room for a request, so that it knows connections by cookies
/// (`tcp_synq_no_recent_overflow`).
#[inline(always)]
fn gives_cookies(listener: Socket) -> bool {
    // SAFETY: a socket that the verifier knows; helper without arguments.
    let (at, group, now): (u32, Socket, u32) = unsafe {
        (
            field(listener, OFFSETS.tp_overflow_at()),
            field(listener, OFFSETS.sk_reuseport()),
            bpf_jiffies64() as u32,
        )
    };
    let recent = |at: u32| at != 0 && now.wrapping_sub(at) <= COOKIES_JIFFIES;
    // SAFETY: as above.
    recent(at) || (!group.is_null() && recent(unsafe { field(group, OFFSETS.reuseport_overflow_at()) }))
}

/// [`WAITS`] with a number, [`ENDED`], or 0 where there is no request, or the segment does not acknowledge its answer.
/// Global, so that the verifier looks at it once.
/// `header`: where the TCP header begins.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_begins(skb: *mut __sk_buff, header: u32) -> u64 {
    let ctx = SkBuffContext::new(skb);
    // SAFETY: zeros are an address and ports.
    let mut ends: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let first: u8 = ctx.load(0).unwrap_or(0);
    let ports: [u16; 2] = ctx.load(header as usize).unwrap_or([0; 2]);
    let acknowledged = u32::from_be(ctx.load(header as usize + 8).unwrap_or(0));
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
        } else if field::<u32>(request, OFFSETS.request_snt_isn()).wrapping_add(1) != acknowledged {
            0
        } else {
            WAITS | field::<u32>(request, OFFSETS.request_rcv_isn()).wrapping_add(1) as u64
        };
        bpf_sk_release(found.cast());
        begins
    }
}

/// Payload before the connection. `first`: where its stream begins; `unsure`: if it does.
#[inline(always)]
pub fn handshake(ctx: &SkBuffContext, key: &FlowKey, segment: &Segment, first: u32, unsure: bool) -> Found {
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    packet::ends(ctx, segment, true, &mut ends);
    // SAFETY: only asks whether it is there.
    if unsafe { EXEMPT_PEERS.get(&ends) }.is_some() {
        return Found::Unjudged;
    }
    // SAFETY: copied out at once.
    let Some(owner) = (unsafe { owner::LISTENERS.get(&key.cookie) }) else {
        count(|c| unsafe { &raw mut (*c).gate_unowned }, 1);
        return Found::Unjudged;
    };
    let class = class_of(&owner.identity());
    let known = if segment.syn() {
        &GATE_SYNS
    } else {
        &GATE_HANDSHAKES
    };
    if let Some(gated) = known.get_ptr_mut(&ends) {
        // SAFETY: a live map value. The same place again is a repetition; another one another connection, to which the entry
        // gives way once.
        unsafe {
            if (*gated).flow.started == 0 {
                return Found::Busy;
            }
            if (*gated).flow.base.next == first {
                return Found::At(gated);
            }
            if !(*gated).claim() {
                return Found::Busy;
            }
        }
        let _ = known.remove(&ends);
    }
    let Some(blank) = GATE_BLANK.get_ptr(0) else {
        return Found::Unjudged;
    };
    // SAFETY: a live map value that nobody writes.
    if known.insert(&ends, unsafe { &*blank }, BPF_NOEXIST).is_err() {
        return Found::Busy;
    }
    let Some(gated) = known.get_ptr_mut(&ends) else {
        return Found::Busy;
    };
    // SAFETY: a live map value.
    unsafe {
        (*gated).listener = key.cookie;
        (*gated).untold = if unsure { UNSURE_TIMES } else { 0 };
        (*gated).facts = Facts {
            peer: packet::address(ctx, true),
            class,
            direction: direction::INBOUND,
        };
        // Last: from here on it may be used.
        (*gated).flow.start(first);
    }
    Found::At(gated)
}
