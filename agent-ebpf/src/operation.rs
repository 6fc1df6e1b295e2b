//! Bytes of one operation, wherever they lie in user memory, on their way into records of the ring.
//!
//! It must not know which system call or library moved them.

use apiward_common::limits::{
    CHUNK_BYTES_MAX, CHUNK_CLASSES_BYTES, CHUNKS_PER_OPERATION_MAX, GATHERED_BYTES_MAX, GATHERED_VECTORS_MAX,
    MESSAGES_MAX, PRESSED_BYTES_MAX, VECTORS_MAX,
};
use apiward_common::record::{Data, HANDSHAKE, kind, missing};
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user as bpf_probe_read_user_bytes};

use crate::emit::{count, emit_when, is_hasty};

/// `struct iovec` in user memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vector {
    pub base: u64,
    pub bytes: u64,
}

pub const VECTOR_BYTES: u32 = 16;

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
pub const MMSGHDR_BYTES: u64 = 64;
const MMSGHDR_LENGTH: u64 = 56;
/// Bytes at the end of an operation that are captured although what is before them is too much: a chunked body's end is
/// among them.
const TAIL_BYTES: u64 = 8;

/// Bytes in user memory on their way into records.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Operation {
    flow: u64,
    carrier: u64,
    pub position: u64,
    pub other_position: u64,
    /// Buffer at hand, and what is left of it.
    pub base: u64,
    base_left: u64,
    /// Further buffers.
    pub vectors: u64,
    pub vector_count: u64,
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
    pub flags: u8,
    pub missing: u8,
    /// The budget is that of a ring that is too full.
    pressed: u8,
    /// The gate judges what is called on this connection: nobody waits for the agent.
    pub judged: u8,
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
            judged: 0,
        }
    }

    #[inline(always)]
    pub fn buffer(&mut self, address: u64, bytes: u64) {
        self.base = address;
        self.base_left = bytes;
    }

    #[inline(always)]
    pub fn vectors(&mut self, address: u64, count: u64) {
        self.vectors = address;
        self.vector_count = if count > VECTORS_MAX as u64 {
            VECTORS_MAX as u64
        } else {
            count
        };
    }

    #[inline(always)]
    pub fn message(&mut self, address: u64) {
        // SAFETY: the helper checks the address itself.
        match unsafe { bpf_probe_read_user(address as *const Message) } {
            Ok(message) => self.vectors(message.vectors, message.vector_count),
            Err(_) => self.missing = missing::UNREADABLE,
        }
    }

    /// Returns how many bytes the messages hold together: the system call returned their number.
    #[inline(always)]
    pub fn messages(&mut self, address: u64, count: u64) -> u64 {
        let mut lengths = Lengths {
            address: address + MMSGHDR_LENGTH,
            bytes: 0,
        };
        let count = if count > MESSAGES_MAX as u64 {
            MESSAGES_MAX
        } else {
            count as u32
        };
        // SAFETY: the callback has the shape that the helper wants, and the context outlives the call.
        unsafe {
            bpf_loop(
                count,
                add_length as *mut core::ffi::c_void,
                (&raw mut lengths).cast(),
                0,
            );
        }
        self.message(address);
        self.messages = address + MMSGHDR_BYTES;
        self.message_count = (count - 1) as u64;
        lengths.bytes
    }

    /// Writes the operation's records. One buffer that fits one record, as most are, and a few short ones take the
    /// short ways.
    #[inline(always)]
    pub fn ship(&mut self) {
        let plain = self.message_count == 0 && self.missing == missing::NOTHING && self.left <= self.budget;
        if plain
            && self.vector_count == 0
            && self.left == self.base_left
            && self.left <= CHUNK_BYTES_MAX as u64
        {
            self.chunk_bytes = self.left;
            apiward_chunk(self);
        } else if plain
            && self.vector_count > 0
            && self.vector_count <= GATHERED_VECTORS_MAX as u64
            && self.base_left == 0
            && self.left <= GATHERED_BYTES_MAX as u64
        {
            apiward_gather(self);
        } else {
            apiward_ship(self);
        }
    }

    /// One record of several buffers, at most `CLASS` bytes, for which there is room twice: so the verifier sees that
    /// none is written behind the end.
    #[inline(always)]
    fn gather<const CLASS: usize, const ROOM: usize>(&self) {
        emit_when::<Data, ROOM>(
            kind::DATA,
            self.loses(self.left),
            || self.is_urgent(),
            |record| {
                self.fill(&mut record.body, self.left, missing::NOTHING);
                let mut vectors = [Vector { base: 0, bytes: 0 }; GATHERED_VECTORS_MAX as usize];
                let (mut used, mut left) = (0u32, self.left);
                let wanted = (self.vector_count as u32).wrapping_mul(VECTOR_BYTES);
                // SAFETY: a reference is always readable; read again for the verifier, as in `chunk`.
                let mut size = unsafe { core::ptr::read_volatile(&wanted) };
                if size > GATHERED_VECTORS_MAX * VECTOR_BYTES {
                    size = GATHERED_VECTORS_MAX * VECTOR_BYTES;
                }
                // SAFETY: `size` is at most that of the array; the helper checks the user address itself.
                let failed = unsafe {
                    bpf_probe_read_user_bytes(
                        vectors.as_mut_ptr().cast(),
                        size,
                        self.vectors as *const core::ffi::c_void,
                    )
                };
                let count = if failed != 0 { 0 } else { self.vector_count as u32 };
                for (index, vector) in vectors.iter().enumerate() {
                    // SAFETY: a reference is always readable; read again for the verifier, as in `chunk`.
                    let at = unsafe { core::ptr::read_volatile(&used) };
                    if index as u32 >= count || left == 0 || at > CLASS as u32 {
                        break;
                    }
                    let part = if vector.bytes < left { vector.bytes } else { left };
                    left -= part;
                    let part = part as u32;
                    // SAFETY: as above.
                    let bytes = unsafe { core::ptr::read_volatile(&part) };
                    if bytes > CLASS as u32 {
                        break;
                    }
                    // SAFETY: `at` and `bytes` are at most CLASS each, and there is room for both; the helper checks the
                    // user address.
                    let failed = unsafe {
                        bpf_probe_read_user_bytes(
                            record.payload.as_mut_ptr().add(at as usize).cast(),
                            bytes,
                            vector.base as *const core::ffi::c_void,
                        )
                    };
                    if failed != 0 {
                        break;
                    }
                    used += bytes;
                }
                if used as u64 != self.left {
                    record.body.missing = missing::UNREADABLE;
                    count_unreadable(self.loses(self.left - used as u64));
                }
                used
            },
        );
    }

    /// Somebody may wait for what the agent says to it.
    #[inline(always)]
    fn is_urgent(&self) -> bool {
        self.judged == 0 || is_hasty(self.carrier)
    }

    /// What the loss of so many of its bytes costs: those of a handshake are none of the application's.
    #[inline(always)]
    fn loses(&self, bytes: u64) -> u64 {
        if self.flags & HANDSHAKE != 0 { 0 } else { bytes }
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
        emit_when::<Data, CLASS>(
            kind::DATA,
            self.loses(bytes),
            || self.is_urgent(),
            |record| {
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
                    count_unreadable(self.loses(bytes));
                    return 0;
                }
                length
            },
        );
    }
}

