//! A call: what it was, what personal data it carried, what was found in it, and what was done about it.
//!
//! What was done is taken from the verdict's guarantee alone: a denial that was only observed is a detection.

use serde_json::{Map, Value, json};

use super::{
    Class, HIGH, INFORMATIONAL, LOW, MEDIUM, Record, connection, endpoint, milliseconds, or, process_of,
};
use crate::json::{duration_ns, id_text};
use crate::v1;

/// `action_id` and `disposition_id`.
const ALLOWED: (u8, u8) = (1, 1);
const BLOCKED: (u8, u8) = (2, 2);
const RESET: (u8, u8) = (2, 21);
const DETECTED: (u8, u8) = (3, 15);
const ALERTED: (u8, u8) = (3, 19);

pub(super) fn records(event: &v1::Event, call: &v1::Call) -> Vec<Record> {
    let mut records = vec![call_record(event, call)];
    if !call.data.is_empty() {
        records.push(data_finding(event, call));
    }
    if !call.findings.is_empty() {
        records.push(detection(event, call));
    }
    records
}

fn call_record(event: &v1::Event, call: &v1::Call) -> Record {
    let operation = call.operation.as_ref();
    let request = call.request.clone().unwrap_or_default();
    let (class, activity) = match operation {
        Some(operation) => (Class::API, api_activity(&operation.name, &request.method)),
        None => (Class::HTTP, http_activity(&request.method)),
    };
    let mut record = Record::new(event, "", class, activity, call_severity(call));
    involved(&mut record, call);
    if let Some(operation) = operation {
        let name = match operation.resource.as_str() {
            "" => operation.name.clone(),
            resource => format!("{} {resource}", operation.name),
        };
        record.set(
            "api",
            json!({
                "operation": name.trim(),
                "service": { "name": operation.api },
                "request": { "uid": id_text(&event.id) },
            }),
        );
        if !operation.subject.is_empty() {
            record.set(
                "resources",
                json!([{ "uid": operation.subject, "type": or(&operation.resource, "subject") }]),
            );
        }
        for detail in &operation.details {
            record.keep(&format!("operation.{}", detail.name), detail.value.as_str());
        }
        if operation.entries > 0 {
            record.keep("operation.entries", operation.entries);
        }
        // API Activity has no end of its own for what came back but these.
        record.keep("tls", call.tls.is_some());
    }
    tls(&mut record, call);
    http(&mut record, call, &request);
    match &call.response {
        Some(response) => {
            record.set("status_id", if response.status < 400 { 1 } else { 2 });
            record.set("status_code", response.status.to_string());
        }
        None => {
            record.set("status_id", if call.state == "switched" { 1 } else { 2 });
        }
    }
    record.set("status_detail", call.state.as_str());
    if let Some(duration) = duration_ns(call) {
        record.set("duration", duration / 1_000_000);
        record.set("start_time", milliseconds(request.head_time_ns));
        record.set(
            "end_time",
            milliseconds(request.head_time_ns.saturating_add(duration)),
        );
    }
    verdict(&mut record, call);
    record.keep_text("protocol", &call.protocol);
    record.keep_text("auth", &request.auth);
    if let Some(third) = &call.third_party {
        record.keep(
            "third_party",
            json!({ "domain": third.domain, "vendor": third.vendor, "agreement": third.agreement }),
        );
    }
    if let Some(credentials) = &request.credentials {
        // Keyed: who it is only whoever has the key can tell.
        record.keep_text("principal", &credentials.principal);
    }
    record.keep("loss_overlap", call.loss_overlap);
    if !call.anomalies.is_empty() {
        record.keep("anomalies", call.anomalies.clone());
    }
    record
}

/// Who it was between: the client is the source.
fn involved(record: &mut Record, call: &v1::Call) {
    let inbound = call.direction == v1::Direction::Inbound as i32;
    let (source, destination) = match inbound {
        true => (&call.remote, &call.local),
        false => (&call.local, &call.remote),
    };
    let host = call.request.as_ref().map_or("", |request| request.host.as_str());
    // Where a TLS object has no socket, the peer is not known: the process stands for its own end.
    let own = call.process.as_ref().map_or("", |process| process.exe.as_str());
    let mut source = endpoint(source.as_ref(), "", if inbound { "" } else { own });
    if source.is_empty() {
        source.insert("name".into(), "unknown".into());
    }
    record.set("src_endpoint", source);
    let destination = endpoint(destination.as_ref(), host, if inbound { own } else { "" });
    if !destination.is_empty() {
        record.set("dst_endpoint", destination);
    }
    if let Some(process) = &call.process {
        record.set("actor", json!({ "process": process_of(process) }));
    }
}

