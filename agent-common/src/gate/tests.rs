//! Heads and bodies by hand; how the gate agrees with the agent is tested where policies are compiled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::vec::Vec;
use std::{format, vec};

use super::segments::{BACKLOG_NS, GateFlow, PLANS_MAX, Plan, on_segment, scanned};
use super::*;

mod generations;
mod odd;
mod wire;

/// Tables over collections. Rule 0 denies `/admin/**`, rule 1 denies DELETE, rule 2 allows at most one call to `/rated`
/// and denies more.
struct Small {
    generation: Generation,
    edges: HashMap<EdgeKey, u32>,
    nodes: Vec<Node>,
    methods: HashMap<MethodKey, Method>,
    charges: RefCell<u32>,
}

fn bits(rules: &[u32]) -> Bits {
    let mut bits = Bits::NONE;
    rules.iter().for_each(|rule| bits.insert(*rule));
    bits
}

impl Small {
    fn new() -> Small {
        let hash = Hash {
            start: 11,
            low: 22,
            high: 33,
        };
        let mut auth = [Bits::ALL; 16];
        auth[0] = Bits::ALL;
        let generation = Generation {
            number: 7,
            route_root: 0,
            host_root: NO_NODE,
            hash,
            inbound: Bits::ALL,
            outbound: Bits::ALL,
            any_peer: Bits::ALL,
            any_workload: Bits::ALL,
            any_method: bits(&[0, 2]),
            any_route: bits(&[1]),
            any_host: Bits::ALL,
            ambiguous_deny: bits(&[0]),
            stops: bits(&[0, 1, 2]),
            matters: bits(&[0, 1, 2]),
            rated: bits(&[2]),
            auth,
            ..Generation::default()
        };
        let node = |other, flags, ends: &[u32], reach: &[u32]| Node {
            other,
            flags,
            ends: bits(ends),
            reach: bits(reach),
        };
        let edge = |segment: &[u8]| EdgeKey {
            generation: 7,
            node: 0,
            hash: hash.of(segment),
        };
        let method = |name: &[u8], rules: &[u32]| {
            let key = MethodKey {
                hash: hash.of(name),
                generation: 7,
                reserved: 0,
            };
            let flags = method::REGISTERED;
            (
                key,
                Method {
                    bits: bits(rules),
                    flags,
                },
            )
        };
        Small {
            generation,
            edges: [(edge(b"admin"), 1), (edge(b"rated"), 2)].into(),
            nodes: vec![
                node(NO_NODE, node::LITERALS, &[1], &[0, 1, 2]),
                node(1, 0, &[0, 1], &[0, 1]),
                node(NO_NODE, 0, &[1, 2], &[1, 2]),
            ],
            methods: [
                method(b"get", &[0, 2]),
                method(b"post", &[0, 2]),
                method(b"delete", &[0, 1, 2]),
            ]
            .into(),
            charges: RefCell::new(0),
        }
    }
}

impl Tables for Small {
    fn active(&self) -> u32 {
        self.generation.number
    }
    fn generation(&self, number: u32) -> Option<&Generation> {
        (number == self.generation.number).then_some(&self.generation)
    }
    fn edge(&self, key: &EdgeKey) -> Option<u32> {
        self.edges.get(key).copied()
    }
    fn node(&self, _: u32, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }
    fn method(&self, key: &MethodKey) -> Option<&Method> {
        self.methods.get(key)
    }
    fn peer(&self, _: &PeerKey) -> Option<&Bits> {
        None
    }
    fn workload(&self, _: u32, _: u32) -> Option<&Workload> {
        const ALL: &Workload = &Workload {
            bits: Bits::ALL,
            rate_key: 0,
        };
        Some(ALL)
    }
    fn charge(&self, _: &RateKey) -> Charge {
        *self.charges.borrow_mut() += 1;
        if *self.charges.borrow() > 1 {
            Charge::Beyond
        } else {
            Charge::Within
        }
    }
}

struct Bytes([u8; CHUNK_BYTES + 8]);

impl Window for Bytes {
    fn word(&self, at: u32) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[at as usize..][..8]);
        u64::from_le_bytes(word)
    }
}

