//! How fast the stages are: records in, calls out, on one core, without a kernel; and what it costs to judge and to
//! export a call, as JSON lines and into the spool. For profilers: `cargo run --release -p apiward --example bench_stages`.
//!
//! Prints one line a scenario: calls per second, nanoseconds per call, captured megabytes per second. Exporting works on
//! threads of its own: there it is processor time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use apiward::call::{Calls, Content, Limits, Options, Part, Phase};
use apiward::capture::intake::Intake;
use apiward::capture::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use apiward::detect::phi::Scanner;
use apiward::detect::{Detectors, Inventory, PhiSettings, inventory};
use apiward::enforce::{self, Enforcement, Powerless};
use apiward::export::clock::Clock;
use apiward::export::{self, Exports, jsonl, spool};
use apiward::flow::{self, Flows};
use apiward::pipeline::{Judge, Pipeline};
use apiward::policy::gate::{Local, compile, judge, mapped};
use apiward::policy::{Engine, Mode, PolicySet};
use apiward::telemetry::Telemetry;
use apiward_common::gate::{Facts, Hash, Stream, direction};
use bytes::Bytes;

const REQUEST: &[u8] = b"GET /fhir/Patient/8f14e45f?_format=json HTTP/1.1\r\nHost: records.example:8080\r\n\
User-Agent: bench/1.0\r\nAccept: application/fhir+json\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\
Authorization: Bearer abcdefghijklmnopqrstuvwxyz\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

fn response(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: keep-alive\r\n\r\n"
    )
    .into_bytes();
    response.extend(body);
    response
}

