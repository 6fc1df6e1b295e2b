//! Chunks of a stream → messages. One file set a protocol; identification in one place (`sniff`).
//!
//! Pure: bytes and time in, messages out. A decoder says *message / need more / skip / anomaly*, never a lone
//! failure, and a gap is an input like any other.

mod hl7v2;
mod http1;
mod http2;
mod mllp;
mod proxy;
mod scan;
mod sniff;
mod socks;
mod tls;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;

pub use self::hl7v2::{Hl7, Separators};
pub use self::http1::{ByHead, Decoder, GapEffect, KnownHeads};
pub use self::http2::{Decoder as Http2Decoder, PREFACE as HTTP2_PREFACE, Told};
pub use self::mllp::{MllpDecoder, MllpEnd, MllpEvent};
pub use self::proxy::Prefix;
pub use self::sniff::Sniffed;
pub use self::socks::Negotiation;
#[cfg(test)]
pub(crate) use self::tls::tests as tls_tests;
pub use self::tls::{
    Certificate as TlsCertificate, Cipher as TlsCipher, Shown as TlsShown, Spoken as TlsSpoken, TlsHandshake,
    Version as TlsVersion,
};
pub use self::websocket::{Said, WebSocketDecoder};

/// What a decoder may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A message's head (and, counted apart, its trailers).
    pub head_bytes_max: usize,
    /// Header fields of one head; further ones are dropped and named.
    pub headers_max: usize,
    /// A chunk-size line with its extensions.
    pub chunk_line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes_max: 64 * 1024,
            headers_max: 256,
            chunk_line_bytes_max: 4096,
        }
    }
}

/// Which half of the conversation a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Requests,
    Responses,
}

impl Role {
    /// Whether a message of this role plainly begins here: strict enough to begin again in the middle of a stream.
    pub fn begins(self, bytes: &[u8]) -> bool {
        sniff::begins_message(bytes, self)
    }
}

/// What a response answers: it decides whether a body follows (RFC 9112 §6.3). Ignored by request decoders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AnswerTo {
    #[default]
    Ordinary,
    Head,
    Connect,
}

/// First line of a head. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum StartLine {
    Request {
        method: Bytes,
        /// The method, if it is a registered one.
        registered: Option<&'static str>,
        target: Bytes,
    },
    Response {
        status: u16,
    },
}

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// That many bytes.
    Length(u64),
    Chunked,
    /// At the end of the connection, or of the stream (HTTP/2).
    Close,
    /// The message is the last one: what follows is another protocol (CONNECT, 101).
    Switched,
    /// Invalid or contradictory: nobody can tell. What follows counts as body until something that is plainly a
    /// new message begins.
    Unknown,
}

/// Header fields in order, names in lower case. Shared by heads that are the same.
pub type Fields = Arc<Vec<(Bytes, Bytes)>>;

/// A message's head. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    pub line: StartLine,
    /// Values without surrounding white space.
    pub headers: Fields,
    pub framing: Framing,
    pub anomalies: Vec<Anomaly>,
    /// Bytes of the head, from its first line to the empty line; in HTTP/2 of its frames.
    pub bytes: u32,
    /// HTTP/2: fields whose entries in the table were made before anybody here looked. They are not among `headers`.
    pub unknown_fields: u32,
    /// The version is HTTP/1.0.
    pub http10: bool,
    /// The sender closes after this message (or is a 1.0 peer that did not ask to keep the connection).
    pub close: bool,
    /// `Connection: upgrade` with an `Upgrade` field: the other side may switch protocols.
    pub upgrade: bool,
    /// `Expect: 100-continue`: the body may never come.
    pub expect_continue: bool,
    /// HTTP/1: names a head that came before, to the byte; 0: it did not.
    pub known: u64,
}

/// What a decoder says.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A message begins.
    Head(Head),
    /// Bytes of its body, de-chunked.
    Body(Bytes),
    /// So many bytes of its body were not captured.
    Missed(u64),
    /// Seen after the head, in the body's framing.
    Anomaly(Anomaly),
    /// The message is whole, as far as it was captured.
    End,
    /// The message in progress cannot be followed further, for this reason.
    Broken(Broken),
    /// So many bytes belong to no message.
    Skipped(u64),
}

/// Why a message ended without being whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Bytes are missing where the framing was.
    Gap,
    /// The framing is invalid.
    Invalid,
    /// The connection ended.
    Ended,
    /// The connection ended, and bytes that were not seen may have had the message's end in them.
    Unseen,
    /// A new message began in its place.
    Overtaken,
}

