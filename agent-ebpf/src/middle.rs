//! TLS library calls in their middle: where plaintext is about to be handed over, or has a record made of it. One look in
//! place of two, and none for a call that has to wait. Where calls can be made to fail, they are looked at when they
//! begin and when they are over.
//!
//! It must not know how the places are found.

use apiward_common::flow::{TAKING, TlsCall};
use apiward_common::site::{self, Op, ResultIn, Taken};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::ProbeContext;

use crate::gate;
use crate::gate::tls::{answer, apiward_gate_tls_denied, ask, judge};
use crate::maps::TLS_CALLS;
use crate::operation::count_unreadable;
use crate::tls::{R8, RCX, RDI, RDX, RIP, RSI, RSP, at, object_of, over, passed, place_of, register};
use crate::{scope, stack, who};

/// `ContentType` of records that carry what the application says (RFC 8446, appendix B.3.1).
pub const APPLICATION_DATA: u8 = 23;
/// Records that are made at once (`SSL_MAX_PIPELINES` of OpenSSL).
const PARTS_MAX: u64 = 32;
/// A `call` is so long where a record is made.
const CALL_BYTES: u64 = 5;

/// A read is about to hand plaintext to the application.
#[inline(always)]
pub fn deliver(ctx: &ProbeContext) {
    let current = who::task();
    let thread = who::ids(current);
    if thread == 0 {
        stack::shares_none::<false>(ctx);
        return;
    }
    if !is_in_scope(thread, who::cgroup(current)) {
        return;
    }
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    // SAFETY: the program's own context, constant places.
    let (buffer, length) = unsafe { (at(ctx.as_ptr(), RSI as usize), at(ctx.as_ptr(), RDX as usize)) };
    let value = |place| value_at(ctx.as_ptr(), place);
    let (Some(content_type), Some(peek), Some(object)) = (
        value(site::delivery::content_type(cookie)),
        value(site::delivery::peek(cookie)),
        value(site::delivery::ssl(cookie)),
    ) else {
        count_unreadable(length);
        return;
    };
    let peeked = peek as u32 != 0;
    if content_type as u8 != APPLICATION_DATA || length == 0 || (peeked && !gate::was_on()) {
        return;
    }
    let op = if peeked { Op::Peek } else { Op::Read };
    let call = moving(
        thread,
        op as u8,
        object,
        buffer,
        length,
        site::delivery::library(cookie),
    );
    if gate::was_on() {
        let answer = judge(&call, length, if peeked { ask::PEEKED } else { ask::READ });
        if answer == answer::DENIED {
            apiward_gate_tls_denied(&call, 0);
        }
        if peeked {
            return;
        }
    }
    passed(&call, length, false);
}

/// A record is about to be made of the application's plaintext, or what was made before goes on.
#[inline(always)]
pub fn take(ctx: &ProbeContext) {
    let current = who::task();
    let thread = who::ids(current);
    if thread == 0 {
        stack::shares_none::<false>(ctx);
        return;
    }
    let cgroup = who::cgroup(current);
    if !is_in_scope(thread, cgroup) {
        return;
    }
    // SAFETY: the program's own context, constant places.
    let (object, content_type, buffer, count) = unsafe {
        (
            at(ctx.as_ptr(), RDI as usize),
            at(ctx.as_ptr(), RSI as usize),
            at(ctx.as_ptr(), RDX as usize),
            at(ctx.as_ptr(), RCX as usize),
        )
    };
    if content_type as u8 != APPLICATION_DATA {
        return;
    }
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let taken = site::taken(cookie);
    let length = if taken == Taken::Parts as u8 {
        // SAFETY: the program's own context, a constant place.
        match lengths(count, unsafe { at(ctx.as_ptr(), R8 as usize) }) {
            Some(length) => length,
            None => {
                count_unreadable(0);
                return;
            }
        }
    } else if taken == Taken::Counted as u8 {
        count
    } else {
        0
    };
    let call = moving(thread, TAKING, object, buffer, length, site::library(cookie));
    leaves(ctx, &call, cgroup);
    if length == 0 {
        return;
    }
    if gate::was_on() {
        let answer = judge(&call, length, ask::WROTE);
        if answer == answer::DENIED {
            // Nothing of it has left.
            apiward_gate_tls_denied(&call, 0);
        }
        // Of what a dead object writes, the last has been shipped.
        if answer == answer::DEAD || answer == answer::ENDED {
            return;
        }
    }
    passed(&call, length, true);
}

#[inline(always)]
fn moving(thread: u64, op: u8, object: u64, buffer: u64, length: u64, library: u32) -> TlsCall {
    TlsCall {
        thread,
        scope_cgroup: 0,
        object,
        buffer,
        length,
        moved: 0,
        stack: 0,
        library,
        op,
        result: ResultIn::Count64 as u8,
        nested: 0,
        own_stack: 0,
    }
}

/// What the thread writes to a socket, from here until the function returns that is called now, is this object's: if its
/// socket is not known yet, that will tell.
#[inline(always)]
fn leaves(ctx: &ProbeContext, call: &TlsCall, cgroup: u64) {
    let Some(place) = TLS_CALLS.get_ptr_mut(place_of(call.thread)) else {
        return;
    };
    // SAFETY: a live map value; see `tls::call_of`.
    let place = unsafe { &mut *place };
    let own = place.thread == call.thread;
    let Some(object) = object_of(call.object) else {
        return;
    };
    // SAFETY: a live map value.
    if unsafe { (*object).carrier } != 0 {
        // An object within this one was the last: now it is this one that writes.
        if own && place.op == TAKING {
            place.op = 0;
        }
        return;
    }
    // SAFETY: the program's own context, constant places.
    let (stack, here) = unsafe { (at(ctx.as_ptr(), RSP), at(ctx.as_ptr(), RIP)) };
    // Somebody else has the place, or the thread is inside of another call, which a probe will end.
    if place.op != 0 && place.op != TAKING && (!own || !over(place, stack)) {
        return;
    }
    if !own && place.op != 0 {
        return;
    }
    let nested = if own { place.nested } else { 0 };
    *place = *call;
    place.scope_cgroup = cgroup;
    place.stack = stack;
    place.moved = here.wrapping_add(CALL_BYTES);
    place.nested = nested;
}

/// So many lengths, added up.
#[inline(always)]
fn lengths(address: u64, parts: u64) -> Option<u64> {
    let parts = parts as u32 as u64;
    let (mut length, mut part) = (0u64, 0u64);
    while part < PARTS_MAX && part < parts {
        // SAFETY: the helper checks the address itself.
        length =
            length.wrapping_add(unsafe { bpf_probe_read_user((address + part * 8) as *const u64) }.ok()?);
        part += 1;
    }
    Some(length)
}

/// Whether what the thread does is anybody's business. What is known of it from a call is not asked again.
#[inline(always)]
fn is_in_scope(thread: u64, cgroup: u64) -> bool {
    let known = TLS_CALLS
        .get(place_of(thread))
        .is_some_and(|place| place.thread == thread && place.scope_cgroup == cgroup);
    (known && scope::by_cgroup_alone()) || scope::task()
}

/// What is at a place, if it can be read.
#[inline(always)]
fn value_at(ctx: *mut core::ffi::c_void, place: u64) -> Option<u64> {
    let Some(above) = site::delivery::above_stack(place) else {
        return Some(register(ctx, place as u8));
    };
    // SAFETY: the context of a probe is `struct pt_regs`, read at a constant place inside it.
    let address = unsafe { at(ctx, RSP) }.wrapping_add(above);
    // SAFETY: the helper checks the address itself.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}
