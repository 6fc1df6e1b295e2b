//! The open streams of one connection, and what waits for their requests.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::tunnels::Tunnel;
use crate::call::conversation::{Context, Ended};
use crate::call::open::{Answer, Open, Place};
use crate::call::options::{UNREAD_LEN_MAX, Unread, UnreadWhy};
use crate::call::{ApiCall, CallDirection, CallState, Phase, Protocol, facts, semantics};
use crate::capture::{Direction, FlowInfo, KernelTime, Process};
use crate::decode::{Anomaly, Event, Head, Role, StartLine, Told};
use crate::flow::Piece;

/// Events that wait for requests, whatever their bytes.
const WAITING_MAX: usize = 4_096;

/// Something of a response whose request has not been seen.
struct Waiting {
    stream: u32,
    told: Told,
    at: KernelTime,
}

pub(super) struct Table {
    pub flow: Arc<FlowInfo>,
    /// Streams that are over for other reasons than their own last frames.
    pub closed: Vec<u32>,
    pub(super) open: HashMap<u32, Box<Open>>,
    /// Streams that have become WebSocket.
    pub(super) tunnels: HashMap<u32, Tunnel>,
    /// The highest stream on which a request was seen.
    stream_max: u32,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    proxied_client: Option<SocketAddr>,
    /// Of the connection; the next call says so.
    anomalies: Vec<Anomaly>,
    /// Requests may have been lost.
    requests_lost: bool,
    unread_told: bool,
}

