//! What the gate knows of one direction of one connection, and what a scan of its next bytes says.

use super::bits::Bits;

/// The bytes at hand, a word at a time. In the kernel a map value, on the host a slice.
pub trait Window {
    /// The eight bytes from `at` on, the first one lowest. `at` is below [`super::CHUNK_BYTES`]; bytes behind the end
    /// of what was fetched may be anything.
    fn word(&self, at: u32) -> u64;
}

/// What a connection's direction has come to. All zero: at its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Rules that may still apply to the head at hand.
    pub candidates: Bits,
    /// Rules whose direction, peer and workload fit, as of `base_generation`.
    pub base: Bits,
    /// Of the segment, label or method at hand; in an odd request line its last eight bytes.
    pub hash: u64,
    /// Bytes that do not make a whole word yet.
    pub pending: u64,
    /// Bytes of the body, or of the chunk, that are still to come.
    pub skip: u64,
    /// The tables that judge the head at hand.
    pub generation: u32,
    pub base_generation: u32,
    /// Where the path stands, and the host.
    pub node: u32,
    pub host_node: u32,
    /// [`flag`].
    pub flags: u32,
    /// Bytes of the head, or of a chunk's lines, so far.
    pub head_bytes: u32,
    /// Heads so far.
    pub heads: u32,
    pub path_bytes: u16,
    /// Fields so far; before the first line of a request bytes of lines that are none ([`super::GARBAGE_BYTES_MAX`]).
    pub fields: u16,
    /// [`state`].
    pub state: u8,
    pub pending_bytes: u8,
    /// Which field this may be, see `fields`.
    pub name: u8,
    /// [`super::tables::auth`].
    pub auth: u8,
    /// [`Reason`] of the first ambiguity.
    pub reason: u8,
    /// Rates that the head was charged to.
    pub rated: u8,
    /// Where a step is among its bytes; 0 between steps.
    pub(super) place: u16,
}

/// What is known of the connection besides its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The other end; IPv4 as `::ffff:a.b.c.d`.
    pub peer: [u8; 16],
    /// The class of the process, for [`super::Tables::workload`].
    pub class: u32,
    /// [`direction`].
    pub direction: u32,
}

/// Whose calls these are.
pub mod direction {
    pub const INBOUND: u32 = 0;
    pub const OUTBOUND: u32 = 1;
}

/// Where in the bytes at hand a scan is, and what it has found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The next byte, and the end of what was fetched.
    pub at: u32,
    pub end: u32,
    /// Heads that were left to the agent, that were ambiguous, and boundaries lost, since this was zeroed.
    pub left: u32,
    pub ambiguous: u32,
    pub lost: u32,
    /// Heads judged.
    pub heads: u32,
    /// Of the last decision that was not to let pass: the rule, [`Decision`], [`Reason`].
    pub rule: u32,
    pub decision: u8,
    pub reason: u8,
    pub reserved: [u8; 2],
    /// Heads up to this one ([`Stream::heads`]) have been charged to rates already: these bytes are scanned again.
    pub charged: u32,
    /// Bytes before the window's first, since the scan began: for whoever fetches to count, and to tell where a denied
    /// head stands.
    pub before: u32,
}

impl Scan {
    /// Bytes so far.
    #[inline(always)]
    pub fn passed(&self) -> u32 {
        self.before.wrapping_add(self.at)
    }
}

/// What becomes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Decision {
    /// No rule stops it.
    Pass = 0,
    /// The agent decides.
    Leave = 1,
    /// It is denied.
    Deny = 2,
}

/// Why a head is ambiguous, or a boundary lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    None = 0,
    /// The target is not in normal form.
    Target = 1,
    /// The path is longer than is looked at.
    PathLong = 2,
    /// The request line is none that RFC 9112 knows.
    RequestLine = 3,
    /// A bare line feed or carriage return.
    LineEnd = 4,
    /// A folded field, or white space before the first one or before a colon.
    Fold = 5,
    /// A field's name or value holds what it must not.
    Field = 6,
    /// Content-Length or Transfer-Encoding are invalid, repeated, or both there.
    Framing = 7,
    /// More than one Host.
    Host = 8,
    /// The head is longer than is looked at, or has too many fields.
    HeadLong = 9,
    /// The lines between chunks are invalid.
    Chunks = 10,
    /// Where a request should begin there is none.
    Garbage = 11,
    /// It took longer than the tables were kept that it began under.
    Outlived = 12,
}

impl Decision {
    /// Of [`Scan::decision`].
    pub fn from_u8(value: u8) -> Decision {
        match value {
            1 => Decision::Leave,
            2 => Decision::Deny,
            _ => Decision::Pass,
        }
    }
}

