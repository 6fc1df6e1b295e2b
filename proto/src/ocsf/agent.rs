//! What the agent says of connections and of itself: accounts, losses, states, changes.
//!
//! Who began a connection its account does not say, so its record does not either.

use serde_json::json;

use super::{Class, INFORMATIONAL, MEDIUM, Record, connection, endpoint, or, process_of};
use crate::json::kind_name;
use crate::v1;

pub(super) fn flow_end(event: &v1::Event, end: &v1::FlowEnd) -> Record {
    let activity = if end.reset { 3 } else { 2 };
    let mut record = Record::new(event, "", Class::NETWORK, activity, INFORMATIONAL);
    let mut source = endpoint(end.local.as_ref(), "", "");
    if source.is_empty() {
        source.insert("name".into(), "unknown".into());
    }
    record.set("src_endpoint", source);
    let destination = endpoint(end.remote.as_ref(), "", "");
    if !destination.is_empty() {
        record.set("dst_endpoint", destination);
    }
    // Which end began it the account does not say.
    record.set("is_src_dst_assignment_known", false);
    if let Some(process) = &end.process {
        record.set("actor", json!({ "process": process_of(process) }));
    }
    let account = |account: &Option<v1::Account>| account.unwrap_or_default();
    let (sent, received) = (account(&end.sent), account(&end.received));
    record.set(
        "traffic",
        json!({
            "bytes": sent.moved.saturating_add(received.moved),
            "bytes_out": sent.moved,
            "bytes_in": received.moved,
            "bytes_missed": sent.lost.saturating_add(received.lost),
        }),
    );
    connection(&mut record, 0, end.flow_id);
    record.keep("carries_tls", end.carries_tls);
    record
}

pub(super) fn loss(event: &v1::Event, loss: &v1::FlowLoss) -> Record {
    let mut record = Record::new(event, "", Class::ERROR, 1, MEDIUM);
    record.set("status_id", 2);
    record.set_text("status_code", &loss.reason);
    record.set_text("message", &loss.detail);
    record.set("status_detail", "what was not seen, or could not be told");
    if let Some(process) = &loss.process {
        record.set("actor", json!({ "process": process_of(process) }));
    }
    for (name, count) in [
        ("bytes", loss.bytes),
        ("records", loss.records),
        ("events", loss.events),
        ("duration_ns", loss.duration_ns),
    ] {
        if count > 0 {
            record.keep(name, count);
        }
    }
    record
}

pub(super) fn state(event: &v1::Event, state: &v1::AgentState) -> Record {
    let (activity, severity) = match state.state.as_str() {
        "started" => (3, INFORMATIONAL),
        "stopping" => (4, INFORMATIONAL),
        "released" => (7, MEDIUM),
        "degraded" | "capability-missing" | "overload-began" | "library-failed" | "program-detached" => {
            (99, MEDIUM)
        }
        _ => (99, INFORMATIONAL),
    };
    let mut record = Record::new(event, "", Class::LIFECYCLE, activity, severity);
    if activity == 99 {
        record.set("activity_name", state.state.as_str());
    }
    record.set(
        "app",
        json!({ "name": "apiward", "vendor_name": "Apiward", "version": env!("CARGO_PKG_VERSION") }),
    );
    record.set_text("message", &state.detail);
    record.set("status_detail", state.state.as_str());
    record
}

pub(super) fn audit(event: &v1::Event, audit: &v1::Audit) -> Record {
    let severity = if audit.accepted { INFORMATIONAL } else { MEDIUM };
    let mut record = Record::new(event, "", Class::ENTITY, 3, severity);
    record.set(
        "entity",
        json!({ "name": audit.what, "type_id": if audit.what == "policy" { 5 } else { 99 }, "type": audit.what, "version": audit.old_digest }),
    );
    record.set(
        "entity_result",
        json!({ "name": audit.what, "type_id": if audit.what == "policy" { 5 } else { 99 }, "type": audit.what, "version": audit.new_digest }),
    );
    record.set("status_id", if audit.accepted { 1 } else { 2 });
    record.set("actor", json!({ "user": { "name": or(&audit.who, "unknown") } }));
    record.set_text("comment", &audit.reason);
    record
}

/// What has no class there, whole under `unmapped`.
pub(super) fn other(event: &v1::Event) -> Record {
    let mut record = Record::new(event, "", Class::BASE, 99, INFORMATIONAL);
    let kind = kind_name(event);
    record.set("activity_name", kind);
    let mut told = Vec::new();
    crate::json::value(event, &mut told);
    if let Ok(mut told) = serde_json::from_slice::<serde_json::Value>(&told) {
        record.keep(kind, told[kind].take());
    }
    record
}
