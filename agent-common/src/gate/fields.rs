//! A head's fields (RFC 9112 §5), as far as they matter: where the message ends, for which host it is, and whether and
//! how its sender authenticated.

use super::scan::{Look, count_field, end_of, flush, follow, min};
use super::stream::{Reason, Stream, Window, flag, state};
use super::tables::{NO_NODE, Tables, auth};
use super::words::{self, word};

/// What a name may still become, or has become.
mod name {
    pub const START: u8 = 0;
    pub const OTHER: u8 = 1;
    // What follows the first eight letters.
    pub const CONTENT: u8 = 2;
    pub const TRANSFER: u8 = 3;
    pub const TRANSFER_ENCODING: u8 = 4;
    pub const AUTHORIZATION: u8 = 5;
    pub const X_API_KEY: u8 = 6;
    pub const X_APIKEY: u8 = 7;
    pub const X_GOOG: u8 = 8;
    pub const X_AUTH: u8 = 9;
    pub const X_ACCESS: u8 = 10;
    pub const OCP_APIM: u8 = 11;
    pub const OCP_APIM_2: u8 = 12;
    pub const OCP_APIM_3: u8 = 13;
    pub const X_FUNCTIONS: u8 = 14;
    pub const X_VAULT: u8 = 15;
    // Whole names.
    pub const IS_LENGTH: u8 = 32;
    pub const IS_CODING: u8 = 33;
    pub const IS_HOST: u8 = 34;
    pub const IS_AUTHORIZATION: u8 = 35;
    pub const IS_COOKIE: u8 = 36;
    pub const IS_API_KEY: u8 = 37;
    pub const IS_UPGRADE: u8 = 38;
    // What a scheme's first eight letters may become.
    pub const SIG_V4: u8 = 40;
    pub const NEGOTIATE: u8 = 41;
}

/// Words of a name that are looked at in one step, and stretches of a value: all of most fields.
const NAME_WORDS: u32 = 2;
const VALUE_ROUNDS: u32 = 4;

/// A field's line in its order: name, white space, value.
#[inline(always)]
pub(super) fn step<W: Window, T: Tables>(stream: &mut Stream, look: &mut Look, window: &W, tables: &T) {
    if stream.state == state::LINE {
        line(stream, look);
        if stream.state != state::NAME {
            return;
        }
    }
    if stream.state == state::NAME {
        for _ in 0..NAME_WORDS {
            field_name(stream, look);
            if !look.advance(stream, window) {
                return;
            }
            if stream.state != state::NAME {
                break;
            }
        }
        if stream.state == state::NAME {
            return;
        }
    }
    if stream.state == state::VALUE {
        for _ in 0..VALUE_ROUNDS {
            if !look.pass_two(window, words::value_ends) {
                value(stream, look);
            }
            if stream.state != state::VALUE || !look.advance(stream, window) {
                return;
            }
        }
        return;
    }
    if stream.state == state::BLANK {
        blank(stream, look, tables);
        return;
    }
    match stream.state {
        state::HOST => host(stream, look, tables),
        state::LENGTH => length(stream, look),
        state::CODING => coding(stream, look),
        state::SCHEME => scheme(stream, look),
        state::PORT => port(stream, look),
        state::TAIL => tail(stream, look),
        state::CR => {
            if look.byte(0) == b'\n' {
                look.used = 1;
                stream.state = state::LINE;
            } else {
                // The value goes on behind it.
                stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
                stream.broken(Reason::LineEnd);
                stream.state = state::VALUE;
            }
        }
        state::EMPTY => match look.byte(0) {
            b' ' | b'\t' | b'\r' | 0x0b | 0x0c => look.used = 1,
            b'\n' => {
                look.used = 1;
                stream.state = state::ENDED;
            }
            _ => stream.state = state::VALUE,
        },
        // HEAD_CR
        _ => {
            if look.byte(0) == b'\n' {
                look.used = 1;
                stream.state = state::ENDED;
            } else if look.byte(0) == b'\r' {
                // Some take a line of nothing else for an empty one.
                look.used = 1;
                stream.broken(Reason::LineEnd);
            } else {
                stream.broken(Reason::LineEnd);
                stream.state = state::VALUE;
            }
        }
    }
}

