//! Personal data where it should not be: without TLS on a network, in a URL; and bodies that are made to hurt whoever
//! unpacks them.
//!
//! Sources: 45 CFR 164.312(e)(1) (transmission security), RFC 9110 §17.9 (sensitive information in URIs),
//! RFC 9110 §8.4 (content codings).

use smol_str::SmolStr;

use super::{Finding, Severity};
use crate::call::{Anomaly, ApiCall, Data, Part};

pub(super) const PHI_IN_CLEAR: &str = "phi-in-clear";
pub(super) const PHI_IN_URL: &str = "phi-in-url";
pub(super) const CONTENT_BOMB: &str = "content-bomb";

pub(super) fn detect(call: &ApiCall, findings: &mut Vec<Finding>) {
    if !call.data.is_empty() {
        data(call, findings);
    }
    if call.anomalies.contains(&Anomaly::ContentBomb) {
        findings.push(Finding {
            kind: SmolStr::new_static(CONTENT_BOMB),
            severity: Severity::High,
            message: "a body would become far longer than it was sent, by its Content-Encoding".into(),
        });
    }
}

fn data(call: &ApiCall, findings: &mut Vec<Finding>) {
    let leaves_host = call
        .flow
        .remote
        .is_some_and(|remote| !remote.ip().to_canonical().is_loopback());
    let patient = |data: &&Data| data.is_patient();
    if call.flow.tls.is_none() && leaves_host {
        let classes = classes(call.data.iter().filter(patient));
        if !classes.is_empty() {
            findings.push(Finding {
                kind: SmolStr::new_static(PHI_IN_CLEAR),
                severity: Severity::High,
                message: format!("patient data was sent without TLS: {classes}"),
            });
        }
    }
    // The id of a resource is in every FHIR URL, and means nothing outside of its server.
    let in_url = call.data.iter().filter(|data| {
        matches!(data.part, Part::RequestPath | Part::RequestQuery)
            && data.is_patient()
            && data.class != "patient-id"
    });
    let classes = classes(in_url);
    if !classes.is_empty() {
        findings.push(Finding {
            kind: SmolStr::new_static(PHI_IN_URL),
            severity: Severity::Medium,
            message: format!("patient data is in the URL, where logs and histories keep it: {classes}"),
        });
    }
}

/// Names of classes, each once.
fn classes<'a>(data: impl Iterator<Item = &'a Data>) -> String {
    let mut names: Vec<&str> = data.map(|data| data.class.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
