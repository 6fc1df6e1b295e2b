//! What a record says, and that it says nothing more than the JSON line.

use super::*;

#[test]
fn hosts_in_their_forms() {
    for (host, expected) in [
        ("", ("", None)),
        ("ehr.example", ("ehr.example", None)),
        ("ehr.example:8443", ("ehr.example", Some(8443))),
        ("ehr.example:", ("ehr.example", None)),
        ("[fd00::1]:80", ("fd00::1", Some(80))),
        ("[fd00::1]", ("fd00::1", None)),
        ("fd00::1", ("fd00::1", None)),
    ] {
        assert_eq!(split_host(host), expected, "{host}");
    }
}

#[test]
fn a_trace_id_is_one_or_nothing() {
    let of = |text: &str| {
        trace_id(&v1::Request {
            trace_id: text.to_owned(),
            ..Default::default()
        })
    };
    assert_eq!(of("0af7651916cd43dd8448eb211c80319c").len(), 16);
    for none in [
        "",
        "0af7",
        "00000000000000000000000000000000",
        "zaf7651916cd43dd8448eb211c80319c",
        "+af7651916cd43dd8448eb211c80319c",
    ] {
        assert!(of(none).is_empty(), "{none}");
    }
}

/// Every text in a JSON value.
fn texts(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Number(number) => found.push(number.to_string()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::StringValue(text) => found.push(text.clone()),
        Value::ArrayValue(array) => array
            .values
            .iter()
            .filter_map(|item| item.value.as_ref())
            .for_each(|item| leaves(item, found)),
        Value::KvlistValue(list) => list
            .values
            .iter()
            .filter_map(|pair| pair.value.as_ref()?.value.as_ref())
            .for_each(|item| leaves(item, found)),
        // Numbers and flags: nothing captured is one of either.
        Value::IntValue(_) | Value::BoolValue(_) => {}
        other => panic!("no attribute is one of these: {other:?}"),
    }
}

pub(in crate::export::otlp) fn a_call() -> v1::Event {
    let body = |bytes_total| {
        Some(v1::Body {
            bytes_total,
            bytes_captured: 5,
            truncated: true,
            media_type: "application/json".to_owned(),
        })
    };
    let call = v1::Call {
        direction: v1::Direction::Inbound as i32,
        protocol: "http/1".to_owned(),
        process: Some(v1::Process {
            pid: 7,
            tid: 8,
            uid: 33,
            comm: "nginx".to_owned(),
            exe: "/usr/sbin/nginx".to_owned(),
            cgroup_id: 99,
            cgroup_path: "/system.slice".to_owned(),
            container_id: "c0ffee".to_owned(),
        }),
        local: Some(v1::Peer {
            address: "10.0.0.1".to_owned(),
            port: 8443,
        }),
        remote: Some(v1::Peer {
            address: "10.0.0.2".to_owned(),
            port: 40000,
        }),
        tls: Some(v1::Tls {
            library: "openssl".to_owned(),
            version: "3.0.17".to_owned(),
            handshake: Some(v1::TlsHandshake {
                version: "1.2".to_owned(),
                cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
                server_name: "front.example".to_owned(),
                alpn: "http/1.1".to_owned(),
                alpn_offered: vec!["h2".to_owned(), "http/1.1".to_owned()],
                resumed: Some(false),
                certificate: Some(v1::Certificate {
                    known: "shown".to_owned(),
                    subject: "front.example".to_owned(),
                    issuer: "h:0123".to_owned(),
                    not_after_s: 1_800_000_000,
                    chain: 2,
                    ..Default::default()
                }),
                client_certificate: Some(v1::Certificate {
                    known: "none".to_owned(),
                    ..Default::default()
                }),
                names_disagree: true,
                ..Default::default()
            }),
        }),
        request: Some(v1::Request {
            method: "GET".to_owned(),
            path: "/Patient/{id}".to_owned(),
            host: "ehr.example:443".to_owned(),
            auth: "bearer".to_owned(),
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            body: body(0),
            query_parameters: 2,
            head_bytes: 300,
            head_time_ns: 1_000,
            end_time_ns: 1_500,
            credentials: None,
        }),
        response: Some(v1::Response {
            status: 503,
            body: body(900),
            head_time_ns: 2_000,
            first_byte_time_ns: 2_000,
            last_byte_time_ns: 3_000,
        }),
        state: "answered".to_owned(),
        anomalies: vec!["bare-lf".to_owned()],
        findings: vec![v1::Finding {
            kind: "enumeration".to_owned(),
            severity: "high".to_owned(),
            message: "many patients".to_owned(),
        }],
        verdict: Some(v1::Verdict {
            action: "deny".to_owned(),
            guarantee: "contained".to_owned(),
            policy: "ward".to_owned(),
            rule: "no-export".to_owned(),
            decided_by: "pipeline".to_owned(),
            mode: "enforce".to_owned(),
            matched: vec!["path".to_owned(), "peer".to_owned()],
            source: "ward.yaml:7".to_owned(),
            collateral: 1,
            ..Default::default()
        }),
        flow_id: 0xabcd,
        ..Default::default()
    };
    v1::Event {
        id: (0..16).collect(),
        time_ns: 1_000,
        kind: Some(v1::event::Kind::Call(call)),
    }
}

