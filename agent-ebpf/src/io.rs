//! Plaintext that system calls move on TCP sockets, and files that are mapped.

use apiward_common::flow::{Flow, Multiple, SNIFFED_DATA, tls as tls_state};
use apiward_common::limits::{
    FRAMED_BYTES_MAX, HANDSHAKE_BYTES_MAX, MESSAGES_MAX, NAME_BYTES, PRESSED_BYTES_MAX,
};
use apiward_common::record::{HANDSHAKE, Mapped, SENT, kind, missing};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_probe_read_kernel_str, bpf_skc_to_tcp_sock,
    bpf_task_pt_regs,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit::{count, emit};
use crate::maps::{FLOWS, LIBRARIES, MULTIPLES, OFFSETS, RING, SETTINGS, SOME_MULTIPLE, TLS_PROBED};
use crate::middle::APPLICATION_DATA;
use crate::operation::{MMSGHDR_BYTES, Operation, Vector};
use crate::sock::{Tcp, apiward_announce, apiward_tcp_of, ends, field, file_of, flow_of, known_ends, read};
use crate::{carrier, scope, who};

/// x86-64 system calls that move bytes on sockets, and `mmap`.
mod call {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const MMAP: u64 = 9;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SPLICE: u64 = 275;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
}

const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
/// Code segment of 64-bit user programs; others number their system calls differently.
const USER_CS: u64 = 0x33;
/// And of 32-bit ones.
const USER32_CS: u64 = 0x23;
const IPPROTO_MPTCP: u16 = 262;
const PROT_EXEC: u64 = 4;

/// `struct pt_regs` of x86-64.
#[repr(C)]
struct Registers {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    bp: u64,
    bx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    orig_ax: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
}

/// Where the bytes of an operation are in user memory.
mod shape {
    pub const BUFFER: u32 = 0;
    pub const VECTORS: u32 = 1;
    pub const MESSAGE: u32 = 2;
    pub const MESSAGES: u32 = 3;
    /// Thrown away, or never in user memory.
    pub const DISCARDED: u32 = 4;
    pub const FILE: u32 = 5;
    /// Where no register tells.
    pub const ELSEWHERE: u32 = 6;
}

/// `sys_exit(struct pt_regs *regs, long ret)`.
#[inline(always)]
pub fn system_call(ctx: &BtfTracePointContext) {
    let result: i64 = ctx.arg(1);
    if result <= 0 {
        return;
    }
    let registers: *const Registers = ctx.arg(0);
    // SAFETY: the tracepoint's typed argument: the verifier turns these into checked loads.
    let (number, cs) = unsafe { ((*registers).orig_ax, (*registers).cs) };
    if cs != USER_CS {
        // SAFETY: as above.
        compat(number, unsafe { (*registers).bx } as u32);
        return;
    }
    let (sent, shape) = match number {
        call::READ => (false, shape::BUFFER),
        call::WRITE | call::SENDTO => (true, shape::BUFFER),
        call::READV | call::PREADV2 => (false, shape::VECTORS),
        call::WRITEV | call::PWRITEV2 => (true, shape::VECTORS),
        call::SENDMSG => (true, shape::MESSAGE),
        call::SENDMMSG => (true, shape::MESSAGES),
        call::RECVFROM => (false, shape::BUFFER),
        call::RECVMSG => (false, shape::MESSAGE),
        call::RECVMMSG => (false, shape::MESSAGES),
        call::SENDFILE | call::SPLICE => (true, shape::FILE),
        call::MMAP => (false, shape::FILE),
        _ => return,
    };
    if !scope::task() {
        return;
    }
    // SAFETY: as above.
    let (di, si, dx, r10, r8) = unsafe {
        (
            (*registers).di,
            (*registers).si,
            (*registers).dx,
            (*registers).r10,
            (*registers).r8,
        )
    };
    if number == call::MMAP {
        if dx & PROT_EXEC != 0 && (r8 as i32) >= 0 {
            mapped(r8 as u32);
        }
        return;
    }
    let mut shape = shape;
    let flags = match number {
        call::RECVFROM | call::RECVMMSG => r10,
        call::RECVMSG => dx,
        _ => 0,
    };
    if flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    if flags & MSG_TRUNC != 0 {
        shape = shape::DISCARDED;
    }
    let (mut fd, mut sent) = (di as u32, sent);
    if number == call::SPLICE {
        // From a socket into a pipe, or from a pipe into a socket.
        fd = dx as u32;
        if !is_socket(fd) {
            fd = di as u32;
            sent = false;
        }
    }
    let mut tcp = Tcp { sk: 0, cookie: 0 };
    if apiward_tcp_of(fd, &mut tcp) == 0 {
        return;
    }
    // SAFETY: as above.
    let stack = unsafe { (*registers).sp };
    let Some(flow) = flow_of(tcp.cookie) else { return };
    let Some(ends) = ends(tcp.sk) else { return };
    moved(
        &tcp,
        flow,
        ends,
        Moved {
            sent,
            shape,
            address: si,
            count: dx,
            bytes: result as u64,
            stack,
        },
    );
}

