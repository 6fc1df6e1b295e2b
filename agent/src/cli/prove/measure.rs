//! One quadrant, measured: forbidden calls among allowed ones, judged by what the far end was given, and by nothing that
//! the agent says of itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use apiward_proto::v1;
use memchr::memmem;

use super::peers::{Both, Pair, Tools};
use super::session::Session;
use super::tls;

/// How long an allowed call may take.
const ALLOWED_LIMIT: Duration = Duration::from_secs(10);
/// How long a forbidden one is waited for: then it hangs, which stops it too.
const FORBIDDEN_LIMIT: Duration = Duration::from_secs(3);
/// How long a server may take to end once its client has.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long a reset may come behind an answer.
const RESET_LIMIT: Duration = Duration::from_millis(500);
/// How long the agent may take to tell what became of the last calls.
const TELL_LIMIT: Duration = Duration::from_secs(5);
/// Forbidden calls after which the agent is asked how far it is.
const SETTLE_EVERY: usize = 5;
/// Heads of different lengths: one segment, several, several reads and writes.
const HEAD_BYTES: [usize; 4] = [0, 1_400, 5_000, 12_000];

/// Words, the weakest first. `none`: the whole answer came back, and nothing else happened.
const WORDS: [&str; 4] = ["none", "cut", "contained", "prevented"];

/// How strong a word is; what is no word of a stopped call is as good as nothing.
fn strength(word: &str) -> usize {
    WORDS.iter().position(|known| *known == word).unwrap_or(0)
}

/// What was measured of a quadrant.
#[derive(Debug, Default)]
pub struct Measured {
    /// Word → forbidden calls.
    pub forbidden: BTreeMap<String, u64>,
    pub allowed: u64,
    pub allowed_failed: u64,
    /// Whose whole answer had gone out before the reset.
    answered: u64,
    /// From the forbidden byte until the client knew.
    times: Vec<Duration>,
    /// By the agent's own word.
    pub told: BTreeMap<String, u64>,
}

/// One call's texts.
struct Call {
    head: Vec<u8>,
    answer: Vec<u8>,
}

