//! Plaintext that system calls move on TCP sockets, and files that are mapped.

use apiward_common::flow::{Flow, tls as tls_state};
use apiward_common::limits::{
    CHUNK_BYTES_MAX, CHUNK_CLASSES_BYTES, CHUNKS_PER_OPERATION_MAX, MESSAGES_MAX, NAME_BYTES, PRESSED_BYTES_MAX,
    VECTORS_MAX,
};
use apiward_common::record::{Data, Mapped, SENT, kind, missing};
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{
    bpf_loop, bpf_probe_read_kernel_str, bpf_probe_read_user as bpf_probe_read_user_bytes,
};
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit::{count, emit};
use crate::maps::{LIBRARIES, OFFSETS, RING, SETTINGS};
use crate::sock::{Tcp, apiward_announce, apiward_tcp_of, ends, file_of, flow_of, read};
use crate::{scope, tls};

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

/// `struct iovec` in user memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct Vector {
    base: u64,
    bytes: u64,
}

/// `struct user_msghdr`, as far as it is needed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    name: u64,
    name_bytes: u64,
    vectors: u64,
    vector_count: u64,
}

/// Size of `struct mmsghdr`, and where it holds the bytes of its message.
const MMSGHDR_BYTES: u64 = 64;
const MMSGHDR_LENGTH: u64 = 56;

/// Where the bytes of an operation are in user memory.
mod shape {
    pub const BUFFER: u32 = 0;
    pub const VECTORS: u32 = 1;
    pub const MESSAGE: u32 = 2;
    pub const MESSAGES: u32 = 3;
    /// Thrown away, or never in user memory.
    pub const DISCARDED: u32 = 4;
    pub const FILE: u32 = 5;
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
    let mut tcp = Tcp { sk: 0, cookie: 0, netns: 0, reserved: 0 };
    if apiward_tcp_of(fd, &mut tcp) == 0 {
        return;
    }
    // SAFETY: as above.
    let stack = unsafe { (*registers).sp };
    moved(&tcp, sent, shape, si, dx, result as u64, stack);
}

