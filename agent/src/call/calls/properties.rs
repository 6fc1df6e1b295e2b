//! What holds for every conversation, and that no canary gets out of a call.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{info, options, process};
use super::*;
use crate::call::CallId;
use crate::capture::{Captured, Direction, FlowEnd, FlowId, GapReason, KernelTime, Segment};
use crate::flow::{self, Flows};

/// Sends records through the stages; returns what `see` made of the calls.
fn run<T>(
    options: Options,
    records: &[Captured],
    mut see: impl FnMut(Phase, &ApiCall) -> T,
) -> (Vec<T>, Stats) {
    let mut flows = Flows::new(flow::Limits::default());
    let mut calls = Calls::new(options);
    let mut seen = Vec::new();
    for record in records {
        flows.on(record.clone(), &mut |item| {
            calls.on(item, &mut |phase, call| seen.push(see(phase, call)))
        });
    }
    (seen, calls.stats())
}

fn segment(flow: FlowId, direction: Direction, position: u32, other_position: u32, bytes: &[u8]) -> Captured {
    Captured::Segment(Segment {
        at: KernelTime(1_000_000),
        flow,
        process: process(),
        direction,
        position: u64::from(position),
        other_position: u64::from(other_position),
        bytes: Bytes::copy_from_slice(bytes),
        missing: 0,
        missing_reason: GapReason::Limit,
    })
}

#[derive(Clone, Debug)]
struct Exchange {
    head_only: bool,
    request_body: usize,
    response_body: usize,
    chunked: bool,
    interim: bool,
    status: u16,
}

impl Exchange {
    fn request(&self, index: usize) -> String {
        let method = if self.head_only { "HEAD" } else { "POST" };
        let body = "r".repeat(if self.head_only { 0 } else { self.request_body });
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        format!(
            "{method} /api/{index} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {index:032x}\r\n{length}\r\n{body}"
        )
    }

    fn response(&self) -> String {
        let interim = if self.interim {
            "HTTP/1.1 103 Early Hints\r\n\r\n"
        } else {
            ""
        };
        let body = "b".repeat(self.response_body);
        let framing = match (self.chunked, self.head_only) {
            (true, false) if !body.is_empty() => {
                let (first, second) = body.split_at(body.len() / 2);
                let chunk = |part: &str| match part.is_empty() {
                    true => String::new(),
                    false => format!("{:x}\r\n{part}\r\n", part.len()),
                };
                format!(
                    "Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
                    chunk(first),
                    chunk(second)
                )
            }
            (_, true) => format!("Content-Length: {}\r\n\r\n", body.len()),
            _ => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        };
        format!("{interim}HTTP/1.1 {} Reason\r\n{framing}", self.status)
    }

    fn told(&self, index: usize) -> (String, u16, u64, u64, &'static str) {
        let request_body = if self.head_only {
            0
        } else {
            self.request_body as u64
        };
        let response_body = if self.head_only {
            0
        } else {
            self.response_body as u64
        };
        (
            format!("{index:032x}"),
            self.status,
            request_body,
            response_body,
            "answered",
        )
    }
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (
        any::<bool>(),
        0usize..80,
        0usize..80,
        any::<bool>(),
        any::<bool>(),
        200u16..204,
    )
        .prop_map(
            |(head_only, request_body, response_body, chunked, interim, status)| Exchange {
                head_only,
                request_body,
                response_body,
                chunked,
                interim,
                status,
            },
        )
}

fn cut<'a>(mut stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !stream.is_empty() {
        let length = cuts.next().map_or(stream.len(), |cut| (*cut).min(stream.len()));
        let (piece, rest) = stream.split_at(length);
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

proptest! {
    /// Pipelined or not, in whatever pieces, and however the two directions' records are interleaved.
    #[test]
    fn pairing_does_not_depend_on_the_order_across_directions(
        exchanges in proptest::collection::vec(exchange(), 1..6),
        request_cuts in proptest::collection::vec(1usize..200, 1..6),
        response_cuts in proptest::collection::vec(1usize..200, 1..6),
        turns in proptest::collection::vec(any::<bool>(), 0..60),
        inbound in any::<bool>(),
        start in any::<u32>(),
    ) {
        let id = FlowId::Socket(1);
        let requests: String = exchanges.iter().enumerate().map(|(index, exchange)| exchange.request(index)).collect();
        let responses: String = exchanges.iter().map(Exchange::response).collect();
        let (asks, answers) = match inbound {
            true => (Direction::Received, Direction::Sent),
            false => (Direction::Sent, Direction::Received),
        };
        let mut records = vec![info(id)];
        let mut waiting = [
            (asks, cut(requests.as_bytes(), &request_cuts), 0usize, 0u32),
            (answers, cut(responses.as_bytes(), &response_cuts), 0usize, 0u32),
        ];
        let mut turns = turns.into_iter();
        loop {
            let which = usize::from(turns.next().unwrap_or(false));
            let other_position = start.wrapping_add(if which == 0 { responses.len() } else { requests.len() } as u32);
            let index = if waiting[which].2 < waiting[which].1.len() { which } else { 1 - which };
            let (direction, pieces, at, position) = &mut waiting[index];
            let Some(piece) = pieces.get(*at) else { break };
            records.push(segment(id, *direction, start.wrapping_add(*position), other_position, piece));
            *at += 1;
            *position += piece.len() as u32;
        }
        records.push(Captured::Closed { at: KernelTime(2_000_000), flow: id, end: FlowEnd::default() });
        let mut told = Vec::new();
        let mut phases: Vec<(CallId, Phase)> = Vec::new();
        let (_, stats) = run(options(), &records, |phase, call| {
            phases.push((call.id, phase));
            if phase == Phase::Complete {
                told.push((
                    call.request.trace_id.clone().unwrap_or_default().to_string(),
                    call.response.as_ref().map_or(0, |response| response.status),
                    call.request.body.bytes_total,
                    call.response.as_ref().map_or(0, |response| response.body.bytes_total),
                    call.state.as_str(),
                ));
            }
        });
        let expected: Vec<_> = exchanges.iter().enumerate().map(|(index, exchange)| exchange.told(index)).collect();
        prop_assert_eq!(told, expected);
        prop_assert_eq!(stats.calls_open, 0);
        for id in phases.iter().map(|(id, _)| *id) {
            let of_call: Vec<Phase> = phases.iter().filter(|(other, _)| *other == id).map(|(_, phase)| *phase).collect();
            prop_assert_eq!(of_call, vec![Phase::Head, Phase::Request, Phase::Complete]);
        }
    }
}

