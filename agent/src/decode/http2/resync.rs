//! Where frames begin in the middle of a connection: told by chains of plausible frame headers.
//!
//! A body may hold anything, also something that looks like a frame. So a chain must carry evidence: each header that
//! stands exactly where the one before it says, and is one that RFC 9113 allows, adds to it.

use bytes::Bytes;

use super::super::{Anomaly, Limits, Role, StartLine};
use super::frame::{FRAME_HEADER_BYTES, Header, flag, kind};
use super::{Decoder, Told};

/// Evidence that is enough, in bits: two frames and more.
const EVIDENCE_MIN: u32 = 70;
/// The same where the other direction is known to be HTTP/2.
const EVIDENCE_KNOWN_MIN: u32 = 44;
/// Most frames of one chain that are looked at.
const CHAIN_MAX: usize = 4;
/// Before a connection agrees on others (§4.2).
const FRAME_BYTES_MAX: usize = 1 << 14;

/// The offset of the first frame, if one plainly begins in `bytes`. `known`: the connection is HTTP/2 for certain. Linear: a chain
/// has a bounded number of frames.
pub fn find(bytes: &[u8], known: bool) -> Option<usize> {
    let wanted = if known { EVIDENCE_KNOWN_MIN } else { EVIDENCE_MIN };
    let last = bytes.len().checked_sub(FRAME_HEADER_BYTES)?;
    // A frame header's first byte is 0 as long as frames are short.
    memchr::memchr_iter(0, &bytes[..=last]).find(|start| evidence(&bytes[*start..], *start == 0) >= wanted)
}

/// `at_start`: the bytes begin where a write or a read did, which is where frames like to begin.
fn evidence(mut bytes: &[u8], at_start: bool) -> u32 {
    let mut sum = if at_start { 12 } else { 0 };
    for _ in 0..CHAIN_MAX {
        if bytes.is_empty() {
            // The chain ends where the bytes do.
            return sum + 14;
        }
        let Some(header) = Header::of(bytes) else {
            return sum;
        };
        let Some(bits) = plausible(&header) else {
            return 0;
        };
        sum += bits;
        let end = FRAME_HEADER_BYTES + header.length as usize;
        match bytes.get(end..) {
            Some(rest) => bytes = rest,
            None => return sum,
        }
    }
    sum
}

/// How unlikely it is that other bytes look like it, in bits. `None`: it is no frame that anybody sends.
fn plausible(header: &Header) -> Option<u32> {
    let length = header.length as usize;
    if length > FRAME_BYTES_MAX || header.reserved {
        return None;
    }
    let allowed = match header.kind {
        kind::DATA => flag::END_STREAM | flag::PADDED,
        kind::HEADERS => flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
        kind::PUSH_PROMISE => flag::END_HEADERS | flag::PADDED,
        kind::CONTINUATION => flag::END_HEADERS,
        kind::SETTINGS | kind::PING => flag::ACK,
        _ => 0,
    };
    if header.flags & !allowed != 0 {
        return None;
    }
    let on_stream = header.stream != 0;
    let fits = match header.kind {
        // An empty one that ends nothing has no use, and looks like a row of zeros.
        kind::DATA => on_stream && (length > 0 || header.flags & flag::END_STREAM != 0),
        kind::HEADERS | kind::CONTINUATION => on_stream && length > 0,
        kind::PRIORITY => on_stream && length == 5,
        kind::RST_STREAM => on_stream && length == 4,
        kind::SETTINGS => !on_stream && length.is_multiple_of(6) && (header.flags == 0 || length == 0),
        kind::PUSH_PROMISE => on_stream && length > 4,
        kind::PING => !on_stream && length == 8,
        kind::GOAWAY => !on_stream && length >= 8,
        kind::WINDOW_UPDATE => length == 4,
        _ => false,
    };
    if !fits {
        return None;
    }
    let fixed = matches!(
        header.kind,
        kind::PRIORITY | kind::RST_STREAM | kind::PING | kind::WINDOW_UPDATE
    );
    let number = if header.stream < 1 << 20 { 10 } else { 0 };
    Some(if fixed { 36 + number } else { 24 + number })
}

impl Decoder {
    /// Frames plainly begin in these bytes: strict enough to begin in the middle of a connection. Which half they are of is
    /// told by the first header block that says so; `Some(None)`: not here.
    pub fn joins(bytes: &[u8], limits: &Limits) -> Option<Option<Role>> {
        if let Some(offset) = find(bytes, false) {
            return Some(Decoder::role_of(&bytes[offset..], limits));
        }
        // Fewer frames are enough if one of them has a head that can be read.
        let offset = find(bytes, true)?;
        Decoder::role_of(&bytes[offset..], limits).map(Some)
    }

    /// The half that frames are of, by the first head that says so.
    fn role_of(frames: &[u8], limits: &Limits) -> Option<Role> {
        let mut role = None;
        for candidate in [Role::Requests, Role::Responses] {
            let mut decoder = Decoder::at_frame(candidate);
            decoder.take(Bytes::copy_from_slice(frames), 0, limits, &mut |told| {
                if let Told::Head { head, .. } = told
                    && role.is_none()
                {
                    let is_told = match &head.line {
                        StartLine::Request { method, target, .. } => !method.is_empty() || !target.is_empty(),
                        StartLine::Response { status } => *status != 0,
                    };
                    let odd = [
                        Anomaly::InvalidPseudoHeader,
                        Anomaly::InvalidHeaderBlock,
                        Anomaly::InvalidHeaderName,
                    ];
                    if is_told && !odd.iter().any(|odd| head.anomalies.contains(odd)) {
                        role = Some(candidate);
                    }
                }
            });
        }
        role
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_found_and_rows_of_zeros_are_not() {
        let data = b"\0\0\x05\0\0\0\0\0\x01hello".to_vec();
        let headers = b"\0\0\x01\x01\x05\0\0\0\x03\x82".to_vec();
        let window = b"\0\0\x04\x08\0\0\0\0\0\0\0\x10\0".to_vec();
        let chain = [data.clone(), headers.clone(), window.clone()].concat();
        for (bytes, known, expected) in [
            (chain.clone(), false, Some(0)),
            (
                [b"tail of a body".to_vec(), chain.clone()].concat(),
                false,
                Some(14),
            ),
            (window.clone(), true, Some(0)),
            (window, false, Some(0)),
            (data.clone(), false, None),
            (data, true, Some(0)),
            (vec![0; 500], true, None),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true, None),
            (b"\0\0\x05\0\0\0\0\0".to_vec(), true, None),
            (Vec::new(), true, None),
        ] {
            assert_eq!(
                find(&bytes, known),
                expected,
                "{:?} {known}",
                bytes.escape_ascii().to_string()
            );
        }
        let alone = [b"xx".to_vec(), headers].concat();
        assert_eq!(find(&alone, false), None);
    }
}
