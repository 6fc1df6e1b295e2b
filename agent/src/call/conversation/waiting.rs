//! What waits for the other direction, and what is done when it waits in vain or was lost.

use std::collections::VecDeque;

use super::{Context, Conversation, Side, length_of};
use crate::call::CallState;
use crate::call::open::Answer;
use crate::capture::KernelTime;
use crate::decode::Role;
use crate::flow::Piece;

impl Conversation {
    pub(super) fn requests_are_lost(&mut self, cx: &mut Context<'_>) {
        cx.stats.out_of_step += 1;
        self.requests_lost = true;
        // What waits may answer a request that was lost.
        self.drop_waiting_responses(cx);
    }

    pub(super) fn responses_are_lost(&mut self, cx: &mut Context<'_>) {
        cx.stats.out_of_step += 1;
        self.responses_lost = true;
        for open in self.open.iter_mut().filter(|open| open.answer == Answer::Awaited) {
            open.gap = true;
        }
    }

    pub(super) fn wait(&mut self, piece: Piece, role: Role, cx: &mut Context<'_>) {
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
    pub(super) fn wait_first(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let before = std::mem::take(&mut self.responses_waiting);
        self.wait(piece, Role::Responses, cx);
        self.responses_waiting.extend(before);
    }

    pub(super) fn expire(&mut self, now: KernelTime, cx: &mut Context<'_>) {
        if !self.responses_waiting.is_empty() && now.since(self.waiting_since) > cx.limits.waiting_ns {
            self.drop_waiting_responses(cx);
        }
    }

    /// What waited answers nothing that we know.
    pub(super) fn drop_waiting_responses(&mut self, cx: &mut Context<'_>) {
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
        self.unpaired(bytes, cx);
        self.lose_step(Role::Responses);
    }

    /// A response answers no request that is known, and `waiting_bytes` of it waited for one. Where none can have been
    /// lost, the server spoke unasked (a 408 on an idle connection): that is no loss, and the next call says so.
    pub(super) fn unpaired(&mut self, waiting_bytes: usize, cx: &mut Context<'_>) {
        self.unsolicited = !self.requests_lost;
        if self.unsolicited {
            cx.stats.responses_unsolicited += 1;
        } else {
            cx.stats.responses_unpaired += 1;
            cx.stats.waiting_bytes_given_up += waiting_bytes as u64;
        }
    }

    pub(super) fn give_up_waiting(&mut self, cx: &mut Context<'_>) {
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

    pub(super) fn lose_step(&mut self, role: Role) {
        let Some(direction) = self.direction_of(role) else {
            return;
        };
        match &mut self.lane_mut(direction).side {
            Side::Undecided { late, buffer } => {
                *late = true;
                *buffer = Vec::new();
            }
            Side::Http(decoder) => decoder.lose_step(),
            Side::Strange(_) | Side::Other => {}
        }
    }

    /// Reports the calls that are over, in order.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        while let Some(front) = self.open.front() {
            let Answer::Done(state) = front.answer else { return };
            if !front.request_done && !self.over {
                return;
            }
            if let Some(mut open) = self.open.pop_front() {
                self.answered += u32::from(state == CallState::Answered);
                open.report(state, cx);
            }
        }
    }
}
