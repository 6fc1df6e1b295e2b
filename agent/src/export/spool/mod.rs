//! Events on their way out, on disk: bounded, and there after a crash.
//!
//! One spool stands behind every exporter that can fail (collector, OTLP). An event gets its sequence number
//! here, once and for ever; a consumer reads in order, and acknowledges when the other side has committed. What
//! every consumer has acknowledged is deleted; what does not fit is dropped from the old end, and counted.
//!
//! Durability: a batch is written with `write(2)` before `append` returns, so it survives the agent's death by
//! any cause; `fdatasync` follows in the background, per segment and every few seconds, so a power failure costs
//! seconds, not the spool. A disk that refuses writes makes the spool *degraded*: events wait in memory, within
//! `memory_bytes_max`, are still handed to consumers, and go to disk when it takes them again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

mod acked;
mod life;
mod reader;
mod segment;

use acked::Acked;
use life::Life;
pub(super) use life::boot_id;
pub use reader::Reader;
use segment::Segment;

/// How the spool is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Made for the owner alone if it is not there.
    pub dir: PathBuf,
    /// Bytes of events kept on disk; the oldest go first.
    pub bytes_max: u64,
    /// Bytes of events kept in memory while the disk refuses them; the oldest go first.
    pub memory_bytes_max: usize,
}

/// Smallest and largest segment. What is dropped or deleted goes by segment, so a small spool has small ones.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(8 << 20);

/// Memory for the next batch that is kept; a flood's is given back.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// Segments that a full spool consists of, about.
const SEGMENTS: u64 = 16;

/// How long a refusing disk is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long written events may be without `fdatasync`.
const SYNC_AFTER: Duration = Duration::from_secs(2);

/// Segments waiting for `fdatasync`; more are left to the kernel's own write-back.
const SYNC_QUEUE_LEN_MAX: usize = 4;

/// Sequence numbers skipped after a power failure: more than could be sent between two `fdatasync`s, so that no
/// number that a collector may have seen is given to another event.
const SEQUENCE_SKIP: u64 = 1 << 20;

/// Why a spool cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the spool directory {dir} cannot be made or read ({source}): give another `spool.dir`, or make it writable for the agent [{id}]", id = crate::errors::SPOOL
    )]
    Directory { dir: PathBuf, source: io::Error },
    #[error(
        "the spool directory {dir} is in use by another agent: stop that one, or give this one another `spool.dir` [{id}]", id = crate::errors::SPOOL
    )]
    InUse { dir: PathBuf },
}

/// What the caller has to report about a change of the spool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that some consumer will never get.
    pub events_lost: u64,
    /// Why, in words for people.
    pub detail: &'static str,
    /// The disk began to refuse: its error.
    pub degraded: Option<String>,
    /// The disk takes writes again.
    pub recovered: bool,
}

/// What the status shows.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub bytes: u64,
    pub memory_bytes: u64,
    /// The newest sequence number given.
    pub last: u64,
    /// Per consumer: the newest acknowledged, and how many wait.
    pub consumers: Vec<(String, u64, u64)>,
    pub degraded: Option<String>,
}

/// An event as it lies in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    pub sequence: u64,
    /// The event in protobuf.
    pub event: Bytes,
}

/// The spool. Clones are the same spool.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    segment_bytes_max: u64,
    agent_id: String,
    inner: Mutex<Inner>,
    /// The newest sequence number, for consumers that wait.
    last: watch::Sender<u64>,
    sync: SyncSender<Arc<File>>,
    /// Held as long as the spool: the lock that keeps a second agent out.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    /// Oldest first. The last is written to while `active` is there.
    segments: VecDeque<Segment>,
    active: Option<Arc<File>>,
    /// Sequence number of the next event.
    next: u64,
    /// Framed events that the disk refused, oldest first; they end at `next`.
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    /// Memory for the frames of one batch.
    buffer: Vec<u8>,
    consumers: BTreeMap<String, Acked>,
    degraded: Option<String>,
    retry_at: Option<Instant>,
    synced_at: Instant,
    life: Life,
}

