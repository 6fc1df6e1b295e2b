//! The spool → an OpenTelemetry collector: log records by OTLP over gRPC.
//!
//! At least once: a request is under way alone, and the consumer's place in the spool moves when the collector has
//! answered it. What the protocol lets a client try again is tried again, after the wait that the server asks for
//! or a growing one; what it forbids to try again is dropped, counted and reported. After a refusal too there is a
//! wait, so that a collector that was set up wrongly costs a few requests and not the spool.
//!
//! Values of headers are secrets. They are in this exporter's memory and on the wire, and marked so that no
//! library on the way prints them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiward_proto::v1;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::Channel;

use super::collector::bounded;
use super::net::{self, Backoff, Tls};
use super::spool::{Reader, Spool, Spooled};
use super::{Exporter, Exports, wire};

mod answer;
mod record;

use answer::Answer;

/// Events in one request, and about their bytes in the spool. As records they take up to six times as much; the
/// usual limit of a receiver is 4 MiB.
const BATCH_EVENTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 384 << 10;
/// A collector that does not answer a request for so long is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Losses are events, and a refusing collector refuses those too: while it does, one a minute must do.
const LOSS_EVERY: Duration = Duration::from_secs(60);
/// Shorter parts of a header's value are words like `Bearer` or `Basic`, not secrets.
const SECRET_BYTES_MIN: usize = 8;
/// Bytes of a file with a header's value.
const HEADER_FILE_BYTES_MAX: u64 = 16 << 10;

/// An OpenTelemetry collector, and what it wants to hear.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name as a consumer of the spool.
    pub consumer: String,
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    pub tls: Option<Tls>,
    /// Sent with every request; names in lower case.
    pub headers: Vec<(String, HeaderValue)>,
    pub gzip: bool,
}

/// A header's value, or where it is kept. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValue {
    Text(String),
    /// Read for every request, so that a token that is renewed there needs no restart.
    File(PathBuf),
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderValue::Text(_) => f.write_str("Secret"),
            HeaderValue::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl HeaderValue {
    fn text(&self) -> Result<String, Ended> {
        match self {
            HeaderValue::Text(text) => Ok(text.clone()),
            HeaderValue::File(path) => read_header(path),
        }
    }
}

/// Starts the exporter on the exporters' runtime. Without a spool there is nothing that it could send.
pub fn start(exports: &Exports, settings: Settings) {
    let Some(spool) = exports.spool().cloned() else {
        tracing::error!("an OpenTelemetry collector is configured, but no spool: nothing is sent to it");
        return;
    };
    let exporter = exports.add_exporter(&format!("otlp {}", settings.endpoint), Some(&settings.consumer));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let sender = Sender {
        resource: record::resource(exports.agent_id(), &host),
        reader: spool.reader(&settings.consumer),
        pending: Vec::new(),
        pending_to: 0,
        losses: Losses::default(),
        backoff: Backoff::default(),
        spool,
        exports: exports.clone(),
        settings,
        exporter,
    };
    let mut stopping = exports.stopping();
    exports.runtime().spawn(async move {
        tokio::select! {
            () = sender.run() => {}
            _ = stopping.wait_for(|&stop| stop) => {}
        }
    });
}

/// Why a connection was given up. Another is tried.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] net::ConnectError),
    #[error("{path} cannot be read ({why}): check `headers` of this exporter")]
    Header { path: PathBuf, why: std::io::Error },
    #[error("the header {name} cannot be sent: its value must be one line of printable ASCII")]
    Unfit { name: String },
    #[error("the collector answered nothing for {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Events that were given up and not reported yet.
#[derive(Debug, Default)]
struct Losses {
    events: u64,
    detail: String,
    reported_at: Option<Instant>,
}

