//! Connections: from a file descriptor to its socket, what the socket says of itself, birth and death.

use apiward_common::flow::{Flow, Tuple, tls};
use apiward_common::record::{FlowClose, FlowOpen, kind, role};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_socket_cookie};
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit::{count, emit};
use crate::maps::{EXEMPT_PEERS, FLOWS, OFFSETS, WITHHELD};
use crate::{gate, owner, scope};

const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const S_IFMT: u16 = 0o170000;
const S_IFSOCK: u16 = 0o140000;
const BPF_NOEXIST: u64 = 1;

/// TCP states, as in `include/net/tcp_states.h`.
pub mod state {
    pub const ESTABLISHED: i32 = 1;
    pub const SYN_SENT: i32 = 2;
    pub const SYN_RECV: i32 = 3;
    pub const FIN_WAIT1: i32 = 4;
    pub const FIN_WAIT2: i32 = 5;
    pub const TIME_WAIT: i32 = 6;
    pub const CLOSE: i32 = 7;
    pub const CLOSE_WAIT: i32 = 8;
    pub const LAST_ACK: i32 = 9;
    pub const LISTEN: i32 = 10;
    pub const CLOSING: i32 = 11;
}

/// Reads a field of a kernel structure; `None` if the address is not readable.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address itself and fails cleanly.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.ok()
}

/// An open file of the current task.
#[inline(always)]
pub fn file_of(fd: u32) -> Option<u64> {
    // SAFETY: helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, OFFSETS.task_files())?;
    let table: u64 = read(files, OFFSETS.files_fdt())?;
    let most: u32 = read(table, OFFSETS.fdt_max_fds())?;
    if fd >= most {
        return None;
    }
    let array: u64 = read(table, OFFSETS.fdt_fd())?;
    let file: u64 = read(array + fd as u64 * 8, 0)?;
    if file == 0 { None } else { Some(file) }
}

/// A TCP socket that the current task has open.
#[repr(C)]
pub struct Tcp {
    pub sk: u64,
    pub cookie: u64,
}

/// A field of a kernel structure that the verifier knows the type of: a plain load, where [`read`] is a call.
///
/// # Safety
/// `base` must come from a tracepoint's arguments or a helper that returns such a pointer, and `offset` from
/// [`OFFSETS`], which are constants to the verifier.
#[inline(always)]
pub unsafe fn field<T>(base: *const core::ffi::c_void, offset: u32) -> T {
    unsafe { core::ptr::read_volatile(base.cast::<u8>().add(offset as usize).cast::<T>()) }
}

/// The TCP socket behind a descriptor: 1 if it is one, else 0. Global: see `io::apiward_ship`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_tcp_of(fd: u32, out: *mut Tcp) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(out) = (unsafe { out.as_mut() }) else {
        return 0;
    };
    match tcp_of(fd) {
        Some(tcp) => {
            *out = tcp;
            1
        }
        None => 0,
    }
}

#[inline(always)]
fn tcp_of(fd: u32) -> Option<Tcp> {
    let file = file_of(fd)?;
    let inode: u64 = read(file, OFFSETS.file_inode())?;
    let mode: u16 = read(inode, OFFSETS.inode_mode())?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: u64 = read(file, OFFSETS.file_private_data())?;
    let sk: u64 = read(socket, OFFSETS.socket_sk())?;
    let family: u16 = read(sk, OFFSETS.sk_family())?;
    if family != AF_INET && family != AF_INET6 {
        return None;
    }
    let protocol: u16 = read(sk, OFFSETS.sk_protocol())?;
    if protocol != IPPROTO_TCP {
        if protocol == IPPROTO_MPTCP {
            count(|c| unsafe { &raw mut (*c).mptcp }, 1);
        }
        return None;
    }
    let cookie: u64 = read(sk, OFFSETS.sk_cookie())?;
    if cookie == 0 {
        count(|c| unsafe { &raw mut (*c).no_cookie }, 1);
        return None;
    }
    Some(Tcp { sk, cookie })
}

/// `sk_flags`: the peer's FIN has arrived (`SOCK_DONE` of `enum sock_flags`, which `tcp_fin` sets). `sk_shutdown` would
/// not tell: an application that closes its own side sets it too.
const FIN_ARRIVED: u64 = 1 << 1;

