//! Scenes: verdicts and ends in, a recording of what was done and the outcome out.

#![allow(clippy::unwrap_used)]

use super::super::{Enforcement, FlowGate};
use super::*;
use crate::call::{AuthScheme, BodyFacts, CallState, Protocol, Raw, Request};
use crate::capture::SocketRole;
use crate::policy::DecidedBy;

mod gate;

/// Where the response would begin: close to where sequence numbers wrap.
const FROM: u32 = u32::MAX - 10;
const HEAD_AT: KernelTime = KernelTime(5_000_000_000);
const COOKIE: u64 = 77;

/// Does nothing, and says what it was told to do.
struct Fake {
    did: Vec<String>,
    egress: Option<Egress>,
    withhold: Result<(), GateError>,
    destroy: Result<(), GateError>,
    answer: Result<u32, GateError>,
    accepted: Option<u32>,
    kill: Result<(), GateError>,
}

impl FlowGate for Fake {
    fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), GateError> {
        self.did.push(format!("withhold {cookie} from {from:?}"));
        self.withhold.clone()
    }
    fn release(&mut self, cookie: u64) {
        self.did.push(format!("release {cookie}"));
    }
    fn egress(&mut self, _: u64) -> Option<Egress> {
        self.egress
    }
    fn destroy(&mut self, _: &FlowInfo, cookie: u64) -> Result<(), GateError> {
        self.did.push(format!("destroy {cookie}"));
        if let (Ok(()), Some(egress)) = (&self.destroy, &mut self.egress) {
            // What is withheld ends with the socket; what has passed may be known yet.
            egress.gate_from = None;
        }
        self.destroy.clone()
    }
    fn answer(&mut self, _: &FlowInfo, process: &Process, event: CallId) -> Result<u32, GateError> {
        self.did
            .push(format!("answer {} in the place of {}", event.0, process.pid));
        self.answer.clone()
    }
    fn hurry(&mut self, _: &FlowInfo, _: &Process, listener: u64) -> Result<bool, GateError> {
        self.did.push(format!("hurry {listener}"));
        Ok(true)
    }
    fn accepted(&mut self, _: &FlowInfo) -> Option<u32> {
        self.accepted
    }
    fn kill(&mut self, process: &Process, _: KernelTime) -> Result<(), GateError> {
        self.did.push(format!("kill {}", process.pid));
        self.kill.clone()
    }
}

struct Scene {
    enforcement: Enforcement<Fake>,
    call: ApiCall,
    verdict: Verdict,
}

fn flow(id: FlowId, carrier: Option<u64>) -> FlowInfo {
    FlowInfo {
        id,
        carrier,
        local: Some("127.0.0.1:80".parse().unwrap()),
        remote: Some("127.0.0.1:40000".parse().unwrap()),
        role: SocketRole::Server,
        netns: 1,
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    }
}

fn call(id: u128, flow: FlowInfo) -> ApiCall {
    let in_clear = matches!(flow.id, FlowId::Socket(_));
    ApiCall {
        id: CallId(id),
        direction: CallDirection::Inbound,
        protocol: Protocol::Http1,
        process: Arc::new(Process {
            pid: 4242,
            tid: 4242,
            uid: 0,
            comm: "server".into(),
            exe: "/usr/sbin/server".into(),
            cgroup_id: 1,
            cgroup_path: "/".into(),
            container: None,
        }),
        flow: Arc::new(flow),
        request: Request {
            method: "GET".into(),
            path: "/".into(),
            host: String::new(),
            auth: AuthScheme::None,
            credentials: None,
            trace_id: None,
            body: BodyFacts::default(),
            query_parameters: 0,
            head_bytes: 16,
            head_at: HEAD_AT,
            ended_at: HEAD_AT,
        },
        response: None,
        state: CallState::Pending,
        anomalies: Vec::new(),
        operation: None,
        data: Vec::new(),
        tls: None,
        third_party: None,
        ambiguous: false,
        loss_overlap: false,
        response_position: in_clear.then_some(FROM),
        head_end: None,
        stopped: None,
        raw: Raw::default(),
    }
}

