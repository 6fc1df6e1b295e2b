//! Every counter of the agent, in one place: what `status` and the heartbeat tell, and what Prometheus reads.
//!
//! Stages count in their own way and know nothing of this; the pipeline carries their numbers here. Label values
//! are shipped words, names of policies' own making, or names of programs, never anything captured, so the number
//! of series is bounded by us and not by traffic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::export::Meter;

/// One label and its value.
type Label = [(&'static str, String); 1];
/// Action and guarantee of a verdict.
type VerdictLabels = [(&'static str, String); 2];

/// The agent's counters. Share it with an [`Arc`].
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    events: Family<Label, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    losses: Mutex<BTreeMap<String, Counter>>,
    losses_family: Family<Label, Counter>,
    queues: Family<Label, Gauge>,
    spool_bytes: Gauge,
    program_run_ns: Family<Label, Gauge<u64, AtomicU64>>,
    program_runs: Family<Label, Gauge<u64, AtomicU64>>,
    records: Gauge<u64, AtomicU64>,
    operations_exempt: Gauge<u64, AtomicU64>,
    gate_again: Gauge<u64, AtomicU64>,
    bytes_passed_over: Gauge<u64, AtomicU64>,
    flows_open: Gauge,
    enforcing: Gauge,
    canary: Family<Label, Gauge>,
    policy_degraded: Family<Label, Gauge>,
    ready: AtomicBool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("apiward");
        let events = Family::default();
        registry.register("events", "Events sent on, by kind", events.clone());
        let verdicts = Family::default();
        registry.register(
            "verdicts",
            "Calls judged, by action and guarantee",
            verdicts.clone(),
        );
        let losses_family = Family::default();
        registry.register(
            "losses",
            "Records or events given up, by where",
            losses_family.clone(),
        );
        let queues = Family::default();
        registry.register(
            "queue_depth",
            "Waiting in a queue, by queue or consumer",
            queues.clone(),
        );
        let spool_bytes = Gauge::default();
        registry.register(
            "spool_bytes",
            "Bytes of events that wait for a consumer",
            spool_bytes.clone(),
        );
        let program_run_ns = Family::default();
        registry.register(
            "program_run_ns",
            "Time spent in a kernel program, by program",
            program_run_ns.clone(),
        );
        let program_runs = Family::default();
        registry.register(
            "program_runs",
            "Runs of a kernel program, by program",
            program_runs.clone(),
        );
        let records = Gauge::default();
        registry.register("records", "Kernel records read since the start", records.clone());
        let operations_exempt = Gauge::default();
        registry.register(
            "operations_exempt",
            "Operations of exempt processes since the start, not read",
            operations_exempt.clone(),
        );
        let gate_again = Gauge::default();
        registry.register(
            "gate_segments_again",
            "Segments that the gate dropped for their order, their repetition or its own want of room; TCP sends them again",
            gate_again.clone(),
        );
        let bytes_passed_over = Gauge::default();
        registry.register(
            "bytes_passed_over",
            "Bytes not read: beyond what is captured of one operation, or sent from files without passing through a process",
            bytes_passed_over.clone(),
        );
        let flows_open = Gauge::default();
        registry.register(
            "flows_open",
            "Connections and TLS objects followed now",
            flows_open.clone(),
        );
        let enforcing = Gauge::default();
        registry.register(
            "enforcing",
            "1 in enforce mode, 0 in observe mode",
            enforcing.clone(),
        );
        let canary = Family::default();
        registry.register(
            "canary",
            "What canaries measured last, by quadrant: 1 as promised, 0 not, -1 not measured",
            canary.clone(),
        );
        let policy_degraded = Family::default();
        registry.register(
            "policy_degraded",
            "1 where a policy's word does not hold as it should, by policy",
            policy_degraded.clone(),
        );
        Telemetry {
            registry,
            events,
            verdicts,
            losses: Mutex::new(BTreeMap::new()),
            losses_family,
            queues,
            spool_bytes,
            program_run_ns,
            program_runs,
            records,
            operations_exempt,
            gate_again,
            bytes_passed_over,
            flows_open,
            enforcing,
            canary,
            policy_degraded,
            ready: AtomicBool::new(false),
        }
    }

    /// A loss counter to keep and count on; made at its first use, so that it is shown as 0 before anything is lost.
    pub fn loss(&self, name: &str) -> Counter {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = losses.get(name) {
            return counter.clone();
        }
        let counter = self
            .losses_family
            .get_or_create(&[("stage", name.to_owned())])
            .clone();
        losses.insert(name.to_owned(), counter.clone());
        counter
    }

    /// Brings a loss counter up to a total that a stage (or a kernel map) keeps itself.
    pub fn set_loss_total(&self, name: &str, total: u64) {
        let counter = self.loss(name);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// Time (ns) and number of runs of a kernel program, as the kernel counts them.
    pub fn set_program(&self, program: &str, run_ns: u64, runs: u64) {
        self.program_run_ns
            .get_or_create(&[("program", program.to_owned())])
            .set(run_ns);
        self.program_runs
            .get_or_create(&[("program", program.to_owned())])
            .set(runs);
    }

    /// How many wait in a queue.
    pub fn set_queue(&self, name: &str, depth: u64) {
        self.queues
            .get_or_create(&[("queue", name.to_owned())])
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Operations of exempt processes, which were not read.
    pub fn set_operations_exempt(&self, operations: u64) {
        self.operations_exempt.set(operations);
    }

    /// Segments that the gate dropped, and that TCP sends again.
    pub fn set_gate_again(&self, segments: u64) {
        self.gate_again.set(segments);
    }

    /// Bytes that were not read because they need not be, or never are in a process's memory.
    pub fn set_bytes_passed_over(&self, bytes: u64) {
        self.bytes_passed_over.set(bytes);
    }

    /// Kernel records read since the start.
    pub fn set_records(&self, records: u64) {
        self.records.set(records);
    }

    /// Connections and TLS objects followed now.
    pub fn set_flows_open(&self, flows: u64) {
        self.flows_open.set(i64::try_from(flows).unwrap_or(i64::MAX));
    }

    /// Whether denials are carried out.
    pub fn set_enforcing(&self, enforcing: bool) {
        self.enforcing.set(enforcing.into());
    }

    /// What canaries have measured in a quadrant: 1 as promised, 0 not, -1 not measured.
    pub fn set_canary(&self, quadrant: &str, value: i64) {
        self.canary
            .get_or_create(&[("quadrant", quadrant.to_owned())])
            .set(value);
    }

    /// Whether the policies' word holds; those that are not named any more are forgotten.
    pub fn set_policies_degraded<'p>(&self, policies: impl Iterator<Item = (&'p str, bool)>) {
        self.policy_degraded.clear();
        for (policy, is_degraded) in policies {
            self.policy_degraded
                .get_or_create(&[("policy", policy.to_owned())])
                .set(is_degraded.into());
        }
    }

    /// The kernel programs are loaded: `/ready` answers 200 from now on.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Serves `/metrics`, `/ready` and `/live` until the future is dropped.
    pub async fn serve(self: Arc<Self>, listen: SocketAddr) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        self.serve_on(listener).await
    }

    /// As [`serve`](Self::serve), on a listener that is already there.
    pub async fn serve_on(self: Arc<Self>, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        use axum::http::{StatusCode, header::CONTENT_TYPE};
        use axum::routing::get;
        const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let (metrics, ready) = (self.clone(), self);
        let router = axum::Router::new()
            .route(
                "/metrics",
                get(async move || ([(CONTENT_TYPE, OPENMETRICS)], metrics.render())),
            )
            .route("/live", get(async || "alive\n"))
            .route(
                "/ready",
                get(async move || match ready.ready.load(Ordering::Relaxed) {
                    true => (StatusCode::OK, "kernel programs loaded\n"),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "kernel programs not loaded\n"),
                }),
            );
        axum::serve(listener, router).await
    }
}

