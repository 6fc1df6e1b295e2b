//! TLS library calls: the plaintext they move, and the socket behind each TLS object.
//!
//! The socket is learnt where it is certain: a system call on a TCP socket, made by a thread while it is inside a
//! library call on the object. An object whose calls never do that (memory BIO) has no carrier; none is guessed.

use apiward_common::flow::{Flow, TlsCall, TlsKey, TlsObject, tls};
use apiward_common::limits::TLS_CALLS_MAX;
use apiward_common::record::{SENT, TLS, TlsBind, TlsClose, kind, missing};
use apiward_common::site::{self, Op, ResultIn};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;

use crate::emit::{count, emit};
use crate::io::budget;
use crate::maps::{FLOWS, SOME_BESIDE, TLS_CALLS, TLS_CALLS_BESIDE, TLS_OBJECTS, TLS_OUTER_CALLS};
use crate::operation::Operation;
use crate::scope;
use crate::sock::{Tcp, apiward_announce};
use crate::who;

/// General registers in the order of `struct pt_regs`: r15 … rdi, and one more to make masking enough.
type Registers = [u64; 16];
const RAX: usize = 10;
/// `rsp` in `struct pt_regs`, in units of 8 bytes.
const RSP: usize = 19;
/// Frames of one stack are closer to each other than this; a stack of its own (a coroutine's) is farther away.
const STACK_BYTES_MAX: u64 = 1 << 20;

/// The verifier allows no variable offset into the context, so the registers are copied first.
#[inline(always)]
fn registers(ctx: *mut core::ffi::c_void) -> Option<Registers> {
    // SAFETY: the context of a probe is `struct pt_regs`, longer than this.
    unsafe { bpf_probe_read_kernel(ctx.cast::<Registers>().cast_const()) }.ok()
}

#[inline(always)]
fn register(registers: &Registers, index: u8) -> u64 {
    if index == site::REG_NONE {
        return 0;
    }
    // SAFETY: masked to the array's length.
    unsafe { core::ptr::read_volatile(registers.as_ptr().add((index & 15) as usize)) }
}

#[inline(always)]
fn key(object: u64) -> TlsKey {
    TlsKey {
        object,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        reserved: 0,
    }
}

/// Where arguments are at the entry of a function with the usual calling convention; there they need no copy of all
/// registers.
const RDI: u8 = 14;
const RSI: u8 = 13;
const RCX: u8 = 11;
const R8: u8 = 9;

/// A register at a constant place.
///
/// # Safety
/// `ctx` is the context of a probe, `struct pt_regs`, and `index` a constant inside it.
#[inline(always)]
unsafe fn at(ctx: *mut core::ffi::c_void, index: usize) -> u64 {
    unsafe { core::ptr::read_volatile(ctx.cast::<u64>().add(index)) }
}