fn passed(end: u32, at: u64) -> Option<Egress> {
    Some(Egress {
        passed_end: end,
        passed_at: Some(KernelTime(at)),
        gate_from: None,
    })
}

fn end_at(sent_end: u32) -> FlowEnd {
    FlowEnd {
        sent_end: u64::from(sent_end),
        reset: true,
        ..FlowEnd::default()
    }
}

impl Scene {
    /// A denied inbound call in clear, with an egress program that counts and let nothing of the response pass.
    fn new() -> Scene {
        let gate = Fake {
            did: Vec::new(),
            egress: passed(FROM, 1),
            withhold: Ok(()),
            destroy: Ok(()),
            answer: Ok(190),
            accepted: None,
            kill: Ok(()),
        };
        let verdict = Verdict {
            action: Action::Deny,
            mode: Mode::Enforce,
            policy: "p".into(),
            rule: "r".into(),
            decided_by: DecidedBy::Pipeline,
            gated: false,
            require: None,
            shortfall: "",
            matched: Arc::from([]),
            source: "p.yaml:1".into(),
        };
        let limits = Limits {
            denied_calls_max: 4,
            dead_flows_max: 2,
            ..Limits::default()
        };
        Scene {
            enforcement: Enforcement::new(limits, gate),
            call: call(1, flow(FlowId::Socket(COOKIE), Some(COOKIE))),
            verdict,
        }
    }

    fn gate(&mut self) -> &mut Fake {
        self.enforcement.gate_mut()
    }

    fn judge(&mut self) {
        self.enforcement
            .on_verdict(HEAD_AT, Phase::Head, &self.call, &self.verdict, 2);
    }

    fn did(&mut self) -> Vec<String> {
        std::mem::take(&mut self.gate().did)
    }