/// Everything of a call that may leave, as text: all fields but `raw`.
fn public_face(call: &ApiCall) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        call.direction,
        call.protocol,
        call.request,
        call.response,
        call.state,
        call.anomalies,
        call.ambiguous
    )
}

#[test]
fn no_canary_leaves_in_any_part_of_a_call() {
    let mut leaked = Vec::new();
    let canaries = [
        "zebulon",
        "Quisling",
        "zebulon.quisling@canary.example",
        "Zebulon%20Quisling",
        "MRN-4711-Q",
    ];
    for canary in canaries {
        let places = [
            format!("GET /fhir/Patient/{canary} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /{canary}/Observation HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /Patient?name={canary}&{canary}=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /Patient#{canary} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /{canary}.html;{canary} HTTP/1.1\r\nHost: {canary}\r\n\r\n"),
            format!("GET http://{canary}@{canary}/{canary} HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("CONNECT {canary}:443 HTTP/1.1\r\nHost: {canary}\r\n\r\n"),
            format!("{canary} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {canary}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{canary}-{canary}-01\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {canary} {canary}\r\nCookie: {canary}\r\n\r\n"
            ),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{canary}: {canary}\r\n\r\n"),
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: x/{canary}\r\nContent-Length: {}\r\n\r\n{canary}",
                canary.len()
            ),
            format!("POST /$export{canary} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {canary}\r\n\r\n"),
        ];
        for (index, request) in places.iter().enumerate() {
            // Often, from one client: repetition by one must not earn a place.
            let mut records = Vec::new();
            for repeat in 0..50 {
                let id = FlowId::Socket(1000 * index as u64 + repeat);
                let answer = format!(
                    "HTTP/1.1 200 {canary}\r\nX: {canary}\r\nContent-Type: text/{canary}\r\nContent-Length: {}\r\n\r\n{canary}",
                    canary.len()
                );
                records.push(info(id));
                records.push(segment(id, Direction::Received, 1, 1, request.as_bytes()));
                records.push(segment(
                    id,
                    Direction::Sent,
                    1,
                    1 + request.len() as u32,
                    answer.as_bytes(),
                ));
                let end = FlowEnd::default();
                records.push(Captured::Closed {
                    at: KernelTime(2_000_000),
                    flow: id,
                    end,
                });
            }
            let (faces, _) = run(options(), &records, |phase, call| (phase, public_face(call)));
            for (_, face) in faces {
                let lower = face.to_ascii_lowercase();
                for part in ["zebulon", "quisling", "mrn-4711"] {
                    if lower.contains(part) {
                        leaked.push(format!("{request:?}: {face}"));
                    }
                }
            }
        }
    }
    leaked.dedup();
    assert!(leaked.is_empty(), "{}", leaked.join("\n"));
}

#[test]
fn an_idle_connection_is_cheap() {
    let budget = 1024;
    let size = size_of::<super::Conversation>();
    assert!(size < budget, "{size} bytes a conversation");
}

#[test]
fn five_thousand_connections_hold_nothing_between_calls() {
    let request = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let mut flows = Flows::new(flow::Limits::default());
    let mut calls = Calls::new(options());
    let mut complete = 0;
    for cookie in 0..5_000 {
        let id = FlowId::Socket(cookie);
        for record in [
            info(id),
            segment(id, Direction::Received, 1, 1, request),
            segment(id, Direction::Sent, 1, 1 + request.len() as u32, answer),
        ] {
            flows.on(record, &mut |item| {
                calls.on(item, &mut |phase, _| {
                    complete += u32::from(phase == Phase::Complete)
                })
            });
        }
    }
    assert_eq!(complete, 5_000);
    assert_eq!(calls.open_calls().count(), 0);
    assert_eq!(calls.bodies_bytes, 0);
    assert_eq!(flows.stats().held_bytes, 0);
}

#[test]
fn what_is_known_later_of_a_flow_applies_to_its_calls() {
    let id = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 3,
    };
    let Captured::Flow(first) = info(id) else {
        unreachable!()
    };
    let mut more = (*first).clone();
    more.carrier = Some(99);
    let records = [
        Captured::Flow(first),
        segment(
            id,
            Direction::Received,
            0,
            0,
            b"GET /api HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Captured::Flow(Arc::new(more)),
        segment(id, Direction::Sent, 0, 0, b"HTTP/1.1 204 No\r\n\r\n"),
    ];
    let (carriers, _) = run(options(), &records, |_, call| call.flow.carrier);
    assert_eq!(carriers, [Some(1), Some(1), Some(99)]);
}
