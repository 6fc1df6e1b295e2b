//! Processes begin, become another program, and end: so that a call can name its executable when its process is
//! long gone.

use apiward_common::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX};
use apiward_common::record::{ProcessChange, kind};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_loop, bpf_probe_read_kernel_str};
use aya_ebpf::programs::BtfTracePointContext;

use crate::emit::emit;
use crate::maps::{MULTIPLES, OFFSETS, PROCESSES};
use crate::sock::read;
use crate::{kin, scope, tls};

/// Mounts that lie on top of each other at one place.
const MOUNTS_MAX: u32 = 8;

#[inline(always)]
pub fn executed() {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let _ = PROCESSES.remove(&pid);
    kin::forget(pid);
    // Where executables are the scope, the agent learns of a new one by this very record.
    if !scope::task() && !scope::by_exe() {
        return;
    }
    // SAFETY: helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(mm) = read::<u64>(task, OFFSETS.task_mm()) else {
        return;
    };
    let Some(file) = read::<u64>(mm, OFFSETS.mm_exe_file()) else {
        return;
    };
    let Some(key) = scope::file_key(file) else { return };
    let Some(dentry) = read::<u64>(file, OFFSETS.file_path_dentry()) else {
        return;
    };
    let Some(mnt) = read::<u64>(file, OFFSETS.file_path_mnt()) else {
        return;
    };
    emit::<ProcessChange, { PATH_BYTES_MAX + NAME_BYTES_MAX }>(kind::EXEC, 0, |record| {
        record.body.inode = key.inode;
        record.body.device = key.device;
        record.body.child = 0;
        record.body.reserved = 0;
        record.body.reserved2 = 0;
        let mut walk = Walk {
            dentry,
            // `f_path.mnt` points into `struct mount`.
            mount: mnt - OFFSETS.mount_mnt() as u64,
            name: 0,
            done: 0,
        };
        let mut used = 0usize;
        for _ in 0..PATH_COMPONENTS_MAX {
            // SAFETY: the callback has the shape that the helper wants, and the context outlives the call.
            unsafe {
                bpf_loop(
                    MOUNTS_MAX,
                    up as *mut core::ffi::c_void,
                    (&raw mut walk).cast(),
                    0,
                );
            }
            if walk.name == 0 || used >= PATH_BYTES_MAX {
                break;
            }
            // SAFETY: `used` is below PATH_BYTES_MAX, so a name fits behind it; the helper checks the address.
            let length = unsafe {
                bpf_probe_read_kernel_str(
                    record.payload.as_mut_ptr().add(used).cast(),
                    NAME_BYTES_MAX as u32,
                    walk.name as *const core::ffi::c_void,
                )
            };
            if length <= 0 || length > NAME_BYTES_MAX as i64 {
                break;
            }
            used += length as usize;
        }
        record.body.truncated = (walk.done == 0) as u32;
        used as u32
    });
}

/// Where the walk from the file to the root is.
#[repr(C)]
struct Walk {
    dentry: u64,
    mount: u64,
    /// The component that was found last; 0: none.
    name: u64,
    /// The root was reached.
    done: u64,
}

/// `bpf_loop` callback: one step up, to the next component or across a mount. 1 once there is a component, or none.
extern "C" fn up(_index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that `executed` handed over.
    let walk = unsafe { &mut *walk };
    walk.name = 0;
    let Some(parent) = read::<u64>(walk.dentry, OFFSETS.dentry_parent()) else {
        return 1;
    };
    // A mount may show only a folder of its file system: a bind mount, as roots of containers often are.
    let Some(root) = read::<u64>(walk.mount, OFFSETS.mount_root()) else {
        return 1;
    };
    if walk.dentry != root && parent != walk.dentry {
        walk.name = read(walk.dentry, OFFSETS.dentry_name()).unwrap_or(0);
        walk.dentry = parent;
        return 1;
    }
    let Some(above) = read::<u64>(walk.mount, OFFSETS.mount_parent()) else {
        return 1;
    };
    if above == walk.mount {
        walk.done = 1;
        return 1;
    }
    walk.dentry = read(walk.mount, OFFSETS.mount_mountpoint()).unwrap_or(0);
    walk.mount = above;
    0
}

/// `sched_process_fork(parent, child)`; threads are left out.
#[inline(always)]
pub fn forked(ctx: &BtfTracePointContext) {
    let child: u64 = ctx.arg(1);
    let Some(pid) = read::<u32>(child, OFFSETS.task_tgid()) else {
        return;
    };
    let Some(tid) = read::<u32>(child, OFFSETS.task_pid()) else {
        return;
    };
    if pid != tid {
        return;
    }
    // What is remembered under this id is of a process that has ended.
    let _ = PROCESSES.remove(&pid);
    if scope::task() {
        kin::forked((bpf_get_current_pid_tgid() >> 32) as u32, pid);
        change(kind::FORK, pid);
    } else {
        kin::forget(pid);
    }
}

#[inline(always)]
pub fn exited() {
    let who = bpf_get_current_pid_tgid();
    tls::ended(who);
    let _ = MULTIPLES.remove(&who);
    let pid = (who >> 32) as u32;
    if pid != who as u32 {
        return;
    }
    let inside = scope::task();
    scope::ends(pid);
    let _ = PROCESSES.remove(&pid);
    kin::forget(pid);
    if inside {
        change(kind::EXIT, 0);
    }
}

#[inline(always)]
fn change(kind: u8, child: u32) {
    emit::<ProcessChange, 0>(kind, 0, |record| {
        record.body = ProcessChange {
            inode: 0,
            device: 0,
            child,
            truncated: 0,
            reserved: 0,
            reserved2: 0,
        };
        0
    });
}
