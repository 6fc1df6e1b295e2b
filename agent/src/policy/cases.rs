//! Test cases of policies: calls and the verdicts that are expected of them, in a YAML file beside the policy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use smol_str::SmolStr;

use super::document::{ACTIONS, AUTHS, DIRECTIONS, MODES};
use super::model::example;
use super::{Action, Engine, Mode, PolicySet, Verdict};
use crate::call::{ApiCall, AuthScheme, CallDirection, CallId, Phase, Protocol};
use crate::capture::{KernelTime, SocketRole, TlsInfo};
use crate::detect::{Finding, Severity};
use crate::errors;
use crate::yaml::{Fields, Node, Place, Problem, Problems, Reader, Value, parse_cidr};

/// Most repetitions of a case.
const TIMES_MAX: i64 = 100_000;

const PHASES: &[(&str, Phase)] = &[
    ("head", Phase::Head),
    ("request", Phase::Request),
    ("complete", Phase::Complete),
];
const CALL_PROTOCOLS: &[(&str, Protocol)] = &[
    ("http/1", Protocol::Http1),
    ("http/2", Protocol::Http2),
    ("websocket", Protocol::WebSocket),
    ("mllp", Protocol::Mllp),
];
const SEVERITIES: &[(&str, Severity)] = &[
    ("info", Severity::Info),
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
];

/// A file of cases.
pub struct Cases {
    /// Policy files, relative to the file of cases; empty: the file beside it.
    pub policies: Vec<String>,
    pub mode: Mode,
    pub trusted_proxies: Vec<IpNet>,
    pub cases: Vec<Case>,
}

/// One case.
pub struct Case {
    pub name: String,
    pub place: Place,
    call: ApiCall,
    findings: Vec<Finding>,
    /// The call is made so often; the verdict of the last one counts.
    times: u32,
    /// Time between them.
    every: Duration,
    expect: Expect,
}

/// What is expected; `None`: anything.
#[derive(Default)]
struct Expect {
    action: Option<Action>,
    /// Empty: no rule, the default.
    policy: Option<String>,
    rule: Option<String>,
    decided: Option<Phase>,
}

/// A case that did not turn out as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    pub place: Place,
    pub expected: String,
    pub got: String,
}

/// Reads a file of cases.
pub fn read(file: &str, text: &str) -> Result<Cases, Problems> {
    let reader = Reader::new(file);
    let cases = read_with(&reader, text);
    let problems: Vec<Problem> = reader.into_problems();
    match cases {
        Some(cases) if problems.is_empty() => Ok(cases),
        _ => Err(Problems(problems)),
    }
}

/// As [`read`]; problems are noted in the reader.
pub(super) fn read_with(reader: &Reader, text: &str) -> Option<Cases> {
    let documents = reader.documents(text);
    if documents.is_empty() && reader.is_clean() {
        reader.file_problem(
            errors::MISSING_KEY,
            "the file is empty",
            "write `cases:` with a list",
        );
    }
    if let Some(second) = documents.get(1) {
        reader.problem(
            errors::WRONG_SHAPE,
            second.place,
            "a second document stands in this file",
            "keep one, or put the cases into files of their own: nothing of it would be run",
        );
    }
    documents.first().and_then(|document| root(reader, document))
}

fn root(reader: &Reader, document: &Node) -> Option<Cases> {
    let fields = reader.fields(document, "")?;
    let policies = fields.texts("policies", "a policy file").unwrap_or_default();
    let mut cases = Cases {
        policies: policies.into_iter().map(|(text, _)| text.to_owned()).collect(),
        mode: fields.word("mode", MODES).unwrap_or(Mode::Enforce),
        trusted_proxies: Vec::new(),
        cases: Vec::new(),
    };
    if let Some(node) = fields.take("trusted_proxies") {
        let wanted = "a network such as `10.0.0.0/8`";
        cases.trusted_proxies = reader
            .items(node)
            .iter()
            .filter_map(|item| reader.parse(item, wanted, parse_cidr))
            .collect();
    }
    if let Some(node) = fields.require("cases", "a list of cases") {
        cases.cases = reader
            .items(node)
            .iter()
            .filter_map(|item| case(reader, item))
            .collect();
    }
    fields.finish();
    Some(cases)
}

