//! An agent of the command's own, where none runs: this binary, in a scope that holds nothing but the canaries. It ends
//! with the command, and nothing is left of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tls::Scratch;
use crate::kernel::cgroup;

/// How long it may take to load its programs, also where the machine is emulated, and to detach them.
const START_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

/// The agent, its configuration and its scope.
#[derive(Debug)]
pub struct Alone {
    child: Child,
    scope: PathBuf,
    scratch: Scratch,
}

impl Alone {
    /// Starts it and waits until it answers. The error says why it does not.
    pub fn start() -> Result<Alone, String> {
        let root = cgroup::root().map_err(|error| error.to_string())?;
        let scratch = Scratch::new(&std::env::temp_dir())?;
        let scope = root.join(format!("apiward-prove-{}", std::process::id()));
        fs::create_dir(&scope)
            .map_err(|error| format!("the cgroup {} cannot be made: {error}", scope.display()))?;
        let started = Alone::launch(&scratch, &scope);
        let child = match started {
            Ok(child) => child,
            Err(why) => {
                let _ = fs::remove_dir(&scope);
                return Err(why);
            }
        };
        let mut alone = Alone {
            child,
            scope,
            scratch,
        };
        alone.wait_ready()?;
        Ok(alone)
    }

    fn launch(scratch: &Scratch, scope: &Path) -> Result<Child, String> {
        // JSON is YAML.
        let config = serde_json::json!({
            "mode": "enforce",
            "policies": [],
            "spool": { "dir": scratch.path.join("state") },
            "capture": { "scope": { "cgroup": [scope] } },
            "control": scratch.path.join("control.sock"),
            // What another agent has kept in force is none of this one's business: it would take it over, and let go of it.
            "pins": scratch.path.join("pins"),
            "metrics": "off",
        });
        let failed = |error: std::io::Error| format!("an agent cannot be started: {error}");
        fs::write(scratch.path.join("agent.yaml"), config.to_string()).map_err(failed)?;
        let log = File::create(scratch.path.join("log")).map_err(failed)?;
        // By way of a process that ends with this one, also where this one is killed.
        Command::new("/proc/self/exe")
            .args(["canary", "exec", "--", "/proc/self/exe", "run", "--config"])
            .arg(scratch.path.join("agent.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if std::os::unix::net::UnixStream::connect(self.control()).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(self.scratch.path.join("log")).unwrap_or_default();
                let last = log.lines().rfind(|line| !line.trim().is_empty());
                let why = last.map_or_else(|| format!("it ended with {status}"), str::to_owned);
                return Err(format!(
                    "no agent runs, and none can be started for the canaries: {why}"
                ));
            }
            if Instant::now() > deadline {
                return Err("no agent runs, and the one for the canaries does not start in time".to_owned());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.scratch.path.join("agent.yaml")
    }

    /// Its socket.
    pub fn control(&self) -> PathBuf {
        self.scratch.path.join("control.sock")
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), pid) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(LOOK);
        }
        let deadline = Instant::now() + END_LIMIT;
        while fs::remove_dir(&self.scope).is_err() && self.scope.exists() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}
