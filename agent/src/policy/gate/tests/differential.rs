//! The gate against the agent's own stages, over policies, heads and ways of splitting them that chance picks.
//!
//! Whatever the gate denies or lets pass the agent would have, and it leaves to the agent only what the agent alone can
//! tell. The agent's side is the whole of it: bytes through `flow`, `decode` and `call`, then the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiward_common::gate::{Decision, Facts, Stream, direction, flag, state};
use bytes::Bytes;

use super::*;
use crate::call::{ApiCall, Calls, Limits, Options, Phase};
use crate::capture::{
    Captured, Direction, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use crate::flow::{self, Flows};
use crate::policy::{Engine, Verdict};

/// Without `GATE_CASES` in the environment.
const CASES: u64 = 1_500;

/// Numbers by chance, the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn some(&mut self, list: &[&str], most: usize) -> String {
        let len = 1 + self.below(most);
        let values: Vec<String> = (0..len).map(|_| format!("'{}'", self.of(list))).collect();
        format!("[{}]", values.join(", "))
    }
}

const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "PATCH", "FROB", "OPTIONS"];
const HOSTS: [&str; 6] = [
    "api.example.org",
    "*.example.org",
    "example.org",
    "[::1]",
    "h",
    "*.a.h",
];
const NETS: [&str; 6] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "2001:db8::/32",
    "::/0",
    "192.0.2.1",
];
const AUTHS: [&str; 9] = [
    "none",
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "sigv4",
    "api-key",
    "cookie",
    "other",
];
const SEGMENTS: [&str; 7] = ["a", "b", "admin", "longsegment", "exactly8", "$export", "x.y"];

fn pattern(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..dice.below(4) {
        path.push('/');
        path.push_str(if dice.one_in(3) {
            "{id}"
        } else {
            dice.of(&SEGMENTS)
        });
    }
    match dice.below(3) {
        0 => path.push_str("/**"),
        1 if !path.is_empty() => path.push('/'),
        _ if path.is_empty() => path.push('/'),
        _ => {}
    }
    path
}

fn policy(dice: &mut Dice, name: usize) -> String {
    let mut text = format!(
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p{name} }}\nspec:\n  mode: {}\n",
        if dice.one_in(6) { "observe" } else { "enforce" }
    );
    if dice.one_in(2) {
        text.push_str("  onAmbiguous: deny\n");
    }
    if dice.one_in(3) {
        text.push_str(&format!("  priority: {}\n", dice.below(3)));
    }
    if dice.one_in(5) {
        text.push_str("  workload: { exe: [/usr/bin/server, /usr/bin/other] }\n");
    }
    text.push_str("  rules:\n");
    for rule in 0..1 + dice.below(8) {
        let mut parts = Vec::new();
        if dice.one_in(3) {
            parts.push(format!("methods: {}", dice.some(&METHODS, 3)));
        }
        if !dice.one_in(4) {
            let paths: Vec<String> = (0..1 + dice.below(3))
                .map(|_| format!("'{}'", pattern(dice)))
                .collect();
            parts.push(format!("paths: [{}]", paths.join(", ")));
        }
        for (key, list) in [("hosts", &HOSTS), ("peers", &NETS)] {
            if dice.one_in(5) {
                let list = dice.some(list, 3);
                let not = dice.one_in(3);
                parts.push(if not {
                    format!("{key}: {{ not: {list} }}")
                } else {
                    format!("{key}: {list}")
                });
            }
        }
        let inbound_only = dice.one_in(14);
        if inbound_only {
            parts.push("direction: inbound, clients: [10.0.0.0/8]".to_owned());
        } else if dice.one_in(6) {
            parts.push(format!("direction: {}", dice.of(&["inbound", "outbound"])));
        }
        if dice.one_in(6) {
            parts.push(format!("workload: {{ uid: {} }}", dice.some(&["0", "1000"], 2)));
        }
        if dice.one_in(4) {
            parts.push(format!("auth: {}", dice.some(&AUTHS, 4)));
        }
        let action = dice.of(&["allow", "alert", "deny", "deny", "deny", "kill"]);
        text.push_str(&format!("  - {{ name: r{rule}, action: {action}"));
        if !parts.is_empty() {
            text.push_str(&format!(", match: {{ {} }}", parts.join(", ")));
        }
        if dice.one_in(14) {
            text.push_str(", when: call.request.query_parameters > 0");
        }
        if dice.one_in(3) {
            let by = if inbound_only {
                "client"
            } else {
                dice.of(&["peer", "workload"])
            };
            text.push_str(&format!(
                ", rate: {{ requests: {}, per: 1m, by: {by} }}",
                1 + dice.below(2)
            ));
        }
        text.push_str(" }\n");
    }
    text
}

