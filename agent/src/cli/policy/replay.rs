//! `apiward policy replay`: policies over calls that were stored, to see what would have been denied before it is.
//!
//! Reads the JSON lines that the agent's `jsonl` exporter writes and that `apiward-collector query --output json` prints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Output, load, put_errors, put_json};
use crate::cli::print::{self, Color, Paper, Style, plural, shortened};
use crate::policy::Action;
use crate::policy::replay::{Replay, StoredCall};

/// Bytes of one line: an event is far smaller.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Groups of calls that are told apart.
const GROUPS_MAX: usize = 10_000;

#[derive(clap::Args)]
#[command(after_help = "\
`--calls -` reads standard input: `apiward-collector query --data DIR --output json | apiward policy replay --calls - FILES`. \
Exit codes: 0 nothing would have been denied · 1 something would have been, or cannot be told · 2 a file, or the command \
line, is wrong.")]
pub(super) struct Args {
    /// Policy files, globs, or directories of *.yaml and *.yml.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Stored calls: JSON lines, or `-` for standard input.
    #[arg(long, required = true, value_name = "LINES")]
    calls: Vec<PathBuf>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// `deny`, `kill`, or `undecidable`.
    outcome: String,
    rule: String,
    direction: &'static str,
    workload: String,
    peer: String,
    method: String,
    host: String,
    path: String,
    /// What would have to be known.
    because: String,
}

#[derive(Default)]
struct Sums {
    calls: u64,
    allowed: u64,
    denied: u64,
    undecidable: u64,
    unreadable: u64,
    beyond: u64,
    groups: BTreeMap<Group, u64>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let set = match load(&args.paths) {
        Ok((_, set)) => Arc::new(set),
        Err(problems) => {
            let mut paper = Paper::new(Color::Auto.is_on());
            put_errors(&mut paper, &problems);
            eprint!("{}", paper.as_str());
            return Ok(ExitCode::from(2));
        }
    };
    let mut replay = Replay::new(&set);
    let mut sums = Sums::default();
    for path in &args.calls {
        read(path, &mut |stored| judge(&mut replay, &stored, &mut sums)).map(|bad| sums.unreadable += bad)?;
    }
    match args.output {
        Output::Json => put_json(&page_json(&sums))?,
        Output::Table => print::out(page(&sums, Color::Auto.is_on()).as_str())?,
    }
    // Of what nobody could read, nobody knows whether it would be denied.
    let unread = if sums.calls == 0 { sums.unreadable } else { 0 };
    Ok(match sums.denied + sums.undecidable + unread {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Hands every stored call on; how many lines are none of ours.
fn read(path: &Path, each: &mut dyn FnMut(StoredCall)) -> Result<u64> {
    let mut lines: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?,
        )),
    };
    let (mut line, mut unreadable) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(unreadable);
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(event) => {
                if let Some(stored) = stored(&event) {
                    each(stored);
                }
            }
            Err(_) => unreadable += u64::from(!line.trim_ascii().is_empty()),
        }
    }
}