impl Call {
    fn new(path: &str, number: usize, head_bytes: usize) -> Call {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: canary\r\nX-Canary: {number}\r\n");
        let fill = head_bytes.saturating_sub(head.len() + 12);
        if fill > 0 {
            head.push_str(&format!("X-Fill: {}\r\n", "a".repeat(fill)));
        }
        head.push_str("\r\n");
        let body = format!("the canary's answer {number}.\n");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Call {
            head: head.into_bytes(),
            answer: answer.into_bytes(),
        }
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    memmem::find(bytes, part).is_some()
}

/// Everything that a quadrant's canaries need.
pub struct Course<'a, 'r> {
    pub session: &'a mut Session<'r>,
    pub tools: Tools<'a>,
    pub inbound: bool,
    pub calls: usize,
    pub stop: &'a AtomicBool,
}

impl Course<'_, '_> {
    /// Measures it. The error says why that could not be done.
    pub fn run(mut self) -> Result<Measured, String> {
        let mut measured = Measured::default();
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        // The first connection is unknown to the gate: it is there to make the canaries known, and stays beside all others.
        let mut neighbour = self.open()?;
        let first = self.ordinary(next());
        if !allowed(&mut neighbour, &first) {
            return Err(
                "the first allowed canary got no answer: is loopback up, and nothing else in the way?"
                    .to_owned(),
            );
        }
        if let Tools::Tls(_) = self.tools {
            let near = match self.inbound {
                true => neighbour.server_pid(),
                false => neighbour.client_pid(),
            };
            let library = tls::library_of(near)
                .ok_or("`openssl` has its TLS library inside of itself, where no probe finds it")?;
            self.session.attached(library)?;
        }
        self.settle(&mut measured)?;
        for turn in 0..self.calls {
            if self.stop.load(Ordering::Relaxed) {
                return Err("it was interrupted".to_owned());
            }
            let mut pair = self.open()?;
            // So that time counts from the forbidden byte, and not from the connection.
            let ordinary = self.ordinary(next());
            measured.count(allowed(&mut pair, &ordinary));
            let head_bytes = HEAD_BYTES[turn % HEAD_BYTES.len()];
            let call = Call::new(&self.session.forbidden_path, next(), head_bytes);
            self.forbidden(pair, &call, &mut measured);
            if turn % SETTLE_EVERY == SETTLE_EVERY - 1 {
                self.settle(&mut measured)?;
            }
        }
        let last = self.ordinary(next());
        measured.count(allowed(&mut neighbour, &last));
        drop(neighbour);
        // What became of a call may be known a moment later than the call's end.
        let deadline = Instant::now() + TELL_LIMIT;
        loop {
            self.settle(&mut measured)?;
            if measured.told.values().sum::<u64>() >= self.calls as u64 || Instant::now() > deadline {
                return Ok(measured);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn open(&self) -> Result<Pair, String> {
        Pair::open(self.tools, &self.session.places, self.inbound)
    }

    fn ordinary(&self, number: usize) -> Call {
        Call::new("/canary/allowed", number, 0)
    }

    fn settle(&mut self, measured: &mut Measured) -> Result<(), String> {
        for (word, calls) in self.session.settle()? {
            *measured.told.entry(word).or_default() += calls;
        }
        Ok(())
    }

    /// One forbidden call, and what it came to.
    fn forbidden(&self, mut pair: Pair, call: &Call, measured: &mut Measured) {
        let before = pair.wait(Duration::ZERO, |both| Some(both.client.bytes.len()));
        let before = before.unwrap_or_default();
        let began = Instant::now();
        pair.client_writes(&call.head);
        let mut answered = false;
        let mut over = false;
        while let Some(left) = FORBIDDEN_LIMIT.checked_sub(began.elapsed()) {
            let delivered = pair.wait(left, |both| {
                let delivered = has(&both.server.bytes, &call.head);
                over = both.client.ended || both.client.bytes.len() > before;
                (over || (delivered && !answered)).then_some(delivered)
            });
            // The application has it, and answers at once.
            if delivered == Some(true) && !answered {
                answered = true;
                pair.server_writes(&call.answer);
            }
            if over || delivered.is_none() {
                break;
            }
        }
        if over {
            measured.times.push(began.elapsed());
        }
        // Whoever got the beginning of an answer may get the rest of it; and a reset may come behind it. The server closes
        // nothing by itself: a connection that ends was ended.
        let ended = pair.wait(if over { RESET_LIMIT } else { Duration::ZERO }, |both| {
            both.client.ended.then_some(())
        });
        let both = pair.close(CLOSE_LIMIT);
        let word = word(&both, before, call, self.inbound, ended.is_some());
        measured.answered += u64::from(has(&both.client.bytes, &call.answer));
        *measured.forbidden.entry(word.to_owned()).or_default() += 1;
    }
}

/// An allowed call: it has to arrive whole, and so does its answer.
fn allowed(pair: &mut Pair, call: &Call) -> bool {
    pair.client_writes(&call.head)
        && pair
            .wait(ALLOWED_LIMIT, |both| {
                has(&both.server.bytes, &call.head).then_some(())
            })
            .is_some()
        && pair.server_writes(&call.answer)
        && pair
            .wait(ALLOWED_LIMIT, |both| {
                has(&both.client.bytes, &call.answer).then_some(())
            })
            .is_some()
}

/// What became of a forbidden call, by what both ends have.
fn word(both: &Both, before: usize, call: &Call, inbound: bool, ended: bool) -> &'static str {
    if !has(&both.server.bytes, &call.head) {
        return "prevented";
    }
    let got = &both.client.bytes[before.min(both.client.bytes.len())..];
    if has(got, &call.answer) {
        return if ended { "cut" } else { "none" };
    }
    // What the agent itself says in the application's place is no answer of the application.
    let is_refusal = got.starts_with(b"HTTP/1.1 403 ");
    if inbound && (got.is_empty() || is_refusal) {
        return "contained";
    }
    "cut"
}

impl Measured {
    fn count(&mut self, worked: bool) {
        self.allowed += 1;
        self.allowed_failed += u64::from(!worked);
    }

    /// As it is reported, held against what was promised.
    pub fn judged(mut self, quadrant: &str, promise: &v1::Promise) -> v1::Canary {
        let weakest = self
            .forbidden
            .keys()
            .map(String::as_str)
            .min_by_key(|word| strength(word))
            .unwrap_or_default()
            .to_owned();
        let mut reasons = Vec::new();
        if strength(&weakest) < strength(&promise.least) {
            let words: Vec<String> = self
                .forbidden
                .iter()
                .map(|(word, calls)| format!("{word} {calls}"))
                .collect();
            reasons.push(format!(
                "at least {} was promised, and measured was: {}",
                promise.least,
                words.join(", ")
            ));
        }
        if self.allowed_failed > 0 {
            reasons.push(format!(
                "{} of {} allowed calls failed",
                self.allowed_failed, self.allowed
            ));
        }
        // Nothing that the agent says of a call may be stronger than what was.
        let at_least = |table: &BTreeMap<String, u64>, word: &str| -> u64 {
            let strong = |(known, _): &(&String, &u64)| strength(known) >= strength(word);
            table.iter().filter(strong).map(|(_, calls)| calls).sum()
        };
        for word in WORDS.iter().skip(1) {
            let (told, was) = (at_least(&self.told, word), at_least(&self.forbidden, word));
            if told > was {
                reasons.push(format!(
                    "the agent says {word} of {told} calls, and it was so of {was}"
                ));
                break;
            }
        }
        self.times.sort();
        let median = self.times.get(self.times.len() / 2).copied().unwrap_or_default();
        v1::Canary {
            quadrant: quadrant.to_owned(),
            promised: promise.best.clone(),
            least: promise.least.clone(),
            measured: weakest,
            failed: !reasons.is_empty(),
            reason: reasons.join("; "),
            forbidden: self.forbidden,
            allowed: self.allowed,
            allowed_failed: self.allowed_failed,
            median_ns: u64::try_from(median.as_nanos()).unwrap_or(u64::MAX),
            told: self.told,
            answered: self.answered,
        }
    }
}

/// A quadrant that could not be measured.
pub fn not_measured(quadrant: &str, promise: Option<&v1::Promise>, why: String) -> v1::Canary {
    v1::Canary {
        quadrant: quadrant.to_owned(),
        promised: promise.map(|promise| promise.best.clone()).unwrap_or_default(),
        least: promise.map(|promise| promise.least.clone()).unwrap_or_default(),
        reason: format!("not measured: {why}"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers::Heard;
    use super::*;

    fn both(server: &[&[u8]], client: &[&[u8]]) -> Both {
        let heard = |parts: &[&[u8]]| Heard {
            bytes: parts.concat(),
            ended: true,
        };
        Both {
            server: heard(server),
            client: heard(client),
        }
    }

    #[test]
    fn a_word_is_what_both_ends_have() {
        let call = Call::new("/forbidden", 7, 300);
        assert_eq!(call.head.len(), 300);
        let before: &[u8] = b"an earlier answer";
        let (head, answer) = (call.head.as_slice(), call.answer.as_slice());
        let some = &head[..head.len() - 1];
        let refusal: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        for (server, client, inbound, expected) in [
            (some, refusal, true, "prevented"),
            (some, b"" as &[u8], false, "prevented"),
            (head, b"", true, "contained"),
            (head, refusal, true, "contained"),
            (head, &answer[..9], true, "cut"),
            (head, answer, true, "none"),
            (head, b"", false, "cut"),
            (head, answer, false, "none"),
        ] {
            let both = both(&[b"GET / HTTP/1.1\r\n\r\n", server], &[before, client]);
            assert_eq!(word(&both, before.len(), &call, inbound, false), expected);
            // A reset behind a whole answer is a reset.
            let reset = if expected == "none" { "cut" } else { expected };
            assert_eq!(word(&both, before.len(), &call, inbound, true), reset);
        }
    }

    fn measured(forbidden: &[(&str, u64)], told: &[(&str, u64)], allowed_failed: u64) -> Measured {
        let table = |words: &[(&str, u64)]| {
            words
                .iter()
                .map(|(word, calls)| ((*word).to_owned(), *calls))
                .collect()
        };
        Measured {
            forbidden: table(forbidden),
            told: table(told),
            allowed: 21,
            allowed_failed,
            answered: 0,
            times: vec![
                Duration::from_millis(3),
                Duration::from_millis(1),
                Duration::from_millis(2),
            ],
        }
    }

    #[test]
    fn a_promise_is_kept_or_it_is_not() {
        let judge = |best: &str, least: &str, measured: Measured| {
            let promise = v1::Promise {
                quadrant: "inbound-clear".into(),
                best: best.into(),
                least: least.into(),
            };
            measured.judged("inbound-clear", &promise)
        };
        let kept = judge(
            "prevented",
            "prevented",
            measured(&[("prevented", 20)], &[("prevented", 20)], 0),
        );
        assert_eq!(
            (kept.failed, kept.measured.as_str(), kept.median_ns),
            (false, "prevented", 2_000_000)
        );
        let weaker = judge(
            "prevented",
            "prevented",
            measured(
                &[("prevented", 19), ("cut", 1)],
                &[("prevented", 19), ("cut", 1)],
                0,
            ),
        );
        assert_eq!((weaker.failed, weaker.measured.as_str()), (true, "cut"));
        assert_eq!(
            weaker.reason,
            "at least prevented was promised, and measured was: cut 1, prevented 19"
        );
        let within = judge(
            "contained",
            "cut",
            measured(
                &[("contained", 19), ("cut", 1)],
                &[("contained", 19), ("cut", 1)],
                0,
            ),
        );
        assert!(!within.failed && within.measured == "cut");
        let boasts = judge(
            "contained",
            "cut",
            measured(&[("cut", 20)], &[("contained", 2), ("cut", 18)], 0),
        );
        assert_eq!(
            boasts.reason,
            "the agent says contained of 2 calls, and it was so of 0"
        );
        let harms = judge("prevented", "prevented", measured(&[("prevented", 20)], &[], 1));
        assert!(harms.failed && harms.reason == "1 of 21 allowed calls failed");
        let nothing = judge(
            "unsupported",
            "unsupported",
            measured(&[("none", 20)], &[("observed", 20)], 0),
        );
        assert!(!nothing.failed && nothing.measured == "none");
    }
}
