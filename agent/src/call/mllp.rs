//! One flow's two directions in MLLP: messages gathered, and paired with their acknowledgements.
//!
//! Either side may send messages of its own, so a direction is no role: a message that carries MSA answers the one whose
//! control id it names, whatever comes between; any other is a call. Records of the two directions may come in either
//! order, so an answer waits, bounded, for what it answers. In enhanced mode a commit comes before the application's own
//! answer, if that is asked for. A flow that stops looking like MLLP is left again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

use super::body::Body;
use super::conversation::{Context, Ended, opposite};
use super::facts::Told;
use super::open::{self, Answer, Open, Place};
use super::semantics::hl7v2 as semantics;
use super::{ApiCall, AuthScheme, BodyFacts, CallDirection, CallState, Phase, Protocol, Raw, Request};
use crate::capture::{Direction, FlowInfo, KernelTime};
use crate::decode::{Anomaly, AnswerTo, Framing, Head, Hl7, MllpDecoder, MllpEnd, MllpEvent, StartLine};
use crate::flow::{Piece, What};

/// What stands for the method: rules name it in `methods`.
const METHOD: &str = "HL7";
const MEDIA_TYPE: &str = "application/hl7-v2";
/// Bytes of one direction that begin no message, after which the flow is something else.
const GARBAGE_BYTES_MAX: u64 = 64 * 1024;
/// Answers of one flow that wait for what they answer.
const EARLY_LEN_MAX: usize = 16;
/// How long the carriage return of an end block may take.
const ENDING_NS: u64 = 1_000_000_000;

#[derive(Default)]
struct Lane {
    decoder: MllpDecoder,
    message: Option<Gathered>,
    garbage_bytes: u64,
    /// The next message comes after bytes that were none.
    garbage: bool,
    /// Bytes are missing before what comes next, so that it may be in the middle of something.
    lost: bool,
}

/// A message as it comes in.
struct Gathered {
    body: Body,
    /// Bytes in the shared budget.
    kept: usize,
    /// Where it came from, without its bytes.
    from: Piece,
    position: u64,
    last_at: KernelTime,
    garbage: bool,
    end: MllpEnd,
}

/// A message that asks for an acknowledgement.
struct Asked {
    open: Box<Open>,
    direction: Direction,
    control: u64,
    /// MSH-16: the application's own answer follows the commit.
    wants_application: bool,
    committed_at: Option<KernelTime>,
}

pub(super) struct Mllp {
    flow: Arc<FlowInfo>,
    received: Lane,
    sent: Lane,
    open: VecDeque<Asked>,
    /// Answers whose message has not been seen, oldest first.
    early: VecDeque<Gathered>,
    /// Acknowledgements that may still come, and in which direction, of a batch that has its first: some engines answer each of
    /// its messages.
    singles: Option<(Direction, u32, KernelTime)>,
    left: bool,
}

impl Mllp {
    pub(super) fn new(flow: Arc<FlowInfo>) -> Self {
        Mllp {
            flow,
            received: Lane::default(),
            sent: Lane::default(),
            open: VecDeque::new(),
            early: VecDeque::new(),
            singles: None,
            left: false,
        }
    }

