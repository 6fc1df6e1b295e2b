//! Character sets → UTF-8, by encoding_rs: a byte order mark, else the `charset` of the media type, else what the format
//! itself declares (the XML declaration, MSH-18), else what cannot be UTF-8 is taken as Windows-1252, which every byte
//! can be.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Format;

/// Bytes in which a declaration has to stand.
const DECLARATION_BYTES_MAX: usize = 256;

pub(super) fn to_utf8<'a>(content_type: &[u8], format: Format, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, length)) if encoding == UTF_8 => return Cow::Borrowed(&bytes[length..]),
        Some((encoding, _)) => encoding,
        None => match named(content_type, format, bytes) {
            Some(encoding) => encoding,
            None => match bytes {
                [0, first, ..] if *first != 0 => UTF_16BE,
                [first, 0, ..] if *first != 0 => UTF_16LE,
                _ => UTF_8,
            },
        },
    };
    if encoding == UTF_8 {
        if std::str::from_utf8(bytes).is_ok_or_cut() {
            return Cow::Borrowed(bytes);
        }
        return owned(WINDOWS_1252, bytes);
    }
    owned(encoding, bytes)
}

fn owned<'a>(encoding: &'static Encoding, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    match encoding.decode(bytes).0 {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

trait IsOkOrCut {
    /// A character that was cut off at the end is no reason to doubt the rest.
    fn is_ok_or_cut(&self) -> bool;
}

impl IsOkOrCut for Result<&str, std::str::Utf8Error> {
    fn is_ok_or_cut(&self) -> bool {
        match self {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        }
    }
}

fn named(content_type: &[u8], format: Format, bytes: &[u8]) -> Option<&'static Encoding> {
    if let Some(charset) = parameter(content_type, b"charset") {
        return Encoding::for_label(charset);
    }
    let start = &bytes[..bytes.len().min(DECLARATION_BYTES_MAX)];
    match format {
        Format::Xml if start.starts_with(b"<?xml") => {
            let declaration = start.split(|byte| *byte == b'>').next()?;
            let at = memchr::memmem::find(declaration, b"encoding=")? + 9;
            let quote = *declaration.get(at)?;
            Encoding::for_label(declaration[at + 1..].split(|byte| *byte == quote).next()?)
        }
        Format::Hl7v2 => {
            let at = memchr::memmem::find(start, b"MSH")?;
            let separator = *start.get(at + 3)?;
            let line = start[at..].split(|byte| *byte == b'\r').next()?;
            let name = line.split(|byte| *byte == separator).nth(17)?;
            let name = name.split(|byte| *byte == b'~').next()?;
            // HL7 table 0211 has names of its own.
            match name {
                b"UNICODE UTF-8" | b"UNICODE" | b"ASCII" | b"" => None,
                _ => Encoding::for_label(
                    &name
                        .iter()
                        .map(|byte| if *byte == b'/' { b'-' } else { *byte })
                        .collect::<Vec<_>>(),
                ),
            }
        }
        _ => None,
    }
}

/// `text/html; charset="utf-8"` → `utf-8`
pub(super) fn parameter<'a>(content_type: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = &content_type[memchr::memchr(b';', content_type)? + 1..];
    loop {
        let equals = memchr::memchr(b'=', rest)?;
        let key = rest[..equals].trim_ascii();
        let value = &rest[equals + 1..];
        let (value, after) = match value.first() {
            Some(b'"') => {
                let end = memchr::memchr(b'"', &value[1..]).map_or(value.len(), |length| length + 1);
                (&value[1..end], &value[end..])
            }
            _ => {
                let end = memchr::memchr(b';', value).unwrap_or(value.len());
                (value[..end].trim_ascii(), &value[end..])
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = &after[memchr::memchr(b';', after)? + 1..];
    }
}
