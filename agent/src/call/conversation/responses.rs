//! The direction that carries the responses, and which call each of them answers.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Context, Conversation, Ended, Side, Successor, TUNNELS_MAX, Upgrade, length_of};
use crate::call::messages::Messages;
use crate::call::open::{Answer, Open};
use crate::call::streams::Streams;
use crate::call::{CallState, UnreadWhy};
use crate::capture::KernelTime;
use crate::decode::{AnswerTo, Broken, Event, Framing, GapEffect, Head, Role, StartLine};
use crate::flow::{Piece, What};

impl Conversation {
    pub(super) fn response_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if !self.responses_waiting.is_empty() || (self.needs_request() && self.awaited().is_none()) {
            self.wait(piece, Role::Responses, cx);
            return;
        }
        self.feed_response(piece, cx);
        self.after_response(cx);
    }

    /// What follows an answer: requests that waited for it, and calls that are over.
    pub(super) fn after_response(&mut self, cx: &mut Context<'_>) {
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
    pub(super) fn needs_request(&mut self) -> bool {
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
    pub(super) fn awaited(&self) -> Option<usize> {
        self.open
            .iter()
            .position(|open| !matches!(open.answer, Answer::Done(_)))
    }

    pub(super) fn release_responses(&mut self, cx: &mut Context<'_>) {
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

    pub(super) fn feed_response(&mut self, mut piece: Piece, cx: &mut Context<'_>) {
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
                if let Some(index) = awaited.filter(|_| reason.is_loss()) {
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
                        let lane = self.lane_mut(direction);
                        lane.message_position = piece.position + (length - input.len()) as u64;
                        lane.message_at = piece.at;
                    }
                    let answer_to = awaited
                        .map(|index| self.open[index].answer_to)
                        .unwrap_or_default();
                    let Some(event) = decoder.next(&mut input, answer_to, &cx.limits.decode, cx.heads) else {
                        break;
                    };
                    self.response_event(event, Some(&piece), piece.at, Ended::Closed, cx);
                    if self.over {
                        piece.position += (length - input.len()) as u64;
                        piece.what = What::Chunk(input);
                        self.hand_over(piece, cx);
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

    pub(super) fn response_event(
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
            cx.stats.bytes_skipped = cx.stats.bytes_skipped.saturating_add(bytes);
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
            Event::Missed(bytes) => open.miss_response_body(bytes),
            Event::Anomaly(anomaly) => open.note(anomaly),
            Event::End if open.switching && self.upgrades == Upgrade::Http2 => self.upgrade(at, cx),
            Event::End if open.switching => {
                open.answer = Answer::Done(CallState::Switched);
                self.switch(cx);
            }
            Event::End => open.answer = Answer::Done(CallState::Answered),
            Event::Broken(why) => {
                open.response_body.cut();
                open.answer = Answer::Done(match (why, how) {
                    (Broken::Gap, _) | (_, Ended::Forgotten) => CallState::Gap,
                    (Broken::Ended | Broken::Unseen, Ended::Reset) => CallState::Reset,
                    (Broken::Ended, Ended::Closed | Ended::Unwatched) => CallState::Closed,
                    // A server that died closes in good order too: whether it had said all of it was not seen.
                    (Broken::Unseen, _) => CallState::Gap,
                    (Broken::Invalid | Broken::Overtaken, _) => CallState::Answered,
                });
                open.call.loss_overlap |= why == Broken::Gap;
            }
            Event::Head(_) | Event::Skipped(_) => {}
        }
    }

    pub(super) fn response_head(&mut self, head: Head, piece: &Piece, cx: &mut Context<'_>) {
        let StartLine::Response { status } = head.line else {
            return;
        };
        self.response_ignored = true;
        if (100..200).contains(&status) && status != 101 {
            return;
        }
        let starts_at = self.lane_mut(piece.direction).message_position;
        let Some(index) = self.pair(piece, starts_at) else {
            self.unpaired(0, cx);
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
        self.upgrades = match (status, open.answer_to) {
            (101, _) => upgrade(&head.headers),
            (_, AnswerTo::Connect) if open.switching => Upgrade::Tunnel,
            _ => Upgrade::Unknown,
        };
        open.set_response_headers(&head);
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

    /// The call that a response answers which begins at `starts_at`.
    pub(super) fn pair(&self, piece: &Piece, starts_at: u64) -> Option<usize> {
        let first = self.awaited()?;
        // A response can only begin after its request did. Judged where something was lost: by positions, or by time where
        // the other direction's is not known (TLS).
        let begun_before = |open: &Open| match piece.other_position as u32 {
            0 => open.call.request.head_at <= piece.at,
            other => other.wrapping_sub(open.position as u32).cast_signed() > 0,
        };
        if self.responses_lost {
            let mut begun = (first..self.open.len()).filter(|index| begun_before(&self.open[*index]));
            // Where the responses stood when a request was made, its own begins, if it waited for those before it. Of several
            // that were made at once, the first one's does.
            let next = |index: &usize| self.open[*index].call.response_position == Some(starts_at as u32);
            return begun.clone().find(next).or_else(|| begun.next_back());
        }
        (!self.requests_lost || begun_before(&self.open[first])).then_some(first)
    }

    /// The connection goes on in HTTP/2, and the call as its first stream (RFC 7540 §3.2).
    fn upgrade(&mut self, at: KernelTime, cx: &mut Context<'_>) {
        let begun = self.open.iter().position(|open| open.answer == Answer::Begun);
        let (Some(mut open), Some(requests)) =
            (begun.and_then(|begun| self.open.remove(begun)), self.requests)
        else {
            return self.switch(cx);
        };
        if !open.request_done {
            open.end_request(at, true, cx);
        }
        let mut streams = Streams::new(self.flow.clone(), requests, self.proxied_client);
        streams.upgraded(open);
        cx.stats.flows_http2 += 1;
        let later = std::mem::take(&mut self.requests_waiting);
        let answers = std::mem::take(&mut self.responses_waiting);
        self.switch(cx);
        self.end_others(cx);
        self.responses_waiting = answers;
        streams.pieces(later, cx);
        self.successor = Some(Successor::Streams(Box::new(streams)));
    }

    /// The rest of the chunk that switched protocols, and what waits behind it, is the successor's.
    fn hand_over(&mut self, rest: Piece, cx: &mut Context<'_>) {
        let waiting = std::mem::take(&mut self.responses_waiting);
        if let Some(successor) = &mut self.successor {
            if length_of(&rest) > 0 {
                successor.piece(rest, cx);
            }
            for piece in waiting {
                successor.piece(piece, cx);
            }
        }
    }

    /// Requests of HTTP/1 beside an upgraded one have no answers to come.
    pub(super) fn end_others(&mut self, cx: &mut Context<'_>) {
        for mut other in std::mem::take(&mut self.open) {
            if !other.request_done {
                other.end_request(other.last_at(), true, cx);
            }
            let state = match other.answer {
                Answer::Done(state) => state,
                _ => CallState::Closed,
            };
            other.report(state, cx);
        }
    }

    /// Another protocol takes the connection over.
    pub(super) fn switch(&mut self, cx: &mut Context<'_>) {
        let opener = self.open.iter().rfind(|open| open.switching);
        let mut successor = match (opener, self.requests, self.upgrades) {
            (Some(open), Some(requests), Upgrade::WebSocket) => {
                cx.stats.flows_websocket += 1;
                let messages = Messages::new(&open.call, requests, &open.call.raw.response_headers);
                Some(Successor::Messages(Box::new(messages)))
            }
            (Some(_), _, Upgrade::Tunnel) if self.tunnels < TUNNELS_MAX => {
                Some(Successor::Tunnel(Box::new(self.through_tunnel())))
            }
            _ => None,
        };
        if successor.is_none()
            && self.upgrades == Upgrade::Tunnel
            && let Some(process) = opener.map(|open| open.call.process.clone())
        {
            self.tell_unread(&process, UnreadWhy::Gap, cx);
        }
        let later = std::mem::take(&mut self.requests_waiting);
        let answers = std::mem::take(&mut self.responses_waiting);
        self.abandon();
        self.settle(cx);
        let Some(inner) = &mut successor else { return };
        self.end_others(cx);
        for piece in later {
            inner.piece(piece, cx);
        }
        self.responses_waiting = answers;
        self.successor = successor;
    }
}

/// What the answer to an upgrade says.
fn upgrade(headers: &[(Bytes, Bytes)]) -> Upgrade {
    let value = headers
        .iter()
        .find(|(name, _)| name.as_ref() == b"upgrade")
        .map(|(_, value)| value.trim_ascii().to_ascii_lowercase());
    match value.as_deref() {
        Some(b"h2c") => Upgrade::Http2,
        Some(b"websocket") => Upgrade::WebSocket,
        _ => Upgrade::Unknown,
    }
}
