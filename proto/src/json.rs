//! An event as one line of JSON: what the agent's `jsonl` exporter writes, and what the collector's `query` and
//! the commands with `--output json` print. One shape, so that a tool written against one reads them all.
//!
//! It is on the agent's hot path (one line a call), so it goes from borrowed fields straight into the caller's
//! buffer: no tree of values, no copy of a string. It must not know policy, time zones or exporters.
//!
//! The shape:
//! - `kind` says which of `call`, `flow_loss`, `flow_end`, `agent_state`, `audit`, `inventory` is there, under its own name.
//! - What is absent is `null`, never an empty string, so that a query can tell the two apart.
//! - Times are RFC 3339 in UTC with nanoseconds; durations are in nanoseconds and end in `_ns`.
//! - 64-bit identifiers are strings of hex digits: a JSON number is a double to many readers (RFC 8259 §6).

use serde::{Serialize, Serializer};

use crate::v1;

mod inventory;
mod tls;
mod values;
mod writer;
mod written;

pub use inventory::{endpoint, quantile};
use values::{Hex, Number64, Time, time};
pub use values::{id_text, time_text};
use written::OrWritten;
pub use written::Written;

/// Appends `event` as one line, with its line feed, to `out`.
pub fn line(event: &v1::Event, out: &mut Vec<u8>) {
    line_with(event, Written::default(), out);
}

/// As [`line`], of a call of which some is written already.
pub fn line_with(event: &v1::Event, written: Written<'_>, out: &mut Vec<u8>) {
    object(&EventJson::of(event, written), out);
    out.push(b'\n');
}

/// Appends `event` as a JSON object, without a line feed, to `out`.
pub fn value(event: &v1::Event, out: &mut Vec<u8>) {
    object(&EventJson::of(event, Written::default()), out);
}

/// Appends a process as a JSON object, for [`Written`].
pub fn process(process: &v1::Process, out: &mut Vec<u8>) {
    object(&As(process), out);
}

/// Appends what is known of a call's TLS, likewise.
pub fn tls(tls: &v1::Tls, out: &mut Vec<u8>) {
    object(&TlsJson::of(tls), out);
}

fn object(shape: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    // Every shape here has a form; if the writer ever thinks otherwise, half an object must not stay behind.
    if writer::write(shape, out).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
}

/// The name of an event's kind, as in `kind`.
pub fn kind_name(event: &v1::Event) -> &'static str {
    match &event.kind {
        Some(v1::event::Kind::Call(_)) => "call",
        Some(v1::event::Kind::FlowLoss(_)) => "flow_loss",
        Some(v1::event::Kind::FlowEnd(_)) => "flow_end",
        Some(v1::event::Kind::AgentState(_)) => "agent_state",
        Some(v1::event::Kind::Audit(_)) => "audit",
        Some(v1::event::Kind::Inventory(_)) => "inventory",
        // Made by a newer agent than this reader.
        None => "unknown",
    }
}

/// The name of a direction, `None` where the sender did not say.
pub fn direction_name(direction: i32) -> Option<&'static str> {
    match v1::Direction::try_from(direction) {
        Ok(v1::Direction::Inbound) => Some("inbound"),
        Ok(v1::Direction::Outbound) => Some("outbound"),
        _ => None,
    }
}

/// A message that gets its shape where it is written: a call's has a kilobyte, and would be moved from hand to hand.
struct As<'a, T>(&'a T);

/// Messages, each likewise.
struct Each<'a, T>(&'a [T]);

/// A call, likewise, with what of it is written already.
struct CallWith<'a>(&'a v1::Call, Written<'a>);

impl Serialize for CallWith<'_> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CallJson::of(self.0, self.1).serialize(serializer)
    }
}

trait Shaped {
    fn shape(&self) -> impl Serialize;
}

impl<T: Shaped> Serialize for As<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.shape().serialize(serializer)
    }
}

impl<T: Shaped> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(As))
    }
}

