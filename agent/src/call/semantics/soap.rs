//! SOAP 1.1 and 1.2: the action, and the operation in the body.
//!
//! Identified by the `SOAPAction` header, the media type, or an envelope in SOAP's namespace. Names are the caller's: shown
//! as words of a schema are, through the redactor.

use smol_str::{SmolStr, format_smolstr};

use super::{Caller, contains, header, xml};
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase};

/// `Envelope/Body/Operation`
const DEPTH: usize = 3;
/// Bytes of a body in which an envelope has to begin.
const FRONT_BYTES: usize = 1_024;
const NAMESPACES: [(&str, &str); 2] = [
    ("http://schemas.xmlsoap.org/soap/envelope/", "1.1"),
    ("http://www.w3.org/2003/05/soap-envelope", "1.2"),
];

/// What an envelope says.
#[derive(Default)]
struct Envelope {
    version: &'static str,
    operation: String,
    fault: bool,
    operations: u32,
}

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    if call
        .operation
        .as_ref()
        .is_some_and(|operation| operation.api != Api::Soap)
        || call.request.method != "POST"
    {
        return;
    }
    let caller = Caller::of(call, redactor);
    let raw = &call.raw;
    let content_type = header(&raw.request_headers, "content-type").unwrap_or_default();
    let action = header(&raw.request_headers, "soapaction").or_else(|| parameter(content_type, b"action"));
    let is_soap = action.is_some() || contains(content_type, "soap+xml");
    let envelope = match phase {
        Phase::Head => Envelope::default(),
        _ if is_soap || looks_like(&raw.request_body) => Envelope::read(&raw.request_body),
        _ => Envelope::default(),
    };
    if envelope.version.is_empty() && !is_soap {
        return;
    }
    // The last part of a URI or of a name with a namespace says what is done.
    let action = action
        .map(|action| {
            String::from_utf8_lossy(action)
                .trim_matches(['"', ' ', '\''])
                .to_owned()
        })
        .unwrap_or_default();
    let last = action
        .rsplit(['/', '#', ':'])
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let name = match envelope.operation.is_empty() {
        true => last,
        false => &envelope.operation,
    };
    let mut details: Vec<(&'static str, SmolStr)> = Vec::new();
    if !envelope.version.is_empty() {
        details.push(("version", SmolStr::new_static(envelope.version)));
    }
    if !action.is_empty() {
        details.push(("action", redactor.keyed(b"soap-action", action.as_bytes())));
    }
    if phase == Phase::Complete && looks_like(&raw.response_body) && Envelope::read(&raw.response_body).fault
    {
        details.push(("fault", SmolStr::new_static("true")));
    }
    let name = match redactor.word(name, "soap:", caller.0) {
        Some(shown) => shown,
        None if name.is_empty() => SmolStr::default(),
        None => format_smolstr!("{{name}} {}", redactor.keyed(b"operation", name.as_bytes())),
    };
    call.operation = Some(Box::new(Operation {
        api: Api::Soap,
        name,
        resource: SmolStr::default(),
        subject: None,
        entries: if envelope.operations > 1 {
            envelope.operations
        } else {
            0
        },
        details,
    }));
}

impl Envelope {
    fn read(body: &[u8]) -> Envelope {
        let mut envelope = Envelope::default();
        // Of a multipart body (MTOM), the part that the envelope is in.
        let start = memchr::memmem::find(&body[..body.len().min(FRONT_BYTES)], b"Envelope")
            .and_then(|at| memchr::memrchr(b'<', &body[..at]));
        xml::walk(
            &body[start.unwrap_or(0)..],
            DEPTH,
            &mut |path, value| match (path.len(), value) {
                (1, xml::Value::Element) => path[0] == "Envelope",
                (1, xml::Value::Attribute(_, uri)) => {
                    if let Some((_, version)) = NAMESPACES.iter().find(|(namespace, _)| *namespace == uri) {
                        envelope.version = version;
                    }
                    true
                }
                (3, xml::Value::Element) if path[1] == "Body" => {
                    envelope.operations = envelope.operations.saturating_add(1);
                    envelope.fault |= path[2] == "Fault";
                    if envelope.operation.is_empty() {
                        envelope.operation = path[2].to_string();
                    }
                    true
                }
                _ => true,
            },
        );
        if envelope.version.is_empty() {
            return Envelope::default();
        }
        envelope
    }
}

fn looks_like(body: &[u8]) -> bool {
    let front = &body[..body.len().min(FRONT_BYTES)];
    memchr::memmem::find(front, b"Envelope").is_some() && memchr::memchr(b'<', front).is_some()
}

/// A parameter of a media type, without quotes.
fn parameter<'a>(content_type: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    content_type.split(|byte| *byte == b';').skip(1).find_map(|part| {
        let at = memchr::memchr(b'=', part)?;
        let value = part[at + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        part[..at]
            .trim_ascii()
            .eq_ignore_ascii_case(wanted)
            .then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::semantics::given::call;

    const BODY: &str = r#"<?xml version="1.0"?><soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Header><a/></soap:Header>
        <soap:Body><ns:getPatient xmlns:ns="urn:x"><id>5</id></ns:getPatient></soap:Body></soap:Envelope>"#;

    #[test]
    fn actions_and_bodies() {
        let mut given = call("POST /service").header("soapaction", "\"urn:hospital/getPatient\"");
        assert!(given.at(Phase::Head).starts_with("getPatient  action=h:"));
        let mut given = call("POST /service")
            .header(
                "content-type",
                "application/soap+xml; charset=utf-8; action=\"urn:getUser\"",
            )
            .body(BODY);
        assert!(given.at(Phase::Head).starts_with("getUser  action="));
        assert!(
            given
                .at(Phase::Request)
                .starts_with("getPatient  version=1.2 action=")
        );
        let fault = BODY.replace("getPatient", "Fault");
        let told = given
            .answer(500, "application/soap+xml", fault)
            .at(Phase::Complete);
        assert!(told.ends_with("fault=true"), "{told}");
        // By the body alone; a name that nobody vouches for is hashed.
        let mut given = call("POST /x")
            .header("content-type", "text/xml")
            .body(BODY.replace("getPatient", "zebulon"));
        let told = given.at(Phase::Request);
        assert!(
            told.starts_with("{name} h:") && !told.contains("zebulon"),
            "{told}"
        );
        assert_eq!(
            call("POST /x")
                .header("content-type", "text/xml")
                .body("<a>Envelope</a>")
                .at(Phase::Request),
            ""
        );
        let parts = format!("--b\r\nContent-Type: application/xop+xml\r\n\r\n{BODY}\r\n--b--");
        let mut given = call("POST /x")
            .header("content-type", "multipart/related; type=\"application/xop+xml\"")
            .body(parts);
        assert!(given.at(Phase::Request).starts_with("getPatient  version=1.2"));
    }
}
