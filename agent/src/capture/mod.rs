//! Kernel records → [`Segment`]s: what a process sent or received on a flow, in clear.
//!
//! First stage of the life of a call. It knows sockets, TLS objects and processes, and must not know a
//! protocol: nothing here looks inside `Segment::bytes`.

pub mod intake;
pub mod libraries;
mod processes;
mod stopped;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

pub use stopped::{Decision, Ground, Hook};

/// Nanoseconds of `CLOCK_MONOTONIC`, as the kernel stamped them. Becomes wall-clock time once, in `export`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// Nanoseconds since `earlier`, 0 if that is later.
    pub fn since(self, earlier: KernelTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whose bytes these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowId {
    /// A TCP connection in clear, by its socket cookie.
    Socket(u64),
    /// A TLS object in a process: the plaintext side of a connection. `generation` tells reused addresses apart.
    Tls { pid: u32, object: u64, generation: u32 },
}

/// Who made the system call or called the TLS library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    /// The thread's name, at most 15 bytes.
    pub comm: SmolStr,
    /// What `/proc/<pid>/exe` showed; empty where it could not be known.
    pub exe: SmolStr,
    pub cgroup_id: u64,
    /// Path inside the cgroup2 hierarchy, empty if the cgroup was gone before it could be read.
    pub cgroup_path: SmolStr,
    /// 64 hex digits of the container runtime's id, from the cgroup path.
    pub container: Option<SmolStr>,
}

/// Relative to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Received,
    Sent,
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SocketRole {
    /// This side connected.
    Client,
    /// This side accepted.
    Server,
    /// Older than the agent, and no listener to tell it by.
    #[default]
    Unknown,
}

/// The library that a TLS flow was read in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// e.g. `openssl`.
    pub library: SmolStr,
    /// e.g. `3.0.17`; empty if the library does not say.
    pub version: SmolStr,
}

/// What is known of a flow. Sent again, as a new `Arc`, when more becomes known.
#[derive(Clone, Debug)]
pub struct FlowInfo {
    pub id: FlowId,
    /// Cookie of the TCP socket that carries it; `None` for a TLS object that has no socket behind it.
    pub carrier: Option<u64>,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    pub role: SocketRole,
    /// Inode number of the network namespace, 0 if unknown.
    pub netns: u32,
    pub tls: Option<TlsInfo>,
    /// The connection is older than the agent: its first bytes are in the middle of something.
    pub joined_late: bool,
    /// TCP sequence numbers of the first byte sent and the first received; `None` where they are not known.
    pub starts: Option<(u32, u32)>,
    /// A cgroup program has seen this socket, so that its egress can be withheld.
    pub enforceable: bool,
}

/// Why bytes that were moved are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Beyond the configured limit of one operation.
    Limit,
    /// The ring was full.
    Lost,
    /// `sendfile` and its kin: they never pass through user memory.
    Sendfile,
    /// The process's memory could not be read (paged out, unmapped).
    Unreadable,
    /// Moved by something that no hook of ours saw (io_uring, splice, kTLS …).
    Unseen,
    /// Given up by the agent under overload.
    Overload,
}

impl GapReason {
    /// What a limit or `sendfile` left out is known to be body; the others could have been anything.
    pub fn is_loss(self) -> bool {
        !matches!(self, GapReason::Limit | GapReason::Sendfile)
    }
}

/// Consecutive bytes that one operation moved on one flow.
#[derive(Clone)]
pub struct Segment {
    pub at: KernelTime,
    pub flow: FlowId,
    pub process: Arc<Process>,
    pub direction: Direction,
    /// Offset of the first byte in this direction. For sockets it is TCP's own sequence number (32 bits, it
    /// wraps; `flow` unwraps it); for TLS objects a count of plaintext bytes from the object's first use.
    pub position: u64,
    /// Where the other direction stood at this moment, in the same unit (sent segments: received end, and so on).
    /// For sockets only: 0 for TLS objects.
    pub other_position: u64,
    /// Captured bytes; may be shorter than what was moved, see `missing`.
    pub bytes: Bytes,
    /// Bytes of the same operation that follow `bytes` and were not captured, and why.
    pub missing: u32,
    pub missing_reason: GapReason,
}

