//! `summary`: what the stored events say together.
//!
//! `report` puts the figures on paper; here they are computed, from the stored events alone.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use apiward_proto::{json, v1};

use super::{Output, duration};
use crate::store::now_ns;
use crate::store::query::{self, Filter};

mod report;

/// Different keys that are kept of one table.
const KEYS_MAX: usize = 10_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: super::DataArgs,
    /// Events of this time up to now: 30s, 10m, 2h, 7d.
    #[arg(long, value_parser = duration)]
    since: Option<Duration>,
    /// Events of this agent.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What somebody calls: method, host and path template.
type Call = (String, String, String);

#[derive(Default)]
struct Endpoint {
    calls: u64,
    /// By process.
    served_by: BTreeMap<String, u64>,
    made_by: BTreeMap<String, u64>,
    statuses: BTreeMap<u32, u64>,
    unanswered: u64,
    without_auth: u64,
    tls: u64,
}

/// What a rule did, or would have done.
#[derive(Default)]
struct Decided {
    calls: u64,
    /// By guarantee: the measured one, or in observe mode the one that enforce mode would have had.
    guarantees: BTreeMap<String, u64>,
    killed: u64,
    collateral: u64,
    /// Why a guarantee was weaker than asked.
    shortfalls: BTreeMap<String, u64>,
    endpoints: BTreeMap<Call, u64>,
    /// Direction, process, peer.
    parties: BTreeMap<(String, String, String), u64>,
}

/// An executable's calls.
#[derive(Default)]
struct Program {
    calls: u64,
    tls: u64,
    decided: u64,
    /// Different processes, by id.
    processes: BTreeMap<u32, ()>,
}

/// What was not seen.
#[derive(Default)]
struct Loss {
    bytes: u64,
    records: u64,
    events: u64,
    duration_ns: u64,
}

/// The figures, by what they are of.
#[derive(Default)]
struct Summary {
    /// Of all kinds.
    events: u64,
    calls: u64,
    served: u64,
    made: u64,
    tls: u64,
    without_auth: u64,
    /// Calls that overlap a loss.
    incomplete: u64,
    /// Times of the first and the last event, ns.
    first_ns: u64,
    last_ns: u64,
    endpoints: BTreeMap<Call, Endpoint>,
    /// Executable, direction.
    programs: BTreeMap<(String, String), Program>,
    /// Mode, action, policy, rule.
    decided: BTreeMap<(String, String, String, String), Decided>,
    losses: BTreeMap<String, Loss>,
    audits: BTreeMap<(String, bool), u64>,
    /// Of keys that found no room.
    beyond: u64,
    /// Rows that could not be read.
    unreadable: u64,
}

fn entry<'m, K: Ord, V: Default>(map: &'m mut BTreeMap<K, V>, key: K, beyond: &mut u64) -> Option<&'m mut V> {
    if map.len() >= KEYS_MAX && !map.contains_key(&key) {
        *beyond += 1;
        return None;
    }
    Some(map.entry(key).or_default())
}

fn count<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, beyond: &mut u64) {
    if let Some(count) = entry(map, key, beyond) {
        *count += 1;
    }
}

impl Summary {
    fn take(&mut self, event: &v1::Event) {
        self.events += 1;
        self.first_ns = match self.first_ns {
            0 => event.time_ns,
            first => first.min(event.time_ns),
        };
        self.last_ns = self.last_ns.max(event.time_ns);
        match &event.kind {
            Some(v1::event::Kind::Call(call)) => self.call(call),
            Some(v1::event::Kind::FlowLoss(loss)) => {
                if let Some(sum) = entry(&mut self.losses, loss.reason.clone(), &mut self.beyond) {
                    sum.bytes = sum.bytes.saturating_add(loss.bytes);
                    sum.records = sum.records.saturating_add(loss.records);
                    sum.events = sum.events.saturating_add(loss.events);
                    sum.duration_ns = sum.duration_ns.saturating_add(loss.duration_ns);
                }
            }
            Some(v1::event::Kind::Audit(audit)) => {
                count(
                    &mut self.audits,
                    (audit.what.clone(), audit.accepted),
                    &mut self.beyond,
                );
            }
            _ => {}
        }
    }

