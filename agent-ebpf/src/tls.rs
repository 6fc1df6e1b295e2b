//! TLS library calls: the plaintext they move.
//!
//! A call is looked at when it begins and when it is over; or, where a library allows it, once, in its middle (`middle.rs`).
//! It must not know what the plaintext says.

use apiward_common::flow::{TAKING, TlsCall, TlsKey, TlsObject, judged};
use apiward_common::limits::{CHUNK_BYTES_MAX, TLS_CALLS_MAX};
use apiward_common::record::{Data, SENT, TLS, TlsClose, kind, missing};
use apiward_common::site::{self, Op, ResultIn};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_ktime_get_ns, bpf_probe_read_user as bpf_probe_read_user_bytes,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;

use crate::emit::emit;
use crate::gate;
use crate::gate::tls::{REFUSED, WRITTEN, answer, apiward_gate_tls_denied, ask, is_carrier, judge};
use crate::io::{budget, is_preface};
use crate::kin;
use crate::maps::{SOME_BESIDE, TLS_CALLS, TLS_CALLS_BESIDE, TLS_OBJECTS, TLS_OUTER_CALLS, TLS_REFUSALS};
use crate::operation::Operation;
use crate::scope;
use crate::stack;
use crate::who;

const RAX: usize = 10;
/// In `struct pt_regs`, in units of 8 bytes.
pub const RIP: usize = 16;
const FLAGS: usize = 18;
pub const RSP: usize = 19;
/// Carry, parity, auxiliary, zero, sign and overflow; and those that a zero sets.
const FLAGS_OF_RESULT: u64 = 0x8d5;
const FLAGS_OF_ZERO: u64 = 0x44;
/// Frames of one stack are closer to each other than this; a stack of its own (a coroutine's) is farther away.
const STACK_BYTES_MAX: u64 = 1 << 20;

/// A general register by its number. The verifier allows no variable offset into the context, and a copy of it would take
/// a quarter of the stack.
#[inline(always)]
pub fn register(ctx: *mut core::ffi::c_void, index: u8) -> u64 {
    // SAFETY: the context of a probe is `struct pt_regs`, read at constant places inside it.
    unsafe {
        match index {
            0 => at(ctx, 0),
            1 => at(ctx, 1),
            2 => at(ctx, 2),
            3 => at(ctx, 3),
            4 => at(ctx, 4),
            5 => at(ctx, 5),
            6 => at(ctx, 6),
            7 => at(ctx, 7),
            8 => at(ctx, 8),
            9 => at(ctx, 9),
            10 => at(ctx, 10),
            11 => at(ctx, 11),
            12 => at(ctx, 12),
            13 => at(ctx, 13),
            14 => at(ctx, 14),
            _ => 0,
        }
    }
}

#[inline(always)]
pub fn key(object: u64) -> TlsKey {
    TlsKey {
        object,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        reserved: 0,
    }
}

/// Where arguments are at the entry of a function with the usual calling convention; there they need no copy of all
/// registers.
pub const RDI: u8 = 14;
pub const RSI: u8 = 13;
pub const RDX: u8 = 12;
pub const RCX: u8 = 11;
pub const R8: u8 = 9;

/// A register at a constant place.
///
/// # Safety
/// `ctx` is the context of a probe, `struct pt_regs`, and `index` a constant inside it.
#[inline(always)]
pub unsafe fn at(ctx: *mut core::ffi::c_void, index: usize) -> u64 {
    unsafe { core::ptr::read_volatile(ctx.cast::<u64>().add(index)) }
}

/// What an operation is given.
struct Arguments {
    object: u64,
    buffer: u64,
    length: u64,
    out: u64,
}

/// The arguments at the entry.
#[inline(always)]
fn arguments(ctx: *mut core::ffi::c_void, cookie: u64) -> Option<Arguments> {
    let (ssl, buf, len, out) = (
        site::ssl_index(cookie),
        site::buf_index(cookie),
        site::len_index(cookie),
        site::out_index(cookie),
    );
    if ssl == RDI && buf == RSI && len == RDX && (out == RCX || out == R8 || out == site::REG_NONE) {
        // SAFETY: the program's own context, constant places.
        let (object, buffer, length, rcx, r8) = unsafe {
            (
                at(ctx, RDI as usize),
                at(ctx, RSI as usize),
                at(ctx, RDX as usize),
                at(ctx, RCX as usize),
                at(ctx, R8 as usize),
            )
        };
        let out = if out == RCX {
            rcx
        } else if out == R8 {
            r8
        } else {
            0
        };
        return Some(Arguments {
            object,
            buffer,
            length,
            out,
        });
    }
    Some(Arguments {
        object: register(ctx, ssl),
        buffer: register(ctx, buf),
        length: register(ctx, len),
        out: register(ctx, out),
    })
}

