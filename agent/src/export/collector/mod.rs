//! The spool → an Apiward collector, over one bidirectional stream.
//!
//! At least once: what is not acknowledged is sent again over the next connection, from the spool. The window of
//! what is under way is bounded in events and bytes, so a collector that commits slowly is not drowned. Commands
//! come the other way; what this host permits is decided here, against its own configuration, before the pipeline
//! hears of them, and what is refused is answered and recorded like what is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apiward_proto::v1;
use apiward_proto::v1::collector_client::CollectorClient;
use apiward_proto::v1::from_agent::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::command::{Asked, Ceiling, Command, PolicyText, Term};
use super::net::{self, Backoff, Tls};
use super::spool::Reader;
use super::{Exporter, Exports, clock};
use crate::policy::{Mode, PolicySet};

/// Events in one message, and about its bytes.
const BATCH_EVENTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Events and bytes sent and not yet acknowledged.
const IN_FLIGHT_EVENTS_MAX: u64 = 8192;
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Messages handed to the transport and not yet taken.
const OUTGOING_LEN_MAX: usize = 4;
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A collector that acknowledges nothing for so long is taken for dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the pipeline may take over a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a collector may take to open the stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// A collector, and what it may do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name as a consumer of the spool.
    pub consumer: String,
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    pub tls: Option<Tls>,
    /// Instead of the one kept in the spool's directory.
    pub agent_id: Option<String>,
    /// The most that it may change here.
    pub ceiling: Ceiling,
}

/// Starts the exporter on the exporters' runtime. Without a spool there is nothing that it could send.
pub fn start(exports: &Exports, settings: Settings) {
    let Some(spool) = exports.spool().cloned() else {
        tracing::error!("a collector is configured, but no spool: nothing is sent to it");
        return;
    };
    let exporter = exports.add_exporter(
        &format!("collector {}", settings.endpoint),
        Some(&settings.consumer),
    );
    let link = Link {
        exports: exports.clone(),
        settings,
        exporter,
    };
    let mut stopping = exports.stopping();
    exports.runtime().spawn(async move {
        tokio::select! {
            () = link.run(spool) => {}
            _ = stopping.wait_for(|&stop| stop) => {}
        }
    });
}

struct Link {
    exports: Exports,
    settings: Settings,
    exporter: Arc<Exporter>,
}

/// Why a session ended. All of them are tried again.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] net::ConnectError),
    #[error("the collector ended the stream: {0}")]
    Refused(String),
    #[error("the collector closed the stream")]
    Closed,
    #[error("the collector has acknowledged nothing for {} s", ACK_TIMEOUT.as_secs())]
    Silent,
}

/// What is under way.
#[derive(Debug, Default)]
struct Window {
    /// Last sequence number and bytes of each batch.
    batches: VecDeque<(u64, u64, usize)>,
    events: u64,
    bytes: usize,
    /// When something was last acknowledged, or the window became non-empty.
    moved_at: Option<Instant>,
}

impl Window {
    fn is_open(&self) -> bool {
        self.events < IN_FLIGHT_EVENTS_MAX && self.bytes < IN_FLIGHT_BYTES_MAX
    }

    fn sent(&mut self, last: u64, events: u64, bytes: usize) {
        if self.batches.is_empty() {
            self.moved_at = Some(Instant::now());
        }
        self.batches.push_back((last, events, bytes));
        self.events += events;
        self.bytes += bytes;
    }

    fn acknowledged(&mut self, sequence: u64) {
        self.moved_at = Some(Instant::now());
        while let Some(&(last, events, bytes)) = self.batches.front()
            && last <= sequence
        {
            self.batches.pop_front();
            self.events -= events;
            self.bytes -= bytes;
        }
    }

    /// When silence becomes death.
    fn deadline(&self) -> Option<Instant> {
        (!self.batches.is_empty())
            .then(|| self.moved_at.map(|at| at + ACK_TIMEOUT))
            .flatten()
    }
}

