//! The local control socket: what `watch`, `status`, `mode` and `why` talk to.
//!
//! The socket is a door to everything the agent knows, so it is 0600, and who is at the other end is asked of the
//! kernel (`SO_PEERCRED`), not of the caller: root, or the user that the agent runs as. A socket that an agent
//! left when it died is replaced; one that answers belongs to a living agent, and two agents on one host would
//! both withhold and both report.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use apiward_proto::v1;
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::collector::bounded;
use super::command::RELEASED;
use super::command::{Answer, Asked, Command, Term};
use super::{Exports, spool};
use crate::errors;
use crate::policy::Mode;

mod prove;
mod why;

/// Watchers at the same time; each costs the export thread a little.
const WATCHERS_MAX: usize = 16;
/// Messages that wait for a watcher's connection.
const WATCH_QUEUE_LEN_MAX: usize = 8;
/// Events in one of them. What has not happened yet is not waited for.
const WATCH_BATCH_EVENTS_MAX: usize = 256;
/// How often a watcher gets a status.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long the pipeline may take over a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Events in the answer to `why`.
const WHY_EVENTS_MAX: usize = 20;
/// How long a count of the processes that map a library holds: a readiness probe asks far more often.
const MAPPERS_EVERY: Duration = Duration::from_secs(30);
/// Bytes of a request to `why`.
const SUBJECT_BYTES_MAX: usize = 256;

/// Endpoints in one message of an inventory.
const INVENTORY_PART_LEN: usize = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "another agent is running on this host: it answers at {0}. Stop it first, or see what it does with `apiward status` [{id}]", id = errors::ANOTHER_AGENT
    )]
    AnotherAgent(PathBuf),
    #[error("{0} is there and is no socket: remove it, or give another path as `control` [{id}]", id = errors::CONTROL_SOCKET)]
    NotASocket(PathBuf),
    #[error(
        "the control socket {path} cannot be made ({source}): check that the agent may write there, or give another path as `control` [{id}]", id = errors::CONTROL_SOCKET
    )]
    Io { path: PathBuf, source: io::Error },
}

/// The socket, bound and not yet served. Made before anything is attached, so that a second agent changes nothing.
#[derive(Debug)]
pub struct Bound {
    listener: std::os::unix::net::UnixListener,
    place: Place,
}

/// Binds the socket at `path`.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let failed = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        spool::make_private(parent).map_err(failed)?;
    }
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_suffix("lock"))
        .map_err(failed)?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(BindError::AnotherAgent(path.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(BindError::AnotherAgent(path.to_owned()));
        }
        _ => {}
    }
    // Bound under another name, closed to others, and then given its own in one step: nobody finds it open to all,
    // and the one that a dead agent left is replaced.
    let partial = path.with_suffix("new");
    let bind = || -> io::Result<_> {
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&partial)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o600))?;
        fs::rename(&partial, path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = bind().map_err(failed)?;
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok(Bound {
        listener,
        place: Place {
            path: path.to_owned(),
            inode,
            _lock: lock,
        },
    })
}

/// `control.sock` → `control.sock.lock`.
trait WithSuffix {
    fn with_suffix(&self, extension: &str) -> PathBuf;
}

