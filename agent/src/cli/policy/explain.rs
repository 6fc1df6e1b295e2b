//! `apiward policy explain`: every rule in the order in which they apply, with what its denials are worth here.

use std::process::ExitCode;

use anyhow::Result;
use apiward_proto::v1;
use serde_json::{Value, json};

use super::{Files, Output, load, put_json, refused};
use crate::call::{CallDirection, Phase};
use crate::cli::AgentArgs;
use crate::cli::client::Agent;
use crate::cli::print::{self, Color, Paper, Style};
use crate::cli::status::{share, spot_words};
use crate::kernel::probe::{self, Answer};
use crate::policy::cases::phase_name;
use crate::policy::explain::{Explained, Host, Promise, UNSUPPORTED, explain};
use crate::policy::{DecidedBy, Mode, OnAmbiguous, Policy, PolicySet, Rule, check};

/// Column at which a promise's reason starts.
const REASON_COLUMN: usize = 40;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: Files,
}

/// What was asked of the kernel, and what it said.
struct Asked {
    what: &'static str,
    answer: Answer,
}

/// What the running agent says of each policy's coverage, by name; empty without one.
type Covered = std::collections::BTreeMap<String, v1::Coverage>;

/// Asks the agent that the configuration names, if one runs: files are explained without one as well.
fn covered(args: &Args) -> Covered {
    let whom = AgentArgs {
        config: args
            .files
            .config
            .clone()
            .unwrap_or_else(|| crate::config::PATH_DEFAULT.into()),
        control: None,
        output: args.files.output,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let status = runtime.ok().and_then(|runtime| {
        runtime.block_on(async {
            let mut agent = Agent::connect(&whom).await.ok()?;
            agent.status().await.ok()
        })
    });
    let policies = status.map(|status| status.policies).unwrap_or_default();
    policies
        .into_iter()
        .filter_map(|policy| Some((policy.name, policy.coverage?)))
        .collect()
}

/// The host as it is; what only root may ask is taken as there, and said so.
struct Found {
    host: Host,
    asked: [Asked; 3],
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let set = match load(&args.files.paths) {
        Ok((_, set)) => set,
        Err(problems) => return refused(&problems, args.files.output),
    };
    let found = look();
    let covered = covered(args);
    match args.files.output {
        Output::Json => put_json(&page_json(&set, &found, &covered))?,
        Output::Table => print::out(page(&set, &found, &covered, Color::Auto.is_on()).as_str())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn look() -> Found {
    let features = probe::probe();
    let answer = |name: &str| {
        let feature = features.iter().find(|feature| feature.name == name);
        feature.map_or(Answer::Unknown("not asked".into()), |feature| {
            feature.answer.clone()
        })
    };
    let egress = match answer("cgroup2") {
        no @ Answer::No(_) => no,
        _ => answer("cgroup-egress"),
    };
    let reset = answer("socket-destroy");
    let refuse = answer("probe-registers");
    let there = |answer: &Answer| !matches!(answer, Answer::No(_));
    Found {
        host: Host {
            withholds: there(&egress),
            resets: there(&reset),
            // The same kind of program on both ways; whether the kernel takes ours, the running agent says.
            gate: there(&egress),
            refuses: matches!(refuse, Answer::Yes),
        },
        asked: [
            Asked {
                what: "withhold what a connection sends",
                answer: egress,
            },
            Asked {
                what: "reset a connection",
                answer: reset,
            },
            Asked {
                what: "make a TLS library's call fail",
                answer: refuse,
            },
        ],
    }
}

fn page(set: &PolicySet, found: &Found, covered: &Covered, is_colored: bool) -> Paper {
    let mut paper = Paper::new(is_colored);
    for asked in &found.asked {
        paper
            .put("this host can ")
            .put(asked.what)
            .put(": ")
            .line(&answer(&asked.answer));
    }
    paper.line(
        "the gate in the kernel decides what it can, before a call's bytes move, or, inbound in TLS, as the application gets \
         them; what it cannot tell, the agent decides when they have moved (docs/enforcement.md)",
    );
    let mut last: Option<&str> = None;
    for (position, explained) in explain(set, found.host).iter().enumerate() {
        let policy = set.policy_of(explained.rule);
        if last != Some(policy.name.as_str()) {
            last = Some(&policy.name);
            paper.end();
            policy_line(&mut paper, policy);
            coverage_lines(&mut paper, policy, covered.get(policy.name.as_str()));
        }
        let waits_for = check::waits_for(set, &set.rules()[..position], explained.rule);
        rule_lines(&mut paper, position + 1, policy, explained, waits_for);
    }
    paper
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Yes => "yes".into(),
        Answer::No(why) => format!("no: {why}"),
        Answer::Unknown(why) => format!("not known ({why}), taken as yes below"),
    }
}

fn policy_line(paper: &mut Paper, policy: &Policy) {
    paper.styled(Style::Bold, &policy.name).line(&format!(
        "  {}  priority {}, onAmbiguous {}, onUnseen {}  {}",
        match policy.mode {
            Mode::Enforce => "enforces where the agent's mode does",
            Mode::Observe => "observes: its denials are reported, not carried out",
        },
        policy.priority,
        policy.on_ambiguous.as_str(),
        policy.on_unseen.as_str(),
        policy.source,
    ));
}

fn coverage_lines(paper: &mut Paper, policy: &Policy, coverage: Option<&v1::Coverage>) {
    let min = policy.coverage_min.map_or_else(String::new, |min| {
        format!(
            "at least {:.1} % of its traffic has to be enforceable",
            100.0 * min
        )
    });
    let was = coverage
        .filter(|coverage| coverage.flows > 0)
        .map_or_else(String::new, |coverage| {
            format!(
                "since the agent's start {} of its connections and {} of their bytes were enforceable",
                share(coverage.flows_enforceable, coverage.flows),
                share(coverage.bytes_enforceable, coverage.bytes),
            )
        });
    let both: Vec<&str> = [min.as_str(), was.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    if !both.is_empty() {
        paper.pad_to(5).line(&both.join("; "));
    }
    let Some(coverage) = coverage else { return };
    for spot in &coverage.blind {
        paper.pad_to(7).put("out of reach: ").line(&spot_words(spot));
    }
    for why in &coverage.degraded {
        paper.pad_to(5).styled(Style::Bad, "degraded").put(": ").line(why);
    }
}

fn rule_lines(
    paper: &mut Paper,
    position: usize,
    policy: &Policy,
    explained: &Explained<'_>,
    waits_for: Option<&Rule>,
) {
    let rule = explained.rule;
    paper
        .right(Style::Dim, &position.to_string(), 4)
        .put(" ")
        .styled(Style::Bold, &rule.name)
        .put("  ")
        .put(rule.action.as_str())
        .put("  ")
        .styled(Style::Dim, &rule.source)
        .end();
    let by = match rule.dimensions().as_slice() {
        [] => "of every call".to_owned(),
        some => format!("by {}", some.join(", ")),
    };
    paper.pad_to(5).line(&format!(
        "decided {by}; by the {}, {}",
        explained.decided_by.as_str(),
        when(explained.decided_at)
    ));
    if !explained.why_not_gate.is_empty() {
        let text = format!("not by the gate: {}", explained.why_not_gate);
        paper.pad_to(5).styled(Style::Dim, &text).end();
    }
    if let Some(first) = waits_for {
        paper.pad_to(5).line(&format!(
            "calls that {} may match are decided {}: it stands before",
            first.name,
            when(first.needs())
        ));
    }
    for (direction, tls, promise) in &explained.promises {
        let style = match promise.best {
            None => Style::Bad,
            Some(_) => Style::Plain,
        };
        let words = match policy.mode {
            Mode::Enforce => promise.words(),
            Mode::Observe => format!("observed (would be {})", promise.words()),
        };
        paper
            .pad_to(5)
            .put(direction.as_str())
            .pad_to(14)
            .put(transport(*tls))
            .pad_to(20)
            .styled(style, &words)
            .pad_to(REASON_COLUMN)
            .styled(Style::Dim, promise.why)
            .end();
    }
    let beside = explained.beside_the_gate();
    if !beside.is_empty() {
        let names: Vec<&str> = beside.iter().map(|protocol| protocol.as_str()).collect();
        let text = format!(
            "in {}: by the agent, once the bytes have moved: contained at best inbound, cut outbound",
            names.join(" and ")
        );
        paper.pad_to(5).styled(Style::Dim, &text).end();
    }
    if leaves_ambiguous(policy, explained) {
        let text = "of a target or a head that servers read differently (`//`, escapes, more than 34 KiB): by the agent as well; \
                    `onAmbiguous: deny` lets the gate stop it";
        paper.pad_to(5).styled(Style::Dim, text).end();
    }
    let unmet = explained.unmet();
    if let (Some(require), false) = (rule.require, unmet.is_empty()) {
        let text = format!(
            "requires {}: it does not count as enforced here",
            require.as_str()
        );
        paper.pad_to(5).styled(Style::Bad, &text).end();
    }
}

/// The gate decides, and leaves it to the agent what is ambiguous.
fn leaves_ambiguous(policy: &Policy, explained: &Explained<'_>) -> bool {
    explained.decided_by == DecidedBy::Gate
        && !explained.promises.is_empty()
        && policy.on_ambiguous == OnAmbiguous::Agent
}

fn when(decided: Phase) -> &'static str {
    match decided {
        Phase::Head => "when the request's head is whole",
        Phase::Request => "when the request's body is whole",
        Phase::Complete => "when the response is whole",
    }
}

fn transport(tls: bool) -> &'static str {
    if tls { "TLS" } else { "clear" }
}

fn page_json(set: &PolicySet, found: &Found, covered: &Covered) -> Value {
    let asked: Vec<Value> = found
        .asked
        .iter()
        .map(|asked| {
            let (available, why) = match &asked.answer {
                Answer::Yes => (Some(true), ""),
                Answer::No(why) => (Some(false), why.as_str()),
                Answer::Unknown(why) => (None, why.as_str()),
            };
            json!({ "what": asked.what, "available": available, "reason": why })
        })
        .collect();
    let rules: Vec<Value> = explain(set, found.host)
        .iter()
        .enumerate()
        .map(|(position, explained)| {
            let waits_for = check::waits_for(set, &set.rules()[..position], explained.rule);
            rule_json(set, explained, waits_for)
        })
        .collect();
    let coverage: serde_json::Map<String, Value> = set
        .policies()
        .iter()
        .map(|policy| {
            let known = covered.get(policy.name.as_str());
            let coverage = json!({
                "min": policy.coverage_min,
                "known": known.map(crate::cli::status::coverage_json),
            });
            (policy.name.to_string(), coverage)
        })
        .collect();
    json!({ "host": asked, "digest": set.digest(), "coverage": coverage, "rules": rules })
}

fn rule_json(set: &PolicySet, explained: &Explained<'_>, waits_for: Option<&Rule>) -> Value {
    let rule = explained.rule;
    let policy = set.policy_of(rule);
    let promise = |(direction, tls, promise): &(CallDirection, bool, Promise)| {
        let word = |word: Option<crate::policy::Guarantee>| word.map_or(UNSUPPORTED, |word| word.as_str());
        json!({
            "direction": direction.as_str(),
            "tls": tls,
            "best": word(promise.best),
            "worst": word(promise.worst),
            "why": promise.why,
        })
    };
    json!({
        "policy": policy.name.as_str(),
        "rule": rule.name.as_str(),
        "source": &*rule.source,
        "mode": policy.mode.as_str(),
        "priority": policy.priority,
        "action": rule.action.as_str(),
        "matches_on": rule.dimensions(),
        "decided_by": explained.decided_by.as_str(),
        "why_not_gate": explained.why_not_gate,
        "not_by_the_gate": explained.beside_the_gate().iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>(),
        "ambiguous_by_the_agent": leaves_ambiguous(policy, explained),
        "decided_at": phase_name(explained.decided_at),
        "waits_for": waits_for.map(|first| first.name.as_str()),
        "require": rule.require.map(|require| require.as_str()),
        "counts_as_enforced": policy.mode == Mode::Enforce && explained.unmet().is_empty(),
        "guarantees": explained.promises.iter().map(promise).collect::<Vec<_>>(),
    })
}
