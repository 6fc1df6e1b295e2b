//! Frames about streams and the connection, not of a message: what they say, and what a stream's state forbids.
//!
//! Windows are only held against the largest that there may be, and streams are not counted against what was agreed: a
//! receiver sees to that. Of the other direction it is told how much that has sent.

use super::frame::{self, Header, kind};
use super::{Anomaly, Decoder, Role, Told};

/// The largest window (§6.9.1).
const WINDOW_MAX: u64 = (1 << 31) - 1;
/// Of a connection, before it is made larger.
const WINDOW_DEFAULT: u64 = 65_535;
/// Data may be told here after the frame that makes room for more.
const SLACK_BYTES: u64 = 1 << 24;
/// Streams that are given more than [`SLACK_BYTES`] at once, and are followed.
const LARGE_LEN: usize = 4;

/// What this side lets the other one send, and what it sends itself.
#[derive(Default)]
pub(super) struct Windows {
    /// Bytes of DATA.
    pub sent: u64,
    /// Of the other side; `None`: it is not known.
    taken: Option<u64>,
    given: u64,
    /// Streams, and what was given to them at once. The oldest makes room.
    large: [(u32, u64); LARGE_LEN],
    large_next: usize,
}

impl Windows {
    /// Whether a window grows beyond what any may be.
    fn grow(&mut self, stream: u32, bytes: u32) -> bool {
        let bytes = u64::from(bytes);
        let given = if stream == 0 {
            self.given = self.given.saturating_add(bytes);
            self.given
        } else if bytes <= SLACK_BYTES {
            return false;
        } else if let Some((_, given)) = self.large.iter_mut().find(|(known, _)| *known == stream) {
            *given = given.saturating_add(bytes);
            *given
        } else {
            self.large[self.large_next] = (stream, bytes);
            self.large_next = (self.large_next + 1) % LARGE_LEN;
            bytes
        };
        self.taken
            .is_some_and(|taken| WINDOW_DEFAULT + given > taken + WINDOW_MAX + SLACK_BYTES)
    }
}

impl Decoder {
    /// Bytes of DATA of this direction; `None`: some may have been missed.
    pub fn sent(&self) -> Option<u64> {
        (!self.lost).then_some(self.windows.sent)
    }

    /// What the other direction has sent.
    pub fn has_taken(&mut self, bytes: Option<u64>) {
        self.windows.taken = bytes;
    }

    /// What a stream's state forbids (§5.1), as far as this direction tells it.
    pub(super) fn check_stream(&self, header: &Header, out: &mut dyn FnMut(Told)) {
        let stream = header.stream;
        let is_idle = || {
            !self.lost
                && stream > self.stream_max
                && !stream.is_multiple_of(2)
                // A server may give up or take what it has not begun to answer.
                && (self.role == Role::Requests || header.kind == kind::DATA)
        };
        let odd = match header.kind {
            kind::DATA => is_idle() || self.bodies.is_over(stream),
            kind::RST_STREAM | kind::WINDOW_UPDATE => stream != 0 && is_idle(),
            // Of requests, the head itself says so.
            kind::HEADERS => self.role == Role::Responses && self.bodies.is_over(stream),
            _ => false,
        };
        if odd {
            out(Told::Anomaly(Anomaly::InvalidStream));
        }
    }

    /// A frame whose first bytes matter is whole.
    pub(super) fn small(&mut self, header: &Header, out: &mut dyn FnMut(Told)) {
        let number = self
            .buffer
            .first_chunk::<4>()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff);
        match header.kind {
            kind::RST_STREAM => {
                self.bodies.end(header.stream, self.role);
                out(Told::Reset {
                    stream: header.stream,
                });
            }
            kind::SETTINGS => {
                let (frame_bytes_max, valid) = frame::settings(&self.buffer);
                if !valid {
                    out(Told::Anomaly(Anomaly::InvalidFrame));
                }
                // Where some were lost, this one does not tell how long frames may be.
                if !self.lost {
                    out(Told::Settings { frame_bytes_max });
                }
            }
            // §6.9: no window grows by nothing.
            kind::WINDOW_UPDATE if number == 0 => out(Told::Anomaly(Anomaly::InvalidFrame)),
            kind::WINDOW_UPDATE => {
                if self.windows.grow(header.stream, number) && !self.lost {
                    out(Told::Anomaly(Anomaly::InvalidFrame));
                }
            }
            _ => out(Told::GoAway { last: number }),
        }
    }
}
