//! One connection with hostile peers on both ends and a kernel that loses, repeats and reorders: no input may make
//! the stages panic, lose count of a call, or hold memory after the connection's end.
//!
//! An input is a list of steps: one byte that says what, one that says how long, and as many bytes of payload.

use std::collections::HashMap;
use std::sync::Arc;

use apiward::call::{CallId, Calls, Limits, Options, Phase};
use apiward::capture::{
    Captured, Direction, FlowEnd, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use apiward::flow::{self, Flows};
use bytes::Bytes;

/// Number of kinds of steps; the runner's mutator makes use of it.
pub const STEPS: u8 = 10;

struct Stages {
    flows: Flows,
    calls: Calls,
    phases: HashMap<CallId, Phase>,
}

impl Stages {
    fn take(&mut self, captured: Captured) {
        let Stages { flows, calls, phases } = self;
        flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, call| {
                let before = phases.insert(call.id, phase);
                assert!(
                    before.is_none_or(|before| before < phase),
                    "{before:?} was followed by {phase:?}"
                );
                assert!(
                    before.is_some() || phase == Phase::Head,
                    "a call began with {phase:?}"
                );
            });
        });
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let limits = Limits {
        body_bytes_max: 64,
        bodies_bytes_max: 256,
        flow_calls_max: 8,
        flow_waiting_bytes_max: 512,
        decode: apiward::decode::Limits {
            head_bytes_max: 512,
            headers_max: 8,
            chunk_line_bytes_max: 64,
        },
        ..Limits::default()
    };
    let mut stages = Stages {
        flows: Flows::new(flow::Limits {
            lane_held_bytes_max: 512,
            ..flow::Limits::default()
        }),
        calls: Calls::new(Options {
            limits,
            key: [1; 32],
            boot_id: [2; 16],
            earning: Default::default(),
            literals: Vec::new(),
        }),
        phases: HashMap::new(),
    };
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let id = match first & 2 {
        0 => FlowId::Socket(1),
        _ => FlowId::Tls {
            pid: 1,
            object: 2,
            generation: 3,
        },
    };
    stages.take(Captured::Flow(Arc::new(FlowInfo {
        id,
        carrier: Some(1),
        local: None,
        remote: None,
        role: SocketRole::Unknown,
        netns: 0,
        tls: None,
        joined_late: first & 1 != 0,
        starts: None,
        enforceable: false,
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
    let mut now = 1_000_000_000u64;
    let start: u32 = if id == FlowId::Socket(1) {
        u32::MAX - 100
    } else {
        0
    };
    let mut positions = [start; 2];
    let mut last: Option<Segment> = None;
    let mut delayed: Option<Segment> = None;
    while let [step, length, payload @ ..] = rest {
        let (payload, later) = payload.split_at((*length as usize).min(payload.len()));
        rest = later;
        now += 1_000;
        let which = usize::from(step % STEPS % 2);
        let direction = if which == 0 {
            Direction::Received
        } else {
            Direction::Sent
        };
        let mut segment = Segment {
            at: KernelTime(now),
            flow: id,
            process: process.clone(),
            direction,
            position: u64::from(positions[which]),
            other_position: u64::from(positions[1 - which]),
            bytes: Bytes::copy_from_slice(payload),
            missing: 0,
            missing_reason: GapReason::Sendfile,
        };
        let mut moves = payload.len() as u32;
        match step % STEPS {
            0 | 1 => {
                last = Some(segment.clone());
                stages.take(Captured::Segment(segment));
                if let Some(early) = delayed.take() {
                    stages.take(Captured::Segment(early));
                }
            }
            // Lost on the way.
            2 | 3 => stages.take(Captured::Lost {
                at: KernelTime(now),
                records: 1,
            }),
            // Partly captured.
            4 | 5 => {
                segment.missing = u32::from(*step);
                moves += u32::from(*step);
                stages.take(Captured::Segment(segment));
            }
            // Comes after the next one.
            6 | 7 => delayed = Some(segment),
            8 => {
                moves = 0;
                if let Some(again) = last.clone() {
                    stages.take(Captured::Segment(again));
                }
            }
            _ => {
                moves = 0;
                now += u64::from(*length) * 100_000_000;
                stages.take(Captured::Tick { at: KernelTime(now) });
            }
        }
        positions[which] = positions[which].wrapping_add(moves);
    }
    let end = FlowEnd {
        received_end: u64::from(positions[0]),
        sent_end: u64::from(positions[1]),
        reset: first & 4 != 0,
        ..FlowEnd::default()
    };
    stages.take(Captured::Closed {
        at: KernelTime(now),
        flow: id,
        end,
    });
    // What a reset overtook may still come for a while.
    let later = KernelTime(now + 60_000_000_000);
    stages.take(Captured::Tick { at: later });
    assert!(
        stages.phases.values().all(|phase| *phase == Phase::Complete),
        "a call did not end"
    );
    assert_eq!(stages.calls.open_calls().count(), 0);
    assert_eq!(stages.calls.stats().calls_open, 0);
    assert_eq!(stages.flows.stats().held_bytes, 0);
    assert_eq!(stages.calls.bodies_bytes(), 0);
}
