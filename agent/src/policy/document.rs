//! A policy as written → [`Policy`] and its [`Rule`]s, with every problem told at its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cel::Env;
use smol_str::SmolStr;

use super::address::Networks;
use super::breaker::MaxDenied;
use super::expression::Expression;
use super::glob::Glob;
use super::host::{HostPattern, Hosts};
use super::path::PathPattern;
use super::rate::{By, Rate};
use super::set::{Match, OnAmbiguous, OnUnseen, Policy, Rule, Workload};
use super::{Action, Guarantee, Mode};
use crate::call::{AuthScheme, CallDirection, Protocol};
use crate::errors;
use crate::yaml::{Fields, Node, Place, Problem, Reader, Value, parse_cidr, quote};

/// What `apiVersion` has to be.
pub const API_VERSION: &str = "apiward.io/v1";
/// What `kind` has to be.
pub const KIND: &str = "ApiPolicy";

/// Longest name of a policy or rule.
const NAME_BYTES_MAX: usize = 63;
/// Most values of one list.
const LIST_LEN_MAX: usize = 1_024;

pub(super) const MODES: &[(&str, Mode)] = &[("observe", Mode::Observe), ("enforce", Mode::Enforce)];
pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("allow", Action::Allow),
    ("alert", Action::Alert),
    ("deny", Action::Deny),
    ("kill", Action::Kill),
];
pub(super) const REQUIRES: &[(&str, Guarantee)] = &[
    ("prevented", Guarantee::Prevented),
    ("contained", Guarantee::Contained),
    ("cut", Guarantee::Cut),
];
pub(super) const DIRECTIONS: &[(&str, CallDirection)] = &[
    ("inbound", CallDirection::Inbound),
    ("outbound", CallDirection::Outbound),
];
/// Protocols as rules name them; `http` is every version.
pub(super) const PROTOCOLS: &[(&str, &[Protocol])] = &[
    ("http", &[Protocol::Http1, Protocol::Http2]),
    ("http/1", &[Protocol::Http1]),
    ("http/2", &[Protocol::Http2]),
    ("websocket", &[Protocol::WebSocket]),
    ("mllp", &[Protocol::Mllp]),
];
pub(super) const AMBIGUOUS: &[(&str, OnAmbiguous)] =
    &[("deny", OnAmbiguous::Deny), ("agent", OnAmbiguous::Agent)];
pub(super) const UNSEEN: &[(&str, OnUnseen)] = &[
    ("allow", OnUnseen::Allow),
    ("alert", OnUnseen::Alert),
    ("cut", OnUnseen::Cut),
];
pub(super) const BYS: &[(&str, By)] = &[
    ("peer", By::Peer),
    ("client", By::Client),
    ("workload", By::Workload),
];
pub(super) const AUTHS: &[(&str, AuthScheme)] = &[
    ("none", AuthScheme::None),
    ("basic", AuthScheme::Basic),
    ("bearer", AuthScheme::Bearer),
    ("digest", AuthScheme::Digest),
    ("negotiate", AuthScheme::Negotiate),
    ("sigv4", AuthScheme::SigV4),
    ("api-key", AuthScheme::ApiKey),
    ("cookie", AuthScheme::Cookie),
    ("other", AuthScheme::Other),
];

/// Selectors that Kubernetes knows and this build cannot resolve.
const UNRESOLVABLE: &[&str] = &[
    "namespace",
    "labels",
    "matchLabels",
    "matchExpressions",
    "podSelector",
    "pod",
    "serviceAccount",
    "image",
    "node",
    "containerName",
];

/// All policies of a file. `names` holds those of the files before.
pub(super) fn read(
    file: &str,
    text: &str,
    names: &mut BTreeMap<SmolStr, Arc<str>>,
) -> (Vec<(Policy, Vec<Rule>)>, Vec<Problem>) {
    let reader = Reader::new(file);
    let policies = read_with(&reader, text, names);
    (policies, reader.into_problems())
}

/// As [`read`]; problems are noted in the reader.
pub(super) fn read_with(
    reader: &Reader,
    text: &str,
    names: &mut BTreeMap<SmolStr, Arc<str>>,
) -> Vec<(Policy, Vec<Rule>)> {
    let env = Arc::new(Env::stdlib());
    let mut policies = Vec::new();
    for document in reader.documents(text) {
        // `---` at the end, or only comments between two of them.
        if matches!(document.value, Value::Null) {
            continue;
        }
        policies.extend(policy(reader, &document, names, &env));
    }
    policies
}

