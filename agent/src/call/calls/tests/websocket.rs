//! Connections that become WebSocket, record by record.

use super::*;
use crate::call::Protocol;

const ASK: &str = "GET /api/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: Upgrade\r\nUpgrade: \
                   websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn switch(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{more}\r\n")
        .into_bytes()
}

/// What a client says is masked.
pub(super) fn masked(first: u8, text: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first, 0x80 | text.len() as u8];
    frame.extend(mask);
    frame.extend(text.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

#[test]
fn each_message_is_a_call_of_the_endpoint() {
    let mut scene = Scene::server();
    scene.received(ASK);
    // The server's first message comes with its answer.
    scene.sent([&switch("")[..], b"\x81\x05hello"].concat());
    scene
        .received(masked(0x01, b"one "))
        .received([masked(0x89, b"ping"), masked(0x80, b"more")].concat());
    scene.sent(b"\x82\x03abc\x88\x00").received(masked(0x88, b""));
    assert_eq!(
        scene.close(false),
        "GET /api/chat -> 101 switched\nGET /api/chat -> 101 [5/5] switched\nGET /api/chat [8/8] -> - switched\n\
         GET /api/chat -> 101 [3/3] switched"
    );
    let said = &scene.ended[2];
    assert_eq!(said.protocol, Protocol::WebSocket);
    assert_eq!(said.direction, CallDirection::Inbound);
    assert_eq!(said.raw.request_body, "one more");
    assert_eq!(said.request.auth, crate::call::AuthScheme::Bearer);
    assert_eq!(scene.ended[1].raw.response_body, "hello");
    let ids: std::collections::HashSet<_> = scene.ended.iter().map(|call| call.id).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(scene.calls.stats().flows_websocket, 1);
    assert_eq!(scene.calls.stats().calls_open, 0);
    assert_eq!(scene.calls.bodies_bytes(), 0);
}

#[test]
fn what_the_client_says_at_once_waits_and_compressed_messages_are_read() {
    let mut scene = Scene::server();
    scene
        .received(ASK)
        .received(masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
    scene.sent(switch(
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n",
    ));
    scene
        .sent(b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00")
        .sent(b"\xc1\x05\xf2\x00\x11\x00\x00");
    scene.close(false);
    let bodies: Vec<_> = scene
        .ended
        .iter()
        .map(|call| [call.raw.request_body.clone(), call.raw.response_body.clone()].concat())
        .collect();
    assert_eq!(bodies, [&b""[..], b"Hello", b"Hello", b"Hello"]);
}

#[test]
fn what_is_lost_or_broken_is_said() {
    let mut scene = Scene::server();
    scene
        .received(ASK)
        .sent(switch(""))
        .received(masked(0x81, b"one"));
    scene.lose(Direction::Received, "something");
    scene.received(masked(0x81, b"two")).later(1);
    assert_eq!(scene.calls.take_unread().len(), 1);
    assert_eq!(
        scene.close(true),
        "GET /api/chat -> 101 switched\nGET /api/chat [3/3] -> - switched"
    );
    let mut scene = Scene::server();
    scene
        .received(ASK)
        .sent(switch(""))
        .received(&masked(0x01, b"half")[..8]);
    assert_eq!(
        scene.close(true),
        "GET /api/chat -> 101 switched\nGET /api/chat [2/2 cut] -> - reset"
    );
}
