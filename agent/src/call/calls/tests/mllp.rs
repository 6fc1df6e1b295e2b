//! HL7 version 2 over MLLP, record by record.

use super::*;
use crate::call::{Api, Protocol};

fn message(kind: &str, control: &str) -> String {
    format!(
        "\x0bMSH|^~\\&|ADTApp|Ward|EHR|Main|20260101||{kind}|{control}|P|2.5\rEVN||1\rPID|1||77^^^MR||DOE^J\r\x1c\r"
    )
}

fn ack(code: &str, control: &str) -> String {
    format!("\x0bMSH|^~\\&|EHR|Main|||20260101||ACK^A01|9{control}|P|2.5\rMSA|{code}|{control}\r\x1c\r")
}

fn detail(call: &ApiCall, name: &str) -> String {
    let operation = call.operation.as_ref().unwrap();
    let found = operation.details.iter().find(|(known, _)| *known == name);
    found.map_or(String::new(), |(_, value)| value.to_string())
}

/// Operation, acknowledgement, state and anomalies of each call.
fn told(scene: &Scene) -> Vec<String> {
    let told = |call: &ApiCall| {
        let name = &call.operation.as_ref().unwrap().name;
        let mut text = format!("{name} {} {}", detail(call, "ack"), call.state.as_str());
        for anomaly in &call.anomalies {
            let _ = write!(text, " !{}", anomaly.as_str());
        }
        text
    };
    scene.ended.iter().map(told).collect()
}

#[test]
fn a_message_and_its_acknowledgement() {
    for id in [
        FlowId::Socket(1),
        FlowId::Tls {
            pid: 1,
            object: 2,
            generation: 3,
        },
    ] {
        let mut scene = Scene::new(id, false);
        scene.received(message("ADT^A01", "42")).sent(ack("AA", "42"));
        assert_eq!(told(&scene), ["ADT^A01 AA answered"]);
        let call = &scene.ended[0];
        assert_eq!(call.protocol, Protocol::Mllp);
        assert_eq!(call.direction, CallDirection::Inbound);
        assert_eq!(call.request.method, "HL7");
        assert_eq!(call.request.body.media_type, "application/hl7-v2");
        assert!(call.raw.request_body.starts_with(b"MSH|") && call.raw.request_body.ends_with(b"\r"));
        assert!(call.raw.response_body.starts_with(b"MSH|"));
        let operation = call.operation.as_ref().unwrap();
        assert!(operation.api == Api::Hl7v2 && operation.subject.is_some());
        assert_eq!(detail(call, "segments"), "MSH,EVN,PID");
        assert_eq!(scene.calls.stats().calls_open, 0);
        assert_eq!(scene.calls.bodies_bytes(), 0);
    }
}

#[test]
fn every_split_and_either_order() {
    let whole = message("ADT^A01", "1") + &message("ORU^R01", "2");
    let answers = ack("AA", "1") + &ack("AE", "2");
    let expected = ["ADT^A01 AA answered", "ORU^R01 AE answered"];
    for split in 1..whole.len() {
        let mut scene = Scene::server();
        scene.received(&whole[..split]).received(&whole[split..]);
        let split = split.min(answers.len() - 1);
        scene.sent(&answers[..split]).sent(&answers[split..]);
        assert_eq!(told(&scene), expected, "split at {split}");
    }
    let mut scene = Scene::server();
    // The answers' records come first.
    scene.sent(&answers).received(&whole);
    assert_eq!(told(&scene), expected);
    // Both sides send messages of their own, and answer in any order.
    let mut scene = Scene::server();
    scene
        .received(message("ADT^A01", "1"))
        .sent(message("ORM^O01", "1"))
        .received(message("ADT^A08", "2"))
        .sent(ack("AA", "2"))
        .received(ack("AR", "1"))
        .sent(ack("AA", "1"));
    assert_eq!(
        told(&scene),
        [
            "ADT^A08 AA answered",
            "ORM^O01 AR answered",
            "ADT^A01 AA answered"
        ]
    );
    assert_eq!(scene.ended[1].direction, CallDirection::Outbound);
}

