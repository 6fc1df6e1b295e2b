//! Who runs now, from the task itself. A helper for each of these would do too; where the processor makes every return
//! dear (speculation barriers), five calls a record are most of what the record costs.

use apiward_common::limits::COMM_BYTES;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

use crate::maps::OFFSETS;
use crate::sock::field;

type Pointer = *const core::ffi::c_void;

/// The current task, as a pointer whose type the verifier knows.
#[inline(always)]
pub fn task() -> Pointer {
    // SAFETY: helper without arguments.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// Process id (as the host counts) in the upper half, thread id in the lower.
#[inline(always)]
pub fn ids(task: Pointer) -> u64 {
    // SAFETY: `task` is of [`task`].
    let (process, thread): (u32, u32) =
        unsafe { (field(task, OFFSETS.task_tgid()), field(task, OFFSETS.task_pid())) };
    (process as u64) << 32 | thread as u64
}

/// The user id, as the host counts.
#[inline(always)]
pub fn user(task: Pointer) -> u32 {
    // SAFETY: as above; credentials are never freed under their own task.
    unsafe {
        let cred: Pointer = field(task, OFFSETS.task_cred());
        if cred.is_null() {
            0
        } else {
            field(cred, OFFSETS.cred_uid())
        }
    }
}

/// Id of the cgroup in the unified hierarchy.
#[inline(always)]
pub fn cgroup(task: Pointer) -> u64 {
    // SAFETY: as above; a stale pointer reads as some number, never as a fault.
    unsafe {
        let set: Pointer = field(task, OFFSETS.task_cgroups());
        if set.is_null() {
            return 0;
        }
        let cgroup: Pointer = field(set, OFFSETS.css_set_cgroup());
        if cgroup.is_null() {
            return 0;
        }
        let node: Pointer = field(cgroup, OFFSETS.cgroup_kn());
        if node.is_null() {
            0
        } else {
            field(node, OFFSETS.kn_id())
        }
    }
}

/// The thread's name.
#[inline(always)]
pub fn comm(task: Pointer) -> [u64; COMM_BYTES / 8] {
    // SAFETY: as above; the name has 16 bytes.
    unsafe {
        [
            field(task, OFFSETS.task_comm()),
            field(task, OFFSETS.task_comm() + 8),
        ]
    }
}
