//! One flow's two directions, decoded and paired.
//!
//! Requests and responses are paired in order (RFC 9112 §9.3.2). Records of the two directions may come in either
//! order, so a response's bytes wait, bounded, for the request that they answer, and a request's bytes wait behind
//! a CONNECT or an upgrade until its answer says whether they are HTTP at all. After a loss, order alone cannot be
//! trusted; then positions decide, and the calls concerned say that they overlap a loss.

mod negotiation;
mod requests;
mod responses;
mod stopped;
mod strange;
mod waiting;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use self::negotiation::Negotiating;
use self::strange::Strange;
use super::known::KnownRequests;
use super::messages::Messages;
use super::open::{Answer, Open};
use super::options::UNREAD_LEN_MAX;
use super::redact::Redactor;
use super::streams::{self, Streams};
use super::{ApiCall, CallState, Limits, Phase, Stats, Unread, UnreadWhy};
use crate::capture::{Direction, FlowId, FlowInfo, KernelTime, Process, Stopped};
use crate::decode::{Decoder, KnownHeads, MllpDecoder, Prefix, Role, Sniffed};
use crate::flow::{Piece, What};

/// Bytes of an undecided direction that are looked at before it counts as something else.
const SNIFF_BYTES_MAX: usize = 16 * 1024;
/// Tunnels within tunnels that are followed: each is a level of the stack, and a peer may open hundreds in one write.
const TUNNELS_MAX: u8 = 8;

/// What conversations share.
pub(super) struct Context<'a> {
    pub limits: &'a Limits,
    pub boot_id: &'a [u8; 16],
    pub redactor: &'a mut Redactor,
    pub heads: &'a mut KnownHeads,
    pub known: &'a mut KnownRequests,
    pub stats: &'a mut Stats,
    pub bodies_bytes: &'a mut usize,
    pub calls_open: &'a mut usize,
    pub decoders_bytes: &'a mut usize,
    pub lost_at: Option<KernelTime>,
    pub unread: &'a mut Vec<Unread>,
    pub out: &'a mut dyn FnMut(Phase, &mut ApiCall),
}

/// How a flow ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Closed,
    Reset,
    /// The agent gave it up.
    Forgotten,
    /// The agent ends; the flow goes on.
    Unwatched,
}

/// What a connection becomes that was HTTP/1.
pub(super) enum Successor {
    Streams(Box<Streams>),
    Messages(Box<Messages>),
    /// A tunnel through a proxy: a connection of its own, in whatever it speaks.
    Tunnel(Box<Conversation>),
}

impl Successor {
    fn piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        match self {
            Successor::Streams(streams) => streams.piece(piece, cx),
            Successor::Messages(messages) => messages.piece(piece, cx),
            Successor::Tunnel(inner) => {
                inner.piece(piece, cx);
                if let Some(next) = inner.take_successor() {
                    *self = next;
                }
            }
        }
    }
}

/// What an answer says that follows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    Http2,
    WebSocket,
    Tunnel,
    Unknown,
}

enum Side {
    /// Not yet known what it carries. `late`: its beginning was not seen.
    Undecided {
        buffer: Vec<u8>,
        late: bool,
    },
    Http(Decoder),
    /// It began like nothing known, and the other side has said nothing yet.
    Strange(Box<Strange>),
    Other,
}

struct Lane {
    side: Side,
    /// Where the other direction stood at the last chunk; `None` before the first.
    other_position: Option<u64>,
    /// Where and when the message in progress began.
    message_position: u64,
    message_at: KernelTime,
}

impl Lane {
    fn new(late: bool) -> Self {
        Lane {
            side: Side::Undecided {
                buffer: Vec::new(),
                late,
            },
            other_position: None,
            message_position: 0,
            message_at: KernelTime(0),
        }
    }

    /// Whether the other direction moved since the last chunk, or nobody knows.
    fn turns(&mut self, other_position: u64) -> bool {
        let before = self.other_position.replace(other_position);
        other_position == 0 || before != Some(other_position)
    }
}

