//! Requests in TLS: what a client's library is about to take, and what a server's has just handed over.
//!
//! What is denied is withheld on its way out, by the socket's cookie: a client's record never leaves, and of a server's
//! response no byte gets out. Where the kernel lets a probe write registers, the library's call is made to fail as well.
//!
//! A write is looked at before it is done, and counts as far as the library says at its end: the same buffer may come
//! again (`WANT_WRITE`), or be taken in parts. It must not know where the probes are.

use apiward_common::flow::{TlsCall, TlsKey, TlsObject, Tuple, Withhold, judged};
use apiward_common::gate::{Decision, Facts, Scan, Stream, Tables, direction, flag, state};
use apiward_common::record::{Stopped, hook, kind, role, stopped};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};

use super::concern::{concerns, concerns_some};
use super::{Maps, scan};
use crate::emit::{count, emit, hasten};
use crate::maps::{OFFSETS, SOME_WITHHELD, TLS_OBJECTS, WITHHELD};
use crate::sock::{read, tuple};
use crate::{kin, owner, tls};

const BPF_NOEXIST: u64 = 1;
const TCP_CLOSE: u8 = 7;

/// Objects that are judged at once.
const JUDGED_MAX: u32 = 8 * 1024;

/// By TLS object. Forgotten before its object, its stream is one whose beginning was not seen.
#[map]
static GATE_TLS: LruHashMap<TlsKey, Judged> = LruHashMap::with_max_entries(JUDGED_MAX, 0);
/// An entry as it begins: too large for the stack.
#[map]
static GATE_TLS_BLANK: Array<Judged> = Array::with_max_entries(1, 0);

/// The requests of one TLS object.
#[repr(C)]
pub struct Judged {
    /// As of what the library has taken or handed over; and behind what was looked at.
    base: Stream,
    head: Stream,
    facts: Facts,
    /// Where `base` stands, in plaintext bytes; and how many were looked at behind it.
    position: u64,
    ahead: u64,
    /// The object's, and its carrier.
    carrier: u64,
    generation: u32,
    /// Heads charged to rates.
    charged: u32,
    /// Of the denied head.
    denied_at: u32,
    rule: u32,
    /// Not 0: bytes have passed that concerned no rule, and that nobody looked at.
    passed: u32,
    /// Of the last look: it came to the end; and what it found.
    is_whole: u32,
    scan: Scan,
}

/// What is asked of the gate.
pub mod ask {
    /// This is about to be written: nothing is counted yet.
    pub const WRITES: u32 = 0;
    /// It was.
    pub const WROTE: u32 = 1;
    /// It was read.
    pub const READ: u32 = 2;
    /// It was shown, and will be read.
    pub const PEEKED: u32 = 3;
}

/// Its answers.
pub mod answer {
    pub const PASS: i32 = 0;
    /// A request ends in it that is denied.
    pub const DENIED: i32 = 1;
    /// One was denied before.
    pub const DEAD: i32 = 2;
    /// And the connection has ended since: calls fail by themselves.
    pub const ENDED: i32 = 3;
    /// Not yet: it has to be looked at; and whose object it is, is not known.
    pub const LOOK: i32 = 4;
    pub const WHOSE: i32 = 5;
    /// Nor yet: nothing is known of the object.
    pub const UNKNOWN: i32 = 6;
}

/// Judges the first `bytes` bytes of a call's buffer. One after another, not one inside the other: the calls of a program
/// share 512 bytes of stack, and the look takes most of what a probe's program leaves.
#[inline(always)]
pub fn judge(call: &TlsCall, bytes: u64, asked: u32) -> i32 {
    let mut answer = apiward_tls_begin(call, bytes, asked);
    if answer == answer::UNKNOWN && kin::apiward_inherit(call.object) != 0 {
        answer = apiward_tls_begin(call, bytes, asked);
    }
    if answer == answer::UNKNOWN {
        return answer::PASS;
    }
    if answer < answer::LOOK {
        return answer;
    }
    if answer == answer::WHOSE {
        apiward_tls_whose(call);
    }
    apiward_tls_look(call, bytes);
    apiward_tls_judged(call, bytes, asked)
}

