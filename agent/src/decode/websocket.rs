//! WebSocket (RFC 6455): one direction's bytes → messages.
//!
//! Contents are handed on unmasked, as they come, and inflated where `permessage-deflate` (RFC 7692) was agreed on. Frames have
//! nothing to find them by in the middle, so a direction that loses bytes where a frame's header may be is lost.
//! It must not know the other direction, nor what a call is.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::{Anomaly, GapEffect};

/// Two bytes, a length of eight, and the mask.
const HEADER_BYTES_MAX: usize = 14;
/// What an inflater holds: its window and its tables.
const INFLATER_BYTES: usize = 48 * 1024;
/// Content that is handed on at once.
const INFLATE_STEP_BYTES: usize = 16 * 1024;
/// Content of one message that is inflated; what is beyond is not looked at, and a bomb costs no more.
const INFLATED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a direction says.
#[derive(Clone, PartialEq, Eq)]
pub enum Said {
    /// A message begins; its first frame stands at `position`.
    Begins {
        text: bool,
        position: u64,
    },
    Content(Bytes),
    /// So many bytes of its content are not known.
    Missed(u64),
    /// It is whole.
    Ends,
    /// The connection is being closed.
    Closes,
    Anomaly(Anomaly),
}

enum State {
    Header,
    Payload {
        left: u64,
    },
    /// Nothing that comes can be told.
    Lost,
}

/// Decoder of one direction.
pub struct WebSocketDecoder {
    state: State,
    header: Vec<u8>,
    /// Where it begins.
    header_at: u64,
    /// Of the frame in progress.
    opcode: u8,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of its payload that were unmasked.
    masked: u64,
    /// Of the message in progress: that there is one, and that it is compressed.
    is_open: bool,
    is_compressed: bool,
    inflated: u64,
    /// Compression was agreed on.
    deflate: bool,
    /// Made with the first compressed message, and good for all that follow: they refer to each other.
    inflater: Option<Box<Decompress>>,
    /// The compressed bytes cannot be followed: some are missing, or are wrong.
    deaf: bool,
}