/// Where in a message a stream stands.
pub mod state {
    /// Between messages. Zero: a connection begins here.
    pub const BOUNDARY: u8 = 0;
    pub const METHOD: u8 = 1;
    /// The target's first byte.
    pub const TARGET: u8 = 2;
    pub const PATH: u8 = 3;
    /// The rest of the target.
    pub const QUERY: u8 = 4;
    /// Behind the one byte of `*`.
    pub const STAR: u8 = 5;
    pub const VERSION: u8 = 6;
    /// The line's end is next.
    pub const FIRST_CR: u8 = 7;
    pub const FIRST_LF: u8 = 8;
    /// A request line that is none: looked at byte by byte.
    pub const ODD: u8 = 9;
    /// A PROXY protocol header, version 1: what comes behind its first word, and the rest of its line.
    pub const PROXY_TEXT: u8 = 10;
    pub const PROXY_LINE: u8 = 11;
    /// Version 2: its signature, and its version, family and length.
    pub const PROXY_SIGNATURE: u8 = 12;
    pub const PROXY_HEAD: u8 = 13;
    /// Behind the first line of an HTTP/2 connection's preface (RFC 9113 §3.4).
    pub const PREFACE: u8 = 14;
    /// The beginning of a field's line.
    pub const LINE: u8 = 15;
    pub const NAME: u8 = 16;
    /// Behind the colon of a field that matters.
    pub const BLANK: u8 = 17;
    /// A value that does not matter.
    pub const VALUE: u8 = 18;
    pub const LENGTH: u8 = 19;
    pub const CODING: u8 = 20;
    pub const HOST: u8 = 21;
    pub const PORT: u8 = 22;
    pub const SCHEME: u8 = 23;
    /// Nothing but white space may follow.
    pub const TAIL: u8 = 24;
    /// A line feed is next.
    pub const CR: u8 = 25;
    /// A line of nothing but white space, so far: some take it for the empty one.
    pub const EMPTY: u8 = 26;
    /// The line feed that ends the head is next.
    pub const HEAD_CR: u8 = 27;
    /// The last of those in which a head is being read.
    pub const HEAD_LAST: u8 = HEAD_CR;
    /// The head is whole.
    pub const ENDED: u8 = 28;
    /// The rules that it meets are gone through.
    pub const PICK: u8 = 29;
    /// `skip` bytes of a body.
    pub const BODY: u8 = 30;
    /// `skip` bytes of a chunk.
    pub const CHUNK: u8 = 31;
    pub const CHUNK_CR: u8 = 32;
    pub const CHUNK_LF: u8 = 33;
    pub const SIZE: u8 = 34;
    pub const EXTENSION: u8 = 35;
    pub const SIZE_LF: u8 = 36;
    /// The beginning of a trailer's line, and the rest of it.
    pub const TRAILER: u8 = 37;
    pub const TRAILER_REST: u8 = 38;
    pub const TRAILER_LF: u8 = 39;
    pub const LAST_LF: u8 = 40;
    /// Nobody knows where the message ends, and a rule denies whatever comes next.
    pub const GARBLED: u8 = 41;
    /// Another protocol: never judged.
    pub const OPAQUE: u8 = 42;
    /// Nobody knows where the next message begins: never judged any more.
    pub const LOST: u8 = 43;
    /// A head was denied.
    pub const DENIED: u8 = 44;
}

/// What a head has shown so far.
pub mod flag {
    /// A head came before on this connection.
    pub const NOT_FIRST: u32 = 1;
    /// The head before may have handed the connection to another protocol; without [`NOT_FIRST`], what came before was none.
    pub const SWITCHED: u32 = 1 << 1;
    /// This one may.
    pub const SWITCHES: u32 = 1 << 2;
    /// Some rule that stops calls may still apply.
    pub const LIVE: u32 = 1 << 3;
    pub const LENGTH: u32 = 1 << 4;
    /// There is a Transfer-Encoding; and it is `chunked`.
    pub const CODED: u32 = 1 << 5;
    pub const CHUNKED: u32 = 1 << 6;
    pub const HTTP10: u32 = 1 << 7;
    /// Two parsers may read it differently; and may disagree about where it ends.
    pub const AMBIGUOUS: u32 = 1 << 8;
    pub const BROKEN: u32 = 1 << 9;
    pub const HOST: u32 = 1 << 10;
    pub const HOST_UNKNOWN: u32 = 1 << 11;
    pub const AUTHORIZATION: u32 = 1 << 12;
    pub const AUTH_UNKNOWN: u32 = 1 << 13;
    pub const COOKIE: u32 = 1 << 14;
    pub const API_KEY: u32 = 1 << 15;
    /// Nobody has said which workload this is.
    pub const WORKLOAD_UNKNOWN: u32 = 1 << 16;
    /// The method is a registered one, as it was sent.
    pub const REGISTERED: u32 = 1 << 17;
    pub const CONNECT: u32 = 1 << 18;
    /// The method of an HTTP/2 preface, and its target.
    pub const PRI: u32 = 1 << 19;
    pub const STAR: u32 = 1 << 20;
    /// The target begins with a slash.
    pub const SLASH: u32 = 1 << 21;
    /// Of an odd request line: something that is no white space is in it; it has ended with ` HTTP/`, digits and dots, so far;
    /// and ` HTTP/` is in it.
    pub const INKED: u32 = 1 << 22;
    pub const ENDS: u32 = 1 << 23;
    pub const VERSIONED: u32 = 1 << 24;
    /// The segment, label, name or number at hand has had something.
    pub const BEGUN: u32 = 1 << 25;
    /// An IPv6 address in brackets; and behind it.
    pub const BRACKET: u32 = 1 << 26;
    pub const CLOSED: u32 = 1 << 27;
    /// A small letter in the method.
    pub const SMALL: u32 = 1 << 28;
    /// The connection began with a PROXY protocol header, or with what makes one too late.
    pub const PREFIXED: u32 = 1 << 29;
    /// The method is the word that one begins with.
    pub const PROXY: u32 = 1 << 30;
    /// Some rule that may apply asks for the host, or for credentials. The latter is where [`SMALL`] was: behind the
    /// method, nobody asks for that any more.
    pub const ASKS_HOST: u32 = 1 << 31;
    pub const ASKS_AUTH: u32 = SMALL;
}

