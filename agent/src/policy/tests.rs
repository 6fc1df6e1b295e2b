//! Rules against calls, through the engine.

mod ambiguous;
mod clients;
mod errors;
mod mllp;
mod reference;
mod unseen;
mod warnings;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::call::{ApiCall, AuthScheme, CallDirection, CallId, Phase, Protocol};
use crate::capture::KernelTime;
use crate::detect::Finding;

/// A set of one policy with these lines below `spec`.
pub(super) fn set(spec: &str) -> Arc<PolicySet> {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text =
        format!("apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n{indented}");
    load(&[&text])
}

/// A set of several files.
fn load(texts: &[&str]) -> Arc<PolicySet> {
    let files: Vec<(String, &str)> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| (format!("{index}.yaml"), *text))
        .collect();
    Arc::new(PolicySet::load(&files).unwrap_or_else(|problems| panic!("{problems}")))
}

fn errors(text: &str) -> String {
    match PolicySet::load(&[("p.yaml", text)]) {
        Ok(_) => panic!("no errors"),
        Err(problems) => problems.to_string(),
    }
}

/// An inbound call from 192.0.2.1.
pub(super) fn call(method: &str, path: &str) -> ApiCall {
    let (mut call, _) = model::example();
    call.request.method = method.into();
    call.raw.method = Bytes::copy_from_slice(method.as_bytes());
    call.raw.target = Bytes::copy_from_slice(path.as_bytes());
    call.raw.path = Some(path.into());
    call
}

fn from(mut call: ApiCall, peer: &str) -> ApiCall {
    let ip: IpAddr = peer.parse().expect("an address");
    Arc::make_mut(&mut call.flow).remote = Some(SocketAddr::new(ip, 40_000));
    call
}

fn unknown_peer(mut call: ApiCall) -> ApiCall {
    Arc::make_mut(&mut call.flow).remote = None;
    call
}

fn header(mut call: ApiCall, name: &str, value: &str) -> ApiCall {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Arc::make_mut(&mut call.raw.request_headers).push((bytes(name), bytes(value)));
    call
}

fn to(mut call: ApiCall, host: &str) -> ApiCall {
    call.direction = CallDirection::Outbound;
    call.raw.host = host.into();
    call
}

fn auth(mut call: ApiCall, scheme: AuthScheme) -> ApiCall {
    call.request.auth = scheme;
    call
}

fn at(mut call: ApiCall, id: u128, seconds: u64) -> ApiCall {
    call.id = CallId(id);
    call.request.head_at = KernelTime(seconds * 1_000_000_000);
    call
}

fn engine(set: &Arc<PolicySet>) -> Engine {
    Engine::new(
        set.clone(),
        Mode::Enforce,
        vec!["10.9.0.0/16".parse().expect("a network")],
    )
}

#[test]
fn who_waits_for_the_agent() {
    let leaves = |spec: &str, mode| {
        let mut engine = engine(&set(spec));
        engine.set_mode(mode);
        engine.leaves_denials_to_gate()
    };
    let gated = "mode: enforce\nrules:\n- { name: a, match: { paths: [/a] }, action: deny }\n";
    assert!(leaves(gated, Mode::Enforce));
    let alerts = format!("{gated}- {{ name: b, when: 'call.response.status == 500', action: alert }}\n");
    assert!(leaves(&alerts, Mode::Enforce), "an alert keeps nobody waiting");
    let decides = alerts.replace("action: alert", "action: deny");
    assert!(!leaves(&decides, Mode::Enforce));
    assert!(leaves(&decides, Mode::Observe));
    assert!(leaves(
        &decides.replace("mode: enforce", "mode: observe"),
        Mode::Enforce
    ));
    let stops_nothing = |spec: &str, mode| {
        let mut engine = engine(&set(spec));
        engine.set_mode(mode);
        engine.stops_nothing()
    };
    assert!(!stops_nothing(gated, Mode::Enforce));
    assert!(stops_nothing(gated, Mode::Observe));
    let only_alerts = gated.replace("action: deny", "action: alert");
    assert!(stops_nothing(&only_alerts, Mode::Enforce));
    let cuts = only_alerts.replace("rules:", "onUnseen: cut\nrules:");
    assert!(
        !stops_nothing(&cuts, Mode::Enforce),
        "what is not seen is cut by the agent"
    );
}

