//! At the egress of a cgroup: notes which sockets can be enforced and what left, and drops the payload that must
//! not leave. ACK and RST pass, so that the connection can still be torn down.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::SkBuffContext;

use crate::gate;
use crate::maps::{FLOWS, SOME_WITHHELD, WITHHELD};
use crate::packet;

pub const PASS: i32 = 1;
pub const DROP: i32 = 0;

#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    // What cannot be read as a segment is none that is known to be without payload.
    let (read, sequence, payload) = match packet::segment(ctx) {
        Some(segment) => (true, segment.sequence, segment.payload),
        None => (false, 0, 0),
    };
    let end = sequence.wrapping_add(payload);
    // Before the table of flows is asked: that one forgets, a denial must not.
    let dropped = (!read || payload != 0) && withheld(cookie, !read, end);
    let Some(flow) = FLOWS.get_ptr_mut(&cookie) else {
        return if dropped { DROP } else { PASS };
    };
    // SAFETY: a live map value; each field is one word or byte, and packets of a socket leave one by one.
    let flow = unsafe { &mut *flow };
    flow.enforceable = 1;
    if dropped {
        flow.withheld_bytes += payload as u64;
        return DROP;
    }
    if payload == 0 {
        return PASS;
    }
    // SAFETY: helper without arguments.
    flow.egress_at = unsafe { bpf_ktime_get_ns() };
    if flow.egress_seen == 0 || after(end, flow.egress_end) {
        flow.egress_end = end;
        flow.egress_seen = 1;
    }
    PASS
}

/// Payload of this socket that ends at `end` must not leave.
#[inline(always)]
fn withheld(cookie: u64, wherever: bool, end: u32) -> bool {
    let some = |by: u32| SOME_WITHHELD.get(by).copied().unwrap_or(0) != 0;
    if !some(0) && !some(1) {
        return false;
    }
    // SAFETY: copied out at once.
    let Some(withhold) = (unsafe { WITHHELD.get(&cookie) }).copied() else {
        return false;
    };
    (wherever || withhold.everything != 0 || after(end, withhold.from)) && !gate::passes_after_all()
}

/// TCP sequence arithmetic (RFC 9293 §3.4).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