impl Shaped for v1::Process {
    fn shape(&self) -> impl Serialize {
        ProcessJson::of(self)
    }
}

impl Shaped for v1::Request {
    fn shape(&self) -> impl Serialize {
        RequestJson::of(self)
    }
}

impl Shaped for v1::Response {
    fn shape(&self) -> impl Serialize {
        ResponseJson::of(self)
    }
}

impl Shaped for v1::Operation {
    fn shape(&self) -> impl Serialize {
        OperationJson::of(self)
    }
}

impl Shaped for v1::Data {
    fn shape(&self) -> impl Serialize {
        DataJson::of(self)
    }
}

impl Shaped for v1::Verdict {
    fn shape(&self) -> impl Serialize {
        VerdictJson::of(self)
    }
}

#[derive(Serialize)]
struct EventJson<'a> {
    kind: &'static str,
    id: Hex<'a>,
    time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<CallWith<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_loss: Option<FlowLossJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_end: Option<FlowEndJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_state: Option<AgentStateJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory: Option<inventory::InventoryJson<'a>>,
}

impl<'a> EventJson<'a> {
    fn of(event: &'a v1::Event, written: Written<'a>) -> Self {
        let mut json = EventJson {
            kind: kind_name(event),
            id: Hex(&event.id),
            time: time(event.time_ns),
            call: None,
            flow_loss: None,
            flow_end: None,
            agent_state: None,
            audit: None,
            inventory: None,
        };
        match &event.kind {
            Some(v1::event::Kind::Call(call)) => json.call = Some(CallWith(call, written)),
            Some(v1::event::Kind::FlowLoss(loss)) => json.flow_loss = Some(FlowLossJson::of(loss)),
            Some(v1::event::Kind::FlowEnd(end)) => json.flow_end = Some(FlowEndJson::of(end)),
            Some(v1::event::Kind::AgentState(state)) => json.agent_state = Some(AgentStateJson::of(state)),
            Some(v1::event::Kind::Audit(audit)) => json.audit = Some(AuditJson::of(audit)),
            Some(v1::event::Kind::Inventory(told)) => {
                json.inventory = Some(inventory::InventoryJson::of(told))
            }
            None => {}
        }
        json
    }
}

#[derive(Serialize)]
struct CallJson<'a> {
    direction: Option<&'static str>,
    protocol: Option<&'a str>,
    state: Option<&'a str>,
    /// From the request's head to the last byte of the response.
    duration_ns: Option<u64>,
    process: OrWritten<'a, As<'a, v1::Process>>,
    local: Option<PeerJson<'a>>,
    remote: Option<PeerJson<'a>>,
    tls: OrWritten<'a, TlsJson<'a>>,
    request: Option<As<'a, v1::Request>>,
    response: Option<As<'a, v1::Response>>,
    operation: Option<As<'a, v1::Operation>>,
    data: Each<'a, v1::Data>,
    third_party: Option<inventory::ThirdPartyJson<'a>>,
    anomalies: &'a [String],
    findings: Findings<'a>,
    verdict: Option<As<'a, v1::Verdict>>,
    ambiguous: bool,
    loss_overlap: bool,
    flow_id: Number64,
}

impl<'a> CallJson<'a> {
    fn of(call: &'a v1::Call, written: Written<'a>) -> Self {
        CallJson {
            direction: direction_name(call.direction),
            protocol: text(&call.protocol),
            state: text(&call.state),
            duration_ns: duration_ns(call),
            process: OrWritten::of(written.process, call.process.as_ref().map(As)),
            local: call.local.as_ref().and_then(PeerJson::of),
            remote: call.remote.as_ref().and_then(PeerJson::of),
            tls: OrWritten::of(written.tls, call.tls.as_ref().map(TlsJson::of)),
            request: call.request.as_ref().map(As),
            response: call.response.as_ref().map(As),
            operation: call.operation.as_ref().map(As),
            data: Each(&call.data),
            third_party: call.third_party.as_ref().map(inventory::ThirdPartyJson::of),
            anomalies: &call.anomalies,
            findings: Findings(&call.findings),
            verdict: call.verdict.as_ref().map(As),
            ambiguous: call.ambiguous,
            loss_overlap: call.loss_overlap,
            flow_id: Number64(call.flow_id),
        }
    }
}

