//! TLS library calls in their middle: where plaintext is about to be handed over, or has a record made of it. One look in
//! place of two, and none for a call that has to wait. Where calls can be made to fail, they are looked at when they
//! begin and when they are over.
//!
//! It must not know how the places are found.

use apiward_common::flow::{TAKING, TlsCall, TlsObject};
use apiward_common::site::{self, Op, ResultIn, Taken};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::ProbeContext;

use crate::gate;
use crate::gate::tls::{answer, apiward_gate_tls_denied, ask, is_carrier, is_closed, judge};
use crate::maps::{TLS_CALLS, TLS_OBJECTS, TLS_OUTER_CALLS};
use crate::operation::count_unreadable;
use crate::tls::{
    R8, RCX, RDI, RDX, RIP, RSI, RSP, apiward_show, at, beside, is_taken, key, object_of, over, passed,
    passed_by, place_of, register,
};
use crate::{scope, stack, who};

/// `ContentType` of records that carry what the application says (RFC 8446, appendix B.3.1).
pub const APPLICATION_DATA: u8 = 23;
/// Records that are made at once (`SSL_MAX_PIPELINES` of OpenSSL).
const PARTS_MAX: u64 = 32;
/// Records that a cipher makes at once, at most (`interleave` of OpenSSL's multi-block ciphers).
const MANY_AT_ONCE: u64 = 8;
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
    let Lengths { all: length, first } = if taken == Taken::Parts as u8 {
        // SAFETY: the program's own context, a constant place.
        match lengths(count, unsafe { at(ctx.as_ptr(), R8 as usize) }) {
            Some(lengths) => lengths,
            None => {
                // Nobody knows how much.
                count_unreadable(1);
                return;
            }
        }
    } else if taken == Taken::Counted as u8 {
        Lengths {
            all: count,
            first: count / MANY_AT_ONCE,
        }
    } else {
        Lengths { all: 0, first: 0 }
    };
    let call = moving(thread, TAKING, object, buffer, length, site::library(cookie));
    let Some(object) = object_now(call.object) else {
        return;
    };
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let carrier = unsafe { (*object).carrier };
    // SAFETY: as above.
    if carrier != 0 && is_closed(unsafe { &*object }) {
        // Nothing of it will leave: the peer has reset the connection, and a client tries another.
        return;
    }
    leaves(ctx, &call, cgroup, first, carrier != 0);
    if length == 0 {
        return;
    }
    if gate::was_on() {
        let answer = judge(&call, length, ask::WROTE);
        if answer == answer::DENIED {
            // No record of it is made yet, or has left.
            apiward_gate_tls_denied(&call, 0);
            apiward_show(&call);
        }
        if answer != answer::PASS {
            return;
        }
    }
    // SAFETY: as above; nobody else holds a reference.
    passed_by(unsafe { &mut *object }, &call, length, true);
}

/// The object at this address. One whose socket is gone was another, whose end nobody saw: a process that is killed frees
/// nothing, and its number comes again.
#[inline(always)]
fn object_now(object: u64) -> Option<*mut TlsObject> {
    let known = object_of(object)?;
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let is_gone = unsafe { (*known).carrier != 0 && !is_carrier(&*known) };
    if !is_gone {
        return Some(known);
    }
    let key = key(object);
    let _ = TLS_OBJECTS.remove(&key);
    gate::tls::freed(&key);
    object_of(object)
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
/// socket is not known, or has been forgotten, that will tell. `first`: bytes of the first record. `is_known`: it is.
#[inline(always)]
fn leaves(ctx: &ProbeContext, call: &TlsCall, cgroup: u64, first: u64, is_known: bool) {
    let Some(place) = TLS_CALLS.get_ptr_mut(place_of(call.thread)) else {
        return;
    };
    // SAFETY: a live map value; see `tls::call_of`.
    let place = unsafe { &mut *place };
    // SAFETY: the program's own context, constant places.
    let (stack, here) = unsafe { (at(ctx.as_ptr(), RSP), at(ctx.as_ptr(), RIP)) };
    let mut taking = *call;
    taking.scope_cgroup = cgroup;
    taking.length = first;
    taking.stack = stack;
    taking.moved = here.wrapping_add(CALL_BYTES);
    if place.thread != call.thread {
        if is_taken(place) {
            beside(&taking);
            return;
        }
    } else if place.op == TAKING {
        taking.nested = place.nested;
    } else if place.op != 0 {
        if is_known || place.object == call.object {
            // A handshake, of another object within or beside this one, or its own: a probe ends it.
            return;
        }
        if !over(place, stack) {
            // TLS within TLS: the inner object shakes hands, and waits.
            if TLS_OUTER_CALLS.insert(&call.thread, &*place, 0).is_err() {
                return;
            }
            taking.nested = 1;
        }
    }
    *place = taking;
}

/// Bytes that are taken, and of the first record that is made of them.
struct Lengths {
    all: u64,
    first: u64,
}

/// As many as there are parts.
#[inline(always)]
fn lengths(address: u64, parts: u64) -> Option<Lengths> {
    let parts = parts as u32 as u64;
    // SAFETY: the helper checks the address itself.
    let first = unsafe { bpf_probe_read_user(address as *const u64) }.ok()?;
    let (mut all, mut part) = (first, 1u64);
    while part < PARTS_MAX && part < parts {
        // SAFETY: as above.
        let next = unsafe { bpf_probe_read_user((address + part * 8) as *const u64) }.ok()?;
        all = all.wrapping_add(next);
        part += 1;
    }
    Some(Lengths { all, first })
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
