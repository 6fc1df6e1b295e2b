//! Requests in clear: segments that come for a server's socket, and that leave a client's.
//!
//! What comes is kept from TCP, what would leave from the host. A segment is dropped whole; ACK and RST have no payload
//! and pass, and so does a client's end, but on a dead connection or where it would end a head that is denied. Whose the socket is was noted when a process began to listen or to connect; a socket of nobody that is
//! known is not judged.

use apiward_common::flow::{Flow, Tuple, Withhold};
use apiward_common::gate::segments::{Mark, PLANS_MAX, Plan, on_segment, scanned};
use apiward_common::gate::{Facts, Stream, direction, flag, state, strict};
use apiward_common::record::{hook, role, stopped};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skc_to_tcp_sock};
use aya_ebpf::programs::SkBuffContext;

use super::concern::{concerns, concerns_some, forget, is_opaque, is_unconcerned};
use super::gated::{AGAIN, FlowKey, Found, GATE_BLANK, GATE_DEAD, GATE_FLOWS, Gated};
use super::handshake::{Begins, GATE_HANDSHAKES, GATE_SYNS, begins, handshake};
use super::scan::{self, Work};
use super::tell::{Told, apiward_parts, apiward_tell};
use crate::emit::{count, hasten};
use crate::maps::{EXEMPT_PEERS, FLOWS, OFFSETS, SOME_WITHHELD, WITHHELD};
use crate::owner::{self, OWNERS, class_of};
use crate::packet::{self, Segment};
use crate::sock::{field, tuple};
use crate::withhold::{DROP, PASS};

pub const TCP_LISTEN: u8 = 10;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
pub const BPF_NOEXIST: u64 = 1;

pub type Socket = *const core::ffi::c_void;

/// A segment comes for a socket.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> i32 {
    let verdict = comes(ctx);
    if verdict == DROP && super::passes_after_all() {
        return PASS;
    }
    verdict
}

#[inline(always)]
fn comes(ctx: &SkBuffContext) -> i32 {
    let Some(segment) = packet::segment(ctx) else {
        return unreadable(ctx);
    };
    let knocks = knocked(ctx);
    if segment.payload == 0 && !knocks && !segment.fin() {
        return PASS;
    }
    let key = FlowKey {
        // SAFETY: the program's own context.
        cookie: unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) },
        direction: direction::INBOUND as u64,
    };
    if segment.fin() && apiward_parts(ctx.skb.skb, key.cookie) != 0 {
        return DROP;
    }
    if knocks {
        if !segment.syn() {
            owner::knocked(key.cookie, ctx.load(segment.header as usize).unwrap_or([0; 2]));
        }
        if segment.payload == 0 {
            return PASS;
        }
    }
    let Some(tp) = socket(ctx) else { return PASS };
    // SAFETY: `tp` is a socket that the verifier knows.
    let (state, next): (u8, u32) =
        unsafe { (field(tp, OFFSETS.sk_state()), field(tp, OFFSETS.tp_rcv_nxt())) };
    let mut accepted = next;
    let found = if state == TCP_LISTEN {
        if !super::is_on() {
            return PASS;
        }
        // SAFETY: only asks whether it is there.
        if unsafe { owner::LISTENERS.get(&key.cookie) }.is_none() {
            count(|c| unsafe { &raw mut (*c).gate_unowned }, 1);
            return PASS;
        }
        let (first, unsure) = match begins(ctx, &segment, tp) {
            Begins::At(first) => (first, false),
            Begins::Perhaps(first) => (first, true),
            Begins::Ended => return again(),
            Begins::Nowhere => return PASS,
        };
        // The socket that is to be has accepted nothing yet.
        accepted = first;
        handshake(ctx, &key, &segment, first, unsure)
    } else {
        match GATE_FLOWS.get_ptr_mut(&key) {
            Some(known) if forget(known, &key, direction::INBOUND) => return PASS,
            Some(known) => Found::known(known),
            None => {
                // SAFETY: a live map value; its place may become another connection's, as the table may forget this one.
                let flow = unsafe { FLOWS.get(&key.cookie) };
                // What comes for a client is an answer.
                if flow.is_some_and(|flow| flow.role == role::CLIENT) {
                    return PASS;
                }
                // SAFETY: only asks whether it is there.
                if unsafe { GATE_DEAD.get(&key.cookie) }.is_some() {
                    return DROP;
                }
                if is_unconcerned(tp) {
                    return PASS;
                }
                inbound(ctx, tp, &key, &segment, flow, state == TCP_SYN_RECV)
            }
        }
    };
    decide(ctx, found, &key, &segment, Some(accepted))
}