fn case(reader: &Reader, item: &Node) -> Option<Case> {
    let fields = reader.fields(item, "cases[]")?;
    let name = fields
        .require("name", "what the case shows")
        .and_then(|node| reader.text(node, "a sentence"));
    fields.require("call", "a call, such as `{ method: GET, path: / }`");
    let (mut call, _) = example();
    let mut findings = Vec::new();
    if let Some(written) = fields.mapping("call") {
        read_call(&written, &mut call, &mut findings);
        written.finish();
    }
    let times = fields.number("times", 1..=TIMES_MAX).unwrap_or(1);
    let every = fields
        .duration("every", Duration::ZERO..=Duration::from_secs(86_400))
        .unwrap_or_default();
    let expect = fields
        .require("expect", "an action, or `{ action: …, rule: … }`")
        .and_then(|node| expect(reader, node));
    fields.finish();
    Some(Case {
        name: name?.to_owned(),
        place: item.place,
        call,
        findings,
        times: u32::try_from(times).ok()?,
        every,
        expect: expect?,
    })
}

fn read_call(fields: &Fields<'_>, call: &mut ApiCall, findings: &mut Vec<Finding>) {
    let reader = fields.reader();
    if let Some(direction) = fields.word("direction", DIRECTIONS) {
        call.direction = direction;
    }
    if let Some(protocol) = fields.word("protocol", CALL_PROTOCOLS) {
        call.protocol = protocol;
    }
    if let Some(method) = fields.text("method", "a method") {
        call.request.method = method.into();
        call.raw.method = bytes(method);
    }
    let target = fields
        .text("path", "a path, with or without a query")
        .unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    call.raw.target = bytes(target);
    call.raw.query = bytes(query);
    call.raw.path = path.starts_with('/').then(|| path.to_owned());
    call.request.query_parameters = query.split('&').filter(|part| !part.is_empty()).count() as u32;
    call.raw.host = fields
        .text("host", "a host")
        .map(str::to_ascii_lowercase)
        .unwrap_or_default();
    call.request.host.clone_from(&call.raw.host);
    call.request.auth = fields.word("auth", AUTHS).unwrap_or(AuthScheme::None);
    call.ambiguous = fields
        .bool("ambiguous")
        .unwrap_or_else(|| !path.is_empty() && path != "*" && !is_plain(path));
    call.raw.request_headers = headers(fields, "headers").into();
    body(fields, "body", &mut call.request.body, &mut call.raw.request_body);
    read_flow(fields, call);
    if let Some(process) = fields.mapping("process") {
        read_process(&process, call);
        process.finish();
    }
    let status = fields.mapping("response").map(|response| {
        let status = response.number("status", 100..=999).unwrap_or(200);
        call.raw.response_headers = headers(&response, "headers").into();
        if let Some(answer) = &mut call.response {
            body(&response, "body", &mut answer.body, &mut call.raw.response_body);
        }
        response.finish();
        status
    });
    if let (Some(response), Some(status)) = (&mut call.response, status) {
        response.status = u16::try_from(status).unwrap_or_default();
    }
    for (kind, severity) in finding_list(reader, fields) {
        findings.push(Finding {
            kind,
            severity,
            message: String::new(),
        });
    }
}

