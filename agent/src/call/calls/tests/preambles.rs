//! What stands before the first request: whom a load balancer names, and what a client and a SOCKS proxy agree on.

use super::{GET, OK, Scene, UnreadWhy};

#[test]
fn a_proxys_header_is_skipped_and_kept() {
    for split in [0, 3, 20, 39, 45] {
        let mut scene = Scene::server();
        let stream = format!("PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n{GET}");
        scene
            .received(&stream[..split])
            .received(&stream[split..])
            .sent(OK);
        assert_eq!(
            scene.close(false),
            "GET /fhir/Patient/{id} -> 200 [2/2] answered",
            "split at {split}"
        );
        assert_eq!(scene.ended[0].raw.proxied_client, "192.0.2.1:8080".parse().ok());
    }
}

#[test]
fn what_a_client_says_to_a_socks_proxy_is_skipped() {
    let client = "\x05\x02\0\x02|\x01\x01a\x01b|\x05\x01\0\x03\x03ehr\0\x50|GET /fhir/Patient/1 HTTP/1.1\r\nHost: ehr\r\n\r\n";
    let proxy = "\x05\x02|\x01\0|\x05\0\0\x01\0\0\0\0\0\0|HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let turns = || client.split('|').zip(proxy.split('|'));
    for is_server in [true, false] {
        let scene = &mut match is_server {
            true => Scene::server(),
            false => Scene::client(),
        };
        for (asked, answered) in turns() {
            match is_server {
                true => scene.received(asked).sent(answered),
                false => scene.sent(asked).received(answered),
            };
        }
        assert_eq!(
            scene.close(false),
            "GET /fhir/Patient/{id} -> 200 [2/2] answered",
            "server: {is_server}"
        );
    }
    // What is answered in HTTP was none, and may hide a request: in what has not ended, in a name, where it would be passed over
    // as a whole, or before another one.
    let name = format!("\n{GET}");
    for hides in [
        format!("\x05\x01\0\x05\x01\0\x03\u{7f}\n{GET}"),
        format!("\x05{}{name}\x05\x01\0\x01\0\0\0\0\0\0", name.len() as u8 as char),
        "\x04\x01\r\nGET /fhir/Patient/1 HTTP/1.1\r\nHost: ehr\r\n\r\n\0".to_owned(),
    ] {
        for answers in [true, false] {
            let mut scene = Scene::server();
            scene.received(&hides);
            if answers {
                scene.sent(OK);
            }
            let told = scene.close(false);
            let how = match answers {
                true => "-> 200 [2/2] answered",
                false => "-> - closed",
            };
            assert!(
                told.starts_with(&format!("GET /fhir/Patient/{{id}} {how}")),
                "{hides:?}: {told}"
            );
        }
    }
}

#[test]
fn what_is_too_much_to_wait_with_is_told_as_unread() {
    let mut scene = Scene::client();
    scene
        .sent("\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01\0\x50")
        .sent(format!("{}\n{GET}", "x".repeat(20 * 1024)))
        .received("\x05\0\x05\0\0\x01\0\0\0\0\0\0")
        .received(OK);
    let told = scene.close(false);
    assert_eq!(told, "");
    let unread = scene.calls.take_unread();
    assert_eq!(
        unread.iter().map(|one| one.why).collect::<Vec<_>>(),
        [UnreadWhy::Gap]
    );
}

#[test]
fn a_client_may_speak_before_the_proxy_has_granted() {
    let mut scene = Scene::client();
    scene
        .sent(format!("\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01\0\x50{GET}"))
        .received("\x05\0\x05\0\0\x01\0\0\0\0\0\0")
        .received(OK);
    assert_eq!(scene.close(false), "GET /fhir/Patient/{id} -> 200 [2/2] answered");
}
