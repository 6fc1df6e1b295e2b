//! Segments as the network and a hostile peer bring them, past the gate to a receiver that takes what TCP takes: what it
//! gets never holds a whole denied head, and no allowed stream of an honest peer stalls.

use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

/// A socket: it takes what is in order, keeps what is ahead, and falls for whatever content came for a place.
struct Receiver {
    next: u32,
    taken: Vec<u8>,
    ahead: Vec<(u32, Vec<u8>)>,
    /// Of two contents for one place the later one is taken.
    last_wins: bool,
    /// Passed by the gate and not processed yet, as while a process holds the socket.
    backlog: Vec<(u64, u32, Vec<u8>)>,
}

impl Receiver {
    fn new(start: u32, last_wins: bool) -> Receiver {
        Receiver {
            next: start,
            taken: Vec::new(),
            ahead: Vec::new(),
            last_wins,
            backlog: Vec::new(),
        }
    }

    fn process(&mut self, until: u64) {
        while self.backlog.first().is_some_and(|(at, _, _)| *at <= until) {
            let (_, seq, bytes) = self.backlog.remove(0);
            self.take(seq, &bytes);
        }
    }

    fn take(&mut self, seq: u32, bytes: &[u8]) {
        self.ahead.push((seq, bytes.to_vec()));
        loop {
            let next = self.next;
            let fits = |(seq, bytes): &(u32, Vec<u8>)| {
                let skip = next.wrapping_sub(*seq);
                (skip as i32) >= 0 && (skip as usize) < bytes.len()
            };
            let found = if self.last_wins {
                self.ahead.iter().rposition(fits)
            } else {
                self.ahead.iter().position(fits)
            };
            let Some(index) = found else { break };
            let (seq, bytes) = self.ahead.remove(index);
            let fresh = &bytes[next.wrapping_sub(seq) as usize..];
            self.taken.extend_from_slice(fresh);
            self.next = next.wrapping_add(fresh.len() as u32);
        }
        let next = self.next;
        self.ahead
            .retain(|(seq, bytes)| (seq.wrapping_add(bytes.len() as u32).wrapping_sub(next) as i32) > 0);
    }

    /// A whole denied head is among what it got.
    fn has_denied(&self) -> bool {
        let mut stream = Stream::default();
        run(&mut stream, &self.taken, &Small::new(), &mut Scan::default());
        stream.state == state::DENIED
    }
}

/// What a hostile peer sends: bytes of one of its stories.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "shown when a case fails")]
struct Act {
    story: usize,
    from: usize,
    to: usize,
    /// The stack takes it: its checksum, time stamp and window are right.
    is_valid: bool,
    wait_ms: u64,
    backlog_ms: u64,
}

