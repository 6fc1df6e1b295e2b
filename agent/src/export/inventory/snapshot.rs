//! The inventory on disk: what outlasts a restart, in the contract's own messages.
//!
//! What cannot be read is left out: an inventory is learnt again, and must not keep the agent from starting. It must not
//! know where the file is.

use apiward_proto::v1;
use prost::Message;

use crate::call::{Agreement, CallDirection, Evidence, Part, Protocol, Shape};
use crate::detect::Endpoint;
use crate::detect::{
    BLIND_PROTOCOL, BodyField, BodyFields, DataFact, Facts, Histogram, Kept, KeptPlace, KeptService,
    Parameter, PeerGroup, Plane, Recognised, Words, Workload,
};

const LAYOUT: u32 = 1;
const EVIDENCES: [Evidence; 4] = [
    Evidence::Pattern,
    Evidence::Context,
    Evidence::Checksum,
    Evidence::Structure,
];
const PARTS: [Part; 6] = [
    Part::RequestPath,
    Part::RequestQuery,
    Part::RequestHeaders,
    Part::RequestBody,
    Part::ResponseHeaders,
    Part::ResponseBody,
];

/// To be written.
pub fn encode(kept: &Kept) -> Vec<u8> {
    let place = |place: &KeptPlace| v1::InventoryPlace {
        parent: place.parent,
        text: place.text.to_string(),
        is_value: place.is_value,
        is_known: place.is_known,
        folded: place.folded,
        proven: place.proven,
        hits: place.hits,
        seen: place.seen,
        values: place.values,
        shapes: place.shapes.into(),
        ends: place
            .ends
            .iter()
            .map(|(method, operation, endpoint)| v1::InventoryEnd {
                method: method.to_string(),
                operation: operation.to_string(),
                endpoint: *endpoint,
            })
            .collect(),
        taken: place.taken.clone(),
    };
    let service = |service: &KeptService| v1::InventoryService {
        workload: Some(super::workload(&service.workload)),
        direction: super::direction(service.direction),
        protocol: service.protocol.to_owned(),
        host: service.host.to_string(),
        shown_host: service.shown_host.to_string(),
        places: service.places.iter().map(place).collect(),
        unmatched: service.unmatched,
        names: service.names.clone(),
    };
    let snapshot = v1::InventorySnapshot {
        layout: LAYOUT,
        services: kept.services.iter().map(service).collect(),
        endpoints: kept.endpoints.iter().map(super::endpoint).collect(),
    };
    snapshot.encode_to_vec()
}

/// As it was written; `None`: it is no such file, or of another layout.
pub fn decode(bytes: &[u8]) -> Option<Kept> {
    let snapshot = v1::InventorySnapshot::decode(bytes).ok()?;
    if snapshot.layout != LAYOUT {
        return None;
    }
    let endpoints: Vec<Endpoint> = snapshot.endpoints.into_iter().map(endpoint).collect();
    Some(Kept {
        services: snapshot.services.into_iter().filter_map(service).collect(),
        endpoints,
    })
}

fn service(service: v1::InventoryService) -> Option<KeptService> {
    let place = |place: v1::InventoryPlace| KeptPlace {
        parent: place.parent,
        text: place.text.into(),
        is_value: place.is_value,
        is_known: place.is_known,
        folded: place.folded,
        proven: place.proven,
        hits: place.hits,
        seen: place.seen,
        values: place.values,
        shapes: place.shapes as u16,
        ends: place
            .ends
            .into_iter()
            .map(|end| (end.method.into(), end.operation.into(), end.endpoint))
            .collect(),
        taken: place.taken,
    };
    Some(KeptService {
        workload: workload(service.workload?),
        direction: direction(service.direction),
        protocol: protocol(&service.protocol)?,
        host: service.host.into(),
        shown_host: service.shown_host.into(),
        places: service.places.into_iter().map(place).collect(),
        names: service.names,
        unmatched: service.unmatched,
    })
}

/// A protocol that is decoded, or connections that nobody reads.
fn protocol(name: &str) -> Option<&'static str> {
    match name == BLIND_PROTOCOL {
        true => Some(BLIND_PROTOCOL),
        false => Protocol::named(name).map(Protocol::as_str),
    }
}

fn workload(workload: v1::Workload) -> Workload {
    Workload {
        exe: workload.exe.into(),
        cgroup_path: workload.cgroup_path.into(),
        container: (!workload.container_id.is_empty()).then(|| workload.container_id.into()),
    }
}

fn direction(direction: i32) -> CallDirection {
    match direction == v1::Direction::Inbound as i32 {
        true => CallDirection::Inbound,
        false => CallDirection::Outbound,
    }
}

