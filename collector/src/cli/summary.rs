//! `summary`: what the stored events say together.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use apiward_proto::{json, v1};
use comfy_table::{Table, presets};

use super::{Output, duration};
use crate::service::plain;
use crate::store::now_ns;
use crate::store::query::{self, Filter};

/// Rows of one table; what is beyond is counted in the last row.
const ROWS_MAX: usize = 40;
/// Different keys that are kept of one table.
const KEYS_MAX: usize = 10_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: super::DataArgs,
    /// Events of this time up to now: 30s, 10m, 2h, 7d.
    #[arg(long, value_parser = duration)]
    since: Option<Duration>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Default)]
struct Endpoint {
    calls: u64,
    statuses: BTreeMap<u32, u64>,
    unanswered: u64,
    without_auth: u64,
    tls: u64,
}

#[derive(Default)]
struct Stopped {
    calls: u64,
    /// By guarantee, or by what it would have been.
    guarantees: BTreeMap<String, u64>,
    killed: u64,
    collateral: u64,
}

/// The figures, by what they are of.
#[derive(Default)]
struct Summary {
    calls: u64,
    /// Direction, process, method, host, path.
    endpoints: BTreeMap<(String, String, String, String, String), Endpoint>,
    /// Executable, direction.
    processes: BTreeMap<(String, String), u64>,
    /// Action, mode, policy, rule.
    verdicts: BTreeMap<(String, String, String, String), Stopped>,
    losses: BTreeMap<String, (u64, u64, u64)>,
    audits: BTreeMap<(String, bool), u64>,
    /// Of keys that found no room.
    beyond: u64,
}

fn entry<'m, K: Ord, V: Default>(map: &'m mut BTreeMap<K, V>, key: K, beyond: &mut u64) -> Option<&'m mut V> {
    if map.len() >= KEYS_MAX && !map.contains_key(&key) {
        *beyond += 1;
        return None;
    }
    Some(map.entry(key).or_default())
}

