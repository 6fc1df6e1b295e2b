//! A call that has not ended, with what is gathered for it.

use bytes::Bytes;
use smol_str::SmolStr;

use super::body::{self, Body};
use super::conversation::Context;
use super::facts::{self, Told};
use super::grpc::Grpc;
use super::{ApiCall, CallDirection, CallId, CallState, Phase, Protocol, Response, semantics};
use crate::capture::{Direction, FlowId, KernelTime};
use crate::decode::{Anomaly, AnswerTo, Head};
use crate::flow::Piece;

/// How far the answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Awaited,
    Begun,
    Done(CallState),
}

/// Where a request's head lies in its direction.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub position: u64,
    /// Behind its last byte.
    pub head_end: u64,
}

impl Place {
    /// Of a head that lies in one piece.
    pub(super) fn of(position: u64, head_bytes: u32) -> Self {
        Place {
            position,
            head_end: position + u64::from(head_bytes),
        }
    }
}

pub(super) struct Open {
    pub call: ApiCall,
    pub answer_to: AnswerTo,
    pub answer: Answer,
    /// The answer hands the connection to another protocol.
    pub switching: bool,
    /// The request asks for that.
    pub may_switch: bool,
    pub request_done: bool,
    pub request_body: Body,
    pub response_body: Body,
    request_media_type: SmolStr,
    response_media_type: SmolStr,
    /// Where the request's head begins.
    pub position: u64,
    /// Its answer may have been lost.
    pub gap: bool,
    /// It was reported; what is left only keeps the order.
    pub reported: bool,
    /// Bytes of its bodies in the shared budget.
    kept_bytes: usize,
    grpc: Option<Box<Grpc>>,
}

impl Open {
    pub(super) fn new(
        told: Told,
        anomalies: Vec<Anomaly>,
        direction: CallDirection,
        piece: &Piece,
        Place { position, head_end }: Place,
        upgrade: bool,
        cx: &Context<'_>,
    ) -> Self {
        let socket = matches!(piece.flow.id, FlowId::Socket(_));
        let grpc = Grpc::of(&told.raw.request_headers).or_else(|| {
            let path = told.raw.path.as_deref()?;
            let unknown = anomalies.contains(&Anomaly::UnknownFields);
            unknown.then(|| Grpc::presumed(&told.request.method, path, &told.raw.request_headers))?
        });
        let mut open = Open {
            call: ApiCall {
                id: call_id(cx.boot_id, piece, position),
                direction,
                protocol: Protocol::Http1,
                process: piece.process.clone(),
                flow: piece.flow.clone(),
                request: told.request,
                response: None,
                state: CallState::Pending,
                anomalies,
                operation: None,
                data: Vec::new(),
                tls: None,
                third_party: None,
                ambiguous: told.ambiguous,
                loss_overlap: false,
                response_position: (socket && piece.other_position != 0)
                    .then_some(piece.other_position as u32),
                head_end: socket.then_some(head_end as u32),
                stopped: None,
                raw: told.raw,
            },
            may_switch: upgrade || told.answer_to == AnswerTo::Connect,
            answer_to: told.answer_to,
            answer: Answer::Awaited,
            switching: false,
            request_done: false,
            request_body: Body::default(),
            response_body: Body::default(),
            request_media_type: told.media_type,
            response_media_type: SmolStr::default(),
            position,
            gap: false,
            reported: false,
            kept_bytes: 0,
            grpc,
        };
        open.tell_grpc();
        open
    }

    /// What it does in the words of gRPC.
    fn tell_grpc(&mut self) {
        if let Some(grpc) = self.grpc.as_ref().filter(|grpc| grpc.is_one()) {
            self.call.operation = Some(Box::new(grpc.operation(&self.call)));
        }
    }

    pub(super) fn note(&mut self, anomaly: Anomaly) {
        if !self.call.anomalies.contains(&anomaly) {
            self.call.anomalies.push(anomaly);
            self.call.ambiguous |= super::redact::is_ambiguous(anomaly);
        }
    }