/// Writes the records of an operation. Global functions like this one are looked at by the verifier once, by
/// themselves: in place, it would walk through them for every way that leads there, and give up.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_ship(operation: *const Operation) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(operation) = (unsafe { operation.as_ref() }) else {
        return 0;
    };
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
            operation.missing = if operation.pressed != 0 {
                missing::OVERLOAD
            } else {
                missing::LIMIT
            };
        }
        let has_tail = operation.missing == missing::LIMIT
            && operation.vector_count == 0
            && operation.message_count == 0
            && operation.base_left == operation.left
            && operation.left > TAIL_BYTES;
        if has_tail {
            operation.left -= TAIL_BYTES;
        }
        apiward_rest(&operation);
        if has_tail {
            operation.position += operation.left;
            operation.base += operation.left;
            operation.chunk_bytes = TAIL_BYTES;
            apiward_chunk(&operation);
        }
    }
    0
}

/// Writes the record of what is left of an operation and was not captured. By itself for the sake of the stack: three
/// calls share 512 bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_rest(operation: *const Operation) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(operation) = (unsafe { operation.as_ref() }) else {
        return 0;
    };
    let bytes = operation.left;
    emit_when::<Data, 0>(
        kind::DATA,
        bytes,
        || operation.is_urgent(),
        |record| {
            operation.fill(&mut record.body, bytes, operation.missing);
            0
        },
    );
    0
}

#[inline(always)]
pub fn count_unreadable(bytes: u64) {
    count(|c| unsafe { &raw mut (*c).unreadable }, bytes);
}

/// Writes several short buffers as one record: a head and a short body, as servers send them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_gather(operation: *const Operation) -> i32 {
    // SAFETY: the verifier holds callers to a pointer of this size, or null.
    let Some(operation) = (unsafe { operation.as_ref() }) else {
        return 0;
    };
    if operation.left <= 256 {
        operation.gather::<256, 512>();
    } else if operation.left <= 512 {
        operation.gather::<512, 1024>();
    } else {
        operation.gather::<GATHERED_BYTES_MAX, { 2 * GATHERED_BYTES_MAX }>();
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
    let Some(operation) = (unsafe { operation.as_ref() }) else {
        return 0;
    };
    let bytes = operation.chunk_bytes;
    const CLASSES: [usize; 5] = CHUNK_CLASSES_BYTES;
    if bytes <= CLASSES[0] as u64 {
        operation.chunk::<{ CLASSES[0] }>(bytes);
    } else if bytes <= CLASSES[1] as u64 {
        operation.chunk::<{ CLASSES[1] }>(bytes);
    } else if bytes <= CLASSES[2] as u64 {
        operation.chunk::<{ CLASSES[2] }>(bytes);
    } else if bytes <= CLASSES[3] as u64 {
        operation.chunk::<{ CLASSES[3] }>(bytes);
    } else {
        operation.chunk::<{ CLASSES[4] }>(bytes);
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
            operation.vectors += VECTOR_BYTES as u64;
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