/// As the hooks do: chunk by chunk, bodies passed over.
fn run(stream: &mut Stream, bytes: &[u8], tables: &Small, scan: &mut Scan) {
    let mut next = 0;
    let facts = Facts::default();
    let mut window = Bytes([0xa5; CHUNK_BYTES + 8]);
    loop {
        if scan.at >= scan.end && stream.state != state::ENDED && stream.state != state::PICK {
            let pass = stream.skips().min((bytes.len() - next) as u64);
            stream.skipped(pass);
            next += pass as usize;
            if next == bytes.len() {
                return;
            }
            let fetch = (bytes.len() - next).min(CHUNK_BYTES);
            window.0[..fetch].copy_from_slice(&bytes[next..next + fetch]);
            scan.before = next as u32;
            next += fetch;
            (scan.at, scan.end) = (0, fetch as u32);
        }
        step(stream, scan, &window, &facts, tables);
        if stream.is_over() {
            return;
        }
    }
}

/// The same end, however the bytes are split.
fn outcome(text: &[u8]) -> (u8, Scan) {
    outcome_by(Small::new, text)
}

fn once(tables: &Small, text: &[u8]) -> (u8, Scan) {
    let (mut stream, mut scan) = (Stream::default(), Scan::default());
    run(&mut stream, text, tables, &mut scan);
    (stream.state, scan)
}

fn outcome_by(fresh: impl Fn() -> Small, text: &[u8]) -> (u8, Scan) {
    let tables = fresh();
    let mut whole = Stream::default();
    let mut scan = Scan::default();
    run(&mut whole, text, &tables, &mut scan);
    for split in 0..text.len() {
        let tables = fresh();
        let mut stream = Stream::default();
        let mut parts = Scan::default();
        run(&mut stream, &text[..split], &tables, &mut parts);
        if !stream.is_over() {
            (parts.at, parts.end) = (0, 0);
            run(&mut stream, &text[split..], &tables, &mut parts);
        }
        let known = |scan: &Scan| {
            (
                scan.decision,
                scan.rule,
                scan.reason,
                scan.heads,
                scan.left,
                scan.lost,
            )
        };
        assert_eq!(
            known(&parts),
            known(&scan),
            "split at {split}: {}",
            text.escape_ascii()
        );
        same(&stream, &whole, text);
    }
    let tables = fresh();
    let mut stream = Stream::default();
    for byte in text {
        let mut scan = Scan::default();
        run(&mut stream, &[*byte], &tables, &mut scan);
        if stream.is_over() {
            break;
        }
    }
    same(&stream, &whole, text);
    (whole.state, scan)
}

/// What is left of a stream that is over does not matter.
fn same(one: &Stream, other: &Stream, text: &[u8]) {
    assert_eq!(one.state, other.state, "{}", text.escape_ascii());
    assert!(
        one.is_over() || one == other,
        "{one:?} {other:?} {}",
        text.escape_ascii()
    );
}

