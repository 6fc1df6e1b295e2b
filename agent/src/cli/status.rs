//! `apiward status`: how the local agent is: one verdict first, then what it is made of.
//!
//! The exit code is what a readiness probe wants to know: are the programs loaded and is somebody at work. A host
//! that cannot do everything is degraded and still at work; who wants that to fail says `--strict`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use apiward_proto::v1;
use serde_json::{Value, json};

use super::client::{self, Agent};
use super::print::{self, Color, Paper, Style};
use super::{AgentArgs, Output};

/// Lines shown of each list; JSON has them all.
const LINES_MAX: usize = 40;

/// Mode, coverage, losses and blind spots of the local agent.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 the agent runs and its programs are loaded (also when degraded; see --strict) · 1 no agent answers, \
or it is starting, stopping or stuck · 2 the command line or the configuration is wrong.")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArgs,
    /// Exit with 1 also when the agent runs degraded.
    #[arg(long)]
    strict: bool,
    /// When to colour.
    #[arg(long, value_enum, default_value_t)]
    color: Color,
}

pub fn run(args: Args) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let status = agent.status().await?;
        let verdict = Verdict::of(&status);
        match args.agent.output {
            Output::Json => print::out(&format!("{:#}\n", json_of(&status, &verdict)))?,
            Output::Table => {
                let now = crate::export::clock::wall_ns();
                let zone = jiff::tz::TimeZone::system();
                let paper = page(&status, &verdict, now, &zone, args.color.is_on());
                print::out(paper.as_str())?;
            }
        }
        Ok(verdict.exit_code(args.strict))
    })
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub word: Word,
    /// Empty if all is well.
    pub reasons: Vec<String>,
}

/// The verdict in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Everything that was asked for is done.
    Ok,
    /// It works, with less than was asked for.
    Degraded,
    /// It answers, and does not work: starting, stopping or stuck.
    NotWorking,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Ok => "ok",
            Word::Degraded => "degraded",
            Word::NotWorking => "not working",
        }
    }

    fn style(self) -> Style {
        match self {
            Word::Ok => Style::Good,
            Word::Degraded => Style::Warn,
            Word::NotWorking => Style::Bad,
        }
    }
}

impl Verdict {
    /// The verdict on a status.
    pub fn of(status: &v1::Status) -> Self {
        let mut reasons = status.degraded.clone();
        for library in status.libraries.iter().filter(|library| !library.attached) {
            reasons.push(format!(
                "{} is not attached, calls inside of it are not seen: {}",
                library.path,
                or_unknown(&library.reason)
            ));
        }
        for policy in &status.policies {
            let degraded = policy.coverage.iter().flat_map(|coverage| &coverage.degraded);
            for why in policy.unmet.iter().chain(degraded) {
                reasons.push(format!("policy {}: {why}", policy.name));
            }
        }
        Verdict {
            word: match (status.mode.is_empty(), reasons.is_empty()) {
                (true, _) => Word::NotWorking,
                (false, false) => Word::Degraded,
                (false, true) => Word::Ok,
            },
            reasons,
        }
    }

    fn exit_code(&self, is_strict: bool) -> ExitCode {
        match self.word {
            Word::Ok => ExitCode::SUCCESS,
            Word::Degraded if !is_strict => ExitCode::SUCCESS,
            Word::Degraded | Word::NotWorking => ExitCode::FAILURE,
        }
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() {
        "no reason is known"
    } else {
        text
    }
}

/// Losses that have happened, by name.
pub fn losses(status: &v1::Status) -> Vec<(&str, u64)> {
    status
        .losses
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, &count)| (name.as_str(), count))
        .collect()
}