/// `sock_send_length(sk, ret, flags)` and `sock_recv_length(…)`: bytes were moved on a socket, inside of the system call
/// that did it. Nothing else on the host pays for this, and the socket is at hand.
#[inline(always)]
pub fn socket(ctx: &BtfTracePointContext, sent: bool) {
    let result: i32 = ctx.arg(1);
    if result <= 0 {
        // Most often: nothing to read now.
        if SOME_MULTIPLE.get(0).copied().unwrap_or(0) != 0 {
            no_more_messages();
        }
        return;
    }
    let flags = ctx.arg::<i32>(2) as u64;
    if !sent && flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    let sk: *mut core::ffi::c_void = ctx.arg(0);
    // SAFETY: the tracepoint's own socket argument, which the verifier knows.
    let tp: *const core::ffi::c_void = unsafe { bpf_skc_to_tcp_sock(sk) }.cast_const().cast();
    if tp.is_null() {
        // SAFETY: as above.
        if unsafe { field::<u16>(sk, OFFSETS.sk_protocol()) } == IPPROTO_MPTCP && scope::task() {
            count(|c| unsafe { &raw mut (*c).mptcp }, 1);
        }
        return;
    }
    // The kernel's own sockets (of a network file system, say) are used while a process reads or writes something else.
    // SAFETY: as above; both pointers have types that the verifier knows, and a null pointer reads as zeros.
    let file: u64 = unsafe {
        let socket: *const core::ffi::c_void = field(tp, OFFSETS.sk_socket());
        if socket.is_null() {
            return;
        }
        field(socket, OFFSETS.socket_file())
    };
    if file == 0 {
        return;
    }
    // SAFETY: as above.
    let mut cookie = unsafe { field::<u64>(tp, OFFSETS.sk_cookie()) };
    if cookie == 0 {
        // Older than the agent, and nobody has asked: this assigns one.
        // SAFETY: as above.
        cookie = unsafe { bpf_get_socket_cookie(sk) };
    }
    let known = match FLOWS.get_ptr_mut(&cookie) {
        // Its library's calls are seen, or it is left alone: of all there is, this ends the soonest.
        // SAFETY: a live map value.
        Some(known) if unsafe { is_over(&*known, sent) && !carrier::may_change(&*known, sent) } => return,
        // SAFETY: a live map value; what is written are words, and races are benign.
        Some(known) if scope::uses(unsafe { &mut *known }) => Some(known),
        Some(_) => return,
        None if scope::task() => flow_of(cookie),
        None => return,
    };
    let Some(flow) = known else { return };
    let registers = task_registers();
    // SAFETY: the verifier knows the type and turns these into checked loads.
    let (number, cs) = unsafe { ((*registers).orig_ax, (*registers).cs) };
    if cs != USER_CS {
        if cs == USER32_CS {
            count(|c| unsafe { &raw mut (*c).compat }, 1);
        }
        return;
    }
    let several = number == call::SENDMMSG || number == call::RECVMMSG;
    // SAFETY: as above.
    let shape = if !unsafe { moves_on(registers, number, file) } {
        shape::ELSEWHERE
    } else if flags & MSG_TRUNC != 0 && !sent {
        shape::DISCARDED
    } else {
        match number {
            call::READ | call::WRITE | call::SENDTO | call::RECVFROM => shape::BUFFER,
            call::READV | call::PREADV2 | call::WRITEV | call::PWRITEV2 => shape::VECTORS,
            call::SENDMSG | call::RECVMSG | call::SENDMMSG | call::RECVMMSG => shape::MESSAGE,
            call::SENDFILE | call::SPLICE => shape::FILE,
            _ => shape::ELSEWHERE,
        }
    };
    // SAFETY: as above.
    let (mut address, count, stack) = unsafe { ((*registers).si, (*registers).dx, (*registers).sp) };
    // SAFETY: as above.
    let ends = unsafe { known_ends(tp) };
    if several && shape == shape::MESSAGE {
        let end = if sent { ends.0 } else { ends.1 };
        address += message_number(address, count as u32, end, result as u32) as u64 * MMSGHDR_BYTES;
    }
    // The pointer as a number, for those who read by helper.
    let tcp = Tcp {
        sk: tp as u64,
        cookie,
    };
    moved(
        &tcp,
        flow,
        ends,
        Moved {
            sent,
            shape,
            address,
            count,
            bytes: result as u64,
            stack,
        },
    );
}

