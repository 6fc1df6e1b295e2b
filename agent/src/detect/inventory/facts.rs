//! What is known of an endpoint, counted call by call. Every list has its limit: what is beyond is counted as `others`.
//!
//! It must not know how endpoints are told apart. Nothing here is a captured value: words that a caller chose come in
//! already fit to be shown, or not at all.

use smol_str::SmolStr;

use super::histogram::Histogram;
use super::outline::BodyFields;
use crate::call::{Data, Evidence, Part, Shape};

/// Entries of one list.
const ENTRIES_MAX: usize = 16;
/// Names of parameters at one endpoint.
const PARAMETERS_MAX: usize = 32;
/// Kinds of personal data by place at one endpoint.
const DATA_MAX: usize = 64;
/// Calls that had a parameter before its name may be shown, and different values that it had.
const PARAMETER_CALLS_MIN: u64 = 20;
const PARAMETER_VALUES_MIN: u32 = 8;

/// Words by count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub counts: Vec<(SmolStr, u64)>,
    /// Of words beyond the limit.
    pub others: u64,
}

impl Words {
    pub(super) fn add(&mut self, word: &str, count: u64) {
        if word.is_empty() {
            return;
        }
        if let Some((_, known)) = self.counts.iter_mut().find(|(known, _)| known == word) {
            *known = known.saturating_add(count);
        } else if self.counts.len() < ENTRIES_MAX {
            self.counts.push((SmolStr::new(word), count));
        } else {
            self.others = self.others.saturating_add(count);
        }
    }

    fn merge(&mut self, other: &Words) {
        for (word, count) in &other.counts {
            self.add(word, *count);
        }
        self.others = self.others.saturating_add(other.others);
    }
}

/// Where the other end of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerGroup {
    SameHost,
    /// In a network that the configuration names as the cluster's.
    Cluster,
    Private,
    Public,
    Unknown,
}

impl PeerGroup {
    pub const ALL: [PeerGroup; 5] = [
        PeerGroup::SameHost,
        PeerGroup::Cluster,
        PeerGroup::Private,
        PeerGroup::Public,
        PeerGroup::Unknown,
    ];

    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            PeerGroup::SameHost => "same-host",
            PeerGroup::Cluster => "cluster",
            PeerGroup::Private => "private",
            PeerGroup::Public => "public",
            PeerGroup::Unknown => "unknown",
        }
    }
}

/// A parameter of the query or of a path segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: SmolStr,
    /// `query`, `matrix`.
    pub place: &'static str,
    pub calls: u64,
    /// Different values: a bit each, by hash.
    pub values: u64,
    pub shapes: u16,
    /// Its name is vocabulary, or was proven before.
    pub known: bool,
}

impl Parameter {
    /// As it was kept over a restart: how many different values it had is not known any more.
    pub fn kept(name: SmolStr, place: &'static str, calls: u64, shapes: &[Shape]) -> Parameter {
        let bit = |shape: &Shape| {
            Shape::ALL
                .iter()
                .position(|known| known == shape)
                .map_or(0, |at| 1 << at)
        };
        Parameter {
            name,
            place,
            calls,
            values: 0,
            shapes: shapes.iter().map(bit).fold(0, |all: u16, bit: u16| all | bit),
            known: true,
        }
    }

    /// Shapes of its values.
    pub fn shape_list(&self) -> Vec<Shape> {
        Shape::ALL
            .into_iter()
            .enumerate()
            .filter(|(index, _)| self.shapes & (1 << index) != 0)
            .map(|(_, shape)| shape)
            .collect()
    }

    /// Its name may be shown: vocabulary, or proven to be a name by many calls with different values.
    pub fn shows(&self) -> bool {
        self.known
            || (self.calls >= PARAMETER_CALLS_MIN
                && self.values.count_ones() >= PARAMETER_VALUES_MIN
                && crate::call::Learnable::is(&self.name))
    }
}

/// Personal data of one class at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFact {
    pub class: SmolStr,
    pub group: SmolStr,
    pub part: Part,
    pub location: SmolStr,
    /// The best that it rests on.
    pub evidence: Evidence,
    pub calls: u64,
    pub count: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Wall clock, ns.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Calls by status class: 0 without a response, 1xx … 5xx.
    pub classes: [u64; 6],
    /// Calls that a policy denied.
    pub denied: u64,
    pub auth: Words,
    /// `tls 1.3`, `tls` where its handshake was not seen; `clear` without.
    pub tls: Words,
    /// Workloads of this host that called it.
    pub callers: Words,
    /// Calls by where the other end is.
    pub peers: [u64; 5],
    /// Different addresses: a bit each, by hash.
    pub addresses: u64,
    pub ports: Words,
    pub apis: Words,
    pub findings: Words,
    pub request_media: Words,
    pub response_media: Words,
    pub parameters: Vec<Parameter>,
    /// Calls with parameters whose names were too many.
    pub parameters_others: u64,
    pub data: Vec<DataFact>,
    pub data_others: u64,
    /// Keys of its bodies.
    pub fields: BodyFields,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
    pub latency_ns: Histogram,
}

