//! Messages → [`ApiCall`]s: request and response paired, understood, and made fit to leave the host.
//!
//! An `ApiCall` has two faces. Its fields are facts that may leave (classes, counts, templates, hashes);
//! [`Raw`] holds what was captured, for `detect` and `policy` only: it has no `Debug`, is never serialised, and
//! `export` must not touch it.

mod body;
mod calls;
pub mod content;
mod conversation;
mod credentials;
mod data;
mod endpoint;
mod facts;
mod grpc;
mod known;
mod learnable;
mod messages;
mod mllp;
mod open;
mod operation;
mod options;
pub mod redact;
mod semantics;
mod streams;
mod target;
mod third_party;
mod tls;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

pub use self::calls::Calls;
pub use self::content::{
    Container, Content, ContentLimits, Field, FieldKind, FieldType, Format, Meaning, MessageFields,
    MessageType, Method, Schema, Sink, ValueType, Visited, Width,
};
pub use self::credentials::{Claims, Credentials, Jwt};
pub use self::data::{Data, Evidence, Part};
pub use self::endpoint::{Fhir, Segment, Shape};
pub use self::learnable::Learnable;
pub use self::operation::{Api, Operation};
pub use self::options::{Limits, Options, Stats, Unread, UnreadWhy};
pub use self::redact::{KeyedHash, Vocabulary};
pub use self::target::Segments;
pub use self::third_party::{Agreement, ThirdParty, Vendor};
pub use self::tls::{BlindTls, CallTls, Certificate, Sight, Tls, TlsNames};
pub use self::words::Commonness;
use crate::capture::{Decision, FlowInfo, KernelTime, Process};
pub use crate::decode::{Anomaly, ByHead, Fields};

/// Names one call on one side, for ever: derived from the boot, the flow and the position of the request's head
/// (in HTTP/2, of its first frame: no two streams share it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u128);

/// Relative to the process that `ApiCall::process` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallDirection {
    /// The process serves the call.
    Inbound,
    /// The process makes the call.
    Outbound,
}

/// Application protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http1,
    Http2,
    WebSocket,
    /// HL7 version 2 in the minimal lower layer protocol.
    Mllp,
}

/// How far a call has come. It passes `policy` at each of them, once, in this order (phases may be skipped only
/// when the flow ends early: then the next is `Complete`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The request's head is whole.
    Head,
    /// The request is whole, with as much of its body as is captured.
    Request,
    /// The call has ended, see [`CallState`]. The only phase that is exported.
    Complete,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallState {
    /// No whole response yet: before `Phase::Complete`, or the agent ended first.
    Pending,
    /// The response is whole.
    Answered,
    /// The connection ended before the response did.
    Closed,
    /// The connection was reset before the response ended.
    Reset,
    /// Bytes were lost, so that the response cannot be told.
    Gap,
    /// No response within the configured time.
    TimedOut,
    /// The response turned the connection into something else (CONNECT, 101); or a whole message of WebSocket, to which there
    /// is no answer.
    Switched,
    /// The gate kept the request from its receiver.
    Stopped,
}

/// How the caller authenticated, as far as the head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthScheme {
    None,
    Basic,
    Bearer,
    Digest,
    Negotiate,
    /// AWS Signature Version 4.
    SigV4,
    /// An API key in a header (`X-Api-Key` and its kin).
    ApiKey,
    /// A session cookie.
    Cookie,
    /// An `Authorization` header with a scheme that is none of these.
    Other,
}

/// A body, without its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// Bytes on the wire after de-chunking, counted also where they were not captured.
    pub bytes_total: u64,
    /// Bytes held while the call was judged.
    pub bytes_captured: u64,
    /// Some of it was not captured (limit, gap).
    pub truncated: bool,
    /// Media type in lower case without parameters, if its name is a registered one that we ship; else empty.
    pub media_type: SmolStr,
}

/// The request's facts that may leave.
#[derive(Clone, Debug)]
pub struct Request {
    /// Registered methods as they are, others as `OTHER`.
    pub method: SmolStr,
    /// Path with every segment that is not known vocabulary replaced: `/fhir/Patient/{id}`. Never a query.
    pub path: String,
    /// Host (with port if not the default), redacted like a path segment by segment of the name; empty if none.
    pub host: String,
    pub auth: AuthScheme,
    /// What more is known of the credentials; `None`: nothing.
    pub credentials: Option<Box<Credentials>>,
    /// W3C trace id (32 hex digits) of `traceparent`, else a request id header that is a UUID or hex as it is,
    /// else a keyed hash of it.
    pub trace_id: Option<SmolStr>,
    pub body: BodyFacts,
    /// Names of query parameters that are shipped vocabulary; count of all.
    pub query_parameters: u32,
    pub head_bytes: u32,
    pub head_at: KernelTime,
    pub ended_at: KernelTime,
}

