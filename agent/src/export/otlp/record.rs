//! An event → a log record of OpenTelemetry.
//!
//! What has a name in OpenTelemetry's semantic conventions (HTTP, network, process, container) goes under it, so
//! that ready-made searches and dashboards find it; the rest goes under `apiward.`. The source is the event of the
//! contract and nothing else: what the JSON line does not carry cannot come into a record. What is absent in an
//! event is absent here, never an empty string or a guessed zero.
//!
//! A span id is not among it: the agent keeps the trace id of a call's context, not the caller's span.

use apiward_proto::{json, v1};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// The version of the semantic conventions that the names come from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// About what a record of a call has.
const ATTRIBUTES: usize = 48;

/// Who reports: the same for every record of an agent.
pub fn resource(agent_id: &str, host: &str) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", "apiward");
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    attributes.text("service.instance.id", agent_id);
    attributes.text("host.name", host);
    attributes.text("os.type", "linux");
    attributes.text("apiward.agent.id", agent_id);
    Resource {
        attributes: attributes.0,
        ..Default::default()
    }
}

/// What made the records.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "apiward".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    }
}

/// One event as a record. The same event gives the same record, however often it is sent.
pub fn record(event: &v1::Event) -> LogRecord {
    let mut attributes = Attributes(Vec::with_capacity(ATTRIBUTES));
    attributes.text("apiward.event.id", &json::id_text(&event.id));
    let mut record = LogRecord {
        time_unix_nano: event.time_ns,
        observed_time_unix_nano: event.time_ns,
        event_name: format!("apiward.{}", json::kind_name(event)),
        ..Default::default()
    };
    let (severity, body) = match &event.kind {
        Some(v1::event::Kind::Call(call)) => {
            // A call is known when it has ended.
            let ended = call.request.as_ref().map_or(0, |request| request.end_time_ns);
            let answered = call
                .response
                .as_ref()
                .map_or(0, |response| response.last_byte_time_ns);
            record.observed_time_unix_nano = event.time_ns.max(ended).max(answered);
            record.trace_id = call.request.as_ref().map(trace_id).unwrap_or_default();
            attributes.call(call);
            (call_severity(call), call_sentence(call))
        }
        Some(v1::event::Kind::FlowLoss(loss)) => {
            attributes.loss(loss);
            (SeverityNumber::Warn, loss_sentence(loss))
        }
        Some(v1::event::Kind::FlowEnd(end)) => {
            attributes.flow_end(end);
            (SeverityNumber::Info, end_sentence(end))
        }
        Some(v1::event::Kind::AgentState(state)) => {
            attributes.text("apiward.agent.state", &state.state);
            attributes.text("apiward.detail", &state.detail);
            let sentence = match state.detail.as_str() {
                "" => format!("agent {}", state.state),
                detail => format!("agent {}: {detail}", state.state),
            };
            (state_severity(&state.state), sentence)
        }
        Some(v1::event::Kind::Audit(audit)) => {
            attributes.audit(audit);
            let severity = match audit.accepted {
                true => SeverityNumber::Info,
                false => SeverityNumber::Warn,
            };
            (severity, audit_sentence(audit))
        }
        Some(v1::event::Kind::Inventory(told)) => {
            attributes.inventory(told);
            (
                SeverityNumber::Info,
                format!("inventory: {} endpoints have changed", told.endpoints.len()),
            )
        }
        None => (SeverityNumber::Info, "an event of an unknown kind".to_owned()),
    };
    record.severity_number = severity as i32;
    record.severity_text = match severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    }
    .to_owned();
    record.body = Some(any(Value::StringValue(body)));
    record.attributes = attributes.0;
    record
}

/// 16 bytes from 32 hex digits; empty for anything else, and for the id that means "none" (W3C Trace Context §2.2.2).
fn trace_id(request: &v1::Request) -> Vec<u8> {
    let text = &request.trace_id;
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(id) if is_id && id != 0 => id.to_be_bytes().to_vec(),
        _ => Vec::new(),
    }
}

