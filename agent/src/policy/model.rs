//! What an expression can read of a call. [`FIELDS`] is the reference, and what the documentation lists.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use smol_str::SmolStr;

use crate::call::{
    ApiCall, AuthScheme, BodyFacts, CallDirection, CallId, CallState, Operation, Phase, Protocol, Raw,
    Request, Response, Sight, ThirdParty,
};
use crate::capture::{FlowId, FlowInfo, KernelTime, Process, SocketRole};
use crate::detect::{Finding, Severity};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    Bool,
    /// Of text.
    List,
    /// Text by text; a header that came several times has its values joined by `, `.
    Map,
    /// Of maps with the keys `kind` and `severity`.
    Findings,
}

/// One field.
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// When it is known.
    pub phase: Phase,
    pub about: &'static str,
}

impl Kind {
    /// The type's name in CEL.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Int => "int",
            Kind::Bool => "bool",
            Kind::List => "list(string)",
            Kind::Map => "map(string, string)",
            Kind::Findings => "list(map)",
        }
    }
}

impl Field {
    /// How to use it, for messages.
    pub(super) fn hint(&self) -> String {
        match self.kind {
            Kind::Map => format!("write `{}[\"name\"]`", self.name),
            Kind::Findings => "write `findings.exists(f, f.kind == \"…\")`".into(),
            _ => format!(
                "write `{}` alone, it is of type {}",
                self.name,
                self.kind.as_str()
            ),
        }
    }
}

const fn field(name: &'static str, kind: Kind, phase: Phase, about: &'static str) -> Field {
    Field {
        name,
        kind,
        phase,
        about,
    }
}

