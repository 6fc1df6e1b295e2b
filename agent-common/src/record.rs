//! What the kernel programs write into the ring, and how the agent reads it back.
//!
//! A record is a [`Header`], a body by its kind, and for some kinds payload. The agent never casts: it takes
//! fields from bytes with [`Reader`], which cannot read past the end, and counts what it does not understand.

use crate::limits::COMM_BYTES;
use crate::owner::Owner;

/// Kinds of record. 0 is never written, so that zeroed memory is not a record.
pub mod kind {
    pub const DATA: u8 = 1;
    pub const FLOW_OPEN: u8 = 2;
    pub const FLOW_CLOSE: u8 = 3;
    pub const TLS_BIND: u8 = 4;
    pub const TLS_CLOSE: u8 = 5;
    pub const MAPPED: u8 = 6;
    pub const EXEC: u8 = 7;
    pub const FORK: u8 = 8;
    pub const EXIT: u8 = 9;
    pub const STOPPED: u8 = 10;
    /// A process that the agent has no class for listens or connects.
    pub const OWNER: u8 = 11;
}

/// First part of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// [`kind`].
    pub kind: u8,
    pub reserved: u8,
    /// CPU whose sequence `sequence` counts.
    pub cpu: u16,
    /// Bytes of payload behind the body; the reserved room may be larger.
    pub payload_bytes: u32,
    /// Counts every attempt to write a record on this CPU: a hole is a loss.
    pub sequence: u64,
    /// Nanoseconds, `CLOCK_MONOTONIC`.
    pub at: u64,
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub reserved2: u32,
    pub cgroup: u64,
    pub comm: [u8; COMM_BYTES],
}

/// `Data::flags`: the process sent these bytes (else it received them).
pub const SENT: u8 = 1;
/// `Data::flags`: plaintext of a TLS object; `flow` is its address and `generation` is set.
pub const TLS: u8 = 2;
/// `Data::flags`: bytes of a TLS handshake as they are on the wire; `flow` is the socket's cookie. They are no bytes that
/// the application moves, and `moved_bytes` says no more than the payload.
pub const HANDSHAKE: u8 = 4;

/// Body of [`kind::DATA`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// Socket cookie, or the TLS object's address.
    pub flow: u64,
    /// Position of the first byte: TCP sequence number, or plaintext bytes counted from the object's first use.
    pub position: u64,
    /// Where the other direction stands; for TLS objects, the loader's number of the library.
    pub other_position: u64,
    /// Bytes of the operation from `position` on that this record stands for; more than the payload if some
    /// could not be captured.
    pub moved_bytes: u32,
    pub generation: u32,
    /// Carrier's cookie of a TLS object, 0 if none is known.
    pub carrier: u64,
    pub flags: u8,
    /// [`missing`].
    pub missing: u8,
    pub reserved: [u8; 6],
}

/// `Data::missing`: why `moved_bytes` exceeds the payload.
pub mod missing {
    pub const NOTHING: u8 = 0;
    pub const LIMIT: u8 = 1;
    pub const UNREADABLE: u8 = 2;
    pub const SENDFILE: u8 = 3;
    /// The ring was too full for bodies.
    pub const OVERLOAD: u8 = 4;
    /// Moved by something else than the system calls that are followed (io_uring, asynchronous I/O).
    pub const ELSEWHERE: u8 = 5;
}

/// Roles in [`FlowOpen`].
pub mod role {
    pub const UNKNOWN: u8 = 0;
    pub const CLIENT: u8 = 1;
    pub const SERVER: u8 = 2;
}

/// Body of [`kind::FLOW_OPEN`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowOpen {
    pub cookie: u64,
    /// IPv6, or IPv4 in the first four bytes; network order.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Host order.
    pub local_port: u16,
    pub remote_port: u16,
    pub netns: u32,
    /// First sequence number each way; valid if `joined_late` is 0.
    pub sent_start: u32,
    pub received_start: u32,
    /// 4 or 6.
    pub family: u8,
    /// [`role`].
    pub role: u8,
    pub joined_late: u8,
    /// A cgroup program has seen the socket.
    pub enforceable: u8,
    /// [`crate::flow::tls`].
    pub tls: u8,
    /// It has ended already: a reset came while the first call on it was returning. Nothing was moved before.
    pub gone: u8,
    pub reserved: [u8; 2],
}

