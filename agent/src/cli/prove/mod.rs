//! `apiward prove`: measures, with canaries, whether what is promised of denials holds on this host.
//!
//! Servers and clients in a cgroup of their own call one another through the hooks that guard everybody else's calls, and
//! what the far end was given decides. The agent that runs is asked to put the canaries' policy in force; where none runs,
//! one is started for as long as it takes. The agent sends canaries by itself by starting this command.

use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use apiward_proto::v1;
use serde_json::{Value, json};

use self::alone::Alone;
use self::measure::{Course, not_measured};
use self::peers::Tools;
use self::session::Session;
use self::tls::OpenSsl;
use super::client::{Agent, Problem};
use super::print::{self, Color, Paper, Style};
use super::{AgentArgs, Output};
use crate::config::{self, Overrides};

mod alone;
mod measure;
mod peers;
mod session;
mod tls;

/// Measure, with canaries, whether what is promised of denials holds on this host.
#[derive(clap::Args)]
#[command(after_help = "\
Canary servers and clients, in a cgroup of their own below the agent's scope, make forbidden and allowed calls of one another: \
inbound and outbound, in clear and in TLS (with the host's `openssl`). A line says what was promised, and what the far end's own \
log shows. While it runs, the canaries' policy is in force beside the others, also where the agent only observes; nobody else's \
calls are touched. Without a running agent one is started in a scope of its own, and ended again. It needs root, and takes some \
seconds. Exit codes: 0 all is as promised · 1 a canary failed · 2 it, or a quadrant of it, could not be measured.")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArgs,
    /// Forbidden calls in each quadrant.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    calls: u16,
    /// Why, for the audit event.
    #[arg(long, default_value = "no reason given")]
    reason: String,
}

/// Name, whether inbound, whether in TLS.
const QUADRANTS: [(&str, bool, bool); 4] = [
    ("inbound-clear", true, false),
    ("outbound-clear", false, false),
    ("inbound-tls", true, true),
    ("outbound-tls", false, true),
];
/// How often an agent that has just been started is asked, and how long is waited in between.
const STATUS_ATTEMPTS_MAX: usize = 20;
const AGAIN: std::time::Duration = std::time::Duration::from_millis(250);
/// It could not be measured.
const NOT_MEASURED: u8 = 2;

/// What came out.
struct Report {
    canaries: Vec<v1::Canary>,
    /// The agent is the command's own.
    alone: bool,
    mode: String,
    cgroup: String,
    calls: u16,
    /// What the agent did not take in; empty: it knows.
    untold: String,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let report = match measure(&args) {
        Ok(report) => report,
        Err(why) => {
            match args.agent.output {
                Output::Json => print::out(&format!("{:#}\n", json!({ "error": why, "quadrants": [] })))?,
                Output::Table => {}
            }
            eprintln!("apiward: {why}");
            return Ok(ExitCode::from(NOT_MEASURED));
        }
    };
    match args.agent.output {
        Output::Json => print::out(&format!("{:#}\n", report.json()))?,
        Output::Table => print::out(report.page(Color::Auto.is_on()).as_str())?,
    }
    if !report.untold.is_empty() {
        // Also where nobody reads the report.
        eprintln!("apiward: the agent has not taken it in: {}", report.untold);
    }
    Ok(ExitCode::from(report.code()))
}