/// A system call of a 32-bit program, which has numbers of its own: counted if it moves bytes on a TCP socket.
#[inline(always)]
fn compat(number: u64, first: u32) {
    let moves = match number {
        // read, write, readv, writev, sendfile, sendfile64, sendto, sendmsg, recvfrom, recvmsg
        3 | 4 | 145 | 146 | 187 | 239 | 369..=372 => {
            let mut tcp = Tcp { sk: 0, cookie: 0, netns: 0, reserved: 0 };
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
    let Some(inode) = read::<u64>(file, OFFSETS.file_inode()) else { return false };
    read::<u16>(inode, OFFSETS.inode_mode()).is_some_and(|mode| mode & S_IFMT == S_IFSOCK)
}

/// `result` bytes were moved on a socket (messages, for `shape::MESSAGES`).
#[inline(always)]
fn moved(tcp: &Tcp, sent: bool, shape: u32, address: u64, count: u64, result: u64, stack: u64) {
    let Some(flow) = flow_of(tcp.cookie) else { return };
    tls::apiward_carrier_used(tcp, flow, stack);
    // SAFETY: a live map value.
    let (known, exempt, shed) = unsafe { ((*flow).tls, (*flow).exempt, &mut (*flow).shed) };
    if known == tls_state::BOUND || exempt != 0 {
        return;
    }
    let Some(budget) = budget(tcp.cookie, shed, result) else { return };
    let mut operation = Operation::new(tcp.cookie, tcp.cookie, if sent { SENT } else { 0 }, budget);
    let mut bytes = result;
    match shape {
        shape::BUFFER => operation.buffer(address, result),
        shape::VECTORS => operation.vectors(address, count),
        shape::MESSAGE => operation.message(address),
        shape::MESSAGES => bytes = operation.messages(address, result),
        shape::FILE => operation.missing = missing::SENDFILE,
        _ => operation.missing = missing::UNREADABLE,
    }
    let Some((sent_end, received_end)) = ends(tcp.sk) else { return };
    let (end, other) = if sent { (sent_end, received_end) } else { (received_end, sent_end) };
    operation.position = end.wrapping_sub(bytes as u32) as u64;
    operation.other_position = other as u64;
    operation.left = bytes;
    sniff(flow, &operation);
    apiward_announce(tcp, flow);
    // SAFETY: a live map value.
    if unsafe { (*flow).tls == tls_state::UNKNOWN || (*flow).exempt != 0 } {
        return;
    }
    apiward_ship(&operation);
}

/// Bytes of an operation that may be captured, by how full the ring is: first bodies are given up, then whole
/// flows, more of them the fuller it is, and each until there is room again. `None`: this flow is given up now.
#[inline(always)]
pub fn budget(flow: u64, shed: &mut u8, bytes: u64) -> Option<u64> {
    const AVAILABLE_DATA: u64 = 0;
    let full = SETTINGS.operation_bytes_max() as u64;
    let eighths = RING.query(AVAILABLE_DATA) >> (SETTINGS.ring_shift() - 3);
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
    Some(if eighths >= 4 { PRESSED_BYTES_MAX } else { full })
}

/// Looks whether the flow's first operations start with a TLS record (RFC 8446 §5.1). Where the beginning of a
/// direction is known, only there: else a peer could hide all of its requests behind one body that looks like one.
#[inline(always)]
fn sniff(flow: *mut Flow, operation: &Operation) {
    const OPERATIONS_MAX: u8 = 8;
    // SAFETY: a live map value.
    let flow = unsafe { &mut *flow };
    if flow.sniffed >= OPERATIONS_MAX || operation.missing != missing::NOTHING {
        return;
    }
    let start = if operation.flags & SENT != 0 { flow.sent_start } else { flow.received_start };
    if flow.started != 0 && operation.position as u32 != start {
        return;
    }
    flow.sniffed += 1;
    let mut address = operation.base;
    if operation.vector_count > 0 {
        // SAFETY: the helper checks the address itself.
        match unsafe { bpf_probe_read_user(operation.vectors as *const Vector) } {
            Ok(vector) => address = vector.base,
            Err(_) => return,
        }
    }
    // SAFETY: as above.
    let Ok(start) = (unsafe { bpf_probe_read_user(address as *const [u8; 3]) }) else { return };
    if start[0] >= 20 && start[0] <= 23 && start[1] == 3 && start[2] <= 4 && operation.left >= 5 {
        flow.tls = tls_state::UNKNOWN;
        flow.announced = 0;
    }
}

/// Bytes in user memory on their way into records.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Operation {
    flow: u64,
    carrier: u64,
    pub position: u64,
    pub other_position: u64,
    /// Buffer at hand, and what is left of it.
    base: u64,
    base_left: u64,
    /// Further buffers.
    vectors: u64,
    vector_count: u64,
    /// Further messages.
    messages: u64,
    message_count: u64,
    /// Bytes that were moved and are not accounted for yet.
    pub left: u64,
    /// Bytes that may still be captured.
    budget: u64,
    /// Bytes of the next record.
    chunk_bytes: u64,
    pub generation: u32,
    flags: u8,
    pub missing: u8,
    /// The budget is that of a ring that is too full.
    pressed: u8,
    reserved: u8,
}

impl Operation {
    #[inline(always)]
    pub fn new(flow: u64, carrier: u64, flags: u8, budget: u64) -> Self {
        Operation {
            flow,
            carrier,
            position: 0,
            other_position: 0,
            base: 0,
            base_left: 0,
            vectors: 0,
            vector_count: 0,
            messages: 0,
            message_count: 0,
            left: 0,
            budget,
            chunk_bytes: 0,
            generation: 0,
            flags,
            missing: missing::NOTHING,
            pressed: (budget == PRESSED_BYTES_MAX) as u8,
            reserved: 0,
        }
    }

    #[inline(always)]
    pub fn buffer(&mut self, address: u64, bytes: u64) {
        self.base = address;
        self.base_left = bytes;
    }

    #[inline(always)]
    fn vectors(&mut self, address: u64, count: u64) {
        self.vectors = address;
        self.vector_count = if count > VECTORS_MAX as u64 { VECTORS_MAX as u64 } else { count };
    }

    #[inline(always)]
    fn message(&mut self, address: u64) {
        // SAFETY: the helper checks the address itself.
        match unsafe { bpf_probe_read_user(address as *const Message) } {
            Ok(message) => self.vectors(message.vectors, message.vector_count),
            Err(_) => self.missing = missing::UNREADABLE,
        }
    }

    /// Returns how many bytes the messages hold together: the system call returned their number.
    #[inline(always)]
    fn messages(&mut self, address: u64, count: u64) -> u64 {
        let mut lengths = Lengths { address: address + MMSGHDR_LENGTH, bytes: 0 };
        let count = if count > MESSAGES_MAX as u64 { MESSAGES_MAX } else { count as u32 };
        // SAFETY: the callback has the shape that the helper wants, and the context outlives the call.
        unsafe {
            bpf_loop(count, add_length as *mut core::ffi::c_void, (&raw mut lengths).cast(), 0);
        }
        self.message(address);
        self.messages = address + MMSGHDR_BYTES;
        self.message_count = (count - 1) as u64;
        lengths.bytes
    }

    #[inline(always)]
    fn fill(&self, body: &mut Data, moved_bytes: u64, missing: u8) {
        body.flow = self.flow;
        body.position = self.position;
        body.other_position = self.other_position;
        body.moved_bytes = moved_bytes as u32;
        body.generation = self.generation;
        body.carrier = self.carrier;
        body.flags = self.flags;
        body.missing = missing;
        body.reserved = [0; 6];
    }

    #[inline(always)]
    fn chunk<const CLASS: usize>(&self, bytes: u64) {
        emit::<Data, CLASS>(kind::DATA, bytes, |record| {
            self.fill(&mut record.body, bytes, missing::NOTHING);
            // Read again, so that the compiler keeps the comparison that the verifier wants to see.
            // SAFETY: a reference is always readable.
            let mut length = unsafe { core::ptr::read_volatile(&self.chunk_bytes) } as u32;
            if length > CLASS as u32 {
                length = CLASS as u32;
            }
            // SAFETY: `length` is at most the payload's size; the helper checks the user address itself.
            let failed = unsafe {
                bpf_probe_read_user_bytes(
                    record.payload.as_mut_ptr().cast(),
                    length,
                    self.base as *const core::ffi::c_void,
                )
            };
            if failed != 0 {
                record.body.missing = missing::UNREADABLE;
                count(|c| unsafe { &raw mut (*c).unreadable }, bytes);
                return 0;
            }
            length
        });
    }
}

/// Writes the records of an operation. Global functions like this one are looked at by the verifier once, by
/// themselves: in place, it would walk through them for every way that leads there, and give up.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_ship(operation: *const Operation) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(operation) = (unsafe { operation.as_ref() }) else { return 0 };
    // `bpf_loop` wants its context on this function's own stack.
    let mut operation = *operation;
    // SAFETY: the callback has the shape that the helper wants, and the context outlives the call.
    unsafe {
        bpf_loop(
            CHUNKS_PER_OPERATION_MAX,
            next_chunk as *mut core::ffi::c_void,
            (&raw mut operation).cast(),
            0,
        );
    }
    if operation.left > 0 {
        if operation.missing == missing::NOTHING {
            operation.missing =
                if operation.pressed != 0 { missing::OVERLOAD } else { missing::LIMIT };
        }
        let bytes = operation.left;
        emit::<Data, 0>(kind::DATA, bytes, |record| {
            operation.fill(&mut record.body, bytes, operation.missing);
            0
        });
    }
    0
}

