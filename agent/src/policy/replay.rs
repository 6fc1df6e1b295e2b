//! Calls that were stored → what policies say of them now, and what redaction made undecidable.
//!
//! A stored call holds no values: segments and hosts may be hidden, headers and bodies are gone. So a verdict is asked for
//! more than once: with the hidden words as something that no policy names, with each word that a policy names in their
//! place, and with conditions on what was not kept taken for true and for false. Where the answers differ, nobody can
//! tell, and that is said. It must not know where calls are stored.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smol_str::SmolStr;

use super::model::example;
use super::path::Segment;
use super::set::PolicySet;
use super::words::reads;
use super::{Action, Engine, Mode, Verdict};
use crate::call::{ApiCall, AuthScheme, CallDirection, CallId, CallState, Phase};
use crate::capture::{KernelTime, SocketRole, TlsInfo};
use crate::detect::{Finding, Severity};

/// A call as it is stored.
#[derive(Clone, Debug, Default)]
pub struct StoredCall {
    pub inbound: bool,
    pub method: String,
    /// As it was shown.
    pub path: String,
    pub host: String,
    pub auth: String,
    pub peer: Option<IpAddr>,
    pub tls: bool,
    pub exe: String,
    pub comm: String,
    pub cgroup_path: String,
    pub container: Option<String>,
    pub uid: u32,
    pub pid: u32,
    pub ambiguous: bool,
    pub status: u16,
    pub request_bytes: u64,
    pub request_media: String,
    pub response_bytes: u64,
    pub response_media: String,
    /// Kind and severity.
    pub findings: Vec<(String, String)>,
    /// When it began, ns.
    pub at_ns: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// With everything hidden taken for what no policy names.
    pub verdict: Verdict,
    /// What would have to be known: `path`, `host`, `values`. Empty: it is decided.
    pub undecidable: Vec<&'static str>,
}

/// Fields of which a stored call holds nothing.
const VALUES: &[&str] = &[
    "call.request.target",
    "call.request.query",
    "call.request.headers",
    "call.request.body.text",
    "call.response.headers",
    "call.response.body.text",
    "call.anomalies",
];
/// What no policy names.
const UNNAMED: &str = "\u{2026}";
/// Other readings of one call that are tried.
const READINGS_MAX: usize = 512;

/// Policies, ready for stored calls.
pub struct Replay {
    engine: Engine,
    /// Rates are charged once: what is only supposed has engines of its own.
    supposed: Engine,
    values_hold: Engine,
    values_fail: Engine,
    number: u128,
}

impl Replay {
    /// The policies as if they enforced.
    pub fn new(set: &Arc<PolicySet>) -> Replay {
        let engine = |set: Arc<PolicySet>| Engine::new(set, Mode::Enforce, Vec::new());
        Replay {
            engine: engine(set.clone()),
            supposed: engine(set.clone()),
            values_hold: engine(Arc::new(supposing(set, true))),
            values_fail: engine(Arc::new(supposing(set, false))),
            number: 0,
        }
    }

    /// One call; in the order of time, for rates.
    pub fn judge(&mut self, stored: &StoredCall) -> Option<Replayed> {
        self.number += 1;
        let (mut call, findings) = call_of(stored);
        call.id = CallId(self.number);
        let hidden_path = stored.path.contains('{');
        let hidden_host = stored.host.starts_with("host-");
        set_path(&mut call, &read_as(&stored.path, None));
        let verdict = verdict(&mut self.engine, &call, &findings)?;
        let mut undecidable = Vec::new();
        let holds = self::verdict(&mut self.values_hold, &call, &findings);
        let fails = self::verdict(&mut self.values_fail, &call, &findings);
        if holds.as_ref().map(|one| one.action) != fails.as_ref().map(|one| one.action) {
            undecidable.push("values");
        }
        let differs = |engine: &mut Engine, call: &ApiCall| {
            self::verdict(engine, call, &findings)
                .is_some_and(|other| is_denial(&other) != is_denial(&verdict))
        };
        if hidden_path {
            let readings = readings(self.engine.set(), &stored.path);
            if readings.iter().take(READINGS_MAX).any(|path| {
                let mut other = call.clone();
                set_path(&mut other, path);
                differs(&mut self.supposed, &other)
            }) {
                undecidable.push("path");
            }
        }
        if hidden_host {
            let literals: Vec<SmolStr> = self.engine.set().literals().to_vec();
            let names = literals.iter().filter(|name| !name.contains('/'));
            if names.take(READINGS_MAX).any(|name| {
                let mut other = call.clone();
                // `*.vendor.example` is met by a name below it.
                other.raw.host = name.replace('*', "x").to_string();
                differs(&mut self.supposed, &other)
            }) {
                undecidable.push("host");
            }
        }
        Some(Replayed { verdict, undecidable })
    }
}

