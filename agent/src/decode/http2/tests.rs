//! Frames of all kinds, cut anywhere, joined in the middle, malformed.

mod cut;
mod malformed;

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that touch no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/fhir/Patient/1"),
    ("accept", "*/*"),
];

fn describe(told: Told, text: &mut String) {
    let fields = |fields: &[(Bytes, Bytes)]| {
        fields
            .iter()
            .map(|(name, value)| format!(" {}={}", name.escape_ascii(), value.escape_ascii()))
            .collect::<String>()
    };
    let line = |head: &Head| match &head.line {
        StartLine::Request { method, target, .. } => {
            format!("{} {}", method.escape_ascii(), target.escape_ascii())
        }
        StartLine::Response { status } => status.to_string(),
    };
    let odd = |head: &Head| {
        let names: Vec<_> = head.anomalies.iter().map(|anomaly| anomaly.as_str()).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" !{}", names.join(","))
        }
    };
    let _ = match told {
        Told::Head { stream, head, .. } => {
            writeln!(
                text,
                "{stream} {}{}{}",
                line(&head),
                fields(&head.headers),
                odd(&head)
            )
        }
        Told::Promise { stream, head, .. } => {
            writeln!(text, "{stream} promise {}{}", line(&head), odd(&head))
        }
        Told::Of { stream, event } => match event {
            Event::Body(bytes) => writeln!(text, "{stream} body {}", bytes.escape_ascii()),
            Event::Missed(bytes) => writeln!(text, "{stream} missed {bytes}"),
            Event::Anomaly(anomaly) => writeln!(text, "{stream} !{}", anomaly.as_str()),
            Event::End => writeln!(text, "{stream} end"),
            Event::Broken(_) => writeln!(text, "{stream} broken"),
            Event::Head(_) | Event::Skipped(_) => writeln!(text, "{stream} ?"),
        },
        Told::Trailers { stream, fields: list } => writeln!(text, "{stream} trailers{}", fields(&list)),
        Told::Reset { stream } => writeln!(text, "{stream} reset"),
        Told::GoAway { last } => writeln!(text, "goaway {last}"),
        Told::Anomaly(anomaly) => writeln!(text, "!{}", anomaly.as_str()),
        Told::Skipped(bytes) => writeln!(text, "skipped {bytes}"),
        Told::OutOfStep => writeln!(text, "out of step"),
        Told::Settings { .. } => Ok(()),
    };
}

/// Bodies of one stream that follow each other are one.
fn joined(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some((stream, rest)) = line.split_once(" body ")
            && let Some(last) = lines.last_mut()
            && last.starts_with(&format!("{stream} body "))
        {
            last.push_str(rest);
            continue;
        }
        lines.push(line.to_owned());
    }
    lines.join("\n")
}

fn told_by(decoder: &mut Decoder, pieces: &[&[u8]]) -> String {
    let mut text = String::new();
    let mut position = 0;
    for piece in pieces {
        decoder.take(
            Bytes::copy_from_slice(piece),
            position,
            &Limits::default(),
            &mut |told| describe(told, &mut text),
        );
        position += piece.len() as u64;
    }
    joined(&text)
}

fn requests(frames: &[Vec<u8>]) -> String {
    told_by(&mut Decoder::new(Role::Requests), &[PREFACE, &frames.concat()])
}

fn responses(frames: &[Vec<u8>]) -> String {
    told_by(&mut Decoder::new(Role::Responses), &[&frames.concat()])
}

const HEAD: &str = "GET /fhir/Patient/1 host=a.example accept=*/*";

#[test]
fn frames_of_all_kinds() {
    let get = block(GET);
    let (first, second) = get.split_at(10);
    let padded: Vec<u8> = [&[3u8][..], &[0, 0, 0, 0, 9], &get, &[0; 3]].concat();
    for (frames, expected) in [
        (
            vec![frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(1, 5, 1, &get)],
            format!("1 {HEAD}\n1 end"),
        ),
        (vec![frame(1, 0x2d, 1, &padded)], format!("1 {HEAD}\n1 end")),
        (
            vec![frame(1, 1, 1, first), frame(9, 0, 1, &[]), frame(9, 4, 1, second)],
            format!("1 {HEAD}\n1 end"),
        ),
        (
            vec![
                frame(1, 4, 1, &get),
                frame(1, 5, 3, &get),
                frame(0, 8, 1, b"\x02abc\0\0"),
                frame(6, 0, 0, &[0; 8]),
                frame(8, 0, 0, &[0, 0, 1, 0]),
                frame(0xfa, 0xff, 7, b"unknown"),
                frame(2, 0, 1, &[0; 5]),
                frame(0, 1, 1, b"def"),
            ],
            format!("1 {HEAD}\n3 {HEAD}\n3 end\n1 body abcdef\n1 end"),
        ),
        (
            vec![
                frame(1, 4, 1, &get),
                frame(3, 0, 1, &[0, 0, 0, 8]),
                frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'x']),
            ],
            format!("1 {HEAD}\n1 reset\ngoaway 1"),
        ),
        (
            vec![
                frame(1, 4, 1, &get),
                frame(0, 0, 1, b"x"),
                frame(1, 5, 1, &block(&[("checksum", "1")])),
            ],
            format!("1 {HEAD}\n1 body x\n1 trailers checksum=1\n1 end"),
        ),
        (
            vec![frame(1, 4, 1, &get), frame(0, 9, 1, b"\0")],
            format!("1 {HEAD}\n1 end"),
        ),
    ] {
        assert_eq!(requests(&frames), expected);
    }
    let ok = block(&[(":status", "200"), ("grpc-encoding", "gzip")]);
    for (frames, expected) in [
        (
            vec![
                frame(1, 4, 1, &block(&[(":status", "103")])),
                frame(1, 4, 1, &ok),
                frame(0, 0, 1, b"x"),
                frame(1, 5, 1, &block(&[("grpc-status", "0")])),
            ],
            "1 103\n1 200 grpc-encoding=gzip\n1 body x\n1 trailers grpc-status=0\n1 end",
        ),
        (
            vec![
                frame(5, 4, 1, &[&[0, 0, 0, 2][..], &get].concat()),
                frame(1, 5, 2, &ok),
            ],
            "2 promise GET /fhir/Patient/1\n2 200 grpc-encoding=gzip\n2 end",
        ),
    ] {
        assert_eq!(responses(&frames), expected);
    }
}

