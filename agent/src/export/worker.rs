//! The thread that writes: batches from the pipeline's queue to the spool, the JSON lines and whoever watches.
//!
//! It waits for the disk, so nobody may wait for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::seen::Seen;
use super::spool::{self, Spool};
use super::{Event, Exporter, Exports, Job, jsonl, wire};

/// Events taken together: one write to the spool, one to each file.
const BATCH_EVENTS_MAX: usize = 2048;

/// How long the export thread waits for a batch before it looks after the disk.
const IDLE: Duration = Duration::from_millis(250);

/// The export thread.
pub(super) struct Worker {
    exports: Exports,
    writers: Vec<(jsonl::Writer, Arc<Exporter>)>,
    /// Events about the export itself; they go out with the next batch.
    own: Vec<Event>,
    /// The batch at hand in protobuf: made once, for the spool and for what is remembered.
    encoded: Encoded,
    seen: Seen,
    /// To be noted once the batch at hand is written.
    seen_until: Option<u64>,
    ticked_at: Instant,
}

/// Events in protobuf, one behind the other.
#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

/// Memory for the next batch that is kept; a flood's is given back.
const ENCODED_BYTES_KEPT: usize = 1 << 20;

impl Encoded {
    fn of(&mut self, events: &[Event]) {
        use prost::Message;
        self.bytes.clear();
        self.bytes.shrink_to(ENCODED_BYTES_KEPT);
        self.ends.clear();
        for event in events {
            // Only ever fails for want of room, and a vector makes room.
            let _ = event.encode(&mut self.bytes);
            self.ends.push(self.bytes.len());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let event = &self.bytes[start..end];
            start = end;
            event
        })
    }
}

/// Action and guarantee of a call's verdict.
fn verdict_of(event: &Event) -> Option<(&str, &str)> {
    match &event.kind {
        Some(apiward_proto::v1::event::Kind::Call(call)) => {
            let verdict = call.verdict.as_ref()?;
            Some((&verdict.action, &verdict.guarantee))
        }
        _ => None,
    }
}

impl Worker {
    pub(super) fn new(
        exports: Exports,
        writers: Vec<(jsonl::Writer, Arc<Exporter>)>,
        state_dir: Option<&Path>,
    ) -> Self {
        Worker {
            exports,
            writers,
            own: Vec::new(),
            encoded: Encoded::default(),
            seen: Seen::open(state_dir),
            seen_until: None,
            ticked_at: Instant::now(),
        }
    }

