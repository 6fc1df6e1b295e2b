//! Processes begin, become another program, and end: so that a call can name its executable when its process is
//! long gone.

use apiward_common::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX};
use apiward_common::record::{ProcessChange, kind};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel_str};
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit::emit;
use crate::maps::{OFFSETS, PROCESSES};
use crate::scope;
use crate::sock::read;

#[inline(always)]
pub fn executed() {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let _ = PROCESSES.remove(&pid);
    if !scope::task() {
        return;
    }
    // SAFETY: helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(mm) = read::<u64>(task, OFFSETS.task_mm()) else { return };
    let Some(file) = read::<u64>(mm, OFFSETS.mm_exe_file()) else { return };
    let Some(key) = scope::file_key(file) else { return };
    let Some(dentry) = read::<u64>(file, OFFSETS.file_path_dentry()) else { return };
    let Some(mnt) = read::<u64>(file, OFFSETS.file_path_mnt()) else { return };
    emit::<ProcessChange, { PATH_BYTES_MAX + NAME_BYTES_MAX }>(kind::EXEC, 0, |record| {
        record.body.inode = key.inode;
        record.body.device = key.device;
        record.body.child = 0;
        record.body.truncated = 1;
        record.body.reserved = 0;
        record.body.reserved2 = 0;
        let mut dentry = dentry;
        // `f_path.mnt` points into `struct mount`.
        let mut mount = mnt - OFFSETS.mount_mnt() as u64;
        let mut used = 0usize;
        // Crossing a mount takes a round of its own.
        for _ in 0..PATH_COMPONENTS_MAX * 2 {
            let Some(parent) = read::<u64>(dentry, OFFSETS.dentry_parent()) else { break };
            if parent == dentry {
                let Some(above) = read::<u64>(mount, OFFSETS.mount_parent()) else { break };
                if above == mount {
                    record.body.truncated = 0;
                    break;
                }
                let Some(point) = read::<u64>(mount, OFFSETS.mount_mountpoint()) else { break };
                dentry = point;
                mount = above;
                continue;
            }
            let Some(name) = read::<u64>(dentry, OFFSETS.dentry_name()) else { break };
            if used >= PATH_BYTES_MAX {
                break;
            }
            // SAFETY: `used` is below PATH_BYTES_MAX, so a name fits behind it; the helper checks the address.
            let length = unsafe {
                bpf_probe_read_kernel_str(
                    record.payload.as_mut_ptr().add(used).cast(),
                    NAME_BYTES_MAX as u32,
                    name as *const core::ffi::c_void,
                )
            };
            if length <= 0 || length > NAME_BYTES_MAX as i64 {
                break;
            }
            used += length as usize;
            dentry = parent;
        }
        used as u32
    });
}

/// `sched_process_fork(parent, child)`; threads are left out.
#[inline(always)]
pub fn forked(ctx: &BtfTracePointContext) {
    let child: u64 = ctx.arg(1);
    let Some(pid) = read::<u32>(child, OFFSETS.task_tgid()) else { return };
    let Some(tid) = read::<u32>(child, OFFSETS.task_pid()) else { return };
    if pid == tid && scope::task() {
        change(kind::FORK, pid);
    }
}

#[inline(always)]
pub fn exited() {
    let who = bpf_get_current_pid_tgid();
    let pid = (who >> 32) as u32;
    if pid != who as u32 {
        return;
    }
    let inside = scope::task();
    let _ = PROCESSES.remove(&pid);
    if inside {
        change(kind::EXIT, 0);
    }
}

#[inline(always)]
fn change(kind: u8, child: u32) {
    emit::<ProcessChange, 0>(kind, 0, |record| {
        record.body = ProcessChange { inode: 0, device: 0, child, truncated: 0, reserved: 0, reserved2: 0 };
        0
    });
}
