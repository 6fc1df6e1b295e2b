//! The minimal lower layer protocol: HL7 version 2 messages, each between a start byte and an end block.
//!
//! `<VT> message <FS><CR>`. Real senders leave out the `<CR>`, or the whole end block, and put line ends between
//! messages; what a receiver would still take for a message is one here, with the anomaly that it has. It holds at most
//! four bytes: whoever gathers the message has the limits. It must not know what stands in a message but for the
//! three letters that it begins with: a frame without them is none.

use bytes::{Buf, Bytes};

const START: u8 = 0x0b;
const END: u8 = 0x1c;

/// What a message, a batch and a file begin with.
const OPENINGS: [&[u8; 3]; 3] = [b"MSH", b"BHS", b"FHS"];

/// What the decoder says.
#[derive(Clone, PartialEq, Eq)]
pub enum MllpEvent {
    /// A message begins.
    Start,
    /// Bytes of it.
    Data(Bytes),
    /// So many bytes of it were not captured.
    Missed(u64),
    /// It ends.
    End(MllpEnd),
    /// So many bytes belong to no message. Line ends between messages are not counted.
    Skipped(u64),
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MllpEnd {
    /// With its end block.
    Block,
    /// With an end block that lacks its carriage return.
    Loose,
    /// Without one: the next message began, or it was answered.
    Open,
    /// Bytes are missing.
    Gap,
    /// The connection ended first.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// Behind a start byte; `held` has what has come of the opening.
    Opening,
    /// A message begins with what is in `held`.
    Opened,
    /// The same, and that it begins is told.
    Front,
    Open,
}

/// Decoder of one direction.
pub struct MllpDecoder {
    state: State,
    /// The beginning of an opening, or of what may be an end block or the next message.
    held: [u8; 4],
    held_len: usize,
}

enum Judged {
    More,
    Data,
    End(MllpEnd),
    /// An end block without its carriage return, and the next start byte.
    EndAndStart,
    /// The next message has begun.
    Overtaken,
}

impl Default for MllpDecoder {
    fn default() -> Self {
        MllpDecoder {
            state: State::Between,
            held: [0; 4],
            held_len: 0,
        }
    }
}

impl MllpDecoder {
    /// Where a message plainly begins: strict enough to begin in the middle of a stream.
    pub fn begins_at(bytes: &[u8]) -> Option<usize> {
        memchr::memchr_iter(START, bytes).find(|at| {
            bytes.get(at + 1..at + 5).is_some_and(|next| {
                OPENINGS.iter().any(|opening| next.starts_with(*opening)) && is_delimiter(next[3])
            })
        })
    }

    /// In the middle of a message.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Opened | State::Front | State::Open)
    }

    /// An end block has begun and not ended.
    pub fn is_ending(&self) -> bool {
        self.state == State::Open && self.held_len > 0 && self.held[0] == END
    }

    /// Takes the next event out of `input`. `None`: all of it was used.
    pub fn next(&mut self, input: &mut Bytes) -> Option<MllpEvent> {
        loop {
            match self.state {
                State::Between => {
                    let at = memchr::memchr(START, input);
                    let skipped = garbage(&input[..at.unwrap_or(input.len())]);
                    match at {
                        Some(at) => {
                            input.advance(at + 1);
                            self.held_len = 0;
                            self.state = State::Opening;
                        }
                        None => input.clear(),
                    }
                    if skipped > 0 {
                        return Some(MllpEvent::Skipped(skipped));
                    }
                    at?;
                }
                State::Opening => {
                    let byte = take(input)?;
                    if self.held_len == 0 && matches!(byte, b'\r' | b'\n') {
                        continue;
                    }
                    if byte == START {
                        // The one before began nothing.
                        let skipped = 1 + self.held_len as u64;
                        self.held_len = 0;
                        return Some(MllpEvent::Skipped(skipped));
                    }
                    self.hold(byte);
                    let held = &self.held[..self.held_len];
                    if !OPENINGS.iter().any(|opening| opening.starts_with(held)) {
                        let skipped = 1 + self.held_len as u64;
                        self.held_len = 0;
                        self.state = State::Between;
                        return Some(MllpEvent::Skipped(skipped));
                    }
                    if self.held_len == 3 {
                        self.state = State::Front;
                        return Some(MllpEvent::Start);
                    }
                }
                State::Opened => {
                    self.state = State::Front;
                    return Some(MllpEvent::Start);
                }
                State::Front => {
                    self.state = State::Open;
                    return Some(MllpEvent::Data(self.let_go(self.held_len)));
                }
                State::Open if self.held_len > 0 => {
                    let byte = take(input)?;
                    self.hold(byte);
                    match self.judge() {
                        Judged::More => {}
                        Judged::Data => {
                            let last = matches!(byte, START | END);
                            return Some(MllpEvent::Data(self.let_go(self.held_len - usize::from(last))));
                        }
                        Judged::End(end) => {
                            self.held_len = 0;
                            self.state = State::Between;
                            return Some(MllpEvent::End(end));
                        }
                        Judged::EndAndStart => {
                            self.held_len = 0;
                            self.state = State::Opening;
                            return Some(MllpEvent::End(MllpEnd::Loose));
                        }
                        Judged::Overtaken => {
                            self.let_go(1);
                            self.state = State::Opened;
                            return Some(MllpEvent::End(MllpEnd::Open));
                        }
                    }
                }
                State::Open => {
                    if input.is_empty() {
                        return None;
                    }
                    match memchr::memchr2(START, END, input) {
                        None => return Some(MllpEvent::Data(std::mem::take(input))),
                        Some(0) => {
                            let byte = input.get_u8();
                            self.hold(byte);
                        }
                        Some(at) => return Some(MllpEvent::Data(input.split_to(at))),
                    }
                }
            }
        }
    }