/// Nanoseconds from the request's head to the last byte of the response; `None` without both.
pub fn duration_ns(call: &v1::Call) -> Option<u64> {
    let start = call.request.as_ref()?.head_time_ns;
    let end = call.response.as_ref()?.last_byte_time_ns;
    (start != 0 && end >= start).then(|| end - start)
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    tid: u32,
    uid: u32,
    comm: &'a str,
    exe: Option<&'a str>,
    cgroup_id: Number64,
    cgroup_path: Option<&'a str>,
    container_id: Option<&'a str>,
}

impl<'a> ProcessJson<'a> {
    fn of(process: &'a v1::Process) -> Self {
        ProcessJson {
            pid: process.pid,
            tid: process.tid,
            uid: process.uid,
            comm: &process.comm,
            exe: text(&process.exe),
            cgroup_id: Number64(process.cgroup_id),
            cgroup_path: text(&process.cgroup_path),
            container_id: text(&process.container_id),
        }
    }
}

#[derive(Serialize)]
struct PeerJson<'a> {
    address: &'a str,
    port: u32,
}

impl<'a> PeerJson<'a> {
    /// `None` where the address is unknown: a TLS object without a socket has no peer, not the peer "".
    fn of(peer: &'a v1::Peer) -> Option<Self> {
        (!peer.address.is_empty()).then_some(PeerJson {
            address: &peer.address,
            port: peer.port,
        })
    }
}

#[derive(Serialize)]
struct TlsJson<'a> {
    library: &'a str,
    version: Option<&'a str>,
    handshake: Option<tls::HandshakeJson<'a>>,
}

impl<'a> TlsJson<'a> {
    fn of(tls: &'a v1::Tls) -> Self {
        TlsJson {
            library: &tls.library,
            version: text(&tls.version),
            handshake: tls.handshake.as_ref().map(tls::HandshakeJson::of),
        }
    }
}

#[derive(Serialize)]
struct BodyJson<'a> {
    bytes_total: u64,
    bytes_captured: u64,
    truncated: bool,
    media_type: Option<&'a str>,
}

impl<'a> BodyJson<'a> {
    fn of(body: &'a v1::Body) -> Self {
        BodyJson {
            bytes_total: body.bytes_total,
            bytes_captured: body.bytes_captured,
            truncated: body.truncated,
            media_type: text(&body.media_type),
        }
    }
}

#[derive(Serialize)]
struct RequestJson<'a> {
    method: &'a str,
    path: &'a str,
    host: Option<&'a str>,
    auth: Option<&'a str>,
    credentials: Option<CredentialsJson<'a>>,
    trace_id: Option<&'a str>,
    query_parameters: u32,
    head_bytes: u32,
    body: Option<BodyJson<'a>>,
    head_time: Option<Time>,
    end_time: Option<Time>,
}

impl<'a> RequestJson<'a> {
    fn of(request: &'a v1::Request) -> Self {
        RequestJson {
            method: &request.method,
            path: &request.path,
            host: text(&request.host),
            auth: text(&request.auth),
            credentials: request.credentials.as_ref().map(CredentialsJson::of),
            trace_id: text(&request.trace_id),
            query_parameters: request.query_parameters,
            head_bytes: request.head_bytes,
            body: request.body.as_ref().map(BodyJson::of),
            head_time: time(request.head_time_ns),
            end_time: time(request.end_time_ns),
        }
    }
}

/// What a request's credentials are, without the credentials.
#[derive(Serialize)]
struct CredentialsJson<'a> {
    principal: Option<&'a str>,
    principal_kind: Option<&'a str>,
    api_key_in: Option<&'a str>,
    session_cookie: bool,
    client_certificate: bool,
    in_url: bool,
    jwt: Option<JwtJson<'a>>,
    aws_service: Option<&'a str>,
    aws_region: Option<&'a str>,
}

