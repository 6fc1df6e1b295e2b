//! The real agent: configured, started, asked, ended, and what has to be true of every end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::events::Events;
use super::process::Start;
use super::world::{binary, program};
use super::{Place, Process, Result, World, code, until, within};

/// Reads how many programs are attached to a cgroup, by bpf(2).
const ATTACHED: &str = include_str!("../assets/attached.py");

/// What an agent says that is not alone.
pub const ANOTHER_AGENT: &str = "another agent runs on this host";
/// How long another agent may take to end.
const OTHERS_LIMIT: Duration = Duration::from_secs(60);

/// A running agent. Every test ends it by [`Agent::end`]; dropping it is for failures.
#[derive(Debug)]
pub struct Agent<'a> {
    world: &'a World,
    config: PathBuf,
    control: PathBuf,
    pub process: Process,
    pub events: Events,
}

/// The configuration that tests start from: everything in this world, nothing beyond.
pub fn config(world: &World) -> Value {
    // JSON is YAML.
    json!({
        "mode": "observe",
        "policies": [],
        "export": [{ "jsonl": { "path": world.path("events.jsonl") } }],
        "spool": { "dir": world.path("spool") },
        // Twice the default: these binaries are not optimised, and take many times as long.
        "capture": { "scope": { "cgroup": [&world.inside.path] }, "ring_bytes": 16 << 20 },
        "control": world.path("control.sock"),
        "metrics": "off",
    })
}

impl<'a> Agent<'a> {
    /// Starts it with the tests' configuration, changed by `change`, and waits until it works.
    pub fn start(world: &'a World, change: impl FnOnce(&mut Value)) -> Result<Agent<'a>> {
        let mut config = config(world);
        change(&mut config);
        Agent::start_with(world, &config)
    }

    /// Starts it with this configuration and waits until it works.
    pub fn start_with(world: &'a World, config: &Value) -> Result<Agent<'a>> {
        // One agent runs on a host: somebody else's is waited for, for a while.
        within(OTHERS_LIMIT, "no other agent runs on this host", || {
            let mut agent = Agent::launch(world, config)?;
            match agent.wait_ready() {
                Ok(()) => Ok(Some(Ok(agent))),
                Err(error) if error.to_string().contains(ANOTHER_AGENT) => Err(error),
                Err(error) => Ok(Some(Err(error))),
            }
        })?
    }

    /// Starts it and does not wait.
    pub fn launch(world: &'a World, config: &Value) -> Result<Agent<'a>> {
        Agent::launch_through(world, config, &[])
    }

    /// As [`Agent::launch`], through programs that become it: with other limits, another environment.
    pub fn launch_through(world: &'a World, config: &Value, prefix: &[&str]) -> Result<Agent<'a>> {
        let file = world.write("agent.yaml", format!("{config:#}\n"))?;
        let control = PathBuf::from(
            config["control"]
                .as_str()
                .context("a control socket is configured")?,
        );
        let process = Start::new(world, Place::Ours, binary("apiward")?)
            .name("agent")
            .through(prefix.iter().copied())
            .args(["run", "--config"])
            .arg(&file)
            .spawn()?;
        Ok(Agent {
            world,
            config: file,
            control,
            process,
            events: Events::new(world.path("events.jsonl")),
        })
    }

    /// Waits until it answers that it works.
    pub fn wait_ready(&mut self) -> Result {
        let Agent {
            world,
            config,
            control,
            process,
            ..
        } = self;
        process.wait_until("the agent answers", || {
            Ok(control.exists()
                && Start::new(world, Place::Ours, binary("apiward")?)
                    .name("status")
                    .args(["status", "--config"])
                    .arg(&*config)
                    .run()
                    .is_ok())
        })
    }

    /// Runs one of its other commands, which find it by the configuration.
    pub fn command<'b>(&self, args: &[&'b str]) -> Result<Start<'a>> {
        Ok(Start::new(self.world, Place::Ours, binary("apiward")?)
            .name(format!("apiward-{}", args.first().unwrap_or(&"")))
            .args(args.iter().map(std::ffi::OsString::from))
            .arg("--config")
            .arg(&self.config))
    }

    /// How it says things stand.
    pub fn status(&self) -> Result<Value> {
        let text = self.command(&["status", "--output", "json"])?.run()?;
        serde_json::from_str(&text).with_context(|| format!("the status is no JSON: {text}"))
    }

    /// Waits until the status satisfies.
    pub fn wait_status(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        until(what, || {
            last = self.status()?;
            Ok(holds(&last))
        })
        .with_context(|| format!("the status is {last:#}"))?;
        Ok(last)
    }

    /// Waits until the library behind this file is probed.
    pub fn wait_library(&self, inode: u64) -> Result<Value> {
        let status = self.wait_status(&format!("the library with inode {inode} is attached"), |status| {
            library(status, inode).is_some_and(|library| library["attached"] == true)
        })?;
        Ok(library(&status, inode).cloned().unwrap_or_default())
    }

    /// Nothing was lost, by its own account. Counters that do not say loss of what was asked for are not meant.
    pub fn check_no_losses(&self) -> Result {
        let status = self.status()?;
        let losses: Vec<String> = status["losses"]
            .as_object()
            .context("the status has losses")?
            .iter()
            .filter(|(_, count)| count.as_u64() != Some(0))
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        ensure!(
            losses.is_empty(),
            "the agent counts losses: {}",
            losses.join(", ")
        );
        Ok(())
    }

    /// Has it read its policies again.
    pub fn reload(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// Ends it as a service manager does, and checks what has to be true of every end. Returns all of its events.
    pub fn end(mut self) -> Result<Events> {
        let status = self.process.end()?;
        ensure!(
            status.success(),
            "the agent did not end well ({status}){}",
            self.process.last_words()
        );
        self.check_left_behind()?;
        self.events.read()?;
        Ok(self.events)
    }

    /// Ends it without a chance to prepare. The kernel has to take everything away.
    pub fn kill(mut self) -> Result<Events> {
        self.process.kill()?;
        self.check_attached()?;
        self.events.read()?;
        Ok(self.events)
    }

    fn check_left_behind(&self) -> Result {
        let log = self.process.output()?;
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            bail!("the agent panicked: {line}");
        }
        ensure!(!self.control.exists(), "the control socket is still there");
        self.check_attached()
    }

    fn check_attached(&self) -> Result {
        let script = self.world.write("attached.py", ATTACHED)?;
        until("no program is attached to the scope's cgroup", || {
            let text = Start::new(self.world, Place::Ours, program("python3")?)
                .name("attached")
                .arg(&script)
                .arg(&self.world.inside.path)
                .run()?;
            Ok(text.trim() == "0")
        })?;
        until("no breakpoint is left in a process that goes on", || {
            code::check_whole(self.world)?;
            Ok(true)
        })
    }
}

fn library(status: &Value, inode: u64) -> Option<&Value> {
    status["libraries"]
        .as_array()?
        .iter()
        .find(|library| library["inode"] == inode)
}
