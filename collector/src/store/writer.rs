//! The only writer: a thread that takes what waits, commits it in one transaction, and says so.
//!
//! Grouping commits is what makes an fsync per commit cheap: under load many batches share one. A commit that fails
//! (a full disk) is not acknowledged; the agents keep their events and try again, and the state is a metric and in the
//! log. Old events go by age and by size, a little at a time, so that no commit waits long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiward_proto::v1;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use super::event::Event;
use super::{now_ns, used_bytes};
use crate::metrics::Metrics;

/// Jobs that wait; beyond it the streams wait, and with them the agents.
const JOBS_MAX: usize = 1024;
/// Jobs in one transaction.
const GROUP_MAX: usize = 64;
/// How often old events are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(30);
/// Events that go in one transaction.
const RETENTION_ROWS_MAX: i64 = 5_000;
/// Pages given back to the file system at a time.
const VACUUM_PAGES_MAX: u32 = 2_000;

/// How long, and how much of it, events are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub age: Duration,
    pub bytes_max: u64,
}

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Job {
    Hello {
        agent: String,
        hello: v1::Hello,
    },
    Heartbeat {
        agent: String,
        heartbeat: v1::Heartbeat,
    },
    /// Consecutive events; the answer comes once they are on the disk.
    Batch {
        agent: String,
        first_sequence: u64,
        events: Vec<Event>,
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Waits until there is room. An error: the writer has ended.
    pub async fn send(&self, job: Job) -> Result<(), String> {
        self.jobs
            .send(job)
            .await
            .map_err(|_| "the store is closed".to_owned())
    }
}

/// Starts the thread; it ends when the last [`Writer`] is gone.
pub fn start(
    connection: Connection,
    retention: Retention,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Handle,
) -> std::io::Result<(Writer, std::thread::JoinHandle<()>)> {
    let (jobs, receiver) = mpsc::channel(JOBS_MAX);
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
        let mut store = Store {
            connection,
            keys: HashMap::new(),
            metrics,
            retention,
            failing: false,
        };
        store.serve(receiver, &runtime);
    })?;
    Ok((Writer { jobs }, thread))
}

pub(super) struct Store {
    pub(super) connection: Connection,
    /// Agents' keys by id.
    pub(super) keys: HashMap<String, i64>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) retention: Retention,
    pub(super) failing: bool,
}

