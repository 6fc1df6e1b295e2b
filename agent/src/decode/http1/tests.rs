//! One direction, event by event.

use std::fmt::Write;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::decode::{KnownHeads, Limits, StartLine};

/// What a decoder says to a stream in pieces, as text; neighbouring body pieces are joined.
fn decode(role: Role, answer_to: AnswerTo, pieces: &[&[u8]], limits: &Limits) -> String {
    let mut decoder = Decoder::new(role, true);
    let mut heads = KnownHeads::default();
    let mut text = String::new();
    let mut body = Vec::new();
    let mut skipped = 0;
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        decoder.chunk(true);
        while let Some(event) = decoder.next(&mut input, answer_to, limits, &mut heads) {
            describe(event, &mut text, &mut body, &mut skipped);
        }
    }
    if let Some(event) = decoder.end() {
        describe(event, &mut text, &mut body, &mut skipped);
    }
    if skipped > 0 {
        let _ = writeln!(text, "skipped");
    }
    text
}

fn describe(event: Event, text: &mut String, body: &mut Vec<u8>, skipped: &mut u64) {
    if !body.is_empty() && !matches!(event, Event::Body(_)) {
        let _ = writeln!(text, "body {}", String::from_utf8_lossy(body));
        body.clear();
    }
    let _ = match event {
        Event::Head(head) => {
            let line = match head.line {
                StartLine::Request { method, target, .. } => {
                    format!(
                        "{} {}",
                        String::from_utf8_lossy(&method),
                        String::from_utf8_lossy(&target)
                    )
                }
                StartLine::Response { status } => status.to_string(),
            };
            let _ = write!(text, "{line} {:?}", head.framing);
            for anomaly in head.anomalies {
                let _ = write!(text, " !{}", anomaly.as_str());
            }
            writeln!(text)
        }
        Event::Body(bytes) => {
            body.extend_from_slice(&bytes);
            Ok(())
        }
        Event::Missed(bytes) => writeln!(text, "missed {bytes}"),
        Event::Anomaly(anomaly) => writeln!(text, "!{}", anomaly.as_str()),
        Event::End => writeln!(text, "end"),
        Event::Broken(why) => writeln!(text, "broken {why:?}"),
        Event::Skipped(bytes) => {
            *skipped += bytes;
            Ok(())
        }
    };
}

/// A head of one field beside `Host`, and what is made of it.
fn check_request(fields: &str, expected: &str) {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let told = decode(
        Role::Requests,
        AnswerTo::Ordinary,
        &[head.as_bytes()],
        &Limits::default(),
    );
    assert_eq!(
        told.lines().next(),
        Some(format!("POST / {expected}").as_str()),
        "{fields:?}"
    );
}

#[test]
fn framing_and_its_anomalies() {
    for (fields, expected) in [
        ("", "None"),
        ("Content-Length: 5\r\n", "Length(5)"),
        ("Content-Length: 0\r\n", "None"),
        ("Content-Length: 5, 5\r\n", "Length(5) !duplicate-content-length"),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Length(5) !duplicate-content-length",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Unknown !conflicting-content-length",
        ),
        ("Content-Length: +5\r\n", "Unknown !invalid-content-length"),
        ("Content-Length: \r\n", "Unknown !invalid-content-length"),
        (
            "Content-Length: 99999999999999999999\r\n",
            "Unknown !invalid-content-length",
        ),
        ("Transfer-Encoding: chunked\r\n", "Chunked"),
        ("Transfer-Encoding: gzip, chunked\r\n", "Chunked"),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Chunked !transfer-encoding-with-content-length",
        ),
        (
            "Transfer-Encoding: chunked, gzip\r\n",
            "Unknown !transfer-encoding-not-final-chunked",
        ),
        (
            "Transfer-Encoding: xchunked\r\n",
            "Unknown !unknown-transfer-encoding !transfer-encoding-not-final-chunked",
        ),
        ("Transfer-Encoding : chunked\r\n", "Chunked !space-before-colon"),
        (
            "A: b\r\n Transfer-Encoding: chunked\r\n",
            "None !obsolete-folding",
        ),
        ("A: b\nContent-Length: 3\r\n", "Length(3) !bare-line-feed"),
        ("A: b\rContent-Length: 3\r\n", "None !bare-carriage-return"),
        ("A: \0\r\n", "None !invalid-header-value"),
        ("A\u{1}: b\r\n", "None !invalid-header-name"),
        ("no colon\r\n", "None !invalid-header-name"),
        ("Host: b\r\n", "None !duplicate-host"),
    ] {
        check_request(fields, expected);
    }
    let told = decode(
        Role::Requests,
        AnswerTo::Ordinary,
        &[b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"],
        &Limits::default(),
    );
    assert!(
        told.starts_with("GET / Chunked !transfer-encoding-in-http10"),
        "{told}"
    );
}