    pub(super) fn add_request_body(&mut self, bytes: Bytes, cx: &mut Context<'_>) {
        if let Some(grpc) = &mut self.grpc {
            grpc.request_body(&bytes);
        }
        let kept = add(&mut self.request_body, bytes, self.reported, cx);
        self.kept_bytes += kept;
    }

    pub(super) fn add_response_body(&mut self, bytes: Bytes, cx: &mut Context<'_>) {
        if let Some(grpc) = &mut self.grpc {
            grpc.response_body(&bytes);
        }
        let kept = add(&mut self.response_body, bytes, self.reported, cx);
        self.kept_bytes += kept;
    }

    /// A request's body that was gathered before the call was known. `kept`: its bytes in the shared budget.
    pub(super) fn take_request_body(&mut self, body: Body, kept: usize) {
        self.request_body = body;
        self.kept_bytes += kept;
    }

    /// A response's, likewise.
    pub(super) fn take_response_body(&mut self, body: Body, kept: usize) {
        self.response_body = body;
        self.kept_bytes += kept;
    }

    /// So many bytes of the request's body were not captured.
    pub(super) fn miss_request_body(&mut self, bytes: u64) {
        self.request_body.miss(bytes);
        if let Some(grpc) = &mut self.grpc {
            grpc.request_missed(bytes);
        }
    }

    /// So many bytes of the answer's body were not captured.
    pub(super) fn miss_response_body(&mut self, bytes: u64) {
        self.response_body.miss(bytes);
        if let Some(grpc) = &mut self.grpc {
            grpc.response_missed(bytes);
        }
    }

    /// The request is whole, or as much of it as will come.
    pub(super) fn end_request(&mut self, at: KernelTime, cut: bool, cx: &mut Context<'_>) {
        if cut {
            self.request_body.cut();
        }
        self.request_done = true;
        if self.reported {
            return;
        }
        self.call.request.ended_at = at;
        self.call.request.body = self.request_body.facts(self.request_media_type.clone());
        self.call.raw.request_body = self.request_body.bytes();
        self.tell_grpc();
        body::decode(&mut self.call);
        semantics::tell(Phase::Request, &mut self.call, cx.redactor);
        (cx.out)(Phase::Request, &mut self.call);
        if std::mem::take(&mut self.call.raw.request_decoded) {
            self.call.raw.request_body = self.request_body.bytes();
        }
    }

    pub(super) fn begin_answer(&mut self, status: u16, head: &Head, started_at: KernelTime, at: KernelTime) {
        self.answer = Answer::Begun;
        for anomaly in &head.anomalies {
            self.note_of_response(*anomaly);
        }
        self.response_media_type = facts::media_type(&head.headers);
        self.call.response = Some(Response {
            status,
            body: Default::default(),
            head_at: at,
            first_byte_at: started_at,
            last_byte_at: at,
        });
    }

    /// A response's oddities are named on the call, but do not make the request ambiguous.
    pub(super) fn note_of_response(&mut self, anomaly: Anomaly) {
        if !self.call.anomalies.contains(&anomaly) {
            self.call.anomalies.push(anomaly);
        }
    }

    /// Its answer said that the connection is another protocol from here on, and the real one comes in that.
    pub(super) fn reopen(&mut self) {
        self.answer = Answer::Awaited;
        self.switching = false;
        self.may_switch = false;
        self.call.response = None;
        self.call.raw.response_headers = Default::default();
        self.call.raw.response_head = 0;
        self.response_body = Body::default();
    }

    pub(super) fn set_response_headers(&mut self, head: &Head) {
        if let Some(grpc) = &mut self.grpc {
            grpc.answered(&head.headers);
        }
        if !self.reported {
            self.call.raw.response_headers = head.headers.clone();
            self.call.raw.response_head = head.known;
        }
    }