    /// Bytes are missing here. `within`: they are known to be part of whatever is under way.
    pub fn gap(&mut self, bytes: Option<u64>, within: bool) -> Option<MllpEvent> {
        let open = self.is_open();
        self.held_len = 0;
        match open {
            true if within => {
                self.state = State::Open;
                Some(MllpEvent::Missed(bytes.unwrap_or(0)))
            }
            true => {
                self.state = State::Between;
                Some(MllpEvent::End(MllpEnd::Gap))
            }
            false => {
                self.state = State::Between;
                None
            }
        }
    }

    /// The message under way ends here, whatever is missing of it: it was answered, nothing more came for a long time, or
    /// (`closed`) the connection ended.
    pub fn end(&mut self, closed: bool) -> Option<MllpEvent> {
        let end = match (self.is_open(), self.is_ending()) {
            (false, _) => return None,
            (true, true) => MllpEnd::Loose,
            (true, false) if closed => MllpEnd::Closed,
            (true, false) => MllpEnd::Open,
        };
        self.held_len = 0;
        self.state = State::Between;
        Some(MllpEvent::End(end))
    }

    fn judge(&self) -> Judged {
        let held = &self.held[..self.held_len];
        match held {
            [START, opening @ ..] => match OPENINGS.iter().any(|all| all.starts_with(opening)) {
                true if opening.len() == 3 => Judged::Overtaken,
                true => Judged::More,
                false => Judged::Data,
            },
            [END, b'\r', ..] => Judged::End(MllpEnd::Block),
            [END, b'\n', ..] => Judged::End(MllpEnd::Loose),
            [END, START, ..] => Judged::EndAndStart,
            _ => Judged::Data,
        }
    }

    fn hold(&mut self, byte: u8) {
        if let Some(slot) = self.held.get_mut(self.held_len) {
            *slot = byte;
            self.held_len += 1;
        }
    }

    /// The first bytes of what is held, which move on.
    fn let_go(&mut self, bytes: usize) -> Bytes {
        let gone = Bytes::copy_from_slice(&self.held[..bytes]);
        self.held.copy_within(bytes..self.held_len, 0);
        self.held_len -= bytes;
        gone
    }
}

/// Whether the first bytes of a direction begin a message; `None`: too few to tell.
pub(super) fn opens(bytes: &[u8]) -> Option<bool> {
    let Some((&START, rest)) = bytes.split_first() else {
        return Some(false);
    };
    let end = rest.len().min(3);
    let fits = OPENINGS.iter().any(|opening| opening.starts_with(&rest[..end]));
    match rest.get(3) {
        _ if !fits => Some(false),
        Some(separator) => Some(is_delimiter(*separator)),
        None => None,
    }
}

/// A character that may separate fields: visible, and neither letter nor digit.
pub(super) fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_punctuation()
}

fn take(input: &mut Bytes) -> Option<u8> {
    (!input.is_empty()).then(|| input.get_u8())
}