/// Whether the registers are those of a system call that goes on now, and on this file. Else they tell nothing of where
/// the bytes are: io_uring moves bytes when another system call returns, and on threads that never made one; a network
/// block device moves them inside of a `read` of its own.
///
/// # Safety
/// `registers` are those of the current task.
#[inline(always)]
unsafe fn moves_on(registers: *const Registers, number: u64, file: u64) -> bool {
    // What the entry from user space leaves in `ax` until the call has returned.
    const ENOSYS: i64 = 38;
    // SAFETY: the verifier knows the types, and turns these into checked loads; a null pointer reads as zeros.
    let (array, fd) = unsafe {
        if (*registers).ax as i64 != -ENOSYS || (*registers).ip == 0 {
            return false;
        }
        let files: *const core::ffi::c_void = field(who::task(), OFFSETS.task_files());
        if files.is_null() {
            return false;
        }
        let table: *const core::ffi::c_void = field(files, OFFSETS.files_fdt());
        if table.is_null() {
            return false;
        }
        // Of `splice` only the way into a socket comes by here.
        let fd = if number == call::SPLICE {
            (*registers).dx
        } else {
            (*registers).di
        };
        (field::<u64>(table, OFFSETS.fdt_fd()), fd as u32)
    };
    read::<u64>(array + fd as u64 * 8, 0) == Some(file)
}

/// The registers with which the current task entered the kernel.
#[inline(always)]
fn task_registers() -> *const Registers {
    // SAFETY: helpers without arguments, or with the pointer that the other returned.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const Registers }
}

/// A `sendmmsg` or `recvmmsg` has moved what it could.
#[inline(always)]
fn no_more_messages() {
    let registers = task_registers();
    // SAFETY: as in `socket`.
    let (number, cs) = unsafe { ((*registers).orig_ax, (*registers).cs) };
    if cs == USER_CS && (number == call::SENDMMSG || number == call::RECVMMSG) {
        let _ = MULTIPLES.remove(&bpf_get_current_pid_tgid());
    }
}

/// Which of its messages a `sendmmsg` or `recvmmsg` has just moved: the one behind the last, if the array is the same
/// and the stream went on where that one ended.
#[inline(always)]
fn message_number(address: u64, messages: u32, end: u32, bytes: u32) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let mut number = 0;
    // SAFETY: copied out at once.
    if let Some(last) = unsafe { MULTIPLES.get(&thread) }.copied() {
        let goes_on = last.position == end.wrapping_sub(bytes) && last.next < messages;
        if last.address == address && last.messages == messages && goes_on && last.next < MESSAGES_MAX {
            number = last.next;
        }
    }
    let next = Multiple {
        address,
        messages,
        next: number + 1,
        position: end,
        reserved: 0,
    };
    let _ = MULTIPLES.insert(&thread, &next, 0);
    if let Some(some) = SOME_MULTIPLE.get_ptr_mut(0) {
        // SAFETY: a live map value that only ever becomes 1.
        unsafe { *some = 1 };
    }
    number
}

