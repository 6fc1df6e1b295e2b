//! The thread that writes: batches from the pipeline's queue to the spool, the JSON lines and whoever watches.
//!
//! It waits for the disk, so nobody may wait for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use prost::Message;

use super::batch::{self, Batch};
use super::seen::Seen;
use super::spool::{self, Spool};
use super::{Event, Exporter, Exports, Job, jsonl, wire};

/// Events taken together: one write to the spool, one to each file.
const BATCH_EVENTS_MAX: usize = 2048;

/// Events waiting that count as being behind, and how long that lasts.
const BEHIND_EVENTS: usize = super::QUEUE_EVENTS_MAX / 8;
const BEHIND: Duration = Duration::from_secs(1);

/// How long the export thread waits for a batch before it looks after the disk.
const IDLE: Duration = Duration::from_millis(250);

/// The export thread.
pub(super) struct Worker {
    exports: Exports,
    writers: Vec<(jsonl::Writer, Arc<Exporter>)>,
    /// Events about the export itself; they go out with the next batch.
    own: Vec<Event>,
    seen: Seen,
    /// To be noted once the batch at hand is written.
    seen_until: Option<u64>,
    ticked_at: Instant,
    with_time: Option<fn(bool)>,
    /// When it was behind last, and what was told of it.
    behind_at: Option<Instant>,
    has_time: bool,
}

impl Worker {
    pub(super) fn new(
        exports: Exports,
        writers: Vec<(jsonl::Writer, Arc<Exporter>)>,
        state_dir: Option<&Path>,
        with_time: Option<fn(bool)>,
    ) -> Self {
        Worker {
            exports,
            writers,
            own: Vec::new(),
            seen: Seen::open(state_dir),
            seen_until: None,
            ticked_at: Instant::now(),
            with_time,
            behind_at: None,
            has_time: false,
        }
    }

    pub(super) fn run(mut self, jobs: Receiver<Job>) {
        let mut batches = Vec::new();
        loop {
            let mut stop = None;
            let mut events = 0;
            let seen_until = &mut self.seen_until;
            let mut take = |job, stop: &mut Option<SyncSender<()>>| match job {
                Job::Events(batch) => {
                    events += batch.len();
                    batches.push(batch);
                    events < BATCH_EVENTS_MAX
                }
                Job::Seen(until_ns) => {
                    *seen_until = Some(until_ns);
                    true
                }
                Job::Stop(done) => {
                    *stop = Some(done);
                    false
                }
            };
            let mut more = match jobs.recv_timeout(IDLE) {
                Ok(job) => take(job, &mut stop),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while more {
                more = jobs.try_recv().is_ok_and(|job| take(job, &mut stop));
            }
            self.exports.shared.queued.fetch_sub(events, Ordering::Relaxed);
            self.weigh(events);
            self.process(&mut batches);
            self.note_seen();
            if let Some(done) = stop {
                // What the last batches led to.
                self.process(&mut batches);
                if self.is_written() {
                    self.seen.end();
                }
                let _ = done.send(());
                return;
            }
        }
    }

    /// So many events were waiting, or more.
    fn weigh(&mut self, events: usize) {
        let Some(with_time) = self.with_time else { return };
        if events >= BEHIND_EVENTS {
            self.behind_at = Some(Instant::now());
        }
        let has_time = self.behind_at.is_none_or(|at| at.elapsed() >= BEHIND);
        if has_time != std::mem::replace(&mut self.has_time, has_time) {
            with_time(has_time);
        }
    }

    fn process(&mut self, batches: &mut Vec<Batch>) {
        let shared = self.exports.shared.clone();
        let overflowed = shared.overflowed.swap(0, Ordering::Relaxed);
        if overflowed > 0 {
            self.own.push(wire::flow_loss(wire::Loss {
                reason: "export-queue",
                events: overflowed,
                detail: "events came faster than they could be written".to_owned(),
                ..Default::default()
            }));
        }
        if !self.own.is_empty() {
            let mut own = self.exports.batch();
            self.own.drain(..).for_each(|event| own.push(&event));
            batches.push(own);
        }
        self.tick();
        if batches.is_empty() {
            return;
        }
        if let Some(spool) = &shared.spool {
            let report = spool.append(batches.iter().flat_map(Batch::iter));
            self.note(report);
        }
        for (writer, exporter) in &mut self.writers {
            let (written, lost) = (writer.written, writer.lost);
            batches.iter().for_each(|batch| writer.write(batch));
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
        let watched = shared.live.receiver_count() > 0;
        for batch in batches.drain(..) {
            self.meter(batch.marks());
            let mut recent = shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            for (event, mark) in batch.iter().zip(batch.marks()) {
                if mark.is_call() {
                    recent.push(event, mark.verdict.is_some_and(|verdict| verdict.by_rule));
                }
                // Who watches reads everything again: of all exporters that one is there the least often.
                if watched && let Ok(event) = Event::decode(event) {
                    let _ = shared.live.send(Arc::new(event));
                }
            }
            drop(recent);
            self.exports.take_back(batch);
        }
    }

    /// Counts by runs of the same: a counter is found by its labels, and nearly all calls have those of the one before.
    fn meter(&self, marks: &[batch::Mark]) {
        let meter = &self.exports.shared.meter;
        for run in marks.chunk_by(|a, b| a.kind == b.kind) {
            if let Some(first) = run.first() {
                meter.events(first.kind, run.len() as u64);
            }
        }
        for run in marks.chunk_by(|a, b| a.verdict == b.verdict) {
            if let Some(verdict) = run.first().and_then(|first| first.verdict) {
                meter.verdicts(verdict.action, verdict.guarantee, run.len() as u64);
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

    /// What nobody saw before becomes an event as soon as somebody sees again, also while more comes than can be written; how
    /// far everything is written is noted once it is, that event too.
    fn note_seen(&mut self) {
        let Some(until_ns) = self.seen_until else {
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
            let mut silence = self.exports.batch();
            silence.push(&event);
            self.process(&mut vec![silence]);
        }
        if self.is_written() {
            self.seen_until = None;
            self.seen.until(until_ns);
        }
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