/// A request, and why the agent may have to decide it.
struct Asked {
    text: String,
    /// Chance has put something in it that is ambiguous, or about which the gate says less than the agent.
    odd: bool,
    what: &'static str,
}

fn request(dice: &mut Dice) -> Asked {
    let mut what = "plain";
    let mut odd = false;
    let method = match dice.below(12) {
        0 => "get",
        1 => "PUT",
        2 => "Delete",
        _ => dice.of(&METHODS),
    };
    let mut target = String::new();
    for _ in 0..dice.below(4) {
        target.push('/');
        target.push_str(match dice.below(8) {
            0 => "other",
            1 => "Admin",
            _ => dice.of(&SEGMENTS),
        });
    }
    if target.is_empty() || dice.one_in(5) {
        target.push('/');
    }
    if dice.one_in(4) {
        target.push_str(dice.of(&["?", "?a=b", "?x=/admin//..%2f&y", "?a?b;c"]));
    }
    if dice.one_in(6) {
        odd = true;
        what = "target";
        target = match dice.below(9) {
            0 => format!("/{target}"),
            1 => format!("/.{target}"),
            2 => format!("/b/..{target}"),
            3 => target.replacen('a', "%61", 1) + ";x",
            4 => format!("{target}#x"),
            5 => format!("http://api.example.org{target}"),
            6 => format!("{target}\\"),
            7 => format!("{target}\u{e9}"),
            _ => format!("{target}/."),
        };
    } else if dice.one_in(25) {
        what = "star";
        target = "*".into();
    }
    let mut version = "HTTP/1.1";
    if dice.one_in(12) {
        version = "HTTP/1.0";
    }
    let mut fields: Vec<String> = Vec::new();
    if !dice.one_in(8) {
        let host = dice.of(&[
            "api.example.org",
            "API.example.org:8080",
            "x.example.org",
            "example.org.",
            "[::1]:80",
            "h",
            "x.y.a.h",
            "a.h",
            "other",
            "_dmarc.example.org",
        ]);
        fields.push(format!("Host: {host}"));
    }
    if dice.one_in(2) {
        fields.push(
            dice.of(&[
                "Authorization: Basic dTpw",
                "authorization: bearer x",
                "Authorization: Digest x",
                "AUTHORIZATION: Negotiate x",
                "Authorization: AWS4-HMAC-SHA256 Credential=x",
                "Authorization: ApiKey x",
                "Authorization: Api-Key",
                "Authorization:",
                "Authorization: Zebulon y",
                "Cookie: a=b",
                "X-Api-Key: k",
                "x-goog-api-key: k",
                "x-vault-token: k",
                "apikey: k",
                "x-access-token: k",
                "X-Auth-Token: k",
                "ocp-apim-subscription-key: k",
                "X-Functions-Key: k",
                "api-key: k",
                "x-apikey: k",
            ])
            .to_owned(),
        );
    }
    for _ in 0..dice.below(4) {
        fields.push(
            dice.of(&[
                "Accept: */*",
                "User-Agent: curl/8.0 (x; y) \u{e9}",
                "X-Long-Header-Name-That-Goes-On: value\twith tab",
                "Content-Type: application/json",
                "Empty:",
                "Content-Encoding: gzip",
                "x_under_score: y",
                "Hostile: h",
                "Cookies: none",
                "Transfer: x",
            ])
            .to_owned(),
        );
    }
    let mut body = String::new();
    match dice.below(6) {
        0 => {
            body = "DELETE /admin HTTP/1.1\r\n\r\n"[..dice.below(26)].to_owned();
            fields.push(format!("Content-Length: {}", body.len()));
        }
        1 if version == "HTTP/1.1" => {
            fields.push("Transfer-Encoding: chunked".into());
            if !dice.one_in(3) {
                body.push_str("5;ext=1\r\nGET /\r\n1A\r\nDELETE /admin HTTP/1.1\r\n\r\n\r\n");
            }
            body.push_str("0\r\n");
            if dice.one_in(2) {
                body.push_str("Trailer: GET / HTTP/1.1\r\n");
            }
            body.push_str("\r\n");
        }
        _ => {}
    }
    let places = dice.below(fields.len() + 1);
    fields.rotate_left(places);
    let mut ends = vec!["\r\n"; fields.len()];
    let mut first_end = "\r\n";
    if dice.one_in(7) && !fields.is_empty() {
        odd = true;
        what = "fields";
        let at = dice.below(fields.len());
        match dice.below(10) {
            0 => fields.insert(at, "Host: api.example.org\r\nHost: h".into()),
            1 => fields.insert(at, "Content-Length: 0\r\nContent-Length: 0".into()),
            2 => fields.insert(at, "Content-Length: 0\r\nTransfer-Encoding: chunked".into()),
            3 => fields.push(" folded".into()),
            4 => fields[at] = fields[at].replacen(':', " :", 1),
            5 => ends[at] = "\n",
            6 => first_end = "\n",
            7 => fields[at].push('\u{1}'),
            8 => fields.insert(at, "no colon".into()),
            _ => fields[at].insert(2, '\r'),
        }
    }
    let mut text = String::new();
    if dice.one_in(9) {
        text.push_str(dice.of(&["\r\n", "\r\n\r\n"]));
    }
    text.push_str(&format!("{method} {target} {version}{first_end}"));
    for (at, field) in fields.iter().enumerate() {
        text.push_str(field);
        text.push_str(ends.get(at).unwrap_or(&"\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    Asked { text, odd, what }
}

/// The agent's stages on one connection.
struct Agent {
    flows: Flows,
    calls: Calls,
    position: u64,
    inbound: bool,
    process: Arc<Process>,
}

impl Agent {
    fn new(flow: FlowInfo, process: Arc<Process>) -> Agent {
        let mut agent = Agent {
            flows: Flows::new(flow::Limits::default()),
            calls: Calls::new(Options {
                limits: Limits::default(),
                key: [1; 32],
                boot_id: [2; 16],
                earning: Default::default(),
                literals: Vec::new(),
            }),
            position: 1,
            inbound: flow.role == SocketRole::Server,
            process,
        };
        agent.take(Captured::Flow(Arc::new(flow)));
        agent
    }

    fn take(&mut self, captured: Captured) -> Vec<ApiCall> {
        let mut heads = Vec::new();
        let calls = &mut self.calls;
        self.flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, call| {
                if phase == Phase::Head {
                    heads.push(call.clone());
                }
            });
        });
        heads
    }

    fn bytes(&mut self, bytes: &[u8], at: u64) -> Vec<ApiCall> {
        let segment = Segment {
            at: KernelTime(at),
            flow: FlowId::Socket(1),
            process: self.process.clone(),
            direction: if self.inbound {
                Direction::Received
            } else {
                Direction::Sent
            },
            position: self.position,
            other_position: 1,
            bytes: Bytes::copy_from_slice(bytes),
            missing: 0,
            missing_reason: GapReason::Limit,
        };
        self.position += bytes.len() as u64;
        self.take(Captured::Segment(segment))
    }
}