/// A system call of a 32-bit program, which has numbers of its own: counted if it moves bytes on a TCP socket.
#[inline(always)]
fn compat(number: u64, first: u32) {
    let moves = match number {
        // read, write, readv, writev, sendfile, sendfile64, sendto, sendmsg, recvfrom, recvmsg
        3 | 4 | 145 | 146 | 187 | 239 | 369..=372 => {
            let mut tcp = Tcp { sk: 0, cookie: 0 };
            scope::task() && apiward_tcp_of(first, &mut tcp) != 0
        }
        // socketcall: send to recvfrom, sendmsg and recvmsg. The descriptor is in memory; not worth a look.
        102 => matches!(first, 9..=12 | 16 | 17) && scope::task(),
        _ => false,
    };
    if moves {
        count(|c| unsafe { &raw mut (*c).compat }, 1);
    }
}

#[inline(always)]
fn is_socket(fd: u32) -> bool {
    const S_IFMT: u16 = 0o170000;
    const S_IFSOCK: u16 = 0o140000;
    let Some(file) = file_of(fd) else { return false };
    let Some(inode) = read::<u64>(file, OFFSETS.file_inode()) else {
        return false;
    };
    read::<u16>(inode, OFFSETS.inode_mode()).is_some_and(|mode| mode & S_IFMT == S_IFSOCK)
}

/// Bytes that were moved on a socket (or messages, for `shape::MESSAGES`), and where they are.
struct Moved {
    sent: bool,
    /// [`shape`].
    shape: u32,
    address: u64,
    count: u64,
    bytes: u64,
    /// The thread's stack pointer.
    stack: u64,
}

/// The first 8 bytes, or 0.
#[inline(always)]
fn start_of(what: &Moved) -> u64 {
    let mut address = what.address;
    // SAFETY: the helper checks the addresses itself.
    unsafe {
        if what.shape == shape::MESSAGE {
            const VECTORS: u64 = 16;
            address = bpf_probe_read_user((address + VECTORS) as *const u64).unwrap_or(0);
        }
        if what.shape == shape::MESSAGE || what.shape == shape::VECTORS {
            address = bpf_probe_read_user(address as *const u64).unwrap_or(0);
        }
        bpf_probe_read_user(address as *const u64).unwrap_or(0)
    }
}

/// Nothing of this direction is shipped any more.
#[inline(always)]
fn is_over(flow: &Flow, sent: bool) -> bool {
    (flow.tls == tls_state::BOUND && *shaking(flow, sent) == 0) || flow.exempt != 0
}

/// `ends`: as [`ends`] gives them.
#[inline(always)]
fn moved(tcp: &Tcp, flow: *mut Flow, ends: (u32, u32), what: Moved) {
    // Who moves bytes by other ways, moves them at other times as well: no sign of what a library call does.
    if what.shape != shape::ELSEWHERE && carrier::inside(who::ids(who::task())) {
        carrier::carrier_used(tcp, flow, what.stack, what.sent, start_of(&what));
    }
    // SAFETY: a live map value.
    if is_over(unsafe { &*flow }, what.sent) {
        return;
    }
    // SAFETY: as above. Bytes of a handshake are nobody's loss.
    let budget = if unsafe { (*flow).tls == tls_state::BOUND } {
        Some(HANDSHAKE_BYTES_MAX as u64)
    } else {
        // SAFETY: as above.
        let (framed, shed) = unsafe { ((*flow).framed, &mut (*flow).shed) };
        budget(tcp.cookie, shed, what.bytes, framed != 0)
    };
    let Some(budget) = budget else {
        // Its end is told all the same, and with it how many bytes went by.
        // SAFETY: a live map value.
        if unsafe { (*flow).announced == 0 } {
            apiward_announce(tcp, flow);
        }
        return;
    };
    let mut operation = Operation::new(tcp.cookie, tcp.cookie, if what.sent { SENT } else { 0 }, budget);
    // SAFETY: as above.
    operation.judged =
        unsafe { ((*flow).started != 0 && (*flow).enforceable != 0 && (*flow).framed == 0) as u8 };
    let mut bytes = what.bytes;
    match what.shape {
        shape::BUFFER => operation.buffer(what.address, bytes),
        shape::VECTORS => operation.vectors(what.address, what.count),
        shape::MESSAGE => operation.message(what.address),
        shape::MESSAGES => bytes = operation.messages(what.address, bytes),
        shape::FILE => operation.missing = missing::SENDFILE,
        shape::ELSEWHERE => operation.missing = missing::ELSEWHERE,
        _ => operation.missing = missing::UNREADABLE,
    }
    let (end, other) = if what.sent { ends } else { (ends.1, ends.0) };
    operation.position = end.wrapping_sub(bytes as u32) as u64;
    operation.other_position = other as u64;
    operation.left = bytes;
    sniff(flow, &operation);
    // SAFETY: a live map value.
    if unsafe { (*flow).announced == 0 } {
        apiward_announce(tcp, flow);
    }
    // SAFETY: a live map value.
    if unsafe {
        (*flow).exempt != 0 || ((*flow).tls != tls_state::CLEAR && !shakes(&mut *flow, &mut operation))
    } {
        return;
    }
    operation.ship();
}

