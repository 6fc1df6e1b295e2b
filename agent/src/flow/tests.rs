//! Reassembly: whatever the order of records, the stream is the same.

use proptest::prelude::*;

use super::*;

fn process() -> Arc<Process> {
    Arc::new(Process {
        pid: 7,
        tid: 7,
        uid: 0,
        comm: "app".into(),
        exe: "/usr/bin/app".into(),
        cgroup_id: 1,
        cgroup_path: "".into(),
        container: None,
    })
}

fn info(id: FlowId) -> Captured {
    Captured::Flow(Arc::new(FlowInfo {
        joined_late: false,
        ..unannounced(id)
    }))
}

fn segment(at: u64, position: u32, bytes: &[u8]) -> Segment {
    Segment {
        at: KernelTime(at),
        flow: FlowId::Socket(1),
        process: process(),
        direction: Direction::Received,
        position: u64::from(position),
        other_position: 0,
        bytes: Bytes::copy_from_slice(bytes),
        missing: 0,
        missing_reason: GapReason::Limit,
    }
}

/// What came out, as text: chunks as they are, gaps as `<12 lost>`.
#[derive(Default)]
struct Told(String);

impl Told {
    fn take(&mut self, flows: &mut Flows, captured: Captured) {
        flows.on(captured, &mut |item| match item {
            Item::Piece(Piece {
                what: What::Chunk(bytes),
                ..
            }) => self.0.push_str(std::str::from_utf8(&bytes).unwrap()),
            Item::Piece(Piece {
                what: What::Gap { bytes, reason },
                ..
            }) => {
                self.0.push_str(&format!("<{} {reason:?}>", bytes.unwrap_or(0)));
            }
            Item::End { .. } => self.0.push_str("<end>"),
            Item::Evicted { .. } => self.0.push_str("<evicted>"),
            Item::Lost { .. } | Item::Tick { .. } | Item::Info(_) | Item::Stopped(_) => {}
            Item::Handshake(_) | Item::SocketEnd { .. } => {}
        });
    }
}

fn closed(at: u64, received_end: u64) -> Captured {
    let end = FlowEnd {
        received_end,
        ..FlowEnd::default()
    };
    Captured::Closed {
        at: KernelTime(at),
        flow: FlowId::Socket(1),
        end,
    }
}

/// Runs `records` over one flow; positions are offsets from `start`.
fn check(start: u32, records: &[(u64, u32, &str)], end: Option<u32>, expected: &str) -> Flows {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    for (at, offset, bytes) in records {
        told.take(
            &mut flows,
            Captured::Segment(segment(*at, start.wrapping_add(*offset), bytes.as_bytes())),
        );
    }
    let end = end.map_or(0, |offset| u64::from(start.wrapping_add(offset)));
    told.take(&mut flows, closed(1_000_000_000, end));
    assert_eq!(told.0, expected, "from {start}");
    flows
}

#[test]
fn order_duplicates_and_holes() {
    for start in [1, 1000, u32::MAX - 3, u32::MAX] {
        check(start, &[(1, 0, "abc"), (2, 3, "def")], Some(6), "abcdef<end>");
        check(
            start,
            &[(1, 0, "abc"), (2, 6, "ghi"), (3, 3, "def")],
            Some(9),
            "abcdefghi<end>",
        );
        check(
            start,
            &[(1, 0, "abc"), (2, 0, "abc"), (3, 1, "bcde")],
            Some(5),
            "abcde<end>",
        );
        check(
            start,
            &[(1, 0, "abc"), (2, 6, "ghi")],
            Some(9),
            "abc<3 Unseen>ghi<end>",
        );
        check(
            start,
            &[(1, 0, "abc"), (2, 6, "gh"), (3, 5, "fgh")],
            Some(8),
            "abc<2 Unseen>fgh<end>",
        );
        // The hole is declared in record time, before the next chunk is handed on.
        check(
            start,
            &[(1, 0, "a"), (2, 2, "c"), (50_000_000, 3, "d")],
            Some(4),
            "a<1 Unseen>cd<end>",
        );
    }
}