impl Spool {
    /// Opens the spool for these consumers (names of files: `collector`, `otlp`), mending what a crash left.
    pub fn open(settings: Settings, consumers: &[&str]) -> Result<(Self, Report), OpenError> {
        let dir = settings.dir.clone();
        let failed = |source| OpenError::Directory {
            dir: dir.clone(),
            source,
        };
        make_private(&dir).map_err(failed)?;
        let lock = private_file(&dir.join("lock")).map_err(failed)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OpenError::InUse { dir });
        }
        let (segments, mut report) = recover(&dir).map_err(failed)?;
        let consumers: BTreeMap<String, Acked> = consumers
            .iter()
            .map(|&name| (name.to_owned(), Acked::open(&dir, name)))
            .collect();

        let newest_acked = consumers.values().map(|acked| acked.sequence).max().unwrap_or(0);
        let mut next = segments
            .back()
            .map_or(1, |segment| segment.next)
            .max(newest_acked.saturating_add(1));
        let (life, power_failed, error) = Life::begin(&dir);
        if power_failed {
            next += SEQUENCE_SKIP;
        }
        if let Some(error) = error {
            report.degraded = Some(error.to_string());
        }
        let (agent_id, stored) = agent_id(&dir);
        if let Err(error) = stored {
            report.degraded = Some(error.to_string());
        }

        let segment_bytes_max =
            (settings.bytes_max / SEGMENTS).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let inner = Inner {
            segments,
            active: None,
            next,
            memory: VecDeque::new(),
            memory_bytes: 0,
            buffer: Vec::new(),
            consumers,
            degraded: report.degraded.clone(),
            retry_at: None,
            synced_at: Instant::now(),
            life,
        };
        let spool = Spool {
            shared: Arc::new(Shared {
                settings,
                segment_bytes_max,
                agent_id,
                inner: Mutex::new(inner),
                last: watch::Sender::new(next - 1),
                sync: sync_thread(),
                _lock: lock,
            }),
        };
        let mut inner = spool.lock();
        inner.delete_acknowledged();
        spool.drop_oldest(&mut inner, &mut report);
        drop(inner);
        Ok((spool, report))
    }

    /// The agent's name, stable over restarts.
    pub fn agent_id(&self) -> &str {
        &self.shared.agent_id
    }

    /// Gives the events (in protobuf) their sequence numbers and writes them. Never fails: what the disk refuses waits
    /// in memory, what fits in neither is in the report.
    pub fn append<'e>(&self, events: impl Iterator<Item = &'e [u8]>) -> Report {
        let mut report = Report::default();
        let mut inner = self.lock();
        self.retry(&mut inner, &mut report);
        let mut buffer = std::mem::take(&mut inner.buffer);
        let mut buffered = 0u64;
        for event in events {
            let start = buffer.len();
            let sequence = inner.next + buffered;
            if !segment::frame(&mut buffer, sequence, event) {
                report.lost(1, "an event was longer than any should be");
                continue;
            }
            let in_segment = inner.active_bytes() + buffer.len() as u64;
            if start > 0 && in_segment > self.shared.segment_bytes_max {
                let frame = buffer.split_off(start);
                self.store(&mut inner, &buffer, buffered, &mut report);
                self.roll(&mut inner);
                buffer.clear();
                buffer.extend_from_slice(&frame);
                buffered = 0;
            }
            buffered += 1;
        }
        if buffered > 0 {
            if inner.active_bytes() + buffer.len() as u64 > self.shared.segment_bytes_max {
                self.roll(&mut inner);
            }
            self.store(&mut inner, &buffer, buffered, &mut report);
        }
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        inner.buffer = buffer;
        self.drop_oldest(&mut inner, &mut report);
        self.sync_if_due(&mut inner);
        self.shared.last.send_replace(inner.next - 1);
        report
    }

    /// To be called now and then when nothing is appended: tries a refusing disk again, and syncs what is due.
    pub fn tick(&self) -> Report {
        let mut report = Report::default();
        let mut inner = self.lock();
        self.retry(&mut inner, &mut report);
        self.sync_if_due(&mut inner);
        report
    }

    /// A consumer has committed every event up to and including `sequence`.
    pub fn acknowledge(&self, consumer: &str, sequence: u64) {
        let mut inner = self.lock();
        // A number that was never given would make everything up to it look delivered.
        let sequence = sequence.min(inner.next - 1);
        if let Some(acked) = inner.consumers.get_mut(consumer)
            && !acked.advance(sequence)
        {
            inner
                .degraded
                .get_or_insert_with(|| "an acknowledgement could not be written".to_owned());
            inner.retry_at.get_or_insert_with(|| Instant::now() + RETRY_AFTER);
        }
        inner.delete_acknowledged();
    }

    /// A reader that starts after the consumer's last acknowledged event.
    pub fn reader(&self, consumer: &str) -> Reader {
        let inner = self.lock();
        let acked = inner.consumers.get(consumer).map_or(0, |acked| acked.sequence);
        Reader {
            spool: self.clone(),
            next: acked + 1,
            file: None,
            chunk: Vec::new(),
            last: self.shared.last.subscribe(),
        }
    }

    /// Lowest sequence number that is still here, or the next one to be given.
    pub fn first(&self) -> u64 {
        self.lock().first()
    }

    /// Sizes and positions, for the status and the metrics.
    pub fn stats(&self) -> Stats {
        let inner = self.lock();
        let last = inner.next - 1;
        let first = inner.first();
        Stats {
            bytes: inner.bytes(),
            memory_bytes: inner.memory_bytes as u64,
            last,
            consumers: inner
                .consumers
                .iter()
                .map(|(name, acked)| {
                    let from = (acked.sequence + 1).max(first);
                    (name.clone(), acked.sequence, (last + 1).saturating_sub(from))
                })
                .collect(),
            degraded: inner.degraded.clone(),
        }
    }

    /// Whether all that was appended is in files, where it outlives the agent.
    pub fn is_written(&self) -> bool {
        self.lock().memory.is_empty()
    }

    /// Writes everything through to the disk and marks the spool as cleanly closed. For an orderly end.
    pub fn close(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let mut report = Report::default();
        inner.retry_at = None;
        self.retry(&mut inner, &mut report);
        if let Some(active) = &inner.active {
            active.sync_data()?;
        }
        inner.life.end()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere does not make the segments' list wrong: it is changed after the files are.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes framed events to the active segment, or keeps them in memory if that does not work.
    fn store(&self, inner: &mut Inner, frames: &[u8], count: u64, report: &mut Report) {
        if frames.is_empty() {
            return;
        }
        let written = if inner.memory.is_empty() && inner.retry_at.is_none() {
            self.write(inner, inner.next, frames, count)
        } else {
            // Order is kept: what waits in memory goes first.
            Err(None)
        };
        let first = inner.next;
        inner.next += count;
        if let Err(error) = written {
            if let Some(error) = error {
                inner.degrade(&error, report);
            }
            inner.remember(frames, first, self.shared.settings.memory_bytes_max, report);
        }
    }

    fn write(
        &self,
        inner: &mut Inner,
        first: u64,
        frames: &[u8],
        count: u64,
    ) -> Result<(), Option<io::Error>> {
        if inner.active.is_none() {
            let (segment, file) = segment::create(&self.shared.settings.dir, first)?;
            inner.segments.push_back(segment);
            inner.active = Some(Arc::new(file));
        }
        let (Some(file), Some(segment)) = (inner.active.clone(), inner.segments.back_mut()) else {
            return Err(None);
        };
        if let Err(error) = file.write_all_at(frames, segment.bytes) {
            // Half a write must not stand before the next good frame: the segment ends where it was good.
            let _ = file.set_len(segment.bytes);
            self.roll(inner);
            return Err(Some(error));
        }
        segment.bytes += frames.len() as u64;
        segment.next += count;
        Ok(())
    }

    /// Ends the active segment; the next write starts another.
    fn roll(&self, inner: &mut Inner) {
        if let Some(file) = inner.active.take() {
            // A full queue means the disk is behind: waiting for it here would stall the agent.
            let _ = self.shared.sync.try_send(file);
        }
        if inner
            .segments
            .back()
            .is_some_and(|segment| segment.next == segment.first)
            && let Some(segment) = inner.segments.pop_back()
        {
            let _ = fs::remove_file(&segment.path);
        }
        inner.delete_acknowledged();
    }

    /// Moves what waits in memory to the disk, once it may be tried again.
    fn retry(&self, inner: &mut Inner, report: &mut Report) {
        if inner.degraded.is_none() || inner.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        inner.retry_at = None;
        while let Some(frame) = inner.memory.front().cloned() {
            let first = inner.next - inner.memory.len() as u64;
            if inner.active_bytes() + frame.len() as u64 > self.shared.segment_bytes_max {
                self.roll(inner);
            }
            // A segment holds consecutive numbers; memory may have given up some before this one.
            if inner.active.is_some() && inner.segments.back().is_some_and(|segment| segment.next != first) {
                self.roll(inner);
            }
            if let Err(error) = self.write(inner, first, &frame, 1) {
                if let Some(error) = error {
                    inner.degrade(&error, report);
                }
                return;
            }
            inner.memory.pop_front();
            inner.memory_bytes -= frame.len();
        }
        // Whether small files can be written: a disk may take a frame and not the acknowledgement after it.
        if inner.life.write().is_ok() {
            inner.degraded = None;
            report.recovered = true;
        } else {
            inner.retry_at = Some(Instant::now() + RETRY_AFTER);
        }
    }

    fn drop_oldest(&self, inner: &mut Inner, report: &mut Report) {
        while inner.bytes() > self.shared.settings.bytes_max && inner.segments.len() > 1 {
            let Some(segment) = inner.segments.pop_front() else {
                return;
            };
            let _ = fs::remove_file(&segment.path);
            let acked = inner.lowest_acked();
            report.lost(
                segment.next.saturating_sub(segment.first.max(acked + 1)),
                "the spool was full",
            );
        }
    }

    fn sync_if_due(&self, inner: &mut Inner) {
        if inner.synced_at.elapsed() >= SYNC_AFTER {
            inner.synced_at = Instant::now();
            if let Some(active) = &inner.active {
                let _ = self.shared.sync.try_send(active.clone());
            }
        }
    }
}