/// Every field.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("call.direction", Kind::Text, Phase::Head, "`inbound` or `outbound`"),
    field("call.ambiguous", Kind::Bool, Phase::Head, "the target is not in normal form"),
    field("call.anomalies", Kind::List, Phase::Request, "names of what is invalid or ambiguous in the message"),
    field("call.state", Kind::Text, Phase::Complete, "how it ended: `answered`, `closed`, `reset`, `gap`, `timed-out`, `switched`"),
    field("call.process.pid", Kind::Int, Phase::Head, "process id"),
    field("call.process.uid", Kind::Int, Phase::Head, "user id"),
    field("call.process.comm", Kind::Text, Phase::Head, "the thread's name, which a process can choose"),
    field("call.process.exe", Kind::Text, Phase::Head, "executable; empty if not known"),
    field("call.process.cgroup", Kind::Text, Phase::Head, "cgroup2 path; empty if not known"),
    field("call.process.container", Kind::Text, Phase::Head, "container id; empty if none"),
    field("call.peer.address", Kind::Text, Phase::Head, "the other end; IPv4-mapped as IPv4; empty if not known"),
    field("call.peer.port", Kind::Int, Phase::Head, "0 if not known"),
    field("call.tls.used", Kind::Bool, Phase::Head, "it was read inside a TLS library"),
    field("call.tls.library", Kind::Text, Phase::Head, "such as `openssl`; empty in clear text"),
    field("call.tls.version", Kind::Text, Phase::Head, "the library's version; empty in clear text"),
    field("call.tls.protocol", Kind::Text, Phase::Head, "the protocol's version, such as `1.3`; empty if its handshake was not seen"),
    field("call.tls.cipher", Kind::Text, Phase::Head, "registered name of the cipher suite; empty if not known"),
    field("call.tls.server_name", Kind::Text, Phase::Head, "the name that the client asked for (SNI), as it is; empty if none, or not known"),
    field("call.tls.encrypted_hello", Kind::Bool, Phase::Head, "the client sent an encrypted hello, or what looks like one: the name may be a front end's"),
    field("call.tls.alpn", Kind::Text, Phase::Head, "the protocol agreed on; TLS 1.3 encrypts it; empty if not known"),
    field("call.tls.alpn_offered", Kind::List, Phase::Head, "protocols that the client offered, registered names alone"),
    field("call.tls.resumed", Kind::Bool, Phase::Head, "the session goes on from an older one"),
    field("call.tls.names_disagree", Kind::Bool, Phase::Head, "server name and request's host are of different registrable domains"),
    field("call.tls.certificate.known", Kind::Text, Phase::Head, "`shown`, `none`; why it is not known: `encrypted` (TLS 1.3), `resumed`, `unknown`; empty in clear text"),
    field("call.tls.certificate.subject", Kind::Text, Phase::Head, "common name of the server's certificate, as it is"),
    field("call.tls.certificate.issuer", Kind::Text, Phase::Head, "common name of its issuer, as it is"),
    field("call.tls.certificate.expires", Kind::Int, Phase::Head, "its last second, since 1970; 0 if not known"),
    field("call.tls.certificate.expired", Kind::Bool, Phase::Head, "it was over at the time of the call, or had not begun"),
    field("call.tls.certificate.self_signed", Kind::Bool, Phase::Head, "its issuer is itself"),
    field("call.tls.client_certificate", Kind::Text, Phase::Head, "`shown`, `none`, `not-asked`; why it is not known: `encrypted` (TLS 1.3), `resumed`, `unknown`; empty in clear text"),
    field("call.request.method", Kind::Text, Phase::Head, "as sent"),
    field("call.request.path", Kind::Text, Phase::Head, "in normal form, without query; empty if it has none"),
    field("call.request.target", Kind::Text, Phase::Head, "as sent"),
    field("call.request.query", Kind::Text, Phase::Head, "as sent, without `?`"),
    field("call.request.query_parameters", Kind::Int, Phase::Head, "how many"),
    field("call.request.host", Kind::Text, Phase::Head, "lower case, without port; empty if none"),
    field("call.request.auth", Kind::Text, Phase::Head, "`none`, `basic`, `bearer` … as in `auth`"),
    field("call.request.headers", Kind::Map, Phase::Head, "by name in lower case"),
    field("call.request.head_bytes", Kind::Int, Phase::Head, "length of the head"),
    field("call.request.body.bytes_total", Kind::Int, Phase::Request, "length of the body, captured or not"),
    field("call.request.body.bytes_captured", Kind::Int, Phase::Request, "how much of it can be looked at"),
    field("call.request.body.truncated", Kind::Bool, Phase::Request, "some of it was not captured"),
    field("call.request.body.media_type", Kind::Text, Phase::Request, "lower case, without parameters; empty if unknown"),
    field("call.request.body.text", Kind::Text, Phase::Request, "what was captured of it; bytes that are no UTF-8 replaced"),
    field("call.request.phi.count", Kind::Int, Phase::Request, "values in the request that identify a patient or are about a patient's health (groups `phi` and `health` of [data-classes.md](data-classes.md))"),
    field("call.request.data.classes", Kind::List, Phase::Request, "classes of personal data in the request, each once, as in [data-classes.md](data-classes.md)"),
    field("call.response.status", Kind::Int, Phase::Complete, "0 without a response"),
    field("call.response.headers", Kind::Map, Phase::Complete, "by name in lower case"),
    field("call.response.body.bytes_total", Kind::Int, Phase::Complete, "length of the body, captured or not"),
    field("call.response.body.truncated", Kind::Bool, Phase::Complete, "some of it was not captured"),
    field("call.response.body.media_type", Kind::Text, Phase::Complete, "lower case, without parameters; empty if unknown"),
    field("call.response.body.text", Kind::Text, Phase::Complete, "what was captured of it; bytes that are no UTF-8 replaced"),
    field("call.response.phi.count", Kind::Int, Phase::Complete, "as for the request"),
    field("call.response.data.classes", Kind::List, Phase::Complete, "as for the request"),
    field("call.response.duration_ms", Kind::Int, Phase::Complete, "from the request's head to the response's last byte"),
    field("call.protocol", Kind::Text, Phase::Head, "`http/1`, `http/2`, `websocket`, `mllp`"),
    field("call.operation.api", Kind::Text, Phase::Request, "the API standard that it speaks: `fhir`, `hl7v2`, `dicomweb`, `grpc`, `grpc-web`, `graphql`, `soap`, `json-rpc`, `x12`; empty if none is recognised"),
    field("call.operation.name", Kind::Text, Phase::Request, "such as `read`, `search`, `query getPatient`; empty if none"),
    field("call.operation.resource", Kind::Text, Phase::Request, "what it is about, such as FHIR's resource type; empty if none"),
    field("call.operation.entries", Kind::Int, Phase::Request, "entries asked for, such as a batch's"),
    field("call.auth.principal", Kind::Text, Phase::Head, "keyed hash of who calls: the token's subject, the user, the key; empty if not known"),
    field("call.auth.principal_kind", Kind::Text, Phase::Head, "`subject`, `client`, `user`, `api-key`, `access-key`, `token`, `certificate`; empty if not known"),
    field("call.auth.api_key_in", Kind::Text, Phase::Head, "`header`, `query` or `cookie`; empty without an API key"),
    field("call.auth.session_cookie", Kind::Bool, Phase::Head, "it has a session cookie"),
    field("call.auth.client_certificate", Kind::Bool, Phase::Head, "the connection's client showed a certificate and proved that it is its own (mutual TLS); false also where that is not known, see `call.tls.client_certificate`"),
    field("call.auth.in_url", Kind::Bool, Phase::Head, "a key, token or password stands in the target"),
    field("call.auth.jwt.used", Kind::Bool, Phase::Head, "its token is a JWT; whether that is valid is the application's to say"),
    field("call.auth.jwt.alg", Kind::Text, Phase::Head, "such as `RS256`, or `none`; empty without a JWT"),
    field("call.auth.jwt.issuer", Kind::Text, Phase::Head, "`iss` as it is"),
    field("call.auth.jwt.audience", Kind::Text, Phase::Head, "`aud` as it is, the first one"),
    field("call.auth.jwt.subject", Kind::Text, Phase::Head, "`sub` as it is, else the client's id"),
    field("call.auth.jwt.scopes", Kind::List, Phase::Head, "those of OpenID Connect and SMART on FHIR; others are `other`"),
    field("call.auth.jwt.expires", Kind::Int, Phase::Head, "`exp`, in seconds since 1970; 0 without it"),
    field("call.auth.jwt.lifetime_s", Kind::Int, Phase::Head, "from its issue to its end, in seconds; 0 if not known"),
    field("call.auth.aws.service", Kind::Text, Phase::Head, "of AWS Signature Version 4; empty without it"),
    field("call.auth.aws.region", Kind::Text, Phase::Head, "of AWS Signature Version 4; empty without it"),
    field("call.operation.subject", Kind::Text, Phase::Request, "keyed hash of whose data it is about, such as the patient's id; empty if not known"),
    field("call.operation.details", Kind::Map, Phase::Request, "more facts by name; see *Operations*"),
    field("call.response.entries", Kind::Int, Phase::Complete, "entries that were asked for or came back: of a bundle, a batch, a multipart body"),
    field("call.response.details", Kind::Map, Phase::Complete, "as `call.operation.details`, with what the response adds"),
    field("call.third_party.is", Kind::Bool, Phase::Head, "it goes out to somebody else: a public address, or a registered vendor's name"),
    field("call.third_party.domain", Kind::Text, Phase::Head, "the registrable domain, such as `vendor.co.uk`; empty if none"),
    field("call.third_party.vendor", Kind::Text, Phase::Head, "the name in the register of vendors; empty if it is not there"),
    field("call.third_party.agreement", Kind::Text, Phase::Head, "`yes`, `no`, `expired`, `unlisted`; empty if it is no third party"),
    field("findings", Kind::Findings, Phase::Request, "what detectors found in the request: `kind` and `severity` (`info`, `low`, `medium`, `high`)"),
];