/// Operations of a handshake that are still shipped, in one direction.
#[inline(always)]
fn shaking(flow: &Flow, sent: bool) -> &u8 {
    if sent {
        &flow.shaking_sent
    } else {
        &flow.shaking_received
    }
}

/// An operation on a flow known as TLS: whether it is still shipped, as part of the handshake. The first that begins with
/// application data is not, nor any after it. In TLS 1.3 most of a handshake looks like that, too: nobody here can read it.
#[inline(always)]
fn shakes(flow: &mut Flow, operation: &mut Operation) -> bool {
    let (left, start) = if operation.flags & SENT != 0 {
        (&mut flow.shaking_sent, flow.sent_start)
    } else {
        (&mut flow.shaking_received, flow.received_start)
    };
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let offset = (operation.position as u32).wrapping_sub(start);
    if offset >= HANDSHAKE_BYTES_MAX || operation.missing != missing::NOTHING || ring_eighths() >= 4 {
        *left = 0;
        return false;
    }
    let Some(first) = first_bytes(operation) else {
        *left = 0;
        return false;
    };
    if first[0] == APPLICATION_DATA && first[1] == 3 && operation.left >= 5 {
        *left = 0;
        return false;
    }
    operation.flags |= HANDSHAKE;
    if operation.left > HANDSHAKE_BYTES_MAX as u64 {
        operation.left = HANDSHAKE_BYTES_MAX as u64;
    }
    true
}

/// Where an operation's bytes begin, as far as one record's kind and version.
#[inline(always)]
fn first_bytes(operation: &Operation) -> Option<[u8; 3]> {
    let mut address = operation.base;
    if operation.vector_count > 0 {
        // SAFETY: the helper checks the address itself.
        address = unsafe { bpf_probe_read_user(operation.vectors as *const Vector) }
            .ok()?
            .base;
    }
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const [u8; 3]) }.ok()
}

/// How full the ring is, in eighths.
#[inline(always)]
fn ring_eighths() -> u64 {
    const AVAILABLE_DATA: u64 = 0;
    RING.query(AVAILABLE_DATA) >> (SETTINGS.ring_shift() - 3)
}

/// Bytes of an operation that may be captured, by how full the ring is: first bodies are given up, then whole
/// flows, more of them the fuller it is, and each until there is room again. `None`: this flow is given up now.
/// `framed`: many messages share the flow, and a hole over their frames' boundaries loses all that come later.
#[inline(always)]
pub fn budget(flow: u64, shed: &mut u8, bytes: u64, framed: bool) -> Option<u64> {
    let mut full = SETTINGS.operation_bytes_max() as u64;
    if framed && full < FRAMED_BYTES_MAX {
        full = FRAMED_BYTES_MAX;
    }
    let eighths = ring_eighths();
    if eighths < 2 {
        *shed = 0;
        return Some(full);
    }
    if *shed == 0 && eighths >= 5 {
        // The flow's lot, 0 to 7: the same as long as it lives.
        let lot = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
        *shed = (lot < (eighths - 4) * 3) as u8;
    }
    if *shed != 0 {
        count(|c| unsafe { &raw mut (*c).shed_operations }, 1);
        count(|c| unsafe { &raw mut (*c).shed_bytes }, bytes);
        return None;
    }
    Some(if eighths >= 4 && !framed {
        PRESSED_BYTES_MAX
    } else {
        full
    })
}

