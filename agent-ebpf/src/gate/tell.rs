//! Tells the agent of what was stopped, with the bytes of the head where the process does not get them.

use apiward_common::limits::CHUNK_BYTES_MAX;
use apiward_common::owner::Owner;
use apiward_common::record::{NO_SOCKET, Stopped, hook, kind, role, stopped};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;

use super::gated::GATE_DEAD;
use super::packets::socket;
use crate::emit::emit;
use crate::maps::{FLOWS, OFFSETS};
use crate::owner::{LISTENERS, OWNERS};
use crate::packet::{self, Segment};
use crate::sock::{field, state};

/// Bytes of most heads.
const SHORT_BYTES: usize = 1024;

/// What there is to tell.
#[repr(C)]
pub struct Told {
    pub cookie: u64,
    pub head_start: u32,
    /// Where the payload begins.
    pub position: u32,
    pub generation: u32,
    pub rule: u32,
    pub heads: u32,
    /// Allowed ones that are lost with it.
    pub collateral: u32,
    /// Not 0: with the segment's payload from `position` on.
    pub bytes: u32,
    pub what: u8,
    pub hook: u8,
    pub reserved: [u8; 2],
}

/// Tells of the segment at hand. Global, so that the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tell(skb: *mut __sk_buff, told: *const Told) -> i32 {
    let ctx = SkBuffContext::new(skb);
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(told) = (unsafe { told.as_ref() }) else {
        return 0;
    };
    let (Some(segment), Some(tp)) = (packet::segment(&ctx), socket(&ctx)) else {
        return 0;
    };
    let first = segment.sequence.wrapping_add(segment.syn() as u32);
    let before = told.position.wrapping_sub(first);
    let length = if told.bytes != 0 {
        segment.payload.saturating_sub(before)
    } else {
        0
    };
    if length as usize <= SHORT_BYTES {
        record::<SHORT_BYTES>(&ctx, tp, &segment, told, before, length);
    } else {
        record::<CHUNK_BYTES_MAX>(&ctx, tp, &segment, told, before, length);
    }
    let cookie = told.cookie;
    if told.what == stopped::PART {
        return 0;
    }
    if let Some(flow) = FLOWS.get_ptr_mut(&cookie) {
        // The agent knows it by this, and its end is told too.
        // SAFETY: a live map value.
        unsafe { (*flow).announced = 1 };
    }
    0
}

/// A client closes. Of a connection on which a request was stopped its end can never be taken in, as it comes behind what
/// was dropped: the server would keep the connection until it gives up. So the agent is told, once the client has the
/// answer and its end. 1: it is such a connection, and nothing of its client's is taken in any more. Global, for the sake of
/// the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_parts(skb: *mut __sk_buff, cookie: u64) -> i32 {
    let ctx = SkBuffContext::new(skb);
    // SAFETY: only asks whether it is there.
    if unsafe { GATE_DEAD.get(&cookie) }.is_none() {
        return 0;
    }
    let (Some(segment), Some(tp)) = (packet::segment(&ctx), socket(&ctx)) else {
        return 1;
    };
    // SAFETY: `tp` is a socket that the verifier knows.
    let (now, written): (u8, u32) =
        unsafe { (field(tp, OFFSETS.sk_state()), field(tp, OFFSETS.tp_write_seq())) };
    let acknowledged = u32::from_be(ctx.load(segment.header as usize + 8).unwrap_or(0));
    let answered = now as i32 == state::FIN_WAIT1 || now as i32 == state::FIN_WAIT2;
    if !answered || acknowledged != written {
        return 1;
    }
    if let Some(flow) = FLOWS.get_ptr_mut(&cookie) {
        // Once is enough, however often it is sent.
        // SAFETY: a live map value.
        unsafe {
            if (*flow).parted != 0 {
                return 1;
            }
            (*flow).parted = 1;
        }
    }
    emit::<Stopped, 0>(kind::STOPPED, 0, |record| {
        let body = &mut record.body;
        // SAFETY: all zeros are plain numbers; the record is the ring's memory.
        *body = unsafe { core::mem::zeroed() };
        body.cookie = cookie;
        body.hook = hook::INGRESS;
        body.what = stopped::PARTS;
        0
    });
    1
}

