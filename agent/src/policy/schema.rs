//! The JSON Schema of policies, for editors and for the custom resource.
//!
//! The types here exist for the schema alone: policies are read by `document`, with places. A test holds the two
//! against each other (`tests/reference.rs`).
#![allow(dead_code)]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};

/// A policy: rules for the API calls of the workloads that it selects.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiPolicy {
    api_version: ApiVersion,
    kind: Kind,
    metadata: Metadata,
    spec: Spec,
}

#[derive(JsonSchema)]
enum ApiVersion {
    #[serde(rename = "apiward.io/v1")]
    V1,
}

#[derive(JsonSchema)]
enum Kind {
    ApiPolicy,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Metadata {
    /// Unique over all policies of a host; it goes into events.
    name: Name,
    /// Kubernetes' own; not used.
    labels: Option<BTreeMap<String, String>>,
    /// Kubernetes' own; not used.
    annotations: Option<BTreeMap<String, String>>,
    /// Kubernetes' own; not used.
    namespace: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(transparent)]
struct Name(#[schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))] String);

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    description: Option<String>,
    /// A policy enforces only where this and the agent's global mode say `enforce`. Default: `observe`.
    mode: Option<Mode>,
    /// Policies with higher ones apply first. Default: 0.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    priority: Option<i32>,
    /// The processes that the policy is about. Default: all.
    workload: Option<Workload>,
    /// Peers whose Forwarded and X-Forwarded-For headers are believed, besides the agent's `trusted_proxies`.
    trusted_proxies: Option<OneOrMany<Cidr>>,
    /// What becomes of a target that is not in normal form. Default: `agent`.
    on_ambiguous: Option<OnAmbiguous>,
    /// What becomes of what the agent cannot read. Default: `allow`.
    on_unseen: Option<OnUnseen>,
    /// Where the policy denies more than this, it observes until somebody looks.
    #[serde(rename = "max_denied")]
    max_denied: Option<MaxDenied>,
    /// How much of its workload's traffic has to be enforceable.
    coverage: Option<Coverage>,
    /// The first that matches wins.
    rules: Vec<Rule>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct MaxDenied {
    /// The largest share that may be denied of the calls of the policy's workload.
    #[schemars(range(min = 0, max = 1))]
    ratio: f64,
    /// In which time, such as `5m`.
    #[schemars(regex(pattern = r"^[0-9]+ ?(ms|s|m|min|h|d)$"))]
    window: String,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Coverage {
    /// The share of its connections, and of their bytes, below which the policy is `degraded`.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    min: f64,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Unique within the policy; it goes into events.
    name: Name,
    description: Option<String>,
    /// All conditions have to hold; without any, every call matches.
    #[serde(rename = "match")]
    matches: Option<Match>,
    /// A condition in CEL over the call.
    #[schemars(length(min = 1, max = 4096))]
    when: Option<String>,
    /// The rule applies to calls beyond this rate.
    rate: Option<Rate>,
    action: Action,
    /// The guarantee without which the rule does not count as enforced.
    require: Option<Require>,
    /// It may stop HL7 messages over MLLP too. Default: they only raise an alert.
    #[serde(rename = "allowStall")]
    allow_stall: Option<bool>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Match {
    direction: Option<Direction>,
    methods: Option<OneOrMany<String>>,
    /// `{id}` and `*` stand for one segment, `**` for the rest.
    paths: Option<OneOrMany<Path>>,
    /// `*.example.com` stands for every name below it.
    hosts: Option<OrNot<String>>,
    /// The other end of the connection.
    peers: Option<OrNot<Cidr>>,
    /// The peer, or who a trusted proxy says is calling.
    clients: Option<OrNot<Cidr>>,
    workload: Option<Workload>,
    auth: Option<OneOrMany<Auth>>,
    protocols: Option<OneOrMany<Protocol>>,
}

#[derive(JsonSchema)]
#[schemars(transparent)]
struct Path(#[schemars(regex(pattern = r"^/[^?#\s]*$"))] String);

/// A network such as `10.0.0.0/8` or `fd00::/8`, or an address.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Cidr(#[schemars(regex(pattern = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"))] String);

#[derive(JsonSchema)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(#[schemars(length(min = 1, max = 1024))] Vec<T>),
}

#[derive(JsonSchema)]
#[serde(untagged)]
enum OrNot<T> {
    These(OneOrMany<T>),
    AllBut(AllBut<T>),
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct AllBut<T> {
    not: OneOrMany<T>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Workload {
    /// Globs of executables.
    exe: Option<OneOrMany<String>>,
    uid: Option<OneOrMany<u32>>,
    /// Container ids, or their first 8 or more hex digits.
    container: Option<OneOrMany<String>>,
    /// Globs of cgroup2 paths.
    cgroup: Option<OneOrMany<String>>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rate {
    #[schemars(range(min = 1, max = 1_000_000))]
    requests: u32,
    /// Such as `30s`, `1m`, `1h`.
    #[schemars(regex(pattern = r"^[0-9]+ ?(ms|s|m|min|h|d)$"))]
    per: String,
    by: By,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum By {
    Peer,
    Client,
    Workload,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Observe,
    Enforce,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnAmbiguous {
    Deny,
    Agent,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnUnseen {
    Allow,
    Alert,
    Cut,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Allow,
    Alert,
    Deny,
    Kill,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Require {
    Prevented,
    Contained,
    Cut,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Inbound,
    Outbound,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Auth {
    None,
    Basic,
    Bearer,
    Digest,
    Negotiate,
    SigV4,
    #[serde(rename = "api-key")]
    ApiKey,
    Cookie,
    Other,
}

#[derive(JsonSchema)]
enum Protocol {
    #[serde(rename = "http")]
    Http,
    #[serde(rename = "http/1")]
    Http1,
    #[serde(rename = "http/2")]
    Http2,
    #[serde(rename = "websocket")]
    WebSocket,
    #[serde(rename = "mllp")]
    Mllp,
}

/// The schema of one document (JSON Schema 2020-12).
pub fn schema() -> Schema {
    schemars::schema_for!(ApiPolicy)
}
