//! How fast the pure stages are: records in, calls out, on one core, without a kernel. `cargo xtask bench` runs it.
//!
//! Prints one line a scenario: calls per second, nanoseconds per call, captured megabytes per second.

use std::sync::Arc;
use std::time::Instant;

use apiward::call::{Calls, Limits, Options, Phase};
use apiward::capture::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use apiward::flow::{self, Flows};
use bytes::Bytes;

const REQUEST: &[u8] = b"GET /fhir/Patient/8f14e45f?_format=json HTTP/1.1\r\nHost: records.example:8080\r\n\
User-Agent: bench/1.0\r\nAccept: application/fhir+json\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\
Authorization: Bearer abcdefghijklmnopqrstuvwxyz\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

fn response(body: usize) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {body}\r\nConnection: keep-alive\r\n\r\n"
    )
    .into_bytes();
    response.extend(std::iter::repeat_n(b'x', body));
    response
}

struct Bench {
    flows: Flows,
    calls: Calls,
    process: Arc<Process>,
    now: u64,
    complete: u64,
    bytes: u64,
}

impl Bench {
    fn new() -> Self {
        Bench {
            flows: Flows::new(flow::Limits::default()),
            calls: Calls::new(Options {
                limits: Limits::default(),
                key: [1; 32],
                boot_id: [2; 16],
                earning: Default::default(),
                literals: Vec::new(),
            }),
            process: Arc::new(Process {
                pid: 1,
                tid: 1,
                uid: 0,
                comm: "bench".into(),
                exe: "/usr/bin/bench".into(),
                cgroup_id: 0,
                cgroup_path: "".into(),
                container: None,
            }),
            now: 1,
            complete: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, captured: Captured) {
        let (calls, complete) = (&mut self.calls, &mut self.complete);
        self.flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, _| {
                *complete += u64::from(phase == Phase::Complete)
            });
        });
    }

    fn open(&mut self, cookie: u64) {
        self.take(Captured::Flow(Arc::new(FlowInfo {
            id: FlowId::Socket(cookie),
            carrier: Some(cookie),
            local: "127.0.0.1:80".parse().ok(),
            remote: "127.0.0.1:4000".parse().ok(),
            role: SocketRole::Server,
            netns: 0,
            tls: None,
            joined_late: false,
            starts: None,
            enforceable: true,
        })));
    }

    fn segment(
        &mut self,
        cookie: u64,
        direction: Direction,
        position: u64,
        other_position: u64,
        bytes: Bytes,
    ) {
        self.now += 1_000;
        self.bytes += bytes.len() as u64;
        let segment = Segment {
            at: KernelTime(self.now),
            flow: FlowId::Socket(cookie),
            process: self.process.clone(),
            direction,
            position,
            other_position,
            bytes,
            missing: 0,
            missing_reason: GapReason::Limit,
        };
        self.take(Captured::Segment(segment));
    }
}

/// `calls` calls over `flows` connections, the response in pieces of `piece` bytes.
fn run(name: &str, calls: u64, flows: u64, body: usize, piece: usize, keep_alive: bool) {
    let mut bench = Bench::new();
    let request = Bytes::from_static(REQUEST);
    let response = Bytes::from(response(body));
    let mut positions = vec![(1u64, 1u64); flows as usize];
    if keep_alive {
        for cookie in 0..flows {
            bench.open(cookie);
        }
    }
    let start = Instant::now();
    for call in 0..calls {
        let cookie = if keep_alive { call % flows } else { call };
        let (received, sent) = if keep_alive {
            positions[cookie as usize]
        } else {
            (1, 1)
        };
        if !keep_alive {
            bench.open(cookie);
        }
        // Every record has memory of its own, as capture gives it.
        bench.segment(
            cookie,
            Direction::Received,
            received,
            sent,
            Bytes::copy_from_slice(&request),
        );
        let received = received + request.len() as u64;
        let mut at = sent;
        for part in response.chunks(piece) {
            bench.segment(
                cookie,
                Direction::Sent,
                at,
                received,
                Bytes::copy_from_slice(part),
            );
            at += part.len() as u64;
        }
        if keep_alive {
            positions[cookie as usize] = (received, at);
        } else {
            let end = FlowEnd {
                sent_end: at,
                received_end: received,
                ..FlowEnd::default()
            };
            bench.take(Captured::Closed {
                at: KernelTime(bench.now),
                flow: FlowId::Socket(cookie),
                end,
            });
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    assert_eq!(bench.complete, calls, "calls were lost");
    println!(
        "{name:<28} {:>9.0} calls/s {:>7.0} ns/call {:>8.1} MB/s",
        calls as f64 / elapsed,
        elapsed * 1e9 / calls as f64,
        bench.bytes as f64 / elapsed / 1e6,
    );
}

fn main() {
    run("small, keep-alive", 300_000, 64, 200, usize::MAX, true);
    run("small, 5000 connections", 300_000, 5_000, 200, usize::MAX, true);
    run("small, one per connection", 300_000, 1, 200, usize::MAX, false);
    run("64 KiB in 16 KiB pieces", 30_000, 64, 64 * 1024, 16 * 1024, true);
    run("64 KiB in 1448 byte pieces", 10_000, 64, 64 * 1024, 1448, true);
}