#[test]
fn tcps_own_end_tells_what_went_by_unseen() {
    let mut flows = check(9, &[(1, 0, "abc")], Some(103), "abc<100 Unseen><end>");
    let losses = flows.take_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].bytes, losses[0].reason), (100, GapReason::Unseen));
    assert_eq!(losses[0].process.as_ref().map(|process| process.pid), Some(7));
    assert!(flows.take_losses().is_empty());
    // A FIN's sequence number is no loss, and an end that is not known tells nothing.
    check(9, &[(1, 0, "abc")], Some(4), "abc<end>");
    check(9, &[(1, 0, "abc")], None, "abc<end>");
}

#[test]
fn a_socket_that_a_tls_object_took_over_lost_nothing() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    told.take(&mut flows, Captured::Segment(segment(1, 0, b"abc")));
    let object = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 3,
    };
    told.take(
        &mut flows,
        Captured::Flow(Arc::new(FlowInfo {
            carrier: Some(1),
            ..unannounced(object)
        })),
    );
    told.take(&mut flows, closed(3, 5000));
    assert_eq!(told.0, "abc<end>");
    assert!(flows.take_losses().is_empty());
}

/// What a reset leaves behind: the last position sent, and that it was one.
fn reset(at: u64, flow: FlowId, sent_end: u64) -> Captured {
    let end = FlowEnd {
        sent_end,
        reset: true,
        ..FlowEnd::default()
    };
    Captured::Closed {
        at: KernelTime(at),
        flow,
        end,
    }
}

#[test]
fn a_call_that_a_reset_overtook_is_no_loss() {
    let mut flows = Flows::new(Limits {
        ledgers_all: true,
        ..Limits::default()
    });
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    let sent = |at, position, bytes| {
        Captured::Segment(Segment {
            direction: Direction::Sent,
            ..segment(at, position, bytes)
        })
    };
    told.take(&mut flows, sent(1, 100, b"abc"));
    // The reset ends the socket inside of the call that sends; its record comes when the call returns.
    told.take(&mut flows, reset(2, FlowId::Socket(1), 106));
    told.take(&mut flows, sent(3, 103, b"def"));
    let over = KernelTime(3 + Limits::default().reset_ns);
    told.take(&mut flows, Captured::Tick { at: over });
    assert_eq!(told.0, "abcdef<end>");
    assert!(flows.take_losses().is_empty());
    let all = Account {
        moved: 6,
        seen: 6,
        lost: 0,
    };
    assert_eq!(flows.take_ledgers()[0].sent, all);
    assert_eq!(
        (flows.stats().flows_open, flows.stats().flows_unannounced),
        (0, 0)
    );
}

#[test]
fn plaintext_may_come_after_a_reset_and_what_is_whole_ends_at_once() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    let object = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 3,
    };
    told.take(&mut flows, info(object));
    told.take(&mut flows, reset(2, object, 0));
    let late = Segment {
        flow: object,
        ..segment(3, 0, b"abc")
    };
    told.take(&mut flows, Captured::Segment(late));
    told.take(&mut flows, info(FlowId::Socket(1)));
    told.take(&mut flows, Captured::Segment(segment(4, 0, b"def")));
    told.take(&mut flows, reset(5, FlowId::Socket(1), 0));
    assert_eq!(told.0, "abcdef<end>");
    told.take(
        &mut flows,
        Captured::Tick {
            at: KernelTime(1_000_000_000),
        },
    );
    assert_eq!(told.0, "abcdef<end><end>");
}

