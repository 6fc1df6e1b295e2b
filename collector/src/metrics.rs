//! What the collector counts, for Prometheus. No label holds anything that an agent sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counter,
    duplicates: Counter,
    removed: Counter,
    refused: Counter,
    commits: Histogram,
    queue: Gauge,
    agents: Gauge,
    store_bytes: Gauge<u64, AtomicU64>,
    failing: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("apiward_collector");
        let metrics = Metrics {
            events: Counter::default(),
            duplicates: Counter::default(),
            removed: Counter::default(),
            refused: Counter::default(),
            commits: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            queue: Gauge::default(),
            agents: Gauge::default(),
            store_bytes: Gauge::default(),
            failing: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("events", "Events committed", metrics.events.clone());
        registry.register(
            "duplicates",
            "Events that were there already",
            metrics.duplicates.clone(),
        );
        registry.register(
            "removed",
            "Events removed by age or size",
            metrics.removed.clone(),
        );
        registry.register(
            "refused",
            "Streams and messages that were refused",
            metrics.refused.clone(),
        );
        registry.register("commit_seconds", "Time of a commit", metrics.commits.clone());
        registry.register(
            "queue_depth",
            "Jobs that wait for the store",
            metrics.queue.clone(),
        );
        registry.register(
            "agents_connected",
            "Agents with an open stream",
            metrics.agents.clone(),
        );
        registry.register(
            "store_bytes",
            "Bytes of the store in use",
            metrics.store_bytes.clone(),
        );
        registry.register(
            "store_failing",
            "1: the store cannot be written",
            metrics.failing.clone(),
        );
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    pub fn committed(&self, fresh: u64, known: u64, took: Duration) {
        self.events.inc_by(fresh);
        self.duplicates.inc_by(known);
        self.commits.observe(took.as_secs_f64());
    }

    pub fn removed(&self, events: u64) {
        self.removed.inc_by(events);
    }

    pub fn refused(&self) {
        self.refused.inc();
    }

    pub fn queue(&self, jobs: usize) {
        self.queue.set(jobs as i64);
    }

    pub fn agents(&self, connected: usize) {
        self.agents.set(connected as i64);
    }

    pub fn store_bytes(&self, bytes: u64) {
        self.store_bytes.set(bytes);
    }

    pub fn set_failing(&self, failing: bool) {
        self.failing.set(i64::from(failing));
    }

    /// In the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// Serves `/metrics` until the process ends.
pub async fn serve(metrics: Arc<Metrics>, listen: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let app = axum::Router::new().route(
        "/metrics",
        axum::routing::get(move || {
            let text = metrics.text();
            async move {
                (
                    [(
                        "content-type",
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    )],
                    text,
                )
            }
        }),
    );
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the metrics are not served any more");
        }
    });
    Ok(())
}
