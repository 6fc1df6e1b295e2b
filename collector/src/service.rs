//! The contract's `Collector` service. Agents come over TCP and may stream; whoever may open the socket in the data
//! directory (0600, in a directory of 0700) may command.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use apiward_proto::v1;
use apiward_proto::v1::collector_server::Collector;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::agents::{Agents, COMMANDS_MAX, Command};
use crate::metrics::Metrics;
use crate::store::event::Event;
use crate::store::writer::{Job, Writer};
use crate::store::{self, query};

/// How long a stream may stay without a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches of one stream that are not committed yet.
const UNCOMMITTED_MAX: usize = 32;
/// Events of one batch.
const BATCH_EVENTS_MAX: usize = 8_192;
/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
const ID_BYTES_MAX: usize = 128;
/// Bytes of the files of one push.
const POLICIES_BYTES_MAX: usize = 4 << 20;

/// Which of the two doors a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Network,
    /// The socket in the data directory.
    Own,
}

/// The service, one a door.
#[derive(Clone)]
pub struct Service {
    pub agents: Agents,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub directory: PathBuf,
    pub door: Door,
}

type FromCollectorStream = Pin<Box<dyn Stream<Item = Result<v1::FromCollector, Status>> + Send>>;

#[tonic::async_trait]
impl Collector for Service {
    type StreamStream = FromCollectorStream;

    async fn stream(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let peer = request
            .remote_addr()
            .map_or_else(|| "local".to_owned(), |peer| peer.to_string());
        let mut incoming = request.into_inner();
        let refuse = |status: Status| {
            self.metrics.refused();
            tracing::warn!(peer, reason = status.message(), "a stream is refused");
            status
        };
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.next())
            .await
            .map_err(|_| refuse(Status::deadline_exceeded("no hello came")))?;
        let Some(Ok(v1::FromAgent {
            message: Some(v1::from_agent::Message::Hello(hello)),
        })) = first
        else {
            return Err(refuse(Status::invalid_argument("a stream begins with a hello")));
        };
        let id = hello.agent_id.clone();
        if !is_id(&id) {
            return Err(refuse(Status::invalid_argument(
                "an agent's id is 1 to 128 letters, digits, `.`, `_` or `-`",
            )));
        }
        let (outgoing, messages) = mpsc::channel::<Result<v1::FromCollector, Status>>(COMMANDS_MAX);
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let place = self
            .agents
            .enter(&id, commands)
            .map_err(|reason| refuse(Status::resource_exhausted(reason)))?;
        tracing::info!(
            peer,
            agent = id,
            host = plain(&hello.host),
            "an agent is connected"
        );
        let hello = Job::Hello {
            agent: id.clone(),
            hello,
        };
        self.writer.send(hello).await.map_err(Status::unavailable)?;
        let session = Session {
            id,
            agents: self.agents.clone(),
            writer: self.writer.clone(),
            metrics: self.metrics.clone(),
            outgoing,
        };
        tokio::spawn(async move {
            let id = session.id.clone();
            let status = tokio::select! {
                status = session.run(incoming, asked) => status,
                () = place.ended.cancelled() => Status::aborted("another stream of this agent took over"),
            };
            tracing::info!(
                agent = id,
                reason = status.message(),
                "an agent's stream has ended"
            );
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn list_agents(
        &self,
        _: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        self.own_door()?;
        let directory = self.directory.clone();
        let mut agents =
            tokio::task::spawn_blocking(move || query::agents(&store::open_read_only(&directory)?))
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| Status::unavailable(error.to_string()))?;
        let connected = self.agents.connected();
        for agent in &mut agents {
            agent.connected = agent
                .hello
                .as_ref()
                .is_some_and(|hello| connected.contains(&hello.agent_id));
        }
        Ok(Response::new(v1::ListAgentsResponse { agents }))
    }

    async fn set_mode(
        &self,
        request: Request<v1::SetAgentsModeRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.own_door()?;
        let request = request.into_inner();
        if !matches!(request.mode.as_str(), "observe" | "enforce") {
            return Err(Status::invalid_argument("the mode is `observe` or `enforce`"));
        }
        let command = Command::SetMode {
            mode: request.mode,
            reason: request.reason,
        };
        Ok(Response::new(self.command(request.agent_ids, command).await))
    }

    async fn push_policies(
        &self,
        request: Request<v1::PushPoliciesRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.own_door()?;
        let request = request.into_inner();
        let bytes: usize = request.files.iter().map(|file| file.text.len()).sum();
        if request.files.is_empty() || bytes > POLICIES_BYTES_MAX {
            return Err(Status::invalid_argument("1 byte to 4 MiB of policies, please"));
        }
        let command = Command::Policies {
            files: request.files,
            reason: request.reason,
        };
        Ok(Response::new(self.command(request.agent_ids, command).await))
    }
}

impl Service {
    fn own_door(&self) -> Result<(), Status> {
        match self.door {
            Door::Own => Ok(()),
            Door::Network => Err(Status::permission_denied(
                "commands are given on the collector's host, through the socket in its data directory",
            )),
        }
    }