/// A line's first byte.
#[inline(always)]
fn line(stream: &mut Stream, look: &mut Look) {
    let byte = look.byte(0);
    if byte > b' ' {
        count_field(stream);
        stream.fresh();
        stream.name = name::START;
        stream.state = state::NAME;
        return;
    }
    look.used = 1;
    match byte {
        b'\r' => {
            stream.state = state::HEAD_CR;
            if look.bytes > 1 && look.byte(1) == b'\n' {
                look.used = 2;
                stream.state = state::ENDED;
            }
        }
        b'\n' => {
            stream.broken(Reason::LineEnd);
            stream.state = state::ENDED;
        }
        b' ' | b'\t' | 0x0b | 0x0c => {
            // It goes on with the value before, which nobody has kept.
            stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
            stream.broken(Reason::Fold);
            stream.state = state::EMPTY;
        }
        _ => {
            count_field(stream);
            stream.broken(Reason::Field);
            stream.state = state::VALUE;
        }
    }
}

#[inline(always)]
fn field_name(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::name_ends(look.word));
    if stream.name == name::OTHER && plain < look.bytes && look.byte(plain) == b':' {
        // It does not matter how it ends.
        look.used = plain + 1;
        stream.fresh();
        stream.state = state::VALUE;
        return;
    }
    let mut used = min(plain, stream.room());
    let ended = used == plain && plain < look.bytes;
    let byte = look.byte(plain);
    if ended && used < stream.room() && words::is_token(byte) {
        used += 1;
    }
    look.used = used;
    stream.gather(words::lower(look.word), used);
    if stream.pending_bytes == 8 {
        stream.name = name_word(stream.name, stream.pending);
        stream.fresh();
        stream.flags |= flag::BEGUN;
        return;
    }
    if !ended || used != plain {
        return;
    }
    if byte != b':' {
        // White space, a control byte, or no colon at all.
        stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
        stream.broken(if matches!(byte, b' ' | b'\t') {
            Reason::Fold
        } else {
            Reason::Field
        });
        stream.state = state::VALUE;
        return;
    }
    look.used += 1;
    if stream.pending_bytes == 0 && !stream.has(flag::BEGUN) {
        stream.broken(Reason::Field);
    }
    let name = name_end(stream.name, stream.pending);
    stream.fresh();
    named(stream, name);
}

/// Eight letters of a name, in lower case.
#[inline(always)]
fn name_word(before: u8, text: u64) -> u8 {
    if before == name::OTHER {
        return name::OTHER;
    }
    const CONTENT: u64 = word(b"content-");
    const TRANSFER: u64 = word(b"transfer");
    const ENCODIN: u64 = word(b"-encodin");
    const AUTHORIZ: u64 = word(b"authoriz");
    const X_API_KE: u64 = word(b"x-api-ke");
    const X_APIKEY: u64 = word(b"x-apikey");
    const X_GOOG_A: u64 = word(b"x-goog-a");
    const X_AUTH_T: u64 = word(b"x-auth-t");
    const X_ACCESS: u64 = word(b"x-access");
    const OCP_APIM: u64 = word(b"ocp-apim");
    const SUBSCRI: u64 = word(b"-subscri");
    const PTION_KE: u64 = word(b"ption-ke");
    const X_FUNCTI: u64 = word(b"x-functi");
    const X_VAULT: u64 = word(b"x-vault-");
    match (before, text) {
        (name::START, CONTENT) => name::CONTENT,
        (name::START, TRANSFER) => name::TRANSFER,
        (name::TRANSFER, ENCODIN) => name::TRANSFER_ENCODING,
        (name::START, AUTHORIZ) => name::AUTHORIZATION,
        (name::START, X_API_KE) => name::X_API_KEY,
        (name::START, X_APIKEY) => name::X_APIKEY,
        (name::START, X_GOOG_A) => name::X_GOOG,
        (name::START, X_AUTH_T) => name::X_AUTH,
        (name::START, X_ACCESS) => name::X_ACCESS,
        (name::START, OCP_APIM) => name::OCP_APIM,
        (name::OCP_APIM, SUBSCRI) => name::OCP_APIM_2,
        (name::OCP_APIM_2, PTION_KE) => name::OCP_APIM_3,
        (name::START, X_FUNCTI) => name::X_FUNCTIONS,
        (name::START, X_VAULT) => name::X_VAULT,
        _ => name::OTHER,
    }
}