#[test]
fn what_is_wrong_has_a_name_and_ends_nothing() {
    let mut scene = Scene::server();
    let plain = |kind: &str, control: &str| message(kind, control).replace("\x1c\r", "");
    // The next one, or the answer, is its end.
    scene
        .received(plain("ADT^A01", "1"))
        .received(message("ADT^A02", "2"))
        .received(plain("ADT^A03", "3"));
    for control in ["1", "2", "3"] {
        scene.sent(ack("AA", control));
    }
    scene
        .received("junk")
        .received(message("ADT^A04", "4").replace('\r', "\n"));
    scene.sent(ack("AA", "4"));
    scene
        .received(message("ADT^A05", "5"))
        .sent(ack("AA", "other"))
        .later(1);
    scene
        .received(message("ADT^A06", "6").trim_end_matches('\r'))
        .later(2);
    scene.sent(ack("AA", "6"));
    assert_eq!(
        told(&scene),
        [
            "ADT^A01 AA answered !invalid-end-block",
            "ADT^A02 AA answered",
            "ADT^A03 AA answered !invalid-end-block",
            "ADT^A04 AA answered !invalid-end-block !garbage !invalid-segment-end",
            "ADT^A05 AA answered !wrong-acknowledgement",
            "ADT^A06 AA answered !invalid-end-block",
        ]
    );
    assert_eq!(scene.calls.stats().responses_unpaired, 0);
}

