//! One flow's two directions, decoded and paired.
//!
//! Requests and responses are paired in order (RFC 9112 §9.3.2). Records of the two directions may come in either
//! order, so a response's bytes wait, bounded, for the request that they answer, and a request's bytes wait behind
//! a CONNECT or an upgrade until its answer says whether they are HTTP at all. After a loss, order alone cannot be
//! trusted; then positions decide, and the calls concerned say that they overlap a loss.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::open::{Answer, Open};
use super::redact::Redactor;
use super::{ApiCall, CallDirection, CallState, Limits, Phase, Stats, facts};
use crate::capture::{Direction, FlowInfo, GapReason, KernelTime};
use crate::decode::http1::{Decoder, GapEffect};
use crate::decode::sniff::{Sniffed, begins_message, sniff};
use crate::decode::{Anomaly, AnswerTo, Broken, Event, Framing, Head, Role, StartLine};
use crate::flow::{Piece, What};

/// Bytes of an undecided direction that are looked at before it counts as something else.
const SNIFF_BYTES_MAX: usize = 16 * 1024;

/// What conversations share.
pub(super) struct Context<'a> {
    pub limits: &'a Limits,
    pub boot_id: &'a [u8; 16],
    pub redactor: &'a mut Redactor,
    pub stats: &'a mut Stats,
    pub bodies_bytes: &'a mut usize,
    pub calls_open: &'a mut usize,
    pub lost_at: Option<KernelTime>,
    pub out: &'a mut dyn FnMut(Phase, &mut ApiCall),
}

/// How a flow ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Closed,
    Reset,
    /// The agent gave it up.
    Forgotten,
}

