//! HTTP/2 (RFC 9113): one direction's bytes → what happens on its streams.
//!
//! Frames come one after the other, so what is held is one header block at most; bodies are handed on as they come.
//! A direction that is joined in the middle, or that lost bytes, looks for a chain of frames that is plainly one
//! (`resync`), and reads header blocks with what it knows of their table (`hpack`).
//!
//! It must not know the other direction, nor what a call is.

mod bodies;
mod control;
mod frame;
mod head;
mod hpack;
mod huffman;
mod resync;

use bytes::{Buf, Bytes};

use self::bodies::Bodies;
use self::frame::{FRAME_HEADER_BYTES, Header, content, flag, kind};
use self::head::{Gathered, Kind};
use self::hpack::Hpack;
use super::{Anomaly, Broken, Event, GapEffect, Head, Limits, Role, StartLine};

/// What a client says first (§3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a header block's table that are held. What an encoder keeps beyond is unknown here.
const TABLE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a SETTINGS frame that are looked at: 32 settings, of which there are ten.
const SETTINGS_BYTES_MAX: usize = 192;
/// Frames of one header block; more are a flood.
const BLOCK_FRAMES_MAX: u32 = 1_024;

/// Fields as they are in a [`Head`].
pub type Fields = Vec<(Bytes, Bytes)>;

/// What a direction says.
pub enum Told {
    /// A message begins on a stream, or an interim response comes. Its frames begin at `position` and end at `end`.
    Head {
        stream: u32,
        head: Head,
        position: u64,
        end: u64,
    },
    /// A part of the stream's message other than its head.
    Of { stream: u32, event: Event },
    /// Fields after the body; `End` comes next.
    Trailers { stream: u32, fields: Fields },
    /// RST_STREAM.
    Reset { stream: u32 },
    /// The server makes up a request, and is going to answer it on its own.
    Promise {
        stream: u32,
        head: Head,
        position: u64,
        end: u64,
    },
    /// GOAWAY: streams of the other side beyond this one are not looked at.
    GoAway { last: u32 },
    /// The longest frame that this side takes from the other one.
    Settings { frame_bytes_max: u32 },
    /// Of the connection.
    Anomaly(Anomaly),
    /// What was taken for frames was none: heads and ends may have gone by.
    OutOfStep,
    /// So many bytes belong to no frame that is known.
    Skipped(u64),
}

enum State {
    /// So many bytes of the client's preface have come.
    Preface { seen: usize },
    /// Between frames; `buffer` holds what has come of the next header.
    Between,
    /// The length of a DATA frame's padding comes next.
    PadLength { header: Header },
    /// A DATA frame's content, and its padding.
    Data {
        stream: u32,
        left: u32,
        padding: u32,
        ends: bool,
    },
    /// A frame that carries a header block, or part of one.
    Fragment { header: Header, left: u32 },
    /// A frame whose first bytes matter; `buffer` gathers them.
    Small { header: Header, left: u32 },
    /// A frame, or its rest, that does not matter.
    Skip { left: u32 },
    /// Out of step.
    Resync { hope: Option<resync::Hope> },
}

/// A header block in progress.
struct Block {
    /// Of its first frame.
    header: Header,
    position: u64,
    /// Its fragments, without padding and priority.
    bytes: Vec<u8>,
    /// Bytes of its frames.
    wire_bytes: u32,
    frames: u32,
    promised: u32,
    too_long: bool,
}

/// Decoder of one direction of a connection.
pub struct Decoder {
    role: Role,
    state: State,
    /// The beginning of a frame.
    buffer: Vec<u8>,
    block: Option<Box<Block>>,
    hpack: Hpack,
    bodies: Bodies,
    /// The longest frame that the other side takes; `None`: it has not said.
    frame_bytes_max: Option<u32>,
    windows: control::Windows,
    /// The highest stream that a head came on.
    stream_max: u32,
    /// That the connection is HTTP/2 is beyond doubt.
    certain: bool,
    /// Heads may have gone by.
    lost: bool,
}

