//! Programs that are attached twice, where the kernel may skip a run of the first.
//!
//! Since Linux 7.0 a program at a tracepoint can be preempted, and as long as it is, the kernel begins no other run of it on
//! that processor: another task's bytes are moved and nobody is told. A second program, the same but for its name, comes
//! right behind the first and does what that has not done. Which that is stands with the task itself, so that no other
//! can disturb it. Preemption is not kept off instead (`bpf_preempt_disable`): what was due happens when it is allowed
//! again, which is inside of the program still.

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get};
use aya_ebpf::macros::btf_map;

use crate::emit::count;
use crate::maps::SETTINGS;

/// Which of the two programs runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    First,
    Second,
}

/// A map of the kind that lives with its tasks; the members say to the loader what it is, by their types alone.
#[repr(C)]
pub struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are never followed.
unsafe impl Sync for TaskStorage {}

/// 1 between the two programs' runs for what a task does, if the first did run.
#[btf_map]
static TOLD: TaskStorage = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

#[inline(always)]
fn told(flags: u32) -> Option<&'static mut u32> {
    // SAFETY: the current task's own value, which lives as long as that and is nobody else's; null where there is none.
    unsafe {
        let task = bpf_get_current_task_btf();
        bpf_task_storage_get(
            (&raw const TOLD).cast_mut().cast(),
            task,
            core::ptr::null_mut(),
            flags as u64,
        )
        .cast::<u32>()
        .as_mut()
    }
}

/// All that a program does, if it is this one that has to.
#[inline(always)]
pub fn run(turn: Turn, body: impl FnOnce()) {
    if SETTINGS.twice() == 0 || is_due(turn) {
        body();
    }
}

#[inline(always)]
fn is_due(turn: Turn) -> bool {
    if turn == Turn::First {
        // Where it cannot be noted, the second has to.
        let Some(told) = told(BPF_LOCAL_STORAGE_GET_F_CREATE) else {
            return false;
        };
        *told = 1;
        count(|c| unsafe { &raw mut (*c).firsts_told }, 1);
        return true;
    }
    match told(0) {
        Some(told) if *told != 0 => {
            *told = 0;
            count(|c| unsafe { &raw mut (*c).seconds_spared }, 1);
            false
        }
        _ => true,
    }
}