/// Lengths of the messages of one system call, added up.
#[repr(C)]
struct Lengths {
    address: u64,
    bytes: u64,
}

/// `bpf_loop` callback: 0 goes on, 1 ends.
extern "C" fn add_length(_index: u32, lengths: *mut Lengths) -> i64 {
    // SAFETY: the pointer that `messages` handed over; the helper checks the user address itself.
    unsafe {
        match bpf_probe_read_user((*lengths).address as *const u32) {
            Ok(length) => (*lengths).bytes += length as u64,
            Err(_) => return 1,
        }
        (*lengths).address += MMSGHDR_BYTES;
    }
    0
}

/// `bpf_loop` callback: 0 goes on, 1 ends.
extern "C" fn next_chunk(_index: u32, operation: *mut Operation) -> i64 {
    // SAFETY: the pointer that `ship` handed over.
    let operation = unsafe { &mut *operation };
    if operation.left == 0 || operation.budget == 0 || operation.missing != missing::NOTHING {
        return 1;
    }
    if operation.base_left == 0 {
        return next_buffer(operation);
    }
    let mut bytes = operation.base_left;
    if bytes > operation.left {
        bytes = operation.left;
    }
    if bytes > operation.budget {
        bytes = operation.budget;
    }
    if bytes > CHUNK_BYTES_MAX as u64 {
        bytes = CHUNK_BYTES_MAX as u64;
    }
    operation.chunk_bytes = bytes;
    apiward_chunk(operation);
    operation.base += bytes;
    operation.base_left -= bytes;
    operation.left -= bytes;
    operation.budget -= bytes;
    operation.position += bytes;
    0
}

