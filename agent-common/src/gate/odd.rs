//! A first line that is none as RFC 9112 §3 has it: some servers take any bytes for a method, split lines at any blank, or answer
//! one without a version, so its end tells whether it is a request.

use super::judge;
use super::scan::Look;
use super::stream::{Facts, Reason, Scan, Stream, flag, state};
use super::tables::Tables;
use super::words::{self, is_blank, word};

/// A first line that does not begin like a request: some servers take any bytes for a method, so its end tells.
#[inline(always)]
pub(super) fn strange<T: Tables>(stream: &mut Stream, scan: &mut Scan, facts: &Facts, tables: &T) {
    if !stream.may_be_another_protocol() {
        judge::not_http(stream, scan, facts, tables);
        return;
    }
    stream.flags |= flag::HOST_UNKNOWN;
    begin(stream);
}

/// What has been gathered behind the space goes into the account of an odd line.
#[inline(always)]
pub(super) fn version(stream: &mut Stream) {
    let (text, bytes) = (stream.pending, stream.pending_bytes as u32);
    begin(stream);
    // Of ` HTTP/1.1` the account is full by eight bytes; of less, all goes through it.
    stream.skip = b' ' as u64;
    stream.hash = text.swap_bytes();
    if bytes < 8 {
        stream.skip = 0;
        stream.hash = (b' ' as u64) << (bytes * 8);
        if bytes > 0 {
            stream.hash |= text.swap_bytes() >> (64 - bytes * 8);
        }
    }
    if bytes >= 5 && matches!(text & 0xff_ffff_ffff, HTTP | HTTP_SMALL) {
        stream.flags |= flag::VERSIONED;
        let mut numbers = text >> 40;
        let mut only = true;
        for _ in 0..3 {
            let byte = numbers as u8;
            only &= byte == 0 || byte == b'.' || byte.is_ascii_digit();
            numbers >>= 8;
        }
        if only && text & 0xff_ffff_ffff == HTTP {
            stream.flags |= flag::ENDS;
        }
    }
}

const HTTP: u64 = word(b"HTTP/");
const HTTP_SMALL: u64 = word(b"http/");

#[inline(always)]
pub(super) fn begin(stream: &mut Stream) {
    stream.state = state::ODD;
    stream.flags |= flag::INKED;
    stream.hash = 0;
    stream.skip = 0;
}

/// A request line with something else in it than method, target and version: whether it is one is told by its end.
#[inline(always)]
pub(super) fn step<T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    look: &mut Look,
    facts: &Facts,
    tables: &T,
) {
    let byte = look.byte(0);
    look.used = 1;
    // A version has a slash.
    let plain = look.bytes == 8 && words::is_none(words::line_or_slash(look.word));
    if plain && stream.flags & (flag::INKED | flag::ENDS) == flag::INKED {
        stream.skip = stream.hash & 0xffff;
        stream.hash = look.word.swap_bytes();
        look.used = 8;
        return;
    }
    if byte != b'\n' {
        stream.skip = ((stream.skip << 8) | (stream.hash >> 56)) & 0xffff;
        stream.hash = (stream.hash << 8) | byte as u64;
        let last = stream.hash & 0xff_ffff_ffff;
        if (last == BEFORE_VERSION || last == BEFORE_VERSION_SMALL) && is_blank((stream.hash >> 40) as u8) {
            // Who takes small letters answers the line at once.
            stream.flags |= flag::VERSIONED | if last == BEFORE_VERSION { flag::ENDS } else { 0 };
        } else if !is_blank(byte) && byte != b'.' && !byte.is_ascii_digit() {
            stream.flags &= !flag::ENDS;
        }
        if !is_blank(byte) {
            stream.flags |= flag::INKED;
        }
        return;
    }
    if stream.hash as u8 != b'\r' {
        stream.broken(Reason::LineEnd);
    }
    let valid = stream.has(flag::ENDS);
    // Behind lines that are none, a word and a path may be any protocol's.
    let tells = if stream.is_behind_garbage() {
        flag::VERSIONED
    } else {
        flag::VERSIONED | flag::SLASH
    };
    let known = stream.has(flag::REGISTERED) && stream.has(tells);
    let empty = !stream.has(flag::INKED | flag::REGISTERED);
    stream.skip = 0;
    stream.hash = 0;
    stream.fresh();
    if empty {
        // Passed over by those who pass blanks over.
        stream.state = state::BOUNDARY;
        return;
    }
    if !valid && !known {
        judge::no_request(stream, scan, facts, tables);
        return;
    }
    if !stream.has(flag::REGISTERED) {
        judge::any_method(stream, tables);
    }
    stream.broken(Reason::RequestLine);
    if valid {
        stream.state = state::LINE;
    } else {
        // A server may answer such a line at once.
        stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
        stream.state = state::ENDED;
    }
}

/// `HTTP/`, as it lies in the account of an odd line: the first byte highest.
const BEFORE_VERSION: u64 = word(b"HTTP/").swap_bytes() >> 24;
const BEFORE_VERSION_SMALL: u64 = word(b"http/").swap_bytes() >> 24;