/// The last, at most seven, letters of a name.
#[inline(always)]
fn name_end(before: u8, text: u64) -> u8 {
    if before == name::OTHER {
        return name::OTHER;
    }
    const LENGTH: u64 = word(b"length");
    const G: u64 = word(b"g");
    const HOST: u64 = word(b"host");
    const ATION: u64 = word(b"ation");
    const COOKIE: u64 = word(b"cookie");
    const UPGRADE: u64 = word(b"upgrade");
    const API_KEY: u64 = word(b"api-key");
    const APIKEY: u64 = word(b"apikey");
    const Y: u64 = word(b"y");
    const PI_KEY: u64 = word(b"pi-key");
    const OKEN: u64 = word(b"oken");
    const DASH_TOKEN: u64 = word(b"-token");
    const ONS_KEY: u64 = word(b"ons-key");
    const TOKEN: u64 = word(b"token");
    match (before, text) {
        (name::CONTENT, LENGTH) => name::IS_LENGTH,
        (name::TRANSFER_ENCODING, G) => name::IS_CODING,
        (name::START, HOST) => name::IS_HOST,
        (name::AUTHORIZATION, ATION) => name::IS_AUTHORIZATION,
        (name::START, COOKIE) => name::IS_COOKIE,
        (name::START, UPGRADE) => name::IS_UPGRADE,
        (name::START, API_KEY)
        | (name::START, APIKEY)
        | (name::X_API_KEY, Y)
        | (name::X_APIKEY, 0)
        | (name::X_GOOG, PI_KEY)
        | (name::X_AUTH, OKEN)
        | (name::X_ACCESS, DASH_TOKEN)
        | (name::OCP_APIM_3, Y)
        | (name::X_FUNCTIONS, ONS_KEY)
        | (name::X_VAULT, TOKEN) => name::IS_API_KEY,
        _ => name::OTHER,
    }
}

/// Behind the colon.
#[inline(always)]
fn named(stream: &mut Stream, name: u8) {
    stream.name = name;
    stream.state = state::VALUE;
    if name < name::IS_LENGTH {
        return;
    }
    match name {
        name::IS_LENGTH => {
            if stream.has(flag::LENGTH) {
                stream.broken(Reason::Framing);
            } else {
                stream.flags |= flag::LENGTH;
                stream.skip = 0;
                stream.state = state::BLANK;
            }
        }
        name::IS_CODING => {
            if stream.has(flag::CODED) {
                stream.broken(Reason::Framing);
            } else {
                stream.flags |= flag::CODED;
                stream.state = state::BLANK;
            }
        }
        name::IS_HOST => {
            if stream.has(flag::HOST) {
                stream.ambiguous(Reason::Host);
            } else {
                stream.flags |= flag::HOST;
                // The authority of CONNECT's target counts, not this.
                if stream.flags & (flag::ASKS_HOST | flag::CONNECT) == flag::ASKS_HOST {
                    stream.state = state::BLANK;
                }
            }
        }
        name::IS_AUTHORIZATION => {
            if !stream.has(flag::AUTHORIZATION) {
                stream.flags |= flag::AUTHORIZATION;
                if stream.has(flag::ASKS_AUTH) {
                    stream.state = state::BLANK;
                }
            }
        }
        name::IS_COOKIE => stream.flags |= flag::COOKIE,
        name::IS_API_KEY => stream.flags |= flag::API_KEY,
        _ => stream.flags |= flag::SWITCHES,
    }
}

/// White space before a value.
#[inline(always)]
fn blank<T: Tables>(stream: &mut Stream, look: &mut Look, tables: &T) {
    // One space, nearly always.
    let mut byte = look.byte(0);
    if byte == b' ' && look.bytes > 1 {
        look.used = 1;
        byte = look.byte(1);
    }
    if matches!(byte, b' ' | b'\t') {
        look.used += 1;
        return;
    }
    stream.state = match stream.name {
        name::IS_LENGTH => state::LENGTH,
        name::IS_CODING => state::CODING,
        name::IS_HOST => state::HOST,
        _ => state::SCHEME,
    };
    stream.fresh();
    // What the target has left there is of no use any more.
    if let Some(generation) = tables.generation(stream.generation) {
        stream.hash = generation.hash.start;
    }
}