/// The connection's handshake, where it was seen: HTTP Activity has a place for it, API Activity has none.
fn tls(record: &mut Record, call: &v1::Call) {
    let Some(handshake) = call.tls.as_ref().and_then(|tls| tls.handshake.as_ref()) else {
        return;
    };
    let mut told = Map::new();
    told.insert("version".into(), or(&handshake.version, "unknown").into());
    for (name, text) in [("cipher", &handshake.cipher), ("sni", &handshake.server_name)] {
        if !text.is_empty() {
            told.insert(name.into(), text.as_str().into());
        }
    }
    if let Some(certificate) = handshake
        .certificate
        .as_ref()
        .filter(|shown| !shown.serial.is_empty())
    {
        let names: Vec<Value> = certificate
            .names
            .iter()
            .map(|name| json!({ "name": name, "type": "DNS" }))
            .collect();
        let mut shown = Map::new();
        shown.insert("serial_number".into(), certificate.serial.as_str().into());
        shown.insert("issuer".into(), or(&certificate.issuer, "unknown").into());
        shown.insert("is_self_signed".into(), certificate.self_signed.into());
        if !certificate.subject.is_empty() {
            shown.insert("subject".into(), certificate.subject.as_str().into());
        }
        for (name, seconds) in [
            ("created_time", certificate.not_before_s),
            ("expiration_time", certificate.not_after_s),
        ] {
            if seconds != 0 {
                shown.insert(name.into(), seconds.saturating_mul(1_000).into());
            }
        }
        if !names.is_empty() {
            shown.insert("sans".into(), names.into());
        }
        told.insert("certificate".into(), shown.into());
    }
    if record.class.uid == Class::HTTP.uid {
        record.set("tls", told);
    } else {
        record.keep("tls_handshake", told);
    }
    for (side, certificate) in [
        ("certificate", &handshake.certificate),
        ("client_certificate", &handshake.client_certificate),
    ] {
        if let Some(certificate) = certificate {
            record.keep_text(side, &certificate.known);
        }
    }
}

fn http(record: &mut Record, call: &v1::Call, request: &v1::Request) {
    if call.protocol == "mllp" {
        return;
    }
    let mut url = Map::new();
    url.insert("path".into(), or(&request.path, "/").into());
    url.insert(
        "scheme".into(),
        if call.tls.is_some() { "https" } else { "http" }.into(),
    );
    let mut told = Map::new();
    told.insert("url".into(), url.into());
    if !request.method.is_empty() {
        told.insert("http_method".into(), request.method.as_str().into());
    }
    if !request.trace_id.is_empty() {
        told.insert("uid".into(), request.trace_id.as_str().into());
    }
    if let Some(body) = &request.body {
        told.insert("body_length".into(), body.bytes_total.into());
    }
    record.set("http_request", told);
    if let Some(response) = &call.response {
        let mut told = Map::new();
        told.insert("code".into(), response.status.into());
        if let Some(body) = &response.body {
            told.insert("body_length".into(), body.bytes_total.into());
            if !body.media_type.is_empty() {
                told.insert("content_type".into(), body.media_type.as_str().into());
            }
        }
        if let Some(duration) = duration_ns(call) {
            told.insert("latency".into(), (duration / 1_000_000).into());
        }
        record.set("http_response", told);
    }
    if record.class.uid == Class::HTTP.uid {
        connection(record, call.direction, call.flow_id);
    }
}

fn verdict(record: &mut Record, call: &v1::Call) {
    let Some(verdict) = &call.verdict else { return };
    record.decided(decision(verdict));
    if !verdict.policy.is_empty() {
        record.set(
            "policy",
            json!({ "name": verdict.policy, "is_applied": verdict.mode == "enforce" }),
        );
        record.set("firewall_rule", json!({ "name": verdict.rule }));
    }
    for (name, text) in [
        ("guarantee", &verdict.guarantee),
        ("would_be", &verdict.would_be),
        ("decided_by", &verdict.decided_by),
        ("shortfall", &verdict.shortfall),
    ] {
        record.keep_text(name, text);
    }
    if verdict.collateral > 0 {
        record.keep("collateral", verdict.collateral);
    }
    if verdict.killed {
        record.keep("killed", true);
    }
}

/// What was done, never what was meant: a denial that was only observed is a detection, and one that was cut late is a
/// reset.
fn decision(verdict: &v1::Verdict) -> (u8, u8) {
    match (verdict.action.as_str(), verdict.guarantee.as_str()) {
        ("allow", _) => ALLOWED,
        ("alert", _) => ALERTED,
        ("deny" | "kill", "prevented" | "contained") => BLOCKED,
        ("deny" | "kill", "cut" | "killed") => RESET,
        _ => DETECTED,
    }
}

