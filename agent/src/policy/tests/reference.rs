//! `docs/policy.md` against the code: its tables, and the examples in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::policy::reference::{CASE_KEYS, KEYS, render};
use crate::policy::{cases, document, schema};
use crate::yaml::Key;
use crate::yaml::Reader;

/// A policy with every key.
const FULL: &str = "\
apiVersion: apiward.io/v1
kind: ApiPolicy
metadata: { name: full, labels: { a: b }, annotations: { a: b }, namespace: c }
spec:
  description: d
  mode: observe
  priority: 0
  workload: { exe: /a, uid: 0, container: 0123456789ab, cgroup: /a }
  trustedProxies: 10.0.0.1
  onAmbiguous: agent
  onUnseen: allow
  max_denied: { ratio: 0.1, window: 5m }
  coverage: { min: 0.5 }
  rules:
    - name: r
      description: d
      match:
        direction: inbound
        methods: GET
        paths: /a
        hosts: { not: a.example }
        peers: { not: 10.0.0.0/8 }
        clients: { not: 10.0.0.0/8 }
        workload: { uid: 0 }
        auth: none
        protocols: http
      when: call.tls.used
      rate: { requests: 1, per: 1m, by: peer }
      action: deny
      require: cut
      allowStall: false
";

/// Cases with every key.
const FULL_CASES: &str = "\
policies: a.yaml
mode: enforce
trusted_proxies: 10.0.0.1
cases:
  - name: all
    times: 1
    every: 0s
    call:
      direction: inbound
      protocol: http/1
      method: GET
      path: /
      host: a.example
      auth: none
      ambiguous: false
      peer: 192.0.2.1
      proxied_client: 192.0.2.1
      tls: false
      headers: { a: b }
      body: { text: x, bytes_total: 1, truncated: false, media_type: text/plain }
      response: { status: 200, headers: { a: b }, body: x }
      process: { exe: /a, comm: a, cgroup: /a, container: a, uid: 1, pid: 1 }
      findings: [{ kind: smuggling-shape, severity: high }]
    expect: { action: allow, policy: '', rule: '', decided: head }
";

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn paths(keys: &[Key]) -> BTreeSet<String> {
    keys.iter().map(|key| key.path.to_owned()).collect()
}

#[test]
fn the_tables_are_rendered() {
    let path = page("policy.md");
    let before = std::fs::read_to_string(&path).expect("the page");
    let rendered = render(&before);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &rendered).expect("written");
    }
    let now = std::fs::read_to_string(&path).expect("the page");
    assert_eq!(now.matches("<!-- rendered: ").count(), 3);
    assert!(
        now == rendered,
        "docs/policy.md differs: UPDATE_DOCS=1 cargo test -p apiward policy::tests::reference"
    );
}

#[test]
fn the_page_lists_exactly_the_keys_that_are_read() {
    let reader = Reader::new("full.yaml");
    let (read, problems) = document::read("full.yaml", FULL, &mut Default::default());
    assert!(
        problems.is_empty() && read.len() == 1,
        "{}",
        crate::yaml::Problems(problems)
    );
    document::read_with(&reader, FULL, &mut Default::default());
    let asked: BTreeSet<String> = reader
        .asked
        .borrow()
        .iter()
        .map(|key| {
            key.replace("spec.rules[].match.workload.", "WORKLOAD.")
                .replace("spec.workload.", "WORKLOAD.")
        })
        .filter(|key| !matches!(key.as_str(), "metadata" | "spec"))
        .collect();
    let mut listed = paths(KEYS);
    // `not` is one reader for three keys.
    let not = listed.iter().filter(|key| key.ends_with(".not")).count();
    assert_eq!(not, 3);
    listed.retain(|key| !key.ends_with(".not"));
    listed.insert("spec.rules[].match.not.not".into());
    assert_eq!(asked, listed);
}

#[test]
fn the_page_lists_exactly_the_keys_of_cases_that_are_read() {
    let reader = Reader::new("full.test.yaml");
    assert!(cases::read_with(&reader, FULL_CASES).is_some());
    let asked: BTreeSet<String> = reader.asked.borrow().iter().cloned().collect();
    let problems = reader.into_problems();
    assert!(problems.is_empty(), "{}", crate::yaml::Problems(problems));
    assert_eq!(asked, paths(CASE_KEYS));
}