/// Resolves names while an expression runs.
pub(super) struct Model<'a> {
    pub call: &'a ApiCall,
    pub findings: &'a [Finding],
}

impl VariableResolver for Model<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if name == "findings" {
            return Some(CowVal::owned(findings(self.findings)));
        }
        let name = name.strip_prefix("call.")?;
        let call = self.call;
        let value = match name {
            "direction" => text(call.direction.as_str()),
            "ambiguous" => bool(call.ambiguous),
            "anomalies" => {
                let names = call
                    .anomalies
                    .iter()
                    .map(|anomaly| boxed(anomaly.as_str()))
                    .collect::<Vec<_>>();
                CowVal::owned(CelList::from(names))
            }
            "state" => text(call.state.as_str()),
            "protocol" => text(call.protocol.as_str()),
            "peer.address" => match super::address::peer(call) {
                Some(address) => CowVal::owned(CelString::from(address.to_string())),
                None => text(""),
            },
            "peer.port" => int(call.flow.remote.map_or(0, |remote| u64::from(remote.port()))),
            "tls.used" => bool(call.flow.tls.is_some()),
            "tls.library" => text(call.flow.tls.as_ref().map_or("", |tls| tls.library.as_str())),
            "tls.version" => text(call.flow.tls.as_ref().map_or("", |tls| tls.version.as_str())),
            _ => {
                if let Some(name) = name.strip_prefix("tls.") {
                    tls(call, name)?
                } else if let Some(name) = name.strip_prefix("third_party.") {
                    third_party(call.third_party.as_deref(), name)?
                } else if let Some(name) = name.strip_prefix("operation.") {
                    operation(call.operation.as_deref(), name)?
                } else if let Some(name) = name.strip_prefix("auth.") {
                    auth(call, name)?
                } else if let Some(name) = name.strip_prefix("process.") {
                    process(&call.process, name)?
                } else if let Some(name) = name.strip_prefix("request.") {
                    request(call, name)?
                } else {
                    response(call, name.strip_prefix("response.")?)?
                }
            }
        };
        Some(value)
    }
}

