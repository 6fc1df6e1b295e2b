//! One direction of one flow: puts segments in order by their position.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::stats::{Losses, Stats};
use super::{Item, Piece, What};
use crate::capture::{Direction, FlowInfo, GapReason, KernelTime, Process, Segment};

/// Added to the first 32-bit position, so that earlier ones do not go below zero.
const EPOCH: u64 = 1 << 32;
/// A start that was only inferred is not believed beyond this distance: a stale one must not invent a loss.
const HINT_DISTANCE_MAX: u64 = 1 << 20;

/// A drop is noticed after it happened, and for all flows at once: holes so long after the last notice count as its
/// work.
const LOSS_EXPLAINS_NS: u64 = 2_000_000_000;
/// Positions beyond it are none: sums of them with anything that a record can hold must not overflow.
const POSITION_MAX: u64 = 1 << 62;

/// Where a lane's output goes, with what it needs to know.
pub(super) struct Sink<'a> {
    pub info: &'a Arc<FlowInfo>,
    pub direction: Direction,
    pub lost_at: Option<KernelTime>,
    pub stats: &'a mut Stats,
    pub losses: &'a mut Losses,
    pub out: &'a mut dyn FnMut(Item),
}

impl Sink<'_> {
    fn piece(&mut self, of: &Whose, position: u64, what: What) {
        (self.out)(Item::Piece(Piece {
            flow: self.info.clone(),
            process: of.process.clone(),
            direction: self.direction,
            at: of.at,
            position,
            other_position: of.other_position,
            what,
        }));
    }

    fn gap(&mut self, of: &Whose, position: u64, bytes: u64, reason: GapReason) {
        self.stats.gap(reason, bytes);
        self.losses.add(Some(&of.process), reason, bytes);
        self.piece(
            of,
            position,
            What::Gap {
                bytes: Some(bytes),
                reason,
            },
        );
    }
}

#[derive(Clone)]
struct Whose {
    process: Arc<Process>,
    at: KernelTime,
    other_position: u64,
}

struct Held {
    position: u64,
    bytes: Bytes,
    missing: u64,
    reason: GapReason,
    whose: Whose,
}

impl Held {
    fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64 + self.missing
    }
}

#[derive(Default)]
pub(super) struct Lane {
    /// Position of the next byte to hand on.
    next: Option<u64>,
    /// Where the lane should begin, as told by the other direction's first segment; or where it does begin.
    start: Option<u64>,
    /// `start` is no guess.
    exact: bool,
    last_at: KernelTime,
    pub process: Option<Arc<Process>>,
    /// Early segments by position; empty, without memory of its own, almost always.
    held: Vec<Held>,
    pub held_bytes: usize,
    /// Position of the first byte that was handed on or missed.
    first: Option<u64>,
    /// Bytes handed on, and bytes told as missing: counted apart, so that the account can be wrong.
    seen: u64,
    lost: u64,
}

/// What became of a direction's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Between the first sight of it and its end, by TCP's sequence numbers or the library's results.
    pub moved: u64,
    pub seen: u64,
    pub lost: u64,
}

impl Lane {
    pub(super) fn new(start: Option<u64>) -> Self {
        Lane {
            start,
            ..Lane::default()
        }
    }

    /// Begins at a sequence number that the kernel told.
    pub(super) fn starting(start: u32) -> Self {
        Lane {
            start: Some(EPOCH + u64::from(start)),
            exact: true,
            ..Lane::default()
        }
    }

