//! Programs at tracepoints, run so that no other task's run on this processor is skipped meanwhile.

use core::mem::{MaybeUninit, transmute};

use apiward_common::undisturbed::{ALONE, MARKER};

const PREEMPT_DISABLE: usize = MARKER as usize;
const PREEMPT_ENABLE: usize = MARKER as usize + 1;
const IRQ_SAVE: usize = MARKER as usize + 2;
const IRQ_RESTORE: usize = MARKER as usize + 3;
const ALONE_SAVE: usize = MARKER as usize + ALONE;
const ALONE_RESTORE: usize = MARKER as usize + ALONE + 1;

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

/// The same at a hook that interrupts come by as well, such as a socket's state: what one of them would tell is skipped while
/// it has come into the middle of the body, on every kernel. Here none does.
#[inline(always)]
pub fn alone(body: impl FnOnce()) -> i32 {
    let mut flags = MaybeUninit::<u64>::uninit();
    // SAFETY: as above.
    unsafe {
        transmute::<usize, unsafe extern "C" fn(*mut u64) -> u64>(ALONE_SAVE)(flags.as_mut_ptr());
        body();
        transmute::<usize, unsafe extern "C" fn(*mut u64) -> u64>(ALONE_RESTORE)(flags.as_mut_ptr());
    }
    0
}