#[test]
fn a_call_s_record() {
    let record = record(&a_call());
    let mut lines = vec![
        format!("{} {}", record.event_name, record.severity_text),
        format!("{} {}", record.time_unix_nano, record.observed_time_unix_nano),
        format!("trace {:02x?}", record.trace_id),
    ];
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => {
            let mut found = Vec::new();
            leaves(other, &mut found);
            format!("{found:?}")
        }
    };
    lines.push(text(record.body.unwrap().value.as_ref().unwrap()));
    lines.extend(record.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().unwrap().value.as_ref().unwrap();
        format!("{} = {}", pair.key, text(value))
    }));
    insta::assert_snapshot!(lines.join("\n"), @r#"
    apiward.call ERROR
    1000 3000
    trace [0a, f7, 65, 19, 16, cd, 43, dd, 84, 48, eb, 21, 1c, 80, 31, 9c]
    inbound GET /Patient/{id}: 503; deny, contained, by ward/no-export
    apiward.event.id = 000102030405060708090a0b0c0d0e0f
    apiward.direction = inbound
    apiward.call.protocol = http/1
    apiward.call.state = answered
    network.protocol.name = http
    apiward.call.duration_ns = 2000
    network.transport = tcp
    network.type = ipv4
    network.local.address = 10.0.0.1
    network.local.port = 8443
    network.peer.address = 10.0.0.2
    network.peer.port = 40000
    apiward.flow.id = 000000000000abcd
    url.scheme = https
    apiward.tls.library = openssl
    apiward.tls.library.version = 3.0.17
    tls.protocol.name = tls
    tls.protocol.version = 1.2
    tls.cipher = TLS_AES_128_GCM_SHA256
    tls.client.server_name = front.example
    tls.next_protocol = http/1.1
    tls.resumed = false
    apiward.tls.alpn_offered = ["h2", "http/1.1"]
    apiward.tls.encrypted_hello = false
    apiward.tls.names_disagree = true
    apiward.tls.server.certificate.known = shown
    tls.server.subject = front.example
    tls.server.issuer = h:0123
    tls.server.not_after = 2027-01-15T08:00:00.000000000Z
    apiward.tls.server.certificate.self_signed = false
    apiward.tls.server.certificate.expired = false
    apiward.tls.client.certificate.known = none
    process.pid = 7
    thread.id = 8
    process.real_user.id = 33
    process.executable.name = nginx
    process.executable.path = /usr/sbin/nginx
    process.linux.cgroup = /system.slice
    apiward.process.cgroup.id = 0000000000000063
    container.id = c0ffee
    http.request.method = GET
    http.route = /Patient/{id}
    apiward.request.auth = bearer
    apiward.request.query_parameters = 2
    apiward.request.head_bytes = 300
    http.request.body.size = 0
    apiward.request.body.captured = 5
    apiward.request.body.truncated = true
    apiward.request.body.media_type = application/json
    apiward.request.head_time_ns = 1000
    apiward.request.end_time_ns = 1500
    server.address = ehr.example
    server.port = 443
    client.address = 10.0.0.2
    client.port = 40000
    http.response.status_code = 503
    error.type = 503
    http.response.body.size = 900
    apiward.response.body.captured = 5
    apiward.response.body.truncated = true
    apiward.response.body.media_type = application/json
    apiward.response.head_time_ns = 2000
    apiward.response.first_byte_time_ns = 2000
    apiward.response.last_byte_time_ns = 3000
    apiward.anomalies = ["bare-lf"]
    apiward.findings = ["enumeration", "high", "many patients"]
    apiward.verdict.action = deny
    apiward.verdict.guarantee = contained
    apiward.verdict.policy = ward
    apiward.verdict.rule = no-export
    apiward.verdict.decided_by = pipeline
    apiward.verdict.mode = enforce
    apiward.verdict.matched = ["path", "peer"]
    apiward.verdict.source = ward.yaml:7
    apiward.verdict.killed = false
    apiward.verdict.collateral = 1
    apiward.call.ambiguous = false
    apiward.call.loss_overlap = false
    "#);
}

#[test]
fn a_request_of_calls_fits_into_a_receiver_s_usual_limit() {
    use prost::Message;
    let event = a_call();
    let by_bytes = crate::export::otlp::BATCH_BYTES_MAX / event.encoded_len() + 1;
    let events = by_bytes.min(crate::export::otlp::BATCH_EVENTS_MAX);
    let bytes = events * record(&event).encoded_len();
    assert!(bytes < 3 << 20, "{bytes}");
}

#[test]
fn a_record_holds_nothing_that_the_json_line_does_not() {
    // The conventions' words, that no event brings.
    let ours = ["http", "https", "tcp", "ipv4", "tls", "ehr.example", "503"];
    let event = a_call();
    let mut line = Vec::new();
    apiward_proto::json::value(&event, &mut line);
    let mut carried = Vec::new();
    texts(&serde_json::from_slice(&line).unwrap(), &mut carried);
    let mut found = Vec::new();
    for pair in &record(&event).attributes {
        leaves(pair.value.as_ref().unwrap().value.as_ref().unwrap(), &mut found);
    }
    assert!(found.len() > 20);
    for text in found {
        assert!(
            carried.contains(&text) || ours.contains(&text.as_str()),
            "{text} is not in {carried:?}"
        );
    }
}
