//! The host's own `openssl`, for canaries in TLS: found, and given a certificate that lives as long as the run.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where it is looked for.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];
/// The host's files, where this program runs in a container that has none, in the host's process namespace.
const HOST: &str = "/proc/1/root";
/// All that it wants to be told, so that no file of the host's is read.
const CONFIG: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = canary\n";
/// How long making a certificate may take: a key on a curve is made at once, also where the machine is emulated.
const MAKE_LIMIT: Duration = Duration::from_secs(30);

/// A directory of our own, gone when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    /// Makes one below `parent`, for nobody else to look into.
    pub fn new(parent: &Path) -> Result<Scratch, String> {
        let path = parent.join(format!("apiward-prove-{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The program, and a certificate with its key as it sees them.
#[derive(Debug)]
pub struct OpenSsl {
    program: String,
    /// Where its files are, if not here.
    root: Option<PathBuf>,
    pub certificate: String,
    pub key: String,
    _scratch: Scratch,
}

impl OpenSsl {
    /// Looks for it, here first, and makes a certificate. The error says what is missing.
    pub fn find() -> Result<OpenSsl, String> {
        let found = [None, Some(PathBuf::from(HOST))].into_iter().find_map(|root| {
            let inside = |place: &str| match &root {
                Some(root) => root.join(place.trim_start_matches('/')),
                None => PathBuf::from(place),
            };
            let place = PLACES
                .iter()
                .find(|place| inside(place).join("openssl").is_file())?;
            Some((format!("{place}/openssl"), root.clone()))
        });
        let (program, root) = found.ok_or_else(|| {
            "no `openssl` on this host: install it, so that canaries have a TLS library to talk through"
                .to_owned()
        })?;
        let here = root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let scratch = Scratch::new(&here.join("tmp"))?;
        let below = scratch
            .path
            .strip_prefix(&here)
            .unwrap_or(&scratch.path)
            .to_owned();
        let inside = |name: &str| format!("/{}/{name}", below.display());
        let openssl = OpenSsl {
            program,
            root,
            certificate: inside("canary.pem"),
            key: inside("canary.key"),
            _scratch: scratch,
        };
        openssl.make(&inside("canary.cnf"))?;
        Ok(openssl)
    }

    fn make(&self, config: &str) -> Result<(), String> {
        let written = self._scratch.path.join("canary.cnf");
        fs::write(&written, CONFIG).map_err(|error| format!("{}: {error}", written.display()))?;
        // The cgroup that this program is in: it only has to name one.
        let mut command = Command::new("/proc/self/exe");
        command.arg("canary").arg("--cgroup").arg(own_cgroup()?);
        let child = self
            .exec(&mut command)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-config",
                config,
                "-keyout",
                &self.key,
                "-out",
                &self.certificate,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| format!("{} cannot be started: {error}", self.program))?;
        let deadline = Instant::now() + MAKE_LIMIT;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("{} makes no certificate ({status})", self.program));
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{} makes no certificate in time", self.program));
                }
            }
        }
    }

    /// Has a `canary` command become it; its arguments are to follow.
    pub fn exec<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.arg("exec");
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command.arg("--").arg(&self.program)
    }
}

/// The cgroup that this process is in.
fn own_cgroup() -> Result<PathBuf, String> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this process is in no cgroup2")?;
    let cgroup = crate::kernel::cgroup::Cgroup::open(Path::new(path));
    cgroup
        .map(|cgroup| cgroup.path)
        .map_err(|error| error.to_string())
}

/// The TLS library that a process has mapped as a file, by inode; `None`: it has brought its own.
pub fn library_of(pid: u32) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    // proc_pid_maps(5): address perms offset dev inode path.
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let inode = fields.nth(4)?.parse().ok()?;
        let path = fields.next()?;
        let name = path.rsplit('/').next()?;
        name.starts_with("libssl").then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_scratch_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::new(dir.path()).expect("made");
        fs::write(scratch.path.join("key"), "x").expect("written");
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_process_without_a_tls_library_has_none() {
        assert_eq!(library_of(std::process::id()), None);
    }
}
