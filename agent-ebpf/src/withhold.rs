//! At the egress of a cgroup: notes which sockets can be enforced and what left, and drops the payload that must
//! not leave. ACK and RST pass, so that the connection can still be torn down.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::SkBuffContext;

use crate::maps::{FLOWS, SOME_WITHHELD, WITHHELD};

const PASS: i32 = 1;
const DROP: i32 = 0;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_HOPOPTS: u8 = 0;

#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    // What cannot be read as a segment is none that is known to be without payload.
    let (read, sequence, payload) = match plain(ctx).or_else(|| payload(ctx)) {
        Some((sequence, payload)) => (true, sequence, payload),
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
    if SOME_WITHHELD.get(0).copied().unwrap_or(0) == 0 {
        return false;
    }
    // SAFETY: copied out at once.
    let Some(withhold) = (unsafe { WITHHELD.get(&cookie) }).copied() else {
        return false;
    };
    wherever || withhold.everything != 0 || after(end, withhold.from)
}

/// TCP sequence arithmetic (RFC 9293 §3.4).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// [`payload`] of the most common segment, IPv4 without options, by plain loads.
#[inline(always)]
fn plain(ctx: &SkBuffContext) -> Option<(u32, u32)> {
    const HEADERS: usize = 20 + 20;
    // SAFETY: the context's own fields, which the verifier turns into the packet's bounds; every load is below the end.
    unsafe {
        let (start, end) = ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize);
        if start + HEADERS > end {
            return None;
        }
        let byte = |at: usize| core::ptr::read_volatile((start + at) as *const u8);
        // Version 4, five words of header.
        if byte(0) != 0x45 || byte(9) != IPPROTO_TCP {
            return None;
        }
        let sequence = u32::from_be(core::ptr::read_volatile((start + 24) as *const u32));
        let used = 20 + ((byte(32) >> 4) as u32) * 4;
        Some((sequence, (*ctx.skb.skb).len.saturating_sub(used)))
    }
}

/// Sequence number and payload bytes of a TCP segment; `None` for anything else. The length is the buffer's, not
/// the IP header's: segmentation offload may leave that one at 0.
#[inline(always)]
fn payload(ctx: &SkBuffContext) -> Option<(u32, u32)> {
    let first: u8 = ctx.load(0).ok()?;
    let header = match first >> 4 {
        4 => {
            let protocol: u8 = ctx.load(9).ok()?;
            if protocol != IPPROTO_TCP {
                return None;
            }
            ((first & 0xf) as usize) * 4
        }
        6 => {
            let mut next: u8 = ctx.load(6).ok()?;
            let mut header = 40;
            // Hop-by-hop options (RFC 8200 §4.3): the kernel itself puts them before segments of more than 64 KiB
            // (RFC 2675), where an interface takes such.
            if next == IPPROTO_HOPOPTS {
                next = ctx.load(40).ok()?;
                let length: u8 = ctx.load(41).ok()?;
                header += (length as usize + 1) * 8;
            }
            if next != IPPROTO_TCP {
                return None;
            }
            header
        }
        _ => return None,
    };
    let sequence = u32::from_be(ctx.load(header + 4).ok()?);
    let offset: u8 = ctx.load(header + 12).ok()?;
    let used = header as u32 + ((offset >> 4) as u32) * 4;
    Some((sequence, ctx.len().saturating_sub(used)))
}
