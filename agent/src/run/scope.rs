//! The configured scope and exemptions → what the kernel programs compare.
//!
//! Cgroups and network namespaces are fixed when the programs load. Containers and executables come and go: a
//! container is a cgroup, found by its id in the tree; an executable is listed as soon as it is seen to run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use apiward_common::scope::FileKey;
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::config;
use crate::kernel::cgroup::{self, Cgroup};
use crate::kernel::load::{self, Maps, file_key};

/// Programs whose traffic is left alone unless the configuration says otherwise: cutting them would cut the
/// operator off, or the node from its cluster. The collector reads what agents send it; its traffic is ours. A name
/// is not enough: see [`is_trusted`].
const EXEMPT_DEFAULT: [&str; 6] = [
    "**/sbin/sshd",
    "**/bin/sshd",
    "**/lib/openssh/sshd-session",
    "**/kubelet",
    "**/hyperkube",
    "**/apiward-collector",
];
/// Directories of the cgroup tree that are searched for containers.
const CGROUPS_MAX: usize = 20_000;

/// Executables to be listed when they run.
pub struct Executables {
    scope: GlobSet,
    /// Named by the configuration.
    exempt: GlobSet,
    exempt_default: GlobSet,
    /// What was listed, for the status.
    pub exempted: Vec<String>,
}

/// The part that is known before the programs load.
pub fn resolve(config: &config::Config) -> anyhow::Result<(load::Scope, Executables)> {
    let scope = &config.capture.scope;
    let mut cgroups = Vec::new();
    for path in &scope.cgroups {
        cgroups.push(Cgroup::open(path)?);
    }
    cgroups.extend(containers(&scope.containers));
    let mut netns = Vec::new();
    for path in &scope.netns {
        let metadata = fs::metadata(path)
            .map_err(|error| anyhow::anyhow!("capture.scope.netns: {}: {error}", path.display()))?;
        netns.push(u32::try_from(metadata.ino())?);
    }
    let mut exempt_cgroups = Vec::new();
    for path in &config.exempt.cgroups {
        exempt_cgroups.push(Cgroup::open(path)?);
    }
    let exempt: Vec<String> = config
        .exempt
        .exes
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let exempt_default = if config.exempt.defaults {
        EXEMPT_DEFAULT.map(str::to_owned).to_vec()
    } else {
        vec!["**/apiward-collector".into()]
    };
    let executables = Executables {
        scope: globs(&scope.exes)?,
        exempt: globs(&exempt)?,
        exempt_default: globs(&exempt_default)?,
        exempted: Vec::new(),
    };
    let by_exe = !scope.exes.is_empty();
    let more_cgroups = !scope.containers.is_empty();
    Ok((
        load::Scope {
            cgroups,
            netns,
            by_exe,
            more_cgroups,
            exempt_cgroups,
        },
        executables,
    ))
}

fn globs(patterns: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern)?);
    }
    Ok(set.build()?)
}

/// Cgroups of running containers with these ids. Containers come and go: this is asked again as time passes.
pub fn containers(ids: &[String]) -> Vec<Cgroup> {
    let mut found = Vec::new();
    let Ok(root) = cgroup::root() else { return found };
    if ids.is_empty() {
        return found;
    }
    let mut queue = std::collections::VecDeque::from([root]);
    for _ in 0..CGROUPS_MAX {
        let Some(directory) = queue.pop_front() else { break };
        let name = directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            // It may have ended meanwhile.
            found.extend(Cgroup::open(&directory));
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push_back(entry.path());
            }
        }
    }
    found
}

impl Executables {
    /// Lists every program that runs now.
    pub fn list_running(&mut self, maps: &mut Maps) {
        for pid in running() {
            let link = PathBuf::from(format!("/proc/{pid}/exe"));
            if let (Ok(exe), Ok(metadata)) = (fs::read_link(&link), fs::metadata(&link)) {
                self.list(&exe, file_key(&metadata), maps);
            }
        }
    }

    /// Lists a program that begins to run, if it is meant.
    pub fn list(&mut self, exe: &Path, file: FileKey, maps: &mut Maps) {
        let exempt = is_trusted(exe, &file, &self.exempt, &self.exempt_default);
        for (listed, exempt) in [(exempt, true), (self.scope.is_match(exe), false)] {
            if !listed {
                continue;
            }
            match maps.list_exe(file, exempt) {
                Ok(()) if exempt => {
                    let shown = exe.display().to_string();
                    if !self.exempted.contains(&shown) {
                        self.exempted.push(shown);
                    }
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(exe = %exe.display(), %error, "the executable cannot be listed; name fewer");
                }
            }
        }
    }
}

/// The program may be exempt. Who may write files, in a container or anywhere on the host, can give them any name:
/// it must be the very file that the host has at this path, and for a name of ours, one that only root may change.
fn is_trusted(exe: &Path, file: &FileKey, named: &GlobSet, by_default: &GlobSet) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let named = named.is_match(exe);
    if !named && !by_default.is_match(exe) {
        return false;
    }
    let Ok(inside) = exe.strip_prefix("/") else {
        return false;
    };
    let host = Path::new("/proc/1/root");
    // Not to be looked into where the first process is kept from the agent: then its own root is all there is.
    let root = if host.join(".").exists() {
        host
    } else {
        Path::new("/")
    };
    fs::metadata(root.join(inside)).is_ok_and(|found| {
        file_key(&found) == *file && (named || (found.uid() == 0 && found.mode() & WRITABLE_BY_OTHERS == 0))
    })
}

/// Process ids that are in use now.
pub fn running() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Of these, the ones whose cgroup is in scope (all, where the scope names none).
pub fn running_in(scope: &load::Scope) -> Vec<u32> {
    let Ok(root) = cgroup::root() else {
        return running();
    };
    running()
        .into_iter()
        .filter(|pid| {
            scope.cgroups.is_empty() || {
                let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                let path = text
                    .lines()
                    .find_map(|line| line.strip_prefix("0::/"))
                    .unwrap_or_default();
                scope
                    .cgroups
                    .iter()
                    .any(|cgroup| root.join(path).starts_with(&cgroup.path))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_alone_exempts_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet");
        fs::write(&path, "").unwrap();
        let by_default = globs(&["**/kubelet".into()]).unwrap();
        let named = globs(&[path.display().to_string()]).unwrap();
        let none = globs(&[]).unwrap();
        let root = rustix::process::geteuid().is_root();
        let trusted = |named: &GlobSet, mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            is_trusted(
                &path,
                &file_key(&fs::metadata(&path).unwrap()),
                named,
                &by_default,
            )
        };
        // Whose file it is counts too.
        assert_eq!(trusted(&none, 0o755), root);
        assert!(!trusted(&none, 0o775));
        assert!(trusted(&named, 0o775));
        // Another file under the same name, as in a container.
        let other = FileKey {
            inode: 1,
            device: 1,
            reserved: 0,
        };
        assert!(!is_trusted(&path, &other, &named, &by_default));
        assert!(!is_trusted(Path::new("kubelet"), &other, &named, &by_default));
    }
}
