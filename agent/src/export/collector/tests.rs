//! Against a collector in this process that is stopped and started again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use prost::Message;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use v1::collector_server::{Collector, CollectorServer};

use super::super::tests::Tally;
use super::super::{Settings as ExportSettings, Started, spool};
use super::*;
use crate::export::facts::Facts;
use crate::export::wire;

/// What a collector's store is: events by sequence number, and how often one came.
#[derive(Debug, Default)]
struct Store {
    events: BTreeMap<u64, v1::Event>,
    repeated: u64,
    hellos: Vec<v1::Hello>,
    heartbeats: Vec<v1::Heartbeat>,
    results: Vec<v1::CommandResult>,
}

#[derive(Clone, Debug)]
struct TestCollector {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
    commands: Arc<Mutex<Vec<v1::from_collector::Message>>>,
    /// Commit batches but do not say so.
    mute: bool,
}

impl TestCollector {
    fn new() -> Self {
        TestCollector {
            store: Arc::default(),
            changed: watch::Sender::new(0),
            commands: Arc::default(),
            mute: false,
        }
    }

    async fn until(&self, done: impl Fn(&Store) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !done(&self.store.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(
            waited.is_ok(),
            "still waiting; {} events there",
            self.store.lock().unwrap().events.len()
        );
    }

    /// Serves until what it returns is dropped.
    async fn serve(&self, address: SocketAddr) -> (SocketAddr, Serving) {
        // The one before may not have let go of the port yet.
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = CollectorServer::new(self.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
        });
        (address, Serving(Some(runtime)))
    }
}

