//! Server-sent events (WHATWG HTML §9.2): the data of each is a content of its own, mostly JSON, and stands at the root
//! like the lines of NDJSON.

use super::{Sink, ValueType, Visit};

/// It begins as such a stream does. What does not is looked at as what it is.
pub(super) fn is(start: &[u8]) -> bool {
    [&b":"[..], b"data", b"event", b"id", b"retry"]
        .iter()
        .any(|field| start.starts_with(field))
}

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let mut data: Vec<u8> = Vec::new();
    // Lines end with `\r\n`, `\n` or `\r`.
    let mut rest = bytes;
    while !rest.is_empty() && !visit.is_over() {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        let ending = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = rest.get(end + ending..).unwrap_or_default();
        if line.is_empty() {
            event(&mut data, visit);
        } else if let Some(value) = line.strip_prefix(b"data") {
            let value = match value {
                [] => value,
                [b':', value @ ..] => value.strip_prefix(b" ").unwrap_or(value),
                _ => {
                    visit.value(b"", ValueType::Text, line);
                    continue;
                }
            };
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(value);
        } else {
            // Names, numbers and comments: short, and as free as any text.
            visit.value(b"", ValueType::Text, line);
        }
    }
    // One that was cut tells what there is of it.
    event(&mut data, visit);
}

fn event<S: Sink>(data: &mut Vec<u8>, visit: &mut Visit<'_, S>) {
    if !data.is_empty() && !visit.is_over() {
        visit.content(b"", data);
    }
    data.clear();
}
