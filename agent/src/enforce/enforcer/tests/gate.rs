//! What the gate has stopped: outbound requests that never left, inbound ones that are answered in the server's place.

use super::*;
use crate::capture::{Decision, Ground, Hook};

const HEAD_END: u32 = 1_000;

fn outbound(egress: Option<Egress>) -> Scene {
    let mut scene = Scene::new();
    scene.call.direction = CallDirection::Outbound;
    scene.call.head_end = Some(HEAD_END);
    scene.gate().egress = egress;
    scene
}

#[test]
fn an_outbound_head_that_never_left_whole_is_prevented() {
    for (passed_end, word) in [
        (HEAD_END - 100, Guarantee::Prevented),
        (HEAD_END - 1, Guarantee::Prevented),
        (HEAD_END, Guarantee::Cut),
        (HEAD_END + 1, Guarantee::Cut),
    ] {
        let mut scene = outbound(passed(passed_end, 1));
        assert_eq!(scene.outcome().guarantee, word, "{passed_end}");
    }
}

#[test]
fn in_tls_the_gate_has_to_have_withheld_it() {
    let id = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    for (direction, gate_from, passed_end, word) in [
        (CallDirection::Outbound, Some(500), 500, Guarantee::Prevented),
        (CallDirection::Outbound, Some(500), 501, Guarantee::Cut),
        (CallDirection::Outbound, None, 500, Guarantee::Cut),
        (CallDirection::Inbound, Some(500), 500, Guarantee::Contained),
        (CallDirection::Inbound, Some(500), 501, Guarantee::Cut),
    ] {
        let mut scene = Scene::new();
        scene.call = call(1, flow(id, Some(COOKIE)));
        scene.call.direction = direction;
        scene.gate().egress = Some(Egress {
            passed_end,
            passed_at: Some(KernelTime(HEAD_AT.0 + 1)),
            gate_from,
        });
        assert_eq!(
            scene.outcome().guarantee,
            word,
            "{direction:?} {gate_from:?} {passed_end}"
        );
    }
}

#[test]
fn in_tls_a_read_that_was_made_to_fail_is_prevented() {
    let id = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    for (refused, word) in [(true, Guarantee::Prevented), (false, Guarantee::Contained)] {
        let mut scene = Scene::new();
        scene.call = call(1, flow(id, Some(COOKIE)));
        scene.call.stopped = Some(Decision {
            generation: 1,
            rule: 0,
            ground: Ground::Rule,
            hook: Hook::TlsRead,
            refused,
            earlier: 0,
            collateral: 0,
        });
        scene.gate().egress = Some(Egress {
            passed_end: 500,
            passed_at: Some(KernelTime(HEAD_AT.0 + 1)),
            gate_from: Some(500),
        });
        assert_eq!(scene.outcome().guarantee, word, "refused: {refused}");
    }
}

#[test]
fn what_the_agent_withheld_late_is_not_the_gates() {
    let id = FlowId::Tls {
        pid: 4242,
        object: 1,
        generation: 0,
    };
    for (by_gate, direction, word) in [
        (true, CallDirection::Outbound, Guarantee::Prevented),
        (false, CallDirection::Outbound, Guarantee::Cut),
        (true, CallDirection::Inbound, Guarantee::Contained),
        (false, CallDirection::Inbound, Guarantee::Cut),
    ] {
        let mut scene = Scene::new();
        scene.call = call(1, flow(id, Some(COOKIE)));
        scene.call.direction = direction;
        scene.gate().egress = None;
        let end = FlowEnd {
            egress: Some((500, KernelTime(HEAD_AT.0 + 1))),
            withheld_from: Some(500),
            withheld_by_gate: by_gate,
            reset: true,
            ..FlowEnd::default()
        };
        assert_eq!(
            scene.outcome_at_end(end).guarantee,
            word,
            "{direction:?} {by_gate}"
        );
        // Something was unread, so that what has passed is known by itself too.
        let mut scene = Scene::new();
        scene.call = call(1, flow(id, Some(COOKIE)));
        scene.call.direction = direction;
        scene.gate().destroy = Err(GateError::Gone);
        scene.gate().egress = Some(Egress {
            passed_end: 500,
            passed_at: Some(KernelTime(HEAD_AT.0 + 1)),
            gate_from: None,
        });
        assert_eq!(
            scene.outcome_at_end(end).guarantee,
            word,
            "{direction:?} {by_gate}"
        );
    }
}

