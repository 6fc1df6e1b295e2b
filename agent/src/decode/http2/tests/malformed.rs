//! What RFC 9113 forbids, section by section, in the order and with the cases of h2spec's generic and HTTP/2 suites.

use super::*;

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(1, 5, 1, &block(&[GET, more].concat()))
}

/// A request's head, its stream left open.
fn open(stream: u32) -> Vec<u8> {
    frame(1, 4, stream, &block(GET))
}

fn whole(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &block(GET))
}

fn setting(name: u8, value: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&[0, name][..], &value.to_be_bytes()].concat())
}

const FRAME: &str = "!invalid-frame";
const STREAM: &str = "!invalid-stream";
const PSEUDO: &str = "!invalid-pseudo-header";

/// Name of the case, frames, what is told.
type Case = (&'static str, Vec<Vec<u8>>, &'static str);

fn of_frames() -> Vec<Case> {
    let get = block(GET);
    let trailers = block(&[("x-checksum", "1")]);
    vec![
        (
            "4.2 DATA is too long",
            vec![open(1), frame(0, 1, 1, &[b'x'; 16_385])],
            FRAME,
        ),
        (
            "4.2 HEADERS are too long",
            vec![frame(1, 5, 1, &[&get[..], &[0; 16_384]].concat())],
            FRAME,
        ),
        (
            "4.2 too long on stream 0",
            vec![frame(0x20, 0, 0, &[0; 16_385])],
            FRAME,
        ),
        (
            "4.3 a block that cannot be decoded",
            vec![frame(1, 5, 1, &[0xbf])],
            "!invalid-header-block",
        ),
        (
            "4.3 PRIORITY within a block",
            vec![frame(1, 1, 1, &get), frame(2, 0, 1, &[0, 0, 0, 0, 1])],
            FRAME,
        ),
        (
            "4.3 another stream's HEADERS within a block",
            vec![frame(1, 1, 1, &get), whole(3)],
            FRAME,
        ),
        ("5.1 idle: DATA", vec![frame(0, 1, 1, b"x")], STREAM),
        (
            "5.1 idle: RST_STREAM",
            vec![frame(3, 0, 1, &[0, 0, 0, 8])],
            STREAM,
        ),
        (
            "5.1 idle: WINDOW_UPDATE",
            vec![frame(8, 0, 1, &[0, 0, 0, 100])],
            STREAM,
        ),
        ("5.1 idle: CONTINUATION", vec![frame(9, 4, 1, &get)], FRAME),
        (
            "5.1 half closed: DATA",
            vec![whole(1), frame(0, 1, 1, b"x")],
            STREAM,
        ),
        ("5.1 half closed: HEADERS", vec![whole(1), whole(1)], STREAM),
        (
            "5.1 half closed: CONTINUATION",
            vec![whole(1), frame(9, 4, 1, &get)],
            FRAME,
        ),
        (
            "5.1 reset: DATA",
            vec![open(1), frame(3, 0, 1, &[0; 4]), frame(0, 1, 1, b"x")],
            STREAM,
        ),
        (
            "5.1 reset: HEADERS",
            vec![open(1), frame(3, 0, 1, &[0; 4]), whole(1)],
            STREAM,
        ),
        (
            "5.1 reset: CONTINUATION",
            vec![open(1), frame(3, 0, 1, &[0; 4]), frame(9, 4, 1, &get)],
            FRAME,
        ),
        (
            "5.1 ended: DATA",
            vec![open(1), frame(0, 1, 1, b"x"), frame(0, 1, 1, b"x")],
            STREAM,
        ),
        (
            "5.1 ended: HEADERS",
            vec![open(1), frame(0, 1, 1, b"x"), frame(1, 5, 1, &trailers)],
            STREAM,
        ),
        ("5.1.1 an even stream", vec![whole(2)], STREAM),
        ("5.1.1 a smaller stream", vec![whole(5), whole(3)], STREAM),
        (
            "5.5 an unknown frame within a block",
            vec![frame(1, 1, 1, &get), frame(0xff, 0, 0, b"x")],
            FRAME,
        ),
        ("6.1 DATA on stream 0", vec![frame(0, 0, 0, b"x")], FRAME),
        (
            "6.1 padding is too long",
            vec![open(1), frame(0, 8, 1, &[9, 1])],
            "1 !invalid-frame",
        ),
        (
            "6.1 padding without its length",
            vec![open(1), frame(0, 8, 1, &[])],
            FRAME,
        ),
        ("6.2 HEADERS on stream 0", vec![frame(1, 5, 0, &get)], FRAME),
        (
            "6.2 padding is too long",
            vec![frame(1, 0xd, 1, &[200, 0x82])],
            FRAME,
        ),
        ("6.2 priority is cut", vec![frame(1, 0x25, 1, &[0, 0, 0])], FRAME),
        (
            "6.3 PRIORITY on stream 0",
            vec![frame(2, 0, 0, &[0, 0, 0, 1, 1])],
            FRAME,
        ),
        (
            "6.3 PRIORITY of another length",
            vec![frame(2, 0, 1, &[0; 4])],
            FRAME,
        ),
        ("6.4 RST_STREAM on stream 0", vec![frame(3, 0, 0, &[0; 4])], FRAME),
        (
            "6.4 RST_STREAM of another length",
            vec![open(1), frame(3, 0, 1, &[0; 3])],
            FRAME,
        ),
        (
            "6.5 SETTINGS acknowledged with content",
            vec![frame(4, 1, 0, &[0; 6])],
            FRAME,
        ),
        ("6.5 SETTINGS on a stream", vec![frame(4, 0, 1, &[0; 6])], FRAME),
        (
            "6.5 SETTINGS of another length",
            vec![frame(4, 0, 0, &[0; 5])],
            FRAME,
        ),
        ("6.5.2 ENABLE_PUSH", vec![setting(2, 2)], FRAME),
        ("6.5.2 INITIAL_WINDOW_SIZE", vec![setting(4, 1 << 31)], FRAME),
        ("6.5.2 MAX_FRAME_SIZE too small", vec![setting(5, 16_383)], FRAME),
        ("6.5.2 MAX_FRAME_SIZE too large", vec![setting(5, 1 << 24)], FRAME),
        ("6.6 PUSH_PROMISE of a client", vec![frame(5, 4, 1, &get)], FRAME),
        ("6.7 PING on a stream", vec![frame(6, 0, 1, &[0; 8])], FRAME),
        ("6.7 PING of another length", vec![frame(6, 0, 0, &[0; 7])], FRAME),
        ("6.8 GOAWAY on a stream", vec![frame(7, 0, 1, &[0; 8])], FRAME),
        ("6.8 GOAWAY is cut", vec![frame(7, 0, 0, &[0; 7])], FRAME),
        (
            "6.9 a window that grows by nothing",
            vec![frame(8, 0, 0, &[0; 4])],
            FRAME,
        ),
        (
            "6.9 a stream's window that does",
            vec![open(1), frame(8, 0, 1, &[0x80, 0, 0, 0])],
            FRAME,
        ),
        (
            "6.9 WINDOW_UPDATE of another length",
            vec![frame(8, 0, 0, &[0; 3])],
            FRAME,
        ),
        (
            "6.9.1 a connection's window beyond all bounds",
            vec![frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]); 2],
            FRAME,
        ),
        (
            "6.9.1 a stream's",
            vec![
                open(1),
                frame(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff]),
                frame(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff]),
            ],
            FRAME,
        ),
        (
            "6.10 CONTINUATION, then another frame",
            vec![
                frame(1, 1, 1, &get[..9]),
                frame(9, 0, 1, &get[9..]),
                frame(0, 1, 1, b"x"),
            ],
            FRAME,
        ),
        (
            "6.10 CONTINUATION on stream 0",
            vec![frame(1, 1, 1, &get), frame(9, 4, 0, &[])],
            FRAME,
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![frame(1, 1, 1, &get), frame(9, 4, 3, &[])],
            FRAME,
        ),
        (
            "6.10 behind HEADERS that ended the block",
            vec![open(1), frame(9, 4, 1, &get)],
            FRAME,
        ),
        (
            "6.10 behind CONTINUATION that did",
            vec![
                frame(1, 0, 1, &get[..9]),
                frame(9, 4, 1, &get[9..]),
                frame(9, 4, 1, &[]),
            ],
            FRAME,
        ),
        (
            "6.10 behind DATA",
            vec![open(1), frame(0, 0, 1, b"x"), frame(9, 4, 1, &get)],
            FRAME,
        ),
    ]
}

