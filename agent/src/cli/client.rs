//! The way to a running agent: its configuration names the control socket, and the socket answers.
//!
//! Everything that can go wrong on the way is told in words that say what to do: no agent there, not permitted,
//! another version. It must not know what the commands do with an answer.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use apiward_proto::v1;
use apiward_proto::v1::control_client::ControlClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::AgentArgs;
use crate::config::{self, Config, Overrides};
use crate::errors;
use crate::export::command::Term;
use crate::kernel::pins;

/// How long the agent may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take over a change: it waits for a batch to end, and policies are compiled. A little more than
/// the agent's own limit, so that its answer comes and not ours.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(35);
/// Bytes of one answer: `why` and a status with thousands of libraries stay far below.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What stopped a command; the exit code follows from it.
#[derive(Debug)]
pub enum Problem {
    /// The configuration is wrong: exit code 2.
    Config(config::ConfigErrors),
    /// The agent cannot be asked, or refused: exit code 1.
    Agent(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Config(errors) => write!(f, "{errors}"),
            Problem::Agent(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// Says it, and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        match self {
            Problem::Config(errors) => {
                eprintln!("{errors}");
                ExitCode::from(2)
            }
            Problem::Agent(message) => {
                eprintln!("apiward: {message}");
                ExitCode::FAILURE
            }
        }
    }
}

/// A connection to the local agent.
#[derive(Debug)]
pub struct Agent {
    client: ControlClient<Channel>,
    /// Its configuration, as the file says it; what runs may be older.
    pub config: Config,
    /// Where it listens.
    pub path: PathBuf,
}

impl Agent {
    /// Reads the configuration and connects.
    pub async fn connect(args: &AgentArgs) -> Result<Self, Problem> {
        let overrides = Overrides {
            control: args.control.clone(),
            ..Overrides::default()
        };
        let config = config::load(Some(&args.config), &overrides).map_err(Problem::Config)?;
        let path = config.control.clone();
        let client = connect(&path, &args.config)
            .await
            .map_err(|problem| with_kept(problem, &config))?;
        Ok(Agent { client, config, path })
    }

    /// How things stand.
    pub async fn status(&mut self) -> Result<v1::Status, Problem> {
        let request = limited(v1::StatusRequest {}, ANSWER_TIMEOUT);
        let answer = self.client.get_status(request).await;
        let status = answer.map_err(|error| refused(&self.path, &error))?.into_inner();
        tell_version(&status.version);
        Ok(status)
    }

