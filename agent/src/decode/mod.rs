//! Chunks of a stream → messages. One file set a protocol; identification in one place (`sniff`).
//!
//! Pure: bytes and time in, messages out. A decoder says *message / need more / skip / anomaly*, never a lone
//! failure, and a gap is an input like any other.

/// Something in a message that RFC 9112 calls invalid, or that two parsers may read differently.
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
        )
    }
}
