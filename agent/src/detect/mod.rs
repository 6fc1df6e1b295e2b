//! An [`ApiCall`](crate::call::ApiCall) → [`Finding`]s about it. One file a detector.
//!
//! Pure: a call in, findings out. It must not know policy: what a finding leads to is decided after it.

mod credentials;
mod data;
mod exposure;
pub mod inventory;
pub mod phi;
mod tls;
mod transport;
mod vendors;

use std::sync::Arc;

use smol_str::SmolStr;

pub use self::inventory::{
    BLIND_PROTOCOL, BodyField, BodyFields, DataFact, Endpoint, Facts, Histogram, Inventory, Kept, KeptPlace,
    KeptService, Parameter, PeerGroup, Plane, Recognised, Words, Workload,
};
pub use self::phi::{Pattern, PhiSettings};
pub use self::vendors::Vendors;
use crate::call::{ApiCall, Phase, Schema, Shape};

/// How much harm a finding stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
}

/// A fact about a call that a person may want to act on. Never holds a captured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable, kebab-case: `smuggling-shape`, `basic-auth-in-clear` …
    pub kind: SmolStr,
    pub severity: Severity,
    /// One sentence for people; only shipped words and counts.
    pub message: String,
}

/// Every kind that a detector gives.
pub const KINDS: &[&str] = &[
    transport::CREDENTIALS_IN_CLEAR,
    transport::SMUGGLING_SHAPE,
    credentials::JWT_ALG_NONE,
    credentials::JWT_EXPIRED,
    credentials::CREDENTIALS_IN_URL,
    tls::TLS_VERSION_OLD,
    tls::TLS_CIPHER_WEAK,
    tls::CERTIFICATE_EXPIRED,
    tls::CERTIFICATE_SELF_SIGNED,
    tls::HANDSHAKE_INVALID,
    exposure::PHI_IN_CLEAR,
    exposure::PHI_IN_URL,
    exposure::CONTENT_BOMB,
    vendors::PHI_WITHOUT_AGREEMENT,
    vendors::DATA_NOT_ALLOWED,
    vendors::DESTINATION_DISAGREES,
];

/// Every detector, with what they keep from call to call: tables, and memory that is used again.
#[derive(Default)]
pub struct Detectors {
    data: Option<phi::Scanner>,
    known: data::KnownData,
}

impl Detectors {
    /// `key`: the agent's own, of the hashes that leave the host. `literals`: keys that may be shown, too.
    pub fn new(settings: &PhiSettings, key: [u8; 32], literals: &[String]) -> Result<Detectors, String> {
        Ok(Detectors {
            data: match settings.enabled {
                true => Some(phi::Scanner::new(settings, key, literals)?),
                false => None,
            },
            known: data::KnownData::default(),
        })
    }

    /// What the messages of gRPC are, and that the names of their fields may be shown.
    pub fn set_schema(&mut self, schema: Arc<Schema>) {
        if let Some(scanner) = &mut self.data {
            scanner.set_schema(schema);
            self.known.clear();
        }
    }

    /// Replaces the keys that may be shown besides shipped words.
    pub fn set_literals(&mut self, literals: &[String]) {
        if let Some(scanner) = &mut self.data {
            scanner.set_literals(literals);
            self.known.clear();
        }
    }

    /// Looks for personal data, once in the request and once in the response, as soon as each is whole.
    pub fn look(&mut self, phase: Phase, call: &mut ApiCall) {
        if let Some(scanner) = &mut self.data {
            data::look(scanner, &mut self.known, phase, call);
        }
    }

    /// A key of a body may be shown.
    pub fn shows(&mut self, name: &[u8]) -> bool {
        match &mut self.data {
            Some(scanner) => scanner.shows(name),
            None => std::str::from_utf8(name).is_ok_and(|name| Shape::of(name) == Shape::Known),
        }
    }

    /// What there is to say about a call, in the order of the detectors.
    pub fn findings(&self, call: &ApiCall) -> Vec<Finding> {
        let mut findings = Vec::new();
        transport::detect(call, &mut findings);
        tls::detect(call, &mut findings);
        credentials::detect(call, &mut findings);
        exposure::detect(call, &mut findings);
        vendors::detect(call, &mut findings);
        findings
    }
}