/// The call of an event; `None` of any other kind.
fn stored(event: &Value) -> Option<StoredCall> {
    let call = event.get("call").filter(|call| call.is_object())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (request, response, process) = (&call["request"], &call["response"], &call["process"]);
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let at = event["time"]
        .as_str()
        .and_then(|time| time.parse::<jiff::Timestamp>().ok());
    Some(StoredCall {
        inbound: call["direction"] == "inbound",
        method: text(&request["method"]),
        path: text(&request["path"]),
        host: text(&request["host"]),
        auth: text(&request["auth"]),
        peer: call["remote"]["address"]
            .as_str()
            .and_then(|address| address.parse().ok()),
        tls: call["tls"].is_object(),
        exe: text(&process["exe"]),
        comm: text(&process["comm"]),
        cgroup_path: text(&process["cgroup_path"]),
        container: process["container_id"].as_str().map(str::to_owned),
        uid: number(&process["uid"]) as u32,
        pid: number(&process["pid"]) as u32,
        ambiguous: call["ambiguous"] == true,
        status: number(&response["status"]) as u16,
        request_bytes: number(&request["body"]["bytes_total"]),
        request_media: text(&request["body"]["media_type"]),
        response_bytes: number(&response["body"]["bytes_total"]),
        response_media: text(&response["body"]["media_type"]),
        findings: call["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|finding| (text(&finding["kind"]), text(&finding["severity"])))
            .collect(),
        at_ns: at
            .and_then(|at| u64::try_from(at.as_nanosecond()).ok())
            .unwrap_or_default(),
    })
}

fn judge(replay: &mut Replay, stored: &StoredCall, sums: &mut Sums) {
    sums.calls += 1;
    let Some(told) = replay.judge(stored) else {
        return;
    };
    let denied = matches!(told.verdict.action, Action::Deny | Action::Kill);
    let outcome = match (told.undecidable.is_empty(), denied) {
        (false, _) => {
            sums.undecidable += 1;
            "undecidable"
        }
        (true, true) => {
            sums.denied += 1;
            told.verdict.action.as_str()
        }
        (true, false) => {
            sums.allowed += 1;
            return;
        }
    };
    let group = Group {
        outcome: outcome.to_owned(),
        rule: match told.verdict.policy.is_empty() {
            true => String::new(),
            false => format!("{}/{}", told.verdict.policy, told.verdict.rule),
        },
        direction: if stored.inbound { "inbound" } else { "outbound" },
        workload: match stored.exe.is_empty() {
            true => stored.comm.clone(),
            false => stored.exe.clone(),
        },
        peer: stored.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        method: stored.method.clone(),
        host: stored.host.clone(),
        path: stored.path.clone(),
        because: told.undecidable.join(", "),
    };
    if let Some(count) = sums.groups.get_mut(&group) {
        *count += 1;
    } else if sums.groups.len() < GROUPS_MAX {
        sums.groups.insert(group, 1);
    } else {
        sums.beyond += 1;
    }
}

fn sorted(sums: &Sums) -> Vec<(&Group, u64)> {
    let mut groups: Vec<(&Group, u64)> = sums.groups.iter().map(|(group, count)| (group, *count)).collect();
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    groups
}

fn page_json(sums: &Sums) -> Value {
    let groups: Vec<Value> = sorted(sums)
        .into_iter()
        .map(|(group, calls)| {
            json!({
                "outcome": group.outcome, "calls": calls, "rule": group.rule, "direction": group.direction,
                "workload": group.workload, "peer": group.peer, "method": group.method, "host": group.host,
                "path": group.path, "because": group.because,
            })
        })
        .collect();
    json!({
        "calls": sums.calls, "allowed": sums.allowed, "denied": sums.denied, "undecidable": sums.undecidable,
        "unreadable": sums.unreadable, "beyond": sums.beyond, "groups": groups,
    })
}

fn page(sums: &Sums, is_colored: bool) -> Paper {
    let mut paper = Paper::new(is_colored);
    for (group, calls) in sorted(sums) {
        let style = if group.outcome == "undecidable" {
            Style::Warn
        } else {
            Style::Bad
        };
        paper
            .right(Style::Bold, &calls.to_string(), 8)
            .put("  ")
            .styled(style, &group.outcome)
            .pad_to(22);
        paper.put(&shortened(
            &format!("{} {}{}", group.method, group.host, group.path),
            96,
        ));
        paper.end().pad_to(22);
        let who = match group.direction {
            "inbound" => format!("from {} to {}", group.peer, group.workload),
            _ => format!("from {} to {}", group.workload, group.peer),
        };
        paper.styled(Style::Dim, &shortened(&who, 96));
        if !group.rule.is_empty() {
            paper.styled(Style::Dim, &format!(" · {}", group.rule));
        }
        if !group.because.is_empty() {
            paper.styled(Style::Dim, &format!(" · hidden: {}", group.because));
        }
        paper.end();
    }
    paper.line(&format!(
        "{}: {} allowed, {} would have been denied, {} cannot be told",
        plural(sums.calls, "call"),
        sums.allowed,
        sums.denied,
        sums.undecidable
    ));
    for (count, what) in [
        (sums.unreadable, "lines could not be read"),
        (sums.beyond, "calls are in more groups than are told apart"),
    ] {
        if count > 0 {
            paper.line(&format!("{count} {what}"));
        }
    }
    paper
}