fn call_severity(call: &v1::Call) -> u8 {
    let found = call.findings.iter().map(|found| severity(&found.severity)).max();
    let decided = match call.verdict.as_ref().map_or("", |verdict| &verdict.action) {
        "deny" | "kill" => HIGH,
        "alert" => MEDIUM,
        _ => INFORMATIONAL,
    };
    found.unwrap_or(INFORMATIONAL).max(decided)
}

fn severity(name: &str) -> u8 {
    match name {
        "low" => LOW,
        "medium" => MEDIUM,
        "high" => HIGH,
        _ => INFORMATIONAL,
    }
}

fn http_activity(method: &str) -> u32 {
    match method {
        "CONNECT" => 1,
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "TRACE" => 8,
        "PATCH" => 9,
        "" => 0,
        _ => 99,
    }
}

/// Create, read, update, delete, by the operation's own name where it says so, else by the method.
fn api_activity(operation: &str, method: &str) -> u32 {
    match operation.split([' ', '-']).next().unwrap_or_default() {
        "create" => 1,
        "read" | "vread" | "search" | "history" | "capabilities" | "query" | "subscription" => 2,
        "update" | "patch" => 3,
        "delete" => 4,
        _ => match method {
            "GET" | "HEAD" | "OPTIONS" => 2,
            "PUT" | "PATCH" => 3,
            "DELETE" => 4,
            _ => 99,
        },
    }
}

/// Personal data went over the wire: which, how sure, where.
fn data_finding(event: &v1::Event, call: &v1::Call) -> Record {
    let mut record = Record::new(event, "data", Class::DATA_SECURITY, 1, data_severity(call));
    involved(&mut record, call);
    let mut classes: Vec<&str> = call.data.iter().map(|data| data.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    record.set(
        "finding_info",
        json!({
            "uid": format!("{}-data", id_text(&event.id)),
            "title": "Personal data in an API call",
            "types": classes,
        }),
    );
    let sure = call.data.iter().map(|data| data.confidence).max().unwrap_or(0);
    record.set("confidence_score", sure.min(100));
    record.set(
        "confidence_id",
        match sure {
            80.. => 3,
            50.. => 2,
            _ => 1,
        },
    );
    let found: Vec<Value> = call
        .data
        .iter()
        .map(|data| json!({ "type": data.class, "count": data.count, "value": format!("{} {}", data.part, data.location).trim_end() }))
        .collect();
    let category = match call
        .data
        .iter()
        .map(|data| data.group.as_str())
        .min_by_key(|group| rank(group))
    {
        Some("financial") => 3,
        Some("credential") => 6,
        Some(_) => 1,
        None => 0,
    };
    record.set(
        "data_security",
        json!({
            "category_id": category,
            "confidentiality_id": 2,
            "data_lifecycle_state_id": 2,
            "detection_system_id": 10,
            "discovery_details": found,
        }),
    );
    verdict(&mut record, call);
    record.keep(
        "groups",
        call.data
            .iter()
            .map(|data| data.group.as_str())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>(),
    );
    if let Some(request) = &call.request {
        record.keep_text("path", &request.path);
        record.keep_text("method", &request.method);
    }
    record
}

/// Whose class names the whole, most personal first.
fn rank(group: &str) -> u8 {
    match group {
        "phi" => 0,
        "health" => 1,
        "pii" => 2,
        "financial" => 3,
        _ => 4,
    }
}

fn data_severity(call: &v1::Call) -> u8 {
    let personal = call
        .data
        .iter()
        .any(|data| matches!(data.group.as_str(), "phi" | "health"));
    match (personal, call.tls.is_some()) {
        (true, false) => MEDIUM,
        (true, true) => LOW,
        _ => INFORMATIONAL,
    }
}

fn detection(event: &v1::Event, call: &v1::Call) -> Record {
    let worst = call.findings.iter().map(|found| severity(&found.severity)).max();
    let mut record = Record::new(
        event,
        "findings",
        Class::DETECTION,
        1,
        worst.unwrap_or(INFORMATIONAL),
    );
    let title = call
        .findings
        .iter()
        .max_by_key(|found| severity(&found.severity))
        .map_or("", |found| found.message.as_str());
    let kinds: Vec<&str> = call.findings.iter().map(|found| found.kind.as_str()).collect();
    record.set(
        "finding_info",
        json!({
            "uid": format!("{}-findings", id_text(&event.id)),
            "title": title,
            "types": kinds,
        }),
    );
    if let Some(process) = &call.process {
        record.set("actor", json!({ "process": process_of(process) }));
    }
    record.set("is_alert", worst.unwrap_or(INFORMATIONAL) >= MEDIUM);
    verdict(&mut record, call);
    if let Some(request) = &call.request {
        record.keep_text("path", &request.path);
        record.keep_text("method", &request.method);
    }
    record
}