impl Table {
    pub(super) fn new(flow: Arc<FlowInfo>, proxied_client: Option<SocketAddr>, late: bool) -> Self {
        Table {
            flow,
            closed: Vec::new(),
            open: HashMap::new(),
            tunnels: HashMap::new(),
            stream_max: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            proxied_client,
            anomalies: Vec::new(),
            requests_lost: late,
            unread_told: false,
        }
    }

    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.open
            .values()
            .map(|open| &open.call)
            .chain(self.tunnel_calls())
    }

    pub(super) fn info(&mut self, flow: Arc<FlowInfo>) {
        for open in self.open.values_mut() {
            open.call.flow = flow.clone();
        }
        for tunnel in self.tunnels.values_mut() {
            tunnel.messages.info(flow.clone());
        }
        self.flow = flow;
    }

    pub(super) fn upgraded(&mut self, mut open: Box<Open>) {
        open.reopen();
        open.call.protocol = Protocol::Http2;
        self.stream_max = 1;
        self.open.insert(1, open);
    }

    /// Requests of this connection may not be read.
    pub(super) fn tell_unread(&mut self, process: &Arc<Process>, why: UnreadWhy, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.unread_told, true) || cx.unread.len() >= UNREAD_LEN_MAX {
            return;
        }
        cx.unread.push(Unread {
            flow: self.flow.clone(),
            process: process.clone(),
            why,
        });
    }

    /// What a direction's decoder says.
    pub(super) fn told(&mut self, role: Role, told: Told, piece: &Piece, cx: &mut Context<'_>) {
        let told = match self.tunnelled(role, told, piece, cx) {
            Some(told) => told,
            None => return,
        };
        match (told, role) {
            (
                Told::Head {
                    stream,
                    head,
                    position,
                    end,
                },
                Role::Requests,
            ) => self.request(stream, head, (position, end), piece, cx),
            (Told::Of { stream, event }, Role::Requests) => self.of_request(stream, event, piece.at, cx),
            // What comes behind a request's body is no field of its head, and nothing is decided by it.
            (Told::Trailers { .. }, Role::Requests) => {}
            (
                Told::Promise {
                    stream,
                    head,
                    position,
                    end,
                },
                _,
            ) => self.promise(stream, head, (position, end), piece, cx),
            (Told::Anomaly(anomaly), _) => self.odd(anomaly, role),
            (Told::OutOfStep, _) => {
                self.lost(role, cx);
                if role == Role::Requests {
                    self.tell_unread(&piece.process, UnreadWhy::Gap, cx);
                }
            }
            // It is for the other direction's decoder.
            (Told::Settings { .. }, _) => {}
            (Told::Skipped(bytes), _) => {
                cx.stats.bytes_skipped = cx.stats.bytes_skipped.saturating_add(bytes);
            }
            (Told::Reset { stream }, Role::Requests) => self.reset(stream, piece.at, cx),
            (Told::GoAway { last }, Role::Responses) => self.go_away(last, piece.at, cx),
            // It is about pushes.
            (Told::GoAway { .. }, Role::Requests) => {}
            (told, Role::Responses) => self.answer(told, piece.at, cx),
        }
    }

    /// Of the connection: its newest call says so if it goes on, else the next one.
    fn odd(&mut self, anomaly: Anomaly, role: Role) {
        if let Some(open) = self.open.get_mut(&self.stream_max) {
            match role {
                Role::Requests => open.note(anomaly),
                // What a server does makes no request ambiguous.
                Role::Responses => open.note_of_response(anomaly),
            }
        } else if !self.anomalies.contains(&anomaly) {
            self.anomalies.push(anomaly);
        }
    }

    fn request(&mut self, stream: u32, head: Head, span: (u64, u64), piece: &Piece, cx: &mut Context<'_>) {
        if let Some(open) = self.open.get_mut(&stream) {
            open.note(Anomaly::InvalidStream);
            return;
        }
        self.stream_max = self.stream_max.max(stream);
        let direction = match piece.direction {
            Direction::Received => CallDirection::Inbound,
            Direction::Sent => CallDirection::Outbound,
        };
        if self.begin(stream, head, span, direction, piece, cx) {
            self.release(stream, cx);
        }
    }

    /// Opens a call.
    fn begin(
        &mut self,
        stream: u32,
        head: Head,
        (position, end): (u64, u64),
        direction: CallDirection,
        piece: &Piece,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.open.len() + self.tunnels.len() >= cx.limits.flow_streams_max
            || *cx.calls_open >= cx.limits.calls_max
        {
            cx.stats.calls_given_up += 1;
            return false;
        }
        if head.unknown_fields > 0 {
            cx.stats.streams_unknown += 1;
        }
        let (told, anomalies) = facts::request(head, piece.at, direction, &self.flow, &piece.process, cx);
        let place = Place {
            position,
            head_end: end,
        };
        let mut open = Box::new(Open::new(told, anomalies, direction, piece, place, false, cx));
        for anomaly in self.anomalies.drain(..) {
            open.note(anomaly);
        }
        open.call.protocol = Protocol::Http2;
        open.call.flow = self.flow.clone();
        open.call.raw.proxied_client = self.proxied_client;
        *cx.calls_open += 1;
        cx.stats.calls += 1;
        semantics::tell(Phase::Head, &mut open.call, cx.redactor);
        (cx.out)(Phase::Head, &mut open.call);
        self.open.insert(stream, open);
        true
    }

    fn of_request(&mut self, stream: u32, event: Event, at: KernelTime, cx: &mut Context<'_>) {
        let Some(open) = self.open.get_mut(&stream).filter(|open| !open.request_done) else {
            return;
        };
        match event {
            Event::Body(bytes) => open.add_request_body(bytes, cx),
            Event::Missed(bytes) => open.miss_request_body(bytes),
            Event::Anomaly(Anomaly::UnknownFields) => {}
            Event::Anomaly(anomaly) => open.note(anomaly),
            Event::End | Event::Broken(_) => {
                open.end_request(at, event != Event::End, cx);
                self.settle(stream, cx);
            }
            Event::Head(_) | Event::Skipped(_) => {}
        }
    }

    /// The server pushes: what it says the request would have been, and the answer to come.
    fn promise(&mut self, stream: u32, head: Head, span: (u64, u64), piece: &Piece, cx: &mut Context<'_>) {
        cx.stats.pushes += 1;
        if self.open.contains_key(&stream) {
            return;
        }
        let direction = match piece.direction {
            Direction::Received => CallDirection::Outbound,
            Direction::Sent => CallDirection::Inbound,
        };
        if self.begin(stream, head, span, direction, piece, cx)
            && let Some(open) = self.open.get_mut(&stream)
        {
            // Nobody has asked: there is neither a place where withholding its answer would have to begin nor a request on the
            // wire.
            open.call.response_position = None;
            open.call.head_end = None;
            open.end_request(piece.at, false, cx);
        }
    }

    fn answer(&mut self, told: Told, at: KernelTime, cx: &mut Context<'_>) {
        let stream = match &told {
            Told::Head { stream, .. }
            | Told::Of { stream, .. }
            | Told::Trailers { stream, .. }
            | Told::Reset { stream } => *stream,
            _ => return,
        };
        if self.open.contains_key(&stream) {
            match told {
                // The rest of a request that has its answer is called off, too.
                Told::Reset { .. } => self.reset(stream, at, cx),
                told => self.answered(stream, told, at, cx),
            }
            return;
        }
        if stream > self.stream_max && !stream.is_multiple_of(2) {
            self.wait(stream, told, at, cx);
        } else if matches!(told, Told::Head { .. }) && self.requests_lost {
            cx.stats.responses_unpaired += 1;
        }
    }

    fn answered(&mut self, stream: u32, told: Told, at: KernelTime, cx: &mut Context<'_>) {
        let Some(open) = self.open.get_mut(&stream) else {
            return;
        };
        if matches!(open.answer, Answer::Done(_)) {
            return;
        }
        match told {
            Told::Head { mut head, .. } => {
                let StartLine::Response { status } = head.line else {
                    return;
                };
                if (100..200).contains(&status) {
                    return;
                }
                if head.unknown_fields > 0 {
                    cx.stats.streams_unknown += 1;
                }
                // What is unknown of an answer leaves no doubt about the request.
                head.anomalies
                    .retain(|anomaly| *anomaly != Anomaly::UnknownFields);
                open.gap = false;
                open.begin_answer(status, &head, at, at);
                open.set_response_headers(&head);
                if (200..300).contains(&status) && open.asks_for_websocket() {
                    self.tunnel(stream, at, cx);
                }
            }
            Told::Of { event, .. } => {
                open.answered_at(at);
                match event {
                    Event::Body(bytes) => open.add_response_body(bytes, cx),
                    Event::Missed(bytes) => open.miss_response_body(bytes),
                    Event::Anomaly(Anomaly::UnknownFields) => {}
                    Event::Anomaly(anomaly) => open.note_of_response(anomaly),
                    Event::End => {
                        // Its head was lost, and with it the answer.
                        open.answer = Answer::Done(match open.call.response {
                            Some(_) => CallState::Answered,
                            None => CallState::Gap,
                        });
                        self.settle(stream, cx);
                    }
                    Event::Head(_) | Event::Skipped(_) | Event::Broken(_) => {}
                }
            }
            Told::Trailers { fields, .. } => {
                open.answered_at(at);
                open.add_response_trailers(fields, cx.limits.decode.headers_max);
            }
            _ => {}
        }
    }

    fn wait(&mut self, stream: u32, told: Told, at: KernelTime, cx: &mut Context<'_>) {
        self.waiting_bytes += match &told {
            Told::Of {
                event: Event::Body(bytes),
                ..
            } => bytes.len(),
            Told::Head { head, .. } => head.bytes as usize,
            _ => 0,
        };
        self.waiting.push(Waiting { stream, told, at });
        if self.waiting_bytes > cx.limits.flow_waiting_bytes_max || self.waiting.len() > WAITING_MAX {
            self.drop_waiting(cx);
        }
    }

    fn release(&mut self, stream: u32, cx: &mut Context<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let (now, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.stream == stream);
        self.waiting = later;
        let now: Vec<Waiting> = now;
        for waiting in now {
            self.answer(waiting.told, waiting.at, cx);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
            self.waiting_bytes = 0;
        }
    }

    pub(super) fn expire(&mut self, now: KernelTime, cx: &mut Context<'_>) {
        if self
            .waiting
            .first()
            .is_some_and(|first| now.since(first.at) > cx.limits.waiting_ns)
        {
            self.drop_waiting(cx);
        }
    }

    /// What waited answers nothing that was seen.
    fn drop_waiting(&mut self, cx: &mut Context<'_>) {
        let heads = self
            .waiting
            .drain(..)
            .filter(|waiting| matches!(waiting.told, Told::Head { .. }))
            .count() as u64;
        if self.requests_lost {
            cx.stats.responses_unpaired += heads;
        } else {
            cx.stats.responses_unsolicited += heads;
            if heads > 0 {
                self.anomalies.push(Anomaly::UnsolicitedResponse);
            }
        }
        cx.stats.waiting_bytes_given_up += self.waiting_bytes as u64;
        self.waiting = Vec::new();
        self.waiting_bytes = 0;
    }

    /// A side gives a stream up.
    fn reset(&mut self, stream: u32, at: KernelTime, cx: &mut Context<'_>) {
        let Some(open) = self.open.get_mut(&stream) else {
            return;
        };
        if open.has_answer() {
            open.answer = Answer::Done(CallState::Answered);
        } else if !matches!(open.answer, Answer::Done(_)) {
            open.response_body.cut();
            open.answer = Answer::Done(CallState::Reset);
        }
        if !open.request_done {
            open.end_request(at, true, cx);
        }
        self.settle(stream, cx);
    }

    /// The server looks at no stream beyond `last`.
    fn go_away(&mut self, last: u32, at: KernelTime, cx: &mut Context<'_>) {
        let beyond: Vec<u32> = self
            .open
            .keys()
            .copied()
            .filter(|stream| *stream > last && !stream.is_multiple_of(2))
            .collect();
        for stream in beyond {
            self.reset(stream, at, cx);
        }
    }

    /// Reports the call if it is over.
    fn settle(&mut self, stream: u32, cx: &mut Context<'_>) {
        let is_over = |open: &Open| open.request_done && matches!(open.answer, Answer::Done(_));
        if self.open.get(&stream).is_some_and(|open| is_over(open))
            && let Some(mut open) = self.open.remove(&stream)
            && let Answer::Done(state) = open.answer
        {
            open.report(state, cx);
            self.closed.push(stream);
        }
    }

    /// Frames were lost, and perhaps heads and ends with them.
    pub(super) fn lost(&mut self, role: Role, cx: &mut Context<'_>) {
        cx.stats.out_of_step += 1;
        match role {
            Role::Requests => {
                self.requests_lost = true;
                for open in self.open.values_mut().filter(|open| !open.request_done) {
                    open.call.loss_overlap = true;
                    open.request_body.cut();
                }
            }
            Role::Responses => {
                for open in self.open.values_mut() {
                    if !matches!(open.answer, Answer::Done(_)) {
                        open.gap = true;
                        open.call.loss_overlap = true;
                    }
                    if open.answer == Answer::Begun {
                        open.response_body.cut();
                    }
                }
            }
        }
    }

    /// Bytes of a body were lost; whose is in what the decoder has said, but any call may have waited for them.
    pub(super) fn overlaps_loss(&mut self, role: Role) {
        for open in self.open.values_mut() {
            let moves = match role {
                Role::Requests => !open.request_done,
                Role::Responses => open.answer == Answer::Begun,
            };
            open.call.loss_overlap |= moves;
        }
    }

    pub(super) fn tick(&mut self, at: KernelTime, cx: &mut Context<'_>) {
        let mut over = Vec::new();
        for (stream, open) in &self.open {
            let state = match open.answer {
                Answer::Awaited if at.since(open.asked_at()) > cx.limits.answer_ns => match open.gap {
                    true => CallState::Gap,
                    false => CallState::TimedOut,
                },
                // Its end may have been lost.
                Answer::Begun if open.gap && at.since(open.last_at()) > cx.limits.answer_ns => CallState::Gap,
                Answer::Done(state) if at.since(open.last_at()) > cx.limits.unfinished_ns => state,
                _ => continue,
            };
            over.push((*stream, state));
        }
        for (stream, state) in over {
            if let Some(mut open) = self.open.remove(&stream) {
                open.report(state, cx);
                self.closed.push(stream);
            }
        }
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        self.drop_waiting(cx);
        self.end_tunnels(at, how, cx);
        cx.stats.anomalies_untold += std::mem::take(&mut self.anomalies).len() as u64;
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_unstable_by_key(|(stream, _)| *stream);
        for (_, mut open) in open {
            if !open.request_done {
                open.end_request(at, true, cx);
            }
            let state = match open.answer {
                Answer::Done(state) => state,
                _ if open.gap || how == Ended::Forgotten => CallState::Gap,
                _ if open.has_answer() => CallState::Answered,
                _ if how == Ended::Reset => CallState::Reset,
                _ if how == Ended::Unwatched => CallState::Pending,
                _ => CallState::Closed,
            };
            if open.answer == Answer::Begun && state != CallState::Answered {
                open.response_body.cut();
            }
            open.report(state, cx);
        }
    }
}

impl Open {
    /// All that the answer's head has declared has come, and not that it ends: servers say so in a frame of its own, and
    /// clients that have what they asked for (curl) go without it. What a status in trailers follows has no length.
    fn has_answer(&self) -> bool {
        let declared = || {
            let mut headers = self.call.raw.response_headers.iter();
            let (_, value) = headers.rfind(|(name, _)| name.as_ref() == b"content-length")?;
            std::str::from_utf8(value).ok()?.parse::<u64>().ok()
        };
        self.answer == Answer::Begun && declared() == Some(self.response_body.total())
    }

    /// Fields that came behind the answer's body, among those of its head.
    fn add_response_trailers(&mut self, fields: Vec<(Bytes, Bytes)>, headers_max: usize) {
        if self.reported {
            return;
        }
        // Not the head's alone any more.
        self.call.raw.response_head = 0;
        let headers = Arc::make_mut(&mut self.call.raw.response_headers);
        let room = headers_max.saturating_sub(headers.len());
        headers.extend(fields.into_iter().take(room));
    }
}