fn of_messages() -> Vec<Case> {
    let get = |without: &str| -> Vec<u8> {
        let fields: Vec<_> = GET.iter().copied().filter(|(name, _)| *name != without).collect();
        frame(1, 5, 1, &block(&fields))
    };
    let path = |path: &'static str| {
        let fields = [(":method", "GET"), (":scheme", "https"), (":path", path)];
        frame(1, 5, 1, &block(&fields))
    };
    let trailers = |fields: &[(&str, &str)], flags| {
        vec![open(1), frame(0, 0, 1, b"x"), frame(1, flags, 1, &block(fields))]
    };
    vec![
        (
            "8.1 trailers that do not end it",
            trailers(&[("x-checksum", "1")], 4),
            "1 !invalid-stream",
        ),
        (
            "8.2.1 an upper-case name",
            vec![with(&[("Upper", "x")])],
            "!invalid-header-name",
        ),
        (
            "8.2.1 a name with a space",
            vec![with(&[("a b", "x")])],
            "!invalid-header-name",
        ),
        (
            "8.2.1 an empty name",
            vec![with(&[("", "x")])],
            "!invalid-header-name",
        ),
        (
            "8.2.1 a line end in a value",
            vec![with(&[("a", "x\r\nb: c")])],
            "!invalid-header-value",
        ),
        (
            "8.2.1 NUL in a value",
            vec![with(&[("a", "x\0y")])],
            "!invalid-header-value",
        ),
        (
            "8.2.1 space around a value",
            vec![with(&[("a", " x")])],
            "!invalid-header-value",
        ),
        (
            "8.2.2 connection",
            vec![with(&[("connection", "keep-alive")])],
            "!connection-field",
        ),
        (
            "8.2.2 transfer-encoding",
            vec![with(&[("transfer-encoding", "chunked")])],
            "!connection-field",
        ),
        (
            "8.2.2 upgrade",
            vec![with(&[("upgrade", "h2c")])],
            "!connection-field",
        ),
        (
            "8.2.2 te",
            vec![with(&[("te", "trailers, deflate")])],
            "!connection-field",
        ),
        ("8.3 an unknown one", vec![with(&[(":test", "ok")])], PSEUDO),
        ("8.3 one of an answer", vec![with(&[(":status", "200")])], PSEUDO),
        (
            "8.3 one behind a field",
            vec![with(&[(":authority", "b")])],
            PSEUDO,
        ),
        (
            "8.3 one in trailers",
            trailers(&[(":method", "GET")], 5),
            "1 !invalid-pseudo-header",
        ),
        ("8.3.1 an empty path", vec![path("")], "!invalid-target"),
        ("8.3.1 no path in a path", vec![path("x")], "!invalid-target"),
        ("8.3.1 no method", vec![get(":method")], PSEUDO),
        ("8.3.1 no scheme", vec![get(":scheme")], PSEUDO),
        ("8.3.1 no path", vec![get(":path")], PSEUDO),
        (
            "8.3.1 two methods",
            vec![frame(1, 5, 1, &block(&[&[(":method", "GET")], GET].concat()))],
            PSEUDO,
        ),
        (
            "8.3.1 two schemes",
            vec![frame(1, 5, 1, &block(&[&[(":scheme", "http")], GET].concat()))],
            PSEUDO,
        ),
        (
            "8.3.1 two paths",
            vec![frame(1, 5, 1, &block(&[&[(":path", "/b")], GET].concat()))],
            PSEUDO,
        ),
        (
            "8.3.1 two authorities",
            vec![frame(1, 5, 1, &block(&[&[(":authority", "b")], GET].concat()))],
            PSEUDO,
        ),
        (
            "8.3.1 two hosts",
            vec![with(&[("host", "b.example")])],
            "!duplicate-host",
        ),
        (
            "8.5 CONNECT with a path",
            vec![frame(
                1,
                4,
                1,
                &block(&[(":method", "CONNECT"), (":authority", "b:1"), (":path", "/")]),
            )],
            PSEUDO,
        ),
        (
            "8.1.1 less than the length says",
            vec![with(&[("content-length", "5")])],
            "!content-length-mismatch",
        ),
        (
            "8.1.1 more, in several frames",
            vec![
                frame(1, 4, 1, &block(&[GET, &[("content-length", "2")]].concat())),
                frame(0, 0, 1, b"a"),
                frame(0, 1, 1, b"bc"),
            ],
            "1 !content-length-mismatch",
        ),
        (
            "8.1.1 no number",
            vec![with(&[("content-length", "x")])],
            "!invalid-content-length",
        ),
    ]
}