    /// All at once: one slow agent must not hold up the others.
    async fn command(&self, ids: Vec<String>, command: Command) -> v1::CommandResponse {
        let ids = if ids.is_empty() {
            self.agents.connected()
        } else {
            ids
        };
        tracing::info!(?command, agents = ids.len(), "a command was given");
        let mut asked = tokio::task::JoinSet::new();
        for id in ids {
            let (agents, command) = (self.agents.clone(), command.clone());
            asked.spawn(async move { agents.ask(&id, command).await });
        }
        let mut results = asked.join_all().await;
        results.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
        for result in &results {
            tracing::info!(
                agent = result.agent_id,
                accepted = result.accepted,
                reason = plain(&result.reason),
                "it answered"
            );
        }
        v1::CommandResponse { results }
    }
}

/// One agent's stream.
struct Session {
    id: String,
    agents: Agents,
    writer: Writer,
    metrics: Arc<Metrics>,
    outgoing: mpsc::Sender<Result<v1::FromCollector, Status>>,
}

type Committed = oneshot::Receiver<Result<(), String>>;

impl Session {
    /// Until the agent, the store or the connection ends it.
    async fn run(
        &self,
        mut incoming: Streaming<v1::FromAgent>,
        mut asked: mpsc::Receiver<v1::from_collector::Message>,
    ) -> Status {
        let (batches, mut uncommitted) = mpsc::channel::<(u64, Committed)>(UNCOMMITTED_MAX);
        let reading = async {
            loop {
                let message = match incoming.next().await {
                    Some(Ok(message)) => message,
                    Some(Err(status)) => return status,
                    None => return Status::ok("the agent closed it"),
                };
                if let Err(status) = self.take(message, &batches).await {
                    return status;
                }
            }
        };
        // In the order of the batches: an acknowledgement covers everything before it.
        let acknowledging = async {
            while let Some((sequence, committed)) = uncommitted.recv().await {
                match committed.await {
                    Ok(Ok(())) => {
                        let ack = v1::from_collector::Message::Ack(v1::Ack { sequence });
                        if self.send(ack).await.is_err() {
                            break;
                        }
                    }
                    Ok(Err(reason)) => return Status::unavailable(reason),
                    Err(_) => return Status::unavailable("the store is closed"),
                }
            }
            std::future::pending().await
        };
        let commanding = async {
            while let Some(command) = asked.recv().await {
                if self.send(command).await.is_err() {
                    break;
                }
            }
            std::future::pending().await
        };
        let status = tokio::select! {
            status = reading => status,
            status = acknowledging => status,
            status = commanding => status,
            () = self.outgoing.closed() => Status::ok("the connection is gone"),
        };
        if status.code() != tonic::Code::Ok {
            // If it cannot be told, the connection is gone, which tells the same.
            let _ = self.outgoing.try_send(Err(status.clone()));
        }
        status
    }

    async fn take(
        &self,
        message: v1::FromAgent,
        batches: &mpsc::Sender<(u64, Committed)>,
    ) -> Result<(), Status> {
        match message.message {
            Some(v1::from_agent::Message::Batch(batch)) => {
                let count = batch.events.len() as u64;
                if count == 0 || batch.events.len() > BATCH_EVENTS_MAX {
                    self.metrics.refused();
                    return Err(Status::invalid_argument("a batch has 1 to 8192 events"));
                }
                let Some(last) = batch
                    .first_sequence
                    .checked_add(count - 1)
                    .filter(|last| *last <= i64::MAX as u64)
                else {
                    self.metrics.refused();
                    return Err(Status::invalid_argument("sequence numbers end at 2^63 - 1"));
                };
                let events: Result<Vec<_>, _> = batch.events.into_iter().map(Event::try_from).collect();
                let events = events.map_err(|error| {
                    self.metrics.refused();
                    Status::invalid_argument(format!("an event of the batch cannot be read: {error}"))
                })?;
                let (done, committed) = oneshot::channel();
                batches
                    .send((last, committed))
                    .await
                    .map_err(|_| Status::unavailable("the stream ends"))?;
                let job = Job::Batch {
                    agent: self.id.clone(),
                    first_sequence: batch.first_sequence,
                    events,
                    done,
                };
                self.writer.send(job).await.map_err(Status::unavailable)
            }
            Some(v1::from_agent::Message::Heartbeat(heartbeat)) => {
                let agent = self.id.clone();
                let job = Job::Heartbeat { agent, heartbeat };
                self.writer.send(job).await.map_err(Status::unavailable)
            }
            Some(v1::from_agent::Message::Result(result)) => {
                self.agents.answered(result);
                Ok(())
            }
            // A second hello, or a newer agent's word.
            _ => Ok(()),
        }
    }

    async fn send(&self, message: v1::from_collector::Message) -> Result<(), ()> {
        let message = v1::FromCollector {
            message: Some(message),
        };
        self.outgoing.send(Ok(message)).await.map_err(drop)
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Text from outside on its way to a log or a terminal: one line, no control characters, bounded.
pub fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 512;
    text.chars()
        .take(CHARS_MAX)
        .map(|character| if character.is_control() { '·' } else { character })
        .collect()
}

#[cfg(test)]
mod tests;