pub(super) struct Conversation {
    flow: Arc<FlowInfo>,
    received: Lane,
    sent: Lane,
    /// Which direction carries the requests, once that is known.
    requests: Option<Direction>,
    open: VecDeque<Box<Open>>,
    /// Response bytes whose request has not been seen yet, and since when.
    responses_waiting: VecDeque<Piece>,
    /// Request bytes behind a CONNECT or an upgrade that is not answered yet.
    requests_waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    waiting_since: KernelTime,
    /// Requests wait for the answer that says whether another protocol begins.
    paused: bool,
    /// A request may have been lost: a response may answer none that we know.
    requests_lost: bool,
    /// That bytes are missing where requests may have been is told.
    gap_told: bool,
    /// A response may have been lost, or gone by before the agent came: order alone does not pair.
    responses_lost: bool,
    /// What the response direction is in the middle of belongs to no call: interim, or unpaired.
    response_ignored: bool,
    /// What the request direction is in the middle of belongs to no call.
    request_ignored: bool,
    unsolicited: bool,
    /// Tunnels that it is in.
    tunnels: u8,
    /// What a PROXY protocol header said, and that it was looked for.
    proxied_client: Option<SocketAddr>,
    proxied: bool,
    /// With a SOCKS proxy.
    negotiating: Negotiating,
    /// Decided by the gate, of a request whose bytes come by themselves.
    decided: Option<Box<Stopped>>,
    /// Requests that have their whole answers.
    answered: u32,
    /// What the answer in progress makes of the connection.
    upgrades: Upgrade,
    /// What the connection is from here on.
    successor: Option<Successor>,
    over: bool,
    /// It is in MLLP: what has come of it, for whoever reads that.
    mllp: Option<Box<Piece>>,
}

impl Conversation {
    pub(super) fn new(flow: Arc<FlowInfo>) -> Self {
        let late = flow.joined_late;
        Conversation {
            flow,
            received: Lane::new(late),
            sent: Lane::new(late),
            requests: None,
            open: VecDeque::new(),
            responses_waiting: VecDeque::new(),
            requests_waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_since: KernelTime(0),
            paused: false,
            requests_lost: late,
            gap_told: false,
            // The hooks of the two directions are not attached at one moment.
            responses_lost: late,
            response_ignored: false,
            request_ignored: false,
            unsolicited: false,
            proxied_client: None,
            tunnels: 0,
            proxied: false,
            negotiating: Negotiating::No,
            decided: None,
            answered: 0,
            upgrades: Upgrade::Unknown,
            successor: None,
            over: false,
            mllp: None,
        }
    }

    /// One that was taken for something else so far: it is in the middle of whatever it is.
    pub(super) fn rejoined(flow: Arc<FlowInfo>) -> Self {
        Conversation {
            received: Lane::new(true),
            sent: Lane::new(true),
            requests_lost: true,
            responses_lost: true,
            ..Self::new(flow)
        }
    }

    /// What goes through a tunnel that this connection has become: it is at its beginning.
    fn through_tunnel(&self) -> Self {
        Conversation {
            received: Lane::new(false),
            sent: Lane::new(false),
            requests_lost: false,
            responses_lost: false,
            proxied_client: self.proxied_client,
            tunnels: self.tunnels + 1,
            ..Self::new(self.flow.clone())
        }
    }

    /// It has turned out to be in MLLP.
    pub(super) fn take_mllp(&mut self) -> Option<Piece> {
        self.mllp.take().map(|piece| *piece)
    }

