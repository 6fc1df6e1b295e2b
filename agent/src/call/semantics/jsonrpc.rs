//! JSON-RPC 2.0 (and 1.0 where it cannot be anything else): methods, batches, errors.
//!
//! Identified by the body alone. Method names are the caller's: shown as words of a schema are, through the redactor.

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::json::{self, Value};
use super::{Caller, is_encoded};
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase, Protocol};

/// `[].method`
const DEPTH: usize = 2;
/// Different methods of one batch that are listed.
const METHODS_MAX: usize = 16;
/// Words that a method's name is made of.
const PARTS_MAX: usize = 8;
/// Where `"jsonrpc"` or `"method"` has to begin.
const FRONT_BYTES: usize = 512;

#[derive(Default)]
struct Request {
    versioned: bool,
    method: String,
    /// The different ones of a batch, in order.
    names: Vec<String>,
    /// There are more of them.
    more: bool,
    methods: u32,
    ids: u32,
    parameters: u32,
    batch: bool,
}

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    match (phase, &call.operation) {
        (Phase::Request, None) if call.request.method == "POST" || call.protocol == Protocol::WebSocket => {
            let Some(request) = read(&call.raw.request_body) else {
                return;
            };
            let caller = Caller::of(call, redactor);
            let name = match shown(&request.method, caller, redactor) {
                Some(name) => name,
                None => format_smolstr!(
                    "{{name}} {}",
                    redactor.keyed(b"operation", request.method.as_bytes())
                ),
            };
            let mut details = Vec::new();
            if request.batch {
                details.push(("batch", SmolStr::new_static("true")));
            }
            if request.names.len() > 1 {
                // What comes later in a batch is not to hide behind its first.
                let names: Vec<SmolStr> = request
                    .names
                    .iter()
                    .map(|name| {
                        shown(name, caller, redactor).unwrap_or_else(|| SmolStr::new_static("{name}"))
                    })
                    .collect();
                details.push(("methods", SmolStr::from(names.join(","))));
            }
            if request.more {
                details.push(("more", SmolStr::new_static("true")));
            }
            if request.ids < request.methods {
                details.push(("notifications", (request.methods - request.ids).to_smolstr()));
            }
            call.operation = Some(Box::new(Operation {
                api: Api::JsonRpc,
                name,
                resource: SmolStr::default(),
                subject: None,
                entries: if request.batch { request.methods } else { 0 },
                details,
            }));
        }
        (Phase::Complete, Some(operation)) if operation.api == Api::JsonRpc => {
            let encoded = is_encoded(call);
            let errors = if encoded {
                0
            } else {
                errors(&call.raw.response_body)
            };
            if let (true, Some(operation)) = (errors > 0, &mut call.operation) {
                operation.details.push(("errors", errors.to_smolstr()));
            }
        }
        _ => {}
    }
}

/// `patients.search`, `eth_getBalance`: each part has to be a word that may be shown.
fn shown(method: &str, caller: Caller, redactor: &mut Redactor) -> Option<SmolStr> {
    redactor.word(method, "json-rpc:", caller.0).or_else(|| {
        let parts: Vec<&str> = method.split(['.', '/', '_']).collect();
        let all = (2..=PARTS_MAX).contains(&parts.len())
            && parts
                .iter()
                .all(|part| redactor.word(part, "json-rpc:", caller.0).is_some());
        all.then(|| SmolStr::new(method))
    })
}

fn read(body: &[u8]) -> Option<Request> {
    let front = &body[..body.len().min(FRONT_BYTES)];
    let start = front.trim_ascii_start();
    let candidate = matches!(start.first(), Some(b'{' | b'['))
        && (memchr::memmem::find(front, b"\"jsonrpc\"").is_some()
            || memchr::memmem::find(front, b"\"method\"").is_some());
    if !candidate {
        return None;
    }
    let mut request = Request {
        batch: start.first() == Some(&b'['),
        ..Request::default()
    };
    let depth = usize::from(request.batch);
    let mut odd = false;
    json::walk(body, DEPTH, &mut |path, value| {
        if path.len() != depth + 1 {
            return;
        }
        match (path[depth].as_str(), value) {
            ("jsonrpc", Value::Text("2.0")) => request.versioned = true,
            ("method", Value::Text(name)) => {
                request.methods = request.methods.saturating_add(1);
                if request.method.is_empty() {
                    request.method = name.to_owned();
                }
                if request.batch && !request.names.iter().any(|known| known == name) {
                    match request.names.len() < METHODS_MAX {
                        true => request.names.push(name.to_owned()),
                        false => request.more = true,
                    }
                }
            }
            ("id", _) => request.ids = request.ids.saturating_add(1),
            ("params", Value::Object | Value::List) => {
                request.parameters = request.parameters.saturating_add(1)
            }
            ("params" | "jsonrpc", _) => {}
            _ => odd = true,
        }
    });
    // Without its version it has to have all the rest, and nothing else.
    let is_one = request.versioned
        || (!odd
            && request.ids > 0
            && request.ids == request.methods
            && request.parameters == request.methods);
    (is_one && request.methods > 0).then_some(request)
}

fn errors(body: &[u8]) -> u32 {
    let mut count = 0u32;
    let depth = usize::from(body.trim_ascii_start().first() == Some(&b'['));
    json::walk(body, DEPTH, &mut |path, value| {
        if path.len() == depth + 1 && path[depth].as_str() == "error" && value == Value::Object {
            count = count.saturating_add(1);
        }
    });
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::semantics::given::call;

    #[test]
    fn methods_batches_and_errors() {
        let told = |body: &str| {
            call("POST /rpc")
                .header("content-type", "application/json")
                .body(body)
                .at(Phase::Request)
        };
        assert_eq!(
            told(r#"{"jsonrpc":"2.0","method":"patients.search","params":{},"id":1}"#),
            "patients.search "
        );
        assert_eq!(
            told(r#"[{"jsonrpc":"2.0","method":"getUser","id":1},{"jsonrpc":"2.0","method":"notify"}]"#),
            "getUser  2 batch=true methods=getUser,notify notifications=1"
        );
        assert_eq!(
            told(
                r#"[{"jsonrpc":"2.0","method":"getUser","id":1},{"jsonrpc":"2.0","method":"zebulon","id":2},{"jsonrpc":"2.0","method":"getUser","id":3}]"#
            ),
            "getUser  3 batch=true methods=getUser,{name}"
        );
        let many = |count: usize| {
            let asked: Vec<String> = (0..count)
                .map(|number| format!(r#"{{"jsonrpc":"2.0","method":"m{number}","id":1}}"#))
                .collect();
            told(&format!("[{}]", asked.join(",")))
        };
        assert!(!many(16).contains("more"));
        assert!(many(17).contains(" more=true"));
        assert_eq!(told(r#"{"method":"search","params":[],"id":1}"#), "search ");
        assert!(told(r#"{"jsonrpc":"2.0","method":"zebulon","id":1}"#).starts_with("{name} h:"));
        for other in [
            r#"{"method":"search"}"#,
            r#"{"method":"cash","amount":5,"id":1}"#,
            r#"{"a":{"jsonrpc":"2.0","method":"x"}}"#,
            "[]",
            "",
        ] {
            assert_eq!(told(other), "", "{other}");
        }
        let mut given = call("POST /rpc").body(r#"{"jsonrpc":"2.0","method":"search","id":1}"#);
        given.at(Phase::Request);
        let mut given = given.answer(
            200,
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":1},"id":1}"#,
        );
        assert_eq!(given.at(Phase::Complete), "search  errors=1");
    }
}