/// Every property below a node of the schema.
fn properties(root: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").expect("a definition");
        properties(root, &root["$defs"][name], path, found);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for one in node[word].as_array().into_iter().flatten() {
            properties(root, one, path, found);
        }
    }
    if node["items"].is_object() {
        properties(root, &node["items"], &format!("{path}[]"), found);
    }
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        properties(root, property, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_schema_has_the_same_keys() {
    let schema = schema::schema();
    let root = schema.as_value();
    let mut found = BTreeSet::new();
    properties(root, root, "", &mut found);
    let found: BTreeSet<String> = found
        .iter()
        .map(|key| {
            key.replace("spec.rules[].match.workload.", "WORKLOAD.")
                .replace("spec.workload.", "WORKLOAD.")
        })
        .filter(|key| !matches!(key.as_str(), "metadata" | "spec"))
        .collect();
    assert_eq!(found, paths(KEYS));
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let bare = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: p }\nspec: { rules: [] }\n";
    let set = load(&[bare]);
    let policy = &set.policies()[0];
    let default = |path: &str| {
        let key = KEYS.iter().find(|key| key.path == path).expect("a key");
        key.default.trim_matches('`')
    };
    assert_eq!(policy.mode.as_str(), default("spec.mode"));
    assert_eq!(policy.priority.to_string(), default("spec.priority"));
    assert_eq!(policy.on_ambiguous.as_str(), default("spec.onAmbiguous"));
    assert_eq!(policy.on_unseen.as_str(), default("spec.onUnseen"));
    for key in KEYS.iter().filter(|key| key.default == "required") {
        let (_, problems) = document::read("p.yaml", &without(key.path), &mut Default::default());
        assert!(!problems.is_empty(), "{} is not required", key.path);
    }
}

/// [`FULL`] without a key.
fn without(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or_default();
    let cut = match name {
        "name" if path.starts_with("metadata") => FULL.replace("name: full, ", ""),
        "name" => FULL.replace("- name: r", "- description: e"),
        "rules" => FULL.split("  rules:").next().unwrap_or_default().to_owned(),
        "min" => FULL.replace("min: 0.5", ""),
        "requests" => FULL.replace("requests: 1, ", ""),
        "per" => FULL.replace("per: 1m, ", ""),
        "ratio" => FULL.replace("ratio: 0.1, ", ""),
        "window" => FULL.replace(", window: 5m", ""),
        "by" => FULL.replace(", by: peer", ""),
        _ => FULL
            .lines()
            .filter(|line| !line.trim_start().starts_with(&format!("{name}:")))
            .fold(String::new(), |text, line| text + line + "\n"),
    };
    assert_ne!(cut, FULL, "{path}");
    cut
}

/// Policies and cases in the pages are valid, and the cases hold for the policy above them.
#[test]
fn the_examples_in_the_pages_hold() {
    let mut seen = (0, 0);
    for name in ["policy.md", "enforcement.md"] {
        let text = std::fs::read_to_string(page(name)).expect("the page");
        let mut last = None;
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if block.starts_with("apiVersion:") {
                let set = PolicySet::load(&[(name, block)]);
                let set = Arc::new(set.unwrap_or_else(|problems| panic!("{problems}\n{block}")));
                let mut warnings = check::warnings(&set, &[]);
                // Said in the text beside it.
                warnings.retain(|warning| warning.id != crate::errors::RESETS_PROXY);
                assert!(
                    warnings.is_empty(),
                    "{}\n{block}",
                    crate::yaml::Problems(warnings)
                );
                last = Some(set);
                seen.0 += 1;
            } else if block.starts_with("cases:") {
                let cases = cases::read(name, block).unwrap_or_else(|problems| panic!("{problems}"));
                let failures = cases::run(last.as_ref().expect("a policy above"), &cases);
                assert!(failures.is_empty(), "{failures:?}");
                seen.1 += 1;
            }
        }
    }
    assert!(seen.0 >= 5 && seen.1 >= 1, "{seen:?}");
}