    /// Nothing of it will be a call any more.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.open.is_empty()
    }

    /// The connection is another protocol from here on.
    pub(super) fn take_successor(&mut self) -> Option<Successor> {
        self.successor.take()
    }

    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.open
            .iter()
            .filter(|open| !open.reported)
            .map(|open| &open.call)
    }

    pub(super) fn info(&mut self, flow: Arc<FlowInfo>) {
        for open in &mut self.open {
            open.call.flow = flow.clone();
        }
        self.flow = flow;
    }

    pub(super) fn piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if self.over {
            return;
        }
        if !Arc::ptr_eq(&piece.flow, &self.flow) {
            self.info(piece.flow.clone());
        }
        self.expire(piece.at, cx);
        match self.requests {
            Some(direction) if direction == piece.direction => self.request_piece(piece, cx),
            Some(_) => self.response_piece(piece, cx),
            None => self.undecided_piece(piece, cx),
        }
    }

    pub(super) fn tick(&mut self, at: KernelTime, cx: &mut Context<'_>) {
        self.expire(at, cx);
        self.tell_unshown(Some(at), cx);
        for open in &mut self.open {
            let state = match open.answer {
                Answer::Awaited if at.since(open.asked_at()) > cx.limits.answer_ns => match open.gap {
                    true => CallState::Gap,
                    false => CallState::TimedOut,
                },
                Answer::Done(state) if at.since(open.last_at()) > cx.limits.unfinished_ns => state,
                _ => continue,
            };
            open.report(state, cx);
        }
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        self.end_strange(cx);
        self.release_responses(cx);
        self.drop_waiting_responses(cx);
        for role in [Role::Requests, Role::Responses] {
            let event = match self.decoder_mut(role) {
                // Where the connection goes on, its end completes no message.
                Some(decoder) if how != Ended::Unwatched => decoder.end(),
                _ => None,
            };
            match (event, role) {
                (Some(event), Role::Requests) => self.request_event(event, None, at, cx),
                (Some(event), Role::Responses) => self.response_event(event, None, at, how, cx),
                (None, _) => {}
            }
        }
        self.tell_unshown(None, cx);
        self.over = true;
        for mut open in std::mem::take(&mut self.open) {
            if !open.request_done {
                open.end_request(at, true, cx);
            }
            let state = match open.answer {
                Answer::Done(state) => state,
                _ if open.gap || how == Ended::Forgotten => CallState::Gap,
                _ if how == Ended::Reset => CallState::Reset,
                _ if how == Ended::Unwatched => CallState::Pending,
                _ => CallState::Closed,
            };
            open.report(state, cx);
        }
    }

    fn lane_mut(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        }
    }

    fn direction_of(&self, role: Role) -> Option<Direction> {
        Some(match (self.requests?, role) {
            (direction, Role::Requests) => direction,
            (direction, Role::Responses) => opposite(direction),
        })
    }

    fn decoder_mut(&mut self, role: Role) -> Option<&mut Decoder> {
        let direction = self.direction_of(role)?;
        match &mut self.lane_mut(direction).side {
            Side::Http(decoder) => Some(decoder),
            _ => None,
        }
    }

    /// Requests of this conversation are not read, or may not be.
    fn tell_unread(&mut self, process: &Arc<Process>, why: UnreadWhy, cx: &mut Context<'_>) {
        if why == UnreadWhy::Gap && std::mem::replace(&mut self.gap_told, true) {
            return;
        }
        if cx.unread.len() < UNREAD_LEN_MAX {
            cx.unread.push(Unread {
                flow: self.flow.clone(),
                process: process.clone(),
                why,
            });
        }
    }

    fn undecided_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let direction = piece.direction;
        if matches!(piece.what, What::Gap { reason, .. } if reason.is_loss()) {
            self.tell_unread(&piece.process, UnreadWhy::Gap, cx);
        }
        if self.is_strange(direction) {
            return self.strange_piece(piece, cx);
        }
        let Some(piece) = self.negotiate(piece, cx) else {
            return;
        };
        let answers_strange = self.is_strange(opposite(direction));
        let process = self.negotiating.is_open().then(|| piece.process.clone());
        let decided = self.decide(piece, None, cx);
        if let (Some(process), Negotiating::GivenUp) = (process, &self.negotiating) {
            // If the proxy grants it, what has come is left as another protocol's.
            self.tell_unread(&process, UnreadWhy::Gap, cx);
        }
        let Some((role, piece)) = decided else {
            match answers_strange && self.is_strange(direction) {
                // Of both sides nothing is known.
                true => self.leave(cx),
                false => self.read_full(direction, cx),
            }
            return;
        };
        match role {
            Role::Responses if answers_strange => self.answers_something_strange(piece, cx),
            Role::Requests if answers_strange => self.leave(cx),
            Role::Requests => {
                self.requests = Some(direction);
                self.request_piece(piece, cx);
            }
            Role::Responses => {
                self.requests = Some(opposite(direction));
                self.response_piece(piece, cx);
            }
        }
    }

    /// Finds out what an undecided direction carries. `expected`: what it must be, given the other one. Returns the
    /// role and everything that has come of the direction so far.
    fn decide(
        &mut self,
        mut piece: Piece,
        expected: Option<Role>,
        cx: &mut Context<'_>,
    ) -> Option<(Role, Piece)> {
        let lane = match piece.direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        };
        let Side::Undecided { buffer, late } = &mut lane.side else {
            return None;
        };
        let What::Chunk(bytes) = &mut piece.what else {
            *late = true;
            *buffer = Vec::new();
            return None;
        };
        if matches!(self.flow.id, FlowId::Tls { .. }) && piece.position == 0 {
            // Perhaps the object's very first bytes, perhaps only the first that were seen.
            *late = false;
        }
        let is_preface = bytes.starts_with(b"PRI * HTTP/2.0\r\n");
        if (*late || self.flow.joined_late)
            && expected.is_none()
            && !is_preface
            && let Some(requests) = streams::joined(bytes, piece.direction, &self.flow, cx)
        {
            let streams = Streams::late(self.flow.clone(), requests);
            self.succeed(streams, [piece], cx);
            return None;
        }
        if !is_preface && (*late || (self.flow.joined_late && !buffer.is_empty())) {
            if let (None, Some(at)) = (expected, MllpDecoder::begins_at(bytes)) {
                bytes.advance(at);
                piece.position += at as u64;
                self.mllp = Some(Box::new(piece));
                self.abandon();
                return None;
            }
            let role = [Role::Requests, Role::Responses]
                .into_iter()
                .find(|role| expected.is_none_or(|expected| expected == *role) && role.begins(bytes));
            if let Some(role) = role {
                cx.stats.bytes_skipped += buffer.len() as u64;
                lane.side = Side::Http(Decoder::new(role, true));
                return Some((role, piece));
            }
            if *late {
                cx.stats.bytes_skipped += bytes.len() as u64;
                return None;
            }
        }
        if !buffer.is_empty() {
            buffer.extend_from_slice(bytes);
            piece.position = (piece.position + bytes.len() as u64).saturating_sub(buffer.len() as u64);
            *bytes = Bytes::from(std::mem::take(buffer));
        }
        // Whoever is answered in HTTP does not negotiate.
        let waits = expected != Some(Role::Requests) && self.negotiating.waits(&self.flow, &piece);
        let What::Chunk(bytes) = &mut piece.what else {
            return None;
        };
        if waits {
            *buffer = bytes.to_vec();
            return None;
        }
        if expected != Some(Role::Responses) && !self.proxied {
            match Prefix::of(bytes) {
                Prefix::None => {}
                Prefix::More => {
                    *buffer = bytes.to_vec();
                    return None;
                }
                Prefix::Header {
                    bytes: header_bytes,
                    client,
                } => {
                    self.proxied = true;
                    self.proxied_client = client;
                    bytes.advance(header_bytes);
                    piece.position += header_bytes as u64;
                }
            }
        }
        let role = match Sniffed::of(bytes) {
            Sniffed::More if bytes.len() <= SNIFF_BYTES_MAX => {
                *buffer = bytes.to_vec();
                return None;
            }
            Sniffed::Requests => Role::Requests,
            Sniffed::Responses => Role::Responses,
            Sniffed::Http2 => {
                self.begin_http2(piece, cx);
                return None;
            }
            Sniffed::Mllp if expected.is_none() => {
                self.mllp = Some(Box::new(piece));
                self.abandon();
                return None;
            }
            Sniffed::More | Sniffed::Mllp | Sniffed::Other => {
                if expected == Some(Role::Requests) && !self.flow.joined_late {
                    // It is answered in HTTP, so it may hide a request.
                    lane.side = Side::Http(Decoder::new(Role::Requests, true));
                    return Some((Role::Requests, piece));
                }
                if expected.is_some() || self.flow.joined_late {
                    cx.stats.bytes_skipped += bytes.len() as u64;
                    *late = true;
                } else {
                    lane.side = Side::Strange(Strange::new(piece));
                }
                return None;
            }
        };
        if expected.is_some_and(|expected| expected != role) {
            cx.stats.bytes_skipped += bytes.len() as u64;
            *late = true;
            return None;
        }
        lane.side = Side::Http(Decoder::new(role, true));
        Some((role, piece))
    }

    /// The preface of either side (RFC 9113 §3.4) begins the connection.
    fn begin_http2(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let What::Chunk(bytes) = &piece.what else { return };
        let requests = match bytes.first() {
            Some(b'P') => piece.direction,
            _ => opposite(piece.direction),
        };
        let mut streams = Streams::new(self.flow.clone(), requests, self.proxied_client);
        let other = opposite(piece.direction);
        if let Side::Undecided { buffer, late: false } = &self.lane_mut(other).side {
            streams.began_with(other, buffer);
        }
        self.succeed(streams, [piece], cx);
    }

    /// The connection is HTTP/2 from here on; `pieces` are the first of it.
    fn succeed(
        &mut self,
        mut streams: Streams,
        pieces: impl IntoIterator<Item = Piece>,
        cx: &mut Context<'_>,
    ) {
        cx.stats.flows_http2 += 1;
        let waiting = std::mem::take(&mut self.responses_waiting);
        self.abandon();
        self.end_others(cx);
        streams.pieces(pieces, cx);
        streams.pieces(waiting, cx);
        self.successor = Some(Successor::Streams(Box::new(streams)));
    }

    /// What follows is not for us.
    fn abandon(&mut self) {
        self.over = true;
        self.received.side = Side::Other;
        self.sent.side = Side::Other;
        self.responses_waiting = VecDeque::new();
        self.requests_waiting = VecDeque::new();
    }
}

pub(super) fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Received => Direction::Sent,
        Direction::Sent => Direction::Received,
    }
}

fn length_of(piece: &Piece) -> usize {
    match &piece.what {
        What::Chunk(bytes) => bytes.len(),
        What::Gap { .. } => 0,
    }
}
