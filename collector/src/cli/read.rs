//! `query`: stored events as lines, the same that the agent's JSON exporter writes.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use apiward_proto::{json, ocsf, v1};
use clap::ValueEnum;
use globset::{GlobBuilder, GlobMatcher};

use super::{Output, duration};
use crate::service::plain;
use crate::store::now_ns;
use crate::store::query::{self, Filter};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: super::DataArgs,
    /// Events of this time up to now: 30s, 10m, 2h, 7d.
    #[arg(long, value_parser = duration, conflicts_with = "from")]
    since: Option<Duration>,
    /// Events from this moment on, as 2026-11-24T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<jiff::Timestamp>,
    /// Events up to this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Events of this agent.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Kinds of events; may be repeated.
    #[arg(long, value_enum)]
    kind: Vec<Kind>,
    /// Calls whose path matches: `*` within a segment, `**` across; `{id}` is itself, as it is printed.
    #[arg(long, value_parser = path_glob)]
    path: Option<GlobMatcher>,
    /// Events of programs with this name, or, where it has a `/`, path.
    #[arg(long, value_parser = exe_glob)]
    exe: Option<GlobMatcher>,
    /// Calls to hosts that match.
    #[arg(long, value_parser = glob)]
    host: Option<GlobMatcher>,
    /// Calls with this method.
    #[arg(long)]
    method: Option<String>,
    /// Calls with this status: 404, or 4xx.
    #[arg(long, value_parser = status)]
    status: Option<(u32, u32)>,
    /// Events of this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Calls with this trace id.
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
    /// Calls that were denied, or would have been.
    #[arg(long)]
    denied: bool,
    /// At most so many.
    #[arg(long)]
    limit: Option<u64>,
    /// The newest first.
    #[arg(long)]
    newest: bool,
    /// Table for people, JSON lines for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// In the form of the Open Cybersecurity Schema Framework 1.8: records as JSON lines, of which an event can have
    /// several.
    #[arg(long, conflicts_with = "output")]
    ocsf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Call,
    FlowLoss,
    FlowEnd,
    AgentState,
    Audit,
    Inventory,
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| error.to_string())
}

fn path_glob(text: &str) -> Result<GlobMatcher, String> {
    glob(&text.replace('{', "[{]").replace('}', "[}]"))
}

fn exe_glob(text: &str) -> Result<GlobMatcher, String> {
    match text.contains('/') {
        true => glob(text),
        false => glob(&format!("**/{text}")),
    }
}

fn status(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is no status: write 404, or 4xx");
    if let Some(class) = text.strip_suffix("xx") {
        let class: u32 = class.parse().map_err(|_| wrong())?;
        return if (1..=5).contains(&class) {
            Ok((class * 100, class * 100 + 99))
        } else {
            Err(wrong())
        };
    }
    let status: u32 = text.parse().map_err(|_| wrong())?;
    if (100..=599).contains(&status) {
        Ok((status, status))
    } else {
        Err(wrong())
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let nanoseconds = |time: jiff::Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let since = args
        .since
        .map(|since| now_ns().saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)));
    let filter = Filter {
        since_ns: since.or(args.from.map(nanoseconds)),
        until_ns: args.until.map(nanoseconds),
        agent: args.agent.clone(),
        kinds: args
            .kind
            .iter()
            .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
            .collect(),
        path: args.path.clone(),
        exe: args.exe.clone(),
        host: args.host.clone(),
        method: args.method.clone(),
        status: args.status,
        pid: args.pid,
        trace_id: args.trace_id.clone(),
        denied: args.denied,
        newest_first: args.newest,
        limit: args.limit,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    let (mut shown, mut failed) = (0u64, None);
    let unreadable = query::events(&args.data.data, &filter, &mut |event| {
        line.clear();
        match args.output {
            _ if args.ocsf => {
                let reporter = ocsf::Reporter {
                    agent: args.agent.as_deref().unwrap_or_default(),
                    host: "",
                };
                ocsf::lines(&event, reporter, &mut line);
            }
            Output::Json => json::line(&event, &mut line),
            Output::Table => {
                line.extend_from_slice(sentence(&event).as_bytes());
                line.push(b'\n');
            }
        }
        shown += 1;
        failed = out.write_all(&line).err();
        failed.is_none()
    })?;
    match failed.or(out.flush().err()) {
        // Whoever reads has read enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        Some(error) => return Err(error).context("the output cannot be written"),
        None => {}
    }
    if unreadable > 0 {
        eprintln!("{unreadable} events could not be read: made by a newer agent, or damaged");
    }
    if args.output == Output::Table && !args.ocsf && shown == 0 {
        eprintln!("no event matches; `apiward-collector agents` shows who sends");
    }
    Ok(ExitCode::SUCCESS)
}

