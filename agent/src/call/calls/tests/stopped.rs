//! Requests that the gate has stopped, as calls.

use super::*;
use crate::capture::{Decision, Ground, Hook, Stopped};

fn stopped(head: &str, hook: Hook, earlier: u32) -> Captured {
    let Captured::Flow(flow) = info(FlowId::Socket(1)) else {
        unreachable!()
    };
    Captured::Stopped(Stopped {
        at: KernelTime(2_000_000_000),
        flow,
        process: process(),
        direction: match hook {
            Hook::Ingress | Hook::TlsRead => Direction::Received,
            Hook::Egress | Hook::TlsWrite => Direction::Sent,
        },
        position: u64::from(CLIENT_STARTS),
        head: Bytes::copy_from_slice(head.as_bytes()),
        decision: Decision {
            generation: 1,
            rule: 0,
            ground: Ground::Rule,
            hook,
            refused: false,
            earlier,
            collateral: 0,
        },
    })
}

#[test]
fn a_head_that_the_process_never_got_is_a_call() {
    const HEAD: &str = "DELETE /fhir/Patient/1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut scene = Scene::server();
    scene.take(stopped(HEAD, Hook::Ingress, 0));
    let [call] = scene.ended.as_slice() else {
        panic!("{} calls", scene.ended.len())
    };
    assert_eq!(
        (call.request.method.as_str(), call.state, call.direction),
        ("DELETE", CallState::Stopped, CallDirection::Inbound)
    );
    assert_eq!(call.head_end, Some(CLIENT_STARTS + HEAD.len() as u32));
    assert!(!call.loss_overlap);
}

#[test]
fn one_whose_bytes_were_lost_is_told_all_the_same() {
    let mut scene = Scene::server();
    scene.take(stopped("", Hook::Ingress, 0));
    let [call] = scene.ended.as_slice() else {
        panic!("{} calls", scene.ended.len())
    };
    assert_eq!((call.state, call.request.path.as_str()), (CallState::Stopped, ""));
    assert!(call.loss_overlap && call.head_end.is_none());
}

#[test]
fn what_has_its_answer_is_not_waited_for() {
    let mut scene = Scene::server();
    scene.received("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.sent("HTTP/1.1 204 No Content\r\n\r\n");
    scene.take(stopped("GET /b HTTP/1.1\r\nHost: a\r\n\r\n", Hook::Ingress, 2));
    let earlier: Vec<_> = scene
        .ended
        .iter()
        .map(|call| call.stopped.map(|decision| decision.earlier))
        .collect();
    assert_eq!(earlier, [None, Some(1)]);
}

#[test]
fn a_decision_waits_for_the_bytes_that_the_process_has() {
    let mut scene = Scene::server();
    scene.positions = [SERVER_STARTS, CLIENT_STARTS];
    scene.take(stopped("", Hook::Egress, 0));
    assert!(scene.ended.is_empty());
    scene.sent("GET /vendor HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.close(true);
    let [call] = scene.ended.as_slice() else {
        panic!("{} calls", scene.ended.len())
    };
    assert_eq!(call.direction, CallDirection::Outbound);
    assert_eq!(call.stopped.map(|decision| decision.hook), Some(Hook::Egress));
}

#[test]
fn a_decision_that_comes_behind_its_bytes_finds_its_call() {
    let mut scene = Scene::server();
    scene.positions = [SERVER_STARTS, CLIENT_STARTS];
    scene.sent("GET /vendor HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.take(stopped("", Hook::Egress, 0));
    scene.close(true);
    let [call] = scene.ended.as_slice() else {
        panic!("{} calls", scene.ended.len())
    };
    assert_eq!(
        (call.request.method.as_str(), call.direction),
        ("GET", CallDirection::Outbound)
    );
    assert_eq!(call.stopped.map(|decision| decision.hook), Some(Hook::Egress));
}
