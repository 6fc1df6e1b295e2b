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
use crate::errors;
use crate::kernel::cgroup::{self, Cgroup};
use crate::kernel::load::{self, Maps, file_key};
use crate::yaml::{Problem, Problems};

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

/// The part that is known before the programs load. What is named and not there is told all at once.
pub fn resolve(config: &config::Config) -> Result<(load::Scope, Executables), Problems> {
    let mut problems = Vec::new();
    let mut missing = |key: &str, what: String| {
        problems.push(Problem {
            id: errors::NOT_ON_THIS_HOST,
            file: match config.source.as_str() {
                "" => "the command line".into(),
                file => file.into(),
            },
            place: None,
            what: format!("{key}: {what}"),
            instead: "create it first, or remove the line".into(),
        });
    };
    let scope = &config.capture.scope;
    let mut cgroups = Vec::new();
    for path in &scope.cgroups {
        match Cgroup::open(path) {
            Ok(cgroup) => cgroups.push(cgroup),
            Err(error) => missing("capture.scope.cgroup", error.to_string()),
        }
    }
    cgroups.extend(containers(&scope.containers));
    let mut netns = Vec::new();
    for path in &scope.netns {
        match fs::metadata(path).map(|found| u32::try_from(found.ino())) {
            Ok(Ok(inode)) => netns.push(inode),
            Ok(Err(_)) => missing(
                "capture.scope.netns",
                format!("{} is no network namespace", path.display()),
            ),
            Err(error) => missing("capture.scope.netns", format!("{}: {error}", path.display())),
        }
    }
    let mut exempt_cgroups = Vec::new();
    for path in &config.exempt.cgroups {
        match Cgroup::open(path) {
            Ok(cgroup) => exempt_cgroups.push(cgroup),
            Err(error) => missing("exempt.cgroups", error.to_string()),
        }
    }
    let exempt = real_paths(&config.exempt.exes);
    let exempt_default = if config.exempt.defaults {
        EXEMPT_DEFAULT.map(str::to_owned).to_vec()
    } else {
        vec!["**/apiward-collector".into()]
    };
    let mut compiled = |key: &str, patterns: &[String]| {
        globs(patterns).unwrap_or_else(|error| {
            missing(key, error.to_string());
            GlobSet::empty()
        })
    };
    let executables = Executables {
        scope: compiled("capture.scope.exe", &scope.exes),
        exempt: compiled("exempt.exes", &exempt),
        exempt_default: compiled("exempt.defaults", &exempt_default),
        exempted: Vec::new(),
    };
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
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

/// As written, and as processes show it: the kernel names the file behind a link.
fn real_paths(exes: &[PathBuf]) -> Vec<String> {
    let mut paths = Vec::new();
    for exe in exes {
        paths.push(exe.display().to_string());
        match fs::canonicalize(exe) {
            Ok(real) if real == *exe => {}
            Ok(real) => paths.push(real.display().to_string()),
            Err(error) => {
                tracing::warn!(exe = %exe.display(), %error, "exempt.exes: nothing runs by this name; it is exempt once it does");
            }
        }
    }
    paths
}

fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern)?);
    }
    set.build()
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

/// Which processes are in scope, asked of `/proc` without entering their view of the file system. As the kernel
/// programs decide, except for exemptions: a library that an exempt process maps is probed, and the probes turn
/// that process away.
#[derive(Clone)]
pub struct Sight {
    scope: load::Scope,
    /// Container ids, which their cgroups have in their names: also those that come later.
    containers: Vec<String>,
    exes: GlobSet,
    root: Option<PathBuf>,
}

impl Sight {
    pub fn new(scope: load::Scope, config: &config::Config, executables: &Executables) -> Sight {
        Sight {
            scope,
            containers: config.capture.scope.containers.clone(),
            exes: executables.scope.clone(),
            root: cgroup::root().ok(),
        }
    }

    /// Process ids that are in use now and in scope.
    pub fn running(&self) -> Vec<u32> {
        running().into_iter().filter(|pid| self.has(*pid)).collect()
    }

    /// The process is in scope. One that is gone is not, unless everything is.
    pub fn has(&self, pid: u32) -> bool {
        let scope = &self.scope;
        let by_cgroup = !scope.cgroups.is_empty() || scope.more_cgroups;
        if !by_cgroup && !scope.by_exe && scope.netns.is_empty() {
            return true;
        }
        let process = Path::new("/proc").join(pid.to_string());
        (by_cgroup
            && self.in_cgroup(
                pid,
                &fs::read_to_string(process.join("cgroup")).unwrap_or_default(),
            ))
            || (scope.by_exe && fs::read_link(process.join("exe")).is_ok_and(|exe| self.exes.is_match(exe)))
            || (!scope.netns.is_empty()
                && fs::metadata(process.join("ns/net"))
                    .is_ok_and(|found| scope.netns.iter().any(|inode| u64::from(*inode) == found.ino())))
    }

    /// The process is in an exempt cgroup.
    pub fn is_exempt(&self, pid: u32) -> bool {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cgroup"));
        let text = text.unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let full = self.root.as_ref().zip(path).map(|(root, path)| root.join(path));
        let exempt = &self.scope.exempt_cgroups;
        full.is_some_and(|full| exempt.iter().any(|cgroup| full.starts_with(&cgroup.path)))
            || (is_relative(&text) && exempt.iter().any(|cgroup| is_member(pid, &cgroup.path)))
    }