fn stopped(earlier: u32) -> Scene {
    let mut scene = Scene::new();
    scene.call.head_end = Some(HEAD_END);
    scene.call.stopped = Some(Decision {
        generation: 1,
        rule: 0,
        ground: Ground::Rule,
        hook: Hook::Ingress,
        refused: false,
        earlier,
        collateral: 0,
    });
    scene.verdict.decided_by = DecidedBy::Gate;
    scene.gate().accepted = Some(HEAD_END - 50);
    scene
}

fn stop(scene: &mut Scene) {
    scene
        .enforcement
        .on_verdict(HEAD_AT, Phase::Head, &scene.call, &scene.verdict, 0);
    assert_eq!(scene.enforcement.outcome(&scene.call), Answer::Pending);
}

fn ended(accepted_end: u32) -> FlowEnd {
    FlowEnd {
        accepted_end: Some(accepted_end),
        ..FlowEnd::default()
    }
}

fn later(ns: u64) -> KernelTime {
    KernelTime(HEAD_AT.0 + ns)
}

fn told(scene: &mut Scene) -> Outcome {
    let [(id, outcome)] = scene.enforcement.finished().try_into().unwrap();
    assert_eq!(id, scene.call.id);
    outcome
}

#[test]
fn the_client_is_answered_in_the_servers_place() {
    let mut scene = stopped(0);
    stop(&mut scene);
    assert_eq!(scene.did(), ["answer 1 in the place of 4242"]);
    assert_eq!(scene.enforcement.finished(), []);
    scene
        .enforcement
        .on_closed(FlowId::Socket(COOKIE), &ended(HEAD_END - 50));
    let outcome = told(&mut scene);
    assert_eq!(
        (outcome.guarantee, outcome.shortfall.as_str()),
        (Guarantee::Prevented, "")
    );
    assert_eq!(scene.did(), Vec::<String>::new());
}

#[test]
fn a_client_that_does_not_close_is_reset() {
    let mut scene = stopped(0);
    stop(&mut scene);
    scene.enforcement.on_tick(later(500_000_000));
    assert_eq!(scene.did(), ["answer 1 in the place of 4242"]);
    scene.enforcement.on_tick(later(1_500_000_000));
    assert_eq!(scene.did(), ["destroy 77"]);
    assert_eq!(told(&mut scene).guarantee, Guarantee::Prevented);
    scene.enforcement.on_tick(later(3_000_000_000));
    scene
        .enforcement
        .on_closed(FlowId::Socket(COOKIE), &ended(HEAD_END - 50));
    assert_eq!(scene.enforcement.finished(), []);
    assert_eq!(scene.did(), Vec::<String>::new());
}

#[test]
fn a_client_that_closes_frees_its_server_at_once() {
    let mut scene = stopped(0);
    stop(&mut scene);
    assert_eq!(scene.did(), ["answer 1 in the place of 4242"]);
    for _ in 0..2 {
        // It may say so again.
        scene
            .enforcement
            .on_parted(later(2_000_000), FlowId::Socket(COOKIE));
    }
    assert_eq!(scene.did(), ["destroy 77"]);
    scene
        .enforcement
        .on_closed(FlowId::Socket(COOKIE), &ended(HEAD_END - 50));
    assert_eq!(told(&mut scene).guarantee, Guarantee::Prevented);
    scene
        .enforcement
        .on_parted(later(3_000_000), FlowId::Socket(COOKIE));
    // One that is not answered yet waits for that.
    let mut scene = stopped(1);
    stop(&mut scene);
    scene
        .enforcement
        .on_parted(later(2_000_000), FlowId::Socket(COOKIE));
    assert_eq!(scene.did(), Vec::<String>::new());
}

#[test]
fn earlier_requests_get_their_answers_first() {
    let mut scene = stopped(2);
    stop(&mut scene);
    scene.enforcement.on_tick(later(1_500_000_000));
    scene
        .enforcement
        .on_answered(later(1_600_000_000), FlowId::Socket(COOKIE));
    assert_eq!(scene.did(), Vec::<String>::new());
    scene
        .enforcement
        .on_answered(later(1_700_000_000), FlowId::Socket(COOKIE));
    assert_eq!(scene.did(), ["answer 1 in the place of 4242"]);
    let mut scene = stopped(1);
    stop(&mut scene);
    scene.enforcement.on_tick(later(6_000_000_000));
    assert_eq!(scene.did(), ["destroy 77"]);
}

