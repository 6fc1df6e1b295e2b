//! Ended calls and the agent's own state → events on their way out: collector, OpenTelemetry, JSON lines.
//!
//! Only `wire` and its siblings touch the generated types. Kernel time becomes wall-clock time here, once.
//!
//! Two threads. `apiward-export` takes batches from the pipeline's queue, writes them to the spool and the JSON
//! lines, and shows them to whoever watches. `apiward-io` runs everything that waits for a network: it reads the
//! spool, never the queue. So a slow collector costs disk, a slow disk costs the queue, and the pipeline waits for
//! neither: what does not fit is counted, and the count is an event.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub mod aside;
mod batch;
pub mod clock;
pub mod collector;
pub mod command;
pub mod control;
pub mod facts;
mod in_force;
pub mod inventory;
pub mod jsonl;
pub mod net;
pub mod otlp;
mod recent;
mod seen;
pub mod spool;
pub mod wire;
mod worker;

/// The event of the contract; what it is made of is `wire`'s business.
pub use apiward_proto::v1::Event;
pub use batch::Batch;
use command::Command;
use facts::Facts;
use in_force::InForce;
use recent::Recent;
use spool::Spool;
use worker::Worker;

/// Events between the pipeline and the export thread (about 2 KiB each, with their JSON line); more are dropped and counted.
pub const QUEUE_EVENTS_MAX: usize = 8192;

/// Batches in the same queue.
const QUEUE_BATCHES_MAX: usize = 1024;

/// Empty batches kept for their memory: one is filled, one is under way, one is written.
const SPARE_BATCHES_MAX: usize = 4;

/// Events that a watcher may be behind before it misses some.
const WATCH_EVENTS_MAX: usize = 4096;

/// How long the pipeline may take to say how things stand.
const FACTS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where events go, and how.
#[derive(Debug, Default)]
pub struct Settings {
    pub jsonl: Vec<jsonl::Target>,
    /// The same, in OCSF's form.
    pub ocsf: Vec<jsonl::Target>,
    /// Needed by collectors and OTLP; not opened without them.
    pub spool: Option<spool::Settings>,
    /// Names of the spool's consumers.
    pub consumers: Vec<String>,
    /// Where what is in force is remembered over restarts.
    pub state_dir: Option<std::path::PathBuf>,
    /// Told by the thread that writes whether it has time, that is, much room in its queue.
    pub with_time: Option<fn(bool)>,
}

