//! `cargo xtask run`: collector and agent on this host, and live calls on the screen until Ctrl-C.
//!
//! The agent observes unless told to enforce. What is started here ends here, in the order in which nothing is
//! lost (clients, agent, collector), and the end is checked: a clean exit of the agent, and no socket left behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::children::{self, GRACE, Interrupt, Process, Scratch, Start};
use crate::demo::Demo;
use crate::setup::Group;
use crate::{build, setup, sh};

/// How long a process of ours may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

const WHY_ROOT: &str = "the agent needs root: it loads programs into the kernel (CAP_BPF, CAP_PERFMON), withholds and resets \
     connections (CAP_NET_ADMIN), and looks into other users' processes (CAP_SYS_PTRACE). Run `sudo -E env \"PATH=$PATH\" cargo xtask run`";

#[derive(clap::Args, Default)]
pub struct Args {
    /// See and enforce only what runs in this cgroup2 directory.
    #[arg(long, value_name = "CGROUP")]
    pub scope: Option<PathBuf>,
    /// Run the agent with this configuration, and no collector but the one it names.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["demo", "enforce"])]
    pub config: Option<PathBuf>,
    /// Also start a small hospital on loopback, in a cgroup of its own, and see only that.
    #[arg(long, conflicts_with = "scope")]
    pub demo: bool,
    /// End after this time (20s, 5m), with a summary; else at Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Carry out denials. Without it the agent only says what it would have done.
    #[arg(long)]
    pub enforce: bool,
    /// Build in the development profile.
    #[arg(long)]
    pub debug: bool,
    /// Build nothing; take `apiward` and `apiward-collector` from this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "debug")]
    pub binaries: Option<PathBuf>,
    /// More arguments for `apiward run`.
    #[arg(last = true)]
    pub agent_args: Vec<String>,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    if !sh::is_root() {
        bail!(WHY_ROOT);
    }
    if args.enforce && !args.demo && args.scope.is_none() {
        bail!(
            "enforcing on the whole host would cut calls that you did not mean: give `--scope CGROUP`, or use `--demo`"
        );
    }
    let groups: &[Group] = if args.demo {
        &[Group::Build, Group::Demo]
    } else {
        &[Group::Build]
    };
    let built = match &args.binaries {
        Some(folder) => {
            setup::ensure_packages(&groups[1..])?;
            build::Built::in_folder(
                &folder
                    .canonicalize()
                    .with_context(|| folder.display().to_string())?,
            )
        }
        None => {
            let toolchain = setup::ensure(groups)?;
            let profile = if args.debug {
                build::Profile::Debug
            } else {
                build::Profile::Release
            };
            build::build(&toolchain, profile)?
        }
    };
    session(args, &built)
}

/// Everything from the first process to the last. Fields are dropped in this order on an error.
struct Session {
    demo: Option<Demo>,
    watch: Option<Process>,
    agent: Option<Process>,
    collector: Option<Process>,
    scratch: Scratch,
}

fn session(args: &Args, built: &build::Built) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let started = Instant::now();
    let scratch = Scratch::new("run")?;
    let mut session = Session {
        demo: None,
        watch: None,
        agent: None,
        collector: None,
        scratch,
    };
    let store = session.scratch.path.join("store");

    let mut scope = args.scope.clone();
    let mut policies = example_policies();
    if args.demo {
        let demo = Demo::new(&session.scratch.path)?;
        scope = Some(demo.scope().to_path_buf());
        policies = vec![demo.policy()];
        session.demo = Some(demo);
    }
    let (config, control) = match &args.config {
        Some(config) => (
            config
                .canonicalize()
                .with_context(|| config.display().to_string())?,
            None,
        ),
        None => {
            let endpoint = session.start_collector(&built.collector, &store, &interrupt)?;
            let (file, socket) = session.write_config(args, scope.as_deref(), &policies, &endpoint)?;
            (file, Some(socket))
        }
    };
    session.start_agent(
        &built.agent,
        &config,
        control.as_deref(),
        &args.agent_args,
        &interrupt,
    )?;
    sh::say(&format!(
        "collector and agent run after {}; live calls follow until {}",
        sh::seconds(started.elapsed()),
        match args.duration {
            Some(duration) => format!("{} are over, or Ctrl-C", sh::seconds(duration)),
            None => "Ctrl-C".to_owned(),
        }
    ));
    if let Some(demo) = &session.demo {
        sh::tell(demo.story());
    }
    session.watch = Some(Process::start(
        &Start {
            name: "apiward watch",
            log: None,
            cgroup: None,
            own_group: true,
        },
        &built.agent,
        &["watch", "--config", text(&config)?],
    )?);
    if let Some(demo) = &mut session.demo {
        demo.open(&interrupt)?;
    }
    let result = session.wait(args.duration, &interrupt);
    let closed = session.close(control.as_deref(), &built.collector, &store);
    result.and(closed)
}

