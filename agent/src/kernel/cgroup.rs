//! The cgroup2 tree: where it is mounted, and what a cgroup's id and level are.
//!
//! It may be mounted elsewhere than at `/sys/fs/cgroup` (hybrid hosts: `/sys/fs/cgroup/unified`), so the place is
//! looked up in mountinfo.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories that a search by id looks at before it gives up.
const SEARCH_DIRECTORIES_MAX: usize = 20_000;

/// Why a cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "no cgroup2 hierarchy is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NotMounted,
    #[error("{path} is no directory of the cgroup2 hierarchy, which is mounted at {root}")]
    Outside { path: PathBuf, root: PathBuf },
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
}

/// A cgroup as the programs compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub path: PathBuf,
    /// What `bpf_get_current_cgroup_id` returns.
    pub id: u64,
    /// 0 is the root.
    pub level: u32,
}

/// Mount point of the cgroup2 hierarchy.
pub fn root() -> Result<PathBuf, CgroupError> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    root_in(&mountinfo).ok_or(CgroupError::NotMounted)
}

/// `mountinfo` as in proc(5): `… mount-point options … - type source …`.
fn root_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == "cgroup2").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

impl Cgroup {
    /// A cgroup by its directory: absolute, or as `/proc/<pid>/cgroup` writes it (below the mount point).
    pub fn open(path: &Path) -> Result<Cgroup, CgroupError> {
        let root = root()?;
        let full = if path.starts_with(&root) {
            path.to_owned()
        } else {
            root.join(path.strip_prefix("/").unwrap_or(path))
        };
        let metadata = fs::metadata(&full).map_err(|source| match source.kind() {
            // Told as it was written: the path that was tried is nobody's.
            io::ErrorKind::NotFound => CgroupError::Outside {
                path: path.to_owned(),
                root: root.clone(),
            },
            _ => CgroupError::Unreadable {
                path: full.clone(),
                source,
            },
        })?;
        let below = full
            .strip_prefix(&root)
            .ok()
            .filter(|_| metadata.is_dir() && full.join("cgroup.procs").exists());
        match below {
            Some(below) => {
                let level = below.components().count() as u32;
                Ok(Cgroup {
                    id: metadata.ino(),
                    level,
                    path: full,
                })
            }
            None => Err(CgroupError::Outside {
                path: path.to_owned(),
                root,
            }),
        }
    }
}

/// Path below the mount point (with a leading `/`) of a cgroup, by its id. Walks the tree, breadth first, up to
/// a bound: callers remember the answer.
pub fn path_of(id: u64) -> Option<String> {
    let root = root().ok()?;
    let mut queue = VecDeque::from([root.clone()]);
    for _ in 0..SEARCH_DIRECTORIES_MAX {
        let directory = queue.pop_front()?;
        let entry = fs::metadata(&directory).ok();
        if entry.is_some_and(|entry| entry.ino() == id) {
            let below = directory.strip_prefix(&root).ok()?.to_string_lossy().into_owned();
            return Some(format!("/{below}"));
        }
        for child in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push_back(child.path());
            }
        }
    }
    None
}

/// Processes in a cgroup, by its path below the mount point: at most `count_max`.
pub fn processes(path: &str, count_max: usize) -> Vec<u32> {
    let Ok(root) = root() else { return Vec::new() };
    let list = root.join(path.trim_start_matches('/')).join("cgroup.procs");
    let text = fs::read_to_string(list).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .take(count_max)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_wherever_it_is_mounted() {
        let hybrid = "24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      25 24 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:3 - cgroup cgroup rw,cpu\n\
                      26 24 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(root_in("24 1 0:22 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