fn call_severity(call: &v1::Call) -> SeverityNumber {
    match call
        .verdict
        .as_ref()
        .map_or("", |verdict| verdict.action.as_str())
    {
        "deny" | "kill" => SeverityNumber::Error,
        "alert" => SeverityNumber::Warn,
        _ if call
            .findings
            .iter()
            .any(|finding| matches!(finding.severity.as_str(), "medium" | "high")) =>
        {
            SeverityNumber::Warn
        }
        _ => SeverityNumber::Info,
    }
}

fn state_severity(state: &str) -> SeverityNumber {
    match state {
        "degraded" | "capability-missing" | "overload-began" | "library-failed" => SeverityNumber::Warn,
        _ => SeverityNumber::Info,
    }
}

/// `inbound GET /Patient/{id}: 200; deny, contained, by ward/no-export`.
fn call_sentence(call: &v1::Call) -> String {
    let mut sentence = String::with_capacity(96);
    if let Some(direction) = json::direction_name(call.direction) {
        sentence.push_str(direction);
        sentence.push(' ');
    }
    if let Some(request) = &call.request {
        sentence.push_str(&request.method);
        sentence.push(' ');
        sentence.push_str(&request.path);
    }
    match &call.response {
        Some(response) => sentence.push_str(&format!(": {}", response.status)),
        None => sentence.push_str(&format!(": {}", call.state)),
    }
    if let Some(verdict) = &call.verdict {
        sentence.push_str("; ");
        sentence.push_str(&verdict.action);
        if !verdict.guarantee.is_empty() {
            sentence.push_str(", ");
            sentence.push_str(&verdict.guarantee);
        }
        if !verdict.policy.is_empty() {
            sentence.push_str(&format!(", by {}/{}", verdict.policy, verdict.rule));
        }
    }
    sentence
}

fn loss_sentence(loss: &v1::FlowLoss) -> String {
    let mut sentence = format!("loss ({})", loss.reason);
    for (count, unit) in [
        (loss.events, "events"),
        (loss.records, "records"),
        (loss.bytes, "bytes"),
    ] {
        if count > 0 {
            sentence.push_str(&format!(", {count} {unit}"));
        }
    }
    if !loss.detail.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&loss.detail);
    }
    sentence
}

fn end_sentence(end: &v1::FlowEnd) -> String {
    let part = |account: Option<&v1::Account>| {
        account.map_or("nothing".to_owned(), |account| {
            format!(
                "{} of {} bytes seen, {} lost",
                account.seen, account.moved, account.lost
            )
        })
    };
    format!(
        "connection ended: sent, {}; received, {}",
        part(end.sent.as_ref()),
        part(end.received.as_ref())
    )
}

fn audit_sentence(audit: &v1::Audit) -> String {
    let done = if audit.accepted { "accepted" } else { "refused" };
    format!("change of {} {done}, asked by {}", audit.what, audit.who)
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..Default::default()
    }
}

