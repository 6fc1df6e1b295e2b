//! What cannot be known, and what cannot be read at all.

use super::*;

#[test]
fn what_is_not_known_falls_under_on_unseen() {
    let unknown = unknown_peer(call("GET", "/x"));
    let spec = |unseen: &str, action: &str| {
        set(&format!(
            "mode: enforce\nonUnseen: {unseen}\nrules:\n  - {{ name: r, match: {{ paths: [/x], peers: {{ not: [10.0.0.0/8] }} }}, action: {action} }}"
        ))
    };
    let verdict = |unseen, action, call: &ApiCall| {
        let verdict = engine(&spec(unseen, action))
            .evaluate(call, &[], Phase::Head)
            .expect("final");
        (verdict.rule.to_string(), verdict.action)
    };
    assert_eq!(verdict("allow", "deny", &unknown), (String::new(), Action::Allow));
    assert_eq!(
        verdict("alert", "deny", &unknown),
        ("onUnseen".into(), Action::Alert)
    );
    assert_eq!(
        verdict("cut", "deny", &unknown),
        ("onUnseen".into(), Action::Deny)
    );
    assert_eq!(verdict("cut", "allow", &unknown), (String::new(), Action::Allow));
    assert_eq!(
        verdict("cut", "deny", &unknown_peer(call("GET", "/y"))),
        (String::new(), Action::Allow)
    );
}

#[test]
fn unseen_traffic_of_a_workload() {
    let set =
        set("mode: enforce\nonUnseen: cut\nworkload: { uid: 1000 }\nrules: [{ name: r, action: alert }]");
    let engine = engine(&set);
    let mut process = (*call("GET", "/").process).clone();
    let verdict = engine.evaluate_unseen(&process).expect("a verdict");
    assert_eq!(
        (verdict.rule.as_str(), verdict.action),
        ("onUnseen", Action::Deny)
    );
    process.uid = 0;
    assert_eq!(engine.evaluate_unseen(&process), None);
}

#[test]
fn a_policy_that_observes_does_not_shield_unseen_traffic() {
    let policy = |name: &str, spec: &str| {
        format!(
            "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: {name} }}\nspec: {{ {spec}, rules: [] }}\n"
        )
    };
    let watching = policy("watching", "mode: observe, priority: 9, onUnseen: cut");
    let alerting = policy("alerting", "mode: enforce, priority: 5, onUnseen: alert");
    let cutting = policy("cutting", "mode: enforce, onUnseen: cut");
    let process = call("GET", "/").process;
    let said = |texts: &[&str]| {
        let verdict = engine(&load(texts)).evaluate_unseen(&process).expect("a verdict");
        (verdict.policy.to_string(), verdict.mode)
    };
    assert_eq!(
        said(&[&watching, &alerting, &cutting]),
        ("cutting".into(), Mode::Enforce)
    );
    assert_eq!(said(&[&watching, &alerting]), ("watching".into(), Mode::Observe));
}