/// A value that does not matter, but for what it must not hold.
#[inline(always)]
fn value(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::value_ends(look.word));
    look.used = plain;
    if plain == look.bytes {
        return;
    }
    look.used += 1;
    let byte = look.byte(plain);
    if byte == b'\r' {
        stream.state = state::CR;
        if plain + 1 < look.bytes && look.byte(plain + 1) == b'\n' {
            look.used += 1;
            stream.state = state::LINE;
        }
    } else if byte == b'\n' {
        stream.broken(Reason::LineEnd);
        stream.state = state::LINE;
    } else if byte != b'\t' {
        stream.broken(Reason::Field);
    }
}

/// The value is over, or should be.
#[inline(always)]
fn tail(stream: &mut Stream, look: &mut Look) {
    let byte = look.byte(0);
    if matches!(byte, b' ' | b'\t') {
        look.used = 1;
        return;
    }
    if byte != b'\r' && byte != b'\n' {
        match stream.name {
            name::IS_LENGTH | name::IS_CODING => stream.broken(Reason::Framing),
            _ => stream.flags |= flag::HOST_UNKNOWN,
        }
    }
    stream.state = state::VALUE;
}

/// `1*DIGIT`, within 64 bits.
#[inline(always)]
fn length(stream: &mut Stream, look: &mut Look) {
    let byte = look.byte(0);
    let digit = byte.wrapping_sub(b'0');
    if digit < 10 {
        look.used = 1;
        // The largest to which another digit can be added.
        if stream.skip > (u64::MAX - 9) / 10 {
            stream.broken(Reason::Framing);
            stream.state = state::VALUE;
            return;
        }
        stream.skip = stream.skip.wrapping_mul(10).wrapping_add(digit as u64);
        stream.flags |= flag::BEGUN;
        return;
    }
    if !stream.has(flag::BEGUN) {
        stream.broken(Reason::Framing);
    }
    stream.state = state::TAIL;
}

/// `chunked`, and nothing else: what other codings make of a message only the agent can tell.
#[inline(always)]
fn coding(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::blank_ends(look.word));
    let used = min(plain, stream.room());
    look.used = used;
    stream.gather(words::lower(look.word), used);
    if stream.pending_bytes == 8 {
        stream.broken(Reason::Framing);
        stream.state = state::VALUE;
    } else if plain < look.bytes {
        if stream.pending == word(b"chunked") {
            stream.flags |= flag::CHUNKED;
        } else {
            stream.broken(Reason::Framing);
        }
        stream.state = state::TAIL;
    }
}

/// The first word of Authorization.
#[inline(always)]
fn scheme(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::blank_ends(look.word));
    let used = min(plain, stream.room());
    look.used = used;
    stream.gather(words::lower(look.word), used);
    if stream.pending_bytes == 8 {
        stream.name = match (stream.name, stream.pending) {
            (name::IS_AUTHORIZATION, AWS4_HMA) => name::SIG_V4,
            (name::SIG_V4, C_SHA256) => name::SIG_V4 + 8,
            (name::IS_AUTHORIZATION, NEGOTIAT) => name::NEGOTIATE,
            _ => name::OTHER,
        };
        stream.fresh();
        stream.flags |= flag::BEGUN;
        return;
    }
    if plain == look.bytes {
        return;
    }
    stream.auth = match (stream.name, stream.pending) {
        (name::IS_AUTHORIZATION, BEARER) => auth::BEARER,
        (name::IS_AUTHORIZATION, BASIC) => auth::BASIC,
        (name::IS_AUTHORIZATION, DIGEST) => auth::DIGEST,
        (name::NEGOTIATE, E) => auth::NEGOTIATE,
        (SIG_V4_WHOLE, 0) => auth::SIG_V4,
        (name::IS_AUTHORIZATION, APIKEY) | (name::IS_AUTHORIZATION, API_KEY) => auth::API_KEY,
        _ => auth::OTHER,
    };
    // A tabulator is part of the scheme, unless it is white space at the end; other control bytes are part of it.
    if !matches!(look.byte(plain), b' ' | b'\r' | b'\n') {
        stream.flags |= flag::AUTH_UNKNOWN;
    }
    stream.state = state::VALUE;
}