/// The call that a thread may be inside of.
#[inline(always)]
pub fn call_of(thread: u64) -> Option<&'static mut TlsCall> {
    // SAFETY: a live map value; what another thread may write in between is looked at by none but itself.
    let place = unsafe { &mut *TLS_CALLS.get_ptr_mut(place_of(thread))? };
    if place.thread == thread {
        return Some(place);
    }
    if SOME_BESIDE.get(0).copied().unwrap_or(0) == 0 {
        return None;
    }
    // SAFETY: a live map value, which only this thread writes.
    TLS_CALLS_BESIDE
        .get_ptr_mut(&thread)
        .map(|beside| unsafe { &mut *beside })
}

#[inline(always)]
pub fn place_of(thread: u64) -> u32 {
    thread as u32 & (TLS_CALLS_MAX - 1)
}

/// A thread has ended: if it was inside a call, whoever gets its id next is not.
#[inline(always)]
pub fn ended(thread: u64) {
    if let Some(call) = call_of(thread) {
        let nested = call.nested;
        call.op = 0;
        call.thread = 0;
        if nested != 0 {
            let _ = TLS_OUTER_CALLS.remove(&thread);
        }
    }
}

/// A library call begins. `REFUSES`: the kernel lets the program write registers.
#[inline(always)]
pub fn enter<const REFUSES: bool>(ctx: &ProbeContext) {
    let Some(call) = entered::<REFUSES>(ctx) else {
        return;
    };
    if !gate::was_on() || !writes(call.op) {
        return;
    }
    if !REFUSES {
        about_to_write(&call, 0);
        return;
    }
    let Some(refusal) = refusal(ctx) else {
        about_to_write(&call, 0);
        return;
    };
    let answer = about_to_write(&call, 1);
    if answer == answer::DENIED || answer == answer::DEAD {
        // On, to where the function has returned: it failed, with nothing written.
        let result = if call.result == ResultIn::Flag as u8 {
            0
        } else {
            u64::MAX
        };
        // SAFETY: the program's own context, constant places.
        unsafe {
            set(ctx.as_ptr(), RAX, result);
            set(
                ctx.as_ptr(),
                RIP,
                at(ctx.as_ptr(), RIP).wrapping_add(refusal as u64),
            );
        }
    }
}

/// How the call at this site is made to fail: how far from it the machine goes on, or, at a site behind it, anything.
#[inline(always)]
fn refusal(ctx: &impl EbpfContext) -> Option<i64> {
    if !gate::may_refuse() {
        return None;
    }
    // SAFETY: the program's own context; copied out at once.
    unsafe { TLS_REFUSALS.get(&bpf_get_attach_cookie(ctx.as_ptr())) }.copied()
}

/// Sets a register.
///
/// # Safety
/// As of [`at`], and the kernel allows it.
#[inline(always)]
unsafe fn set(ctx: *mut core::ffi::c_void, index: usize, value: u64) {
    unsafe { core::ptr::write_volatile(ctx.cast::<u64>().add(index), value) }
}

#[inline(always)]
pub fn writes(op: u8) -> bool {
    op == Op::Write as u8 || op == Op::WriteEarly as u8
}

