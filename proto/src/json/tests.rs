//! The line's shape, held by snapshots, and its promises: one line an event, whatever is in it.

use super::*;

fn body(total: u64) -> v1::Body {
    v1::Body {
        bytes_total: total,
        bytes_captured: total.min(64),
        truncated: total > 64,
        media_type: "application/fhir+json".into(),
    }
}

pub(crate) fn call_event() -> v1::Event {
    v1::Event {
        id: (1..=16).collect(),
        time_ns: 1_795_514_263_000_000_042,
        kind: Some(v1::event::Kind::Call(v1::Call {
            direction: v1::Direction::Inbound as i32,
            protocol: "http/1".into(),
            process: Some(v1::Process {
                pid: 4711,
                tid: 4712,
                uid: 33,
                comm: "nginx".into(),
                exe: "/usr/sbin/nginx".into(),
                cgroup_id: u64::MAX,
                cgroup_path: "/system.slice/nginx.service".into(),
                container_id: String::new(),
            }),
            local: Some(v1::Peer {
                address: "127.0.0.1".into(),
                port: 443,
            }),
            remote: Some(v1::Peer {
                address: "2001:db8::1".into(),
                port: 50_000,
            }),
            tls: Some(v1::Tls {
                library: "openssl".into(),
                version: "3.0.17".into(),
                handshake: Some(v1::TlsHandshake {
                    version: "1.3".into(),
                    cipher: "TLS_AES_128_GCM_SHA256".into(),
                    server_name: "ehr.example".into(),
                    certificate: Some(v1::Certificate {
                        known: "encrypted".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
            }),
            request: Some(v1::Request {
                method: "GET".into(),
                path: "/fhir/Patient/{id}".into(),
                host: "ehr.example".into(),
                auth: "bearer".into(),
                trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                body: Some(body(0)),
                query_parameters: 2,
                head_bytes: 310,
                head_time_ns: 1_795_514_263_000_000_042,
                end_time_ns: 1_795_514_263_000_000_042,
                credentials: Some(v1::Credentials {
                    principal: "h:00112233aabbccdd".into(),
                    principal_kind: "subject".into(),
                    jwt: Some(v1::Jwt {
                        alg: "RS256".into(),
                        issuer: "idp.example".into(),
                        expires_s: 1_795_514_300,
                        scopes: vec!["patient/*.read".into()],
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
            }),
            response: Some(v1::Response {
                status: 200,
                body: Some(body(4096)),
                head_time_ns: 1_795_514_263_000_500_000,
                first_byte_time_ns: 1_795_514_263_000_500_000,
                last_byte_time_ns: 1_795_514_263_001_000_042,
            }),
            state: "answered".into(),
            anomalies: vec!["bare-line-feed".into()],
            findings: vec![v1::Finding {
                kind: "smuggling-shape".into(),
                severity: "high".into(),
                message: "the message's framing is ambiguous".into(),
            }],
            verdict: Some(v1::Verdict {
                action: "deny".into(),
                guarantee: "observed".into(),
                would_be: "contained".into(),
                policy: "records-api".into(),
                rule: "exports-need-auth".into(),
                decided_by: "pipeline".into(),
                mode: "observe".into(),
                matched: vec!["direction".into(), "paths".into()],
                source: "records.yaml:14".into(),
                ..Default::default()
            }),
            loss_overlap: false,
            flow_id: 0xdead_beef,
            ambiguous: true,
            operation: Some(v1::Operation {
                api: "fhir".into(),
                name: "read".into(),
                resource: "Patient".into(),
                subject: "a1b2".into(),
                entries: 1,
                details: vec![v1::Detail {
                    name: "version".into(),
                    value: "r4".into(),
                }],
            }),
            data: vec![v1::Data {
                class: "mrn".into(),
                group: "phi".into(),
                evidence: "structure".into(),
                confidence: 99,
                part: "response.body".into(),
                location: "$.identifier[].value".into(),
                count: 1,
                hash: "00ff".into(),
            }],
            third_party: Some(v1::ThirdParty {
                domain: "vendor.example".into(),
                vendor: "labs".into(),
                owner: "it".into(),
                agreement: "yes".into(),
            }),
        })),
    }
}

fn text_of(event: &v1::Event) -> String {
    let mut out = Vec::new();
    line(event, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_call_has_every_field() {
    let text = text_of(&call_event());
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&parsed).unwrap());
}

#[test]
fn what_is_absent_is_null() {
    let mut event = call_event();
    if let Some(v1::event::Kind::Call(call)) = &mut event.kind {
        call.tls = None;
        call.response = None;
        call.remote = Some(v1::Peer::default());
        call.state = "timed-out".into();
        if let Some(request) = &mut call.request {
            request.trace_id.clear();
        }
        call.verdict = Some(v1::Verdict {
            action: "allow".into(),
            decided_by: "pipeline".into(),
            ..Default::default()
        });
    }
    let parsed: serde_json::Value = serde_json::from_str(&text_of(&event)).unwrap();
    let call = &parsed["call"];
    for path in [
        "/tls",
        "/response",
        "/remote",
        "/duration_ns",
        "/request/trace_id",
        "/verdict/guarantee",
        "/verdict/policy",
    ] {
        assert_eq!(call.pointer(path), Some(&serde_json::Value::Null), "{path}");
    }
}

#[test]
fn the_other_kinds() {
    let kinds = [
        v1::event::Kind::FlowLoss(v1::FlowLoss {
            reason: "spool".into(),
            events: 12,
            detail: "collector: the spool was full".into(),
            ..Default::default()
        }),
        v1::event::Kind::AgentState(v1::AgentState {
            state: "started".into(),
            detail: String::new(),
        }),
        v1::event::Kind::Audit(v1::Audit {
            what: "mode".into(),
            accepted: true,
            who: "uid=0 pid=12 (control socket)".into(),
            old_digest: "observe".into(),
            new_digest: "enforce".into(),
            reason: "go live".into(),
        }),
    ];
    let lines: String = kinds
        .into_iter()
        .map(|kind| {
            text_of(&v1::Event {
                id: vec![0xab; 16],
                time_ns: 1,
                kind: Some(kind),
            })
        })
        .collect();
    insta::assert_snapshot!(lines);
}

#[test]
fn one_line_whatever_is_in_it() {
    let mut event = call_event();
    if let Some(v1::event::Kind::Call(call)) = &mut event.kind {
        let process = call.process.as_mut().unwrap();
        process.comm = "a\nb\"\u{1}\u{2028}\\".into();
    }
    let text = text_of(&event);
    assert_eq!(text.matches('\n').count(), 1);
    assert!(text.ends_with("}\n"));
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["call"]["process"]["comm"], "a\nb\"\u{1}\u{2028}\\");
}

#[test]
fn an_unknown_kind_is_still_a_line() {
    let text = text_of(&v1::Event {
        id: vec![1; 40],
        time_ns: 0,
        kind: None,
    });
    assert_eq!(
        text,
        format!(
            "{{\"kind\":\"unknown\",\"id\":\"{}\",\"time\":null}}\n",
            "01".repeat(32)
        )
    );
}

#[test]
fn times_are_the_calendar_s() {
    for ns in [
        1u64,
        951_782_400_000_000_000,
        1_709_164_799_999_999_999,
        4_102_444_800_000_000_001,
        u64::MAX / 2,
    ] {
        let timestamp = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
        assert_eq!(time_text(ns), format!("{timestamp:.9}"));
    }
}

#[test]
fn parts_that_are_written_already_are_as_they_would_be() {
    let whole = call_event();
    let mut expected = Vec::new();
    line(&whole, &mut expected);
    let mut bare = whole.clone();
    let Some(v1::event::Kind::Call(call)) = &mut bare.kind else {
        panic!("it is a call");
    };
    let (process, tls) = (call.process.take().unwrap(), call.tls.take().unwrap());
    let (mut process_json, mut tls_json) = (Vec::new(), Vec::new());
    super::process(&process, &mut process_json);
    super::tls(&tls, &mut tls_json);
    let written = Written {
        process: &process_json,
        tls: &tls_json,
    };
    let mut out = Vec::new();
    line_with(&bare, written, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        String::from_utf8(expected).unwrap()
    );
}
