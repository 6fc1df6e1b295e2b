//! One run, as the agent sees it: begun, asked now and then, ended. Dropping it ends it too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use apiward_proto::v1;
use apiward_proto::v1::prove_request::Message as Asks;
use apiward_proto::v1::prove_response::Message as Says;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::peers::Places;
use crate::cli::client::Agent;
use crate::kernel::cgroup::{self, Cgroup};

/// How long the agent may take over one answer: a little more than its own limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);
/// How long a TLS library may take to be probed once it is mapped.
const ATTACH_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// Canaries are in force as long as it lives.
pub struct Session<'r> {
    runtime: &'r Runtime,
    agent: Agent,
    requests: mpsc::Sender<v1::ProveRequest>,
    answers: Streaming<v1::ProveResponse>,
    pub places: Places,
    pub forbidden_path: String,
    pub cgroup: String,
    promises: Vec<v1::Promise>,
}

const GONE: &str = "the agent has ended, or has given up the canaries";

impl<'r> Session<'r> {
    /// Has the agent put canaries in force. The error says why it cannot.
    pub fn begin(runtime: &'r Runtime, mut agent: Agent, reason: &str) -> Result<Session<'r>, String> {
        let (requests, receiver) = mpsc::channel(4);
        let begin = Asks::Begin(v1::ProveBegin {
            reason: reason.to_owned(),
        });
        let answers = runtime.block_on(async {
            let request = v1::ProveRequest { message: Some(begin) };
            requests.send(request).await.map_err(|_| GONE.to_owned())?;
            tokio::time::timeout(ANSWER_LIMIT, agent.prove(receiver))
                .await
                .map_err(|_| "the agent does not answer in time".to_owned())?
                .map_err(|problem| problem.to_string())
        })?;
        let mut session = Session {
            runtime,
            agent,
            requests,
            answers,
            places: Places {
                near: PathBuf::new(),
                far: PathBuf::new(),
            },
            forbidden_path: String::new(),
            cgroup: String::new(),
            promises: Vec::new(),
        };
        let ready = match session.answer()? {
            Says::Ready(ready) => ready,
            Says::Impossible(why) => return Err(why),
            _ => return Err("the agent's answer is not understood: is it of another version?".to_owned()),
        };
        session.enter(ready)?;
        Ok(session)
    }

    /// The agent may see another cgroup tree than this program does: then its canaries could be anybody.
    fn enter(&mut self, ready: v1::ProveReady) -> Result<(), String> {
        let elsewhere = || {
            format!(
                "the agent's cgroup {} is not to be seen from here: run `apiward prove` where the agent runs",
                ready.cgroup
            )
        };
        let root = cgroup::root().map_err(|error| error.to_string())?;
        let path = root.join(ready.cgroup.trim_start_matches('/'));
        let found = Cgroup::open(&path).map_err(|_| elsewhere())?;
        if found.id != ready.cgroup_id {
            return Err(elsewhere());
        }
        self.places = Places {
            near: found.path.join("near"),
            far: found.path.join("far"),
        };
        self.forbidden_path = ready.forbidden_path;
        self.cgroup = ready.cgroup;
        self.promises = ready.promises;
        Ok(())
    }

    /// What is promised in a quadrant.
    pub fn promise(&self, quadrant: &str) -> Option<&v1::Promise> {
        self.promises.iter().find(|promise| promise.quadrant == quadrant)
    }

    /// Waits until the agent has taken in what has happened; says what it has told of denied calls since the last time.
    pub fn settle(&mut self) -> Result<BTreeMap<String, u64>, String> {
        match self.ask(Asks::Settle(v1::ProveSettle {}))? {
            Says::Settled(settled) => Ok(settled.told),
            _ => Err(GONE.to_owned()),
        }
    }

    /// Waits until the library is probed.
    pub fn attached(&mut self, library: u64) -> Result<(), String> {
        let deadline = Instant::now() + ATTACH_LIMIT;
        loop {
            let status = self
                .runtime
                .block_on(self.agent.status())
                .map_err(|problem| problem.to_string())?;
            let found = status.libraries.iter().find(|known| known.inode == library);
            match found {
                Some(known) if known.attached => return Ok(()),
                Some(known) if !known.reason.is_empty() => {
                    return Err(format!("{} is not attached: {}", known.path, known.reason));
                }
                _ if Instant::now() > deadline => {
                    return Err(
                        "the TLS library of `openssl` is not attached; see `apiward status`".to_owned(),
                    );
                }
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    /// Ends it with these results; gives what the agent says to them.
    pub fn end(mut self, canaries: Vec<v1::Canary>) -> Result<v1::ControlResult, String> {
        match self.ask(Asks::End(v1::ProveEnd { canaries }))? {
            Says::Ended(result) => Ok(result),
            _ => Err(GONE.to_owned()),
        }
    }

    fn ask(&mut self, message: Asks) -> Result<Says, String> {
        let request = v1::ProveRequest {
            message: Some(message),
        };
        let sent = self.runtime.block_on(self.requests.send(request));
        sent.map_err(|_| GONE.to_owned())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Says, String> {
        let message = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER_LIMIT, self.answers.message()).await });
        match message {
            Ok(Ok(Some(v1::ProveResponse {
                message: Some(message),
            }))) => Ok(message),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Ok(Ok(_)) => Err(GONE.to_owned()),
            Err(_) => Err("the agent does not answer in time".to_owned()),
        }
    }
}
