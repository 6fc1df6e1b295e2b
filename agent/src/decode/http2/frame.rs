//! Frames: their headers, and what lies around a header block in them (RFC 9113 §4.1, §6).
//!
//! It must not know what a frame does to a stream.

pub const FRAME_HEADER_BYTES: usize = 9;

/// Their kinds (§6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Their flags, some of which share a bit.
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Clone, Copy)]
pub struct Header {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub reserved: bool,
    pub stream: u32,
}

impl Header {
    /// Of the first bytes; `None`: they are too few.
    pub fn of(bytes: &[u8]) -> Option<Header> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some(Header {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            reserved: s0 & 0x80 != 0,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    /// Whether it has all of these bits.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The part of the header block in a frame's payload: without padding, priority and the promised stream's number. `cut`: the
/// payload's end is missing, and the padding with it.
pub fn content<'a>(header: &Header, payload: &'a [u8], cut: bool, promised: &mut u32) -> Option<&'a [u8]> {
    let mut rest = payload;
    if header.kind == kind::CONTINUATION {
        return Some(rest);
    }
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (first, after) = rest.split_first()?;
        (padding, rest) = (usize::from(*first), after);
    }
    if header.kind == kind::PUSH_PROMISE {
        let (number, after) = rest.split_first_chunk::<4>()?;
        *promised = u32::from_be_bytes(*number) & 0x7fff_ffff;
        rest = after;
    } else if header.has(flag::PRIORITY) {
        rest = rest.get(5..)?;
    }
    match cut {
        true => Some(rest),
        false => rest.get(..rest.len().checked_sub(padding)?),
    }
}