impl Inner {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn active_bytes(&self) -> u64 {
        match (&self.active, self.segments.back()) {
            (Some(_), Some(segment)) => segment.bytes,
            _ => 0,
        }
    }

    fn first(&self) -> u64 {
        self.segments
            .front()
            .map_or(self.next - self.memory.len() as u64, |segment| segment.first)
    }

    /// What every consumer has; without consumers everything is done with.
    fn lowest_acked(&self) -> u64 {
        self.consumers
            .values()
            .map(|acked| acked.sequence)
            .min()
            .unwrap_or(self.next - 1)
    }

    fn delete_acknowledged(&mut self) {
        let acked = self.lowest_acked();
        let kept = usize::from(self.active.is_some());
        while self.segments.len() > kept
            && self
                .segments
                .front()
                .is_some_and(|segment| segment.next <= acked + 1)
        {
            if let Some(segment) = self.segments.pop_front() {
                let _ = fs::remove_file(&segment.path);
            }
        }
        while !self.memory.is_empty() && self.next - self.memory.len() as u64 <= acked {
            if let Some(frame) = self.memory.pop_front() {
                self.memory_bytes -= frame.len();
            }
        }
    }

    fn degrade(&mut self, error: &io::Error, report: &mut Report) {
        if self.degraded.is_none() {
            report.degraded = Some(error.to_string());
        }
        self.degraded = Some(error.to_string());
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    fn remember(&mut self, frames: &[u8], first: u64, bytes_max: usize, report: &mut Report) {
        let all = Bytes::copy_from_slice(frames);
        let mut at = 0;
        let mut sequence = first;
        while let segment::Parsed::Event(_, length) = segment::parse(&all[at..], sequence) {
            // A copy of its own, so that dropping it gives its memory back.
            self.memory
                .push_back(Bytes::copy_from_slice(&all[at..at + length]));
            self.memory_bytes += length;
            at += length;
            sequence += 1;
        }
        let acked = self.lowest_acked();
        while self.memory_bytes > bytes_max {
            let oldest = self.next - self.memory.len() as u64;
            let Some(frame) = self.memory.pop_front() else {
                return;
            };
            self.memory_bytes -= frame.len();
            report.lost(
                u64::from(oldest > acked),
                "the disk refused the spool, and memory for it was full",
            );
        }
    }
}

impl Report {
    fn lost(&mut self, events: u64, detail: &'static str) {
        if events > 0 {
            self.events_lost += events;
            self.detail = detail;
        }
    }
}

/// Every segment that an earlier run left, mended.
fn recover(dir: &Path) -> io::Result<(VecDeque<Segment>, Report)> {
    let mut report = Report::default();
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    // Damage in the segment before: how many events it cost is known from where the next one starts.
    let mut damaged = false;
    for path in paths {
        let recovered = segment::recover(&path).unwrap_or_default();
        let expected = segments.back().map_or(0, |segment| segment.next);
        let Some(segment::Recovered {
            segment,
            damaged_bytes,
        }) = recovered.filter(|found| found.segment.first >= expected)
        else {
            // A crash between making the file and writing its header leaves it empty: nothing is lost with it.
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > segment::HEADER_BYTES) {
                report.lost(1, "a segment of the spool was damaged (at least so many events)");
            }
            let _ = fs::remove_file(&path);
            continue;
        };
        if damaged {
            report.lost(segment.first - expected, "a segment of the spool was damaged");
        }
        damaged = damaged_bytes > 0;
        if damaged && let Ok(file) = fs::OpenOptions::new().write(true).open(&path) {
            let _ = file.set_len(segment.bytes);
        }
        if segment.next == segment.first {
            let _ = fs::remove_file(&path);
        } else {
            segments.push_back(segment);
        }
    }
    if damaged {
        report.lost(
            1,
            "the last write to the spool was torn (at least so many events)",
        );
    }
    Ok((segments, report))
}

