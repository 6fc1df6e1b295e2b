//! Which protocol, and which half of it, a direction carries: told by its first bytes alone, because ports lie.
//!
//! The same test tells where a message may begin after a loss. There it must be strict: a body may hold anything,
//! also something that begins like a request.

use super::scan::{is_blank, is_tchar, registered_method};

/// Longest method that is taken for one. Some servers take whatever fits their buffers.
const METHOD_BYTES_MAX: usize = 4096;
/// Bytes of a request line to wait for before judging by its method alone.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What the first bytes of a direction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// HTTP/1 requests.
    Requests,
    /// HTTP/1 responses.
    Responses,
    /// An HTTP/2 connection preface, the client's or the server's (RFC 9113 §3.4).
    Http2,
    /// A message of HL7 version 2 in MLLP, either way.
    Mllp,
    /// None of these.
    Other,
    /// Too few bytes to tell.
    More,
}

impl Sniffed {
    /// Looks at the first bytes of a direction, or of a message.
    pub fn of(bytes: &[u8]) -> Sniffed {
        sniff(bytes)
    }
}

pub(super) fn sniff(bytes: &[u8]) -> Sniffed {
    let bytes = skip_empty_lines(bytes);
    if bytes.is_empty() {
        return Sniffed::More;
    }
    match super::mllp::opens(bytes) {
        Some(true) => return Sniffed::Mllp,
        None => return Sniffed::More,
        Some(false) => {}
    }
    if begins(bytes, b"HTTP/") {
        return match bytes.get(5) {
            None => Sniffed::More,
            Some(byte) if byte.is_ascii_digit() => Sniffed::Responses,
            Some(_) => Sniffed::Other,
        };
    }
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    if begins(bytes, PREFACE) {
        return if bytes.len() < PREFACE.len() {
            Sniffed::More
        } else {
            Sniffed::Http2
        };
    }
    if let Some(sniffed) = settings(bytes) {
        return sniffed;
    }
    let method_end = match bytes.iter().position(|byte| !is_tchar(*byte)) {
        Some(end) => end,
        None if bytes.len() <= METHOD_BYTES_MAX => return Sniffed::More,
        None => return Sniffed::Other,
    };
    if method_end == 0 || method_end > METHOD_BYTES_MAX || bytes[method_end] != b' ' {
        return strange(bytes);
    }
    let target = &bytes[method_end + 1..];
    match target.first() {
        None => return Sniffed::More,
        Some(byte) if byte.is_ascii_graphic() => {}
        Some(_) => return strange(bytes),
    }
    let registered = registered_method(&bytes[..method_end]).is_some();
    match memchr::memchr(b'\n', target) {
        Some(end) if ends_in_version(&target[..end]) || (registered && could_be_request(&target[..end])) => {
            Sniffed::Requests
        }
        Some(_) => Sniffed::Other,
        None if bytes.len() < LINE_BYTES_MAX => Sniffed::More,
        None if registered => Sniffed::Requests,
        None => Sniffed::Other,
    }
}

/// What does not begin like a request ends its first line like one: some servers take any bytes for a method. Only asked of
/// a line that is there already, so nothing waits for it.
fn strange(bytes: &[u8]) -> Sniffed {
    match memchr::memchr(b'\n', bytes) {
        Some(end) if ends_like_a_request(&bytes[..end]) => Sniffed::Requests,
        _ => Sniffed::Other,
    }
}

/// A blank, `HTTP/`, digits and dots, and blanks: as the gate has it.
fn ends_like_a_request(line: &[u8]) -> bool {
    let end = line
        .iter()
        .rposition(|byte| !is_blank(*byte))
        .map_or(0, |last| last + 1);
    let number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let name = line[..end].iter().rposition(|byte| !number(byte));
    name.is_some_and(|last| {
        line[..=last]
            .strip_suffix(b"HTTP/")
            .and_then(<[u8]>::last)
            .is_some_and(|byte| is_blank(*byte))
    })
}

/// A server's preface is a SETTINGS frame on stream 0, without the flag of an acknowledgement: pairs of 6 bytes, at most
/// 16 KiB of them before others are agreed on (RFC 9113 §4.2, §6.5). It may come before the client's.
fn settings(bytes: &[u8]) -> Option<Sniffed> {
    const HEADER: [Option<u8>; 9] = [
        Some(0),
        None,
        None,
        Some(4),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
    ];
    let fits = bytes
        .iter()
        .zip(HEADER)
        .all(|(byte, wanted)| wanted.is_none_or(|wanted| *byte == wanted));
    if !fits {
        return None;
    }
    let Some(&[_, high, low, ..]) = bytes.get(..HEADER.len()) else {
        return Some(Sniffed::More);
    };
    let length = u16::from_be_bytes([high, low]);
    (length % 6 == 0 && length <= 1 << 14).then_some(Sniffed::Http2)
}

/// What follows a registered method is a target and an (invalid) HTTP version, or a path alone as in HTTP/0.9. Redis,
/// NNTP, SIP and others share words with HTTP.
fn could_be_request(rest: &[u8]) -> bool {
    let version = |name: &[u8]| memchr::memmem::find(rest, name).is_some();
    version(b" HTTP/")
        || version(b" http/")
        || (rest.starts_with(b"/") && !rest.trim_ascii_end().contains(&b' '))
}

