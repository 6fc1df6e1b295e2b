//! Events on their way to the export thread, in the forms in which they leave the agent.
//!
//! An event is written down where it is made: all that it tells is in that processor's cache then. Handed on as what it
//! is made of, its strings would each be memory that one thread allocates, another fetches from the first one's cache
//! and frees; that was most of what exporting cost.
//!
//! It must not know what an event means, but for what is counted.

use apiward_proto::{json, v1};
use prost::Message;

use super::Event;
use super::wire::Told;

/// Memory for a next batch that is kept: for a full one, and the events behind it that come with one record. What a flood
/// took is given back.
const BYTES_KEPT: usize = 384 << 10;

/// What makes a batch full: so much is still in a processor's cache when it is written.
const BYTES_FULL: usize = 256 << 10;

/// Events, one behind the other.
#[derive(Debug, Default)]
pub struct Batch {
    protobuf: Vec<u8>,
    /// JSON lines, if anybody writes them.
    lines: Vec<u8>,
    with_lines: bool,
    marks: Vec<Mark>,
}

/// What is known of an event without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    protobuf_end: usize,
    lines_end: usize,
    pub kind: &'static str,
    /// Of a call.
    pub verdict: Option<Judged>,
}

/// What is counted of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub action: &'static str,
    pub guarantee: &'static str,
    /// A rule spoke about the call.
    pub by_rule: bool,
}

impl Mark {
    pub fn is_call(&self) -> bool {
        self.kind == "call"
    }
}

impl Judged {
    fn of(verdict: &v1::Verdict) -> Self {
        Judged {
            action: known(&verdict.action),
            guarantee: known(&verdict.guarantee),
            by_rule: !verdict.rule.is_empty(),
        }
    }
}

/// The contract's own words, so that a count needs no memory of its own.
fn known(word: &str) -> &'static str {
    const WORDS: [&str; 10] = [
        "",
        "allow",
        "alert",
        "deny",
        "kill",
        "observed",
        "cut",
        "contained",
        "prevented",
        "killed",
    ];
    WORDS.into_iter().find(|known| *known == word).unwrap_or("other")
}

impl Batch {
    /// An empty batch; `with_lines`: somebody writes JSON lines.
    pub(super) fn new(with_lines: bool) -> Self {
        // At once, so that it is not copied while it grows. What is never used is never taken.
        let memory = |wanted: bool| Vec::with_capacity(if wanted { BYTES_KEPT } else { 0 });
        Batch {
            protobuf: memory(true),
            lines: memory(with_lines),
            with_lines,
            marks: Vec::new(),
        }
    }

    /// Writes an event down.
    pub fn push(&mut self, event: &Event) {
        // Only ever fails for want of room, and a vector makes room.
        let _ = event.encode(&mut self.protobuf);
        if self.with_lines {
            json::line(event, &mut self.lines);
        }
        self.mark(event);
    }

    /// Writes the call down that was told last.
    pub fn push_call(&mut self, told: &mut Told) {
        told.encode(&mut self.protobuf);
        if self.with_lines {
            told.line(&mut self.lines);
        }
        self.mark(told.event());
    }

    fn mark(&mut self, event: &Event) {
        let verdict = match &event.kind {
            Some(v1::event::Kind::Call(call)) => call.verdict.as_ref().map(Judged::of),
            _ => None,
        };
        self.marks.push(Mark {
            protobuf_end: self.protobuf.len(),
            lines_end: self.lines.len(),
            kind: json::kind_name(event),
            verdict,
        });
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether it is to be handed on before more is written.
    pub fn is_full(&self) -> bool {
        self.protobuf.len().max(self.lines.len()) >= BYTES_FULL
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Each event in protobuf.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.marks.iter().map(move |mark| {
            let event = &self.protobuf[start..mark.protobuf_end];
            start = mark.protobuf_end;
            event
        })
    }

    /// The JSON lines in pieces of some `bytes` that end with a line, and how many lines each has.
    pub(super) fn lines(&self, bytes: usize) -> impl Iterator<Item = (&[u8], u64)> {
        let (mut start, mut from) = (0, 0);
        std::iter::from_fn(move || {
            let rest = self.marks.get(from..).filter(|rest| !rest.is_empty())?;
            let count = rest.partition_point(|mark| mark.lines_end < start + bytes) + 1;
            let count = count.min(rest.len());
            let end = rest[count - 1].lines_end;
            let piece = &self.lines[start..end];
            (start, from) = (end, from + count);
            Some((piece, count as u64))
        })
    }

    /// Empty again, with the memory that a next one needs.
    pub(super) fn clear(&mut self) {
        for bytes in [&mut self.protobuf, &mut self.lines] {
            bytes.clear();
            bytes.shrink_to(BYTES_KEPT);
        }
        self.marks.clear();
        self.marks.shrink_to(BYTES_KEPT / size_of::<Mark>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::wire;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let events: Vec<Event> = (0..20)
            .map(|n| wire::agent_state("started", "x".repeat(n * 9)))
            .collect();
        let mut batch = Batch::new(true);
        for _ in 0..2 {
            events.iter().for_each(|event| batch.push(event));
            assert_eq!((batch.len(), batch.is_empty()), (20, false));
            let found: Vec<Event> = batch
                .iter()
                .filter_map(|bytes| Event::decode(bytes).ok())
                .collect();
            assert_eq!(found, events);
            let mut lines = Vec::new();
            events.iter().for_each(|event| json::line(event, &mut lines));
            for bytes in [1, 300, 1_000, 1 << 20] {
                let pieces: Vec<(&[u8], u64)> = batch.lines(bytes).collect();
                assert_eq!(pieces.iter().map(|(_, count)| count).sum::<u64>(), 20, "{bytes}");
                assert!(pieces.iter().all(|(piece, _)| piece.ends_with(b"\n")), "{bytes}");
                assert_eq!(
                    pieces
                        .iter()
                        .map(|(piece, _)| *piece)
                        .collect::<Vec<_>>()
                        .concat(),
                    lines
                );
            }
            batch.clear();
            assert!(batch.is_empty() && batch.lines(1).next().is_none());
        }
    }

    #[test]
    fn without_a_writer_there_are_no_lines() {
        let mut batch = Batch::new(false);
        batch.push(&wire::agent_state("started", ""));
        assert_eq!(batch.lines(1).map(|(piece, _)| piece.len()).sum::<usize>(), 0);
        assert_eq!(batch.iter().count(), 1);
    }

    #[test]
    fn a_full_batch_keeps_its_memory_and_a_flood_does_not() {
        let mut batch = Batch::new(true);
        let fill = |batch: &mut Batch, until: &dyn Fn(&Batch) -> bool| {
            while !until(batch) {
                batch.push(&wire::agent_state("started", "a detail of some length"));
            }
        };
        let memory = |batch: &Batch| (batch.protobuf.as_ptr(), batch.lines.as_ptr());
        let first = memory(&batch);
        fill(&mut batch, &|batch| batch.is_full());
        assert!(
            batch.lines.len() < BYTES_KEPT && memory(&batch) == first,
            "it grew before it was full"
        );
        batch.clear();
        assert!(
            !batch.is_full() && memory(&batch) == first,
            "its memory was given back"
        );
        fill(&mut batch, &|batch| batch.lines.len() > 4 * BYTES_KEPT);
        batch.clear();
        assert!(batch.lines.capacity() <= BYTES_KEPT);
    }
}
