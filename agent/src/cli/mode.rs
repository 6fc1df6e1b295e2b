//! `apiward mode observe|enforce`: switches the running agent, and says what that changes and how to undo it.
//!
//! Going back to observing has to work at three in the morning: one command, no reason needed. Enforcing wants a
//! reason, which goes into the audit event with who asked.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use apiward_proto::{json, v1};
use clap::ValueEnum;

use super::client::{self, Agent, Problem};
use super::print::{self, Paper, Style};
use super::watch::line::audit_words;
use super::{AgentArgs, CONFIG_DEFAULT, Output};
use crate::config::{self, Overrides};
use crate::export::aside;
use crate::export::command::Term;
use crate::kernel::pins::{self, Kept};
use crate::yaml;

/// Switch between observing and enforcing.
#[derive(clap::Args)]
#[command(after_help = "\
The switch holds until the agent restarts; `mode` in the configuration says what it starts with. A policy enforces \
only if its own `mode` says so too. Exit codes: 0 switched · 1 refused, or no agent answers · 2 the command line or \
the configuration is wrong.")]
pub struct Args {
    /// What the agent is to do.
    mode: Wanted,
    /// Why, for the audit event. Needed to enforce.
    #[arg(long)]
    reason: Option<String>,
    /// Enforce for this long (as `15m`), then go back to observing unless it is confirmed.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "confirm")]
    span: Option<Duration>,
    /// Confirm the time that runs: enforce for good.
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// The mode that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// Report what policies say, stop nothing.
    Observe,
    /// Stop what policies deny.
    Enforce,
}

fn duration(text: &str) -> Result<Duration, String> {
    yaml::parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write it as `90s`, `15m` or `2h`".to_owned())
}

impl Args {
    /// What is missing or too much; the command line cannot say it by itself.
    fn wrong(&self) -> Option<&'static str> {
        match self.mode {
            Wanted::Observe if self.span.is_some() || self.confirm => {
                Some("`--for` and `--confirm` belong to `apiward mode enforce`")
            }
            Wanted::Enforce if self.reason.is_none() && !self.confirm => {
                Some("enforcing wants a reason, for the audit: add --reason REASON")
            }
            _ => None,
        }
    }

    fn term(&self) -> Term {
        match self.span {
            _ if self.confirm => Term::Confirm,
            Some(span) => Term::For(span),
            None => Term::ForGood,
        }
    }
}