/// The rule that decides at the end, empty for the default.
fn rule(engine: &mut Engine, call: &ApiCall) -> String {
    engine
        .evaluate(call, &[], Phase::Complete)
        .expect("final")
        .rule
        .to_string()
}

/// One policy, one rule with this `match`, on one call.
fn matched(matching: &str, call: &ApiCall) -> bool {
    let set = set(&format!(
        "mode: enforce\nrules: [{{ name: r, match: {matching}, action: deny }}]"
    ));
    rule(&mut engine(&set), call) == "r"
}

#[test]
fn sets_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PolicySet>();
    fn sent<T: Send>() {}
    sent::<Engine>();
}

#[test]
fn methods_paths_and_direction() {
    let get = call("GET", "/fhir/Patient/1");
    assert!(matched("{ methods: [GET] }", &get));
    assert!(matched("{ methods: get }", &get));
    assert!(!matched("{ methods: [POST, PUT] }", &get));
    assert!(
        matched("{ methods: [GET] }", &call("gEt", "/")),
        "some servers take it"
    );
    assert!(matched("{ paths: ['/fhir/{type}/{id}'] }", &get));
    assert!(matched("{ paths: [/x, /fhir/**] }", &get));
    assert!(!matched("{ paths: [/fhir/Patient] }", &get));
    assert!(matched("{ direction: inbound, paths: [/fhir/**] }", &get));
    assert!(!matched("{ direction: outbound }", &get));
    let mut no_path = get.clone();
    no_path.raw.path = None;
    assert!(!matched("{ paths: [/**] }", &no_path), "nothing is guessed");
    assert!(matched("{}", &no_path));
}

#[test]
fn hosts() {
    let a = to(call("POST", "/"), "api.hospital.example");
    for (hosts, expected) in [
        ("[api.hospital.example]", true),
        ("[API.Hospital.Example.]", true),
        ("['*.hospital.example']", true),
        ("['*.example']", true),
        ("['*.api.hospital.example']", false),
        ("[hospital.example]", false),
        ("{ not: ['*.hospital.example'] }", false),
        ("{ not: [hospital.example] }", true),
    ] {
        assert_eq!(matched(&format!("{{ hosts: {hosts} }}"), &a), expected, "{hosts}");
    }
    assert!(!matched(
        "{ hosts: ['*.hospital.example'] }",
        &to(call("GET", "/"), "evilhospital.example")
    ));
    assert!(matched(
        "{ hosts: { not: ['*.hospital.example'] } }",
        &to(call("GET", "/"), "")
    ));
    assert!(matched(
        "{ hosts: ['[2001:db8::1]'] }",
        &to(call("GET", "/"), "[2001:db8::1]")
    ));
}

#[test]
fn peers() {
    let get = call("GET", "/");
    assert!(matched("{ peers: [10.0.0.0/8] }", &from(get.clone(), "10.1.2.3")));
    assert!(
        matched("{ peers: [10.0.0.0/8] }", &from(get.clone(), "::ffff:10.1.2.3")),
        "IPv4-mapped is IPv4"
    );
    assert!(!matched(
        "{ peers: [10.0.0.0/8] }",
        &from(get.clone(), "11.1.2.3")
    ));
    assert!(matched(
        "{ peers: { not: [10.0.0.0/8] } }",
        &from(get.clone(), "11.1.2.3")
    ));
    assert!(matched(
        "{ peers: ['fd00::/8', 192.0.2.1] }",
        &from(get.clone(), "fd00::1")
    ));
    assert!(!matched(
        "{ peers: [0.0.0.0/0, '::/0'] }",
        &unknown_peer(get.clone())
    ));
    assert!(!matched("{ peers: { not: [10.0.0.0/8] } }", &unknown_peer(get)));
}

