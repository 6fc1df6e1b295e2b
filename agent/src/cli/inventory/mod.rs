//! `apiward inventory`: the endpoints that the local agent has seen, as a table or as JSON.
//!
//! What may be shown was decided in the agent: here is only form.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use apiward_proto::{json, v1};
use jiff::tz::TimeZone;

use super::client::{self, Agent};
use super::print::{self, Paper, Style, shortened};
use super::{AgentArgs, Output};

pub(crate) mod diff;
mod openapi;
mod third_parties;

/// Exit code of `--diff` where something differs.
const DIFFERS: u8 = 3;
/// Characters of a path in the table.
const PATH_LENGTH_MAX: usize = 72;
/// Between two columns.
const GAP: usize = 2;

/// Every API endpoint that was seen: who serves it, who calls it, what is in it.
#[derive(clap::Args)]
#[command(after_help = "\
In paths, {id} stands for values and {word-…} for words that may not be shown; docs/inventory.md says when a word may be. \
Exit codes: 0 done · 1 no agent answers, or a document cannot be read · 2 the command line or the configuration is wrong · \
3 --diff has found differences.")]
pub struct Args {
    /// Only workloads whose name, executable or cgroup contains this.
    #[arg(long, value_name = "TEXT")]
    workload: Option<String>,
    /// Only what is served, or only what is called.
    #[arg(long, value_enum)]
    direction: Option<Way>,
    /// Calls that led nowhere too.
    #[arg(long)]
    unmatched: bool,
    /// What is served as an OpenAPI 3.1 document, in JSON; it holds no captured value.
    #[arg(long, group = "form")]
    openapi: bool,
    /// Whom this host calls that is somebody else, and what goes there.
    #[arg(long, group = "form")]
    third_parties: bool,
    /// What is served against an OpenAPI document: not documented, never seen, deprecated and still called.
    #[arg(long, value_name = "FILE", group = "form")]
    diff: Option<PathBuf>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    Inbound,
    Outbound,
}