const SIG_V4_WHOLE: u8 = name::SIG_V4 + 8;
const AWS4_HMA: u64 = word(b"aws4-hma");
const C_SHA256: u64 = word(b"c-sha256");
const NEGOTIAT: u64 = word(b"negotiat");
const E: u64 = word(b"e");
const BEARER: u64 = word(b"bearer");
const BASIC: u64 = word(b"basic");
const DIGEST: u64 = word(b"digest");
const APIKEY: u64 = word(b"apikey");
const API_KEY: u64 = word(b"api-key");

/// A host, label by label; the same for the authority of CONNECT, which ends at a space.
#[inline(always)]
fn host<T: Tables>(stream: &mut Stream, look: &mut Look, tables: &T) {
    let plain = look.plain(words::name_ends(look.word));
    let mut used = min(plain, stream.room());
    let ended = used == plain && plain < look.bytes;
    let byte = look.byte(plain);
    let bracket = stream.has(flag::BRACKET);
    let opens =
        byte == b'[' && used == 0 && stream.pending_bytes == 0 && !stream.has(flag::BEGUN) && !bracket;
    if ended
        && used < stream.room()
        && (byte == b'_' || opens || (bracket && matches!(byte, b':' | b'.' | b']')))
        && !stream.has(flag::CLOSED)
    {
        used += 1;
        if opens {
            stream.flags |= flag::BRACKET;
        }
        if byte == b']' {
            stream.flags |= flag::CLOSED;
        }
    }
    look.used = used;
    stream.gather(words::lower(look.word), used);
    if stream.pending_bytes == 8 {
        flush(stream, tables);
        return;
    }
    if !ended || used != plain {
        return;
    }
    host_part(stream, look, byte, tables);
}

/// Where a label ends, or the host.
#[inline(always)]
fn host_part<T: Tables>(stream: &mut Stream, look: &mut Look, byte: u8, tables: &T) {
    let dot = byte == b'.';
    let over = matches!(byte, b':' | b' ' | b'\t' | b'\r' | b'\n');
    let empty = stream.pending_bytes == 0 && !stream.has(flag::BEGUN);
    let half = stream.flags & (flag::BRACKET | flag::CLOSED) == flag::BRACKET;
    let closed = stream.has(flag::CLOSED);
    if (!dot && !over) || half || (dot && (empty || closed)) {
        stream.flags |= flag::HOST_UNKNOWN;
    } else if !empty && let Some(generation) = tables.generation(stream.generation) {
        let hash = end_of(stream, &generation.hash);
        stream.hash = generation.hash.start;
        if stream.host_node != NO_NODE {
            stream.host_node = follow(stream.generation, stream.host_node, hash, tables);
        }
    }
    stream.fresh();
    if stream.has(flag::HOST_UNKNOWN) || over {
        stream.flags &= !(flag::BRACKET | flag::CLOSED);
        if byte == b':' && !stream.has(flag::HOST_UNKNOWN) {
            look.used += 1;
            stream.state = state::PORT;
        } else {
            host_over(stream);
        }
    } else {
        // The dot.
        look.used += 1;
    }
}

/// Whatever follows the host and its port.
#[inline(always)]
fn host_over(stream: &mut Stream) {
    stream.state = if stream.fields == 0 {
        // The authority of CONNECT. Whatever else stands there, some servers take for a path.
        if stream.has(flag::HOST_UNKNOWN) {
            stream.ambiguous(Reason::Target);
        }
        state::QUERY
    } else if stream.has(flag::HOST_UNKNOWN) {
        state::VALUE
    } else {
        stream.name = name::IS_HOST;
        state::TAIL
    };
}

/// Up to five digits; anything else belongs to the name, for the agent.
#[inline(always)]
fn port(stream: &mut Stream, look: &mut Look) {
    let byte = look.byte(0);
    if byte.is_ascii_digit() {
        look.used = 1;
        // At most 9999 before the fifth digit, so that the whole stays below 65536 or is odd.
        let port = (stream.pending as u32)
            .wrapping_mul(10)
            .wrapping_add((byte - b'0') as u32);
        stream.pending = port as u64;
        if port > 65_535 {
            stream.flags |= flag::HOST_UNKNOWN;
            stream.fresh();
            host_over(stream);
        }
        return;
    }
    if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
        stream.flags |= flag::HOST_UNKNOWN;
    }
    stream.fresh();
    host_over(stream);
}
