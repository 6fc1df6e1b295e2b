//! Map values that describe connections and TLS objects.

use crate::limits::HANDSHAKE_OPERATIONS_MAX;

/// What is known of a connection's encryption.
pub mod tls {
    /// Nothing said so yet.
    pub const CLEAR: u8 = 0;
    /// A probed library reads and writes it: its ciphertext is not shipped.
    pub const BOUND: u8 = 1;
    /// It starts like TLS, and no probed library has claimed it.
    pub const UNKNOWN: u8 = 2;
    /// It looks like TLS, and is older than the programs, or than the probes. Whose it is, the next that is sent tells: reads
    /// are seen when plaintext is handed over, and what they received was before that.
    pub const PERHAPS: u8 = 3;
}

/// Value of the map of flows, by socket cookie.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    pub withheld_bytes: u64,
    /// Who was found to be in scope when it last used the flow: cgroup id and process id; 0: nobody.
    pub scope_cgroup: u64,
    /// When payload last passed egress; valid if `egress_seen`.
    pub egress_at: u64,
    /// First sequence numbers; valid if `started`.
    pub sent_start: u32,
    pub received_start: u32,
    /// Highest sequence number behind payload that passed egress; valid if `egress_seen`.
    pub egress_end: u32,
    pub scope_pid: u32,
    /// Seen from its establishment on.
    pub started: u8,
    /// [`crate::record::role`].
    pub role: u8,
    /// The agent has been told of it.
    pub announced: u8,
    /// [`tls`].
    pub tls: u8,
    /// A cgroup program has seen the socket, so it can be withheld.
    pub enforceable: u8,
    pub egress_seen: u8,
    /// Operations in which a TLS record was looked for; [`SNIFFED_DATA`].
    pub sniffed: u8,
    /// Given up as a whole while the ring is too full.
    pub shed: u8,
    /// The other end is an exempt process of this host, or this end is: never shipped.
    pub exempt: u8,
    /// It began as HTTP/2 does: captured in whole, because of what lies behind a long frame.
    pub framed: u8,
    /// Operations each way that are still shipped as part of a TLS handshake; 0: none, or no more.
    pub shaking_sent: u8,
    pub shaking_received: u8,
    /// The connection has ended, and something is still to be read: nothing leaves by it any more.
    pub closed: u8,
    /// The agent has been told that the client of a stopped request closes.
    pub parted: u8,
    /// The low bits of the id of the process whose object it was found to carry last.
    pub bound_by: u16,
}

/// Of [`Flow::sniffed`]: what looks like TLS was more than an alert.
pub const SNIFFED_DATA: u8 = u8::MAX;

impl Flow {
    /// It is TLS, and something of it was read by nobody here, or written. To be asked at its end: until then who writes may
    /// show whose it is.
    pub fn is_unread(&self) -> bool {
        self.tls == tls::UNKNOWN || (self.tls == tls::PERHAPS && self.sniffed == SNIFFED_DATA)
    }

    /// It is TLS from here on. Of a connection that is older than the programs the handshake is over.
    #[inline(always)]
    pub fn begins_tls(&mut self) {
        if self.started != 0 && self.tls == tls::CLEAR {
            self.shaking_sent = HANDSHAKE_OPERATIONS_MAX;
            self.shaking_received = HANDSHAKE_OPERATIONS_MAX;
        }
    }
}

/// Key of the map of TLS objects.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsKey {
    pub object: u64,
    pub pid: u32,
    pub reserved: u32,
}

/// Value of the map of TLS objects.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsObject {
    /// Cookie of the socket behind it; 0: none seen.
    pub carrier: u64,
    /// Where that one is in the kernel's memory; asked for its cookie before anything of it is believed.
    pub socket: u64,
    /// Plaintext bytes so far.
    pub sent: u64,
    pub received: u64,
    /// Plaintext bytes of the direction that requests go, when the carrier was learnt.
    pub origin: u64,
    /// Tells objects at a reused address apart.
    pub generation: u32,
    /// As of [`Flow`].
    pub shed: u8,
    pub exempt: u8,
    /// [`judged`].
    pub judged: u8,
    /// The gate has denied a request: not 0 until the object lives no more, or has another connection.
    pub dead: u8,
    /// As of [`Flow`].
    pub framed: u8,
    pub reserved: [u8; 3],
    /// The loader's number of the library, once there is a carrier.
    pub library: u32,
}

/// Where a process comes from, for its TLS objects.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Kin {
    /// Process ids of its parent, and of the child that it forked last; 0: not seen.
    pub parent: u32,
    pub child: u32,
    /// When it was forked, and when it last forked a child itself; kernel ns, 0: not seen.
    pub born_at: u64,
    pub forked_at: u64,
}

/// A TLS object as it was when its process had done with it, for children that may still have it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Parted {
    pub object: TlsObject,
    /// Kernel ns.
    pub at: u64,
}

/// `TlsObject::judged`: which way its requests go, if it was seen from its beginning.
pub mod judged {
    /// Not known, or not seen from its beginning: the gate leaves it to the agent.
    pub const NOT: u8 = 0;
    /// A client's: it writes them.
    pub const WRITES: u8 = 1;
    /// A server's: it reads them.
    pub const READS: u8 = 2;
}

