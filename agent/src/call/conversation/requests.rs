//! The direction that carries the requests.

use super::{Context, Conversation, Side};
use crate::call::open::{Answer, Open, Place};
use crate::call::{CallDirection, Phase, UnreadWhy, facts};
use crate::capture::{Direction, KernelTime};
use crate::decode::{Anomaly, AnswerTo, Broken, Event, GapEffect, Head, Role};
use crate::flow::{Piece, What};

impl Conversation {
    pub(super) fn request_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if self.paused || !self.requests_waiting.is_empty() {
            self.wait(piece, Role::Requests, cx);
            return;
        }
        let mut piece = piece;
        if matches!(self.lane_mut(piece.direction).side, Side::Undecided { .. }) {
            if matches!(piece.what, What::Gap { .. }) {
                self.requests_are_lost(cx);
                self.tell_unread(&piece.process, UnreadWhy::Gap, cx);
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
                if reason.is_loss()
                    && let Some(open) = self.open.back_mut().filter(|open| !open.request_done)
                {
                    open.call.loss_overlap = true;
                }
                for event in events {
                    self.request_event(event, Some(&piece), piece.at, cx);
                }
                if effect == GapEffect::OutOfStep {
                    self.requests_are_lost(cx);
                    self.tell_unread(&piece.process, UnreadWhy::Gap, cx);
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
                    let Some(event) =
                        decoder.next(&mut input, AnswerTo::Ordinary, &cx.limits.decode, cx.heads)
                    else {
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

    pub(super) fn request_event(
        &mut self,
        event: Event,
        piece: Option<&Piece>,
        at: KernelTime,
        cx: &mut Context<'_>,
    ) {
        if let Event::Head(head) = event {
            if let Some(piece) = piece {
                self.request_head(head, piece, cx);
            }
            return;
        }
        if let Event::Skipped(bytes) = event {
            cx.stats.bytes_skipped = cx.stats.bytes_skipped.saturating_add(bytes);
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
            Event::Missed(bytes) => open.miss_request_body(bytes),
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

    pub(super) fn request_head(&mut self, head: Head, piece: &Piece, cx: &mut Context<'_>) {
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
        let known = head.known;
        let told = facts::request(head, piece.at, direction, &self.flow, &piece.process, cx);
        let (told, anomalies) = told;
        let position = self.lane_mut(piece.direction).message_position;
        let place = Place::of(position, told.request.head_bytes);
        let mut open = Box::new(Open::new(
            told, anomalies, direction, piece, place, may_switch, cx,
        ));
        if std::mem::take(&mut self.unsolicited) {
            open.note(Anomaly::UnsolicitedResponse);
        }
        open.call.flow = self.flow.clone();
        open.call.raw.proxied_client = self.proxied_client;
        open.call.stopped = self.decision_on(position);
        *cx.calls_open += 1;
        cx.stats.calls += 1;
        cx.known.tell_operation(known, &mut open.call, cx.redactor);
        (cx.out)(Phase::Head, &mut open.call);
        self.open.push_back(open);
    }
}
