//! Endpoints of an inventory as JSON: in events, and what `apiward inventory --output json` prints.
//!
//! The shape is that of the events: what is absent is `null`, identifiers are hex digits, times are RFC 3339. It must
//! not know where endpoints come from.

use serde::Serialize;

use super::{Number64, Time, direction_name, text, time, writer};
use crate::v1;

/// Appends an endpoint as a JSON object to `out`.
pub fn endpoint(endpoint: &v1::Endpoint, out: &mut Vec<u8>) {
    let start = out.len();
    if writer::write(&EndpointJson::of(endpoint), out).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
}

/// About the value below which so much of what was counted lies (0 to 1); `None` where nothing was.
pub fn quantile(histogram: &v1::Histogram, share: f64) -> Option<u64> {
    let total: u64 = histogram.counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = ((total as f64 * share).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    for (bucket, count) in histogram.buckets.iter().zip(&histogram.counts) {
        seen += count;
        if seen >= wanted {
            return Some(match bucket {
                0 => 0,
                // The middle of the bucket, as DDSketch estimates.
                bucket => ((f64::from(*bucket) - 1.5).max(0.0) * 0.25).exp2().round() as u64,
            });
        }
    }
    None
}

#[derive(Serialize)]
pub(super) struct InventoryJson<'a> {
    endpoints: Vec<EndpointJson<'a>>,
    gone: Vec<Number64>,
}

impl<'a> InventoryJson<'a> {
    pub fn of(inventory: &'a v1::Inventory) -> Self {
        InventoryJson {
            endpoints: inventory.endpoints.iter().map(EndpointJson::of).collect(),
            gone: inventory.gone.iter().copied().map(Number64).collect(),
        }
    }
}

#[derive(Serialize)]
struct EndpointJson<'a> {
    id: Number64,
    workload: Option<WorkloadJson<'a>>,
    direction: Option<&'static str>,
    protocol: Option<&'a str>,
    host: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    operation: Option<&'a str>,
    unmatched: bool,
    exposure: Option<&'a str>,
    plane: Option<&'a str>,
    service: Option<&'a str>,
    action: Option<&'a str>,
    domain: Option<&'a str>,
    vendor: Option<VendorJson<'a>>,
    first_seen: Option<Time>,
    last_seen: Option<Time>,
    calls: u64,
    statuses: StatusesJson,
    denied: u64,
    auth: Vec<CountJson<'a>>,
    tls: Vec<CountJson<'a>>,
    callers: Vec<CountJson<'a>>,
    peers: Vec<CountJson<'a>>,
    addresses: u32,
    ports: Vec<CountJson<'a>>,
    apis: Vec<CountJson<'a>>,
    findings: Vec<CountJson<'a>>,
    request_media: Vec<CountJson<'a>>,
    response_media: Vec<CountJson<'a>>,
    parameters: Vec<ParameterJson<'a>>,
    parameters_hidden: u64,
    data: Vec<EndpointDataJson<'a>>,
    data_others: u64,
    fields: Vec<BodyFieldJson<'a>>,
    fields_others: u64,
    request_bytes: Option<HistogramJson<'a>>,
    response_bytes: Option<HistogramJson<'a>>,
    latency_ns: Option<HistogramJson<'a>>,
}

