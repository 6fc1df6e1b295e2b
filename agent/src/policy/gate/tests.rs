//! Compiled tables: what is decided where, and that the gate agrees with the agent.

mod dice;
mod differential;

use std::sync::Arc;

use apiward_common::gate::{Decision, Facts, Hash, Stream, direction, state};

use super::*;
use crate::policy::PolicySet;

const KEYS: Hash = Hash {
    start: 0x1234_5678_9abc_def0,
    low: 0x0f1e_2d3c,
    high: 0x5a69_7887,
};

fn set(spec: &str) -> Arc<PolicySet> {
    crate::policy::tests::set(&format!("mode: enforce\n{spec}"))
}

fn tables(spec: &str) -> (Arc<PolicySet>, Compiled, Local) {
    let set = set(spec);
    let compiled = compile(&set, Mode::Enforce, 3, KEYS);
    let mut local = Local::new(&compiled);
    let (call, _) = crate::policy::model::example();
    local.set_workload(1, compiled.workload(&call.process));
    (set, compiled, local)
}

fn facts(peer: &str) -> Facts {
    Facts {
        peer: mapped(peer.parse().expect("an address")),
        class: 1,
        direction: direction::INBOUND,
    }
}

/// What becomes of one head.
fn verdict(local: &Local, peer: &str, head: &str) -> (Decision, u32) {
    let mut stream = Stream::default();
    let scan = judge(&mut stream, head.as_bytes(), &facts(peer), local);
    assert!(
        scan.heads == 1 || stream.state == state::OPAQUE,
        "{head:?} {stream:?}"
    );
    (Decision::from_u8(scan.decision), scan.rule)
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{fields}\r\n")
}

#[test]
fn a_host_is_asked_for_behind_lines_that_are_none() {
    let (_, _, local) = tables("rules:\n- { name: a, match: { hosts: [evil.example] }, action: deny }\n");
    for garbage in ["", "\u{1}\n", "x\r\n"] {
        for (host, decision) in [("evil.example", Decision::Deny), ("good.example", Decision::Pass)] {
            for head in [
                format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n"),
                get("/x", &format!("Host: {host}\r\n")),
            ] {
                let text = format!("{garbage}{head}");
                assert_eq!(verdict(&local, "10.0.0.1", &text).0, decision, "{text:?}");
            }
        }
    }
}

#[test]
fn hosts_are_told_with_port_dot_and_case() {
    let (_, _, local) = tables(
        "rules:\n- { name: a, match: { hosts: [api.example.org] }, action: deny }\n\
         - { name: b, match: { hosts: ['*.example.net', '*.net'] }, action: deny }\n\
         - { name: c, match: { hosts: ['[::1]'] }, action: deny }\n\
         - { name: d, match: { paths: [/x], hosts: { not: [ok.example, '*.ok.example'] } }, action: deny }\n",
    );
    for (host, path, expected) in [
        ("api.example.org", "/", Some(0)),
        ("API.Example.ORG:8080", "/", Some(0)),
        ("api.example.org.", "/", Some(0)),
        ("api.example.org.:80", "/", Some(0)),
        ("\tapi.example.org \t", "/", Some(0)),
        ("xapi.example.org", "/", None),
        ("a.api.example.org", "/", None),
        ("api.example.org.x", "/", None),
        ("example.net", "/", Some(1)),
        ("net", "/", None),
        ("a.b.example.net", "/", Some(1)),
        ("example.net.example", "/", None),
        ("[::1]:443", "/", Some(2)),
        ("[::1]", "/", Some(2)),
        ("[::2]", "/", None),
        ("ok.example", "/x", None),
        ("a.ok.example:1", "/x", None),
        ("other.example", "/x", Some(3)),
        ("", "/x", Some(3)),
    ] {
        let head = get(path, &format!("Host: {host}\r\n"));
        let expected = expected.map_or((Decision::Pass, 0), |rule| (Decision::Deny, rule));
        assert_eq!(verdict(&local, "192.0.2.1", &head), expected, "{host:?}");
    }
    assert_eq!(
        verdict(&local, "192.0.2.1", &get("/x", "")),
        (Decision::Deny, 3),
        "no host at all is none of those listed"
    );
    for odd in [
        "a@api.example.org",
        "api.example.org:x",
        "a b",
        "a..b",
        ".a",
        "[::1",
        "api.example.org:99999",
    ] {
        let head = get("/", &format!("Host: {odd}\r\n"));
        assert_eq!(verdict(&local, "192.0.2.1", &head).0, Decision::Leave, "{odd}");
    }
    // What was hashed of an ambiguous target does not get into the host.
    let ambiguous = get("/exactly8\\", "Host: api.example.org\r\n");
    assert_eq!(verdict(&local, "192.0.2.1", &ambiguous), (Decision::Deny, 0));
    let connect = "CONNECT api.example.org:443 HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(verdict(&local, "192.0.2.1", connect), (Decision::Deny, 0));
    let absolute = "GET http://api.example.org/ HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(verdict(&local, "192.0.2.1", absolute).0, Decision::Leave);
}