    /// It turned out to be something else.
    pub(super) fn is_left(&self) -> bool {
        self.left
    }

    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.open.iter().map(|asked| &asked.open.call)
    }

    pub(super) fn info(&mut self, flow: Arc<FlowInfo>) {
        for asked in &mut self.open {
            asked.open.call.flow = flow.clone();
        }
        self.flow = flow;
    }

    pub(super) fn piece(&mut self, mut piece: Piece, cx: &mut Context<'_>) {
        if !Arc::ptr_eq(&piece.flow, &self.flow) {
            self.info(piece.flow.clone());
        }
        self.expire(piece.at, cx);
        let direction = piece.direction;
        match &mut piece.what {
            What::Gap { bytes, reason } => {
                let lost = reason.is_loss();
                let event = self.lane(direction).decoder.gap(*bytes, !lost);
                if lost {
                    self.lane(direction).lost = true;
                    cx.stats.out_of_step += 1;
                    for asked in self.open.iter_mut().filter(|asked| asked.direction != direction) {
                        asked.open.gap = true;
                    }
                }
                if let Some(event) = event {
                    self.event(event, &piece, 0, cx);
                }
            }
            What::Chunk(bytes) => {
                let mut input = std::mem::take(bytes);
                let length = input.len();
                while let Some(event) = self.lane(direction).decoder.next(&mut input) {
                    self.event(event, &piece, length - input.len(), cx);
                }
            }
        }
        if self.lane(direction).garbage_bytes > GARBAGE_BYTES_MAX {
            self.left = true;
            self.end(piece.at, Ended::Forgotten, cx);
        }
    }

    pub(super) fn tick(&mut self, at: KernelTime, cx: &mut Context<'_>) {
        self.expire(at, cx);
        for direction in [Direction::Received, Direction::Sent] {
            let lane = self.lane(direction);
            let due = lane
                .message
                .as_ref()
                .is_some_and(|message| at.since(message.last_at) > ENDING_NS);
            if due && lane.decoder.is_ending() {
                self.force(direction, false, cx);
            }
        }
        let mut index = 0;
        while let Some(asked) = self.open.get(index) {
            let state = match (asked.committed_at, asked.open.gap) {
                (Some(since), _) if at.since(since) > cx.limits.unfinished_ns => CallState::Answered,
                (Some(_), _) => {
                    index += 1;
                    continue;
                }
                (None, gap) if at.since(asked.open.asked_at()) > cx.limits.answer_ns => match gap {
                    true => CallState::Gap,
                    false => CallState::TimedOut,
                },
                (None, _) => {
                    index += 1;
                    continue;
                }
            };
            self.report(index, state, cx);
        }
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        for direction in [Direction::Received, Direction::Sent] {
            self.force(direction, true, cx);
        }
        while let Some(answer) = self.early.pop_front() {
            self.in_order(answer, cx);
        }
        while let Some(asked) = self.open.front() {
            let state = match how {
                _ if asked.committed_at.is_some() => CallState::Answered,
                _ if asked.open.gap || how == Ended::Forgotten => CallState::Gap,
                Ended::Reset => CallState::Reset,
                Ended::Unwatched => CallState::Pending,
                Ended::Closed | Ended::Forgotten => CallState::Closed,
            };
            self.report(0, state, cx);
        }
        let _ = at;
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        }
    }

    /// `used`: bytes of the piece that the decoder has taken.
    fn event(&mut self, event: MllpEvent, piece: &Piece, used: usize, cx: &mut Context<'_>) {
        let lane = self.lane(piece.direction);
        match event {
            MllpEvent::Start => {
                lane.garbage_bytes = 0;
                lane.lost = false;
                let from = Piece {
                    what: What::Chunk(Bytes::new()),
                    ..piece.clone()
                };
                lane.message = Some(Gathered {
                    body: Body::default(),
                    kept: 0,
                    // The start byte and three letters stand before this.
                    position: (piece.position + used as u64).saturating_sub(4),
                    last_at: piece.at,
                    garbage: std::mem::take(&mut lane.garbage),
                    end: MllpEnd::Block,
                    from,
                });
            }
            MllpEvent::Data(bytes) => {
                if let Some(message) = &mut lane.message {
                    message.last_at = piece.at;
                    message.kept += open::add(&mut message.body, bytes, false, cx);
                }
            }
            MllpEvent::Missed(bytes) => {
                if let Some(message) = &mut lane.message {
                    message.body.miss(bytes);
                }
            }
            MllpEvent::Skipped(bytes) => {
                cx.stats.bytes_skipped = cx.stats.bytes_skipped.saturating_add(bytes);
                lane.garbage_bytes = lane.garbage_bytes.saturating_add(bytes);
                lane.garbage |= !lane.lost;
            }
            MllpEvent::End(end) => {
                if let Some(mut message) = lane.message.take() {
                    message.end = end;
                    message.last_at = message.last_at.max(piece.at);
                    self.message(message, cx);
                }
            }
        }
    }

    /// The message under way ends here.
    fn force(&mut self, direction: Direction, closed: bool, cx: &mut Context<'_>) {
        let lane = self.lane(direction);
        if let (Some(MllpEvent::End(end)), Some(mut message)) =
            (lane.decoder.end(closed), lane.message.take())
        {
            message.end = end;
            self.message(message, cx);
        }
    }

    fn message(&mut self, mut message: Gathered, cx: &mut Context<'_>) {
        let bytes = message.body.bytes();
        let Some(read) = Hl7::parse(&bytes) else {
            message.let_go(cx);
            return;
        };
        match read.answers {
            None => self.ask(message, &read, cx),
            Some((_, control)) => self.answer(message, &read, control, cx),
        }
    }

    fn ask(&mut self, message: Gathered, read: &Hl7<'_>, cx: &mut Context<'_>) {
        if self.open.len() >= cx.limits.flow_calls_max || *cx.calls_open >= cx.limits.calls_max {
            cx.stats.calls_given_up += 1;
            message.let_go(cx);
            return;
        }
        let direction = message.from.direction;
        let called = match direction {
            Direction::Received => CallDirection::Inbound,
            Direction::Sent => CallDirection::Outbound,
        };
        let told = told(read, message.from.at, cx);
        let place = Place::of(message.position, told.request.head_bytes);
        let mut open = Box::new(Open::new(
            told,
            message.anomalies(read),
            called,
            &message.from,
            place,
            false,
            cx,
        ));
        let cut = message.is_cut();
        open.call.protocol = Protocol::Mllp;
        open.call.flow = self.flow.clone();
        open.call.loss_overlap = message.end == MllpEnd::Gap;
        open.call.operation = Some(Box::new(semantics::asked(read, cx.redactor)));
        open.call.request.ended_at = message.last_at;
        *cx.calls_open += 1;
        cx.stats.calls += 1;
        (cx.out)(Phase::Head, &mut open.call);
        open.take_request_body(message.body, message.kept);
        open.end_request(message.last_at, cut, cx);
        self.open.push_back(Asked {
            open,
            direction,
            control: control(read.control_id, cx),
            wants_application: matches!(read.acknowledge[1], b"AL" | b"SU"),
            committed_at: None,
        });
        // Its answer may be here already.
        let waiting = self.early.len();
        for _ in 0..waiting {
            if let Some(answer) = self.early.pop_front() {
                match answer.from.direction == direction {
                    true => self.early.push_back(answer),
                    false => self.message(answer, cx),
                }
            }
        }
    }

    fn answer(&mut self, message: Gathered, read: &Hl7<'_>, answered: &[u8], cx: &mut Context<'_>) {
        let direction = message.from.direction;
        let named = control(answered, cx);
        if let Some(index) = self.asked(direction, named) {
            self.pair(index, message, read, cx);
            return;
        }
        // What it answers may lack its end block, and be known by this to be whole.
        let other = opposite(direction);
        let under_way = self.lane(other).message.as_mut().is_some_and(|under_way| {
            let bytes = under_way.body.bytes();
            Hl7::parse(&bytes).is_some_and(|read| control(read.control_id, cx) == named)
        });
        if under_way {
            self.force(other, false, cx);
            if let Some(index) = self.asked(direction, named) {
                self.pair(index, message, read, cx);
                return;
            }
        }
        // An answer of the other side may be a message of its own, which this one acknowledges.
        let deferred = self.early.iter_mut().position(|early| {
            let bytes = early.body.bytes();
            early.from.direction == other
                && Hl7::parse(&bytes).is_some_and(|read| control(read.control_id, cx) == named)
        });
        if let Some(early) = deferred.and_then(|index| self.early.remove(index)) {
            let mut early = early;
            let bytes = early.body.bytes();
            if let Some(read) = Hl7::parse(&bytes) {
                self.ask(early, &read, cx);
            }
            if let Some(index) = self.asked(direction, named) {
                self.pair(index, message, read, cx);
                return;
            }
        }
        if self.early.len() >= EARLY_LEN_MAX
            && let Some(oldest) = self.early.pop_front()
        {
            self.in_order(oldest, cx);
        }
        self.early.push_back(message);
    }

    /// The message that an answer in this direction names.
    fn asked(&self, direction: Direction, named: u64) -> Option<usize> {
        self.open
            .iter()
            .position(|asked| asked.direction != direction && asked.control == named)
    }

    fn pair(&mut self, index: usize, message: Gathered, read: &Hl7<'_>, cx: &mut Context<'_>) {
        let Some(asked) = self.open.get_mut(index) else {
            return;
        };
        let open = &mut asked.open;
        let entries = open.call.operation.as_ref().map_or(0, |known| known.entries);
        if entries > 1 && !read.is_batch {
            self.singles = Some((message.from.direction, entries - 1, message.last_at));
        }
        let commit = read.answers.is_some_and(|(code, _)| code == b"CA");
        if let Some(operation) = &mut open.call.operation {
            semantics::answered(operation, read);
        }
        open.begin_answer(
            0,
            &head(message.anomalies(read)),
            message.from.at,
            message.last_at,
        );
        open.call.loss_overlap |= message.end == MllpEnd::Gap;
        // Of a commit and an answer, the answer is kept.
        open.take_response_body(message.body, message.kept);
        if commit && asked.wants_application {
            asked.committed_at = Some(message.last_at);
            return;
        }
        self.report(index, CallState::Answered, cx);
    }

    /// An answer that names nothing that is known: it can only be to the one message that waits for one.
    fn in_order(&mut self, mut message: Gathered, cx: &mut Context<'_>) {
        let direction = message.from.direction;
        let patience = cx.limits.unfinished_ns;
        if let Some((_, left, since)) = self.singles.as_mut().filter(|(of, left, since)| {
            *of == direction && *left > 0 && message.from.at.since(*since) <= patience
        }) {
            *left -= 1;
            *since = message.last_at;
            return message.let_go(cx);
        }
        let mut waiting = self
            .open
            .iter()
            .enumerate()
            .filter(|(_, asked)| asked.direction != direction && asked.committed_at.is_none());
        let first = match (waiting.next(), waiting.next()) {
            (Some((index, asked)), None) if asked.open.call.request.head_at <= message.from.at => Some(index),
            _ => None,
        };
        let bytes = message.body.bytes();
        match (first, Hl7::parse(&bytes)) {
            (Some(index), Some(read)) => {
                self.open[index].open.note(Anomaly::WrongAcknowledgement);
                self.pair(index, message, &read, cx);
            }
            _ => {
                cx.stats.responses_unpaired += 1;
                message.let_go(cx);
            }
        }
    }

    fn expire(&mut self, now: KernelTime, cx: &mut Context<'_>) {
        while let Some(answer) = self.early.front_mut() {
            let bytes = answer.body.bytes();
            // One that asks for an acknowledgement itself may still get it.
            let asks = Hl7::parse(&bytes).is_some_and(|read| matches!(read.acknowledge[0], b"AL" | b"SU"));
            let patience = match asks {
                true => cx.limits.unfinished_ns,
                false => cx.limits.waiting_ns,
            };
            if now.since(answer.last_at) <= patience {
                return;
            }
            if let Some(answer) = self.early.pop_front() {
                self.in_order(answer, cx);
            }
        }
    }

    fn report(&mut self, index: usize, state: CallState, cx: &mut Context<'_>) {
        if let Some(mut asked) = self.open.remove(index) {
            asked.open.answer = Answer::Done(state);
            asked.open.report(state, cx);
        }
    }
}