impl Session {
    fn start_collector(&mut self, program: &Path, store: &Path, interrupt: &Interrupt) -> Result<String> {
        let port = children::free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let mut collector = Process::start(
            &Start {
                name: "apiward-collector",
                log: Some(&self.scratch.path.join("collector.log")),
                cgroup: None,
                own_group: true,
            },
            program,
            &[
                "run",
                "--listen",
                &listen,
                "--data",
                text(store)?,
                "--metrics",
                "off",
            ],
        )?;
        collector.wait_until(READY_LIMIT, interrupt, || children::accepts(port))?;
        self.collector = Some(collector);
        Ok(format!("http://{listen}"))
    }

    /// Writes the agent's configuration; returns it and the control socket's path.
    fn write_config(
        &self,
        args: &Args,
        scope: Option<&Path>,
        policies: &[PathBuf],
        endpoint: &str,
    ) -> Result<(PathBuf, PathBuf)> {
        let folder = &self.scratch.path;
        let control = folder.join("control.sock");
        // JSON is YAML, and quotes every path right.
        let mut config = json!({
            "mode": if args.enforce { "enforce" } else { "observe" },
            "policies": policies,
            "export": [{ "collector": { "endpoint": endpoint } }],
            "spool": { "dir": folder.join("spool") },
            "control": control,
            "metrics": "off",
        });
        if let Some(demo) = &self.demo {
            // Its invented names may be shown; a real host's earn that, or are in policies.
            config["redact"] = json!({ "literals": demo.names() });
        }
        if let Some(scope) = scope {
            config["capture"] = json!({ "scope": { "cgroup": [scope] } });
        }
        let file = folder.join("agent.yaml");
        std::fs::write(&file, format!("{config:#}\n"))?;
        Ok((file, control))
    }

    fn start_agent(
        &mut self,
        program: &Path,
        config: &Path,
        control: Option<&Path>,
        more: &[String],
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut arguments = vec!["run", "--config", text(config)?];
        arguments.extend(more.iter().map(String::as_str));
        let mut agent = Process::start(
            &Start {
                name: "apiward",
                log: Some(&self.scratch.path.join("agent.log")),
                cgroup: None,
                own_group: true,
            },
            program,
            &arguments,
        )?;
        let status = || {
            let mut command = std::process::Command::new(program);
            command.arg("status").arg("--config").arg(config);
            sh::succeeds_within(&mut command, Duration::from_secs(2))
        };
        agent.wait_until(READY_LIMIT, interrupt, || {
            control.is_none_or(Path::exists) && status()
        })?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Until Ctrl-C, the time is over, or a process of ours ends by itself.
    fn wait(&mut self, duration: Option<Duration>, interrupt: &Interrupt) -> Result<()> {
        let deadline = duration.map(|duration| Instant::now() + duration);
        while !interrupt.is_set() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            for process in [&mut self.agent, &mut self.collector, &mut self.watch]
                .into_iter()
                .flatten()
            {
                if let Some(status) = process.ended() {
                    bail!(
                        "{} ended by itself ({status}){}",
                        process.name,
                        process.last_words()
                    );
                }
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends everything in order, checks that nothing is left, and prints the summary. Goes on after an error: what
    /// was started has to end, and the stored events are worth showing.
    fn close(mut self, control: Option<&Path>, program: &Path, store: &Path) -> Result<()> {
        let mut problems = Vec::new();
        let mut note = |result: Result<()>| problems.extend(result.err().map(|error| format!("{error:#}")));
        if let Some(demo) = &mut self.demo {
            note(demo.close());
        }
        if let Some(mut watch) = self.watch.take() {
            note(watch.end(GRACE).map(drop));
        }
        sh::tell("");
        if let Some(mut agent) = self.agent.take() {
            note(end_agent(&mut agent, control));
        }
        if let Some(mut collector) = self.collector.take() {
            note(collector.end(GRACE).map(drop));
            let mut summary = std::process::Command::new(program);
            summary.args(["summary", "--data"]).arg(store);
            note(sh::run(&mut summary));
        }
        if let Some(mut demo) = self.demo.take() {
            note(demo.remove());
        }
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        sh::say("ended: nothing is attached, nothing is running");
        Ok(())
    }
}

/// The agent detaches as it ends; a bad end or a socket left behind says that it did not come so far.
fn end_agent(agent: &mut Process, control: Option<&Path>) -> Result<()> {
    let status = agent.end(GRACE)?;
    if !status.success() {
        bail!("the agent did not end well ({status}){}", agent.last_words());
    }
    if control.is_some_and(Path::exists) {
        bail!("the agent ended and left its control socket behind");
    }
    Ok(())
}

/// The shipped examples: in observe mode they show what policies do, and harm nobody.
fn example_policies() -> Vec<PathBuf> {
    let folder = sh::root().join("deploy/policies");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .filter(|path| !path.to_string_lossy().ends_with(".test.yaml"))
        .collect();
    files.sort();
    files
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// `20s`, `5m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let number_len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let number: u64 = number
        .parse()
        .map_err(|_| "write it like 20s, 5m or 1h".to_owned())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write it like 20s, 5m or 1h".to_owned()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in [
            "",
            "20",
            "s",
            "5d",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