#[test]
fn answers_end_by_what_they_answer() {
    for (answer_to, head, expected) in [
        (
            AnswerTo::Ordinary,
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
            "200 Length(5)",
        ),
        (AnswerTo::Head, "HTTP/1.1 200 OK\r\nContent-Length: 5", "200 None"),
        (
            AnswerTo::Ordinary,
            "HTTP/1.1 204 No\r\nContent-Length: 5",
            "204 None",
        ),
        (
            AnswerTo::Ordinary,
            "HTTP/1.1 304 No\r\nContent-Length: 5",
            "304 None",
        ),
        (AnswerTo::Ordinary, "HTTP/1.1 100 Continue", "100 None"),
        (AnswerTo::Ordinary, "HTTP/1.1 101 Switching", "101 Switched"),
        (
            AnswerTo::Connect,
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
            "200 Switched",
        ),
        (
            AnswerTo::Connect,
            "HTTP/1.1 407 No\r\nContent-Length: 5",
            "407 Length(5)",
        ),
        (AnswerTo::Ordinary, "HTTP/1.1 200 OK", "200 Close"),
        (
            AnswerTo::Ordinary,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
            "200 Close !transfer-encoding-not-final-chunked",
        ),
        (AnswerTo::Ordinary, "HTTP/1.1 20 OK", "0 Close !invalid-status"),
        (
            AnswerTo::Ordinary,
            "HTTP/1.9 200 OK",
            "200 Close !invalid-version",
        ),
    ] {
        let head = format!("{head}\r\n\r\n");
        let told = decode(Role::Responses, answer_to, &[head.as_bytes()], &Limits::default());
        assert_eq!(told.lines().next(), Some(expected), "{head:?}");
    }
}

#[test]
fn chunked_bodies() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, expected) in [
        ("3\r\nabc\r\n0\r\n\r\n", "body abc\nend\n"),
        ("003\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", "body abc\nend\n"),
        (
            "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "!chunk-extension\nbody abcde\nend\n",
        ),
        ("3\nabc\n0\n\n", "!bare-line-feed\nbody abc\nend\n"),
        ("3 \r\nabc\r\n0\r\n\r\n", "!invalid-chunk-size\nbody abc\nend\n"),
        ("x\r\nabc", "!invalid-chunk-size\nbroken Invalid\nskipped\n"),
        ("-3\r\nabc", "!invalid-chunk-size\nbroken Invalid\nskipped\n"),
        (
            "11111111111111111\r\nabc",
            "!invalid-chunk-size\nbroken Invalid\nskipped\n",
        ),
        (
            "3\r\nabcd\r\n0\r\n\r\n",
            "body abc\n!invalid-chunk-end\nbroken Invalid\nskipped\n",
        ),
        ("3\r\nab", "body ab\nbroken Ended\n"),
    ] {
        let stream = format!("{head}{body}");
        let told = decode(
            Role::Requests,
            AnswerTo::Ordinary,
            &[stream.as_bytes()],
            &Limits::default(),
        );
        assert_eq!(told, format!("POST / Chunked\n{expected}"), "{body:?}");
    }
}

#[test]
fn limits_are_named_and_the_stream_goes_on() {
    let limits = Limits {
        head_bytes_max: 64,
        headers_max: 2,
        ..Limits::default()
    };
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100));
    let next = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let told = decode(
        Role::Requests,
        AnswerTo::Ordinary,
        &[long.as_bytes(), next],
        &limits,
    );
    assert!(told.contains("!head-too-long"), "{told}");
    assert!(
        told.ends_with("broken Overtaken\nGET /next None\nend\n"),
        "{told}"
    );
    let many = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n";
    let told = decode(Role::Requests, AnswerTo::Ordinary, &[many], &limits);
    assert_eq!(told, "GET / None !too-many-headers\nend\n");
}

