//! What the stage is told, what it may hold, and what it counts.

use std::sync::Arc;

use crate::call::redact::Earning;
use crate::capture::{FlowInfo, Process};
use crate::decode::Limits as DecodeLimits;

/// Bounds; what is beyond one is counted in [`Stats`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub decode: DecodeLimits,
    /// Captured bytes of one body, each way (`capture.body_bytes_max`).
    pub body_bytes_max: usize,
    /// Captured bytes of all bodies of open calls together.
    pub bodies_bytes_max: usize,
    /// Calls open on one flow (pipelining).
    pub flow_calls_max: usize,
    /// Streams open on one connection of HTTP/2.
    pub flow_streams_max: usize,
    /// What the decoders of all connections of HTTP/2 hold (tables of fields, heads in progress).
    pub decoders_bytes_max: usize,
    /// Calls open altogether.
    pub calls_max: usize,
    /// Flows with state of their own.
    pub flows_max: usize,
    /// Bytes of one flow that wait for the other direction.
    pub flow_waiting_bytes_max: usize,
    /// How long (record time) a response may wait for its request's record.
    pub waiting_ns: u64,
    /// A call without an answer for so long has timed out.
    pub answer_ns: u64,
    /// An answered call whose request does not come to its end within that time is over all the same.
    pub unfinished_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            decode: DecodeLimits::default(),
            body_bytes_max: 64 * 1024,
            bodies_bytes_max: 16 * 1024 * 1024,
            flow_calls_max: 256,
            flow_streams_max: 4_096,
            decoders_bytes_max: 64 * 1024 * 1024,
            calls_max: 65_536,
            flows_max: 65_536,
            flow_waiting_bytes_max: 128 * 1024,
            waiting_ns: 200_000_000,
            answer_ns: 300_000_000_000,
            unfinished_ns: 5_000_000_000,
        }
    }
}

/// What [`Calls`](super::Calls) needs to know.
#[derive(Clone)]
pub struct Options {
    pub limits: Limits,
    /// Key of the hashes that leave the host.
    pub key: [u8; 32],
    /// The kernel's boot id: part of every call's name.
    pub boot_id: [u8; 16],
    pub earning: Earning,
    /// Path segments and hosts that policies and configuration name, and that may thus be shown.
    pub literals: Vec<String>,
}

/// Counters since the start, except `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub calls: u64,
    pub calls_open: u64,
    pub answered: u64,
    pub closed: u64,
    pub reset: u64,
    pub gap: u64,
    pub timed_out: u64,
    pub switched: u64,
    /// Kept from their receivers by the gate.
    pub stopped: u64,
    /// Calls given up because too many were open.
    pub calls_given_up: u64,
    /// Responses whose request may have been lost.
    pub responses_unpaired: u64,
    /// Responses that nobody asked for: every request before them was seen.
    pub responses_unsolicited: u64,
    /// Bytes of HTTP flows that could not be told to belong to a message.
    pub bytes_skipped: u64,
    /// Body bytes that were not kept because all bodies together were too many.
    pub body_bytes_given_up: u64,
    /// Bytes that waited for the other direction and were given up.
    pub waiting_bytes_given_up: u64,
    /// Times a direction lost step.
    pub out_of_step: u64,
    /// Flows in HTTP/2.
    pub flows_http2: u64,
    /// Streams of connections that were joined in the middle, with fields that are unknown, in the request or the answer.
    pub streams_unknown: u64,
    /// Answers that servers gave unasked, by push.
    pub pushes: u64,
    /// Oddities of connections of HTTP/2 that no call was there to tell.
    pub anomalies_untold: u64,
    /// Connections of HTTP/2 whose tables were forgotten because all together held too much.
    pub decoders_given_up: u64,
    /// TLS handshakes that were followed to where they say no more, and those given up for want of room.
    pub handshakes: u64,
    pub handshakes_given_up: u64,
    /// Flows that became WebSocket.
    pub flows_websocket: u64,
    /// Flows of some other protocol.
    pub flows_other: u64,
    /// Flows not followed for want of room.
    pub flows_given_up: u64,
    /// Unknown words and hosts that were not learnt for want of room.
    pub words_not_learnt: u64,
}

/// Conversations that nobody has asked for yet; beyond, they are counted alone ([`Stats::out_of_step`]).
pub(super) const UNREAD_LEN_MAX: usize = 4_096;

/// Why requests of a conversation cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadWhy {
    /// Bytes are missing, by overload or by a way that is not seen, or go through more tunnels than are followed, where
    /// requests may have been.
    Gap,
}

/// A conversation that cannot be read, or not all of it. Of one with gaps the first is told.
#[derive(Clone)]
pub struct Unread {
    pub flow: Arc<FlowInfo>,
    pub process: Arc<Process>,
    pub why: UnreadWhy,
}
