//! Decides, first, whether anything is looked at at all.

use apiward_common::flow::Flow;
use apiward_common::scope::{BY_CGROUP, BY_EXE, BY_NETNS, CGROUP_LEVEL_MAX, EXEMPT, FileKey, IN_SCOPE};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task};

use crate::emit::count;
use crate::maps::{AGENT_GONE, CGROUPS, EXES, NETNS, OFFSETS, PROCESSES, SETTINGS};
use crate::sock::read;
use crate::who;

/// Said of a process whose executable is not listed.
const NOT_LISTED: u32 = 0;

/// The current task's cgroup, executable or network namespace is in scope, and it is neither the agent nor exempt.
#[inline(always)]
pub fn task() -> bool {
    if is_agent((bpf_get_current_pid_tgid() >> 32) as u32) {
        return false;
    }
    let scope = SETTINGS.scope();
    let mut inside = scope & (BY_CGROUP | BY_EXE | BY_NETNS) == 0;
    if scope & BY_CGROUP != 0 && cgroup(SETTINGS.cgroup_levels(), IN_SCOPE) {
        inside = true;
    }
    if scope & BY_EXE != 0 && !inside {
        inside = executable() & IN_SCOPE != 0;
    }
    if scope & BY_NETNS != 0 && !inside {
        inside = netns();
    }
    if inside && exempt() {
        count(|c| unsafe { &raw mut (*c).exempt }, 1);
        return false;
    }
    inside
}

/// The process is the agent that has loaded these programs. They may outlive it, and then its id is anybody's.
#[inline(always)]
pub fn is_agent(pid: u32) -> bool {
    pid == SETTINGS.agent_pid() && AGENT_GONE.get(0).copied().unwrap_or(0) == 0
}

/// A process ends.
#[inline(always)]
pub fn ends(pid: u32) {
    if pid == SETTINGS.agent_pid()
        && let Some(gone) = AGENT_GONE.get_ptr_mut(0)
    {
        // SAFETY: a live map value that only ever becomes 1.
        unsafe { *gone = 1 };
    }
}

/// [`task`], remembered with the flow: a process that uses it again is not asked again, until it is in another cgroup.
#[inline(always)]
pub fn uses(flow: &mut Flow) -> bool {
    let current = who::task();
    let pid = (who::ids(current) >> 32) as u32;
    let cgroup = who::cgroup(current);
    if flow.scope_pid == pid && flow.scope_cgroup == cgroup {
        return true;
    }
    if !task() {
        return false;
    }
    if by_cgroup_alone() {
        flow.scope_pid = pid;
        flow.scope_cgroup = cgroup;
    }
    true
}

/// A thread's cgroup says whether it is in scope; its executable and network namespace, which it may change, do not.
#[inline(always)]
pub fn by_cgroup_alone() -> bool {
    SETTINGS.scope() & (BY_EXE | BY_NETNS) == 0
}

/// The current task's cgroup or executable is exempt.
#[inline(always)]
pub fn exempt() -> bool {
    (SETTINGS.exempt_levels() != 0 && cgroup(SETTINGS.exempt_levels(), EXEMPT))
        || (SETTINGS.exempt_exes() != 0 && executable() & EXEMPT != 0)
}

/// Executables are (part of) the scope.
#[inline(always)]
pub fn by_exe() -> bool {
    SETTINGS.scope() & BY_EXE != 0
}

/// The current task's network namespace is in scope. The task's, not a socket's: TLS calls must be decided on
/// where no socket is known.
#[inline(always)]
fn netns() -> bool {
    match current_netns() {
        // SAFETY: only asks whether it is there.
        Some(inode) => unsafe { NETNS.get(&inode) }.is_some(),
        None => false,
    }
}

#[inline(always)]
fn current_netns() -> Option<u32> {
    // SAFETY: helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let spaces: u64 = read(task, OFFSETS.task_nsproxy())?;
    let net: u64 = read(spaces, OFFSETS.nsproxy_net())?;
    read(net, OFFSETS.net_inum())
}

#[inline(always)]
fn cgroup(levels: u32, wanted: u32) -> bool {
    for level in 0..=CGROUP_LEVEL_MAX {
        if levels & (1 << level) == 0 {
            continue;
        }
        // SAFETY: helper with an integer argument; 0 if there is no such level.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        // SAFETY: the value is copied out at once.
        if let Some(listed) = unsafe { CGROUPS.get(&id) } {
            if *listed & wanted != 0 {
                return true;
            }
        }
    }
    false
}

#[inline(always)]
fn executable() -> u32 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the value is copied out at once.
    if let Some(known) = unsafe { PROCESSES.get(&pid) } {
        return *known;
    }
    let listed = match current_exe() {
        // SAFETY: the value is copied out at once.
        Some(file) => unsafe { EXES.get(&file) }.copied().unwrap_or(NOT_LISTED),
        None => NOT_LISTED,
    };
    let _ = PROCESSES.insert(&pid, &listed, 0);
    listed
}

/// The executable of the current task.
#[inline(always)]
pub fn current_exe() -> Option<FileKey> {
    // SAFETY: helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let mm: u64 = read(task, OFFSETS.task_mm())?;
    let file: u64 = read(mm, OFFSETS.mm_exe_file())?;
    file_key(file)
}

/// Device and inode of an open file.
#[inline(always)]
pub fn file_key(file: u64) -> Option<FileKey> {
    let inode: u64 = read(file, OFFSETS.file_inode())?;
    let number: u64 = read(inode, OFFSETS.inode_ino())?;
    let superblock: u64 = read(inode, OFFSETS.inode_sb())?;
    let device: u32 = read(superblock, OFFSETS.sb_dev())?;
    Some(FileKey {
        inode: number,
        device,
        reserved: 0,
    })
}