    /// Live events, with a status every second.
    pub async fn watch(&mut self) -> Result<Streaming<v1::WatchResponse>, Problem> {
        let answer = self.client.watch(v1::WatchRequest {}).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Switches the mode; the answer says whether it was accepted.
    pub async fn set_mode(
        &mut self,
        mode: &str,
        term: Term,
        reason: &str,
    ) -> Result<v1::ControlResult, Problem> {
        let span = match term {
            Term::For(span) => span,
            Term::ForGood | Term::Confirm => Duration::ZERO,
        };
        let request = v1::ControlModeRequest {
            mode: mode.to_owned(),
            reason: reason.to_owned(),
            for_ns: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
            confirm: term == Term::Confirm,
        };
        let answer = self.client.set_mode(limited(request, CHANGE_TIMEOUT)).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Has everything taken away; the agent goes on to answer.
    pub async fn release(&mut self, reason: &str) -> Result<v1::ControlResult, Problem> {
        let request = v1::ReleaseRequest {
            reason: reason.to_owned(),
        };
        let answer = self.client.release(limited(request, CHANGE_TIMEOUT)).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Has the configured policy files read again; the answer says whether the new ones are in force.
    pub async fn reload_policies(&mut self, reason: &str) -> Result<v1::ControlResult, Problem> {
        let request = v1::ReloadRequest {
            reason: reason.to_owned(),
        };
        let answer = self
            .client
            .reload_policies(limited(request, CHANGE_TIMEOUT))
            .await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Has the policies put back that were in force before the last change.
    pub async fn undo_policies(&mut self, reason: &str) -> Result<v1::ControlResult, Problem> {
        let request = v1::ReloadRequest {
            reason: reason.to_owned(),
        };
        let answer = self.client.undo_policies(limited(request, CHANGE_TIMEOUT)).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Canaries are in force for as long as both streams are held.
    pub async fn prove(
        &mut self,
        requests: tokio::sync::mpsc::Receiver<v1::ProveRequest>,
    ) -> Result<Streaming<v1::ProveResponse>, Problem> {
        let answer = self.client.prove(ReceiverStream::new(requests)).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }

    /// Every endpoint that it knows.
    pub async fn inventory(&mut self) -> Result<Vec<v1::Endpoint>, Problem> {
        let request = limited(v1::InventoryRequest {}, CHANGE_TIMEOUT);
        let answer = self.client.get_inventory(request).await;
        let mut parts = answer.map_err(|error| refused(&self.path, &error))?.into_inner();
        let mut endpoints = Vec::new();
        while let Some(part) = parts
            .message()
            .await
            .map_err(|error| refused(&self.path, &error))?
        {
            endpoints.extend(part.endpoints);
        }
        Ok(endpoints)
    }

    /// Recent calls with this trace id, event id or pid.
    pub async fn why(&mut self, subject: &str) -> Result<v1::WhyResponse, Problem> {
        let request = v1::WhyRequest {
            subject: subject.to_owned(),
        };
        let answer = self.client.why(limited(request, ANSWER_TIMEOUT)).await;
        Ok(answer.map_err(|error| refused(&self.path, &error))?.into_inner())
    }
}

/// Runs a command that waits for the agent.
pub fn block_on<F: Future<Output = Result<ExitCode>>>(command: F) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command cannot wait for the agent")?;
    match runtime.block_on(command) {
        Ok(code) => Ok(code),
        Err(error) => match error.downcast_ref::<Problem>() {
            Some(problem) => Ok(problem.tell()),
            None => Err(error),
        },
    }
}

/// Where no agent answers, what one has left in force is worth a word.
fn with_kept(problem: Problem, config: &Config) -> Problem {
    let in_force = |kept: &pins::Kept| kept.is_in_force() && !kept.lease().is_zero();
    match (problem, pins::all(&config.pins).into_iter().find(in_force)) {
        (Problem::Agent(message), Some(kept)) => Problem::Agent(format!(
            "{message}. What it enforced goes on without it for {} s at most: `apiward mode observe` ends that now, \
             `apiward release` takes it away",
            kept.lease().as_secs()
        )),
        (problem, _) => problem,
    }
}

async fn connect(path: &Path, config: &Path) -> Result<ControlClient<Channel>, Problem> {
    // Tried by hand first: the transport's own error does not tell these cases apart.
    if let Err(error) = UnixStream::connect(path) {
        return Err(Problem::Agent(unreachable(path, config, &error)));
    }
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()))
        .map_err(|error| Problem::Agent(format!("{} cannot be a socket's path: {error}", path.display())))?
        .connect_timeout(ANSWER_TIMEOUT);
    match tokio::time::timeout(ANSWER_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(ControlClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)),
        _ => Err(Problem::Agent(not_an_agent(path))),
    }
}

fn unreachable(path: &Path, config: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{shown} is open to root and the agent's own user alone: run this with sudo [{}]",
                errors::AGENT_REFUSES
            )
        }
        // A socket file without a listener was left by an agent that was killed.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no agent listens at {shown}: start one with `apiward run --config {}`, or name the configuration of the \
             one that runs with --config [{}]",
            config.display(),
            errors::NO_AGENT
        ),
        _ => format!(
            "the agent's socket {shown} cannot be reached: {error} [{}]",
            errors::NO_AGENT
        ),
    }
}

fn not_an_agent(path: &Path) -> String {
    format!(
        "what listens at {} does not answer as an agent: it is stopping, or another program has taken the path; look \
         with `ss -xlp` [{}]",
        path.display(),
        errors::NO_AGENT
    )
}

fn refused(path: &Path, error: &tonic::Status) -> Problem {
    Problem::Agent(match error.code() {
        Code::PermissionDenied => format!(
            "{}: run this with sudo [{}]",
            error.message(),
            errors::AGENT_REFUSES
        ),
        Code::Unimplemented => format!(
            "the agent at {} is of another version and does not know this command: use the `apiward` that it was \
             started from (this one is {}) [{}]",
            path.display(),
            env!("CARGO_PKG_VERSION"),
            errors::OTHER_VERSION
        ),
        // The transport tells our own limit as a cancellation.
        code if code == Code::DeadlineExceeded
            || (code == Code::Cancelled && error.message().contains("Timeout")) =>
        {
            format!(
                "the agent at {} does not answer in time: it is overloaded or stopping; its log tells more [{}]",
                path.display(),
                errors::NO_AGENT
            )
        }
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => not_an_agent(path),
        _ => error.message().to_owned(),
    })
}

fn tell_version(agent: &str) {
    let own = env!("CARGO_PKG_VERSION");
    if !agent.is_empty() && agent != own {
        eprintln!(
            "apiward: the agent is version {agent}, this command {own}; some of it may be missing here"
        );
    }
}

