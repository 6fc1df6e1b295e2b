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
fn the_first_request_is_found_however_it_is_split() {
    for rest in [GET.to_owned(), format!("{GET}{GET}")] {
        let stream = format!(
            "x\r\nPOST /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{rest}",
            GET.len()
        );
        for split in 1..stream.len() {
            let mut scene = Scene::server();
            scene
                .received(&stream[..split])
                .received(&stream[split..])
                .sent(OK);
            let told = scene.close(false);
            assert!(
                told.starts_with(&format!(
                    "POST /first [{0}/{0}] -> 200 [2/2] answered !garbage",
                    GET.len()
                )),
                "split at {split}: {told}"
            );
        }
    }
}

#[test]
fn a_request_is_not_lost_for_its_length_or_its_end() {
    let mut scene = Scene::server();
    scene.received("x\r\nPOST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
    for _ in 0..20 {
        scene.received("b".repeat(1_000));
    }
    scene.sent(OK);
    assert_eq!(
        scene.close(false),
        "POST /{name} [20000/20000] -> 200 [2/2] answered !garbage"
    );
    let mut scene = Scene::server();
    scene.received(format!("x\r\n{GET}"));
    assert_eq!(scene.close(true), "GET /fhir/Patient/{id} -> - reset !garbage");
}

#[test]
fn what_is_missing_behind_a_request_that_waits_is_missing() {
    let mut scene = Scene::server();
    scene
        .received("x\r\nPOST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .lose(Direction::Received, "def")
        .received("ghi")
        .sent(OK);
    assert_eq!(
        scene.close(false),
        "POST /api [6/9 cut] -> 200 [2/2] answered loss !garbage"
    );
}

#[test]
fn an_answer_to_what_nobody_can_read_is_told() {
    let too_much = "x\r\n".repeat(6_000);
    for asked in ["x\r\n", &too_much, &format!("{too_much}{GET}")] {
        let mut scene = Scene::server();
        for part in asked.as_bytes().chunks(3_000) {
            scene.received(part);
        }
        scene.sent(OK);
        assert_eq!(scene.close(false), "");
        assert_eq!(scene.calls.take_unread().len(), 1);
    }
}

#[test]
fn what_is_not_answered_in_http_is_another_protocol() {
    for (asked, answered) in [
        ("x\r\n", "x\r\n"),
        ("\u{16}\u{3}\u{1}\u{2}", "\u{16}\u{3}\u{3}"),
        // Of a mail, or a cache.
        ("x\r\nGET /fhir/Patient/1 HTTP/1.1\r\n\r\n", "+OK\r\n"),
        ("x\r\n", GET),
    ] {
        let mut scene = Scene::server();
        scene.received(asked).sent(answered).received(GET).sent(OK);
        assert_eq!(scene.close(false), "", "{asked:.20?}");
        assert_eq!(scene.calls.stats().flows_other, 1, "{asked:.20?}");
        assert_eq!(scene.calls.take_unread().len(), 0);
    }
}

#[test]
fn a_request_that_begins_strangely_is_told_however_it_is_split() {
    for before in [" ", "\0", "\u{feff}"] {
        let stream = format!("{before}{GET}");
        let mut told = Vec::new();
        for split in 1..stream.len() - 1 {
            let mut scene = Scene::server();
            if stream.is_char_boundary(split) {
                scene
                    .received(&stream[..split])
                    .received(&stream[split..])
                    .sent(OK);
                told.push(scene.close(false));
            }
        }
        assert!(
            told.iter().all(|told| told.contains("/fhir/Patient/{id} -> 200")),
            "{before:?}: {told:#?}"
        );
    }
}