fn page(
    status: &v1::Status,
    verdict: &Verdict,
    now_ns: u64,
    zone: &jiff::tz::TimeZone,
    is_colored: bool,
) -> Paper {
    let mut paper = Paper::new(is_colored);
    paper.styled(verdict.word.style(), verdict.word.as_str());
    match status.mode.as_str() {
        "" => paper.put(", the mode is not known"),
        "enforce" => paper.put(", enforcing"),
        _ => paper.put(", observing: nothing is stopped"),
    };
    paper.put(&format!(
        "; {} seen in {}",
        print::plural(status.calls, "call"),
        or_unknown(&status.scope)
    ));
    let enforced = status.policies.iter().filter(|policy| policy.mode == "enforce");
    let (denied, passed) = enforced.fold((0, 0), |(denied, passed), policy| {
        (denied + policy.denied, passed + policy.passed)
    });
    if status.mode == "enforce" && denied > 0 {
        paper
            .put(", ")
            .styled(Style::Warn, &format!("{} denied", print::number(denied)));
        if passed > 0 {
            let passed = format!(", {} of them not stopped", print::number(passed));
            paper.styled(Style::Bad, &passed);
        }
    }
    paper.end();
    for reason in &verdict.reasons {
        paper.put("  ").styled(Style::Warn, "!").put(" ").line(reason);
    }
    paper.end();
    field(
        &mut paper,
        "agent",
        &format!("{} · version {}", status.agent_id, status.version),
    );
    let up = now_ns.saturating_sub(status.started_ns);
    field(
        &mut paper,
        "since",
        &format!(
            "{} ({})",
            print::date_time(status.started_ns, zone),
            print::duration(up)
        ),
    );
    field(
        &mut paper,
        "now",
        &format!(
            "{} open, {} read",
            print::plural(status.flows_open, "connection"),
            print::plural(status.records, "kernel record")
        ),
    );
    field(&mut paper, "cost", &cost(status, up));
    let lost: Vec<String> = losses(status)
        .iter()
        .map(|(name, count)| format!("{name} {}", print::number(*count)))
        .collect();
    let lost = if lost.is_empty() {
        "nothing".into()
    } else {
        lost.join(", ")
    };
    field(&mut paper, "losses", &lost);
    let guarantees: Vec<String> = status
        .guarantees
        .iter()
        .map(|(name, word)| format!("{name} {word}"))
        .collect();
    field(&mut paper, "denials are", &guarantees.join(", "));
    if !status.on_exit.is_empty() {
        field(&mut paper, "on exit", &status.on_exit);
    }
    if status.mode_until_ns != 0 {
        let until = print::date_time(status.mode_until_ns, zone);
        field(&mut paper, "mode", &format!("until {until}, unless confirmed"));
    }
    if !status.canaries.is_empty() {
        let words: Vec<String> = status.canaries.iter().map(canary_words).collect();
        let at = print::date_time(status.proved_ns, zone);
        field(&mut paper, "measured", &format!("{} ({at})", words.join(", ")));
    }
    policies(&mut paper, status);
    list(&mut paper, "TLS libraries", &status.libraries, library);
    list(&mut paper, "blind spots", &status.blind_spots, |paper, spot| {
        paper.put(&spot_words(spot)).end();
    });
    list(&mut paper, "exporters", &status.exporters, exporter);
    list(
        &mut paper,
        "left alone",
        &status.exemptions,
        |paper, exemption| {
            paper.put(&format!("{} {}", exemption.kind, exemption.value));
            paper.end();
        },
    );
    if status.operations_exempt > 0 {
        let operations = print::plural(status.operations_exempt, "operation");
        paper.line(&format!("  {operations} of them so far"));
    }
    list(&mut paper, "capabilities", &status.capabilities, |paper, one| {
        let (style, word) = if one.available {
            (Style::Good, "yes")
        } else {
            (Style::Warn, "no")
        };
        paper.styled(style, word).pad_to(6).put(&one.name);
        if !one.available {
            paper.put(": ").put(one.reason.lines().next().unwrap_or_default());
        }
        paper.end();
    });
    paper
}

fn field(paper: &mut Paper, name: &str, value: &str) {
    paper.styled(Style::Dim, name).pad_to(14).line(value);
}

fn cost(status: &v1::Status, up_ns: u64) -> String {
    let mut text = format!("{} of CPU", print::duration(status.cpu_ns));
    if up_ns > 0 {
        let share = 100.0 * status.cpu_ns as f64 / up_ns as f64;
        let _ = write!(text, " ({share:.1} % of one)");
    }
    if let Some(each) = status.cpu_ns.checked_div(status.calls) {
        let _ = write!(text, ", {} a call", print::duration(each));
    }
    let _ = write!(text, "; {} resident", print::bytes(status.rss_bytes));
    text
}

