//! multipart/form-data, multipart/related and their kin (RFC 2046 §5.1, RFC 7578, RFC 2387): each part is a content of
//! its own, opened under its name.

use super::charset::parameter;
use super::nested::Nested;
use super::{Container, Sink, Visit, sniff};
use crate::call::grpc::Base64;

/// Longest head of a part.
const HEAD_BYTES_MAX: usize = 8 * 1024;

pub(super) fn visit<S: Sink>(content_type: &[u8], bytes: &[u8], visit: &mut Visit<'_, S>) {
    let Some(boundary) = boundary(content_type, bytes) else {
        return;
    };
    let delimiter = memchr::memmem::Finder::new(&boundary);
    let mut rest = match delimiter.find(bytes) {
        Some(at) => &bytes[at + boundary.len()..],
        None => return,
    };
    visit.open(b"", Container::Object);
    let mut nested = Nested::new(true);
    while !rest.starts_with(b"--") && !visit.is_over() {
        let end = delimiter.find(rest).unwrap_or(rest.len());
        part(&rest[..end], &mut nested, visit);
        if end == rest.len() {
            break;
        }
        rest = &rest[end + boundary.len()..];
    }
    nested.end(visit);
    visit.close();
}

/// With its two dashes. A missing parameter is made up for by the first line.
fn boundary(content_type: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    if let Some(boundary) = parameter(content_type, b"boundary").filter(|boundary| !boundary.is_empty()) {
        return Some([b"--", boundary].concat());
    }
    let line = bytes.split(|byte| *byte == b'\n').next()?.trim_ascii();
    (line.starts_with(b"--") && (3..=72).contains(&line.len())).then(|| line.to_vec())
}

/// What is between two delimiters: CRLF, head, empty line, content, CRLF.
fn part<S: Sink>(part: &[u8], nested: &mut Nested, visit: &mut Visit<'_, S>) {
    let part = part
        .strip_prefix(b"\r\n")
        .or_else(|| part.strip_prefix(b"\n"))
        .unwrap_or(part);
    let window = &part[..part.len().min(HEAD_BYTES_MAX)];
    let (head, content) = if let Some(content) = part.strip_prefix(b"\r\n") {
        (&part[..0], content)
    } else if let Some(at) = memchr::memmem::find(window, b"\r\n\r\n") {
        (&part[..at], &part[at + 4..])
    } else if let Some(at) = memchr::memmem::find(window, b"\n\n") {
        (&part[..at], &part[at + 2..])
    } else {
        return;
    };
    let content = content.strip_suffix(b"\r\n").unwrap_or(content);
    let (mut name, mut content_type, mut base64) = (b"".as_slice(), b"".as_slice(), false);
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        match line[..colon].trim_ascii().to_ascii_lowercase().as_slice() {
            b"content-disposition" => name = parameter(value, b"name").unwrap_or_default(),
            b"content-type" => content_type = value,
            b"content-transfer-encoding" => base64 = value.eq_ignore_ascii_case(b"base64"),
            _ => {}
        }
    }
    let mut decoded = Vec::new();
    let content = match base64 {
        true => {
            // Many receivers do not heed the field: what is no base64 is looked at as it is.
            match Base64::default().decode(content, &mut decoded) {
                Some(_) => decoded.as_slice(),
                None => content,
            }
        }
        false => content,
    };
    // A form's field is a value by its name; anything with a type is looked into.
    if content_type.is_empty() && sniff::format(b"text/plain", content) == super::Format::Text {
        nested.value(name, content, visit);
        return;
    }
    let name = nested.within(name, visit);
    visit.open(name, Container::Object);
    visit.content(content_type, content);
    visit.close();
}
