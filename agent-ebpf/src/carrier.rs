//! The socket behind each TLS object.
//!
//! It is learnt where it is certain: a system call on a TCP socket, made by a thread while it is inside a library call on
//! the object; where no probe ends the call, also by what is written. An object whose calls never do that (memory BIO) has
//! no carrier; none is guessed.

use apiward_common::flow::{Flow, TAKING, TlsCall, TlsObject, judged, tls};
use apiward_common::record::{TlsBind, kind, role};
use apiward_common::site::Op;
use aya_ebpf::helpers::bpf_probe_read_user;

use crate::emit::{count, emit};
use crate::gate;
use crate::maps::{FLOWS, TLS_CALLS};
use crate::middle::APPLICATION_DATA;
use crate::sock::{Tcp, apiward_announce, ends};
use crate::tls::{
    about_to_write, begins_anew, call_of, end, is_on_another_stack, object_of, over, place_of, writes,
};
use crate::who;

/// Whether the current thread is inside a library call, as far as a look at its place tells.
#[inline(always)]
pub fn inside(thread: u64) -> bool {
    match TLS_CALLS.get(place_of(thread)) {
        Some(place) => place.op != 0,
        None => false,
    }
}

/// Another process writes on a connection in TLS than the one whose object it was found to carry: a child has its parent's
/// objects, by other keys.
#[inline(always)]
pub fn may_change(flow: &Flow, sent: bool) -> bool {
    sent && flow.tls == tls::BOUND && flow.exempt == 0 && flow.bound_by != own_bits()
}

/// As of [`Flow::bound_by`].
#[inline(always)]
fn own_bits() -> u16 {
    (who::ids(who::task()) >> 32) as u16
}

/// A TCP socket was used: if the thread is inside a TLS call, it is what carries the object. `stack`: the thread's
/// stack pointer; `start`: the first 8 bytes that were moved, if they can be told. One step after another, not one inside
/// the other: the calls of a program share 512 bytes of stack.
#[inline(always)]
pub fn carrier_used(tcp: &Tcp, flow: *mut Flow, stack: u64, sent: bool, start: u64) {
    let news = apiward_carrier_used(tcp, flow, stack, sent as u32, start);
    if news != 0 {
        if news == ANOTHER {
            apiward_begins_anew();
        }
        apiward_announce(tcp, flow);
        if apiward_bound(tcp, flow) != 0
            && let Some(call) = call_of(who::ids(who::task()))
        {
            // The carrier was not known at its beginning. What it writes has not left yet: the handshake goes first.
            about_to_write(call, 0);
        }
    }
    let thread = who::ids(who::task());
    if let Some(call) = call_of(thread)
        && call.op == TAKING
        && !is_on_another_stack(call, stack)
    {
        // By this what was taken has left, or something else has.
        end(call, thread);
    }
}

/// What [`apiward_carrier_used`] says: the socket is the first of its object, or another one than before.
const FIRST: i32 = 1;
const ANOTHER: i32 = 2;

/// Whether the socket is news to its object; 0 if not.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_carrier_used(
    tcp: *const Tcp,
    flow: *mut Flow,
    stack: u64,
    sent: u32,
    start: u64,
) -> i32 {
    // SAFETY: the verifier holds callers to pointers of these sizes, or null.
    match unsafe { (tcp.as_ref(), flow.as_mut()) } {
        (Some(tcp), Some(flow)) => is_news(tcp, flow, stack, sent != 0, start).unwrap_or(0),
        _ => 0,
    }
}