    /// What is known right after the verdict.
    fn outcome(&mut self) -> Outcome {
        self.judge();
        match self.enforcement.outcome(&self.call) {
            Answer::Ready(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// What is known when the flow ends.
    fn outcome_at_end(&mut self, end: FlowEnd) -> Outcome {
        self.judge();
        assert_eq!(self.enforcement.outcome(&self.call), Answer::Pending);
        assert_eq!(self.enforcement.finished(), []);
        self.enforcement.on_closed(self.call.flow.id, &end);
        let [(id, outcome)] = self.enforcement.finished().try_into().unwrap();
        assert_eq!(id, self.call.id);
        outcome
    }
}

fn plain(guarantee: Guarantee) -> Outcome {
    Outcome {
        guarantee,
        would_be: None,
        killed: false,
        collateral: 2,
        shortfall: String::new(),
    }
}

#[test]
fn a_response_that_never_left_is_contained() {
    let mut scene = Scene::new();
    assert_eq!(scene.outcome(), plain(Guarantee::Contained));
    assert_eq!(
        scene.did(),
        [format!("withhold 77 from Some({FROM})"), "destroy 77".into()]
    );
    assert_eq!(scene.enforcement.dead_flows(), 1);
    scene.enforcement.on_closed(FlowId::Socket(COOKIE), &end_at(FROM));
    assert_eq!(scene.did(), ["release 77"]);
    assert_eq!(scene.enforcement.dead_flows(), 0);
    assert_eq!(scene.enforcement.outcome(&scene.call), Answer::None);
}

#[test]
fn what_begins_behind_it_on_the_connection_is_lost_too() {
    // Before the outcome is known, and after.
    for egress in [None, passed(FROM, 1)] {
        let known = egress.is_some();
        let mut scene = Scene::new();
        scene.gate().egress = egress;
        scene.judge();
        for (id, cookie) in [(2, COOKIE), (3, COOKIE), (4, COOKIE + 1)] {
            let behind = call(id, flow(FlowId::Socket(cookie), Some(cookie)));
            scene.enforcement.on_begun(&behind);
        }
        let outcome = match scene.enforcement.outcome(&scene.call) {
            Answer::Ready(outcome) => outcome,
            _ => {
                scene.enforcement.on_closed(FlowId::Socket(COOKIE), &end_at(FROM));
                scene.enforcement.finished().remove(0).1
            }
        };
        assert_eq!(outcome.collateral, 4, "known: {known}");
    }
}

#[test]
fn another_denial_on_the_connection_loses_nobody_anew() {
    let mut scene = Scene::new();
    scene.gate().egress = None;
    scene.judge();
    let on = |id| call(id, flow(FlowId::Socket(COOKIE), Some(COOKIE)));
    let (allowed, denied_later) = (on(2), on(3));
    scene.enforcement.on_begun(&allowed);
    scene.enforcement.on_begun(&denied_later);
    scene
        .enforcement
        .on_verdict(HEAD_AT, Phase::Request, &denied_later, &scene.verdict, 3);
    for denied in [&scene.call, &denied_later] {
        assert_eq!(scene.enforcement.outcome(denied), Answer::Pending);
    }
    scene.enforcement.on_closed(FlowId::Socket(COOKIE), &end_at(FROM));
    let lost: Vec<u32> = scene
        .enforcement
        .finished()
        .iter()
        .map(|(_, outcome)| outcome.collateral)
        .collect();
    assert_eq!(lost, [3, 0]);
}

#[test]
fn one_byte_of_it_makes_a_cut() {
    for end in [FROM.wrapping_add(1), FROM.wrapping_add(20)] {
        let mut scene = Scene::new();
        scene.gate().egress = passed(end, 1);
        assert_eq!(scene.outcome(), plain(Guarantee::Cut), "{end}");
    }
}

#[test]
fn where_nobody_counts_the_end_tells() {
    for (sent_end, word) in [
        (FROM, Guarantee::Contained),
        (FROM.wrapping_add(1), Guarantee::Cut),
        (7, Guarantee::Cut),
    ] {
        let mut scene = Scene::new();
        scene.gate().egress = None;
        assert_eq!(scene.outcome_at_end(end_at(sent_end)), plain(word), "{sent_end}");
    }
}

#[test]
fn in_tls_time_tells() {
    for (at, word) in [
        (HEAD_AT.0 - 1, Guarantee::Contained),
        (HEAD_AT.0, Guarantee::Cut),
        (0, Guarantee::Contained),
    ] {
        let mut scene = Scene::new();
        let id = FlowId::Tls {
            pid: 4242,
            object: 1,
            generation: 0,
        };
        scene.call = call(1, flow(id, Some(COOKIE)));
        // Positions of ciphertext say nothing about plaintext.
        scene.gate().egress = passed(FROM, at);
        assert_eq!(scene.outcome(), plain(word), "{at}");
        assert_eq!(scene.did(), ["withhold 77 from None", "destroy 77"]);
        // The TLS object goes first; the socket stays withheld until it is gone itself.
        scene.enforcement.on_closed(id, &FlowEnd::default());
        assert_eq!(scene.did(), Vec::<String>::new());
        scene
            .enforcement
            .on_closed(FlowId::Socket(COOKIE), &FlowEnd::default());
        assert_eq!(scene.did(), ["release 77"]);
    }
    // Nobody takes the time: then nobody knows, and the weaker word it is.
    let mut scene = Scene::new();
    let id = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    scene.call = call(1, flow(id, Some(COOKIE)));
    scene.gate().egress = Some(Egress {
        passed_end: FROM,
        passed_at: None,
        gate_from: None,
    });
    assert_eq!(scene.outcome(), plain(Guarantee::Cut));
    // Nobody counts.
    let mut scene = Scene::new();
    let id = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    scene.call = call(1, flow(id, Some(COOKIE)));
    scene.gate().egress = None;
    assert_eq!(scene.outcome_at_end(end_at(0)), plain(Guarantee::Cut));
}

#[test]
fn a_socket_that_took_its_account_along_has_told_it_at_its_end() {
    let tls = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    for (id, egress, word) in [
        (tls, (FROM, KernelTime(HEAD_AT.0 - 1)), Guarantee::Contained),
        (tls, (FROM, HEAD_AT), Guarantee::Cut),
        (FlowId::Socket(COOKIE), (FROM, HEAD_AT), Guarantee::Contained),
        (
            FlowId::Socket(COOKIE),
            (FROM.wrapping_add(1), HEAD_AT),
            Guarantee::Cut,
        ),
    ] {
        let mut scene = Scene::new();
        scene.call = call(1, flow(id, Some(COOKIE)));
        scene.gate().egress = None;
        let end = FlowEnd {
            egress: Some(egress),
            ..end_at(FROM.wrapping_add(1))
        };
        assert_eq!(scene.outcome_at_end(end), plain(word), "{id:?} {egress:?}");
    }
}

#[test]
fn what_has_left_cannot_be_contained() {
    let mut scene = Scene::new();
    scene.call.direction = CallDirection::Outbound;
    assert_eq!(scene.outcome(), plain(Guarantee::Cut));
    assert_eq!(scene.did(), ["withhold 77 from None", "destroy 77"]);
}

#[test]
fn observing_does_nothing_and_says_what_would_be() {
    for (egress, would_be) in [
        (passed(FROM, 1), Guarantee::Contained),
        (passed(FROM.wrapping_add(1), 1), Guarantee::Cut),
        (None, Guarantee::Cut),
    ] {
        let mut scene = Scene::new();
        scene.verdict.mode = Mode::Observe;
        scene.verdict.action = Action::Kill;
        scene.gate().egress = egress;
        let outcome = scene.outcome();
        assert_eq!(
            (outcome.guarantee, outcome.would_be),
            (Guarantee::Observed, Some(would_be))
        );
        assert_eq!(
            (outcome.killed, outcome.collateral, outcome.shortfall.as_str()),
            (false, 0, "")
        );
        assert_eq!(scene.did(), Vec::<String>::new());
        assert_eq!(scene.enforcement.dead_flows(), 0);
    }
}

#[test]
fn flows_that_cannot_be_held_are_left_alone_and_said_so() {
    let tls = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    let memory_bio = flow(tls, None);
    let outside = FlowInfo {
        enforceable: false,
        ..flow(FlowId::Socket(COOKIE), Some(COOKIE))
    };
    let nowhere = FlowInfo {
        remote: None,
        ..flow(FlowId::Socket(COOKIE), Some(COOKIE))
    };
    for (flow, why) in [
        (memory_bio, "memory BIO"),
        (outside, "cgroup"),
        (nowhere, "addresses"),
    ] {
        let mut scene = Scene::new();
        scene.call = call(1, flow.clone());
        let outcome = scene.outcome();
        assert_eq!((outcome.guarantee, outcome.collateral), (Guarantee::Observed, 0));
        assert!(outcome.shortfall.contains(why), "{}", outcome.shortfall);
        assert!(outcome.has_passed());
        assert_eq!(scene.did(), Vec::<String>::new());
        assert_eq!(scene.enforcement.stats().not_enforced, 1);

        scene.verdict.mode = Mode::Observe;
        scene.call = call(2, flow.clone());
        let outcome = scene.outcome();
        assert_eq!(outcome.would_be, Some(Guarantee::Observed));
        assert!(!outcome.has_passed(), "nobody wanted to stop it");
        assert!(
            outcome.shortfall.starts_with("it would not be enforced"),
            "{}",
            outcome.shortfall
        );

        // Who it was is no guess, though.
        scene.verdict.mode = Mode::Enforce;
        scene.verdict.action = Action::Kill;
        scene.call = call(3, flow);
        let outcome = scene.outcome();
        assert_eq!((outcome.guarantee, outcome.killed), (Guarantee::Observed, true));
        assert!(outcome.has_passed());
        assert_eq!(scene.did(), ["kill 4242"]);
    }
}

#[test]
fn a_kill_comes_on_top() {
    let mut scene = Scene::new();
    scene.verdict.action = Action::Kill;
    assert_eq!(
        scene.outcome(),
        Outcome {
            killed: true,
            ..plain(Guarantee::Contained)
        }
    );
    assert_eq!(
        scene.did(),
        [
            &format!("withhold 77 from Some({FROM})"),
            "kill 4242",
            "destroy 77"
        ]
    );

    let mut scene = Scene::new();
    scene.verdict.action = Action::Kill;
    scene.gate().kill = Err(GateError::Failed("the pid runs another program now".into()));
    let outcome = scene.outcome();
    assert_eq!((outcome.guarantee, outcome.killed), (Guarantee::Contained, false));
    insta::assert_snapshot!(outcome.shortfall, @"the process was not killed: the pid runs another program now");
}

#[test]
fn a_reset_that_fails_is_no_cut() {
    let unsupported = Err(GateError::Failed("this kernel cannot end sockets".into()));
    // Withheld, and nothing of the response had passed: contained, reset or not.
    let mut scene = Scene::new();
    scene.gate().destroy = unsupported.clone();
    scene.judge();
    assert_eq!(scene.enforcement.outcome(&scene.call), Answer::Pending);
    scene.enforcement.on_tick(KernelTime(HEAD_AT.0 + 499_999_999));
    assert_eq!(scene.enforcement.finished(), []);
    scene.enforcement.on_tick(KernelTime(HEAD_AT.0 + 500_000_000));
    assert_eq!(
        scene.enforcement.finished(),
        [(CallId(1), plain(Guarantee::Contained))]
    );
    assert_eq!(scene.enforcement.stats().told_early, 1);
    // Withheld too late.
    let mut scene = Scene::new();
    scene.gate().destroy = unsupported.clone();
    scene.gate().egress = passed(FROM.wrapping_add(5), 1);
    scene.judge();
    scene.enforcement.on_tick(KernelTime(u64::MAX));
    let Answer::Ready(outcome) = scene.enforcement.outcome(&scene.call) else {
        panic!()
    };
    assert_eq!((outcome.guarantee, outcome.collateral), (Guarantee::Observed, 0));
    insta::assert_snapshot!(outcome.shortfall, @"the connection was not reset: this kernel cannot end sockets");
    // Neither withheld nor reset, and no numbers: nothing is claimed.
    let mut scene = Scene::new();
    scene.gate().destroy = unsupported;
    scene.gate().withhold = Err(GateError::Failed("the map is full".into()));
    scene.judge();
    scene.enforcement.on_tick(KernelTime(u64::MAX));
    let Answer::Ready(outcome) = scene.enforcement.outcome(&scene.call) else {
        panic!()
    };
    assert_eq!(outcome.guarantee, Guarantee::Observed);
    insta::assert_snapshot!(outcome.shortfall, @"its payload was not withheld: the map is full; the connection was not reset: this kernel cannot end sockets");
}

#[test]
fn a_connection_that_ended_by_itself_was_not_cut() {
    let mut scene = Scene::new();
    scene.gate().destroy = Err(GateError::Gone);
    scene.gate().egress = None;
    let end = FlowEnd {
        reset: false,
        ..end_at(FROM.wrapping_add(100))
    };
    let outcome = scene.outcome_at_end(end);
    assert_eq!(outcome.guarantee, Guarantee::Observed);
    insta::assert_snapshot!(outcome.shortfall, @"the connection had ended before it could be reset");
}

#[test]
fn a_denial_sticks() {
    let mut scene = Scene::new();
    assert_eq!(scene.outcome().guarantee, Guarantee::Contained);
    scene.did();
    // The next call of the flow was in the ring already; it is withheld, and reset, already.
    scene.call = call(2, flow(FlowId::Socket(COOKIE), Some(COOKIE)));
    scene.call.response_position = Some(FROM.wrapping_sub(100));
    scene.gate().destroy = Err(GateError::Gone);
    // Whoever is lost is by the first.
    let alone = Outcome {
        collateral: 0,
        ..plain(Guarantee::Cut)
    };
    assert_eq!(scene.outcome(), alone, "some of its response was on its way");
    assert_eq!(scene.did(), ["destroy 77"]);
    // A verdict at a later phase of a call that is denied already is no second denial.
    scene.enforcement.on_verdict(
        HEAD_AT,
        Phase::Head,
        &call(3, flow(FlowId::Socket(COOKIE), Some(COOKIE))),
        &scene.verdict,
        0,
    );
    scene.did();
    scene.enforcement.on_verdict(
        HEAD_AT,
        Phase::Request,
        &call(3, flow(FlowId::Socket(COOKIE), Some(COOKIE))),
        &scene.verdict,
        0,
    );
    assert_eq!(scene.did(), Vec::<String>::new());
    assert_eq!(scene.enforcement.stats().denied, 3);
    scene.enforcement.on_closed(FlowId::Socket(COOKIE), &end_at(FROM));
    assert_eq!(scene.did(), ["release 77"]);
}

#[test]
fn what_a_rule_requires_and_did_not_get_is_said() {
    let mut scene = Scene::new();
    scene.verdict.require = Some(Guarantee::Prevented);
    insta::assert_snapshot!(scene.outcome().shortfall, @"the rule requires prevented");
    let mut scene = Scene::new();
    scene.verdict.require = Some(Guarantee::Contained);
    assert_eq!(scene.outcome().shortfall, "");
}

#[test]
fn others_verdicts_are_not_carried_out() {
    for (action, by) in [
        (Action::Allow, DecidedBy::Pipeline),
        (Action::Alert, DecidedBy::Pipeline),
    ] {
        let mut scene = Scene::new();
        (scene.verdict.action, scene.verdict.decided_by) = (action, by);
        scene.judge();
        assert_eq!(scene.did(), Vec::<String>::new());
        assert_eq!(scene.enforcement.outcome(&scene.call), Answer::None);
    }
}

#[test]
fn the_tables_are_bounded() {
    let mut scene = Scene::new();
    scene.gate().egress = None;
    for cookie in 1..=10 {
        scene.call = call(u128::from(cookie), flow(FlowId::Socket(cookie), Some(cookie)));
        scene.judge();
        assert_eq!(scene.enforcement.outcome(&scene.call), Answer::Pending);
    }
    // Six had to be told early, eight had to be released.
    assert_eq!(scene.enforcement.finished().len(), 6);
    assert_eq!(scene.enforcement.dead_flows(), 2);
    let stats = scene.enforcement.stats();
    assert_eq!((stats.told_early, stats.dead_flows_evicted), (6, 8));
    assert_eq!(
        scene
            .did()
            .iter()
            .filter(|did| did.starts_with("release"))
            .count(),
        8
    );
}

#[test]
fn a_socket_s_end_tells_every_call_that_it_carried_and_forgets_them() {
    let tls = |object| FlowId::Tls {
        pid: 4242,
        object,
        generation: 0,
    };
    let verdict = Scene::new().verdict;
    let mut enforcer = Enforcer::new(Limits::default());
    // Two calls of one TLS object, one of another, and one in clear on a socket of its own.
    for (id, flow_id, cookie) in [
        (1, tls(1), COOKIE),
        (2, tls(1), COOKIE),
        (3, tls(2), COOKIE),
        (4, FlowId::Socket(78), 78),
    ] {
        let call = call(id, flow(flow_id, Some(cookie)));
        enforcer.on_verdict(HEAD_AT, Phase::Head, &call, &verdict, 0, None);
        assert_eq!(enforcer.outcome(call.id), Answer::Pending);
    }
    assert_eq!(enforcer.cookie_of(tls(2)), Some(COOKIE));
    enforcer.on_closed(tls(2), &FlowEnd::default(), None);
    enforcer.on_closed(FlowId::Socket(COOKIE), &FlowEnd::default(), None);
    let told: Vec<CallId> = enforcer.finished().into_iter().map(|(id, _)| id).collect();
    assert_eq!(told, [CallId(3), CallId(1), CallId(2)]);
    assert_eq!(enforcer.cookie_of(tls(1)), None);
    enforcer.on_closed(FlowId::Socket(78), &FlowEnd::default(), None);
    assert!(enforcer.calls.is_empty());
}
