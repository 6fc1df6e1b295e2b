//! What was observed against what is documented: an OpenAPI document and the endpoints that a workload serves.
//!
//! Shadow: called and not documented (endpoint, method or parameter). Unseen: documented and never called. Zombie:
//! deprecated and still called. Words that the inventory does not show may be any word of the document.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use apiward_proto::v1;
use serde_json::{Value, json};

use crate::cli::print::{Paper, Style, shortened};

/// Bytes of a document.
const DOCUMENT_BYTES_MAX: u64 = 32 << 20;

/// One operation of a document.
#[derive(Clone, Debug)]
pub(crate) struct Documented {
    pub method: String,
    pub path: String,
    pub segments: Vec<String>,
    pub parameters: BTreeSet<String>,
    pub deprecated: bool,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    /// `shadow-endpoint`, `shadow-method`, `shadow-parameter`, `zombie`, `unseen`.
    pub kind: &'static str,
    pub method: String,
    pub path: String,
    pub detail: String,
    pub calls: u64,
}

/// Reads a document, YAML or JSON, OpenAPI 3 or Swagger 2.
pub(crate) fn read(path: &Path) -> Result<Vec<Documented>> {
    let size = std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if size.len() > DOCUMENT_BYTES_MAX {
        bail!("{} is larger than 32 MiB", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let document: Value = match serde_json::from_str(&text) {
        Ok(document) => document,
        Err(_) => serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is neither YAML nor JSON", path.display()))?,
    };
    if document["paths"].as_object().is_none() {
        bail!("{} is no OpenAPI document: it has no `paths`", path.display());
    }
    Ok(operations(&document))
}

fn operations(document: &Value) -> Vec<Documented> {
    let bases = bases(document);
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        let item = resolve(document, item);
        let common = parameters(document, &item["parameters"]);
        for (method, operation) in item.as_object().into_iter().flatten() {
            let known = [
                "get", "put", "post", "delete", "options", "head", "patch", "trace",
            ];
            if !known.contains(&method.as_str()) {
                continue;
            }
            let mut parameters = parameters(document, &operation["parameters"]);
            parameters.extend(common.iter().cloned());
            for base in &bases {
                let whole = format!("{base}{path}");
                all.push(Documented {
                    method: method.to_ascii_uppercase(),
                    segments: segments(&whole),
                    path: whole,
                    parameters: parameters.clone(),
                    deprecated: operation["deprecated"] == true,
                });
            }
        }
    }
    all
}

/// Paths that stand before those of the document: of its servers, or Swagger's `basePath`.
fn bases(document: &Value) -> Vec<String> {
    let path_of = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let path = if rest.len() == url.len() {
            rest
        } else {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
        };
        path.trim_end_matches('/').to_owned()
    };
    let mut bases: Vec<String> = match document["servers"].as_array() {
        Some(servers) => servers
            .iter()
            .filter_map(|server| server["url"].as_str())
            .map(path_of)
            .collect(),
        None => document["basePath"].as_str().map(path_of).into_iter().collect(),
    };
    bases.sort();
    bases.dedup();
    if bases.is_empty() {
        bases.push(String::new());
    }
    bases
}

/// A reference within the document, followed once.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    target
        .and_then(|pointer| document.pointer(pointer))
        .unwrap_or(value)
}

fn parameters(document: &Value, list: &Value) -> BTreeSet<String> {
    let query = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| resolve(document, one));
    query
        .filter(|one| one["in"] == "query")
        .filter_map(|one| one["name"].as_str())
        .map(|name| name.split('[').next().unwrap_or(name).to_owned())
        .collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect()
}

/// How well an observed path fits a documented one; `None`: it does not.
fn fit(observed: &[String], documented: &[String]) -> Option<usize> {
    if observed.len() != documented.len() {
        return None;
    }
    let mut score = 0;
    for (seen, written) in observed.iter().zip(documented) {
        let (seen_bare, written_bare) = (bare(seen), bare(written));
        score += match (seen.contains('{'), written.contains('{')) {
            (false, false) if seen == written => 4,
            (true, true) if seen_bare == written_bare => 3,
            // A word that is not shown may be this one; a value of a parameter may be a word.
            (true, false) if seen.starts_with("{word-") => 1,
            (true, true) if seen.starts_with("{word-") => 1,
            (false, true) if written.starts_with('{') && written.ends_with('}') => 1,
            _ => return None,
        };
    }
    Some(score)
}