fn tls<'b>(call: &'b ApiCall, name: &str) -> Option<CowVal<'b, 'b>> {
    let told = call.tls.as_ref();
    let facts = told.map(|told| &*told.facts);
    let names = call.raw.tls.as_deref();
    let certificate = facts.and_then(|facts| facts.certificate.as_ref());
    let sight = |sight: Option<Sight>| match (sight, &call.flow.tls) {
        (Some(sight), _) => text(sight.as_str()),
        (None, Some(_)) => text(Sight::Unknown.as_str()),
        (None, None) => text(""),
    };
    Some(match name {
        "protocol" => text(facts.map_or("", |facts| facts.version)),
        "cipher" => text(facts.map_or("", |facts| facts.cipher.as_str())),
        "server_name" => text(names.map_or("", |names| names.server_name.as_str())),
        "encrypted_hello" => bool(facts.is_some_and(|facts| facts.encrypted_hello)),
        "alpn" => text(facts.map_or("", |facts| facts.alpn.as_str())),
        "alpn_offered" => {
            let offered = facts
                .map(|facts| facts.alpn_offered.as_slice())
                .unwrap_or_default();
            CowVal::owned(CelList::from(
                offered.iter().map(|name| boxed(name)).collect::<Vec<_>>(),
            ))
        }
        "resumed" => bool(facts.is_some_and(|facts| facts.resumed == Some(true))),
        "names_disagree" => bool(told.is_some_and(|told| told.names_disagree)),
        "certificate.known" => sight(facts.map(|facts| facts.certificate_sight)),
        "certificate.subject" => text(names.map_or("", |names| names.subject.as_str())),
        "certificate.issuer" => text(names.map_or("", |names| names.issuer.as_str())),
        "certificate.expires" => int(certificate
            .and_then(|certificate| u64::try_from(certificate.not_after_s).ok())
            .unwrap_or(0)),
        "certificate.expired" => bool(told.is_some_and(|told| told.certificate_expired)),
        "certificate.self_signed" => bool(certificate.is_some_and(|certificate| certificate.self_signed)),
        "client_certificate" => sight(facts.map(|facts| facts.client_certificate_sight)),
        _ => return None,
    })
}