fn policy(
    reader: &Reader,
    document: &Node,
    names: &mut BTreeMap<SmolStr, Arc<str>>,
    env: &Arc<Env>,
) -> Option<(Policy, Vec<Rule>)> {
    let fields = reader.fields(document, "")?;
    for (key, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let node = fields.require(key, &format!("`{wanted}`"));
        if let Some(text) = node.and_then(|node| reader.text(node, wanted))
            && text != wanted
            && let Some(node) = node
        {
            reader.problem(
                errors::NOT_A_POLICY,
                node.place,
                format!("`{key}` is {}", quote(text)),
                format!("write `{key}: {wanted}`"),
            );
        }
    }
    let mut name = None;
    if let Some(node) = fields.require("metadata", "the policy's name: `{ name: … }`")
        && let Some(metadata) = reader.fields(node, "metadata")
    {
        // Kubernetes' own; the same text has to be a file and a custom resource.
        for key in ["labels", "annotations", "namespace"] {
            metadata.take(key);
        }
        name = self::name(&metadata, names, document.place);
        metadata.finish();
    }
    let spec_node = fields.require("spec", "the policy's rules");
    let spec = spec_node.and_then(|node| reader.fields(node, "spec"));
    fields.finish();
    let spec = spec?;
    let source: Arc<str> = format!("{}:{}", reader.file(), document.place.line).into();
    let mode = spec.word("mode", MODES);
    let mut policy = Policy {
        name: name.unwrap_or_default(),
        mode: mode.unwrap_or_default(),
        mode_written: mode.is_some(),
        place: document.place,
        priority: spec.number("priority", -1_000_000..=1_000_000).unwrap_or(0) as i32,
        source,
        rules_len: 0,
        on_ambiguous: spec.word("onAmbiguous", AMBIGUOUS).unwrap_or_default(),
        on_unseen: spec.word("onUnseen", UNSEEN).unwrap_or_default(),
        max_denied: spec.mapping("max_denied").and_then(max_denied),
        tripped: Arc::new(AtomicBool::new(false)),
        workload: workload(&spec),
        trusted_proxies: Vec::new(),
        coverage_min: spec.mapping("coverage").and_then(coverage),
        is_canary: false,
    };
    if let Some(node) = spec.take("trustedProxies") {
        policy.trusted_proxies = nets(reader, node);
    }
    spec.take("description");
    let mut rules: Vec<Rule> = Vec::new();
    if let Some(node) = spec.require("rules", "a list of rules") {
        for item in reader.items(node) {
            let Some(rule) = rule(reader, item, env) else {
                continue;
            };
            if let Some(first) = rules
                .iter()
                .find(|first| first.name == rule.name && !rule.name.is_empty())
            {
                reader.problem(
                    errors::DUPLICATE_NAME,
                    rule.place,
                    format!(
                        "the rule's name {} is used twice, first in line {}",
                        quote(&rule.name),
                        first.place.line
                    ),
                    "give each rule of a policy a name of its own",
                );
            }
            rules.push(rule);
        }
    }
    spec.finish();
    policy.rules_len = rules.len();
    Some((policy, rules))
}

fn name(metadata: &Fields<'_>, names: &mut BTreeMap<SmolStr, Arc<str>>, document: Place) -> Option<SmolStr> {
    let reader = metadata.reader();
    let node = metadata.require("name", "the policy's name")?;
    let name = valid_name(reader, node)?;
    let source: Arc<str> = format!("{}:{}", reader.file(), document.line).into();
    if let Some(first) = names.get(&name) {
        reader.problem(
            errors::DUPLICATE_NAME,
            node.place,
            format!(
                "the policy's name {} is used twice, first in {first}",
                quote(&name)
            ),
            "give each policy a name of its own",
        );
        return Some(name);
    }
    names.insert(name.clone(), source);
    Some(name)
}

/// Names go into events as they are, so only plain ones will do.
fn valid_name(reader: &Reader, node: &Node) -> Option<SmolStr> {
    let wanted = "1 to 63 lower-case letters, digits, `-`, `_` and `.`, starting with a letter or digit";
    reader.parse(node, wanted, |text| {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        fits.then(|| text.into())
    })
}

