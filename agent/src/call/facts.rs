//! A request's head → its facts: who, what, how authenticated. One pass over the fields.

use std::hash::Hash;

use bytes::Bytes;
use smol_str::{SmolStr, format_smolstr};

use super::conversation::Context;
use super::known::Shows;
use super::redact::{self, Redactor};
use super::{AuthScheme, BodyFacts, CallDirection, Raw, Request, credentials, target};
use crate::capture::{FlowInfo, KernelTime, Process};
use crate::decode::{Anomaly, AnswerTo, Head, StartLine};

/// A field value longer than this is no request id.
const REQUEST_ID_BYTES_MAX: usize = 256;

/// A request as told by its head.
#[derive(Clone)]
pub(super) struct Told {
    pub request: Request,
    pub raw: Raw,
    pub ambiguous: bool,
    pub answer_to: AnswerTo,
    pub media_type: SmolStr,
}

#[derive(Default)]
struct Fields {
    host: Option<Bytes>,
    authorization: Option<Bytes>,
    cookie: bool,
    api_key: bool,
    content_type: Option<Bytes>,
    traceparent: Option<Bytes>,
    request_id: Option<Bytes>,
}

impl Fields {
    fn read(headers: &[(Bytes, Bytes)]) -> Self {
        let mut fields = Fields::default();
        for (name, value) in headers {
            let first = |slot: &mut Option<Bytes>| {
                if slot.is_none() {
                    *slot = Some(value.clone());
                }
            };
            // Cheap: what the names below begin with.
            if !matches!(name.first(), Some(b'h' | b'a' | b'c' | b'x' | b'o' | b't' | b'r')) {
                continue;
            }
            match name.as_ref() {
                b"host" => first(&mut fields.host),
                b"authorization" => first(&mut fields.authorization),
                b"cookie" => fields.cookie = true,
                b"x-api-key"
                | b"api-key"
                | b"apikey"
                | b"x-apikey"
                | b"x-goog-api-key"
                | b"x-auth-token"
                | b"x-access-token"
                | b"ocp-apim-subscription-key"
                | b"x-functions-key"
                | b"x-vault-token" => {
                    fields.api_key = true;
                }
                b"content-type" => first(&mut fields.content_type),
                b"traceparent" => first(&mut fields.traceparent),
                b"x-request-id" | b"x-correlation-id" | b"request-id" | b"x-trace-id" | b"x-b3-traceid"
                | b"correlation-id" | b"x-amzn-trace-id" => first(&mut fields.request_id),
                _ => {}
            }
        }
        fields
    }

    fn auth(&self) -> AuthScheme {
        let Some(value) = &self.authorization else {
            return match (self.api_key, self.cookie) {
                (true, _) => AuthScheme::ApiKey,
                (false, true) => AuthScheme::Cookie,
                (false, false) => AuthScheme::None,
            };
        };
        let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        for (name, auth) in [
            ("Bearer", AuthScheme::Bearer),
            ("Basic", AuthScheme::Basic),
            ("Digest", AuthScheme::Digest),
            ("Negotiate", AuthScheme::Negotiate),
            ("AWS4-HMAC-SHA256", AuthScheme::SigV4),
            ("ApiKey", AuthScheme::ApiKey),
            ("Api-Key", AuthScheme::ApiKey),
        ] {
            if scheme.eq_ignore_ascii_case(name.as_bytes()) {
                return auth;
            }
        }
        AuthScheme::Other
    }
}

/// The media type of a message's body, if it is a known one.
pub(super) fn media_type(headers: &[(Bytes, Bytes)]) -> SmolStr {
    redact::media_type(
        headers
            .iter()
            .find(|(name, _)| name.as_ref() == b"content-type")
            .map(|(_, value)| value),
    )
}