fn process(process: Option<&v1::Process>) -> String {
    process.map_or_else(
        || "-".to_owned(),
        |process| format!("{}[{}]", process.comm, process.pid),
    )
}

/// One event on one line, for people.
fn sentence(event: &v1::Event) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(event.time_ns))
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default();
    let what = match &event.kind {
        Some(v1::event::Kind::Call(call)) => {
            let request = call.request.clone().unwrap_or_default();
            let status = call
                .response
                .as_ref()
                .map_or_else(|| call.state.clone(), |response| response.status.to_string());
            let verdict = call
                .verdict
                .as_ref()
                .filter(|verdict| verdict.action != "allow")
                .map(|verdict| {
                    let guarantee = if verdict.would_be.is_empty() {
                        verdict.guarantee.clone()
                    } else {
                        format!("observed, would be {}", verdict.would_be)
                    };
                    format!(
                        "  {} by {}/{} ({guarantee})",
                        verdict.action, verdict.policy, verdict.rule
                    )
                })
                .unwrap_or_default();
            format!(
                "{} {} {} {}{} {status}{}{verdict}",
                json::direction_name(call.direction).unwrap_or("-"),
                process(call.process.as_ref()),
                request.method,
                request.host,
                request.path,
                if call.tls.is_some() { " TLS" } else { "" },
            )
        }
        Some(v1::event::Kind::FlowLoss(loss)) => format!(
            "loss ({}) {}: {} bytes, {} events {}",
            loss.reason,
            process(loss.process.as_ref()),
            loss.bytes,
            loss.events,
            loss.detail
        ),
        Some(v1::event::Kind::FlowEnd(end)) => {
            let account = |account: &Option<v1::Account>| {
                let account = account.unwrap_or_default();
                format!("{}/{}/{}", account.moved, account.seen, account.lost)
            };
            format!(
                "connection ended {}: sent {} received {} (moved/seen/lost)",
                process(end.process.as_ref()),
                account(&end.sent),
                account(&end.received)
            )
        }
        Some(v1::event::Kind::AgentState(state)) => format!("agent {}: {}", state.state, state.detail),
        Some(v1::event::Kind::Audit(audit)) => format!(
            "audit {} {} by {}: {} → {} ({})",
            audit.what,
            if audit.accepted { "accepted" } else { "refused" },
            audit.who,
            audit.old_digest,
            audit.new_digest,
            audit.reason
        ),
        Some(v1::event::Kind::Inventory(told)) => format!(
            "inventory: {} endpoints have changed, {} are no more",
            told.endpoints.len(),
            told.gone.len()
        ),
        None => "an event of a kind that this program does not know".to_owned(),
    };
    format!("{time}  {}", plain(&what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_or_a_class() {
        assert_eq!(status("404"), Ok((404, 404)));
        assert_eq!(status("5xx"), Ok((500, 599)));
        for wrong in ["", "9xx", "xx", "99", "600", "4x"] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn programs_match_by_name_and_paths_as_they_are_printed() {
        let curl = exe_glob("curl").expect("a glob");
        assert!(curl.is_match("/usr/bin/curl") && !curl.is_match("/usr/bin/curl2"));
        let there = exe_glob("/usr/*/curl").expect("a glob");
        assert!(there.is_match("/usr/bin/curl") && !there.is_match("/opt/bin/curl"));
        let path = path_glob("/fhir/*/{id}").expect("a glob");
        assert!(path.is_match("/fhir/Patient/{id}") && !path.is_match("/fhir/Patient/id"));
    }

    #[test]
    fn nothing_captured_reaches_the_terminal_as_control() {
        let event = v1::Event {
            kind: Some(v1::event::Kind::Call(v1::Call {
                request: Some(v1::Request {
                    host: "a\u{1b}[2Jb".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            ..Default::default()
        };
        assert!(!sentence(&event).contains('\u{1b}'));
    }
}