#[test]
fn what_the_rfc_forbids_is_named_and_stalls_nothing() {
    let mut wrong = Vec::new();
    for (name, frames, named) in of_frames().into_iter().chain(of_messages()) {
        let all = [PREFACE.to_vec(), frames.concat()].concat();
        let next = whole(99);
        for size in [1, 7, usize::MAX] {
            let mut decoder = Decoder::new(Role::Requests);
            decoder.may_send(frame::FRAME_BYTES_DEFAULT);
            decoder.has_taken(Some(0));
            let pieces: Vec<&[u8]> = all.chunks(size.min(all.len())).collect();
            let told = told_by(&mut decoder, &pieces);
            if !told.contains(named) {
                wrong.push(format!("{name}: no {named} in {told}"));
            }
            // A receiver may go on; what comes next is read.
            let after = told_by(&mut decoder, &[&next]);
            if !after.contains("99 GET") {
                wrong.push(format!("{name}: stalls, {after}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told = told_by(&mut Decoder::new(Role::Requests), &[b"PRI * HTTP/2.0\r\n\r\nXX"]);
    assert!(told.contains(FRAME), "3.4: {told}");
}

/// h2spec's cases that a receiver has to take.
#[test]
fn what_is_allowed_is_not_named() {
    let get = block(GET);
    let priority = [&[0, 0, 0, 0, 15][..], &get].concat();
    for (name, frames) in [
        ("4.1 an unknown kind", vec![frame(0xf0, 0, 0, &[0; 8]), whole(1)]),
        ("4.1 unknown flags", vec![frame(6, 0x16, 0, &[0; 8]), whole(1)]),
        (
            "4.1 the reserved bit",
            vec![frame(6, 0, 1 << 31, &[0; 8]), whole(1)],
        ),
        ("4.2 the longest", vec![open(1), frame(0, 1, 1, &[b'x'; 16_384])]),
        (
            "5.1 of an open stream",
            vec![open(1), frame(8, 0, 1, &[0, 0, 0, 1]), frame(3, 0, 1, &[0; 4])],
        ),
        (
            "5.1 behind the end",
            vec![whole(1), frame(8, 0, 1, &[0, 0, 0, 1]), frame(3, 0, 1, &[0; 4])],
        ),
        (
            "5.3 priority",
            vec![frame(1, 0x25, 1, &priority), frame(2, 0, 3, &[0, 0, 0, 1, 1])],
        ),
        (
            "6.5 unknown settings",
            vec![setting(0xff, 1), frame(4, 1, 0, &[]), whole(1)],
        ),
        ("6.8 GOAWAY", vec![frame(7, 0, 0, &[0; 12])]),
        (
            "6.10 many",
            vec![
                frame(1, 1, 1, &get[..4]),
                frame(9, 0, 1, &get[4..9]),
                frame(9, 4, 1, &get[9..]),
            ],
        ),
        (
            "8.1 trailers",
            vec![
                open(1),
                frame(0, 0, 1, b"x"),
                frame(1, 5, 1, &block(&[("a", "b")])),
            ],
        ),
        (
            "8.5 CONNECT",
            vec![frame(
                1,
                4,
                1,
                &block(&[(":method", "CONNECT"), (":authority", "b:1")]),
            )],
        ),
    ] {
        let told = requests(&frames);
        assert!(!told.contains('!') && !told.contains("step"), "{name}: {told}");
    }
    // The largest window, and as much again once so much was sent.
    let mut decoder = Decoder::new(Role::Requests);
    decoder.has_taken(Some(0));
    let largest = frame(8, 0, 0, &[0x7f, 0xff, 0, 0]);
    let told = told_by(&mut decoder, &[PREFACE, &largest]);
    decoder.has_taken(Some(0x7fff_0000));
    let told = told + &told_by(&mut decoder, &[&largest]);
    assert!(!told.contains('!'), "{told}");
    // On the way when the other side gave the stream up.
    let mut decoder = Decoder::new(Role::Requests);
    told_by(&mut decoder, &[PREFACE, &open(1)]);
    decoder.forget(1);
    let told = told_by(&mut decoder, &[&frame(0, 1, 1, b"x")]);
    assert!(!told.contains('!'), "{told}");
    // A connection agrees on longer frames.
    let mut decoder = Decoder::new(Role::Requests);
    decoder.may_send(frame::FRAME_BYTES_DEFAULT);
    decoder.may_send(1 << 20);
    let told = told_by(
        &mut decoder,
        &[PREFACE, &open(1), &frame(0, 1, 1, &[b'x'; 20_000])],
    );
    assert!(!told.contains('!'), "{told}");
    // Stream 1 was a request of HTTP/1.
    let mut decoder = Decoder::new(Role::Requests);
    decoder.upgraded();
    let told = told_by(&mut decoder, &[PREFACE, &frame(8, 0, 1, &[0, 0, 0, 1])]);
    assert!(!told.contains('!'), "{told}");
}

#[test]
fn answers_have_their_own_rules() {
    let ok = |flags, stream| frame(1, flags, stream, &block(&[(":status", "200")]));
    for (frames, named) in [
        (vec![frame(0, 1, 1, b"x")], STREAM),
        (vec![ok(5, 1), frame(0, 1, 1, b"x")], STREAM),
        (vec![ok(5, 1), ok(5, 1)], STREAM),
        (
            vec![frame(1, 5, 1, &block(&[(":status", "2000")]))],
            "!invalid-status",
        ),
        (vec![frame(1, 5, 1, &block(&[("a", "b")]))], "!invalid-status"),
        (
            vec![frame(1, 5, 1, &block(&[(":status", "200"), (":path", "/")]))],
            PSEUDO,
        ),
        (
            vec![frame(5, 4, 1, &[&[0, 0, 0, 3][..], &block(GET)].concat())],
            STREAM,
        ),
        (vec![frame(5, 4, 1, &[0, 0])], FRAME),
        (
            vec![frame(5, 4, 0, &[&[0, 0, 0, 2][..], &block(GET)].concat())],
            FRAME,
        ),
    ] {
        let told = responses(&frames);
        assert!(told.contains(named), "{named} in {told}");
    }
    let told = responses(&[
        frame(3, 0, 7, &[0; 4]),
        frame(8, 0, 9, &[0, 0, 0, 1]),
        ok(5, 3),
        ok(5, 1),
    ]);
    assert!(!told.contains('!'), "{told}");
}