impl Wanted {
    fn as_str(self) -> &'static str {
        match self {
            Wanted::Observe => "observe",
            Wanted::Enforce => "enforce",
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    client::block_on(async {
        if let Some(wrong) = args.wrong() {
            eprintln!("apiward: {wrong}");
            return Ok(ExitCode::from(2));
        }
        let mut agent = match Agent::connect(&args.agent).await {
            Err(Problem::Agent(why)) if args.mode == Wanted::Observe => return alone(&args, why),
            connected => connected?,
        };
        let reason = args.reason.as_deref().unwrap_or(match args.confirm {
            true => "confirmed",
            false => "no reason given",
        });
        let result = agent.set_mode(args.mode.as_str(), args.term(), reason).await?;
        if !result.accepted {
            return Err(Problem::Agent(format!("the mode was not changed: {}", result.message)).into());
        }
        let change = Change {
            mode: args.mode,
            span: args.span,
            starts_with: agent.config.mode.as_str(),
            undo: undo(&result, &args),
            result,
        };
        // What it means here. It is done already: not knowing is no failure.
        let status = agent.status().await.ok();
        match args.agent.output {
            Output::Json => print::out(&format!("{:#}\n", change.json()))?,
            Output::Table => {
                let paper = change.page(status.as_ref(), print::Color::Auto.is_on());
                print::out(paper.as_str())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Goes back to observing where no agent answers: what one has left in force is taken out of it.
fn alone(args: &Args, why: String) -> Result<ExitCode> {
    let config = config::load(Some(&args.agent.config), &Overrides::default()).map_err(Problem::Config)?;
    let in_force: Vec<Kept> = pins::all(&config.pins)
        .into_iter()
        .filter(Kept::is_in_force)
        .collect();
    if in_force.is_empty() {
        return Err(Problem::Agent(why).into());
    }
    for kept in &in_force {
        kept.put_out_of_force()
            .map_err(|error| Problem::Agent(format!("what is kept cannot be changed: {error}")))?;
    }
    let reason = args.reason.as_deref().unwrap_or("no reason given");
    if let Err(error) = aside::note(&config.spool.dir, "enforce", "observe", reason) {
        eprintln!(
            "apiward: no audit event will tell of this ({}: {error})",
            config.spool.dir.display()
        );
    }
    match args.agent.output {
        Output::Json => {
            let done = serde_json::json!({
                "mode": "observe",
                "agent": false,
                "after_restart": config.mode.as_str(),
            });
            print::out(&format!("{done:#}\n"))?;
        }
        Output::Table => print::out(&format!(
            "no agent answers; what it had left in force is out of force now\n\
             nothing more is stopped; what was cut already stays so: `apiward release` lets go of that too\n\
             an agent that starts does what its configuration says: `mode: {}`\n",
            config.mode.as_str()
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A change that was made.
struct Change {
    mode: Wanted,
    /// `None`: for good.
    span: Option<Duration>,
    /// The mode in the configuration.
    starts_with: &'static str,
    /// The command that goes back; `None` if nothing changed.
    undo: Option<String>,
    result: v1::ControlResult,
}

fn audit(result: &v1::ControlResult) -> Option<&v1::Audit> {
    match result.audit.as_ref()?.kind.as_ref()? {
        v1::event::Kind::Audit(audit) => Some(audit),
        _ => None,
    }
}

fn undo(result: &v1::ControlResult, args: &Args) -> Option<String> {
    let old = audit(result)?.old_digest.as_str();
    if old == args.mode.as_str() {
        return None;
    }
    let mut command = format!("apiward mode {old}");
    if old == "enforce" {
        command.push_str(" --reason REASON");
    }
    if args.agent.config.as_os_str() != CONFIG_DEFAULT {
        command.push_str(&format!(" --config {}", args.agent.config.display()));
    }
    if let Some(control) = &args.agent.control {
        command.push_str(&format!(" --control {}", control.display()));
    }
    Some(command)
}

impl Change {
    fn json(&self) -> serde_json::Value {
        let event = self.result.audit.as_ref().map(|event| {
            let mut text = Vec::new();
            json::value(event, &mut text);
            serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default()
        });
        serde_json::json!({
            "mode": self.mode.as_str(),
            "was": audit(&self.result).map(|audit| &audit.old_digest),
            "after_restart": self.starts_with,
            "for_s": self.span.map(|span| span.as_secs_f64()),
            "undo": self.undo,
            "audit": event,
        })
    }

    fn page(&self, status: Option<&v1::Status>, is_colored: bool) -> Paper {
        let mut paper = Paper::new(is_colored);
        let mode = self.mode.as_str();
        match (&self.undo, audit(&self.result)) {
            (Some(_), Some(audit)) => {
                paper.styled(Style::Bold, &format!("the mode is {mode}"));
                paper.put(&format!(", it was {}", audit.old_digest)).end();
            }
            _ => {
                paper.styled(Style::Bold, &format!("the mode is {mode}"));
                paper.line(", as it was");
            }
        }
        if let Some(status) = status {
            effect(&mut paper, self.mode, status);
        }
        if let Some(span) = self.span {
            let span = yaml::show_duration(span);
            paper.line(&format!(
                "for {span}, then it observes again; to go on: apiward mode enforce --confirm"
            ));
        }
        if self.starts_with != mode {
            paper.line(&format!(
                "until the agent restarts: its configuration says `mode: {}`",
                self.starts_with
            ));
        }
        if let (Some(event), Some(audit)) = (&self.result.audit, audit(&self.result)) {
            paper
                .put("recorded as ")
                .styled(Style::Dim, &json::id_text(&event.id));
            paper.put(": ").line(&audit_words(audit));
        }
        if let Some(undo) = &self.undo {
            paper.put("to undo: ").styled(Style::Bold, undo).end();
        }
        paper
    }
}

/// What the mode means for the policies in force.
fn effect(paper: &mut Paper, mode: Wanted, status: &v1::Status) {
    if mode == Wanted::Observe {
        paper.line("nothing more is stopped; what was cut already stays so");
        return;
    }
    let (enforcing, observing): (Vec<_>, Vec<_>) = status
        .policies
        .iter()
        .partition(|policy| policy.mode == "enforce");
    let names = |policies: &[&v1::PolicyStatus]| {
        let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
        names.join(", ")
    };
    if enforcing.is_empty() {
        paper.styled(
            Style::Warn,
            "no policy enforces: each says `mode: observe`, or there is none",
        );
        paper.end();
    } else {
        paper.line(&format!("enforced: {}", names(&enforcing)));
        if !observing.is_empty() {
            paper.line(&format!("their own mode is observe: {}", names(&observing)));
        }
    }
    let guarantees: Vec<String> = status
        .guarantees
        .iter()
        .map(|(name, word)| format!("{name} {word}"))
        .collect();
    paper.line(&format!("denials here are: {}", guarantees.join(", ")));
    for policy in enforcing {
        for unmet in &policy.unmet {
            paper
                .styled(Style::Warn, &format!("policy {}: {unmet}", policy.name))
                .end();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(std::iter::once("mode").chain(line.split_whitespace())).map(|line| line.args)
    }

    fn result(old: &str, new: &str) -> v1::ControlResult {
        v1::ControlResult {
            accepted: true,
            audit: Some(v1::Event {
                id: vec![0xab; 16],
                kind: Some(v1::event::Kind::Audit(v1::Audit {
                    what: "mode".into(),
                    accepted: true,
                    who: "uid=0".into(),
                    old_digest: old.into(),
                    new_digest: new.into(),
                    reason: "r".into(),
                })),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn observing_needs_no_reason_and_enforcing_does() {
        for (line, is_right) in [
            ("observe", true),
            ("enforce", false),
            ("enforce --reason x", true),
            ("enforce --for 15m", false),
            ("enforce --for 15m --reason x", true),
            ("enforce --confirm", true),
            ("observe --confirm", false),
            ("observe --for 15m", false),
        ] {
            let args = args(line).expect("parsed");
            assert_eq!(args.wrong().is_none(), is_right, "{line}");
        }
        for line in [
            "off",
            "enforce --for 15 --reason x",
            "enforce --for 15m --confirm",
        ] {
            assert!(args(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_change_can_be_undone_with_one_command() {
        for (line, old, undo) in [
            ("enforce --reason x", "observe", Some("apiward mode observe")),
            (
                "observe --config /a/b.yaml",
                "enforce",
                Some("apiward mode enforce --reason REASON --config /a/b.yaml"),
            ),
            ("observe", "observe", None),
        ] {
            let args = args(line).expect("right");
            assert_eq!(
                super::undo(&result(old, args.mode.as_str()), &args).as_deref(),
                undo
            );
        }
    }

    #[test]
    fn what_changed_is_told() {
        let args = args("enforce --reason r").expect("right");
        let result = result("observe", "enforce");
        let change = Change {
            mode: args.mode,
            span: None,
            starts_with: "observe",
            undo: undo(&result, &args),
            result,
        };
        let policy = |name: &str, mode: &str| v1::PolicyStatus {
            name: name.into(),
            mode: mode.into(),
            ..Default::default()
        };
        let mut status = v1::Status {
            policies: vec![policy("records", "enforce"), policy("trial", "observe")],
            guarantees: [("inbound-tls".into(), "contained".into())].into(),
            ..Default::default()
        };
        assert_eq!(
            change.page(Some(&status), false).as_str(),
            "the mode is enforce, it was observe\n\
             enforced: records\n\
             their own mode is observe: trial\n\
             denials here are: inbound-tls contained\n\
             until the agent restarts: its configuration says `mode: observe`\n\
             recorded as abababababababababababababababab: mode observe → enforce by uid=0: r\n\
             to undo: apiward mode observe\n"
        );
        status.policies.clear();
        assert!(
            change
                .page(Some(&status), false)
                .as_str()
                .contains("no policy enforces")
        );
        assert_eq!(change.json()["audit"]["audit"]["reason"], "r");
    }
}
