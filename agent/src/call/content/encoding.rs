//! Content-Encoding undone (RFC 9110 §8.4): gzip, deflate (zlib, and raw as many send it), br, zstd, also on top of each
//! other, by kept crates. What a few bytes may become is bounded by ratio and by length.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

use super::ContentLimits;
use crate::decode::Anomaly;

const PIECE_BYTES: usize = 16 * 1024;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// `encodings` is the header's value; the last one was applied last, and is undone first.
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    encodings: &[u8],
    truncated: bool,
    limits: &ContentLimits,
) -> (Cow<'a, [u8]>, Option<Anomaly>) {
    let mut content = Cow::Borrowed(bytes);
    if encodings.is_empty() || bytes.is_empty() {
        return (content, None);
    }
    let names: Vec<&[u8]> = encodings
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        // `none` is no registered name, and what servers write that want nobody on the way to compress.
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
        .filter(|name| !name.eq_ignore_ascii_case(b"none"))
        .collect();
    if names.len() > limits.encodings_max {
        return (content, Some(Anomaly::ContentBomb));
    }
    let mut anomaly = None;
    // A decoder that met its limit leaves the next one with a part.
    let mut cut = truncated;
    for name in names.into_iter().rev() {
        let (decoded, problem) = match one(&content, name, bytes.len(), limits) {
            Some(result) => result,
            None => return (content, anomaly.or(Some(Anomaly::UnknownContentEncoding))),
        };
        content = Cow::Owned(decoded);
        match problem {
            None => {}
            Some(Problem::Bomb) => return (content, Some(Anomaly::ContentBomb)),
            Some(Problem::Full) => cut = true,
            Some(Problem::Ended) if cut => {}
            Some(Problem::Ended | Problem::Broken) => {
                anomaly = anomaly.or(Some(Anomaly::InvalidContentEncoding));
                cut = true;
            }
        }
    }
    (content, anomaly)
}

enum Problem {
    Bomb,
    /// The length's limit, at an ordinary ratio.
    Full,
    /// It broke off.
    Ended,
    Broken,
}

/// `None`: an encoding that is not known.
fn one(
    bytes: &[u8],
    name: &[u8],
    wire_bytes: usize,
    limits: &ContentLimits,
) -> Option<(Vec<u8>, Option<Problem>)> {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    Some(if is(b"gzip") || is(b"x-gzip") {
        pump(flate2::read::MultiGzDecoder::new(bytes), wire_bytes, limits)
    } else if is(b"deflate") {
        match is_zlib(bytes) {
            true => pump(flate2::read::ZlibDecoder::new(bytes), wire_bytes, limits),
            false => pump(flate2::read::DeflateDecoder::new(bytes), wire_bytes, limits),
        }
    } else if is(b"br") {
        pump(
            brotli_decompressor::Decompressor::new(bytes, BROTLI_BUFFER_BYTES),
            wire_bytes,
            limits,
        )
    } else if is(b"zstd") {
        zstd(bytes, wire_bytes, limits)
    } else {
        return None;
    })
}

/// RFC 1950 §2.2: method 8, and the first two bytes are a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    match bytes {
        [method, flags, ..] => method & 15 == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0,
        _ => false,
    }
}

/// Frames after each other are one content.
fn zstd(bytes: &[u8], wire_bytes: usize, limits: &ContentLimits) -> (Vec<u8>, Option<Problem>) {
    let mut rest = bytes;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let decoder = match ruzstd::decoding::StreamingDecoder::new(&mut rest) {
            Ok(decoder) => decoder,
            Err(_) => {
                let problem = if rest.len() < 18 {
                    Problem::Ended
                } else {
                    Problem::Broken
                };
                return (out, Some(problem));
            }
        };
        let problem = pump_into(decoder, wire_bytes, limits, &mut out);
        if problem.is_some() {
            return (out, problem);
        }
    }
    (out, None)
}

fn pump(reader: impl Read, wire_bytes: usize, limits: &ContentLimits) -> (Vec<u8>, Option<Problem>) {
    let mut out = Vec::new();
    let problem = pump_into(reader, wire_bytes, limits, &mut out);
    (out, problem)
}

fn pump_into(
    mut reader: impl Read,
    wire_bytes: usize,
    limits: &ContentLimits,
    out: &mut Vec<u8>,
) -> Option<Problem> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return None,
            Ok(length) => out.extend_from_slice(&piece[..length]),
            Err(error) => {
                return Some(match error.kind() {
                    ErrorKind::UnexpectedEof | ErrorKind::Interrupted => Problem::Ended,
                    _ if is_end(&error) => Problem::Ended,
                    _ => Problem::Broken,
                });
            }
        }
        let bomb = out.len() > limits.small_bytes && out.len() / limits.ratio_max.max(1) > wire_bytes;
        if bomb || out.len() > limits.bytes_max {
            out.truncate(limits.bytes_max);
            return Some(if bomb { Problem::Bomb } else { Problem::Full });
        }
    }
}

/// Some decoders wrap the end of their input into an error of their own.
fn is_end(error: &std::io::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<std::io::Error>()
            && inner.kind() == ErrorKind::UnexpectedEof
        {
            return true;
        }
        source = inner.source();
    }
    false
}
