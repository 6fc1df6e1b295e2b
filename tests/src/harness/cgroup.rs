//! cgroup2 subtrees: which processes a test's agent sees, and how all of them are ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::{Result, wait};

/// Where cgroup2 is mounted (hybrid hosts: not at /sys/fs/cgroup), by proc_pid_mountinfo(5).
pub fn mount_point() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let point = mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem
            .starts_with("cgroup2 ")
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    point.context("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup`")
}

/// One directory of the hierarchy. Dropping it ends what runs in it.
#[derive(Debug)]
pub struct Cgroup {
    pub path: PathBuf,
}

impl Cgroup {
    /// Makes it below `parent`.
    pub fn new(parent: &Path, name: &str) -> Result<Cgroup> {
        let path = parent.join(name);
        std::fs::create_dir(&path)
            .with_context(|| format!("the cgroup {} cannot be made", path.display()))?;
        Ok(Cgroup { path })
    }

    /// Ends everything in it and below, and removes it.
    fn remove(&self) -> Result {
        if !self.path.exists() {
            return Ok(());
        }
        // Linux 5.14.
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
        wait::within(Duration::from_secs(5), "the cgroup is empty", || {
            Ok(Some(std::fs::remove_dir(&self.path)?))
        })
        .with_context(|| format!("{} cannot be removed", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("{error:#}");
        }
    }
}

/// Ends and removes subtrees named `prefix` and a process id, of test runs that were killed.
pub fn remove_stale(parent: &Path, prefix: &str) {
    for (path, _) in super::world::stale(parent, prefix) {
        let _ = std::fs::write(path.join("cgroup.kill"), "1");
        let below = std::fs::read_dir(&path).into_iter().flatten().flatten();
        for path in below
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .chain([path.clone()])
        {
            let removed = wait::within(Duration::from_secs(2), "", || Ok(std::fs::remove_dir(&path).ok()));
            if removed.is_err() {
                eprintln!("{} is left from an earlier run", path.display());
            }
        }
    }
}
