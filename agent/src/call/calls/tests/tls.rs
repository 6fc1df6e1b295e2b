//! Handshakes below TLS objects: what calls on them are told.

use super::*;
use crate::call::Sight;
use crate::capture::{Handshake, TlsInfo};
use crate::decode::tls_tests::{Turns, certificates, tls12, tls13};

const CARRIER: u64 = 77;
const OBJECT: FlowId = FlowId::Tls {
    pid: 7,
    object: 0x1000,
    generation: 1,
};

fn socket() -> Arc<FlowInfo> {
    let Captured::Flow(flow) = info(FlowId::Socket(CARRIER)) else {
        unreachable!()
    };
    Arc::new(FlowInfo {
        carrier: Some(CARRIER),
        ..(*flow).clone()
    })
}

fn object() -> Captured {
    Captured::Flow(Arc::new(FlowInfo {
        id: OBJECT,
        tls: Some(TlsInfo {
            library: "openssl".into(),
            version: "3".into(),
        }),
        ..(*socket()).clone()
    }))
}

/// A client's turns, as one of its two ends sees them.
fn shake(scene: &mut Scene, turns: &Turns, server: bool, blind: bool) {
    let mut positions = [100u32, 200];
    for (direction, bytes) in turns {
        let sent = (*direction == Direction::Sent) != server;
        let position = &mut positions[usize::from(sent)];
        scene.take(Captured::Handshake(Handshake {
            at: KernelTime(1),
            flow: socket(),
            process: process(),
            direction: match sent {
                true => Direction::Sent,
                false => Direction::Received,
            },
            position: *position,
            bytes: Bytes::copy_from_slice(bytes),
            blind,
        }));
        *position += bytes.len() as u32;
    }
}

/// A server's call, behind such a handshake.
fn call(turns: &Turns) -> ApiCall {
    let mut scene = Scene::new(OBJECT, false);
    shake(&mut scene, turns, true, false);
    scene.take(object());
    scene.received("GET /users HTTP/1.1\r\nHost: api.hospital.example\r\n\r\n");
    scene.sent("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    scene.ended.pop().expect("a call")
}

#[test]
fn a_call_is_told_of_its_handshake() {
    let call = call(&tls12(None, false));
    let tls = call.tls.expect("a handshake");
    assert_eq!(tls.facts.version, "1.2");
    assert_eq!(tls.facts.cipher, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    assert_eq!(tls.facts.alpn, "http/1.1");
    assert_eq!(tls.facts.alpn_offered, ["h2", "http/1.1"]);
    assert_eq!(tls.facts.resumed, Some(false));
    assert_eq!(tls.facts.client_certificate_sight, Sight::NotAsked);
    // As the request's host is shown, which is not known here.
    assert!(tls.server_name.starts_with("host-") && tls.server_name == call.request.host);
    assert_eq!(
        call.raw.tls.map(|names| names.server_name.clone()).as_deref(),
        Some("api.hospital.example")
    );
    let certificate = tls.facts.certificate.as_ref().expect("a certificate");
    assert!(certificate.issuer.starts_with("h:") && certificate.subject == tls.server_name);
    assert!(certificate.names[1].starts_with("*.host-"));
    assert!(call.request.credentials.is_none());
}

#[test]
fn a_client_s_certificate_is_a_credential_and_names_nobody() {
    let (_, client, _) = certificates();
    let call = call(&tls12(Some(&client), true));
    let credentials = call.request.credentials.expect("credentials");
    assert!(credentials.client_certificate);
    assert_eq!(credentials.principal_kind, "certificate");
    let tls = call.tls.expect("a handshake");
    let certificate = tls.facts.client_certificate.as_ref().expect("a certificate");
    assert_eq!(credentials.principal.as_ref(), Some(&certificate.subject));
    assert!(!format!("{:?}", tls.facts).contains("Ada"));
}

#[test]
fn what_tls_1_3_encrypts_is_said_to_be_unknown() {
    let call = call(&tls13(true));
    let tls = call.tls.expect("a handshake");
    assert_eq!(tls.facts.version, "1.3");
    assert_eq!(tls.facts.certificate_sight, Sight::Encrypted);
    assert_eq!(tls.facts.client_certificate_sight, Sight::Encrypted);
    assert!(tls.facts.encrypted_hello && tls.facts.alpn.is_empty());
    assert!(tls.server_name.starts_with("host-") && tls.server_name != call.request.host);
}

#[test]
fn a_connection_without_a_handshake_has_no_facts_of_one() {
    assert!(call(&Turns::new()).tls.is_none());
}

#[test]
fn a_connection_that_nobody_reads_is_told_once() {
    let mut scene = Scene::new(FlowId::Socket(1), false);
    shake(&mut scene, &tls13(false), false, true);
    shake(&mut scene, &tls13(false), false, true);
    let blind = scene.calls.take_blind();
    assert_eq!(blind.len(), 1);
    assert_eq!(blind[0].names.server_name, "vendor.example");
    assert!(scene.calls.take_blind().is_empty());
    assert_eq!(scene.calls.stats().handshakes, 1);
}

#[test]
fn handshakes_are_forgotten_with_their_sockets_and_for_want_of_room() {
    let mut scene = Scene::new(OBJECT, false);
    shake(&mut scene, &tls13(false), true, false);
    scene.take(Captured::Closed {
        at: KernelTime(2),
        flow: FlowId::Socket(CARRIER),
        end: FlowEnd::default(),
    });
    scene.take(object());
    scene.received("GET /users HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.sent("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(scene.ended.pop().expect("a call").tls.is_none());
}