#[test]
fn how_much_plaintext_there_was_may_be_told_after_the_end() {
    let mut flows = Flows::new(Limits {
        ledgers_all: true,
        ..Limits::default()
    });
    let mut told = Told::default();
    let object = FlowId::Tls {
        pid: 1,
        object: 2,
        generation: 3,
    };
    told.take(&mut flows, info(object));
    let begun = Segment {
        flow: object,
        ..segment(1, 0, b"abc")
    };
    told.take(&mut flows, Captured::Segment(begun));
    told.take(&mut flows, reset(2, object, 0));
    let end = FlowEnd {
        received_end: 10,
        ..FlowEnd::default()
    };
    told.take(
        &mut flows,
        Captured::Closed {
            at: KernelTime(3),
            flow: object,
            end,
        },
    );
    told.take(
        &mut flows,
        Captured::Tick {
            at: KernelTime(1_000_000_000),
        },
    );
    assert_eq!(told.0, "abc<7 Unseen><end>");
    let ledgers = flows.take_ledgers();
    assert!(ledgers[0].reset);
    let all = Account {
        moved: 10,
        seen: 3,
        lost: 7,
    };
    assert_eq!(ledgers[0].received, all);
}

#[test]
fn flows_go_on_after_their_end_within_bounds() {
    let mut flows = Flows::new(Limits {
        ending_max: 10,
        ..Limits::default()
    });
    let mut told = Told::default();
    for cookie in 0..100 {
        told.take(&mut flows, info(FlowId::Socket(cookie)));
        let first = Segment {
            flow: FlowId::Socket(cookie),
            direction: Direction::Sent,
            ..segment(1, 1, b"a")
        };
        told.take(&mut flows, Captured::Segment(first));
        told.take(&mut flows, reset(1, FlowId::Socket(cookie), 9));
    }
    assert!(flows.ending.len() <= 11 && flows.stats().flows_open <= 11);
}

#[test]
fn a_reported_drop_explains_a_hole() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    told.take(&mut flows, Captured::Segment(segment(1, 0, b"abc")));
    told.take(
        &mut flows,
        Captured::Lost {
            at: KernelTime(2),
            records: 1,
        },
    );
    told.take(&mut flows, Captured::Segment(segment(3, 6, b"ghi")));
    told.take(
        &mut flows,
        Captured::Tick {
            at: KernelTime(1_000_000_000),
        },
    );
    told.take(&mut flows, closed(1_000_000_001, 19));
    assert_eq!(told.0, "abc<3 Lost>ghi<10 Lost><end>");
    assert_eq!(flows.stats().records_lost, 1);
    assert_eq!(flows.stats().bytes_missing, 13);
}

#[test]
fn what_need_not_be_read_is_no_loss() {
    for (reason, loses, tells) in [
        (GapReason::Limit, false, false),
        (GapReason::Sendfile, false, true),
        (GapReason::Unreadable, true, true),
    ] {
        let mut flows = Flows::new(Limits::default());
        let mut told = Told::default();
        told.take(&mut flows, info(FlowId::Socket(1)));
        let cut_short = Segment {
            missing: 7,
            missing_reason: reason,
            ..segment(1, 0, b"abc")
        };
        told.take(&mut flows, Captured::Segment(cut_short));
        told.take(&mut flows, Captured::Segment(segment(2, 10, b"d")));
        assert_eq!(told.0, format!("abc<7 {reason:?}>d"));
        let stats = flows.stats();
        let expected = if loses { (7, 0) } else { (0, 7) };
        assert_eq!(
            (stats.bytes_missing, stats.bytes_passed_over),
            expected,
            "{reason:?}"
        );
        assert_eq!(flows.take_losses().len(), usize::from(tells), "{reason:?}");
    }
}

#[test]
fn the_other_directions_segment_says_where_this_one_starts() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    let mut sent = segment(1, 500, b"x");
    sent.direction = Direction::Sent;
    sent.other_position = 1000;
    told.take(&mut flows, Captured::Segment(sent));
    told.take(&mut flows, Captured::Segment(segment(2, 1010, b"abc")));
    told.take(&mut flows, closed(3, 1013));
    assert_eq!(told.0, "x<10 Unseen>abc<end>");
}

#[test]
fn what_was_not_captured_of_an_operation_is_a_gap() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    let mut long = segment(1, 10, b"abc");
    long.missing = 7;
    told.take(&mut flows, Captured::Segment(long));
    told.take(&mut flows, Captured::Segment(segment(2, 20, b"def")));
    assert_eq!(told.0, "abc<7 Limit>def");
}

