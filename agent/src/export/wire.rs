//! What the agent knows → the events of the contract. The edge: after it there are only generated types.
//!
//! It copies the facts that may leave and touches nothing else: [`Raw`](crate::call::Raw) is never read here, and
//! the tests hold that against every byte of the output. The address of a TLS object does not leave either: it
//! would tell a reader where a process keeps its memory.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use apiward_proto::v1;

pub use self::told::Told;
use super::clock::{self, Clock};
use crate::call::{ApiCall, BodyFacts, CallDirection, Credentials, Data, Operation, ThirdParty};
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
    let mut told = v1::Event::default();
    tell(&mut told, clock, call, findings, judged, outcome);
    if let Some(v1::event::Kind::Call(told)) = &mut told.kind {
        told.process = Some(process(&call.process));
        told.tls = tls_of(call);
    }
    told
}

/// All but its process and its TLS, in the memory of the call that was told last.
fn tell(
    event: &mut v1::Event,
    clock: &Clock,
    call: &ApiCall,
    findings: &[Finding],
    judged: &Verdict,
    outcome: Option<&Outcome>,
) {
    event.id.clear();
    event.id.extend_from_slice(&call.id.0.to_be_bytes());
    event.time_ns = clock.unix_ns(call.request.head_at);
    if !matches!(event.kind, Some(v1::event::Kind::Call(_))) {
        event.kind = Some(v1::event::Kind::Call(v1::Call::default()));
    }
    if let Some(v1::event::Kind::Call(told)) = &mut event.kind {
        tell_call(told, clock, call);
        tell_each(&mut told.findings, findings, tell_finding);
        tell_verdict(told.verdict.get_or_insert_default(), judged, outcome);
    }
}

fn tls_of(call: &ApiCall) -> Option<v1::Tls> {
    let mut told = call.flow.tls.as_ref().map(tls)?;
    told.handshake = call.tls.as_ref().map(tls::handshake);
    Some(told)
}

fn tell_call(told: &mut v1::Call, clock: &Clock, call: &ApiCall) {
    told.direction = match call.direction {
        CallDirection::Inbound => v1::Direction::Inbound,
        CallDirection::Outbound => v1::Direction::Outbound,
    } as i32;
    set(&mut told.protocol, call.protocol.as_str());
    tell_peer(&mut told.local, call.flow.local);
    tell_peer(&mut told.remote, call.flow.remote);
    let request = told.request.get_or_insert_default();
    set(&mut request.method, &call.request.method);
    set(&mut request.path, &call.request.path);
    set(&mut request.host, &call.request.host);
    set(&mut request.auth, call.request.auth.as_str());
    request.credentials = call.request.credentials.as_deref().map(credentials);
    set(
        &mut request.trace_id,
        call.request.trace_id.as_deref().unwrap_or_default(),
    );
    tell_body(request.body.get_or_insert_default(), &call.request.body);
    request.query_parameters = call.request.query_parameters;
    request.head_bytes = call.request.head_bytes;
    request.head_time_ns = clock.unix_ns(call.request.head_at);
    request.end_time_ns = clock.unix_ns(call.request.ended_at);
    match &call.response {
        None => told.response = None,
        Some(response) => {
            let told = told.response.get_or_insert_default();
            told.status = response.status.into();
            tell_body(told.body.get_or_insert_default(), &response.body);
            told.head_time_ns = clock.unix_ns(response.head_at);
            told.first_byte_time_ns = clock.unix_ns(response.first_byte_at);
            told.last_byte_time_ns = clock.unix_ns(response.last_byte_at);
        }
    }
    set(&mut told.state, call.state.as_str());
    told.anomalies.clear();
    told.anomalies
        .extend(call.anomalies.iter().map(|anomaly| anomaly.as_str().to_owned()));
    told.loss_overlap = call.loss_overlap;
    told.flow_id = flow_id(&call.flow);
    told.ambiguous = call.ambiguous;
    match call.operation.as_deref() {
        None => told.operation = None,
        Some(operation) => tell_operation(told.operation.get_or_insert_default(), operation),
    }
    tell_each(&mut told.data, &call.data, tell_data);
    told.third_party = call.third_party.as_deref().map(third_party);
}

