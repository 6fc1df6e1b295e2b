//! Contents within values: JSON, XML, HL7 v2 or X12 in a string, base64 of a text, a `data:` URL, a GraphQL document. They are walked where they
//! stand, as if they were part of what they are in.
//!
//! Bounded by levels and by bytes of one body. What is neither is left to who looks at values.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::keys::Role;
use super::*;

/// Contents within contents.
const LEVELS_MAX: u8 = 2;
/// Bytes of all contents within one body.
pub(super) const EMBEDDED_BYTES_MAX: usize = 1 << 20;
/// A shorter one is a word.
const BASE64_BYTES_MIN: usize = 24;
/// The same of what begins with the name of a segment.
const ENVELOPE_BYTES_MIN: usize = 40;
/// What tells whether it is text.
const BEGINNING_BYTES: usize = 512;

const JSON: &[u8] = b"application/json";
const XML: &[u8] = b"application/xml";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Walk {
    /// Whether the value was a content, which was looked into.
    pub(super) fn embedded(&mut self, key: Key, name: &[u8], value: &[u8]) -> bool {
        if self.embedded_levels >= LEVELS_MAX || value.len() < 8 {
            return false;
        }
        let Some((content_type, bytes)) = content(key, name, value, self.embedded_left) else {
            return false;
        };
        self.embedded_left = self.embedded_left.saturating_sub(bytes.len());
        self.embedded_levels += 1;
        let before = self.values_seen;
        let segment = std::mem::take(&mut self.segment);
        Sink::open(self, name, Container::Object);
        if let Some(frame) = self.frames.last_mut()
            && frame.owner != Owner::Definition
        {
            // Whose it is stays; what its elements are is its own.
            frame.resource = Resource::None;
        }
        let content = Content {
            bytes: &bytes,
            content_type,
            content_encoding: b"",
            message: None,
            truncated: false,
        };
        content.visit(&ContentLimits::default(), self);
        self.field_ends();
        Sink::close(self);
        self.segment = segment;
        self.embedded_levels -= 1;
        // Braces, or tags, with a text between them that is no value of anything: then it is a text with those.
        !matches!(content_type, JSON | XML) || self.values_seen != before
    }
}

/// What the value is, decoded; `left`: bytes that may be decoded.
fn content<'v>(
    key: Key,
    name: &[u8],
    value: &'v [u8],
    left: usize,
) -> Option<(&'static [u8], Cow<'v, [u8]>)> {
    // What is too much to be looked into is looked at as text.
    if left < value.len() {
        return None;
    }
    let within = |value: &'v [u8]| Cow::Borrowed(value);
    match value.first()? {
        b'{' | b'[' if is_json(value) => return Some((JSON, within(value))),
        b'<' if value.starts_with(b"<?xml") || is_xml(value) => {
            return Some((b"application/xml", within(value)));
        }
        b'M' if value.starts_with(b"MSH")
            // Four or five signs, the fifth for what is cut short (v2.7).
            && value
                .get(3..8)
                .is_some_and(|signs| signs.iter().all(u8::is_ascii_punctuation))
            && (value.get(3) == value.get(8) || value.get(3) == value.get(9))
            && value.len() > ENVELOPE_BYTES_MIN =>
        {
            return Some((b"application/hl7-v2", within(value)));
        }
        b'I' if value.starts_with(b"ISA") && value.len() > ENVELOPE_BYTES_MIN => {
            return Some((b"application/edi-x12", within(value)));
        }
        b'd' if value.starts_with(b"data:") => {
            let comma = memchr::memchr(b',', &value[..value.len().min(128)])?;
            let encoded = value[..comma]
                .ends_with(b";base64")
                .then_some(&value[comma + 1..])?;
            return Some((b"", Cow::Owned(text(encoded, left)?)));
        }
        _ => {}
    }
    if name == b"query" && is_graphql(value) {
        return Some((b"application/graphql", within(value)));
    }
    if key.role == Role::Encoded && value.len() >= BASE64_BYTES_MIN {
        return Some((b"", Cow::Owned(text(value, left)?)));
    }
    None
}

