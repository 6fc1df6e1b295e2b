//! Ranges cut out of connections whose header blocks other encoders wrote: what is told after that is what would have been
//! told without the cut, or less, and never something else.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Connections of requests, one for each story of `tests/corpus/hpack`: heads, bodies with whatever is in them, and what a
/// connection says of itself.
fn connections() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/hpack");
    let files = |folder: &Path| -> Vec<std::path::PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths
    };
    let hex = |text: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    };
    let mut connections = Vec::new();
    for path in files(&corpus).iter().flat_map(|folder| files(folder)) {
        let text = std::fs::read_to_string(&path).expect("readable");
        let story: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut bytes = [PREFACE.to_vec(), frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])].concat();
        for (index, case) in story["cases"].as_array().expect("cases").iter().enumerate() {
            let stream = index as u32 * 2 + 1;
            let wire = hex(case["wire"].as_str().expect("wire"));
            let has_body = index % 3 == 1;
            let flags = if has_body { 4 } else { 5 };
            if wire.len() > 40 && index % 4 == 2 {
                bytes.extend(frame(1, flags & 1, stream, &wire[..30]));
                bytes.extend(frame(9, 4, stream, &wire[30..]));
            } else {
                bytes.extend(frame(1, flags, stream, &wire));
            }
            if has_body {
                // Numbers as binary formats write them, text, and rows of zeros.
                let numbers = (0u32..200).flat_map(|number| (number * 7).to_be_bytes());
                let small = (0u32..200).flat_map(|number| (number % 9).to_le_bytes());
                let body: Vec<u8> = match index % 9 {
                    1 => numbers.collect(),
                    4 => small.chain([0; 300]).collect(),
                    _ => br#"{"resourceType":"Patient","name":[{"family":"Okonkwo"}]}"#.repeat(20),
                };
                let half = body.len() / 2;
                bytes.extend(frame(0, 0, stream, &body[..half]));
                bytes.extend(frame(8, 0, 0, &[0, 0, 4, 0]));
                bytes.extend(frame(0, 1, stream, &body[half..]));
            }
            if index % 5 == 0 {
                bytes.extend(frame(6, 0, 0, b"measured"));
            }
        }
        connections.push(bytes);
    }
    assert!(connections.len() >= 9, "the corpus is whole");
    connections
}

/// What is told of a stream's head.
#[derive(Clone)]
struct Seen {
    position: u64,
    line: (Vec<u8>, Vec<u8>),
    fields: Vec<(Bytes, Bytes)>,
    whole: bool,
}

fn heads(
    decoder: &mut Decoder,
    pieces: &[(u64, &[u8])],
    gap: Option<(usize, Option<u64>)>,
) -> BTreeMap<u32, Seen> {
    let mut heads = BTreeMap::new();
    let mut out = |told: Told| {
        if let Told::Head {
            stream,
            head,
            position,
            ..
        } = told
        {
            let StartLine::Request { method, target, .. } = &head.line else {
                return;
            };
            heads.insert(
                stream,
                Seen {
                    position,
                    line: (method.to_vec(), target.to_vec()),
                    whole: head.unknown_fields == 0,
                    fields: head.headers.to_vec(),
                },
            );
        }
    };
    for (index, (position, piece)) in pieces.iter().enumerate() {
        if let Some((at, bytes)) = gap
            && at == index
        {
            decoder.gap(bytes, &mut out);
        }
        decoder.take(
            Bytes::copy_from_slice(piece),
            *position,
            &Limits::default(),
            &mut out,
        );
    }
    heads
}

static CONNECTIONS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(connections);