/// Streams that differ in where heads and bodies are, cut at the same places.
fn story(parts: &[(u8, u8)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (kind, size) in parts {
        let size = usize::from(*size) * 23;
        match kind % 7 {
            0 => text.extend_from_slice(GOOD),
            1 => text.extend_from_slice(BAD),
            2 => text.extend_from_slice(b"GET /ok/3 HTTP/1.1\r\n\r\n"),
            3 => {
                text.extend_from_slice(
                    format!("POST /x HTTP/1.1\r\nContent-Length: {size:03}\r\n\r\n").as_bytes(),
                );
                text.extend(BAD.iter().cycle().take(size));
            }
            4 => text.extend_from_slice(b"\x16\x03\x01 nothing of HTTP\r\n"),
            5 => text.extend_from_slice(b"GET /ok  HTTP/1.1\r\nA\r\n\r\n"),
            _ => {
                text.extend_from_slice(
                    format!("GET /ok HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(size + 23)).as_bytes(),
                );
            }
        }
    }
    text
}

/// Places at which something begins or ends in one of the stories.
fn places(stories: &[Vec<(u8, u8)>]) -> Vec<usize> {
    let mut places = vec![0, 1, 7];
    for parts in stories {
        for count in 0..=parts.len() {
            let end = story(&parts[..count]).len();
            places.extend([end, end + 5, end + 23, end.saturating_sub(1)]);
            if let Some((kind, _)) = parts.get(count)
                && kind % 7 == 3
            {
                places.extend([end + 39, end + 39 + 23]);
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

fn stories() -> impl Strategy<Value = Vec<Vec<(u8, u8)>>> {
    prop::collection::vec(prop::collection::vec((0u8..7, 0u8..6), 1..5), 2..4)
}

fn acts() -> impl Strategy<Value = Vec<(u8, u8, u8, bool, u8, u8)>> {
    prop::collection::vec(
        (
            any::<u8>(),
            any::<u8>(),
            any::<u8>(),
            any::<bool>(),
            any::<u8>(),
            any::<u8>(),
        ),
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_trick_brings_a_denied_head_to_the_receiver(
        stories in stories(), acts in acts(), start in prop_oneof![Just(1u32), Just(u32::MAX - 50), any::<u32>()], last_wins: bool,
    ) {
        let texts: Vec<Vec<u8>> = stories.iter().map(|parts| story(parts)).collect();
        let places = places(&stories);
        let mut wire = Wire::new(start);
        let mut receiver = Receiver::new(start, last_wins);
        let mut told = Vec::new();
        for (which, from, to, is_valid, wait, backlog) in acts {
            let text = &texts[usize::from(which) % texts.len()];
            let next = receiver.next.wrapping_sub(start) as usize;
            // Often where the receiver is.
            let from = if from % 3 == 0 { next } else { places[usize::from(from) % places.len()] };
            let to = places[usize::from(to) % places.len()].min(text.len());
            if from >= to {
                continue;
            }
            let act = Act {
                story: usize::from(which) % texts.len(),
                from,
                to,
                is_valid,
                wait_ms: if wait % 3 == 0 { 160 } else { u64::from(wait % 7) },
                backlog_ms: if backlog % 3 == 0 { u64::from(backlog) % 149 } else { 0 },
            };
            wire.rcv_nxt = receiver.next;
            let seq = start.wrapping_add(from as u32);
            let passed = wire.offer(seq, &text[from..to]);
            if passed && act.is_valid {
                receiver.backlog.push((wire.now + act.backlog_ms * MS, seq, text[from..to].to_vec()));
                receiver.backlog.sort_by_key(|(at, _, _)| *at);
            }
            wire.now += act.wait_ms * MS;
            receiver.process(wire.now);
            told.push((act, passed, receiver.next.wrapping_sub(start)));
            prop_assert!(
                !receiver.has_denied(),
                "{told:#?}\n{}",
                receiver.taken.escape_ascii()
            );
        }
    }

    #[test]
    fn an_honest_stream_goes_through_a_bad_network(
        parts in prop::collection::vec((prop_oneof![Just(0u8), Just(2), Just(3), Just(6)], 0u8..40), 1..12),
        start in prop_oneof![Just(1u32), Just(u32::MAX - 500), any::<u32>()],
        seed: u64, loss in 0u64..40, after_loss in 0u64..30, segment in 1u64..300,
    ) {
        let text = story(&parts);
        let mut wire = Wire::new(start);
        let mut receiver = Receiver::new(start, false);
        let mut random = seed;
        let mut dice = |sides: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % sides
        };
        let (mut rounds, mut last) = (0, 0);
        while receiver.taken.len() < text.len() {
            rounds += 1;
            if receiver.taken.len() > last {
                (last, rounds) = (receiver.taken.len(), 0);
            }
            prop_assert!(rounds < 60, "it stalls at {} of {}: {:?}", receiver.taken.len(), text.len(), wire.flow);
            // A window's worth of what is not acknowledged, cut anew, in a bad order, some of it twice.
            let mut segments = Vec::new();
            let mut at = receiver.taken.len();
            while at < text.len() && segments.len() < 12 {
                let end = (at + 1 + dice(segment) as usize).min(text.len());
                segments.push((at, end));
                if dice(10) == 0 {
                    segments.push((at, end));
                }
                at = end;
            }
            for index in 0..segments.len() {
                let other = (index + dice(4) as usize).min(segments.len() - 1);
                if dice(4) == 0 {
                    segments.swap(index, other);
                }
            }
            for (from, to) in segments {
                if dice(100) < loss {
                    continue;
                }
                wire.rcv_nxt = receiver.next;
                let seq = start.wrapping_add(from as u32);
                let passed = wire.offer(seq, &text[from..to]);
                prop_assert!(wire.flow.dead == 0, "an honest stream is dead at {from}..{to}: {:?}", wire.flow);
                if passed && dice(100) >= after_loss {
                    let late = if dice(3) == 0 { dice(100) * MS } else { 0 };
                    receiver.backlog.push((wire.now + late, seq, text[from..to].to_vec()));
                }
                wire.now += dice(3) * MS;
                // In order, as a backlog is.
                receiver.process(wire.now);
            }
            wire.now += 200 * MS;
            receiver.process(wire.now);
        }
        prop_assert_eq!(receiver.taken, text);
    }
}