struct Sender {
    exports: Exports,
    settings: Settings,
    exporter: Arc<Exporter>,
    spool: Spool,
    reader: Reader,
    resource: Resource,
    /// Read from the spool and not answered yet. It outlives a connection.
    pending: Vec<Spooled>,
    /// Sequence number of the last one that was read.
    pending_to: u64,
    losses: Losses,
    backoff: Backoff,
}

impl Sender {
    async fn run(mut self) {
        loop {
            let error = match self.session().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.failing(error.to_string());
            tokio::time::sleep(self.backoff.failed()).await;
        }
    }

    /// Says once in the log what is wrong, and in the status always.
    fn failing(&self, why: String) {
        if self.exporter.set_state("failing", why.clone()) {
            tracing::warn!(
                endpoint = self.settings.endpoint,
                error = why,
                "nothing can be sent to the OpenTelemetry collector; events wait in the spool"
            );
        }
    }

    /// Sends over one connection until it is not good any more.
    async fn session(&mut self) -> Result<std::convert::Infallible, Ended> {
        let channel = net::connect(&self.settings.endpoint, self.settings.tls.as_ref()).await?;
        let mut client = LogsServiceClient::new(channel).accept_compressed(CompressionEncoding::Gzip);
        if self.settings.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        self.connected();
        loop {
            if self.pending.is_empty() {
                self.fill().await;
            }
            self.send(&mut client).await?;
        }
    }

    fn connected(&self) {
        if self.exporter.set_state("connected", "") {
            tracing::info!(
                endpoint = self.settings.endpoint,
                "connected to the OpenTelemetry collector"
            );
        }
    }

    /// Waits for events and takes the next ones.
    async fn fill(&mut self) {
        while self.pending.is_empty() {
            self.reader.ready().await;
            let batch = self.reader.read(BATCH_EVENTS_MAX, BATCH_BYTES_MAX);
            self.exports.report_damaged(&self.exporter, batch.damaged);
            self.pending_to = batch.events.last().map_or(0, |last| last.sequence);
            self.pending = batch.events;
        }
    }