/// The action keeps the call from its end.
fn is_denial(verdict: &Verdict) -> bool {
    matches!(verdict.action, Action::Deny | Action::Kill)
}

fn verdict(engine: &mut Engine, call: &ApiCall, findings: &[Finding]) -> Option<Verdict> {
    [Phase::Head, Phase::Request, Phase::Complete]
        .into_iter()
        .find_map(|phase| engine.evaluate(call, findings, phase))
}

/// The same policies, with every condition on what is not stored taken for true or for false.
fn supposing(set: &PolicySet, holds: bool) -> PolicySet {
    let asks = |rule: &super::Rule| {
        rule.when
            .as_ref()
            .is_some_and(|when| VALUES.iter().any(|field| reads(when.parsed(), field)))
    };
    let rules = set.rules.iter().filter_map(|rule| match (asks(rule), holds) {
        (false, _) => Some(rule.clone()),
        (true, true) => Some(super::Rule {
            when: None,
            ..rule.clone()
        }),
        (true, false) => None,
    });
    PolicySet::assemble(set.policies.clone(), rules.collect(), blake3::Hasher::new())
}

/// A path with its hidden segments as nothing that is named, or as `words` say, one for each.
fn read_as(path: &str, words: Option<&[SmolStr]>) -> String {
    let mut words = words.unwrap_or_default().iter();
    let segments = path.split('/').map(|segment| match is_hidden(segment) {
        true => words.next().map_or(UNNAMED, SmolStr::as_str),
        false => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

fn is_hidden(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Paths that a hidden one may have been, of those that policies name.
fn readings(set: &PolicySet, path: &str) -> Vec<String> {
    let shown: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut readings = Vec::new();
    for pattern in set.rules.iter().flat_map(|rule| &rule.matches.paths) {
        let long_enough = match pattern.rest {
            true => shown.len() >= pattern.segments.len(),
            false => shown.len() == pattern.segments.len(),
        };
        let fits = pattern
            .segments
            .iter()
            .zip(&shown)
            .all(|(wanted, shown)| match wanted {
                Segment::One => true,
                Segment::Literal(word) => is_hidden(shown) || word == shown,
            });
        if !long_enough || !fits {
            continue;
        }
        let words: Vec<SmolStr> = shown
            .iter()
            .enumerate()
            .filter(|(_, shown)| is_hidden(shown))
            .map(|(index, _)| match pattern.segments.get(index) {
                Some(Segment::Literal(word)) => word.clone(),
                _ => SmolStr::new_static(UNNAMED),
            })
            .collect();
        readings.push(read_as(path, Some(&words)));
    }
    readings.sort();
    readings.dedup();
    readings
}

fn set_path(call: &mut ApiCall, path: &str) {
    call.raw.target = path.to_owned().into();
    call.raw.path = path.starts_with('/').then(|| path.to_owned());
}

fn call_of(stored: &StoredCall) -> (ApiCall, Vec<Finding>) {
    let (mut call, _) = example();
    call.direction = match stored.inbound {
        true => CallDirection::Inbound,
        false => CallDirection::Outbound,
    };
    call.state = CallState::Answered;
    call.request.method = stored.method.as_str().into();
    call.raw.method = stored.method.clone().into();
    call.request.path.clone_from(&stored.path);
    call.request.host.clone_from(&stored.host);
    let host = stored
        .host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|one| one.is_ascii_digit()));
    call.raw.host = host.map_or(stored.host.as_str(), |(host, _)| host).to_owned();
    call.request.auth = super::document::AUTHS
        .iter()
        .find(|(name, _)| *name == stored.auth)
        .map_or(AuthScheme::None, |(_, auth)| *auth);
    call.ambiguous = stored.ambiguous;
    call.request.head_at = KernelTime(stored.at_ns);
    call.request.body.bytes_total = stored.request_bytes;
    call.request.body.media_type = stored.request_media.as_str().into();
    call.raw.request_headers = Default::default();
    call.raw.response_headers = Default::default();
    call.raw.request_body.clear();
    call.raw.response_body.clear();
    if let Some(response) = &mut call.response {
        response.status = stored.status;
        response.body.bytes_total = stored.response_bytes;
        response.body.media_type = stored.response_media.as_str().into();
        response.last_byte_at = KernelTime(stored.at_ns);
    }
    if stored.status == 0 {
        call.response = None;
    }
    let flow = Arc::make_mut(&mut call.flow);
    flow.remote = stored.peer.map(|peer| SocketAddr::new(peer, 40_000));
    flow.role = match stored.inbound {
        true => SocketRole::Server,
        false => SocketRole::Client,
    };
    flow.tls = stored.tls.then(|| TlsInfo {
        library: SmolStr::new_static("openssl"),
        version: SmolStr::default(),
    });
    let process = Arc::make_mut(&mut call.process);
    process.exe = stored.exe.as_str().into();
    process.comm = stored.comm.as_str().into();
    process.cgroup_path = stored.cgroup_path.as_str().into();
    process.container = stored.container.as_deref().map(SmolStr::from);
    process.uid = stored.uid;
    process.pid = stored.pid;
    let findings = stored.findings.iter().map(|(kind, severity)| Finding {
        kind: kind.as_str().into(),
        severity: match severity.as_str() {
            "low" => Severity::Low,
            "medium" => Severity::Medium,
            "high" => Severity::High,
            _ => Severity::Info,
        },
        message: String::new(),
    });
    (call, findings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(rules: &str) -> Replay {
        let text = format!(
            "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n  rules:\n{rules}"
        );
        let set = PolicySet::load(&[("p.yaml", text)]).unwrap_or_else(|problems| panic!("{problems}"));
        Replay::new(&Arc::new(set))
    }

    fn stored(path: &str) -> StoredCall {
        StoredCall {
            inbound: true,
            method: "GET".into(),
            path: path.into(),
            host: "host-12345678".into(),
            auth: "none".into(),
            status: 200,
            at_ns: 1_000_000_000,
            ..StoredCall::default()
        }
    }

    #[test]
    fn what_is_hidden_may_make_it_undecidable() {
        let paths = "    - { name: a, match: { paths: [\"/api/frobs/{x}\"] }, action: deny }\n";
        let hosts = "    - { name: a, match: { hosts: [vendor.example] }, action: deny }\n";
        let values = "    - { name: a, match: { paths: [\"/api/**\"] }, when: 'call.request.headers[\"x\"] == \"y\"', action: deny }\n";
        for (rules, path, denied, undecidable) in [
            (paths, "/api/frobs/{id}", true, &[][..]),
            (paths, "/api/{name}/{id}", false, &["path"]),
            (paths, "/api/orders/{id}", false, &[]),
            (paths, "/api/{name}", false, &[]),
            (hosts, "/api", false, &["host"]),
            (values, "/api/orders", false, &["values"]),
            (values, "/other", false, &[]),
        ] {
            let mut replay = replay(rules);
            let told = replay.judge(&stored(path)).expect("every call has a verdict");
            assert_eq!(
                (is_denial(&told.verdict), told.undecidable.as_slice()),
                (denied, undecidable),
                "{path}"
            );
        }
    }
}
