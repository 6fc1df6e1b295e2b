//! One step through the bytes: which state it is, and the request line (RFC 9112 §3).

use super::hash::Hash;
use super::stream::{Facts, Reason, Scan, Stream, Window, flag, state};
use super::tables::{EdgeKey, MethodKey, NO_NODE, Tables, method, node};
use super::words::{self, is_blank, word};
use super::{FIELDS_MAX, HEAD_BYTES_MAX, PATH_BYTES_MAX, fields, framing, judge, odd, proxy};

/// Goes on through the bytes, a few words at most, or decides. `false`: it needs more bytes, or wants no more (see
/// [`Stream::is_over`]).
///
/// What mostly comes together is done together: a request line up to its first segment, a field's name and its value.
/// Each part looks at the state anew, so that it may begin anywhere.
#[inline(always)]
pub fn step<W: Window, T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    window: &W,
    facts: &Facts,
    tables: &T,
) -> bool {
    if stream.state == state::ENDED {
        judge::ended(stream, scan, tables);
    }
    if stream.state == state::PICK {
        return judge::pick(stream, scan, facts, tables);
    }
    let (at, end) = (scan.at, scan.end);
    if at >= end || stream.state >= state::OPAQUE {
        scan.at = end;
        return false;
    }
    let mut look = Look {
        word: 0,
        bytes: 0,
        used: 0,
        at,
        end,
    };
    look.fetch(window);
    if stream.state > state::HEAD_LAST {
        let passed = framing::step(stream, scan, &mut look, end - at, facts, tables);
        scan.at = at + passed + look.used;
        return !stream.is_over();
    }
    if stream.state < state::LINE {
        first_line(stream, scan, &mut look, window, facts, tables);
    } else {
        fields::step(stream, &mut look, window, tables);
    }
    scan.at = look.at + look.used;
    stream.place = 0;
    // Where a head has begun in this step, what came before it is not of it.
    stream.head_bytes = stream.head_bytes.wrapping_add(scan.at.wrapping_sub(at));
    if stream.head_bytes > HEAD_BYTES_MAX
        && stream.state <= state::HEAD_LAST
        && stream.state != state::BOUNDARY
    {
        let is_unknown = stream.state == state::ODD && !stream.has(flag::REGISTERED);
        if is_unknown || (stream.is_behind_garbage() && !stream.is_request_so_far()) {
            // Nothing has spoken for a request.
            judge::not_http(stream, scan, facts, tables);
            return !stream.is_over();
        }
        stream.broken(Reason::HeadLong);
        stream.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
        stream.state = state::ENDED;
    }
    !stream.is_over()
}

/// The bytes at hand.
pub(super) struct Look {
    pub word: u64,
    /// How many of them there are, 1 to 8; 0 at the window's end.
    pub bytes: u32,
    /// How many were used.
    pub used: u32,
    pub at: u32,
    end: u32,
}

impl Look {
    #[inline(always)]
    fn fetch<W: Window>(&mut self, window: &W) {
        let left = self.end.wrapping_sub(self.at);
        self.bytes = if left < 8 { left } else { 8 };
        self.word = window.word(self.at);
    }

    /// On to what has not been used. `false`: there is nothing.
    ///
    /// The position goes through memory, where the verifier forgets what it knew of it: so all ways to come here are one
    /// to it, and it follows what comes next once, not once for each.
    #[inline(always)]
    pub fn advance<W: Window>(&mut self, stream: &mut Stream, window: &W) -> bool {
        stream.place = self.at.wrapping_add(self.used) as u16;
        // SAFETY: a reference is always readable.
        self.at = unsafe { core::ptr::read_volatile(&stream.place) } as u32;
        self.used = 0;
        if self.at >= self.end {
            return false;
        }
        self.fetch(window);
        true
    }

    /// Passes two words at once if nothing in them `ends` a stretch.
    #[inline(always)]
    pub fn pass_two<W: Window>(&mut self, window: &W, ends: fn(u64) -> u64) -> bool {
        let next = self.at.wrapping_add(8);
        if next.wrapping_add(8) > self.end {
            return false;
        }
        let plain = words::is_none(ends(self.word) | ends(window.word(next)));
        if plain {
            self.used = 16;
        }
        plain
    }

    /// The byte at a place below 8.
    #[inline(always)]
    pub fn byte(&self, at: u32) -> u8 {
        (self.word >> ((at & 7) * 8)) as u8
    }

    /// Bytes before the first marked one, at most those that there are.
    #[inline(always)]
    pub fn plain(&self, mark: u64) -> u32 {
        let plain = words::first(mark);
        if plain < self.bytes { plain } else { self.bytes }
    }
}