    /// Sends what is pending, once. Afterwards it is done with, or waits for another try.
    async fn send(&mut self, client: &mut LogsServiceClient<Channel>) -> Result<(), Ended> {
        let mut request = tonic::Request::new(self.request());
        if self.pending.is_empty() {
            self.settle();
            return Ok(());
        }
        for (name, value) in &self.settings.headers {
            let (name, value) = header(name, value)?;
            request.metadata_mut().insert(name, value);
        }
        request.set_timeout(ANSWER_TIMEOUT);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.export(request))
            .await
            .map_err(|_| Ended::Silent)?;
        let status = match answer {
            Ok(response) => {
                self.delivered(response.into_inner().partial_success);
                return Ok(());
            }
            Err(status) => status,
        };
        let why = self.foreign(describe(&status));
        match answer::classify(&status) {
            Answer::Reconnect => return Err(Ended::Broken(why)),
            Answer::Later(wait) => {
                self.failing(format!("the collector asks to try later: {why}"));
                let own = self.backoff.failed();
                tokio::time::sleep(wait.unwrap_or(own)).await;
            }
            Answer::Refused => {
                self.refused(why);
                tokio::time::sleep(self.backoff.failed()).await;
            }
        }
        Ok(())
    }

    /// The pending events as records. Made anew for every try: that is rare, and keeps nothing twice in memory.
    fn request(&mut self) -> ExportLogsServiceRequest {
        let mut records = Vec::with_capacity(self.pending.len());
        let mut unreadable = 0;
        for spooled in &self.pending {
            match v1::Event::decode(spooled.event.clone()) {
                Ok(event) => records.push(record::record(&event)),
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            // Never seen: the spool's checksum was right. They are taken out, so that they are counted once.
            self.pending
                .retain(|spooled| v1::Event::decode(spooled.event.clone()).is_ok());
            self.lost(unreadable, "an event in the spool could not be read".to_owned());
        }
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(record::scope()),
                    log_records: records,
                    schema_url: record::SCHEMA_URL.to_owned(),
                }],
                schema_url: record::SCHEMA_URL.to_owned(),
            }],
        }
    }

    fn delivered(&mut self, partial: Option<ExportLogsPartialSuccess>) {
        let events = self.settle();
        let partial = partial.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records)
            .unwrap_or(0)
            .min(events);
        let why = self.foreign(partial.error_message);
        if rejected > 0 {
            tracing::warn!(
                endpoint = self.settings.endpoint,
                rejected,
                why,
                "the OpenTelemetry collector rejected some events"
            );
            self.lost(
                rejected,
                format!("the OpenTelemetry collector rejected them: {why}"),
            );
        } else if !why.is_empty() {
            // Nothing was rejected: by the protocol a warning for people.
            tracing::warn!(
                endpoint = self.settings.endpoint,
                why,
                "the OpenTelemetry collector warns"
            );
        }
        self.exporter.add_sent(events - rejected);
        self.connected();
        self.backoff.reset();
        self.report();
    }

    /// A server's words, for events and logs: on one bounded line, and without the secrets that it was sent.
    fn foreign(&self, words: String) -> String {
        let mut words = words;
        for (_, value) in &self.settings.headers {
            let Ok(value) = value.text() else { continue };
            // `Bearer TOKEN` may come back as its second half alone.
            for part in value
                .split_ascii_whitespace()
                .filter(|part| part.len() >= SECRET_BYTES_MIN)
            {
                words = words.replace(part, "…");
            }
        }
        bounded(words)
    }

    fn refused(&mut self, why: String) {
        let events = self.settle();
        let why = format!("the OpenTelemetry collector refused them: {why}");
        if self.exporter.set_state("failing", why.clone()) {
            tracing::error!(
                endpoint = self.settings.endpoint,
                events,
                why,
                "events are lost until the collector takes them: check its address and `headers`"
            );
        }
        self.lost(events, why);
        self.report();
    }

    /// What was pending is done with. Returns how many events that were.
    fn settle(&mut self) -> u64 {
        self.spool.acknowledge(&self.settings.consumer, self.pending_to);
        std::mem::take(&mut self.pending).len() as u64
    }

    fn lost(&mut self, events: u64, detail: String) {
        self.exporter.add_dropped(events);
        self.exports.shared.meter.lost("otlp", events);
        self.losses.events += events;
        self.losses.detail = detail;
    }

    /// Makes an event of what was lost, at most one in [`LOSS_EVERY`].
    fn report(&mut self) {
        let losses = &mut self.losses;
        let due = losses.reported_at.is_none_or(|at| at.elapsed() >= LOSS_EVERY);
        if losses.events == 0 || !due {
            return;
        }
        losses.reported_at = Some(Instant::now());
        self.exports.send(vec![wire::flow_loss(wire::Loss {
            reason: "otlp",
            events: std::mem::take(&mut losses.events),
            detail: std::mem::take(&mut losses.detail),
            ..Default::default()
        })]);
    }
}

/// A header as it is sent, marked as a secret for the libraries that carry it.
fn header(name: &str, value: &HeaderValue) -> Result<(MetadataKey<Ascii>, MetadataValue<Ascii>), Ended> {
    let unfit = || Ended::Unfit {
        name: name.to_owned(),
    };
    let key = MetadataKey::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
    let text = value.text()?;
    let mut value = MetadataValue::try_from(text.trim_end()).map_err(|_| unfit())?;
    value.set_sensitive(true);
    Ok((key, value))
}

fn read_header(path: &Path) -> Result<String, Ended> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| Ended::Header {
        path: path.to_owned(),
        why: error,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(HEADER_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

fn describe(status: &tonic::Status) -> String {
    match (status.message(), std::error::Error::source(status)) {
        (_, Some(source)) => net::causes(source),
        ("", None) => status.code().to_string(),
        (message, _) => format!("{message} ({:?})", status.code()),
    }
}

#[cfg(test)]
mod tests;