/// What there is to say without a look. Global, like those below: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tls_begin(call: *const TlsCall, bytes: u64, asked: u32) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return answer::PASS;
    };
    let key = tls::key(call.object);
    let Some(object) = TLS_OBJECTS.get_ptr_mut(&key) else {
        return answer::UNKNOWN;
    };
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let object = unsafe { &mut *object };
    if object.carrier != 0 && !is_carrier(object) && kin::apiward_outlived(call.object) != 0 {
        return answer::UNKNOWN;
    }
    let writes = asked == ask::WRITES || asked == ask::WROTE;
    if object.judged != if writes { judged::WRITES } else { judged::READS } {
        return answer::PASS;
    }
    if !super::has_turn() || super::passes_after_all() {
        return answer::PASS;
    }
    if object.dead != 0 {
        return if is_ended(object) {
            answer::ENDED
        } else {
            answer::DEAD
        };
    }
    if !super::is_on() {
        // Only what was denied before is anybody's business.
        return answer::PASS;
    }
    let Some(known) = judged_of(&key, object, writes) else {
        return answer::PASS;
    };
    // SAFETY: as above.
    let known = unsafe { &mut *known };
    if concerns_none(known, writes) {
        known.passed = 1;
        return answer::PASS;
    }
    if known.passed != 0 && !known.base.is_over() {
        lost(known);
    }
    if asked == ask::WROTE && known.ahead == bytes {
        known.base = known.head;
        advance(known, bytes, asked);
        return answer::PASS;
    }
    if known.base.is_over() {
        advance(known, bytes, asked);
        return answer::PASS;
    }
    known.head = known.base;
    if known.facts.class == 0 {
        answer::WHOSE
    } else {
        answer::LOOK
    }
}

#[inline(always)]
fn advance(known: &mut Judged, bytes: u64, asked: u32) {
    known.ahead = bytes;
    if asked == ask::WROTE || asked == ask::READ {
        known.position = known.position.wrapping_add(bytes);
        known.ahead = 0;
    }
}

/// Perhaps the agent has given the process a class by now.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tls_whose(call: *const TlsCall) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return 0;
    };
    let class = owner::class();
    if let Some(known) = GATE_TLS.get_ptr_mut(&tls::key(call.object)) {
        // SAFETY: a live map value.
        unsafe { (*known).facts.class = class };
    }
    0
}

/// Looks at what follows `base`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tls_look(call: *const TlsCall, bytes: u64) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return 0;
    };
    let Some(known) = GATE_TLS.get_ptr_mut(&tls::key(call.object)) else {
        return 0;
    };
    // SAFETY: a live map value.
    let known = unsafe { &mut *known };
    known.is_whole = 0;
    let Some(work) = scan::claim() else { return 0 };
    work.facts = known.facts;
    scan::user(call.buffer, bytes, &mut known.head, work, known.charged);
    known.is_whole = scan::is_whole(&known.head, work) as u32;
    known.scan = work.scan;
    scan::release(work);
    0
}

/// What the look has found.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tls_judged(call: *const TlsCall, bytes: u64, asked: u32) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return answer::PASS;
    };
    let key = tls::key(call.object);
    let (Some(known), Some(object)) = (GATE_TLS.get_ptr_mut(&key), TLS_OBJECTS.get_ptr_mut(&key)) else {
        return answer::PASS;
    };
    // SAFETY: live map values.
    let (known, object) = unsafe { (&mut *known, &mut *object) };
    if known.is_whole == 0 {
        // It could not be read, or there was no room.
        lost(known);
        advance(known, bytes, asked);
        return answer::PASS;
    }
    count(|c| unsafe { &raw mut (*c).gate_heads }, known.scan.heads as u64);
    if known.scan.left | known.scan.lost != 0 {
        count(|c| unsafe { &raw mut (*c).gate_left }, known.scan.left as u64);
        count(|c| unsafe { &raw mut (*c).gate_lost }, known.scan.lost as u64);
        hasten(object.carrier);
    }
    let heads = known.head.heads;
    if (heads.wrapping_sub(known.charged) as i32) > 0 {
        known.charged = heads;
    }
    if known.scan.decision == Decision::Deny as u8 {
        known.rule = known.scan.rule;
        // Up to where it was denied, and back to where the head began.
        known.denied_at = (known.position as u32)
            .wrapping_add(known.scan.passed())
            .wrapping_sub(known.head.head_bytes);
        object.dead = 1;
        return answer::DENIED;
    }
    if asked == ask::WROTE || asked == ask::READ {
        known.base = known.head;
    }
    advance(known, bytes, asked);
    answer::PASS
}

/// No rule that stops calls can concern this object, for its direction, its peer or its workload: then its bytes are not
/// looked at. Where rules come that do, it is one whose beginning was not seen.
#[inline(always)]
fn concerns_none(known: &Judged, writes: bool) -> bool {
    if known.base.base_generation == Maps.active() {
        return !concerns_some(&known.base);
    }
    !concerns(if writes {
        direction::OUTBOUND
    } else {
        direction::INBOUND
    })
}

#[inline(always)]
fn lost(known: &mut Judged) {
    known.head.state = state::LOST;
    known.base.state = state::LOST;
    count(|c| unsafe { &raw mut (*c).gate_lost }, 1);
    hasten(known.carrier);
}