fn operation<'b>(operation: Option<&'b Operation>, name: &str) -> Option<CowVal<'b, 'b>> {
    Some(match name {
        "api" => text(operation.map_or("", |operation| operation.api.as_str())),
        "name" => text(operation.map_or("", |operation| operation.name.as_str())),
        "resource" => text(operation.map_or("", |operation| operation.resource.as_str())),
        "subject" => text(
            operation
                .and_then(|operation| operation.subject.as_deref())
                .unwrap_or_default(),
        ),
        "details" => details(operation),
        "entries" => int(operation.map_or(0, |operation| u64::from(operation.entries))),
        _ => return None,
    })
}

fn auth<'b>(call: &'b ApiCall, name: &str) -> Option<CowVal<'b, 'b>> {
    let credentials = call.request.credentials.as_deref();
    let jwt = credentials.and_then(|credentials| credentials.jwt.as_deref());
    let aws = credentials.and_then(|credentials| credentials.aws.as_ref());
    let seconds = |seconds: Option<i64>| {
        int(seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0))
    };
    Some(match name {
        "principal" => text(
            credentials
                .and_then(|credentials| credentials.principal.as_deref())
                .unwrap_or_default(),
        ),
        "principal_kind" => text(credentials.map_or("", |credentials| credentials.principal_kind)),
        "api_key_in" => text(credentials.map_or("", |credentials| credentials.api_key_in)),
        "session_cookie" => bool(credentials.is_some_and(|credentials| credentials.session_cookie)),
        "client_certificate" => bool(credentials.is_some_and(|credentials| credentials.client_certificate)),
        "in_url" => bool(credentials.is_some_and(|credentials| credentials.in_url)),
        "jwt.used" => bool(jwt.is_some()),
        "jwt.alg" => text(jwt.map_or("", |jwt| jwt.alg.as_str())),
        "jwt.issuer" => text(&call.raw.claims.issuer),
        "jwt.audience" => text(&call.raw.claims.audience),
        "jwt.subject" => text(&call.raw.claims.subject),
        "jwt.scopes" => {
            let scopes = jwt.map(|jwt| jwt.scopes.as_slice()).unwrap_or_default();
            let scopes = scopes.iter().map(|scope| boxed(scope)).collect::<Vec<_>>();
            CowVal::owned(CelList::from(scopes))
        }
        "jwt.expires" => seconds(jwt.and_then(|jwt| jwt.expires)),
        "jwt.lifetime_s" => seconds(jwt.and_then(|jwt| jwt.lifetime_s)),
        "aws.service" => text(aws.map_or("", |(service, _)| service.as_str())),
        "aws.region" => text(aws.map_or("", |(_, region)| region.as_str())),
        _ => return None,
    })
}

fn third_party<'b>(third: Option<&'b ThirdParty>, name: &str) -> Option<CowVal<'b, 'b>> {
    Some(match name {
        "is" => bool(third.is_some()),
        "domain" => text(third.map_or("", |third| third.domain.as_str())),
        "vendor" => text(
            third
                .and_then(|third| third.vendor.as_ref())
                .map_or("", |vendor| vendor.name.as_str()),
        ),
        "agreement" => text(third.map_or("", |third| third.agreement.as_str())),
        _ => return None,
    })
}

fn process<'b>(process: &'b Process, name: &str) -> Option<CowVal<'b, 'b>> {
    Some(match name {
        "pid" => int(u64::from(process.pid)),
        "uid" => int(u64::from(process.uid)),
        "comm" => text(&process.comm),
        "exe" => text(&process.exe),
        "cgroup" => text(&process.cgroup_path),
        "container" => text(process.container.as_deref().unwrap_or_default()),
        _ => return None,
    })
}

