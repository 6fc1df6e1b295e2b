//! The format of the lines, as a table.

use super::*;

fn shown(event: &v1::Event) -> String {
    let mut paper = Paper::new(false);
    super::event(&mut paper, event, &TimeZone::UTC);
    paper.as_str().to_owned()
}

fn of(kind: v1::event::Kind) -> v1::Event {
    v1::Event {
        id: vec![1; 16],
        time_ns: 1_500_000_000_123_456_789,
        kind: Some(kind),
    }
}

fn call() -> v1::Call {
    v1::Call {
        direction: v1::Direction::Inbound as i32,
        process: Some(v1::Process {
            pid: 812,
            comm: "nginx".into(),
            exe: "/usr/sbin/nginx".into(),
            ..Default::default()
        }),
        remote: Some(v1::Peer {
            address: "10.0.0.5".into(),
            port: 51_234,
        }),
        tls: Some(v1::Tls {
            library: "openssl".into(),
            version: "3".into(),
            handshake: None,
        }),
        request: Some(v1::Request {
            method: "GET".into(),
            path: "/patients/{id}".into(),
            host: "app.local".into(),
            auth: "bearer".into(),
            query_parameters: 2,
            head_time_ns: 1_000,
            ..Default::default()
        }),
        response: Some(v1::Response {
            status: 200,
            last_byte_time_ns: 3_201_000,
            ..Default::default()
        }),
        state: "answered".into(),
        verdict: Some(v1::Verdict {
            action: "allow".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn call_line(change: impl FnOnce(&mut v1::Call)) -> String {
    let mut call = call();
    change(&mut call);
    shown(&of(v1::event::Kind::Call(call)))
}

#[test]
fn calls_stand_below_their_heading() {
    let mut paper = Paper::new(false);
    heading(&mut paper);
    let lines = format!(
        "{}{}{}{}",
        paper.as_str(),
        call_line(|_| {}),
        call_line(|call| {
            call.direction = v1::Direction::Outbound as i32;
            call.remote = None;
            call.tls = None;
            call.response = None;
            call.state = "timed-out".into();
            call.process = None;
            call.request = Some(v1::Request {
                method: "POST".into(),
                path: "/".into(),
                auth: "none".into(),
                ..Default::default()
            });
        }),
        call_line(|call| {
            call.remote = Some(v1::Peer {
                address: "2001:db8::1".into(),
                port: 443,
            });
            call.state = "reset".into();
            call.loss_overlap = true;
            call.anomalies = vec!["bare-lf".into()];
            call.findings = vec![v1::Finding {
                kind: "phi".into(),
                severity: "high".into(),
                message: "a list of patients".into(),
            }];
        }),
    );
    assert_eq!(
        lines,
        "time           process                peer                   status   took tls auth    method host and path\n\
         02:40:00.123 ← nginx[812]             10.0.0.5:51234         200    3.2 ms tls bearer  GET    app.local/patients/{id} ?2\n\
         02:40:00.123 → ?                      no known peer          timed-out         -       POST   /\n\
         02:40:00.123 ← nginx[812]             [2001:db8::1]:443      200    3.2 ms tls bearer  GET    app.local/patients/{id} ?2 !reset !bare-lf !bytes-lost\n\
         \u{20}              finding high phi: a list of patients\n"
    );
}

#[test]
fn verdicts() {
    let base = v1::Verdict {
        policy: "records".into(),
        rule: "no-export".into(),
        mode: "enforce".into(),
        ..Default::default()
    };
    let verdict = |action: &str, guarantee: &str, would_be: &str| v1::Verdict {
        action: action.into(),
        guarantee: guarantee.into(),
        would_be: would_be.into(),
        ..base.clone()
    };
    for (verdict, words) in [
        (v1::Verdict::default(), ""),
        (verdict("allow", "", ""), "allowed by records/no-export"),
        (verdict("alert", "", ""), "ALERT by records/no-export"),
        (
            verdict("deny", "contained", ""),
            "DENIED, contained by records/no-export",
        ),
        (
            verdict("deny", "observed", "contained"),
            "WOULD BE denied, contained by records/no-export",
        ),
        (
            v1::Verdict {
                shortfall: "the connection had ended before it could be reset".into(),
                ..verdict("deny", "observed", "")
            },
            "DENIED, not stopped by records/no-export — the connection had ended before it could be reset",
        ),
        (
            v1::Verdict {
                killed: true,
                collateral: 2,
                shortfall: "prevented".into(),
                ..verdict("kill", "killed", "")
            },
            "KILLED, killed by records/no-export, 2 other calls lost with it — less than required: prevented",
        ),
        // It is never claimed that something held where nothing was measured.
        (
            verdict("deny", "", ""),
            "DENIED, nothing measured by records/no-export",
        ),
    ] {
        assert_eq!(verdict_words(&verdict).1, words);
    }
}

#[test]
fn what_is_no_call() {
    let process = call().process;
    for (kind, words) in [
        (
            v1::event::Kind::FlowLoss(v1::FlowLoss {
                reason: "ring".into(),
                process: process.clone(),
                bytes: 2_048,
                records: 1,
                detail: "the ring had no room".into(),
                ..Default::default()
            }),
            "loss   ring nginx[812]: 2.0 KiB, 1 piece, the ring had no room\n",
        ),
        (
            v1::event::Kind::AgentState(v1::AgentState {
                state: "started".into(),
                detail: "apiward".into(),
            }),
            "agent  started: apiward\n",
        ),
        (
            v1::event::Kind::Audit(v1::Audit {
                what: "mode".into(),
                accepted: true,
                who: "uid=0".into(),
                old_digest: "observe".into(),
                new_digest: "enforce".into(),
                reason: "go live".into(),
            }),
            "audit  mode observe → enforce by uid=0: go live\n",
        ),
        (
            v1::event::Kind::Audit(v1::Audit {
                what: "policy".into(),
                who: "signal".into(),
                old_digest: "ab".into(),
                new_digest: "ab".into(),
                reason: "line 3".into(),
                ..Default::default()
            }),
            "audit  policy REFUSED stays ab by signal: line 3\n",
        ),
    ] {
        assert_eq!(shown(&of(kind)), format!("02:40:00.123 {words}"));
    }
    let end = |lost| {
        shown(&of(v1::event::Kind::FlowEnd(v1::FlowEnd {
            process: process.clone(),
            remote: call().remote,
            received: Some(v1::Account {
                moved: 100,
                seen: 100 - lost,
                lost,
            }),
            ..Default::default()
        })))
    };
    assert_eq!(end(0), "");
    assert_eq!(
        end(7),
        "02:40:00.123 loss   connection nginx[812] with 10.0.0.5:51234: 0 bytes of 0 bytes sent and 7 bytes of 100 bytes \
         received were not seen\n"
    );
}

#[test]
fn nothing_captured_commands_the_terminal() {
    let evil = "\x1b]0;x\x07\u{9b}2J\r\n\u{202e}";
    let line = call_line(|call| {
        let process = call.process.get_or_insert_default();
        process.comm = evil.into();
        let request = call.request.get_or_insert_default();
        for text in [
            &mut request.method,
            &mut request.path,
            &mut request.host,
            &mut request.auth,
        ] {
            *text = evil.into();
        }
        call.state = evil.into();
        call.anomalies = vec![evil.into()];
        call.verdict = Some(v1::Verdict {
            action: "deny".into(),
            rule: evil.into(),
            policy: evil.into(),
            shortfall: evil.into(),
            guarantee: evil.into(),
            ..Default::default()
        });
        call.findings = vec![v1::Finding {
            kind: evil.into(),
            severity: evil.into(),
            message: evil.into(),
        }];
    });
    let controls = line.chars().filter(|one| one.is_control()).collect::<String>();
    assert_eq!(controls, "\n\n", "one line feed a line, and nothing else");
    assert!(!line.contains('\u{202e}'));
}