/// A collector's process, as far as a test can have one: all its connections end with it.
struct Serving(Option<tokio::runtime::Runtime>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl Collector for TestCollector {
    type StreamStream = ReceiverStream<Result<v1::FromCollector, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let mut incoming = request.into_inner();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let mut answers = Vec::new();
                {
                    let mut store = this.store.lock().unwrap();
                    match message.message {
                        Some(v1::from_agent::Message::Hello(hello)) => {
                            store.hellos.push(hello);
                            answers.append(&mut this.commands.lock().unwrap());
                        }
                        Some(v1::from_agent::Message::Batch(batch)) => {
                            let mut sequence = batch.first_sequence;
                            for event in batch.events {
                                let event = v1::Event::decode(event).unwrap();
                                if store.events.insert(sequence, event).is_some() {
                                    store.repeated += 1;
                                }
                                sequence += 1;
                            }
                            if !this.mute {
                                let ack = v1::Ack {
                                    sequence: sequence - 1,
                                };
                                answers.push(v1::from_collector::Message::Ack(ack));
                            }
                        }
                        Some(v1::from_agent::Message::Heartbeat(beat)) => store.heartbeats.push(beat),
                        Some(v1::from_agent::Message::Result(result)) => store.results.push(result),
                        None => {}
                    }
                }
                this.changed.send_modify(|count| *count += 1);
                for answer in answers {
                    if sender
                        .send(Ok(v1::FromCollector {
                            message: Some(answer),
                        }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_agents(
        &self,
        _: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn set_mode(
        &self,
        _: Request<v1::SetAgentsModeRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn push_policies(
        &self,
        _: Request<v1::PushPoliciesRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn agent(dir: &std::path::Path) -> Started {
    let settings = ExportSettings {
        spool: Some(spool::Settings {
            dir: dir.to_owned(),
            bytes_max: 64 << 20,
            memory_bytes_max: 1 << 20,
        }),
        consumers: vec!["collector".to_owned()],
        ..Default::default()
    };
    Exports::start(settings, Arc::new(Tally::default())).unwrap()
}

fn link(started: &Started, address: SocketAddr, ceiling: Ceiling) {
    let settings = Settings {
        consumer: "collector".to_owned(),
        endpoint: format!("http://{address}"),
        tls: None,
        agent_id: None,
        ceiling,
    };
    start(&started.exports, settings);
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<v1::Event> {
    numbers
        .map(|number| v1::Event {
            time_ns: number,
            ..wire::agent_state("started", "some text that takes a little room")
        })
        .collect()
}

fn numbers(collector: &TestCollector) -> Vec<u64> {
    collector
        .store
        .lock()
        .unwrap()
        .events
        .values()
        .map(|event| event.time_ns)
        .collect()
}

const ANYWHERE: &str = "127.0.0.1:0";

#[tokio::test]
async fn nothing_is_lost_and_nothing_twice_while_the_collector_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let started = agent(dir.path());
    let collector = TestCollector::new();
    let (address, mut stop) = collector.serve(ANYWHERE.parse().unwrap()).await;
    link(&started, address, Ceiling::None);
    let mut next = 0;
    for round in 0..4 {
        for _ in 0..10 {
            started.exports.send(numbered(next..next + 50));
            next += 50;
        }
        if round < 3 {
            drop(stop);
            started.exports.send(numbered(next..next + 50));
            next += 50;
            (_, stop) = collector.serve(address).await;
        }
    }
    collector.until(|store| store.events.len() as u64 >= next).await;
    assert_eq!(numbers(&collector), (0..next).collect::<Vec<_>>());
    drop(stop);
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_and_falls_on_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let started = agent(dir.path());
    let mut collector = TestCollector::new();
    collector.mute = true;
    let (address, stop) = collector.serve(ANYWHERE.parse().unwrap()).await;
    link(&started, address, Ceiling::None);
    started.exports.send(numbered(0..100));
    collector.until(|store| store.events.len() == 100).await;
    drop(stop);
    collector.mute = false;
    let (_, _stop) = collector.serve(address).await;
    collector
        .until(|store| store.repeated == 100 && !store.heartbeats.is_empty())
        .await;
    assert_eq!(numbers(&collector), (0..100).collect::<Vec<_>>());
    let store = collector.store.lock().unwrap();
    assert_eq!(store.hellos.len(), 2);
    assert_eq!(store.hellos[0].agent_id, store.hellos[1].agent_id);
    assert_eq!(store.hellos[1].first_sequence, 1);
}

#[tokio::test]
async fn an_agent_that_died_delivers_at_its_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let spool_settings = || spool::Settings {
        dir: dir.path().to_owned(),
        bytes_max: 64 << 20,
        memory_bytes_max: 1 << 20,
    };
    // A death by signal: what was written is there, and nothing was closed.
    let (spool, _) = spool::Spool::open(spool_settings(), &["collector"]).unwrap();
    spool.append_events(&numbered(0..500));
    let id = spool.agent_id().to_owned();
    drop(spool);

    let collector = TestCollector::new();
    let (address, _stop) = collector.serve(ANYWHERE.parse().unwrap()).await;
    let started = agent(dir.path());
    link(&started, address, Ceiling::None);
    // What the new agent says of the old one's end comes with them.
    let old = |store: &Store| store.events.values().filter(|event| event.time_ns < 500).count();
    collector.until(|store| old(store) == 500).await;
    let mut told = numbers(&collector);
    told.retain(|number| *number < 500);
    assert_eq!(told, (0..500).collect::<Vec<_>>());
    assert_eq!(collector.store.lock().unwrap().hellos[0].agent_id, id);
}

/// Answers the pipeline's commands until the exporters are gone.
fn pipeline(mut commands: mpsc::Receiver<Command>) {
    tokio::spawn(async move {
        let mut mode = Mode::Observe;
        while let Some(command) = commands.recv().await {
            match command {
                Command::SetMode { mode: new, asked, .. } => {
                    asked.accept(mode.as_str(), new.as_str(), "switched");
                    mode = new;
                }
                Command::PushPolicies { files, asked } => {
                    asked.accept("old", "new", format!("{} files", files.len()))
                }
                Command::ReloadPolicies { asked }
                | Command::UndoPolicies { asked }
                | Command::Release { asked } => {
                    asked.accept("old", "old", "nothing changed");
                }
                Command::Facts { reply } => {
                    let _ = reply.send(Facts {
                        mode,
                        ..Default::default()
                    });
                }
                Command::Prove(_) | Command::Inventory { .. } => {}
            }
        }
    });
}

fn set_mode(command_id: u64, mode: &str) -> v1::from_collector::Message {
    v1::from_collector::Message::SetMode(v1::SetMode {
        command_id,
        mode: mode.to_owned(),
        reason: "test".to_owned(),
    })
}

async fn command_results(ceiling: Ceiling) -> (Vec<v1::CommandResult>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let started = agent(dir.path());
    let exports = started.exports.clone();
    let collector = TestCollector::new();
    let push = v1::Policies {
        command_id: 4,
        files: vec![v1::PolicyFile::default()],
        reason: String::new(),
    };
    collector.commands.lock().unwrap().extend([
        set_mode(1, "observe"),
        set_mode(2, "enforce"),
        set_mode(3, "whatever"),
        v1::from_collector::Message::Policies(push),
    ]);
    let (address, _stop) = collector.serve(ANYWHERE.parse().unwrap()).await;
    link(&started, address, ceiling);
    pipeline(started.commands);
    collector
        .until(|store| store.results.len() == 4 && store.events.len() == 4)
        .await;
    let store = collector.store.lock().unwrap();
    let audits = store
        .events
        .values()
        .filter(|event| matches!(&event.kind, Some(v1::event::Kind::Audit(_))))
        .count();
    let mut results = store.results.clone();
    results.sort_by_key(|result| result.command_id);
    drop(exports);
    (results, audits)
}

#[tokio::test]
async fn a_collector_cannot_do_more_than_the_host_says_and_every_try_is_recorded() {
    for (ceiling, expected) in [
        (Ceiling::None, [false, false, false, false]),
        (Ceiling::Observe, [true, false, false, false]),
        (Ceiling::Policies, [true, false, false, true]),
        (Ceiling::Enforce, [true, true, false, true]),
    ] {
        let (results, audits) = command_results(ceiling).await;
        let accepted: Vec<bool> = results.iter().map(|result| result.accepted).collect();
        assert_eq!(accepted, expected, "{ceiling:?}");
        assert_eq!(audits, 4);
        if ceiling == Ceiling::None {
            assert!(
                results[1].reason.contains("remote: none"),
                "{}",
                results[1].reason
            );
        }
    }
}

#[test]
fn a_reason_from_outside_is_one_bounded_line() {
    assert_eq!(bounded("a\nb\u{1b}[31m".to_owned()), "a b [31m");
    assert_eq!(bounded("é".repeat(2000)).len(), REASON_BYTES_MAX);
}