fn measure(args: &Args) -> Result<Report, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("canaries need root: they run in a cgroup of their own. Run this with sudo".to_owned());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        // What was started has to be ended: the flag is looked at between two calls.
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| error.to_string())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command cannot wait for the agent")
        .map_err(|error| format!("{error:#}"))?;
    let overrides = Overrides {
        control: args.agent.control.clone(),
        ..Overrides::default()
    };
    let config =
        config::load(Some(&args.agent.config), &overrides).map_err(|problems| problems.to_string())?;
    let alone = match UnixStream::connect(&config.control) {
        Ok(_) => None,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            say(args, "no agent runs: starting one for the canaries");
            Some(Alone::start()?)
        }
        Err(error) => return Err(format!("{}: {error}", config.control.display())),
    };
    let whom = AgentArgs {
        config: alone
            .as_ref()
            .map_or_else(|| args.agent.config.clone(), Alone::config),
        control: alone
            .as_ref()
            .map_or_else(|| args.agent.control.clone(), |alone| Some(alone.control())),
        output: args.agent.output,
    };
    let (agent, status) = runtime.block_on(ask(&whom, alone.is_some()))?;
    let mut session = Session::begin(&runtime, agent, &args.reason)?;
    let openssl = OpenSsl::find();
    let mut canaries = Vec::new();
    for (quadrant, inbound, is_tls) in QUADRANTS {
        say(args, &format!("{quadrant} …"));
        let tools = match (&openssl, is_tls) {
            (_, false) => Ok(Tools::Clear),
            (Ok(openssl), true) => Ok(Tools::Tls(openssl)),
            (Err(why), true) => Err(why.clone()),
        };
        let promise = session.promise(quadrant).cloned();
        let measured = tools.and_then(|tools| {
            Course {
                session: &mut session,
                tools,
                inbound,
                calls: args.calls.into(),
                stop: &stop,
            }
            .run()
        });
        canaries.push(match (measured, &promise) {
            (Ok(measured), Some(promise)) => measured.judged(quadrant, promise),
            (Ok(_), None) => not_measured(
                quadrant,
                None,
                "the agent promises nothing: is it of another version?".to_owned(),
            ),
            (Err(why), promise) => not_measured(quadrant, promise.as_ref(), why),
        });
    }
    let cgroup = session.cgroup.clone();
    let untold = match session.end(canaries.clone()) {
        Ok(result) if result.accepted => String::new(),
        Ok(result) => result.message,
        Err(why) => why,
    };
    Ok(Report {
        canaries,
        alone: alone.is_some(),
        mode: status.mode,
        cgroup,
        calls: args.calls,
        untold,
    })
}