impl Facts {
    /// All calls.
    pub fn calls(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Different addresses, about: exact up to a few, 64 at most.
    pub fn address_count(&self) -> u32 {
        self.addresses.count_ones()
    }

    pub(super) fn parameter(&mut self, name: &str, place: &'static str, known: bool, value: Shape, bit: u64) {
        let index = Shape::ALL
            .iter()
            .position(|shape| *shape == value)
            .unwrap_or_default();
        let found = self
            .parameters
            .iter()
            .position(|one| one.name == name && one.place == place);
        let parameter = match found {
            Some(at) => &mut self.parameters[at],
            None if self.parameters.len() < PARAMETERS_MAX => {
                self.parameters.push(Parameter {
                    name: SmolStr::new(name),
                    place,
                    calls: 0,
                    values: 0,
                    shapes: 0,
                    known,
                });
                let last = self.parameters.len() - 1;
                &mut self.parameters[last]
            }
            None => {
                self.parameters_others += 1;
                return;
            }
        };
        parameter.calls += 1;
        parameter.values |= bit;
        parameter.shapes |= 1 << index;
    }

    /// Personal data of one call.
    pub(super) fn found(&mut self, data: &Data) {
        let known = self
            .data
            .iter_mut()
            .find(|one| one.part == data.part && one.class == data.class && one.location == data.location);
        match known {
            Some(known) => {
                known.evidence = known.evidence.max(data.evidence);
                known.calls += 1;
                known.count = known.count.saturating_add(u64::from(data.count));
            }
            None => self.data(DataFact {
                class: data.class.clone(),
                group: SmolStr::new_static(data.group),
                part: data.part,
                location: data.location.clone(),
                evidence: data.evidence,
                calls: 1,
                count: u64::from(data.count),
            }),
        }
    }

    fn data(&mut self, fact: DataFact) {
        let found = self
            .data
            .iter_mut()
            .find(|one| one.class == fact.class && one.part == fact.part && one.location == fact.location);
        if let Some(known) = found {
            known.evidence = known.evidence.max(fact.evidence);
            known.calls += fact.calls;
            known.count = known.count.saturating_add(fact.count);
        } else if self.data.len() < DATA_MAX {
            self.data.push(fact);
        } else {
            self.data_others += 1;
        }
    }

    /// Two endpoints turned out to be one.
    pub(super) fn merge(&mut self, other: Facts) {
        self.first_ns = match (self.first_ns, other.first_ns) {
            (0, first) | (first, 0) => first,
            (one, another) => one.min(another),
        };
        self.last_ns = self.last_ns.max(other.last_ns);
        for (count, more) in self.classes.iter_mut().zip(other.classes) {
            *count += more;
        }
        for (count, more) in self.peers.iter_mut().zip(other.peers) {
            *count += more;
        }
        self.denied += other.denied;
        self.addresses |= other.addresses;
        for (words, more) in [
            (&mut self.auth, &other.auth),
            (&mut self.tls, &other.tls),
            (&mut self.callers, &other.callers),
            (&mut self.ports, &other.ports),
            (&mut self.apis, &other.apis),
            (&mut self.findings, &other.findings),
            (&mut self.request_media, &other.request_media),
            (&mut self.response_media, &other.response_media),
        ] {
            words.merge(more);
        }
        for parameter in other.parameters {
            let found = self
                .parameters
                .iter()
                .position(|one| one.name == parameter.name && one.place == parameter.place);
            match found {
                Some(at) => {
                    let known = &mut self.parameters[at];
                    known.calls += parameter.calls;
                    known.values |= parameter.values;
                    known.shapes |= parameter.shapes;
                }
                None if self.parameters.len() < PARAMETERS_MAX => self.parameters.push(parameter),
                None => self.parameters_others += parameter.calls,
            }
        }
        self.parameters_others += other.parameters_others;
        for fact in other.data {
            self.data(fact);
        }
        self.data_others += other.data_others;
        self.fields.merge(other.fields);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.latency_ns.merge(&other.latency_ns);
    }
}
