//! Who a process is: learnt when it begins, remembered until it has ended, so that a call names its executable
//! also when its process is long gone.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;

use hashbrown::HashMap;
use smol_str::SmolStr;

use super::{KernelTime, Process};
use crate::kernel::cgroup;

/// Processes known at once; beyond it the ones that ended first are forgotten, then all are asked for again.
const PROCESSES_MAX: usize = 65_536;
/// Ended processes that are kept for records that come late, and for how long: seconds are far more than the ring
/// holds. Calls that are open still hold their process themselves.
const ENDED_MAX: usize = 4_096;
const ENDED_KEPT_NS: u64 = 30_000_000_000;
/// Cgroup paths remembered.
const CGROUPS_MAX: usize = 16_384;
/// Digits of a container id.
const CONTAINER_ID_BYTES: usize = 64;

/// What a record says of the task that made it.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub cgroup: u64,
    /// Up to the first zero.
    pub comm: &'a [u8],
}

struct Known {
    exe: SmolStr,
    /// The last task asked about: most processes have one that talks.
    last: Option<Arc<Process>>,
    /// No new record of it is to come. Its number may be given to another, which is then not ended.
    ended_at: Option<KernelTime>,
}

#[derive(Clone)]
struct Place {
    path: SmolStr,
    container: Option<SmolStr>,
}

/// The table of processes.
#[derive(Default)]
pub struct Processes {
    known: HashMap<u32, Known>,
    /// By age.
    ended: VecDeque<(u32, KernelTime)>,
    places: HashMap<u64, Place>,
}

impl Processes {
    /// A process became another program.
    pub fn executed(&mut self, pid: u32, exe: SmolStr) {
        self.make_room();
        self.known.insert(
            pid,
            Known {
                exe,
                last: None,
                ended_at: None,
            },
        );
    }

    /// A process made a child, which runs the same program until it says otherwise.
    pub fn forked(&mut self, parent: u32, child: u32) {
        let exe = self.exe(parent);
        self.executed(child, exe);
    }

    /// No more records of this process will come, but for a few that are late.
    pub fn exited(&mut self, pid: u32, at: KernelTime) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.ended_at = Some(at);
            self.ended.push_back((pid, at));
        }
        while let Some(&(oldest, ended_at)) = self.ended.front()
            && (self.ended.len() > ENDED_MAX || at.since(ended_at) > ENDED_KEPT_NS)
        {
            self.ended.pop_front();
            self.forget(oldest, ended_at);
        }
    }

    /// Unless the number is another process's by now.
    fn forget(&mut self, pid: u32, ended_at: KernelTime) {
        if self
            .known
            .get(&pid)
            .is_some_and(|known| known.ended_at == Some(ended_at))
        {
            self.known.remove(&pid);
        }
    }

    /// The executable's path; empty if nobody knows it any more.
    pub fn exe(&mut self, pid: u32) -> SmolStr {
        if let Some(known) = self.known.get(&pid) {
            return known.exe.clone();
        }
        let exe = read_exe(pid);
        self.executed(pid, exe.clone());
        exe
    }

    /// The task's process, shared as long as the same task asks.
    pub fn of(&mut self, task: Task<'_>) -> Arc<Process> {
        if let Some(Known { last: Some(last), .. }) = self.known.get(&task.pid)
            && last.tid == task.tid
            && last.uid == task.uid
            && last.cgroup_id == task.cgroup
            && last.comm.as_bytes() == task.comm
        {
            return last.clone();
        }
        let exe = self.exe(task.pid);
        let place = self.place(task.cgroup, task.pid);
        let process = Arc::new(Process {
            pid: task.pid,
            tid: task.tid,
            uid: task.uid,
            comm: SmolStr::new(String::from_utf8_lossy(task.comm)),
            exe,
            cgroup_id: task.cgroup,
            cgroup_path: place.path,
            container: place.container,
        });
        if let Some(known) = self.known.get_mut(&task.pid) {
            known.last = Some(process.clone());
        }
        process
    }

    fn make_room(&mut self) {
        if self.known.len() < PROCESSES_MAX {
            return;
        }
        for (pid, ended_at) in std::mem::take(&mut self.ended) {
            self.forget(pid, ended_at);
        }
        if self.known.len() >= PROCESSES_MAX {
            self.known.clear();
        }
    }

    fn place(&mut self, cgroup_id: u64, pid: u32) -> Place {
        if let Some(place) = self.places.get(&cgroup_id) {
            return place.clone();
        }
        let path = path_by_process(pid, cgroup_id)
            .or_else(|| cgroup::path_of(cgroup_id))
            .unwrap_or_default();
        let place = Place {
            container: container_id(&path),
            path: SmolStr::new(path),
        };
        if self.places.len() >= CGROUPS_MAX {
            self.places.clear();
        }
        self.places.insert(cgroup_id, place.clone());
        place
    }
}