impl<'a> CredentialsJson<'a> {
    fn of(credentials: &'a v1::Credentials) -> Self {
        CredentialsJson {
            principal: text(&credentials.principal),
            principal_kind: text(&credentials.principal_kind),
            api_key_in: text(&credentials.api_key_in),
            session_cookie: credentials.session_cookie,
            client_certificate: credentials.client_certificate,
            in_url: credentials.in_url,
            jwt: credentials.jwt.as_ref().map(|jwt| JwtJson {
                alg: text(&jwt.alg),
                issuer: text(&jwt.issuer),
                audience: text(&jwt.audience),
                expires_s: (jwt.expires_s != 0).then_some(jwt.expires_s),
                lifetime_s: (jwt.lifetime_s != 0).then_some(jwt.lifetime_s),
                scopes: &jwt.scopes,
            }),
            aws_service: text(&credentials.aws_service),
            aws_region: text(&credentials.aws_region),
        }
    }
}

#[derive(Serialize)]
struct JwtJson<'a> {
    alg: Option<&'a str>,
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    expires_s: Option<u64>,
    lifetime_s: Option<u64>,
    scopes: &'a [String],
}

#[derive(Serialize)]
struct ResponseJson<'a> {
    status: u32,
    body: Option<BodyJson<'a>>,
    head_time: Option<Time>,
    first_byte_time: Option<Time>,
    last_byte_time: Option<Time>,
}

impl<'a> ResponseJson<'a> {
    fn of(response: &'a v1::Response) -> Self {
        ResponseJson {
            status: response.status,
            body: response.body.as_ref().map(BodyJson::of),
            head_time: time(response.head_time_ns),
            first_byte_time: time(response.first_byte_time_ns),
            last_byte_time: time(response.last_byte_time_ns),
        }
    }
}

/// The findings of a call, written one by one.
struct Findings<'a>(&'a [v1::Finding]);

impl Serialize for Findings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|finding| FindingJson {
            kind: &finding.kind,
            severity: &finding.severity,
            message: &finding.message,
        }))
    }
}

#[derive(Serialize)]
struct FindingJson<'a> {
    kind: &'a str,
    severity: &'a str,
    message: &'a str,
}

/// What a call does, in the words of the API standard that it speaks.
#[derive(Serialize)]
struct OperationJson<'a> {
    api: &'a str,
    name: Option<&'a str>,
    resource: Option<&'a str>,
    subject: Option<&'a str>,
    entries: u32,
    details: Each<'a, v1::Detail>,
}

impl Shaped for v1::Detail {
    fn shape(&self) -> impl Serialize {
        DetailJson {
            name: &self.name,
            value: &self.value,
        }
    }
}

#[derive(Serialize)]
struct DetailJson<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> OperationJson<'a> {
    fn of(operation: &'a v1::Operation) -> Self {
        OperationJson {
            api: &operation.api,
            name: text(&operation.name),
            resource: text(&operation.resource),
            subject: text(&operation.subject),
            entries: operation.entries,
            details: Each(&operation.details),
        }
    }
}

/// Personal data of one class at one place.
#[derive(Serialize)]
struct DataJson<'a> {
    class: &'a str,
    group: &'a str,
    evidence: &'a str,
    confidence: u32,
    part: &'a str,
    location: Option<&'a str>,
    count: u32,
    hash: Option<&'a str>,
}

impl<'a> DataJson<'a> {
    fn of(data: &'a v1::Data) -> Self {
        DataJson {
            class: &data.class,
            group: &data.group,
            evidence: &data.evidence,
            confidence: data.confidence,
            part: &data.part,
            location: text(&data.location),
            count: data.count,
            hash: text(&data.hash),
        }
    }
}

