//! The edge lets facts out and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::call::{
    AuthScheme, CallId, CallState, CallTls, Certificate, Raw, Request, Response, Sight, Tls, TlsNames,
};
use crate::capture::{KernelTime, SocketRole, TlsInfo};
use crate::policy::{DecidedBy, Guarantee, Mode};

const CANARY: &str = "Zwanziger";

fn sample() -> ApiCall {
    let canary = || Bytes::from_static(CANARY.as_bytes());
    let facts = || BodyFacts {
        bytes_total: 100,
        bytes_captured: 64,
        truncated: true,
        media_type: "application/json".into(),
    };
    ApiCall {
        id: CallId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        direction: CallDirection::Outbound,
        protocol: crate::call::Protocol::Http1,
        process: Arc::new(Process {
            pid: 7,
            tid: 8,
            uid: 1000,
            comm: "curl".into(),
            exe: "/usr/bin/curl".into(),
            cgroup_id: 99,
            cgroup_path: "/user.slice".into(),
            container: None,
        }),
        flow: Arc::new(FlowInfo {
            id: FlowId::Tls {
                pid: 7,
                object: 0x7fff_dead_beef_0000,
                generation: 1,
            },
            carrier: None,
            local: Some("[::ffff:10.0.0.1]:40000".parse().unwrap()),
            remote: Some("[2001:db8::2]:443".parse().unwrap()),
            role: SocketRole::Client,
            netns: 1,
            tls: Some(TlsInfo {
                library: "openssl".into(),
                version: "3.0.17".into(),
            }),
            joined_late: false,
            starts: None,
            enforceable: true,
        }),
        request: Request {
            method: "POST".into(),
            path: "/fhir/Patient/{id}".into(),
            host: "ehr.example".into(),
            auth: AuthScheme::Bearer,
            credentials: None,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            body: facts(),
            query_parameters: 1,
            head_bytes: 200,
            head_at: KernelTime(1_000),
            ended_at: KernelTime(2_000),
        },
        response: Some(Response {
            status: 201,
            body: facts(),
            head_at: KernelTime(3_000),
            first_byte_at: KernelTime(3_000),
            last_byte_at: KernelTime(4_000),
        }),
        state: CallState::Answered,
        anomalies: vec![crate::call::Anomaly::BareLineFeed],
        operation: None,
        data: Vec::new(),
        tls: Some(CallTls {
            facts: Arc::new(Tls {
                version: "1.2",
                cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into(),
                server_name: "host-0123abcd".into(),
                alpn: "http/1.1".into(),
                alpn_offered: vec!["h2".into(), "http/1.1".into()],
                resumed: Some(false),
                certificate_sight: Sight::Shown,
                certificate: Some(Certificate {
                    subject: "host-0123abcd".into(),
                    names: vec!["*.host-89abcdef".into()],
                    issuer: "h:0123456789abcdef".into(),
                    not_before_s: 1_700_000_000,
                    not_after_s: 1_800_000_000,
                    self_signed: false,
                    key: "rsa-2048".into(),
                    chain: 2,
                    serial: "0a1b".into(),
                }),
                client_certificate_sight: Sight::None,
                ..Tls::default()
            }),
            server_name: "ehr.example".into(),
            certificate_expired: false,
            names_disagree: false,
        }),
        third_party: None,
        ambiguous: false,
        loss_overlap: false,
        response_position: None,
        head_end: None,
        stopped: None,
        raw: Raw {
            method: canary(),
            target: canary(),
            path: Some(CANARY.into()),
            query: canary(),
            host: CANARY.into(),
            request_headers: vec![(canary(), canary())].into(),
            response_headers: vec![(canary(), canary())].into(),
            request_head: 0,
            response_head: 0,
            request_body: canary(),
            response_body: canary(),
            request_decoded: false,
            response_decoded: false,
            looked_at: false,
            proxied_client: None,
            claims: crate::call::Claims {
                issuer: CANARY.into(),
                audience: CANARY.into(),
                subject: CANARY.into(),
            },
            tls: Some(Arc::new(TlsNames {
                server_name: CANARY.into(),
                subject: CANARY.into(),
                issuer: CANARY.into(),
            })),
        },
    }
}

fn deny() -> Verdict {
    Verdict {
        action: Action::Deny,
        mode: Mode::Observe,
        policy: "records".into(),
        rule: "no-export".into(),
        decided_by: DecidedBy::Pipeline,
        gated: false,
        require: Some(Guarantee::Prevented),
        shortfall: "",
        matched: Arc::from(["methods", "paths"]),
        source: Arc::from("records.yaml:9"),
    }
}

