//! Which bytes of a TCP segment the gate looks at, and which segments pass: sequence numbers only, no bytes.
//!
//! What the hook has let pass is not yet what the socket has accepted: a segment may still fall to its checksum, its
//! timestamp, a full queue, and what came behind it waits in the socket for whatever fills the hole. So there are two
//! marks. `base` is where the stream stood at what the socket has accepted for certain (`rcv_nxt` has passed it), `head`
//! where it stands behind what was scanned: one segment further, because no other one is scanned before the socket has
//! accepted it. Behind it only a body's bytes pass. Bytes that come again for a place that was scanned are scanned again
//! from `base` on (`again`), once the first ones cannot be waiting for the socket any more, and have to bring the stream to
//! the state that it had at `head`: otherwise the socket could put two contents together that were judged apart.

use super::stream::{Decision, Scan, Stream, flag, state};

/// Nanoseconds for which bytes that were scanned may still wait in the socket's backlog: retransmissions of them are
/// dropped so long (TCP sends them again).
pub const BACKLOG_NS: u64 = 150_000_000;
/// A body moves the head's position at most this far at once, so that sequence numbers stay comparable.
const JUMP_BYTES: u32 = 1 << 30;

/// Where a stream stands at a sequence number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub stream: Stream,
    /// The next byte to look at.
    pub next: u32,
    /// The end of what was looked at; from here to `next` is a body's, whatever it holds.
    pub body_from: u32,
}

/// One direction of one connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateFlow {
    /// At what the socket has accepted, or before it.
    pub base: Mark,
    /// The end of what was scanned.
    pub head: Mark,
    /// The end of what was scanned again; valid if `has_again`. It is not accepted either, and nothing passes behind it.
    pub again: Mark,
    /// When bytes were last scanned, and scanned again, in nanoseconds.
    pub scanned_at: u64,
    pub again_at: u64,
    /// The first byte of the denied head, and its rule.
    pub denied_at: u32,
    pub rule: u32,
    /// Heads charged to rates.
    pub charged: u32,
    /// `head` has a position.
    pub started: u8,
    /// No payload passes any more.
    pub dead: u8,
    /// [`super::Reason`] of the denial.
    pub reason: u8,
    /// Not 0: two contents came for one sequence number.
    pub poisoned: u8,
    pub has_again: u8,
    /// The scan that goes on is of bytes that come again.
    pub repeats: u8,
    pub reserved: [u8; 6],
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Pass,
    Drop,
    /// From here on nobody knows where a message begins: bytes have passed that nobody looked at.
    Lost,
    /// Scan [`GateFlow::cursor`]'s stream over `bytes` bytes of the payload from `offset` on, then ask [`scanned`].
    Scan {
        offset: u32,
        bytes: u32,
    },
}

/// Plans that may follow one another for one segment: to the boundary, and behind it.
pub const PLANS_MAX: u32 = 2;

/// `a` is behind `b` (RFC 9293 §3.4).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl GateFlow {
    /// The direction's first byte has this sequence number.
    #[inline(always)]
    pub fn start(&mut self, next: u32) {
        self.started = 1;
        self.head.next = next;
        self.head.body_from = next;
        self.base = self.head;
    }

    /// Nobody has seen the bytes before: nothing of it is judged.
    #[inline(always)]
    pub fn start_lost(&mut self) {
        self.started = 1;
        self.head.stream.state = state::LOST;
        self.base = self.head;
        self.has_again = 0;
    }

    /// What it carries is none of the gate's business.
    #[inline(always)]
    pub fn start_opaque(&mut self) {
        self.start_lost();
        self.head.stream.state = state::OPAQUE;
        self.base = self.head;
    }

    /// A head is being read: what judges it is what it began under.
    #[inline(always)]
    pub fn is_inside_head(&self) -> bool {
        (state::METHOD..=state::PICK).contains(&self.head.stream.state)
    }

    /// Behind these bytes the connection ends, and they are the last that were scanned, within a head.
    #[inline(always)]
    pub fn cuts_off(&mut self, seq: u32, payload_bytes: u32) -> bool {
        let cursor = self.cursor();
        cursor.next == seq.wrapping_add(payload_bytes) && cursor.stream.is_request_so_far()
    }

    /// Where the scan that goes on, or the last one, stands.
    #[inline(always)]
    pub fn cursor(&mut self) -> &mut Mark {
        if self.repeats != 0 {
            &mut self.again
        } else {
            &mut self.head
        }
    }

    /// Nothing that comes is looked at any more, and the socket has accepted what says so.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.base.stream.is_over()
    }

    /// Two contents came for one place, and nobody knows which of them the socket puts together.
    #[inline(always)]
    pub fn poison(&mut self) {
        self.dead = 1;
        self.poisoned = 1;
    }
}