/// TCP sends the segment again.
#[inline(always)]
fn again() -> i32 {
    count(|c| unsafe { &raw mut (*c).gate_again }, 1);
    DROP
}

/// A segment is about to leave. Asked before what is withheld, so that what is denied now is withheld already.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let verdict = leaves(ctx);
    if verdict == DROP && super::passes_after_all() {
        return PASS;
    }
    verdict
}

#[inline(always)]
fn leaves(ctx: &SkBuffContext) -> i32 {
    if !super::judged_what_leaves() {
        return PASS;
    }
    let Some(segment) = packet::segment(ctx) else {
        return unreadable(ctx);
    };
    if segment.payload == 0 {
        return PASS;
    }
    let key = FlowKey {
        // SAFETY: the program's own context.
        cookie: unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) },
        direction: direction::OUTBOUND as u64,
    };
    if !super::is_on() {
        // What leaves now is not followed: known no further, if there is a gate again.
        let _ = GATE_FLOWS.remove(&key);
        return PASS;
    }
    let known = GATE_FLOWS.get_ptr_mut(&key);
    match known {
        Some(known) if forget(known, &key, direction::OUTBOUND) => return PASS,
        None if !concerns(direction::OUTBOUND) => return PASS,
        _ => {}
    }
    let Some(tp) = socket(ctx) else { return PASS };
    let found = match known {
        Some(known) => Found::known(known),
        None => outbound(ctx, tp, &key, &segment),
    };
    decide(ctx, found, &key, &segment, None)
}

#[inline(always)]
fn decide(ctx: &SkBuffContext, found: Found, key: &FlowKey, segment: &Segment, accepted: Option<u32>) -> i32 {
    match found {
        // SAFETY: a live map value, which is claimed before it is changed.
        Found::At(gated) => judge(ctx, unsafe { &mut *gated }, key, segment, accepted),
        Found::Busy => again(),
        Found::Unjudged => PASS,
    }
}

/// A packet of a TCP socket whose headers cannot be followed, as with extension headers that nobody needs (RFC 8200 §4):
/// what is in it is not known, so it does not pass where somebody's calls are judged in its direction.
#[inline(always)]
fn unreadable(ctx: &SkBuffContext) -> i32 {
    if !super::was_on() || socket(ctx).is_none() {
        return PASS;
    }
    // SAFETY: the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    // SAFETY: only asks whether they are there.
    let judged =
        unsafe { (super::is_on() && OWNERS.get(&cookie).is_some()) || GATE_DEAD.get(&cookie).is_some() };
    if judged { again() } else { PASS }
}

/// The TCP socket of a packet.
#[inline(always)]
pub fn socket(ctx: &SkBuffContext) -> Option<Socket> {
    // SAFETY: the program's own context, and a helper that takes what it holds.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let tp: Socket = bpf_skc_to_tcp_sock(sk.cast()).cast_const().cast();
        if tp.is_null() { None } else { Some(tp) }
    }
}

/// The packet is for a listener: somebody connects.
#[inline(always)]
fn knocked(ctx: &SkBuffContext) -> bool {
    // SAFETY: the program's own context; the verifier knows what it points to.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        !sk.is_null() && core::ptr::read_volatile(&raw const (*sk).state) == TCP_LISTEN as u32
    }
}