#[derive(Serialize)]
struct VerdictJson<'a> {
    action: &'a str,
    guarantee: Option<&'a str>,
    would_be: Option<&'a str>,
    policy: Option<&'a str>,
    rule: Option<&'a str>,
    decided_by: Option<&'a str>,
    mode: Option<&'a str>,
    matched: &'a [String],
    source: Option<&'a str>,
    require: Option<&'a str>,
    killed: bool,
    collateral: u32,
    shortfall: Option<&'a str>,
}

impl<'a> VerdictJson<'a> {
    fn of(verdict: &'a v1::Verdict) -> Self {
        VerdictJson {
            action: &verdict.action,
            guarantee: text(&verdict.guarantee),
            would_be: text(&verdict.would_be),
            policy: text(&verdict.policy),
            rule: text(&verdict.rule),
            decided_by: text(&verdict.decided_by),
            mode: text(&verdict.mode),
            matched: &verdict.matched,
            source: text(&verdict.source),
            require: text(&verdict.require),
            killed: verdict.killed,
            collateral: verdict.collateral,
            shortfall: text(&verdict.shortfall),
        }
    }
}

#[derive(Serialize)]
struct FlowLossJson<'a> {
    reason: &'a str,
    process: Option<ProcessJson<'a>>,
    bytes: u64,
    records: u64,
    events: u64,
    duration_ns: u64,
    detail: Option<&'a str>,
}

impl<'a> FlowLossJson<'a> {
    fn of(loss: &'a v1::FlowLoss) -> Self {
        FlowLossJson {
            reason: &loss.reason,
            process: loss.process.as_ref().map(ProcessJson::of),
            bytes: loss.bytes,
            records: loss.records,
            events: loss.events,
            duration_ns: loss.duration_ns,
            detail: text(&loss.detail),
        }
    }
}

#[derive(Serialize)]
struct FlowEndJson<'a> {
    flow_id: Number64,
    process: Option<ProcessJson<'a>>,
    local: Option<PeerJson<'a>>,
    remote: Option<PeerJson<'a>>,
    tls: Option<TlsJson<'a>>,
    sent: Option<AccountJson>,
    received: Option<AccountJson>,
    carries_tls: bool,
    reset: bool,
}

impl<'a> FlowEndJson<'a> {
    fn of(end: &'a v1::FlowEnd) -> Self {
        FlowEndJson {
            flow_id: Number64(end.flow_id),
            process: end.process.as_ref().map(ProcessJson::of),
            local: end.local.as_ref().and_then(PeerJson::of),
            remote: end.remote.as_ref().and_then(PeerJson::of),
            tls: end.tls.as_ref().map(TlsJson::of),
            sent: end.sent.as_ref().map(AccountJson::of),
            received: end.received.as_ref().map(AccountJson::of),
            carries_tls: end.carries_tls,
            reset: end.reset,
        }
    }
}

#[derive(Serialize)]
struct AccountJson {
    moved: u64,
    seen: u64,
    lost: u64,
}

impl AccountJson {
    fn of(account: &v1::Account) -> Self {
        AccountJson {
            moved: account.moved,
            seen: account.seen,
            lost: account.lost,
        }
    }
}

#[derive(Serialize)]
struct AgentStateJson<'a> {
    state: &'a str,
    detail: Option<&'a str>,
}

impl<'a> AgentStateJson<'a> {
    fn of(state: &'a v1::AgentState) -> Self {
        AgentStateJson {
            state: &state.state,
            detail: text(&state.detail),
        }
    }
}

#[derive(Serialize)]
struct AuditJson<'a> {
    what: &'a str,
    accepted: bool,
    who: &'a str,
    old_digest: Option<&'a str>,
    new_digest: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> AuditJson<'a> {
    fn of(audit: &'a v1::Audit) -> Self {
        AuditJson {
            what: &audit.what,
            accepted: audit.accepted,
            who: &audit.who,
            old_digest: text(&audit.old_digest),
            new_digest: text(&audit.new_digest),
            reason: text(&audit.reason),
        }
    }
}

/// proto3 has no absent strings: empty stands for it there, `null` here.
fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
pub(crate) mod tests;