impl Link {
    async fn run(self, spool: super::Spool) {
        let mut backoff = Backoff::default();
        loop {
            self.exporter.set_state("connecting", "");
            let error = match self.session(&spool, &mut backoff).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let wait = backoff.failed();
            let text = error.to_string();
            if self.exporter.set_state("failing", text.clone()) {
                tracing::warn!(
                    endpoint = self.settings.endpoint,
                    error = text,
                    "no collector; events wait in the spool"
                );
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn session(
        &self,
        spool: &super::Spool,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Ended> {
        let channel = net::connect(&self.settings.endpoint, self.settings.tls.as_ref()).await?;
        let mut reader = spool.reader(&self.settings.consumer);
        let (outgoing, messages) = mpsc::channel(OUTGOING_LEN_MAX);
        // The hello is in the stream before the stream is opened: a collector may want it before it answers.
        let hello = self.hello(spool, &reader).await;
        if outgoing.send(said(Message::Hello(hello))).await.is_err() {
            return Err(Ended::Closed);
        }
        let mut client = CollectorClient::new(channel);
        let opening = client.stream(ReceiverStream::new(messages));
        let mut incoming = tokio::time::timeout(STREAM_TIMEOUT, opening)
            .await
            .map_err(|_| Ended::Silent)?
            .map_err(|status| Ended::Refused(describe(&status)))?
            .into_inner();
        if self.exporter.set_state("connected", "") {
            tracing::info!(endpoint = self.settings.endpoint, "connected to the collector");
        }

        let mut window = Window::default();
        // On its own: a pipeline that is slow to say how things stand must not hold up acknowledgements.
        let mut beating = tokio::task::JoinSet::new();
        beating.spawn(heartbeats(self.exports.clone(), spool.clone(), outgoing.clone()));
        let (results, mut answered) =
            mpsc::channel::<v1::CommandResult>(super::command::COMMAND_QUEUE_LEN_MAX);
        loop {
            let deadline = window.deadline();
            let silence = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = incoming.message() => {
                    match message.map_err(|status| Ended::Refused(describe(&status)))?.ok_or(Ended::Closed)?.message {
                        Some(v1::from_collector::Message::Ack(ack)) => {
                            window.acknowledged(ack.sequence);
                            spool.acknowledge(&self.settings.consumer, ack.sequence);
                            backoff.reset();
                        }
                        Some(v1::from_collector::Message::SetMode(command)) => self.set_mode(command, &results),
                        Some(v1::from_collector::Message::Policies(command)) => self.policies(command, &results),
                        // A newer collector's word.
                        None => {}
                    }
                }
                permit = self.next(&mut reader, &outgoing), if window.is_open() => {
                    let permit = permit?;
                    if let Some((message, last, events, bytes)) = self.batch(&mut reader) {
                        permit.send(message);
                        window.sent(last, events, bytes);
                        self.exporter.add_sent(events);
                    }
                }
                Some(result) = answered.recv() => {
                    let message = said(Message::Result(result));
                    outgoing.send(message).await.map_err(|_| Ended::Closed)?;
                }
                () = silence => return Err(Ended::Silent),
            }
        }
    }

    /// Waits until there is something to send and room to send it.
    async fn next<'o>(
        &self,
        reader: &mut Reader,
        outgoing: &'o mpsc::Sender<v1::FromAgent>,
    ) -> Result<mpsc::Permit<'o, v1::FromAgent>, Ended> {
        reader.ready().await;
        outgoing.reserve().await.map_err(|_| Ended::Closed)
    }

    /// The next batch with its last number, events and bytes.
    fn batch(&self, reader: &mut Reader) -> Option<(v1::FromAgent, u64, u64, usize)> {
        let batch = reader.read(BATCH_EVENTS_MAX, BATCH_BYTES_MAX);
        self.exports.report_damaged(&self.exporter, batch.damaged);
        let first_sequence = batch.events.first()?.sequence;
        let last = batch.events.last()?.sequence;
        let bytes = batch.events.iter().map(|spooled| spooled.event.len()).sum();
        let events: Vec<_> = batch.events.into_iter().map(|spooled| spooled.event).collect();
        let count = events.len() as u64;
        Some((
            said(Message::Batch(v1::Batch {
                first_sequence,
                events,
            })),
            last,
            count,
            bytes,
        ))
    }

    fn agent_id(&self) -> String {
        self.settings
            .agent_id
            .clone()
            .unwrap_or_else(|| self.exports.agent_id().to_owned())
    }

    async fn hello(&self, spool: &super::Spool, reader: &Reader) -> v1::Hello {
        let facts = self.exports.facts().await.unwrap_or_default().into_status();
        let uname = rustix::system::uname();
        v1::Hello {
            agent_id: self.agent_id(),
            host: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: facts.mode,
            capabilities: facts.capabilities,
            guarantees: facts.guarantees,
            first_sequence: reader.position().max(spool.first()),
        }
    }

    fn who(&self) -> String {
        format!("collector {}", self.settings.endpoint)
    }

    fn set_mode(&self, command: v1::SetMode, results: &mpsc::Sender<v1::CommandResult>) {
        let (asked, answer) = Asked::new(&self.exports, "mode", self.who(), bounded(command.reason));
        let asked = asked.wanting(bounded(command.mode.clone()));
        let id = command.command_id;
        let mode = match command.mode.as_str() {
            "observe" => Mode::Observe,
            "enforce" => Mode::Enforce,
            _ => {
                asked.refuse("the mode is neither `observe` nor `enforce`");
                return self.reply(id, answer, results);
            }
        };
        let needed = match mode {
            Mode::Observe => Ceiling::Observe,
            Mode::Enforce => Ceiling::Enforce,
        };
        match self.settings.ceiling.permit(needed) {
            Ok(()) => self.hand_on(Command::SetMode {
                mode,
                term: Term::ForGood,
                asked,
            }),
            Err(why) => asked.refuse(why),
        }
        self.reply(id, answer, results);
    }

    fn policies(&self, command: v1::Policies, results: &mpsc::Sender<v1::CommandResult>) {
        let (asked, answer) = Asked::new(&self.exports, "policy", self.who(), bounded(command.reason));
        let texts: Vec<&str> = command.files.iter().map(|file| file.text.as_str()).collect();
        let asked = asked.wanting(PolicySet::digest_of(&texts));
        match self.settings.ceiling.permit(Ceiling::Policies) {
            Ok(()) => {
                let files = command
                    .files
                    .into_iter()
                    .map(|file| PolicyText {
                        name: file.name,
                        text: file.text,
                    })
                    .collect();
                self.hand_on(Command::PushPolicies { files, asked });
            }
            Err(why) => asked.refuse(why),
        }
        self.reply(command.command_id, answer, results);
    }

    /// A full queue drops the command, and dropping it records and answers it as refused.
    fn hand_on(&self, command: Command) {
        drop(self.exports.command(command));
    }

    /// Sends the answer when it is there, without holding up the stream.
    fn reply(
        &self,
        command_id: u64,
        answer: tokio::sync::oneshot::Receiver<super::command::Answer>,
        results: &mpsc::Sender<v1::CommandResult>,
    ) {
        let results = results.clone();
        tokio::spawn(async move {
            let (accepted, reason) = match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
                Ok(Ok(answer)) => (answer.accepted, answer.message),
                _ => (false, "the agent did not answer in time".to_owned()),
            };
            // The connection may be gone; the audit event tells the collector anyway.
            let _ = results
                .send(v1::CommandResult {
                    command_id,
                    accepted,
                    reason,
                })
                .await;
        });
    }
}