fn credentials(credentials: &Credentials) -> v1::Credentials {
    let (service, region) = credentials.aws.clone().unwrap_or_default();
    // What ends before it begins, or before 1970, is told as not said.
    let seconds = |seconds: Option<i64>| {
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0)
    };
    v1::Credentials {
        principal: credentials.principal.as_deref().unwrap_or_default().to_owned(),
        principal_kind: credentials.principal_kind.to_owned(),
        api_key_in: credentials.api_key_in.to_owned(),
        session_cookie: credentials.session_cookie,
        client_certificate: credentials.client_certificate,
        in_url: credentials.in_url,
        jwt: credentials.jwt.as_deref().map(|jwt| v1::Jwt {
            alg: jwt.alg.to_string(),
            issuer: jwt.issuer.to_string(),
            audience: jwt.audience.to_string(),
            expires_s: seconds(jwt.expires),
            lifetime_s: seconds(jwt.lifetime_s),
            scopes: jwt.scopes.iter().map(ToString::to_string).collect(),
        }),
        aws_service: service.to_string(),
        aws_region: region.to_string(),
    }
}

fn tell_operation(told: &mut v1::Operation, operation: &Operation) {
    set(&mut told.api, operation.api.as_str());
    set(&mut told.name, &operation.name);
    set(&mut told.resource, &operation.resource);
    set(
        &mut told.subject,
        operation.subject.as_deref().unwrap_or_default(),
    );
    told.entries = operation.entries;
    tell_each(&mut told.details, &operation.details, |told, (name, value)| {
        set(&mut told.name, name);
        set(&mut told.value, value);
    });
}

fn tell_data(told: &mut v1::Data, data: &Data) {
    set(&mut told.class, &data.class);
    set(&mut told.group, data.group);
    set(&mut told.evidence, data.evidence.as_str());
    told.confidence = data.confidence.into();
    set(&mut told.part, data.part.as_str());
    set(&mut told.location, &data.location);
    told.count = data.count;
    set(&mut told.hash, data.hash.as_deref().unwrap_or_default());
}

/// One behind the other, in the memory of those that were told last.
fn tell_each<T: Default, F>(told: &mut Vec<T>, from: &[F], tell: impl Fn(&mut T, &F)) {
    told.resize_with(from.len(), T::default);
    for (told, from) in told.iter_mut().zip(from) {
        tell(told, from);
    }
}

fn third_party(third: &ThirdParty) -> v1::ThirdParty {
    let vendor = third.vendor.as_deref();
    v1::ThirdParty {
        domain: if third.shows {
            third.domain.to_string()
        } else {
            String::new()
        },
        vendor: vendor.map(|vendor| vendor.name.to_string()).unwrap_or_default(),
        owner: vendor.map(|vendor| vendor.owner.to_string()).unwrap_or_default(),
        agreement: third.agreement.as_str().to_owned(),
    }
}