/// Body of [`kind::FLOW_CLOSE`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowClose {
    pub cookie: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    /// Payload bytes that the egress program dropped.
    pub withheld_bytes: u64,
    /// When payload last passed it; valid if `egress_seen`.
    pub egress_at: u64,
    pub sent_end: u32,
    pub received_end: u32,
    /// Highest sequence number behind payload that left this host's egress hook; valid if `egress_seen`.
    pub egress_end: u32,
    /// The sequence number from which payload was withheld; valid if `withheld`.
    pub withhold_from: u32,
    pub sent_start: u32,
    pub received_start: u32,
    /// Sequence number behind the last byte that TCP took in, read by the process or not; a FIN counts as one.
    pub accepted_end: u32,
    pub reserved2: u32,
    pub reset: u8,
    pub egress_seen: u8,
    /// 1: by the agent; 2: by the gate.
    pub withheld: u8,
    /// [`crate::flow::tls`].
    pub tls: u8,
    pub enforceable: u8,
    /// Received bytes wait in the socket: the process may still read them.
    pub unread: u8,
    pub reserved: [u8; 2],
}

/// Body of [`kind::TLS_BIND`]: the TLS object is carried by this socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsBind {
    pub object: u64,
    pub cookie: u64,
    pub generation: u32,
    /// The loader's number of the library.
    pub library: u32,
}

/// Body of [`kind::TLS_CLOSE`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsClose {
    pub object: u64,
    pub sent_end: u64,
    pub received_end: u64,
    pub generation: u32,
    pub reserved: u32,
}

/// Body of [`kind::MAPPED`]: a file that looks like a TLS library was mapped executable. Payload: its name.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    pub inode: u64,
    /// `st_dev` as the kernel encodes it (major << 20 | minor).
    pub device: u32,
    pub reserved: u32,
}

/// Body of [`kind::EXEC`] and [`kind::FORK`]. Payload (exec): path components, last first, each closed by a
/// zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessChange {
    /// Executable's inode (exec).
    pub inode: u64,
    pub device: u32,
    /// The new process (fork).
    pub child: u32,
    /// The path has more components than were read.
    pub truncated: u32,
    pub reserved: u32,
    pub reserved2: u64,
}

/// `Stopped::what`.
pub mod stopped {
    /// Nothing is stopped yet: part of a head, whose rest is to come.
    pub const PART: u8 = 1;
    /// A rule denies it.
    pub const DENIED: u8 = 2;
    /// Its target or framing can be read in two ways, and the policy denies such.
    pub const AMBIGUOUS: u8 = 3;
    /// Two different contents came at one sequence number.
    pub const TWO_CONTENTS: u8 = 4;
    /// The client of a connection on which a request was stopped has its answer, and closes.
    pub const PARTS: u8 = 5;
}

/// `Stopped::hook`: where it was stopped.
pub mod hook {
    pub const INGRESS: u8 = 1;
    pub const EGRESS: u8 = 2;
    pub const TLS_READ: u8 = 3;
    pub const TLS_WRITE: u8 = 4;
}

/// Marks `Stopped::cookie` of a connection that has no socket of its own yet: the rest is its listener's.
pub const NO_SOCKET: u64 = 1 << 63;