impl WebSocketDecoder {
    /// `deflate`: `permessage-deflate` was agreed on.
    pub fn new(deflate: bool) -> Self {
        WebSocketDecoder {
            state: State::Header,
            header: Vec::new(),
            header_at: 0,
            opcode: 0,
            is_final: false,
            mask: [0; 4],
            masked: 0,
            is_open: false,
            is_compressed: false,
            inflated: 0,
            deflate,
            inflater: None,
            deaf: false,
        }
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        self.header.len() + self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES)
    }

    /// Compressed messages are counted from here on, and not read.
    pub fn stop_inflating(&mut self) {
        self.inflater = None;
        self.deaf = true;
    }

    /// Nothing that comes can be told.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes bytes in; `position` is where they begin.
    pub fn take(&mut self, mut input: Bytes, position: u64, out: &mut dyn FnMut(Said)) {
        let end = position + input.len() as u64;
        while !input.is_empty() {
            match self.state {
                State::Lost => return,
                State::Header => {
                    if self.header.is_empty() {
                        self.header_at = end - input.len() as u64;
                    }
                    let wanted = header_bytes(&self.header);
                    let count = (wanted - self.header.len()).min(input.len());
                    self.header.extend_from_slice(&input.split_to(count));
                    if self.header.len() == header_bytes(&self.header) {
                        self.begin(self.header_at, out);
                    }
                }
                State::Payload { left } => {
                    let count = left.min(input.len() as u64);
                    let payload = input.split_to(count as usize);
                    self.payload(&payload, out);
                    self.advance(left - count, out);
                }
            }
        }
    }

    /// Bytes are missing here; `bytes` is `None` where their number is not known.
    pub fn gap(&mut self, bytes: Option<u64>, out: &mut dyn FnMut(Said)) -> GapEffect {
        match (&self.state, bytes) {
            (State::Lost, _) => GapEffect::Within,
            (State::Payload { left }, Some(bytes)) if bytes <= *left => {
                let left = *left - bytes;
                self.masked += bytes;
                if self.opcode < 8 {
                    self.deaf |= self.is_compressed;
                    out(Said::Missed(bytes));
                }
                self.advance(left, out);
                GapEffect::Within
            }
            _ => {
                self.state = State::Lost;
                self.header = Vec::new();
                self.inflater = None;
                GapEffect::OutOfStep
            }
        }
    }

    fn begin(&mut self, position: u64, out: &mut dyn FnMut(Said)) {
        let header = std::mem::take(&mut self.header);
        let (first, second) = (header[0], header[1]);
        let rest = &header[2..];
        let (length, rest) = match second & 0x7f {
            126 => rest
                .split_first_chunk::<2>()
                .map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest)),
            127 => rest
                .split_first_chunk::<8>()
                .map(|(length, rest)| (u64::from_be_bytes(*length), rest)),
            length => Some((u64::from(length), rest)),
        }
        .unwrap_or_default();
        self.mask = rest.first_chunk::<4>().copied().unwrap_or_default();
        self.masked = 0;
        self.opcode = first & 0x0f;
        self.is_final = first & 0x80 != 0;
        let is_control = self.opcode >= 8;
        let compressed = first & 0x40 != 0;
        let odd = first & 0x30 != 0
            || matches!(self.opcode, 3..=7 | 11..)
            || length >> 63 != 0
            || (is_control && (length > 125 || !self.is_final || compressed))
            || (compressed && (!self.deflate || self.opcode == 0))
            || (!is_control && (self.opcode == 0) != self.is_open);
        if odd {
            // The receiver gives the connection up (§7.1.7), and no frame can be told from what is none.
            out(Said::Anomaly(Anomaly::InvalidFrame));
            self.state = State::Lost;
            return;
        }
        if !is_control && self.opcode != 0 {
            self.is_open = true;
            self.is_compressed = compressed;
            self.inflated = 0;
            out(Said::Begins {
                text: self.opcode == 1,
                position,
            });
        }
        self.advance(length, out);
    }

    /// So much of the frame's payload is still to come.
    fn advance(&mut self, left: u64, out: &mut dyn FnMut(Said)) {
        if left > 0 {
            self.state = State::Payload { left };
            return;
        }
        self.state = State::Header;
        match self.opcode {
            8 => out(Said::Closes),
            9.. => {}
            _ if self.is_final => {
                if self.is_compressed {
                    // What the sender took off the end (RFC 7692 §7.2.1).
                    self.inflate(&[0, 0, 0xff, 0xff], out);
                }
                self.is_open = false;
                out(Said::Ends);
            }
            _ => {}
        }
    }

    fn payload(&mut self, payload: &Bytes, out: &mut dyn FnMut(Said)) {
        if self.opcode >= 8 {
            return;
        }
        let content = match self.mask {
            [0, 0, 0, 0] => payload.clone(),
            mask => {
                let from = (self.masked % 4) as usize;
                let unmasked = payload.iter().zip(mask.iter().cycle().skip(from));
                Bytes::from_iter(unmasked.map(|(byte, mask)| byte ^ mask))
            }
        };
        self.masked += payload.len() as u64;
        match self.is_compressed {
            true => self.inflate(&content, out),
            false => out(Said::Content(content)),
        }
    }

    fn inflate(&mut self, mut input: &[u8], out: &mut dyn FnMut(Said)) {
        while !self.deaf {
            if self.inflated >= INFLATED_BYTES_MAX {
                self.stop_inflating();
                break;
            }
            let inflater = self
                .inflater
                .get_or_insert_with(|| Box::new(Decompress::new(false)));
            let (read, written) = (inflater.total_in(), inflater.total_out());
            let mut content = Vec::with_capacity(INFLATE_STEP_BYTES);
            let status = inflater.decompress_vec(input, &mut content, FlushDecompress::Sync);
            let read = (inflater.total_in() - read) as usize;
            let written = inflater.total_out() - written;
            self.inflated += written;
            if !content.is_empty() {
                out(Said::Content(Bytes::from(content)));
            }
            input = &input[read.min(input.len())..];
            match status {
                // A last block ends the stream of blocks, and the next message begins another one.
                Ok(Status::StreamEnd) => {
                    if let Some(inflater) = &mut self.inflater {
                        inflater.reset(false);
                    }
                    return;
                }
                Ok(_) if read == 0 && written == 0 => return,
                Ok(_) if input.is_empty() && (written as usize) < INFLATE_STEP_BYTES => return,
                Ok(_) => {}
                Err(_) => {
                    out(Said::Anomaly(Anomaly::InvalidFrame));
                    self.stop_inflating();
                }
            }
        }
        if !input.is_empty() {
            out(Said::Missed(input.len() as u64));
        }
    }
}

