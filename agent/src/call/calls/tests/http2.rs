//! Whole connections of HTTP/2, record by record.

use super::*;
use crate::call::Protocol;
use crate::decode::Anomaly;

const PREFACE: &[u8] = crate::decode::HTTP2_PREFACE;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

fn head(method: &str, path: &str) -> Vec<u8> {
    block(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost:8080"),
        (":path", path),
    ])
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(1, END_HEADERS | END_STREAM, stream, &head("GET", path))
}

fn ok(stream: u32) -> Vec<u8> {
    frame(1, END_HEADERS, stream, &block(&[(":status", "200")]))
}

fn data(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    frame(0, u8::from(ends), stream, bytes)
}

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

/// A server's side of a connection that has begun.
fn begun() -> Scene {
    let mut scene = Scene::server();
    scene.received([PREFACE, &settings()].concat()).sent(settings());
    scene
}

#[test]
fn a_call_has_its_facts() {
    let mut scene = begun();
    scene.received(get(1, "/fhir/Patient/1?name=x"));
    let at = scene.positions;
    let ended = scene
        .sent(frame(
            1,
            END_HEADERS,
            1,
            &block(&[(":status", "200"), ("content-type", "application/json")]),
        ))
        .sent(data(1, b"{}", true))
        .close(false);
    assert_eq!(ended, "GET /fhir/Patient/{id} -> 200 [2/2] answered");
    let call = &scene.ended[0];
    assert_eq!(call.protocol, Protocol::Http2);
    assert_eq!(call.direction, CallDirection::Inbound);
    assert_eq!(call.request.host, "localhost:8080");
    assert_eq!(call.raw.path.as_deref(), Some("/fhir/Patient/1"));
    assert_eq!(call.raw.response_body, "{}");
    assert_eq!(call.response_position, Some(at[1]));
    assert_eq!(call.head_end, Some(at[0]));
    assert!(!call.ambiguous);
    assert_eq!(scene.calls.stats().calls_open, 0);
    assert_eq!(scene.calls.take_unread().len(), 0, "it is read");
}

#[test]
fn the_server_may_speak_first_and_answers_may_be_told_before_requests() {
    let mut scene = Scene::server();
    scene.sent(settings()).received(PREFACE).received(settings());
    scene.sent([ok(1), data(1, b"x", true)].concat());
    scene.received(get(1, "/api")).sent(ok(3));
    scene.sent(data(3, b"y", true)).received(get(3, "/api"));
    assert_eq!(
        scene.close(false),
        "GET /api -> 200 [1/1] answered\nGET /api -> 200 [1/1] answered"
    );
    // The preface in pieces.
    let mut scene = Scene::server();
    for byte in [PREFACE, &settings(), &get(1, "/api")].concat() {
        scene.received([byte]);
    }
    for byte in [settings(), ok(1), data(1, b"x", true)].concat() {
        scene.sent([byte]);
    }
    assert_eq!(scene.close(false), "GET /api -> 200 [1/1] answered");
}

#[test]
fn an_answer_of_its_declared_length_needs_no_end() {
    let answered = |length: &str, reset: bool, closes: bool| {
        let mut scene = begun();
        let head = block(&[(":status", "200"), ("content-length", length)]);
        scene.received(get(1, "/api"));
        scene.sent([frame(1, END_HEADERS, 1, &head), data(1, b"{}", false)].concat());
        if reset {
            scene.received(frame(3, 0, 1, &[0, 0, 0, 8]));
        }
        scene.close(closes)
    };
    for (reset, closes) in [(false, false), (false, true), (true, false)] {
        assert_eq!(answered("2", reset, closes), "GET /api -> 200 [2/2] answered");
        let other = answered("3", reset, closes);
        assert!(other.starts_with("GET /api -> 200 [2/2 cut] "), "{other}");
        assert!(!other.contains("answered"), "{other}");
    }
}

