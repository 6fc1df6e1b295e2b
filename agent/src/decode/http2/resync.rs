//! Where frames begin in the middle of a connection: told by chains of plausible frame headers.
//!
//! A body may hold anything, also something that looks like a frame. So a chain must carry evidence: each header that
//! stands exactly where the one before it says, and is one that RFC 9113 allows, adds to it. A chain that leaves the bytes at
//! hand is a hope, held until the place comes where its next frame would begin. And what was found is given up again as soon
//! as something comes that is no frame.

use bytes::Bytes;

use super::super::{Anomaly, Limits, Role, StartLine};
use super::frame::{FRAME_HEADER_BYTES, Header, flag, kind};
use super::{Decoder, Told};

/// Evidence that is enough, in bits: two frames and more.
const EVIDENCE_MIN: u32 = 70;
/// The same where the connection is known to be HTTP/2: two frames, or one that fills what was written at once.
const EVIDENCE_KNOWN_MIN: u32 = 58;
/// The bytes begin where a write or a read did, which is where frames like to begin.
const AT_START: u32 = 12;
/// The chain ends where the bytes do.
const AT_END: u32 = 14;
/// Least evidence that is worth waiting for.
const HOPE_MIN: u32 = 34;
/// Most frames of one chain that are looked at.
const CHAIN_MAX: usize = 4;
/// Before a connection agrees on others (§4.2).
const FRAME_BYTES_MAX: usize = 1 << 14;
/// The longest that any connection can agree on.
const FRAME_BYTES_LONGEST: u32 = 1 << 24;

/// A chain that goes on beyond what has come.
#[derive(Clone, Copy)]
pub struct Hope {
    /// Where its next frame would begin.
    at: u64,
    evidence: u32,
}

/// What a chain amounts to: its evidence, and where it goes on if it leaves the bytes.
type Chain = (u32, Option<usize>);

/// The offset of the first frame, if one plainly begins in `bytes`, which stand at `position`; else what there is to hope for.
/// `known`: the connection is HTTP/2 for certain. Linear: a chain has a bounded number of frames.
pub fn find(
    bytes: &[u8],
    position: u64,
    known: bool,
    at_start: bool,
    hope: Option<Hope>,
) -> Result<usize, Option<Hope>> {
    let wanted = if known { EVIDENCE_KNOWN_MIN } else { EVIDENCE_MIN };
    let end = position + bytes.len() as u64;
    let mut hope = hope.filter(|hope| hope.at >= position);
    if let Some(held) = hope
        && held.at < end
    {
        let from = (held.at - position) as usize;
        match chain(&bytes[from..], held.evidence) {
            (evidence, _) if evidence >= wanted => return Ok(from),
            (0, _) => hope = None,
            (evidence, Some(next)) => {
                hope = Some(Hope {
                    at: held.at + next as u64,
                    evidence,
                });
            }
            // Too little of the next header has come to tell, and it is in no other piece.
            (_, None) => hope = None,
        }
    }
    let Some(last) = bytes.len().checked_sub(FRAME_HEADER_BYTES) else {
        return Err(hope);
    };
    // A frame header's first byte is 0 as long as frames are short.
    for start in memchr::memchr_iter(0, &bytes[..=last]) {
        let before = if start == 0 && at_start { AT_START } else { 0 };
        let (evidence, next) = chain(&bytes[start..], before);
        if evidence >= wanted {
            return Ok(start);
        }
        if let Some(next) = next
            && evidence >= HOPE_MIN
            && hope.is_none_or(|hope| evidence > hope.evidence)
        {
            hope = Some(Hope {
                at: position + (start + next) as u64,
                evidence,
            });
        }
    }
    Err(hope)
}

/// Follows a chain; 0: something in it is no frame.
fn chain(bytes: &[u8], before: u32) -> Chain {
    let (mut rest, mut sum) = (bytes, before);
    for _ in 0..CHAIN_MAX {
        if rest.is_empty() {
            return (sum + AT_END, None);
        }
        let Some(header) = Header::of(rest) else {
            return (sum, None);
        };
        let Some(bits) = plausible(&header) else {
            return (0, None);
        };
        sum += bits;
        let end = FRAME_HEADER_BYTES + header.length as usize;
        match rest.get(end..) {
            Some(after) => rest = after,
            None => return (sum, Some(bytes.len() - rest.len() + end)),
        }
    }
    (sum, None)
}

/// A frame that may follow others: also of the kinds that came later (RFC 7838, 8336, 9218), and longer ones.
pub fn goes_on(header: &Header) -> bool {
    const LATER: [u8; 3] = [0x0a, 0x0c, 0x10];
    if header.reserved || header.length >= FRAME_BYTES_LONGEST {
        return false;
    }
    match header.kind {
        kind::DATA => header.stream != 0 && header.flags & !(flag::END_STREAM | flag::PADDED) == 0,
        kind if LATER.contains(&kind) => header.length as usize <= FRAME_BYTES_MAX,
        _ => plausible(header).is_some(),
    }
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
        if let Ok(offset) = find(bytes, 0, false, true, None) {
            return Some(Decoder::role_of(&bytes[offset..], limits));
        }
        // Fewer frames are enough if one of them has a head that can be read.
        let offset = find(bytes, 0, true, true, None).ok()?;
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
                find(&bytes, 0, known, true, None).ok(),
                expected,
                "{:?} {known}",
                bytes.escape_ascii().to_string()
            );
        }
        let alone = [b"xx".to_vec(), headers].concat();
        assert!(find(&alone, 0, false, true, None).is_err());
    }
}
