//! A cgroup2 subtree of our own: what runs in it is seen and enforced, nothing else on the machine is touched.
//!
//! It is also how the demo's processes are ended: everything in it was started by us, also what they started.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;

const POLL: Duration = Duration::from_millis(20);
/// How long the kernel may take to end what is in a cgroup.
const EMPTY_LIMIT: Duration = Duration::from_secs(5);

/// Where cgroup2 is mounted (hybrid hosts: not at /sys/fs/cgroup).
pub fn mount_point() -> Result<PathBuf> {
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo cannot be read")?;
    find_mount(&mounts).context("cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup`")
}

/// The mount point of the whole hierarchy, by proc_pid_mountinfo(5).
fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        filesystem.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })
}

/// Removes subtrees named `prefix` and a process id, of processes that were killed before they could do it.
pub fn remove_stale(parent: &Path, prefix: &str) {
    for (path, _) in stale(parent, prefix) {
        let below = std::fs::read_dir(&path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for path in below.filter(|path| path.is_dir()).chain([path.clone()]) {
            // What cannot be removed now is tried again next time.
            let _ = Cgroup { path }.remove();
        }
    }
}

/// Entries of `parent` named `prefix` and the id of a process that is gone.
pub fn stale(parent: &Path, prefix: &str) -> Vec<(PathBuf, u32)> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((entry.path(), pid))
        })
        .filter(|(_, pid)| !Path::new(&format!("/proc/{pid}")).exists())
        .collect()
}

/// A cgroup that ends with its owner, and with it all that runs in it.
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

    /// Ends everything in it and removes it.
    pub fn remove(&mut self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        // Linux 5.14; before, whatever still runs is told so by the error below.
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
        let deadline = Instant::now() + EMPTY_LIMIT;
        loop {
            match std::fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(_) if Instant::now() < deadline => std::thread::sleep(POLL),
                Err(error) => bail!("the cgroup {} could not be removed: {error}", self.path.display()),
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            sh::tell(&format!("{error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_where_it_is() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("1 2 0:1 / / rw - ext4 /dev/x rw\n"), None);
    }
}