/// The agent's name: made at the first start, then read. An error means that it will be another one next time.
fn agent_id(dir: &Path) -> (String, io::Result<()>) {
    let path = dir.join("agent_id");
    if let Ok(text) = fs::read_to_string(&path) {
        let text = text.trim();
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return (text.to_owned(), Ok(()));
        }
    }
    let made = format!("{:032x}", rand::random::<u128>());
    let stored = write_private(&path, &made);
    (made, stored)
}

/// Makes a directory that only its owner may enter. One that is there already is left as it is: it may be
/// somebody's `/run` or `/tmp`, and every file of ours is for its owner alone anyway.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens or makes a file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Replaces a small file as a whole: a reader sees the old text or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    writeln!(file, "{text}")?;
    fs::rename(&partial, path)
}

/// `fdatasync` may take as long as the disk likes: it has a thread of its own.
fn sync_thread() -> SyncSender<Arc<File>> {
    let (sender, receiver) = sync_channel::<Arc<File>>(SYNC_QUEUE_LEN_MAX);
    let thread = std::thread::Builder::new().name("apiward-sync".to_owned());
    // Without the thread the channel is closed and nothing is synced but by the kernel, which is no reason to stop.
    let _ = thread.spawn(move || {
        for file in receiver {
            let _ = file.sync_data();
        }
    });
    sender
}

#[cfg(test)]
impl Spool {
    /// As [`append`](Self::append), of events that are not in protobuf yet.
    pub fn append_events(&self, events: &[apiward_proto::v1::Event]) -> Report {
        use prost::Message;
        let encoded: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
        self.append(encoded.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests;
