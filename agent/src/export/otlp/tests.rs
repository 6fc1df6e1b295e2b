//! Against a receiver in this process that refuses, rejects, stops and comes back.

use std::net::SocketAddr;
use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::super::tests::Tally;
use super::super::{Meter, Settings as ExportSettings, Started, spool};
use super::*;

/// What a request is answered with, in order; then everything is taken.
#[derive(Clone, Debug)]
enum Reply {
    Fail(Status),
    /// Take them but for so many.
    Reject(i64, &'static str),
}

#[derive(Debug, Default)]
struct Store {
    requests: Vec<ExportLogsServiceRequest>,
    /// `authorization` of each request, also of those that failed.
    authorizations: Vec<String>,
    encodings: Vec<String>,
    tries: Vec<std::time::Instant>,
    replies: std::collections::VecDeque<Reply>,
}

impl Store {
    fn records(&self) -> impl Iterator<Item = &LogRecord> {
        self.requests
            .iter()
            .flat_map(|request| &request.resource_logs)
            .flat_map(|logs| &logs.scope_logs)
            .flat_map(|logs| &logs.log_records)
    }

    /// The numbers of [`numbered`] events, in order of arrival. Others (losses) are left out.
    fn numbers(&self) -> Vec<u64> {
        self.records()
            .filter(|record| record.event_name == "apiward.agent_state")
            .map(|record| record.time_unix_nano)
            .collect()
    }
}

#[derive(Clone, Debug)]
struct Receiver {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let header = |name: &str| {
            let value = request.metadata().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let mut store = self.store.lock().unwrap();
        store.authorizations.push(header("authorization"));
        store.encodings.push(header("grpc-encoding"));
        store.tries.push(std::time::Instant::now());
        let reply = store.replies.pop_front();
        let answer = match reply {
            Some(Reply::Fail(status)) => Err(status),
            reply => {
                store.requests.push(request.into_inner());
                let partial_success = match reply {
                    Some(Reply::Reject(rejected_log_records, why)) => Some(ExportLogsPartialSuccess {
                        rejected_log_records,
                        error_message: why.to_owned(),
                    }),
                    _ => None,
                };
                Ok(Response::new(ExportLogsServiceResponse { partial_success }))
            }
        };
        drop(store);
        self.changed.send_modify(|count| *count += 1);
        answer
    }
}

impl Receiver {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let store = Store {
            replies: replies.into_iter().collect(),
            ..Default::default()
        };
        Receiver {
            store: Arc::new(Mutex::new(store)),
            changed: watch::Sender::new(0),
        }
    }

    async fn until(&self, what: &str, done: impl Fn(&Store) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !done(&self.store.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        let store = self.store.lock().unwrap();
        assert!(
            waited.is_ok(),
            "still waiting for {what}; {} tries, {} records",
            store.tries.len(),
            store.records().count()
        );
    }

    /// Serves until what it returns is dropped; all connections end then.
    async fn serve(&self, address: SocketAddr) -> (SocketAddr, Serving) {
        self.serve_by(tonic::transport::Server::builder(), address).await
    }

    async fn serve_by(
        &self,
        mut server: tonic::transport::Server,
        address: SocketAddr,
    ) -> (SocketAddr, Serving) {
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                // The one before may not have let go of the port yet.
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
        let service = LogsServiceServer::new(self.clone()).accept_compressed(CompressionEncoding::Gzip);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            server
                .add_service(service)
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
        });
        (address, Serving(Some(runtime)))
    }
}