#[inline(always)]
pub(super) fn min(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// What stands in a request line follows in this order.
#[inline(always)]
fn first_line<W: Window, T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    look: &mut Look,
    window: &W,
    facts: &Facts,
    tables: &T,
) {
    if stream.state == state::BOUNDARY {
        // Empty lines before a request are passed over (RFC 9112 §2.2).
        if matches!(look.byte(0), b'\r' | b'\n') {
            look.used = 1;
            return;
        }
        judge::begin(stream, facts, tables);
        if is_blank(look.byte(0)) {
            // Some servers pass blanks over too.
            stream.flags |= flag::HOST_UNKNOWN;
            odd::begin(stream);
            stream.flags &= !flag::INKED;
        }
    }
    if stream.state == state::METHOD {
        method(stream, scan, look, facts, tables);
        if stream.state != state::TARGET || !look.advance(stream, window) {
            return;
        }
    }
    if stream.state == state::TARGET {
        target(stream, scan, look, facts, tables);
        if stream.state != state::PATH || !look.advance(stream, window) {
            return;
        }
    }
    if stream.state == state::PATH {
        path(stream, look, tables);
        if !look.advance(stream, window) {
            return;
        }
        // A segment of eight bytes and more takes two.
        if stream.state == state::PATH {
            path(stream, look, tables);
            if !look.advance(stream, window) {
                return;
            }
        }
        if stream.state != state::VERSION {
            return;
        }
    }
    if stream.state == state::VERSION {
        version(stream, look);
        if stream.state != state::FIRST_CR || !look.advance(stream, window) {
            return;
        }
    }
    match stream.state {
        state::FIRST_CR => first_cr(stream, look),
        state::QUERY => query(stream, look),
        state::STAR => {
            if look.byte(0) != b' ' {
                not_origin(stream);
            }
            stream.state = state::QUERY;
        }
        state::FIRST_LF => first_lf(stream, look),
        state::PROXY_TEXT
        | state::PROXY_LINE
        | state::PROXY_SIGNATURE
        | state::PROXY_HEAD
        | state::PREFACE => proxy::step(stream, scan, look, facts, tables),
        _ => odd::step(stream, scan, look, facts, tables),
    }
}

#[inline(always)]
fn method<T: Tables>(stream: &mut Stream, scan: &mut Scan, look: &mut Look, facts: &Facts, tables: &T) {
    let mark = words::name_ends(look.word);
    let plain = look.plain(mark);
    let mut used = min(plain, stream.room());
    let ended = used == plain && plain < look.bytes;
    let byte = look.byte(plain);
    // Letters and hyphens are all that registered ones have; others may have more.
    if ended && used < stream.room() && words::is_token(byte) {
        used += 1;
    }
    look.used = used;
    if words::has_small(words::low(look.word, used)) {
        stream.flags |= flag::SMALL;
    }
    stream.gather(words::lower(look.word), used);
    stream.path_bytes += used as u16;
    if stream.pending_bytes == 8 {
        flush(stream, tables);
    } else if used == plain && ended {
        method_ended(stream, scan, look, byte, facts, tables);
    }
}

#[inline(always)]
fn method_ended<T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    look: &mut Look,
    byte: u8,
    facts: &Facts,
    tables: &T,
) {
    let small = stream.has(flag::SMALL);
    stream.flags &= !flag::SMALL;
    if !stream.has(flag::BEGUN) && !small {
        if stream.pending == word(b"connect") {
            stream.flags |= flag::CONNECT;
        } else if stream.pending == word(b"pri") {
            stream.flags |= flag::PRI;
        } else if stream.pending == word(b"proxy") && !stream.has(flag::NOT_FIRST | flag::PREFIXED) {
            stream.flags |= flag::PROXY;
        }
    }
    if let Some(generation) = tables.generation(stream.generation) {
        let hash = end_of(stream, &generation.hash);
        let key = MethodKey {
            hash,
            generation: stream.generation,
            reserved: 0,
        };
        let bits = match tables.method(&key) {
            Some(found) => {
                if !small && found.flags & method::REGISTERED != 0 {
                    stream.flags |= flag::REGISTERED;
                }
                &found.bits
            }
            None => &generation.any_method,
        };
        stream.candidates.keep(bits);
        if !stream.candidates.meets(&generation.matters) {
            stream.flags &= !flag::LIVE;
        }
        if stream.has(flag::LIVE) && stream.candidates.meets(&generation.by_host) {
            stream.flags |= flag::ASKS_HOST;
        }
        if stream.has(flag::LIVE) && stream.candidates.meets(&generation.by_auth) {
            stream.flags |= flag::ASKS_AUTH;
        }
        stream.hash = generation.hash.start;
    }
    let empty = stream.path_bytes == 0;
    stream.fresh();
    stream.path_bytes = 0;
    look.used += 1;
    if byte == b' ' && !empty {
        stream.state = state::TARGET;
    } else if empty
        && (byte == 0 && !stream.has(flag::NOT_FIRST | flag::PREFIXED)
            || byte == proxy::TLS && stream.may_be_another_protocol())
    {
        look.used -= 1;
        stream.state = state::PROXY_SIGNATURE;
    } else if is_blank(byte) && stream.has(flag::REGISTERED) {
        stream.flags |= flag::HOST_UNKNOWN;
        stream.broken(Reason::RequestLine);
        odd::begin(stream);
    } else {
        look.used -= 1;
        odd::strange(stream, scan, facts, tables);
    }
}