fn limited<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::export::command::Command;
    use crate::export::facts::Facts;
    use crate::export::{Exports, control, wire};

    #[test]
    fn what_cannot_be_reached_is_told_with_what_to_do() {
        let message = |kind| {
            unreachable(
                Path::new("/run/c.sock"),
                Path::new("/etc/a.yaml"),
                &io::Error::from(kind),
            )
        };
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
            assert!(message(kind).starts_with(
                "no agent listens at /run/c.sock: start one with `apiward run --config /etc/a.yaml`"
            ));
        }
        assert!(message(io::ErrorKind::PermissionDenied).ends_with("run this with sudo [AW1406]"));
    }

    #[test]
    fn a_dead_agent_s_socket_is_no_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let error = UnixStream::connect(&path).expect_err("nobody listens");
        assert!(unreachable(&path, Path::new("a.yaml"), &error).starts_with("no agent listens"));
    }

    #[tokio::test]
    async fn what_is_no_agent_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = io::Write::write_all(
                    &mut stream.expect("accepted"),
                    b"HTTP/1.1 400 Bad Request\r\n\r\n",
                );
            }
        });
        let asked = async {
            let client = connect(&path, Path::new("a.yaml")).await?;
            let mut agent = Agent {
                client,
                config: Config::default(),
                path: path.clone(),
            };
            agent.status().await
        };
        let error = asked.await.expect_err("no agent");
        assert!(
            error.to_string().contains("does not answer as an agent"),
            "{error}"
        );
    }

    /// A real server, and something that answers as the agent's pipeline would.
    fn serve(path: &Path) -> (Exports, control::Place) {
        let meter = Arc::new(crate::telemetry::Telemetry::new());
        let started = Exports::start(crate::export::Settings::default(), meter).expect("started");
        let bound = control::bind(path).expect("bound");
        let place = control::start(&started.exports, bound, Box::new(HashMap::new)).expect("served");
        let mut commands = started.commands;
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                match command {
                    Command::SetMode { mode, asked, .. } => {
                        asked.accept("observe", mode.as_str(), "switched")
                    }
                    Command::Facts { reply } => drop(reply.send(Facts::default())),
                    Command::ReloadPolicies { asked } => asked.refuse("a.yaml:3:1: no"),
                    Command::UndoPolicies { asked } => asked.accept("b", "a", "as before"),
                    Command::PushPolicies { .. }
                    | Command::Prove(_)
                    | Command::Inventory { .. }
                    | Command::Release { .. } => {}
                }
            }
        });
        (started.exports, place)
    }

    fn arguments(dir: &Path) -> AgentArgs {
        let config = dir.join("agent.yaml");
        let text = format!("control: {}\n", dir.join("c.sock").display());
        std::fs::write(&config, text).expect("written");
        AgentArgs {
            config,
            control: None,
            output: crate::cli::Output::Table,
        }
    }

    #[tokio::test]
    async fn every_question_is_answered_by_a_real_server() {
        let dir = tempfile::tempdir().expect("a directory");
        let args = arguments(dir.path());
        let (exports, _place) = serve(&dir.path().join("c.sock"));
        let mut agent = Agent::connect(&args).await.expect("connected");
        assert_eq!(agent.status().await.expect("a status").mode, "observe");
        let result = agent
            .set_mode("enforce", Term::ForGood, "a test")
            .await
            .expect("an answer");
        let Some(v1::event::Kind::Audit(audit)) = result.audit.and_then(|event| event.kind) else {
            panic!("no record came back")
        };
        assert_eq!(
            (audit.old_digest.as_str(), audit.reason.as_str()),
            ("observe", "a test")
        );
        let result = agent.reload_policies("a test").await.expect("an answer");
        assert_eq!(
            (result.accepted, result.message.as_str()),
            (false, "a.yaml:3:1: no")
        );
        let found = agent.why("4711").await.expect("an answer");
        assert!(found.events.is_empty() && !found.message.is_empty());
        let too_long = agent.why(&"x".repeat(1_000)).await.expect_err("refused");
        assert_eq!(too_long.to_string(), "give a trace id, an event id or a pid");

        // A burst comes whole and in order, and the end is the end.
        let mut stream = agent.watch().await.expect("a stream");
        let first = stream
            .message()
            .await
            .expect("alive")
            .and_then(|first| first.message);
        assert!(matches!(first, Some(v1::watch_response::Message::Status(_))));
        let details: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
        let events = details
            .iter()
            .map(|detail| wire::agent_state("started", detail.as_str()));
        exports.send(events.collect());
        let mut seen = Vec::new();
        while seen.len() < details.len() {
            let message = stream.message().await.expect("alive").and_then(|one| one.message);
            let Some(v1::watch_response::Message::Events(batch)) = message else {
                continue;
            };
            seen.extend(batch.events.into_iter().filter_map(|event| match event.kind {
                Some(v1::event::Kind::AgentState(state)) => Some(state.detail),
                _ => None,
            }));
        }
        assert_eq!(seen, details);
        exports.shutdown(Duration::ZERO);
        while let Ok(Some(_)) = stream.message().await {}
        let gone = Agent::connect(&args).await.expect_err("nobody is there");
        assert!(matches!(gone, Problem::Agent(_)), "{gone}");
    }

    #[tokio::test]
    async fn a_wrong_configuration_is_told_as_such() {
        let dir = tempfile::tempdir().expect("a directory");
        let args = arguments(dir.path());
        std::fs::write(&args.config, "contrl: /x\n").expect("written");
        let error = Agent::connect(&args).await.expect_err("wrong");
        assert!(
            matches!(&error, Problem::Config(_)) && error.to_string().contains("AW1002"),
            "{error}"
        );
    }
}