/// Body of [`kind::STOPPED`]: the gate keeps a request from its receiver. Payload: bytes of its head, where the process
/// does not get them to see.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Of the socket; the listener's where the connection was not established yet.
    pub cookie: u64,
    /// The TLS object, 0 in clear.
    pub object: u64,
    /// Whose socket it is, as far as is known: cgroup id, process and user id, name.
    pub cgroup: u64,
    /// As in [`FlowOpen`].
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub comm: [u8; COMM_BYTES],
    pub local_port: u16,
    pub remote_port: u16,
    pub netns: u32,
    /// TCP sequence numbers (TLS: plaintext bytes) of the head's first byte and of the payload's.
    pub head_start: u32,
    pub position: u32,
    /// Which tables decided, and which of their rules.
    pub generation: u32,
    pub rule: u32,
    pub pid: u32,
    pub uid: u32,
    /// Of the TLS object, as in [`Data::generation`].
    pub object_generation: u32,
    /// Requests before it on the connection, which have passed.
    pub heads: u32,
    /// Not 0, in TLS: the library's call was made to fail, so the process was never told of what it read, or the library
    /// never took what was written.
    pub refused: u32,
    /// Allowed requests that came in one segment with it, and are lost with it.
    pub collateral: u32,
    pub reserved: u32,
    /// 4 or 6.
    pub family: u8,
    /// [`role`].
    pub role: u8,
    /// [`hook`].
    pub hook: u8,
    /// [`stopped`].
    pub what: u8,
}

/// Takes little-endian fields from bytes, in order; `None` once they do not suffice.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        if count > self.bytes.len() {
            return None;
        }
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Some(out)
    }
}

/// A field that can be read from bytes.
trait Field: Sized {
    fn read(reader: &mut Reader) -> Option<Self>;
}

macro_rules! integer_field {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn read(reader: &mut Reader) -> Option<Self> {
                reader.array().map(<$kind>::from_le_bytes)
            }
        }
    )*};
}

integer_field!(u8, u16, u32, u64);

impl<const N: usize> Field for [u8; N] {
    fn read(reader: &mut Reader) -> Option<Self> {
        reader.array()
    }
}

/// `Type::read(&mut reader)`: the fields in the order of the layout.
macro_rules! layout {
    ($kind:ident, $bytes:literal, $($field:ident),*) => {
        impl $kind {
            /// Size on the ring.
            pub const BYTES: usize = $bytes;

            /// `None` if there are too few bytes.
            pub fn read(reader: &mut Reader) -> Option<Self> {
                Some($kind { $($field: Field::read(reader)?),* })
            }
        }
        const _: () = assert!(core::mem::size_of::<$kind>() == $bytes);
    };
}

layout!(
    Header,
    64,
    kind,
    reserved,
    cpu,
    payload_bytes,
    sequence,
    at,
    pid,
    tid,
    uid,
    reserved2,
    cgroup,
    comm
);
layout!(
    Data,
    48,
    flow,
    position,
    other_position,
    moved_bytes,
    generation,
    carrier,
    flags,
    missing,
    reserved
);
layout!(
    FlowOpen,
    64,
    cookie,
    local,
    remote,
    local_port,
    remote_port,
    netns,
    sent_start,
    received_start,
    family,
    role,
    joined_late,
    enforceable,
    tls,
    gone,
    reserved
);
layout!(
    FlowClose,
    80,
    cookie,
    bytes_acked,
    bytes_received,
    withheld_bytes,
    egress_at,
    sent_end,
    received_end,
    egress_end,
    withhold_from,
    sent_start,
    received_start,
    accepted_end,
    reserved2,
    reset,
    egress_seen,
    withheld,
    tls,
    enforceable,
    unread,
    reserved
);
layout!(TlsBind, 24, object, cookie, generation, library);
layout!(TlsClose, 32, object, sent_end, received_end, generation, reserved);
layout!(
    Stopped,
    128,
    cookie,
    object,
    cgroup,
    local,
    remote,
    comm,
    local_port,
    remote_port,
    netns,
    head_start,
    position,
    generation,
    rule,
    pid,
    uid,
    object_generation,
    heads,
    refused,
    collateral,
    reserved,
    family,
    role,
    hook,
    what
);
layout!(Owner, 48, cgroup, inode, device, uid, pid, reserved, comm);
layout!(Mapped, 16, inode, device, reserved);
layout!(
    ProcessChange,
    32,
    inode,
    device,
    child,
    truncated,
    reserved,
    reserved2
);