/// Can it be read in one way only, as `call` would find? Else the call counts as ambiguous.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"%;\\#".contains(&byte))
        && !path.contains("//")
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn read_flow(fields: &Fields<'_>, call: &mut ApiCall) {
    let reader = fields.reader();
    let flow = Arc::make_mut(&mut call.flow);
    flow.role = match call.direction {
        CallDirection::Inbound => SocketRole::Server,
        CallDirection::Outbound => SocketRole::Client,
    };
    if let Some(node) = fields.take("peer") {
        flow.remote = reader
            .parse(node, "an address, or `unknown`", |text| match text {
                "unknown" => Some(None),
                address => address.parse::<IpAddr>().ok().map(Some),
            })
            .flatten()
            .map(|ip| SocketAddr::new(ip, 40_000));
    }
    if let Some(node) = fields.take("proxied_client") {
        let client = reader.parse(node, "an address", |text| text.parse::<IpAddr>().ok());
        call.raw.proxied_client = client.map(|ip| SocketAddr::new(ip, 40_000));
    }
    if fields.bool("tls").unwrap_or(false) {
        flow.tls = Some(TlsInfo {
            library: SmolStr::new_static("openssl"),
            version: SmolStr::new_static("3.0"),
        });
    }
}

fn read_process(fields: &Fields<'_>, call: &mut ApiCall) {
    let process = Arc::make_mut(&mut call.process);
    process.exe = fields.text("exe", "a path").unwrap_or_default().into();
    process.comm = fields.text("comm", "a name").unwrap_or_default().into();
    process.cgroup_path = fields.text("cgroup", "a path").unwrap_or_default().into();
    process.container = fields.text("container", "an id").map(SmolStr::from);
    process.uid = fields.number("uid", 0..=i64::from(u32::MAX)).unwrap_or(1000) as u32;
    process.pid = fields.number("pid", 1..=i64::from(i32::MAX)).unwrap_or(4242) as u32;
}

fn finding_list(reader: &Reader, fields: &Fields<'_>) -> Vec<(SmolStr, Severity)> {
    let Some(node) = fields.take("findings") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in reader.items(node) {
        if let Value::Mapping(_) = item.value {
            let Some(fields) = reader.fields(item, "cases[].call.findings[]") else {
                continue;
            };
            let kind = fields.text("kind", "a finding's kind").unwrap_or_default();
            found.push((
                kind.into(),
                fields.word("severity", SEVERITIES).unwrap_or(Severity::Medium),
            ));
            fields.finish();
        } else if let Some(kind) = reader.text(item, "a finding's kind") {
            found.push((kind.into(), Severity::Medium));
        }
    }
    found
}

fn headers(fields: &Fields<'_>, key: &'static str) -> Vec<(Bytes, Bytes)> {
    let Some(node) = fields.take(key) else {
        return Vec::new();
    };
    let Value::Mapping(entries) = &node.value else {
        fields.reader().problem(
            errors::WRONG_SHAPE,
            node.place,
            format!("`{key}` is not a mapping"),
            "write `name: value` lines",
        );
        return Vec::new();
    };
    let mut headers = Vec::new();
    for entry in entries {
        for value in fields.reader().items(&entry.value) {
            if let Some(text) = fields.reader().text(value, "a header's value") {
                headers.push((bytes(&entry.key.to_ascii_lowercase()), bytes(text)));
            }
        }
    }
    headers
}

/// Text, or `{ text, bytes_total, truncated, media_type }`.
fn body(fields: &Fields<'_>, key: &'static str, facts: &mut crate::call::BodyFacts, raw: &mut Bytes) {
    *facts = crate::call::BodyFacts::default();
    *raw = Bytes::new();
    let Some(node) = fields.take(key) else { return };
    let reader = fields.reader();
    if let Value::Scalar { text, .. } = &node.value {
        *raw = bytes(text);
        facts.bytes_total = raw.len() as u64;
    } else if let Some(inner) = reader.fields(node, "cases[].call.body") {
        *raw = bytes(inner.text("text", "the body").unwrap_or_default());
        facts.bytes_total = inner
            .bytes("bytes_total", 0..=1 << 40)
            .unwrap_or(raw.len() as u64);
        facts.truncated = inner
            .bool("truncated")
            .unwrap_or(facts.bytes_total > raw.len() as u64);
        facts.media_type = inner
            .text("media_type", "a media type")
            .unwrap_or_default()
            .into();
        inner.finish();
    }
    facts.bytes_captured = raw.len() as u64;
}

