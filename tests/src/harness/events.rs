//! What the agent said: the lines of its JSON exporter, and questions about them.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{Result, until};

/// A trace id that occurs nowhere else, and the `traceparent` header with it (W3C Trace Context).
pub fn trace_ids(count: usize) -> Vec<String> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut seed = [0; 8];
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    let prefix = u64::from_be_bytes(seed) | 1;
    (0..count)
        .map(|_| format!("{prefix:016x}{:016x}", NEXT.fetch_add(1, Ordering::Relaxed)))
        .collect()
}

/// The header's line, without line ending.
pub fn traceparent(trace_id: &str) -> String {
    format!("traceparent: 00-{trace_id}-00f067aa0ba902b7-01")
}

/// A file of events that grows.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
    pub all: Vec<Value>,
}

impl Events {
    pub fn new(path: PathBuf) -> Events {
        Events {
            path,
            offset: 0,
            rest: Vec::new(),
            all: Vec::new(),
        }
    }

    /// Reads what is new. A line that is no JSON is an error.
    pub fn read(&mut self) -> Result<&[Value]> {
        let Ok(mut file) = std::fs::File::open(&self.path) else {
            return Ok(&self.all);
        };
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.read_to_end(&mut self.rest)? as u64;
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let event = serde_json::from_slice(&line)
                .with_context(|| format!("not a line of JSON: {}", String::from_utf8_lossy(&line)))?;
            self.all.push(event);
        }
        Ok(&self.all)
    }

    /// Waits until all events together satisfy.
    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&[Value]) -> bool) -> Result<&[Value]> {
        let waited = until(what, || Ok(holds(self.read()?)));
        waited.with_context(|| self.summary())?;
        Ok(&self.all)
    }

    /// Waits for `count` calls with these trace ids (or more), then returns them.
    pub fn wait_calls(&mut self, count: usize, ids: &[String]) -> Result<Vec<Value>> {
        let waited = self
            .wait(&format!("{count} calls are told"), |all| {
                with_ids(all, ids).len() >= count
            })
            .map(drop);
        if let Err(error) = waited {
            let is_missing = |id: &String| with_ids(&self.all, std::slice::from_ref(id)).is_empty();
            let missing: Vec<usize> = (0..ids.len())
                .filter(|&number| is_missing(&ids[number]))
                .collect();
            return Err(error.context(format!("not told, counted from 0: {missing:?}")));
        }
        Ok(with_ids(&self.all, ids).into_iter().cloned().collect())
    }

    /// Events of a kind, under its name.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        of_kind(&self.all, kind)
    }

    /// For messages: how many of what there are.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for event in &self.all {
            let call = &event["call"];
            let word = match event["kind"].as_str() {
                Some("call") => format!(
                    "{} {} {}{}",
                    text(&call["direction"]),
                    text(&call["process"]["comm"]),
                    text(&call["state"]),
                    if call["tls"].is_null() { "" } else { " tls" }
                ),
                Some("flow_loss") => format!(
                    "lost: {} {}",
                    text(&event["flow_loss"]["reason"]),
                    text(&event["flow_loss"]["detail"])
                ),
                Some("agent_state") => format!(
                    "state: {} {}",
                    text(&event["agent_state"]["state"]),
                    text(&event["agent_state"]["detail"])
                ),
                kind => kind.unwrap_or("?").to_owned(),
            };
            *counts.entry(word).or_default() += 1;
        }
        let words: Vec<String> = counts
            .iter()
            .map(|(word, count)| format!("  {count} × {word}"))
            .collect();
        format!("events so far:\n{}", words.join("\n"))
    }
}

/// Events of a kind, without their frame.
pub fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter()
        .filter(|event| event["kind"] == kind)
        .map(|event| &event[kind])
        .collect()
}

/// Calls with one of these trace ids.
pub fn with_ids<'a>(all: &'a [Value], ids: &[String]) -> Vec<&'a Value> {
    let ids: std::collections::HashSet<&str> = ids.iter().map(String::as_str).collect();
    of_kind(all, "call")
        .into_iter()
        .filter(|call| {
            call["request"]["trace_id"]
                .as_str()
                .is_some_and(|id| ids.contains(id))
        })
        .collect()
}

/// A string of an event, empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What has to be true of every call of a side.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    pub direction: &'a str,
    /// The executable's path, as `/proc/<pid>/exe` shows it.
    pub exe: &'a str,
    /// The process ids that may have made or served them; empty: any.
    pub pids: &'a [u32],
    pub tls: bool,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u64,
    /// Textual remote address.
    pub remote: &'a str,
}

/// Every id has exactly one call on this side, and each is right in every part.
pub fn check_side(calls: &[Value], ids: &[String], side: &Side<'_>) -> Result {
    let mut seen: BTreeMap<&str, u32> = ids.iter().map(|id| (id.as_str(), 0)).collect();
    let mut wrong = Vec::new();
    for call in calls {
        let process = &call["process"];
        if call["direction"] != side.direction || text(&process["exe"]) != side.exe {
            continue;
        }
        if call["tls"].is_null() == side.tls {
            continue;
        }
        let Some(count) = seen.get_mut(text(&call["request"]["trace_id"])) else {
            continue;
        };
        *count += 1;
        let pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let right = call["request"]["method"] == side.method
            && call["request"]["path"] == side.path
            && call["response"]["status"] == side.status
            && call["remote"]["address"] == side.remote
            && side.tls != text(&call["tls"]["version"]).is_empty()
            && call["state"] == "answered"
            && call["loss_overlap"] == false
            && call["anomalies"] == serde_json::json!([])
            && (side.pids.is_empty() || pid.is_some_and(|pid| side.pids.contains(&pid)));
        if !right {
            wrong.push(call);
        }
    }
    let missing: Vec<usize> = ids
        .iter()
        .enumerate()
        .filter(|(_, id)| seen[id.as_str()] == 0)
        .map(|(index, _)| index)
        .collect();
    let doubled = seen.values().filter(|&&count| count > 1).count();
    ensure!(
        missing.is_empty() && doubled == 0,
        "{} {}: {} of {} calls were not seen (numbers {:?} …), {doubled} more than once",
        side.exe,
        side.direction,
        missing.len(),
        ids.len(),
        &missing[..missing.len().min(20)]
    );
    if let Some(first) = wrong.first() {
        bail!(
            "{} calls of {side:?} are wrong, the first: {first:#}",
            wrong.len()
        );
    }
    Ok(())
}