/// Something in a message that RFC 9112 or RFC 9113 calls invalid, or that two parsers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anomaly {
    DuplicateContentLength,
    ConflictingContentLength,
    InvalidContentLength,
    TransferEncodingWithContentLength,
    UnknownTransferEncoding,
    TransferEncodingNotFinalChunked,
    TransferEncodingInHttp10,
    BareLineFeed,
    BareCarriageReturn,
    ObsoleteFolding,
    SpaceBeforeColon,
    InvalidHeaderName,
    InvalidHeaderValue,
    InvalidMethod,
    InvalidTarget,
    InvalidVersion,
    InvalidStatus,
    InvalidChunkSize,
    ChunkExtension,
    MissingHost,
    DuplicateHost,
    HeadTooLong,
    TooManyHeaders,
    UnsolicitedResponse,
    /// The data of a chunk is not followed by CRLF.
    InvalidChunkEnd,
    /// Bytes between messages that begin none.
    Garbage,
    /// A message after one that announced `Connection: close`.
    DataAfterClose,
    /// Whitespace between the request line and the first field (RFC 9112 §2.2).
    SpaceAfterStartLine,
    /// A frame that its kind, length, stream or place forbids (RFC 9113 §6).
    InvalidFrame,
    /// A header block that HPACK cannot decode (RFC 7541).
    InvalidHeaderBlock,
    /// Pseudo-header fields are missing, repeated, unknown, or behind others (RFC 9113 §8.3).
    InvalidPseudoHeader,
    /// A field that only means something to one connection of HTTP/1 (RFC 9113 §8.2.2).
    ConnectionField,
    /// More or less content than the content length says (RFC 9113 §8.1.1).
    ContentLengthMismatch,
    /// On a stream that cannot carry it, or that is over (RFC 9113 §5.1).
    InvalidStream,
    /// Fields are unknown: the connection was joined in the middle, or lost bytes.
    UnknownFields,
    /// A message of MLLP without its end block, or with one that lacks its carriage return.
    InvalidEndBlock,
    /// The header of an HL7 message names no separators that anybody could go by.
    InvalidSeparators,
    /// Lines of an HL7 message that are no segments.
    InvalidSegment,
    /// Segments of an HL7 message end in line feeds.
    InvalidSegmentEnd,
    /// An acknowledgement names another message than the one that waits for one.
    WrongAcknowledgement,
    /// Its Content-Encoding would make far more of the body than was sent.
    ContentBomb,
    /// The body is not what its Content-Encoding says.
    InvalidContentEncoding,
    /// A Content-Encoding that is not known: the body cannot be looked at.
    UnknownContentEncoding,
}

impl Anomaly {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Anomaly::DuplicateContentLength => "duplicate-content-length",
            Anomaly::ConflictingContentLength => "conflicting-content-length",
            Anomaly::InvalidContentLength => "invalid-content-length",
            Anomaly::TransferEncodingWithContentLength => "transfer-encoding-with-content-length",
            Anomaly::UnknownTransferEncoding => "unknown-transfer-encoding",
            Anomaly::TransferEncodingNotFinalChunked => "transfer-encoding-not-final-chunked",
            Anomaly::TransferEncodingInHttp10 => "transfer-encoding-in-http10",
            Anomaly::BareLineFeed => "bare-line-feed",
            Anomaly::BareCarriageReturn => "bare-carriage-return",
            Anomaly::ObsoleteFolding => "obsolete-folding",
            Anomaly::SpaceBeforeColon => "space-before-colon",
            Anomaly::InvalidHeaderName => "invalid-header-name",
            Anomaly::InvalidHeaderValue => "invalid-header-value",
            Anomaly::InvalidMethod => "invalid-method",
            Anomaly::InvalidTarget => "invalid-target",
            Anomaly::InvalidVersion => "invalid-version",
            Anomaly::InvalidStatus => "invalid-status",
            Anomaly::InvalidChunkSize => "invalid-chunk-size",
            Anomaly::ChunkExtension => "chunk-extension",
            Anomaly::MissingHost => "missing-host",
            Anomaly::DuplicateHost => "duplicate-host",
            Anomaly::HeadTooLong => "head-too-long",
            Anomaly::TooManyHeaders => "too-many-headers",
            Anomaly::UnsolicitedResponse => "unsolicited-response",
            Anomaly::InvalidChunkEnd => "invalid-chunk-end",
            Anomaly::Garbage => "garbage",
            Anomaly::DataAfterClose => "data-after-close",
            Anomaly::SpaceAfterStartLine => "space-after-start-line",
            Anomaly::InvalidFrame => "invalid-frame",
            Anomaly::InvalidHeaderBlock => "invalid-header-block",
            Anomaly::InvalidPseudoHeader => "invalid-pseudo-header",
            Anomaly::ConnectionField => "connection-field",
            Anomaly::ContentLengthMismatch => "content-length-mismatch",
            Anomaly::InvalidStream => "invalid-stream",
            Anomaly::UnknownFields => "unknown-fields",
            Anomaly::InvalidEndBlock => "invalid-end-block",
            Anomaly::InvalidSeparators => "invalid-separators",
            Anomaly::InvalidSegment => "invalid-segment",
            Anomaly::InvalidSegmentEnd => "invalid-segment-end",
            Anomaly::WrongAcknowledgement => "wrong-acknowledgement",
            Anomaly::ContentBomb => "content-bomb",
            Anomaly::InvalidContentEncoding => "invalid-content-encoding",
            Anomaly::UnknownContentEncoding => "unknown-content-encoding",
        }
    }

    /// Two parsers may disagree where the message ends: the shape of request smuggling (RFC 9112 §11.2).
    pub fn is_framing(self) -> bool {
        matches!(
            self,
            Anomaly::DuplicateContentLength
                | Anomaly::ConflictingContentLength
                | Anomaly::InvalidContentLength
                | Anomaly::TransferEncodingWithContentLength
                | Anomaly::UnknownTransferEncoding
                | Anomaly::TransferEncodingNotFinalChunked
                | Anomaly::TransferEncodingInHttp10
                | Anomaly::BareLineFeed
                | Anomaly::BareCarriageReturn
                | Anomaly::ObsoleteFolding
                | Anomaly::SpaceBeforeColon
                | Anomaly::InvalidChunkSize
                | Anomaly::InvalidChunkEnd
                | Anomaly::SpaceAfterStartLine
                | Anomaly::ConnectionField
                | Anomaly::ContentLengthMismatch
        )
    }
}