/// The target's first byte tells its form (RFC 9112 §3.2).
#[inline(always)]
fn target<T: Tables>(stream: &mut Stream, scan: &mut Scan, look: &mut Look, facts: &Facts, tables: &T) {
    let byte = look.byte(0);
    if stream.has(flag::CONNECT) && byte > b' ' {
        stream.fields = 0;
        if byte == b'/' {
            // No authority (RFC 9112 §3.2.3): some servers take it for a path.
            stream.flags |= flag::SLASH;
            stream.ambiguous(Reason::Target);
        }
        stream.state = if stream.has(flag::LIVE) {
            state::HOST
        } else {
            state::QUERY
        };
    } else if byte == b'/' {
        look.used = 1;
        stream.flags |= flag::SLASH;
        stream.path_bytes = 1;
        stream.state = if stream.has(flag::LIVE) {
            state::PATH
        } else {
            state::QUERY
        };
    } else if byte == b'*' {
        look.used = 1;
        stream.flags |= flag::STAR;
        stream.state = state::STAR;
    } else if stream.has(flag::PROXY) && matches!(byte, b'T' | b'U') {
        stream.state = state::PROXY_TEXT;
    } else if byte > b' ' && byte < 0x7f {
        not_origin(stream);
        stream.state = state::QUERY;
    } else if stream.has(flag::REGISTERED) && byte != b'\r' && byte != b'\n' {
        stream.flags |= flag::HOST_UNKNOWN;
        stream.broken(Reason::RequestLine);
        odd::begin(stream);
    } else {
        odd::strange(stream, scan, facts, tables);
    }
}

/// Absolute form, or nothing that RFC 9112 knows: the host may be in it.
#[inline(always)]
fn not_origin(stream: &mut Stream) {
    stream.flags |= flag::HOST_UNKNOWN;
    stream.flags &= !flag::STAR;
    stream.ambiguous(Reason::Target);
}

#[inline(always)]
fn path<T: Tables>(stream: &mut Stream, look: &mut Look, tables: &T) {
    let mark = words::path_ends(look.word);
    let plain = look.plain(mark);
    let walks = stream.node != NO_NODE;
    let used = if walks { min(plain, stream.room()) } else { plain };
    if walks {
        stream.gather(look.word, used);
        if stream.pending_bytes == 8 {
            flush(stream, tables);
        }
    } else if plain != 0 {
        // Dot segments and empty ones matter all the same.
        dots(stream, look.word, plain);
    }
    stream.path_bytes += used as u16;
    look.used = used;
    if stream.path_bytes > PATH_BYTES_MAX {
        stream.ambiguous(Reason::PathLong);
        stream.state = state::QUERY;
        return;
    }
    if used < plain || plain == look.bytes {
        return;
    }
    let byte = look.byte(plain);
    if !matches!(byte, b'/' | b'?' | b' ') {
        // The rest of it is passed over; what it means is for the agent.
        if matches!(byte, b'%' | b';' | b'\\') {
            stream.ambiguous(Reason::Target);
        }
        stream.state = state::QUERY;
        return;
    }
    let empty = stream.pending_bytes == 0 && !stream.has(flag::BEGUN);
    let dots = !stream.has(flag::BEGUN)
        && ((stream.pending_bytes == 1 && stream.pending == word(b"."))
            || (stream.pending_bytes == 2 && stream.pending == word(b"..")));
    if dots || (empty && byte == b'/') {
        stream.ambiguous(Reason::Target);
        stream.state = state::QUERY;
        return;
    }
    if walks && !empty {
        segment(stream, tables);
    }
    stream.fresh();
    if byte == b'?' {
        stream.state = state::QUERY;
        return;
    }
    look.used += 1;
    if byte == b'/' {
        stream.path_bytes += 1;
    } else {
        stream.state = state::VERSION;
    }
}

/// Of a segment that is not hashed: its first bytes, as far as they may be dots.
#[inline(always)]
fn dots(stream: &mut Stream, text: u64, bytes: u32) {
    if stream.has(flag::BEGUN) {
        return;
    }
    if bytes > 2 || stream.pending_bytes > 2 {
        stream.flags |= flag::BEGUN;
    } else {
        stream.gather(text, bytes);
    }
}

