//! Processes of a test: started in their cgroup from the first instruction on, and ended with their owner.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Place, Result, World, wait};

/// How long a process may take to end when asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long a client may take for all that it does.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    world: &'a World,
    place: Place,
    name: String,
    /// Put before the program, as `ip netns exec NAME`.
    prefix: Vec<OsString>,
    program: PathBuf,
    args: Vec<OsString>,
}

impl<'a> Start<'a> {
    /// A program of the system or of ours, by its path.
    pub fn new(world: &'a World, place: Place, program: impl AsRef<Path>) -> Start<'a> {
        let program = program.as_ref().to_path_buf();
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Start {
            world,
            place,
            name,
            prefix: Vec::new(),
            program,
            args: Vec::new(),
        }
    }

    /// The name in messages and of the log file; of two with one name the later's log replaces the earlier's.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Runs it through another program, which becomes it by exec.
    pub fn through<A: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = A>) -> Self {
        self.prefix.extend(prefix.into_iter().map(Into::into));
        self
    }

    /// Starts it; it runs until its owner is dropped.
    pub fn spawn(self) -> Result<Process> {
        // The shell moves itself, then becomes the program: nothing of the program runs outside of the cgroup.
        // `setpriv` has the kernel end it with us.
        let log = self.world.path(&format!("{}.log", self.name));
        let out = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new("/bin/sh");
        command
            .args([
                "-c",
                "echo 0 > \"$1/cgroup.procs\" && shift && exec setpriv --pdeathsig KILL -- \"$@\"",
                "sh",
            ])
            .arg(self.world.cgroup(self.place))
            .args(&self.prefix)
            .arg(&self.program)
            .args(&self.args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = command
            .spawn()
            .with_context(|| format!("{} could not be started", self.name))?;
        Ok(Process {
            name: self.name,
            child,
            log,
            ended: None,
        })
    }

    /// Runs it to its end; an exit code other than 0 is an error. Returns what it printed.
    pub fn run(self) -> Result<String> {
        let mut process = self.spawn()?;
        let status = process.wait(RUN_LIMIT)?;
        if !status.success() {
            bail!("{} ended with {status}{}", process.name, process.last_words());
        }
        process.output()
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Its id; that of the program itself, because what starts it becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// What it has printed so far, errors included.
    pub fn output(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// The end of what it printed, to be put behind an error.
    pub fn last_words(&self) -> String {
        let text = self.output().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        match lines.len() {
            0 => String::new(),
            count => format!(", it said:\n{}", lines[count.saturating_sub(20)..].join("\n")),
        }
    }

    /// Waits until `ready`; a process that ends meanwhile is an error with its last words.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result {
        let deadline = Instant::now() + wait::patient(Duration::from_secs(30));
        while !ready()? {
            if let Some(status) = self.ended() {
                bail!("{} ended ({status}){}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{}: waited in vain: {what}{}", self.name, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(15));
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + wait::patient(limit);
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end in time{}", self.name, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&mut self, signal: Signal) {
        // Not reaped yet, so the number is still this process's.
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end and waits.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(GRACE)
    }

    /// Ends it as nothing can prepare for.
    pub fn kill(&mut self) -> Result {
        self.signal(Signal::KILL);
        self.wait(GRACE).map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() && self.end().is_err() {
            let _ = self.kill();
        }
    }
}
