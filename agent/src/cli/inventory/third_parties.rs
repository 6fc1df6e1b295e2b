//! Whom this host's workloads call that is somebody else: by domain and vendor, with what goes there.
//!
//! What the register of vendors says is the agent's configuration; nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use apiward_proto::v1;
use serde_json::{Value, json};

use crate::cli::print::{self, Paper, Style, shortened};

/// One third party.
#[derive(Default)]
pub(super) struct ThirdParty {
    owner: String,
    agreement: String,
    calls: u64,
    endpoints: u64,
    workloads: BTreeSet<String>,
    /// Of requests: what goes there.
    data: BTreeSet<String>,
    findings: BTreeSet<String>,
    in_clear: bool,
    last_ns: u64,
}

/// By domain and vendor.
pub(super) fn group(endpoints: &[v1::Endpoint]) -> BTreeMap<(String, String), ThirdParty> {
    let mut all: BTreeMap<(String, String), ThirdParty> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|one| one.exposure == "third-party") {
        let vendor = endpoint.vendor.clone().unwrap_or_default();
        let domain = match (endpoint.domain.is_empty(), endpoint.host.is_empty()) {
            (false, _) => endpoint.domain.clone(),
            (true, false) => endpoint.host.clone(),
            (true, true) => "(an address)".to_owned(),
        };
        let third = all.entry((domain, vendor.name)).or_default();
        third.owner = vendor.owner;
        third.agreement = vendor.agreement;
        third.calls += endpoint.calls();
        third.endpoints += 1;
        third
            .workloads
            .extend(endpoint.workload.as_ref().map(|workload| workload.name.clone()));
        let sent = endpoint
            .data
            .iter()
            .filter(|data| data.part.starts_with("request."));
        third.data.extend(sent.map(|data| data.class.clone()));
        third
            .findings
            .extend(endpoint.findings.iter().map(|one| one.name.clone()));
        third.in_clear |= endpoint.tls.iter().any(|one| one.name == "clear");
        third.last_ns = third.last_ns.max(endpoint.last_ns);
    }
    all
}

pub(super) fn as_json(all: &BTreeMap<(String, String), ThirdParty>) -> Value {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let list: Vec<Value> = all
        .iter()
        .map(|((domain, vendor), third)| {
            json!({
                "domain": domain, "vendor": text(vendor), "owner": text(&third.owner),
                "agreement": text(&third.agreement), "calls": third.calls, "endpoints": third.endpoints,
                "workloads": third.workloads, "data": third.data, "findings": third.findings,
                "clear_text": third.in_clear, "last_seen": apiward_proto::json::time_text(third.last_ns),
            })
        })
        .collect();
    json!({ "third_parties": list })
}

pub(super) fn table(
    paper: &mut Paper,
    all: &BTreeMap<(String, String), ThirdParty>,
    zone: &jiff::tz::TimeZone,
) {
    if all.is_empty() {
        paper.line("no third party was called");
        return;
    }
    paper
        .styled(
            Style::Dim,
            "DOMAIN                            VENDOR              AGREEMENT      CALLS  DATA SENT",
        )
        .end();
    for ((domain, vendor), third) in all {
        paper.put(&shortened(domain, 32)).pad_to(34);
        paper
            .put(&shortened(if vendor.is_empty() { "-" } else { vendor }, 18))
            .pad_to(54);
        let style = if third.agreement == "yes" {
            Style::Good
        } else {
            Style::Warn
        };
        paper.styled(style, &third.agreement).pad_to(65);
        paper.right(Style::Plain, &third.calls.to_string(), 74).put("  ");
        let data: Vec<&str> = third.data.iter().map(String::as_str).collect();
        paper
            .put(&shortened(
                &if data.is_empty() {
                    "-".to_owned()
                } else {
                    data.join(",")
                },
                48,
            ))
            .end();
        let workloads: Vec<&str> = third.workloads.iter().map(String::as_str).collect();
        let mut notes = vec![format!("from {}", shortened(&workloads.join(", "), 64))];
        if !third.owner.is_empty() {
            notes.push(format!("owner {}", third.owner));
        }
        if third.in_clear {
            notes.push("in clear text".to_owned());
        }
        notes.extend(third.findings.iter().cloned());
        notes.push(format!("last {}", print::date_time(third.last_ns, zone)));
        paper
            .put("  ")
            .styled(Style::Dim, &shortened(&notes.join(" · "), 160))
            .end();
    }
}
