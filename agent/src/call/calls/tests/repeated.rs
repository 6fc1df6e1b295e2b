//! Calls whose heads came before are told as those that did not.

use proptest::prelude::*;

use super::*;
use crate::call::redact::Earning;

/// All that a call tells of its request, but for times and ids.
fn facts(call: &ApiCall) -> String {
    let request = &call.request;
    let raw = &call.raw;
    format!(
        "{} {} {} {:?} {:?} {:?} {} {} {:?} {} {} {:?} {:?} {:?} {:?} {:?} {:?}",
        request.method,
        request.path,
        request.host,
        request.auth,
        request.credentials,
        request.trace_id,
        request.query_parameters,
        request.head_bytes,
        call.operation,
        call.ambiguous,
        describe(call),
        raw.target,
        raw.path,
        raw.query,
        raw.host,
        raw.request_headers,
        raw.response_headers,
    )
}

/// The calls of one connection that says the same several times, every other time in two pieces.
fn told(head: &str, answer: &str, times: usize, at: usize) -> Vec<String> {
    let mut scene = Scene::server();
    let (first, rest) = head.split_at(at.min(head.len()));
    for number in 0..times {
        match number % 2 {
            0 => scene.received(head),
            _ => scene.received(first).received(rest),
        };
        scene.sent(answer);
    }
    scene.close(false);
    scene.ended.iter().map(facts).collect()
}

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIiwiaXNzIjoiaHR0cHM6Ly9pZC5leGFtcGxlLm9yZyJ9.c2ln";

proptest! {
    #[test]
    fn the_same_head_tells_the_same(
        target in prop::sample::select(vec![
            "/fhir/Patient/1?_count=5", "/fhir/Observation?subject=Patient/7", "/", "*", "/zebra/quagga/5", "/a//b/%2e%2e/c",
            "http://other.example.org/x", "/studies/1.2.3/series", "/graphql?query={patient{id}}", "/fhir/metadata",
        ]),
        host in prop::sample::select(vec!["localhost", "records.example.org:8443", "10.0.0.1", "ward"]),
        fields in prop::sample::subsequence(vec![
            "Accept: application/fhir+json".to_owned(),
            format!("Authorization: Bearer {JWT}"),
            "Cookie: sid=1; theme=dark".to_owned(),
            "X-Api-Key: abc".to_owned(),
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            "Content-Length: 0".to_owned(),
            "Bad Name: 1".to_owned(),
            "X-Note: a\r\n folded".to_owned(),
            "Prefer: respond-async".to_owned(),
        ], 0..9),
        answer in prop::sample::select(vec![
            OK,
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nX-Progress: half\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 52\r\n\r\n{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"a\":\"b\"}",
        ]),
        at in 1..64_usize,
    ) {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let told = told(&head, answer, 6, at);
        for again in &told {
            prop_assert_eq!(again, &told[0]);
        }
    }
}

#[test]
fn what_many_have_asked_for_is_shown_in_repeated_heads_too() {
    let mut scene = Scene::with(
        FlowId::Socket(1),
        false,
        Options {
            earning: Earning {
                seen_min: 5,
                callers_min: 1,
                ..Earning::default()
            },
            ..options()
        },
    );
    for _ in 0..6 {
        scene
            .received("GET /zebra HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .sent(OK);
    }
    let told = scene.close(false);
    let paths: Vec<_> = told.lines().map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(paths[..4], [Some("/{name}"); 4]);
    assert_eq!(paths[5], Some("/zebra"));
}

#[test]
fn new_words_to_show_hold_for_repeated_heads_at_once() {
    let mut scene = Scene::server();
    let get = "GET /zebra HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..4 {
        scene.received(get).sent(OK);
    }
    scene.calls.set_literals(&["/zebra".to_owned()]);
    scene.received(get).sent(OK);
    scene.calls.set_literals(&[]);
    scene.received(get).sent(OK);
    let told = scene.close(false);
    let paths: Vec<_> = told.lines().map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(paths[3..], [Some("/{name}"), Some("/zebra"), Some("/{name}")]);
}