#[test]
fn a_gap_in_a_body_of_known_length_is_only_that() {
    let limits = Limits::default();
    let mut text = String::new();
    let (mut body, mut skipped) = (Vec::new(), 0);
    let mut decoder = Decoder::new(Role::Requests, true);
    let mut heads = KnownHeads::default();
    let mut feed = |decoder: &mut Decoder, bytes: &[u8], text: &mut String| {
        let mut input = Bytes::copy_from_slice(bytes);
        decoder.chunk(true);
        while let Some(event) = decoder.next(&mut input, AnswerTo::Ordinary, &limits, &mut heads) {
            describe(event, text, &mut body, &mut skipped);
        }
    };
    feed(
        &mut decoder,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab",
        &mut text,
    );
    let mut events = Vec::new();
    assert_eq!(
        decoder.gap(Some(5), &mut |event| events.push(event)),
        GapEffect::Within
    );
    assert!(events == [Event::Missed(5)]);
    feed(&mut decoder, b"cdeGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", &mut text);
    assert_eq!(text, "POST / Length(10)\nbody abcde\nend\nGET /2 None\nend\n");
    // In a head, or beyond the body's end, messages may be lost: it begins again where one plainly does.
    assert_eq!(decoder.gap(Some(1), &mut |_| {}), GapEffect::OutOfStep);
    text.clear();
    feed(&mut decoder, b"half a head\r\n\r\n", &mut text);
    feed(&mut decoder, b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n", &mut text);
    assert_eq!(text, "GET /3 None\nend\n");
}

#[test]
fn a_gap_over_chunk_sizes_costs_the_bytes_and_not_the_call() {
    let limits = Limits::default();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    for (rest, expected) in [
        (
            &["xyz\r\n0\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"][..],
            "missed 10\nend\n204 None\nend\n",
        ),
        (
            &["xyz\r\n", "0\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"],
            "missed 5\nmissed 5\nend\n204 None\nend\n",
        ),
        (
            &["xyz", "HTTP/1.1 204 No\r\n\r\n"],
            "missed 3\nend\n204 None\nend\n",
        ),
        (
            &["xyz\r\n0\r", "\n\r", "\n", "HTTP/1.1 204 No\r\n\r\n"],
            "missed 7\nmissed 2\nmissed 1\nend\n204 None\nend\n",
        ),
        // What was seen last is no end; what was not seen may have been.
        (&["xyz"], "missed 3\nbroken Ended\n"),
        (&[""], "broken Unseen\n"),
    ] {
        let mut text = String::new();
        let (mut body, mut skipped) = (Vec::new(), 0);
        let mut decoder = Decoder::new(Role::Responses, true);
        let mut heads = KnownHeads::default();
        for (index, piece) in [head].iter().chain(rest).enumerate() {
            if index == 1 {
                let effect = decoder.gap(Some(100), &mut |event| {
                    describe(event, &mut text, &mut body, &mut skipped)
                });
                assert_eq!(effect, GapEffect::Within);
            }
            let mut input = Bytes::copy_from_slice(piece.as_bytes());
            decoder.chunk(true);
            while let Some(event) = decoder.next(&mut input, AnswerTo::Ordinary, &limits, &mut heads) {
                describe(event, &mut text, &mut body, &mut skipped);
            }
        }
        if let Some(event) = decoder.end() {
            describe(event, &mut text, &mut body, &mut skipped);
        }
        assert_eq!(
            text,
            format!("200 Chunked\nbody ab\nmissed 100\n{expected}"),
            "{rest:?}"
        );
    }
}

#[test]
fn bodies_that_look_like_requests_are_bodies() {
    let inner = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        inner.len()
    );
    let told = decode(
        Role::Requests,
        AnswerTo::Ordinary,
        &[head.as_bytes(), inner.as_bytes()],
        &Limits::default(),
    );
    assert!(!told.contains("/evil None"), "{told}");
    // Nor out of step, where the other direction did not move in between.
    let mut decoder = Decoder::new(Role::Requests, false);
    let mut input = Bytes::copy_from_slice(inner.as_bytes());
    decoder.chunk(false);
    assert!(matches!(
        decoder.next(
            &mut input,
            AnswerTo::Ordinary,
            &Limits::default(),
            &mut KnownHeads::default()
        ),
        Some(Event::Skipped(_))
    ));
}

#[test]
fn a_head_byte_by_byte_is_looked_at_once() {
    // Would take minutes if every byte searched the head again.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(60_000));
    let pieces: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
    let told = decode(Role::Requests, AnswerTo::Ordinary, &pieces, &Limits::default());
    assert_eq!(told, "GET / None\nend\n");
}

#[test]
fn a_head_in_pieces_is_known_like_a_whole_one() {
    // Servers that read so many bytes first cut each longer head.
    let head = b"GET /a HTTP/1.1\r\nHost: b\r\nX-Id: 1\r\n\r\n";
    let (mut heads, limits) = (KnownHeads::default(), Limits::default());
    let mut decoder = Decoder::new(Role::Requests, true);
    let mut known = |at: usize| {
        let mut numbers = Vec::new();
        for piece in [&head[..at], &head[at..]] {
            let mut input = Bytes::copy_from_slice(piece);
            decoder.chunk(true);
            while let Some(event) = decoder.next(&mut input, AnswerTo::Ordinary, &limits, &mut heads) {
                if let Event::Head(head) = event {
                    numbers.push(head.known);
                }
            }
        }
        assert_eq!(numbers.len(), 1);
        numbers[0]
    };
    assert_eq!(known(20), 0);
    let number = known(10);
    assert_ne!(number, 0);
    assert_eq!([known(0), known(30)], [number; 2]);
}