/// How a client's first bytes start if it speaks HTTP/2 (RFC 9113 §3.4); no method of HTTP/1 does.
#[inline(always)]
pub fn is_preface(start: [u8; 3]) -> bool {
    start[0] == b'P' && start[1] == b'R' && start[2] == b'I'
}

/// Looks whether the flow's first operations start with a TLS record (RFC 8446 §5.1), or as HTTP/2 does. Where the beginning of a
/// direction is known, only there: else a peer could hide all of its requests behind one body that looks like one.
#[inline(always)]
fn sniff(flow: *mut Flow, operation: &Operation) {
    const OPERATIONS_MAX: u8 = 8;
    // An encrypted alert with all that TLS puts around it (RFC 5246, section 6.2.3; less in TLS 1.3).
    const ALERT_BYTES_MAX: u64 = 31;
    // SAFETY: a live map value.
    let flow = unsafe { &mut *flow };
    let sent = operation.flags & SENT != 0;
    let probed = TLS_PROBED.get(0).copied().unwrap_or(0) != 0;
    if flow.tls == tls_state::PERHAPS {
        // That a library ends a connection is not seen.
        if operation.left > ALERT_BYTES_MAX {
            flow.sniffed = SNIFFED_DATA;
            if sent && probed {
                // It was written by no library whose calls are seen.
                flow.tls = tls_state::UNKNOWN;
                flow.announced = 0;
            }
        }
        return;
    }
    if flow.tls != tls_state::CLEAR || flow.sniffed >= OPERATIONS_MAX || operation.missing != missing::NOTHING
    {
        return;
    }
    let start = if sent {
        flow.sent_start
    } else {
        flow.received_start
    };
    if flow.started != 0 && operation.position as u32 != start {
        return;
    }
    flow.sniffed += 1;
    let Some(start) = first_bytes(operation) else {
        return;
    };
    if is_preface(start) {
        flow.framed = 1;
    }
    if start[0] >= 20 && start[0] <= 23 && start[1] == 3 && start[2] <= 4 && operation.left >= 5 {
        flow.begins_tls();
        flow.tls = if probed && (sent || flow.started != 0) {
            tls_state::UNKNOWN
        } else {
            tls_state::PERHAPS
        };
        if operation.left > ALERT_BYTES_MAX {
            flow.sniffed = SNIFFED_DATA;
        }
        flow.announced = 0;
    }
}

/// A file was mapped executable: tells the agent if its name is that of OpenSSL's libssl.
#[inline(always)]
fn mapped(fd: u32) {
    let Some(file) = file_of(fd) else { return };
    let Some(dentry) = read::<u64>(file, OFFSETS.file_path_dentry()) else {
        return;
    };
    let Some(name) = read::<u64>(dentry, OFFSETS.dentry_name()) else {
        return;
    };
    let Some(start) = read::<[u8; 6]>(name, 0) else {
        return;
    };
    if start[0] != b'l'
        || start[1] != b'i'
        || start[2] != b'b'
        || start[3] != b's'
        || start[4] != b's'
        || start[5] != b'l'
    {
        return;
    }
    let Some(key) = scope::file_key(file) else { return };
    // SAFETY: only asks whether it is there.
    if unsafe { LIBRARIES.get(&key) }.is_some() {
        return;
    }
    emit::<Mapped, NAME_BYTES>(kind::MAPPED, 0, |record| {
        record.body = Mapped {
            inode: key.inode,
            device: key.device,
            reserved: 0,
        };
        // SAFETY: the helper checks the address and writes at most the size given.
        let length = unsafe {
            bpf_probe_read_kernel_str(
                record.payload.as_mut_ptr().cast(),
                NAME_BYTES as u32,
                name as *const core::ffi::c_void,
            )
        };
        if length > 0 { length as u32 } else { 0 }
    });
}
