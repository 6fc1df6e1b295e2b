//! One exchange as anybody could ask and answer it, through every stage to the event: decoded, understood, looked
//! through for personal data, judged by rules over everything that rules can ask for, entered into the inventory, and
//! written down in every form in which events leave the agent.
//!
//! An input is a byte of flags, the length of the request in two bytes, the request, the response.

use std::sync::{Arc, OnceLock};

use apiward::call::{Calls, Limits, Options};
use apiward::capture::intake::Intake;
use apiward::capture::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use apiward::detect::{Detectors, Inventory, PhiSettings, inventory};
use apiward::enforce::{self, Enforcement, Powerless};
use apiward::export::Batch;
use apiward::export::clock::Clock;
use apiward::flow::{self, Flows};
use apiward::pipeline::{Judge, Pipeline};
use apiward::policy::{Engine, Mode, PolicySet};
use apiward_proto::{json, ocsf, v1};
use bytes::Bytes;
use prost::Message;

/// The call goes out; the request comes in two pieces; so does the response.
const OUTBOUND: u8 = 1;
const REQUEST_IN_TWO: u8 = 2;
const RESPONSE_IN_TWO: u8 = 4;

const POLICY: &str = r#"
apiVersion: apiward.io/v1
kind: ApiPolicy
metadata: { name: fuzz }
spec:
  mode: enforce
  rules:
    - name: by-data
      match: { direction: outbound, hosts: { not: ["*.hospital.example"] } }
      when: "findings.exists(f, f.severity == 'high') || call.third_party.is"
      action: alert
    - name: by-path
      match: { methods: [GET, POST], paths: ["/fhir/{type}/$export", "/admin/**"], auth: none }
      action: deny
    - name: by-answer
      when: "call.request.body.text.size() > 3 || call.response.status > 400 || 'status' in call.operation.details"
      action: alert
"#;

fn stages() -> Pipeline<Powerless> {
    static SET: OnceLock<Arc<PolicySet>> = OnceLock::new();
    let set = SET.get_or_init(|| match PolicySet::load(&[("fuzz.yaml", POLICY)]) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems}"),
    });
    Pipeline::new(
        Intake::new([]),
        Flows::new(flow::Limits::default()),
        Calls::new(Options {
            limits: Limits {
                body_bytes_max: 512,
                ..Limits::default()
            },
            key: [1; 32],
            boot_id: [2; 16],
            earning: Default::default(),
            literals: Vec::new(),
        }),
        Judge::new(
            Detectors::new(&PhiSettings::default(), [1; 32], &[]).expect("the tables build"),
            Engine::new(set.clone(), Mode::Enforce, Vec::new()),
            Enforcement::new(enforce::Limits::default(), Powerless),
            Clock::measure(),
            Inventory::new(inventory::Settings {
                key: [1; 32],
                limits: inventory::Limits::default(),
                cluster: Vec::new(),
            }),
            Batch::default(),
        ),
    )
}

/// One input.
pub fn run(data: &[u8]) {
    let [flags, high, low, bytes @ ..] = data else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(bytes.len());
    let (request, response) = bytes.split_at(length);
    let outbound = flags & OUTBOUND != 0;
    let mut stages = stages();
    let flow = FlowId::Socket(1);
    let (role, asks, answers) = match outbound {
        true => (SocketRole::Client, Direction::Sent, Direction::Received),
        false => (SocketRole::Server, Direction::Received, Direction::Sent),
    };
    stages.captured(Captured::Flow(Arc::new(FlowInfo {
        id: flow,
        carrier: Some(1),
        local: "10.0.0.1:8080".parse().ok(),
        remote: "192.0.2.7:40000".parse().ok(),
        role,
        netns: 0,
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    })));
    let process = Arc::new(Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: "fuzz".into(),
        exe: "/fuzz".into(),
        cgroup_id: 0,
        cgroup_path: "".into(),
        container: None,
    });
    let mut now = 1_000_000_000;
    let (mut asked, mut answered) = (1u64, 1u64);
    for (direction, bytes, in_two) in [
        (asks, request, flags & REQUEST_IN_TWO != 0),
        (answers, response, flags & RESPONSE_IN_TWO != 0),
    ] {
        let middle = if in_two { bytes.len() / 2 } else { 0 };
        let (first, second) = bytes.split_at(middle);
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            now += 1_000;
            let is_request = direction == asks;
            let (position, other_position) = match is_request {
                true => (asked, answered),
                false => (answered, asked),
            };
            stages.captured(Captured::Segment(Segment {
                at: KernelTime(now),
                flow,
                process: process.clone(),
                direction,
                position,
                other_position,
                bytes: Bytes::copy_from_slice(piece),
                missing: 0,
                missing_reason: GapReason::Limit,
            }));
            match is_request {
                true => asked += piece.len() as u64,
                false => answered += piece.len() as u64,
            }
        }
    }
    let (received_end, sent_end) = match outbound {
        true => (answered, asked),
        false => (asked, answered),
    };
    stages.captured(Captured::Closed {
        at: KernelTime(now),
        flow,
        end: FlowEnd {
            received_end,
            sent_end,
            ..FlowEnd::default()
        },
    });
    stages.captured(Captured::Tick {
        at: KernelTime(now + 60_000_000_000),
    });
    stages.finish(KernelTime(now + 60_000_000_001));
    assert_eq!(stages.calls.open_calls().count(), 0, "a call did not end");
    assert_eq!(
        stages.judge.ended,
        stages.judge.events.len() as u64,
        "a call ended and was not told"
    );
    written(&stages.judge.events);
    let inventory = &mut stages.judge.inventory;
    inventory.restore(inventory.keep());
    assert!(inventory.endpoints().len() <= stages.judge.ended as usize + 1);
}

fn written(events: &Batch) {
    let reporter = ocsf::Reporter {
        agent: "fuzz",
        host: "fuzz.example",
    };
    let mut lines = Vec::new();
    for bytes in events.iter() {
        let event = v1::Event::decode(bytes).expect("what was written can be read");
        lines.clear();
        json::line(&event, &mut lines);
        assert_eq!(
            lines.iter().filter(|byte| **byte == b'\n').count(),
            1,
            "an event is a line"
        );
        ocsf::lines(&event, reporter, &mut lines);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).expect("lines are text");
            serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON");
        }
    }
}
