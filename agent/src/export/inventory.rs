//! Endpoints → the contract's form, for the control socket and for events.
//!
//! A sibling of `wire`: what comes in has been made fit to leave already.

use apiward_proto::v1;

use super::{Event, wire};
use crate::call::CallDirection;
use crate::detect::Endpoint;
use crate::detect::{BodyField, Facts, Histogram, Parameter, PeerGroup, Plane, Words, Workload};

mod snapshot;

pub use snapshot::{decode, encode};

/// Endpoints in one event: a batch of the contract has to hold many.
const EVENT_ENDPOINTS_MAX: usize = 32;
/// Ids in one event.
const EVENT_GONE_MAX: usize = 1_024;

/// What has changed, as events: what is no more comes first.
pub fn events(changed: &[Endpoint], gone: &[u64]) -> Vec<Event> {
    let mut events = Vec::new();
    for gone in gone.chunks(EVENT_GONE_MAX) {
        events.push(wire::inventory(v1::Inventory {
            endpoints: Vec::new(),
            gone: gone.to_vec(),
        }));
    }
    for changed in changed.chunks(EVENT_ENDPOINTS_MAX) {
        events.push(wire::inventory(v1::Inventory {
            endpoints: changed.iter().map(endpoint).collect(),
            gone: Vec::new(),
        }));
    }
    events
}

/// One endpoint.
pub fn endpoint(endpoint: &Endpoint) -> v1::Endpoint {
    let Facts {
        first_ns,
        last_ns,
        classes:
            [
                none,
                informational,
                success,
                redirection,
                client_error,
                server_error,
            ],
        denied,
        ..
    } = endpoint.facts;
    let facts = &endpoint.facts;
    let path_parameters = endpoint
        .path_values
        .iter()
        .enumerate()
        .map(|(index, shapes)| v1::Parameter {
            name: (index + 1).to_string(),
            place: "path".to_owned(),
            types: shapes.iter().map(|shape| shape.as_str().to_owned()).collect(),
            calls: facts.calls(),
        });
    v1::Endpoint {
        id: endpoint.id,
        workload: Some(workload(&endpoint.workload)),
        direction: direction(endpoint.direction),
        protocol: endpoint.protocol.to_owned(),
        host: endpoint.host.to_string(),
        method: endpoint.method.to_string(),
        path: endpoint.path.clone(),
        operation: endpoint.operation.to_string(),
        unmatched: endpoint.unmatched,
        exposure: endpoint.exposure.to_owned(),
        plane: match endpoint.recognised.plane {
            Plane::Data => "data",
            Plane::Control => "control",
        }
        .to_owned(),
        service: endpoint.recognised.service.to_string(),
        action: endpoint.recognised.action.to_string(),
        first_ns,
        last_ns,
        statuses: Some(v1::StatusClasses {
            none,
            informational,
            success,
            redirection,
            client_error,
            server_error,
        }),
        denied,
        auth: words(&facts.auth),
        tls: words(&facts.tls),
        callers: words(&facts.callers),
        peers: PeerGroup::ALL
            .iter()
            .zip(facts.peers)
            .filter(|(_, count)| *count > 0)
            .map(|(group, count)| self::count(group.as_str(), count))
            .collect(),
        addresses: facts.address_count(),
        ports: words(&facts.ports),
        apis: words(&facts.apis),
        findings: words(&facts.findings),
        request_media: words(&facts.request_media),
        response_media: words(&facts.response_media),
        parameters: path_parameters
            .chain(facts.parameters.iter().map(parameter))
            .collect(),
        parameters_hidden: facts.parameters_others,
        data: facts
            .data
            .iter()
            .map(|data| v1::EndpointData {
                class: data.class.to_string(),
                group: data.group.to_string(),
                evidence: data.evidence.as_str().to_owned(),
                part: data.part.as_str().to_owned(),
                location: data.location.to_string(),
                calls: data.calls,
                count: data.count,
            })
            .collect(),
        data_others: facts.data_others,
        fields: facts.fields.list.iter().map(field).collect(),
        fields_others: facts.fields.others,
        request_bodies: facts.fields.bodies[0],
        response_bodies: facts.fields.bodies[1],
        request_bytes: Some(histogram(&facts.request_bytes)),
        response_bytes: Some(histogram(&facts.response_bytes)),
        latency_ns: Some(histogram(&facts.latency_ns)),
        domain: endpoint.domain.to_string(),
        vendor: endpoint.agreement.map(|agreement| {
            let vendor = endpoint.vendor.as_deref();
            v1::Vendor {
                name: vendor.map(|vendor| vendor.name.to_string()).unwrap_or_default(),
                owner: vendor.map(|vendor| vendor.owner.to_string()).unwrap_or_default(),
                agreement: agreement.as_str().to_owned(),
                allowed_data: vendor
                    .map(|vendor| vendor.allowed_data.iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
            }
        }),
    }
}

fn workload(workload: &Workload) -> v1::Workload {
    v1::Workload {
        exe: workload.exe.to_string(),
        cgroup_path: workload.cgroup_path.to_string(),
        container_id: workload.container.as_deref().unwrap_or_default().to_owned(),
        name: workload.name(),
    }
}

fn direction(direction: CallDirection) -> i32 {
    (match direction {
        CallDirection::Inbound => v1::Direction::Inbound,
        CallDirection::Outbound => v1::Direction::Outbound,
    }) as i32
}

fn field(field: &BodyField) -> v1::BodyField {
    v1::BodyField {
        part: field.part.as_str().to_owned(),
        location: field.location.to_string(),
        types: field.kind_names().map(str::to_owned).collect(),
        calls: field.calls,
        always: field.always,
    }
}

fn parameter(parameter: &Parameter) -> v1::Parameter {
    v1::Parameter {
        name: parameter.name.to_string(),
        place: parameter.place.to_owned(),
        types: parameter
            .shape_list()
            .iter()
            .map(|shape| shape.as_str().to_owned())
            .collect(),
        calls: parameter.calls,
    }
}

fn count(name: &str, count: u64) -> v1::Count {
    v1::Count {
        name: name.to_owned(),
        count,
    }
}

/// What found no room is `others`.
fn words(words: &Words) -> Vec<v1::Count> {
    let others = (words.others > 0).then(|| count("others", words.others));
    words
        .counts
        .iter()
        .map(|(word, times)| count(word, *times))
        .chain(others)
        .collect()
}

fn histogram(histogram: &Histogram) -> v1::Histogram {
    v1::Histogram {
        buckets: histogram
            .buckets
            .iter()
            .map(|(bucket, _)| u32::from(*bucket))
            .collect(),
        counts: histogram.buckets.iter().map(|(_, count)| *count).collect(),
        sum: histogram.sum,
    }
}