/// A segment with payload has come. At [`Plan::Lost`] the caller says what becomes of the connection, by
/// [`GateFlow::start_lost`] or by denying it. `rcv_nxt`: on ingress, up to where the socket has accepted bytes; on egress `None`:
/// the local stack sends in order and repeats itself faithfully.
#[inline(always)]
pub fn on_segment(flow: &mut GateFlow, seq: u32, payload_bytes: u32, rcv_nxt: Option<u32>, now: u64) -> Plan {
    if flow.dead != 0 {
        return Plan::Drop;
    }
    let end = seq.wrapping_add(payload_bytes);
    let accepted = match rcv_nxt {
        // What comes before is old, and the receiver drops it.
        Some(next) if !after(end, next) => return Plan::Pass,
        Some(next) => next,
        None => flow.head.body_from,
    };
    if flow.is_over() {
        return Plan::Pass;
    }
    let hole = match rcv_nxt {
        Some(_) => Plan::Drop,
        // What is missing has left, while no program was there.
        None => Plan::Lost,
    };
    if !confirm(flow, accepted) {
        return Plan::Lost;
    }
    if flow.is_over() {
        return Plan::Pass;
    }
    let from = if after(accepted, seq) { accepted } else { seq };
    if !after(flow.head.body_from, from) {
        return forward(flow, seq, from, end, accepted, hole);
    }
    // What the socket has accepted is a body's, and this of the same one.
    if !after(flow.base.body_from, from) && !after(end, flow.base.next) {
        return Plan::Pass;
    }
    // Bytes that were scanned, and that the socket has not accepted.
    let waits = now.wrapping_sub(flow.scanned_at) < BACKLOG_NS
        || (flow.has_again != 0 && now.wrapping_sub(flow.again_at) < BACKLOG_NS);
    // Only what the socket waits for: then it is accepted, or gone for good, and no third content is out there.
    if waits || from != accepted || after(from, flow.base.next) {
        return Plan::Drop;
    }
    flow.again = flow.base;
    flow.has_again = 1;
    flow.again_at = now;
    flow.repeats = 1;
    until(flow, seq, end)
}

/// What the socket has accepted cannot change any more. Not true: it has bytes that nobody scanned.
#[inline(always)]
fn confirm(flow: &mut GateFlow, accepted: u32) -> bool {
    if flow.has_again != 0 && !after(flow.again.body_from, accepted) {
        flow.has_again = 0;
        flow.base = flow.again;
        if !after(flow.head.body_from, flow.base.body_from) {
            flow.head = flow.base;
        }
    }
    // What waited in the socket behind it is accepted with it.
    if !after(flow.head.body_from, accepted) {
        if after(accepted, flow.head.next) && !flow.head.stream.is_over() {
            return false;
        }
        flow.base = flow.head;
        flow.has_again = 0;
    }
    true
}

/// The segment begins behind what was scanned. `hole`: what becomes of it where bytes before it are missing; on ingress they
/// come again, and this behind them.
#[inline(always)]
fn forward(flow: &mut GateFlow, seq: u32, from: u32, end: u32, accepted: u32, hole: Plan) -> Plan {
    if flow.head.stream.is_over() {
        return Plan::Pass;
    }
    extend(&mut flow.head, from);
    if !after(end, flow.head.next) {
        return Plan::Pass;
    }
    if after(from, flow.head.next) {
        return hole;
    }
    if after(flow.head.body_from, accepted) {
        // The socket is busy, or what came before has fallen. It comes again.
        return Plan::Drop;
    }
    flow.repeats = 0;
    until(flow, seq, end)
}

/// Up to the segment's end, but not past a place at which the content can be compared.
#[inline(always)]
fn until(flow: &mut GateFlow, seq: u32, end: u32) -> Plan {
    let mut stop = end;
    let repeats = flow.repeats != 0;
    let next = flow.cursor().next;
    if !after(end, next) {
        return Plan::Pass;
    }
    if repeats && after(flow.head.body_from, next) && after(stop, flow.head.body_from) {
        stop = flow.head.body_from;
    }
    Plan::Scan {
        offset: next.wrapping_sub(seq),
        bytes: stop.wrapping_sub(next),
    }
}

