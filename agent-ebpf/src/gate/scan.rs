//! Fetches bytes for the gate, of packets and of user memory, and lets it look at them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use apiward_common::gate::{CHUNK_BYTES, Facts, Scan, Stream, Window, step};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user, bpf_skb_load_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;

use super::Maps;

/// Scans that may be going on at once on a CPU: a probe's program can be preempted by another task's, and a softirq comes
/// in between.
const WORKS: u32 = 8;
/// Steps of one scan: no more than two a byte of the largest.
const STEPS_MAX: u32 = 256 * 1024;

#[map]
static GATE_WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(WORKS, 0);

/// What one scan needs besides its stream.
#[repr(C)]
pub struct Work {
    bytes: [u64; CHUNK_BYTES / 8 + 1],
    pub scan: Scan,
    pub facts: Facts,
    /// The next byte that is not fetched, and the end: offsets in the packet, or addresses in user memory.
    next: u64,
    end: u64,
    /// Somebody uses it.
    claims: u64,
    /// Not 0: the connection ends with the packet.
    pub ends: u64,
}

/// A place to work in, nobody else's until it is given back. `None`: all are taken.
#[inline(always)]
pub fn claim() -> Option<&'static mut Work> {
    for index in 0..WORKS {
        let work = GATE_WORK.get_ptr_mut(index)?;
        // SAFETY: a live map value; the counter is only ever changed in one piece, and tells whether the rest is ours.
        unsafe {
            let claims = &raw mut (*work).claims;
            if atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(claims, 1) == 0 {
                return Some(&mut *work);
            }
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(claims, u64::MAX);
        }
    }
    None
}

/// Gives it back.
#[inline(always)]
pub fn release(work: &mut Work) {
    // SAFETY: a live map value.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut work.claims, u64::MAX);
    }
}

struct Bytes(*const u64);

impl Window for Bytes {
    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        // SAFETY: within the buffer, which has eight bytes more than the mask allows; the machines that run this read
        // words wherever they stand.
        unsafe { core::ptr::read_volatile(self.0.byte_add((at as usize) & (CHUNK_BYTES - 1))) }
    }
}

struct Context {
    skb: *mut core::ffi::c_void,
    stream: *mut Stream,
    work: *mut Work,
}

/// Lets the gate look at the bytes from `offset` to `end` of a packet.
///
/// Heads up to `charged` have been counted by rates before.
#[inline(always)]
pub fn packet(
    skb: *mut core::ffi::c_void,
    stream: &mut Stream,
    work: &mut Work,
    offset: u32,
    end: u32,
    charged: u32,
) {
    begin(work, offset as u64, end as u64);
    work.scan.charged = charged;
    apiward_scan_packet(skb.cast(), stream, work);
}

/// By itself: the verifier looks at it once, whatever has led here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_scan_packet(skb: *mut __sk_buff, stream: *mut Stream, work: *mut Work) -> i32 {
    if stream.is_null() || work.is_null() {
        return 0;
    }
    let mut context = Context {
        skb: skb.cast(),
        stream,
        work,
    };
    // SAFETY: the callback has the shape that the helper wants, and the context outlives the call; the verifier holds
    // callers to pointers of these sizes.
    unsafe {
        bpf_loop(
            STEPS_MAX,
            next_of_packet as *mut core::ffi::c_void,
            (&raw mut context).cast(),
            0,
        );
    }
    0
}

/// Lets the gate look at `bytes` bytes of the current process's memory; `charged` as of [`packet`].
#[inline(always)]
pub fn user(address: u64, bytes: u64, stream: &mut Stream, work: &mut Work, charged: u32) {
    begin(work, address, address.wrapping_add(bytes));
    work.scan.charged = charged;
    let mut context = UserContext { stream, work };
    // SAFETY: as above.
    unsafe {
        bpf_loop(
            STEPS_MAX,
            next_of_user as *mut core::ffi::c_void,
            (&raw mut context).cast(),
            0,
        );
    }
}

struct UserContext {
    stream: *mut Stream,
    work: *mut Work,
}

