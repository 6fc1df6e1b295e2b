//! Every bound that both sides rely on. The unit is the last word of the name.

/// Largest payload of one data record. Longer operations become several records.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Payload sizes that a record can be reserved with: the verifier wants constants.
pub const CHUNK_CLASSES_BYTES: [usize; 5] = [256, 512, 1024, 4096, CHUNK_BYTES_MAX];
/// Buffers of a vector that are put into one record, and their bytes together.
pub const GATHERED_VECTORS_MAX: u32 = 8;
pub const GATHERED_BYTES_MAX: usize = 1024;
/// Records that one system call or library call may produce (chunks and buffers of a vector together).
pub const CHUNKS_PER_OPERATION_MAX: u32 = 1024;
/// Buffers of one `writev`/`sendmsg` that are followed; the kernel's own limit (UIO_MAXIOV).
pub const VECTORS_MAX: u32 = 1024;
/// Messages of one `sendmmsg`/`recvmmsg` that are followed.
pub const MESSAGES_MAX: u32 = 64;
/// Bytes of a connection, each way, among which a TLS handshake is looked for: two certificates of hospitals with all
/// that belongs to them, and more.
pub const HANDSHAKE_BYTES_MAX: u32 = 16 * 1024;
/// Operations, each way, in which it is shipped: libraries read a record's five bytes of header by themselves.
pub const HANDSHAKE_OPERATIONS_MAX: u8 = 32;
/// Default size of the record ring.
pub const RING_BYTES: u32 = 8 * 1024 * 1024;
/// Connections of exempt processes whose other end is left alone too; the least recently used gives way.
pub const EXEMPT_PEERS_MAX: u32 = 4 * 1024;
/// Bytes of one operation that are captured while the ring is half full: heads, and little of bodies.
pub const PRESSED_BYTES_MAX: u64 = 4 * 1024;
/// Bytes of one operation that are captured of a flow whose messages come in frames, as HTTP/2's: a hole over their
/// boundaries would lose the rest of the flow. An eighth of the default ring.
pub const FRAMED_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Connections that the kernel side tracks unless the loader says otherwise; the least recently used gives way.
pub const FLOWS_MAX: u32 = 32 * 1024;
/// TLS objects, likewise.
pub const TLS_OBJECTS_MAX: u32 = 32 * 1024;
/// Processes whose parent is remembered, for the TLS objects that they have from it; and objects whose process has done with
/// them while a child may have them. What is forgotten is tied to its socket when that is used.
pub const KIN_MAX: u32 = 2 * 1024;
pub const PARTED_MAX: u32 = 2 * 1024;
/// Places for threads inside a TLS call, by the low bits of the thread id: as many as there are ids by default on a small host. A
/// power of two; two threads that share one are told apart.
pub const TLS_CALLS_MAX: u32 = 32 * 1024;
/// Threads inside a TLS call whose place is taken, or that are inside two.
pub const TLS_CALLS_BESIDE_MAX: u32 = 8 * 1024;
/// Probe sites at which a call can be made to fail.
pub const TLS_SITES_MAX: u32 = 8 * 1024;
/// Threads in the middle of a `sendmmsg` or `recvmmsg` at one moment.
pub const MULTIPLES_MAX: u32 = 1024;
/// Directions of connections that the gate follows at a time; one that is forgotten is the agent's again. Half a kilobyte
/// each. A socket has one, so a connection within the host has two where there are rules for both.
pub const GATED_MAX: u32 = 18 * 1024;
/// Handshakes whose first bytes came before the connection; those whose first bytes came with the SYN have their own room.
pub const HANDSHAKES_MAX: u32 = 3 * 1024;
pub const SYNS_MAX: u32 = 1024;
/// What the gate's rates count by, of all rules; a key that is forgotten begins anew.
pub const RATE_KEYS_MAX: u32 = 28 * 1024;
/// Flows whose egress is withheld at one moment.
pub const WITHHELD_MAX: u32 = 8 * 1024;
/// Connections at one moment that are known to be none that the gate can judge; where it decides all else, what is said on
/// one that is forgotten waits a pause (a millisecond) longer for the agent.
pub const HASTY_MAX: u32 = 1024;
/// Cgroups, network namespaces and executables that a scope or an exemption can name.
pub const SCOPE_ENTRIES_MAX: u32 = 1024;
/// Path components of an executable that are read.
pub const PATH_COMPONENTS_MAX: usize = 24;
/// Bytes of an executable's path, components joined with `/`.
pub const PATH_BYTES_MAX: usize = 1024;
/// A thread's name, with its closing zero.
pub const COMM_BYTES: usize = 16;
/// Bytes of a library's file name that are read.
pub const NAME_BYTES: usize = 64;
/// Longest file name, with its closing zero (NAME_MAX + 1).
pub const NAME_BYTES_MAX: usize = 256;
/// Processes whose executable's verdict is remembered in the kernel; the least recently used gives way.
pub const PROCESSES_MAX: u32 = 8 * 1024;
/// Identities of processes that the gate has classes for; the least recently used gives way, and is asked for again.
pub const CLASSES_MAX: u32 = 16 * 1024;
/// Listening ports whose owners are known.
pub const LISTENERS_MAX: u32 = 8 * 1024;