/// OpenTelemetry's integers are signed; a count beyond them (never seen, eight exabytes) is shown as their end.
fn integer(value: u64) -> Value {
    Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What is not there is not added.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(pair(key, Value::StringValue(value.to_owned())));
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.0.push(pair(key, integer(value)));
    }

    /// For numbers whose 0 says "not known".
    fn known(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.number(key, value);
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.0.push(pair(key, Value::BoolValue(value)));
    }

    /// 64-bit identifiers are text everywhere else too: many readers keep integers in a double.
    fn identifier(&mut self, key: &str, value: u64) {
        self.text(key, &format!("{value:016x}"));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let values = values
            .iter()
            .map(|value| any(Value::StringValue(value.clone())))
            .collect();
        self.0.push(pair(key, Value::ArrayValue(ArrayValue { values })));
    }

    fn call(&mut self, call: &v1::Call) {
        let inbound = call.direction == v1::Direction::Inbound as i32;
        self.text(
            "apiward.direction",
            json::direction_name(call.direction).unwrap_or_default(),
        );
        self.text("apiward.call.protocol", &call.protocol);
        self.text("apiward.call.state", &call.state);
        self.text("network.protocol.name", "http");
        if let Some(duration) = json::duration_ns(call) {
            self.number("apiward.call.duration_ns", duration);
        }
        self.connection(call.local.as_ref(), call.remote.as_ref(), call.flow_id);
        self.text("url.scheme", if call.tls.is_some() { "https" } else { "http" });
        self.tls(call.tls.as_ref());
        if let Some(process) = &call.process {
            self.process(process);
        }
        if let Some(request) = &call.request {
            self.request(request, inbound);
        }
        self.ends(call, inbound);
        match &call.response {
            Some(response) => self.response(response, inbound),
            // Without an answer the call's state is what went wrong with it.
            None => self.text("error.type", &call.state),
        }
        self.texts("apiward.anomalies", &call.anomalies);
        self.findings(&call.findings);
        if let Some(verdict) = &call.verdict {
            self.verdict(verdict);
        }
        self.flag("apiward.call.ambiguous", call.ambiguous);
        self.flag("apiward.call.loss_overlap", call.loss_overlap);
    }

    fn connection(&mut self, local: Option<&v1::Peer>, remote: Option<&v1::Peer>, flow_id: u64) {
        self.text("network.transport", "tcp");
        if let Some(address) = remote.or(local).map(|peer| peer.address.as_str()) {
            let family = match (address.contains(':'), address.contains('.')) {
                (true, _) => "ipv6",
                (_, true) => "ipv4",
                _ => "",
            };
            self.text("network.type", family);
        }
        for (peer, address, port) in [
            (local, "network.local.address", "network.local.port"),
            (remote, "network.peer.address", "network.peer.port"),
        ] {
            if let Some(peer) = peer.filter(|peer| !peer.address.is_empty()) {
                self.text(address, &peer.address);
                self.number(port, peer.port.into());
            }
        }
        self.identifier("apiward.flow.id", flow_id);
    }

    /// Who serves and who asks, in the words of the conventions. The server's name is what the request says.
    fn ends(&mut self, call: &v1::Call, inbound: bool) {
        let (server, client) = match inbound {
            true => (call.local.as_ref(), call.remote.as_ref()),
            false => (call.remote.as_ref(), call.local.as_ref()),
        };
        let host = call.request.as_ref().map_or("", |request| request.host.as_str());
        let (name, port) = split_host(host);
        let known = |peer: Option<&v1::Peer>| {
            peer.filter(|peer| !peer.address.is_empty())
                .map(|peer| (peer.address.clone(), u64::from(peer.port)))
        };
        let server = known(server);
        match (name, &server) {
            ("", Some((address, _))) => self.text("server.address", address),
            (name, _) => self.text("server.address", name),
        }
        if let Some(port) = port.or(server.map(|(_, port)| port)) {
            self.number("server.port", port);
        }
        if let Some((address, port)) = known(client).filter(|_| inbound) {
            self.text("client.address", &address);
            self.number("client.port", port);
        }
    }

    fn tls(&mut self, tls: Option<&v1::Tls>) {
        let Some(tls) = tls else { return };
        // The version is the library's; the protocol's is in the handshake.
        self.text("apiward.tls.library", &tls.library);
        self.text("apiward.tls.library.version", &tls.version);
        let Some(handshake) = &tls.handshake else {
            self.text("tls.protocol.name", "tls");
            return;
        };
        match handshake.version.as_str() {
            "ssl3" => {
                self.text("tls.protocol.name", "ssl");
                self.text("tls.protocol.version", "3");
            }
            version => {
                self.text("tls.protocol.name", "tls");
                self.text("tls.protocol.version", version);
            }
        }
        self.text("tls.cipher", &handshake.cipher);
        self.text("tls.client.server_name", &handshake.server_name);
        self.text("tls.next_protocol", &handshake.alpn);
        if let Some(resumed) = handshake.resumed {
            self.flag("tls.resumed", resumed);
        }
        self.texts("apiward.tls.alpn_offered", &handshake.alpn_offered);
        self.flag("apiward.tls.encrypted_hello", handshake.encrypted_hello);
        self.flag("apiward.tls.names_disagree", handshake.names_disagree);
        for (side, certificate) in [
            ("server", &handshake.certificate),
            ("client", &handshake.client_certificate),
        ] {
            let Some(certificate) = certificate else { continue };
            self.text(
                &format!("apiward.tls.{side}.certificate.known"),
                &certificate.known,
            );
            if certificate.chain == 0 {
                continue;
            }
            self.text(&format!("tls.{side}.subject"), &certificate.subject);
            self.text(&format!("tls.{side}.issuer"), &certificate.issuer);
            for (name, seconds) in [
                ("not_before", certificate.not_before_s),
                ("not_after", certificate.not_after_s),
            ] {
                if seconds != 0 {
                    self.text(
                        &format!("tls.{side}.{name}"),
                        &json::time_text(seconds.saturating_mul(1_000_000_000)),
                    );
                }
            }
            self.flag(
                &format!("apiward.tls.{side}.certificate.self_signed"),
                certificate.self_signed,
            );
            if side == "server" {
                self.flag("apiward.tls.server.certificate.expired", certificate.expired);
            }
        }
    }

    fn process(&mut self, process: &v1::Process) {
        self.number("process.pid", process.pid.into());
        self.number("thread.id", process.tid.into());
        self.number("process.real_user.id", process.uid.into());
        self.text("process.executable.name", &process.comm);
        self.text("process.executable.path", &process.exe);
        self.text("process.linux.cgroup", &process.cgroup_path);
        self.identifier("apiward.process.cgroup.id", process.cgroup_id);
        self.text("container.id", &process.container_id);
    }

    fn request(&mut self, request: &v1::Request, inbound: bool) {
        let method = match request.method.as_str() {
            // The agent's word for a method that is not registered; the conventions have another.
            "OTHER" => "_OTHER",
            method => method,
        };
        self.text("http.request.method", method);
        let path = if inbound { "http.route" } else { "url.template" };
        self.text(path, &request.path);
        self.text("apiward.request.auth", &request.auth);
        self.number(
            "apiward.request.query_parameters",
            request.query_parameters.into(),
        );
        self.number("apiward.request.head_bytes", request.head_bytes.into());
        self.body("request", request.body.as_ref());
        self.known("apiward.request.head_time_ns", request.head_time_ns);
        self.known("apiward.request.end_time_ns", request.end_time_ns);
    }

    fn response(&mut self, response: &v1::Response, inbound: bool) {
        self.number("http.response.status_code", response.status.into());
        // HTTP spans, "error.type": a server is not at fault for what its client asks.
        if response.status >= if inbound { 500 } else { 400 } {
            self.text("error.type", &response.status.to_string());
        }
        self.body("response", response.body.as_ref());
        self.known("apiward.response.head_time_ns", response.head_time_ns);
        self.known("apiward.response.first_byte_time_ns", response.first_byte_time_ns);
        self.known("apiward.response.last_byte_time_ns", response.last_byte_time_ns);
    }

    fn body(&mut self, of: &str, body: Option<&v1::Body>) {
        let Some(body) = body else { return };
        self.number(&format!("http.{of}.body.size"), body.bytes_total);
        self.number(&format!("apiward.{of}.body.captured"), body.bytes_captured);
        self.flag(&format!("apiward.{of}.body.truncated"), body.truncated);
        self.text(&format!("apiward.{of}.body.media_type"), &body.media_type);
    }

    fn findings(&mut self, findings: &[v1::Finding]) {
        if findings.is_empty() {
            return;
        }
        let values = findings
            .iter()
            .map(|finding| {
                let mut fields = Attributes::default();
                fields.text("kind", &finding.kind);
                fields.text("severity", &finding.severity);
                fields.text("message", &finding.message);
                any(Value::KvlistValue(KeyValueList { values: fields.0 }))
            })
            .collect();
        self.0
            .push(pair("apiward.findings", Value::ArrayValue(ArrayValue { values })));
    }

    fn verdict(&mut self, verdict: &v1::Verdict) {
        self.text("apiward.verdict.action", &verdict.action);
        self.text("apiward.verdict.guarantee", &verdict.guarantee);
        self.text("apiward.verdict.would_be", &verdict.would_be);
        self.text("apiward.verdict.policy", &verdict.policy);
        self.text("apiward.verdict.rule", &verdict.rule);
        self.text("apiward.verdict.decided_by", &verdict.decided_by);
        self.text("apiward.verdict.mode", &verdict.mode);
        self.texts("apiward.verdict.matched", &verdict.matched);
        self.text("apiward.verdict.source", &verdict.source);
        self.text("apiward.verdict.require", &verdict.require);
        self.flag("apiward.verdict.killed", verdict.killed);
        self.number("apiward.verdict.collateral", verdict.collateral.into());
        self.text("apiward.verdict.shortfall", &verdict.shortfall);
    }

    fn loss(&mut self, loss: &v1::FlowLoss) {
        self.text("apiward.loss.reason", &loss.reason);
        self.number("apiward.loss.bytes", loss.bytes);
        self.number("apiward.loss.records", loss.records);
        self.number("apiward.loss.events", loss.events);
        self.known("apiward.loss.duration_ns", loss.duration_ns);
        self.text("apiward.detail", &loss.detail);
        if let Some(process) = &loss.process {
            self.process(process);
        }
    }

    fn flow_end(&mut self, end: &v1::FlowEnd) {
        self.connection(end.local.as_ref(), end.remote.as_ref(), end.flow_id);
        self.tls(end.tls.as_ref());
        if let Some(process) = &end.process {
            self.process(process);
        }
        for (name, account) in [("sent", &end.sent), ("received", &end.received)] {
            if let Some(account) = account {
                self.number(&format!("apiward.flow.{name}.moved"), account.moved);
                self.number(&format!("apiward.flow.{name}.seen"), account.seen);
                self.number(&format!("apiward.flow.{name}.lost"), account.lost);
            }
        }
        self.flag("apiward.flow.carries_tls", end.carries_tls);
        self.flag("apiward.flow.reset", end.reset);
    }

    fn inventory(&mut self, inventory: &v1::Inventory) {
        let mut text = b"[".to_vec();
        for endpoint in &inventory.endpoints {
            if text.len() > 1 {
                text.push(b',');
            }
            json::endpoint(endpoint, &mut text);
        }
        text.push(b']');
        // Lists of lists have no attribute form that receivers agree on.
        self.text("apiward.inventory.endpoints", &String::from_utf8_lossy(&text));
    }

    fn audit(&mut self, audit: &v1::Audit) {
        self.text("apiward.audit.what", &audit.what);
        self.flag("apiward.audit.accepted", audit.accepted);
        self.text("apiward.audit.who", &audit.who);
        self.text("apiward.audit.old_digest", &audit.old_digest);
        self.text("apiward.audit.new_digest", &audit.new_digest);
        self.text("apiward.audit.reason", &audit.reason);
    }
}

/// The two parts of a `Host` (RFC 9110 §7.2); IPv6 addresses without their brackets.
fn split_host(host: &str) -> (&str, Option<u64>) {
    let (name, port) = match host.rsplit_once(':') {
        // A colon within brackets, or one of many, belongs to an address.
        Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, port.parse::<u16>().ok().map(u64::from))
        }
        _ => (host, None),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    (bare.unwrap_or(name), port)
}

#[cfg(test)]
pub(super) mod tests;