/// What stands around the parameters: `Patients({id})` → `Patients({})`.
fn bare(segment: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for one in segment.chars() {
        match one {
            '{' => inside = true,
            '}' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        text.push(one);
    }
    text
}

/// All differences, worst first.
pub(super) fn differences(documented: &[Documented], endpoints: &[v1::Endpoint]) -> Vec<Difference> {
    let mut found = BTreeSet::new();
    let mut called: BTreeSet<usize> = BTreeSet::new();
    let served = endpoints
        .iter()
        .filter(|one| one.direction == v1::Direction::Inbound as i32 && !one.unmatched);
    for endpoint in served {
        let observed = segments(&endpoint.path);
        let fits = |one: &Documented| fit(&observed, &one.segments);
        let best = documented.iter().filter_map(fits).max();
        let difference = |kind, detail: String| Difference {
            kind,
            method: endpoint.method.clone(),
            path: endpoint.path.clone(),
            detail,
            calls: endpoint.calls(),
        };
        let Some(best) = best else {
            found.insert(difference("shadow-endpoint", String::new()));
            continue;
        };
        let of_path = || {
            documented
                .iter()
                .enumerate()
                .filter(|(_, one)| fits(one) == Some(best))
        };
        // Who documents GET has HEAD, and OPTIONS is asked by browsers.
        let method = match endpoint.method.as_str() {
            "HEAD" if !of_path().any(|(_, one)| one.method == "HEAD") => "GET",
            method => method,
        };
        let same: Vec<(usize, &Documented)> = of_path().filter(|(_, one)| one.method == method).collect();
        if same.is_empty() {
            if method != "OPTIONS" {
                let methods: BTreeSet<&str> = of_path().map(|(_, one)| one.method.as_str()).collect();
                let detail = format!(
                    "documented: {}",
                    methods.into_iter().collect::<Vec<_>>().join(", ")
                );
                found.insert(difference("shadow-method", detail));
            }
            continue;
        }
        called.extend(same.iter().map(|(index, _)| *index));
        // A word that is not shown may be one of several: only if all are deprecated it is one that is.
        if let Some((_, one)) = same
            .first()
            .filter(|_| same.iter().all(|(_, one)| one.deprecated))
        {
            found.insert(difference("zombie", format!("deprecated: {}", one.path)));
        }
        for parameter in endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.place == "query")
        {
            if !same
                .iter()
                .any(|(_, one)| one.parameters.contains(&parameter.name))
            {
                found.insert(difference("shadow-parameter", parameter.name.clone()));
            }
        }
    }
    for (index, one) in documented.iter().enumerate() {
        if !called.contains(&index) {
            found.insert(Difference {
                kind: "unseen",
                method: one.method.clone(),
                path: one.path.clone(),
                detail: String::new(),
                calls: 0,
            });
        }
    }
    let mut found: Vec<Difference> = found.into_iter().collect();
    found.sort_by_key(|one| {
        let order = [
            "shadow-endpoint",
            "shadow-method",
            "shadow-parameter",
            "zombie",
            "unseen",
        ];
        order.iter().position(|kind| *kind == one.kind)
    });
    found
}

pub(super) fn as_json(differences: &[Difference]) -> Value {
    let list: Vec<Value> = differences
        .iter()
        .map(|one| {
            let detail = (!one.detail.is_empty()).then_some(&one.detail);
            json!({ "kind": one.kind, "method": one.method, "path": one.path, "detail": detail, "calls": one.calls })
        })
        .collect();
    json!({ "differences": list })
}

pub(super) fn table(paper: &mut Paper, differences: &[Difference]) {
    if differences.is_empty() {
        paper.line("what was called is documented, and what is documented was called");
    }
    for one in differences {
        let style = match one.kind {
            "unseen" => Style::Dim,
            "zombie" => Style::Warn,
            _ => Style::Bad,
        };
        paper.styled(style, one.kind).pad_to(18);
        paper.right(Style::Plain, &one.calls.to_string(), 26).put("  ");
        paper.put(&shortened(&format!("{} {}", one.method, one.path), 96));
        if !one.detail.is_empty() {
            paper.put("  ").styled(Style::Dim, &shortened(&one.detail, 64));
        }
        paper.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_a_document() {
        let document: Value = serde_saphyr::from_str(
            "
openapi: 3.1.0
servers: [{ url: 'https://api.example/v1' }]
paths:
  /orders:
    parameters: [{ $ref: '#/components/parameters/page' }]
    get: { parameters: [{ name: status, in: query }] }
  /orders/{orderId}:
    get: { deprecated: true }
  /orders/export:
    get: {}
  /frobs/{id}: { get: {} }
  /never: { get: {} }
components: { parameters: { page: { name: page, in: query } } }
",
        )
        .expect("YAML");
        let endpoint = |method: &str, path: &str, parameters: &[&str]| v1::Endpoint {
            direction: v1::Direction::Inbound as i32,
            method: method.into(),
            path: path.into(),
            parameters: parameters
                .iter()
                .map(|name| v1::Parameter {
                    name: (*name).into(),
                    place: "query".into(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let found = differences(
            &operations(&document),
            &[
                endpoint("GET", "/v1/orders", &["status", "page", "debug"]),
                endpoint("HEAD", "/v1/orders", &[]),
                endpoint("DELETE", "/v1/orders", &[]),
                endpoint("GET", "/v1/orders/{id}", &[]),
                endpoint("GET", "/v1/orders/export", &[]),
                endpoint("GET", "/v1/{word-a1b2c3}/{id}", &[]),
                endpoint("GET", "/internal/dump", &[]),
            ],
        );
        let kinds: Vec<(&str, &str, &str)> = found
            .iter()
            .map(|one| (one.kind, one.method.as_str(), one.path.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("shadow-endpoint", "GET", "/internal/dump"),
                ("shadow-method", "DELETE", "/v1/orders"),
                ("shadow-parameter", "GET", "/v1/orders"),
                ("zombie", "GET", "/v1/orders/{id}"),
                ("unseen", "GET", "/v1/never"),
            ]
        );
    }
}
