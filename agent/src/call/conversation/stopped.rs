//! Requests that the gate has stopped.
//!
//! Where the process never gets the head, the gate's copy of it is all there is: it becomes a call that has ended. Where
//! the process has the bytes (it wrote them, or has read them already), they come as segments like any others, and the
//! decision is kept for the call that they make.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Context, Conversation};
use crate::call::open::{Open, Place};
use crate::call::{CallDirection, CallState, Phase, facts, semantics};
use crate::capture::{Decision, Direction, Hook, KernelTime, Stopped};
use crate::decode::{AnswerTo, Decoder, Event, Framing, Head, KnownHeads, Limits, Role, StartLine};
use crate::flow::{Piece, What};

/// How long the bytes of what was stopped on its way out may take to come by themselves.
const UNREAD_WAIT_NS: u64 = 1_000_000_000;

impl Conversation {
    pub(in crate::call) fn stopped(&mut self, mut stopped: Stopped, cx: &mut Context<'_>) {
        stopped.decision.earlier = match self.flow.joined_late && self.answered > 0 {
            // Some had their answers before anyone here looked, and answers keep their order.
            true => stopped.decision.earlier.min(self.open.len() as u32),
            false => stopped.decision.earlier.saturating_sub(self.answered),
        };
        if stopped.decision.hook != Hook::Ingress {
            // A segment may leave later than the call that wrote it returned: then its bytes were here first.
            let begins_here = |open: &&mut Box<Open>| open.position as u32 == stopped.position as u32;
            match self.open.iter_mut().find(begins_here) {
                Some(open) => open.call.stopped = Some(stopped.decision),
                None => {
                    let direction = stopped.direction;
                    self.decided = Some(Box::new(stopped));
                    self.read_strange(direction, cx);
                }
            }
            return;
        }
        tell(stopped, self.proxied_client, cx);
    }

    /// What the gate stopped on its way out, and the process never showed (io_uring, sendfile, a full ring; in TLS, a peek or a
    /// connection that is given up): the gate's
    /// copy is all there will be. `now`: the connection goes on, and the bytes may still come.
    pub(super) fn tell_unshown(&mut self, now: Option<KernelTime>, cx: &mut Context<'_>) {
        let is_due = |stopped: &mut Box<Stopped>| {
            stopped.decision.hook != Hook::Ingress
                && now.is_none_or(|now| now.since(stopped.at) >= UNREAD_WAIT_NS)
        };
        if let Some(stopped) = self.decided.take_if(is_due) {
            // Whatever comes of it now has been told.
            self.over = true;
            tell(*stopped, self.proxied_client, cx);
        }
    }

    /// What the gate has said of the request whose head begins here.
    pub(super) fn decision_on(&mut self, position: u64) -> Option<Decision> {
        let stopped = self
            .decided
            .take_if(|stopped| stopped.position as u32 == position as u32)?;
        Some(stopped.decision)
    }
}

/// A call of which there is nothing but what the gate has seen.
fn tell(stopped: Stopped, proxied_client: Option<SocketAddr>, cx: &mut Context<'_>) {
    let head = head_of(stopped.head.clone(), &cx.limits.decode);
    let is_lost = head.is_none();
    let head_bytes = stopped.head.len();
    let direction = match stopped.direction {
        Direction::Received => CallDirection::Inbound,
        Direction::Sent => CallDirection::Outbound,
    };
    let piece = Piece {
        flow: stopped.flow.clone(),
        process: stopped.process,
        direction: stopped.direction,
        at: stopped.at,
        position: stopped.position,
        other_position: 0,
        what: What::Chunk(stopped.head),
    };
    let (told, anomalies) = facts::request(
        head.unwrap_or_else(lost),
        stopped.at,
        direction,
        &stopped.flow,
        &piece.process,
        cx,
    );
    // Not what was made up for its end: whoever has taken in what there is has all that there was.
    let seen = u32::try_from(head_bytes).unwrap_or(u32::MAX);
    let place = Place::of(stopped.position, told.request.head_bytes.min(seen));
    let mut open = Open::new(told, anomalies, direction, &piece, place, false, cx);
    open.call.raw.proxied_client = proxied_client;
    open.call.stopped = Some(stopped.decision);
    if is_lost {
        // That it was stopped is known, and nothing more: neither what it was nor where it would have ended.
        open.call.loss_overlap = true;
        open.call.head_end = None;
    }
    *cx.calls_open += 1;
    cx.stats.calls += 1;
    semantics::tell(Phase::Head, &mut open.call, cx.redactor);
    (cx.out)(Phase::Head, &mut open.call);
    open.report(CallState::Stopped, cx);
}

/// What is known of a head whose pieces did not all come: nothing.
fn lost() -> Head {
    Head {
        line: StartLine::Request {
            method: Bytes::new(),
            registered: None,
            target: Bytes::new(),
        },
        headers: Default::default(),
        framing: Framing::None,
        anomalies: Vec::new(),
        bytes: 0,
        unknown_fields: 0,
        http10: false,
        close: true,
        upgrade: false,
        expect_continue: false,
        known: 0,
    }
}

/// The head, also if it was stopped before it was whole.
fn head_of(mut bytes: Bytes, limits: &Limits) -> Option<Head> {
    const REST: &[u8] = b"\r\n\r\n";
    let mut decoder = Decoder::new(Role::Requests, true);
    // It comes once.
    let mut heads = KnownHeads::default();
    decoder.chunk(true);
    loop {
        let event = decoder.next(&mut bytes, AnswerTo::Ordinary, limits, &mut heads);
        match event {
            Some(Event::Head(head)) => return Some(head),
            Some(_) => {}
            None => break,
        }
    }
    let mut rest = Bytes::from_static(REST);
    while let Some(event) = decoder.next(&mut rest, AnswerTo::Ordinary, limits, &mut heads) {
        if let Event::Head(head) = event {
            return Some(head);
        }
    }
    None
}
