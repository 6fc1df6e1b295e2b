//! The records of each kind. That they are what the schema allows is held against the published schema itself, by the
//! integration tests; here they are looked at.

use super::*;

/// Every kind, and what may be absent.
fn events() -> Vec<v1::Event> {
    let call = crate::json::tests::call_event();
    let mut bare = v1::Call::default();
    bare.findings.push(v1::Finding {
        kind: "smuggling-shape".into(),
        severity: "high".into(),
        message: "the message's framing is ambiguous: bare-line-feed".into(),
    });
    let mut outbound = match call.kind.clone() {
        Some(v1::event::Kind::Call(call)) => call,
        _ => unreachable!(),
    };
    outbound.direction = v1::Direction::Outbound as i32;
    outbound.operation = None;
    outbound.data.clear();
    outbound.response = None;
    outbound.state = "reset".into();
    let process = outbound.process.clone();
    let kinds = [
        v1::event::Kind::Call(bare),
        v1::event::Kind::Call(outbound),
        v1::event::Kind::FlowEnd(v1::FlowEnd {
            flow_id: 7,
            process: process.clone(),
            local: Some(v1::Peer {
                address: "192.0.2.1".into(),
                port: 443,
            }),
            sent: Some(v1::Account {
                moved: 10,
                seen: 8,
                lost: 2,
            }),
            reset: true,
            ..Default::default()
        }),
        v1::event::Kind::FlowEnd(v1::FlowEnd::default()),
        v1::event::Kind::FlowLoss(v1::FlowLoss {
            reason: "tls-attach".into(),
            process,
            bytes: 3,
            duration_ns: 5_000_000,
            detail: "calls before the probes came".into(),
            ..Default::default()
        }),
        v1::event::Kind::FlowLoss(v1::FlowLoss::default()),
        v1::event::Kind::AgentState(v1::AgentState {
            state: "started".into(),
            detail: String::new(),
        }),
        v1::event::Kind::AgentState(v1::AgentState {
            state: "degraded".into(),
            detail: "the policy ward reaches 0.4 of its connections".into(),
        }),
        v1::event::Kind::Audit(v1::Audit {
            what: "policy".into(),
            accepted: true,
            who: "uid=0 pid=12 (control socket)".into(),
            old_digest: "1a".into(),
            new_digest: "2b".into(),
            reason: "go live".into(),
        }),
        v1::event::Kind::Audit(v1::Audit {
            what: "mode".into(),
            ..Default::default()
        }),
    ];
    let more = kinds.into_iter().zip(0_u8..).map(|(kind, number)| v1::Event {
        id: vec![number; 16],
        time_ns: 1_795_514_263_000_000_042,
        kind: Some(kind),
    });
    std::iter::once(call).chain(more).collect()
}

/// `UPDATE_DOCS=1` writes them; `cargo xtask test` holds them against the published schema.
#[test]
fn the_examples_are_what_is_written() {
    let mut examples = Vec::new();
    let reporter = Reporter {
        agent: "a1",
        host: "ward-7",
    };
    for event in events() {
        lines(&event, reporter, &mut examples);
        lines(&event, Reporter::default(), &mut examples);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ocsf/examples.jsonl");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &examples).unwrap();
    }
    let found = std::fs::read(path).unwrap_or_default();
    assert!(
        found == examples,
        "{path} differs: UPDATE_DOCS=1 cargo test -p apiward-proto ocsf"
    );
}

#[test]
fn what_was_only_observed_is_no_block() {
    for (action, guarantee, expected) in [
        ("allow", "", (1, 1)),
        ("alert", "", (3, 19)),
        ("deny", "prevented", (2, 2)),
        ("deny", "contained", (2, 2)),
        ("deny", "cut", (2, 21)),
        ("deny", "observed", (3, 15)),
        ("deny", "", (3, 15)),
        ("kill", "killed", (2, 21)),
    ] {
        let event = v1::Event {
            kind: Some(v1::event::Kind::Call(v1::Call {
                verdict: Some(v1::Verdict {
                    action: action.into(),
                    guarantee: guarantee.into(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            ..Default::default()
        };
        let record = &records(&event, Reporter::default())[0];
        let found = (record["action_id"].as_u64(), record["disposition_id"].as_u64());
        assert_eq!(
            found,
            (Some(expected.0), Some(expected.1)),
            "{action} {guarantee}"
        );
    }
}
