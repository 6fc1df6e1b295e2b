//! Which format a content has: its media type says so (RFC 6838, with `+json` and `+xml`), unless its first bytes plainly
//! say something else; without a media type, the first bytes alone.

use super::{Format, csv, dicom, events};

/// Bytes that are looked at.
const SNIFF_BYTES: usize = 512;

pub(super) fn format(content_type: &[u8], bytes: &[u8]) -> Format {
    if dicom::is(bytes) {
        return Format::Dicom;
    }
    let start = beginning(bytes);
    // These two begin in a way that nothing else does, and travel under many names.
    if is_hl7v2(start) {
        return Format::Hl7v2;
    }
    if start.starts_with(b"ISA") && start.get(3).is_some_and(u8::is_ascii_punctuation) {
        return Format::X12;
    }
    named(content_type, start).unwrap_or_else(|| sniffed(start))
}

/// Without byte order mark, block bytes of MLLP and white space.
fn beginning(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let start = bytes
        .iter()
        .take(SNIFF_BYTES)
        .position(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0x0b | 0x1e))
        .unwrap_or(0);
    &bytes[start..bytes.len().min(start + SNIFF_BYTES)]
}

fn is_hl7v2(start: &[u8]) -> bool {
    let header = [b"MSH", b"FHS", b"BHS"].iter().any(|id| start.starts_with(*id));
    header
        && start.get(3..8).is_some_and(|separators| {
            separators.iter().all(u8::is_ascii_punctuation) && separators[0] == separators[4]
                || separators[..3].iter().all(u8::is_ascii_punctuation)
        })
}

fn named(content_type: &[u8], start: &[u8]) -> Option<Format> {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let name = content_type[..end].trim_ascii().to_ascii_lowercase();
    let (kind, subtype) = name.split_at(memchr::memchr(b'/', &name)?);
    let subtype = &subtype[1..];
    let suffix = subtype.rsplit(|byte| *byte == b'+').next().unwrap_or_default();
    Some(match (kind, subtype) {
        (b"multipart", _) => Format::Multipart,
        (b"application", b"x-www-form-urlencoded") => match start.first() {
            // Clients whose library sets this type by itself send JSON under it.
            Some(b'{' | b'[') => sniffed(start),
            _ => Format::Form,
        },
        (b"application", b"graphql") => match start.first() {
            // Some send the usual JSON under it.
            Some(b'{') if matches!(start.get(1), Some(b'"')) => Format::Json,
            _ => Format::GraphQl,
        },
        (b"text", b"event-stream") if events::is(start) => Format::Events,
        (b"text", b"csv" | b"tab-separated-values") => Format::Csv,
        (_, b"x-ndjson" | b"ndjson" | b"jsonl" | b"json-seq" | b"json" | b"x-json") => Format::Json,
        (_, b"xml") => Format::Xml,
        (_, b"xhtml+xml") => Format::Text,
        _ if suffix.ends_with(b"json") || subtype.ends_with(b"ndjson") => Format::Json,
        _ if suffix == b"xml" => Format::Xml,
        (_, b"x-protobuf" | b"protobuf" | b"grpc" | b"vnd.google.protobuf") => Format::Protobuf,
        // gRPC's own suffix says what is in its frames.
        _ if suffix == b"proto" || subtype.starts_with(b"grpc") => Format::Protobuf,
        (b"image" | b"audio" | b"video" | b"font", _) => Format::Binary,
        (b"text", b"plain" | b"html" | b"markdown") => match sniffed(start) {
            Format::Binary => Format::Binary,
            Format::Json => Format::Json,
            Format::Xml if subtype != b"html" => Format::Xml,
            _ => Format::Text,
        },
        (_, b"javascript" | b"x-javascript") if is_jsonp(start) => Format::Json,
        (b"text", b"javascript" | b"css") | (b"application", b"javascript" | b"wasm") => Format::Binary,
        _ => return None,
    })
}

