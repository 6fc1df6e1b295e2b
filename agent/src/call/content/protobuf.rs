//! Protobuf without a schema, and the messages of a gRPC body.
//!
//! The wire says a field's number and how its bytes are framed, not what they mean. So a length-delimited field is text if
//! it reads like text, a message if it is one to its last byte, and packed numbers if it is short and made of them. A field's
//! name is its number. It must not know what values mean, nor guess at fixed-size fields: most are no whole numbers. Where
//! the configuration has the message's type, `typed` reads it instead.

use std::borrow::Cow;
use std::io::Write as _;

use super::{Container, Sink, ValueType, Visit, encoding, typed};
use crate::call::grpc::Base64;

/// A longer field is a blob: in that, numbers are found everywhere.
const PACKED_BYTES_MAX: usize = 512;
/// Fields of one message that are told apart as repeated or not.
const NUMBERS_MAX: usize = 64;
/// Levels of messages; what is deeper is bytes. Each level is looked at once more than the one above it.
pub(super) const LEVELS_MAX: usize = 16;

/// A field as the wire has it.
pub(super) enum Value<'a> {
    Number(u64),
    /// 32 or 64 bits of whatever they mean.
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// A body of protobuf, or of gRPC if its type says so.
pub(super) fn visit<S: Sink>(content_type: &[u8], bytes: &[u8], visit: &mut Visit<'_, S>) {
    let lower = content_type.to_ascii_lowercase();
    if !lower.starts_with(b"application/grpc") {
        message(bytes, visit);
        return;
    }
    let mut decoded = Vec::new();
    let body = match lower.starts_with(b"application/grpc-web-text") {
        true => {
            // What is no base64 ends it.
            let _ = Base64::default().decode(bytes, &mut decoded);
            decoded.as_slice()
        }
        false => bytes,
    };
    visit.open(b"", Container::Array);
    let mut rest = body;
    while let Some(([flags, length @ ..], after)) = rest.split_first_chunk::<5>() {
        let length = (u32::from_be_bytes(*length) as usize).min(after.len());
        let (message, next) = after.split_at(length);
        rest = next;
        // Trailers of gRPC-Web, or no gRPC at all.
        if *flags > 1 || visit.is_over() {
            break;
        }
        let bytes = match (*flags, message) {
            // The only compression that everybody has; it says so itself.
            (1, [0x1f, 0x8b, ..]) => encoding::decode(message, b"gzip", true, &visit.limits).0,
            (1, _) => continue,
            _ => Cow::Borrowed(message),
        };
        self::message(&bytes, visit);
    }
    visit.close();
}

fn message<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    if let Some(of) = visit.message {
        return typed::message(bytes, of, visit);
    }
    visit.open(b"", Container::Object);
    fields(bytes, LEVELS_MAX, true, visit);
    visit.close();
}

fn fields<S: Sink>(bytes: &[u8], levels: usize, may_be_cut: bool, visit: &mut Visit<'_, S>) {
    let repeated = repeated(bytes);
    let mut rest = bytes;
    while !rest.is_empty() && !visit.is_over() {
        let before = rest;
        let Some((number, value)) = next(&mut rest) else {
            // The last field of a body that was cut.
            if may_be_cut && let Some((number, bytes)) = cut(before) {
                one(number, &Value::Bytes(bytes), false, levels, visit);
            }
            return;
        };
        one(number, &value, repeated.contains(&number), levels, visit);
    }
}

/// A field without a type.
pub(super) fn one<S: Sink>(
    number: u32,
    value: &Value<'_>,
    repeated: bool,
    levels: usize,
    visit: &mut Visit<'_, S>,
) {
    let mut digits = [0u8; 10];
    let digits = decimal(u64::from(number), &mut digits);
    if repeated {
        visit.open(digits, Container::Array);
    }
    let name: &[u8] = if repeated { b"" } else { digits };
    match value {
        Value::Number(number) => {
            let mut digits = [0u8; 20];
            visit.value(name, ValueType::Number, decimal(*number, &mut digits));
        }
        Value::Fixed32(_) | Value::Fixed64(_) => {}
        Value::Bytes(bytes) => delimited(name, bytes, levels, visit),
    }
    if repeated {
        visit.close();
    }
}

