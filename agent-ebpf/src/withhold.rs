//! At the egress of a cgroup: notes which sockets can be enforced and what left, and drops the payload that must
//! not leave. ACK and RST pass, so that the connection can still be torn down. And at the call that sends, where the
//! kernel has BPF LSM.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::{LsmContext, SkBuffContext};

use crate::maps::{FLOWS, OFFSETS, SOME_WITHHELD, WITHHELD};
use crate::sock::{field, read};
use crate::{gate, packet, scope, who};

pub const PASS: i32 = 1;
pub const DROP: i32 = 0;

/// `gate`: what the gate says of the packet.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext, gate: i32) -> i32 {
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
        return if dropped { DROP } else { gate };
    };
    // SAFETY: a live map value; each field is one word or byte, and packets of a socket leave one by one.
    let flow = unsafe { &mut *flow };
    flow.enforceable = 1;
    if dropped {
        flow.withheld_bytes += payload as u64;
        return DROP;
    }
    if payload == 0 || gate == DROP {
        return gate;
    }
    // SAFETY: helper without arguments.
    flow.egress_at = unsafe { bpf_ktime_get_ns() };
    if flow.egress_seen == 0 || after(end, flow.egress_end) {
        flow.egress_end = end;
        flow.egress_seen = 1;
    }
    PASS
}

const EPERM: i32 = 1;

/// `socket_sendmsg(sock, msg, size)`: a process sends. What egress would drop is refused, with an error that the process
/// gets; the agent itself may answer in its place.
#[inline(always)]
pub fn send(ctx: &LsmContext) -> i32 {
    // What a program before has said.
    let before: i32 = ctx.arg(3);
    if before != 0 || !is_some(0) && !is_some(1) {
        return before;
    }
    let socket: *const core::ffi::c_void = ctx.arg(0);
    let size: i32 = ctx.arg(2);
    // SAFETY: the hook's own argument, whose type the verifier knows; a null pointer reads as zeros.
    let (sk, cookie) = unsafe {
        let sk: *const core::ffi::c_void = field(socket, OFFSETS.socket_sk());
        if sk.is_null() {
            return 0;
        }
        (sk as u64, field::<u64>(sk, OFFSETS.sk_cookie()))
    };
    // SAFETY: copied out at once.
    let Some(withhold) = (unsafe { WITHHELD.get(&cookie) }).copied() else {
        return 0;
    };
    let own = scope::is_agent((who::ids(who::task()) >> 32) as u32);
    let next: u32 = read(sk, OFFSETS.tp_write_seq()).unwrap_or(0);
    let refused = withhold.everything != 0 || after(next.wrapping_add(size as u32), withhold.from);
    if refused && !own && !gate::passes_after_all() {
        -EPERM
    } else {
        0
    }
}

/// Payload of this socket that ends at `end` must not leave.
#[inline(always)]
fn withheld(cookie: u64, wherever: bool, end: u32) -> bool {
    if !is_some(0) && !is_some(1) {
        return false;
    }
    // SAFETY: copied out at once.
    let Some(withhold) = (unsafe { WITHHELD.get(&cookie) }).copied() else {
        return false;
    };
    (wherever || withhold.everything != 0 || after(end, withhold.from)) && !gate::passes_after_all()
}

/// Some flow is withheld, by the agent (0) or by the gate (1).
#[inline(always)]
fn is_some(by: u32) -> bool {
    SOME_WITHHELD.get(by).copied().unwrap_or(0) != 0
}

/// TCP sequence arithmetic (RFC 9293 §3.4).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
