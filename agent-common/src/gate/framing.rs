//! Behind a head: bodies by length, and chunk by chunk (RFC 9112 §6, §7.1). A body's bytes are never looked at.

use super::judge;
use super::scan::Look;
use super::stream::{Facts, Reason, Scan, Stream, flag, state};
use super::tables::Tables;
use super::{CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, words};

/// Returns how many of the `left` bytes passed unseen; `look.used` tells of those that were looked at.
#[inline(always)]
pub(super) fn step<T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    look: &mut Look,
    left: u32,
    facts: &Facts,
    tables: &T,
) -> u32 {
    let state = stream.state;
    if state == state::BODY || state == state::CHUNK {
        let passed = if stream.skip < left as u64 {
            stream.skip as u32
        } else {
            left
        };
        stream.skipped(passed as u64);
        return passed;
    }
    let byte = look.byte(0);
    if state == state::GARBLED {
        // Line ends may follow any message.
        if matches!(byte, b'\r' | b'\n') {
            look.used = 1;
        } else {
            judge::lost(stream, scan, stream.reason, facts, tables);
        }
        return 0;
    }
    look.used = 1;
    stream.head_bytes += 1;
    let valid = match state {
        state::CHUNK_CR => {
            stream.state = state::CHUNK_LF;
            byte == b'\r'
        }
        state::CHUNK_LF => {
            size_begins(stream);
            byte == b'\n'
        }
        state::SIZE => size(stream, byte),
        state::SIZE_LF => {
            stream.head_bytes = 0;
            stream.state = if stream.skip == 0 {
                state::TRAILER
            } else {
                state::CHUNK
            };
            byte == b'\n'
        }
        state::TRAILER => {
            stream.state = if byte == b'\r' {
                state::LAST_LF
            } else {
                state::TRAILER_REST
            };
            // A field's name, or the empty line: some servers pass over whatever stands in its place.
            byte == b'\r' || words::is_token(byte)
        }
        state::LAST_LF => {
            stream.state = state::BOUNDARY;
            byte == b'\n'
        }
        state::TRAILER_LF => {
            stream.state = state::TRAILER;
            byte == b'\n'
        }
        // EXTENSION, TRAILER_REST
        _ => rest(stream, look),
    };
    let max = if state >= state::TRAILER {
        HEAD_BYTES_MAX
    } else {
        CHUNK_LINE_BYTES_MAX
    };
    if !valid || stream.head_bytes > max {
        judge::lost(stream, scan, Reason::Chunks as u8, facts, tables);
    }
    0
}

#[inline(always)]
pub(super) fn size_begins(stream: &mut Stream) {
    stream.state = state::SIZE;
    stream.skip = 0;
    stream.head_bytes = 0;
    stream.fresh();
}

/// `1*HEXDIG`, within 31 bits; white space behind it (RFC 9112 §7.1.1 has it before extensions) is read as the same size by
/// whoever takes it.
#[inline(always)]
fn size(stream: &mut Stream, byte: u8) -> bool {
    let small = byte | 0x20;
    let digit = if stream.has(flag::CLOSED) {
        NO_DIGIT
    } else if byte.is_ascii_digit() {
        byte - b'0'
    } else if small.wrapping_sub(b'a') < 6 {
        small - b'a' + 10
    } else {
        NO_DIGIT
    };
    if digit == NO_DIGIT {
        if matches!(byte, b' ' | b'\t') {
            stream.flags |= flag::CLOSED;
            return stream.has(flag::BEGUN);
        }
        stream.flags &= !flag::CLOSED;
        stream.state = if byte == b'\r' {
            state::SIZE_LF
        } else {
            state::EXTENSION
        };
        return stream.has(flag::BEGUN) && matches!(byte, b'\r' | b';');
    }
    stream.flags |= flag::BEGUN;
    stream.skip = (stream.skip << 4) | digit as u64;
    // Some servers count in 32 bits, and nobody sends such a chunk.
    stream.skip >> 31 == 0
}

const NO_DIGIT: u8 = u8::MAX;

/// The rest of a line that does not matter.
#[inline(always)]
fn rest(stream: &mut Stream, look: &mut Look) -> bool {
    let plain = look.plain(words::value_ends(look.word));
    if plain == look.bytes {
        stream.head_bytes += plain - 1;
        look.used = plain;
        return true;
    }
    stream.head_bytes += plain;
    look.used = plain + 1;
    let byte = look.byte(plain);
    if byte == b'\r' {
        stream.state = if stream.state == state::EXTENSION {
            state::SIZE_LF
        } else {
            state::TRAILER_LF
        };
        return true;
    }
    byte == b'\t'
}