    pub(super) fn run(mut self, jobs: Receiver<Job>) {
        let mut batch = Vec::new();
        loop {
            let mut stop = None;
            match jobs.recv_timeout(IDLE) {
                Ok(Job::Events(events)) => batch = events,
                Ok(Job::Seen(until_ns)) => self.seen_until = Some(until_ns),
                Ok(Job::Stop(done)) => stop = Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while stop.is_none() && batch.len() < BATCH_EVENTS_MAX {
                match jobs.try_recv() {
                    Ok(Job::Events(mut events)) => batch.append(&mut events),
                    Ok(Job::Seen(until_ns)) => self.seen_until = Some(until_ns),
                    Ok(Job::Stop(done)) => stop = Some(done),
                    Err(_) => break,
                }
            }
            self.exports
                .shared
                .queued
                .fetch_sub(batch.len(), Ordering::Relaxed);
            self.process(&mut batch);
            self.note_seen();
            if let Some(done) = stop {
                // What the last batch led to.
                self.process(&mut batch);
                if self.is_written() {
                    self.seen.end();
                }
                let _ = done.send(());
                return;
            }
        }
    }

    fn process(&mut self, batch: &mut Vec<Event>) {
        let shared = self.exports.shared.clone();
        let overflowed = shared.overflowed.swap(0, Ordering::Relaxed);
        if overflowed > 0 {
            batch.push(wire::flow_loss(wire::Loss {
                reason: "export-queue",
                events: overflowed,
                detail: "events came faster than they could be written".to_owned(),
                ..Default::default()
            }));
        }
        batch.append(&mut self.own);
        self.tick();
        if batch.is_empty() {
            return;
        }
        self.encoded.of(batch);
        if let Some(spool) = &shared.spool {
            let report = spool.append(self.encoded.iter());
            self.note(report);
        }
        for (writer, exporter) in &mut self.writers {
            let (written, lost) = (writer.written, writer.lost);
            writer.write(batch);
            exporter.add_sent(writer.written - written);
            if writer.lost > lost {
                exporter.add_dropped(writer.lost - lost);
                shared.meter.lost("jsonl", writer.lost - lost);
            }
            let changed = match &writer.error {
                Some(error) => exporter.set_state("failing", error.clone()),
                None => exporter.set_state("ok", ""),
            };
            if changed {
                self.own.push(match &writer.error {
                    Some(error) => wire::agent_state("degraded", format!("{}: {error}", exporter.name)),
                    None => wire::agent_state("recovered", exporter.name.clone()),
                });
            }
        }
        self.meter(batch);
        let watched = shared.live.receiver_count() > 0;
        let mut recent = shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for (event, encoded) in batch.drain(..).zip(self.encoded.iter()) {
            recent.push(&event, encoded);
            if watched {
                let _ = shared.live.send(Arc::new(event));
            }
        }
    }

    /// Counts by runs of the same: a counter is found by its labels, and nearly all calls have those of the one before.
    fn meter(&self, batch: &[Event]) {
        let meter = &self.exports.shared.meter;
        let kind = apiward_proto::json::kind_name;
        for run in batch.chunk_by(|a, b| kind(a) == kind(b)) {
            if let Some(first) = run.first() {
                meter.events(kind(first), run.len() as u64);
            }
        }
        let verdicts: Vec<_> = batch.iter().filter_map(verdict_of).collect();
        for run in verdicts.chunk_by(|a, b| a == b) {
            if let Some((action, guarantee)) = run.first() {
                meter.verdicts(action, guarantee, run.len() as u64);
            }
        }
    }

    fn tick(&mut self) {
        if self.ticked_at.elapsed() < IDLE {
            return;
        }
        self.ticked_at = Instant::now();
        let shared = &self.exports.shared;
        shared
            .meter
            .queue("export", shared.queued.load(Ordering::Relaxed) as u64);
        if let Some(spool) = &shared.spool {
            let report = spool.tick();
            let stats = spool.stats();
            shared.meter.spool_bytes(stats.bytes + stats.memory_bytes);
            for (consumer, _, waiting) in &stats.consumers {
                shared.meter.queue(consumer, *waiting);
            }
            self.note(report);
        }
    }

    /// How far everything is written. The first time, what nobody saw before becomes an event.
    fn note_seen(&mut self) {
        if !self.is_written() {
            return;
        }
        let Some(until_ns) = self.seen_until.take() else {
            return;
        };
        if let Some(silent) = self.seen.silence(until_ns) {
            self.exports.shared.meter.lost("agent-killed", 1);
            let mut event = wire::flow_loss(wire::Loss {
                reason: "agent-killed",
                duration_ns: u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX),
                detail: "the agent before was killed: what it had not written yet, and what happened until this one saw, \
                         was not seen"
                    .to_owned(),
                ..Default::default()
            });
            // The silence's end.
            event.time_ns = until_ns;
            // Before the note: who is killed between the two says it twice, and not never.
            self.process(&mut vec![event]);
        }
        self.seen.until(until_ns);
    }

    fn is_written(&self) -> bool {
        self.exports.shared.spool.as_ref().is_none_or(Spool::is_written)
    }

    /// What the spool had to report becomes events.
    pub(super) fn note(&mut self, report: spool::Report) {
        if report.events_lost > 0 {
            self.exports.shared.meter.lost("spool", report.events_lost);
            self.own.push(wire::flow_loss(wire::Loss {
                reason: "spool",
                events: report.events_lost,
                detail: report.detail.to_owned(),
                ..Default::default()
            }));
        }
        if let Some(error) = report.degraded {
            tracing::warn!(error, "the spool cannot be written; events wait in memory");
            self.own
                .push(wire::agent_state("degraded", format!("spool: {error}")));
        }
        if report.recovered {
            self.own.push(wire::agent_state("recovered", "spool"));
        }
    }
}