/// The end of a segment: on along the automaton.
#[inline(always)]
fn segment<T: Tables>(stream: &mut Stream, tables: &T) {
    let Some(generation) = tables.generation(stream.generation) else {
        return;
    };
    let hash = end_of(stream, &generation.hash);
    stream.hash = generation.hash.start;
    stream.node = follow(stream.generation, stream.node, hash, tables);
    if let Some(node) = tables.node(stream.generation, stream.node)
        && stream.candidates.meets_both(&node.reach, &generation.matters)
    {
        return;
    }
    // Nothing that follows can match by its path.
    stream.node = NO_NODE;
}

/// One segment or label further.
#[inline(always)]
pub(super) fn follow<T: Tables>(generation: u32, from: u32, hash: u64, tables: &T) -> u32 {
    let Some(found) = tables.node(generation, from) else {
        return NO_NODE;
    };
    let other = found.other;
    if found.flags & node::LITERALS == 0 {
        return other;
    }
    let key = EdgeKey {
        generation,
        node: from,
        hash,
    };
    match tables.edge(&key) {
        Some(next) => next,
        None => other,
    }
}

/// A whole word of a segment, label or method.
#[inline(always)]
pub(super) fn flush<T: Tables>(stream: &mut Stream, tables: &T) {
    if let Some(generation) = tables.generation(stream.generation) {
        stream.hash = generation.hash.word(stream.hash, stream.pending);
    }
    stream.fresh();
    stream.flags |= flag::BEGUN;
}

#[inline(always)]
pub(super) fn end_of(stream: &Stream, keys: &Hash) -> u64 {
    keys.end(stream.hash, stream.pending, stream.pending_bytes as u32)
}

#[inline(always)]
fn query(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::query_ends(look.word));
    look.used = plain;
    if plain == look.bytes {
        return;
    }
    match look.byte(plain) {
        b' ' => {
            look.used += 1;
            stream.fresh();
            stream.state = state::VERSION;
        }
        b'#' => {
            look.used += 1;
            stream.ambiguous(Reason::Target);
        }
        b'\r' | b'\n' => odd::begin(stream),
        byte => {
            look.used += 1;
            if byte < 0x80 {
                stream.broken(Reason::RequestLine);
            } else {
                stream.ambiguous(Reason::Target);
            }
            // Some split the line here: what follows may be the version. Of a method that is known the line is judged without
            // one, and bytes beyond ASCII stand in targets, too.
            if is_blank(byte) && (byte < 0x80 || !stream.has(flag::REGISTERED)) {
                odd::begin(stream);
                stream.hash = byte as u64;
            }
        }
    }
}

#[inline(always)]
fn version(stream: &mut Stream, look: &mut Look) {
    let plain = look.plain(words::blank_ends(look.word));
    let used = min(plain, stream.room());
    look.used = used;
    stream.gather(look.word, used);
    if stream.pending_bytes < 8 {
        if plain < look.bytes {
            odd::version(stream);
        }
        return;
    }
    if stream.pending == word(b"HTTP/1.1") {
        stream.state = state::FIRST_CR;
    } else if stream.pending == word(b"HTTP/1.0") {
        stream.flags |= flag::HTTP10;
        stream.state = state::FIRST_CR;
    } else if stream.pending == word(b"HTTP/2.0")
        && stream.flags & (flag::PRI | flag::STAR) == flag::PRI | flag::STAR
    {
        stream.fresh();
        stream.state = state::PREFACE;
    } else {
        odd::version(stream);
    }
}

#[inline(always)]
fn first_cr(stream: &mut Stream, look: &mut Look) {
    if look.byte(0) == b'\r' {
        look.used = 1;
        stream.state = state::FIRST_LF;
        // Nearly always both are here.
        if look.bytes > 1 && look.byte(1) == b'\n' {
            look.used = 2;
            stream.fresh();
            stream.state = state::LINE;
        }
    } else if look.byte(0) == b'\n' {
        look.used = 1;
        stream.broken(Reason::LineEnd);
        stream.fresh();
        stream.state = state::LINE;
    } else {
        odd::version(stream);
    }
}

#[inline(always)]
fn first_lf(stream: &mut Stream, look: &mut Look) {
    if look.byte(0) == b'\n' {
        look.used = 1;
        stream.fresh();
        stream.state = state::LINE;
        return;
    }
    odd::version(stream);
    // With the carriage return that has passed.
    stream.skip = (stream.skip << 8) | (stream.hash >> 56);
    stream.hash = (stream.hash << 8) | b'\r' as u64;
}

/// Counts a field.
#[inline(always)]
pub(super) fn count_field(stream: &mut Stream) {
    stream.fields = stream.fields.saturating_add(1);
    if stream.fields > FIELDS_MAX {
        stream.ambiguous(Reason::HeadLong);
    }
}
