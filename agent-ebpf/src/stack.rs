//! Where a probe's program has its variables: never in memory that another run of it shares.
//!
//! Since Linux 6.13 programs of this type have them in memory of their CPU, unless they may leave by a tail call
//! (`bpf_enable_priv_stack` in `kernel/bpf/verifier.c`). That rests on a second run being skipped while there is a first,
//! which holds for probes in the kernel, and not for those on functions of processes: a task that is preempted inside
//! (`PREEMPT_LAZY`, the default of new kernels) would go on with what the next one has left there, and the bytes of one
//! connection be told, and judged, as another's.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::map;
use aya_ebpf::maps::ProgramArray;

/// Never filled. One for each kind of program: those that write registers and others cannot share one.
#[map]
static NO_TAILS: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static NO_TAILS_REFUSING: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// A tail call to nowhere, for a place that is never reached: that it is in the program is enough. It has to be in the
/// program itself, not in a function of its own, which would then have less stack.
#[inline(always)]
pub fn shares_none<const REFUSES: bool>(ctx: &impl EbpfContext) {
    let tails = if REFUSES { &NO_TAILS_REFUSING } else { &NO_TAILS };
    // SAFETY: there is no program to leave to.
    unsafe { tails.tail_call(ctx, 0) };
}
