//! The PROXY protocol's header, versions 1 and 2: what a load balancer may put before the first request. It is passed over,
//! so that the requests behind it are judged; whom it names is for the agent. And what begins an HTTP/2 connection.

use super::GARBAGE_BYTES_MAX;
use super::odd::strange;
use super::scan::{Look, min};
use super::stream::{Facts, Reason, Scan, Stream, flag, state};
use super::tables::Tables;
use super::words::{is_client_hello, word};

/// Longest header of version 1, with its CRLF.
const LINE_BYTES_MAX: u32 = 107;

/// The first byte of a TLS record that carries a handshake: looked at where version 2's signature is, for its length too.
pub(super) const TLS: u8 = 0x16;

#[inline(always)]
pub(super) fn step<T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    look: &mut Look,
    facts: &Facts,
    tables: &T,
) {
    if stream.state == state::PROXY_LINE {
        line(stream, look);
        return;
    }
    let second = stream.has(flag::BEGUN);
    let wanted = match (stream.state, second) {
        (state::PROXY_HEAD, _) => 4,
        (state::PROXY_TEXT, false) => 6,
        (state::PROXY_TEXT | state::PREFACE, true) => 2,
        _ => 8,
    };
    let missing = wanted - min(stream.pending_bytes as u32, wanted);
    let used = min(missing, look.bytes);
    look.used = used;
    stream.gather(look.word, used);
    if stream.pending_bytes < wanted as u8 {
        return;
    }
    let text = stream.pending;
    stream.fresh();
    match stream.state {
        state::PROXY_TEXT => {
            let byte = (text >> 40) as u8;
            let address = byte == b':' || byte.is_ascii_hexdigit();
            let five = text & 0xff_ffff_ffff;
            let known = address && (five == word(b"TCP4 ") || five == word(b"TCP6 "));
            if !second && text == word(b"UNKNOW") {
                stream.flags |= flag::BEGUN;
            } else if (!second && known) || (second && text == word(b"N\r")) {
                stream.state = state::PROXY_LINE;
                if second {
                    // With its carriage return.
                    stream.flags |= flag::BEGUN;
                }
            } else {
                none(stream);
            }
        }
        state::PROXY_SIGNATURE => {
            if text == word(b"\0\r\nQUIT\n") {
                stream.state = state::PROXY_HEAD;
            } else {
                if is_client_hello(text) {
                    // Lines within it are none.
                    stream.fields = GARBAGE_BYTES_MAX as u16;
                }
                // Its first line may be over, and the next one has begun: to the gate they are one.
                strange(stream, scan, facts, tables);
                // In the account of an odd line.
                stream.hash = text.swap_bytes();
            }
        }
        state::PREFACE => {
            if !second && text == word(b"\r\n\r\nSM\r\n") {
                stream.flags |= flag::BEGUN;
            } else if second && text == word(b"\r\n") {
                stream.state = state::OPAQUE;
            } else {
                none(stream);
            }
        }
        // PROXY_HEAD
        _ => {
            if (text as u8) >> 4 != 2 {
                strange(stream, scan, facts, tables);
                return;
            }
            over(stream);
            stream.skip = ((text >> 8) & 0xff00) | (text >> 24);
            if stream.skip != 0 {
                stream.state = state::BODY;
            }
        }
    }
}

/// Addresses and ports, up to the line's end.
#[inline(always)]
fn line(stream: &mut Stream, look: &mut Look) {
    let byte = look.byte(0);
    look.used = 1;
    if byte == b'\n' {
        over(stream);
    } else if stream.has(flag::BEGUN) || stream.head_bytes >= LINE_BYTES_MAX - 1 {
        none(stream);
    } else if byte == b'\r' {
        stream.flags |= flag::BEGUN;
    } else if !byte.is_ascii_hexdigit() && !matches!(byte, b'.' | b':' | b' ') {
        none(stream);
    }
}

/// A request of a method of this name, for a server that takes such a target.
#[inline(always)]
fn none(stream: &mut Stream) {
    stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
    stream.broken(Reason::RequestLine);
    stream.state = state::ENDED;
}

#[inline(always)]
fn over(stream: &mut Stream) {
    stream.flags |= flag::PREFIXED;
    stream.state = state::BOUNDARY;
}