/// Never the bytes themselves: what is printed ends up in logs.
impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("at", &self.at)
            .field("flow", &self.flow)
            .field("direction", &self.direction)
            .field("position", &self.position)
            .field("bytes_len", &self.bytes.len())
            .field("missing", &self.missing)
            .field("missing_reason", &self.missing_reason)
            .finish_non_exhaustive()
    }
}

/// TCP's own account of a connection at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowEnd {
    /// Position after the last byte sent by the application, and the last byte it has read (unit as in `Segment`).
    pub sent_end: u64,
    pub received_end: u64,
    /// Bytes over the connection's life, by TCP's counters (`bytes_acked`, `bytes_received`).
    pub bytes_acked: u64,
    pub bytes_received: u64,
    /// It ended by RST or abort rather than by FIN.
    pub reset: bool,
    /// TCP sequence number behind the last payload that passed the egress hook, and when that was (0: none did);
    /// `None` if nobody knows.
    pub egress: Option<(u32, KernelTime)>,
    /// TCP sequence number from which payload was withheld; `None` if the flow was not denied.
    pub withheld_from: Option<u32>,
    /// It was the gate that withheld it, at once, and not the agent.
    pub withheld_by_gate: bool,
    /// Payload bytes that did not leave.
    pub withheld_bytes: u64,
    /// TCP sequence number behind the last byte that TCP took in; `None` where nobody says.
    pub accepted_end: Option<u32>,
    /// The process has not read all that was received, and may still do so: after a reset, or where it had closed its
    /// own direction first.
    pub unread: bool,
}

/// A request that the gate has kept from its receiver.
#[derive(Clone)]
pub struct Stopped {
    pub at: KernelTime,
    pub flow: Arc<FlowInfo>,
    /// Whose socket it is: who would have got it, or has sent it.
    pub process: Arc<Process>,
    pub direction: Direction,
    /// Position of the head's first byte, as in [`Segment::position`].
    pub position: u64,
    /// The head as far as it had come; empty where the process has it all the same, so that segments tell.
    pub head: Bytes,
    pub decision: Decision,
}

/// Never the bytes themselves: what is printed ends up in logs.
impl std::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopped")
            .field("at", &self.at)
            .field("flow", &self.flow.id)
            .field("position", &self.position)
            .field("head_len", &self.head.len())
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

/// Bytes of a connection's TLS handshake, as they are on the wire: no bytes that the application moves.
#[derive(Clone)]
pub struct Handshake {
    pub at: KernelTime,
    /// The socket.
    pub flow: Arc<FlowInfo>,
    pub process: Arc<Process>,
    pub direction: Direction,
    /// TCP's sequence number of the first byte.
    pub position: u32,
    pub bytes: Bytes,
    /// No probed library has claimed the connection.
    pub blind: bool,
}

/// Never the bytes themselves: what is printed ends up in logs.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("at", &self.at)
            .field("flow", &self.flow.id)
            .field("direction", &self.direction)
            .field("position", &self.position)
            .field("bytes_len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What capture hands on, in the order the kernel stamped it.
#[derive(Clone, Debug)]
pub enum Captured {
    /// A flow appeared, or more is known of it. Always before its first segment.
    Flow(Arc<FlowInfo>),
    Segment(Segment),
    Handshake(Handshake),
    Stopped(Stopped),
    /// The client of a connection on which a request was stopped has its answer, and closes.
    Parted {
        at: KernelTime,
        flow: FlowId,
    },
    /// A request was stopped before its connection was established, and waits for that. The flow's number is its listener's,
    /// marked with [`NO_SOCKET`](apiward_common::record::NO_SOCKET).
    Knocked {
        at: KernelTime,
        flow: Arc<FlowInfo>,
        process: Arc<Process>,
    },
    /// No more segments of this flow will come, but those that [`FlowEnd::unread`] speaks of, and after a reset those of
    /// calls that were still returning.
    Closed {
        at: KernelTime,
        flow: FlowId,
        end: FlowEnd,
    },
    /// `records` were dropped by the kernel for want of room in the ring. Positions tell which flows lost bytes;
    /// calls that were open at this moment overlap the loss.
    Lost {
        at: KernelTime,
        records: u64,
    },
    /// Nothing happened; time passes (sent at least every second).
    Tick {
        at: KernelTime,
    },
}