#[test]
fn workloads() {
    let mut get = call("GET", "/");
    let process = Arc::make_mut(&mut get.process);
    process.exe = "/usr/sbin/nginx".into();
    process.uid = 33;
    process.container = Some("0123456789abcdef".repeat(4).into());
    process.cgroup_path = "/kubepods.slice/pod1/c1".into();
    for (workload, expected) in [
        ("exe: /usr/sbin/nginx", true),
        ("exe: [/bin/x, '/usr/*/nginx']", true),
        ("exe: '/usr/*'", false),
        ("uid: 33", true),
        ("uid: [0, 34]", false),
        ("container: 01234567", true),
        ("container: 89abcdef", false),
        ("cgroup: '/kubepods.slice/**'", true),
        ("exe: /usr/sbin/nginx, uid: 0", false),
    ] {
        assert_eq!(
            matched(&format!("{{ workload: {{ {workload} }} }}"), &get),
            expected,
            "{workload}"
        );
    }
    Arc::make_mut(&mut get.process).exe = "".into();
    assert!(
        !matched("{ workload: { exe: '**' } }", &get),
        "an unknown executable matches nothing"
    );
    let whole = set("mode: enforce\nworkload: { uid: 1 }\nrules: [{ name: r, action: deny }]");
    assert_eq!(rule(&mut engine(&whole), &get), "");
}

#[test]
fn auth_schemes() {
    assert!(matched("{ auth: none }", &call("GET", "/")));
    assert!(!matched(
        "{ auth: none }",
        &auth(call("GET", "/"), AuthScheme::Bearer)
    ));
    assert!(matched(
        "{ auth: [basic, bearer] }",
        &auth(call("GET", "/"), AuthScheme::Bearer)
    ));
}

#[test]
fn the_first_rule_wins_over_all_policies_by_priority() {
    let policy = |name: &str, priority: i32, rules: &str| {
        format!(
            "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: {name} }}\nspec:\n  mode: enforce\n  priority: {priority}\n  rules: [{rules}]\n"
        )
    };
    let deny = "{ name: d, match: { paths: [/a/**] }, action: deny }";
    let allow = "{ name: a, match: { paths: [/a/b] }, action: allow }";
    let both = format!("{}---\n{}", policy("one", 0, deny), policy("two", 5, allow));
    assert_eq!(rule(&mut engine(&load(&[&both])), &call("GET", "/a/b")), "a");
    assert_eq!(rule(&mut engine(&load(&[&both])), &call("GET", "/a/c")), "d");
    let same = [policy("one", 0, deny), policy("two", 0, allow)];
    assert_eq!(
        rule(&mut engine(&load(&[&same[0], &same[1]])), &call("GET", "/a/b")),
        "d"
    );
    assert_eq!(
        rule(&mut engine(&load(&[&same[1], &same[0]])), &call("GET", "/a/b")),
        "a"
    );
}

#[test]
fn an_observing_policy_does_not_shield_from_an_enforcing_one() {
    let policy = |name: &str, mode: &str, action: &str| {
        format!(
            "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: {name} }}\nspec: {{ mode: {mode}, rules: [{{ name: {action}, action: {action} }}] }}\n"
        )
    };
    let verdict = |first: &str, second: &str| {
        let verdict = engine(&load(&[first, second]))
            .evaluate(&call("GET", "/"), &[], Phase::Head)
            .expect("final");
        (verdict.policy.to_string(), verdict.action, verdict.mode)
    };
    let (observe, enforce) = (policy("o", "observe", "allow"), policy("e", "enforce", "deny"));
    assert_eq!(
        verdict(&observe, &enforce),
        ("e".into(), Action::Deny, Mode::Enforce)
    );
    let (observe, enforce) = (policy("o", "observe", "deny"), policy("e", "enforce", "allow"));
    assert_eq!(
        verdict(&observe, &enforce),
        ("o".into(), Action::Deny, Mode::Observe)
    );
    assert_eq!(
        verdict(&enforce, &observe),
        ("e".into(), Action::Allow, Mode::Enforce)
    );
}

#[test]
fn both_modes_have_to_enforce() {
    let spec = |mode: &str| set(&format!("mode: {mode}\nrules: [{{ name: r, action: deny }}]"));
    for (global, own, expected) in [
        (Mode::Enforce, "enforce", Mode::Enforce),
        (Mode::Enforce, "observe", Mode::Observe),
        (Mode::Observe, "enforce", Mode::Observe),
    ] {
        let mut engine = Engine::new(spec(own), global, Vec::new());
        let verdict = engine
            .evaluate(&call("GET", "/"), &[], Phase::Head)
            .expect("final");
        assert_eq!((verdict.mode, verdict.action), (expected, Action::Deny));
    }
    let mut engine = Engine::new(spec("enforce"), Mode::Observe, Vec::new());
    engine.set_mode(Mode::Enforce);
    assert_eq!(
        engine
            .evaluate(&call("GET", "/"), &[], Phase::Head)
            .expect("final")
            .mode,
        Mode::Enforce
    );
}

