//! What the agent knows → the events of the contract. The edge: after it there are only generated types.
//!
//! It copies the facts that may leave and touches nothing else: [`Raw`](crate::call::Raw) is never read here, and
//! the tests hold that against every byte of the output. The address of a TLS object does not leave either: it
//! would tell a reader where a process keeps its memory.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::LazyLock;

use apiward_proto::v1;

use super::clock::{self, Clock};
use crate::call::{ApiCall, BodyFacts, CallDirection, Protocol};
use crate::capture::{FlowId, FlowInfo, Process, TlsInfo};
use crate::detect::{Finding, Severity};
use crate::enforce::Outcome;
use crate::flow::{Account, Ledger};
use crate::policy::{Action, Verdict};

/// An ended call, with all that was thought and done about it. `outcome` is what enforcement says of a denial;
/// without one the guarantee stays empty, which is right for `allow` and `alert` alone.
pub fn call(
    clock: &Clock,
    call: &ApiCall,
    findings: &[Finding],
    judged: &Verdict,
    outcome: Option<&Outcome>,
) -> v1::Event {
    let event = v1::Call {
        direction: match call.direction {
            CallDirection::Inbound => v1::Direction::Inbound,
            CallDirection::Outbound => v1::Direction::Outbound,
        } as i32,
        protocol: match call.protocol {
            Protocol::Http1 => "http/1",
        }
        .to_owned(),
        process: Some(process(&call.process)),
        local: call.flow.local.map(peer),
        remote: call.flow.remote.map(peer),
        tls: call.flow.tls.as_ref().map(tls),
        request: Some(v1::Request {
            method: call.request.method.to_string(),
            path: call.request.path.clone(),
            host: call.request.host.clone(),
            auth: call.request.auth.as_str().to_owned(),
            trace_id: call.request.trace_id.as_deref().unwrap_or_default().to_owned(),
            body: Some(body(&call.request.body)),
            query_parameters: call.request.query_parameters,
            head_bytes: call.request.head_bytes,
            head_time_ns: clock.unix_ns(call.request.head_at),
            end_time_ns: clock.unix_ns(call.request.ended_at),
        }),
        response: call.response.as_ref().map(|response| v1::Response {
            status: response.status.into(),
            body: Some(body(&response.body)),
            head_time_ns: clock.unix_ns(response.head_at),
            first_byte_time_ns: clock.unix_ns(response.first_byte_at),
            last_byte_time_ns: clock.unix_ns(response.last_byte_at),
        }),
        state: call.state.as_str().to_owned(),
        anomalies: call
            .anomalies
            .iter()
            .map(|anomaly| anomaly.as_str().to_owned())
            .collect(),
        findings: findings.iter().map(finding).collect(),
        verdict: Some(verdict(judged, outcome)),
        loss_overlap: call.loss_overlap,
        flow_id: flow_id(&call.flow),
        ambiguous: call.ambiguous,
    };
    v1::Event {
        id: call.id.0.to_be_bytes().to_vec(),
        time_ns: clock.unix_ns(call.request.head_at),
        kind: Some(v1::event::Kind::Call(event)),
    }
}

/// Bytes, records or events that are missing. `reason` is one of the names in the contract's `FlowLoss`.
#[derive(Clone, Debug, Default)]
pub struct Loss<'a> {
    pub reason: &'static str,
    pub process: Option<&'a Process>,
    pub bytes: u64,
    pub records: u64,
    pub events: u64,
    pub duration_ns: u64,
    /// For people; shipped words and counts only.
    pub detail: String,
}

/// A loss, as an event of this moment.
pub fn flow_loss(loss: Loss<'_>) -> v1::Event {
    event_now(v1::event::Kind::FlowLoss(v1::FlowLoss {
        reason: loss.reason.to_owned(),
        process: loss.process.map(process),
        bytes: loss.bytes,
        records: loss.records,
        events: loss.events,
        duration_ns: loss.duration_ns,
        detail: loss.detail,
    }))
}

/// The account of a connection that has ended.
pub fn flow_end(clock: &Clock, ledger: &Ledger) -> v1::Event {
    let account = |account: Account| v1::Account {
        moved: account.moved,
        seen: account.seen,
        lost: account.lost,
    };
    let mut event = event_now(v1::event::Kind::FlowEnd(v1::FlowEnd {
        flow_id: flow_id(&ledger.flow),
        process: ledger.process.as_deref().map(process),
        local: ledger.flow.local.map(peer),
        remote: ledger.flow.remote.map(peer),
        tls: ledger.flow.tls.as_ref().map(tls),
        sent: Some(account(ledger.sent)),
        received: Some(account(ledger.received)),
        carries_tls: ledger.carries_tls,
        reset: ledger.reset,
    }));
    event.time_ns = clock.unix_ns(ledger.at);
    event
}

