//! Processes that were started here, and their end on every way out: normal, error, panic, Ctrl-C, and (by the
//! kernel, through a death signal) even if this program is killed.
//!
//! It must not know what the processes do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup, sh};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);
/// How long a process may take to end when asked to, before it is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// Lines of a failed process's log that an error shows.
const LOG_LINES_MAX: usize = 15;

/// A second Ctrl-C within this time is the first one, which reached us by two ways (the terminal and `timeout`, say).
const SAME_INTERRUPT: Duration = Duration::from_millis(500);

/// Set once somebody wants what runs to be ended without waiting. Signals are this process's, so the flag is too.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Set once somebody wants this program to end (Ctrl-C, SIGTERM, a closed terminal).
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on these signals set the flag instead of ending the program: what was started is put away first. A
    /// second Ctrl-C has it killed instead of asked, and is no way out either.
    pub fn install() -> Result<Interrupt> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let flag = Arc::new(AtomicBool::new(false));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let set = Arc::clone(&flag);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut first: Option<Instant> = None;
                for signal in signals.forever() {
                    let began = *first.get_or_insert_with(Instant::now);
                    set.store(true, Ordering::Relaxed);
                    if signal == SIGINT && began.elapsed() > SAME_INTERRUPT {
                        AT_ONCE.store(true, Ordering::Relaxed);
                    }
                }
            })?;
        Ok(Interrupt(flag))
    }

    /// Whether to end now.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running process with a name for people.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    child: Child,
    log: Option<PathBuf>,
    ended: Option<ExitStatus>,
}

/// How to start a process.
pub struct Start<'a> {
    pub name: &'a str,
    /// Standard output and error go to this file; without it, to the terminal.
    pub log: Option<&'a Path>,
    /// cgroup2 directory that the process is in from its first instruction on.
    pub cgroup: Option<&'a Path>,
    /// Keeps the terminal's Ctrl-C away, so that the order of endings is ours.
    pub own_group: bool,
}

impl Process {
    /// Starts `program` with `args`.
    pub fn start(how: &Start<'_>, program: &Path, args: &[&str]) -> Result<Process> {
        use std::os::unix::process::CommandExt;
        // The shell moves itself, then becomes the program: nothing of the program runs outside of the cgroup.
        // `setpriv` has the kernel end it with us.
        let mut command = Command::new("/bin/sh");
        let script = match how.cgroup {
            Some(_) => "echo 0 > \"$1/cgroup.procs\" && shift && exec setpriv --pdeathsig TERM -- \"$@\"",
            None => "shift; exec setpriv --pdeathsig TERM -- \"$@\"",
        };
        command
            .args(["-c", script, "sh"])
            .arg(how.cgroup.unwrap_or(Path::new("-")))
            .arg(program)
            .args(args);
        command.current_dir("/").stdin(std::process::Stdio::null());
        if let Some(log) = how.log {
            let file =
                std::fs::File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        if how.own_group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .with_context(|| format!("{} could not be started", how.name))?;
        Ok(Process {
            name: how.name.to_owned(),
            child,
            log: how.log.map(Path::to_path_buf),
            ended: None,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until `ready`, for at most `limit`; a process that ends meanwhile is an error with its last words.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        interrupt: &Interrupt,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.ended() {
                bail!("{} ended at once ({status}){}", self.name, self.last_words());
            }
            if interrupt.is_set() {
                bail!("interrupted");
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready within {}{}",
                    self.name,
                    sh::seconds(limit),
                    self.last_words()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The end of its log, to be put behind an error.
    pub fn last_words(&self) -> String {
        let text = self
            .log
            .as_ref()
            .and_then(|log| std::fs::read(log).ok())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        match lines.len() {
            0 => String::new(),
            count => format!(
                ", it said:\n{}",
                lines[count.saturating_sub(LOG_LINES_MAX)..].join("\n")
            ),
        }
    }

    /// Asks it to end and waits; after `limit`, or at a second Ctrl-C, it is killed, which is an error.
    pub fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::TERM);
        let deadline = Instant::now() + limit;
        let at_once = || AT_ONCE.load(Ordering::Relaxed);
        while Instant::now() < deadline && !at_once() {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
        if at_once() {
            bail!("{} was killed before it had ended", self.name);
        }
        bail!(
            "{} did not end within {} and was killed{}",
            self.name,
            sh::seconds(limit),
            self.last_words()
        );
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the number is still this process's.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none()
            && let Err(error) = self.end(GRACE)
        {
            sh::tell(&format!("{error:#}"));
        }
    }
}

/// A directory of our own under /tmp, 0700, removed when done: short, because a socket's path has 108 bytes.
#[derive(Debug)]
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    /// Makes it.
    pub fn new(name: &str) -> Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt;
        let prefix = format!("apiward-{name}-");
        for (left, _) in cgroup::stale(&std::env::temp_dir(), &prefix) {
            let _ = std::fs::remove_dir_all(left);
        }
        let path = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port is free on loopback")?;
    Ok(listener.local_addr()?.port())
}

/// Whether something listens there.
pub fn accepts(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}