/// The first segment that is seen of a connection that is not a client's, a server's perhaps. `early`: its handshake has not
/// ended, and it may send already (RFC 7413).
#[inline(always)]
fn inbound(
    ctx: &SkBuffContext,
    tp: Socket,
    key: &FlowKey,
    segment: &Segment,
    known: Option<&Flow>,
    early: bool,
) -> Found {
    if known.is_some_and(|flow| flow.exempt != 0) || !super::is_on() {
        return Found::Unjudged;
    }
    let opaque = known.is_some_and(is_opaque);
    let role = known.map_or(role::UNKNOWN, |flow| flow.role);
    let is_server = match role {
        role::SERVER => true,
        // Older than the programs, or forgotten by them.
        _ => early || owner::adopts(tp as u64, key.cookie),
    };
    if !is_server {
        return Found::Unjudged;
    }
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    tuple(tp as u64, &mut ends);
    // SAFETY: only asks whether it is there.
    if unsafe { EXEMPT_PEERS.get(&ends) }.is_some() {
        return Found::Unjudged;
    }
    // SAFETY: `tp` is a socket that the verifier knows.
    let (received, next): (u64, u32) = unsafe {
        (
            field(tp, OFFSETS.tp_bytes_received()),
            field(tp, OFFSETS.tp_rcv_nxt()),
        )
    };
    // Where bytes were taken in that nobody has seen, they may have come with the SYN.
    let mut before = GATE_HANDSHAKES.get_ptr_mut(&ends);
    let on_syn = before.is_none() && received != 0;
    if on_syn {
        before = GATE_SYNS.get_ptr_mut(&ends);
        // SAFETY: a live map value; `tp` is a socket that the verifier knows.
        if before
            .is_some_and(|before| unsafe { (*before).flow.base.next } != next.wrapping_sub(received as u32))
        {
            // Of another connection with the same ends.
            let _ = GATE_SYNS.remove(&ends);
            before = None;
        }
    }
    // SAFETY: a live map value.
    if received == 0 && before.is_some_and(|before| unsafe { (*before).flow.base.next } != next) {
        // Of another connection with the same ends, or of nobody's: nothing of it was accepted here.
        let _ = GATE_HANDSHAKES.remove(&ends);
        before = None;
    }
    if segment.payload == 0 && before.is_none() {
        // An end alone begins nothing.
        return Found::Unjudged;
    }
    if let Some(before) = before {
        // SAFETY: a live map value.
        owner::inherits(key.cookie, unsafe { (*before).listener });
    } else if early {
        owner::adopts(tp as u64, key.cookie);
    }
    // SAFETY: copied out at once.
    let Some(owner) = (unsafe { OWNERS.get(&key.cookie) }) else {
        count(|c| unsafe { &raw mut (*c).gate_unowned }, 1);
        return Found::Unjudged;
    };
    let class = class_of(&owner.identity());
    let blank = GATE_BLANK.get_ptr(0);
    // SAFETY: live map values; the one is copied as it is, the other nobody writes.
    let made = match before.map(|before| before.cast_const()).or(blank) {
        Some(value) => GATE_FLOWS.insert(key, unsafe { &*value }, BPF_NOEXIST).is_ok(),
        None => false,
    };
    if before.is_some() {
        let _ = if on_syn {
            GATE_SYNS.remove(&ends)
        } else {
            GATE_HANDSHAKES.remove(&ends)
        };
    }
    let (true, Some(gated)) = (made, GATE_FLOWS.get_ptr_mut(key)) else {
        return Found::Busy;
    };
    // SAFETY: a live map value; `tp` is a socket that the verifier knows.
    unsafe {
        let gated = &mut *gated;
        gated.release();
        gated.facts = Facts {
            peer: packet::address(ctx, true),
            class,
            direction: direction::INBOUND,
        };
        if gated.flow.started != 0 {
            // Judged in the handshake: from another place than where the stream begins is a trick.
            if gated.flow.base.next != next.wrapping_sub(received as u32) {
                gated.flow.poison();
                gated.untold = 1;
            } else {
                // What was denied then is told of this connection now, so that it is answered like any other.
                gated.untold = match (gated.flow.dead, gated.untold) {
                    (0, _) => 0,
                    (_, 0) => AGAIN | 1,
                    _ => 1,
                };
            }
            if gated.flow.dead != 0 && GATE_DEAD.insert(&key.cookie, &gated.flow.denied_at, 0).is_err() {
                count(|c| &raw mut (*c).gate_full, 1);
            }
        } else if received == 0 {
            gated.flow.start(next);
        } else if opaque {
            gated.flow.start_opaque();
        } else {
            forgotten(gated, segment.sequence, key.cookie);
        }
    }
    Found::At(gated)
}

