//! Whole conversations, record by record: captured in, calls out.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::call::Limits;
use crate::call::{CallDirection, CallState, UnreadWhy};
use crate::capture::{
    Captured, Direction, FlowEnd, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use crate::flow::{self, Flows};

mod http2;
mod late;
mod mllp;
mod preambles;
mod repeated;
mod stopped;
mod strange;
mod tls;
mod tunnels;
mod websocket;

const SERVER_STARTS: u32 = u32::MAX - 50;
const CLIENT_STARTS: u32 = 1000;

/// One side of a connection, and what the stages make of it.
struct Scene {
    flows: Flows,
    calls: Calls,
    now: u64,
    id: FlowId,
    positions: [u32; 2],
    told: String,
    ended: Vec<ApiCall>,
}

pub(super) fn options() -> Options {
    Options {
        limits: Limits::default(),
        key: [1; 32],
        boot_id: [2; 16],
        earning: Default::default(),
        literals: Vec::new(),
    }
}

pub(super) fn process() -> Arc<Process> {
    Arc::new(Process {
        pid: 7,
        tid: 7,
        uid: 0,
        comm: "app".into(),
        exe: "/usr/bin/app".into(),
        cgroup_id: 1,
        cgroup_path: "".into(),
        container: None,
    })
}

pub(super) fn info(id: FlowId) -> Captured {
    Captured::Flow(Arc::new(FlowInfo {
        id,
        carrier: Some(1),
        local: Some("127.0.0.1:80".parse().unwrap()),
        remote: Some("127.0.0.1:4000".parse().unwrap()),
        role: SocketRole::Server,
        netns: 0,
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    }))
}

impl Scene {
    fn new(id: FlowId, joined_late: bool) -> Self {
        Self::with(id, joined_late, options())
    }

    fn with(id: FlowId, joined_late: bool, options: Options) -> Self {
        let mut scene = Scene {
            flows: Flows::new(flow::Limits::default()),
            calls: Calls::new(options),
            now: 1_000_000_000,
            id,
            positions: match id {
                FlowId::Socket(_) => [CLIENT_STARTS, SERVER_STARTS],
                FlowId::Tls { .. } => [0, 0],
            },
            told: String::new(),
            ended: Vec::new(),
        };
        scene.open(SocketRole::Server, joined_late);
        scene
    }

    fn open(&mut self, role: SocketRole, joined_late: bool) {
        let Captured::Flow(flow) = info(self.id) else {
            unreachable!()
        };
        self.take(Captured::Flow(Arc::new(FlowInfo {
            role,
            joined_late,
            starts: None,
            ..(*flow).clone()
        })));
    }

    fn server() -> Self {
        Self::new(FlowId::Socket(1), false)
    }

    fn client() -> Self {
        let mut scene = Self::server();
        scene.open(SocketRole::Client, false);
        scene
    }

    fn take(&mut self, captured: Captured) {
        let (told, ended, calls) = (&mut self.told, &mut self.ended, &mut self.calls);
        self.flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, call| {
                if phase == Phase::Complete {
                    let _ = writeln!(told, "{}", describe(call));
                    ended.push(call.clone());
                }
            });
        });
    }

    fn segment(&mut self, direction: Direction, bytes: &[u8], missing: u32) -> Segment {
        self.now += 1_000;
        let socket = matches!(self.id, FlowId::Socket(_));
        let (mine, other) = match direction {
            Direction::Received => (0, 1),
            Direction::Sent => (1, 0),
        };
        let position = self.positions[mine];
        self.positions[mine] = position.wrapping_add(bytes.len() as u32 + missing);
        Segment {
            at: KernelTime(self.now),
            flow: self.id,
            process: process(),
            direction,
            position: u64::from(position),
            other_position: if socket {
                u64::from(self.positions[other])
            } else {
                0
            },
            bytes: Bytes::copy_from_slice(bytes),
            missing,
            missing_reason: GapReason::Sendfile,
        }
    }

    fn received(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let segment = self.segment(Direction::Received, bytes.as_ref(), 0);
        self.take(Captured::Segment(segment));
        self
    }

    fn sent(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let segment = self.segment(Direction::Sent, bytes.as_ref(), 0);
        self.take(Captured::Segment(segment));
        self
    }

    /// Bytes that move without a record.
    fn lose(&mut self, direction: Direction, bytes: &str) -> &mut Self {
        let _ = self.segment(direction, bytes.as_bytes(), 0);
        let at = KernelTime(self.now);
        self.take(Captured::Lost { at, records: 1 });
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * 1_000_000_000;
        let at = KernelTime(self.now);
        self.take(Captured::Tick { at });
        self
    }

    fn close(&mut self, reset: bool) -> String {
        self.now += 1_000;
        let end = FlowEnd {
            received_end: u64::from(self.positions[0]),
            sent_end: u64::from(self.positions[1]),
            reset,
            ..FlowEnd::default()
        };
        let captured = Captured::Closed {
            at: KernelTime(self.now),
            flow: self.id,
            end,
        };
        self.take(captured);
        self.told.trim_end().to_owned()
    }
}

