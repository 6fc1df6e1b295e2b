//! `apiward release`: the way out. Within a second nothing of ours is attached or kept, whether an agent runs or not,
//! and whether it answers or not.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::io::{FdFlags, fcntl_setfd};

use super::client::{self, Agent, Problem};
use super::{AgentArgs, Output, print};
use crate::config::{self, Config, Overrides};
use crate::errors;
use crate::export::aside;
use crate::kernel::pins::{self, Unpinned};
use crate::kernel::{links, probes};
use crate::run::lock;

/// How long a running agent may take before it is gone around.
const AGENT_TIMEOUT: Duration = Duration::from_millis(700);
/// How long the kernel may take to let go of what nobody holds any more.
const GONE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is asked.
const GONE_EVERY: Duration = Duration::from_millis(5);

/// Detach everything, at once, with or without a running agent.
#[derive(clap::Args)]
#[command(after_help = "\
Every program of ours is detached and every pin below `pins` is removed. A running agent goes on to answer, and does \
nothing else until it is restarted; then it does what its configuration says. To stop nothing more and go on seeing \
everything, `apiward mode observe` is enough. Exit codes: 0 nothing is left · 1 something is, and is named · 2 the \
command line or the configuration is wrong.")]
pub struct Args {
    /// Why, for the audit event.
    #[arg(long)]
    reason: Option<String>,
    /// Only holds what it is given until its input ends.
    #[arg(long, hide = true)]
    hold: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// What was done.
struct Done {
    /// For people.
    agent: String,
    links: usize,
    /// When nothing was stopped any more, and when nothing was left.
    stopped: Duration,
    took: Duration,
    /// Our programs that are still loaded.
    left: Vec<String>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    if args.hold {
        std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
        return Ok(ExitCode::SUCCESS);
    }
    client::block_on(async {
        let began = Instant::now();
        let overrides = Overrides::default();
        let (pins, kept_in) = match config::load(Some(&args.agent.config), &overrides) {
            Ok(config) => (config.pins, config.spool.dir),
            // The way out does not depend on a file that can be read.
            Err(problems) => {
                eprintln!("{problems}");
                eprintln!("apiward: looking in {} instead", config::PINS_DEFAULT);
                let default = Config::default();
                (default.pins, default.spool.dir)
            }
        };
        let agent = tokio::time::timeout(AGENT_TIMEOUT, ask(&args));
        let (agent, told) = match agent.await {
            Ok(Ok(message)) => (format!("the agent: {message}"), true),
            Ok(Err(Problem::Agent(why))) => (absent(&why), false),
            Ok(Err(Problem::Config(_))) => (absent("its socket is not known"), false),
            Err(_) => (absent("it does not answer in time"), false),
        };
        // Also what another configuration has kept, and what an agent holds that does not answer.
        pins::end_leases();
        let unseen = |error: std::io::Error| {
            Problem::Agent(format!(
                "{agent}; what is attached on this host cannot be seen ({error}), so nothing was taken off here: run this with \
                 sudo [{}]",
                errors::NEEDS_ROOT
            ))
        };
        let detached = links::detach_all().map_err(unseen)?;
        let stopped = began.elapsed();
        let Unpinned { links: removed, open } =
            pins::remove_all(&pins).map_err(|error| Problem::Agent(error.to_string()))?;
        let (single, open): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|link| links::is_of_one_probe(link.as_fd()));
        leave_to_another(single);
        // The kernel waits for these, too, but for many at once.
        probes::drop_together(open);
        if !told && detached + removed > 0 {
            let reason = args.reason.as_deref().unwrap_or("no reason given");
            if let Err(error) = aside::note(&kept_in, "kept", "released", reason) {
                eprintln!(
                    "apiward: no audit event will tell of this ({}: {error})",
                    kept_in.display()
                );
            }
        }
        let mut left = links::loaded().map_err(unseen)?;
        while !left.is_empty() && began.elapsed() < GONE_TIMEOUT {
            tokio::time::sleep(GONE_EVERY).await;
            left = links::loaded().map_err(unseen)?;
        }
        let done = Done {
            agent,
            links: detached + removed,
            stopped,
            took: began.elapsed(),
            left,
        };
        match args.agent.output {
            Output::Json => print::out(&format!("{:#}\n", done.json()))?,
            Output::Table => print::out(&done.page())?,
        }
        Ok(match done.left.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

/// Closes links of single probes in a process of their own: their programs are off at once, but the kernel waits at each
/// place for a moment, and a process that has begun to wait cannot end. Nobody is to wait for that.
fn leave_to_another(open: Vec<OwnedFd>) {
    if open.is_empty() {
        return;
    }
    let inherited = open
        .iter()
        .all(|link| fcntl_setfd(link, FdFlags::empty()).is_ok());
    let holder = inherited.then(|| {
        Command::new("/proc/self/exe")
            .args(["release", "--hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    // Here first: whoever closes a link last is the one who waits. Without another process that is this one.
    probes::drop_together(open);
    if let Some(Ok(mut holder)) = holder {
        drop(holder.stdin.take());
    }
}

async fn ask(args: &Args) -> Result<String, Problem> {
    let mut agent = Agent::connect(&args.agent).await?;
    let reason = args.reason.as_deref().unwrap_or("no reason given");
    let result = agent.release(reason).await?;
    Ok(result.message)
}

/// No agent has answered: why, and whether one is there.
fn absent(why: &str) -> String {
    match lock::HostLock::take(std::path::Path::new(lock::PATH)) {
        Ok(_) => "no agent runs".into(),
        Err(error) => format!("an agent did not release by itself ({why}; {error})"),
    }
}

impl Done {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "released": self.left.is_empty(),
            "agent": self.agent,
            "links": self.links,
            "stopped_ms": self.stopped.as_millis(),
            "took_ms": self.took.as_millis(),
            "left": self.left,
        })
    }

    fn page(&self) -> String {
        let mut page = format!("{}\n", self.agent);
        if self.links > 0 {
            page.push_str(&format!(
                "{} taken off here\n",
                print::plural(self.links as u64, "program")
            ));
        }
        match self.left.is_empty() {
            true => page.push_str(&format!(
                "nothing is stopped any more (after {} ms), and nothing of ours is attached or kept (after {} ms)\n",
                self.stopped.as_millis(),
                self.took.as_millis()
            )),
            false => page.push_str(&format!(
                "an agent still holds {}: they stop nothing, and end with it; kill it [{}]\n",
                self.left.join(", "),
                errors::AGENT_HOLDS_ON
            )),
        }
        page
    }
}
