//! `apiward policy reload` and `undo`: another set of policies for the running agent, and the way back.
//!
//! Who has just made a mistake reads this under pressure: what is in force, how to stop the harm at once, how to go
//! back, each a line that can be pasted.

use std::process::ExitCode;

use anyhow::Result;
use apiward_proto::{json, v1};
use serde_json::json;

use super::{Output, put_json, put_problem};
use crate::cli::client::{self, Agent};
use crate::cli::print::{self, Color, Paper, Style};
use crate::cli::watch::line::audit_words;
use crate::cli::{AgentArgs, CONFIG_DEFAULT};
use crate::config::{self, Config};
use crate::policy::{PolicySet, check};
use crate::yaml::Problem;

/// Warnings shown after a change; `apiward policy check` has them all.
const WARNINGS_MAX: usize = 10;
/// Beyond it, looking for warnings takes too long for somebody who waits.
const RULES_MAX: usize = 500;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Why, for the audit event.
    #[arg(long, default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Reload,
    Undo,
}

pub(super) fn run(change: Change, args: &Args) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let result = match change {
            Change::Reload => agent.reload_policies(&args.reason).await?,
            Change::Undo => agent.undo_policies(&args.reason).await?,
        };
        match args.agent.output {
            Output::Json => put_json(&as_json(change, &result, &args.agent))?,
            Output::Table => {
                // What the files say now; the agent has just read the same.
                let warnings = match (change, result.accepted) {
                    (Change::Reload, true) => warnings(&agent.config),
                    _ => Vec::new(),
                };
                let paper = page(change, &result, &args.agent, &warnings, Color::Auto.is_on());
                print::out(paper.as_str())?;
            }
        }
        Ok(if result.accepted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

fn warnings(config: &Config) -> Vec<Problem> {
    let texts = config::policies::read(&config.policies, config.policies_explicit);
    let set = texts.ok().and_then(|texts| PolicySet::load(&texts).ok());
    match set {
        Some(set) if set.rules().len() <= RULES_MAX => check::warnings(&set, &config.trusted_proxies),
        _ => Vec::new(),
    }
}

fn audit(result: &v1::ControlResult) -> Option<&v1::Audit> {
    match result.audit.as_ref()?.kind.as_ref()? {
        v1::event::Kind::Audit(audit) => Some(audit),
        _ => None,
    }
}

/// The command to paste, with how this one found the agent.
fn command(words: &str, args: &AgentArgs) -> String {
    let mut command = format!("apiward {words}");
    if args.config.as_os_str() != CONFIG_DEFAULT {
        command.push_str(&format!(" --config {}", args.config.display()));
    }
    if let Some(control) = &args.control {
        command.push_str(&format!(" --control {}", control.display()));
    }
    command
}

/// It changed something, so there is something to go back to.
fn has_changed(result: &v1::ControlResult) -> bool {
    result.accepted && audit(result).is_some_and(|audit| audit.old_digest != audit.new_digest)
}

fn as_json(change: Change, result: &v1::ControlResult, args: &AgentArgs) -> serde_json::Value {
    let event = result.audit.as_ref().map(|event| {
        let mut text = Vec::new();
        json::value(event, &mut text);
        serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default()
    });
    // Of an undo it is the way forward again.
    let way = if change == Change::Undo { "redo" } else { "undo" };
    json!({
        "accepted": result.accepted,
        "message": result.message,
        way: has_changed(result).then(|| command("policy undo", args)),
        "audit": event,
    })
}

fn page(
    change: Change,
    result: &v1::ControlResult,
    args: &AgentArgs,
    warnings: &[Problem],
    is_colored: bool,
) -> Paper {
    let mut paper = Paper::new(is_colored);
    if !result.accepted {
        let words = match change {
            Change::Reload => "the new policies are not used, the old ones stay in force:",
            Change::Undo => "nothing was changed:",
        };
        paper.styled(Style::Bad, words).end();
    }
    for line in result.message.lines() {
        paper.line(line);
    }
    for warning in warnings.iter().take(WARNINGS_MAX) {
        put_problem(&mut paper, "warning", Style::Warn, warning);
    }
    if warnings.len() > WARNINGS_MAX {
        let more = warnings.len() - WARNINGS_MAX;
        paper.line(&format!("{more} more warnings: apiward policy check"));
    }
    if let (Some(event), Some(audit)) = (&result.audit, audit(result)) {
        paper
            .put("recorded as ")
            .styled(Style::Dim, &json::id_text(&event.id));
        paper.put(": ").line(&audit_words(audit));
    }
    if has_changed(result) {
        paper
            .put("should it stop what it must not: ")
            .styled(Style::Bold, &command("mode observe", args))
            .end();
        if change == Change::Undo {
            paper
                .styled(Style::Warn, "the files are as they were: ")
                .put("mend them before the next reload (SIGHUP) or restart, which reads them again")
                .end();
        }
        let way = match change {
            Change::Reload => "to undo: ",
            Change::Undo => "to bring back what was undone: ",
        };
        paper
            .put(way)
            .styled(Style::Bold, &command("policy undo", args))
            .end();
    }
    paper
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(accepted: bool, old: &str, new: &str, message: &str) -> v1::ControlResult {
        v1::ControlResult {
            accepted,
            message: message.into(),
            audit: Some(v1::Event {
                id: vec![0xab; 16],
                kind: Some(v1::event::Kind::Audit(v1::Audit {
                    what: "policy".into(),
                    accepted,
                    who: "uid=0".into(),
                    old_digest: old.into(),
                    new_digest: new.into(),
                    reason: "r".into(),
                })),
                ..Default::default()
            }),
        }
    }

    fn args(config: &str) -> AgentArgs {
        AgentArgs {
            config: config.into(),
            control: None,
            output: Output::Table,
        }
    }

    #[test]
    fn the_way_back_can_be_pasted() {
        let told = |change, result: &v1::ControlResult, args| {
            page(change, result, &args, &[], false).as_str().to_owned()
        };
        assert_eq!(
            told(
                Change::Reload,
                &result(true, "aa", "bb", "in force now: 1 policy"),
                args("/a/b.yaml")
            ),
            "in force now: 1 policy\n\
             recorded as abababababababababababababababab: policy aa → bb by uid=0: r\n\
             should it stop what it must not: apiward mode observe --config /a/b.yaml\n\
             to undo: apiward policy undo --config /a/b.yaml\n"
        );
        let same = told(
            Change::Reload,
            &result(true, "aa", "aa", "in force now: 1 policy"),
            args(CONFIG_DEFAULT),
        );
        assert!(!same.contains("to undo"), "{same}");
        let refused = told(
            Change::Reload,
            &result(false, "aa", "bb", "a.yaml:1:1: no\na.yaml:2:1: no"),
            args(CONFIG_DEFAULT),
        );
        assert!(
            refused.starts_with(
                "the new policies are not used, the old ones stay in force:\na.yaml:1:1: no\na.yaml:2:1: no\n"
            ),
            "{refused}"
        );
        assert!(!refused.contains("to undo"), "{refused}");
        let undone = told(Change::Undo, &result(true, "bb", "aa", "m"), args(CONFIG_DEFAULT));
        assert!(
            undone.contains("mend them before the next reload (SIGHUP) or restart"),
            "{undone}"
        );
        assert!(
            undone.ends_with("to bring back what was undone: apiward policy undo\n"),
            "{undone}"
        );
        assert!(!undone.contains("to undo"), "{undone}");
        let changed = result(true, "bb", "aa", "m");
        let of = |change| as_json(change, &changed, &args(CONFIG_DEFAULT));
        assert_eq!(of(Change::Reload)["undo"], "apiward policy undo");
        assert_eq!(of(Change::Undo)["redo"], "apiward policy undo");
        assert!(of(Change::Undo)["undo"].is_null());
    }
}