enum Side {
    /// Not yet known what it carries. `late`: its beginning was not seen.
    Undecided {
        buffer: Vec<u8>,
        late: bool,
    },
    Http(Decoder),
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
    /// A response may have been lost: order alone does not pair.
    responses_lost: bool,
    /// What the response direction is in the middle of belongs to no call: interim, or unpaired.
    response_ignored: bool,
    /// What the request direction is in the middle of belongs to no call.
    request_ignored: bool,
    unsolicited: bool,
    over: bool,
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
            responses_lost: false,
            response_ignored: false,
            request_ignored: false,
            unsolicited: false,
            over: false,
        }
    }

    /// Nothing of it will be a call any more.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.open.is_empty()
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
        for open in &mut self.open {
            let since = open.call.request.ended_at.max(open.call.request.head_at);
            if !open.reported && open.answer == Answer::Awaited && at.since(since) > cx.limits.answer_ns {
                let state = if open.gap {
                    CallState::Gap
                } else {
                    CallState::TimedOut
                };
                open.report(state, cx);
            }
        }
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        self.release_responses(cx);
        if !self.responses_waiting.is_empty() {
            cx.stats.responses_unpaired += 1;
        }
        for role in [Role::Requests, Role::Responses] {
            let event = match self.decoder_mut(role) {
                Some(decoder) => decoder.end(),
                None => None,
            };
            match (event, role) {
                (Some(event), Role::Requests) => self.request_event(event, None, at, cx),
                (Some(event), Role::Responses) => self.response_event(event, None, at, how, cx),
                (None, _) => {}
            }
        }
        self.over = true;
        for mut open in std::mem::take(&mut self.open) {
            if !open.request_done {
                open.end_request(at, true, cx);
            }
            let state = match open.answer {
                Answer::Done(state) => state,
                _ if open.gap || how == Ended::Forgotten => CallState::Gap,
                _ if how == Ended::Reset => CallState::Reset,
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

    fn undecided_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let direction = piece.direction;
        let Some((role, piece)) = self.decide(piece, None, cx) else {
            return;
        };
        match role {
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
        let lane = self.lane_mut(piece.direction);
        let Side::Undecided { buffer, late } = &mut lane.side else {
            return None;
        };
        let What::Chunk(bytes) = &mut piece.what else {
            *late = true;
            *buffer = Vec::new();
            return None;
        };
        if *late {
            let role = [Role::Requests, Role::Responses].into_iter().find(|role| {
                expected.is_none_or(|expected| expected == *role) && begins_message(bytes, *role)
            });
            match role {
                Some(role) => lane.side = Side::Http(Decoder::new(role, true)),
                None => cx.stats.bytes_skipped += bytes.len() as u64,
            }
            return role.map(|role| (role, piece));
        }
        if !buffer.is_empty() {
            buffer.extend_from_slice(bytes);
            piece.position = (piece.position + bytes.len() as u64).saturating_sub(buffer.len() as u64);
            *bytes = Bytes::from(std::mem::take(buffer));
        }
        let role = match sniff(bytes) {
            Sniffed::More if bytes.len() <= SNIFF_BYTES_MAX => {
                *buffer = bytes.to_vec();
                return None;
            }
            Sniffed::Requests => Role::Requests,
            Sniffed::Responses => Role::Responses,
            Sniffed::Http2 => {
                cx.stats.flows_http2 += 1;
                self.abandon();
                return None;
            }
            Sniffed::More | Sniffed::Other => {
                cx.stats.bytes_skipped += bytes.len() as u64;
                if expected.is_some() {
                    *late = true;
                } else {
                    cx.stats.flows_other += 1;
                    self.abandon();
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

    /// What follows is not for us.
    fn abandon(&mut self) {
        self.over = true;
        self.received.side = Side::Other;
        self.sent.side = Side::Other;
        self.responses_waiting = VecDeque::new();
        self.requests_waiting = VecDeque::new();
    }

    // Requests.

    fn request_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if self.paused || !self.requests_waiting.is_empty() {
            self.wait(piece, Role::Requests, cx);
            return;
        }
        let mut piece = piece;
        if matches!(self.lane_mut(piece.direction).side, Side::Undecided { .. }) {
            if matches!(piece.what, What::Gap { .. }) {
                self.requests_are_lost(cx);
            }
            match self.decide(piece, Some(Role::Requests), cx) {
                Some((_, decided)) => piece = decided,
                None => return,
            }
        }
        let direction = piece.direction;
        let lane = self.lane_mut(direction);
        let turn = matches!(piece.what, What::Chunk(_)) && lane.turns(piece.other_position);
        let Side::Http(mut decoder) = std::mem::replace(&mut lane.side, Side::Other) else {
            return;
        };
        let mut rest = None;
        match &mut piece.what {
            What::Gap { bytes, reason } => {
                let (bytes, reason) = (*bytes, *reason);
                let mut events = Vec::new();
                let effect = decoder.gap(bytes, &mut |event| events.push(event));
                if is_loss(reason)
                    && let Some(open) = self.open.back_mut().filter(|open| !open.request_done)
                {
                    open.call.loss_overlap = true;
                }
                for event in events {
                    self.request_event(event, Some(&piece), piece.at, cx);
                }
                if effect == GapEffect::OutOfStep {
                    self.requests_are_lost(cx);
                }
            }
            What::Chunk(bytes) => {
                let mut input = std::mem::take(bytes);
                let length = input.len();
                decoder.chunk(turn);
                loop {
                    if decoder.is_between() || decoder.is_out_of_step() {
                        let lane = self.lane_mut(direction);
                        lane.message_position = piece.position + (length - input.len()) as u64;
                        lane.message_at = piece.at;
                    }
                    let Some(event) = decoder.next(&mut input, AnswerTo::Ordinary, &cx.limits.decode) else {
                        break;
                    };
                    self.request_event(event, Some(&piece), piece.at, cx);
                    if self.paused && !input.is_empty() {
                        let mut later = piece.clone();
                        later.position += (length - input.len()) as u64;
                        later.what = What::Chunk(input);
                        rest = Some(later);
                        break;
                    }
                }
            }
        }
        self.lane_mut(direction).side = Side::Http(decoder);
        if let Some(rest) = rest {
            self.wait(rest, Role::Requests, cx);
        }
        self.release_responses(cx);
        self.settle(cx);
    }

    fn request_event(&mut self, event: Event, piece: Option<&Piece>, at: KernelTime, cx: &mut Context<'_>) {
        if let Event::Head(head) = event {
            if let Some(piece) = piece {
                self.request_head(head, piece, cx);
            }
            return;
        }
        if let Event::Skipped(bytes) = event {
            cx.stats.bytes_skipped += bytes;
            return;
        }
        if std::mem::take(&mut self.request_ignored) {
            self.request_ignored = !matches!(event, Event::End | Event::Broken(_));
            return;
        }
        let Some(open) = self.open.back_mut().filter(|open| !open.request_done) else {
            return;
        };
        match event {
            Event::Body(bytes) => open.add_request_body(bytes, cx),
            Event::Missed(bytes) => open.request_body.miss(bytes),
            Event::Anomaly(anomaly) => open.note(anomaly),
            Event::End | Event::Broken(_) => {
                if event == Event::Broken(Broken::Gap) {
                    open.call.loss_overlap = true;
                }
                open.end_request(at, event != Event::End, cx);
                self.paused = open.may_switch && !matches!(open.answer, Answer::Done(_));
            }
            Event::Head(_) | Event::Skipped(_) => {}
        }
    }

    fn request_head(&mut self, head: Head, piece: &Piece, cx: &mut Context<'_>) {
        if self.open.len() >= cx.limits.flow_calls_max || *cx.calls_open >= cx.limits.calls_max {
            cx.stats.calls_given_up += 1;
            self.requests_lost = true;
            self.request_ignored = true;
            return;
        }
        let direction = match piece.direction {
            Direction::Received => CallDirection::Inbound,
            Direction::Sent => CallDirection::Outbound,
        };
        let may_switch = head.upgrade;
        let (told, anomalies) =
            facts::request(head, piece.at, direction, &self.flow, &piece.process, cx.redactor);
        let position = self.lane_mut(piece.direction).message_position;
        let mut open = Box::new(Open::new(
            told, anomalies, direction, piece, position, may_switch, cx,
        ));
        if std::mem::take(&mut self.unsolicited) {
            open.note(Anomaly::UnsolicitedResponse);
        }
        open.call.flow = self.flow.clone();
        *cx.calls_open += 1;
        cx.stats.calls += 1;
        (cx.out)(Phase::Head, &mut open.call);
        self.open.push_back(open);
    }

    // Responses.

    fn response_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if !self.responses_waiting.is_empty() || (self.needs_request() && self.awaited().is_none()) {
            self.wait(piece, Role::Responses, cx);
            return;
        }
        self.feed_response(piece, cx);
        self.after_response(cx);
    }

    /// What follows an answer: requests that waited for it, and calls that are over.
    fn after_response(&mut self, cx: &mut Context<'_>) {
        self.settle(cx);
        while !self.paused && !self.over {
            let Some(piece) = self.requests_waiting.pop_front() else {
                break;
            };
            let later = std::mem::take(&mut self.requests_waiting);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(length_of(&piece));
            self.request_piece(piece, cx);
            self.requests_waiting.extend(later);
        }
    }

    /// The response direction stands where only a request tells what comes next.
    fn needs_request(&mut self) -> bool {
        match self
            .direction_of(Role::Responses)
            .map(|direction| &self.lane_mut(direction).side)
        {
            Some(Side::Undecided { .. }) => true,
            Some(Side::Http(decoder)) => decoder.is_between() || decoder.is_out_of_step(),
            _ => false,
        }
    }

    /// The first call that is not answered.
    fn awaited(&self) -> Option<usize> {
        self.open
            .iter()
            .position(|open| !matches!(open.answer, Answer::Done(_)))
    }

    fn release_responses(&mut self, cx: &mut Context<'_>) {
        while !self.over && (self.awaited().is_some() || !self.needs_request()) {
            let Some(piece) = self.responses_waiting.pop_front() else {
                break;
            };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(length_of(&piece));
            self.feed_response(piece, cx);
        }
        if self.responses_waiting.is_empty() {
            self.responses_waiting = VecDeque::new();
        }
    }

    fn feed_response(&mut self, mut piece: Piece, cx: &mut Context<'_>) {
        if matches!(self.lane_mut(piece.direction).side, Side::Undecided { .. }) {
            if matches!(piece.what, What::Gap { .. }) {
                self.responses_are_lost(cx);
            }
            match self.decide(piece, Some(Role::Responses), cx) {
                Some((_, decided)) => piece = decided,
                None => return,
            }
        }
        let direction = piece.direction;
        let lane = self.lane_mut(direction);
        let turn = matches!(piece.what, What::Chunk(_)) && lane.turns(piece.other_position);
        let Side::Http(mut decoder) = std::mem::replace(&mut lane.side, Side::Other) else {
            return;
        };
        let mut rest = None;
        match &mut piece.what {
            What::Gap { bytes, reason } => {
                let (bytes, reason) = (*bytes, *reason);
                let mut events = Vec::new();
                let effect = decoder.gap(bytes, &mut |event| events.push(event));
                let awaited = self.awaited();
                if let Some(index) = awaited.filter(|_| is_loss(reason)) {
                    self.open[index].call.loss_overlap = true;
                }
                for event in events {
                    self.response_event(event, Some(&piece), piece.at, Ended::Closed, cx);
                }
                if effect == GapEffect::OutOfStep {
                    self.responses_are_lost(cx);
                }
            }
            What::Chunk(bytes) => {
                let mut input = std::mem::take(bytes);
                let length = input.len();
                decoder.chunk(turn);
                loop {
                    let between = decoder.is_between();
                    let awaited = self.awaited();
                    if between && awaited.is_none() && !input.is_empty() {
                        let mut later = piece.clone();
                        later.position += (length - input.len()) as u64;
                        later.what = What::Chunk(input);
                        rest = Some(later);
                        break;
                    }
                    if between || decoder.is_out_of_step() {
                        self.lane_mut(direction).message_at = piece.at;
                    }
                    let answer_to = awaited
                        .map(|index| self.open[index].answer_to)
                        .unwrap_or_default();
                    let Some(event) = decoder.next(&mut input, answer_to, &cx.limits.decode) else {
                        break;
                    };
                    self.response_event(event, Some(&piece), piece.at, Ended::Closed, cx);
                    if self.over {
                        return;
                    }
                }
            }
        }
        self.lane_mut(direction).side = Side::Http(decoder);
        if let Some(rest) = rest {
            self.wait_first(rest, cx);
        }
    }

    fn response_event(
        &mut self,
        event: Event,
        piece: Option<&Piece>,
        at: KernelTime,
        how: Ended,
        cx: &mut Context<'_>,
    ) {
        if let Event::Head(head) = event {
            if let Some(piece) = piece {
                self.response_head(head, piece, cx);
            }
            return;
        }
        if let Event::Skipped(bytes) = event {
            cx.stats.bytes_skipped += bytes;
            return;
        }
        if self.response_ignored {
            self.response_ignored = !matches!(event, Event::End | Event::Broken(_));
            return;
        }
        let Some(open) = self.open.iter_mut().find(|open| open.answer == Answer::Begun) else {
            return;
        };
        open.answered_at(at);
        match event {
            Event::Body(bytes) => open.add_response_body(bytes, cx),
            Event::Missed(bytes) => open.response_body.miss(bytes),
            Event::Anomaly(anomaly) => open.note(anomaly),
            Event::End if open.switching => {
                open.answer = Answer::Done(CallState::Switched);
                self.switch(cx);
            }
            Event::End => open.answer = Answer::Done(CallState::Answered),
            Event::Broken(why) => {
                open.response_body.cut();
                open.answer = Answer::Done(match (why, how) {
                    (Broken::Gap, _) | (_, Ended::Forgotten) => CallState::Gap,
                    (Broken::Ended, Ended::Reset) => CallState::Reset,
                    (Broken::Ended, Ended::Closed) => CallState::Closed,
                    (Broken::Invalid | Broken::Overtaken, _) => CallState::Answered,
                });
                open.call.loss_overlap |= why == Broken::Gap;
            }
            Event::Head(_) | Event::Skipped(_) => {}
        }
    }

    fn response_head(&mut self, head: Head, piece: &Piece, cx: &mut Context<'_>) {
        let StartLine::Response { status } = head.line else {
            return;
        };
        self.response_ignored = true;
        if (100..200).contains(&status) && status != 101 {
            return;
        }
        let Some(index) = self.pair(piece) else {
            cx.stats.responses_unpaired += 1;
            self.unsolicited = !self.requests_lost;
            return;
        };
        self.response_ignored = false;
        self.responses_lost = false;
        self.requests_lost &= piece.other_position == 0;
        for (at, open) in self.open.iter_mut().enumerate() {
            if at >= index {
                // Its answer is here, or yet to come.
                open.gap = false;
            } else if !matches!(open.answer, Answer::Done(_)) {
                open.answer = Answer::Done(CallState::Gap);
                open.call.loss_overlap = true;
            }
        }
        let started_at = self.lane_mut(piece.direction).message_at;
        let open = &mut self.open[index];
        open.begin_answer(status, &head, started_at, piece.at);
        open.switching = head.framing == Framing::Switched;
        open.set_response_headers(head.headers);
        let (declined, paused) = (
            !open.request_done,
            self.paused && open.may_switch && !open.switching,
        );
        if paused {
            self.paused = false;
        }
        if declined && let Some(decoder) = self.decoder_mut(Role::Requests) {
            decoder.decline_body();
        }
    }

    /// The call that a response answers.
    fn pair(&self, piece: &Piece) -> Option<usize> {
        let first = self.awaited()?;
        // A response can only begin after its request did. Judged where something was lost, by positions.
        let begun_before = |open: &Open| {
            piece.other_position == 0
                || (piece.other_position as u32)
                    .wrapping_sub(open.position as u32)
                    .cast_signed()
                    > 0
        };
        if self.responses_lost {
            return (first..self.open.len())
                .rev()
                .find(|index| begun_before(&self.open[*index]));
        }
        (!self.requests_lost || begun_before(&self.open[first])).then_some(first)
    }

    /// Another protocol takes the connection over.
    fn switch(&mut self, cx: &mut Context<'_>) {
        self.abandon();
        self.settle(cx);
    }

    // Losing, waiting and ending.

    fn requests_are_lost(&mut self, cx: &mut Context<'_>) {
        cx.stats.out_of_step += 1;
        self.requests_lost = true;
        // What waits may answer a request that was lost.
        self.drop_waiting_responses(cx);
    }

    fn responses_are_lost(&mut self, cx: &mut Context<'_>) {
        cx.stats.out_of_step += 1;
        self.responses_lost = true;
        for open in self.open.iter_mut().filter(|open| open.answer == Answer::Awaited) {
            open.gap = true;
        }
    }

    fn wait(&mut self, piece: Piece, role: Role, cx: &mut Context<'_>) {
        if self.responses_waiting.is_empty() && self.requests_waiting.is_empty() {
            self.waiting_since = piece.at;
            self.waiting_bytes = 0;
        }
        self.waiting_bytes += length_of(&piece);
        match role {
            Role::Requests => self.requests_waiting.push_back(piece),
            Role::Responses => self.responses_waiting.push_back(piece),
        }
        if self.waiting_bytes > cx.limits.flow_waiting_bytes_max {
            self.give_up_waiting(cx);
        }
    }

    /// The rest of a response chunk stands before whatever waits already.
    fn wait_first(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let before = std::mem::take(&mut self.responses_waiting);
        self.wait(piece, Role::Responses, cx);
        self.responses_waiting.extend(before);
    }

    fn expire(&mut self, now: KernelTime, cx: &mut Context<'_>) {
        if !self.responses_waiting.is_empty() && now.since(self.waiting_since) > cx.limits.waiting_ns {
            self.drop_waiting_responses(cx);
        }
    }

    /// What waited answers nothing that we know.
    fn drop_waiting_responses(&mut self, cx: &mut Context<'_>) {
        if self.responses_waiting.is_empty() {
            return;
        }
        let bytes: usize = self
            .responses_waiting
            .drain(..)
            .map(|piece| length_of(&piece))
            .sum();
        self.responses_waiting = VecDeque::new();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        cx.stats.waiting_bytes_given_up += bytes as u64;
        cx.stats.responses_unpaired += 1;
        self.unsolicited = !self.requests_lost;
        self.lose_step(Role::Responses);
    }

    fn give_up_waiting(&mut self, cx: &mut Context<'_>) {
        self.drop_waiting_responses(cx);
        if !self.requests_waiting.is_empty() {
            let bytes: usize = self
                .requests_waiting
                .drain(..)
                .map(|piece| length_of(&piece))
                .sum();
            self.requests_waiting = VecDeque::new();
            cx.stats.waiting_bytes_given_up += bytes as u64;
            self.requests_lost = true;
            self.lose_step(Role::Requests);
        }
        self.waiting_bytes = 0;
    }

    fn lose_step(&mut self, role: Role) {
        let Some(direction) = self.direction_of(role) else {
            return;
        };
        match &mut self.lane_mut(direction).side {
            Side::Undecided { late, buffer } => {
                *late = true;
                *buffer = Vec::new();
            }
            Side::Http(decoder) => decoder.lose_step(),
            Side::Other => {}
        }
    }

    /// Reports the calls that are over, in order.
    fn settle(&mut self, cx: &mut Context<'_>) {
        while let Some(front) = self.open.front() {
            let Answer::Done(state) = front.answer else { return };
            if !front.request_done && !self.over {
                return;
            }
            if let Some(mut open) = self.open.pop_front() {
                open.report(state, cx);
            }
        }
    }
}

fn opposite(direction: Direction) -> Direction {
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

/// Bytes that a body limit or `sendfile` left out are known to be body; the others could have been anything.
fn is_loss(reason: GapReason) -> bool {
    !matches!(reason, GapReason::Limit | GapReason::Sendfile)
}