/// A field whose bytes are text, a message, packed numbers, or only bytes.
pub(super) fn delimited<S: Sink>(name: &[u8], bytes: &[u8], levels: usize, visit: &mut Visit<'_, S>) {
    if bytes.is_empty() {
        return;
    }
    let text = std::str::from_utf8(bytes).is_ok();
    let controls = |allowed: &[u8]| {
        bytes
            .iter()
            .any(|byte| (*byte < b' ' || *byte == 0x7f) && !allowed.contains(byte))
    };
    if text && !controls(b"") {
        return visit.value(name, ValueType::Text, bytes);
    }
    if levels > 0 && is_message(bytes) {
        visit.open(name, Container::Object);
        fields(bytes, levels - 1, false, visit);
        return visit.close();
    }
    if text && !controls(b"\t\r\n") {
        return visit.value(name, ValueType::Text, bytes);
    }
    if bytes.len() > PACKED_BYTES_MAX || !is_packed(bytes) {
        return visit.value(name, ValueType::Bytes, bytes);
    }
    visit.open(name, Container::Array);
    let mut rest = bytes;
    while let Some(number) = varint(&mut rest) {
        let mut digits = [0u8; 20];
        visit.value(b"", ValueType::Number, decimal(number, &mut digits));
    }
    visit.close();
}

/// The numbers of fields that come more than once.
fn repeated(bytes: &[u8]) -> Vec<u32> {
    let mut seen: Vec<u32> = Vec::new();
    let mut repeated = Vec::new();
    let mut rest = bytes;
    while let Some((number, _)) = next(&mut rest) {
        if !seen.contains(&number) {
            if seen.len() < NUMBERS_MAX {
                seen.push(number);
            }
        } else if !repeated.contains(&number) {
            repeated.push(number);
        }
    }
    repeated
}

/// It is fields to its last byte.
fn is_message(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        if next(&mut rest).is_none() {
            return false;
        }
    }
    true
}

/// It is numbers to its last byte, each as short as it can be.
fn is_packed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest;
        if varint(&mut rest).is_none() {
            return false;
        }
        let length = before.len() - rest.len();
        if length > 1 && before[length - 1] == 0 {
            return false;
        }
    }
    true
}

/// Takes one field off.
pub(super) fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let mut input = *rest;
    let key = varint(&mut input)?;
    let number = u32::try_from(key >> 3)
        .ok()
        .filter(|number| (1..1 << 29).contains(number))?;
    let value = match key & 7 {
        0 => Value::Number(varint(&mut input)?),
        1 => {
            let (bytes, after) = input.split_first_chunk()?;
            input = after;
            Value::Fixed64(*bytes)
        }
        2 => {
            let length = usize::try_from(varint(&mut input)?).ok()?;
            let (bytes, after) = input.split_at_checked(length)?;
            input = after;
            Value::Bytes(bytes)
        }
        5 => {
            let (bytes, after) = input.split_first_chunk()?;
            input = after;
            Value::Fixed32(*bytes)
        }
        // A group is a message between two keys. Hardly anybody writes them, and every receiver passes over them.
        3 => Value::Bytes(group(&mut input, number, GROUPS_DEEP_MAX)?),
        _ => return None,
    };
    *rest = input;
    Some((number, value))
}

/// Groups in groups that are followed.
const GROUPS_DEEP_MAX: u32 = 8;

/// The fields of a group; `rest` begins behind its key, and is left behind its end.
fn group<'a>(rest: &mut &'a [u8], number: u32, levels: u32) -> Option<&'a [u8]> {
    let begin = *rest;
    loop {
        let before = *rest;
        let key = varint(rest)?;
        let other = u32::try_from(key >> 3).ok().filter(|other| *other > 0)?;
        let bytes = match key & 7 {
            0 => {
                varint(rest)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(rest)?).ok()?,
            3 => {
                group(rest, other, levels.checked_sub(1)?)?;
                0
            }
            4 if other == number => return Some(&begin[..begin.len() - before.len()]),
            5 => 4,
            _ => return None,
        };
        *rest = rest.get(bytes..)?;
    }
}

/// A length-delimited field whose end is missing.
pub(super) fn cut(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut input = bytes;
    let key = varint(&mut input)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
    let length = (key & 7 == 2).then(|| varint(&mut input))??;
    (length > input.len() as u64).then_some((number, input))
}

pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    const BYTES_MAX: usize = 10;
    let mut value = 0u64;
    for (at, byte) in rest.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