/// Counters that outlive a stage. `export` says what happened; who keeps and shows it is not its business.
pub trait Meter: Send + Sync + fmt::Debug {
    /// Something was given up. `name` is stable, kebab-case, and names where.
    fn lost(&self, name: &'static str, count: u64);
    /// Every loss counter, by name.
    fn losses(&self) -> BTreeMap<String, u64>;
    /// So many events of a kind went out.
    fn events(&self, kind: &'static str, count: u64);
    /// So many calls went out with this action and guarantee (empty for none).
    fn verdicts(&self, action: &str, guarantee: &str, count: u64);
    /// How many wait in a queue.
    fn queue(&self, name: &str, depth: u64);
    /// Bytes in the spool, on disk and in memory.
    fn spool_bytes(&self, bytes: u64);
}

/// The exporters' handle. Clones are the same exporters.
#[derive(Clone, Debug)]
pub struct Exports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Job>,
    /// Events in `queue`.
    queued: AtomicUsize,
    /// Empty ones, for their memory.
    spare: Mutex<Vec<Batch>>,
    /// Somebody writes JSON lines.
    with_lines: bool,
    /// Events that found it full, since the last batch.
    overflowed: AtomicU64,
    live: broadcast::Sender<Arc<Event>>,
    recent: Mutex<Recent>,
    spool: Option<Spool>,
    agent_id: String,
    exporters: Mutex<Vec<Arc<Exporter>>>,
    meter: Arc<dyn Meter>,
    commands: mpsc::Sender<Command>,
    /// Wakes whoever carries commands out.
    waker: OnceLock<Waker>,
    in_force: Mutex<InForce>,
    started_ns: u64,
    runtime: tokio::runtime::Handle,
    stop: watch::Sender<bool>,
    /// The thread that `runtime` runs on, until it is waited for.
    serving: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Waker(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

#[derive(Debug)]
enum Job {
    Events(Batch),
    /// Everything before this moment (Unix nanoseconds) is in the jobs before this one.
    Seen(u64),
    Stop(SyncSender<()>),
}

/// One exporter's account, for the status.
#[derive(Debug)]
pub struct Exporter {
    name: String,
    /// Its name as a consumer of the spool; `None` if it does not read from there.
    consumer: Option<String>,
    /// State and detail: `connected`, `connecting`, `failing`, `ok`.
    state: Mutex<(&'static str, String)>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Exporter {
    /// Says how it is. Returns whether that is another state than before.
    pub fn set_state(&self, state: &'static str, detail: impl Into<String>) -> bool {
        let mut now = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = now.0 != state;
        *now = (state, detail.into());
        changed
    }

    /// Counts events that were sent.
    pub fn add_sent(&self, events: u64) {
        self.sent.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events that this exporter had to give up.
    pub fn add_dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }
}

/// What [`Exports::start`] gives.
pub struct Started {
    pub exports: Exports,
    /// What the pipeline has to carry out between two batches.
    pub commands: mpsc::Receiver<Command>,
}

/// Why the exporters cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    #[error("the exporters' threads cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

impl Exports {
    /// Opens the spool and starts both threads. Nothing is sent anywhere yet: see the exporters' own `start`.
    pub fn start(settings: Settings, meter: Arc<dyn Meter>) -> Result<Started, StartError> {
        let mut opened = spool::Report::default();
        let spool = match settings.spool {
            Some(spool_settings) => {
                let consumers: Vec<&str> = settings.consumers.iter().map(String::as_str).collect();
                let (spool, report) = Spool::open(spool_settings, &consumers)?;
                opened = report;
                Some(spool)
            }
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("apiward-blocking")
            .max_blocking_threads(2)
            .build()?;
        let (queue, jobs) = sync_channel(QUEUE_BATCHES_MAX);
        let (commands, commands_receiver) = mpsc::channel(command::COMMAND_QUEUE_LEN_MAX);
        let agent_id = spool.as_ref().map_or_else(
            || format!("{:032x}", rand::random::<u128>()),
            |spool| spool.agent_id().to_owned(),
        );
        let exports = Exports {
            shared: Arc::new(Shared {
                queue,
                queued: AtomicUsize::new(0),
                spare: Mutex::new(Vec::new()),
                with_lines: !settings.jsonl.is_empty(),
                overflowed: AtomicU64::new(0),
                live: broadcast::Sender::new(WATCH_EVENTS_MAX),
                recent: Mutex::new(Recent::default()),
                spool,
                agent_id,
                exporters: Mutex::new(Vec::new()),
                meter,
                commands,
                waker: OnceLock::new(),
                in_force: Mutex::new(InForce::open(settings.state_dir.as_deref())),
                started_ns: clock::wall_ns(),
                runtime: runtime.handle().clone(),
                stop: watch::Sender::new(false),
                serving: Mutex::new(None),
            }),
        };
        let ours = settings.jsonl.into_iter().map(jsonl::Writer::new);
        let ocsf = settings
            .ocsf
            .into_iter()
            .map(|target| jsonl::Writer::ocsf(target, exports.agent_id()));
        let writers = ours
            .chain(ocsf)
            .map(|writer| {
                let exporter = exports.add_exporter(&writer.name(), None);
                (writer, exporter)
            })
            .collect();
        let mut worker = Worker::new(
            exports.clone(),
            writers,
            settings.state_dir.as_deref(),
            settings.with_time,
        );
        worker.note(opened);
        std::thread::Builder::new()
            .name("apiward-export".to_owned())
            .spawn(move || worker.run(jobs))?;
        let mut stop = exports.shared.stop.subscribe();
        let serving = std::thread::Builder::new()
            .name("apiward-io".to_owned())
            .spawn(move || {
                // The sender lives as long as any exporter does: an error means that all of them are gone.
                runtime.block_on(async move {
                    let _ = stop.wait_for(|&stop| stop).await;
                });
                runtime.shutdown_timeout(Duration::from_millis(200));
            })?;
        *exports.serving() = Some(serving);
        Ok(Started {
            exports,
            commands: commands_receiver,
        })
    }

    /// An empty batch, for [`Exports::hand_on`].
    pub fn batch(&self) -> Batch {
        let spare = self.spare().pop();
        spare.unwrap_or_else(|| Batch::new(self.shared.with_lines))
    }

    /// Hands events on, as [`Exports::hand_on`] does.
    pub fn send(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut batch = self.batch();
        events.iter().for_each(|event| batch.push(event));
        self.hand_on(batch);
    }

    /// Hands on what a batch has if it is full.
    pub fn hand_on_full(&self, batch: &mut Batch) {
        if batch.is_full() {
            self.take_over(batch);
        }
    }

    /// Hands on what a batch has, and leaves an empty one.
    pub fn take_over(&self, batch: &mut Batch) {
        self.hand_on(std::mem::replace(batch, self.batch()));
    }

    /// Hands a batch on. Never waits: what does not fit is counted, and reported as a loss.
    pub fn hand_on(&self, batch: Batch) {
        let count = batch.len();
        if count == 0 {
            return;
        }
        let shared = &self.shared;
        let fits = shared.queued.fetch_add(count, Ordering::Relaxed) + count <= QUEUE_EVENTS_MAX;
        let sent = fits
            && match shared.queue.try_send(Job::Events(batch)) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !sent {
            shared.queued.fetch_sub(count, Ordering::Relaxed);
            shared.overflowed.fetch_add(count as u64, Ordering::Relaxed);
            shared.meter.lost("export-queue", count as u64);
        }
    }

    /// Everything before this moment (Unix nanoseconds) has been sent. The first time: from here on everything is seen.
    /// Where there is no room for the word, the next one says it too.
    pub fn seen_until(&self, at_ns: u64) {
        let _ = self.shared.queue.try_send(Job::Seen(at_ns));
    }

    /// Takes an exporter into the status.
    pub fn add_exporter(&self, name: &str, consumer: Option<&str>) -> Arc<Exporter> {
        let exporter = Arc::new(Exporter {
            name: name.to_owned(),
            consumer: consumer.map(str::to_owned),
            state: Mutex::new((
                if consumer.is_some() { "connecting" } else { "ok" },
                String::new(),
            )),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        self.exporters().push(exporter.clone());
        exporter
    }

    /// Where everything runs that waits for a network; also for the metrics' listener.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.shared.runtime
    }

    /// Turns true when the exporters stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.shared.stop.subscribe()
    }

    /// The agent's name: kept in the spool's directory, made up for this run without one.
    pub fn agent_id(&self) -> &str {
        &self.shared.agent_id
    }

    /// The spool, if anything needs one.
    pub fn spool(&self) -> Option<&Spool> {
        self.shared.spool.as_ref()
    }

    /// What was last accepted of this kind of change; empty if nothing was.
    fn in_force(&self, what: &str) -> String {
        let in_force = &self.shared.in_force;
        in_force.lock().unwrap_or_else(PoisonError::into_inner).get(what)
    }

    fn set_in_force(&self, what: &str, name: &str) {
        let in_force = &self.shared.in_force;
        in_force
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set(what, name);
    }

    /// What wakes the owner of the pipeline when there is a command; without it the next look finds it.
    pub fn set_waker(&self, wake: impl Fn() + Send + Sync + 'static) {
        // The first one stays: there is one pipeline.
        let _ = self.shared.waker.set(Waker(Box::new(wake)));
    }

    /// Hands a command to the pipeline. A full queue gives it back.
    pub fn command(&self, command: Command) -> Result<(), Box<Command>> {
        let sent = self.shared.commands.try_send(command);
        if let Some(waker) = self.shared.waker.get() {
            (waker.0)();
        }
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(command) | mpsc::error::TrySendError::Closed(command) => {
                Box::new(command)
            }
        })
    }

    /// How things stand, as the pipeline says it. `None` if it does not answer.
    async fn facts(&self) -> Option<Facts> {
        let (reply, facts) = oneshot::channel();
        self.command(Command::Facts { reply }).ok()?;
        tokio::time::timeout(FACTS_TIMEOUT, facts).await.ok()?.ok()
    }

    /// Every endpoint, in the contract's form. `None` if the pipeline does not answer.
    async fn inventory(&self) -> Option<Vec<apiward_proto::v1::Endpoint>> {
        let (reply, endpoints) = oneshot::channel();
        self.command(Command::Inventory { reply }).ok()?;
        let endpoints = tokio::time::timeout(FACTS_TIMEOUT, endpoints).await.ok()?.ok()?;
        Some(endpoints.iter().map(inventory::endpoint).collect())
    }

    /// The whole status: the pipeline's part, and what is known here.
    pub async fn status(&self) -> apiward_proto::v1::Status {
        let facts = self.facts().await;
        let answered = facts.is_some();
        let mut status = facts.unwrap_or_default().into_status();
        if !answered {
            status.mode = String::new();
            status.degraded.push(
                "the agent's pipeline does not answer: it is starting, stopping, or overloaded".to_owned(),
            );
        }
        let shared = &self.shared;
        status.agent_id = shared.agent_id.clone();
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        status.started_ns = shared.started_ns;
        status.losses = shared.meter.losses();
        let stats = shared.spool.as_ref().map(Spool::stats).unwrap_or_default();
        for exporter in self.exporters().iter() {
            let (state, detail) = exporter
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let place = exporter.consumer.as_ref().and_then(|consumer| {
                stats
                    .consumers
                    .iter()
                    .find(|(name, _, _)| name == consumer)
                    .map(|(_, acked, waiting)| (*acked, *waiting))
            });
            let (acknowledged, waiting) = place.unwrap_or_default();
            if state == "failing" {
                status
                    .degraded
                    .push(format!("exporter {}: {detail}", exporter.name));
            }
            status.exporters.push(apiward_proto::v1::Exporter {
                name: exporter.name.clone(),
                state: state.to_owned(),
                detail,
                sent: exporter.sent.load(Ordering::Relaxed),
                acknowledged,
                waiting,
                dropped: exporter.dropped.load(Ordering::Relaxed),
            });
        }
        if let Some(error) = stats.degraded {
            status.degraded.push(format!(
                "the spool cannot be written ({error}): make room, or move `spool.dir`; events wait in memory"
            ));
        }
        let (cpu_ns, rss_bytes) = own_cost();
        status.cpu_ns = cpu_ns;
        status.rss_bytes = rss_bytes;
        status
    }

    /// Live events from now on; a watcher that is too slow is told how many it missed.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.shared.live.subscribe()
    }

    /// Recent events about any of these, each a trace id, an event id or a pid; newest first.
    pub fn find_recent<S: AsRef<str>>(&self, subjects: &[S], len_max: usize) -> Vec<Event> {
        self.shared
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .find(subjects, len_max)
    }

    /// Counts and reports a loss that happened in an exporter.
    pub fn report_loss(&self, name: &'static str, loss: wire::Loss<'_>) {
        self.shared.meter.lost(name, loss.events.max(loss.records));
        self.send(vec![wire::flow_loss(loss)]);
    }

    /// Counts and reports events that a damaged segment of the spool took from an exporter.
    pub fn report_damaged(&self, exporter: &Exporter, events: u64) {
        if events == 0 {
            return;
        }
        exporter.add_dropped(events);
        self.report_loss(
            "spool",
            wire::Loss {
                reason: "spool",
                events,
                detail: "a segment of the spool was damaged".to_owned(),
                ..Default::default()
            },
        );
    }

    /// Writes out what is queued, gives the exporters `grace` to deliver what is spooled, and ends them. What is
    /// not delivered by then stays in the spool for the next start.
    pub fn shutdown(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let (done, wait) = sync_channel(1);
        if self.shared.queue.send(Job::Stop(done)).is_ok() {
            let _ = wait.recv_timeout(grace.max(Duration::from_secs(1)));
        }
        if let Some(spool) = &self.shared.spool {
            let connected = || {
                self.exporters().iter().any(|exporter| {
                    exporter.consumer.is_some()
                        && exporter.state.lock().unwrap_or_else(PoisonError::into_inner).0 == "connected"
                })
            };
            let waiting = || spool.stats().consumers.iter().any(|(_, _, waiting)| *waiting > 0);
            while Instant::now() < until && connected() && waiting() {
                std::thread::sleep(Duration::from_millis(10));
            }
            if let Err(error) = spool.close() {
                tracing::warn!(%error, "the spool could not be closed cleanly; nothing is lost unless power fails");
            }
        }
        self.shared.stop.send_replace(true);
        // What is served puts its things away when it is dropped, such as the control socket's file: the process must
        // not end before. The thread gives itself a limit.
        let serving = self.serving().take();
        if let Some(serving) = serving
            && serving.thread().id() != std::thread::current().id()
        {
            let _ = serving.join();
        }
    }

    fn serving(&self) -> std::sync::MutexGuard<'_, Option<std::thread::JoinHandle<()>>> {
        self.shared.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.shared.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written: its memory is for a next one.
    fn take_back(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare();
        if spare.len() < SPARE_BATCHES_MAX {
            spare.push(batch);
        }
    }

    fn exporters(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Exporter>>> {
        self.shared
            .exporters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// CPU time in nanoseconds and resident bytes of this process; 0 where the system does not say.
fn own_cost() -> (u64, u64) {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_ns = (cpu.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(cpu.tv_nsec as u64);
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    (cpu_ns, pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests;
