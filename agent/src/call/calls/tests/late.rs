//! Connections that are older than the agent, whose two directions it did not begin to see at the same moment.

use super::*;

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}

const TLS: FlowId = FlowId::Tls {
    pid: 1,
    object: 2,
    generation: 0,
};

#[test]
fn answers_that_were_not_seen_do_not_shift_the_others() {
    for id in [FlowId::Socket(1), TLS] {
        let mut scene = Scene::new(id, true);
        for path in ["/api", "/login"] {
            scene.sent(ask(path));
            let _ = scene.segment(Direction::Received, answer(500).as_bytes(), 0);
        }
        scene.sent(ask("/status")).received(answer(201));
        scene.sent(ask("/users")).received(answer(202));
        assert_eq!(
            scene.close(false),
            "GET /api -> - gap loss\nGET /login -> - gap loss\nGET /status -> 201 answered\nGET /users -> 202 answered",
            "{id:?}"
        );
        assert_eq!(scene.calls.stats().responses_unpaired, 0);
    }
}

#[test]
fn requests_that_were_not_seen_do_not_shift_the_others() {
    for id in [FlowId::Socket(1), TLS] {
        let mut scene = Scene::new(id, true);
        for path in ["/api", "/login"] {
            let _ = scene.segment(Direction::Sent, ask(path).as_bytes(), 0);
            scene.received(answer(500));
        }
        scene.sent(ask("/status")).received(answer(201));
        scene.sent(ask("/users")).received(answer(202));
        assert_eq!(
            scene.close(false),
            "GET /status -> 201 answered\nGET /users -> 202 answered",
            "{id:?}"
        );
    }
}

#[test]
fn requests_that_did_not_wait_for_answers_have_them_in_order() {
    let mut scene = Scene::new(FlowId::Socket(1), true);
    scene.sent(ask("/api"));
    let _ = scene.segment(Direction::Received, answer(500).as_bytes(), 0);
    for path in ["/login", "/status", "/users"] {
        scene.sent(ask(path));
    }
    for status in [201, 202, 203] {
        scene.received(answer(status));
    }
    assert_eq!(
        scene.close(false),
        "GET /api -> - gap loss\nGET /login -> 201 answered\nGET /status -> 202 answered\nGET /users -> 203 answered"
    );
}