/// The bytes that [`on_segment`] asked for have been scanned, with this result. `seq` and `payload_bytes` are the
/// segment's. Another [`Plan::Scan`] may follow, [`PLANS_MAX`] in all.
#[inline(always)]
pub fn scanned(flow: &mut GateFlow, scan: &Scan, seq: u32, payload_bytes: u32, bytes: u32, now: u64) -> Plan {
    let repeats = flow.repeats != 0;
    if !repeats {
        flow.scanned_at = now;
    }
    let cursor = flow.cursor();
    let began = cursor.next;
    let heads = cursor.stream.heads;
    let end = cursor.next.wrapping_add(bytes);
    if scan.decision == Decision::Deny as u8 {
        // Up to where it was denied, and back to where the head began.
        let denied_at = cursor
            .next
            .wrapping_add(scan.passed())
            .wrapping_sub(cursor.stream.head_bytes);
        flow.dead = 1;
        flow.rule = scan.rule;
        flow.denied_at = denied_at;
        flow.reason = scan.reason;
        return Plan::Drop;
    }
    cursor.next = end;
    cursor.body_from = end;
    extend(cursor, end);
    let is_over = cursor.stream.is_over();
    if after(heads, flow.charged) {
        flow.charged = heads;
    }
    if repeats {
        let (boundary, again) = (&flow.head, &flow.again);
        let passed = is_over || !after(boundary.body_from, again.next);
        if after(boundary.body_from, began) && passed && !is_same(boundary, again) {
            flow.poison();
            return Plan::Drop;
        }
    }
    if is_over {
        return Plan::Pass;
    }
    until(flow, seq, seq.wrapping_add(payload_bytes))
}

/// Moves the position past a body as far as is safe, for a segment at `from`.
#[inline(always)]
fn extend(mark: &mut Mark, from: u32) {
    let skips = mark.stream.skips();
    let ahead = mark.next.wrapping_sub(from);
    if skips == 0 || (ahead as i32) > (JUMP_BYTES / 2) as i32 {
        return;
    }
    let jump = if skips < JUMP_BYTES as u64 {
        skips as u32
    } else {
        JUMP_BYTES
    };
    mark.stream.skipped(jump as u64);
    mark.next = mark.next.wrapping_add(jump);
    if after(from, mark.body_from) && (mark.next.wrapping_sub(mark.body_from) as i32) < 0 {
        // Bodies of gigabytes: their beginning is out of sight.
        mark.body_from = from;
    }
}

/// Two contents have brought the stream to the same place and state.
#[inline(always)]
fn is_same(one: &Mark, other: &Mark) -> bool {
    // Tables that were changed in between have other hashes: what does not depend on them is the same.
    let tables = generation(&one.stream) == generation(&other.stream);
    let (a, b) = (&one.stream, &other.stream);
    // Where the body ends, however much of it is passed over already.
    let end = |mark: &Mark| mark.next.wrapping_add(mark.stream.skip as u32);
    end(one) == end(other)
        && a.state == b.state
        && a.heads == b.heads
        && (a.is_over()
            || (a.head_bytes == b.head_bytes
                && a.path_bytes == b.path_bytes
                && a.fields == b.fields
                && a.pending == b.pending
                && a.pending_bytes == b.pending_bytes
                && a.name == b.name
                && a.auth == b.auth
                && a.reason == b.reason
                && (a.flags ^ b.flags) & !TABLES == 0
                && (!tables
                    || (a.hash == b.hash
                        && a.node == b.node
                        && a.host_node == b.host_node
                        && a.flags == b.flags))))
}

/// Flags that depend on the tables.
const TABLES: u32 = flag::LIVE
    | flag::ASKS_HOST
    | flag::ASKS_AUTH
    | flag::WORKLOAD_UNKNOWN
    | flag::REGISTERED
    | flag::HOST_UNKNOWN;

/// Which tables a stream's hashes depend on; 0 while the workload is not known.
#[inline(always)]
fn generation(stream: &Stream) -> u32 {
    if stream.generation == stream.base_generation {
        stream.generation
    } else {
        0
    }
}

#[cfg(feature = "user")]
mod user {
    //! aya moves these between maps and memory: plain integers, no padding (see the size assertions).
    unsafe impl aya::Pod for super::GateFlow {}
}

const _: () = {
    assert!(core::mem::size_of::<Mark>() == 136);
    assert!(core::mem::size_of::<GateFlow>() == 3 * 136 + 16 + 12 + 12);
};
