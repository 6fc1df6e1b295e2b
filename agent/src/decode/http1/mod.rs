//! HTTP/1 (RFC 9112): one direction's bytes → [`Event`]s.
//!
//! Pull-driven: the caller owns the chunk and takes one event at a time, because what a response means depends on
//! the request it answers, and one chunk can hold many responses. A head that lies whole in one chunk is parsed
//! where it lies; else its bytes are gathered and each is looked at once, however small the pieces are.
//!
//! It must not know the other direction, nor what a call is.

mod chunked;
mod head;
mod known;

use bytes::{Buf, Bytes};

pub use self::known::{ByHead, KnownHeads};
use super::scan::head_end;
use super::sniff::{Sniffed, begins_message, skip_empty_lines, sniff};
use super::{Anomaly, AnswerTo, Broken, Event, Framing, Head, Limits, Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between messages, or in a head of which `buffer` holds what has come.
    Start,
    /// A body of known length.
    Length {
        left: u64,
    },
    /// A body that ends with the connection.
    Close,
    /// A body whose end nobody can tell.
    Unknown,
    /// A line with a chunk's size.
    ChunkSize,
    ChunkData {
        left: u64,
    },
    /// The CRLF after a chunk's data.
    ChunkEnd,
    /// Trailer fields and the empty line, so many bytes of them so far.
    Trailers {
        bytes: usize,
    },
    /// A chunked body in which a gap swallowed chunk sizes: it goes on until its last chunk or the next message. `buffer` holds
    /// the last bytes since the last gap.
    Blind,
    /// The message is whole; `End` comes next.
    Ending,
    /// The framing is invalid; `Broken` comes next.
    Breaking,
    /// Out of step: skips until something that is plainly a message begins.
    Resync,
    /// Another protocol from here on.
    Opaque,
}

/// What a gap did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapEffect {
    /// The message in progress goes on behind it; no message was lost.
    Within,
    /// Messages may have been lost.
    OutOfStep,
}

/// Decoder of one direction.
pub struct Decoder {
    role: Role,
    state: State,
    /// The chunk that `next` is called for is a new one, and the other direction moved since the one before.
    fresh_turn: bool,
    /// The request in progress was answered before its body began.
    declined: bool,
    /// The message before announced the connection's end.
    close_seen: bool,
    /// Bytes that began no message came since the last one.
    garbage_seen: bool,
    /// A client has sent what two servers may read differently, and nobody knows where its next request begins: whatever
    /// line looks like one may be one.
    hides: bool,
    /// The message in progress hands the connection to another protocol.
    switching: bool,
    noted_bare_line_feed: bool,
    noted_extension: bool,
    expects_continue: bool,
    body_began: bool,
    /// How far `buffer` was searched for the end of a head.
    scanned: usize,
    /// The beginning of something whose end has not come.
    buffer: Vec<u8>,
}

impl Decoder {
    /// `in_step` is false for a direction that is joined in the middle.
    pub fn new(role: Role, in_step: bool) -> Self {
        Decoder {
            role,
            state: if in_step { State::Start } else { State::Resync },
            fresh_turn: false,
            declined: false,
            close_seen: false,
            garbage_seen: false,
            hides: false,
            switching: false,
            noted_bare_line_feed: false,
            noted_extension: false,
            expects_continue: false,
            body_began: false,
            scanned: 0,
            buffer: Vec::new(),
        }
    }

    /// For requests; what came before the first was none.
    pub fn behind_garbage() -> Self {
        Decoder {
            garbage_seen: true,
            hides: true,
            ..Self::new(Role::Requests, true)
        }
    }

    /// Which half it decodes.
    pub fn role(&self) -> Role {
        self.role
    }

    /// A new chunk begins. `turn`: the other direction moved since the last chunk of this one, or nobody knows; only
    /// then may something that looks like a message be one after a loss.
    pub fn chunk(&mut self, turn: bool) {
        self.fresh_turn = turn;
    }