#[inline(always)]
fn is_news(tcp: &Tcp, state: &mut Flow, stack: u64, sent: bool, start: u64) -> Option<i32> {
    let thread = who::ids(who::task());
    let call = call_of(thread)?;
    if call.op == 0 {
        return None;
    }
    if over(call, stack) {
        if call.op != TAKING {
            end(call, thread);
        }
        return None;
    }
    // SAFETY: a live map value.
    let object = unsafe { &mut *object_of(call.object)? };
    if object.carrier == tcp.cookie && state.tls == tls::BOUND {
        state.bound_by = own_bits();
        return None;
    }
    // TLS within TLS: what an inner object waits for, while it shakes hands or writes, is received by the outer one, whose
    // reads are not seen to begin. The connection is that one's.
    if !sent && state.tls == tls::BOUND && call.op != Op::Read as u8 {
        return None;
    }
    // And what it writes then, too: as application data of the outer one, which is no handshake's.
    if sent && call.op == Op::Handshake as u8 && start as u8 == APPLICATION_DATA {
        return None;
    }
    let again = object.carrier == tcp.cookie;
    if call.op == TAKING && !again && !(sent && is_made_of(call, start, state)) {
        return None;
    }
    // A callback of the application may use another connection while the library shakes hands, reads or writes.
    // Only a new handshake on it, or the end of its connection, gives an object another one.
    let other = object.carrier != 0 && !again;
    let shakes = call.op == Op::Handshake as u8;
    if other && !(shakes && is_record(start)) {
        // SAFETY: only asks whether it is there.
        let lives = unsafe { FLOWS.get(&object.carrier) }.is_some();
        if lives && !shakes {
            count(|c| unsafe { &raw mut (*c).other_carriers }, 1);
        }
        // Of what was taken it is known that this is it.
        if lives || (call.op != TAKING && !is_record(start)) {
            return None;
        }
    }
    if call.op == TAKING && !again {
        // Nobody has seen where its requests begin.
        object.judged = judged::NOT;
    }
    object.carrier = tcp.cookie;
    object.socket = tcp.sk;
    state.begins_tls();
    state.tls = tls::BOUND;
    state.bound_by = own_bits();
    state.announced = 0;
    // Of what is about to leave the beginning has been told already.
    Some(if other && call.op != TAKING {
        ANOTHER
    } else {
        FIRST
    })
}

/// The object of the thread's call has been taken for another connection (`SSL_clear`): it is another one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_begins_anew() -> i32 {
    if let Some(call) = call_of(who::ids(who::task())) {
        begins_anew(call.object);
    }
    0
}

/// Whether bytes that start like this are a record of TLS (RFC 8446, section 5.1).
#[inline(always)]
fn is_record(start: u64) -> bool {
    (20..=24).contains(&(start as u8)) && start >> 8 & 0xff == 3
}

/// Whether bytes that start like this are what was made of the plaintext: a record that has room for it, or, where the kernel
/// encrypts, itself. Where something goes on, a record, or something that goes on on a connection that is known as TLS.
#[inline(always)]
fn is_made_of(call: &TlsCall, start: u64, flow: &Flow) -> bool {
    let bytes = (start >> 24 & 0xff) << 8 | (start >> 32 & 0xff);
    let is_record = start as u8 == APPLICATION_DATA && start >> 8 & 0xff == 3;
    if call.length == 0 {
        return is_record || flow.tls != tls::CLEAR;
    }
    if is_record {
        return bytes > call.length;
    }
    // SAFETY: the helper checks the address itself.
    start != 0 && unsafe { bpf_probe_read_user(call.buffer as *const u64) } == Ok(start)
}

/// Tells the agent which socket carries the object of the thread's call. 1: what the call writes is still to be judged.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_bound(tcp: *const Tcp, flow: *const Flow) -> i32 {
    // SAFETY: the verifier holds callers to pointers of these sizes, or null.
    let (Some(tcp), Some(flow)) = (unsafe { (tcp.as_ref(), flow.as_ref()) }) else {
        return 0;
    };
    let Some(call) = call_of(who::ids(who::task())) else {
        return 0;
    };
    let Some(object) = object_of(call.object) else {
        return 0;
    };
    // SAFETY: a live map value.
    let object = unsafe { &mut *object };
    object.exempt = flow.exempt;
    // What was taken tells a socket that had been forgotten, or of an object whose beginning was not seen.
    if call.op != TAKING {
        judges(tcp, flow, object, call.op);
    }
    object.library = call.library;
    tell(call.object, object);
    (gate::is_on() && writes(call.op)) as i32
}

/// The agent learns which socket carries an object.
#[inline(always)]
pub fn tell(address: u64, object: &TlsObject) {
    emit::<TlsBind, 0>(kind::TLS_BIND, 0, |record| {
        record.body = TlsBind {
            object: address,
            cookie: object.carrier,
            generation: object.generation,
            library: object.library,
        };
        0
    });
}

/// Which way the object's requests go, if this is its beginning: a handshake, or the first that happens on the
/// connection.
#[inline(always)]
fn judges(tcp: &Tcp, state: &Flow, object: &mut TlsObject, op: u8) {
    object.judged = judged::NOT;
    if state.exempt != 0 {
        return;
    }
    let client = state.role == role::CLIENT;
    if !client && state.role != role::SERVER {
        return;
    }
    let Some((sent, received)) = ends(tcp.sk) else {
        return;
    };
    // Whoever begins has had no answer; whoever is asked has given none.
    let first = state.started != 0
        && if client {
            received == state.received_start
        } else {
            sent == state.sent_start
        };
    if first || op == Op::Handshake as u8 {
        (object.judged, object.origin) = if client {
            (judged::WRITES, object.sent)
        } else {
            (judged::READS, object.received)
        };
    }
}