    /// The other direction's segment says where this one stands. Counts only before this one's first segment.
    pub(super) fn hint(&mut self, position: u64) {
        if self.next.is_none() && self.start.is_none() {
            self.start = Some(EPOCH + u64::from(position as u32));
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn unwrap_position(&self, position: u64, socket: bool) -> u64 {
        if !socket {
            return position.min(POSITION_MAX);
        }
        let Some(near) = self.next.or(self.start) else {
            return EPOCH + u64::from(position as u32);
        };
        let distance = (position as u32).wrapping_sub(near as u32) as i32;
        near.saturating_add_signed(i64::from(distance))
    }

    pub(super) fn take(&mut self, segment: Segment, socket: bool, sink: &mut Sink<'_>) {
        let position = self.unwrap_position(segment.position, socket);
        let held = Held {
            position,
            missing: u64::from(segment.missing),
            reason: segment.missing_reason,
            whose: Whose {
                process: segment.process,
                at: segment.at,
                other_position: segment.other_position,
            },
            bytes: segment.bytes,
        };
        self.process = Some(held.whose.process.clone());
        let next = *self.next.get_or_insert_with(|| match self.start {
            Some(start) if position >= start && (self.exact || position - start <= HINT_DISTANCE_MAX) => {
                start
            }
            _ => position,
        });
        self.first.get_or_insert(next);
        if held.position <= next {
            self.hand_on(held, sink);
            self.drain(sink);
        } else {
            self.held_bytes += held.bytes.len();
            let at = self.held.partition_point(|other| other.position <= held.position);
            self.held.insert(at, held);
        }
    }

    /// `held` begins at or before `next`.
    fn hand_on(&mut self, mut held: Held, sink: &mut Sink<'_>) {
        let next = self.next.unwrap_or(held.position);
        if held.end() <= next {
            sink.stats.bytes_duplicate += held.bytes.len() as u64;
            return;
        }
        let seen = next - held.position;
        let trim = seen.min(held.bytes.len() as u64);
        if trim > 0 {
            sink.stats.bytes_duplicate += trim;
            held.bytes.advance(trim as usize);
        }
        held.missing -= seen - trim;
        let mut position = next;
        if !held.bytes.is_empty() {
            let length = held.bytes.len() as u64;
            self.seen += length;
            sink.piece(&held.whose, position, What::Chunk(held.bytes));
            position += length;
        }
        if held.missing > 0 {
            self.lost += held.missing;
            sink.gap(&held.whose, position, held.missing, held.reason);
            position += held.missing;
        }
        self.next = Some(position);
        self.last_at = held.whose.at;
    }

    fn drain(&mut self, sink: &mut Sink<'_>) {
        let Some(mut next) = self.next else { return };
        let mut count = 0;
        for held in &self.held {
            if held.position > next {
                break;
            }
            next = next.max(held.end());
            count += 1;
        }
        if count == 0 {
            return;
        }
        let ready: Vec<Held> = self.held.drain(..count).collect();
        for held in ready {
            self.held_bytes -= held.bytes.len();
            self.hand_on(held, sink);
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// Why bytes behind the last ones are missing: a drop that was reported around that time explains them; else
    /// nothing of ours saw them.
    fn why(&self, sink: &Sink<'_>) -> GapReason {
        match sink.lost_at {
            Some(lost_at) if lost_at.0.saturating_add(LOSS_EXPLAINS_NS) >= self.last_at.0 => GapReason::Lost,
            _ => GapReason::Unseen,
        }
    }

    /// The first hole is one: says so, and goes on behind it.
    fn give_up_hole(&mut self, sink: &mut Sink<'_>) {
        let (Some(first), Some(next)) = (self.held.first(), self.next) else {
            return;
        };
        let reason = self.why(sink);
        let whose = first.whose.clone();
        let bytes = first.position - next;
        self.next = Some(first.position);
        self.lost += bytes;
        sink.gap(&whose, next, bytes, reason);
        self.drain(sink);
    }

    /// Everything that is held is handed on, with gaps where it has holes.
    pub(super) fn give_up_holes(&mut self, sink: &mut Sink<'_>) {
        while self.is_waiting() {
            self.give_up_hole(sink);
        }
    }

    /// Declares the holes older than `wait_ns`; returns when to look again.
    pub(super) fn settle(
        &mut self,
        now: KernelTime,
        wait_ns: u64,
        sink: &mut Sink<'_>,
    ) -> Option<KernelTime> {
        while let Some(first) = self.held.first() {
            let due = KernelTime(first.whose.at.0.saturating_add(wait_ns));
            if due > now {
                return Some(due);
            }
            self.give_up_hole(sink);
        }
        None
    }

    /// TCP says where the direction ended; what lies between that and what was seen went by unseen.
    pub(super) fn finish(
        &mut self,
        end: u64,
        at: KernelTime,
        socket: bool,
        reset: bool,
        process: Option<&Arc<Process>>,
        sink: &mut Sink<'_>,
    ) {
        let end = self.unwrap_position(end, socket);
        let Some(next) = self.next.or(self.start) else {
            return;
        };
        let bytes = end.saturating_sub(next);
        // A FIN takes one sequence number. An end that counts it must not turn every connection into a loss.
        if bytes == 0 || (bytes == 1 && socket && !reset) {
            return;
        }
        let reason = self.why(sink);
        self.lost += bytes;
        self.first.get_or_insert(next);
        match self.process.as_ref().or(process) {
            Some(process) => {
                let whose = Whose {
                    process: process.clone(),
                    at,
                    other_position: 0,
                };
                sink.gap(&whose, next, bytes, reason);
            }
            None => {
                sink.stats.gap(reason, bytes);
                sink.losses.add(None, reason, bytes);
            }
        }
        self.next = Some(end);
    }

    /// A socket's direction went on to `end`, and not all of it is here.
    pub(super) fn is_short_of(&self, end: u64) -> bool {
        let next = self.next.or(self.start);
        end != 0 && next.is_some_and(|next| self.unwrap_position(end, true) > next)
    }

    /// The account, once the direction is finished. `end` may count a FIN; 0: what was handed on is all that is known.
    /// `went_on`: more may have been read after `end` was told.
    pub(super) fn account(&self, end: u64, socket: bool, went_on: bool) -> Account {
        let (Some(first), Some(next)) = (self.first.or(self.start), self.next.or(self.start)) else {
            return Account::default();
        };
        let last = match end {
            0 => next,
            end => self.unwrap_position(end, socket),
        };
        // One more is the FIN's own number.
        let last = match last {
            last if socket && last == next + 1 => next,
            last if went_on => last.max(next),
            last => last,
        };
        Account {
            moved: last.saturating_sub(first),
            seen: self.seen,
            lost: self.lost,
        }
    }
}