    /// At a message boundary, with nothing begun.
    pub fn is_between(&self) -> bool {
        self.state == State::Start && self.buffer.is_empty()
    }

    /// The next bytes begin a message, or go on with its head.
    pub fn is_at_head(&self) -> bool {
        self.state == State::Start
    }

    /// Out of step: skips until a message plainly begins.
    pub fn is_out_of_step(&self) -> bool {
        self.state == State::Resync
    }

    /// The direction carries something else from here on.
    pub fn is_opaque(&self) -> bool {
        self.state == State::Opaque
    }

    /// Another protocol takes over.
    pub fn switch(&mut self) {
        self.state = State::Opaque;
        self.buffer = Vec::new();
    }

    /// Nothing that comes next can be told from the middle of a message: skips until one plainly begins.
    pub fn lose_step(&mut self) {
        if self.state != State::Opaque {
            self.reset_message();
            self.state = State::Resync;
        }
    }

    /// The request was answered before its body began, so the body may never come (`Expect: 100-continue`).
    pub fn decline_body(&mut self) {
        self.declined = self.expects_continue && !self.body_began;
    }

    /// Takes the next event out of `input`. `None`: all of it was used, and more is needed. Call it until then,
    /// also when `input` is empty.
    pub fn next(
        &mut self,
        input: &mut Bytes,
        answer_to: AnswerTo,
        limits: &Limits,
        heads: &mut KnownHeads,
    ) -> Option<Event> {
        loop {
            let fresh_turn = !input.is_empty() && std::mem::take(&mut self.fresh_turn);
            match self.state {
                State::Ending => return Some(self.finish(Event::End)),
                State::Breaking => {
                    self.hides = self.role == Role::Requests;
                    return Some(self.break_off(Broken::Invalid));
                }
                _ if input.is_empty() => return None,
                State::Start => return self.start(input, answer_to, limits, heads),
                State::Length { .. } | State::ChunkData { .. } | State::Unknown
                    if fresh_turn
                        && (self.declined || self.state == State::Unknown)
                        && begins_message(input, self.role) =>
                {
                    self.declined = false;
                    self.reset_message();
                    self.state = State::Start;
                    return Some(Event::Broken(Broken::Overtaken));
                }
                State::Length { left } => {
                    let take = left.min(input.len() as u64);
                    self.body_began = true;
                    self.state = match left - take {
                        0 => State::Ending,
                        left => State::Length { left },
                    };
                    return Some(Event::Body(input.split_to(take as usize)));
                }
                State::Close | State::Unknown => {
                    self.body_began = true;
                    return Some(Event::Body(std::mem::take(input)));
                }
                State::ChunkData { left } => {
                    let take = left.min(input.len() as u64);
                    self.body_began = true;
                    self.state = match left - take {
                        0 => State::ChunkEnd,
                        left => State::ChunkData { left },
                    };
                    return Some(Event::Body(input.split_to(take as usize)));
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers { .. } => {
                    if let Some(event) = self.chunk_framing(input, limits) {
                        return Some(event);
                    }
                }
                State::Blind => {
                    if fresh_turn && begins_message(input, self.role) {
                        return Some(self.finish(Event::End));
                    }
                    let bytes = input.len();
                    self.buffer
                        .extend_from_slice(&input[bytes.saturating_sub(LAST_CHUNK.len())..]);
                    let before = self.buffer.len().saturating_sub(LAST_CHUNK.len());
                    self.buffer.drain(..before);
                    if ends_chunked(input) || ends_chunked(&self.buffer) {
                        self.state = State::Ending;
                    }
                    input.clear();
                    return Some(Event::Missed(bytes as u64));
                }
                State::Resync => {
                    if fresh_turn && begins_message(input, self.role) {
                        self.state = State::Start;
                        continue;
                    }
                    return Some(self.skip(input));
                }
                State::Opaque => {
                    input.clear();
                    return None;
                }
            }
        }
    }

    /// Bytes are missing here; `bytes` is `None` where their number is not known.
    pub fn gap(&mut self, bytes: Option<u64>, out: &mut dyn FnMut(Event)) -> GapEffect {
        match (self.state, bytes) {
            (State::Opaque, _) => GapEffect::Within,
            (State::Close | State::Unknown | State::Blind, bytes) => {
                self.body_began = true;
                self.buffer.clear();
                out(Event::Missed(bytes.unwrap_or(0)));
                GapEffect::Within
            }
            (State::Length { left }, Some(bytes)) if bytes <= left => {
                self.body_began = true;
                self.state = if bytes == left {
                    State::Ending
                } else {
                    State::Length { left: left - bytes }
                };
                out(Event::Missed(bytes));
                GapEffect::Within
            }
            (State::Length { left }, Some(_)) => {
                out(Event::Missed(left));
                out(self.finish(Event::End));
                self.state = State::Resync;
                GapEffect::OutOfStep
            }
            (State::ChunkData { left }, Some(bytes)) if bytes <= left => {
                self.state = if bytes == left {
                    State::ChunkEnd
                } else {
                    State::ChunkData { left: left - bytes }
                };
                out(Event::Missed(bytes));
                GapEffect::Within
            }
            (State::ChunkData { .. }, Some(bytes)) => {
                self.body_began = true;
                self.state = State::Blind;
                out(Event::Missed(bytes));
                GapEffect::Within
            }
            (State::Ending, _) => {
                out(self.finish(Event::End));
                self.state = State::Resync;
                GapEffect::OutOfStep
            }
            (State::Start | State::Resync, _) => {
                self.buffer = Vec::new();
                self.scanned = 0;
                self.state = State::Resync;
                GapEffect::OutOfStep
            }
            _ => {
                out(self.break_off(Broken::Gap));
                GapEffect::OutOfStep
            }
        }
    }

    /// The connection ended.
    pub fn end(&mut self) -> Option<Event> {
        let event = match self.state {
            State::Close | State::Unknown | State::Ending => Some(self.finish(Event::End)),
            State::Blind if self.buffer.is_empty() => Some(self.break_off(Broken::Unseen)),
            State::Length { .. }
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailers { .. }
            // What came last was seen, and it was no end.
            | State::Blind
            | State::Breaking => Some(self.break_off(Broken::Ended)),
            State::Start | State::Resync | State::Opaque => None,
        };
        self.switch();
        event
    }

    fn start(
        &mut self,
        input: &mut Bytes,
        answer_to: AnswerTo,
        limits: &Limits,
        heads: &mut KnownHeads,
    ) -> Option<Event> {
        if self.buffer.is_empty() {
            let skip = input.len() - skip_empty_lines(input).len();
            input.advance(skip);
            if input.is_empty() {
                return None;
            }
            match self.accept(input) {
                Some(true) => {
                    if let Ok(end) = head_end(input, 0)
                        && end <= limits.head_bytes_max
                    {
                        let head = input.split_to(end);
                        let head = heads.decode(&head, self.role, answer_to, limits);
                        return Some(self.begin(head));
                    }
                }
                Some(false) => return self.garbage(input),
                None => {}
            }
            self.scanned = 0;
        }
        self.gather(input, answer_to, limits, heads)
    }

    /// Adds to the head in `buffer` until it is whole.
    fn gather(
        &mut self,
        input: &mut Bytes,
        answer_to: AnswerTo,
        limits: &Limits,
        heads: &mut KnownHeads,
    ) -> Option<Event> {
        let before = self.buffer.len();
        let room = limits.head_bytes_max.saturating_sub(before).min(input.len());
        self.buffer.extend_from_slice(&input[..room]);
        // Cheap once a registered method is there; bounded by the sniffer's own limit before that.
        match self.accept(&self.buffer) {
            Some(true) => {}
            Some(false) => return self.garbage(input),
            None if self.buffer.len() < limits.head_bytes_max => {
                input.advance(room);
                return None;
            }
            None => {}
        }
        match head_end(&self.buffer, self.scanned) {
            Ok(end) => {
                input.advance(end - before);
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.truncate(end);
                self.scanned = 0;
                Some(self.begin(heads.decode(&buffer, self.role, answer_to, limits)))
            }
            Err(from) => {
                self.scanned = from;
                input.advance(room);
                if self.buffer.len() < limits.head_bytes_max {
                    return None;
                }
                let buffer = std::mem::take(&mut self.buffer);
                self.scanned = 0;
                let mut head = head::parse(&buffer, self.role, answer_to, limits);
                head.anomalies.push(Anomaly::HeadTooLong);
                head.framing = Framing::Unknown;
                Some(self.begin(head))
            }
        }
    }

    /// Whether these bytes can begin a message of this direction; `None`: too few to tell.
    fn accept(&self, bytes: &[u8]) -> Option<bool> {
        match sniff(bytes) {
            Sniffed::More => None,
            Sniffed::Requests => Some(self.role == Role::Requests),
            Sniffed::Responses => Some(self.role == Role::Responses),
            Sniffed::Http2 | Sniffed::Mllp | Sniffed::Other => Some(false),
        }
    }

    /// What stands where a message should begin is none.
    fn garbage(&mut self, input: &mut Bytes) -> Option<Event> {
        let before = std::mem::take(&mut self.buffer).len() as u64;
        self.scanned = 0;
        self.garbage_seen = true;
        self.hides = self.role == Role::Requests;
        self.state = State::Resync;
        Some(match self.skip(input) {
            Event::Skipped(skipped) => Event::Skipped(before + skipped),
            other => other,
        })
    }

    fn begin(&mut self, mut head: Head) -> Event {
        // What stands before a head makes another one of it.
        if std::mem::take(&mut self.close_seen) {
            head.anomalies.push(Anomaly::DataAfterClose);
            head.known = 0;
        }
        if std::mem::take(&mut self.garbage_seen) {
            head.anomalies.push(Anomaly::Garbage);
            head.known = 0;
        }
        self.noted_bare_line_feed = head.anomalies.contains(&Anomaly::BareLineFeed);
        self.noted_extension = false;
        self.body_began = false;
        self.declined = false;
        self.expects_continue = head.expect_continue;
        self.close_seen = head.close;
        self.switching = head.framing == Framing::Switched;
        self.state = match head.framing {
            Framing::None | Framing::Switched => State::Ending,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::ChunkSize,
            Framing::Close => State::Close,
            Framing::Unknown => State::Unknown,
        };
        Event::Head(head)
    }

    fn reset_message(&mut self) {
        self.buffer = Vec::new();
        self.scanned = 0;
    }

    fn finish(&mut self, event: Event) -> Event {
        self.reset_message();
        self.state = if self.switching {
            State::Opaque
        } else {
            State::Start
        };
        event
    }

    /// Up to where a request may be hidden, else all of it.
    fn skip(&mut self, input: &mut Bytes) -> Event {
        let hidden = if self.hides { hidden_request(input) } else { None };
        if hidden.is_some() {
            self.state = State::Start;
        }
        let skipped = hidden.unwrap_or(input.len());
        input.advance(skipped);
        Event::Skipped(skipped as u64)
    }

    fn break_off(&mut self, why: Broken) -> Event {
        self.reset_message();
        self.state = State::Resync;
        Event::Broken(why)
    }
}

/// Where a line stands that begins a request.
fn hidden_request(bytes: &[u8]) -> Option<usize> {
    std::iter::once(0)
        .chain(memchr::memchr_iter(b'\n', bytes).map(|end| end + 1))
        .find(|start| begins_message(&bytes[*start..], Role::Requests))
}

/// The end of a chunk's data, the last chunk, and an empty line.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// The last chunk and an empty line stand at the end: as far as anybody can tell in a body whose chunk sizes are
/// missing.
fn ends_chunked(bytes: &[u8]) -> bool {
    bytes
        .strip_suffix(&LAST_CHUNK[2..])
        .is_some_and(|before| before.is_empty() || before.ends_with(&LAST_CHUNK[..2]))
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