#[test]
fn early_bytes_are_bounded() {
    let limits = Limits {
        lane_held_bytes_max: 10,
        ..Limits::default()
    };
    let mut flows = Flows::new(limits);
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    told.take(&mut flows, Captured::Segment(segment(1, 0, b"a")));
    told.take(&mut flows, Captured::Segment(segment(2, 5, b"bcdefg")));
    assert_eq!((told.0.as_str(), flows.stats().held_bytes), ("a", 6));
    told.take(&mut flows, Captured::Segment(segment(3, 20, b"hijklmn")));
    assert_eq!(told.0, "a<4 Unseen>bcdefg<9 Unseen>hijklmn");
    assert_eq!((flows.stats().held_bytes, flows.stats().holes_forced), (0, 1));
}

#[test]
fn the_table_is_bounded_and_gives_up_the_idle() {
    let mut flows = Flows::new(Limits {
        flows_max: 3,
        ..Limits::default()
    });
    let mut told = Told::default();
    for cookie in 1..=3 {
        told.take(&mut flows, info(FlowId::Socket(cookie)));
    }
    told.take(&mut flows, Captured::Segment(segment(5, 0, b"abc")));
    told.take(&mut flows, info(FlowId::Socket(4)));
    told.take(&mut flows, info(FlowId::Socket(5)));
    assert_eq!(flows.stats().flows_open, 3);
    assert_eq!(flows.stats().flows_evicted, 2);
    // The one with traffic is still known where it stood.
    told.take(&mut flows, Captured::Segment(segment(6, 0, b"abcd")));
    assert_eq!(told.0, "abc<evicted><evicted>d");
    // One that was given up comes back as joined late.
    let mut other = segment(7, 77, b"x");
    other.flow = FlowId::Socket(2);
    told.take(&mut flows, Captured::Segment(other));
    assert_eq!(flows.stats().flows_unannounced, 1);
}