/// The first segment that is seen of a client's connection.
#[inline(always)]
fn outbound(ctx: &SkBuffContext, tp: Socket, key: &FlowKey, segment: &Segment) -> Found {
    // SAFETY: `tp` is a socket that the verifier knows.
    let early = unsafe { field::<u8>(tp, OFFSETS.sk_state()) } == TCP_SYN_SENT;
    // SAFETY: copied out at once.
    let known = unsafe { FLOWS.get(&key.cookie) };
    let is_client = early || known.is_some_and(|flow| flow.role == role::CLIENT);
    if !is_client || known.is_some_and(|flow| flow.exempt != 0) {
        return Found::Unjudged;
    }
    // SAFETY: copied out at once.
    let Some(owner) = (unsafe { OWNERS.get(&key.cookie) }) else {
        count(|c| unsafe { &raw mut (*c).gate_unowned }, 1);
        return Found::Unjudged;
    };
    let class = class_of(&owner.identity());
    let first = segment.sequence.wrapping_add(segment.syn() as u32);
    let opaque = known.is_some_and(is_opaque);
    // What was sent before, and is sent again, was judged by whatever was in force then.
    let begins = early
        || known.is_some_and(|flow| flow.started != 0 && flow.sent_start == first && flow.egress_seen == 0);
    let blank = GATE_BLANK.get_ptr(0);
    // SAFETY: a live map value that nobody writes.
    let made = blank.is_some_and(|blank| GATE_FLOWS.insert(key, unsafe { &*blank }, BPF_NOEXIST).is_ok());
    let (true, Some(gated)) = (made, GATE_FLOWS.get_ptr_mut(key)) else {
        return Found::Busy;
    };
    // SAFETY: a live map value.
    unsafe {
        let gated = &mut *gated;
        gated.facts = Facts {
            peer: packet::address(ctx, false),
            class,
            direction: direction::OUTBOUND,
        };
        if begins {
            gated.flow.start(first);
        } else if opaque {
            gated.flow.start_opaque();
        } else {
            forgotten(gated, first, key.cookie);
        }
    }
    Found::At(gated)
}

#[inline(always)]
fn judge(
    ctx: &SkBuffContext,
    gated: &mut Gated,
    key: &FlowKey,
    segment: &Segment,
    accepted: Option<u32>,
) -> i32 {
    let first = segment.sequence.wrapping_add(segment.syn() as u32);
    let end = first.wrapping_add(segment.payload);
    if gated.flow.dead != 0 {
        // SAFETY: helper without arguments.
        if gated.untold != 0 && !super::has_expired(unsafe { bpf_ktime_get_ns() }) {
            let before = if gated.listener != 0 && gated.flow.poisoned == 0 {
                // In the handshake: nothing of it was taken in.
                0
            } else {
                gated.flow.cursor().stream.heads
            };
            refuse(ctx, gated, key, segment, first, before, 0);
        }
        // What came before the denied head may be sent again.
        let before = gated.flow.poisoned == 0 && (end.wrapping_sub(gated.flow.denied_at) as i32) <= 0;
        return if before { PASS } else { DROP };
    }
    if gated.flow.is_over() {
        return PASS;
    }
    if segment.urgent() {
        // What the application gets of it is not what is scanned.
        return again();
    }
    if !gated.claim() {
        return again();
    }
    let verdict = claimed(ctx, gated, key, segment, accepted);
    gated.release();
    verdict
}