fn said(message: Message) -> v1::FromAgent {
    v1::FromAgent {
        message: Some(message),
    }
}

/// Sends a heartbeat now and then, until the session ends.
async fn heartbeats(exports: Exports, spool: super::Spool, outgoing: mpsc::Sender<v1::FromAgent>) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let facts = exports.facts().await.unwrap_or_default().into_status();
        let stats = spool.stats();
        let beat = v1::Heartbeat {
            time_ns: clock::wall_ns(),
            mode: facts.mode,
            policy_digest: facts.policy_digest,
            losses: exports.shared.meter.losses(),
            coverage: facts
                .policies
                .into_iter()
                .filter_map(|policy| policy.coverage)
                .collect(),
            spool_bytes: stats.bytes + stats.memory_bytes,
            canaries: facts.canaries,
        };
        if outgoing.send(said(Message::Heartbeat(beat))).await.is_err() {
            return;
        }
    }
}

/// Bytes of a reason given from outside that are kept.
const REASON_BYTES_MAX: usize = 1024;

/// A reason given from outside goes into events and logs: bounded, on one line.
pub(super) fn bounded(reason: String) -> String {
    let mut kept = String::new();
    for character in reason.chars() {
        let character = if character.is_control() { ' ' } else { character };
        if kept.len() + character.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

fn describe(status: &tonic::Status) -> String {
    match (status.message(), std::error::Error::source(status)) {
        ("", Some(source)) => net::causes(source),
        ("", None) => status.code().to_string(),
        (message, _) => format!("{message} ({:?})", status.code()),
    }
}

#[cfg(test)]
mod tests;