/// What the agent does about a head. `None`: it waits.
fn is_denied(verdict: &Option<Verdict>) -> Option<bool> {
    let verdict = verdict.as_ref()?;
    Some(verdict.mode == Mode::Enforce && matches!(verdict.action, Action::Deny | Action::Kill))
}

#[derive(Default)]
struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

fn case(seed: u64, coverage: &mut Coverage) {
    let mut dice = Dice(seed);
    let texts: Vec<(String, String)> = (0..1 + dice.below(3))
        .map(|name| (format!("{name}.yaml"), policy(&mut dice, name)))
        .collect();
    let set = PolicySet::load(&texts);
    let set = Arc::new(set.unwrap_or_else(|problems| panic!("seed {seed}: {problems}")));
    let compiled = compile(
        &set,
        Mode::Enforce,
        1,
        Hash {
            start: dice.roll(),
            low: dice.roll() as u32,
            high: dice.roll() as u32,
        },
    );
    let mut engine = Engine::new(set.clone(), Mode::Enforce, Vec::new());
    let mut local = Local::new(&compiled);
    let process = Arc::new(Process {
        pid: 7,
        tid: 7,
        uid: if dice.one_in(2) { 0 } else { 1000 },
        comm: "server".into(),
        exe: dice.of(&["/usr/bin/server", "/usr/bin/else"]).into(),
        cgroup_id: 1,
        cgroup_path: "/x".into(),
        container: None,
    });
    let known = !dice.one_in(8);
    if known {
        local.set_workload(1, compiled.workload(&process));
    }
    let mut now = 1_000_000_000;
    let mut log: Vec<String> = Vec::new();
    for connection in 0..3 {
        let peer = dice.of(&[
            "10.1.2.3",
            "10.9.9.9",
            "192.0.2.1",
            "192.0.2.7",
            "2001:db8::5",
            "fe80::1",
            "198.51.100.1",
        ]);
        let peer: std::net::IpAddr = peer.parse().expect("an address");
        let inbound = !dice.one_in(4);
        let flow = FlowInfo {
            id: FlowId::Socket(1),
            carrier: Some(1),
            local: Some(([127, 0, 0, 1], 80).into()),
            remote: Some((peer, 40_000).into()),
            role: if inbound {
                SocketRole::Server
            } else {
                SocketRole::Client
            },
            netns: 0,
            tls: None,
            joined_late: false,
            starts: None,
            enforceable: true,
        };
        let facts = Facts {
            peer: mapped(peer),
            class: 1,
            direction: if inbound {
                direction::INBOUND
            } else {
                direction::OUTBOUND
            },
        };
        let mut agent = Agent::new(flow, process.clone());
        let mut stream = Stream::default();
        for _ in 0..1 + dice.below(4) {
            let asked = request(&mut dice);
            now += 1 + dice.roll() % 5_000_000_000;
            local.set_now(now);
            let context = || {
                let policies: String = texts.iter().map(|(_, text)| text.as_str()).collect();
                let before = log.join("\n");
                format!(
                    "seed {seed}, connection {connection}, user {}:\n{policies}\n{before}\n{:?}",
                    process.uid, asked.text
                )
            };
            // The gate, in pieces.
            let mut decided = (Decision::Pass, 0);
            let mut heads = 0;
            let mut flags = 0;
            let mut rest = asked.text.as_bytes();
            let pieces = dice.below(4);
            let mut piece = 0;
            while !rest.is_empty() && !stream.is_over() {
                let len = if pieces == 3 {
                    1
                } else if piece == pieces {
                    rest.len()
                } else {
                    1 + dice.below(rest.len())
                };
                piece += 1;
                let before = stream.flags;
                let scan = judge(&mut stream, &rest[..len], &facts, &local);
                flags |= before | stream.flags;
                rest = &rest[len..];
                heads += scan.heads;
                if scan.decision != 0 {
                    decided = (Decision::from_u8(scan.decision), scan.rule);
                }
            }
            let seen = agent.bytes(asked.text.as_bytes(), now);
            let [call] = &seen[..] else {
                // The agent sees no request there; then the gate must not have followed one happily.
                assert!(asked.odd, "{}", context());
                coverage.count("agent sees none");
                break;
            };
            assert_eq!(heads, 1, "{}", context());
            let verdict = engine.evaluate(call, &[], Phase::Head);
            let denied = is_denied(&verdict);
            let told = verdict
                .as_ref()
                .map(|verdict| (verdict.rule.clone(), verdict.action));
            let line = format!(
                "{now} {peer} {inbound} {:?}: {decided:?}, agent {told:?}",
                asked.text
            );
            coverage.count("heads");
            coverage.count(format!("what: {}", asked.what));
            coverage.count(if call.ambiguous { "ambiguous" } else { "clear" });
            match decided.0 {
                Decision::Deny => {
                    assert_eq!(denied, Some(true), "{decided:?} {verdict:?} {}", context());
                    let position = compiled.rules[decided.1 as usize];
                    let rule = &set.rules[position];
                    let verdict = verdict.as_ref().expect("a verdict");
                    if verdict.rule != "onAmbiguous" {
                        assert_eq!(verdict.source, rule.source, "{}", context());
                    }
                    for dimension in rule.dimensions() {
                        coverage.count(format!("denied by: {dimension}"));
                    }
                    coverage.count(if call.ambiguous {
                        "denied, ambiguous"
                    } else {
                        "denied"
                    });
                }
                Decision::Pass => {
                    assert_ne!(denied, Some(true), "{verdict:?} {}", context());
                    if verdict.as_ref().is_some_and(|verdict| !verdict.rule.is_empty()) {
                        coverage.count("passed by a rule");
                    }
                    coverage.count("passed");
                }
                Decision::Leave => {
                    coverage.count("left");
                    let rule = decided.1;
                    let generation = &compiled.generation;
                    let why = if generation.leaves.has(rule) {
                        "left: the rule"
                    } else if !known
                        && (!generation.any_workload.has(rule) || generation.rated_by_workload.has(rule))
                    {
                        "left: workload not known"
                    } else if call.ambiguous && generation.ambiguous_leave.has(rule) {
                        "left: ambiguous path"
                    } else if call.ambiguous && (generation.by_host.has(rule) || generation.by_auth.has(rule))
                    {
                        "left: ambiguous host or credentials"
                    } else {
                        panic!("left for no reason: {verdict:?} {}", context());
                    };
                    coverage.count(why);
                    if denied == Some(true) {
                        coverage.count("left, and the agent denies");
                    }
                }
            }
            let rules_hit = verdict.as_ref().is_none_or(|verdict| !verdict.rule.is_empty());
            if rules_hit {
                coverage.count("hit a rule");
            }
            let overlapping = compiled
                .rules
                .iter()
                .filter(|position| {
                    let paths = &set.rules[**position].matches.paths;
                    call.raw
                        .path
                        .as_ref()
                        .is_some_and(|path| paths.iter().any(|pattern| pattern.matches(path)))
                })
                .count();
            if overlapping > 1 {
                coverage.count("overlapping paths");
            }
            if call.ambiguous != (flags & flag::AMBIGUOUS != 0) && decided.0 != Decision::Deny {
                // Told from the stream only while the head is in progress, so not for every way of splitting.
                coverage.count("ambiguity not seen in passing");
            }
            log.push(line);
            let doubtful = decided.0 == Decision::Leave
                || !known
                || call.ambiguous
                || !compiled.generation.leaves.is_empty();
            if doubtful && !compiled.generation.rated.is_empty() {
                // Behind a rule that only the agent can tell, the agent may have counted, and the gate has not.
                return;
            }
            if decided.0 == Decision::Deny || stream.state == state::LOST || stream.state == state::OPAQUE {
                break;
            }
            if verdict.is_none() {
                return;
            }
        }
    }
}

#[test]
fn the_gate_agrees_with_the_agent() {
    let mut coverage = Coverage::default();
    let cases = std::env::var("GATE_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    for seed in 0..cases.unwrap_or(CASES) {
        case(seed, &mut coverage);
    }
    for (what, count) in &coverage.0 {
        println!("{count:>8} {what}");
    }
    let heads = coverage.of("heads");
    assert!(coverage.of("hit a rule") * 3 >= heads, "too few heads hit a rule");
    for what in [
        "denied by: methods",
        "denied by: paths",
        "denied by: hosts",
        "denied by: peers",
        "denied by: workload",
        "denied by: auth",
        "denied by: direction",
        "denied by: rate",
        "denied, ambiguous",
        "passed by a rule",
        "left: the rule",
        "left: workload not known",
        "left: ambiguous path",
        "overlapping paths",
        "what: target",
        "what: fields",
        "what: star",
    ] {
        assert!(
            coverage.of(what) * 500 >= heads,
            "{what}: {} of {heads}",
            coverage.of(what)
        );
    }
}