struct Serving(Option<tokio::runtime::Runtime>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

mod real;
mod tls;

const ANYWHERE: &str = "127.0.0.1:0";

fn spool_settings(dir: &Path) -> spool::Settings {
    spool::Settings {
        dir: dir.to_owned(),
        bytes_max: 64 << 20,
        memory_bytes_max: 1 << 20,
    }
}

fn agent(dir: &Path) -> (Started, Arc<Tally>) {
    let settings = ExportSettings {
        spool: Some(spool_settings(dir)),
        consumers: vec!["otlp".to_owned()],
        ..Default::default()
    };
    let tally = Arc::new(Tally::default());
    (Exports::start(settings, tally.clone()).unwrap(), tally)
}

fn settings(address: SocketAddr) -> Settings {
    Settings {
        consumer: "otlp".to_owned(),
        endpoint: format!("http://{address}"),
        tls: None,
        headers: Vec::new(),
        gzip: false,
    }
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<v1::Event> {
    numbers
        .map(|number| v1::Event {
            time_ns: number,
            ..wire::agent_state("started", "some text that takes a little room")
        })
        .collect()
}

async fn exporter(started: &Started) -> apiward_proto::v1::Exporter {
    started.exports.status().await.exporters.remove(0)
}

/// An answer moves the place in the spool after the receiver has counted: waits for that.
async fn acknowledged(started: &Started, sequence: u64) {
    let spool = started.exports.spool().unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while spool.stats().consumers[0].1 < sequence {
        assert!(std::time::Instant::now() < until, "{:?}", spool.stats());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_arrives_once_and_in_order_over_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (started, _) = agent(dir.path());
    let receiver = Receiver::new([]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    start(&started.exports, settings(address));
    let count = 3 * BATCH_EVENTS_MAX as u64 + 7;
    started.exports.send(numbered(0..count));
    receiver
        .until("all", |store| store.records().count() as u64 >= count)
        .await;
    acknowledged(&started, count).await;
    let exporter = exporter(&started).await;
    assert_eq!(
        (exporter.state.as_str(), exporter.sent, exporter.waiting),
        ("connected", count, 0)
    );
    let store = receiver.store.lock().unwrap();
    assert_eq!(store.numbers(), (0..count).collect::<Vec<_>>());
    for request in &store.requests {
        assert!(request.encoded_len() < 4 << 20, "a receiver's usual limit");
        assert!(request.resource_logs[0].scope_logs[0].log_records.len() <= BATCH_EVENTS_MAX);
    }
    let resource = store.requests[0].resource_logs[0].resource.clone().unwrap();
    let names: Vec<&str> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
    for name in ["service.name", "service.version", "host.name", "apiward.agent.id"] {
        assert!(names.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn a_receiver_that_comes_and_goes_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (started, tally) = agent(dir.path());
    let receiver = Receiver::new([]);
    let (address, mut serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    start(&started.exports, settings(address));
    for round in 0..3 {
        started.exports.send(numbered(round * 200..round * 200 + 100));
        receiver
            .until("the first half", |store| {
                store.numbers().contains(&(round * 200 + 99))
            })
            .await;
        drop(serving);
        started
            .exports
            .send(numbered(round * 200 + 100..round * 200 + 200));
        (_, serving) = receiver.serve(address).await;
    }
    receiver
        .until("the end", |store| store.numbers().contains(&599))
        .await;
    // At least once: what was answered while the connection ended may have come twice.
    let mut numbers = receiver.store.lock().unwrap().numbers();
    numbers.dedup();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    assert_eq!(tally.losses(), Default::default());
    drop(serving);
}

#[tokio::test]
async fn the_place_in_the_spool_outlives_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::new([]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    let (started, _) = agent(dir.path());
    start(&started.exports, settings(address));
    started.exports.send(numbered(0..50));
    acknowledged(&started, 50).await;
    started.exports.shutdown(Duration::from_secs(5));
    drop(started);
    // The exporters' threads let go of the spool a moment later; what comes in between is spooled without them.
    let spool = loop {
        match spool::Spool::open(spool_settings(dir.path()), &["otlp"]) {
            Ok((spool, _)) => break spool,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    spool.append_events(&numbered(50..80));
    drop(spool);
    let (started, _) = agent(dir.path());
    start(&started.exports, settings(address));
    receiver
        .until("the rest", |store| store.numbers().len() >= 80)
        .await;
    assert_eq!(
        receiver.store.lock().unwrap().numbers(),
        (0..80).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_may_be_tried_again_is_after_the_wait_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (started, tally) = agent(dir.path());
    let asked = Duration::from_millis(900);
    let wait = ErrorDetails::with_retry_info(Some(asked));
    let receiver = Receiver::new([
        Reply::Fail(Status::unavailable("starting")),
        Reply::Fail(Status::with_error_details(
            Code::ResourceExhausted,
            "slower",
            wait,
        )),
    ]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    started.exports.send(numbered(0..10));
    start(&started.exports, settings(address));
    receiver.until("all", |store| store.numbers().len() == 10).await;
    let store = receiver.store.lock().unwrap();
    assert!(store.tries[2] - store.tries[1] >= asked);
    assert_eq!(store.numbers(), (0..10).collect::<Vec<_>>());
    assert_eq!(tally.losses(), Default::default());
}

#[tokio::test]
async fn what_is_refused_is_dropped_counted_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (started, tally) = agent(dir.path());
    let receiver = Receiver::new([Reply::Fail(Status::invalid_argument("no such tenant"))]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    started.exports.send(numbered(0..10));
    // All ten in the first request.
    while started.exports.spool().unwrap().stats().last < 10 {
        tokio::task::yield_now().await;
    }
    start(&started.exports, settings(address));
    receiver
        .until("the loss", |store| store.records().count() == 1)
        .await;
    let loss = receiver.store.lock().unwrap().records().next().cloned().unwrap();
    assert_eq!(loss.event_name, "apiward.flow_loss");
    let body = format!("{:?}", loss.body);
    assert!(
        body.contains("10 events") && body.contains("no such tenant"),
        "{body}"
    );
    assert_eq!(tally.losses()["otlp"], 10);
    acknowledged(&started, 11).await;
    let exporter = exporter(&started).await;
    assert_eq!(
        (exporter.state.as_str(), exporter.sent, exporter.dropped),
        ("connected", 1, 10)
    );
}

#[tokio::test]
async fn what_is_rejected_in_part_is_counted_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (started, tally) = agent(dir.path());
    // A count beyond what was sent is a server's mistake, not a loss.
    let receiver = Receiver::new([Reply::Reject(3, "too old"), Reply::Reject(i64::MAX, "?")]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    started.exports.send(numbered(0..10));
    while started.exports.spool().unwrap().stats().last < 10 {
        tokio::task::yield_now().await;
    }
    start(&started.exports, settings(address));
    receiver
        .until("the loss", |store| store.records().count() == 11)
        .await;
    acknowledged(&started, 11).await;
    let exporter = exporter(&started).await;
    assert_eq!((exporter.sent, exporter.dropped), (7, 4));
    assert_eq!(tally.losses()["otlp"], 4);
}

#[tokio::test]
async fn headers_are_sent_read_anew_and_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "Bearer first-secret\n").unwrap();
    let (started, _) = agent(&dir.path().join("spool"));
    // A server that repeats what it was sent.
    let receiver = Receiver::new([Reply::Fail(Status::unauthenticated("no token first-secret here"))]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    let settings = Settings {
        headers: vec![
            ("authorization".to_owned(), HeaderValue::File(token.clone())),
            ("x-key".to_owned(), HeaderValue::Text("other-secret".to_owned())),
        ],
        gzip: true,
        ..settings(address)
    };
    assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
    start(&started.exports, settings);
    started.exports.send(numbered(0..1));
    receiver
        .until("the loss", |store| store.requests.len() == 1)
        .await;
    std::fs::write(&token, "Bearer second-secret").unwrap();
    started.exports.send(numbered(1..2));
    receiver.until("the second", |store| store.numbers() == [1]).await;
    let store = receiver.store.lock().unwrap();
    assert_eq!(store.authorizations[0], "Bearer first-secret");
    assert_eq!(
        store.authorizations.last().map(String::as_str),
        Some("Bearer second-secret")
    );
    assert!(store.encodings.iter().all(|encoding| encoding == "gzip"));
    let all = format!("{:?}", store.requests);
    assert!(!all.contains("secret"), "{all}");
    assert!(all.contains("no token … here"), "{all}");
}

#[tokio::test]
async fn a_header_s_file_that_is_missing_costs_nothing_but_time() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let (started, tally) = agent(&dir.path().join("spool"));
    let receiver = Receiver::new([]);
    let (address, _serving) = receiver.serve(ANYWHERE.parse().unwrap()).await;
    let settings = Settings {
        headers: vec![("authorization".to_owned(), HeaderValue::File(token.clone()))],
        ..settings(address)
    };
    start(&started.exports, settings);
    started.exports.send(numbered(0..1));
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let exporter = exporter(&started).await;
        if exporter.state == "failing" {
            assert!(exporter.detail.contains("check `headers`"), "{}", exporter.detail);
            break;
        }
        assert!(std::time::Instant::now() < until, "{exporter:?}");
    }
    std::fs::write(&token, "now").unwrap();
    receiver.until("it", |store| store.numbers() == [0]).await;
    assert_eq!(tally.losses(), Default::default());
}