fn sniffed(start: &[u8]) -> Format {
    match start.first() {
        None => Format::Text,
        Some(b'{') => Format::Json,
        Some(b'[') if is_array(start) => Format::Json,
        Some(b'0'..=b'9') if is_packet(start) => Format::Json,
        // Its elements say how it looks, and none of them is a key: `<address>` is who runs the server.
        Some(b'<') if is_html(start) => Format::Text,
        Some(b'<') => match start.get(1) {
            Some(b'?' | b'!' | b'a'..=b'z' | b'A'..=b'Z' | b'_') => Format::Xml,
            _ => Format::Text,
        },
        // UTF-16 without a mark.
        Some(0) if matches!(start.get(1), Some(b'{' | b'[')) => Format::Json,
        _ if is_binary(start) => Format::Binary,
        _ if is_csv(start) => Format::Csv,
        _ if is_form(start) => Format::Form,
        _ => Format::Text,
    }
}

/// An array of JSON: a line of a log begins with `[`, too, and then a time or a level.
fn is_array(start: &[u8]) -> bool {
    let first = start[1..].trim_ascii_start();
    match first.first() {
        None | Some(b'{' | b'[' | b'"' | b']') => true,
        Some(b'-' | b'0'..=b'9') => {
            let is = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
            let number = first.iter().take_while(is).count();
            let is_number =
                std::str::from_utf8(&first[..number]).is_ok_and(|text| text.parse::<f64>().is_ok());
            // `[12345] LOG: done`
            let over = |rest: &[u8]| rest.trim_ascii().is_empty();
            is_number
                && match first[number..].trim_ascii_start() {
                    [] | [b',', ..] => true,
                    [b']', rest @ ..] => over(rest),
                    _ => false,
                }
        }
        Some(_) => [b"null".as_slice(), b"true", b"false"]
            .iter()
            .any(|word| first.starts_with(word)),
    }
}

/// JSON as the argument of a function that the client named: `/**/done({`.
fn is_jsonp(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"/**/").unwrap_or(start);
    let is = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_$.".contains(byte);
    let name = start.iter().take_while(is).count();
    // Modules of a page's own program begin so.
    const MODULES: [&[u8]; 5] = [
        b"define",
        b"require",
        b"requirejs",
        b"webpackJsonp",
        b"System.register",
    ];
    if MODULES.contains(&&start[..name]) {
        return false;
    }
    let argument = start.get(name..).and_then(|rest| rest.strip_prefix(b"("));
    name > 0
        && argument.is_some_and(|argument| matches!(argument.trim_ascii_start().first(), Some(b'{' | b'[')))
}

/// A page, whatever it is sent as.
fn is_html(start: &[u8]) -> bool {
    [b"<!doctype html".as_slice(), b"<html"].iter().any(|opening| {
        let begins = start
            .get(..opening.len())
            .is_some_and(|begins| begins.eq_ignore_ascii_case(opening));
        begins
            && start
                .get(opening.len())
                .is_none_or(|next| !next.is_ascii_alphanumeric())
    })
}

/// A message of Socket.IO: one or two digits for its kind, perhaps a number, then JSON. To a reader of JSON the
/// digits are a value of their own.
fn is_packet(start: &[u8]) -> bool {
    let digits = start.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits <= 6 && matches!(start.get(digits..digits + 2), Some([b'[', b'"'] | [b'{', b'"']))
}

/// Control characters that no text has.
fn is_binary(start: &[u8]) -> bool {
    let control = |byte: &&u8| matches!(byte, 0..=8 | 0x0e..=0x1a | 0x7f);
    start.iter().filter(control).count() * 50 > start.len()
}

/// A first line of three names or more, and a second with as many cells.
fn is_csv(start: &[u8]) -> bool {
    let separator = csv::separator(start);
    let cells = |line: &[u8]| line.split(|byte| *byte == separator).count();
    let mut lines = start.split(|byte| *byte == b'\n');
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else {
        return false;
    };
    let named = first
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-. \"\r".contains(byte) || *byte == separator);
    named
        && cells(first) >= 3
        && !second.is_empty()
        && (cells(second) == cells(first) || second.contains(&b'"'))
}

/// `name=value&…` without a space.
fn is_form(start: &[u8]) -> bool {
    let name = start.iter().position(|byte| *byte == b'=').unwrap_or(0);
    name > 0
        && start[..name]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.%[]".contains(byte))
        && !start.iter().any(u8::is_ascii_whitespace)
}