impl Summary {
    fn take(&mut self, event: &v1::Event) {
        match &event.kind {
            Some(v1::event::Kind::Call(call)) => self.call(call),
            Some(v1::event::Kind::FlowLoss(loss)) => {
                if let Some(sum) = entry(&mut self.losses, loss.reason.clone(), &mut self.beyond) {
                    sum.0 += loss.bytes;
                    sum.1 += loss.events;
                    sum.2 += loss.duration_ns;
                }
            }
            Some(v1::event::Kind::Audit(audit)) => {
                if let Some(count) = entry(
                    &mut self.audits,
                    (audit.what.clone(), audit.accepted),
                    &mut self.beyond,
                ) {
                    *count += 1;
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, call: &v1::Call) {
        self.calls += 1;
        let request = call.request.clone().unwrap_or_default();
        let process = call.process.clone().unwrap_or_default();
        let direction = json::direction_name(call.direction).unwrap_or("-").to_owned();
        let beyond = &mut self.beyond;
        if let Some(count) = entry(&mut self.processes, (process.exe, direction.clone()), beyond) {
            *count += 1;
        }
        let key = (
            direction,
            process.comm,
            request.method,
            request.host,
            request.path,
        );
        if let Some(endpoint) = entry(&mut self.endpoints, key, beyond) {
            endpoint.calls += 1;
            match &call.response {
                Some(response) => *endpoint.statuses.entry(response.status).or_default() += 1,
                None => endpoint.unanswered += 1,
            }
            endpoint.without_auth += u64::from(matches!(request.auth.as_str(), "" | "none"));
            endpoint.tls += u64::from(call.tls.is_some());
        }
        let Some(verdict) = call
            .verdict
            .as_ref()
            .filter(|verdict| !matches!(verdict.action.as_str(), "" | "allow"))
        else {
            return;
        };
        let key = (
            verdict.action.clone(),
            verdict.mode.clone(),
            verdict.policy.clone(),
            verdict.rule.clone(),
        );
        if let Some(stopped) = entry(&mut self.verdicts, key, beyond) {
            stopped.calls += 1;
            let guarantee = match (verdict.would_be.as_str(), verdict.guarantee.as_str()) {
                ("", "") => "reported".to_owned(),
                ("", guarantee) => guarantee.to_owned(),
                (would_be, _) => format!("would be {would_be}"),
            };
            *stopped.guarantees.entry(guarantee).or_default() += 1;
            stopped.killed += u64::from(verdict.killed);
            stopped.collateral += u64::from(verdict.collateral);
        }
    }

    fn print(&self) {
        super::say!("{} calls", self.calls);
        let mut endpoints: Vec<_> = self.endpoints.iter().collect();
        endpoints.sort_by_key(|(_, endpoint)| std::cmp::Reverse(endpoint.calls));
        table(
            "Endpoints",
            [
                "CALLS",
                "DIRECTION",
                "PROCESS",
                "ENDPOINT",
                "STATUS",
                "NO AUTH",
                "TLS",
            ],
            endpoints
                .iter()
                .map(|((direction, comm, method, host, path), endpoint)| {
                    let mut statuses: Vec<String> = endpoint
                        .statuses
                        .iter()
                        .map(|(status, count)| format!("{status}×{count}"))
                        .collect();
                    if endpoint.unanswered > 0 {
                        statuses.push(format!("none×{}", endpoint.unanswered));
                    }
                    [
                        endpoint.calls.to_string(),
                        direction.clone(),
                        comm.clone(),
                        format!("{method} {host}{path}"),
                        statuses.join(" "),
                        endpoint.without_auth.to_string(),
                        endpoint.tls.to_string(),
                    ]
                }),
        );
        table(
            "Calls per process",
            ["CALLS", "DIRECTION", "EXECUTABLE"],
            self.processes
                .iter()
                .map(|((exe, direction), calls)| [calls.to_string(), direction.clone(), exe.clone()]),
        );
        if self.verdicts.is_empty() {
            super::say!("\nNo call matched a rule that denies or alerts.");
        } else {
            table(
                "What policy said",
                [
                    "CALLS",
                    "ACTION",
                    "MODE",
                    "RULE",
                    "GUARANTEE",
                    "KILLED",
                    "COLLATERAL",
                ],
                self.verdicts
                    .iter()
                    .map(|((action, mode, policy, rule), stopped)| {
                        let guarantees: Vec<String> = stopped
                            .guarantees
                            .iter()
                            .map(|(name, count)| format!("{name}×{count}"))
                            .collect();
                        [
                            stopped.calls.to_string(),
                            action.clone(),
                            mode.clone(),
                            format!("{policy}/{rule}"),
                            guarantees.join(", "),
                            stopped.killed.to_string(),
                            stopped.collateral.to_string(),
                        ]
                    }),
            );
        }
        if self.losses.is_empty() {
            super::say!("\nNothing was lost.");
        } else {
            table(
                "Not seen, or lost",
                ["REASON", "BYTES", "EVENTS", "FOR"],
                self.losses.iter().map(|(reason, (bytes, events, duration))| {
                    [
                        reason.clone(),
                        bytes.to_string(),
                        events.to_string(),
                        format!("{:.1} ms", *duration as f64 / 1e6),
                    ]
                }),
            );
        }
        let refused: u64 = self
            .audits
            .iter()
            .filter(|((_, accepted), _)| !accepted)
            .map(|(_, count)| count)
            .sum();
        super::say!(
            "\n{} changes of mode, policy or configuration, {refused} of them refused.",
            self.audits.values().sum::<u64>()
        );
        if self.beyond > 0 {
            super::say!("{} entries found no room in the tables.", self.beyond);
        }
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "calls": self.calls,
            "endpoints": self.endpoints.iter().map(|((direction, comm, method, host, path), endpoint)| serde_json::json!({
                "direction": direction, "process": comm, "method": method, "host": host, "path": path,
                "calls": endpoint.calls, "statuses": endpoint.statuses, "unanswered": endpoint.unanswered,
                "without_auth": endpoint.without_auth, "tls": endpoint.tls,
            })).collect::<Vec<_>>(),
            "processes": self.processes.iter().map(|((exe, direction), calls)| serde_json::json!({
                "exe": exe, "direction": direction, "calls": calls,
            })).collect::<Vec<_>>(),
            "verdicts": self.verdicts.iter().map(|((action, mode, policy, rule), stopped)| serde_json::json!({
                "action": action, "mode": mode, "policy": policy, "rule": rule, "calls": stopped.calls,
                "guarantees": stopped.guarantees, "killed": stopped.killed, "collateral": stopped.collateral,
            })).collect::<Vec<_>>(),
            "losses": self.losses.iter().map(|(reason, (bytes, events, duration))| serde_json::json!({
                "reason": reason, "bytes": bytes, "events": events, "duration_ns": duration,
            })).collect::<Vec<_>>(),
        })
    }
}

fn table<const N: usize>(title: &str, header: [&str; N], rows: impl ExactSizeIterator<Item = [String; N]>) {
    let total = rows.len();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows.take(ROWS_MAX) {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    super::say!("\n{title}\n{table}");
    if total > ROWS_MAX {
        super::say!("… and {} more; `--output json` has all", total - ROWS_MAX);
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let since = args
        .since
        .map(|since| now_ns().saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)));
    let filter = Filter {
        since_ns: since,
        ..Filter::default()
    };
    let mut summary = Summary::default();
    query::events(&args.data.data, &filter, &mut |event| {
        summary.take(&event);
        true
    })?;
    match args.output {
        Output::Json => super::say!("{}", summary.to_json()),
        Output::Table => summary.print(),
    }
    Ok(ExitCode::SUCCESS)
}