/// A whole, valid first line stands here: strict enough to begin again in the middle of a stream.
pub(super) fn begins_message(bytes: &[u8], role: super::Role) -> bool {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return false;
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    match role {
        super::Role::Responses => {
            line.len() >= 12
                && line.starts_with(b"HTTP/1.")
                && line[7].is_ascii_digit()
                && line[8] == b' '
                && line[9..12].iter().all(u8::is_ascii_digit)
                && line.get(12).is_none_or(|byte| *byte == b' ')
        }
        super::Role::Requests => {
            let Some(method_end) = memchr::memchr(b' ', line) else {
                return false;
            };
            registered_method(&line[..method_end]).is_some() && {
                let target = &line[method_end + 1..];
                ends_in_version(target)
                    && target.len() > 9
                    && target[..target.len() - 9].iter().all(u8::is_ascii_graphic)
            }
        }
    }
}

fn ends_in_version(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.len() > 9 && {
        let version = &line[line.len() - 9..];
        version.starts_with(b" HTTP/1.") && version[8].is_ascii_digit()
    }
}

/// Empty lines before a message are ignored (RFC 9112 §2.2), and so are lines of blanks by those who ignore blanks.
pub(super) fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    loop {
        let skip = bytes
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'))
            .unwrap_or(bytes.len());
        bytes = &bytes[skip..];
        match bytes.iter().position(|byte| !is_blank(*byte)) {
            Some(end) if end > 0 && bytes[end] == b'\n' => bytes = &bytes[end..],
            _ => return bytes,
        }
    }
}

/// One is the beginning of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let length = bytes.len().min(with.len());
    bytes[..length] == with[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Role;

    #[test]
    fn first_bytes_tell() {
        for (bytes, expected) in [
            ("", Sniffed::More),
            ("\r\n", Sniffed::More),
            ("G", Sniffed::More),
            ("GET", Sniffed::More),
            ("GET ", Sniffed::More),
            ("GET /", Sniffed::More),
            ("GET / HTTP/1.1\r\n", Sniffed::Requests),
            ("\r\nGET / HTTP/1.1\r\n", Sniffed::Requests),
            ("GET / http/7\r\n", Sniffed::Requests),
            ("GET /\r\n", Sniffed::Requests),
            ("GET key\r\n", Sniffed::Other),
            ("\0GET / HTTP/1.1\r\n", Sniffed::Requests),
            (" GET / HTTP/1.1\n", Sniffed::Requests),
            ("G(T / HTTP/1.1\r\n", Sniffed::Requests),
            ("\0GET / HTTP/1.1", Sniffed::Other),
            ("GET\u{c}/x\u{c}HTTP/1.1\r\n", Sniffed::Requests),
            ("\0FROB /x HTTP/1.01 \r\r\n", Sniffed::Requests),
            (" \r\nGET / HTTP/1.1\r\n", Sniffed::Requests),
            ("\0said \"GET / HTTP/1.1\"\r\n", Sniffed::Other),
            ("HEAD 123\r\n", Sniffed::Other),
            ("OPTIONS sip:a@b SIP/2.0\r\n", Sniffed::Other),
            ("OPTIONS * HTTP/1.1\n", Sniffed::Requests),
            ("CONNECT a:1 HTTP/1.1\n", Sniffed::Requests),
            ("FROB /", Sniffed::More),
            ("FROB / HTTP/1.1\r\n", Sniffed::Requests),
            ("FROB / \r\n", Sniffed::Other),
            ("H", Sniffed::More),
            ("HTTP/", Sniffed::More),
            ("HTTP/1", Sniffed::Responses),
            ("HTTP/x", Sniffed::Other),
            ("HEAD /", Sniffed::More),
            ("PRI * HTTP/2.0\r\n\r\nSM", Sniffed::Http2),
            ("\0\0\x12\x04\0\0\0\0\0\0\x03", Sniffed::Http2),
            ("\0\0\0\x04\0\0\0\0\0", Sniffed::Http2),
            ("\0\0\x12\x04", Sniffed::More),
            ("\0\0\x11\x04\0\0\0\0\0", Sniffed::Other),
            ("\0\0\0\x08\x04", Sniffed::Other),
            ("\x0b", Sniffed::More),
            ("\x0bMSH", Sniffed::More),
            ("\x0bMSH|^~\\&|", Sniffed::Mllp),
            ("\x0bMSG|", Sniffed::Other),
            ("PRI * HT", Sniffed::More),
            ("\u{16}\u{3}\u{1}", Sniffed::Other),
            ("220 mail ready\r\n", Sniffed::Other),
            ("*1\r\n$4\r\nPING\r\n", Sniffed::Other),
        ] {
            assert_eq!(sniff(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_new_beginning_takes_a_whole_valid_line() {
        for (bytes, role, expected) in [
            ("GET / HTTP/1.1\r\n", Role::Requests, true),
            ("GET / HTTP/1.1\n", Role::Requests, true),
            ("GET / HTTP/1.1", Role::Requests, false),
            ("GET /\r\n", Role::Requests, false),
            ("GET a b HTTP/1.1\r\n", Role::Requests, false),
            ("get / HTTP/1.1\r\n", Role::Requests, false),
            ("HTTP/1.1 200 OK\r\n", Role::Responses, true),
            ("HTTP/1.1 200\r\n", Role::Responses, true),
            ("HTTP/1.1 2000\r\n", Role::Responses, false),
            ("HTTP/1.1 200 OK\r\n", Role::Requests, false),
        ] {
            assert_eq!(begins_message(bytes.as_bytes(), role), expected, "{bytes:?}");
        }
    }
}