/// Sequence numbers after the last byte the application has sent and read. A FIN that has been read is not among
/// them, although TCP counts it as a byte; one that was sent is, if `write_seq` has passed it.
#[inline(always)]
pub fn ends(sk: u64) -> Option<(u32, u32)> {
    let sent: u32 = read(sk, OFFSETS.tp_write_seq())?;
    let received: u32 = read(sk, OFFSETS.tp_copied_seq())?;
    let flags: u64 = read(sk, OFFSETS.sk_flags())?;
    if flags & FIN_ARRIVED != 0 {
        let next: u32 = read(sk, OFFSETS.tp_rcv_nxt())?;
        if next == received {
            return Some((sent, received.wrapping_sub(1)));
        }
    }
    Some((sent, received))
}

/// [`ends`] of a socket whose type the verifier knows.
///
/// # Safety
/// As of [`field`]; `sk` is a `struct tcp_sock`.
#[inline(always)]
pub unsafe fn known_ends(sk: *const core::ffi::c_void) -> (u32, u32) {
    unsafe {
        let sent: u32 = field(sk, OFFSETS.tp_write_seq());
        let received: u32 = field(sk, OFFSETS.tp_copied_seq());
        let flags: u64 = field(sk, OFFSETS.sk_flags());
        if flags & FIN_ARRIVED != 0 && field::<u32>(sk, OFFSETS.tp_rcv_nxt()) == received {
            return (sent, received.wrapping_sub(1));
        }
        (sent, received)
    }
}

/// The flow's entry; made now if the connection is older than the programs.
#[inline(always)]
pub fn flow_of(cookie: u64) -> Option<*mut Flow> {
    if let Some(flow) = FLOWS.get_ptr_mut(&cookie) {
        return Some(flow);
    }
    let fresh = new_flow();
    let _ = FLOWS.insert(&cookie, &fresh, BPF_NOEXIST);
    FLOWS.get_ptr_mut(&cookie)
}

#[inline(always)]
fn new_flow() -> Flow {
    Flow {
        withheld_bytes: 0,
        scope_cgroup: 0,
        scope_pid: 0,
        egress_at: 0,
        sent_start: 0,
        received_start: 0,
        egress_end: 0,
        started: 0,
        role: role::UNKNOWN,
        announced: 0,
        tls: tls::CLEAR,
        enforceable: 0,
        egress_seen: 0,
        sniffed: 0,
        shed: 0,
        exempt: 0,
        framed: 0,
        shaking_sent: 0,
        shaking_received: 0,
        closed: 0,
        parted: 0,
        bound_by: 0,
    }
}

/// Tells the agent of a flow, before its first data record and again when it turns out to be TLS.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_announce(tcp: *const Tcp, flow: *mut Flow) -> i32 {
    // SAFETY: the verifier holds callers to pointers of these sizes, or null. The flow is a map value; its fields
    // are single bytes and words, and races are benign.
    if let (Some(tcp), Some(flow)) = unsafe { (tcp.as_ref(), flow.as_mut()) } {
        announce(tcp, flow);
    }
    0
}

/// Both ends of a connection.
#[inline(always)]
pub fn tuple(sk: u64, tuple: &mut Tuple) -> u8 {
    let family: u16 = read(sk, OFFSETS.sk_family()).unwrap_or(0);
    // Not `skc_num`: a socket that a reset has ended has given that one back.
    tuple.local_port = u16::from_be(read(sk, OFFSETS.sk_sport()).unwrap_or(0));
    tuple.remote_port = u16::from_be(read(sk, OFFSETS.sk_dport()).unwrap_or(0));
    tuple.local = [0; 16];
    tuple.remote = [0; 16];
    if family == AF_INET6 {
        let remote: [u32; 4] = read(sk, OFFSETS.sk_v6_daddr()).unwrap_or([0; 4]);
        // ::ffff:0:0/96, RFC 4291 §2.5.5.2: then the socket's IPv4 fields hold the addresses too.
        if remote[0] != 0 || remote[1] != 0 || remote[2] != 0xffff_u32.to_be() {
            tuple.local = read(sk, OFFSETS.sk_v6_rcv_saddr()).unwrap_or([0; 16]);
            tuple.remote = read(sk, OFFSETS.sk_v6_daddr()).unwrap_or([0; 16]);
            return 6;
        }
    }
    let local: [u8; 4] = read(sk, OFFSETS.sk_rcv_saddr()).unwrap_or([0; 4]);
    let remote: [u8; 4] = read(sk, OFFSETS.sk_daddr()).unwrap_or([0; 4]);
    tuple.local[0] = local[0];
    tuple.local[1] = local[1];
    tuple.local[2] = local[2];
    tuple.local[3] = local[3];
    tuple.remote[0] = remote[0];
    tuple.remote[1] = remote[1];
    tuple.remote[2] = remote[2];
    tuple.remote[3] = remote[3];
    4
}