/// How long a header is, as far as its first bytes tell.
fn header_bytes(header: &[u8]) -> usize {
    let Some(second) = header.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    (2 + length + mask).min(HEADER_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(decoder: &mut WebSocketDecoder, pieces: &[&[u8]]) -> String {
        let mut text = String::new();
        let mut position = 0;
        for piece in pieces {
            decoder.take(Bytes::copy_from_slice(piece), position, &mut |said| match said {
                Said::Begins {
                    text: is_text,
                    position,
                } => {
                    text += &format!("<{}@{position} ", if is_text { "text" } else { "binary" });
                }
                Said::Content(bytes) => text += &bytes.escape_ascii().to_string(),
                Said::Missed(bytes) => text += &format!("({bytes} missed)"),
                Said::Ends => text += ">",
                Said::Closes => text += "close",
                Said::Anomaly(anomaly) => text += &format!("!{}", anomaly.as_str()),
            });
            position += piece.len() as u64;
        }
        text
    }

    /// RFC 6455 §5.7, RFC 7692 §7.2.3.
    #[test]
    fn examples_of_the_rfcs() {
        let hello: &[u8] = b"\x81\x05Hello";
        for (deflate, bytes, expected) in [
            (false, hello, "<text@0 Hello>"),
            (
                false,
                b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
                "<text@0 Hello>",
            ),
            (false, b"\x01\x03Hel\x80\x02lo", "<text@0 Hello>"),
            (
                false,
                b"\x01\x03Hel\x89\x05Hello\x80\x02lo\x8a\x05Hello",
                "<text@0 Hello>",
            ),
            (false, b"\x82\x7e\0\x03abc\x88\0", "<binary@0 abc>close"),
            (
                true,
                b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00",
                "<text@0 Hello><text@9 Hello>",
            ),
            (
                true,
                b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
                "<text@0 Hello>",
            ),
            (true, b"\xc1\x0b\x00\x05\x00\xfa\xffHello\x00", "<text@0 Hello>"),
            (
                true,
                b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
                "<text@0 Hello>",
            ),
            (true, hello, "<text@0 Hello>"),
            (false, b"\xc1\x05Hello", "!invalid-frame"),
            (false, b"\x83\x05Hello", "!invalid-frame"),
            (false, b"\x80\x05Hello", "!invalid-frame"),
            (false, b"\x09\x00", "!invalid-frame"),
        ] {
            assert_eq!(told(&mut WebSocketDecoder::new(deflate), &[bytes]), expected);
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(told(&mut WebSocketDecoder::new(deflate), &bytewise), expected);
        }
    }

    #[test]
    fn a_header_of_two_pieces_at_one_position() {
        // As frames of HTTP/2 that came in one piece.
        let mut decoder = WebSocketDecoder::new(false);
        let mut begins = Vec::new();
        for piece in [&b"\x81"[..], b"\x05hello"] {
            decoder.take(Bytes::from_static(piece), 1_000, &mut |said| {
                if let Said::Begins { position, .. } = said {
                    begins.push(position);
                }
            });
        }
        assert_eq!(begins, [1_000]);
    }

    #[test]
    fn a_gap_in_a_payload_keeps_the_step_and_another_does_not() {
        let mut decoder = WebSocketDecoder::new(false);
        told(&mut decoder, &[b"\x81\x85\x37\xfa\x21\x3d\x7f"]);
        let mut missed = 0;
        let effect = decoder.gap(Some(2), &mut |said| {
            if let Said::Missed(bytes) = said {
                missed += bytes;
            }
        });
        assert_eq!((effect, missed), (GapEffect::Within, 2));
        assert_eq!(told(&mut decoder, &[b"\x51\x58\x81\x01x"]), "lo><text@2 x>");
        assert_eq!(decoder.gap(Some(1), &mut |_| {}), GapEffect::OutOfStep);
        assert!(decoder.is_lost());
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..50, gap in 0u64..40, deflate: bool) {
            let mut decoder = WebSocketDecoder::new(deflate);
            for piece in bytes.chunks(size) {
                told(&mut decoder, &[piece]);
                decoder.gap(Some(gap), &mut |_| {});
                prop_assert!(decoder.held_bytes() < 64 * 1024);
            }
        }
    }
}
