//! The lines between a chunked body's data: sizes, extensions, trailers (RFC 9112 §7.1).

use bytes::{Buf, Bytes};

use super::{Decoder, State};
use crate::decode::{Anomaly, Event, Limits};

/// What a chunk-size line says.
struct Size {
    size: u64,
    extension: bool,
    /// White space that the grammar has no place for.
    odd: bool,
}

impl Decoder {
    /// One step in the framing of a chunked body. `None`: nothing to report yet; either the state moved on or all
    /// of `input` was used.
    pub(super) fn chunk_framing(&mut self, input: &mut Bytes, limits: &Limits) -> Option<Event> {
        if self.state == State::ChunkEnd {
            return self.chunk_end(input);
        }
        let (line_length, used) = match memchr::memchr(b'\n', input) {
            Some(end) => (end, end + 1),
            None => (input.len(), input.len()),
        };
        let whole = used > line_length;
        let max = match self.state {
            State::Trailers { bytes } => limits.head_bytes_max.saturating_sub(bytes),
            _ => limits.chunk_line_bytes_max,
        };
        if self.buffer.len() + line_length > max {
            self.state = State::Breaking;
            return Some(Event::Anomaly(Anomaly::InvalidChunkSize));
        }
        if !whole {
            self.buffer.extend_from_slice(input);
            input.clear();
            return None;
        }
        let mut line = std::mem::take(&mut self.buffer);
        let begun_here = line.is_empty();
        let line: &[u8] = if begun_here {
            &input[..line_length]
        } else {
            line.extend_from_slice(&input[..line_length]);
            &line
        };
        let (line, bare) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        let mut event = self.note_bare_line_feed(bare);
        match self.state {
            State::Trailers { .. } if line.is_empty() => self.state = State::Ending,
            State::Trailers { bytes } => {
                self.state = State::Trailers {
                    bytes: bytes + line.len() + 2,
                }
            }
            _ => match parse_size(line) {
                Some(size) => {
                    self.state = match size.size {
                        0 => State::Trailers { bytes: 0 },
                        left => State::ChunkData { left },
                    };
                    if size.odd {
                        event = Some(Event::Anomaly(Anomaly::InvalidChunkSize));
                    }
                    if size.extension && !self.noted_extension {
                        self.noted_extension = true;
                        event = event.or(Some(Event::Anomaly(Anomaly::ChunkExtension)));
                    }
                }
                None => {
                    self.state = State::Breaking;
                    event = Some(Event::Anomaly(Anomaly::InvalidChunkSize));
                    if begun_here {
                        // To a server that knows no chunks, it may be the next request's: it stays.
                        return event;
                    }
                }
            },
        }
        input.advance(used);
        event
    }

    fn chunk_end(&mut self, input: &mut Bytes) -> Option<Event> {
        let after_cr = !self.buffer.is_empty();
        match input[0] {
            b'\r' if !after_cr => {
                self.buffer.push(b'\r');
                input.advance(1);
                None
            }
            b'\n' => {
                input.advance(1);
                self.buffer.clear();
                self.state = State::ChunkSize;
                self.note_bare_line_feed(!after_cr)
            }
            _ => {
                self.state = State::Breaking;
                Some(Event::Anomaly(Anomaly::InvalidChunkEnd))
            }
        }
    }

    fn note_bare_line_feed(&mut self, bare: bool) -> Option<Event> {
        if !bare || self.noted_bare_line_feed {
            return None;
        }
        self.noted_bare_line_feed = true;
        Some(Event::Anomaly(Anomaly::BareLineFeed))
    }
}

/// `1*HEXDIG [ BWS ";" extensions ]`, the size within 64 bits.
fn parse_size(line: &[u8]) -> Option<Size> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 {
        return None;
    }
    let size = line[..digits].iter().try_fold(0u64, |size, digit| {
        let digit = (*digit as char).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit))
    })?;
    let rest = &line[digits..];
    let trimmed = rest.trim_ascii();
    match trimmed.first() {
        None => Some(Size {
            size,
            extension: false,
            odd: !rest.is_empty(),
        }),
        // A CR inside the line is where parsers disagree about its end.
        Some(b';') if !rest.contains(&b'\r') => Some(Size {
            size,
            extension: true,
            odd: false,
        }),
        Some(_) => None,
    }
}