/// The call that the thread is inside of from now on.
#[inline(always)]
fn entered<const REFUSES: bool>(ctx: &ProbeContext) -> Option<TlsCall> {
    let current = who::task();
    let thread = who::ids(current);
    if thread == 0 {
        stack::shares_none::<REFUSES>(ctx);
        return None;
    }
    let cgroup = who::cgroup(current);
    let place = TLS_CALLS.get_ptr_mut(place_of(thread))?;
    // SAFETY: a live map value, see `call_of`.
    let place = unsafe { &mut *place };
    let known = place.thread == thread;
    let asked = known && place.scope_cgroup == cgroup && scope::by_cgroup_alone();
    if !asked && !scope::task() {
        return None;
    }
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let arguments = arguments(ctx.as_ptr(), cookie)?;
    let object = arguments.object;
    let op = op_of(cookie);
    let within = site::op_number(cookie) == Op::HandshakeWithin as u8;
    if op == Op::Free as u8 {
        freed(object);
        return None;
    }
    // SAFETY: the context of a probe is `struct pt_regs`, read at a constant place inside it.
    let stack = unsafe { at(ctx.as_ptr(), RSP) };
    let result = site::result_number(cookie);
    let mut call = TlsCall {
        thread,
        scope_cgroup: cgroup,
        object,
        buffer: arguments.buffer,
        // Who returns an `int` takes one.
        length: if result == ResultIn::Count32 as u8 {
            arguments.length as u32 as u64
        } else {
            arguments.length
        },
        moved: arguments.out,
        stack,
        library: site::library(cookie),
        op,
        result,
        nested: 0,
        own_stack: within as u8,
    };
    if !known && is_taken(place) {
        beside(&call);
        return Some(call);
    }
    if known && place.op == TAKING {
        call.nested = place.nested;
    } else if known && place.op != 0 && !over(place, stack) {
        if place.object != object {
            let outer = *place;
            call.nested = TLS_OUTER_CALLS.insert(&thread, &outer, 0).is_ok() as u8;
        } else if (op == Op::Handshake as u8 || op == Op::Peek as u8) && place.op != op {
            // A read or write may shake hands or peek inside: what it began, only it ends.
            return None;
        } else {
            // Whoever waits outside still does.
            call.nested = place.nested;
        }
    }
    *place = call;
    Some(call)
}

/// Another thread is inside a call where this one's place is.
#[inline(always)]
pub fn beside(call: &TlsCall) {
    if let Some(some) = SOME_BESIDE.get_ptr_mut(0) {
        // SAFETY: a live map value that only ever becomes 1.
        unsafe { *some = 1 };
    }
    let _ = TLS_CALLS_BESIDE.insert(&call.thread, call, 0);
}

/// Its thread needs the place.
#[inline(always)]
pub fn is_taken(place: &TlsCall) -> bool {
    place.op != 0 && (place.op != TAKING || place.nested != 0)
}

/// The thread's call is over; whoever waits outside goes on.
#[inline(always)]
pub fn end(call: &mut TlsCall, thread: u64) {
    if call.thread != thread {
        // Somebody else has the place by now.
        return;
    }
    call.op = 0;
    if call.nested != 0 {
        if let Some(outer) = TLS_OUTER_CALLS.get_ptr(&thread) {
            // SAFETY: live map values, the one of this thread alone; not by way of the stack, which is short.
            unsafe { core::ptr::copy_nonoverlapping(outer, call, 1) };
            let _ = TLS_OUTER_CALLS.remove(&thread);
        }
    }
}

/// It is one that another stack than this is inside of: the thread may come back to that.
#[inline(always)]
pub fn is_on_another_stack(call: &TlsCall, stack: u64) -> bool {
    call.stack.wrapping_sub(stack).wrapping_add(STACK_BYTES_MAX) >= 2 * STACK_BYTES_MAX
}

/// A thread whose stack pointer is here has left the call, by a way that no probe saw.
#[inline(always)]
pub fn over(call: &TlsCall, stack: u64) -> bool {
    if call.op == TAKING {
        // SAFETY: the helper checks the address itself.
        let returns_to = unsafe { bpf_probe_read_user(call.stack.wrapping_sub(8) as *const u64) };
        return call.stack.wrapping_sub(stack) >= STACK_BYTES_MAX || returns_to != Ok(call.moved);
    }
    if call.own_stack != 0 {
        // Above it, or on another one: the library may leave this stack for a while.
        return call.stack.wrapping_sub(stack) >= STACK_BYTES_MAX;
    }
    stack.wrapping_sub(call.stack) < STACK_BYTES_MAX
}

/// What the site does, as a call.
#[inline(always)]
fn op_of(cookie: u64) -> u8 {
    match site::op_number(cookie) {
        op if op == Op::HandshakeWithin as u8 => Op::Handshake as u8,
        op => op,
    }
}

/// Lets the gate look at what is about to be written. An object without a carrier waits for it: a handshake may come
/// first.
#[inline(always)]
pub fn about_to_write(call: &TlsCall, refused: u32) -> i32 {
    let answer = judge(call, call.length, ask::WRITES);
    if answer == answer::DENIED {
        apiward_gate_tls_denied(call, refused);
        apiward_show(call);
    }
    answer
}

/// Ships what was denied, as far as one record holds it: the library may never say that it was written. Not by an
/// [`Operation`], which takes more stack than there is left.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_show(call: *const TlsCall) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return 0;
    };
    let Some(object) = TLS_OBJECTS.get_ptr_mut(&key(call.object)) else {
        return 0;
    };
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let object = unsafe { &mut *object };
    if call.length as usize <= SHORT_BYTES {
        show::<SHORT_BYTES>(call, object);
    } else {
        show::<CHUNK_BYTES_MAX>(call, object);
    }
    object.sent += call.length;
    0
}