fn describe(call: &ApiCall) -> String {
    let mut text = format!("{} {}", call.request.method, call.request.path);
    let body = |text: &mut String, body: &crate::call::BodyFacts| {
        if body.bytes_total > 0 || body.truncated {
            let _ = write!(
                text,
                " [{}/{}{}]",
                body.bytes_captured,
                body.bytes_total,
                if body.truncated { " cut" } else { "" }
            );
        }
    };
    body(&mut text, &call.request.body);
    match &call.response {
        Some(response) => {
            let _ = write!(text, " -> {}", response.status);
            body(&mut text, &response.body);
        }
        None => text.push_str(" -> -"),
    }
    let _ = write!(text, " {}", call.state.as_str());
    if call.loss_overlap {
        text.push_str(" loss");
    }
    for anomaly in &call.anomalies {
        let _ = write!(text, " !{}", anomaly.as_str());
    }
    text
}

const GET: &str = "GET /fhir/Patient/1?name=x HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}";

#[test]
fn a_simple_call() {
    let mut scene = Scene::server();
    assert_eq!(
        scene.received(GET).sent(OK).close(false),
        "GET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
    let call = &scene.ended[0];
    assert_eq!(call.direction, CallDirection::Inbound);
    assert_eq!(call.request.host, "localhost:8080");
    assert_eq!(call.request.query_parameters, 1);
    assert_eq!(call.response_position, Some(SERVER_STARTS));
    assert_eq!(call.raw.path.as_deref(), Some("/fhir/Patient/1"));
    assert_eq!(call.raw.response_body, "{}");
    assert_eq!(
        call.response.as_ref().unwrap().body.media_type,
        "application/json"
    );
    assert!(!call.ambiguous);
    assert_eq!(scene.calls.stats().calls_open, 0);
}

#[test]
fn keep_alive_and_every_split() {
    let whole =
        "GET /api HTTP/1.1\r\nHost: a\r\n\r\nPOST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let answers =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    let expected = "GET /api -> 200 [3/3] answered\nPOST /api [3/3] -> 204 answered";
    for split in 1..whole.len() {
        let mut scene = Scene::server();
        scene.received(&whole[..split]).received(&whole[split..]);
        let split = split.min(answers.len() - 1);
        scene.sent(&answers[..split]).sent(&answers[split..]);
        assert_eq!(scene.close(false), expected, "split at {split}");
    }
    let mut scene = Scene::server();
    for byte in whole.bytes() {
        scene.received(std::str::from_utf8(&[byte]).unwrap());
    }
    for byte in answers.bytes() {
        scene.sent(std::str::from_utf8(&[byte]).unwrap());
    }
    assert_eq!(scene.close(false), expected);
}

#[test]
fn the_answers_record_may_come_first() {
    let mut scene = Scene::server();
    let request = scene.segment(Direction::Received, GET.as_bytes(), 0);
    let answer = scene.segment(Direction::Sent, OK.as_bytes(), 0);
    scene.take(Captured::Segment(answer));
    scene.take(Captured::Segment(request));
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");
}

#[test]
fn head_connect_and_upgrade_change_what_follows() {
    let mut scene = Scene::server();
    scene
        .received("HEAD /api HTTP/1.1\r\nHost: a\r\n\r\n")
        .sent("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
    scene
        .received("CONNECT localhost:443 HTTP/1.1\r\nHost: a\r\n\r\n")
        .sent("HTTP/1.1 200 OK\r\n\r\n");
    scene.received("\x16\x03\x01").sent("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(
        scene.close(false),
        "HEAD /api -> 200 answered\nCONNECT  -> 200 switched"
    );
    assert_eq!(scene.ended[1].request.host, "localhost");

    // Refused, and bytes that came before the answer are requests after all.
    let mut scene = Scene::server();
    scene.received("CONNECT localhost:443 HTTP/1.1\r\nHost: a\r\n\r\nGET /api HTTP/1.1\r\nHost: a\r\n\r\n");
    scene
        .sent("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        .sent(OK);
    assert_eq!(
        scene.close(false),
        "CONNECT  -> 403 answered\nGET /api -> 200 [2/2] answered"
    );

    // What goes through the tunnel in clear is a connection of its own.
    let mut scene = Scene::server();
    scene
        .received("CONNECT ehr:80 HTTP/1.1\r\nHost: ehr:80\r\n\r\n")
        .sent("HTTP/1.1 200 Established\r\n\r\n");
    scene
        .received("GET /fhir/Pat")
        .received("ient/1 HTTP/1.1\r\nHost: ehr\r\n\r\n")
        .sent(OK);
    scene.received(GET).sent(OK);
    assert_eq!(
        scene.close(false),
        "CONNECT  -> 200 switched\nGET /fhir/Patient/{id} -> 200 [2/2] answered\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
    // Also what comes before the answer, and a tunnel in a tunnel.
    let mut scene = Scene::server();
    scene.received("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nCONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n");
    scene.sent("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    scene.received(GET).sent(OK);
    assert_eq!(
        scene.close(false),
        "CONNECT  -> 200 switched\nCONNECT  -> 200 switched\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );

    let mut scene = Scene::server();
    scene.received("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    scene
        .sent("HTTP/1.1 101 Switching Protocols\r\n\r\n")
        .received("\u{1}\u{2}");
    assert_eq!(scene.close(false), "GET /ws -> 101 switched");
}

#[test]
fn interim_answers_are_not_the_answer() {
    let mut scene = Scene::server();
    scene.received("PUT /api HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    scene
        .sent("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        .received("ab");
    scene.sent(OK);
    assert_eq!(scene.close(false), "PUT /api [2/2] -> 200 [2/2] answered");
}

#[test]
fn a_declined_body_does_not_swallow_the_next_request() {
    let mut scene = Scene::server();
    scene.received("PUT /api HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n");
    scene
        .sent("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .received(GET)
        .sent(OK);
    assert_eq!(
        scene.close(false),
        "PUT /api [0/0 cut] -> 417 answered\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
}

#[test]
fn calls_without_an_answer_say_why() {
    assert_eq!(
        Scene::server().received(GET).close(false),
        "GET /fhir/Patient/{id} -> - closed"
    );
    assert_eq!(
        Scene::server().received(GET).close(true),
        "GET /fhir/Patient/{id} -> - reset"
    );
    assert_eq!(
        Scene::server()
            .received(GET)
            .sent("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .close(false),
        "GET /fhir/Patient/{id} -> 200 [3/3 cut] closed"
    );
    let mut scene = Scene::server();
    scene.received(GET).later(301);
    assert_eq!(scene.told.trim_end(), "GET /fhir/Patient/{id} -> - timed-out");
    // Its answer comes after all: it must not be taken for the next call's.
    scene
        .sent("HTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n")
        .received(GET)
        .sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> - timed-out\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
}

#[test]
fn an_answer_before_the_requests_end_does_not_keep_the_call_open() {
    let mut scene = Scene::server();
    scene.received("PUT /api HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nabc");
    scene
        .sent("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        .later(1);
    assert_eq!(scene.told, "");
    scene.later(10);
    assert_eq!(scene.told.trim_end(), "PUT /api [3/3 cut] -> 413 answered");
    assert_eq!(scene.close(false), "PUT /api [3/3 cut] -> 413 answered");
}

#[test]
fn close_delimited() {
    let mut scene = Scene::server();
    scene
        .received(GET)
        .sent("HTTP/1.0 200 OK\r\n\r\n")
        .sent("abc")
        .sent("def");
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [6/6] answered");
}

#[test]
fn sendfile_is_body_that_was_not_captured() {
    let mut scene = Scene::server();
    scene
        .received(GET)
        .sent("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let file = scene.segment(Direction::Sent, b"", 100);
    scene.take(Captured::Segment(file));
    scene.received(GET).sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> 200 [0/100 cut] answered\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
}

#[test]
fn a_lost_answer_does_not_shift_the_others() {
    let mut scene = Scene::server();
    scene.received(GET).lose(Direction::Sent, OK);
    scene
        .received("GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
        .sent(OK)
        .later(1);
    scene.received("GET /login HTTP/1.1\r\nHost: a\r\n\r\n").sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> - gap loss\nGET /api -> 200 [2/2] answered\nGET /login -> 200 [2/2] answered"
    );
}

#[test]
fn a_lost_request_does_not_shift_the_others() {
    let mut scene = Scene::server();
    scene.received(GET).sent(OK);
    scene.lose(Direction::Received, GET).sent(OK);
    scene
        .received("GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
        .later(1)
        .sent("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> 200 [2/2] answered\nGET /api -> 404 answered"
    );
    assert_eq!(scene.calls.stats().responses_unpaired, 1);
}

#[test]
fn an_answer_to_nothing_is_named() {
    let mut scene = Scene::server();
    scene
        .received(GET)
        .sent(OK)
        .sent("HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
        .later(1);
    scene.received(GET).sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> 200 [2/2] answered\n\
         GET /fhir/Patient/{id} -> 200 [2/2] answered !unsolicited-response"
    );
    no_losses(&scene, 1);
}

#[test]
fn an_answer_on_a_connection_without_a_request_is_no_loss() {
    let mut scene = Scene::server();
    scene.sent("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(scene.close(false), "");
    no_losses(&scene, 1);
}

fn no_losses(scene: &Scene, unsolicited: u64) {
    let stats = scene.calls.stats();
    assert_eq!((stats.responses_unpaired, stats.waiting_bytes_given_up), (0, 0));
    assert_eq!(stats.responses_unsolicited, unsolicited);
}

#[test]
fn a_loss_while_a_call_is_open_marks_it() {
    let mut scene = Scene::server();
    scene.received(GET);
    let at = KernelTime(scene.now + 1);
    scene.take(Captured::Lost { at, records: 3 });
    scene.sent(OK).received(GET).sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> 200 [2/2] answered loss\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
}

#[test]
fn joined_late_from_the_next_message_on() {
    let mut scene = Scene::new(FlowId::Socket(1), true);
    scene.sent("the rest of a body").received("and of another");
    scene.received(GET).sent(OK);
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");

    // The same inside TLS, where positions of one direction say nothing of the other's.
    let id = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 3,
    };
    let mut scene = Scene::new(id, true);
    scene
        .sent(OK)
        .received(GET)
        .sent("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        .received(GET)
        .sent(OK);
    assert_eq!(
        scene.close(false),
        "GET /fhir/Patient/{id} -> 404 answered\nGET /fhir/Patient/{id} -> 200 [2/2] answered"
    );
    assert_eq!(scene.calls.stats().responses_unpaired, 1);

    // The answer to a request that was sent before the agent came.
    let mut scene = Scene::new(FlowId::Socket(1), true);
    scene
        .sent(OK)
        .received(GET)
        .sent("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    scene
        .later(1)
        .received("GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
        .sent(OK);
    assert!(
        scene.close(false).ends_with("GET /api -> 200 [2/2] answered"),
        "{}",
        scene.told
    );
}

#[test]
fn the_client_of_a_call() {
    let mut scene = Scene::new(
        FlowId::Tls {
            pid: 1,
            object: 2,
            generation: 0,
        },
        false,
    );
    scene.sent(GET).received(OK);
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");
    assert_eq!(scene.ended[0].direction, CallDirection::Outbound);
    assert_eq!(scene.ended[0].response_position, None);
}

#[test]
fn a_tls_object_of_unknown_age() {
    let id = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 0,
    };
    let mut scene = Scene::new(id, true);
    for byte in GET.bytes() {
        scene.sent(std::str::from_utf8(&[byte]).unwrap());
    }
    for byte in OK.bytes() {
        scene.received(std::str::from_utf8(&[byte]).unwrap());
    }
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");
    let mut scene = Scene::new(id, true);
    scene
        .sent("the rest of a body\r\n")
        .received("and of another")
        .sent(GET)
        .received(OK);
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");
}

#[test]
fn bodies_beyond_the_limit_are_counted() {
    let mut options = options();
    options.limits.body_bytes_max = 10;
    let mut scene = Scene::with(FlowId::Socket(1), false, options);
    let long = "x".repeat(25);
    scene
        .received(format!(
            "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\n\r\n{long}"
        ))
        .sent(OK);
    assert_eq!(scene.close(false), "POST /api [10/25 cut] -> 200 [2/2] answered");
}

#[test]
fn other_protocols_are_let_go() {
    let mut scene = Scene::server();
    scene.sent("220 mail ready\r\n").received("EHLO a\r\n");
    assert_eq!(scene.close(false), "");
    assert_eq!(scene.calls.stats().flows_other, 1);
}

#[test]
fn missing_requests_are_told_once_and_missing_bodies_are_not() {
    let mut scene = Scene::server();
    for _ in 0..2 {
        scene.received(GET).sent(OK).lose(Direction::Received, GET);
    }
    scene.received(GET);
    scene.close(false);
    let told = scene.calls.take_unread();
    assert_eq!(
        told.iter().map(|one| one.why).collect::<Vec<_>>(),
        [UnreadWhy::Gap]
    );
    let mut scene = Scene::server();
    scene
        .received("POST /fhir/Patient HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        .lose(Direction::Received, "123456789")
        .received(GET);
    scene.close(false);
    assert_eq!(scene.calls.take_unread().len(), 0);
}

#[test]
fn pipelined_calls_are_bounded() {
    let mut options = options();
    options.limits.flow_calls_max = 4;
    let mut scene = Scene::with(FlowId::Socket(1), false, options);
    for _ in 0..10 {
        scene.received(GET);
    }
    assert_eq!(scene.calls.stats().calls_open, 4);
    assert_eq!(scene.calls.stats().calls_given_up, 6);
    scene.close(false);
    assert_eq!(scene.calls.stats().calls_open, 0);
}

#[test]
fn names_of_calls_are_their_own() {
    let mut scene = Scene::server();
    scene.received(GET).sent(OK).received(GET).sent(OK).close(false);
    let mut again = Scene::server();
    again.received(GET).sent(OK).received(GET).sent(OK).close(false);
    assert_ne!(scene.ended[0].id, scene.ended[1].id);
    assert_eq!(scene.ended[0].id, again.ended[0].id);
    assert_eq!(scene.ended[1].id, again.ended[1].id);
}

#[test]
fn what_is_open_when_the_agent_ends_is_pending() {
    let mut scene = Scene::server();
    scene
        .received("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        .sent("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
    let (at, ended) = (KernelTime(scene.now), &mut scene.ended);
    scene.calls.finish(at, &mut |phase, call| {
        if phase == Phase::Complete {
            ended.push(call.clone());
        }
    });
    let states: Vec<CallState> = scene.ended.iter().map(|call| call.state).collect();
    assert_eq!(states, [CallState::Pending]);
    assert_eq!(scene.calls.stats().calls_open, 0);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}