fn garbage(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = MllpDecoder::default();
        let mut told: Vec<String> = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(event) = decoder.next(&mut input) {
                match event {
                    MllpEvent::Start => told.push("<".into()),
                    MllpEvent::Data(bytes) => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        match told.last_mut() {
                            Some(last) => last.push_str(&text),
                            None => told.push(text),
                        }
                    }
                    MllpEvent::Missed(bytes) => told.push(format!("missed {bytes}")),
                    MllpEvent::End(end) => told.push(format!("{end:?}")),
                    MllpEvent::Skipped(bytes) => match told.last_mut().and_then(|last| {
                        let before: u64 = last.strip_prefix("skipped ")?.parse().ok()?;
                        *last = format!("skipped {}", before + bytes);
                        Some(())
                    }) {
                        Some(()) => {}
                        None => told.push(format!("skipped {bytes}")),
                    },
                }
            }
        }
        told
    }

    #[test]
    fn frames() {
        for (bytes, expected) in [
            ("\x0bMSH|1\x1c\r", vec!["<MSH|1", "Block"]),
            (
                "\x0bMSH|1\x1c\r\x0bBHS|\x1c\r",
                vec!["<MSH|1", "Block", "<BHS|", "Block"],
            ),
            (
                "\r\n\x0bMSH|1\x1c\r\r\n\x0b\r\nFHS|\x1c\r",
                vec!["<MSH|1", "Block", "<FHS|", "Block"],
            ),
            ("\x0bMSH|1\x1c\n", vec!["<MSH|1", "Loose"]),
            (
                "\x0bMSH|1\x1c\x0bMSH|2\x1c\r",
                vec!["<MSH|1", "Loose", "<MSH|2", "Block"],
            ),
            (
                "\x0bMSH|1\r\x0bMSH|2\x1c\r",
                vec!["<MSH|1\r", "Open", "<MSH|2", "Block"],
            ),
            (
                "\x0bMSH|a\x1cb\x0bc\x0bMd\x1c\x1c\r",
                vec!["<MSH|a\x1cb\x0bc\x0bMd\x1c", "Block"],
            ),
            ("junk\x0bMSH|1\x1c\r", vec!["skipped 4", "<MSH|1", "Block"]),
            (
                "\x0bjunk\x0b\x0bMSH|1\x1c\r",
                vec!["skipped 6", "<MSH|1", "Block"],
            ),
            ("\x0bMSX|1\x1c\r", vec!["skipped 7"]),
            ("MSH|1\x1c\r", vec!["skipped 6"]),
        ] {
            assert_eq!(told(&[bytes.as_bytes()]), expected, "{bytes:?}");
        }
    }

    #[test]
    fn gaps_and_ends() {
        let open = || {
            let mut decoder = MllpDecoder::default();
            let mut input = Bytes::from_static(b"\x0bMSH|1\x1c");
            while decoder.next(&mut input).is_some() {}
            decoder
        };
        assert!(open().gap(Some(5), true) == Some(MllpEvent::Missed(5)));
        assert!(open().gap(Some(5), false) == Some(MllpEvent::End(MllpEnd::Gap)));
        assert!(open().end(false) == Some(MllpEvent::End(MllpEnd::Loose)));
        assert!(open().is_ending());
        assert!(MllpDecoder::default().end(true).is_none());
        assert!(MllpDecoder::default().gap(None, true).is_none());
    }

    #[test]
    fn first_bytes() {
        for (bytes, expected) in [
            ("\x0b", None),
            ("\x0bMS", None),
            ("\x0bMSH", None),
            ("\x0bMSH|", Some(true)),
            ("\x0bFHS#", Some(true)),
            ("\x0bMSHA", Some(false)),
            ("\x0bGET", Some(false)),
            ("MSH|", Some(false)),
            ("", Some(false)),
        ] {
            assert_eq!(opens(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(MllpDecoder::begins_at(b"tail\x1c\r\x0bMSH|^~\\&"), Some(6));
        assert_eq!(MllpDecoder::begins_at(b"tail\x0bMSH"), None);
    }

    proptest! {
        #[test]
        fn it_is_the_same_wherever_it_is_split(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(&b"\x0b"[..]), Just(&b"\x1c"[..]), Just(&b"\r"[..]), Just(&b"MSH|"[..]),
                    Just(&b"M"[..]), Just(&b"S"[..]), Just(&b"x"[..]), Just(&b"FHS"[..]),
                ],
                0..40,
            ),
            cut in 0usize..160,
        ) {
            let bytes = parts.concat();
            let cut = cut.min(bytes.len());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = told(&[&bytes]);
            prop_assert_eq!(&whole, &told(&[&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(&whole, &told(&single));
        }
    }
}