#[test]
fn a_commit_comes_before_the_answer() {
    let enhanced = |control: &str| message("QBP^Q22", control).replace("|P|2.5", "|P|2.5|||AL|AL");
    let mut scene = Scene::server();
    scene.received(enhanced("1")).sent(ack("CA", "1"));
    assert_eq!(told(&scene), [""; 0]);
    scene.sent(message("RSP^K22", "8").replace("\rEVN||1", "\rMSA|AA|1"));
    scene.received(ack("CA", "8"));
    assert_eq!(told(&scene), ["QBP^Q22 AA answered"]);
    assert_eq!(detail(&scene.ended[0], "commit"), "CA");
    assert_eq!(detail(&scene.ended[0], "answer"), "RSP^K22");
    // None comes: the commit was all.
    scene.received(enhanced("2")).sent(ack("CA", "2")).later(6);
    assert_eq!(told(&scene)[1..], ["QBP^Q22  answered"]);
    // On a connection of its own an answer is a message, and the commit of it its answer.
    let mut scene = Scene::server();
    let answer = message("ACK^A01", "5").replace("|P|2.5\rEVN||1", "|P|2.5|||AL|NE\rMSA|AA|7");
    scene.received(&answer).sent(ack("CA", "5"));
    assert_eq!(told(&scene), ["ACK^A01  answered"]);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn gaps_ends_and_beginnings_in_the_middle() {
    let mut scene = Scene::server();
    scene
        .received(message("ADT^A01", "1"))
        .received(&message("ADT^A02", "2")[..53]);
    scene.lose(Direction::Received, "xxxx");
    scene.received("tail\r\x1c\r").received(message("ADT^A03", "3"));
    // What is early is given up waiting for.
    scene.later(1);
    for control in ["1", "2", "3"] {
        scene.sent(ack("AA", control));
    }
    assert_eq!(
        told(&scene),
        [
            "ADT^A01 AA answered",
            "ADT^A02 AA answered",
            "ADT^A03 AA answered"
        ]
    );
    assert!(scene.ended[1].loss_overlap && scene.ended[1].request.body.truncated);
    assert!(!scene.ended[2].loss_overlap);
    let mut scene = Scene::server();
    scene.received(message("ADT^A01", "1"));
    scene.close(true);
    assert_eq!(told(&scene), ["ADT^A01  reset"]);
    // Joined in the middle of a message: from the next on all is exact.
    let mut scene = Scene::new(FlowId::Socket(1), true);
    scene.received("|1|2\rPID|1\r\x1c\r").sent(ack("AA", "0"));
    scene.received(message("ADT^A01", "1")).sent(ack("AA", "1"));
    assert_eq!(told(&scene), ["ADT^A01 AA answered"]);
}

#[test]
fn engines_that_answer_each_message_of_a_batch_lose_nothing() {
    let one = |control: &str| {
        message("ADT^A01", control)
            .replace(['\x0b', '\x1c'], "")
            .replace("\r\r", "\r")
    };
    let mut scene = Scene::server();
    scene.received(format!(
        "\x0bBHS|^~\\&|A\r{}{}{}BTS|3\r\x1c\r",
        one("1"),
        one("2"),
        one("3")
    ));
    for control in ["1", "2", "3"] {
        scene.sent(ack("AA", control));
    }
    scene
        .later(2)
        .received(message("ADT^A02", "4"))
        .sent(ack("AE", "4"));
    assert_eq!(told(&scene), ["ADT^A01 AA answered", "ADT^A02 AE answered"]);
    assert_eq!(scene.calls.stats().responses_unpaired, 0);
    assert_eq!(scene.calls.bodies_bytes(), 0);
    // No more than there were.
    scene.sent(ack("AA", "5")).later(2);
    assert_eq!(scene.calls.stats().responses_unpaired, 1);
}

#[test]
fn what_a_batch_never_got_is_not_waited_for() {
    let one = |control: &str| {
        message("ADT^A01", control)
            .replace(['\x0b', '\x1c'], "")
            .replace("\r\r", "\r")
    };
    let mut scene = Scene::server();
    scene.received(format!("\x0bBHS|^~\\&|A\r{}{}BTS|2\r\x1c\r", one("1"), one("2")));
    scene.sent(ack("AA", "1"));
    scene
        .later(60)
        .received(message("ADT^A02", "4"))
        .sent(ack("AE", "9"));
    scene.later(2);
    assert_eq!(
        told(&scene),
        [
            "ADT^A01 AA answered",
            "ADT^A02 AE answered !wrong-acknowledgement"
        ]
    );
}

#[test]
fn batches_and_large_messages() {
    let mut scene = Scene::server();
    let one = "MSH|^~\\&|A|B|||20260101||ADT^A01|1|P|2.5\rPID|1||5\r";
    scene.received(format!(
        "\x0bFHS|^~\\&|A\rBHS|^~\\&|A\r{one}{one}BTS|2\rFTS|1\r\x1c\r"
    ));
    scene.sent(ack("AA", "1"));
    assert_eq!(told(&scene), ["ADT^A01 AA answered"]);
    assert_eq!(scene.ended[0].operation.as_ref().unwrap().entries, 2);
    let large =
        message("ORU^R01", "2").replace("\x1c\r", &format!("OBX|1|ED|||{}\r\x1c\r", "A".repeat(200_000)));
    scene.received(&large).sent(ack("AA", "2"));
    let call = scene.ended.last().unwrap();
    assert_eq!(call.request.body.bytes_total, large.len() as u64 - 3);
    assert_eq!(
        call.request.body.bytes_captured,
        Limits::default().body_bytes_max as u64
    );
    assert!(call.request.body.truncated);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn what_turns_out_to_be_something_else_is_left() {
    let mut scene = Scene::server();
    scene.received("\x0bMSH|");
    scene.received("\x1c\rnothing of the kind".repeat(8_000));
    scene.received(GET).sent(OK);
    let last = scene.ended.last().unwrap();
    assert_eq!(
        (last.request.method.as_str(), last.protocol),
        ("GET", Protocol::Http1)
    );
}

#[test]
fn endless_messages_stay_within_their_budget() {
    let mut options = options();
    options.limits.bodies_bytes_max = 100_000;
    let mut scene = Scene::with(FlowId::Socket(1), false, options);
    scene.received("\x0bMSH|^~\\&|");
    for _ in 0..100 {
        scene.received("x".repeat(10_000));
        assert!(scene.calls.bodies_bytes() <= 100_000);
    }
    scene.close(false);
    assert_eq!(scene.ended[0].state.as_str(), "closed");
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn real_messages() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/hl7v2");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hl7") {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("\r\n", "\r")
            .replace('\n', "\r");
        let kind = path.file_name().unwrap().to_str().unwrap()[..7].replace('-', "^");
        let mut scene = Scene::server();
        scene
            .received(format!("\x0b{text}\x1c\r"))
            .sent(ack("AA", "MSG00001"));
        assert_eq!(
            told(&scene),
            [format!("{kind} AA answered")],
            "{}",
            path.display()
        );
        assert!(scene.ended[0].operation.as_ref().unwrap().subject.is_some());
        seen += 1;
    }
    assert!(seen >= 3);
}