fn policies(paper: &mut Paper, status: &v1::Status) {
    paper.end().styled(Style::Bold, "policies");
    if !status.policy_digest.is_empty() {
        paper.put(" ").styled(Style::Dim, &status.policy_digest);
    }
    paper.end();
    if status.policies.is_empty() {
        paper.line("  none: calls are seen, and all are allowed");
    }
    for policy in status.policies.iter().take(LINES_MAX) {
        paper.put("  ").put(&policy.name);
        paper.put(&format!(
            " · {} · {} · matched {}, denied {}",
            policy.mode,
            print::plural(policy.rules.into(), "rule"),
            print::number(policy.matched),
            print::number(policy.denied)
        ));
        if policy.passed > 0 {
            let passed = format!("{} of them not stopped", print::number(policy.passed));
            paper.put(", ").styled(Style::Warn, &passed);
        }
        paper.put(" · ").styled(Style::Dim, &policy.source).end();
        if let Some(coverage) = policy.coverage.as_ref().filter(|coverage| coverage.flows > 0) {
            paper.line(&format!(
                "    enforceable: {} of its connections, {} of its bytes; {} not seen",
                share(coverage.flows_enforceable, coverage.flows),
                share(coverage.bytes_enforceable, coverage.bytes),
                print::bytes(coverage.bytes_unseen)
            ));
            for spot in coverage.blind.iter().take(LINES_MAX) {
                paper.put("      out of reach: ").line(&spot_words(spot));
            }
        }
        for why in policy.coverage.iter().flat_map(|coverage| &coverage.degraded) {
            paper
                .put("    ")
                .styled(Style::Bad, "degraded")
                .put(": ")
                .line(why);
        }
        for unmet in &policy.unmet {
            paper.put("    ").styled(Style::Warn, "!").put(" ").line(unmet);
        }
    }
    more(paper, status.policies.len());
}

fn canary_words(canary: &v1::Canary) -> String {
    let measured = match canary.measured.as_str() {
        "" => "not measured",
        word => word,
    };
    let failed = if canary.failed { " FAILED" } else { "" };
    format!("{} {measured}{failed}", canary.quadrant)
}

