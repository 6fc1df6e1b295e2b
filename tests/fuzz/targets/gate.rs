//! A client that sends what it likes, against the gate's core: no input may make it panic, follow other messages when
//! they are split otherwise, let pass what the agent would deny, or deny what is clear and the agent would allow.
//!
//! An input is a byte that chooses the policy, one that chooses how it is split, and the stream.

use std::sync::Arc;

use apiward::call::{ApiCall, Calls, Limits, Options, Phase};
use apiward::capture::{
    Captured, Direction, FlowId, FlowInfo, GapReason, KernelTime, Process, Segment, SocketRole,
};
use apiward::flow::{self, Flows};
use apiward::policy::gate::{Compiled, Local, compile, judge, mapped};
use apiward::policy::{Action, Engine, Mode, PolicySet};
use apiward_common::gate::{Decision, Facts, Hash, Stream, direction, state};
use bytes::Bytes;

/// What is denied in each; all of them by what the gate sees itself.
const RULES: [&str; 4] = [
    "{ name: a, match: { paths: ['/admin/**', '/a/{id}/c'] }, action: deny }",
    "{ name: a, match: { methods: [DELETE, FROB] }, action: deny }\n  - { name: b, match: { hosts: ['*.example.org', h] }, action: deny }",
    "{ name: a, match: { auth: [bearer, api-key] }, action: allow }\n  - { name: b, match: { paths: ['/**'] }, action: deny }",
    "{ name: a, match: { paths: [/], methods: [GET] }, action: allow }\n  - { name: b, action: deny }",
];

struct Judges {
    set: Arc<PolicySet>,
    compiled: Compiled,
    local: Local,
}

impl Judges {
    fn new(rules: &str, process: &Process) -> Judges {
        let text = format!(
            "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n  mode: enforce\n  \
             onAmbiguous: deny\n  rules:\n  - {rules}\n"
        );
        let set = PolicySet::load(&[("p.yaml", text)]).unwrap_or_else(|problems| panic!("{problems}"));
        let keys = Hash {
            start: 1,
            low: 2,
            high: 3,
        };
        let compiled = compile(&set, Mode::Enforce, 1, keys);
        let mut local = Local::new(&compiled);
        local.set_workload(1, compiled.workload(process));
        Judges {
            set: Arc::new(set),
            compiled,
            local,
        }
    }
}

/// What the gate has come to, however it was fed.
#[derive(Debug, Default, PartialEq, Eq)]
struct End {
    state: u8,
    heads: u32,
    left: u32,
    ambiguous: u32,
    lost: u32,
    rule: u32,
    decision: u8,
    reason: u8,
}

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>, facts: &Facts, local: &Local) -> End {
    let mut stream = Stream::default();
    let mut end = End::default();
    for piece in pieces {
        let scan = judge(&mut stream, piece, facts, local);
        end.heads += scan.heads;
        end.left += scan.left;
        end.ambiguous += scan.ambiguous;
        end.lost += scan.lost;
        if scan.decision != 0 {
            (end.rule, end.decision) = (scan.rule, scan.decision);
        }
        if scan.decision != 0 || scan.lost != 0 {
            end.reason = scan.reason;
        }
    }
    end.state = stream.state;
    end
}

/// The first call that the agent sees in these bytes, when its head is whole.
fn first_call(bytes: &[u8], process: Arc<Process>) -> Option<ApiCall> {
    let mut flows = Flows::new(flow::Limits::default());
    let mut calls = Calls::new(Options {
        limits: Limits::default(),
        key: [1; 32],
        boot_id: [2; 16],
        earning: Default::default(),
        literals: Vec::new(),
    });
    let flow = FlowInfo {
        id: FlowId::Socket(1),
        carrier: Some(1),
        local: Some(([127, 0, 0, 1], 80).into()),
        remote: Some(([192, 0, 2, 1], 40_000).into()),
        role: SocketRole::Server,
        netns: 0,
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    };
    let segment = Segment {
        at: KernelTime(1),
        flow: FlowId::Socket(1),
        process,
        direction: Direction::Received,
        position: 1,
        other_position: 1,
        bytes: Bytes::copy_from_slice(bytes),
        missing: 0,
        missing_reason: GapReason::Limit,
    };
    let mut first = None;
    for captured in [Captured::Flow(Arc::new(flow)), Captured::Segment(segment)] {
        flows.on(captured, &mut |item| {
            calls.on(item, &mut |phase, call| {
                if phase == Phase::Head && first.is_none() {
                    first = Some(call.clone());
                }
            });
        });
    }
    first
}

thread_local! {
    static JUDGES: Vec<Judges> = RULES.iter().map(|rules| Judges::new(rules, &process())).collect();
}

fn process() -> Process {
    Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: "fuzz".into(),
        exe: "/usr/bin/fuzz".into(),
        cgroup_id: 1,
        cgroup_path: "/fuzz".into(),
        container: None,
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let [policy, split, bytes @ ..] = data else {
        return;
    };
    JUDGES.with(|judges| one(&judges[usize::from(*policy) % judges.len()], *split, bytes));
}

fn one(judges: &Judges, split: u8, bytes: &[u8]) {
    let facts = Facts {
        peer: mapped([192, 0, 2, 1].into()),
        class: 1,
        direction: direction::INBOUND,
    };
    let whole = feed(std::iter::once(bytes), &facts, &judges.local);
    let pieces = bytes.chunks(1 + usize::from(split % 64));
    assert_eq!(feed(pieces, &facts, &judges.local), whole, "split otherwise");
    let single = feed(bytes.chunks(1), &facts, &judges.local);
    assert_eq!(single, whole, "byte by byte");

    let Some(call) = first_call(bytes, Arc::new(process())) else {
        return;
    };
    let mut stream = Stream::default();
    // Up to the first decision.
    let (mut heads, mut decision, mut rule) = (0, Decision::Pass, 0);
    for byte in bytes.chunks(1) {
        let scan = judge(&mut stream, byte, &facts, &judges.local);
        if scan.heads > 0 || stream.is_over() {
            (heads, decision, rule) = (scan.heads, Decision::from_u8(scan.decision), scan.rule);
            break;
        }
    }
    assert_eq!(
        heads, 1,
        "the agent sees a request, the gate sees none: {stream:?}"
    );
    let mut engine = Engine::new(judges.set.clone(), Mode::Enforce, Vec::new());
    let verdict = engine.evaluate(&call, &[], Phase::Head);
    let denied = verdict.is_some_and(|verdict| matches!(verdict.action, Action::Deny | Action::Kill));
    match decision {
        Decision::Pass => assert!(!denied, "the gate lets pass what the agent denies"),
        // What the gate finds ambiguous besides is denied by a rule that could match.
        Decision::Deny if stream.reason == 0 => {
            assert!(denied, "the gate denies by rule {rule} what the agent allows");
        }
        Decision::Deny => assert!(judges.compiled.generation.stops.has(rule)),
        Decision::Leave => {}
    }
    assert!(stream.state != state::OPAQUE);
}