fn read_exe(pid: u32) -> SmolStr {
    fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| {
            let path = path.to_string_lossy();
            SmolStr::new(path.strip_suffix(" (deleted)").unwrap_or(&path))
        })
        .unwrap_or_default()
}

/// What `/proc/<pid>/cgroup` says, if it still is the cgroup that the record names.
fn path_by_process(pid: u32, cgroup_id: u64) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let found = cgroup::Cgroup::open(path.as_ref()).ok()?;
    (found.id == cgroup_id).then(|| path.to_owned())
}

/// The container runtime's id in a cgroup path: 64 hex digits, alone or behind a prefix (`docker-…scope`,
/// `cri-containerd-…scope`, `crio-…`, `/docker/…`). The innermost one.
pub fn container_id(path: &str) -> Option<SmolStr> {
    path.rsplit('/').find_map(|component| {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let id = name.rsplit(['-', ':']).next()?;
        let hex = id.len() == CONTAINER_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| SmolStr::new(id))
    })
}

/// The path that an exec record brings: components from the file up to the root, each closed by a zero.
pub fn path_from_components(payload: &[u8]) -> SmolStr {
    let mut path = String::with_capacity(payload.len() + 1);
    for component in payload
        .split(|byte| *byte == 0)
        .rev()
        .filter(|component| !component.is_empty())
    {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    SmolStr::new(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_found_in_the_runtimes_spellings() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubelet.slice/x:cri-containerd:{id}"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(id.as_str()), "{path}");
        }
        assert_eq!(container_id("/user.slice/user-0.slice/session-1.scope"), None);
        assert_eq!(container_id("/docker/0123"), None);
    }

    #[test]
    fn components_become_a_path() {
        assert_eq!(path_from_components(b"curl\0bin\0usr\0"), "/usr/bin/curl");
        assert_eq!(path_from_components(b""), "");
    }

    #[test]
    fn a_child_runs_its_parents_program_until_it_executes() {
        let mut processes = Processes::default();
        processes.executed(10, SmolStr::new("/usr/sbin/nginx"));
        processes.forked(10, 11);
        processes.exited(10, KernelTime(1));
        assert_eq!(processes.exe(11), "/usr/sbin/nginx");
        processes.executed(11, SmolStr::new("/bin/sh"));
        assert_eq!(processes.exe(11), "/bin/sh");
        assert_eq!(processes.exe(10), "/usr/sbin/nginx");
    }

    #[test]
    fn who_has_ended_is_forgotten_after_a_while_and_not_whoever_got_the_number() {
        let mut processes = Processes::default();
        for pid in [10, 11, 12] {
            processes.executed(pid, SmolStr::new("/bin/sh"));
        }
        processes.exited(10, KernelTime(1));
        processes.exited(11, KernelTime(2));
        processes.executed(11, SmolStr::new("/bin/ls"));
        assert_eq!(processes.known.len(), 3, "records of 10 may be late");
        processes.exited(12, KernelTime(3 + ENDED_KEPT_NS));
        assert!(!processes.known.contains_key(&10));
        assert_eq!(processes.exe(11), "/bin/ls");
        assert_eq!(processes.ended.len(), 1);
    }

    #[test]
    fn as_many_ended_ones_as_the_bound_says_are_kept() {
        let mut processes = Processes::default();
        for pid in 1..=ENDED_MAX as u32 + 5 {
            processes.executed(pid, SmolStr::new("/bin/sh"));
            processes.exited(pid, KernelTime(1));
        }
        assert_eq!(
            (processes.known.len(), processes.ended.len()),
            (ENDED_MAX, ENDED_MAX)
        );
        assert!(!processes.known.contains_key(&5));
    }
}
