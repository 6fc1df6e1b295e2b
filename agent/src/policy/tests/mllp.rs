//! HL7 over MLLP: senders retry in order, so a denial is an alert unless the rule says that it may stall.

use super::*;
use crate::call::Protocol;
use crate::policy::model::example;

fn judged(rule: &str, protocol: Protocol) -> Verdict {
    let set = load(&[&format!(
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n  mode: enforce\n  rules:\n    - {{ name: r, {rule} }}\n"
    )]);
    let mut engine = Engine::new(set, Mode::Enforce, Vec::new());
    let (mut call, _) = example();
    call.protocol = protocol;
    if protocol == Protocol::Mllp {
        call.raw.method = "HL7".into();
        call.raw.path = None;
    }
    engine.evaluate(&call, &[], Phase::Complete).expect("a verdict")
}

#[test]
fn a_denial_over_mllp_is_an_alert_unless_the_rule_says_otherwise() {
    for (rule, protocol, action, spared) in [
        ("action: deny", Protocol::Http1, Action::Deny, false),
        ("action: deny", Protocol::Mllp, Action::Alert, true),
        ("action: kill", Protocol::Mllp, Action::Alert, true),
        ("action: deny, require: cut", Protocol::Mllp, Action::Alert, true),
        (
            "action: deny, allowStall: true",
            Protocol::Mllp,
            Action::Deny,
            false,
        ),
        ("action: alert", Protocol::Mllp, Action::Alert, false),
        (
            "match: { protocols: mllp }, action: deny, allowStall: true",
            Protocol::Mllp,
            Action::Deny,
            false,
        ),
        (
            "match: { protocols: mllp }, action: deny",
            Protocol::Http1,
            Action::Allow,
            false,
        ),
        (
            "match: { protocols: [http] }, action: deny",
            Protocol::Mllp,
            Action::Allow,
            false,
        ),
        (
            "match: { protocols: [http] }, action: deny",
            Protocol::Http2,
            Action::Deny,
            false,
        ),
        (
            "match: { methods: HL7 }, action: deny",
            Protocol::Mllp,
            Action::Alert,
            true,
        ),
        (
            "match: { paths: [/**] }, action: deny",
            Protocol::Mllp,
            Action::Allow,
            false,
        ),
    ] {
        let verdict = judged(rule, protocol);
        assert_eq!(verdict.action, action, "{rule} {protocol:?}");
        assert_eq!(!verdict.shortfall.is_empty(), spared, "{rule} {protocol:?}");
    }
}