impl WithSuffix for Path {
    fn with_suffix(&self, extension: &str) -> PathBuf {
        let mut name = self.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

/// How many processes map the file with this inode, for the libraries of a status. It reads every process's
/// mappings, so it is asked seldom, and where waiting is allowed.
pub type Mappers = Box<dyn Fn() -> HashMap<u64, u32> + Send + Sync>;

/// Serves the socket on the exporters' runtime until they stop. The socket is removed when the [`Place`] is dropped:
/// by its owner, because a task of a runtime that is ending may be given no time for it.
pub fn start(exports: &Exports, bound: Bound, mappers: Mappers) -> io::Result<Place> {
    let _inside = exports.runtime().enter();
    let listener = UnixListener::from_std(bound.listener)?;
    let service = v1::control_server::ControlServer::new(Control {
        exports: exports.clone(),
        mappers: Arc::new(Counted {
            ask: mappers,
            answer: Mutex::new(None),
        }),
    });
    let mut stopping = exports.stopping();
    exports.runtime().spawn(async move {
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::select! {
            result = serving => {
                if let Err(error) = result {
                    tracing::error!(%error, "the control socket is closed: `watch`, `status` and `mode` do not work");
                }
            }
            _ = stopping.wait_for(|&stop| stop) => {}
        }
    });
    Ok(bound.place)
}

/// [`Mappers`], with the last answer.
struct Counted {
    ask: Mappers,
    answer: Mutex<Option<(Instant, HashMap<u64, u32>)>>,
}

impl Counted {
    fn count(&self) -> HashMap<u64, u32> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*answer {
            Some((at, counts)) if at.elapsed() < MAPPERS_EVERY => counts.clone(),
            _ => {
                let counts = (self.ask)();
                *answer = Some((Instant::now(), counts.clone()));
                counts
            }
        }
    }
}

/// The socket's place in the file system, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    inode: u64,
    _lock: File,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not if somebody has put another one there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct Control {
    exports: Exports,
    mappers: Arc<Counted>,
}

impl Control {
    async fn answer(&self, answer: tokio::sync::oneshot::Receiver<Answer>) -> Response<v1::ControlResult> {
        let result = match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
            Ok(Ok(answer)) => v1::ControlResult {
                accepted: answer.accepted,
                message: answer.message,
                audit: Some(answer.audit),
            },
            _ => v1::ControlResult {
                accepted: false,
                message: "the agent did not answer in time; see `apiward status` for what is in force"
                    .to_owned(),
                audit: None,
            },
        };
        Response::new(result)
    }
}

/// Who is at the other end, as the kernel says. An error if they may not be.
fn peer<T>(request: &Request<T>) -> Result<String, Status> {
    let credentials = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    let Some(credentials) = credentials else {
        return Err(Status::permission_denied("the kernel does not say who you are"));
    };
    let own = rustix::process::geteuid().as_raw();
    if !is_permitted(credentials.uid(), own) {
        return Err(Status::permission_denied(format!(
            "uid {} may not control an agent that runs as uid {own}",
            credentials.uid()
        )));
    }
    let pid = credentials
        .pid()
        .map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    Ok(format!("uid={} pid={pid} (control socket)", credentials.uid()))
}

