//! Conversations that begin like nothing known, and turn out to be HTTP by what they are answered.

use super::*;

#[test]
fn a_request_behind_lines_that_are_none_is_told() {
    let padding = "x\r\n".repeat(2_000);
    for garbage in ["x\r\n", "\0\n", "\u{16}\u{3}\u{1}\r\n", "a b c\n\n", &padding] {
        let stream = format!("{garbage}{GET}");
        for split in [1, garbage.len(), garbage.len() + 9, stream.len() - 3] {
            let mut scene = Scene::server();
            scene
                .received(&stream[..split])
                .received(&stream[split..])
                .sent(OK)
                .received(GET)
                .sent(OK);
            assert_eq!(
                scene.close(false),
                "GET /fhir/Patient/{id} -> 200 [2/2] answered !garbage\nGET /fhir/Patient/{id} -> 200 [2/2] answered",
                "{garbage:.9?} split at {split}"
            );
        }
    }
}

#[test]
fn an_answer_to_what_nobody_can_read_is_told() {
    let mut scene = Scene::server();
    scene.received("x\r\n").sent(OK);
    assert_eq!(scene.close(false), "");
    assert_eq!(scene.calls.take_unread().len(), 1);
}

#[test]
fn what_is_not_answered_in_http_is_another_protocol() {
    let too_much = "x\r\n".repeat(6_000);
    for (asked, answered) in [
        ("x\r\n", "x\r\n"),
        ("\u{16}\u{3}\u{1}\u{2}", "\u{16}\u{3}\u{3}"),
        // Of a mail, or a cache.
        ("x\r\nGET /fhir/Patient/1 HTTP/1.1\r\n\r\n", "+OK\r\n"),
        (&too_much, OK),
        ("x\r\n", GET),
    ] {
        let mut scene = Scene::server();
        scene.received(asked).sent(answered).received(GET).sent(OK);
        assert_eq!(scene.close(false), "", "{asked:.20?}");
        assert_eq!(scene.calls.stats().flows_other, 1, "{asked:.20?}");
        assert_eq!(scene.calls.take_unread().len(), 0);
    }
}