/// Connects to the agent, and asks it how it is. One that has just been started may be slow to answer.
async fn ask(whom: &AgentArgs, is_new: bool) -> Result<(Agent, v1::Status), String> {
    let mut left = if is_new { STATUS_ATTEMPTS_MAX } else { 1 };
    loop {
        left -= 1;
        let asked = async {
            let mut agent = Agent::connect(whom).await?;
            let status = agent.status().await?;
            Ok((agent, status))
        };
        match asked.await {
            Ok((_, status)) if status.mode.is_empty() && left > 0 => {}
            Ok(answer) => return Ok(answer),
            Err(problem @ Problem::Config(_)) => return Err(problem.to_string()),
            Err(problem) if left == 0 => return Err(problem.to_string()),
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Progress, for whoever waits at a terminal.
fn say(args: &Args, text: &str) {
    if args.agent.output == Output::Table && std::io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

impl Report {
    fn code(&self) -> u8 {
        if self.canaries.iter().any(|canary| canary.failed) {
            1
        } else if self.canaries.iter().any(|canary| canary.measured.is_empty()) || !self.untold.is_empty() {
            NOT_MEASURED
        } else {
            0
        }
    }

    fn page(&self, is_colored: bool) -> Paper {
        let mut paper = Paper::new(is_colored);
        let whose = match (self.alone, self.mode.as_str()) {
            (true, _) => "no agent runs here: measured with one of the command's own".to_owned(),
            (false, "enforce") => "the agent enforces".to_owned(),
            (false, _) => "the agent observes: only the canaries were stopped".to_owned(),
        };
        paper.line(&format!(
            "{whose}; {} a quadrant, in {}",
            print::plural(self.calls.into(), "forbidden call"),
            self.cgroup
        ));
        for canary in &self.canaries {
            let (style, word) = match (canary.failed, canary.measured.as_str()) {
                (true, _) => (Style::Bad, "FAILED"),
                (false, "") => (Style::Warn, "–"),
                (false, _) => (Style::Good, "ok"),
            };
            paper
                .styled(style, word)
                .pad_to(8)
                .put(&canary.quadrant)
                .pad_to(24);
            if canary.measured.is_empty() {
                paper.line(&canary.reason);
                continue;
            }
            paper.styled(Style::Bold, &canary.measured);
            if canary.forbidden.len() > 1 {
                paper.put(&format!(" ({})", words(canary)));
            }
            paper.put(&format!(", promised {}", canary.promised));
            if canary.least != canary.promised {
                paper.put(&format!(" or {}", canary.least));
            }
            if canary.answered > 0 {
                paper.put(&format!(
                    "; {} of them after the whole answer, so quick was the application",
                    canary.answered
                ));
            }
            paper.put(&format!(
                "; {} allowed, {} failed",
                canary.allowed, canary.allowed_failed
            ));
            if canary.median_ns > 0 {
                paper.put(&format!(
                    "; the client knew after {}",
                    print::duration(canary.median_ns)
                ));
            }
            paper.end();
            if !canary.reason.is_empty() {
                paper.pad_to(24).styled(Style::Bad, &canary.reason).end();
            }
        }
        if !self.untold.is_empty() {
            paper.styled(
                Style::Warn,
                &format!("the agent has not taken it in: {}", self.untold),
            );
            paper.end();
        }
        paper
    }

    fn json(&self) -> Value {
        let quadrants: Vec<Value> = self.canaries.iter().map(canary_json).collect();
        json!({
            "agent": if self.alone { "own" } else { "running" },
            "mode": self.mode,
            "cgroup": self.cgroup,
            "quadrants": quadrants,
            "untold": self.untold,
            "code": self.code(),
        })
    }
}

fn words(canary: &v1::Canary) -> String {
    let words: Vec<String> = canary
        .forbidden
        .iter()
        .map(|(word, calls)| format!("{word} {calls}"))
        .collect();
    words.join(", ")
}

/// A quadrant for machines; `status` shows the same.
pub fn canary_json(canary: &v1::Canary) -> Value {
    json!({
        "quadrant": canary.quadrant,
        "promised": canary.promised,
        "least": canary.least,
        "measured": (!canary.measured.is_empty()).then_some(&canary.measured),
        "failed": canary.failed,
        "reason": canary.reason,
        "forbidden": canary.forbidden,
        "allowed": canary.allowed,
        "allowed_failed": canary.allowed_failed,
        "median_ns": (canary.median_ns > 0).then_some(canary.median_ns),
        "told": canary.told,
        "answered": canary.answered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(quadrant: &str, measured: &str, reason: &str, failed: bool) -> v1::Canary {
        v1::Canary {
            quadrant: quadrant.into(),
            promised: "prevented".into(),
            least: "prevented".into(),
            measured: measured.into(),
            reason: reason.into(),
            failed,
            forbidden: [("prevented".into(), 20)].into(),
            allowed: 21,
            median_ns: 400_000,
            ..Default::default()
        }
    }

    fn report(canaries: Vec<v1::Canary>) -> Report {
        Report {
            canaries,
            alone: false,
            mode: "observe".into(),
            cgroup: "/apiward-canary-1".into(),
            calls: 20,
            untold: String::new(),
        }
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        let good = || canary("inbound-clear", "prevented", "", false);
        let unknown = || canary("inbound-tls", "", "not measured: no `openssl`", false);
        let bad = || canary("outbound-clear", "cut", "weaker", true);
        assert_eq!(report(vec![good(), good()]).code(), 0);
        assert_eq!(report(vec![good(), unknown()]).code(), 2);
        assert_eq!(report(vec![unknown(), bad()]).code(), 1);
        let mut untold = report(vec![good()]);
        untold.untold = "the agent has ended".into();
        assert_eq!(untold.code(), 2);
    }

    #[test]
    fn every_line_says_what_was_measured() {
        let report = report(vec![
            canary("inbound-clear", "prevented", "", false),
            canary("outbound-clear", "cut", "at least prevented was promised", true),
            canary(
                "inbound-tls",
                "",
                "not measured: no `openssl` on this host",
                false,
            ),
        ]);
        let page = report.page(false);
        assert_eq!(
            page.as_str(),
            "the agent observes: only the canaries were stopped; 20 forbidden calls a quadrant, in /apiward-canary-1\n\
             ok      inbound-clear   prevented, promised prevented; 21 allowed, 0 failed; the client knew after 400 µs\n\
             FAILED  outbound-clear  cut, promised prevented; 21 allowed, 0 failed; the client knew after 400 µs\n\
             \x20                       at least prevented was promised\n\
             –       inbound-tls     not measured: no `openssl` on this host\n"
        );
        assert_eq!(report.json()["quadrants"][2]["measured"], Value::Null);
    }
}
