//! An [`ApiCall`](crate::call::ApiCall) → [`Finding`]s about it. One file a detector.
//!
//! Pure: a call in, findings out. It must not know policy: what a finding leads to is decided after it.

pub mod inventory;
mod transport;
mod vendors;

use smol_str::SmolStr;

pub use self::inventory::{Endpoint, Inventory};
pub use self::vendors::Vendors;
use crate::call::ApiCall;

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
    vendors::PHI_WITHOUT_AGREEMENT,
    vendors::DATA_NOT_ALLOWED,
    vendors::DESTINATION_DISAGREES,
];

/// Every detector, in the order they report.
pub fn detect(call: &ApiCall) -> Vec<Finding> {
    let mut findings = Vec::new();
    transport::detect(call, &mut findings);
    vendors::detect(call, &mut findings);
    findings
}
