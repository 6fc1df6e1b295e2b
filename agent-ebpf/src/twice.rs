//! Programs that are attached twice, where the kernel may skip a run of the first.
//!
//! While a program at a tracepoint runs, the kernel begins no other run of it on that processor. An interrupt in that time may
//! bring another socket into a state; and since Linux 7.0 such a program can be preempted, so that another task's bytes are
//! moved and nobody is told. A second program, the same but for its name, comes right behind the first and does what that has
//! not done. Which that is stands with the task itself, or with the socket whose state changes (a processor does that for
//! whatever task it has just then), so that nothing else can disturb it. What [`crate::undisturbed`] does makes such a skip
//! rare, and this makes up for it.

use core::ffi::c_void;
use core::ptr::null_mut;

use apiward_common::scope::TWICE_ALL;
use aya_ebpf::bindings::bpf_map_type::{BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE};
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_sk_storage_get, bpf_task_storage_get};
use aya_ebpf::macros::btf_map;

use crate::emit::count;
use crate::maps::SETTINGS;

/// Which of the two programs runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    First,
    Second,
}

/// What they are attached to.
#[derive(Clone, Copy)]
pub enum Hook {
    Send = 1,
    Receive,
    Exec,
    Fork,
    Exit,
}

/// A map of the kinds that live with tasks or sockets; the members say to the loader what it is, by their types alone.
#[repr(C)]
pub struct Storage<const KIND: usize> {
    r#type: *const [i32; KIND],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are never followed.
unsafe impl<const KIND: usize> Sync for Storage<KIND> {}

impl<const KIND: usize> Storage<KIND> {
    const NEW: Self = Storage {
        r#type: core::ptr::null(),
        key: core::ptr::null(),
        value: core::ptr::null(),
        max_entries: core::ptr::null(),
        map_flags: core::ptr::null(),
    };

    #[inline(always)]
    fn map(&'static self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// A [`Hook`]'s number between the two programs' runs there, if the first did run; else 0.
#[btf_map]
static TOLD: Storage<{ BPF_MAP_TYPE_TASK_STORAGE as usize }> = Storage::NEW;
/// [`STATES`] and the state, likewise.
#[btf_map]
static TOLD_STATES: Storage<{ BPF_MAP_TYPE_SK_STORAGE as usize }> = Storage::NEW;
const STATES: u32 = 16;

#[inline(always)]
fn told(flags: u32) -> Option<&'static mut u32> {
    // SAFETY: the current task's own value, which lives as long as that and is nobody else's; null where there is none.
    unsafe {
        let task = bpf_get_current_task_btf();
        bpf_task_storage_get(TOLD.map(), task, null_mut(), flags as u64)
            .cast::<u32>()
            .as_mut()
    }
}

/// # Safety
/// `sk` is a socket whose type the verifier knows.
#[inline(always)]
unsafe fn told_state(sk: *mut c_void, flags: u32) -> Option<&'static mut u32> {
    // SAFETY: the socket's own value; its state changes under its lock alone. Null where there is none.
    unsafe {
        bpf_sk_storage_get(TOLD_STATES.map(), sk, null_mut(), flags as u64)
            .cast::<u32>()
            .as_mut()
    }
}

/// All that a program does, if it is this one that has to.
#[inline(always)]
pub fn run(turn: Turn, hook: Hook, body: impl FnOnce()) {
    if SETTINGS.twice() != TWICE_ALL || is_due(turn, hook as u32, told) {
        body();
    }
}

/// The same, for a socket that comes into a state.
///
/// # Safety
/// `sk` is a socket whose type the verifier knows.
#[inline(always)]
pub unsafe fn run_for_state(turn: Turn, sk: *mut c_void, state: u32, body: impl FnOnce()) {
    // SAFETY: as the caller says.
    let told = |flags| unsafe { told_state(sk, flags) };
    if SETTINGS.twice() == 0 || is_due(turn, STATES + state, told) {
        body();
    }
}

#[inline(always)]
fn is_due(turn: Turn, number: u32, told: impl Fn(u32) -> Option<&'static mut u32>) -> bool {
    if turn == Turn::First {
        // Where it cannot be noted, the second has to.
        let Some(told) = told(BPF_LOCAL_STORAGE_GET_F_CREATE) else {
            return false;
        };
        *told = number;
        count(|c| unsafe { &raw mut (*c).firsts_told }, 1);
        return true;
    }
    match told(0) {
        // Another number stays from a second that was skipped there.
        Some(told) if *told == number => {
            *told = 0;
            count(|c| unsafe { &raw mut (*c).seconds_spared }, 1);
            false
        }
        _ => true,
    }
}
