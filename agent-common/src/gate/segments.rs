//! Which bytes of a TCP segment the gate looks at, and which segments pass: sequence numbers only, no bytes.
//!
//! What the hook has let pass is not yet what the socket has accepted: a segment may still fall to its checksum, its
//! timestamp, a full queue. So there are two marks. `base` is where the stream stood at what the socket has accepted for
//! certain (`rcv_nxt` has passed it), `head` where it stands behind what was scanned. If other bytes come for the place
//! in between, scanning begins again at `base`, and only when the first ones cannot be waiting for the socket any more.

use super::stream::{Decision, Scan, Stream};

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
    pub base: Mark,
    pub head: Mark,
    /// When bytes were last scanned, in nanoseconds.
    pub scanned_at: u64,
    /// What the stream was like at `print_at`, when those bytes were scanned before; valid if `printed`.
    pub print: u64,
    pub print_at: u32,
    /// The tables that it was scanned under: other ones have other hashes.
    pub print_generation: u32,
    /// The first byte of the denied head, and its rule.
    pub denied_at: u32,
    pub rule: u32,
    /// Heads charged to rates.
    pub charged: u32,
    /// `head` has a position.
    pub started: u8,
    /// No payload passes any more.
    pub dead: u8,
    pub printed: u8,
    /// [`super::Reason`] of the denial.
    pub reason: u8,
    /// Not 0: two contents came for one sequence number.
    pub poisoned: u8,
    pub reserved: [u8; 7],
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Pass,
    Drop,
    /// Scan `head.stream` over `bytes` bytes of the payload from `offset` on, then ask [`scanned`].
    Scan {
        offset: u32,
        bytes: u32,
    },
}

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
        self.head.stream.state = super::state::LOST;
        self.base = self.head;
    }
}

/// A segment with payload has come. `rcv_nxt`: on ingress, up to where the socket has accepted bytes; on egress `None`:
/// the local stack sends in order and repeats itself faithfully.
#[inline(always)]
pub fn on_segment(flow: &mut GateFlow, seq: u32, payload_bytes: u32, rcv_nxt: Option<u32>, now: u64) -> Plan {
    if flow.dead != 0 {
        return Plan::Drop;
    }
    if flow.head.stream.is_over() {
        return Plan::Pass;
    }
    let end = seq.wrapping_add(payload_bytes);
    // What comes before is old, and the receiver drops it.
    let mut from = seq;
    let accepted = match rcv_nxt {
        Some(next) => next,
        None => flow.head.body_from,
    };
    if !after(end, accepted) && rcv_nxt.is_some() {
        return Plan::Pass;
    }
    if after(accepted, flow.head.next) {
        // The socket has bytes that nobody scanned.
        flow.start_lost();
        return Plan::Pass;
    }
    if after(accepted, from) {
        from = accepted;
    }
    if !after(flow.head.body_from, accepted) {
        flow.base = flow.head;
        flow.printed = 0;
    }
    extend(&mut flow.head, from);
    if !after(flow.head.body_from, from) {
        return forward(flow, seq, from, end);
    }
    // Bytes that were scanned, and that the socket has not accepted.
    if !after(flow.base.body_from, from) && !after(end, flow.base.next) {
        return Plan::Pass;
    }
    if now.wrapping_sub(flow.scanned_at) < BACKLOG_NS || after(from, flow.base.next) {
        return Plan::Drop;
    }
    if flow.printed == 0 {
        flow.print = print(&flow.head.stream);
        flow.print_at = flow.head.body_from;
        flow.print_generation = generation(&flow.head.stream);
        flow.printed = 1;
    }
    flow.head = flow.base;
    forward(flow, seq, from, end)
}

/// The segment begins where bytes are due, or in a body.
#[inline(always)]
fn forward(flow: &GateFlow, seq: u32, from: u32, end: u32) -> Plan {
    let next = flow.head.next;
    if !after(end, next) {
        return Plan::Pass;
    }
    if after(from, next) {
        // A hole: what is missing comes again, and this behind it.
        return Plan::Drop;
    }
    until(flow, seq, next, end)
}

/// Up to the segment's end, but not past the place at which the content can be compared.
#[inline(always)]
fn until(flow: &GateFlow, seq: u32, from: u32, end: u32) -> Plan {
    let stop = if flow.printed != 0 && after(flow.print_at, from) && after(end, flow.print_at) {
        flow.print_at
    } else {
        end
    };
    Plan::Scan {
        offset: from.wrapping_sub(seq),
        bytes: stop.wrapping_sub(from),
    }
}

/// The bytes that [`on_segment`] asked for have been scanned, with this result. `seq` and `payload_bytes` are the
/// segment's. Another [`Plan::Scan`] may follow, at most one.
#[inline(always)]
pub fn scanned(flow: &mut GateFlow, scan: &Scan, seq: u32, payload_bytes: u32, bytes: u32, now: u64) -> Plan {
    let end = flow.head.next.wrapping_add(bytes);
    flow.scanned_at = now;
    let heads = flow.head.stream.heads;
    if after(heads, flow.charged) {
        flow.charged = heads;
    }
    if scan.decision == Decision::Deny as u8 {
        flow.dead = 1;
        flow.rule = scan.rule;
        // Up to where it was denied, and back to where the head began.
        flow.denied_at = flow
            .head
            .next
            .wrapping_add(scan.passed())
            .wrapping_sub(flow.head.stream.head_bytes);
        flow.reason = scan.reason;
        return Plan::Drop;
    }
    if flow.printed != 0 && end == flow.print_at {
        flow.printed = 0;
        let same_tables = generation(&flow.head.stream) == flow.print_generation;
        if same_tables && print(&flow.head.stream) != flow.print {
            // One of the two contents is what the socket has got, and nobody knows which.
            flow.dead = 1;
            flow.poisoned = 1;
            return Plan::Drop;
        }
    }
    flow.head.next = end;
    flow.head.body_from = end;
    extend(&mut flow.head, end);
    let whole = seq.wrapping_add(payload_bytes);
    if flow.head.stream.is_over() || !after(whole, flow.head.next) {
        return Plan::Pass;
    }
    until(flow, seq, flow.head.next, whole)
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

/// Which tables a print depends on; 0 while the workload is not known.
#[inline(always)]
fn generation(stream: &Stream) -> u32 {
    if stream.generation == stream.base_generation {
        stream.generation
    } else {
        0
    }
}

/// What a stream is like, in one word: equal for equal bytes, however they were split. Its parts are keyed hashes or
/// counts, so nobody can aim at a print.
#[inline(always)]
fn print(stream: &Stream) -> u64 {
    let mut print = stream.hash;
    for word in [
        stream.pending,
        stream.skip,
        (stream.node as u64) << 32 | stream.host_node as u64,
        (stream.flags as u64) << 32 | stream.head_bytes as u64,
        (stream.heads as u64) << 32 | (stream.path_bytes as u64) << 16 | stream.fields as u64,
        (stream.state as u64) << 32
            | (stream.pending_bytes as u64) << 24
            | (stream.name as u64) << 16
            | (stream.auth as u64) << 8
            | stream.reason as u64,
    ] {
        print = (print ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        print ^= print >> 29;
    }
    print
}

#[cfg(feature = "user")]
mod user {
    //! aya moves these between maps and memory: plain integers, no padding (see the size assertions).
    unsafe impl aya::Pod for super::GateFlow {}
}

const _: () = {
    assert!(core::mem::size_of::<Mark>() == 136);
    assert!(core::mem::size_of::<GateFlow>() == 2 * 136 + 16 + 20 + 12);
};