fn rule(reader: &Reader, item: &Node, env: &Arc<Env>) -> Option<Rule> {
    let fields = reader.fields(item, "spec.rules[]")?;
    let name = fields
        .require("name", "the rule's name")
        .and_then(|node| valid_name(reader, node));
    let matches = fields.mapping("match").map(matching).unwrap_or_default();
    let when = fields.take("when").and_then(|node| when(reader, node, env));
    let rate = fields.mapping("rate").and_then(rate);
    let action = fields
        .require("action", "`allow`, `alert`, `deny` or `kill`")
        .and_then(|node| reader.word(node, ACTIONS))
        .unwrap_or_default();
    let require = fields.word("require", REQUIRES);
    if let (Some(_), Action::Allow | Action::Alert, Some(node)) = (require, action, fields.take("require")) {
        reader.problem(
            errors::BAD_VALUE,
            node.place,
            format!("`require` has no meaning with `action: {}`", action.as_str()),
            "remove it, or write `action: deny`",
        );
    }
    let allow_stall = fields.bool("allowStall");
    if let (Some(true), Action::Allow | Action::Alert, Some(node)) =
        (allow_stall, action, fields.take("allowStall"))
    {
        reader.problem(
            errors::BAD_VALUE,
            node.place,
            format!("`allowStall` has no meaning with `action: {}`", action.as_str()),
            "remove it, or write `action: deny`",
        );
    }
    fields.take("description");
    fields.finish();
    let rule = Rule {
        policy: 0,
        name: name.unwrap_or_default(),
        place: item.place,
        source: format!("{}:{}", reader.file(), item.place.line).into(),
        action,
        require,
        allow_stall: allow_stall == Some(true),
        rate,
        matches,
        when,
    };
    if rule.by_client() && rule.directions() == [CallDirection::Outbound] {
        reader.problem(
            errors::BAD_VALUE,
            rule.place,
            "an outbound call has no client: it is this host's own",
            "write `peers` or `by: peer` for the other end, or `direction: inbound`",
        );
    }
    Some(rule)
}

fn matching(fields: Fields<'_>) -> Match {
    let reader = fields.reader();
    let mut matches = Match {
        direction: fields.word("direction", DIRECTIONS),
        ..Match::default()
    };
    if let Some(node) = fields.take("methods") {
        matches.methods = list(reader, node, "methods", |item| {
            reader.parse(item, "a method such as `GET`", |text| {
                let token = (1..=32).contains(&text.len())
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
                    && text != "*";
                token.then(|| text.to_ascii_uppercase().into())
            })
        });
    }
    if let Some(node) = fields.take("paths") {
        matches.paths = list(reader, node, "paths", |item| {
            told(reader, item, "a path", PathPattern::parse)
        });
    }
    if let Some((node, not)) = not(&fields, "hosts") {
        let patterns = list(reader, node, "hosts", |item| {
            told(reader, item, "a host", HostPattern::parse)
        });
        matches.hosts = Some(Hosts { patterns, not });
    }
    for key in ["peers", "clients"] {
        if let Some((node, not)) = not(&fields, key) {
            let networks = Some(Networks {
                nets: nets(reader, node),
                not,
            });
            match key {
                "peers" => matches.peers = networks,
                _ => matches.clients = networks,
            }
        }
    }
    matches.workload = workload(&fields);
    if let Some(node) = fields.take("protocols") {
        let named = list(reader, node, "protocols", |item| reader.word(item, PROTOCOLS));
        matches.protocols = named.into_iter().flatten().copied().collect();
    }
    if let Some(node) = fields.take("auth") {
        matches.auth = list(reader, node, "auth", |item| reader.word(item, AUTHS));
    }
    unresolvable(&fields);
    fields.finish();
    matches
}

/// `key: [...]` or `key: { not: [...] }`.
fn not<'n>(fields: &Fields<'n>, key: &'static str) -> Option<(&'n Node, bool)> {
    let node = fields.take(key)?;
    let Value::Mapping(_) = node.value else {
        return Some((node, false));
    };
    let inner = fields.reader().fields(node, "spec.rules[].match.not")?;
    let found = inner.require("not", "a list").map(|node| (node, true));
    inner.finish();
    found
}

fn workload(fields: &Fields<'_>) -> Option<Workload> {
    let fields = fields.mapping("workload")?;
    let reader = fields.reader();
    let before = reader.problems_len();
    let mut workload = Workload::default();
    let globs = |key: &'static str| match fields.take(key) {
        Some(node) => list(reader, node, key, |item| {
            told(reader, item, "a glob", Glob::parse)
        }),
        None => Vec::new(),
    };
    workload.exes = globs("exe");
    workload.cgroups = globs("cgroup");
    if let Some(node) = fields.take("uid") {
        workload.uids = list(reader, node, "uid", |item| {
            reader.parse(item, "a user id such as `1000`", |text| text.parse().ok())
        });
    }
    if let Some(node) = fields.take("container") {
        let wanted = "a container id, or its first 8 or more hex digits";
        workload.containers = list(reader, node, "container", |item| {
            reader.parse(item, wanted, |text| {
                let fits = (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
                fits.then(|| text.to_ascii_lowercase().into())
            })
        });
    }
    unresolvable(&fields);
    if workload == Workload::default() && reader.problems_len() == before {
        reader.problem(
            errors::MISSING_KEY,
            fields.place(),
            "`workload` is empty",
            "write `exe`, `uid`, `container` or `cgroup`, or remove it",
        );
    }
    fields.finish();
    Some(workload)
}