/// Bytes of most heads.
const SHORT_BYTES: usize = 1024;

#[inline(always)]
fn show<const BYTES: usize>(call: &TlsCall, object: &TlsObject) {
    emit::<Data, BYTES>(kind::DATA, call.length, |record| {
        record.body = Data {
            flow: call.object,
            position: object.sent,
            other_position: call.library as u64,
            moved_bytes: call.length as u32,
            generation: object.generation,
            carrier: object.carrier,
            flags: TLS | SENT,
            missing: if call.length > BYTES as u64 {
                missing::LIMIT
            } else {
                missing::NOTHING
            },
            reserved: [0; 6],
        };
        let wanted = if call.length < BYTES as u64 {
            call.length as u32
        } else {
            BYTES as u32
        };
        // SAFETY: a reference is always readable; read again, so that the compiler keeps the bound.
        let bytes = unsafe { core::ptr::read_volatile(&wanted) };
        if bytes > BYTES as u32 {
            return 0;
        }
        // SAFETY: the payload has room for BYTES; the helper checks the user address itself.
        let failed = unsafe {
            bpf_probe_read_user_bytes(
                record.payload.as_mut_ptr().cast(),
                bytes,
                call.buffer as *const core::ffi::c_void,
            )
        };
        if failed != 0 {
            record.body.missing = missing::UNREADABLE;
            return 0;
        }
        bytes
    });
}

#[inline(always)]
fn ship(call: &TlsCall, object: &mut TlsObject, position: u64, moved: u64, sent: u8) {
    // The preface is the first thing that a client says; the other direction starts with what is none.
    // SAFETY: the helper checks the address itself.
    if position == 0
        && object.framed == 0
        && let Ok(start) = unsafe { bpf_probe_read_user(call.buffer as *const [u8; 3]) }
    {
        object.framed = is_preface(start) as u8;
    }
    let Some(budget) = budget(call.object, &mut object.shed, moved, object.framed != 0) else {
        return;
    };
    let mut operation = Operation::new(call.object, object.carrier, TLS | sent, budget);
    operation.position = position;
    operation.other_position = call.library as u64;
    operation.generation = object.generation;
    operation.judged = (object.judged != judged::NOT && object.framed == 0) as u8;
    operation.left = moved;
    operation.buffer(call.buffer, moved);
    if call.op == Op::Sendfile as u8 {
        operation.missing = missing::SENDFILE;
    }
    operation.ship();
}

/// The library call is over; `rax` holds what it, or its inner function, returned.
#[inline(always)]
pub fn exit<const REFUSES: bool>(ctx: &impl EbpfContext) {
    let thread = who::ids(who::task());
    if thread == 0 {
        stack::shares_none::<REFUSES>(ctx);
        return;
    }
    let Some(known) = call_of(thread) else { return };
    if known.op == TAKING {
        end(known, thread);
    }
    let call = *known;
    // SAFETY: the program's own context.
    if call.op == 0 || op_of(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) }) != call.op {
        return;
    }
    end(known, thread);
    // SAFETY: the program's own context, a constant place.
    let result = unsafe { at(ctx.as_ptr(), RAX) };
    let sent = writes(call.op) || call.op == Op::Sendfile as u8;
    let peeked = call.op == Op::Peek as u8;
    if peeked && !gate::was_on() {
        return;
    }
    if !sent && !peeked && call.op != Op::Read as u8 && call.op != Op::ReadEarly as u8 {
        return;
    }
    let moved = if call.result == ResultIn::Count64 as u8 {
        result as i64
    } else if call.result == ResultIn::Flag as u8 {
        if (result as i32) <= 0 {
            return;
        }
        // SAFETY: the helper checks the address itself.
        match unsafe { bpf_probe_read_user(call.moved as *const i64) } {
            Ok(moved) => moved,
            Err(_) => return,
        }
    } else {
        result as i32 as i64
    };
    if moved <= 0 {
        return;
    }
    let moved = moved as u64;
    if gate::was_on() {
        let asked = if sent {
            ask::WROTE
        } else if peeked {
            ask::PEEKED
        } else {
            ask::READ
        };
        let answer = judge(&call, moved, asked);
        let refused = REFUSES && !sent && answer != answer::PASS && refusal(ctx).is_some();
        if refused {
            // As if the peer had closed the connection. The processor's flags too, as of a look at this result: the site
            // may be behind that.
            // SAFETY: the program's own context, constant places.
            unsafe {
                set(ctx.as_ptr(), RAX, 0);
                let flags = at(ctx.as_ptr(), FLAGS);
                set(ctx.as_ptr(), FLAGS, (flags & !FLAGS_OF_RESULT) | FLAGS_OF_ZERO);
            }
        }
        if answer == answer::DENIED {
            let written = if sent { WRITTEN } else { 0 };
            apiward_gate_tls_denied(&call, written | if refused { REFUSED } else { 0 });
        }
        // Of what a dead object writes, the last has been shipped.
        if peeked || (sent && (answer == answer::DEAD || answer == answer::ENDED)) {
            return;
        }
    }
    passed(&call, moved, sent);
}