fn request<'b>(call: &'b ApiCall, name: &str) -> Option<CowVal<'b, 'b>> {
    let (request, raw) = (&call.request, &call.raw);
    Some(match name {
        "method" => lossy(&raw.method),
        "path" => text(raw.path.as_deref().unwrap_or_default()),
        "target" => lossy(&raw.target),
        "query" => lossy(&raw.query),
        "query_parameters" => int(u64::from(request.query_parameters)),
        "host" => text(&raw.host),
        "auth" => text(request.auth.as_str()),
        "headers" => headers(&raw.request_headers),
        "head_bytes" => int(u64::from(request.head_bytes)),
        "phi.count" => phi_count(call, true),
        "data.classes" => data_classes(call, true),
        "body.text" => lossy(&raw.request_body),
        _ => body(&request.body, name)?,
    })
}

fn response<'b>(call: &'b ApiCall, name: &str) -> Option<CowVal<'b, 'b>> {
    let response = call.response.as_ref();
    Some(match name {
        "entries" | "details" => operation(call.operation.as_deref(), name)?,
        "status" => int(response.map_or(0, |response| u64::from(response.status))),
        "headers" => headers(&call.raw.response_headers),
        "duration_ms" => int(response.map_or(0, |response| {
            response.last_byte_at.since(call.request.head_at) / 1_000_000
        })),
        "body.text" => lossy(&call.raw.response_body),
        "phi.count" => phi_count(call, false),
        "data.classes" => data_classes(call, false),
        _ => match response {
            Some(response) => body(&response.body, name)?,
            None => match name {
                "body.bytes_total" => int(0),
                "body.truncated" => bool(false),
                "body.media_type" => text(""),
                _ => return None,
            },
        },
    })
}

fn phi_count<'b>(call: &'b ApiCall, request: bool) -> CowVal<'b, 'b> {
    let counts = call
        .data
        .iter()
        .filter(|data| data.part.is_request() == request && data.is_patient());
    int(counts.map(|data| u64::from(data.count)).sum())
}

fn data_classes<'b>(call: &'b ApiCall, request: bool) -> CowVal<'b, 'b> {
    let mut names: Vec<&str> = call
        .data
        .iter()
        .filter(|data| data.part.is_request() == request)
        .map(|data| data.class.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    CowVal::owned(CelList::from(names.into_iter().map(boxed).collect::<Vec<_>>()))
}

fn body<'b>(body: &'b BodyFacts, name: &str) -> Option<CowVal<'b, 'b>> {
    Some(match name {
        "body.bytes_total" => int(body.bytes_total),
        "body.bytes_captured" => int(body.bytes_captured),
        "body.truncated" => bool(body.truncated),
        "body.media_type" => text(&body.media_type),
        _ => return None,
    })
}

fn details<'b>(operation: Option<&'b Operation>) -> CowVal<'b, 'b> {
    let map: HashMap<CelMapKey<'b>, Box<dyn Val + 'b>> = operation
        .iter()
        .flat_map(|operation| &operation.details)
        .map(|(name, value)| (CelMapKey::from((*name).to_owned()), boxed(value)))
        .collect();
    CowVal::owned(CelMap::from(map))
}

fn headers<'b>(headers: &'b [(bytes::Bytes, bytes::Bytes)]) -> CowVal<'b, 'b> {
    let mut joined: HashMap<String, String> = HashMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value);
        joined
            .entry(String::from_utf8_lossy(name).into_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let map: HashMap<CelMapKey<'b>, Box<dyn Val + 'b>> = joined
        .into_iter()
        .map(|(name, value)| {
            let value: Box<dyn Val + 'b> = Box::new(CelString::from(value));
            (CelMapKey::from(name), value)
        })
        .collect();
    CowVal::owned(CelMap::from(map))
}

