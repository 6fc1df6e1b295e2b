//! The newest events, for `apiward why`. Kept in protobuf, a quarter of the size of the living form.
//!
//! Two rings: on a busy host a ring of everything holds a fraction of a second, and what people ask about is what
//! a rule had an opinion on. So calls that a rule spoke about do not compete with the others.

use std::collections::VecDeque;

use apiward_proto::v1;
use prost::Message;

/// Events in each of the two rings (about 0.5 KiB each); the oldest go first.
const RING_LEN_MAX: usize = 4096;

/// Digits of an event id that are enough to name it.
const ID_DIGITS_MIN: usize = 8;

/// The rings.
#[derive(Debug, Default)]
pub struct Recent {
    judged: VecDeque<Vec<u8>>,
    others: VecDeque<Vec<u8>>,
}

impl Recent {
    /// Remembers a call, in protobuf; `judged`: a rule spoke about it.
    pub fn push(&mut self, encoded: &[u8], judged: bool) {
        let ring = if judged {
            &mut self.judged
        } else {
            &mut self.others
        };
        // The oldest one's memory is the newest one's: events of one host are much alike in size.
        let mut place = match ring.len() {
            RING_LEN_MAX => ring.pop_front().unwrap_or_default(),
            _ => Vec::new(),
        };
        place.clear();
        place.shrink_to(2 * encoded.len());
        place.reserve_exact(encoded.len());
        place.extend_from_slice(encoded);
        ring.push_back(place);
    }

    /// Events about any of these, each a trace id, an event id (or its first digits) or a pid; newest first.
    pub fn find<S: AsRef<str>>(&self, subjects: &[S], len_max: usize) -> Vec<v1::Event> {
        let subjects: Vec<String> = subjects
            .iter()
            .map(|subject| subject.as_ref().trim().to_ascii_lowercase())
            .collect();
        let mut found: Vec<v1::Event> = [&self.judged, &self.others]
            .into_iter()
            .flat_map(|ring| {
                ring.iter()
                    .rev()
                    .filter_map(|bytes| v1::Event::decode(&bytes[..]).ok())
                    .filter(|event| subjects.iter().any(|subject| is_about(event, subject)))
                    .take(len_max)
            })
            .collect();
        found.sort_by_key(|event| std::cmp::Reverse(event.time_ns));
        found.truncate(len_max);
        found
    }
}

fn is_about(event: &v1::Event, subject: &str) -> bool {
    let Some(v1::event::Kind::Call(call)) = &event.kind else {
        return false;
    };
    if subject.is_empty() {
        return false;
    }
    let pid = || {
        subject
            .parse()
            .is_ok_and(|pid: u32| call.process.as_ref().is_some_and(|p| p.pid == pid))
    };
    let trace = || {
        call.request
            .as_ref()
            .is_some_and(|request| request.trace_id.eq_ignore_ascii_case(subject))
    };
    let id =
        || subject.len() >= ID_DIGITS_MIN && apiward_proto::json::id_text(&event.id).starts_with(subject);
    pid() || trace() || id()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(recent: &mut Recent, event: &v1::Event) {
        let Some(v1::event::Kind::Call(call)) = &event.kind else {
            panic!("a call");
        };
        let judged = call
            .verdict
            .as_ref()
            .is_some_and(|verdict| !verdict.rule.is_empty());
        recent.push(&event.encode_to_vec(), judged);
    }

    fn call(number: u32, rule: &str) -> v1::Event {
        v1::Event {
            id: u128::from(number).to_be_bytes().iter().rev().copied().collect(),
            time_ns: number.into(),
            kind: Some(v1::event::Kind::Call(v1::Call {
                process: Some(v1::Process {
                    pid: 1_000_000 + number,
                    ..Default::default()
                }),
                request: Some(v1::Request {
                    trace_id: format!("AB{number:030x}"),
                    ..Default::default()
                }),
                verdict: Some(v1::Verdict {
                    rule: rule.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn found_by_pid_trace_and_id() {
        let mut recent = Recent::default();
        for number in 1..=3 {
            push(&mut recent, &call(number, ""));
        }
        for subject in [
            "1000002",
            "ab000000000000000000000000000002",
            "0200000000000000",
            " 02000000 ",
        ] {
            let found = recent.find(&[subject], 10);
            assert_eq!(
                found.iter().map(|event| event.time_ns).collect::<Vec<_>>(),
                [2],
                "{subject}"
            );
        }
        for subject in ["", "0200000", "7", "zz"] {
            assert_eq!(recent.find(&[subject], 10), [], "{subject}");
        }
    }

    #[test]
    fn a_flood_of_ordinary_calls_does_not_wash_a_judged_one_away() {
        let mut recent = Recent::default();
        push(&mut recent, &call(1, "no-export"));
        for number in 2..RING_LEN_MAX as u32 + 10 {
            push(&mut recent, &call(number, ""));
        }
        assert_eq!(recent.find(&["1000001"], 1).len(), 1);
        assert_eq!(
            recent.find(&["1000002"], 1).len(),
            0,
            "the oldest ordinary call has gone"
        );
    }
}