/// A document to its last byte, and no text with marks of how it looks.
fn is_xml(value: &[u8]) -> bool {
    /// Elements of HTML that texts begin with.
    const MARKS: &[&[u8]] = &[
        b"blockquote",
        b"header",
        b"footer",
        b"main",
        b"nav",
        b"dl",
        b"sup",
        b"sub",
        b"s",
        b"tt",
        b"abbr",
        b"details",
        b"figure",
        b"aside",
        b"mark",
        b"q",
        b"cite",
        b"kbd",
        b"samp",
        b"var",
        b"time",
        b"video",
        b"audio",
        b"canvas",
        b"iframe",
        b"object",
        b"html",
        b"body",
        b"head",
        b"div",
        b"span",
        b"p",
        b"b",
        b"i",
        b"u",
        b"a",
        b"br",
        b"hr",
        b"em",
        b"strong",
        b"ul",
        b"ol",
        b"li",
        b"table",
        b"img",
        b"svg",
        b"pre",
        b"code",
        b"font",
        b"center",
        b"section",
        b"article",
        b"small",
        b"style",
        b"script",
        b"form",
        b"input",
        b"button",
        b"label",
    ];
    let name = &value[1..];
    let length = name
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(byte))
        .count();
    let name = &name[..length];
    let is_mark = MARKS.iter().any(|mark| name.eq_ignore_ascii_case(mark))
        || matches!(name, [b'h' | b'H', b'1'..=b'6']);
    let ends = value
        .trim_ascii_end()
        .strip_suffix(b">")
        .and_then(|rest| rest.strip_suffix(name));
    // A comment is no value.
    let is_whole = memchr::memmem::find(value, b"<!").is_none();
    is_whole
        && name.first().is_some_and(u8::is_ascii_alphabetic)
        && !is_mark
        && ends.is_some_and(|rest| rest.ends_with(b"</"))
}

/// An object, or a list of them, to its last byte.
fn is_json(value: &[u8]) -> bool {
    // A key alone would be taken for one, and its string for no value.
    memchr::memchr(b':', value).is_some() && is_braced(value)
}

fn is_braced(value: &[u8]) -> bool {
    let (inner, last) = match value.strip_prefix(b"[") {
        Some(inner) => (inner.trim_ascii_start(), b']'),
        None => (value, b'}'),
    };
    inner
        .strip_prefix(b"{")
        .is_some_and(|inner| inner.trim_ascii_start().starts_with(b"\""))
        && value.trim_ascii_end().ends_with(&[last])
}

fn is_graphql(value: &[u8]) -> bool {
    let mut start = value.trim_ascii_start();
    // Comments before it (GraphQL §2.1.2).
    while start.starts_with(b"#") {
        let end = memchr::memchr2(b'\n', b'\r', start).unwrap_or(start.len());
        start = start[end..].trim_ascii_start();
    }
    let begins = [
        b"{".as_slice(),
        b"query",
        b"mutation",
        b"subscription",
        b"fragment",
    ];
    begins.iter().any(|word| start.starts_with(word)) && start.contains(&b'{') && start.contains(&b'(')
}

/// Base64 of text.
fn text(encoded: &[u8], left: usize) -> Option<Vec<u8>> {
    let beginning = decode(&encoded[..encoded.len().min(BEGINNING_BYTES)])?;
    let valid = match std::str::from_utf8(&beginning) {
        Ok(_) => beginning.len(),
        // A character may be cut.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return None,
    };
    let control = |byte: &u8| *byte < b' ' && !b"\t\r\n\x0b\x0c\x1c".contains(byte) || *byte == 0x7f;
    if valid < 8 || beginning.iter().any(control) {
        return None;
    }
    decode(&encoded[..encoded.len().min(left / 3 * 4)])
}

/// As many whole groups as there are.
fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Cow::Borrowed(encoded);
    if encoded.iter().any(u8::is_ascii_whitespace) {
        plain = encoded
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
    }
    let whole = match plain.len() % 4 {
        1 => plain.len() - 1,
        _ => plain.len(),
    };
    BASE64
        .decode(&plain[..whole])
        .ok()
        .filter(|decoded| !decoded.is_empty())
}