/// TLS object, buffer and out-pointer at the entry.
#[inline(always)]
fn arguments(ctx: *mut core::ffi::c_void, cookie: u64) -> Option<(u64, u64, u64)> {
    let (ssl, buf, out) = (
        site::ssl_index(cookie),
        site::buf_index(cookie),
        site::out_index(cookie),
    );
    if ssl == RDI && buf == RSI && (out == RCX || out == R8 || out == site::REG_NONE) {
        // SAFETY: the program's own context, constant places.
        let (object, buffer, rcx, r8) = unsafe {
            (
                at(ctx, RDI as usize),
                at(ctx, RSI as usize),
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
        return Some((object, buffer, out));
    }
    let registers = registers(ctx)?;
    Some((
        register(&registers, ssl),
        register(&registers, buf),
        register(&registers, out),
    ))
}

/// The call that a thread may be inside of.
#[inline(always)]
fn call_of(thread: u64) -> Option<&'static mut TlsCall> {
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
fn place_of(thread: u64) -> u32 {
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

#[inline(always)]
pub fn enter(ctx: &ProbeContext) {
    let current = who::task();
    let thread = who::ids(current);
    let cgroup = who::cgroup(current);
    let Some(place) = TLS_CALLS.get_ptr_mut(place_of(thread)) else {
        return;
    };
    // SAFETY: a live map value, see `call_of`.
    let place = unsafe { &mut *place };
    let known = place.thread == thread;
    let asked = known && place.scope_cgroup == cgroup && scope::by_cgroup_alone();
    if !asked && !scope::task() {
        return;
    }
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let Some((object, buffer, moved)) = arguments(ctx.as_ptr(), cookie) else {
        return;
    };
    let op = site::op_number(cookie);
    if op == Op::Free as u8 {
        freed(object);
        return;
    }
    // SAFETY: the context of a probe is `struct pt_regs`, read at a constant place inside it.
    let stack = unsafe { at(ctx.as_ptr(), RSP) };
    let mut call = TlsCall {
        thread,
        scope_cgroup: cgroup,
        object,
        buffer,
        moved,
        stack,
        library: site::library(cookie),
        op,
        result: site::result_number(cookie),
        nested: 0,
        reserved: 0,
    };
    if !known && place.op != 0 {
        // Another thread is inside a call there.
        if let Some(some) = SOME_BESIDE.get_ptr_mut(0) {
            // SAFETY: a live map value that only ever becomes 1.
            unsafe { *some = 1 };
        }
        let _ = TLS_CALLS_BESIDE.insert(&thread, &call, 0);
        return;
    }
    if known && place.op != 0 && !over(place, stack) {
        if place.object != object {
            let outer = *place;
            call.nested = TLS_OUTER_CALLS.insert(&thread, &outer, 0).is_ok() as u8;
        } else if (op == Op::Handshake as u8 || op == Op::Peek as u8) && place.op != op {
            // A read or write may shake hands or peek inside: what it began, only it ends.
            return;
        }
    }
    *place = call;
}

/// A thread whose stack pointer is here has left the call, by a way that no probe saw.
#[inline(always)]
fn over(call: &TlsCall, stack: u64) -> bool {
    stack.wrapping_sub(call.stack) < STACK_BYTES_MAX
}

/// The library call is over; `rax` holds what it, or its inner function, returned.
#[inline(always)]
pub fn exit(ctx: &impl EbpfContext) {
    let thread = who::ids(who::task());
    let Some(known) = call_of(thread) else { return };
    let call = *known;
    // SAFETY: the program's own context.
    if call.op == 0 || site::op_number(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) }) != call.op {
        return;
    }
    known.op = 0;
    if call.nested != 0 {
        // SAFETY: copied out at once.
        if let Some(outer) = TLS_OUTER_CALLS.get_ptr(&thread).map(|outer| unsafe { *outer }) {
            let _ = TLS_OUTER_CALLS.remove(&thread);
            *known = outer;
        }
    }
    // SAFETY: the program's own context, a constant place.
    let result = unsafe { at(ctx.as_ptr(), RAX) };
    let sent = call.op == Op::Write as u8 || call.op == Op::WriteEarly as u8 || call.op == Op::Sendfile as u8;
    if !sent && call.op != Op::Read as u8 && call.op != Op::ReadEarly as u8 {
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
    let Some(object) = object_of(call.object) else {
        return;
    };
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let object = unsafe { &mut *object };
    let position = if sent { object.sent } else { object.received };
    if sent {
        object.sent += moved;
    } else {
        object.received += moved;
    }
    if object.exempt != 0 {
        return;
    }
    let Some(budget) = budget(call.object, &mut object.shed, moved) else {
        return;
    };
    let mut operation = Operation::new(
        call.object,
        object.carrier,
        TLS | if sent { SENT } else { 0 },
        budget,
    );
    operation.position = position;
    operation.other_position = call.library as u64;
    operation.generation = object.generation;
    operation.left = moved;
    operation.buffer(call.buffer, moved);
    if call.op == Op::Sendfile as u8 {
        operation.missing = missing::SENDFILE;
    }
    operation.ship();
}

#[inline(always)]
fn object_of(object: u64) -> Option<*mut TlsObject> {
    let key = key(object);
    if let Some(known) = TLS_OBJECTS.get_ptr_mut(&key) {
        return Some(known);
    }
    // SAFETY: helper without arguments. Steps of 1 µs: no object is freed and made again faster.
    let generation = (unsafe { bpf_ktime_get_ns() } >> 10) as u32;
    let fresh = TlsObject {
        carrier: 0,
        sent: 0,
        received: 0,
        generation,
        shed: 0,
        exempt: 0,
        reserved: [0; 2],
    };
    let _ = TLS_OBJECTS.insert(&key, &fresh, 0);
    TLS_OBJECTS.get_ptr_mut(&key)
}

/// Whether the current thread is inside a library call, as far as a look at its place tells.
#[inline(always)]
pub fn inside(thread: u64) -> bool {
    match TLS_CALLS.get(place_of(thread)) {
        Some(place) => place.op != 0,
        None => false,
    }
}

/// A TCP socket was used: if the thread is inside a TLS call, it is what carries the object. `stack`: the thread's
/// stack pointer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_carrier_used(tcp: *const Tcp, flow: *mut Flow, stack: u64) -> i32 {
    // SAFETY: the verifier holds callers to pointers of these sizes, or null.
    if let (Some(tcp), Some(flow)) = unsafe { (tcp.as_ref(), flow.as_mut()) } {
        carrier_used(tcp, flow, stack);
    }
    0
}

#[inline(always)]
fn carrier_used(tcp: &Tcp, state: &mut Flow, stack: u64) {
    let thread = who::ids(who::task());
    let Some(call) = call_of(thread) else { return };
    if call.op == 0 {
        return;
    }
    if over(call, stack) {
        call.op = 0;
        return;
    }
    let Some(object) = object_of(call.object) else {
        return;
    };
    // SAFETY: a live map value.
    let object = unsafe { &mut *object };
    if object.carrier == tcp.cookie && state.tls == tls::BOUND {
        return;
    }
    // A callback of the application may use another connection while the library shakes hands, reads or writes.
    // Only a new handshake, or the end of its connection, gives an object another one.
    let other = object.carrier != 0 && object.carrier != tcp.cookie;
    // SAFETY: only asks whether it is there.
    if other && call.op != Op::Handshake as u8 && unsafe { FLOWS.get(&object.carrier) }.is_some() {
        count(|c| unsafe { &raw mut (*c).other_carriers }, 1);
        return;
    }
    object.carrier = tcp.cookie;
    let generation = object.generation;
    state.tls = tls::BOUND;
    state.announced = 0;
    apiward_announce(tcp, state);
    object.exempt = state.exempt;
    apiward_bound(tcp, call.object, generation, call.library);
}

/// Tells the agent which socket carries a TLS object. By itself for the sake of the stack: three calls share 512 bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_bound(tcp: *const Tcp, object: u64, generation: u32, library: u32) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    if let Some(tcp) = unsafe { tcp.as_ref() } {
        emit::<TlsBind, 0>(kind::TLS_BIND, 0, |record| {
            record.body = TlsBind {
                object,
                cookie: tcp.cookie,
                generation,
                library,
            };
            0
        });
    }
    0
}

#[inline(always)]
fn freed(object: u64) {
    let key = key(object);
    // SAFETY: copied out at once.
    let Some(known) = TLS_OBJECTS.get_ptr(&key).map(|known| unsafe { *known }) else {
        return;
    };
    let _ = TLS_OBJECTS.remove(&key);
    emit::<TlsClose, 0>(kind::TLS_CLOSE, 0, |record| {
        record.body = TlsClose {
            object,
            sent_end: known.sent,
            received_end: known.received,
            generation: known.generation,
            reserved: 0,
        };
        0
    });
}