fn endpoint(told: v1::Endpoint) -> Endpoint {
    let statuses = told.statuses.unwrap_or_default();
    let peers = PeerGroup::ALL.map(|group| {
        let found = told.peers.iter().find(|peer| peer.name == group.as_str());
        found.map_or(0, |peer| peer.count)
    });
    let parameters = told.parameters.iter().filter_map(|parameter| {
        let place = ["query", "matrix"]
            .into_iter()
            .find(|known| *known == parameter.place)?;
        let shapes: Vec<Shape> = parameter
            .types
            .iter()
            .filter_map(|name| Shape::named(name))
            .collect();
        Some(Parameter::kept(
            parameter.name.as_str().into(),
            place,
            parameter.calls,
            &shapes,
        ))
    });
    let data = told.data.iter().filter_map(|data| {
        Some(DataFact {
            class: data.class.as_str().into(),
            group: data.group.as_str().into(),
            part: PARTS.into_iter().find(|part| part.as_str() == data.part)?,
            location: data.location.as_str().into(),
            evidence: EVIDENCES.into_iter().find(|one| one.as_str() == data.evidence)?,
            calls: data.calls,
            count: data.count,
        })
    });
    let fields = told.fields.iter().filter_map(|field| {
        let part = PARTS.into_iter().find(|part| part.as_str() == field.part)?;
        let location = field.location.as_str().into();
        Some(BodyField::kept(
            part,
            location,
            &field.types,
            field.calls,
            field.always,
        ))
    });
    let agreements = [
        Agreement::Unlisted,
        Agreement::No,
        Agreement::Yes,
        Agreement::Expired,
    ];
    let facts = Facts {
        first_ns: told.first_ns,
        last_ns: told.last_ns,
        classes: [
            statuses.none,
            statuses.informational,
            statuses.success,
            statuses.redirection,
            statuses.client_error,
            statuses.server_error,
        ],
        denied: told.denied,
        auth: words(&told.auth),
        tls: words(&told.tls),
        callers: words(&told.callers),
        peers,
        // How many, not which.
        addresses: (1u64.checked_shl(told.addresses).unwrap_or_default()).wrapping_sub(1),
        ports: words(&told.ports),
        apis: words(&told.apis),
        findings: words(&told.findings),
        request_media: words(&told.request_media),
        response_media: words(&told.response_media),
        parameters: parameters.collect(),
        parameters_others: told.parameters_hidden,
        data: data.collect(),
        data_others: told.data_others,
        fields: BodyFields {
            list: fields.collect(),
            bodies: [told.request_bodies, told.response_bodies],
            others: told.fields_others,
        },
        request_bytes: histogram(told.request_bytes.as_ref()),
        response_bytes: histogram(told.response_bytes.as_ref()),
        latency_ns: histogram(told.latency_ns.as_ref()),
    };
    Endpoint {
        id: told.id,
        workload: workload(told.workload.unwrap_or_default()),
        direction: direction(told.direction),
        protocol: protocol(&told.protocol).unwrap_or_default(),
        host: told.host.into(),
        method: told.method.into(),
        path: told.path,
        operation: told.operation.into(),
        unmatched: told.unmatched,
        exposure: "",
        recognised: Recognised {
            plane: if told.plane == "control" {
                Plane::Control
            } else {
                Plane::Data
            },
            service: told.service.into(),
            action: told.action.into(),
        },
        domain: told.domain.into(),
        vendor: None,
        agreement: told.vendor.and_then(|vendor| {
            agreements
                .into_iter()
                .find(|one| one.as_str() == vendor.agreement)
        }),
        path_values: Vec::new(),
        facts,
    }
}

fn words(counts: &[v1::Count]) -> Words {
    let is_others = |one: &&v1::Count| one.name == "others";
    Words {
        counts: counts
            .iter()
            .filter(|one| !is_others(one))
            .map(|one| (one.name.as_str().into(), one.count))
            .collect(),
        others: counts.iter().find(is_others).map_or(0, |one| one.count),
    }
}

fn histogram(told: Option<&v1::Histogram>) -> Histogram {
    let mut histogram = Histogram::default();
    if let Some(told) = told {
        let buckets = told.buckets.iter().map(|bucket| *bucket as u16);
        let kept = Histogram {
            buckets: buckets.zip(told.counts.iter().copied()).collect(),
            sum: told.sum,
        };
        // Through the front door: sorted, and within the bounds.
        histogram.merge(&kept);
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut facts = Facts {
            first_ns: 1,
            last_ns: 9,
            classes: [0, 0, 5, 0, 1, 0],
            ..Facts::default()
        };
        facts.auth.counts.push(("bearer".into(), 6));
        facts.latency_ns.add(1_000_000);
        let workload = Workload {
            exe: "/usr/bin/app".into(),
            ..Workload::default()
        };
        let one = Endpoint {
            id: 7,
            workload: workload.clone(),
            direction: CallDirection::Inbound,
            protocol: "http/1",
            host: "".into(),
            method: "GET".into(),
            path: "/api/orders/{id}".into(),
            operation: "".into(),
            unmatched: false,
            exposure: "east-west",
            recognised: Recognised::default(),
            domain: "".into(),
            vendor: None,
            agreement: None,
            path_values: Vec::new(),
            facts,
        };
        let kept = Kept {
            services: vec![KeptService {
                workload,
                direction: CallDirection::Inbound,
                protocol: "http/1",
                host: "".into(),
                shown_host: "".into(),
                places: vec![KeptPlace {
                    is_known: true,
                    ends: vec![("GET".into(), "".into(), 0)],
                    taken: vec![1, 2],
                    ..KeptPlace::default()
                }],
                names: vec![3, 4],
                unmatched: None,
            }],
            endpoints: vec![one],
        };
        let read = decode(&encode(&kept)).expect("it is one of ours");
        assert_eq!(read.services[0].places, kept.services[0].places);
        assert_eq!(read.services[0].names, kept.services[0].names);
        assert_eq!(read.endpoints[0].id, 7);
        assert_eq!(read.endpoints[0].facts.calls(), 6);
        assert_eq!(
            read.endpoints[0].facts.latency_ns,
            kept.endpoints[0].facts.latency_ns
        );
        assert!(decode(b"something else").is_none());
    }
}
