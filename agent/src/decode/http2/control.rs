//! Frames about streams and the connection, not of a message: what they say, and what a stream's state forbids.
//!
//! No windows are kept and no streams counted against what was agreed: a receiver sees to that. It must not know the other
//! direction.

use super::frame::{self, Header, kind};
use super::{Anomaly, Decoder, Role, Told};

impl Decoder {
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
            kind::WINDOW_UPDATE => {}
            _ => out(Told::GoAway { last: number }),
        }
    }
}