fn tls(tls: &TlsInfo) -> v1::Tls {
    v1::Tls {
        library: tls.library.to_string(),
        version: tls.version.to_string(),
    }
}

/// The agent's own state, as an event of this moment: `started`, `stopping`, `degraded`, `recovered` …
pub fn agent_state(state: &'static str, detail: impl Into<String>) -> v1::Event {
    event_now(v1::event::Kind::AgentState(v1::AgentState {
        state: state.to_owned(),
        detail: detail.into(),
    }))
}

/// Somebody changed, or tried to change, what the agent does.
#[derive(Clone, Debug)]
pub struct Change {
    /// `mode`, `policy`, `scope`, `redaction`, `configuration`.
    pub what: &'static str,
    pub accepted: bool,
    /// `uid=0 pid=12 (control socket)`, `signal`, `collector NAME`, `start`.
    pub who: String,
    /// Names what was in force before and is after: the mode itself, or the digest of the policies.
    pub old_digest: String,
    pub new_digest: String,
    /// What the caller gave as the reason; for a refusal, why it was refused.
    pub reason: String,
}

/// The record of a change, accepted or refused, as an event of this moment.
pub fn audit(change: Change) -> v1::Event {
    event_now(v1::event::Kind::Audit(v1::Audit {
        what: change.what.to_owned(),
        accepted: change.accepted,
        who: change.who,
        old_digest: change.old_digest,
        new_digest: change.new_digest,
        reason: change.reason,
    }))
}

/// Events that are not about a call have nothing to derive a name from: theirs are random.
fn event_now(kind: v1::event::Kind) -> v1::Event {
    v1::Event {
        id: rand::random::<u128>().to_be_bytes().to_vec(),
        time_ns: clock::wall_ns(),
        kind: Some(kind),
    }
}

/// A process, as it is named in events and in the status.
pub fn process(process: &Process) -> v1::Process {
    v1::Process {
        pid: process.pid,
        tid: process.tid,
        uid: process.uid,
        comm: process.comm.to_string(),
        exe: process.exe.to_string(),
        cgroup_id: process.cgroup_id,
        cgroup_path: process.cgroup_path.to_string(),
        container_id: process.container.as_deref().unwrap_or_default().to_owned(),
    }
}

fn peer(address: SocketAddr) -> v1::Peer {
    v1::Peer {
        // `::ffff:10.0.0.1` on a dual-stack socket is the same peer as `10.0.0.1`.
        address: address.ip().to_canonical().to_string(),
        port: address.port().into(),
    }
}

fn body(body: &BodyFacts) -> v1::Body {
    v1::Body {
        bytes_total: body.bytes_total,
        bytes_captured: body.bytes_captured,
        truncated: body.truncated,
        media_type: body.media_type.to_string(),
    }
}

fn finding(finding: &Finding) -> v1::Finding {
    v1::Finding {
        kind: finding.kind.to_string(),
        severity: match finding.severity {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
        .to_owned(),
        message: finding.message.clone(),
    }
}

fn verdict(verdict: &Verdict, outcome: Option<&Outcome>) -> v1::Verdict {
    // An outcome speaks of a denial. One that came with a milder verdict would claim what nobody did.
    let outcome = outcome.filter(|_| matches!(verdict.action, Action::Deny | Action::Kill));
    v1::Verdict {
        action: verdict.action.as_str().to_owned(),
        guarantee: outcome
            .map(|outcome| outcome.guarantee.as_str())
            .unwrap_or_default()
            .to_owned(),
        would_be: outcome
            .and_then(|outcome| outcome.would_be)
            .map(|guarantee| guarantee.as_str())
            .unwrap_or_default()
            .to_owned(),
        policy: verdict.policy.to_string(),
        rule: verdict.rule.to_string(),
        decided_by: verdict.decided_by.as_str().to_owned(),
        mode: verdict.mode.as_str().to_owned(),
        matched: verdict.matched.iter().map(|&name| name.to_owned()).collect(),
        source: verdict.source.to_string(),
        killed: outcome.is_some_and(|outcome| outcome.killed),
        collateral: outcome.map_or(0, |outcome| outcome.collateral),
        shortfall: outcome
            .map(|outcome| outcome.shortfall.clone())
            .unwrap_or_default(),
        require: verdict
            .require
            .map(|guarantee| guarantee.as_str())
            .unwrap_or_default()
            .to_owned(),
    }
}

/// Joins the calls of one connection, also those seen in clear and in its TLS object.
fn flow_id(flow: &FlowInfo) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    match (flow.carrier, flow.id) {
        (Some(cookie), _) | (None, FlowId::Socket(cookie)) => cookie,
        (None, tls @ FlowId::Tls { .. }) => KEY.hash_one(tls),
    }
}

#[cfg(test)]
mod tests;