#[test]
fn a_connection_that_nobody_has_accepted_is_looked_for_again() {
    let mut scene = stopped(0);
    scene.gate().answer = Err(GateError::Gone);
    let retry_in = |scene: &Scene, at| scene.enforcement.retry_in(later(at)).map(|soon| soon.as_micros());
    assert_eq!(retry_in(&scene, 0), None);
    stop(&mut scene);
    assert_eq!(retry_in(&scene, 0), Some(250));
    scene.enforcement.retry(later(249_999));
    assert_eq!(scene.did().len(), 1, "it is not looked for at every occasion");
    scene.enforcement.retry(later(250_000));
    assert_eq!(retry_in(&scene, 250_000), Some(500));
    scene.gate().answer = Ok(190);
    scene.enforcement.retry(later(750_000));
    assert_eq!(retry_in(&scene, 750_000), None);
    assert_eq!(scene.did().len(), 2);
    // Nobody ever does.
    let mut scene = stopped(0);
    scene.gate().answer = Err(GateError::Gone);
    stop(&mut scene);
    scene.enforcement.retry(later(300_000_000));
    assert_eq!(scene.did().last().unwrap(), "destroy 77");
    scene
        .enforcement
        .on_closed(FlowId::Socket(COOKIE), &ended(HEAD_END - 50));
    let outcome = told(&mut scene);
    assert_eq!(outcome.guarantee, Guarantee::Prevented);
    insta::assert_snapshot!(outcome.shortfall, @"the client got no answer: no process has accepted the connection");
}

#[test]
fn what_tcp_has_taken_in_was_not_prevented() {
    for accepted_end in [HEAD_END, HEAD_END + 1] {
        let mut scene = stopped(0);
        scene.verdict.require = Some(Guarantee::Prevented);
        stop(&mut scene);
        scene
            .enforcement
            .on_closed(FlowId::Socket(COOKIE), &ended(accepted_end));
        let outcome = told(&mut scene);
        assert_eq!(outcome.guarantee, Guarantee::Cut);
        assert!(outcome.shortfall.contains("had sent of it was taken in"));
        assert!(outcome.shortfall.ends_with("the rule requires prevented"));
    }
}

#[test]
fn an_agent_that_ends_tells_what_it_knows() {
    let mut scene = stopped(1);
    stop(&mut scene);
    scene.enforcement.finish();
    assert_eq!(told(&mut scene).guarantee, Guarantee::Prevented);
}

#[test]
fn what_was_not_measured_is_not_claimed() {
    // The socket is gone, and nothing has told its end.
    let mut scene = stopped(0);
    scene.gate().accepted = None;
    stop(&mut scene);
    scene.enforcement.on_tick(later(1_500_000_000));
    let outcome = told(&mut scene);
    assert_eq!(outcome.guarantee, Guarantee::Observed);
    insta::assert_snapshot!(outcome.shortfall, @"the gate dropped it, and how much TCP had taken in could not be measured");
    // There never was one.
    let mut scene = stopped(0);
    scene.call.flow = Arc::new(flow(FlowId::Socket(COOKIE), None));
    stop(&mut scene);
    assert_eq!(scene.did(), Vec::<String>::new());
    assert_eq!(told(&mut scene).guarantee, Guarantee::Observed);
    // The head's pieces were lost on their way: where it ended is not known.
    let mut scene = stopped(0);
    scene.call.head_end = None;
    stop(&mut scene);
    scene
        .enforcement
        .on_closed(FlowId::Socket(COOKIE), &ended(HEAD_END - 50));
    assert_eq!(told(&mut scene).guarantee, Guarantee::Observed);
}

#[test]
fn an_outbound_head_that_waits_to_leave_is_not_prevented_yet() {
    let mut scene = outbound(passed(HEAD_END - 100, 1));
    scene.gate().destroy = Err(GateError::Failed("refused".to_owned()));
    scene.gate().withhold = Err(GateError::Failed("full".to_owned()));
    scene.judge();
    assert_eq!(scene.enforcement.outcome(&scene.call), Answer::Pending);
    scene.enforcement.on_tick(later(1_500_000_000));
    assert_eq!(told(&mut scene).guarantee, Guarantee::Observed);
}