#[test]
fn requests_are_judged_at_their_boundaries_only() {
    for (text, state, heads, rule) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", state::BOUNDARY, 1, None),
        (
            "\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
            state::BOUNDARY,
            1,
            None,
        ),
        (
            "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
            state::DENIED,
            1,
            Some(0),
        ),
        (
            "GET /admin/ HTTP/1.1\r\nHost: a\r\n\r\n",
            state::DENIED,
            1,
            Some(0),
        ),
        (
            "GET /admin/x/y?q=%20 HTTP/1.1\r\nHost: a\r\n\r\n",
            state::DENIED,
            1,
            Some(0),
        ),
        (
            "get /admin HTTP/1.1\r\nHost: a\r\n\r\n",
            state::DENIED,
            1,
            Some(0),
        ),
        (
            "FROB /admin HTTP/1.1\r\nHost: a\r\n\r\n",
            state::DENIED,
            1,
            Some(0),
        ),
        (
            "GET /administrator HTTP/1.1\r\nHost: a\r\n\r\n",
            state::BOUNDARY,
            1,
            None,
        ),
        (
            "GET /x?/admin HTTP/1.1\r\nReferer: /admin\r\n\r\n",
            state::BOUNDARY,
            1,
            None,
        ),
        ("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", state::DENIED, 1, Some(1)),
        // A body that looks like a request is none.
        (
            "POST /x HTTP/1.1\r\nContent-Length: 20\r\n\r\nDELETE / HTTP/1.1\r\n\r",
            state::BOUNDARY,
            1,
            None,
        ),
        (
            "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nabDELETE / HTTP/1.1\r\n\r\n",
            state::DENIED,
            2,
            Some(1),
        ),
        (
            "POST /x HTTP/1.1\r\ntransfer-encoding:\tChunked \r\n\r\n5;a=b\r\nDELET\r\n0\r\nX: y\r\n\r\nDELETE / HTTP/1.1\r\n\r\n",
            state::DENIED,
            2,
            Some(1),
        ),
        (
            "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /admin",
            state::PATH,
            2,
            None,
        ),
    ] {
        let (end, scan) = outcome(text.as_bytes());
        assert_eq!(
            (end, scan.heads, scan.ambiguous),
            (state, heads, 0),
            "{}",
            text.escape_debug()
        );
        assert_eq!((scan.decision == 2).then_some(scan.rule), rule, "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_ambiguous() {
    let head = |extra: &str| format!("POST /x HTTP/1.1\r\n{extra}\r\n");
    for (text, reason) in [
        (
            head("Content-Length: 1\r\nContent-Length: 1\r\n"),
            Reason::Framing,
        ),
        (head("Content-Length: 1, 1\r\n"), Reason::Framing),
        (head("Content-Length: +1\r\n"), Reason::Framing),
        (head("Content-Length:\r\n"), Reason::Framing),
        (head("Content-Length: 18446744073709551616\r\n"), Reason::Framing),
        (
            head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            Reason::Framing,
        ),
        (head("Transfer-Encoding: xchunked\r\n"), Reason::Framing),
        (head("Transfer-Encoding: gzip, chunked\r\n"), Reason::Framing),
        (
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Reason::Framing,
        ),
        (head("Content-Length : 1\r\n"), Reason::Fold),
        (head("A: b\r\n c\r\n"), Reason::Fold),
        (head(" A: b\r\n"), Reason::Fold),
        (head("A: b\n"), Reason::LineEnd),
        (head("A: b\rc\r\n"), Reason::LineEnd),
        (head("A: \0\r\n"), Reason::Field),
        (head("A\r\n"), Reason::Field),
        (head(": a\r\n"), Reason::Field),
        (head("A\u{b}: a\r\n"), Reason::Field),
        (head("Host: a\r\nhost: b\r\n"), Reason::Host),
        ("GET /a//b HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET //a HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /./admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /x/../admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /x/.. HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /%61dmin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /admin;x HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /a\\b HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /a#b HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET http://h/admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET *x HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /a b HTTP/1.1\r\n\r\n".into(), Reason::RequestLine),
        ("GET /x HTTP/1.2\r\n\r\n".into(), Reason::RequestLine),
        ("GET /x http/1.1\r\n".into(), Reason::RequestLine),
        ("GET /x\r\n".into(), Reason::RequestLine),
        ("GET\t/x HTTP/1.1\r\n\r\n".into(), Reason::RequestLine),
        ("GET  /x HTTP/1.1\r\n\r\n".into(), Reason::RequestLine),
        // Split there by some, whatever the method is.
        ("get /x\tHTTP/1.1\r\n\r\n".into(), Reason::RequestLine),
        ("FOO /x\x0bHTTP/1.1\r\n\r\n".into(), Reason::RequestLine),
        ("FOO /x\u{a0}HTTP/1.1\r\n\r\n".into(), Reason::Target),
        // Of no authority some make a path.
        ("CONNECT h/admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("CONNECT http://h/admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("CONNECT h:80/admin HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("CONNECT a..b:80 HTTP/1.1\r\n\r\n".into(), Reason::Target),
        ("GET /x HTTP/1.1\n\r\n".into(), Reason::LineEnd),
        (
            "GET /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            Reason::Framing,
        ),
        (
            format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(4096)),
            Reason::PathLong,
        ),
        (head(&"A: b\r\n".repeat(257)), Reason::HeadLong),
        (
            format!("GET /x HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(36_000)),
            Reason::HeadLong,
        ),
    ] {
        // Rule 0 denies whatever the path is.
        let (end, scan) = outcome(text.as_bytes());
        assert_eq!(
            (end, scan.decision, scan.rule),
            (state::DENIED, 2, 0),
            "{}",
            text.escape_debug()
        );
        assert_eq!(scan.reason, reason as u8, "{}", text.escape_debug());
    }
}

/// A CONNECT that has content passes, and what comes behind it is nobody's request for sure.
#[test]
fn behind_a_connect_with_content_nothing_is_sure() {
    let garbled = || {
        let mut tables = Small::new();
        tables.generation.garbled = bits(&[0]);
        tables
    };
    for (fields, denied) in [
        ("Content-Length: 3\r\n\r\nx\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("Content-Length: 0\r\n\r\n", false),
    ] {
        let text = format!("CONNECT h:80 HTTP/1.1\r\n{fields}GET /y HTTP/1.1\r\n\r\n");
        let (end, scan) = outcome_by(garbled, text.as_bytes());
        assert_eq!(
            (end == state::DENIED, scan.decision == 2),
            (denied, denied),
            "{fields:?}"
        );
    }
}

#[test]
fn a_balancers_header_is_passed_over_once() {
    let bad = "GET /admin HTTP/1.1\r\n\r\n";
    for (prefix, end) in [
        ("PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n", state::DENIED),
        ("PROXY TCP6 ::1 ::1 1 2\r\n", state::DENIED),
        ("PROXY UNKNOWN\r\n", state::DENIED),
        ("PROXY TCP4 1\r\n", state::DENIED),
        ("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0cGET /x HTTP/", state::DENIED),
        ("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", state::DENIED),
        ("PROXY TCP4 1 HTTP/1.1\r\n", state::DENIED),
        ("PROXY UNKNOWN\rx\r\n", state::DENIED),
        ("\0\r\nQUIX\n\x20\0\0\0", state::DENIED),
        // A request all the same; rule 0 denies what is ambiguous.
        ("PROXY TCP4 HTTP/1.1\r\n\r\n", state::DENIED),
        ("PROXY Txxxxxxxx HTTP/1.1\r\n\r\n", state::DENIED),
        ("PROXY UNKNOWN HTTP/1.1\r\n\r\n", state::DENIED),
        (
            "PROXY TCP6 ::1 ::1 1 2\r\nPROXY TCP6 ::1 ::1 1 2\r\n",
            state::DENIED,
        ),
    ] {
        let (found, scan) = outcome(format!("{prefix}{bad}").as_bytes());
        assert_eq!(found, end, "{prefix:?} {scan:?}");
    }
    let (end, scan) = outcome(b"PROXY /x HTTP/1.1\r\n\r\n");
    assert_eq!((end, scan.decision, scan.ambiguous), (state::BOUNDARY, 0, 0));
}

#[test]
fn other_protocols_are_left_alone() {
    for text in [
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\n",
        "\u{b}MSH|^~\\&|\n",
        "\0\0\0\u{8}\u{4}\n\u{16}/ FROB/1.1\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "GET key\r\n",
        "OPTIONS sip:a@b SIP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "FROB /admin\r\n",
        "220 mail ready\r\n",
        "AVERYLONGWORDTHATISNOMETHODATALLBUTGOESON / FROB/1.1\r\n",
    ] {
        let (end, scan) = outcome(text.as_bytes());
        let is_left = end == state::OPAQUE || end == state::BOUNDARY;
        assert_eq!((is_left, scan.decision), (true, 0), "{text:?}");
        let (end, scan) = once(&Small::new(), text.repeat(500).as_bytes());
        assert_eq!((end, scan.decision), (state::OPAQUE, 0), "{text:?}");
    }
    let (end, scan) = outcome(b"GET / HTTP/1.1\r\n\r\n\x16\x03\x01");
    assert_eq!((end, scan.lost), (state::LOST, 1));
    let (end, _) = outcome(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x05hello\n\x81\x03abc\n");
    assert_eq!(end, state::BOUNDARY);
    let hello = b"CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03\x01\0\x30\x01\0\0\x2cxx\n";
    assert_eq!(outcome(hello).0, state::OPAQUE);
    for switch in [
        "GET / HTTP/1.1\r\nUpgrade: foo\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\n\r\n",
    ] {
        let text = format!("{switch}x\r\nGET /x HTTP/1.1\r\n\r\n");
        let (end, scan) = outcome(text.as_bytes());
        assert_eq!((end, scan.ambiguous), (state::DENIED, 1));
    }
    let (end, _) = outcome(b"CONNECT a:443 HTTP/1.1\r\n\r\nGET /admin HTTP/1.1\r\n\r\n");
    assert_eq!(end, state::DENIED);
    for chunks in [
        "x\r\n",
        "5 5\r\n",
        "5\n",
        "\r\n",
        "1\r\naX",
        "11111111111111111\r\n",
        "0\r\n\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (end, scan) = outcome(text.as_bytes());
        assert_eq!((end, scan.lost), (state::LOST, 1), "{chunks:?}");
    }
}

/// A connection through `on_segment` and `scanned`, as the hooks do it.
struct Wire {
    flow: GateFlow,
    tables: Small,
    rcv_nxt: u32,
    /// It is what the local stack sends.
    sends: bool,
    now: u64,
}

impl Wire {
    fn new(start: u32) -> Wire {
        let mut flow = GateFlow::default();
        flow.start(start);
        Wire {
            flow,
            tables: Small::new(),
            rcv_nxt: start,
            sends: false,
            now: 1 << 40,
        }
    }

    /// Whether the segment passes; nothing is accepted yet.
    fn offer(&mut self, seq: u32, payload: &[u8]) -> bool {
        let bytes = payload.len() as u32;
        let accepted = (!self.sends).then_some(self.rcv_nxt);
        let mut plan = on_segment(&mut self.flow, seq, bytes, accepted, self.now);
        for _ in 0..=PLANS_MAX {
            match plan {
                Plan::Pass => return true,
                Plan::Drop => return false,
                Plan::Lost => {
                    self.flow.start_lost();
                    return true;
                }
                Plan::Scan { offset, bytes: part } => {
                    let mut scan = Scan {
                        charged: self.flow.charged,
                        ..Scan::default()
                    };
                    let part_of = &payload[offset as usize..][..part as usize];
                    run(&mut self.flow.cursor().stream, part_of, &self.tables, &mut scan);
                    plan = scanned(&mut self.flow, &scan, seq, bytes, part, self.now);
                }
            }
        }
        panic!("too many plans");
    }

    /// It passes and the socket takes it.
    fn take(&mut self, seq: u32, payload: &[u8]) {
        assert!(self.offer(seq, payload), "{}", payload.escape_ascii());
        self.rcv_nxt = seq.wrapping_add(payload.len() as u32);
    }
}

const GOOD: &[u8] = b"GET /ok HTTP/1.1\r\n\r\n";
const BAD: &[u8] = b"GET /admin HTTP/1.1\r\n\r\n";

#[test]
fn segments_pass_in_order_and_across_the_wrap() {
    for start in [1, u32::MAX - 30, 0x7fff_fff0] {
        let mut wire = Wire::new(start);
        let mut seq = start;
        for _ in 0..5 {
            for part in GOOD.chunks(7) {
                wire.take(seq, part);
                seq = seq.wrapping_add(part.len() as u32);
            }
        }
        assert!(wire.offer(start, GOOD), "an old duplicate");
        assert!(!wire.offer(seq.wrapping_add(5), GOOD), "a hole");
        assert!(!wire.offer(seq, BAD));
        assert_eq!(wire.flow.denied_at, seq);
        assert!(!wire.offer(seq, GOOD), "a dead flow stays dead");
    }
}

#[test]
fn bytes_that_left_or_came_unseen_are_nobodys_boundary() {
    // What is sent comes in order: a hole is what left while no program was there, and it never comes again.
    let mut wire = Wire::new(100);
    wire.sends = true;
    assert!(wire.offer(100, GOOD));
    assert!(wire.offer(500, b"ET /admin HTTP/1.1\r\n\r\n") && wire.flow.is_over());
    assert!(wire.offer(600, GOOD));
    // What the socket has accepted unseen.
    let mut wire = Wire::new(100);
    wire.take(100, GOOD);
    wire.rcv_nxt = 500;
    assert!(wire.offer(500, GOOD) && wire.flow.is_over());
}

#[test]
fn a_retransmission_waits_and_is_judged_again() {
    let mut wire = Wire::new(100);
    assert!(wire.offer(100, GOOD));
    assert!(!wire.offer(100, GOOD), "it may still be in the backlog");
    wire.now += BACKLOG_NS;
    assert!(wire.offer(100, GOOD));
    assert_eq!(wire.flow.poisoned, 0);
    // Other bytes for the same place, once the first ones cannot have been accepted.
    let mut wire = Wire::new(100);
    assert!(wire.offer(100, b"GET /ok HTTP/1.1\r\nA: bcd\r\n"));
    assert!(!wire.offer(100, BAD));
    wire.now += BACKLOG_NS;
    assert!(!wire.offer(100, BAD));
    assert_eq!(wire.flow.dead, 1);
    // Two contents that end differently.
    let mut wire = Wire::new(100);
    assert!(wire.offer(100, b"GET /ok HTTP/1.1\r\nA"));
    wire.now += BACKLOG_NS;
    assert!(!wire.offer(100, b"GET /no HTTP/1.1\r\nB\r\n"));
    assert_eq!((wire.flow.dead, wire.flow.poisoned), (1, 1));
}

#[test]
fn a_head_is_charged_once_however_often_it_comes() {
    let rated = b"GET /rated HTTP/1.1\r\n\r\n";
    let mut wire = Wire::new(100);
    for _ in 0..5 {
        assert!(wire.offer(100, rated));
        wire.now += BACKLOG_NS;
    }
    assert_eq!(*wire.tables.charges.borrow(), 1);
    wire.rcv_nxt = 100 + rated.len() as u32;
    assert!(!wire.offer(wire.rcv_nxt, rated), "the second is beyond the rate");
}

#[test]
fn bodies_pass_in_any_order_and_what_follows_is_judged() {
    let head = b"POST /x HTTP/1.1\r\nContent-Length: 5000000000\r\n\r\nabc";
    let mut wire = Wire::new(1000);
    wire.take(1000, head);
    let mut seq = wire.rcv_nxt;
    let mut left = 5_000_000_000u64 - 3;
    let segment = vec![b'D'; 60_000];
    // Out of order, within the body.
    assert!(wire.offer(seq + 60_000, &segment));
    while left > 0 {
        let part = left.min(60_000) as usize;
        wire.take(seq, &segment[..part]);
        seq = seq.wrapping_add(part as u32);
        left -= part as u64;
        if left > 120_000 {
            assert!(wire.offer(seq.wrapping_sub(60_000), &segment), "a duplicate");
        }
    }
    assert_eq!(wire.flow.head.stream.state, state::BOUNDARY);
    assert!(!wire.offer(seq, BAD));
    assert_eq!(wire.flow.denied_at, seq);
    // A segment in which a body ends and the next head begins.
    let mut wire = Wire::new(1);
    wire.take(1, b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
    let next = wire.rcv_nxt;
    assert!(!wire.offer(next, b"defghijGET /admin HTTP/1.1\r\n\r\n"));
    assert_eq!(wire.flow.denied_at, next + 7);
}

#[test]
fn what_the_socket_has_not_accepted_decides_nothing() {
    // Another protocol, or a body, that falls in the stack behind the gate.
    for first in [
        "\x16\x03\x01...",
        "POST /x HTTP/1.1\r\nContent-Length: 100\r\n\r\n",
    ] {
        let mut wire = Wire::new(100);
        assert!(wire.offer(100, first.as_bytes()));
        wire.now += BACKLOG_NS;
        assert!(!wire.offer(100, BAD), "{first:?}");
        assert_eq!(wire.flow.dead, 1);
    }
}
