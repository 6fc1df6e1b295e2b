//! An application's endpoints as one HTML page: no script, nothing from elsewhere, everything escaped.
//!
//! Much of what is shown was named by somebody else; it reaches the page through [`escaped`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use apiward_proto::{json, v1};

use super::Application;

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2em;color:#1a1a1a;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25em .6em;border-bottom:1px solid #ddd;vertical-align:top}th{background:#f4f4f4}\
td.n,th.n{text-align:right;white-space:nowrap}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}\
.warn{color:#9a3412;font-weight:600}.dim{color:#666}@media print{body{margin:0}}";

/// The page of all applications.
pub(super) fn index(
    applications: &BTreeMap<String, Application>,
    files: &BTreeMap<String, String>,
) -> String {
    let mut page = head("API inventory");
    page.push_str("<h1>API inventory</h1>");
    if applications.is_empty() {
        page.push_str("<p>No agent has told of an endpoint yet.</p>");
    }
    page.push_str(
        "<table><tr><th>Application</th><th class=n>Serves</th><th class=n>Calls</th><th>Third parties</th>\
         <th>Personal data</th><th class=n>Hosts</th></tr>",
    );
    for (name, application) in applications {
        let of = |direction: v1::Direction| {
            let endpoints = application.endpoints.iter();
            endpoints
                .filter(|one| one.direction == direction as i32 && !one.unmatched)
                .count()
        };
        let third: BTreeSet<&str> = application.endpoints.iter().filter_map(third_party).collect();
        let data = classes(application.endpoints.iter());
        let file = files.get(name).map_or("", String::as_str);
        let _ = write!(
            page,
            "<tr><td><a href=\"{}\">{}</a></td><td class=n>{}</td><td class=n>{}</td><td>{}</td><td>{}</td><td class=n>{}</td></tr>",
            escaped(file),
            escaped(name),
            of(v1::Direction::Inbound),
            of(v1::Direction::Outbound),
            list(third.iter().copied()),
            list(data.iter().copied()),
            application.agents.len()
        );
    }
    page.push_str("</table></body></html>\n");
    page
}

/// The page of one.
pub(super) fn application(name: &str, application: &Application) -> String {
    let mut page = head(name);
    let _ = write!(page, "<h1>{}</h1>", escaped(name));
    let (first, last) = (
        application
            .endpoints
            .iter()
            .map(|one| one.first_ns)
            .filter(|at| *at > 0)
            .min(),
        application.endpoints.iter().map(|one| one.last_ns).max(),
    );
    let _ = write!(
        page,
        "<p>Seen by {} from {} to {}. <a href=\"index.html\">All applications</a></p>",
        list(application.agents.iter().map(String::as_str)),
        date(first.unwrap_or_default()),
        date(last.unwrap_or_default())
    );
    let served: Vec<&v1::Endpoint> = of(application, v1::Direction::Inbound);
    let called: Vec<&v1::Endpoint> = of(application, v1::Direction::Outbound);
    notable(&mut page, application);
    for (title, endpoints) in [("What it serves", served), ("What it calls", called)] {
        if endpoints.is_empty() {
            continue;
        }
        let _ = write!(page, "<h2>{title}</h2>");
        page.push_str(
            "<table><tr><th>Endpoint</th><th class=n>Calls</th><th class=n>2xx</th><th class=n>4xx</th>\
             <th class=n>5xx</th><th class=n>p95</th><th>Authentication</th><th>Transport</th><th>Other ends</th>\
             <th>Personal data</th><th>Last seen</th></tr>",
        );
        for endpoint in endpoints {
            row(&mut page, endpoint);
        }
        page.push_str("</table>");
    }
    let details: Vec<&v1::Endpoint> = application
        .endpoints
        .iter()
        .filter(|one| !one.data.is_empty())
        .collect();
    if !details.is_empty() {
        page.push_str(
            "<h2>Where personal data is</h2><table><tr><th>Endpoint</th><th>Class</th><th>Group</th><th>Where</th>\
             <th>Evidence</th><th class=n>Calls</th></tr>",
        );
        for endpoint in details {
            for data in &endpoint.data {
                let _ = write!(
                    page,
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{} {}</code></td><td>{}</td><td class=n>{}</td></tr>",
                    endpoint_name(endpoint),
                    escaped(&data.class),
                    escaped(&data.group),
                    escaped(&data.part),
                    escaped(&data.location),
                    escaped(&data.evidence),
                    data.calls
                );
            }
        }
        page.push_str("</table>");
    }
    page.push_str(
        "<p class=dim>Values are {id}; words that may not be shown are {word-…} with a keyed hash. No captured value is on \
         this page.</p></body></html>\n",
    );
    page
}

/// What an auditor asks for first.
fn notable(page: &mut String, application: &Application) {
    let mut lines = Vec::new();
    for endpoint in &application.endpoints {
        for finding in &endpoint.findings {
            lines.push(format!(
                "<span class=warn>{}</span> {} ({} calls)",
                escaped(&finding.name),
                endpoint_name(endpoint),
                finding.count
            ));
        }
        if let (Some(third), Some(vendor)) = (third_party(endpoint), &endpoint.vendor) {
            let class = if vendor.agreement == "yes" {
                ""
            } else {
                " class=warn"
            };
            lines.push(format!(
                "third party {}: vendor {}, agreement <span{class}>{}</span>",
                escaped(third),
                escaped(if vendor.name.is_empty() {
                    "not in the register"
                } else {
                    &vendor.name
                }),
                escaped(&vendor.agreement)
            ));
        }
    }
    lines.sort();
    lines.dedup();
    if !lines.is_empty() {
        let _ = write!(
            page,
            "<h2>Notable</h2><ul><li>{}</li></ul>",
            lines.join("</li><li>")
        );
    }
}

fn row(page: &mut String, endpoint: &v1::Endpoint) {
    let statuses = endpoint.statuses.unwrap_or_default();
    let p95 = endpoint
        .latency_ns
        .as_ref()
        .and_then(|latency| json::quantile(latency, 0.95));
    let peers = endpoint
        .callers
        .iter()
        .chain(&endpoint.peers)
        .map(|one| one.name.as_str());
    let _ = write!(
        page,
        "<tr><td>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td>\
         <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        endpoint_name(endpoint),
        endpoint.calls(),
        statuses.success,
        statuses.client_error,
        statuses.server_error,
        p95.map(|ns| format!("{:.1} ms", ns as f64 / 1e6))
            .unwrap_or_default(),
        list(endpoint.auth.iter().map(|one| one.name.as_str())),
        list(endpoint.tls.iter().map(|one| one.name.as_str())),
        list(peers),
        list(classes(std::iter::once(endpoint)).iter().copied()),
        date(endpoint.last_ns)
    );
}

fn of(application: &Application, direction: v1::Direction) -> Vec<&v1::Endpoint> {
    application
        .endpoints
        .iter()
        .filter(|one| one.direction == direction as i32)
        .collect()
}

fn third_party(endpoint: &v1::Endpoint) -> Option<&str> {
    let name = if endpoint.domain.is_empty() {
        &endpoint.host
    } else {
        &endpoint.domain
    };
    (endpoint.exposure == "third-party").then_some(name.as_str())
}

fn classes<'a>(endpoints: impl Iterator<Item = &'a v1::Endpoint>) -> BTreeSet<&'a str> {
    endpoints
        .flat_map(|one| &one.data)
        .map(|data| data.class.as_str())
        .collect()
}

fn endpoint_name(endpoint: &v1::Endpoint) -> String {
    let operation = match endpoint.operation.is_empty() {
        true => String::new(),
        false => format!("#{}", endpoint.operation),
    };
    let action = match endpoint.action.is_empty() {
        true => String::new(),
        false => format!(
            " <span class=dim>{} {}</span>",
            escaped(&endpoint.service),
            escaped(&endpoint.action)
        ),
    };
    format!(
        "<code>{} {}{}{}</code>{action}",
        escaped(&endpoint.method),
        escaped(&endpoint.host),
        escaped(&endpoint.path),
        escaped(&operation)
    )
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    escaped(&words.collect::<Vec<_>>().join(", "))
}

fn date(ns: u64) -> String {
    match ns {
        0 => "-".to_owned(),
        ns => json::time_text(ns).replace('T', " ").chars().take(16).collect(),
    }
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>{}</title>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <style>{STYLE}</style></head><body>",
        escaped(title)
    )
}

/// Text as text, in an element or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            one if one.is_control() => safe.push('·'),
            one => safe.push(one),
        }
    }
    safe
}