impl Decoder {
    /// Of a direction that begins here. A client's begins with the preface.
    pub fn new(role: Role) -> Self {
        Decoder {
            role,
            state: match role {
                Role::Requests => State::Preface { seen: 0 },
                Role::Responses => State::Between,
            },
            buffer: Vec::new(),
            block: None,
            hpack: Hpack::new(true, TABLE_BYTES_MAX),
            bodies: Bodies::default(),
            frame_bytes_max: None,
            windows: control::Windows::default(),
            stream_max: 0,
            certain: true,
            lost: false,
        }
    }

    /// Of a direction that is joined in the middle. `certain`: of a connection that is HTTP/2 beyond doubt.
    pub fn late(role: Role, certain: bool) -> Self {
        let mut decoder = Decoder::new(role);
        decoder.certain = certain;
        decoder.lose_step();
        decoder
    }

    /// Of a direction of which a frame begins with the next byte, and nothing before it is known.
    pub fn at_frame(role: Role) -> Self {
        let mut decoder = Decoder::late(role, true);
        decoder.state = State::Between;
        decoder
    }

    /// It began with these bytes, which did not tell what they are. As many as a frame's header would have, had it been one.
    pub fn began_with(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Preface { seen } => *seen = bytes.len().min(PREFACE.len()),
            State::Between if bytes.len() < FRAME_HEADER_BYTES => self.buffer.extend_from_slice(bytes),
            State::Between => self.lose_step(),
            _ => {}
        }
    }

    /// Stream 1 began as a request of HTTP/1 (`h2c`).
    pub fn upgraded(&mut self) {
        self.stream_max = 1;
    }

    /// The stream is over, whatever comes on it.
    pub fn forget(&mut self, stream: u32) {
        self.bodies.forget(stream);
    }

    /// The other side takes frames of this length. Of several the longest counts: which was in force is not known here.
    pub fn may_send(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = self.frame_bytes_max.max(Some(frame_bytes_max));
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        self.hpack.held_bytes()
            + self.buffer.len()
            + self.block.as_ref().map_or(0, |block| block.bytes.len())
            + self.bodies.held_bytes()
    }

    /// Out of step: skips until frames plainly begin.
    pub fn is_out_of_step(&self) -> bool {
        matches!(self.state, State::Resync { .. })
    }

    /// Nothing that comes next can be told from the middle of a frame.
    pub fn lose_step(&mut self) {
        self.state = State::Resync { hope: None };
        self.buffer = Vec::new();
        self.block = None;
        self.bodies.take();
        self.hpack.lose();
        self.lost = true;
    }

    /// Takes bytes in; `position` is where they begin.
    pub fn take(&mut self, mut input: Bytes, position: u64, limits: &Limits, out: &mut dyn FnMut(Told)) {
        let begin = position;
        let end = position + input.len() as u64;
        while !input.is_empty() {
            let at = end - input.len() as u64;
            match self.state {
                State::Preface { seen } => {
                    let wanted = &PREFACE[seen..];
                    let count = wanted.len().min(input.len());
                    if input[..count] != wanted[..count] {
                        out(Told::Anomaly(Anomaly::InvalidFrame));
                        self.lose_step();
                        out(Told::OutOfStep);
                        continue;
                    }
                    input.advance(count);
                    self.state = match seen + count {
                        seen if seen < PREFACE.len() => State::Preface { seen },
                        _ => State::Between,
                    };
                }
                State::Between => {
                    let missing = FRAME_HEADER_BYTES - self.buffer.len();
                    let count = missing.min(input.len());
                    let before = self.buffer.len();
                    self.buffer.extend_from_slice(&input[..count]);
                    input.advance(count);
                    if let Some(header) = Header::of(&self.buffer) {
                        self.buffer.clear();
                        if self.lost && !resync::goes_on(&header) {
                            // It was no frame, or the one before it was none.
                            self.lose_step();
                            out(Told::Skipped(FRAME_HEADER_BYTES as u64));
                            out(Told::OutOfStep);
                            continue;
                        }
                        self.begin(header, at.saturating_sub(before as u64), out);
                        self.pass_empty(at + count as u64, limits, out);
                    }
                }
                State::PadLength { header } => {
                    let padding = u32::from(input.get_u8());
                    let left = header.length - 1;
                    let ends = header.has(flag::END_STREAM);
                    let stream = header.stream;
                    if padding > left {
                        out(Told::Of {
                            stream,
                            event: Event::Anomaly(Anomaly::InvalidFrame),
                        });
                    }
                    let padding = padding.min(left);
                    self.state = State::Data {
                        stream,
                        left: left - padding,
                        padding,
                        ends,
                    };
                    self.pass_empty(at + 1, limits, out);
                }
                State::Data {
                    stream,
                    left,
                    padding,
                    ends,
                } => {
                    if left > 0 {
                        let count = (left as usize).min(input.len());
                        let bytes = input.split_to(count);
                        self.bodies.saw(stream, count as u64);
                        out(Told::Of {
                            stream,
                            event: Event::Body(bytes),
                        });
                        self.state = State::Data {
                            stream,
                            left: left - count as u32,
                            padding,
                            ends,
                        };
                    } else {
                        let count = (padding as usize).min(input.len());
                        input.advance(count);
                        self.state = State::Data {
                            stream,
                            left,
                            padding: padding - count as u32,
                            ends,
                        };
                    }
                    self.pass_empty(end - input.len() as u64, limits, out);
                }
                State::Fragment { header, left } => {
                    let count = (left as usize).min(input.len());
                    if self.buffer.is_empty() && count == left as usize {
                        let fragment = input.split_to(count);
                        self.state = State::Between;
                        self.fragment(header, &fragment, at + count as u64, limits, out);
                        continue;
                    }
                    // Of what is too long the beginning is enough.
                    let room = (limits.head_bytes_max + 256).saturating_sub(self.buffer.len());
                    self.buffer.extend_from_slice(&input[..count.min(room)]);
                    input.advance(count);
                    let left = left - count as u32;
                    self.state = State::Fragment { header, left };
                    self.pass_empty(at + count as u64, limits, out);
                }
                State::Small { header, left } => {
                    let count = (left as usize).min(input.len());
                    let room = SETTINGS_BYTES_MAX.saturating_sub(self.buffer.len());
                    self.buffer.extend_from_slice(&input[..count.min(room)]);
                    input.advance(count);
                    self.state = State::Small {
                        header,
                        left: left - count as u32,
                    };
                    self.pass_empty(at + count as u64, limits, out);
                }
                State::Skip { left } => {
                    let count = (left as usize).min(input.len());
                    input.advance(count);
                    self.state = State::Skip {
                        left: left - count as u32,
                    };
                    self.pass_empty(at + count as u64, limits, out);
                }
                State::Resync { hope } => match resync::find(&input, at, self.certain, at == begin, hope) {
                    Ok(offset) => {
                        if offset > 0 {
                            out(Told::Skipped(offset as u64));
                        }
                        input.advance(offset);
                        self.state = State::Between;
                    }
                    Err(hope) => {
                        out(Told::Skipped(input.len() as u64));
                        self.state = State::Resync { hope };
                        return;
                    }
                },
            }
        }
    }

    /// Bytes are missing here; `bytes` is `None` where their number is not known.
    pub fn gap(&mut self, bytes: Option<u64>, out: &mut dyn FnMut(Told)) -> GapEffect {
        match (&mut self.state, bytes) {
            (
                State::Data {
                    stream,
                    left,
                    padding,
                    ends,
                },
                Some(bytes),
            ) if bytes <= u64::from(*left) + u64::from(*padding) => {
                let (stream, ends) = (*stream, *ends);
                let missed = bytes.min(u64::from(*left)) as u32;
                *left -= missed;
                *padding -= bytes as u32 - missed;
                let is_over = *left == 0 && *padding == 0;
                self.bodies.missed(stream);
                out(Told::Of {
                    stream,
                    event: Event::Missed(u64::from(missed)),
                });
                if is_over {
                    self.state = State::Between;
                    if ends {
                        self.end(stream, out);
                    }
                }
                GapEffect::Within
            }
            (State::Skip { left }, Some(bytes)) if bytes <= u64::from(*left) => {
                *left -= bytes as u32;
                if *left == 0 {
                    self.state = State::Between;
                }
                GapEffect::Within
            }
            // What was hoped for is told by its place.
            (State::Resync { .. }, Some(_)) => GapEffect::OutOfStep,
            // A part of a header block: what it would have said, and done to the table, is lost, but not where frames begin.
            (State::Fragment { left, .. }, Some(bytes)) if bytes <= u64::from(*left) => {
                let left = *left - bytes as u32;
                self.state = match left {
                    0 => State::Between,
                    left => State::Skip { left },
                };
                self.buffer.clear();
                self.block = None;
                self.hpack.lose();
                self.lost = true;
                GapEffect::OutOfStep
            }
            _ => {
                self.lose_step();
                GapEffect::OutOfStep
            }
        }
    }

    /// The connection has ended: messages that are not whole are broken.
    pub fn finish(&mut self, out: &mut dyn FnMut(Told)) {
        for stream in self.bodies.take() {
            out(Told::Of {
                stream,
                event: Event::Broken(Broken::Ended),
            });
        }
        self.block = None;
        self.buffer = Vec::new();
    }

    /// A frame's header has come.
    fn begin(&mut self, header: Header, position: u64, out: &mut dyn FnMut(Told)) {
        let left = header.length;
        if let Some(block) = &self.block
            && (header.kind != kind::CONTINUATION || header.stream != block.header.stream)
        {
            // Nothing may come in between (§6.10). What the block would have said of the table is lost with it.
            self.block = None;
            self.hpack.lose();
            out(Told::Anomaly(Anomaly::InvalidFrame));
        }
        if self.frame_bytes_max.is_some_and(|most| left > most) {
            out(Told::Anomaly(Anomaly::InvalidFrame));
        }
        let has_block = self.block.is_some();
        if !frame::fits(&header, self.role) || header.kind == kind::CONTINUATION && !has_block {
            if matches!(header.kind, kind::HEADERS | kind::PUSH_PROMISE) {
                // Its block changes the table, and nobody can tell how a receiver takes it.
                self.hpack.lose();
            }
            // What a block goes on with may have been lost.
            if header.kind != kind::CONTINUATION || !self.lost {
                out(Told::Anomaly(Anomaly::InvalidFrame));
            }
            self.state = State::Skip { left };
            return;
        }
        self.check_stream(&header, out);
        self.state = match header.kind {
            kind::DATA if header.has(flag::PADDED) => {
                self.windows.sent += u64::from(left);
                State::PadLength { header }
            }
            kind::DATA => {
                self.windows.sent += u64::from(left);
                State::Data {
                    stream: header.stream,
                    left,
                    padding: 0,
                    ends: header.has(flag::END_STREAM),
                }
            }
            kind::HEADERS | kind::PUSH_PROMISE => {
                self.block = Some(Box::new(Block {
                    header,
                    position,
                    bytes: Vec::new(),
                    wire_bytes: 0,
                    frames: 0,
                    promised: 0,
                    too_long: false,
                }));
                State::Fragment { header, left }
            }
            kind::CONTINUATION => State::Fragment { header, left },
            kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => State::Small { header, left },
            kind::SETTINGS if !header.has(flag::ACK) => State::Small { header, left },
            _ => State::Skip { left },
        };
    }

    /// Frames and parts of frames that are at their end without another byte.
    fn pass_empty(&mut self, at: u64, limits: &Limits, out: &mut dyn FnMut(Told)) {
        match self.state {
            State::Data {
                stream,
                left: 0,
                padding: 0,
                ends,
            } => {
                self.state = State::Between;
                if ends {
                    self.end(stream, out);
                }
            }
            State::Fragment { header, left: 0 } => {
                let fragment = std::mem::take(&mut self.buffer);
                self.state = State::Between;
                self.fragment(header, &fragment, at, limits, out);
            }
            State::Small { header, left: 0 } => {
                self.state = State::Between;
                self.small(&header, out);
                // Its room is used again.
                self.buffer.clear();
            }
            State::Skip { left: 0 } => self.state = State::Between,
            _ => {}
        }
    }

    /// A frame with a part of a header block is whole.
    fn fragment(
        &mut self,
        header: Header,
        payload: &[u8],
        end: u64,
        limits: &Limits,
        out: &mut dyn FnMut(Told),
    ) {
        let Some(mut block) = self.block.take() else {
            return;
        };
        block.frames += 1;
        block.wire_bytes = block
            .wire_bytes
            .saturating_add(header.length)
            .saturating_add(FRAME_HEADER_BYTES as u32);
        let cut = payload.len() < header.length as usize;
        block.too_long |= cut;
        let Some(content) = content(&header, payload, cut, &mut block.promised) else {
            self.hpack.lose();
            out(Told::Anomaly(Anomaly::InvalidFrame));
            return;
        };
        if block.frames > BLOCK_FRAMES_MAX {
            self.hpack.lose();
            out(Told::Anomaly(Anomaly::HeadTooLong));
            return;
        }
        let is_whole = header.has(flag::END_HEADERS);
        if is_whole && block.bytes.is_empty() && !block.too_long {
            self.whole(&block, content, end, limits, out);
            return;
        }
        let room = limits.head_bytes_max.saturating_sub(block.bytes.len());
        block.too_long |= room < content.len();
        block.bytes.extend_from_slice(&content[..content.len().min(room)]);
        if is_whole {
            let bytes = std::mem::take(&mut block.bytes);
            self.whole(&block, &bytes, end, limits, out);
        } else {
            self.block = Some(block);
        }
    }

    /// A header block is whole, or as much of it as is kept.
    fn whole(&mut self, block: &Block, bytes: &[u8], end: u64, limits: &Limits, out: &mut dyn FnMut(Told)) {
        let mut gathered = Gathered::new();
        let result = self
            .hpack
            .decode(bytes, &mut |field| gathered.field(field, limits));
        if block.too_long {
            // What follows the cut would have gone into the table as well.
            self.hpack.lose();
            gathered.note(Anomaly::HeadTooLong);
        } else if result.is_err() {
            gathered.note(Anomaly::InvalidHeaderBlock);
        }
        let position = block.position;
        if block.header.kind == kind::PUSH_PROMISE {
            let stream = block.promised;
            if stream == 0 || !stream.is_multiple_of(2) {
                gathered.note(Anomaly::InvalidStream);
            }
            let head = gathered.head(Kind::Request, true, block.wire_bytes);
            out(Told::Promise {
                stream,
                head,
                position,
                end,
            });
            return;
        }
        let stream = block.header.stream;
        let ended = block.header.has(flag::END_STREAM);
        let began = self.bodies.has(stream);
        let begins = match self.role {
            Role::Requests => gathered.is_request(),
            Role::Responses => gathered.is_response(),
        };
        // Where heads may have gone by, what has no pseudo-header field is no head; but the field that says so may be unknown,
        // and a request's is then likelier than trailers, which only answers have.
        let sure = gathered.unknown() == 0 && result.is_ok();
        let trailers = began || (self.lost && !begins && ended && (sure || self.role == Role::Responses));
        if trailers {
            let (fields, anomalies) = gathered.trailers();
            for anomaly in anomalies {
                out(Told::Of {
                    stream,
                    event: Event::Anomaly(anomaly),
                });
            }
            if !ended {
                // §8.1: trailers end the message.
                out(Told::Of {
                    stream,
                    event: Event::Anomaly(Anomaly::InvalidStream),
                });
            }
            out(Told::Trailers { stream, fields });
            self.end(stream, out);
            return;
        }
        if self.role == Role::Requests && (stream.is_multiple_of(2) || stream <= self.stream_max) {
            gathered.note(Anomaly::InvalidStream);
        }
        self.stream_max = self.stream_max.max(stream);
        let kind = match self.role {
            Role::Requests => Kind::Request,
            Role::Responses => Kind::Response,
        };
        let head = gathered.head(kind, ended, block.wire_bytes);
        let interim = matches!(head.line, StartLine::Response { status: 100..=199 });
        let declared = match head.framing {
            super::Framing::Length(length) => Some(length),
            _ => None,
        };
        if !interim && !ended {
            self.bodies.begin(stream, declared);
        }
        out(Told::Head {
            stream,
            head,
            position,
            end,
        });
        if ended {
            self.end(stream, out);
        }
    }

    /// The stream's message is whole.
    fn end(&mut self, stream: u32, out: &mut dyn FnMut(Told)) {
        if self.bodies.end(stream, self.role) {
            out(Told::Of {
                stream,
                event: Event::Anomaly(Anomaly::ContentLengthMismatch),
            });
        }
        out(Told::Of {
            stream,
            event: Event::End,
        });
    }
}

#[cfg(test)]
mod tests;