#[test]
fn peers_methods_and_credentials_are_told() {
    let (_, _, local) = tables(
        "rules:\n- { name: in, match: { peers: [10.0.0.0/8] }, action: allow }\n\
         - { name: a, match: { methods: [POST, FROB], peers: { not: [192.0.2.0/24] } }, action: deny }\n\
         - { name: b, match: { auth: [none, cookie] , paths: [/api/**] }, action: deny }\n",
    );
    let post = "POST /y HTTP/1.1\r\n\r\n";
    for (peer, head, expected) in [
        ("10.1.2.3", post, (Decision::Pass, 0)),
        ("192.0.2.9", post, (Decision::Pass, 0)),
        ("198.51.100.1", post, (Decision::Deny, 1)),
        ("2001:db8::1", "post /y HTTP/1.1\r\n\r\n", (Decision::Deny, 1)),
        ("198.51.100.1", "FROB /y HTTP/1.1\r\n\r\n", (Decision::Deny, 1)),
        ("198.51.100.1", &get("/api", "Cookie: a\r\n"), (Decision::Deny, 2)),
        ("198.51.100.1", &get("/api", ""), (Decision::Deny, 2)),
        (
            "198.51.100.1",
            &get("/api", "Cookie: a\r\nX-Api-Key: b\r\n"),
            (Decision::Pass, 0),
        ),
        (
            "198.51.100.1",
            &get("/api", "Ocp-Apim-Subscription-Key: b\r\n"),
            (Decision::Pass, 0),
        ),
        (
            "198.51.100.1",
            &get("/api", "X-ApiKey: b\r\n"),
            (Decision::Pass, 0),
        ),
        (
            "198.51.100.1",
            &get("/api", "X-ApiKeys: b\r\n"),
            (Decision::Deny, 2),
        ),
        (
            "198.51.100.1",
            &get("/api", "authorization: bearer x\r\n"),
            (Decision::Pass, 0),
        ),
        (
            "198.51.100.1",
            &get("/api", "Authorization:\r\n"),
            (Decision::Pass, 0),
        ),
    ] {
        assert_eq!(verdict(&local, peer, head), expected, "{peer} {head:?}");
    }
}

#[test]
fn rates_are_counted_by_their_key() {
    let (_, _, local) = tables(
        "rules:\n- { name: a, match: { paths: [/x] }, rate: { requests: 2, per: 1m, by: peer }, action: deny }\n\
         - { name: b, match: { paths: [/x] }, rate: { requests: 3, per: 1m, by: workload }, action: deny }\n",
    );
    let head = get("/x", "");
    for (peer, expected) in [
        ("192.0.2.1", Decision::Pass),
        ("192.0.2.1", Decision::Pass),
        ("192.0.2.1", Decision::Deny),
        ("192.0.2.2", Decision::Pass),
    ] {
        assert_eq!(verdict(&local, peer, &head).0, expected, "{peer}");
    }
    assert_eq!(verdict(&local, "192.0.2.3", &head), (Decision::Deny, 1));
}