proptest! {
    /// Any split into segments, with duplicates and overlaps, in any order within the waiting time.
    #[test]
    fn any_order_gives_the_same_stream(
        start in any::<u32>(),
        cuts in proptest::collection::vec(1usize..40, 1..20),
        order in proptest::collection::vec(any::<u16>(), 64),
        repeats in proptest::collection::vec((0usize..20, 0usize..8), 0..10),
    ) {
        let length: usize = cuts.iter().sum();
        let stream: String = (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        let mut pieces = Vec::new();
        let mut at = 0;
        for cut in &cuts {
            pieces.push((at, at + cut));
            at += cut;
        }
        for (which, more) in &repeats {
            let (from, to) = pieces[which % cuts.len()];
            pieces.push((from.saturating_sub(*more), (to + more).min(length)));
        }
        // The first record stays first: it defines the start.
        let mut rest: Vec<(u16, (usize, usize))> =
            pieces[1..].iter().enumerate().map(|(index, piece)| (order[index % order.len()], *piece)).collect();
        rest.sort();
        let mut records = vec![pieces[0]];
        records.extend(rest.into_iter().map(|(_, piece)| piece));
        let mut flows = Flows::new(Limits::default());
        let mut told = Told::default();
        told.take(&mut flows, info(FlowId::Socket(1)));
        for (from, to) in records {
            let position = start.wrapping_add(from as u32);
            told.take(&mut flows, Captured::Segment(segment(1, position, &stream.as_bytes()[from..to])));
        }
        prop_assert_eq!(flows.stats().held_bytes, 0);
        told.take(&mut flows, closed(2, u64::from(start.wrapping_add(length as u32))));
        prop_assert_eq!(told.0, format!("{stream}<end>"));
        prop_assert_eq!(flows.stats().bytes_missing, 0);
    }

    /// Seen and missing add up to what TCP counted, whatever is lost.
    #[test]
    fn seen_and_missing_add_up(
        start in any::<u32>(),
        pieces in proptest::collection::vec((1usize..40, any::<bool>()), 1..30),
    ) {
        let mut flows = Flows::new(Limits::default());
        let mut told = Told::default();
        told.take(&mut flows, info(FlowId::Socket(1)));
        let mut at = 0;
        let mut seen = 0;
        for (index, (length, lost)) in pieces.iter().enumerate() {
            // The first is seen, because it defines the start.
            if index == 0 || !lost {
                let bytes = vec![b'x'; *length];
                let position = start.wrapping_add(at as u32);
                told.take(&mut flows, Captured::Segment(segment(index as u64, position, &bytes)));
                seen += length;
            }
            at += length;
        }
        // One more byte is seen, so that a FIN's number cannot hide in the sum.
        told.take(&mut flows, Captured::Segment(segment(99, start.wrapping_add(at as u32), b"x")));
        told.take(&mut flows, closed(100, u64::from(start.wrapping_add(at as u32 + 1))));
        prop_assert_eq!(flows.stats().bytes_missing as usize + seen, at);
    }

    /// Where the kernel told the start, also what was lost before the first record is in the account.
    #[test]
    fn every_account_balances(
        start in any::<u32>(),
        pieces in proptest::collection::vec((2usize..40, any::<bool>()), 1..30),
    ) {
        let mut flows = Flows::new(Limits { ledgers_all: true, ..Limits::default() });
        let mut told = Told::default();
        let Captured::Flow(known) = info(FlowId::Socket(1)) else { unreachable!() };
        told.take(&mut flows, Captured::Flow(Arc::new(FlowInfo { starts: Some((7, start)), ..(*known).clone() })));
        let (mut at, mut seen) = (0, 0);
        for (index, (length, lost)) in pieces.iter().enumerate() {
            if !lost {
                let position = start.wrapping_add(at as u32);
                told.take(&mut flows, Captured::Segment(segment(index as u64, position, &vec![b'x'; *length])));
                seen += *length as u64;
            }
            at += length;
        }
        let Captured::Closed { at: when, flow, end } = closed(100, u64::from(start.wrapping_add(at as u32))) else {
            unreachable!()
        };
        // An end of 0 says that nothing is known of it; the sequence number 0 may be one, once in 4 billion.
        prop_assume!(end.received_end != 0);
        told.take(&mut flows, Captured::Closed { at: when, flow, end: FlowEnd { sent_end: 7, ..end } });
        let ledgers = flows.take_ledgers();
        prop_assert_eq!(ledgers.len(), 1);
        let expected = Account { moved: at as u64, seen, lost: at as u64 - seen };
        prop_assert_eq!(ledgers[0].received, expected);
        prop_assert_eq!(ledgers[0].sent, Account::default());
    }
}

#[test]
fn what_was_received_and_not_read_may_still_be_read_after_the_end() {
    let mut flows = Flows::new(Limits::default());
    let mut told = Told::default();
    told.take(&mut flows, info(FlowId::Socket(1)));
    told.take(&mut flows, Captured::Segment(segment(1, 100, b"abc")));
    let Captured::Closed { at, flow, mut end } = closed(1_000, 103) else {
        unreachable!()
    };
    end.unread = true;
    told.take(&mut flows, Captured::Closed { at, flow, end });
    told.take(&mut flows, Captured::Segment(segment(2_000, 103, b"def")));
    assert_eq!(told.0, "abcdef");
    let later = KernelTime(2 * Limits::default().unread_ns);
    told.take(&mut flows, Captured::Tick { at: later });
    assert_eq!(told.0, "abcdef<end>");
    assert_eq!(flows.stats().flows_open, 0);
    assert_eq!(flows.stats().flows_unannounced, 0);
}

#[test]
fn what_is_printed_of_bytes_is_their_number() {
    let segment = segment(1, 100, b"Jane Doe");
    let chunk = What::Chunk(segment.bytes.clone());
    let printed = format!("{segment:?} {chunk:?} {:?}", Captured::Segment(segment.clone()));
    assert!(!printed.contains("Jane"), "{printed}");
    assert!(printed.contains("bytes_len: 8"), "{printed}");
}