/// So many bytes of the call's buffer have gone by.
#[inline(always)]
pub fn passed(call: &TlsCall, moved: u64, sent: bool) {
    if let Some(object) = object_of(call.object) {
        // SAFETY: a live map value; calls on one object are serialised by the application.
        passed_by(unsafe { &mut *object }, call, moved, sent);
    }
}

/// And by this object.
#[inline(always)]
pub fn passed_by(object: &mut TlsObject, call: &TlsCall, moved: u64, sent: bool) {
    let position = if sent { object.sent } else { object.received };
    if sent {
        object.sent += moved;
    } else {
        object.received += moved;
    }
    if object.exempt != 0 {
        return;
    }
    ship(call, object, position, moved, if sent { SENT } else { 0 });
}

#[inline(always)]
pub fn object_of(object: u64) -> Option<*mut TlsObject> {
    let key = key(object);
    if let Some(known) = TLS_OBJECTS.get_ptr_mut(&key) {
        // SAFETY: a live map value; calls on one object are serialised by the application.
        let is_gone = unsafe { (*known).carrier != 0 && !is_carrier(&*known) };
        if !is_gone || kin::apiward_outlived(object) == 0 {
            return Some(known);
        }
    }
    if kin::apiward_inherit(object) != 0 {
        return TLS_OBJECTS.get_ptr_mut(&key);
    }
    let fresh = TlsObject {
        carrier: 0,
        socket: 0,
        sent: 0,
        received: 0,
        origin: 0,
        generation: generation(),
        shed: 0,
        exempt: 0,
        judged: judged::NOT,
        dead: 0,
        framed: 0,
        reserved: [0; 3],
        library: 0,
    };
    let _ = TLS_OBJECTS.insert(&key, &fresh, 0);
    TLS_OBJECTS.get_ptr_mut(&key)
}

/// Nanoseconds to steps of 1 µs: none is freed and made again faster.
pub const GENERATION_SHIFT: u32 = 10;

/// When an object was made: tells those at one address apart.
#[inline(always)]
fn generation() -> u32 {
    // SAFETY: helper without arguments.
    (unsafe { bpf_ktime_get_ns() } >> GENERATION_SHIFT) as u32
}

#[inline(always)]
fn freed(object: u64) {
    kin::apiward_part(object);
    let key = key(object);
    // SAFETY: copied out at once.
    let Some(known) = TLS_OBJECTS.get_ptr(&key).map(|known| unsafe { *known }) else {
        return;
    };
    let _ = TLS_OBJECTS.remove(&key);
    over_with(&key, &known);
}

/// What was known of the object's last connection says nothing of the one that it has now.
#[inline(always)]
pub fn begins_anew(object: u64) {
    let key = key(object);
    let Some(known) = TLS_OBJECTS.get_ptr_mut(&key) else {
        return;
    };
    kin::apiward_part(object);
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let known = unsafe { &mut *known };
    over_with(&key, known);
    known.generation = generation();
    (known.sent, known.received, known.origin) = (0, 0, 0);
    (known.shed, known.dead, known.framed) = (0, 0, 0);
    known.judged = judged::NOT;
}

/// Nothing more will be moved by what was at this address.
#[inline(always)]
fn over_with(key: &TlsKey, known: &TlsObject) {
    if gate::was_on() {
        gate::tls::freed(key);
    }
    let (object, generation) = (key.object, known.generation);
    let (sent_end, received_end) = (known.sent, known.received);
    emit::<TlsClose, 0>(kind::TLS_CLOSE, 0, |record| {
        record.body = TlsClose {
            object,
            sent_end,
            received_end,
            generation,
            reserved: 0,
        };
        0
    });
}