#[inline(always)]
fn record<const BYTES: usize>(
    ctx: &SkBuffContext,
    tp: *const core::ffi::c_void,
    segment: &Segment,
    told: &Told,
    before: u32,
    length: u32,
) {
    let inbound = told.hook == hook::INGRESS;
    emit::<Stopped, BYTES>(kind::STOPPED, 0, |record| {
        let body = &mut record.body;
        body.object = 0;
        body.object_generation = 0;
        body.head_start = told.head_start;
        body.position = told.position;
        body.generation = told.generation;
        body.rule = told.rule;
        body.heads = told.heads;
        body.refused = 0;
        body.collateral = told.collateral;
        body.reserved = 0;
        body.hook = told.hook;
        body.what = told.what;
        body.role = if inbound { role::SERVER } else { role::CLIENT };
        body.cookie = told.cookie;
        // SAFETY: `tp` is a socket that the verifier knows, and a null pointer reads as zeros.
        body.netns = unsafe {
            let net: *const core::ffi::c_void = field(tp, OFFSETS.sk_net());
            if net.is_null() {
                0
            } else {
                field::<u32>(net, OFFSETS.net_inum())
            }
        };
        addresses(ctx, segment, inbound, body);
        // 6.1's verifier takes no key that is the argument's own memory.
        let cookie = told.cookie;
        // SAFETY: copied out at once.
        match unsafe { OWNERS.get(&cookie) } {
            Some(owner) => owned(body, owner),
            None => {
                body.cookie |= NO_SOCKET;
                // SAFETY: as above.
                match unsafe { LISTENERS.get(&cookie) } {
                    Some(owner) => owned(body, owner),
                    None => nobodys(body),
                }
            }
        }
        if length == 0 {
            return 0;
        }
        // The last of them: 6.1's verifier sees that a sum with one is not zero, and not that a comparison says so.
        let last = if length < BYTES as u32 {
            length - 1
        } else {
            BYTES as u32 - 1
        };
        // SAFETY: a reference is always readable; read again, so that the compiler keeps the bound.
        let last = unsafe { core::ptr::read_volatile(&last) };
        if last >= BYTES as u32 {
            return 0;
        }
        let most = last + 1;
        // SAFETY: the payload has room for BYTES.
        let failed = unsafe {
            bpf_skb_load_bytes(
                ctx.skb.skb.cast(),
                segment.offset + before,
                record.payload.as_mut_ptr().cast(),
                most,
            )
        };
        if failed != 0 { 0 } else { most }
    });
}

#[inline(always)]
fn owned(body: &mut Stopped, owner: &Owner) {
    body.cgroup = owner.cgroup;
    body.pid = owner.pid;
    body.uid = owner.uid;
    body.comm = owner.comm;
}

#[inline(always)]
fn nobodys(body: &mut Stopped) {
    body.cgroup = 0;
    body.pid = 0;
    body.uid = 0;
    body.comm = [0; 16];
}

/// Both ends, straight into the record: the stack is short.
#[inline(always)]
fn addresses(ctx: &SkBuffContext, segment: &Segment, inbound: bool, body: &mut Stopped) {
    let (source, destination) = if inbound {
        (&raw mut body.remote, &raw mut body.local)
    } else {
        (&raw mut body.local, &raw mut body.remote)
    };
    let skb = ctx.skb.skb.cast::<core::ffi::c_void>();
    let first: u8 = ctx.load(0).unwrap_or(0);
    body.local = [0; 16];
    body.remote = [0; 16];
    body.family = 6;
    // SAFETY: both have room for an address of either family.
    unsafe {
        if first >> 4 == 4 {
            body.family = 4;
            bpf_skb_load_bytes(skb, 12, source.cast(), 4);
            bpf_skb_load_bytes(skb, 16, destination.cast(), 4);
        } else {
            bpf_skb_load_bytes(skb, 8, source.cast(), 16);
            bpf_skb_load_bytes(skb, 24, destination.cast(), 16);
        }
    }
    let from = u16::from_be(ctx.load(segment.header as usize).unwrap_or(0));
    let to = u16::from_be(ctx.load(segment.header as usize + 2).unwrap_or(0));
    (body.remote_port, body.local_port) = if inbound { (from, to) } else { (to, from) };
}