#[inline(always)]
fn claimed(
    ctx: &SkBuffContext,
    gated: &mut Gated,
    key: &FlowKey,
    segment: &Segment,
    accepted: Option<u32>,
) -> i32 {
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if super::has_expired(now) {
        // It passes unjudged: from here on nobody knows where a message begins.
        gated.flow.start_lost();
        count(|c| unsafe { &raw mut (*c).gate_expired }, 1);
        return PASS;
    }
    let first = segment.sequence.wrapping_add(segment.syn() as u32);
    let mut plan = on_segment(&mut gated.flow, first, segment.payload, accepted, now);
    if plan == Plan::Lost {
        forgotten(gated, first, key.cookie);
        if gated.flow.dead == 0 {
            return PASS;
        }
        let heads = gated.flow.cursor().stream.heads;
        refuse(ctx, gated, key, segment, first, heads, 0);
        return DROP;
    }
    if plan == Plan::Pass
        && segment.fin()
        && accepted.is_some()
        && gated.flow.cuts_off(first, segment.payload)
    {
        plan = Plan::Scan {
            offset: segment.payload,
            bytes: 0,
        };
    }
    let Plan::Scan { .. } = plan else {
        return if plan == Plan::Drop { again() } else { PASS };
    };
    let Some(work) = scan::claim() else {
        return again();
    };
    if gated.facts.class == 0 {
        // Perhaps the agent has given one by now.
        // SAFETY: copied out at once.
        if let Some(owner) = unsafe { OWNERS.get(&key.cookie) } {
            gated.facts.class = class_of(&owner.identity());
        }
    }
    work.facts = gated.facts;
    work.ends = (segment.fin() && accepted.is_some()) as u64;
    let from = gated.flow.cursor().next;
    let Stream {
        heads: before,
        state: began,
        ..
    } = gated.flow.cursor().stream;
    // The end of an earlier request's body is in the segment too.
    let fresh = accepted.map_or(first, |accepted| later(accepted, first));
    let body = later(from, fresh) != fresh || (began >= state::BODY && began <= state::LAST_LF);
    // A second time where contents can be compared in between.
    for _ in 0..PLANS_MAX {
        let Plan::Scan { offset, bytes } = plan else { break };
        plan = look(ctx, gated, work, segment, offset, bytes, now);
    }
    scan::release(work);
    let inbound = key.direction == direction::INBOUND as u64;
    if gated.flow.dead != 0 {
        refuse(ctx, gated, key, segment, from, before, body as u32);
        return DROP;
    }
    let Mark { stream, next, .. } = gated.flow.cursor();
    // Part of a head that is not whole: the process gets it, and may never get the rest.
    // Of another protocol's first line nobody asks for.
    let odd = stream.state == state::ODD && !stream.is_request_so_far();
    let inside = stream.state >= state::METHOD && stream.state <= state::HEAD_LAST && !odd;
    let part = inbound && inside && stream.head_bytes != 0 && stream.has(flag::LIVE);
    if part {
        let head_start = next.wrapping_sub(stream.head_bytes);
        let told = Told {
            cookie: key.cookie,
            head_start,
            position: later(from, head_start),
            generation: stream.generation,
            rule: 0,
            heads: before,
            collateral: 0,
            bytes: 1,
            what: stopped::PART,
            hook: hook::INGRESS,
            reserved: [0; 2],
        };
        apiward_tell(ctx.skb.skb, &told);
    }
    if plan != Plan::Pass { DROP } else { PASS }
}

/// Nobody knows where the next message begins, so the pipeline decides; but for rules that have to be able to prevent,
/// as on any boundary that is lost.
#[inline(always)]
fn forgotten(gated: &mut Gated, at: u32, cookie: u64) {
    gated.flow.start_lost();
    let rule = apiward_strict(&mut gated.flow.head.stream, &gated.facts);
    let stream = &gated.flow.head.stream;
    // A loss is only what some rule was for; and the pipeline is in haste then.
    if concerns_some(stream) {
        count(|c| unsafe { &raw mut (*c).gate_lost }, 1);
        hasten(cookie);
    }
    if rule >= 0 {
        gated.flow.dead = 1;
        gated.flow.denied_at = at;
        gated.flow.rule = rule as u32;
        gated.flow.head.stream.flags |= flag::AMBIGUOUS;
        gated.untold = 1;
    }
}

/// The rule that denies what cannot be followed on a connection; -1: none. Global, so that the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_strict(stream: *mut Stream, facts: *const Facts) -> i32 {
    // SAFETY: the verifier holds callers to pointers of these sizes, or null.
    match unsafe { (stream.as_mut(), facts.as_ref()) } {
        (Some(stream), Some(facts)) => strict(stream, facts, &super::Maps).map_or(-1, |rule| rule as i32),
        _ => -1,
    }
}

