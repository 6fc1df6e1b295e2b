//! The only writer of the ring, and the only place where records are dropped and counted.

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::mem::MaybeUninit;

use apiward_common::asleep;
use apiward_common::flow::Counters;
use apiward_common::limits::COMM_BYTES;
use apiward_common::record::Header;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};

use crate::maps::{COUNTERS, HASTY, RING, SLEEPING, SOME_HASTY};
use crate::who;

const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

/// A record as it lies in the ring.
#[repr(C)]
pub struct Record<B: 'static, const PAYLOAD: usize> {
    pub header: Header,
    pub body: B,
    pub payload: [u8; PAYLOAD],
}

/// Adds to a counter of this CPU and returns what it was. Atomically: since 6.13 a system-call tracepoint can be
/// preempted by another task that runs the same program on the same CPU. Not relaxed: for that the compiler emits
/// the instruction that returns nothing.
#[inline(always)]
pub fn count(field: impl Fn(*mut Counters) -> *mut u64, add: u64) -> u64 {
    match COUNTERS.get_ptr_mut(0) {
        // SAFETY: a map value of this type, aligned, alive as long as the program runs.
        Some(counters) => unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(field(counters), add)
        },
        None => 0,
    }
}

/// Reserves a record, lets `fill` write body and payload and say how many payload bytes there are, and submits
/// it. `lost_bytes` is what the loss of this record would cost.
#[inline(always)]
pub fn emit<B: 'static, const PAYLOAD: usize>(
    kind: u8,
    lost_bytes: u64,
    fill: impl FnOnce(&mut Record<B, PAYLOAD>) -> u32,
) -> bool {
    emit_when(kind, lost_bytes, || true, fill)
}

/// [`emit`]; `urgent`: asked if the agent is not to be woken by each record.
#[inline(always)]
pub fn emit_when<B: 'static, const PAYLOAD: usize>(
    kind: u8,
    lost_bytes: u64,
    urgent: impl FnOnce() -> bool,
    fill: impl FnOnce(&mut Record<B, PAYLOAD>) -> u32,
) -> bool {
    let sequence = count(|c| unsafe { &raw mut (*c).sequence }, 1);
    let Some(mut entry) = RING.reserve::<Record<B, PAYLOAD>>(0) else {
        count(|c| unsafe { &raw mut (*c).dropped_records }, 1);
        count(|c| unsafe { &raw mut (*c).dropped_bytes }, lost_bytes);
        return false;
    };
    let slot: &mut MaybeUninit<Record<B, PAYLOAD>> = &mut entry;
    // SAFETY: every field is plain integers; header and body are written below, payload as far as `fill` says.
    let record = unsafe { &mut *slot.as_mut_ptr() };
    let task = who::task();
    let ids = who::ids(task);
    record.header.kind = kind;
    record.header.reserved = 0;
    record.header.sequence = sequence;
    // SAFETY: helpers without arguments.
    unsafe {
        record.header.cpu = bpf_get_smp_processor_id() as u16;
        record.header.at = bpf_ktime_get_ns();
    }
    record.header.cgroup = who::cgroup(task);
    record.header.pid = (ids >> 32) as u32;
    record.header.tid = ids as u32;
    record.header.uid = who::user(task);
    record.header.reserved2 = 0;
    // SAFETY: the field has the size of the value.
    unsafe {
        record
            .header
            .comm
            .as_mut_ptr()
            .cast::<[u64; COMM_BYTES / 8]>()
            .write_unaligned(who::comm(task))
    };
    record.header.payload_bytes = fill(record);
    entry.submit(wakeup(urgent));
    true
}

/// One wake-up for the first record after the agent went to sleep, none for the others: it drains on its own
/// while there is work.
#[inline(always)]
fn wakeup(urgent: impl FnOnce() -> bool) -> u64 {
    if let Some(sleeping) = SLEEPING.get_ptr_mut(0) {
        // SAFETY: a map value; a race costs one wake-up too many.
        unsafe {
            if *sleeping != asleep::NOT && (*sleeping != asleep::UNTIL_URGENT || urgent()) {
                *sleeping = asleep::NOT;
                return FORCE_WAKEUP;
            }
        }
    }
    NO_WAKEUP
}

/// The agent decides of calls on this connection, although it is one that the gate can judge.
#[inline(always)]
pub fn is_hasty(carrier: u64) -> bool {
    // SAFETY: only asks whether it is there.
    SOME_HASTY.get(0).copied().unwrap_or(0) != 0 && unsafe { HASTY.get(&carrier) }.is_some()
}

/// From now on it does.
#[inline(always)]
pub fn hasten(carrier: u64) {
    // Best effort: else what it says comes a pause later.
    let _ = HASTY.insert(&carrier, &1, 0);
    if let Some(some) = SOME_HASTY.get_ptr_mut(0) {
        // SAFETY: a map value, which only ever becomes 1.
        unsafe { *some = 1 };
    }
}
