//! Programs at tracepoints, run so that no other task's run on this processor is skipped meanwhile.

use core::mem::{MaybeUninit, transmute};

use apiward_common::undisturbed::MARKER;

const PREEMPT_DISABLE: usize = MARKER as usize;
const PREEMPT_ENABLE: usize = MARKER as usize + 1;
const IRQ_SAVE: usize = MARKER as usize + 2;
const IRQ_RESTORE: usize = MARKER as usize + 3;

/// Runs a program's body; the loader decides by the kernel whether anything is kept away meanwhile.
#[inline(always)]
pub fn run(body: impl FnOnce()) -> i32 {
    let mut flags = MaybeUninit::<u64>::uninit();
    // SAFETY: in these calls' places the loader puts the functions of these types, or nothing (`kernel/undisturbed.rs`).
    unsafe {
        transmute::<usize, unsafe extern "C" fn() -> u64>(PREEMPT_DISABLE)();
        body();
        // A task that was to give way meanwhile would do so where preemption is allowed again, which is inside of the
        // program still. Not so without interrupts; then it does at the next one, or when its system call ends.
        transmute::<usize, unsafe extern "C" fn(*mut u64) -> u64>(IRQ_SAVE)(flags.as_mut_ptr());
        transmute::<usize, unsafe extern "C" fn() -> u64>(PREEMPT_ENABLE)();
        transmute::<usize, unsafe extern "C" fn(*mut u64) -> u64>(IRQ_RESTORE)(flags.as_mut_ptr());
    }
    0
}
