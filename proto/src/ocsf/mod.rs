//! An event in the Open Cybersecurity Schema Framework, version 1.8 (<https://schema.ocsf.io/1.8.0>): what a SIEM that
//! speaks it takes as it is.
//!
//! | event | class |
//! |---|---|
//! | call | HTTP Activity 4002; API Activity 6003 where an API standard was recognised |
//! | call with personal data | Data Security Finding 2006 beside it |
//! | call with findings | Detection Finding 2004 beside it |
//! | connection's account | Network Activity 4001 |
//! | loss | Application Error 6008 |
//! | agent's state | Application Lifecycle 6002 |
//! | audit | Entity Management 3004 |
//! | inventory | Base Event 0 |
//!
//! What has no place there goes under `unmapped`. The source is the event and nothing else: what the JSON line does not
//! carry cannot come into a record. Times are milliseconds since 1970 (`timestamp_t`).

mod agent;
mod call;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::json::{direction_name, id_text};
use crate::v1;

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// Who reports, as far as the event does not say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter<'a> {
    /// The agent's id; empty: not known.
    pub agent: &'a str,
    /// The host's name; empty: not known.
    pub host: &'a str,
}

/// `severity_id`.
const INFORMATIONAL: u8 = 1;
const LOW: u8 = 2;
const MEDIUM: u8 = 3;
const HIGH: u8 = 4;

/// The records of one event, the main one first. The same event gives the same records.
pub fn records(event: &v1::Event, reporter: Reporter<'_>) -> Vec<Value> {
    let records = match &event.kind {
        Some(v1::event::Kind::Call(call)) => call::records(event, call),
        Some(v1::event::Kind::FlowEnd(end)) => vec![agent::flow_end(event, end)],
        Some(v1::event::Kind::FlowLoss(loss)) => vec![agent::loss(event, loss)],
        Some(v1::event::Kind::AgentState(state)) => vec![agent::state(event, state)],
        Some(v1::event::Kind::Audit(audit)) => vec![agent::audit(event, audit)],
        _ => vec![agent::other(event)],
    };
    records
        .into_iter()
        .map(|record| record.reported(reporter))
        .collect()
}

/// Appends the records of one event, each as a line.
pub fn lines(event: &v1::Event, reporter: Reporter<'_>, out: &mut Vec<u8>) {
    for record in records(event, reporter) {
        out.extend_from_slice(record.to_string().as_bytes());
        out.push(b'\n');
    }
}

#[derive(Clone, Copy)]
struct Class {
    uid: u32,
    category: u32,
    /// It has a place for the host and for what was decided (the profiles `host` and `security_control`).
    has_profiles: bool,
}

impl Class {
    const BASE: Class = Class::new(0, 0, false);
    const DETECTION: Class = Class::new(2004, 2, true);
    const DATA_SECURITY: Class = Class::new(2006, 2, true);
    const ENTITY: Class = Class::new(3004, 3, true);
    const NETWORK: Class = Class::new(4001, 4, true);
    const HTTP: Class = Class::new(4002, 4, true);
    const LIFECYCLE: Class = Class::new(6002, 6, true);
    const API: Class = Class::new(6003, 6, true);
    const ERROR: Class = Class::new(6008, 6, true);

    const fn new(uid: u32, category: u32, has_profiles: bool) -> Self {
        Class {
            uid,
            category,
            has_profiles,
        }
    }
}

struct Record {
    class: Class,
    fields: Map<String, Value>,
    unmapped: Map<String, Value>,
    profiles: Vec<&'static str>,
}

impl Record {
    /// `part` tells the records of one event apart.
    fn new(event: &v1::Event, part: &str, class: Class, activity: u32, severity: u8) -> Self {
        let mut record = Record {
            class,
            fields: Map::new(),
            unmapped: Map::new(),
            profiles: Vec::new(),
        };
        let id = id_text(&event.id);
        record.set("activity_id", activity);
        record.set("category_uid", class.category);
        record.set("class_uid", class.uid);
        record.set("type_uid", class.uid * 100 + activity);
        record.set("severity_id", severity);
        record.set("time", milliseconds(event.time_ns));
        record.set(
            "metadata",
            json!({
                "version": VERSION,
                "uid": if part.is_empty() { id.clone() } else { format!("{id}-{part}") },
                "original_event_uid": id,
                "product": {
                    "name": "Apiward",
                    "vendor_name": "Apiward",
                    "version": env!("CARGO_PKG_VERSION"),
                },
            }),
        );
        record
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Where there is one.
    fn set_text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.set(name, text);
        }
    }

    fn keep(&mut self, name: &str, value: impl Into<Value>) {
        self.unmapped.insert(name.to_owned(), value.into());
    }

    fn keep_text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.keep(name, text);
        }
    }

    fn decided(&mut self, (action, disposition): (u8, u8)) {
        self.profiles.push("security_control");
        self.set("action_id", action);
        self.set("disposition_id", disposition);
    }

    /// The host, in its place: the record is complete.
    fn reported(mut self, reporter: Reporter<'_>) -> Value {
        if self.class.has_profiles && !(reporter.host.is_empty() && reporter.agent.is_empty()) {
            self.profiles.push("host");
            let mut device = Map::new();
            device.insert("type_id".into(), 1.into());
            for (name, text) in [("hostname", reporter.host), ("uid", reporter.agent)] {
                if !text.is_empty() {
                    device.insert(name.into(), text.into());
                }
            }
            self.set("device", device);
        } else if self.fields.contains_key("actor") {
            self.profiles.push("host");
        }
        if !self.profiles.is_empty()
            && let Some(Value::Object(metadata)) = self.fields.get_mut("metadata")
        {
            metadata.insert("profiles".into(), self.profiles.clone().into());
        }
        if !self.unmapped.is_empty() {
            let unmapped = std::mem::take(&mut self.unmapped);
            self.set("unmapped", unmapped);
        }
        Value::Object(self.fields)
    }
}

fn endpoint(peer: Option<&v1::Peer>, host: &str, service: &str) -> Map<String, Value> {
    let mut endpoint = Map::new();
    if let Some(peer) = peer.filter(|peer| !peer.address.is_empty()) {
        endpoint.insert("ip".into(), peer.address.as_str().into());
        endpoint.insert("port".into(), peer.port.into());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // A name that could not be shown is none.
    if !name.is_empty() && !name.contains(['{', '[']) && name.parse::<std::net::IpAddr>().is_err() {
        endpoint.insert("hostname".into(), name.into());
    }
    if !service.is_empty() {
        endpoint.insert("svc_name".into(), service.into());
    }
    endpoint
}

fn process_of(process: &v1::Process) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("pid".into(), process.pid.into());
    told.insert("tid".into(), process.tid.into());
    if !process.comm.is_empty() {
        told.insert("name".into(), process.comm.as_str().into());
    }
    told.insert("user".into(), json!({ "uid": process.uid.to_string() }));
    if let Some(name) = process.exe.rsplit('/').next().filter(|name| !name.is_empty()) {
        told.insert(
            "file".into(),
            json!({ "name": name, "path": process.exe, "type_id": 1 }),
        );
    }
    told
}

fn connection(record: &mut Record, direction: i32, flow: u64) {
    let direction = match direction_name(direction) {
        Some("inbound") => 1,
        Some("outbound") => 2,
        _ => 0,
    };
    record.set(
        "connection_info",
        json!({
            "direction_id": direction,
            "protocol_num": 6,
            "protocol_name": "tcp",
            "uid": format!("{flow:016x}"),
        }),
    );
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn milliseconds(ns: u64) -> u64 {
    ns / 1_000_000
}