#[test]
fn streams_become_websocket() {
    use super::websocket::masked;
    let connect = block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/api/chat"),
        (":authority", "localhost:8080"),
        ("sec-websocket-version", "13"),
    ]);
    let mut scene = begun();
    scene
        .received(frame(1, END_HEADERS, 1, &connect))
        .sent(ok(1))
        .received(data(1, &masked(0x01, b"one "), false))
        .received([get(3, "/api"), data(1, &masked(0x80, b"more"), false)].concat())
        .sent([data(1, b"\x81\x05hel", false), ok(3), data(3, b"x", true)].concat())
        .sent([data(1, b"lo\x88\x00", true)].concat())
        .received(data(1, &masked(0x88, b""), true))
        .received(get(5, "/api"))
        .sent([ok(5), data(5, b"y", true)].concat());
    assert_eq!(
        scene.close(false),
        "CONNECT /api/chat -> 200 switched\nCONNECT /api/chat [8/8] -> - switched\nGET /api -> 200 [1/1] answered\n\
         CONNECT /api/chat -> 101 [5/5] switched\nGET /api -> 200 [1/1] answered"
    );
    assert_eq!(scene.ended[1].protocol, Protocol::WebSocket);
    assert_eq!(scene.ended[1].raw.request_body, "one more");
    assert_eq!(scene.ended[3].raw.response_body, "hello");
    assert_eq!(scene.calls.stats().flows_websocket, 1);
    assert_eq!(scene.calls.stats().calls_open, 0);
    // Whatever a stream is called off, its message is not left open; a refusal opens none.
    let mut scene = begun();
    scene
        .received(
            [
                frame(1, END_HEADERS, 1, &connect),
                frame(1, END_HEADERS, 3, &connect),
            ]
            .concat(),
        )
        .sent(ok(1))
        .sent(frame(1, END_HEADERS | 1, 3, &block(&[(":status", "403")])))
        .received(data(1, &masked(0x01, b"half"), false))
        .received(frame(3, 0, 1, &[0, 0, 0, 8]))
        .received(frame(3, 0, 3, &[0, 0, 0, 8]));
    assert_eq!(
        scene.close(false),
        "CONNECT /api/chat -> 200 switched\nCONNECT /api/chat [4/4 cut] -> - reset\nCONNECT /api/chat [0/0 cut] -> 403 answered"
    );
    assert_eq!(scene.calls.stats().calls_open, 0);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn a_server_that_begins_as_something_else() {
    let mut scene = Scene::server();
    scene
        .sent("GET /aaaaaaaaaaaaaaaaaaaaaa")
        .received([PREFACE, &settings()].concat())
        .sent(settings())
        .received(get(1, "/api"))
        .sent([settings(), settings(), ok(1), data(1, b"x", true)].concat());
    assert_eq!(scene.close(false), "GET /api -> 200 [1/1] answered");
}

