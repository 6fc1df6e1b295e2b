//! Frames: their headers, and what lies around a header block in them (RFC 9113 §4.1, §6).
//!
//! It must not know what a frame does to a stream.

use super::super::Role;

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

/// Of a receiver that has said nothing else (§6.5.2), and the least that it may say.
pub const FRAME_BYTES_DEFAULT: u32 = 1 << 14;

/// Whether its length and its stream are what its kind allows (§6). What is unknown is ignored (§4.1).
pub fn fits(header: &Header, role: Role) -> bool {
    let left = header.length;
    let on_stream = header.stream != 0;
    match header.kind {
        kind::DATA => on_stream && (left > 0 || !header.has(flag::PADDED)),
        kind::HEADERS => on_stream,
        // Servers alone push (§8.4).
        kind::PUSH_PROMISE => on_stream && role == Role::Responses,
        kind::RST_STREAM => on_stream && left == 4,
        kind::GOAWAY => !on_stream && left >= 8,
        kind::PRIORITY => on_stream && left == 5,
        kind::SETTINGS => !on_stream && left.is_multiple_of(6) && (!header.has(flag::ACK) || left == 0),
        kind::PING => !on_stream && left == 8,
        kind::WINDOW_UPDATE => left == 4,
        _ => true,
    }
}

/// The settings of a frame (§6.5.2): the longest frame that its sender takes, and whether all may have their values.
pub fn settings(payload: &[u8]) -> (u32, bool) {
    const ENABLE_PUSH: u16 = 2;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_FRAME_SIZE: u16 = 5;
    let (mut frame_bytes_max, mut valid) = (FRAME_BYTES_DEFAULT, true);
    for setting in payload.chunks_exact(6) {
        let [a, b, value @ ..] = setting else { break };
        let value = value.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        valid &= match u16::from_be_bytes([*a, *b]) {
            ENABLE_PUSH => value <= 1,
            INITIAL_WINDOW_SIZE => value < 1 << 31,
            MAX_FRAME_SIZE => {
                frame_bytes_max = value;
                (FRAME_BYTES_DEFAULT..1 << 24).contains(&value)
            }
            _ => true,
        };
    }
    (frame_bytes_max, valid)
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