impl Stream {
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Bytes of a body that pass without being looked at, of those that come next.
    #[inline(always)]
    pub fn skips(&self) -> u64 {
        if self.state == state::BODY || self.state == state::CHUNK {
            self.skip
        } else {
            0
        }
    }

    /// The next bytes, at most [`Stream::skips`] of them, were a body's and have passed.
    #[inline(always)]
    pub fn skipped(&mut self, bytes: u64) {
        self.skip = self.skip.saturating_sub(bytes);
        if self.skip == 0 && self.state == state::CHUNK {
            self.state = state::CHUNK_CR;
        } else if self.skip == 0 && self.state == state::BODY {
            self.state = state::BOUNDARY;
        }
    }

    /// What comes next needs bytes; otherwise [`super::step`] has something to decide first, with none left to look at.
    #[inline(always)]
    pub fn wants_bytes(&self) -> bool {
        self.state != state::ENDED && self.state != state::PICK
    }

    /// No request came before, or the last one may have switched.
    #[inline(always)]
    pub(super) fn may_be_another_protocol(&self) -> bool {
        !self.has(flag::NOT_FIRST) || self.has(flag::SWITCHED)
    }

    /// Nothing but lines that are no requests came before, or since a switch. Their bytes are in `fields`.
    #[inline(always)]
    pub(super) fn is_behind_garbage(&self) -> bool {
        self.flags & (flag::NOT_FIRST | flag::SWITCHED) == flag::SWITCHED
    }

    /// Inside a head, and what has come of it is no other protocol's.
    #[inline(always)]
    pub fn is_request_so_far(&self) -> bool {
        if self.state == state::ODD {
            return self.has(flag::ENDS)
                || (self.has(flag::REGISTERED) && self.has(flag::VERSIONED | flag::SLASH));
        }
        if self.state >= state::TARGET && self.state <= state::VERSION {
            return self.has(flag::REGISTERED);
        }
        (self.state >= state::FIRST_CR && self.state <= state::FIRST_LF)
            || (self.state >= state::LINE && self.state <= state::HEAD_LAST)
    }

    /// No more bytes will come. `true`: a head is cut off, which now counts as whole, and as ambiguous. Of other protocols
    /// nothing is: their first line, if they have lines, has not ended like a request's.
    #[inline(always)]
    pub fn cut_off(&mut self) -> bool {
        let inside = self.is_request_so_far();
        if inside {
            self.flags |= flag::HOST_UNKNOWN | flag::AUTH_UNKNOWN;
            self.broken(Reason::RequestLine);
            self.state = state::ENDED;
        }
        inside
    }

    /// It needs no bytes any more: nothing of this direction is judged.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.state >= state::OPAQUE
    }

    #[inline(always)]
    pub(super) fn ambiguous(&mut self, reason: Reason) {
        self.flags |= flag::AMBIGUOUS;
        if self.reason == 0 {
            self.reason = reason as u8;
        }
    }

    /// Ambiguous, and where the message ends too.
    #[inline(always)]
    pub(super) fn broken(&mut self, reason: Reason) {
        self.flags |= flag::BROKEN;
        self.ambiguous(reason);
    }

    /// Begins a segment, a label, a name or a number.
    #[inline(always)]
    pub(super) fn fresh(&mut self) {
        self.pending = 0;
        self.pending_bytes = 0;
        self.flags &= !flag::BEGUN;
    }

    /// Takes in the lowest `bytes` of a word. There is room for them.
    #[inline(always)]
    pub(super) fn gather(&mut self, text: u64, bytes: u32) {
        self.pending |= super::words::low(text, bytes) << ((self.pending_bytes as u32 & 7) * 8);
        self.pending_bytes += bytes as u8;
    }

    /// Bytes that the pending word has room for.
    #[inline(always)]
    pub(super) fn room(&self) -> u32 {
        8u32.saturating_sub(self.pending_bytes as u32)
    }
}

#[cfg(feature = "user")]
mod user {
    //! aya moves these between maps and memory: plain integers, no padding (see the size assertions).
    unsafe impl aya::Pod for super::Stream {}
    unsafe impl aya::Pod for super::Facts {}
    unsafe impl aya::Pod for super::Scan {}
}

const _: () = {
    assert!(core::mem::size_of::<Stream>() == 128);
    assert!(core::mem::size_of::<Facts>() == 24);
    assert!(core::mem::size_of::<Scan>() == 40);
};
