//! A test's own corner of the machine: a folder and a cgroup2 subtree with a part that the agent sees, a part that
//! it does not, and a part for the agent itself. Nothing outside of it is read or cut.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

use super::cgroup::{self, Cgroup};
use super::{Result, wait};

/// Before our process id, in the names of cgroups and folders.
pub const PREFIX: &str = "apiward-test-";
/// Where the binaries are; without it, beside this one.
const BINARIES_VARIABLE: &str = "APIWARD_BIN_DIR";

/// Where a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the agent's scope.
    Inside,
    /// Beside it.
    Outside,
    /// With the agent and the collector.
    Ours,
}

/// Everything is gone when it is dropped.
#[derive(Debug)]
pub struct World {
    pub inside: Cgroup,
    pub outside: Cgroup,
    pub ours: Cgroup,
    _whole: Cgroup,
    folder: PathBuf,
}

impl World {
    /// Makes folder and cgroups. One at a time: the name is this process's.
    pub fn new() -> Result<World> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = cgroup::mount_point()?;
        cgroup::remove_stale(&root, PREFIX);
        for (folder, _) in stale(&std::env::temp_dir(), PREFIX) {
            let _ = std::fs::remove_dir_all(folder);
        }
        let whole = Cgroup::new(&root, &format!("{PREFIX}{}", std::process::id()))?;
        // Short, because a socket's path has 108 bytes; where others may look in, as nginx' workers do.
        let folder = std::env::temp_dir().join(format!(
            "{PREFIX}{}.{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let world = World {
            inside: Cgroup::new(&whole.path, "inside")?,
            outside: Cgroup::new(&whole.path, "outside")?,
            ours: Cgroup::new(&whole.path, "ours")?,
            _whole: whole,
            folder,
        };
        std::fs::create_dir(&world.folder)?;
        Ok(world)
    }

    /// A file of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder that all files are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The cgroup of a place.
    pub fn cgroup(&self, place: Place) -> &Path {
        match place {
            Place::Inside => &self.inside.path,
            Place::Outside => &self.outside.path,
            Place::Ours => &self.ours.path,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What still runs would write into the folder while it is removed.
        for cgroup in [&self.inside, &self.outside, &self.ours] {
            let _ = std::fs::write(cgroup.path.join("cgroup.kill"), "1");
        }
        let gone = wait::until("the test's folder is gone", || {
            Ok(std::fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists())
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

/// Entries of `parent` named `prefix` and the id of a process that is gone.
pub fn stale(parent: &Path, prefix: &str) -> Vec<(PathBuf, u32)> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.split('.').next()?;
            Some((entry.path(), number.parse().ok()?))
        })
        .filter(|(_, pid)| !Path::new(&format!("/proc/{pid}")).exists())
        .collect()
}

/// One of our binaries.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os(BINARIES_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        // target/debug/deps/integration-…: the binaries are one folder up.
        None => std::env::current_exe()?
            .ancestors()
            .nth(2)
            .map(Path::to_path_buf)
            .context("this binary has no folder")?,
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: `cargo xtask build --debug`, or name its folder in {BINARIES_VARIABLE}",
            path.display()
        );
    }
    Ok(path)
}

/// A program of the system. Debian's own is taken where there are several: it is linked as its packages are.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .chain(path.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is missing: `cargo xtask setup --demo`"))
}
