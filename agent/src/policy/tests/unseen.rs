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

/// A stream of HTTP/2 whose fields are in a table from before the agent: it is neither taken for what it may not be nor
/// let through by what it does not show.
#[test]
fn unknown_fields_fall_under_on_unseen() {
    let known = call("GET", "/x");
    let mut no_path = known.clone();
    no_path.anomalies = vec![crate::call::Anomaly::UnknownFields];
    no_path.raw.target = Bytes::new();
    no_path.raw.path = None;
    let mut no_host = known.clone();
    no_host.anomalies = no_path.anomalies.clone();
    no_host.raw.host = String::new();
    let mut no_method = no_path.clone();
    no_method.raw.method = Bytes::new();
    for (condition, call, concerned) in [
        ("paths: [/x]", &no_path, true),
        ("paths: [/x]", &no_host, false),
        ("hosts: { not: [example.org] }", &no_host, true),
        ("hosts: { not: [example.org] }", &no_path, false),
        ("auth: none", &no_path, true),
        ("methods: [DELETE]", &no_method, true),
        ("methods: [DELETE]", &no_path, false),
        ("methods: [DELETE], paths: [/x]", &no_path, false),
    ] {
        for (unseen, action) in [
            ("allow", Action::Allow),
            ("alert", Action::Alert),
            ("cut", Action::Deny),
        ] {
            let set = set(&format!(
                "mode: enforce\nonUnseen: {unseen}\nonAmbiguous: deny\nrules:\n  - {{ name: r, match: {{ {condition} }}, action: deny }}"
            ));
            let verdict = engine(&set).evaluate(call, &[], Phase::Head).expect("final");
            let direct = verdict.rule == "r";
            match concerned {
                true => assert_eq!((direct, verdict.action), (false, action), "{condition} {unseen}"),
                // Settled by what is known.
                false => assert_ne!(verdict.rule, "onUnseen", "{condition} {unseen}"),
            }
        }
    }
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