/// A selector that is not understood must match neither everything nor nothing.
fn unresolvable(fields: &Fields<'_>) {
    for key in UNRESOLVABLE {
        if let Some(entry) = fields.take_hidden(key) {
            fields.reader().problem(
                errors::UNRESOLVABLE_SELECTOR,
                entry.key_place,
                format!("`{key}` cannot be resolved by this build"),
                "select by `exe`, `uid`, `container` or `cgroup`",
            );
        }
    }
}

fn when(reader: &Reader, node: &Node, env: &Arc<Env>) -> Option<Expression> {
    let text = reader.text(node, "an expression in CEL")?;
    match Expression::compile(env, text) {
        Ok(expression) => Some(expression),
        Err(problems) => {
            for (what, instead) in problems {
                let what = within(text, what);
                reader.problem(errors::BAD_EXPRESSION, node.place, what, instead);
            }
            None
        }
    }
}

/// A problem in an expression of several lines, with the line of it that the name in question stands in.
fn within(text: &str, what: String) -> String {
    let name = what.split('`').nth(1).unwrap_or_default();
    let line = text.lines().position(|line| line.contains(name));
    match line {
        Some(line) if text.trim_end().contains('\n') && !name.is_empty() => {
            format!("{what} (line {} of it)", line + 1)
        }
        _ => what,
    }
}

fn max_denied(fields: Fields<'_>) -> Option<MaxDenied> {
    fields.require("window", "a duration, such as `5m`");
    let ratio = fields
        .require("ratio", "a share, such as `0.1`")
        .and_then(|node| {
            let share = |text: &str| {
                let share = text.parse::<f64>().ok();
                share.filter(|share| (0.0..=1.0).contains(share))
            };
            fields
                .reader()
                .parse(node, "a share from 0 to 1, such as `0.1`", share)
        });
    let window = fields.duration("window", Duration::from_secs(1)..=Duration::from_secs(86_400));
    fields.finish();
    Some(MaxDenied {
        ratio: ratio?,
        window: window?,
    })
}

/// A share; a policy without a workload of its own has one as well: that of all connections.
fn coverage(fields: Fields<'_>) -> Option<f64> {
    let reader = fields.reader();
    let node = fields.require("min", "a share such as `0.95`");
    let min = node.and_then(|node| {
        reader.parse(node, "a share above 0 and up to 1, such as `0.95`", |text| {
            text.parse::<f64>()
                .ok()
                .filter(|share| *share > 0.0 && *share <= 1.0)
        })
    });
    fields.finish();
    min
}

fn rate(fields: Fields<'_>) -> Option<Rate> {
    fields.require("requests", "how many calls, such as `10`");
    fields.require("per", "a duration, such as `1m`");
    let requests = fields.number("requests", 1..=1_000_000);
    let per = fields.duration("per", Duration::from_secs(1)..=Duration::from_secs(86_400));
    let by = fields
        .require("by", "`peer`, `client` or `workload`")
        .and_then(|node| fields.reader().word(node, BYS));
    fields.finish();
    Some(Rate {
        requests: u32::try_from(requests?).ok()?,
        per: per?,
        by: by?,
    })
}

/// A list that has at least one value: an empty one would match nothing, or everything, and nobody could tell which.
fn list<T>(reader: &Reader, node: &Node, key: &str, read: impl Fn(&Node) -> Option<T>) -> Vec<T> {
    let items = reader.items(node);
    if items.is_empty() || items.len() > LIST_LEN_MAX {
        let (id, what) = match items.len() {
            0 => (errors::BAD_VALUE, format!("`{key}` is an empty list")),
            len => (
                errors::OUT_OF_RANGE,
                format!("`{key}` has {len} values, more than {LIST_LEN_MAX}"),
            ),
        };
        reader.problem(
            id,
            node.place,
            what,
            format!("write 1 to {LIST_LEN_MAX} values, or remove `{key}`"),
        );
        return Vec::new();
    }
    items.iter().filter_map(read).collect()
}

fn nets(reader: &Reader, node: &Node) -> Vec<ipnet::IpNet> {
    let wanted = "a network such as `10.0.0.0/8` or `fd00::/8`, or an address";
    list(reader, node, "networks", |item| {
        reader.parse(item, wanted, parse_cidr)
    })
}

/// A value whose parser says what to write instead.
fn told<T>(reader: &Reader, node: &Node, what: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
    let text = reader.text(node, what)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(instead) => {
            reader.problem(
                errors::BAD_VALUE,
                node.place,
                format!("{} is not {what}", quote(text)),
                instead,
            );
            None
        }
    }
}