    /// When the request was made, as far as it has come.
    pub(super) fn asked_at(&self) -> KernelTime {
        self.call.request.ended_at.max(self.call.request.head_at)
    }

    /// When its answer moved last.
    pub(super) fn last_at(&self) -> KernelTime {
        self.call
            .response
            .as_ref()
            .map_or(self.asked_at(), |response| response.last_byte_at)
    }

    pub(super) fn answered_at(&mut self, at: KernelTime) {
        if let Some(response) = &mut self.call.response {
            response.last_byte_at = response.last_byte_at.max(at);
        }
    }

    /// Hands the call on for the last time, and lets go of what it holds.
    pub(super) fn report(&mut self, state: CallState, cx: &mut Context<'_>) {
        if self.reported {
            return;
        }
        self.reported = true;
        self.tell_grpc();
        let call = &mut self.call;
        call.state = state;
        call.loss_overlap |= self.gap || cx.lost_at.is_some_and(|lost_at| lost_at >= call.request.head_at);
        if !self.request_done {
            call.request.body = self.request_body.facts(self.request_media_type.clone());
            call.request.body.truncated = true;
            call.raw.request_body = self.request_body.bytes();
        }
        if let Some(response) = &mut call.response {
            response.body = self.response_body.facts(self.response_media_type.clone());
            call.raw.response_body = self.response_body.bytes();
        }
        body::decode(call);
        semantics::tell(Phase::Complete, call, cx.redactor);
        let counter = match state {
            CallState::Answered => &mut cx.stats.answered,
            CallState::Closed | CallState::Pending => &mut cx.stats.closed,
            CallState::Reset => &mut cx.stats.reset,
            CallState::Gap => &mut cx.stats.gap,
            CallState::TimedOut => &mut cx.stats.timed_out,
            CallState::Switched => &mut cx.stats.switched,
            CallState::Stopped => &mut cx.stats.stopped,
        };
        *counter += 1;
        (cx.out)(Phase::Complete, call);
        *cx.bodies_bytes = cx.bodies_bytes.saturating_sub(self.kept_bytes);
        *cx.calls_open = cx.calls_open.saturating_sub(1);
        self.kept_bytes = 0;
        self.request_body = Body::default();
        self.response_body = Body::default();
        self.call.raw = Default::default();
    }
}

/// Adds within the shared budget; what it has no room for is counted.
pub(super) fn add(body: &mut Body, bytes: Bytes, reported: bool, cx: &mut Context<'_>) -> usize {
    if reported {
        return 0;
    }
    let budget = cx.limits.bodies_bytes_max.saturating_sub(*cx.bodies_bytes);
    let wanted = bytes
        .len()
        .min(cx.limits.body_bytes_max.saturating_sub(body.captured()));
    let kept = body.add(bytes, cx.limits.body_bytes_max, budget);
    cx.stats.body_bytes_given_up += (wanted - kept) as u64;
    *cx.bodies_bytes += kept;
    kept
}

/// The same call has the same name for every agent that sees it from this side.
fn call_id(boot_id: &[u8; 16], piece: &Piece, position: u64) -> CallId {
    let mut name = [0u8; 16 + 1 + 16 + 1 + 8];
    name[..16].copy_from_slice(boot_id);
    match piece.flow.id {
        FlowId::Socket(cookie) => name[17..25].copy_from_slice(&cookie.to_le_bytes()),
        FlowId::Tls {
            pid,
            object,
            generation,
        } => {
            name[16] = 1;
            name[17..21].copy_from_slice(&pid.to_le_bytes());
            name[21..29].copy_from_slice(&object.to_le_bytes());
            name[29..33].copy_from_slice(&generation.to_le_bytes());
        }
    }
    name[33] = u8::from(piece.direction == Direction::Sent);
    name[34..].copy_from_slice(&position.to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&name).as_bytes()[..16]);
    CallId(u128::from_be_bytes(id))
}
