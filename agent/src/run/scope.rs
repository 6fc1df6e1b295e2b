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
/// operator off, or the node from its cluster. The collector reads what agents send it; its traffic is ours.
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
    exempt: GlobSet,
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
    let mut exempt: Vec<String> = config
        .exempt
        .exes
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if config.exempt.defaults {
        exempt.extend(EXEMPT_DEFAULT.map(str::to_owned));
    } else {
        exempt.push("**/apiward-collector".into());
    }
    let executables = Executables {
        scope: globs(&scope.exes)?,
        exempt: globs(&exempt)?,
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
        for (globs, exempt) in [(&self.exempt, true), (&self.scope, false)] {
            if !globs.is_match(exe) {
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