/// Writes one record of an operation.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_chunk(operation: *const Operation) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(operation) = (unsafe { operation.as_ref() }) else { return 0 };
    let bytes = operation.chunk_bytes;
    const CLASSES: [usize; 4] = CHUNK_CLASSES_BYTES;
    if bytes <= CLASSES[0] as u64 {
        operation.chunk::<{ CLASSES[0] }>(bytes);
    } else if bytes <= CLASSES[1] as u64 {
        operation.chunk::<{ CLASSES[1] }>(bytes);
    } else if bytes <= CLASSES[2] as u64 {
        operation.chunk::<{ CLASSES[2] }>(bytes);
    } else {
        operation.chunk::<{ CLASSES[3] }>(bytes);
    }
    0
}

#[inline(always)]
fn next_buffer(operation: &mut Operation) -> i64 {
    if operation.vector_count == 0 {
        if operation.message_count == 0 {
            return 1;
        }
        let address = operation.messages;
        operation.messages += MMSGHDR_BYTES;
        operation.message_count -= 1;
        operation.message(address);
        return 0;
    }
    // SAFETY: the helper checks the address itself.
    match unsafe { bpf_probe_read_user(operation.vectors as *const Vector) } {
        Ok(vector) => {
            operation.vectors += 16;
            operation.vector_count -= 1;
            operation.base = vector.base;
            operation.base_left = vector.bytes;
            0
        }
        Err(_) => {
            operation.missing = missing::UNREADABLE;
            1
        }
    }
}

/// A file was mapped executable: tells the agent if its name is that of OpenSSL's libssl.
#[inline(always)]
fn mapped(fd: u32) {
    let Some(file) = file_of(fd) else { return };
    let Some(dentry) = read::<u64>(file, OFFSETS.file_path_dentry()) else { return };
    let Some(name) = read::<u64>(dentry, OFFSETS.dentry_name()) else { return };
    let Some(start) = read::<[u8; 6]>(name, 0) else { return };
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
        record.body = Mapped { inode: key.inode, device: key.device, reserved: 0 };
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