    fn call(&mut self, call: &v1::Call) {
        let request = call.request.clone().unwrap_or_default();
        let process = call.process.clone().unwrap_or_default();
        let direction = json::direction_name(call.direction).unwrap_or("-").to_owned();
        let is_tls = u64::from(call.tls.is_some());
        let is_anonymous = u64::from(matches!(request.auth.as_str(), "" | "none"));
        let verdict = call
            .verdict
            .as_ref()
            .filter(|verdict| !matches!(verdict.action.as_str(), "" | "allow"));
        self.calls += 1;
        self.served += u64::from(direction == "inbound");
        self.made += u64::from(direction == "outbound");
        self.tls += is_tls;
        self.without_auth += is_anonymous;
        self.incomplete += u64::from(call.loss_overlap);

        let beyond = &mut self.beyond;
        if let Some(program) = entry(&mut self.programs, (process.exe, direction.clone()), beyond) {
            program.calls += 1;
            program.tls += is_tls;
            program.decided += u64::from(verdict.is_some());
            let _ = entry(&mut program.processes, process.pid, beyond);
        }
        let what: Call = (request.method, request.host, request.path);
        if let Some(endpoint) = entry(&mut self.endpoints, what.clone(), beyond) {
            endpoint.calls += 1;
            let side = match direction.as_str() {
                "inbound" => &mut endpoint.served_by,
                _ => &mut endpoint.made_by,
            };
            count(side, process.comm.clone(), beyond);
            match &call.response {
                Some(response) => *endpoint.statuses.entry(response.status).or_default() += 1,
                None => endpoint.unanswered += 1,
            }
            endpoint.without_auth += is_anonymous;
            endpoint.tls += is_tls;
        }
        let Some(verdict) = verdict else {
            return;
        };
        let key = (
            verdict.mode.clone(),
            verdict.action.clone(),
            verdict.policy.clone(),
            verdict.rule.clone(),
        );
        if let Some(decided) = entry(&mut self.decided, key, beyond) {
            decided.calls += 1;
            let guarantee = match (verdict.would_be.as_str(), verdict.guarantee.as_str()) {
                ("", guarantee) => guarantee,
                (would_be, _) => would_be,
            };
            if !guarantee.is_empty() {
                count(&mut decided.guarantees, guarantee.to_owned(), beyond);
            }
            if !verdict.shortfall.is_empty() {
                count(&mut decided.shortfalls, verdict.shortfall.clone(), beyond);
            }
            decided.killed += u64::from(verdict.killed);
            decided.collateral += u64::from(verdict.collateral);
            count(&mut decided.endpoints, what, beyond);
            let peer = call.remote.clone().unwrap_or_default().address;
            count(&mut decided.parties, (direction, process.comm, peer), beyond);
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let call =
            |(method, host, path): &Call| serde_json::json!({ "method": method, "host": host, "path": path });
        serde_json::json!({
            "events": self.events, "calls": self.calls, "inbound": self.served, "outbound": self.made, "tls": self.tls,
            "without_auth": self.without_auth, "loss_overlap": self.incomplete,
            "first_time_ns": self.first_ns, "last_time_ns": self.last_ns,
            "endpoints": self.endpoints.iter().map(|((method, host, path), endpoint)| serde_json::json!({
                "method": method, "host": host, "path": path, "calls": endpoint.calls,
                "served_by": endpoint.served_by, "made_by": endpoint.made_by, "statuses": endpoint.statuses, "unanswered": endpoint.unanswered,
                "without_auth": endpoint.without_auth, "tls": endpoint.tls,
            })).collect::<Vec<_>>(),
            "processes": self.programs.iter().map(|((exe, direction), program)| serde_json::json!({
                "exe": exe, "direction": direction, "calls": program.calls, "tls": program.tls,
                "verdicts": program.decided, "processes": program.processes.len(),
            })).collect::<Vec<_>>(),
            "verdicts": self.decided.iter().map(|((mode, action, policy, rule), decided)| serde_json::json!({
                "action": action, "mode": mode, "policy": policy, "rule": rule, "calls": decided.calls,
                "guarantees": decided.guarantees, "killed": decided.killed, "collateral": decided.collateral,
                "shortfalls": decided.shortfalls,
                "endpoints": decided.endpoints.iter().map(|(what, calls)| {
                    let mut line = call(what);
                    line["calls"] = (*calls).into();
                    line
                }).collect::<Vec<_>>(),
                "parties": decided.parties.iter().map(|((direction, comm, peer), calls)| serde_json::json!({
                    "direction": direction, "process": comm, "peer": peer, "calls": calls,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "losses": self.losses.iter().map(|(reason, loss)| serde_json::json!({
                "reason": reason, "bytes": loss.bytes, "records": loss.records, "events": loss.events,
                "duration_ns": loss.duration_ns,
            })).collect::<Vec<_>>(),
            "audits": self.audits.iter().map(|((what, accepted), count)| serde_json::json!({
                "what": what, "accepted": accepted, "count": count,
            })).collect::<Vec<_>>(),
            "entries_without_room": self.beyond,
            "events_unreadable": self.unreadable,
        })
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let since = args
        .since
        .map(|since| now_ns().saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)));
    let filter = Filter {
        since_ns: since,
        agent: args.agent.clone(),
        ..Filter::default()
    };
    let mut summary = Summary::default();
    summary.unreadable = query::events(&args.data.data, &filter, &mut |event| {
        summary.take(&event);
        true
    })?;
    let text = match args.output {
        Output::Json => summary.to_json().to_string(),
        Output::Table => report::text(&summary, report::Paper::of_stdout()),
    };
    super::say!("{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
