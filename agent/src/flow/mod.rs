//! [`Segment`](crate::capture::Segment)s → ordered streams: chunks, and gaps where bytes are missing.
//!
//! A segment says where it stands in its direction (TCP's own sequence number, or a count of plaintext bytes),
//! so order, duplicates and holes are facts here, not guesses. What is early is held for a short, bounded time;
//! what never comes becomes a [`What::Gap`], because the next stage must know that bytes are missing and how
//! many. At the end TCP's own end positions are held against what was seen: the difference was moved by
//! something that no hook of ours saw.
//!
//! Order holds within a direction only. A request's record and its response's may come in either order, so
//! nothing here compares the two directions. It must not know a protocol.

mod lane;
mod stats;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

pub use self::lane::Account;
use self::lane::{Lane, Sink};
use self::stats::Losses;
pub use self::stats::{Ledger, Loss, Stats};
use crate::capture::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, Handshake, KernelTime, Process, Segment,
    SocketRole, Stopped,
};

/// What this stage may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flows known at once; beyond it the one that was idle longest is forgotten.
    pub flows_max: usize,
    /// Early bytes held for one direction of one flow.
    pub lane_held_bytes_max: usize,
    /// Early bytes held altogether.
    pub held_bytes_max: usize,
    /// How long (record time) a hole may be filled before it counts as one.
    pub hole_wait_ns: u64,
    /// How long (record time) a flow goes on after a reset. It can end a connection in the kernel while a system call or
    /// a library call on it is still returning, so that the call's record comes after the end.
    pub reset_ns: u64,
    /// How long (record time) an ended flow goes on whose process has not read all that was received.
    pub unread_ns: u64,
    /// Flows that go on after their end; beyond it the one that is due first ends early.
    pub ending_max: usize,
    /// Accounts kept between two calls of [`Flows::take_ledgers`]; beyond it they are counted and dropped.
    pub ledgers_max: usize,
    /// Keep the account of every flow, not only of those that lost something.
    pub ledgers_all: bool,
    /// Processes whose losses are told apart between two calls of [`Flows::take_losses`].
    pub losses_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            flows_max: 65_536,
            lane_held_bytes_max: 256 * 1024,
            held_bytes_max: 16 * 1024 * 1024,
            hole_wait_ns: 20_000_000,
            reset_ns: 100_000_000,
            unread_ns: 1_000_000_000,
            ending_max: 4096,
            ledgers_max: 4096,
            ledgers_all: false,
            losses_max: 1024,
        }
    }
}

/// What flows hand on.
#[derive(Clone, Debug)]
pub enum Item {
    /// Something in one direction of one flow, in that direction's order.
    Piece(Piece),
    /// More is known of a flow; the newest value applies to all of its calls.
    Info(Arc<FlowInfo>),
    /// No more pieces of this flow will come.
    End {
        flow: Arc<FlowInfo>,
        at: KernelTime,
        reset: bool,
    },
    /// The flow was forgotten for want of room; what it had open cannot be told.
    Evicted { flow: Arc<FlowInfo>, at: KernelTime },
    /// The gate has kept a request from its receiver. It is no part of the stream that the process sees.
    Stopped(Stopped),
    /// Bytes of a socket's TLS handshake. They are no part of the stream that the process sees.
    Handshake(Handshake),
    /// A socket has ended, whatever it carried.
    SocketEnd { carrier: u64 },
    /// The kernel dropped records.
    Lost { at: KernelTime, records: u64 },
    /// Time passes.
    Tick { at: KernelTime },
}

/// Consecutive bytes of one direction, or the fact that they are missing.
#[derive(Clone, Debug)]
pub struct Piece {
    pub flow: Arc<FlowInfo>,
    pub process: Arc<Process>,
    pub direction: Direction,
    pub at: KernelTime,
    /// Unwrapped: its low 32 bits are TCP's sequence number for sockets.
    pub position: u64,
    /// As in the segment; 0 where it is not known.
    pub other_position: u64,
    pub what: What,
}

/// The two things a direction is made of.
#[derive(Clone)]
pub enum What {
    /// Never empty.
    Chunk(Bytes),
    /// `bytes` is `None` where even their number is not known.
    Gap { bytes: Option<u64>, reason: GapReason },
}