fn outcome() -> Outcome {
    Outcome {
        guarantee: Guarantee::Observed,
        would_be: Some(Guarantee::Contained),
        killed: false,
        collateral: 2,
        shortfall: "prevented needs the gate".into(),
    }
}

fn call_of(event: &v1::Event) -> &v1::Call {
    match &event.kind {
        Some(v1::event::Kind::Call(call)) => call,
        other => panic!("not a call: {other:?}"),
    }
}

#[test]
fn nothing_captured_leaves() {
    let event = call(
        &Clock::with_offset_ns(0),
        &sample(),
        &[],
        &deny(),
        Some(&outcome()),
    );
    let mut json = Vec::new();
    apiward_proto::json::line(&event, &mut json);
    for (form, bytes) in [
        ("protobuf", event.encode_to_vec()),
        ("json", json),
        ("debug", format!("{event:?}").into_bytes()),
    ] {
        let found = memchr::memmem::find(&bytes, CANARY.as_bytes());
        assert_eq!(found, None, "the {form} form holds a captured value");
    }
}

#[test]
fn a_call_carries_its_facts() {
    let event = call(
        &Clock::with_offset_ns(1_000_000),
        &sample(),
        &[],
        &deny(),
        Some(&outcome()),
    );
    assert_eq!(event.id, (1..=16).collect::<Vec<u8>>());
    assert_eq!(event.time_ns, 1_001_000);
    let mut json = Vec::new();
    apiward_proto::json::line(&event, &mut json);
    let mut value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    value["call"]["flow_id"] = "keyed".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn the_address_of_a_tls_object_does_not_leave_but_its_carrier_does() {
    let mut sample = sample();
    let clock = Clock::with_offset_ns(0);
    let without = call(&clock, &sample, &[], &deny(), None);
    assert_ne!(call_of(&without).flow_id, 0x7fff_dead_beef_0000);
    let again = call(&clock, &sample, &[], &deny(), None);
    assert_eq!(call_of(&without).flow_id, call_of(&again).flow_id);

    let flow = FlowInfo {
        carrier: Some(77),
        ..(*sample.flow).clone()
    };
    sample.flow = Arc::new(flow);
    assert_eq!(call_of(&call(&clock, &sample, &[], &deny(), None)).flow_id, 77);
}

#[test]
fn only_a_denial_has_a_guarantee() {
    let clock = Clock::with_offset_ns(0);
    for (action, guarantee) in [
        (Action::Allow, ""),
        (Action::Alert, ""),
        (Action::Deny, "observed"),
        (Action::Kill, "observed"),
    ] {
        let event = call(
            &clock,
            &sample(),
            &[],
            &Verdict { action, ..deny() },
            Some(&outcome()),
        );
        assert_eq!(
            call_of(&event).verdict.as_ref().unwrap().guarantee,
            guarantee,
            "{action:?}"
        );
    }
}

#[test]
fn an_unanswered_call_has_no_response() {
    let mut sample = sample();
    sample.response = None;
    sample.state = CallState::TimedOut;
    let event = call(&Clock::with_offset_ns(0), &sample, &[], &deny(), None);
    assert_eq!(call_of(&event).response, None);
    assert_eq!(call_of(&event).state, "timed-out");
}

#[test]
fn a_call_in_parts_is_the_whole_call() {
    let clock = Clock::measure();
    let first = sample();
    let mut second = sample();
    second.process = Arc::new(Process {
        pid: 8,
        ..(*first.process).clone()
    });
    let mut clear = sample();
    Arc::make_mut(&mut clear.flow).tls = None;
    clear.tls = None;
    let mut expired = first.clone();
    if let Some(tls) = &mut expired.tls {
        tls.certificate_expired = !tls.certificate_expired;
    }
    let verdict = deny();
    // More connections, each with something of its own, than there are places: each is found again or written again.
    let many: Vec<ApiCall> = (0..1000)
        .map(|at| {
            let mut one = first.clone();
            let flow = Arc::make_mut(&mut one.flow);
            if let Some(tls) = &mut flow.tls {
                tls.library = format!("libssl-{at}").into();
            }
            one
        })
        .collect();
    let mut told = Told::default();
    let few = [&first, &second, &first, &clear, &expired, &first, &second];
    for call in few.into_iter().chain(&many).chain(&many) {
        let whole = super::call(&clock, call, &[], &verdict, None);
        told.call(&clock, call, &[], &verdict, None);
        let mut bytes = Vec::new();
        told.encode(&mut bytes);
        assert_eq!(v1::Event::decode(&bytes[..]).unwrap(), whole);
        let (mut line, mut expected) = (Vec::new(), Vec::new());
        told.line(&mut line);
        apiward_proto::json::line(&whole, &mut expected);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            String::from_utf8(expected).unwrap()
        );
    }
}