#[test]
fn what_has_to_wait_makes_later_rules_wait_only_where_it_may_match() {
    let set = set("\
mode: enforce
rules:
  - { name: small, match: { paths: [/up] }, when: call.request.body.bytes_total < 10, action: allow }
  - { name: slow, match: { paths: [/slow] }, when: call.response.status == 200, action: alert }
  - { name: rest, action: deny }");
    let mut engine = engine(&set);
    let mut at = |call: &ApiCall, phase| {
        engine
            .evaluate(call, &[], phase)
            .map(|verdict| verdict.rule.to_string())
    };
    assert_eq!(at(&call("GET", "/"), Phase::Head).as_deref(), Some("rest"));
    let up = call("PUT", "/up");
    assert_eq!(at(&up, Phase::Head), None);
    assert_eq!(at(&up, Phase::Request).as_deref(), Some("small"));
    let mut big = up.clone();
    big.request.body.bytes_total = 10;
    assert_eq!(at(&big, Phase::Head), None);
    assert_eq!(at(&big, Phase::Request).as_deref(), Some("rest"));
    let slow = call("GET", "/slow");
    assert_eq!(at(&slow, Phase::Request), None);
    assert_eq!(at(&slow, Phase::Complete).as_deref(), Some("slow"));
}

#[test]
fn rates_count_each_call_once() {
    let set = set("\
mode: enforce
rules:
  - { name: throttle, match: { paths: [/login] }, rate: { requests: 2, per: 1m, by: peer }, action: deny }
  - { name: late, when: call.request.body.bytes_total > 100, action: alert }");
    let mut engine = engine(&set);
    let mut denied = Vec::new();
    for id in 0..4 {
        let login = at(call("POST", "/login"), id, 1);
        let mut last = None;
        for phase in [Phase::Head, Phase::Request, Phase::Complete] {
            last = engine.evaluate(&login, &[], phase);
            if last.is_some() {
                break;
            }
        }
        denied.push(last.expect("final").rule == "throttle");
    }
    assert_eq!(denied, [false, false, true, true]);
    let other = at(from(call("POST", "/login"), "198.51.100.1"), 9, 1);
    assert_eq!(rule(&mut engine, &other), "");
    assert_eq!(
        rule(&mut engine, &at(unknown_peer(call("POST", "/login")), 10, 1)),
        ""
    );
    assert_eq!(engine.counters().rate_unkeyed, 1);
    assert_eq!(engine.counters().rate_keys_len, 2);
}

#[test]
fn what_the_gate_counts_too_is_denied_at_twice_the_allowance() {
    let set = set(
        "mode: enforce\nrules:\n  - { name: throttle, rate: { requests: 2, per: 1m, by: peer }, action: deny }",
    );
    let denied_from = |by_gate: &[usize], protocol| {
        let mut engine = engine(&set);
        engine.gate_counts_for(by_gate.to_vec());
        (1..9).find(|id| {
            let login = ApiCall {
                protocol,
                ..at(call("POST", "/login"), *id, 1)
            };
            rule(&mut engine, &login) == "throttle"
        })
    };
    assert_eq!(denied_from(&[], Protocol::Http1), Some(3));
    assert_eq!(denied_from(&[0], Protocol::Http1), Some(5));
    // The gate does not count these.
    assert_eq!(denied_from(&[0], Protocol::Http2), Some(3));
    let mut engine = engine(&set);
    engine.gate_counts_for(vec![0]);
    let denied = (1..9).find(|id| {
        let login = ApiCall {
            ambiguous: true,
            ..at(call("POST", "/login"), *id, 1)
        };
        rule(&mut engine, &login) == "throttle"
    });
    assert_eq!(denied, Some(3));
}

#[test]
fn rates_outlive_a_change_of_policies() {
    let text = "mode: enforce\nrules:\n  - { name: throttle, rate: { requests: 1, per: 1m, by: client }, action: deny }";
    let mut engine = engine(&set(text));
    assert_eq!(rule(&mut engine, &at(call("GET", "/"), 1, 1)), "");
    engine.replace(set(&format!(
        "{text}\n  - {{ name: more, match: {{ paths: [/x] }}, action: alert }}"
    )));
    assert_eq!(rule(&mut engine, &at(call("GET", "/"), 2, 2)), "throttle");
    engine.replace(set(&text.replace("throttle", "other")));
    assert_eq!(
        rule(&mut engine, &at(call("GET", "/"), 3, 3)),
        "",
        "another name, another allowance"
    );
}

#[test]
fn expressions_read_the_call() {
    let mut put = header(call("PUT", "/fhir/Patient/1"), "x-purpose", "research");
    put.raw.request_body = Bytes::from_static(br#"{"resourceType":"Patient"}"#);
    let finding = Finding {
        kind: "smuggling-shape".into(),
        severity: crate::detect::Severity::High,
        message: String::new(),
    };
    for (when, expected) in [
        ("call.request.method == 'PUT'", true),
        (
            "call.request.path.startsWith('/fhir/') && call.peer.port > 1024",
            true,
        ),
        ("call.request.headers['x-purpose'] == 'research'", true),
        ("call.request.headers['x-missing'] == 'research'", false),
        (
            "has(call.request.headers.host) && !('x-missing' in call.request.headers)",
            true,
        ),
        ("call.request.body.text.contains('Patient')", true),
        ("call.request.body.text.matches('resource.ype')", true),
        (
            "call.process.uid == 1000 && call.process.exe.endsWith('/server')",
            true,
        ),
        (
            "findings.exists(f, f.kind == 'smuggling-shape' && f.severity == 'high')",
            true,
        ),
        ("findings.exists(f, f.kind == 'other')", false),
        ("call.tls.used || call.response.status in [200, 201]", true),
        (
            "call.peer.address == '192.0.2.1' && call.request.auth == 'none'",
            true,
        ),
        ("'duplicate-host' in call.anomalies", false),
        ("size(call.request.query) == 0 ? true : false", true),
    ] {
        let set = set(&format!(
            "mode: enforce\nrules:\n  - name: r\n    when: \"{when}\"\n    action: deny"
        ));
        let verdict = engine(&set)
            .evaluate(&put, std::slice::from_ref(&finding), Phase::Complete)
            .expect("final");
        assert_eq!(verdict.rule == "r", expected, "{when}");
    }
}

#[test]
fn a_failing_expression_raises_an_alert_and_does_not_match() {
    let spec = "mode: enforce\nrules:\n  - { name: r, when: '100 / call.process.uid == 1', action: deny }";
    let mut root = call("GET", "/");
    Arc::make_mut(&mut root.process).uid = 0;
    let mut engine = engine(&set(spec));
    let verdict = engine.evaluate(&root, &[], Phase::Head).expect("final");
    assert_eq!((verdict.rule.as_str(), verdict.action), ("r", Action::Alert));
    assert_eq!(engine.counters().expressions_failed, 1);
    let set = set(&format!("{spec}\n  - {{ name: rest, action: deny }}"));
    assert_eq!(rule(&mut self::engine(&set), &root), "rest");
}

#[test]
fn verdicts_name_what_matched_and_where() {
    let set = set(
        "mode: enforce\nrules:\n  - { name: r, match: { direction: inbound, paths: [/**] }, action: kill, require: cut }",
    );
    let verdict = engine(&set)
        .evaluate(&call("GET", "/"), &[], Phase::Head)
        .expect("final");
    insta::assert_snapshot!(format!("{verdict:?}"), @r#"Verdict { action: Kill, mode: Enforce, policy: "p", rule: "r", decided_by: Pipeline, gated: true, require: Some(Cut), shortfall: "", matched: ["direction", "paths"], source: "0.yaml:7" }"#);
    assert_eq!(set.policies().len(), 1);
    assert_eq!(set.policies()[0].rules_len, 1);
}

#[test]
fn literals_are_the_words_of_all_paths_and_hosts() {
    let set = set(
        "rules:\n  - { name: a, match: { paths: ['/ward/{id}/bed', /ward/**], hosts: [a.example, '*.b.example'] }, action: alert }",
    );
    let literals: Vec<&str> = set.literals().iter().map(|literal| literal.as_str()).collect();
    assert_eq!(literals, ["a.example", "bed", "ward"]);
}