/// Never the bytes themselves: what is printed ends up in logs.
impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Chunk(bytes) => write!(f, "Chunk({} bytes)", bytes.len()),
            What::Gap { bytes, reason } => f
                .debug_struct("Gap")
                .field("bytes", bytes)
                .field("reason", reason)
                .finish(),
        }
    }
}

struct Flow {
    info: Arc<FlowInfo>,
    received: Lane,
    sent: Lane,
    /// For eviction: the last record's time.
    touched: KernelTime,
    /// A TLS object took the socket over: what TCP counts from then on is seen as that object's plaintext.
    carries_tls: bool,
    /// When and how it ended; its last records may still come.
    ending: Option<Box<(KernelTime, FlowEnd)>>,
}

impl Flow {
    /// After a reset, records of what was moved before it may come: of plaintext nobody can tell, of a socket's bytes its
    /// last sequence numbers do.
    fn may_follow(&self, end: &FlowEnd) -> bool {
        match self.info.id {
            FlowId::Tls { .. } => true,
            FlowId::Socket(_) if self.carries_tls => false,
            FlowId::Socket(_) => {
                self.sent.is_short_of(end.sent_end) || self.received.is_short_of(end.received_end)
            }
        }
    }
}

/// The table of flows.
pub struct Flows {
    limits: Limits,
    /// Apart, so that the table's free places are small.
    flows: HashMap<FlowId, Box<Flow>>,
    /// Second-chance queue: who is next to be evicted, with `touched` as it was when queued.
    clock: VecDeque<(FlowId, KernelTime)>,
    /// Directions that hold early bytes, by the time at which their hole counts as one.
    waiting: VecDeque<(KernelTime, FlowId, Direction)>,
    /// Flows that have ended and go on for a moment, by the time at which that is over.
    ending: BTreeSet<(KernelTime, FlowId)>,
    held_bytes: usize,
    lost_at: Option<KernelTime>,
    stats: Stats,
    losses: Losses,
    ledgers: Vec<Ledger>,
}