    /// By what `/proc/<pid>/cgroup` says; in a cgroup namespace of the agent's own, where that begins at the agent's cgroup
    /// and says nothing of the names above it, by what the cgroups themselves say.
    fn in_cgroup(&self, pid: u32, text: &str) -> bool {
        let listed = &self.scope.cgroups;
        self.has_cgroup(text)
            || (is_relative(text) && listed.iter().any(|cgroup| is_member(pid, &cgroup.path)))
    }

    /// By what `/proc/<pid>/cgroup` says.
    fn has_cgroup(&self, text: &str) -> bool {
        let (Some(root), Some(path)) = (
            &self.root,
            text.lines().find_map(|line| line.strip_prefix("0::/")),
        ) else {
            return false;
        };
        let full = root.join(path);
        let listed = self
            .scope
            .cgroups
            .iter()
            .any(|cgroup| full.starts_with(&cgroup.path));
        listed || self.containers.iter().any(|id| path.contains(id.as_str()))
    }
}

/// Whether the cgroup is told relative to the reader's own (cgroup_namespaces(7)).
fn is_relative(text: &str) -> bool {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    path.is_some_and(|path| path == ".." || path.starts_with("../"))
}

/// Cgroups that are looked through for one process.
const MEMBERS_CGROUPS_MAX: usize = 4_096;

/// Whether the process is in a cgroup or one below it.
fn is_member(pid: u32, cgroup: &Path) -> bool {
    let pid = pid.to_string();
    let mut waiting = vec![cgroup.to_path_buf()];
    for _ in 0..MEMBERS_CGROUPS_MAX {
        let Some(cgroup) = waiting.pop() else { return false };
        let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        if members.lines().any(|line| line == pid) {
            return true;
        }
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        waiting.extend(
            below
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sight(cgroups: &[&str], containers: &[&str]) -> Sight {
        let cgroup = |path: &&str| Cgroup {
            path: path.into(),
            id: 1,
            level: 1,
        };
        Sight {
            scope: load::Scope {
                cgroups: cgroups.iter().map(cgroup).collect(),
                more_cgroups: !containers.is_empty(),
                ..load::Scope::default()
            },
            containers: containers.iter().map(ToString::to_string).collect(),
            exes: GlobSet::empty(),
            root: Some("/sys/fs/cgroup".into()),
        }
    }

    #[test]
    fn a_link_exempts_the_file_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("python3.11"), dir.path().join("python3"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let real = fs::canonicalize(&file).unwrap();
        assert_eq!(
            real_paths(std::slice::from_ref(&link)),
            [link.display().to_string(), real.display().to_string()]
        );
        assert_eq!(
            real_paths(std::slice::from_ref(&real)),
            [real.display().to_string()]
        );
        assert_eq!(real_paths(&["/nonexistent/x".into()]), ["/nonexistent/x"]);
    }

    #[test]
    fn a_process_is_in_scope_by_its_cgroup() {
        let listed = sight(&["/sys/fs/cgroup/a/b"], &["c0ffee"]);
        for (text, expected) in [
            ("12:cpu:/a/b\n0::/a/b\n", true),
            ("0::/a/b/c\n", true),
            ("0::/kubepods/pod1/cri-c0ffee.scope\n", true),
            ("0::/a\n", false),
            ("0::/a/bc\n", false),
            ("12:cpu:/a/b\n0::/\n", false),
            ("12:cpu:/a/b\n", false),
            ("", false),
        ] {
            assert_eq!(listed.has_cgroup(text), expected, "{text}");
        }
    }

    #[test]
    fn in_a_cgroup_namespace_of_its_own_the_cgroups_tell_their_members() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "1\n").unwrap();
        fs::write(below.join("cgroup.procs"), "12\n345\n").unwrap();
        let listed = sight(&[&dir.path().display().to_string()], &[]);
        let relative = "0::/../../a/b\n";
        assert!(listed.in_cgroup(345, relative) && listed.in_cgroup(1, "0::/..\n"));
        assert!(!listed.in_cgroup(34, relative));
        // Told by names: those decide.
        assert!(!listed.in_cgroup(345, "0::/a/b\n"));
    }

    #[test]
    fn any_kind_of_scope_is_enough() {
        let own = std::process::id();
        assert!(sight(&[], &[]).has(own));
        let mut elsewhere = sight(&["/sys/fs/cgroup/none-of-this-name"], &[]);
        assert!(!elsewhere.has(own));
        let netns = fs::metadata("/proc/self/ns/net").unwrap().ino() as u32;
        elsewhere.scope.netns = vec![netns + 1];
        assert!(!elsewhere.has(own));
        elsewhere.scope.netns.push(netns);
        assert!(elsewhere.has(own) && elsewhere.running().contains(&own));
        let mut by_exe = sight(&[], &[]);
        by_exe.scope.by_exe = true;
        assert!(!by_exe.has(own));
        let exe = fs::read_link("/proc/self/exe").unwrap();
        by_exe.exes = globs(&[exe.display().to_string()]).unwrap();
        assert!(by_exe.has(own));
    }

    #[test]
    fn what_is_not_there_is_told_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let mut config = config::Config {
            source: "agent.yaml".into(),
            ..config::Config::default()
        };
        assert!(resolve(&config).is_ok());
        config.capture.scope.cgroups = vec![missing.clone()];
        config.capture.scope.netns = vec![missing.clone()];
        config.exempt.cgroups = vec![missing];
        let problems = resolve(&config).err().unwrap();
        let keys: Vec<&str> = problems
            .0
            .iter()
            .map(|problem| problem.what.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(
            keys,
            ["capture.scope.cgroup", "capture.scope.netns", "exempt.cgroups"]
        );
        assert!(problems.to_string().starts_with("agent.yaml:") && problems.to_string().contains("[AW1011]"));
    }

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