fn in_pieces(bytes: &[u8], from: usize, size: usize) -> Vec<(u64, &[u8])> {
    let pieces = bytes.chunks(size).enumerate();
    pieces
        .map(|(index, piece)| ((from + index * size) as u64, piece))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_follows_a_cut_is_never_wrong(
        which in 0usize..9,
        from in 0f64..1.0,
        length in 1usize..6000,
        size in prop::sample::select(vec![60usize, 333, 1448, 4096, 100_000]),
        known: bool,
    ) {
        let bytes = &CONNECTIONS[which];
        let from = ((bytes.len() as f64 * from) as usize).clamp(PREFACE.len(), bytes.len() - 1);
        let to = (from + length).min(bytes.len());
        let whole = heads(&mut Decoder::new(Role::Requests), &in_pieces(bytes, 0, 100_000), None);
        let mut pieces = in_pieces(&bytes[..from], 0, size);
        let at = pieces.len();
        pieces.extend(in_pieces(&bytes[to..], to, size));
        let gap = known.then_some((to - from) as u64);
        let mut decoder = Decoder::new(Role::Requests);
        let told = heads(&mut decoder, &pieces, Some((at, gap)));
        for (stream, head) in &told {
            let Some(right) = whole.get(stream) else {
                prop_assert!(false, "stream {stream} never was");
                continue;
            };
            let same = |told: &[u8], right: &[u8]| told.is_empty() || told == right;
            prop_assert!(same(&head.line.0, &right.line.0) && same(&head.line.1, &right.line.1), "stream {stream}");
            prop_assert!(!head.whole || head.line == right.line);
            for (name, value) in &head.fields {
                let is_there = right.fields.iter().any(|(known, other)| known == name && other == value);
                // Crumbs of a cookie of which some are unknown.
                let is_part = name.as_ref() == b"cookie" && !head.whole;
                prop_assert!(is_there || is_part, "stream {stream}: {name:?}");
            }
        }
        // Frames are found again soon: whatever begins well behind the cut is told. In pieces that hold no two frames, headers
        // may be cut again and again.
        let slack = 4 * size.clamp(600, 4096) as u64;
        for (stream, right) in whole.iter().filter(|_| size >= 1448) {
            if right.position >= to as u64 + slack {
                prop_assert!(told.contains_key(stream), "stream {stream} at {} of {}", right.position, bytes.len());
            }
        }
    }
}

/// A head whose block is literals alone is told whole after a loss, also on a stream that was not seen before.
#[test]
fn literals_are_told_after_a_loss() {
    let mut decoder = Decoder::new(Role::Requests);
    let first = [PREFACE.to_vec(), frame(1, 5, 1, &block(GET))].concat();
    assert!(told_by(&mut decoder, &[&first]).ends_with("1 end"));
    let mut out = |_: Told| {};
    decoder.gap(Some(500), &mut out);
    let told = told_by(&mut decoder, &[&frame(1, 5, 21, &block(GET))]);
    assert_eq!(told, format!("21 {HEAD}\n21 end"));
    // Lost within a block: where the next frame begins is known, so that nothing has to be found.
    let head = frame(1, 5, 23, &block(GET));
    told_by(&mut decoder, &[&head[..20]]);
    decoder.gap(Some(30), &mut |_| {});
    let rest = [&head[50..], &frame(1, 5, 25, &block(GET))].concat();
    let told = told_by(&mut decoder, &[&rest]);
    assert_eq!(told, format!("25 {HEAD}\n25 end"));
}

#[test]
fn what_was_no_frame_is_left_again() {
    // A body that looks like frames at the beginning of a piece, and goes on as none.
    let lie = [frame(8, 0, 0, &[0, 0, 0, 1]), frame(6, 0, 0, &[0; 8])]
        .concat()
        .repeat(2);
    let body = [lie, b"and then text, and text, and text".to_vec()].concat();
    let told = told_by(
        &mut Decoder::late(Role::Requests, true),
        &[&body, &frame(1, 5, 7, &block(GET))],
    );
    assert!(
        told.contains("out of step") && told.ends_with(&format!("7 {HEAD}\n7 end")),
        "{told}"
    );
    // A chain that no piece holds whole.
    let long = frame(0, 1, 5, &[b'x'; 3000]);
    let all = [
        b"tail".to_vec(),
        long,
        frame(8, 0, 0, &[0, 0, 0, 1]),
        frame(1, 5, 7, &block(GET)),
        b"\0\0".to_vec(),
    ]
    .concat();
    let mut decoder = Decoder::late(Role::Requests, true);
    let (first, second) = all.split_at(1500);
    let mut text = String::new();
    decoder.take(
        Bytes::copy_from_slice(first),
        0,
        &Limits::default(),
        &mut |told| describe(told, &mut text),
    );
    decoder.take(
        Bytes::copy_from_slice(second),
        1500,
        &Limits::default(),
        &mut |told| describe(told, &mut text),
    );
    assert!(text.ends_with(&format!("7 {HEAD}\n7 end\n")), "{text}");
}