impl Gathered {
    /// Some of it is missing, and nobody knows how much.
    fn is_cut(&self) -> bool {
        matches!(self.end, MllpEnd::Gap | MllpEnd::Closed)
    }

    fn anomalies(&self, read: &Hl7<'_>) -> Vec<Anomaly> {
        let unended = matches!(self.end, MllpEnd::Loose | MllpEnd::Open);
        [
            (unended, Anomaly::InvalidEndBlock),
            (self.garbage, Anomaly::Garbage),
            (read.bad_separators, Anomaly::InvalidSeparators),
            (read.bad_segments > 0 && !self.is_cut(), Anomaly::InvalidSegment),
            (read.line_feeds, Anomaly::InvalidSegmentEnd),
        ]
        .into_iter()
        .filter_map(|(is, anomaly)| is.then_some(anomaly))
        .collect()
    }

    /// Nothing comes of it.
    fn let_go(self, cx: &mut Context<'_>) {
        *cx.bodies_bytes = cx.bodies_bytes.saturating_sub(self.kept);
    }
}

/// Stands for a control id while messages wait for each other.
fn control(id: &[u8], cx: &Context<'_>) -> u64 {
    cx.redactor.witness(id)
}

fn told(read: &Hl7<'_>, at: KernelTime, cx: &mut Context<'_>) -> Told {
    Told {
        request: Request {
            method: SmolStr::new_static(METHOD),
            path: String::new(),
            host: String::new(),
            auth: AuthScheme::None,
            credentials: None,
            trace_id: (!read.control_id.is_empty()).then(|| cx.redactor.request_id(read.control_id)),
            body: BodyFacts::default(),
            query_parameters: 0,
            head_bytes: u32::try_from(read.head_bytes).unwrap_or(u32::MAX),
            head_at: at,
            ended_at: at,
        },
        raw: Raw {
            method: Bytes::from_static(METHOD.as_bytes()),
            ..Raw::default()
        },
        ambiguous: false,
        answer_to: AnswerTo::Ordinary,
        media_type: SmolStr::new_static(MEDIA_TYPE),
    }
}

/// An answer has no head of its own; what is told of one is told the same way.
fn head(anomalies: Vec<Anomaly>) -> Head {
    Head {
        line: StartLine::Response { status: 0 },
        headers: Arc::new(vec![(
            Bytes::from_static(b"content-type"),
            Bytes::from_static(MEDIA_TYPE.as_bytes()),
        )]),
        framing: Framing::None,
        anomalies,
        bytes: 0,
        unknown_fields: 0,
        http10: false,
        close: false,
        upgrade: false,
        expect_continue: false,
        known: 0,
    }
}