fn is_permitted(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

#[tonic::async_trait]
impl v1::control_server::Control for Control {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        peer(&request)?;
        if self.exports.shared.live.receiver_count() >= WATCHERS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{WATCHERS_MAX} watchers are connected already"
            )));
        }
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE_LEN_MAX);
        let exports = self.exports.clone();
        let mut events = exports.watch();
        tokio::spawn(async move {
            let mut missed = 0u64;
            let mut is_first = true;
            let mut interval =
                tokio::time::interval_at(tokio::time::Instant::now() + STATUS_EVERY, STATUS_EVERY);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let message = tokio::select! {
                    // A status that is due comes first, however much is happening; the very first one now, so that
                    // the caller knows that it is connected.
                    biased;
                    () = async {
                        if !std::mem::take(&mut is_first) {
                            interval.tick().await;
                        }
                    } => {
                        let mut status = exports.status().await;
                        if missed > 0 {
                            status.losses.insert("this-watch".to_owned(), missed);
                        }
                        v1::watch_response::Message::Status(status)
                    }
                    event = events.recv() => match event {
                        Ok(first) => {
                            let mut batch = vec![first.as_ref().clone()];
                            while batch.len() < WATCH_BATCH_EVENTS_MAX {
                                match events.try_recv() {
                                    Ok(event) => batch.push(event.as_ref().clone()),
                                    Err(TryRecvError::Lagged(events)) => missed += events,
                                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                                }
                            }
                            v1::watch_response::Message::Events(v1::Events { events: batch })
                        }
                        Err(RecvError::Lagged(events)) => {
                            missed += events;
                            continue;
                        }
                        Err(RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                };
                if sender
                    .send(Ok(v1::WatchResponse {
                        message: Some(message),
                    }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::Status>, Status> {
        peer(&request)?;
        let mut status = self.exports.status().await;
        if !status.libraries.is_empty() {
            let mappers = self.mappers.clone();
            let counts = tokio::task::spawn_blocking(move || mappers.count()).await;
            let counts = counts.unwrap_or_default();
            for library in &mut status.libraries {
                library.processes = counts.get(&library.inode).copied().unwrap_or_default();
            }
        }
        Ok(Response::new(status))
    }

    async fn set_mode(
        &self,
        request: Request<v1::ControlModeRequest>,
    ) -> Result<Response<v1::ControlResult>, Status> {
        let who = peer(&request)?;
        let request = request.into_inner();
        let (asked, answer) = Asked::new(&self.exports, "mode", who, bounded(request.reason));
        let asked = asked.wanting(bounded(request.mode.clone()));
        let mode = match request.mode.as_str() {
            "observe" => Some(Mode::Observe),
            "enforce" => Some(Mode::Enforce),
            _ => None,
        };
        match mode {
            // A full queue drops the command, and dropping it records and answers it as refused.
            Some(mode) => {
                let term = match (request.confirm, request.for_ns) {
                    (true, _) => Term::Confirm,
                    (false, 0) => Term::ForGood,
                    (false, span) => Term::For(Duration::from_nanos(span)),
                };
                drop(self.exports.command(Command::SetMode { mode, term, asked }));
            }
            None => asked.refuse("the mode is neither `observe` nor `enforce`"),
        }
        Ok(self.answer(answer).await)
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ControlResult>, Status> {
        let who = peer(&request)?;
        let (asked, answer) = Asked::new(&self.exports, "mode", who, bounded(request.into_inner().reason));
        let asked = asked.wanting(RELEASED);
        drop(self.exports.command(Command::Release { asked }));
        Ok(self.answer(answer).await)
    }

    async fn reload_policies(
        &self,
        request: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ControlResult>, Status> {
        let who = peer(&request)?;
        let (asked, answer) = Asked::new(&self.exports, "policy", who, bounded(request.into_inner().reason));
        drop(self.exports.command(Command::ReloadPolicies { asked }));
        Ok(self.answer(answer).await)
    }

    async fn undo_policies(
        &self,
        request: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ControlResult>, Status> {
        let who = peer(&request)?;
        let (asked, answer) = Asked::new(&self.exports, "policy", who, bounded(request.into_inner().reason));
        drop(self.exports.command(Command::UndoPolicies { asked }));
        Ok(self.answer(answer).await)
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        peer(&request)?;
        let subject = request.into_inner().subject;
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(Status::invalid_argument("give a trace id, an event id or a pid"));
        }
        let exports = self.exports.clone();
        // Reads what the kernel says of each thread of a process, which may have many.
        let answer = tokio::task::spawn_blocking(move || why::answer(&exports, &subject)).await;
        answer
            .map(Response::new)
            .map_err(|error| Status::internal(error.to_string()))
    }

    type GetInventoryStream = ReceiverStream<Result<v1::InventoryResponse, Status>>;

    async fn get_inventory(
        &self,
        request: Request<v1::InventoryRequest>,
    ) -> Result<Response<Self::GetInventoryStream>, Status> {
        peer(&request)?;
        let Some(mut endpoints) = self.exports.inventory().await else {
            return Err(Status::resource_exhausted(
                "the agent's pipeline does not answer: it is starting, stopping, or overloaded",
            ));
        };
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            // The last message has fewer than fit, if only none: so an empty inventory is an answer too.
            loop {
                let rest = endpoints.split_off(endpoints.len().min(INVENTORY_PART_LEN));
                let is_last = rest.is_empty();
                let part = v1::InventoryResponse { endpoints };
                if sender.send(Ok(part)).await.is_err() || is_last {
                    return;
                }
                endpoints = rest;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type ProveStream = ReceiverStream<Result<v1::ProveResponse, Status>>;

    async fn prove(
        &self,
        request: Request<Streaming<v1::ProveRequest>>,
    ) -> Result<Response<Self::ProveStream>, Status> {
        let who = peer(&request)?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE_LEN_MAX);
        tokio::spawn(prove::serve(
            self.exports.clone(),
            who,
            request.into_inner(),
            sender,
        ));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[cfg(test)]
mod tests;