struct Bench {
    flows: Flows,
    calls: Calls,
    /// None, unless they are part of what is measured.
    detectors: Detectors,
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
            detectors: Detectors::default(),
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
        let (calls, detectors, complete) = (&mut self.calls, &mut self.detectors, &mut self.complete);
        self.flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, call| {
                detectors.look(phase, call);
                if phase == Phase::Complete {
                    *complete += 1;
                    std::hint::black_box(detectors.findings(call));
                }
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
    run_on(
        Bench::new(),
        name,
        calls,
        flows,
        &vec![b'x'; body],
        piece,
        keep_alive,
    );
}

/// The same on any body, with every detector.
fn run_detected(name: &str, calls: u64, body: &[u8]) {
    let mut bench = Bench::new();
    bench.detectors = Detectors::new(&PhiSettings::default(), [1; 32], &[]).expect("the tables build");
    run_on(bench, name, calls, 64, body, 16 * 1024, true);
}

fn run_on(mut bench: Bench, name: &str, calls: u64, flows: u64, body: &[u8], piece: usize, keep_alive: bool) {
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

/// The gate's core on one head, over `rules` rules that share deep prefixes and let it pass.
fn gate(name: &str, rules: usize, head: &str) {
    const HEADS: u32 = 200_000;
    let prefix = "/segment000000/segment000001/segment000002/segment000003";
    let rules: String = (0..rules)
        .map(|rule| {
            format!("  - {{ name: r{rule}, match: {{ paths: ['{prefix}/x{rule}/**'] }}, action: deny }}\n")
        })
        .collect();
    let text = format!(
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n  mode: enforce\n  rules:\n{rules}"
    );
    let set = PolicySet::load(&[("p.yaml", text)]).unwrap_or_else(|problems| panic!("{problems}"));
    let keys = Hash {
        start: 1,
        low: 2,
        high: 3,
    };
    let compiled = compile(&set, Mode::Enforce, 1, keys);
    let mut local = Local::new(&compiled);
    local.set_workload(1, compiled.workload(&Bench::new().process));
    let facts = Facts {
        peer: mapped([192, 0, 2, 1].into()),
        class: 1,
        direction: direction::INBOUND,
    };
    let mut stream = Stream::default();
    let start = Instant::now();
    for _ in 0..HEADS {
        judge(&mut stream, head.as_bytes(), &facts, &local);
    }
    let elapsed = start.elapsed().as_secs_f64();
    assert_eq!(stream.heads, HEADS, "heads were not judged");
    println!(
        "{name:<28} {:>9.0} heads/s {:>7.0} ns/head {:>8.1} MB/s",
        f64::from(HEADS) / elapsed,
        elapsed * 1e9 / f64::from(HEADS),
        f64::from(HEADS) * head.len() as f64 / elapsed / 1e6,
    );
}

/// Every stage behind capture, as the agent has them: both ends of `connections` connections within this host, each call
/// judged, and exported as a JSON line and into the spool. `phi`: personal data is looked for.
fn run_export(name: &str, calls: u64, phi: bool) {
    /// Less than the queue holds, so that none is dropped.
    const AHEAD_MAX: u64 = 4_096;
    const BATCH: u64 = 128;
    const CONNECTIONS: u64 = 8;
    let folder = std::env::temp_dir().join(format!("apiward-bench-stages-{}", std::process::id()));
    let settings = export::Settings {
        ocsf: Vec::new(),
        jsonl: vec![jsonl::Target::File(folder.join("events.jsonl"))],
        spool: Some(spool::Settings {
            dir: folder.clone(),
            bytes_max: 64 << 20,
            memory_bytes_max: 1 << 20,
        }),
        consumers: vec!["nobody".to_owned()],
        state_dir: None,
        with_time: None,
    };
    let Ok(started) = Exports::start(settings, Arc::new(Telemetry::new())) else {
        println!(
            "exporting cannot be measured: {} cannot be used",
            folder.display()
        );
        return;
    };
    let exports = started.exports;
    let Bench {
        flows,
        calls: stage,
        process,
        ..
    } = Bench::new();
    let phi = PhiSettings {
        enabled: phi,
        ..PhiSettings::default()
    };
    let mut pipeline = Pipeline::new(
        Intake::new([]),
        flows,
        stage,
        Judge::new(
            Detectors::new(&phi, [1; 32], &[]).expect("the tables build"),
            Engine::new(Arc::default(), Mode::Observe, Vec::new()),
            Enforcement::new(enforce::Limits::default(), Powerless),
            Clock::measure(),
            Inventory::new(inventory::Settings {
                key: [1; 32],
                limits: inventory::Limits::default(),
                cluster: Vec::new(),
            }),
            exports.batch(),
        ),
    );
    let server: SocketAddr = ([127, 0, 0, 1], 8080).into();
    for connection in 0..CONNECTIONS {
        let client: SocketAddr = ([127, 0, 0, 1], 40_000 + connection as u16).into();
        for (side, local, remote, role) in [
            (0, client, server, SocketRole::Client),
            (1, server, client, SocketRole::Server),
        ] {
            let cookie = connection * 2 + side;
            pipeline.captured(Captured::Flow(Arc::new(FlowInfo {
                id: FlowId::Socket(cookie),
                carrier: Some(cookie),
                local: Some(local),
                remote: Some(remote),
                role,
                netns: 0,
                tls: None,
                joined_late: false,
                starts: None,
                enforceable: true,
            })));
        }
    }
    let request = Bytes::from_static(REQUEST);
    let mut response = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
        Content-Type: application/json\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n{\"pad\":\""
        .to_vec();
    response.extend([b'x'; 90]);
    response.extend(b"\"}");
    let response = Bytes::from(response);
    let mut positions = [(1, 1); 2 * CONNECTIONS as usize];
    let mut now = 1;
    let (before, own_before) = (processor_ns(), thread_ns());
    for call in 0..calls / 2 {
        let connection = call % CONNECTIONS;
        for (side, direction, bytes) in [
            (0, Direction::Sent, &request),
            (1, Direction::Received, &request),
            (1, Direction::Sent, &response),
            (0, Direction::Received, &response),
        ] {
            now += 1_000;
            let cookie = connection * 2 + side;
            let (sent, received) = &mut positions[cookie as usize];
            let (position, other_position) = match direction {
                Direction::Sent => (sent, *received),
                Direction::Received => (received, *sent),
            };
            pipeline.captured(Captured::Segment(Segment {
                at: KernelTime(now),
                flow: FlowId::Socket(cookie),
                process: process.clone(),
                direction,
                position: *position,
                other_position,
                // Every record has memory of its own, as capture gives it.
                bytes: Bytes::copy_from_slice(bytes),
                missing: 0,
                missing_reason: GapReason::Limit,
            }));
            *position += bytes.len() as u64;
        }
        let events = &mut pipeline.judge.events;
        if events.len() as u64 >= BATCH || call + 1 == calls / 2 {
            exports.hand_on(std::mem::replace(events, exports.batch()));
            let written = || exports.spool().map_or(0, |spool| spool.stats().last);
            while (call * 2).saturating_sub(written()) > AHEAD_MAX {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
    assert_eq!(pipeline.judge.ended, calls / 2 * 2, "calls were lost");
    let own = (thread_ns() - own_before) as f64;
    exports.shutdown(std::time::Duration::ZERO);
    let used = (processor_ns() - before) as f64;
    println!(
        "{name:<28} {:>9.0} calls/s {:>7.0} ns/call, of which the stages {:>7.0}",
        calls as f64 * 1e9 / used,
        used / calls as f64,
        own / calls as f64,
    );
    let _ = std::fs::remove_dir_all(&folder);
}

/// Processor time of this thread.
fn thread_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time of all threads.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// All detectors of personal data on `body`, again and again.
fn data(name: &str, content_type: &str, body: &[u8]) {
    const BYTES: usize = 200_000_000;
    let mut scanner = Scanner::new(&PhiSettings::default(), [1; 32], &[]).expect("the tables build");
    let content = Content {
        bytes: body,
        content_type: content_type.as_bytes(),
        content_encoding: b"",
        message: None,
        truncated: false,
    };
    let times = BYTES / body.len();
    let mut found = 0;
    let start = Instant::now();
    for _ in 0..times {
        scanner.body(Part::ResponseBody, &content);
        found += scanner.take().len();
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "{name:<28} {:>9.0} bodies/s {:>6.0} places {:>8.1} MB/s",
        times as f64 / elapsed,
        found as f64 / times as f64,
        (times * body.len()) as f64 / elapsed / 1e6,
    );
}

/// As short as most answers.
const SMALL_BODY: &[u8] =
    b"{\"id\":\"6f1c0d0e\",\"status\":\"active\",\"total\":3,\"tags\":[\"alpha\",\"beta\"],\"active\":true}";

/// About 64 KiB.
fn of(one: &dyn Fn(usize) -> String, before: &str, between: &str, after: &str) -> String {
    let mut body = String::from(before);
    let mut number = 0;
    while body.len() < 64 * 1024 {
        if number > 0 {
            body += between;
        }
        body += &one(number);
        number += 1;
    }
    body + after
}

/// What applications send each other: little of it is personal.
fn mixed() -> String {
    of(
        &|n| {
            format!(
                "{{\"id\":\"6f1c0d0e-7a52-4c1f-9d8e-3b1f5a{n:06}\",\"status\":\"active\",\"created_at\":\"2024-05-02T10:11:12Z\",\
                 \"total\":{n}.25,\"tags\":[\"alpha\",\"beta\",\"gamma\"],\"customer\":{{\"first_name\":\"Marta\",\"email\":\"m{n}@mail.example\",\
                 \"phone\":\"212-555-0142\"}},\"note\":\"Left a parcel with the neighbour, who will be at home until six in the evening.\",\
                 \"links\":{{\"self\":\"https://api.example/v1/orders/{n}\"}},\"flags\":{{\"gift\":false,\"express\":true}}}}"
            )
        },
        "[",
        ",",
        "]",
    )
}

/// Bodies of the kinds that a hospital's interfaces have, about 64 KiB each.
fn run_data() {
    data(
        "personal data, mixed JSON",
        "application/json",
        mixed().as_bytes(),
    );
    let bundle = of(
        &|n| {
            format!(
                "{{\"fullUrl\":\"urn:uuid:6f1c0d0e-7a52-4c1f-9d8e-3b1f5a{n:06}\",\"resource\":{{\"resourceType\":\"Observation\",\"id\":\"o{n}\",\
                 \"status\":\"final\",\"code\":{{\"coding\":[{{\"system\":\"http://loinc.org\",\"code\":\"4548-4\",\"display\":\"Hemoglobin A1c\"}}],\
                 \"text\":\"Hemoglobin A1c\"}},\"subject\":{{\"reference\":\"Patient/{n}\"}},\"effectiveDateTime\":\"2024-05-02T10:11:12Z\",\
                 \"valueQuantity\":{{\"value\":6.1,\"unit\":\"%\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"%\"}}}}}}"
            )
        },
        "{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"entry\":[",
        ",",
        "]}",
    );
    data(
        "personal data, FHIR bundle",
        "application/fhir+json",
        bundle.as_bytes(),
    );
    let hl7 = of(
        &|n| {
            format!(
                "MSH|^~\\&|LAB|H|EHR|H|20240502||ORU^R01|{n}|P|2.5.1\rPID|1||{n:08}^^^H^MR||OKAFOR^MARTA||19800214|F|||12 Harbour Road^^Springfield^IL^62704\r\
                 OBX|1|NM|4548-4^Hemoglobin A1c^LN||6.1|%|4-5.6|H|||F\rNTE|1||Repeat in three months.\r"
            )
        },
        "",
        "",
        "",
    );
    data(
        "personal data, HL7 v2",
        "x-application/hl7-v2+er7",
        hl7.as_bytes(),
    );
    let prose = of(
        &|_| {
            "The job took 4123 ms, and was seen by nobody; a second one followed at noon without an error. "
                .into()
        },
        "",
        "",
        "",
    );
    data("personal data, prose", "text/plain", prose.as_bytes());
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("data") {
        run_data();
        return;
    }
    // Under an instrument that counts instructions: `bench_stages export 2000`.
    if let [_, what, calls] = std::env::args().collect::<Vec<_>>().as_slice() {
        let calls = calls.parse().expect("a number of calls");
        match what.as_str() {
            "export" => run_export("all stages, exported", calls, true),
            "export-no-phi" => run_export("the same without PHI", calls, false),
            "detected" => run_detected("small, detectors too", calls, SMALL_BODY),
            _ => run("small, keep-alive", calls, 64, 200, usize::MAX, true),
        }
        return;
    }
    run_data();
    run_export("all stages, exported", 200_000, true);
    run_export("the same without PHI", 200_000, false);
    run_detected("small, detectors too", 300_000, SMALL_BODY);
    run_detected("64 KiB of JSON, detectors too", 5_000, mixed().as_bytes());
    run("small, keep-alive", 300_000, 64, 200, usize::MAX, true);
    run("small, 5000 connections", 300_000, 5_000, 200, usize::MAX, true);
    run("small, one per connection", 300_000, 1, 200, usize::MAX, false);
    run("64 KiB in 16 KiB pieces", 30_000, 64, 64 * 1024, 16 * 1024, true);
    run("64 KiB in 1448 byte pieces", 10_000, 64, 64 * 1024, 1448, true);
    let short = "GET /api/patients/1234567 HTTP/1.1\r\nHost: hospital.example\r\n\r\n";
    let path: String = (0..10).map(|segment| format!("/segment{segment:06}")).collect();
    let fields: String = (0..19)
        .map(|field| format!("X-Header-{field:02}: value of some length, {field}\r\n"))
        .collect();
    let long = format!("GET {path} HTTP/1.1\r\nHost: hospital.example\r\n{fields}\r\n");
    for rules in [1, 100] {
        gate(&format!("gate, 64 bytes, {rules} rules"), rules, short);
        gate(&format!("gate, 20 fields, {rules} rules"), rules, &long);
    }
}
