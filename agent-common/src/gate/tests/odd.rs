//! What only some servers take for a request, and messages whose end nobody can tell.
//!
//! Lines and bodies that real servers were seen to accept.

use super::*;

#[test]
fn lines_that_only_some_servers_take_are_ambiguous() {
    for line in [
        " GET /x HTTP/1.1",
        "\tGET /x HTTP/1.1",
        "\0GET /x HTTP/1.1",
        "\0\0\0\0\0\0\0\0\0GET /x HTTP/1.1",
        "\u{16}\u{3}\u{1}GET /x HTTP/1.1",
        "\u{b}MSH|GET /x HTTP/1.1",
        "\u{feff}GET /x HTTP/1.1",
        "G(T /x HTTP/1.1",
        "\"GET\" /x HTTP/1.1",
        "GET: /x HTTP/1.1",
        "GET\u{c}/x\u{c}HTTP/1.1",
        "GET\r/x\rHTTP/1.1",
        "GET\u{1c}/x\u{1c}HTTP/1.1",
        "GET /x RTSP/1.0",
        "GET /x ICY/1.0",
        "CONNECT /x HTTP/1.1",
        "PRI * HTTP/2.0\r\n\r\nGET /x HTTP/1.1",
    ] {
        for end in ["\r\n\r\n", "\n\n", "\r\r\n\r\n", " \t\r\n\r\n"] {
            let text = format!("{line}{end}");
            let (end, scan) = outcome(text.as_bytes());
            let found = (end, scan.decision, scan.rule);
            assert_eq!(found, (state::DENIED, 2, 0), "{}", text.escape_debug());
        }
    }
    for end in ["\r\r\n", "\r\r\r\n", " \r\n", "\t\n", "\u{b}\r\n", " \r\r\n"] {
        let (end, scan) = outcome(format!("GET /x HTTP/1.1\r\nHost: x\r\n{end}").as_bytes());
        assert_eq!((end, scan.decision), (state::DENIED, 2));
    }
    for version in ["HTTP/1.01", "HTTP/1.10", "HTTP/01.1", "HTTP/1"] {
        let (end, scan) = outcome(format!("FROB /x {version}\r\n\r\n").as_bytes());
        assert_eq!((end, scan.decision), (state::DENIED, 2), "{version}");
    }
    // Blanks alone are passed over.
    for line in [" \r\n", "\t\n", "  \r\r\n"] {
        let (end, scan) = outcome(format!("{line}GET /admin HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!((end, scan.decision), (state::DENIED, 2), "{line:?}");
    }
    // A server may not have switched.
    let upgrade = "GET /y HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    for line in ["\0GET /x HTTP/1.1", "(GET /x HTTP/1.1"] {
        let (end, scan) = outcome(format!("{upgrade}{line}\r\n\r\n").as_bytes());
        assert_eq!((end, scan.decision), (state::DENIED, 2), "{line:?}");
    }
    // Any method, however long.
    let long = format!("{} /admin/x HTTP/1.1\r\n\r\n", "A".repeat(4_000));
    assert_eq!(once(&Small::new(), long.as_bytes()).0, state::DENIED);
    let long = format!("{} /admin/x HTTP/1.1\r\n\r\n", "A".repeat(40_000));
    assert_eq!(once(&Small::new(), long.as_bytes()).0, state::DENIED);
    // Nothing ends the first line.
    let long = format!("\u{b}{}", "a".repeat(40_000));
    assert_eq!(once(&Small::new(), long.as_bytes()).0, state::OPAQUE);
}

#[test]
fn what_cannot_be_followed_is_denied_where_the_policy_denies_what_is_ambiguous() {
    let chunks = |text: &str| format!("PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}");
    let both = "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n";
    // Of PUT no rule speaks.
    let by = |garbled| {
        move || {
            let mut tables = Small::new();
            tables.generation.any_method = Bits::NONE;
            tables.generation.garbled = garbled;
            tables
        }
    };
    for (text, lost) in [
        (chunks("0x5\r\nhello\r\n0\r\n\r\n"), true),
        (chunks(" 5\r\nhello\r\n0\r\n\r\n"), true),
        (chunks("5\nhello\r\n0\r\n\r\n"), true),
        (chunks("5 5\r\nhello"), true),
        (chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"), true),
        (chunks("5\r\nhelloGET"), true),
        (chunks("0\r\n \r\nGET"), true),
        (chunks("0\r\nA: b\r\n\r\n"), false),
        (chunks("100000005\r\nhello\r\n0\r\n\r\n"), true),
        (chunks(&format!("5;{}\r\n", "a".repeat(5_000))), true),
        (chunks("GET /x HTTP/1.1\r\n\r\n"), true),
        (format!("{both}0\r\n\r\n"), true),
        (format!("{}\x16\x03\x01", chunks("0\r\n\r\n")), true),
        (chunks("5 \t;a\r\nhello\r\n0 \r\n\r\n"), false),
        // Nothing follows that could be misread.
        (both.into(), false),
        (format!("{both}\r\n"), false),
    ] {
        let (end, scan) = once(&by(Bits::NONE)(), text.as_bytes());
        assert!(!lost || end == state::LOST, "{} {end}", text.escape_debug());
        assert_eq!(scan.decision, 0);
        let (end, scan) = once(&by(bits(&[0]))(), text.as_bytes());
        assert_eq!(end == state::DENIED, lost, "{} {end}", text.escape_debug());
        assert_eq!(scan.decision, if lost { 2 } else { 0 });
        if text.len() < 1_000 {
            outcome_by(by(bits(&[0])), text.as_bytes());
        }
    }
}

#[test]
fn a_head_that_the_connections_end_cuts_off_counts_as_whole() {
    for (text, denied) in [
        ("GET /x HTTP/1.1\r\n", true),
        ("GET /x HTTP/1.1\r\nHost: a", true),
        ("GET /x", true),
        ("GET /x HTTP/1.1\r\nHost: a\r\n\r", true),
        ("", false),
        // Other protocols, which may have no lines.
        ("\u{b}MSH|^~\\&|A|B\r\u{1c}\r", false),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}", false),
        ("\0\0\0\u{8}\u{4}\u{d2}\u{16}/", false),
        ("PING", false),
        ("GET", false),
        ("set key 0 0 5", false),
        ("PROXY TCP4 10.0.0.1", false),
        ("PRI * HTTP/2.0\r\n", false),
        (" GET /x HTTP/1.1", true),
        ("POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET /", false),
        ("POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", false),
    ] {
        let (tables, mut stream, mut scan) = (Small::new(), Stream::default(), Scan::default());
        run(&mut stream, text.as_bytes(), &tables, &mut scan);
        assert_eq!(scan.decision, 0, "{text:?}");
        assert_eq!(stream.cut_off(), denied, "{text:?}");
        (scan.at, scan.end) = (0, 0);
        run(&mut stream, b"", &tables, &mut scan);
        assert_eq!(stream.state == state::DENIED, denied, "{text:?} {scan:?}");
    }
}

#[test]
fn a_request_behind_lines_that_are_none_is_ambiguous() {
    let many = "x\r\n".repeat(80);
    for garbage in [
        "x\r\n",
        "x\n",
        "\0\0\n",
        "\0\0\0\0\n123456\r\n",
        "\u{16}\u{3}\u{1}\r\n",
        "a b c\r\n\r\nd\n",
        "GET\r\n",
        "\u{feff}\r\n",
        &many,
    ] {
        for (request, rule) in [
            ("GET /admin HTTP/1.1", 0),
            ("GET /x HTTP/1.1", 0),
            ("DELETE /x HTTP/1.1", 0),
        ] {
            let text = format!("{garbage}{request}\r\nHost: a\r\n\r\n");
            let (end, scan) = outcome(text.as_bytes());
            assert_eq!(
                (end, scan.decision, scan.rule, scan.ambiguous),
                (state::DENIED, 2, rule, 1),
                "{garbage:.9?}"
            );
        }
    }
    // What the rule asks for is asked for there too.
    let by_method = || {
        let mut tables = Small::new();
        tables.generation.stops = bits(&[1]);
        tables.generation.matters = bits(&[1]);
        tables.generation.ambiguous_deny = Bits::NONE;
        tables
    };
    for (text, denied) in [
        ("x\r\nDELETE /x HTTP/1.1\r\n\r\n", true),
        ("\0\nDELETE /x HTTP/1.1\r\n\r\n", true),
        ("\0DELETE /x HTTP/1.1\r\n\r\n", true),
        ("x\r\nGET /x HTTP/1.1\r\n\r\n", false),
    ] {
        let (end, _) = outcome_by(by_method, text.as_bytes());
        assert_eq!(end == state::DENIED, denied, "{text:?}");
    }
    // A handshake of TLS, and more than a few lines.
    let padding = "x\r\n".repeat(90);
    for garbage in ["\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}xx\n", &padding] {
        let text = format!("{garbage}GET /admin HTTP/1.1\r\n\r\n");
        let (end, scan) = once(&Small::new(), text.as_bytes());
        assert_eq!((end, scan.decision), (state::OPAQUE, 0), "{garbage:.9?}");
    }
    // Whatever a program says in lines of its own is no request.
    for text in [
        "xx\n",
        "FOO \n",
        "GET \n",
        "*2\r\n$3\r\nGET\r\n$10\r\nGET /api/x\r\n",
        "x\r\nGET key\r\n",
        "stats\r\nget /key\r\n",
        "x\r\nFROB / FTP/1.1\r\n",
    ] {
        let (end, scan) = outcome(text.as_bytes());
        assert_eq!((end, scan.decision), (state::BOUNDARY, 0), "{text:?}");
    }
    let long = format!("$20000\r\n{}\r\n", "f".repeat(20_000));
    assert_eq!(once(&Small::new(), long.as_bytes()).0, state::OPAQUE);
}