fn findings<'b>(findings: &'b [Finding]) -> CelList<'b> {
    let list: Vec<Box<dyn Val + 'b>> = findings
        .iter()
        .map(|finding| {
            let map: HashMap<CelMapKey<'b>, Box<dyn Val + 'b>> = HashMap::from([
                (CelMapKey::from("kind"), boxed(&finding.kind)),
                (CelMapKey::from("severity"), boxed(severity(finding.severity))),
            ]);
            Box::new(CelMap::from(map)) as Box<dyn Val + 'b>
        })
        .collect();
    CelList::from(list)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}

fn boxed(text: &str) -> Box<dyn Val + '_> {
    Box::new(CelString::from(text))
}

fn text(text: &str) -> CowVal<'_, '_> {
    CowVal::owned(CelString::from(text))
}

/// Lossy: an expression compares text, and bytes that are none match nothing that a policy can say.
fn lossy(bytes: &[u8]) -> CowVal<'_, '_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => self::text(text),
        Err(_) => CowVal::owned(CelString::from(String::from_utf8_lossy(bytes).into_owned())),
    }
}

fn int<'b>(value: u64) -> CowVal<'b, 'b> {
    CowVal::owned(CelInt::from(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn bool<'b>(value: bool) -> CowVal<'b, 'b> {
    CowVal::owned(CelBool::from(value))
}

/// A call without anything special, to try expressions on, and for test cases to start from.
pub(super) fn example() -> (ApiCall, Vec<Finding>) {
    let header = |name: &'static str, value: &'static str| (name.into(), value.into());
    let body = || BodyFacts {
        bytes_total: 2,
        bytes_captured: 2,
        truncated: false,
        media_type: SmolStr::new_static("application/json"),
    };
    let call = ApiCall {
        id: CallId(1),
        direction: CallDirection::Inbound,
        protocol: Protocol::Http1,
        process: Arc::new(Process {
            pid: 4242,
            tid: 4242,
            uid: 1000,
            comm: SmolStr::new_static("server"),
            exe: SmolStr::new_static("/usr/bin/server"),
            cgroup_id: 1,
            cgroup_path: SmolStr::new_static("/system.slice/server.service"),
            container: None,
        }),
        flow: Arc::new(FlowInfo {
            id: FlowId::Socket(1),
            carrier: Some(1),
            local: Some(([127, 0, 0, 1], 8080).into()),
            remote: Some(([192, 0, 2, 1], 40_000).into()),
            role: SocketRole::Server,
            netns: 0,
            tls: None,
            joined_late: false,
            starts: None,
            enforceable: true,
        }),
        request: Request {
            method: SmolStr::new_static("GET"),
            path: "/".into(),
            host: "example.org".into(),
            auth: AuthScheme::None,
            credentials: None,
            trace_id: None,
            body: body(),
            query_parameters: 0,
            head_bytes: 40,
            head_at: KernelTime(1),
            ended_at: KernelTime(1),
        },
        response: Some(Response {
            status: 200,
            body: body(),
            head_at: KernelTime(2),
            first_byte_at: KernelTime(2),
            last_byte_at: KernelTime(2),
        }),
        state: CallState::Answered,
        anomalies: Vec::new(),
        operation: None,
        data: Vec::new(),
        tls: None,
        third_party: None,
        ambiguous: false,
        loss_overlap: false,
        response_position: None,
        head_end: None,
        stopped: None,
        raw: Raw {
            method: "GET".into(),
            target: "/".into(),
            path: Some("/".into()),
            query: "".into(),
            host: "example.org".into(),
            request_headers: vec![header("host", "example.org")].into(),
            response_headers: vec![header("content-type", "application/json")].into(),
            request_head: 0,
            response_head: 0,
            request_body: "{}".into(),
            response_body: "{}".into(),
            request_decoded: false,
            response_decoded: false,
            looked_at: false,
            proxied_client: None,
            claims: Default::default(),
            tls: None,
        },
    };
    let finding = Finding {
        kind: SmolStr::new_static("example"),
        severity: Severity::Info,
        message: String::new(),
    };
    (call, vec![finding])
}