#[inline(always)]
fn announce(tcp: &Tcp, flow: &mut Flow) {
    if flow.announced != 0 || flow.exempt != 0 {
        return;
    }
    let mut ends = Tuple {
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
    };
    let family = tuple(tcp.sk, &mut ends);
    // SAFETY: only asks whether it is there.
    if unsafe { EXEMPT_PEERS.get(&ends) }.is_some() {
        flow.exempt = 1;
        count(|c| unsafe { &raw mut (*c).exempt }, 1);
        return;
    }
    let netns = match read::<u64>(tcp.sk, OFFSETS.sk_net()) {
        Some(net) => read(net, OFFSETS.net_inum()).unwrap_or(0),
        None => 0,
    };
    if emit::<FlowOpen, 0>(kind::FLOW_OPEN, 0, |record| {
        let open = &mut record.body;
        open.cookie = tcp.cookie;
        open.local = ends.local;
        open.remote = ends.remote;
        open.local_port = ends.local_port;
        open.remote_port = ends.remote_port;
        open.netns = netns;
        open.sent_start = flow.sent_start;
        open.received_start = flow.received_start;
        open.family = family;
        open.role = flow.role;
        open.joined_late = (flow.started == 0) as u8;
        open.enforceable = flow.enforceable;
        open.tls = flow.tls;
        open.gone = (read::<u8>(tcp.sk, OFFSETS.sk_state()).unwrap_or(0) as i32 == state::CLOSE) as u8;
        open.reserved = [0; 2];
        0
    }) {
        flow.announced = 1;
    }
}

/// `inet_sock_set_state(sk, oldstate, newstate)`. No process can be told here: it may run in a softirq.
#[inline(always)]
pub fn state_changed(ctx: &BtfTracePointContext) {
    let new: i32 = ctx.arg(2);
    if new == state::ESTABLISHED {
        established(ctx);
    } else if new == state::CLOSE {
        closed(ctx);
    } else if new == state::SYN_SENT {
        connecting(ctx);
    } else if new == state::LISTEN {
        listening(ctx);
    }
}

#[inline(always)]
fn listening(ctx: &BtfTracePointContext) {
    if !gate::is_on() {
        return;
    }
    let pointer: *mut core::ffi::c_void = ctx.arg(0);
    // SAFETY: the tracepoint's own socket argument, which the verifier knows; also assigns the cookie.
    owner::listens(ctx.arg(0), unsafe { bpf_get_socket_cookie(pointer) });
}

/// The current process connects. Of an exempt one the port is not chosen yet: the flow is marked, and told by its ends
/// once they are.
#[inline(always)]
fn connecting(ctx: &BtfTracePointContext) {
    let sk: u64 = ctx.arg(0);
    let protocol: u16 = read(sk, OFFSETS.sk_protocol()).unwrap_or(0);
    if protocol != IPPROTO_TCP {
        return;
    }
    let pointer: *mut core::ffi::c_void = ctx.arg(0);
    let exempt = scope::exempt();
    if !exempt && !gate::is_on() {
        return;
    }
    // SAFETY: the tracepoint's own socket argument, which the verifier knows; also assigns the cookie.
    let cookie = unsafe { bpf_get_socket_cookie(pointer) };
    if !exempt {
        owner::connects(cookie);
        return;
    }
    let mut flow = new_flow();
    flow.exempt = 1;
    let _ = FLOWS.insert(&cookie, &flow, 0);
}