#[test]
fn a_head_without_end_is_bounded() {
    let mut decoder = Decoder::new(Role::Requests);
    let mut text = told_by(&mut decoder, &[PREFACE, &frame(1, 1, 1, &block(GET))]);
    for _ in 0..BLOCK_FRAMES_MAX {
        text += &told_by(&mut decoder, &[&frame(9, 0, 1, &block(&[("a", "b"); 50]))]);
        assert!(decoder.held_bytes() < 80 * 1024);
    }
    assert!(text.contains("!head-too-long"), "{text}");
}

#[test]
fn one_that_is_joined_late_finds_its_frames() {
    let get = frame(1, 5, 7, &block(GET));
    let post = frame(1, 4, 9, &block(GET));
    let tail = [
        b"the end of a body".to_vec(),
        get.clone(),
        post,
        frame(0, 1, 9, b"x"),
    ]
    .concat();
    let told = told_by(&mut Decoder::late(Role::Requests, false), &[&tail]);
    assert_eq!(
        told,
        format!("skipped 17\n7 {HEAD}\n7 end\n9 {HEAD}\n9 body x\n9 end")
    );
    assert_eq!(
        Decoder::joins(&tail, &Limits::default()),
        Some(Some(Role::Requests))
    );
    assert_eq!(
        Decoder::joins(b"{\"resourceType\": \"Patient\"}", &Limits::default()),
        None
    );
    // An indexed field whose entry was made before.
    let unknown = [
        frame(1, 5, 7, &[0x82, 0xbe, 0x84, 0x87]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
    ]
    .concat();
    let told = told_by(&mut Decoder::late(Role::Requests, true), &[&unknown]);
    assert_eq!(told, "7 GET / !unknown-fields\n7 end");
    let nothing = [frame(1, 5, 7, &[0xc0, 0xbe]), frame(8, 0, 0, &[0, 0, 1, 0])].concat();
    let told = told_by(&mut Decoder::late(Role::Requests, true), &[&nothing]);
    assert_eq!(told, "7   !unknown-fields\n7 end");
}

#[test]
fn a_gap_in_a_body_is_no_loss_of_step() {
    let mut decoder = Decoder::new(Role::Responses);
    let data = frame(0, 1, 1, b"0123456789");
    let mut text = told_by(
        &mut decoder,
        &[&frame(1, 4, 1, &block(&[(":status", "200")])), &data[..12]],
    );
    let mut told = |told: Told| describe(told, &mut text);
    assert_eq!(decoder.gap(Some(7), &mut told), GapEffect::Within);
    assert!(text.ends_with("1 body 0121 missed 7\n1 end\n"), "{text}");
    let mut out = String::new();
    let mut told = |told: Told| describe(told, &mut out);
    assert_eq!(decoder.gap(Some(7), &mut told), GapEffect::OutOfStep);
    assert!(decoder.is_out_of_step());
}

fn conversation() -> Vec<u8> {
    let get = block(GET);
    [
        PREFACE.to_vec(),
        frame(4, 0, 0, &[0; 6]),
        frame(1, 4, 1, &get),
        frame(1, 0xd, 3, &[&[4u8][..], &get, &[0; 4]].concat()),
        frame(0, 8, 1, &[&[5u8][..], b"hello", &[0; 5]].concat()),
        frame(1, 0, 5, &get[..20]),
        frame(9, 4, 5, &get[20..]),
        frame(0, 1, 1, b"world"),
        frame(3, 0, 5, &[0; 4]),
    ]
    .concat()
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(0usize..400, 0..20)) {
        let bytes = conversation();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.retain(|piece| !piece.is_empty());
        let whole = told_by(&mut Decoder::new(Role::Requests), &[&bytes]);
        prop_assert!(whole.contains("1 body helloworld") || whole.contains("1 body hello\n"));
        let cut = told_by(&mut Decoder::new(Role::Requests), &pieces);
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn nothing_breaks_it(
        mut bytes in Just(conversation()),
        changes in prop::collection::vec((0usize..300, any::<u8>()), 0..12),
        gaps in prop::collection::vec(prop::option::of(0u64..100), 0..4),
        late: bool,
    ) {
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mut decoder = if late { Decoder::late(Role::Requests, true) } else { Decoder::new(Role::Requests) };
        let mut text = String::new();
        for (index, piece) in bytes.chunks(37).enumerate() {
            decoder.take(Bytes::copy_from_slice(piece), 0, &Limits::default(), &mut |told| describe(told, &mut text));
            if let Some(gap) = gaps.get(index) {
                decoder.gap(*gap, &mut |told| describe(told, &mut text));
            }
            prop_assert!(decoder.held_bytes() < 200_000);
        }
    }
}