pub fn run(args: Args) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let mut endpoints = agent.inventory().await?;
        let known = endpoints.len();
        endpoints.retain(|endpoint| is_wanted(&args, endpoint));
        sort(&mut endpoints);
        if args.openapi {
            print::out(&format!("{:#}\n", openapi::document(&endpoints)))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(file) = &args.diff {
            return differ(&args, file, &endpoints);
        }
        if args.third_parties {
            let all = third_parties::group(&endpoints);
            match args.agent.output {
                Output::Json => print::out(&format!("{:#}\n", third_parties::as_json(&all)))?,
                Output::Table => {
                    let mut paper = Paper::new(print::Color::Auto.is_on());
                    third_parties::table(&mut paper, &all, &TimeZone::system());
                    print::out(paper.as_str())?;
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        match args.agent.output {
            Output::Json => print::out(&as_json(&endpoints))?,
            Output::Table => {
                let mut paper = Paper::new(print::Color::Auto.is_on());
                table(&mut paper, &endpoints, known, &TimeZone::system());
                print::out(paper.as_str())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn differ(args: &Args, file: &std::path::Path, endpoints: &[v1::Endpoint]) -> Result<ExitCode> {
    let found = diff::differences(&diff::read(file)?, endpoints);
    match args.agent.output {
        Output::Json => print::out(&format!("{:#}\n", diff::as_json(&found)))?,
        Output::Table => {
            let mut paper = Paper::new(print::Color::Auto.is_on());
            diff::table(&mut paper, &found);
            print::out(paper.as_str())?;
        }
    }
    Ok(match found.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERS),
    })
}

fn is_wanted(args: &Args, endpoint: &v1::Endpoint) -> bool {
    let direction = match args.direction {
        None => true,
        Some(Way::Inbound) => endpoint.direction == v1::Direction::Inbound as i32,
        Some(Way::Outbound) => endpoint.direction == v1::Direction::Outbound as i32,
    };
    direction && (args.unmatched || !endpoint.unmatched) && is_of(endpoint, args.workload.as_deref())
}

/// Whether it is an endpoint of a workload that somebody has named.
pub(crate) fn is_of(endpoint: &v1::Endpoint, workload: Option<&str>) -> bool {
    let Some(wanted) = workload else { return true };
    endpoint.workload.as_ref().is_some_and(|workload| {
        [
            &workload.name,
            &workload.exe,
            &workload.cgroup_path,
            &workload.container_id,
        ]
        .iter()
        .any(|text| text.contains(wanted))
    })
}

fn sort(endpoints: &mut [v1::Endpoint]) {
    let name = |endpoint: &v1::Endpoint| endpoint.workload.as_ref().map(|workload| workload.name.clone());
    endpoints.sort_by(|one, other| {
        name(one)
            .cmp(&name(other))
            .then(one.direction.cmp(&other.direction))
            .then(one.host.cmp(&other.host))
            .then(one.unmatched.cmp(&other.unmatched))
            .then(one.path.cmp(&other.path))
            .then(one.method.cmp(&other.method))
            .then(one.operation.cmp(&other.operation))
    });
}

fn as_json(endpoints: &[v1::Endpoint]) -> String {
    let mut text = b"{\"endpoints\":[".to_vec();
    for (index, endpoint) in endpoints.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        json::endpoint(endpoint, &mut text);
    }
    text.extend_from_slice(b"\n]}\n");
    String::from_utf8_lossy(&text).into_owned()
}

const HEADS: [&str; 9] = [
    "METHOD", "PATH", "CALLS", "2XX", "4XX", "5XX", "P95", "AUTH", "DATA",
];

/// `known`: endpoints that there are, whether they are wanted or not.
fn table(paper: &mut Paper, endpoints: &[v1::Endpoint], known: usize, zone: &TimeZone) {
    if endpoints.is_empty() {
        paper.line(&match known {
            0 => "nothing was seen yet: `apiward status` says what is in sight".to_owned(),
            _ => format!(
                "none of {} is like that: `apiward inventory` without filters shows their workloads, --unmatched those \
                 that no server has answered",
                print::plural(known as u64, "endpoint")
            ),
        });
        return;
    }
    let rows: Vec<[String; 9]> = endpoints.iter().map(row).collect();
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        longest.unwrap_or_default().max(HEADS[column].len()) + GAP
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut before = String::new();
    for (endpoint, row) in endpoints.iter().zip(&rows) {
        let heading = heading(endpoint);
        if heading != before {
            if !before.is_empty() {
                paper.end();
            }
            paper.styled(Style::Bold, &heading).end();
            put_row(paper, &widths, &HEADS.map(str::to_owned), Style::Dim);
            before = heading;
        }
        let style = if endpoint.unmatched {
            Style::Dim
        } else {
            Style::Plain
        };
        put_row(paper, &widths, row, style);
        let notes = notes(endpoint, zone);
        if !notes.is_empty() {
            paper.put("          ").styled(Style::Dim, &notes).end();
        }
    }
}

fn heading(endpoint: &v1::Endpoint) -> String {
    let name = endpoint
        .workload
        .as_ref()
        .map_or("", |workload| workload.name.as_str());
    let does = match endpoint.direction == v1::Direction::Inbound as i32 {
        true => "serves",
        false => "calls",
    };
    let host = if endpoint.host.is_empty() { "" } else { " " };
    format!(
        "{} {does}{host}{} ({}, {})",
        shortened(name, 64),
        shortened(&endpoint.host, 64),
        endpoint.protocol,
        endpoint.exposure
    )
}

fn put_row(paper: &mut Paper, widths: &[usize], row: &[String; 9], style: Style) {
    let mut column = 2;
    paper.put("  ");
    for (index, (text, width)) in row.iter().zip(widths).enumerate() {
        // Numbers end at their column's end.
        if (2..=6).contains(&index) {
            paper.right(style, text, column + width - GAP);
        } else {
            paper.styled(style, text);
        }
        column += width;
        if index + 1 < row.len() {
            paper.pad_to(column);
        }
    }
    paper.end();
}

fn row(endpoint: &v1::Endpoint) -> [String; 9] {
    let statuses = endpoint.statuses.unwrap_or_default();
    let count = |count: u64| match count {
        0 => "-".to_owned(),
        count => count.to_string(),
    };
    let path = match endpoint.operation.is_empty() {
        true => endpoint.path.clone(),
        false => format!("{}#{}", endpoint.path, endpoint.operation),
    };
    let p95 = endpoint
        .latency_ns
        .as_ref()
        .and_then(|latency| json::quantile(latency, 0.95));
    let mut data: Vec<&str> = endpoint.data.iter().map(|data| data.class.as_str()).collect();
    data.sort_unstable();
    data.dedup();
    [
        shortened(&endpoint.method, 10).into_owned(),
        shortened(&path, PATH_LENGTH_MAX).into_owned(),
        endpoint.calls().to_string(),
        count(statuses.success),
        count(statuses.client_error),
        count(statuses.server_error),
        p95.map(print::duration).unwrap_or_else(|| "-".to_owned()),
        shortened(&names(&endpoint.auth), 24).into_owned(),
        match data.is_empty() {
            true => "-".to_owned(),
            false => shortened(&data.join(","), 40).into_owned(),
        },
    ]
}

fn names(counts: &[v1::Count]) -> String {
    match counts.is_empty() {
        true => "-".to_owned(),
        false => counts
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// What a second line says: who calls, and what stands out.
fn notes(endpoint: &v1::Endpoint, zone: &TimeZone) -> String {
    let mut notes = Vec::new();
    if !endpoint.callers.is_empty() {
        notes.push(format!("from {}", shortened(&names(&endpoint.callers), 96)));
    }
    let away = endpoint.peers.iter().any(|peer| peer.name != "same-host");
    if away {
        notes.push(format!(
            "{} {} ({})",
            if endpoint.direction == v1::Direction::Inbound as i32 {
                "peers"
            } else {
                "to"
            },
            endpoint.addresses,
            names(&endpoint.peers)
        ));
    }
    if !endpoint.action.is_empty() {
        notes.push(format!("{}: {}", endpoint.service, endpoint.action));
    }
    if endpoint.tls.iter().any(|one| one.name == "clear") && away {
        notes.push("in clear text".to_owned());
    }
    if notes.is_empty() {
        return String::new();
    }
    notes.push(format!("last {}", print::date_time(endpoint.last_ns, zone)));
    notes.join(" · ")
}