fn message() -> impl Strategy<Value = String> {
    let fields = prop_oneof![
        Just(String::new()),
        Just("Connection: keep-alive\r\n".to_owned()),
        "[a-z]{1,8}".prop_map(|value| format!("X-{value}: {value}\r\n")),
    ];
    let body = prop_oneof![
        Just("\r\n".to_owned()),
        "[a-zA-Z0-9 \r\n/]{0,60}".prop_map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len())),
        proptest::collection::vec("[a-zA-Z0-9 \r\n/]{1,30}", 0..4).prop_map(|chunks| {
            let mut text = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in chunks {
                text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            }
            text + "0\r\n\r\n"
        }),
    ];
    (fields, body).prop_map(|(fields, body)| format!("{fields}{body}"))
}

proptest! {
    /// However a stream is cut into pieces, the messages are the same.
    #[test]
    fn any_pieces_give_the_same_messages(
        messages in proptest::collection::vec(message(), 1..5),
        responses in any::<bool>(),
        cuts in proptest::collection::vec(1usize..50, 0..40),
    ) {
        let (role, first) = match responses {
            true => (Role::Responses, "HTTP/1.1 200 OK\r\n"),
            false => (Role::Requests, "POST /x HTTP/1.1\r\nHost: a\r\n"),
        };
        let stream: String = messages.iter().map(|message| format!("{first}{message}")).collect();
        let whole = decode(role, AnswerTo::Ordinary, &[stream.as_bytes()], &Limits::default());
        let mut pieces = Vec::new();
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (piece, later) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        pieces.push(rest);
        let pieces = decode(role, AnswerTo::Ordinary, &pieces, &Limits::default());
        prop_assert_eq!(whole, pieces);
    }

    /// Hostile bytes in any pieces: no panic, and every byte of input is used.
    #[test]
    fn any_bytes_are_survived(
        stream in proptest::collection::vec(any::<u8>(), 0..300),
        response in any::<bool>(),
    ) {
        let role = if response { Role::Responses } else { Role::Requests };
        let mut bytes = if response { b"HTTP/1.1 200 OK\r\n".to_vec() } else { b"GET / HTTP/1.1\r\n".to_vec() };
        bytes.extend(stream);
        decode(role, AnswerTo::Ordinary, &[&bytes], &Limits::default());
    }
}

#[test]
fn a_request_behind_what_cannot_be_followed_is_seen() {
    const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let limits = Limits::default();
    let seen = |text: &str| decode(Role::Requests, AnswerTo::Ordinary, &[text.as_bytes()], &limits);
    for lines in [
        " 5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\rb\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(5_000)),
        String::new(),
    ] {
        let text = seen(&format!("{chunked}{lines}{HIDDEN}"));
        assert!(text.contains("GET /hidden"), "{lines:.20}: {text}");
    }
    let text = seen(&format!("GET /a HTTP/1.1\r\n\r\nwhat\r\n{HIDDEN}"));
    assert!(text.contains("GET /hidden"), "{text}");
    // A body that is followed hides nothing.
    let text = seen(&format!("{chunked}{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()));
    assert!(!text.contains("\nGET /hidden"), "{text}");
}

#[test]
fn whatever_some_server_splits_a_request_line_at_splits_it() {
    for (line, expected) in [
        ("GET /a HTTP/1.1", "GET /a None"),
        ("GET\t/a HTTP/1.1", "GET /a None !invalid-method"),
        ("GET /a\tHTTP/1.1", "GET /a None !invalid-target"),
        (
            "GET\x0b/a\x0cHTTP/1.1",
            "GET /a None !invalid-method !invalid-target",
        ),
        ("\tGET /a HTTP/1.1", "GET /a None !invalid-method"),
        (
            "GET\x1c/a\x1fHTTP/1.1 ",
            "GET /a None !invalid-method !invalid-target !invalid-version",
        ),
        ("GET /a b HTTP/1.1", "GET /a b None !invalid-target"),
    ] {
        let head = format!("{line}\r\nHost: x\r\n\r\n");
        let told = decode(
            Role::Requests,
            AnswerTo::Ordinary,
            &[head.as_bytes()],
            &Limits::default(),
        );
        assert_eq!(told.lines().next(), Some(expected), "{line:?}");
    }
}
