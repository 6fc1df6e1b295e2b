//! A flow that has become WebSocket: each message is a call of the endpoint that was upgraded.
//!
//! A message has no answer. What the client says is the request's body, what the server says the response's; either way
//! the call has the path, the host and the authentication of the request that opened the connection. It must not know
//! frames: that is `decode`.

use std::sync::Arc;

use bytes::Bytes;

use super::conversation::{Context, Ended};
use super::facts::Told;
use super::open::{Open, Place};
use super::options::{UNREAD_LEN_MAX, Unread, UnreadWhy};
use super::{ApiCall, BodyFacts, CallDirection, CallState, Phase, Protocol, Raw, Request};
use crate::capture::{Direction, FlowInfo, KernelTime};
use crate::decode::{
    Anomaly, AnswerTo, Framing, GapEffect, Head, Said, StartLine, WebSocketDecoder as Decoder,
};
use crate::flow::{Piece, What};

/// What every message has from the request that opened the connection.
struct Opened {
    request: Request,
    raw: Raw,
    ambiguous: bool,
    direction: CallDirection,
}

/// A message in progress, by the direction that it comes in.
#[derive(Default)]
struct Lane {
    open: Option<Box<Open>>,
}

/// A conversation in WebSocket.
pub(super) struct Messages {
    flow: Arc<FlowInfo>,
    opened: Opened,
    /// The direction that carries what the client says.
    requests: Direction,
    decoders: [Decoder; 2],
    lanes: [Lane; 2],
    held_bytes: usize,
    unread_told: bool,
}

impl Messages {
    /// `call` has opened the connection; `headers` are its answer's.
    pub(super) fn new(call: &ApiCall, requests: Direction, headers: &[(Bytes, Bytes)]) -> Self {
        let deflate = headers.iter().any(|(name, value)| {
            name.as_ref() == b"sec-websocket-extensions"
                && value
                    .split(|byte| matches!(byte, b',' | b';'))
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate"))
        });
        Messages {
            flow: call.flow.clone(),
            opened: Opened {
                request: call.request.clone(),
                raw: Raw {
                    request_body: Bytes::new(),
                    response_headers: Default::default(),
                    response_head: 0,
                    response_body: Bytes::new(),
                    // What the messages say has not been.
                    request_decoded: false,
                    response_decoded: false,
                    looked_at: false,
                    ..call.raw.clone()
                },
                ambiguous: call.ambiguous,
                direction: call.direction,
            },
            requests,
            decoders: [Decoder::new(deflate), Decoder::new(deflate)],
            lanes: [Lane::default(), Lane::default()],
            held_bytes: 0,
            unread_told: false,
        }
    }

    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.lanes
            .iter()
            .filter_map(|lane| lane.open.as_ref())
            .map(|open| &open.call)
    }

    pub(super) fn info(&mut self, flow: Arc<FlowInfo>) {
        for open in self.lanes.iter_mut().filter_map(|lane| lane.open.as_mut()) {
            open.call.flow = flow.clone();
        }
        self.flow = flow;
    }

    pub(super) fn piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if !Arc::ptr_eq(&piece.flow, &self.flow) {
            self.info(piece.flow.clone());
        }
        let by_client = piece.direction == self.requests;
        let index = usize::from(by_client);
        let (decoder, lane) = (&mut self.decoders[index], &mut self.lanes[index]);
        let (opened, flow) = (&self.opened, &self.flow);
        let mut said = |said: Said| lane.said(said, by_client, opened, flow, &piece, cx);
        let effect = match &piece.what {
            What::Chunk(bytes) => {
                decoder.take(bytes.clone(), piece.position, &mut said);
                GapEffect::Within
            }
            What::Gap { bytes, .. } => decoder.gap(*bytes, &mut said),
        };
        if effect == GapEffect::OutOfStep || (decoder.is_lost() && lane.open.is_some()) {
            cx.stats.out_of_step += 1;
            if let Some(mut open) = lane.open.take() {
                open.gap = true;
                open.call.loss_overlap = true;
                finish(&mut open, by_client, piece.at, CallState::Gap, cx);
            }
            if by_client
                && !std::mem::replace(&mut self.unread_told, true)
                && cx.unread.len() < UNREAD_LEN_MAX
            {
                cx.unread.push(Unread {
                    flow: self.flow.clone(),
                    process: piece.process.clone(),
                    why: UnreadWhy::Gap,
                });
            }
        }
        self.account(cx);
    }

    /// Inflaters are large; beyond what all may hold, compressed messages are counted and not read.
    fn account(&mut self, cx: &mut Context<'_>) {
        let held: usize = self.decoders.iter().map(Decoder::held_bytes).sum();
        *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(self.held_bytes) + held;
        self.held_bytes = held;
        if *cx.decoders_bytes > cx.limits.decoders_bytes_max && held > 0 {
            cx.stats.decoders_given_up += 1;
            self.decoders.iter_mut().for_each(Decoder::stop_inflating);
            let left: usize = self.decoders.iter().map(Decoder::held_bytes).sum();
            *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(held) + left;
            self.held_bytes = left;
        }
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(self.held_bytes);
        self.held_bytes = 0;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(mut open) = lane.open.take() {
                let state = match how {
                    Ended::Closed => CallState::Closed,
                    Ended::Reset => CallState::Reset,
                    Ended::Forgotten => CallState::Gap,
                    Ended::Unwatched => CallState::Pending,
                };
                finish(&mut open, index == 1, at, state, cx);
            }
        }
    }
}

