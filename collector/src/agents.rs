//! The agents that are connected now, and the commands that are under way to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiward_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Streams at the same time.
const AGENTS_MAX: usize = 10_000;
/// Commands that wait for a stream.
pub const COMMANDS_MAX: usize = 16;
/// How long an agent may take over a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What is sent down a stream, besides acknowledgements.
pub type Commands = mpsc::Sender<v1::from_collector::Message>;

/// A command, before its number is known.
#[derive(Clone, Debug)]
pub enum Command {
    SetMode {
        mode: String,
        reason: String,
    },
    Policies {
        files: Vec<v1::PolicyFile>,
        reason: String,
    },
}

impl Command {
    fn numbered(self, command_id: u64) -> v1::from_collector::Message {
        match self {
            Command::SetMode { mode, reason } => v1::from_collector::Message::SetMode(v1::SetMode {
                command_id,
                mode,
                reason,
            }),
            Command::Policies { files, reason } => v1::from_collector::Message::Policies(v1::Policies {
                command_id,
                files,
                reason,
            }),
        }
    }
}

struct Live {
    number: u64,
    commands: Commands,
    ended: CancellationToken,
}

/// The table of streams. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
}

struct Shared {
    live: Mutex<HashMap<String, Live>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<v1::CommandResult>>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept in these tables is whole between two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream's place in the table; it goes with the stream.
pub struct Place {
    agents: Agents,
    id: String,
    number: u64,
    /// Another stream of the same agent has taken the place.
    pub ended: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = locked(&self.agents.shared.live);
        if live.get(&self.id).is_some_and(|one| one.number == self.number) {
            live.remove(&self.id);
        }
        self.agents.shared.metrics.agents(live.len());
    }
}

impl Agents {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Agents {
            shared: Arc::new(Shared {
                live: Mutex::default(),
                waiting: Mutex::default(),
                next: AtomicU64::new(1),
                metrics,
            }),
        }
    }

    /// Enters a stream. A living one of the same agent is of a connection that is dead, or of a copy: the newer wins.
    pub fn enter(&self, id: &str, commands: Commands) -> Result<Place, &'static str> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        let mut live = locked(&self.shared.live);
        if live.len() >= AGENTS_MAX && !live.contains_key(id) {
            return Err("too many agents are connected");
        }
        let one = Live {
            number,
            commands,
            ended: ended.clone(),
        };
        if let Some(before) = live.insert(id.to_owned(), one) {
            before.ended.cancel();
        }
        self.shared.metrics.agents(live.len());
        Ok(Place {
            agents: self.clone(),
            id: id.to_owned(),
            number,
            ended,
        })
    }

    /// Ids of those that are connected.
    pub fn connected(&self) -> Vec<String> {
        let mut ids: Vec<String> = locked(&self.shared.live).keys().cloned().collect();
        ids.sort();
        ids
    }

    /// An agent has answered.
    pub fn answered(&self, result: v1::CommandResult) {
        if let Some(waiting) = locked(&self.shared.waiting).remove(&result.command_id) {
            // Whoever asked may have gone.
            let _ = waiting.send(result);
        }
    }

    /// Sends a command to one agent and waits for what it says.
    pub async fn ask(&self, id: &str, command: Command) -> v1::AgentResult {
        let refused = |reason: &str| v1::AgentResult {
            agent_id: id.to_owned(),
            accepted: false,
            reason: reason.to_owned(),
        };
        let commands = locked(&self.shared.live).get(id).map(|one| one.commands.clone());
        let Some(commands) = commands else {
            return refused("it is not connected");
        };
        let command_id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        locked(&self.shared.waiting).insert(command_id, answer);
        let asked = async {
            commands.send(command.numbered(command_id)).await.ok()?;
            answered.await.ok()
        };
        let result = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
        locked(&self.shared.waiting).remove(&command_id);
        match result {
            Ok(Some(result)) => v1::AgentResult {
                agent_id: id.to_owned(),
                accepted: result.accepted,
                reason: result.reason,
            },
            Ok(None) => refused("its connection ended; whether it did it, its audit event will say"),
            Err(_) => refused("it did not answer in time; whether it did it, its audit event will say"),
        }
    }
}