/// A thread that makes TLS library calls, and the one that it is inside of. The entry stays between calls, because
/// making and deleting one costs more than all the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCall {
    /// Process and thread id; 0: nobody has the place.
    pub thread: u64,
    /// The cgroup in which the thread was found to be in scope.
    pub scope_cgroup: u64,
    pub object: u64,
    pub buffer: u64,
    /// Bytes of the buffer.
    pub length: u64,
    /// Where the library writes how many bytes it moved; 0: it returns them. For [`TAKING`]: where what was called returns to.
    pub moved: u64,
    /// The stack pointer at the entry: what the call does itself happens below it.
    pub stack: u64,
    /// The loader's number of the library.
    pub library: u32,
    /// [`crate::site::Op`], or [`TAKING`]; 0: inside of none.
    pub op: u8,
    /// [`crate::site::ResultIn`].
    pub result: u8,
    /// Not 0: made inside a call on another object, TLS within TLS, which waits.
    pub nested: u8,
    /// Not 0: only what happens on the same stack, below, is part of it.
    pub own_stack: u8,
}

/// In [`TlsCall::op`]: plaintext was taken, and leaves now; [`TlsCall::length`] is that of its first record, 0 if it goes on.
/// No probe ends this: it is over with the thread's next use of a socket that is not known as the object's, or once the address
/// that the call returns to is no longer where the call has put it. Whoever needs the place may have it, if nobody waits
/// outside.
pub const TAKING: u8 = 16;

/// Value of the map of withheld flows, by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Withhold {
    /// First sequence number that must not leave.
    pub from: u32,
    /// Not 0: no payload at all may leave, whatever `from` says.
    pub everything: u32,
    /// Not 0: by the gate itself, at once, and not by the agent.
    pub gate: u32,
    pub reserved: u32,
}

/// How far a thread is in a `sendmmsg` or `recvmmsg`, whose messages are told one by one and without a number.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Multiple {
    /// The array of messages, and how many there are.
    pub address: u64,
    pub messages: u32,
    /// The next one.
    pub next: u32,
    /// Position at which it begins if it belongs to the same call.
    pub position: u32,
    pub reserved: u32,
}

/// Counters, one a CPU.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// Attempts to write a record: the source of `Header::sequence`.
    pub sequence: u64,
    /// Records that found no room in the ring.
    pub dropped_records: u64,
    /// Payload bytes of those.
    pub dropped_bytes: u64,
    /// Operations on TCP sockets whose cookie is not known.
    pub no_cookie: u64,
    /// Operations on MPTCP sockets.
    pub mptcp: u64,
    /// Operations of 32-bit programs on TCP sockets: they are not seen.
    pub compat: u64,
    /// Operations of exempt processes.
    pub exempt: u64,
    /// Bytes of buffers that could not be read.
    pub unreadable: u64,
    /// Operations of flows that were given up as a whole, and their bytes.
    pub shed_operations: u64,
    pub shed_bytes: u64,
    /// Connections used inside a TLS call on an object that has another one: not taken for the object's.
    pub other_carriers: u64,
    /// Heads that the gate has judged; those that it left to the agent, and those that it denied.
    pub gate_heads: u64,
    pub gate_left: u64,
    pub gate_denied: u64,
    /// Connections on which it does not know where a message begins, and those of nobody that it knows.
    pub gate_lost: u64,
    pub gate_unowned: u64,
    /// Segments that it had to drop for their order, their repetition or its own want of room: TCP sends them again.
    pub gate_again: u64,
    /// Denied connections that found no room where denials are kept: they hold as long as the gate remembers them.
    pub gate_full: u64,
    /// Segments that passed although they were denied, or unjudged, because no agent had renewed the lease.
    pub gate_expired: u64,
    /// Where programs are attached twice: runs of second ones that found what happened told, and of first ones that told.
    /// In this order: words are copied in it, so that none of the former is seen without its latter.
    pub seconds_spared: u64,
    pub firsts_told: u64,
}

/// Both ends of a connection, as one of them sees it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// IPv6, or IPv4 (also where it is mapped) in the first four bytes; network order.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Host order.
    pub local_port: u16,
    pub remote_port: u16,
}

impl Tuple {
    /// As the other end sees it.
    #[inline(always)]
    pub fn reversed(&self) -> Tuple {
        Tuple {
            local: self.remote,
            remote: self.local,
            local_port: self.remote_port,
            remote_port: self.local_port,
        }
    }
}

#[cfg(feature = "user")]
mod user {
    //! aya moves these between maps and memory: plain integers, no padding (see the size assertions).
    unsafe impl aya::Pod for super::Flow {}
    unsafe impl aya::Pod for super::TlsKey {}
    unsafe impl aya::Pod for super::TlsObject {}
    unsafe impl aya::Pod for super::TlsCall {}
    unsafe impl aya::Pod for super::Withhold {}
    unsafe impl aya::Pod for super::Multiple {}
    unsafe impl aya::Pod for super::Counters {}
}

const _: () = {
    assert!(core::mem::size_of::<Flow>() == 56);
    assert!(core::mem::size_of::<TlsKey>() == 16);
    assert!(core::mem::size_of::<TlsObject>() == 56);
    assert!(core::mem::size_of::<Kin>() == 24);
    assert!(core::mem::size_of::<Parted>() == 64);
    assert!(core::mem::size_of::<TlsCall>() == 64);
    assert!(core::mem::size_of::<Withhold>() == 16);
    assert!(core::mem::size_of::<Multiple>() == 24);
    assert!(core::mem::size_of::<Counters>() == 168);
};