/// The response's facts that may leave.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: BodyFacts,
    pub head_at: KernelTime,
    pub first_byte_at: KernelTime,
    pub last_byte_at: KernelTime,
}

/// Captured values. For `detect` and `policy` alone; deliberately neither `Debug` nor `Serialize`.
#[derive(Clone, Default)]
pub struct Raw {
    /// The method as sent.
    pub method: Bytes,
    /// The request target as sent.
    pub target: Bytes,
    /// The path of the target in normal form (unreserved characters decoded, dot segments and empty segments
    /// removed), without query; also where the target is ambiguous. `None` where it has no path, or one with
    /// invalid escapes.
    pub path: Option<String>,
    /// The query as sent, without `?`.
    pub query: Bytes,
    /// Host header or authority of the target, lower case, without port.
    pub host: String,
    pub request_headers: Fields,
    pub response_headers: Fields,
    /// Name the heads among those that came before, to the byte; 0: they did not.
    pub request_head: u64,
    pub response_head: u64,
    /// With their encodings undone while the call is handed on, where they could be.
    pub request_body: Bytes,
    pub response_body: Bytes,
    /// The bodies' encodings are undone.
    pub request_decoded: bool,
    pub response_decoded: bool,
    /// `detect` has looked at the request: its data is known.
    pub looked_at: bool,
    /// Whom a PROXY protocol header at the connection's beginning named as the client. Anybody can send one: it
    /// counts only from a trusted proxy.
    pub proxied_client: Option<SocketAddr>,
    /// Claims of the request's token.
    pub claims: Claims,
    /// Names in the connection's handshake.
    pub tls: Option<Arc<TlsNames>>,
}

/// One API call, seen from one process.
#[derive(Clone)]
pub struct ApiCall {
    pub id: CallId,
    pub direction: CallDirection,
    pub protocol: Protocol,
    pub process: Arc<Process>,
    pub flow: Arc<FlowInfo>,
    pub request: Request,
    pub response: Option<Response>,
    pub state: CallState,
    pub anomalies: Vec<Anomaly>,
    /// What it does in the words of the API that it speaks, as far as that is recognised.
    pub operation: Option<Box<Operation>>,
    /// Kinds of personal data in it; `detect` fills it, the request's by `Phase::Request` at the latest.
    pub data: Vec<Data>,
    /// What the connection's TLS handshake said; `None`: it has none, or that was not seen.
    pub tls: Option<CallTls>,
    /// Whom it goes out to, if that is somebody else; `detect` fills it, by `Phase::Head`.
    pub third_party: Option<Box<ThirdParty>>,
    /// The target is not in normal form (percent-encoding of path characters, `//`, dot segments, `;`, absolute
    /// form, over-long …): what `onAmbiguous` is about.
    pub ambiguous: bool,
    /// It was open while the kernel dropped records, or has a gap of its own.
    pub loss_overlap: bool,
    /// Where the response's direction stood (TCP's sequence number) when the request's head was whole: where
    /// withholding the response has to start. `None` where it is not known, as for TLS objects.
    pub response_position: Option<u32>,
    /// Behind the request's head, in TCP's sequence numbers; `None` for TLS objects.
    pub head_end: Option<u32>,
    /// What the gate in the kernel has decided about it already.
    pub stopped: Option<Decision>,
    pub raw: Raw,
}

impl AuthScheme {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            AuthScheme::None => "none",
            AuthScheme::Basic => "basic",
            AuthScheme::Bearer => "bearer",
            AuthScheme::Digest => "digest",
            AuthScheme::Negotiate => "negotiate",
            AuthScheme::SigV4 => "sigv4",
            AuthScheme::ApiKey => "api-key",
            AuthScheme::Cookie => "cookie",
            AuthScheme::Other => "other",
        }
    }
}

impl Protocol {
    /// By its name.
    pub fn named(name: &str) -> Option<Protocol> {
        [
            Protocol::Http1,
            Protocol::Http2,
            Protocol::WebSocket,
            Protocol::Mllp,
        ]
        .into_iter()
        .find(|known| known.as_str() == name)
    }

    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http/1",
            Protocol::Http2 => "http/2",
            Protocol::WebSocket => "websocket",
            Protocol::Mllp => "mllp",
        }
    }
}

impl CallDirection {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            CallDirection::Inbound => "inbound",
            CallDirection::Outbound => "outbound",
        }
    }
}

impl CallState {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            CallState::Pending => "pending",
            CallState::Answered => "answered",
            CallState::Closed => "closed",
            CallState::Reset => "reset",
            CallState::Gap => "gap",
            CallState::TimedOut => "timed-out",
            CallState::Switched => "switched",
            CallState::Stopped => "stopped",
        }
    }
}