#[test]
fn a_thousand_interleaved_streams() {
    let mut scene = begun();
    let streams = || (0..1_000u32).map(|index| 2 * index + 1);
    for stream in streams() {
        scene.received(frame(
            1,
            END_HEADERS,
            stream,
            &head("POST", &format!("/api/{stream}")),
        ));
    }
    assert_eq!(scene.calls.stats().calls_open, 1_000);
    for part in 0..3 {
        for stream in streams()
            .filter(|stream| stream % 3 == part)
            .chain(streams().filter(|stream| stream % 3 != part))
        {
            scene.received(data(stream, &[b'r'; 3], part == 2));
        }
    }
    for stream in streams().collect::<Vec<_>>().into_iter().rev() {
        scene.sent(ok(stream));
    }
    for stream in streams() {
        let body = stream.to_string();
        scene.sent(data(stream, body.as_bytes(), true));
    }
    scene.close(false);
    assert_eq!(scene.ended.len(), 1_000);
    for call in &scene.ended {
        assert_eq!(call.state, CallState::Answered);
        let path = call.raw.path.clone().unwrap();
        assert_eq!(
            path.strip_prefix("/api/").unwrap().as_bytes(),
            call.raw.response_body
        );
        assert_eq!(call.raw.request_body, "r".repeat(9));
    }
    let ids: std::collections::HashSet<_> = scene.ended.iter().map(|call| call.id).collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(scene.calls.stats().calls_open, 0);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn resets_goaway_and_ends() {
    let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    let mut scene = begun();
    scene.received([get(1, "/api"), get(3, "/api"), get(5, "/api"), get(7, "/api")].concat());
    scene.received(reset(1)).sent(ok(3)).sent(reset(3));
    scene.sent(frame(7, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
    assert_eq!(
        scene.close(false),
        "GET /api -> - reset\nGET /api -> 200 [0/0 cut] reset\nGET /api -> - reset\nGET /api -> - closed"
    );
    let mut scene = begun();
    scene
        .received(frame(1, END_HEADERS, 1, &head("POST", "/api")))
        .received(data(1, b"half", false));
    assert_eq!(scene.close(true), "POST /api [4/4 cut] -> - reset");
    // Answered before the request was whole, and the rest is called off.
    let mut scene = begun();
    scene
        .received(frame(1, END_HEADERS, 1, &head("POST", "/api")))
        .received(data(1, b"half", false));
    scene
        .sent(frame(
            1,
            END_HEADERS | END_STREAM,
            1,
            &block(&[(":status", "413")]),
        ))
        .sent(reset(1));
    assert_eq!(scene.told.trim_end(), "POST /api [4/4 cut] -> 413 answered");
}

#[test]
fn trailers_interim_answers_and_pushes() {
    let mut scene = begun();
    scene.received(get(1, "/api"));
    scene.sent(frame(1, END_HEADERS, 1, &block(&[(":status", "103")])));
    scene.sent(frame(
        5,
        END_HEADERS,
        1,
        &[&[0, 0, 0, 2][..], &head("GET", "/index.html")].concat(),
    ));
    scene.sent(ok(1)).sent(data(1, b"x", false));
    scene.sent(frame(
        1,
        END_HEADERS | END_STREAM,
        1,
        &block(&[("checksum", "7")]),
    ));
    scene.sent(ok(2)).sent(data(2, b"pushed", true));
    assert_eq!(
        scene.close(false),
        "GET /api -> 200 [1/1] answered\nGET /index.html -> 200 [6/6] answered"
    );
    assert_eq!(scene.calls.stats().pushes, 1);
    let headers = &scene.ended[0].raw.response_headers;
    assert!(
        headers
            .iter()
            .any(|(name, value)| name.as_ref() == b"checksum" && value.as_ref() == b"7")
    );
    assert_eq!(scene.ended[1].response_position, None);
}

#[test]
fn an_upgrade_goes_on_as_stream_1() {
    let mut scene = Scene::server();
    scene.received(
        "GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \
         AAMAAABkAAQAAP__\r\n\r\n",
    );
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    scene.sent([&switch[..], &settings(), &ok(1)].concat());
    scene.received([PREFACE, &settings(), &get(3, "/fhir/Patient")].concat());
    scene.sent([data(1, b"one", true), ok(3), data(3, b"three", true)].concat());
    assert_eq!(
        scene.close(false),
        "GET /api -> 200 [3/3] answered\nGET /fhir/Patient -> 200 [5/5] answered"
    );
    assert_eq!(scene.calls.stats().flows_http2, 1);
    assert_eq!(scene.calls.stats().calls_open, 0);
    // What the client says at once waits for the answer.
    let mut scene = Scene::server();
    scene.received(
        "GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n",
    );
    scene.received([PREFACE, &settings(), &get(3, "/fhir/Patient")].concat());
    scene
        .sent(switch)
        .sent(settings())
        .sent([ok(3), data(3, b"three", true)].concat());
    scene.sent([ok(1), data(1, b"one", true)].concat());
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient -> 200 [5/5] answered\nGET /api -> 200 [3/3] answered"
    );
}

#[test]
fn one_that_is_joined_in_the_middle() {
    let mut scene = Scene::new(FlowId::Socket(1), true);
    // The end of something, then a request whose path is in the table already.
    let window = frame(8, 0, 0, &[0, 0, 1, 0]);
    scene.received(
        [
            b"...".to_vec(),
            frame(1, 5, 7, &[0x82, 0xbe, 0x86, 0xbf]),
            window.clone(),
        ]
        .concat(),
    );
    scene.sent([ok(7), data(7, b"x", true)].concat());
    scene
        .received(get(9, "/fhir/Patient/2"))
        .sent([ok(9), data(9, b"y", true)].concat());
    assert_eq!(
        scene.close(false),
        "GET  -> 200 [1/1] answered !unknown-fields\nGET /fhir/Patient/{id} -> 200 [1/1] answered"
    );
    assert_eq!(scene.calls.stats().streams_unknown, 1);
    assert!(!scene.ended[0].ambiguous, "unknown is not ambiguous");
    assert!(scene.ended[0].raw.path.is_none());
    // Only answers tell: the calls before are nobody's.
    let mut scene = Scene::new(FlowId::Socket(1), true);
    scene.sent([data(7, b"tail", true), ok(9), data(9, b"x", true)].concat());
    scene
        .later(1)
        .received([window, get(11, "/api")].concat())
        .sent(ok(11))
        .sent(data(11, b"", true));
    assert_eq!(scene.close(false), "GET /api -> 200 answered");
    assert_eq!(scene.calls.stats().responses_unpaired, 1);
}

#[test]
fn what_is_lost_is_said() {
    let mut scene = begun();
    scene
        .received(get(1, "/api"))
        .sent(ok(1))
        .sent(data(1, &[b'x'; 100], false));
    scene.lose(Direction::Sent, &"y".repeat(50));
    scene.sent([data(1, b"end", true), frame(8, 0, 0, &[0, 0, 1, 0])].concat());
    scene.later(1);
    assert_eq!(
        scene.told.trim_end(),
        "GET /api -> 200 [103/103 cut] answered loss"
    );
    scene.received(get(3, "/api"));
    scene.lose(Direction::Received, &"z".repeat(50));
    scene
        .received([get(5, "/api"), frame(8, 0, 0, &[0, 0, 1, 0])].concat())
        .later(1);
    let told = scene.calls.take_unread();
    assert_eq!(
        told.iter().map(|one| one.why).collect::<Vec<_>>(),
        [UnreadWhy::Gap]
    );
    assert_eq!(scene.calls.stats().calls_open, 2);
    scene.close(false);
}

#[test]
fn what_is_malformed_is_an_anomaly() {
    let mut scene = begun();
    scene.received(frame(0, 0, 0, b"x"));
    scene.received(frame(
        1,
        END_HEADERS | END_STREAM,
        1,
        &[&head("GET", "/api")[..], &block(&[("connection", "x")])].concat(),
    ));
    scene.sent([ok(1), data(1, b"x", true)].concat());
    assert_eq!(
        scene.close(false),
        "GET /api -> 200 [1/1] answered !connection-field !invalid-frame"
    );
    assert!(scene.ended[0].anomalies.contains(&Anomaly::ConnectionField) && scene.ended[0].ambiguous);
}

#[test]
fn streams_and_tables_are_bounded() {
    let mut options = options();
    options.limits.flow_streams_max = 4;
    let mut scene = Scene::with(FlowId::Socket(1), false, options.clone());
    scene.received([PREFACE, &settings()].concat());
    for stream in 0..10 {
        scene.received(get(2 * stream + 1, "/api"));
    }
    assert_eq!(scene.calls.stats().calls_open, 4);
    assert_eq!(scene.calls.stats().calls_given_up, 6);
    scene.close(false);
    assert_eq!(scene.calls.stats().calls_open, 0);
    // A table that holds more than all may.
    options.limits.decoders_bytes_max = 1_000;
    let mut scene = Scene::with(FlowId::Socket(1), false, options);
    scene.received([PREFACE, &settings()].concat());
    for stream in 0..30u32 {
        let mut fields = head("GET", "/api");
        fields.extend([0x40, 1, b'a' + stream as u8, 60]);
        fields.extend([b'x'; 60]);
        scene.received(frame(1, END_HEADERS | END_STREAM, 2 * stream + 1, &fields));
    }
    assert!(scene.calls.stats().decoders_given_up > 0);
    scene.close(false);
}

#[test]
fn inside_tls_it_is_the_same() {
    let mut scene = Scene::new(
        FlowId::Tls {
            pid: 7,
            object: 1,
            generation: 1,
        },
        false,
    );
    scene
        .received([PREFACE, &settings(), &get(1, "/api")].concat())
        .sent([settings(), ok(1), data(1, b"x", true)].concat());
    assert_eq!(scene.close(false), "GET /api -> 200 [1/1] answered");
    assert_eq!(
        (scene.ended[0].response_position, scene.ended[0].head_end),
        (None, None)
    );
}

fn grpc_message(flags: u8, bytes: &[u8]) -> Vec<u8> {
    [&[flags][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn operation(call: &ApiCall) -> String {
    let operation = call.operation.as_ref().expect("an operation");
    let details: Vec<_> = operation
        .details
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "{} {} {}",
        operation.api.as_str(),
        operation.name,
        details.join(" ")
    )
}

#[test]
fn grpc_has_messages_and_a_status() {
    let mut scene = begun();
    let mut ask = head("POST", "/grpc.health.v1.Health/Check");
    ask.extend(block(&[
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", "gzip"),
    ]));
    scene.received(frame(1, END_HEADERS, 1, &ask));
    scene.received(data(
        1,
        &[grpc_message(1, b"packed"), grpc_message(0, b"x")].concat(),
        true,
    ));
    scene.sent(frame(
        1,
        END_HEADERS,
        1,
        &block(&[(":status", "200"), ("content-type", "application/grpc")]),
    ));
    let answer = [grpc_message(0, b"one"), grpc_message(0, b"three")].concat();
    scene
        .sent(data(1, &answer[..6], false))
        .sent(data(1, &answer[6..], false));
    scene.sent(frame(
        1,
        END_HEADERS | END_STREAM,
        1,
        &block(&[("grpc-status", "5"), ("grpc-message", "Zebulon")]),
    ));
    scene.close(false);
    assert_eq!(
        operation(&scene.ended[0]),
        "grpc grpc.health.v1.Health/Check request-messages=2 request-message-bytes=7 response-messages=2 \
         response-message-bytes=8 request-compression=gzip status=NOT_FOUND"
    );
    // An answer of trailers alone, and names that nobody knows.
    let mut scene = begun();
    let mut ask = head("POST", "/acme.Zebulon/GetSmith");
    ask.extend(block(&[("content-type", "application/grpc+proto")]));
    scene.received(frame(1, END_HEADERS | END_STREAM, 1, &ask));
    scene.sent(frame(
        1,
        END_HEADERS | END_STREAM,
        1,
        &block(&[
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "12"),
        ]),
    ));
    scene.close(false);
    assert_eq!(
        operation(&scene.ended[0]),
        "grpc {name}/{name} request-messages=0 request-message-bytes=0 response-messages=0 response-message-bytes=0 \
         status=UNIMPLEMENTED"
    );
}

#[test]
fn grpc_on_a_connection_joined_late_is_told_by_its_frames() {
    // The type is in a table that was filled before.
    let told = |path: &str, body: &[u8]| {
        let mut scene = Scene::new(FlowId::Socket(1), true);
        let mut ask = vec![0x83, 0x86, 0xbe, 4, path.len() as u8];
        ask.extend(path.as_bytes());
        scene.received([frame(1, END_HEADERS, 7, &ask), data(7, body, true), settings()].concat());
        let answer = grpc_message(0, b"one");
        scene.sent(
            [
                frame(1, END_HEADERS, 7, &[0x88, 0xbe]),
                data(7, &answer, false),
                frame(1, END_HEADERS | END_STREAM, 7, &[0xbf]),
                settings(),
            ]
            .concat(),
        );
        scene.close(false);
        let call = &scene.ended[0];
        assert!(call.anomalies.contains(&Anomaly::UnknownFields));
        call.operation.is_some().then(|| operation(call))
    };
    let asked = grpc_message(0, b"hi");
    assert_eq!(
        told("/grpc.health.v1.Health/Check", &asked).as_deref(),
        Some(
            "grpc grpc.health.v1.Health/Check request-messages=1 request-message-bytes=2 response-messages=1 \
             response-message-bytes=3"
        )
    );
    for (path, body) in [
        ("/grpc.health.v1.Health/Check", &b"{\"a\":1}"[..]),
        ("/grpc.health.v1.Health/Check", &asked[..6]),
        ("/grpc.health.v1.Health/Check", b""),
        ("/files/report.pdf", &asked),
        ("/api/grpc.health.v1.Health/Check", &asked),
    ] {
        assert_eq!(told(path, body), None, "{path}");
    }
}

#[test]
fn grpc_web_comes_in_http1_as_well() {
    let mut scene = Scene::server();
    scene.received(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web-text\r\n\
         Content-Length: 12\r\n\r\nAAAAAAJoaQ==",
    );
    scene.sent(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 40\r\n\r\n\
         AAAAAAJoaQ==gAAAAA9ncnBjLXN0YXR1czowDQo=",
    );
    scene.close(false);
    assert_eq!(
        operation(&scene.ended[0]),
        "grpc-web grpc.health.v1.Health/Check request-messages=1 request-message-bytes=2 response-messages=1 \
         response-message-bytes=2 status=OK"
    );
}
