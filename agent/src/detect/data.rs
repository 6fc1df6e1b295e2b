//! Hands the parts of a call to the scanner, each once: the request when it is whole, so that a policy can decide on what
//! is in it before there is a response; the response when the call has ended.

use bytes::Bytes;

use super::phi::Scanner;
use crate::call::{Anomaly, Api, ApiCall, ByHead, Content, Data, MessageType, Part, Phase, Protocol};

/// What was found in heads that come again.
pub(super) type KnownData = ByHead<Box<[Data]>>;

pub(super) fn look(scanner: &mut Scanner, known: &mut KnownData, phase: Phase, call: &mut ApiCall) {
    if phase == Phase::Head {
        return;
    }
    if !call.raw.looked_at {
        call.raw.looked_at = true;
        request(scanner, known, call);
    }
    if phase == Phase::Complete {
        response(scanner, known, call);
    }
}

fn found(call: &mut ApiCall, found: Vec<Data>) {
    match call.data.is_empty() {
        true => call.data = found,
        false => call.data.extend(found),
    }
}

/// Adds what is in a head to the call; it is looked for in heads that did not come before.
fn in_head(
    scanner: &mut Scanner,
    known: &mut KnownData,
    call: &mut ApiCall,
    head: u64,
    look: impl FnOnce(&mut Scanner, &ApiCall),
) {
    if let Some(known) = known.get(head) {
        call.data.extend_from_slice(known);
        return;
    }
    look(scanner, call);
    let data = scanner.take();
    known.put(head, data.as_slice().into());
    found(call, data);
}

fn request(scanner: &mut Scanner, known: &mut KnownData, call: &mut ApiCall) {
    // A message has these from the call that opened the connection, which has told of them.
    if call.protocol != Protocol::WebSocket {
        let head = call.raw.request_head;
        in_head(scanner, known, call, head, |scanner, call| {
            let raw = &call.raw;
            let path = raw.path.as_deref().unwrap_or_default();
            scanner.path(path);
            if !raw.query.is_empty() {
                scanner.query(path, &raw.query);
            }
            if !raw.request_headers.is_empty() {
                scanner.headers(Part::RequestHeaders, pairs(&raw.request_headers));
            }
        });
    }
    let raw = &call.raw;
    let schema = scanner.schema();
    let message = schema
        .as_deref()
        .and_then(|schema| schema.method(raw.path.as_deref()?))
        .map(|(takes, _)| takes);
    let path = raw.path.as_deref().unwrap_or_default();
    if path.ends_with("/_search") && call.request.body.media_type == "application/x-www-form-urlencoded" {
        scanner.search(path, &raw.request_body);
        return found(call, scanner.take());
    }
    let anomaly = self::body(scanner, Part::RequestBody, call, message);
    found(call, scanner.take());
    note(call, anomaly);
}

fn response(scanner: &mut Scanner, known: &mut KnownData, call: &mut ApiCall) {
    if call.response.is_none() {
        return;
    }
    let head = call.raw.response_head;
    in_head(scanner, known, call, head, |scanner, call| {
        let headers = &call.raw.response_headers;
        if !headers.is_empty() {
            scanner.headers(Part::ResponseHeaders, pairs(headers));
        }
    });
    let raw = &call.raw;
    let schema = scanner.schema();
    let message = schema
        .as_deref()
        .and_then(|schema| schema.method(raw.path.as_deref()?))
        .map(|(_, gives)| gives);
    let anomaly = self::body(scanner, Part::ResponseBody, call, message);
    found(call, scanner.take());
    note(call, anomaly);
}

fn pairs(headers: &[(Bytes, Bytes)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
}

fn body(
    scanner: &mut Scanner,
    part: Part,
    call: &ApiCall,
    message: Option<MessageType<'_>>,
) -> Option<Anomaly> {
    let raw = &call.raw;
    let of_response = call.response.as_ref().filter(|_| part == Part::ResponseBody);
    let (headers, body, decoded, truncated) = match of_response {
        Some(response) => (
            &raw.response_headers,
            &raw.response_body,
            raw.response_decoded,
            response.body.truncated,
        ),
        None => (
            &raw.request_headers,
            &raw.request_body,
            raw.request_decoded,
            call.request.body.truncated,
        ),
    };
    if body.is_empty() {
        return None;
    }
    let value = |name: &[u8]| {
        let mut found = headers.iter().filter(|(known, _)| known.as_ref() == name);
        let first = found.next().map_or(&b""[..], |(_, value)| value.as_ref());
        // Several fields are one list.
        let mut all = std::borrow::Cow::Borrowed(first);
        for (_, value) in found {
            let all = all.to_mut();
            all.push(b',');
            all.extend_from_slice(value);
        }
        all
    };
    let content_type = value(b"content-type");
    // Of other calls what has no type may be an error page of something in between.
    let is_grpc = || {
        call.anomalies.contains(&Anomaly::UnknownFields)
            && call
                .operation
                .as_ref()
                .is_some_and(|known| known.api == Api::Grpc)
    };
    let content = Content {
        bytes: body,
        // Told by its frames alone: it has no type.
        content_type: match content_type.is_empty() && is_grpc() {
            true => b"application/grpc",
            false => &content_type,
        },
        content_encoding: &match decoded {
            true => std::borrow::Cow::Borrowed(&b""[..]),
            false => value(b"content-encoding"),
        },
        message,
        truncated,
    };
    scanner.body(part, &content).anomaly
}

fn note(call: &mut ApiCall, anomaly: Option<Anomaly>) {
    if let Some(anomaly) = anomaly.filter(|anomaly| !call.anomalies.contains(anomaly)) {
        call.anomalies.push(anomaly);
    }
}