impl Lane {
    fn said(
        &mut self,
        said: Said,
        by_client: bool,
        opened: &Opened,
        flow: &Arc<FlowInfo>,
        piece: &Piece,
        cx: &mut Context<'_>,
    ) {
        match said {
            Said::Begins { position, .. } => {
                self.open = None;
                if *cx.calls_open >= cx.limits.calls_max {
                    cx.stats.calls_given_up += 1;
                    return;
                }
                self.open = Some(begin(position, by_client, opened, flow, piece, cx));
            }
            Said::Content(bytes) => {
                if let Some(open) = &mut self.open {
                    match by_client {
                        true => open.add_request_body(bytes, cx),
                        false => open.add_response_body(bytes, cx),
                    }
                }
            }
            Said::Missed(bytes) => {
                if let Some(open) = &mut self.open {
                    match by_client {
                        true => open.miss_request_body(bytes),
                        false => open.miss_response_body(bytes),
                    }
                }
            }
            Said::Ends => {
                if let Some(mut open) = self.open.take() {
                    finish(&mut open, by_client, piece.at, CallState::Switched, cx);
                }
            }
            Said::Anomaly(anomaly) => {
                if let Some(open) = &mut self.open {
                    match by_client {
                        true => open.note(anomaly),
                        false => open.note_of_response(anomaly),
                    }
                }
            }
            Said::Closes => {}
        }
    }
}

fn begin(
    position: u64,
    by_client: bool,
    opened: &Opened,
    flow: &Arc<FlowInfo>,
    piece: &Piece,
    cx: &mut Context<'_>,
) -> Box<Open> {
    let told = Told {
        request: Request {
            body: BodyFacts::default(),
            head_bytes: 0,
            head_at: piece.at,
            ended_at: piece.at,
            ..opened.request.clone()
        },
        raw: opened.raw.clone(),
        ambiguous: opened.ambiguous,
        answer_to: AnswerTo::Ordinary,
        media_type: Default::default(),
    };
    let place = Place {
        position,
        head_end: position,
    };
    let mut open = Box::new(Open::new(
        told,
        Vec::<Anomaly>::new(),
        opened.direction,
        piece,
        place,
        false,
        cx,
    ));
    open.call.protocol = Protocol::WebSocket;
    open.call.flow = flow.clone();
    open.call.head_end = None;
    if !by_client {
        // Nobody asked for it.
        open.call.response_position = None;
    }
    *cx.calls_open += 1;
    cx.stats.calls += 1;
    (cx.out)(Phase::Head, &mut open.call);
    if !by_client {
        open.end_request(piece.at, false, cx);
        let head = Head {
            line: StartLine::Response { status: 101 },
            headers: Default::default(),
            framing: Framing::None,
            anomalies: Vec::new(),
            bytes: 0,
            unknown_fields: 0,
            http10: false,
            close: false,
            upgrade: false,
            expect_continue: false,
            known: 0,
        };
        open.begin_answer(101, &head, piece.at, piece.at);
    }
    open
}

fn finish(open: &mut Open, by_client: bool, at: KernelTime, state: CallState, cx: &mut Context<'_>) {
    let cut = state != CallState::Switched;
    if by_client {
        open.end_request(at, cut, cx);
    } else {
        open.answered_at(at);
        if cut {
            open.response_body.cut();
        }
    }
    open.report(state, cx);
}