/// A share that rounds to all or nothing only if it is that.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "none".into();
    }
    match 100.0 * part as f64 / whole as f64 {
        percent if part < whole && percent >= 99.95 => "> 99.9 %".into(),
        percent if part > 0 && percent < 0.05 => "< 0.1 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

fn list<T>(paper: &mut Paper, name: &str, items: &[T], each: impl Fn(&mut Paper, &T)) {
    paper.end().styled(Style::Bold, name).end();
    if items.is_empty() {
        paper.line("  none");
    }
    for item in items.iter().take(LINES_MAX) {
        paper.put("  ");
        each(paper, item);
    }
    more(paper, items.len());
}

fn more(paper: &mut Paper, count: usize) {
    if count > LINES_MAX {
        paper.line(&format!("  … and {} more: see --output json", count - LINES_MAX));
    }
}

fn library(paper: &mut Paper, library: &v1::Library) {
    let (style, word) = if library.attached {
        (Style::Good, "attached")
    } else {
        (Style::Warn, "not attached")
    };
    paper
        .put(&library.path)
        .put(" ")
        .put(&library.version)
        .put(" · ")
        .styled(style, word);
    if library.processes > 0 {
        paper.put(&format!(" · {}", processes(library.processes)));
    }
    if !library.reason.is_empty() {
        paper.put(": ").put(&library.reason);
    }
    paper.end();
    for site in &library.sites {
        paper.put("    ").styled(Style::Dim, site).end();
    }
}

fn processes(count: u32) -> String {
    match count {
        1 => "1 process".into(),
        count => format!("{} processes", print::number(count.into())),
    }
}

/// What a blind spot is, in words.
pub fn spot_words(spot: &v1::BlindSpot) -> String {
    let mut text = format!("{}[{}] {}", or_unknown_exe(&spot.exe), spot.pid, spot.reason);
    if spot.bytes > 0 || spot.flows > 0 {
        let _ = write!(
            text,
            ": {} on {}",
            print::bytes(spot.bytes),
            print::plural(spot.flows, "connection")
        );
    }
    text
}

fn or_unknown_exe(exe: &str) -> &str {
    if exe.is_empty() { "?" } else { exe }
}

fn exporter(paper: &mut Paper, exporter: &v1::Exporter) {
    let style = match exporter.state.as_str() {
        "failing" => Style::Bad,
        "connecting" => Style::Warn,
        _ => Style::Good,
    };
    paper
        .put(&exporter.name)
        .put(" · ")
        .styled(style, &exporter.state);
    if !exporter.detail.is_empty() {
        paper.put(" (").put(&exporter.detail).put(")");
    }
    paper.put(&format!(" · {} sent", print::number(exporter.sent)));
    if exporter.waiting > 0 {
        paper.put(&format!(" · {} waiting", print::number(exporter.waiting)));
    }
    if exporter.dropped > 0 {
        paper
            .put(" · ")
            .styled(Style::Bad, &format!("{} lost", print::number(exporter.dropped)));
    }
    paper.end();
}

/// A policy's coverage for machines.
pub fn coverage_json(coverage: &v1::Coverage) -> Value {
    json!({
        "flows": coverage.flows,
        "flows_enforceable": coverage.flows_enforceable,
        "bytes": coverage.bytes,
        "bytes_enforceable": coverage.bytes_enforceable,
        "bytes_unseen": coverage.bytes_unseen,
        "min": (coverage.min > 0.0).then_some(coverage.min),
        "flows_share": coverage.flows_share,
        "bytes_share": coverage.bytes_share,
        "blind": coverage.blind.iter().map(spot_json).collect::<Vec<_>>(),
    })
}

fn spot_json(spot: &v1::BlindSpot) -> Value {
    json!({
        "exe": spot.exe,
        "pid": spot.pid,
        "reason": spot.reason,
        "bytes": spot.bytes,
        "flows": spot.flows,
    })
}

/// The status for machines. Names are those of the contract.
pub fn json_of(status: &v1::Status, verdict: &Verdict) -> Value {
    let policies: Vec<Value> = status
        .policies
        .iter()
        .map(|policy| {
            let coverage = policy.coverage.clone().unwrap_or_default();
            json!({
                "name": policy.name,
                "mode": policy.mode,
                "source": policy.source,
                "rules": policy.rules,
                "matched": policy.matched,
                "denied": policy.denied,
                "passed": policy.passed,
                "coverage": coverage_json(&coverage),
                "degraded": coverage.degraded,
                "unmet": policy.unmet,
            })
        })
        .collect();
    let libraries: Vec<Value> = status
        .libraries
        .iter()
        .map(|library| {
            json!({
                "path": library.path,
                "version": library.version,
                "inode": library.inode,
                "attached": library.attached,
                "sites": library.sites,
                "reason": library.reason,
                "processes": library.processes,
            })
        })
        .collect();
    let blind_spots: Vec<Value> = status.blind_spots.iter().map(spot_json).collect();
    let exporters: Vec<Value> = status
        .exporters
        .iter()
        .map(|exporter| {
            json!({
                "name": exporter.name,
                "state": exporter.state,
                "detail": exporter.detail,
                "sent": exporter.sent,
                "acknowledged": exporter.acknowledged,
                "waiting": exporter.waiting,
                "dropped": exporter.dropped,
            })
        })
        .collect();
    let exemptions: Vec<Value> = status
        .exemptions
        .iter()
        .map(|one| json!({ "kind": one.kind, "value": one.value }))
        .collect();
    let capabilities: Vec<Value> = status
        .capabilities
        .iter()
        .map(|one| json!({ "name": one.name, "available": one.available, "reason": one.reason }))
        .collect();
    let mode = (!status.mode.is_empty()).then_some(&status.mode);
    json!({
        "verdict": verdict.word.as_str(),
        "reasons": verdict.reasons,
        "mode": mode,
        "agent_id": status.agent_id,
        "version": status.version,
        "started": apiward_proto::json::time_text(status.started_ns),
        "scope": status.scope,
        "calls": status.calls,
        "flows_open": status.flows_open,
        "records": status.records,
        "cpu_ns": status.cpu_ns,
        "rss_bytes": status.rss_bytes,
        "policy_digest": status.policy_digest,
        "policies": policies,
        "losses": status.losses,
        "blind_spots": blind_spots,
        "libraries": libraries,
        "exporters": exporters,
        "exemptions": exemptions,
        "operations_exempt": status.operations_exempt,
        "capabilities": capabilities,
        "guarantees": status.guarantees,
        "on_exit": status.on_exit,
        "mode_until": (status.mode_until_ns != 0)
            .then(|| apiward_proto::json::time_text(status.mode_until_ns)),
        "canaries": status.canaries.iter().map(super::prove::canary_json).collect::<Vec<_>>(),
        "proved_ns": (status.proved_ns > 0).then_some(status.proved_ns),
    })
}