fn expect(reader: &Reader, node: &Node) -> Option<Expect> {
    if let Value::Scalar { .. } = node.value {
        return Some(Expect {
            action: Some(reader.word(node, ACTIONS)?),
            ..Expect::default()
        });
    }
    let fields = reader.fields(node, "cases[].expect")?;
    let name = |key: &'static str| {
        let entry = fields.take_entry(key)?;
        match &entry.value.value {
            // Written and empty: no policy, the default.
            Value::Null => Some(String::new()),
            _ => reader.text(&entry.value, "a name").map(str::to_owned),
        }
    };
    let expect = Expect {
        action: fields.word("action", ACTIONS),
        policy: name("policy"),
        rule: name("rule"),
        decided: fields.word("decided", PHASES),
    };
    fields.finish();
    Some(expect)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs all cases, each with an engine of its own.
pub fn run(set: &Arc<PolicySet>, cases: &Cases) -> Vec<Failure> {
    cases
        .cases
        .iter()
        .filter_map(|case| run_one(set, cases, case))
        .collect()
}

fn run_one(set: &Arc<PolicySet>, cases: &Cases, case: &Case) -> Option<Failure> {
    let mut engine = Engine::new(set.clone(), cases.mode, cases.trusted_proxies.clone());
    let every = u64::try_from(case.every.as_nanos()).unwrap_or(u64::MAX);
    let mut last = None;
    for index in 0..u64::from(case.times) {
        let mut call = case.call.clone();
        call.id = CallId(u128::from(index) + 1);
        // Not at zero: no machine's clock is there.
        call.request.head_at = KernelTime(1_000_000_000_u64.saturating_add(index.saturating_mul(every)));
        last = PHASES.iter().find_map(|(_, phase)| {
            engine
                .evaluate(&call, &case.findings, *phase)
                .map(|verdict| (verdict, *phase))
        });
    }
    let (verdict, decided) = last?;
    let expect = &case.expect;
    let fits = expect.action.is_none_or(|action| action == verdict.action)
        && expect
            .policy
            .as_ref()
            .is_none_or(|policy| *policy == verdict.policy)
        && expect.rule.as_ref().is_none_or(|rule| *rule == verdict.rule)
        && expect.decided.is_none_or(|phase| phase == decided);
    (!fits).then(|| Failure {
        name: case.name.clone(),
        place: case.place,
        expected: expect.show(),
        got: show(&verdict, decided),
    })
}

impl Expect {
    fn show(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.action.map(|action| action.as_str().to_owned()));
        match (&self.policy, &self.rule) {
            (Some(policy), _) if policy.is_empty() => parts.push("by default".into()),
            (Some(policy), Some(rule)) => parts.push(format!("by {policy}/{rule}")),
            (Some(policy), None) => parts.push(format!("by policy {policy}")),
            (None, Some(rule)) if rule.is_empty() => parts.push("by default".into()),
            (None, Some(rule)) => parts.push(format!("by rule {rule}")),
            (None, None) => {}
        }
        parts.extend(self.decided.map(|phase| format!("at {}", phase_name(phase))));
        parts.join(" ")
    }
}

fn show(verdict: &Verdict, decided: Phase) -> String {
    let by = if verdict.policy.is_empty() {
        "by default".to_owned()
    } else {
        format!("by {}/{} ({})", verdict.policy, verdict.rule, verdict.source)
    };
    format!("{} {by} at {}", verdict.action.as_str(), phase_name(decided))
}

/// The name of a phase in cases and tables.
pub fn phase_name(phase: Phase) -> &'static str {
    PHASES
        .iter()
        .find(|(_, it)| *it == phase)
        .map_or("", |(name, _)| name)
}