#[inline(always)]
fn established(ctx: &BtfTracePointContext) {
    let sk: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let protocol: u16 = read(sk, OFFSETS.sk_protocol()).unwrap_or(0);
    if protocol != IPPROTO_TCP {
        return;
    }
    let pointer: *mut core::ffi::c_void = ctx.arg(0);
    // SAFETY: the tracepoint's own socket argument, which the verifier knows; also assigns the cookie.
    let cookie = unsafe { bpf_get_socket_cookie(pointer) };
    let Some((mut sent_start, received_start)) = ends(sk) else {
        return;
    };
    if old == state::SYN_SENT {
        // With data on the SYN (RFC 7413) some is written already. TCP counts the SYN among what is acknowledged.
        let acked: u64 = read(sk, OFFSETS.tp_bytes_acked()).unwrap_or(0);
        if let (Some(next), true) = (read::<u32>(sk, OFFSETS.tp_snd_una()), acked != 0) {
            sent_start = next.wrapping_sub(acked as u32 - 1);
        }
    }
    let mut flow = new_flow();
    flow.started = 1;
    flow.sent_start = sent_start;
    flow.received_start = received_start;
    flow.role = match old {
        state::SYN_SENT => role::CLIENT,
        state::SYN_RECV => role::SERVER,
        _ => role::UNKNOWN,
    };
    // Before its first packet leaves: HAProxy acknowledges nothing but with its answer.
    if flow.role == role::SERVER && owner::accepted(sk, cookie) {
        flow.enforceable = 1;
    }
    // With TCP Fast Open bytes may have moved before: the entry that is there then is kept.
    if FLOWS.insert(&cookie, &flow, BPF_NOEXIST).is_err() {
        if let Some(known) = FLOWS.get_ptr_mut(&cookie) {
            // SAFETY: a live map value.
            let known = unsafe { &mut *known };
            known.role = flow.role;
            // A socket may be connected anew.
            known.closed = 0;
            if known.exempt != 0 {
                let mut ends = Tuple {
                    local: [0; 16],
                    remote: [0; 16],
                    local_port: 0,
                    remote_port: 0,
                };
                tuple(sk, &mut ends);
                let _ = EXEMPT_PEERS.insert(&ends.reversed(), &1, 0);
            }
        }
    }
}

#[inline(always)]
fn closed(ctx: &BtfTracePointContext) {
    let sk: u64 = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let Some(cookie) = read::<u64>(sk, OFFSETS.sk_cookie()) else {
        return;
    };
    // SAFETY: copied out at once.
    let withhold = unsafe { WITHHELD.get(&cookie) }.copied();
    let unread = has_unread(sk);
    if gate::was_on() {
        if old == state::LISTEN {
            owner::unlistens(cookie);
        } else {
            gate::gated::closed(cookie);
        }
    }
    // Nothing leaves by it any more, whatever is still read from it; and there may be no agent that takes back what it has
    // withheld.
    if withhold.is_some() {
        let _ = WITHHELD.remove(&cookie);
    }
    let Some(known) = FLOWS.get_ptr_mut(&cookie) else {
        return;
    };
    // SAFETY: a live map value, copied out before anything else runs.
    let flow = unsafe {
        (*known).closed = 1;
        *known
    };
    // Who still reads must not look like a new connection; the entry goes when it is the least recently used.
    if !unread {
        let _ = FLOWS.remove(&cookie);
    }
    if flow.announced == 0 {
        return;
    }
    let (mut sent_end, received_end) = ends(sk).unwrap_or((0, 0));
    if matches!(
        old,
        state::FIN_WAIT1 | state::FIN_WAIT2 | state::TIME_WAIT | state::LAST_ACK | state::CLOSING
    ) {
        sent_end = sent_end.wrapping_sub(1);
    }
    emit::<FlowClose, 0>(kind::FLOW_CLOSE, 0, |record| {
        record.body = FlowClose {
            cookie,
            bytes_acked: read(sk, OFFSETS.tp_bytes_acked()).unwrap_or(0),
            bytes_received: read(sk, OFFSETS.tp_bytes_received()).unwrap_or(0),
            withheld_bytes: flow.withheld_bytes,
            egress_at: flow.egress_at,
            sent_end,
            received_end,
            egress_end: flow.egress_end,
            withhold_from: withhold.map_or(0, |w| w.from),
            sent_start: flow.sent_start,
            received_start: flow.received_start,
            accepted_end: read(sk, OFFSETS.tp_rcv_nxt()).unwrap_or(0),
            reserved2: 0,
            reset: matches!(old, state::ESTABLISHED | state::CLOSE_WAIT | state::FIN_WAIT1) as u8,
            egress_seen: flow.egress_seen,
            withheld: withhold.map_or(0, |w| if w.gate != 0 { 2 } else { 1 }),
            tls: if flow.is_unread() { tls::UNKNOWN } else { flow.tls },
            enforceable: flow.enforceable,
            unread: unread as u8,
            reserved: [0; 2],
        };
        0
    });
}

/// More was received than was read, not counting a FIN.
#[inline(always)]
fn has_unread(sk: u64) -> bool {
    let next: u32 = read(sk, OFFSETS.tp_rcv_nxt()).unwrap_or(0);
    let read_to: u32 = read(sk, OFFSETS.tp_copied_seq()).unwrap_or(0);
    let flags: u64 = read(sk, OFFSETS.sk_flags()).unwrap_or(0);
    let waiting = next.wrapping_sub(read_to) as i32;
    waiting > (flags & FIN_ARRIVED != 0) as i32
}