impl Meter for Telemetry {
    fn lost(&self, name: &'static str, count: u64) {
        self.loss(name).inc_by(count);
    }

    fn losses(&self) -> BTreeMap<String, u64> {
        let losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses
            .iter()
            .map(|(name, counter)| (name.clone(), counter.get()))
            .collect()
    }

    fn events(&self, kind: &'static str, count: u64) {
        self.events
            .get_or_create(&[("kind", kind.to_owned())])
            .inc_by(count);
    }

    fn verdicts(&self, action: &str, guarantee: &str, count: u64) {
        let guarantee = if guarantee.is_empty() { "none" } else { guarantee };
        let labels = [("action", action.to_owned()), ("guarantee", guarantee.to_owned())];
        self.verdicts.get_or_create(&labels).inc_by(count);
    }

    fn queue(&self, name: &str, depth: u64) {
        self.set_queue(name, depth);
    }

    fn spool_bytes(&self, bytes: u64) {
        self.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_for_prometheus() {
        let telemetry = Telemetry::new();
        telemetry.events("call", 1);
        telemetry.verdicts("allow", "", 1);
        telemetry.verdicts("deny", "contained", 1);
        telemetry.loss("ring");
        telemetry.lost("spool", 12);
        telemetry.set_loss_total("unread", 5);
        telemetry.set_loss_total("unread", 4);
        telemetry.set_queue("export", 3);
        telemetry.spool_bytes(4096);
        telemetry.set_program("tcp_recv", 1_000, 10);
        telemetry.set_flows_open(7);
        assert_eq!(
            telemetry.losses(),
            BTreeMap::from([
                ("ring".to_owned(), 0),
                ("spool".to_owned(), 12),
                ("unread".to_owned(), 5)
            ])
        );
        let mut lines: Vec<String> = telemetry
            .render()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        lines.sort();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[tokio::test]
    async fn served_over_http() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let telemetry = Arc::new(Telemetry::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(telemetry.clone().serve_on(listener));
        let get = async |path: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert!(get("/ready").await.starts_with("HTTP/1.1 503"));
        telemetry.set_ready(true);
        assert!(get("/ready").await.starts_with("HTTP/1.1 200"));
        let metrics = get("/metrics").await;
        assert!(
            metrics.contains("apiward_enforcing 0") && metrics.trim_end().ends_with("# EOF"),
            "{metrics}"
        );
    }
}