/// `bpf_loop` callback: 0 goes on, 1 ends.
extern "C" fn next_of_user(_index: u32, context: *mut UserContext) -> i64 {
    // SAFETY: the pointer that `user` handed over; what it points to lives as long.
    let (stream, work) = unsafe {
        let context = &*context;
        (&mut *context.stream, &mut *context.work)
    };
    if work.scan.at >= work.scan.end && stream.wants_bytes() {
        let Some(bytes) = due(stream, work) else { return 1 };
        // SAFETY: the buffer has room for CHUNK_BYTES; the helper checks the user address itself.
        let failed = unsafe {
            bpf_probe_read_user(
                work.bytes.as_mut_ptr().cast(),
                bytes,
                work.next as *const core::ffi::c_void,
            )
        };
        return fetched(work, bytes, failed);
    }
    look(stream, work)
}

#[inline(always)]
fn begin(work: &mut Work, next: u64, end: u64) {
    work.next = next;
    work.end = end;
    work.scan = Scan::default();
}

/// `bpf_loop` callback: 0 goes on, 1 ends.
extern "C" fn next_of_packet(_index: u32, context: *mut Context) -> i64 {
    // SAFETY: the pointer that `packet` handed over; what it points to lives as long.
    let (skb, stream, work) = unsafe {
        let context = &*context;
        (context.skb, &mut *context.stream, &mut *context.work)
    };
    if work.scan.at >= work.scan.end && stream.wants_bytes() {
        let Some(bytes) = due(stream, work) else {
            // Some servers take a head that is cut off for a whole one.
            // SAFETY: the program's own context.
            let ends = work.ends != 0 && work.end == unsafe { (*skb.cast::<__sk_buff>()).len } as u64;
            return (!ends || !stream.cut_off()) as i64;
        };
        // SAFETY: the buffer has room for CHUNK_BYTES.
        let failed =
            unsafe { bpf_skb_load_bytes(skb, work.next as u32, work.bytes.as_mut_ptr().cast(), bytes) };
        return fetched(work, bytes, failed);
    }
    look(stream, work)
}

#[inline(always)]
fn look(stream: &mut Stream, work: &mut Work) -> i64 {
    let bytes = Bytes(work.bytes.as_ptr());
    step(stream, &mut work.scan, &bytes, &work.facts, &Maps);
    stream.is_over() as i64
}

/// How many bytes are to be fetched; those of a body pass.
#[inline(always)]
fn due(stream: &mut Stream, work: &mut Work) -> Option<u32> {
    let skips = stream.skips();
    if skips > 0 {
        let left = work.end.wrapping_sub(work.next);
        let pass = if skips < left { skips } else { left };
        work.next += pass;
        work.scan.before = work.scan.before.wrapping_add(pass as u32);
        stream.skipped(pass);
    }
    work.scan.before = work.scan.before.wrapping_add(work.scan.end);
    work.scan.at = 0;
    work.scan.end = 0;
    if work.next >= work.end {
        return None;
    }
    // One less than there is to fetch: 6.1's verifier sees that a sum with one is not zero, and not that `!= 0` says so.
    let left = work.end - work.next - 1;
    let last = if left < CHUNK_BYTES as u64 {
        left as u32
    } else {
        CHUNK_BYTES as u32 - 1
    };
    // SAFETY: a reference is always readable; read again, so that the compiler keeps the bound.
    let last = unsafe { core::ptr::read_volatile(&last) };
    if last >= CHUNK_BYTES as u32 {
        return None;
    }
    Some(last + 1)
}

#[inline(always)]
fn fetched(work: &mut Work, bytes: u32, failed: i64) -> i64 {
    if failed != 0 {
        return 1;
    }
    work.next += bytes as u64;
    work.scan.end = bytes;
    0
}

/// What was asked for has been looked at to its end, or needs no looking at.
#[inline(always)]
pub fn is_whole(stream: &Stream, work: &Work) -> bool {
    stream.is_over() || (work.next >= work.end && work.scan.at >= work.scan.end && stream.wants_bytes())
}