/// Reads a request's head.
pub(super) fn request(
    head: Head,
    at: KernelTime,
    direction: CallDirection,
    flow: &FlowInfo,
    process: &Process,
    cx: &mut Context<'_>,
) -> (Told, Vec<Anomaly>) {
    let redactor = &mut *cx.redactor;
    let asked = Asked {
        direction,
        flow,
        process,
    };
    if let Some(kept) = cx.known.get(head.known, redactor) {
        return (kept.again(at, &asked, redactor), head.anomalies);
    }
    let before = redactor.learning();
    let Head {
        line,
        headers,
        anomalies,
        bytes,
        unknown_fields,
        known,
        ..
    } = head;
    let (method, known_method, target_bytes) = match line {
        StartLine::Request {
            method,
            registered,
            target,
        } => (method, registered, target),
        StartLine::Response { .. } => (Bytes::new(), None, Bytes::new()),
    };
    let fields = Fields::read(&headers);
    let parsed = match target_bytes.is_empty() && unknown_fields > 0 {
        // Not ambiguous, but not known.
        true => target::Target::default(),
        // RFC 8441: a CONNECT with a path.
        false => target::parse(
            &target_bytes,
            known_method == Some("CONNECT") && target_bytes.first() != Some(&b'/'),
        ),
    };
    let authority = parsed.authority.as_ref().or(fields.host.as_ref());
    let (host, port) = authority
        .map(|authority| split_authority(authority))
        .unwrap_or_default();
    let shown_host = asked.host(&host, port, redactor);
    let by_host = redactor.learning();
    let path = match &parsed.path {
        Some(path) => asked.path(path, redactor),
        None if target_bytes.as_ref() == b"*" => "*".to_owned(),
        None => String::new(),
    };
    let by_head = redactor.learning();
    let trace_id = fields
        .traceparent
        .as_ref()
        .and_then(|value| redact::trace_id(value))
        .or_else(|| {
            let value = fields.request_id.as_ref().filter(|value| !value.is_empty())?;
            Some(redactor.request_id(&value[..value.len().min(REQUEST_ID_BYTES_MAX)]))
        });
    let ambiguous = parsed.ambiguous || anomalies.iter().any(|anomaly| redact::is_ambiguous(*anomaly));
    let query_parameters = match parsed.query.is_empty() {
        true => 0,
        false => parsed
            .query
            .split(|byte| *byte == b'&')
            .filter(|part| !part.is_empty())
            .count() as u32,
    };
    let (credentials, claims) = credentials::read(&headers, &parsed.query, redactor);
    let request = Request {
        method: SmolStr::new_static(known_method.unwrap_or("OTHER")),
        path,
        host: shown_host.into(),
        auth: fields.auth(),
        credentials,
        trace_id,
        body: BodyFacts::default(),
        query_parameters,
        head_bytes: bytes,
        head_at: at,
        ended_at: at,
    };
    let told = Told {
        request,
        answer_to: match known_method {
            Some("HEAD") => AnswerTo::Head,
            Some("CONNECT") => AnswerTo::Connect,
            _ => AnswerTo::Ordinary,
        },
        media_type: redact::media_type(fields.content_type.as_ref()),
        ambiguous,
        raw: Raw {
            method,
            target: target_bytes,
            path: parsed.path,
            query: parsed.query,
            host,
            request_headers: headers,
            request_head: known,
            claims,
            ..Raw::default()
        },
    };
    // What may be shown of a token's issuer can change with the next call.
    if redactor.learning() == by_head {
        let shows = Shows {
            host: (by_host != before).then_some(port),
            path: by_head != by_host,
        };
        cx.known.keep(known, &told, shows);
    }
    (told, anomalies)
}

/// Who asks, for what is shown once many have asked for it.
pub(super) struct Asked<'a> {
    direction: CallDirection,
    flow: &'a FlowInfo,
    process: &'a Process,
}

impl Asked<'_> {
    /// What is shown of a host. `port`: if it is not a default one.
    pub(super) fn host(&self, host: &str, port: Option<u16>, redactor: &mut Redactor) -> SmolStr {
        let witness = match (self.direction, self.flow.remote) {
            (_, Some(remote)) if remote.ip().to_canonical().is_loopback() => None,
            (CallDirection::Inbound, Some(remote)) => Some(redactor.witness(remote.ip())),
            (CallDirection::Outbound, Some(_)) => Some(redactor.witness(FlowKey(self.flow))),
            (_, None) => None,
        };
        let shown = redactor.host(host, witness);
        match (port, shown.is_empty()) {
            (Some(port), false) => format_smolstr!("{shown}:{port}"),
            _ => shown,
        }
    }

    /// What is shown of a path.
    pub(super) fn path(&self, path: &str, redactor: &mut Redactor) -> String {
        let caller = match (self.direction, self.flow.remote) {
            (CallDirection::Inbound, Some(remote)) => redactor.witness(remote.ip()),
            (CallDirection::Inbound, None) => 0,
            (CallDirection::Outbound, _) => redactor.witness(self.process.exe.as_str()),
        };
        redactor.path(path, caller)
    }
}

struct FlowKey<'a>(&'a FlowInfo);

impl Hash for FlowKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// `Example.org:8080` → `example.org` and the port, unless it is a default one.
fn split_authority(authority: &[u8]) -> (String, Option<u16>) {
    let text = String::from_utf8_lossy(authority);
    let text = text.rsplit_once('@').map_or(&*text, |(_, text)| text);
    // Colons within the brackets of an address are none of a port.
    let split = text.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let (host, port) = match split {
        Some((host, "")) => (host, None),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(80 | 443) => (host, None),
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        None => (text, None),
    };
    (host.to_ascii_lowercase(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split() {
        for (authority, host, port) in [
            ("Example.org", "example.org", None),
            ("example.org:8080", "example.org", Some(8080)),
            ("example.org:443", "example.org", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[::1]", "[::1]", None),
            ("user:secret@h:81", "h", Some(81)),
            ("h:", "h", None),
            ("", "", None),
        ] {
            assert_eq!(
                split_authority(authority.as_bytes()),
                (host.to_owned(), port),
                "{authority}"
            );
        }
    }

    #[test]
    fn the_scheme_is_told_and_nothing_of_the_value() {
        for (name, value, auth) in [
            ("authorization", "Basic dTpw", AuthScheme::Basic),
            ("authorization", "bearer x", AuthScheme::Bearer),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=x",
                AuthScheme::SigV4,
            ),
            ("authorization", "Zebulon", AuthScheme::Other),
            ("cookie", "a=b", AuthScheme::Cookie),
            ("x-api-key", "k", AuthScheme::ApiKey),
            ("accept", "*/*", AuthScheme::None),
        ] {
            let headers = [(
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            )];
            assert_eq!(Fields::read(&headers).auth(), auth, "{name}: {value}");
        }
    }
}
