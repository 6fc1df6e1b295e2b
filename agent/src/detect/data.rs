//! Hands the parts of a call to the scanner, each once: the request when it is whole, so that a policy can decide on what
//! is in it before there is a response; the response when the call has ended.

use bytes::Bytes;

use super::phi::Scanner;
use crate::call::{ApiCall, Content, Part, Phase, Protocol};

pub(super) fn look(scanner: &mut Scanner, phase: Phase, call: &mut ApiCall) {
    if phase == Phase::Head {
        return;
    }
    if !call.raw.looked_at {
        call.raw.looked_at = true;
        request(scanner, call);
    }
    if phase == Phase::Complete {
        response(scanner, call);
    }
    let found = scanner.take();
    if call.data.is_empty() {
        call.data = found;
    } else {
        call.data.extend(found);
    }
}

fn request(scanner: &mut Scanner, call: &mut ApiCall) {
    let raw = &call.raw;
    // A message has these from the call that opened the connection, which has told of them.
    if call.protocol != Protocol::WebSocket {
        let path = raw.path.as_deref().unwrap_or_default();
        scanner.path(path);
        if !raw.query.is_empty() {
            scanner.query(path, &raw.query);
        }
        if !raw.request_headers.is_empty() {
            scanner.headers(Part::RequestHeaders, pairs(&raw.request_headers));
        }
    }
    let anomaly = self::body(
        scanner,
        Part::RequestBody,
        &raw.request_headers,
        &raw.request_body,
        raw.request_decoded,
        call.request.body.truncated,
    );
    note(call, anomaly);
}

fn response(scanner: &mut Scanner, call: &mut ApiCall) {
    let Some(response) = &call.response else {
        return;
    };
    let raw = &call.raw;
    if !raw.response_headers.is_empty() {
        scanner.headers(Part::ResponseHeaders, pairs(&raw.response_headers));
    }
    let anomaly = self::body(
        scanner,
        Part::ResponseBody,
        &raw.response_headers,
        &raw.response_body,
        raw.response_decoded,
        response.body.truncated,
    );
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
    headers: &[(Bytes, Bytes)],
    body: &Bytes,
    decoded: bool,
    truncated: bool,
) -> Option<crate::call::Anomaly> {
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
    let content = Content {
        bytes: body,
        content_type: &value(b"content-type"),
        content_encoding: &match decoded {
            true => std::borrow::Cow::Borrowed(&b""[..]),
            false => value(b"content-encoding"),
        },
        truncated,
    };
    scanner.body(part, &content).anomaly
}

fn note(call: &mut ApiCall, anomaly: Option<crate::call::Anomaly>) {
    if let Some(anomaly) = anomaly.filter(|anomaly| !call.anomalies.contains(anomaly)) {
        call.anomalies.push(anomaly);
    }
}