impl Store {
    fn serve(&mut self, mut jobs: mpsc::Receiver<Job>, runtime: &tokio::runtime::Handle) {
        let mut swept = Instant::now();
        loop {
            let wait = RETENTION_EVERY.saturating_sub(swept.elapsed());
            let first = runtime.block_on(async { tokio::time::timeout(wait, jobs.recv()).await });
            match first {
                Ok(None) => return,
                Ok(Some(job)) => {
                    let mut group = vec![job];
                    while group.len() < GROUP_MAX
                        && let Ok(job) = jobs.try_recv()
                    {
                        group.push(job);
                    }
                    self.metrics.queue(jobs.len());
                    self.commit(group);
                }
                Err(_) => {}
            }
            if swept.elapsed() >= RETENTION_EVERY {
                swept = Instant::now();
                match self.sweep(now_ns()) {
                    Ok(0) => {}
                    Ok(gone) => {
                        self.metrics.removed(gone);
                        tracing::info!(events = gone, "old events are removed");
                    }
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    /// One transaction, then the answers.
    pub(super) fn commit(&mut self, group: Vec<Job>) {
        let started = Instant::now();
        let result = self.write(&group);
        let answer = match &result {
            Ok((fresh, known)) => {
                self.metrics.committed(*fresh, *known, started.elapsed());
                if self.failing {
                    self.failing = false;
                    self.metrics.set_failing(false);
                    tracing::info!("the store takes events again");
                }
                Ok(())
            }
            Err(error) => {
                self.failed(error);
                Err("the store cannot take events now; they are kept where they are".to_owned())
            }
        };
        for job in group {
            if let Job::Batch { done, .. } = job {
                // The stream may be gone; the agent will send again, and be told then.
                let _ = done.send(answer.clone());
            }
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.metrics.set_failing(true);
        // Keys of agents that the transaction made are gone with it.
        self.keys.clear();
        if !self.failing {
            self.failing = true;
            tracing::error!(%error, "the store cannot be written, nothing is acknowledged: is the disk full?");
        }
    }

    fn write(&mut self, group: &[Job]) -> rusqlite::Result<(u64, u64)> {
        let (mut fresh, mut known) = (0, 0);
        let transaction = self.connection.transaction()?;
        let mut touched: HashMap<i64, (u64, u64)> = HashMap::new();
        for job in group {
            match job {
                Job::Hello { agent, hello } => {
                    let key = key_of(&transaction, &mut self.keys, agent)?;
                    transaction
                        .prepare_cached("UPDATE agents SET hello = ?2, last_seen_ns = ?3 WHERE key = ?1")?
                        .execute(params![key, hello.encode_to_vec(), now_ns()])?;
                }
                Job::Heartbeat { agent, heartbeat } => {
                    let key = key_of(&transaction, &mut self.keys, agent)?;
                    transaction
                        .prepare_cached("UPDATE agents SET heartbeat = ?2, last_seen_ns = ?3 WHERE key = ?1")?
                        .execute(params![key, heartbeat.encode_to_vec(), now_ns()])?;
                }
                Job::Batch {
                    agent,
                    first_sequence,
                    events,
                    ..
                } => {
                    let key = key_of(&transaction, &mut self.keys, agent)?;
                    let mut insert = transaction.prepare_cached(
                        "INSERT OR IGNORE INTO events (agent, sequence, time_ns, kind, event) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?;
                    let mut new = 0;
                    for (index, event) in events.iter().enumerate() {
                        let sequence = first_sequence.saturating_add(index as u64);
                        new += insert.execute(params![
                            key,
                            sequence.cast_signed(),
                            event.time_ns.cast_signed(),
                            event.kind,
                            &event.bytes[..],
                        ])? as u64;
                    }
                    fresh += new;
                    known += events.len() as u64 - new;
                    let last = first_sequence
                        .saturating_add(events.len() as u64)
                        .saturating_sub(1);
                    let entry = touched.entry(key).or_default();
                    entry.0 += new;
                    entry.1 = entry.1.max(last);
                }
            }
        }
        for (key, (new, last)) in touched {
            transaction
                .prepare_cached(
                    "UPDATE agents SET events = events + ?2, acknowledged = max(acknowledged, ?3), last_seen_ns = ?4 WHERE key = ?1",
                )?
                .execute(params![key, new.cast_signed(), last.cast_signed(), now_ns()])?;
        }
        transaction.commit()?;
        Ok((fresh, known))
    }

    /// Removes what is too old or too much; returns how many events went.
    pub(super) fn sweep(&mut self, now_ns: i64) -> rusqlite::Result<u64> {
        let age = i64::try_from(self.retention.age.as_nanos()).unwrap_or(i64::MAX);
        let oldest = now_ns.saturating_sub(age);
        let mut gone = 0;
        loop {
            let rows = self.connection.execute(
                "DELETE FROM events WHERE (agent, sequence) IN (SELECT agent, sequence FROM events WHERE time_ns < ?1 \
                 ORDER BY time_ns LIMIT ?2)",
                params![oldest, RETENTION_ROWS_MAX],
            )?;
            gone += rows as u64;
            if (rows as i64) < RETENTION_ROWS_MAX {
                break;
            }
        }
        while used_bytes(&self.connection)? > self.retention.bytes_max {
            let rows = self.connection.execute(
                "DELETE FROM events WHERE (agent, sequence) IN (SELECT agent, sequence FROM events \
                 ORDER BY time_ns LIMIT ?1)",
                params![RETENTION_ROWS_MAX],
            )?;
            gone += rows as u64;
            if rows == 0 {
                break;
            }
        }
        if gone > 0 {
            self.connection
                .execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
        }
        self.metrics.store_bytes(used_bytes(&self.connection)?);
        Ok(gone)
    }
}

fn key_of(connection: &Connection, keys: &mut HashMap<String, i64>, agent: &str) -> rusqlite::Result<i64> {
    if let Some(key) = keys.get(agent) {
        return Ok(*key);
    }
    connection.execute("INSERT OR IGNORE INTO agents (id) VALUES (?1)", params![agent])?;
    let key = connection
        .query_row("SELECT key FROM agents WHERE id = ?1", params![agent], |row| {
            row.get(0)
        })
        .optional()?
        .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    keys.insert(agent.to_owned(), key);
    Ok(key)
}