fn set(text: &mut String, to: &str) {
    text.clear();
    text.push_str(to);
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
        handshake: None,
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

/// What has changed in the inventory, as an event of this moment.
pub(super) fn inventory(inventory: v1::Inventory) -> v1::Event {
    event_now(v1::event::Kind::Inventory(inventory))
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
    let mut told = v1::Process::default();
    tell_process(&mut told, process);
    told
}

fn tell_process(told: &mut v1::Process, process: &Process) {
    told.pid = process.pid;
    told.tid = process.tid;
    told.uid = process.uid;
    set(&mut told.comm, &process.comm);
    set(&mut told.exe, &process.exe);
    told.cgroup_id = process.cgroup_id;
    set(&mut told.cgroup_path, &process.cgroup_path);
    set(
        &mut told.container_id,
        process.container.as_deref().unwrap_or_default(),
    );
}

fn peer(address: SocketAddr) -> v1::Peer {
    let mut told = v1::Peer::default();
    set_address(&mut told.address, address.ip());
    told.port = address.port().into();
    told
}

fn tell_peer(told: &mut Option<v1::Peer>, address: Option<SocketAddr>) {
    let Some(address) = address else {
        *told = None;
        return;
    };
    let told = told.get_or_insert_default();
    set_address(&mut told.address, address.ip());
    told.port = address.port().into();
}

/// `::ffff:10.0.0.1` on a dual-stack socket is the same peer as `10.0.0.1`.
fn set_address(text: &mut String, address: IpAddr) {
    text.clear();
    match address.to_canonical() {
        // By hand: it is most of them, and the general way is several times dearer.
        IpAddr::V4(address) => {
            let (mut digits, mut length) = ([0; 15], 0);
            let mut write = |digit| {
                if let Some(place) = digits.get_mut(length) {
                    *place = digit;
                    length += 1;
                }
            };
            for (index, byte) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    write(b'.');
                }
                if byte >= 100 {
                    write(b'0' + byte / 100);
                }
                if byte >= 10 {
                    write(b'0' + byte / 10 % 10);
                }
                write(b'0' + byte % 10);
            }
            text.push_str(std::str::from_utf8(&digits[..length]).unwrap_or_default());
        }
        IpAddr::V6(address) => {
            // A string takes whatever is written.
            let _ = write!(text, "{address}");
        }
    }
}

fn tell_body(told: &mut v1::Body, body: &BodyFacts) {
    told.bytes_total = body.bytes_total;
    told.bytes_captured = body.bytes_captured;
    told.truncated = body.truncated;
    set(&mut told.media_type, &body.media_type);
}

fn tell_finding(told: &mut v1::Finding, finding: &Finding) {
    set(&mut told.kind, &finding.kind);
    set(
        &mut told.severity,
        match finding.severity {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        },
    );
    set(&mut told.message, &finding.message);
}

fn tell_verdict(told: &mut v1::Verdict, verdict: &Verdict, outcome: Option<&Outcome>) {
    // An outcome speaks of a denial. One that came with a milder verdict would claim what nobody did.
    let outcome = outcome.filter(|_| matches!(verdict.action, Action::Deny | Action::Kill));
    let would_be = outcome.and_then(|outcome| outcome.would_be);
    set(&mut told.action, verdict.action.as_str());
    set(
        &mut told.guarantee,
        outcome.map_or("", |outcome| outcome.guarantee.as_str()),
    );
    set(
        &mut told.would_be,
        would_be.map_or("", |guarantee| guarantee.as_str()),
    );
    set(&mut told.policy, &verdict.policy);
    set(&mut told.rule, &verdict.rule);
    set(&mut told.decided_by, verdict.decided_by.as_str());
    set(&mut told.mode, verdict.mode.as_str());
    told.matched.clear();
    told.matched
        .extend(verdict.matched.iter().map(|&name| name.to_owned()));
    set(&mut told.source, &verdict.source);
    told.killed = outcome.is_some_and(|outcome| outcome.killed);
    told.collateral = outcome.map_or(0, |outcome| outcome.collateral);
    set(
        &mut told.shortfall,
        outcome.map_or(verdict.shortfall, |outcome| outcome.shortfall.as_str()),
    );
    set(
        &mut told.require,
        verdict.require.map_or("", |guarantee| guarantee.as_str()),
    );
}

/// Joins the calls of one connection, also those seen in clear and in its TLS object.
fn flow_id(flow: &FlowInfo) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    match (flow.carrier, flow.id) {
        (Some(cookie), _) | (None, FlowId::Socket(cookie)) => cookie,
        (None, tls @ FlowId::Tls { .. }) => KEY.hash_one(tls),
    }
}

mod tls;
mod told;

#[cfg(test)]
mod tests;
