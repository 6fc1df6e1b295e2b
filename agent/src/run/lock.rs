//! One agent a host: two would report every call twice and withhold each other's connections.
//!
//! A lock on a file in one place, whatever the configurations say, and not the control socket: that may lie anywhere.
//! The kernel lets go of it when its holder ends, however that happens. Agents in containers are held by it if they
//! share the directory, as the shipped manifests have them do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::errors;
use crate::export::spool;

/// Where the lock is, beside the default control socket.
pub const PATH: &str = "/run/apiward/agent.lock";
/// Digits of a process id, and more than that.
const PID_BYTES_MAX: u64 = 32;

/// Held as long as the agent runs.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

/// Why the agent may not run.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another agent runs on this host, {holder}: stop it first, or ask it with `apiward status` [{id}]",
        id = errors::ANOTHER_AGENT
    )]
    Held { holder: String },
    #[error(
        "whether another agent runs on this host cannot be told, because {path} cannot be opened ({source}): make its \
         directory writable for root [{id}]",
        id = errors::ANOTHER_AGENT
    )]
    Io { path: PathBuf, source: io::Error },
}

impl HostLock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            spool::make_private(parent).map_err(failed)?;
        }
        let mut file = spool::private_file(path).map_err(failed)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    holder: holder(&mut file),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Who holds it is for people: the lock holds without.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(HostLock { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(PID_BYTES_MAX).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        // It has the lock and has not written yet.
        Err(_) => "which has just started".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("apiward/agent.lock");
        let first = HostLock::take(&path).unwrap();
        let error = HostLock::take(&path).unwrap_err().to_string();
        let own = format!("another agent runs on this host, process {}:", std::process::id());
        assert!(error.starts_with(&own), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        HostLock::take(&path).unwrap();
    }

    #[test]
    fn what_is_left_of_an_older_agent_holds_nobody_up_and_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        fs::write(&path, "123456789 and something longer than any process id").unwrap();
        let _held = HostLock::take(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
    }
}