/// The connection is dead: what is done about it, and told, if it is to be by now. `from`: the first byte that was looked at,
/// `before`: heads before those of this segment, `bodies`: how many of their requests it ends.
#[inline(always)]
fn refuse(
    ctx: &SkBuffContext,
    gated: &mut Gated,
    key: &FlowKey,
    segment: &Segment,
    from: u32,
    before: u32,
    bodies: u32,
) {
    let inbound = key.direction == direction::INBOUND as u64;
    let untold = gated.untold.saturating_sub(1);
    gated.untold = untold & (AGAIN - 1);
    if gated.untold != 0 {
        return;
    }
    if untold == 0 {
        count(|c| unsafe { &raw mut (*c).gate_denied }, 1);
    }
    denied(gated, key, segment, inbound);
    let poisoned = gated.flow.poisoned != 0;
    let (denied_at, rule) = (gated.flow.denied_at, gated.flow.rule);
    let stream = &gated.flow.cursor().stream;
    let head_start = if poisoned { from } else { denied_at };
    // The denied one is counted too, if it is whole.
    let since = stream.heads.wrapping_sub(before);
    let told = Told {
        cookie: key.cookie,
        head_start,
        position: later(from, head_start),
        generation: if stream.generation != 0 {
            stream.generation
        } else {
            stream.base_generation
        },
        rule,
        // Those that end in the same segment are lost with it.
        heads: before.saturating_sub(bodies),
        collateral: bodies + if poisoned || since == 0 { 0 } else { since - 1 },
        bytes: 1,
        what: if poisoned {
            stopped::TWO_CONTENTS
        } else if stream.has(flag::AMBIGUOUS) {
            stopped::AMBIGUOUS
        } else {
            stopped::DENIED
        },
        hook: if inbound { hook::INGRESS } else { hook::EGRESS },
        reserved: [0; 2],
    };
    apiward_tell(ctx.skb.skb, &told);
}

#[inline(always)]
fn look(
    ctx: &SkBuffContext,
    gated: &mut Gated,
    work: &mut Work,
    segment: &Segment,
    offset: u32,
    bytes: u32,
    now: u64,
) -> Plan {
    let first = segment.sequence.wrapping_add(segment.syn() as u32);
    let begin = segment.offset + offset;
    let charged = gated.flow.charged;
    scan::packet(
        ctx.skb.skb.cast(),
        &mut gated.flow.cursor().stream,
        work,
        begin,
        begin + bytes,
        charged,
    );
    if !scan::is_whole(&gated.flow.cursor().stream, work) {
        // It could not be read: nobody knows what came.
        // SAFETY: the program's own context.
        forgotten(gated, first, unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) });
        return if gated.flow.dead != 0 {
            Plan::Drop
        } else {
            Plan::Pass
        };
    }
    count(|c| unsafe { &raw mut (*c).gate_heads }, work.scan.heads as u64);
    if work.scan.left | work.scan.lost != 0 {
        count(|c| unsafe { &raw mut (*c).gate_left }, work.scan.left as u64);
        count(|c| unsafe { &raw mut (*c).gate_lost }, work.scan.lost as u64);
        // SAFETY: the program's own context.
        hasten(unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) });
    }
    scanned(&mut gated.flow, &work.scan, first, segment.payload, bytes, now)
}

/// A head is denied: the connection is dead from it on.
#[inline(always)]
fn denied(gated: &Gated, key: &FlowKey, segment: &Segment, inbound: bool) {
    let flow = &gated.flow;
    if inbound {
        // Before it is established the cookie is the listener's, which is nobody's connection.
        if gated.listener != key.cookie && GATE_DEAD.insert(&key.cookie, &flow.denied_at, 0).is_err() {
            count(|c| unsafe { &raw mut (*c).gate_full }, 1);
        }
        return;
    }
    let withhold = Withhold {
        from: if flow.poisoned != 0 {
            segment.sequence
        } else {
            flow.denied_at
        },
        everything: 0,
        gate: 1,
        reserved: 0,
    };
    // SAFETY: only asks whether it is there.
    if WITHHELD.insert(&key.cookie, &withhold, BPF_NOEXIST).is_err()
        && unsafe { WITHHELD.get(&key.cookie) }.is_none()
    {
        count(|c| unsafe { &raw mut (*c).gate_full }, 1);
    }
    if let Some(some) = SOME_WITHHELD.get_ptr_mut(1) {
        // SAFETY: a live map value that only ever becomes 1.
        unsafe { *some = 1 };
    }
}

#[inline(always)]
fn later(a: u32, b: u32) -> u32 {
    if (a.wrapping_sub(b) as i32) > 0 { a } else { b }
}