impl<'a> EndpointJson<'a> {
    fn of(endpoint: &'a v1::Endpoint) -> Self {
        let statuses = endpoint.statuses.unwrap_or_default();
        EndpointJson {
            id: Number64(endpoint.id),
            workload: endpoint.workload.as_ref().map(|workload| WorkloadJson {
                name: &workload.name,
                exe: text(&workload.exe),
                cgroup_path: text(&workload.cgroup_path),
                container_id: text(&workload.container_id),
            }),
            direction: direction_name(endpoint.direction),
            protocol: text(&endpoint.protocol),
            host: text(&endpoint.host),
            method: &endpoint.method,
            path: &endpoint.path,
            operation: text(&endpoint.operation),
            unmatched: endpoint.unmatched,
            exposure: text(&endpoint.exposure),
            plane: text(&endpoint.plane),
            service: text(&endpoint.service),
            action: text(&endpoint.action),
            domain: text(&endpoint.domain),
            vendor: endpoint.vendor.as_ref().map(|vendor| VendorJson {
                name: &vendor.name,
                owner: text(&vendor.owner),
                agreement: text(&vendor.agreement),
                allowed_data: &vendor.allowed_data,
            }),
            first_seen: time(endpoint.first_ns),
            last_seen: time(endpoint.last_ns),
            calls: endpoint.calls(),
            statuses: StatusesJson {
                none: statuses.none,
                informational: statuses.informational,
                success: statuses.success,
                redirection: statuses.redirection,
                client_error: statuses.client_error,
                server_error: statuses.server_error,
            },
            denied: endpoint.denied,
            auth: counts(&endpoint.auth),
            tls: counts(&endpoint.tls),
            callers: counts(&endpoint.callers),
            peers: counts(&endpoint.peers),
            addresses: endpoint.addresses,
            ports: counts(&endpoint.ports),
            apis: counts(&endpoint.apis),
            findings: counts(&endpoint.findings),
            request_media: counts(&endpoint.request_media),
            response_media: counts(&endpoint.response_media),
            parameters: endpoint
                .parameters
                .iter()
                .map(|parameter| ParameterJson {
                    name: &parameter.name,
                    place: &parameter.place,
                    types: &parameter.types,
                    calls: parameter.calls,
                })
                .collect(),
            parameters_hidden: endpoint.parameters_hidden,
            data: endpoint
                .data
                .iter()
                .map(|data| EndpointDataJson {
                    class: &data.class,
                    group: &data.group,
                    evidence: &data.evidence,
                    part: &data.part,
                    location: text(&data.location),
                    calls: data.calls,
                    count: data.count,
                })
                .collect(),
            data_others: endpoint.data_others,
            fields: endpoint
                .fields
                .iter()
                .map(|field| BodyFieldJson {
                    part: &field.part,
                    location: &field.location,
                    types: &field.types,
                    calls: field.calls,
                    always: field.always,
                })
                .collect(),
            fields_others: endpoint.fields_others,
            request_bytes: endpoint.request_bytes.as_ref().map(HistogramJson::of),
            response_bytes: endpoint.response_bytes.as_ref().map(HistogramJson::of),
            latency_ns: endpoint.latency_ns.as_ref().map(HistogramJson::of),
        }
    }
}

impl v1::Endpoint {
    /// All calls.
    pub fn calls(&self) -> u64 {
        let statuses = self.statuses.unwrap_or_default();
        [
            statuses.none,
            statuses.informational,
            statuses.success,
            statuses.redirection,
            statuses.client_error,
            statuses.server_error,
        ]
        .iter()
        .sum()
    }
}

#[derive(Serialize)]
struct WorkloadJson<'a> {
    name: &'a str,
    exe: Option<&'a str>,
    cgroup_path: Option<&'a str>,
    container_id: Option<&'a str>,
}

#[derive(Serialize)]
struct VendorJson<'a> {
    name: &'a str,
    owner: Option<&'a str>,
    agreement: Option<&'a str>,
    allowed_data: &'a [String],
}

#[derive(Serialize)]
struct StatusesJson {
    none: u64,
    informational: u64,
    success: u64,
    redirection: u64,
    client_error: u64,
    server_error: u64,
}

#[derive(Serialize)]
struct CountJson<'a> {
    name: &'a str,
    count: u64,
}

fn counts(counts: &[v1::Count]) -> Vec<CountJson<'_>> {
    counts
        .iter()
        .map(|one| CountJson {
            name: &one.name,
            count: one.count,
        })
        .collect()
}

#[derive(Serialize)]
struct ParameterJson<'a> {
    name: &'a str,
    place: &'a str,
    types: &'a [String],
    calls: u64,
}

#[derive(Serialize)]
struct EndpointDataJson<'a> {
    class: &'a str,
    group: &'a str,
    evidence: &'a str,
    part: &'a str,
    location: Option<&'a str>,
    calls: u64,
    count: u64,
}

#[derive(Serialize)]
struct BodyFieldJson<'a> {
    part: &'a str,
    location: &'a str,
    types: &'a [String],
    calls: u64,
    always: bool,
}

#[derive(Serialize)]
struct HistogramJson<'a> {
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
    sum: u64,
    buckets: &'a [u32],
    counts: &'a [u64],
}

impl<'a> HistogramJson<'a> {
    fn of(histogram: &'a v1::Histogram) -> Self {
        HistogramJson {
            p50: quantile(histogram, 0.5),
            p95: quantile(histogram, 0.95),
            p99: quantile(histogram, 0.99),
            sum: histogram.sum,
            buckets: &histogram.buckets,
            counts: &histogram.counts,
        }
    }
}

/// Whom a call goes out to.
#[derive(Serialize)]
pub(super) struct ThirdPartyJson<'a> {
    domain: Option<&'a str>,
    vendor: Option<&'a str>,
    owner: Option<&'a str>,
    agreement: Option<&'a str>,
}

impl<'a> ThirdPartyJson<'a> {
    pub fn of(third: &'a v1::ThirdParty) -> Self {
        ThirdPartyJson {
            domain: text(&third.domain),
            vendor: text(&third.vendor),
            owner: text(&third.owner),
            agreement: text(&third.agreement),
        }
    }
}
