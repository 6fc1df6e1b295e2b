//! The gate against the agent's own stages, over policies, heads and ways of splitting them that chance picks.
//!
//! Whatever the gate denies or lets pass the agent would have, and it leaves to the agent only what the agent alone can
//! tell. The agent's side is the whole of it: bytes through `flow`, `decode` and `call`, then the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiward_common::gate::{Decision, Facts, Stream, direction, flag, state};
use bytes::Bytes;

use super::dice::{Dice, policy, request};
use super::*;
use crate::call::{ApiCall, Calls, Limits, Options, Phase};
use crate::capture::{
    Captured, Direction, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use crate::flow::{self, Flows};
use crate::policy::{Engine, Verdict};

/// Without `GATE_CASES` in the environment.
const CASES: u64 = 1_500;

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

/// Bytes of the head, with the empty line behind it.
fn head_bytes(text: &str) -> usize {
    let begins = text.len() - text.trim_start_matches(['\r', '\n']).len();
    let ends = ["\n\r\n", "\n\n"];
    let found = ends
        .iter()
        .filter_map(|end| Some(begins + text[begins..].find(end)? + end.len()));
    found.min().unwrap_or(text.len())
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
            let mut behind = None;
            let mut heads = 0;
            let mut flags = 0;
            let (head, body) = asked.text.as_bytes().split_at(head_bytes(&asked.text));
            let mut rest = head;
            let pieces = dice.below(4);
            let mut piece = 0;
            let mut in_body = false;
            while !stream.is_over() {
                if rest.is_empty() {
                    if in_body || body.is_empty() {
                        break;
                    }
                    (rest, in_body) = (body, true);
                }
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
                if scan.decision != 0 && in_body {
                    behind = Some((Decision::from_u8(scan.decision), scan.rule));
                } else if scan.decision != 0 {
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
            let doubtful = decided.0 == Decision::Leave
                || !known
                || call.ambiguous
                || !compiled.generation.leaves.is_empty();
            if doubtful && !compiled.generation.rated.is_empty() {
                // Behind a rule that only the agent can tell, the agent may have counted, and the gate has not.
                return;
            }
            if let Some((decision, rule)) = behind {
                // What comes behind it cannot be followed.
                assert_eq!(decision, Decision::Deny, "{}", context());
                assert!(compiled.generation.garbled.has(rule), "{}", context());
                assert!(asked.odd || call.ambiguous, "{}", context());
                coverage.count("denied, cannot be followed");
                break;
            }
            if stream.state == state::GARBLED {
                let scan = judge(&mut stream, b"GET /x HTTP/1.1\r\n\r\n", &facts, &local);
                assert_eq!(scan.decision, Decision::Deny as u8, "{}", context());
                assert!(compiled.generation.garbled.has(scan.rule), "{}", context());
                coverage.count("denied, cannot be followed");
                break;
            }
            log.push(line);
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
        "denied, cannot be followed",
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