impl Flows {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Flows {
            flows: HashMap::new(),
            clock: VecDeque::new(),
            waiting: VecDeque::new(),
            ending: BTreeSet::new(),
            held_bytes: 0,
            lost_at: None,
            stats: Stats::default(),
            losses: Losses::new(limits.losses_max),
            ledgers: Vec::new(),
            limits,
        }
    }

    /// Takes one record in and hands on what follows from it.
    pub fn on(&mut self, captured: Captured, out: &mut dyn FnMut(Item)) {
        match captured {
            Captured::Flow(info) => self.flow(info, out),
            Captured::Segment(segment) => {
                self.settle(segment.at, out);
                self.segment(segment, out);
            }
            Captured::Closed { at, flow, end } => {
                self.settle(at, out);
                self.closed(at, flow, end, out);
                if let FlowId::Socket(carrier) = flow {
                    out(Item::SocketEnd { carrier });
                }
            }
            // Who reads it goes by positions himself: it has few records, which come in order.
            Captured::Handshake(handshake) => out(Item::Handshake(handshake)),
            Captured::Stopped(stopped) => out(Item::Stopped(stopped)),
            Captured::Parted { .. } | Captured::Knocked { .. } => {}
            Captured::Lost { at, records } => {
                self.lost_at = Some(at);
                self.stats.records_lost += records;
                out(Item::Lost { at, records });
            }
            Captured::Tick { at } => {
                self.settle(at, out);
                out(Item::Tick { at });
            }
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        Stats {
            flows_open: self.flows.len() as u64,
            held_bytes: self.held_bytes as u64,
            ..self.stats
        }
    }

    /// Bytes that were moved and not seen, per process and reason, since the last call.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    /// Accounts of flows that have ended since the last call.
    pub fn take_ledgers(&mut self) -> Vec<Ledger> {
        std::mem::take(&mut self.ledgers)
    }

    fn keep_ledger(&mut self, ledger: Ledger) {
        self.stats.bytes_moved += ledger.sent.moved + ledger.received.moved;
        self.stats.bytes_missed += ledger.sent.lost + ledger.received.lost;
        let balanced = |account: Account| account.lost == 0 && account.moved == account.seen;
        if balanced(ledger.sent) && balanced(ledger.received) && !self.limits.ledgers_all {
            return;
        }
        if self.ledgers.len() < self.limits.ledgers_max {
            self.ledgers.push(ledger);
        } else {
            self.stats.ledgers_dropped += 1;
        }
    }

    fn flow(&mut self, info: Arc<FlowInfo>, out: &mut dyn FnMut(Item)) {
        if let (FlowId::Tls { .. }, Some(cookie)) = (info.id, info.carrier)
            && let Some(below) = self.flows.get_mut(&FlowId::Socket(cookie))
        {
            below.carries_tls = true;
        }
        match self.flows.get_mut(&info.id) {
            Some(flow) => {
                flow.info = info.clone();
                out(Item::Info(info));
            }
            None => self.insert(info, KernelTime(0), out),
        }
    }

    fn insert(&mut self, info: Arc<FlowInfo>, at: KernelTime, out: &mut dyn FnMut(Item)) {
        while self.flows.len() >= self.limits.flows_max.max(1) {
            self.evict(at, out);
        }
        let id = info.id;
        let (sent, received) = match (info.id, info.starts) {
            (FlowId::Tls { .. }, _) if !info.joined_late => (Lane::new(Some(0)), Lane::new(Some(0))),
            (FlowId::Socket(_), Some((sent, received))) => (Lane::starting(sent), Lane::starting(received)),
            _ => (Lane::new(None), Lane::new(None)),
        };
        let flow = Flow {
            info,
            received,
            sent,
            touched: at,
            carries_tls: false,
            ending: None,
        };
        self.flows.insert(id, Box::new(flow));
        self.clock.push_back((id, at));
        self.stats.flows_total += 1;
        // Closed flows leave their entry behind; sweep when they are the majority.
        if self.clock.len() > 2 * self.flows.len() + 64 {
            let flows = &self.flows;
            self.clock.retain(|(id, _)| flows.contains_key(id));
        }
    }

    /// Forgets the flow that was idle longest, by second chance: exact order is not worth a linked list.
    fn evict(&mut self, at: KernelTime, out: &mut dyn FnMut(Item)) {
        while let Some((id, touched)) = self.clock.pop_front() {
            let Some(flow) = self.flows.get(&id) else { continue };
            if flow.touched > touched {
                self.clock.push_back((id, flow.touched));
                continue;
            }
            if let Some(flow) = self.flows.remove(&id) {
                self.held_bytes -= flow.received.held_bytes + flow.sent.held_bytes;
                self.stats.flows_evicted += 1;
                out(Item::Evicted { flow: flow.info, at });
            }
            return;
        }
    }

    fn segment(&mut self, segment: Segment, out: &mut dyn FnMut(Item)) {
        if segment.bytes.is_empty() && segment.missing == 0 {
            return;
        }
        if !self.flows.contains_key(&segment.flow) {
            // Evicted, or its announcement was lost: what comes is in the middle of something.
            self.stats.flows_unannounced += 1;
            self.insert(Arc::new(unannounced(segment.flow)), segment.at, out);
        }
        let Some(flow) = self.flows.get_mut(&segment.flow) else {
            return;
        };
        self.stats.segments += 1;
        self.stats.bytes_seen += segment.bytes.len() as u64;
        flow.touched = flow.touched.max(segment.at);
        let id = segment.flow;
        let (direction, at) = (segment.direction, segment.at);
        let socket = matches!(id, FlowId::Socket(_));
        let (lane, other) = match direction {
            Direction::Received => (&mut flow.received, &mut flow.sent),
            Direction::Sent => (&mut flow.sent, &mut flow.received),
        };
        if socket && !flow.info.joined_late && segment.other_position != 0 {
            other.hint(segment.other_position);
        }
        let before = lane.held_bytes;
        let mut sink = Sink {
            info: &flow.info,
            direction,
            lost_at: self.lost_at,
            stats: &mut self.stats,
            losses: &mut self.losses,
            out,
        };
        let was_waiting = lane.is_waiting();
        lane.take(segment, socket, &mut sink);
        let total = self.held_bytes - before;
        if lane.held_bytes > self.limits.lane_held_bytes_max
            || total + lane.held_bytes > self.limits.held_bytes_max
        {
            sink.stats.holes_forced += 1;
            lane.give_up_holes(&mut sink);
        }
        self.held_bytes = total + lane.held_bytes;
        if lane.is_waiting() && !was_waiting {
            self.waiting.push_back((
                KernelTime(at.0.saturating_add(self.limits.hole_wait_ns)),
                id,
                direction,
            ));
        }
    }

    /// Ends the flows whose last records have had their time.
    fn end_due(&mut self, now: KernelTime, out: &mut dyn FnMut(Item)) {
        while let Some(&(due, id)) = self.ending.first() {
            if due > now && self.ending.len() <= self.limits.ending_max {
                return;
            }
            self.ending.pop_first();
            let ending = self.flows.get(&id).and_then(|flow| flow.ending.as_deref());
            if let Some(&(at, end)) = ending {
                self.end(at, id, end, out);
            }
        }
    }

    /// Declares the holes whose time is up.
    fn settle(&mut self, now: KernelTime, out: &mut dyn FnMut(Item)) {
        self.end_due(now, out);
        while let Some(&(due, id, direction)) = self.waiting.front() {
            if due > now {
                return;
            }
            self.waiting.pop_front();
            let Some(flow) = self.flows.get_mut(&id) else {
                continue;
            };
            let lane = match direction {
                Direction::Received => &mut flow.received,
                Direction::Sent => &mut flow.sent,
            };
            let before = lane.held_bytes;
            let mut sink = Sink {
                info: &flow.info,
                direction,
                lost_at: self.lost_at,
                stats: &mut self.stats,
                losses: &mut self.losses,
                out,
            };
            let next_due = lane.settle(now, self.limits.hole_wait_ns, &mut sink);
            self.held_bytes = self.held_bytes - before + lane.held_bytes;
            if let Some(due) = next_due {
                self.waiting.push_back((due, id, direction));
            }
        }
    }

    fn closed(&mut self, at: KernelTime, id: FlowId, end: FlowEnd, out: &mut dyn FnMut(Item)) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        if let Some((_, ending)) = flow.ending.as_deref_mut() {
            // It has ended; how much there was is known now.
            ending.sent_end = ending.sent_end.max(end.sent_end);
            ending.received_end = ending.received_end.max(end.received_end);
            return;
        }
        let more_ns = match (end.unread, end.reset) {
            (true, _) => self.limits.unread_ns,
            (false, true) if flow.may_follow(&end) => self.limits.reset_ns,
            _ => return self.end(at, id, end, out),
        };
        flow.ending = Some(Box::new((at, end)));
        self.ending.insert((KernelTime(at.0.saturating_add(more_ns)), id));
    }

    fn end(&mut self, at: KernelTime, id: FlowId, end: FlowEnd, out: &mut dyn FnMut(Item)) {
        let Some(mut flow) = self.flows.remove(&id) else {
            return;
        };
        self.held_bytes -= flow.received.held_bytes + flow.sent.held_bytes;
        let socket = matches!(id, FlowId::Socket(_));
        let process = flow
            .received
            .process
            .clone()
            .or_else(|| flow.sent.process.clone());
        for direction in [Direction::Received, Direction::Sent] {
            let (lane, end_position) = match direction {
                Direction::Received => (&mut flow.received, end.received_end),
                Direction::Sent => (&mut flow.sent, end.sent_end),
            };
            let mut sink = Sink {
                info: &flow.info,
                direction,
                lost_at: self.lost_at,
                stats: &mut self.stats,
                losses: &mut self.losses,
                out,
            };
            lane.give_up_holes(&mut sink);
            if end_position != 0 && !flow.carries_tls {
                lane.finish(end_position, at, socket, end.reset, process.as_ref(), &mut sink);
            }
        }
        let account = |lane: &Lane, end| match flow.carries_tls {
            true => Account::default(),
            false => lane.account(end, socket, flow.ending.is_some()),
        };
        let (sent, received) = (
            account(&flow.sent, end.sent_end),
            account(&flow.received, end.received_end),
        );
        self.keep_ledger(Ledger {
            at,
            flow: flow.info.clone(),
            process,
            sent,
            received,
            carries_tls: flow.carries_tls,
            reset: end.reset,
        });
        out(Item::End {
            flow: flow.info,
            at,
            reset: end.reset,
        });
    }
}

fn unannounced(id: FlowId) -> FlowInfo {
    FlowInfo {
        id,
        carrier: match id {
            FlowId::Socket(cookie) => Some(cookie),
            FlowId::Tls { .. } => None,
        },
        local: None,
        remote: None,
        role: SocketRole::Unknown,
        netns: 0,
        tls: None,
        joined_late: true,
        starts: None,
        enforceable: false,
    }
}

#[cfg(test)]
mod tests;