pub(super) fn decimal(number: u64, room: &mut [u8]) -> &[u8] {
    let length = room.len();
    let mut left = &mut room[..];
    // Room enough is the caller's.
    let _ = write!(left, "{number}");
    let written = length - left.len();
    &room[..written]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Content, ContentLimits, Field, Format};
    use super::*;

    /// Ways and values.
    #[derive(Default)]
    struct Ways {
        way: Vec<(String, bool)>,
        told: Vec<String>,
    }

    impl Sink for Ways {
        fn open(&mut self, name: &[u8], container: Container) {
            self.way.push((
                String::from_utf8_lossy(name).into(),
                container == Container::Array,
            ));
        }
        fn close(&mut self) {
            self.way.pop();
        }
        fn value(&mut self, name: &[u8], _: ValueType, value: &[u8]) {
            let mut way = String::new();
            for (name, is_array) in self
                .way
                .iter()
                .chain([&(String::from_utf8_lossy(name).into(), false)])
            {
                if !name.is_empty() && !way.is_empty() {
                    way.push('.');
                }
                way += name;
                way += if *is_array { "[]" } else { "" };
            }
            self.told.push(format!("{way}={}", value.escape_ascii()));
        }
        fn segment(&mut self, _: Format, _: &[u8]) {}
        fn field(&mut self, _: Field<'_>, _: &[u8]) {}
    }

    fn told(content_type: &str, bytes: &[u8]) -> String {
        let mut ways = Ways::default();
        let content = Content {
            bytes,
            content_type: content_type.as_bytes(),
            content_encoding: b"",
            message: None,
            truncated: false,
        };
        content.visit(&ContentLimits::default(), &mut ways);
        ways.told.join(" ")
    }

    #[test]
    fn fields_without_a_schema() {
        for (bytes, expected) in [
            // int32 = 150 and "testing", from the documentation of the encoding.
            (&b"\x08\x96\x01"[..], "1=150"),
            (b"\x12\x07testing", "2=testing"),
            (b"\x1a\x03\x08\x96\x01", "3.1=150"),
            (b"\x22\x06\x03\x8e\x02\x9e\xa7\x05", "4[]=3 4[]=270 4[]=86942"),
            (b"\x0a\x01a\x10\x05\x0a\x01b", "1[]=a 2=5 1[]=b"),
            (b"\x0a\x05\x0a\x03Ann\x0a\x05\x0a\x03Bob", "1[].1=Ann 1[].1=Bob"),
            (b"\x0d\x01\x02\x03\x04\x09\0\0\0\0\0\0\0\0\x10\x01", "2=1"),
            (b"\x0a\x0dline\none\ntwo!", "1=line\\none\\ntwo!"),
            (b"\x0a\x04\xff\xfe\xfd\xfc", "1=\\xff\\xfe\\xfd\\xfc"),
            // Cut in the last field.
            (b"\x08\x01\x12\x20the beginning", "1=1 2=the beginning"),
            // A group; one whose end is another's; one that says nothing, before a field.
            (b"\x0b\x08\x01\x0c", "1.1=1"),
            (b"\x0b\x08\x01\x14", ""),
            (b"\x0b\x0c\x12\x03Ann", "2=Ann"),
            (b"", ""),
        ] {
            assert_eq!(told("application/x-protobuf", bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn messages_of_grpc() {
        let body = b"\0\0\0\0\x05\x0a\x03Ann\0\0\0\0\x02\x10\x07";
        assert_eq!(
            told("application/grpc", body),
            "[][].1=Ann [][].2=7".replace("[][]", "[]")
        );
        assert_eq!(told("application/grpc-web+proto", body), "[].1=Ann [].2=7");
        assert_eq!(told("application/grpc-web-text", b"AAAAAAUKA0Fubg=="), "[].1=Ann");
        assert_eq!(told("application/grpc", b"\x80\0\0\0\x05a:b\r\n"), "");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(b"\x0a\x03Ann").expect("in memory");
        let packed = packed.finish().expect("in memory");
        let body = [&[1u8][..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
        assert_eq!(told("application/grpc+proto", &body), "[].1=Ann");
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..600), grpc: bool) {
            told(if grpc { "application/grpc" } else { "application/protobuf" }, &bytes);
        }

        #[test]
        fn depth_is_bounded(levels in 0usize..200) {
            let mut bytes = b"\x08\x01".to_vec();
            for _ in 0..levels {
                let mut length = Vec::new();
                let mut left = bytes.len();
                while left >= 0x80 {
                    length.push(left as u8 | 0x80);
                    left >>= 7;
                }
                length.push(left as u8);
                bytes = [&[0x0a][..], &length, &bytes].concat();
            }
            let text = told("application/protobuf", &bytes);
            let ways = text.split(' ').map(|one| one.split('=').next().unwrap_or_default());
            prop_assert!(ways.map(|way| way.matches('.').count()).all(|dots| dots <= LEVELS_MAX + 1));
        }
    }
}