/// The object's entry, made at its first request.
#[inline(always)]
fn judged_of(key: &TlsKey, object: &TlsObject, writes: bool) -> Option<*mut Judged> {
    let position = if writes { object.sent } else { object.received };
    if let Some(known) = GATE_TLS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        let judged = unsafe { &mut *known };
        if judged.generation == object.generation && judged.carrier == object.carrier {
            if judged.position != position {
                // Bytes have passed while there was no gate, or no rule for them.
                judged.passed = 1;
                judged.position = position;
            }
            return Some(known);
        }
        let _ = GATE_TLS.remove(key);
    }
    let blank = GATE_TLS_BLANK.get_ptr(0)?;
    // SAFETY: a live map value that nobody writes.
    let _ = GATE_TLS.insert(key, unsafe { &*blank }, BPF_NOEXIST);
    let known = GATE_TLS.get_ptr_mut(key)?;
    // SAFETY: a live map value.
    let judged = unsafe { &mut *known };
    judged.generation = object.generation;
    judged.carrier = object.carrier;
    judged.position = position;
    judged.facts.direction = if writes {
        direction::OUTBOUND
    } else {
        direction::INBOUND
    };
    // Bytes have passed while there was no gate, or it has forgotten the object.
    judged.passed = (position != object.origin) as u32;
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    if tuple(object.socket, &mut ends) == 4 {
        let peer = &mut judged.facts.peer;
        peer[10] = 0xff;
        peer[11] = 0xff;
        peer[12] = ends.remote[0];
        peer[13] = ends.remote[1];
        peer[14] = ends.remote[2];
        peer[15] = ends.remote[3];
    } else {
        judged.facts.peer = ends.remote;
    }
    Some(known)
}

/// Of [`apiward_gate_tls_denied`]: the library's call is made to fail.
pub const REFUSED: u32 = 1;
/// And: it was only seen once the library had written it, so it may have left.
pub const WRITTEN: u32 = 2;

/// A head is denied: from what the socket has taken by now on nothing leaves any more, and the agent is told.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_gate_tls_denied(call: *const TlsCall, how: u32) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(call) = (unsafe { call.as_ref() }) else {
        return 0;
    };
    count(|c| unsafe { &raw mut (*c).gate_denied }, 1);
    let key = tls::key(call.object);
    let Some(object) = TLS_OBJECTS.get_ptr(&key) else {
        return 0;
    };
    let Some(known) = GATE_TLS.get_ptr(&key) else {
        return 0;
    };
    // SAFETY: live map values.
    let (object, known) = unsafe { (&*object, &*known) };
    let cookie = object.carrier;
    // What was written before may still wait in the socket, and is allowed.
    let from = match is_carrier(object) {
        true => read::<u32>(object.socket, OFFSETS.tp_write_seq()),
        false => None,
    };
    let withhold = Withhold {
        from: from.unwrap_or(0),
        everything: from.is_none() as u32,
        // The gate's number says that nothing of the head has left.
        gate: (how & WRITTEN == 0) as u32,
        reserved: 0,
    };
    // SAFETY: only asks whether it is there.
    if WITHHELD.insert(&cookie, &withhold, BPF_NOEXIST).is_err() && unsafe { WITHHELD.get(&cookie) }.is_none()
    {
        count(|c| unsafe { &raw mut (*c).gate_full }, 1);
    }
    if let Some(some) = SOME_WITHHELD.get_ptr_mut(1) {
        // SAFETY: a live map value that only ever becomes 1.
        unsafe { *some = 1 };
    }
    if is_ended(object) {
        // Nothing leaves by it any more, and its end, which would take this back, has been.
        let _ = WITHHELD.remove(&cookie);
    }
    let inbound = object.judged == judged::READS;
    emit::<Stopped, 0>(kind::STOPPED, 0, |record| {
        let body = &mut record.body;
        body.cookie = cookie;
        body.object = call.object;
        body.cgroup = record.header.cgroup;
        body.local = [0; 16];
        body.remote = [0; 16];
        body.comm = record.header.comm;
        body.local_port = 0;
        body.remote_port = 0;
        body.netns = 0;
        body.head_start = known.denied_at;
        body.position = known.denied_at;
        body.generation = known.head.generation;
        body.rule = known.rule;
        body.pid = key.pid;
        body.uid = record.header.uid;
        body.object_generation = object.generation;
        body.heads = known.head.heads.wrapping_sub(1);
        body.refused = how & REFUSED;
        // The flow has its addresses.
        body.family = 4;
        body.role = if inbound { role::SERVER } else { role::CLIENT };
        body.hook = if inbound { hook::TLS_READ } else { hook::TLS_WRITE };
        body.what = if known.head.has(flag::AMBIGUOUS) {
            stopped::AMBIGUOUS
        } else {
            stopped::DENIED
        };
        0
    });
    0
}

/// The socket is still where it was.
#[inline(always)]
pub fn is_carrier(object: &TlsObject) -> bool {
    read::<u64>(object.socket, OFFSETS.sk_cookie()) == Some(object.carrier)
}

#[inline(always)]
fn is_ended(object: &TlsObject) -> bool {
    !is_carrier(object) || is_closed(object)
}

/// Its carrier is.
#[inline(always)]
pub fn is_closed(object: &TlsObject) -> bool {
    read::<u8>(object.socket, OFFSETS.sk_state()) == Some(TCP_CLOSE)
}

/// The object is gone.
#[inline(always)]
pub fn freed(key: &TlsKey) {
    let _ = GATE_TLS.remove(key);
}