#[test]
fn where_each_rule_is_decided() {
    let (set, compiled, _) = tables(
        "rules:\n- { name: gate, match: { paths: [/a], auth: [none], methods: [GET] }, action: deny }\n\
         - { name: when, match: { paths: [/a] }, when: call.request.query_parameters > 1, action: deny }\n\
         - { name: clients, match: { clients: [10.0.0.0/8] }, action: deny }\n\
         - { name: rate, rate: { requests: 1, per: 1s, by: client }, action: deny }\n\
         - { name: alert, match: { paths: [/b] }, action: alert }\n\
         - { name: kill, match: { paths: [/c] }, action: kill }\n\
         - { name: last, match: { paths: [/d] }, action: allow }\n",
    );
    let told: Vec<String> = set
        .rules
        .iter()
        .zip(&compiled.decided)
        .map(|(rule, decided)| {
            format!("{}: {} {}", rule.name, decided.by.as_str(), decided.why)
                .trim_end()
                .to_owned()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    gate: gate
    when: pipeline `when` reads what the gate does not see
    clients: pipeline who the client is stands in headers of proxies, which the gate does not read
    rate: pipeline the rate is by client, and who that is stands in headers of proxies
    alert: pipeline an alert stops nothing: the gate lets the call pass, the agent reports it
    kill: gate
    last: gate
    ");
    assert_eq!(
        compiled.rules.len(),
        6,
        "what follows the last denial changes nothing"
    );
    let observing = compile(&set, Mode::Observe, 1, KEYS);
    assert!(observing.generation.stops.is_empty() && observing.rules.is_empty());
}

#[test]
fn rules_beyond_the_table_fall_to_the_agent_and_are_named() {
    let rules: String = (0..300)
        .map(|n| format!("- {{ name: r{n}, match: {{ paths: [/p{n}] }}, action: deny }}\n"))
        .collect();
    let (_, compiled, local) = tables(&format!("rules:\n{rules}"));
    assert_eq!(compiled.rules.len(), 256);
    let by_agent = compiled
        .decided
        .iter()
        .filter(|decided| decided.why == TOO_MANY)
        .count();
    assert_eq!(by_agent, 300 - 255);
    assert_eq!(
        verdict(&local, "192.0.2.1", &get("/p254", "")),
        (Decision::Deny, 254)
    );
    assert_eq!(
        verdict(&local, "192.0.2.1", &get("/p299", "")),
        (Decision::Leave, 255)
    );
    assert_eq!(
        verdict(&local, "192.0.2.1", &get("/none", "")),
        (Decision::Leave, 255)
    );
}

#[test]
fn paths_beyond_the_nodes_fall_to_the_agent_and_are_named() {
    // Each position doubles the sets of patterns that may still match.
    let rules: String = (0..24)
        .map(|n| {
            let path = format!("{}/x{}", "/{a}".repeat(n), "/{b}".repeat(24 - n));
            format!("- {{ name: r{n}, match: {{ paths: ['{path}'] }}, action: deny }}\n")
        })
        .collect();
    let (_, compiled, local) = tables(&format!("rules:\n{rules}"));
    assert!(compiled.nodes.len() <= NODES_MAX as usize);
    let by_agent = compiled
        .decided
        .iter()
        .filter(|decided| decided.why == TOO_BROAD)
        .count();
    assert!((1..24).contains(&by_agent), "{by_agent}");
    let first = format!("/x{}", "/b".repeat(24));
    assert_eq!(
        verdict(&local, "192.0.2.1", &get(&first, "")),
        (Decision::Deny, 0)
    );
    let (decision, rule) = verdict(&local, "192.0.2.1", &get("/none", ""));
    assert_eq!((decision, rule as usize), (Decision::Leave, 24 - by_agent));
}

#[test]
fn what_the_gate_surely_counts() {
    const NONE: [usize; 0] = [];
    let rate = "rate: { requests: 10, per: 1m, by: peer }, action: deny";
    let counted = |rules: &str| tables(&format!("rules:\n{rules}")).1.counted();
    let plain = "- { name: stop, match: { paths: [/admin] }, action: deny }\n";
    let throttle = format!("- {{ name: throttle, match: {{ paths: [/login] }}, {rate} }}\n");
    let by_client = throttle
        .replace("by: peer", "by: client")
        .replace("throttle", "clients");
    let condition = "- { name: asks, when: 'call.request.body.bytes_total > 9', action: deny }\n";
    assert_eq!(counted(&format!("{plain}{throttle}")), [1]);
    assert_eq!(counted(&format!("{throttle}{condition}{plain}")), [0]);
    // A call that is left to the agent for the sake of an earlier rule is not counted.
    assert_eq!(counted(&format!("{condition}{throttle}{plain}")), NONE);
    assert_eq!(counted(&format!("{by_client}{plain}")), NONE);
    assert_eq!(counted(plain), NONE);
}
