//! Protobuf whose types are known: fields by their names, and what stands for something else as that.
//!
//! A field whose bytes are not what its type says is of another version of the type: it is read as if there was none. What
//! comes of a map's keys is the peer's, like the keys of JSON. It must not know where types come from.

use std::io::Write as _;

use super::protobuf::{self, LEVELS_MAX, Value, cut, decimal, delimited, next, varint};
use super::schema::{FieldKind, FieldType, Meaning, MessageType, Width};
use super::{Container, Sink, ValueType, Visit};

/// Levels of messages; what is deeper is bytes. Each byte is looked at once, whatever its level.
pub(super) const TYPED_LEVELS_MAX: usize = 48;
const SECONDS_PER_DAY: i64 = 86_400;

/// A message that stands by itself.
pub(super) fn message<S: Sink>(bytes: &[u8], of: MessageType<'_>, visit: &mut Visit<'_, S>) {
    visit.open(b"", Container::Object);
    fields(bytes, of, b"", TYPED_LEVELS_MAX, true, visit);
    visit.close();
}

/// `outer`: the name of the field that the message is in.
fn fields<S: Sink>(
    bytes: &[u8],
    of: MessageType<'_>,
    outer: &[u8],
    levels: usize,
    may_be_cut: bool,
    visit: &mut Visit<'_, S>,
) {
    let mut rest = bytes;
    // A repeated field's elements stand together as everybody writes them.
    let mut open: Option<u32> = None;
    while !rest.is_empty() && !visit.is_over() {
        let before = rest;
        let mut is_cut = false;
        let found = match next(&mut rest) {
            Some(found) => Some(found),
            None => {
                rest = b"";
                is_cut = true;
                may_be_cut
                    .then(|| cut(before))
                    .flatten()
                    .map(|(number, bytes)| (number, Value::Bytes(bytes)))
            }
        };
        let Some((number, value)) = found else {
            break;
        };
        let known = of.field(number).filter(|field| agrees(field, &value));
        if open.is_some_and(|open| open != number || known.is_none()) {
            visit.close();
            open = None;
        }
        let Some(field) = known else {
            protobuf::one(number, &value, false, LEVELS_MAX, visit);
            continue;
        };
        let name = match of.meaning() {
            Meaning::Content => outer,
            _ => field.name.as_bytes(),
        };
        let inner = match field.kind {
            FieldKind::Message(at) => of.of_field(at),
            _ => None,
        };
        let is_map = field.repeated && inner.is_some_and(|inner| inner.meaning() == Meaning::Entry);
        if field.repeated && open.is_none() {
            visit.open(
                name,
                if is_map {
                    Container::Object
                } else {
                    Container::Array
                },
            );
            open = Some(number);
        }
        let name = if field.repeated { b"" } else { name };
        match (inner, &value) {
            (Some(inner), Value::Bytes(bytes)) if is_map => entry(bytes, inner, levels, visit),
            (inner, _) => one(field, name, &value, inner, levels, is_cut, visit),
        }
    }
    if open.is_some() {
        visit.close();
    }
}

/// The bytes on the wire can be what the type says.
fn agrees(field: &FieldType, value: &Value<'_>) -> bool {
    use FieldKind as K;
    match (field.kind, value) {
        (K::Signed | K::Unsigned | K::ZigZag | K::Word, Value::Number(_)) => true,
        (K::Fixed(width) | K::SignedFixed(width), Value::Fixed32(_)) => width == Width::Four,
        (K::Fixed(width) | K::SignedFixed(width), Value::Fixed64(_)) => width == Width::Eight,
        (K::Float, Value::Fixed32(_) | Value::Fixed64(_)) => true,
        (K::Text | K::Bytes | K::Message(_), Value::Bytes(_)) => true,
        // Packed.
        (_, Value::Bytes(_)) => field.repeated,
        _ => false,
    }
}

fn one<S: Sink>(
    field: &FieldType,
    name: &[u8],
    value: &Value<'_>,
    inner: Option<MessageType<'_>>,
    levels: usize,
    is_cut: bool,
    visit: &mut Visit<'_, S>,
) {
    match (field.kind, value) {
        (FieldKind::Text, Value::Bytes(bytes)) => visit.value(name, ValueType::Text, bytes),
        // Whoever puts text or a message in there does not say so.
        (FieldKind::Bytes, Value::Bytes(bytes)) => delimited(name, bytes, LEVELS_MAX, visit),
        (FieldKind::Message(_), Value::Bytes(bytes)) => match inner {
            Some(inner) if levels > 0 => within(name, bytes, inner, levels - 1, is_cut, visit),
            _ => visit.value(name, ValueType::Bytes, bytes),
        },
        (kind, Value::Bytes(bytes)) => packed(kind, name, bytes, visit),
        (kind, value) => number(kind, name, value, visit),
    }
}

/// A message in a field.
fn within<S: Sink>(
    name: &[u8],
    bytes: &[u8],
    of: MessageType<'_>,
    levels: usize,
    is_cut: bool,
    visit: &mut Visit<'_, S>,
) {
    let mut room = [0u8; 40];
    match of.meaning() {
        Meaning::Content => fields(bytes, of, name, levels, is_cut, visit),
        Meaning::Timestamp => {
            let text = timestamp(bytes, &mut room);
            visit.value(name, ValueType::Text, text);
        }
        Meaning::Date => {
            let text = date(bytes, &mut room);
            visit.value(name, ValueType::Text, text);
        }
        Meaning::Any => any(name, bytes, of, levels, visit),
        Meaning::Fields | Meaning::Entry => {
            visit.open(name, Container::Object);
            fields(bytes, of, name, levels, is_cut, visit);
            visit.close();
        }
    }
}

/// An entry of a map: a value with the key as its name.
fn entry<S: Sink>(bytes: &[u8], of: MessageType<'_>, levels: usize, visit: &mut Visit<'_, S>) {
    let mut room = [0u8; 20];
    let (mut key, mut value): (&[u8], Option<Value<'_>>) = (b"", None);
    let mut number = None;
    let mut rest = bytes;
    while let Some((at, found)) = next(&mut rest) {
        match (at, found) {
            (1, Value::Bytes(bytes)) => key = bytes,
            (1, Value::Number(found)) => number = Some(found),
            (2, found) => value = Some(found),
            _ => {}
        }
    }
    if let Some(number) = number {
        key = decimal(number, &mut room);
    }
    let (Some(value), Some(field)) = (value, of.field(2)) else {
        return;
    };
    if !agrees(field, &value) {
        return protobuf::one(2, &value, false, LEVELS_MAX, visit);
    }
    let inner = match field.kind {
        FieldKind::Message(at) => of.of_field(at),
        _ => None,
    };
    one(field, key, &value, inner, levels, false, visit);
}

fn any<S: Sink>(name: &[u8], bytes: &[u8], of: MessageType<'_>, levels: usize, visit: &mut Visit<'_, S>) {
    let (mut kind, mut content): (&[u8], &[u8]) = (b"", b"");
    let mut rest = bytes;
    while let Some((at, found)) = next(&mut rest) {
        match (at, found) {
            (1, Value::Bytes(bytes)) => kind = bytes,
            (2, Value::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    match of.named(kind) {
        Some(inner) if levels > 0 => within(name, content, inner, levels - 1, false, visit),
        _ => delimited(name, content, LEVELS_MAX, visit),
    }
}

fn number<S: Sink>(kind: FieldKind, name: &[u8], value: &Value<'_>, visit: &mut Visit<'_, S>) {
    let mut room = [0u8; 40];
    let mut put = |visit: &mut Visit<'_, S>, arguments: std::fmt::Arguments<'_>| {
        let text = written(&mut room, arguments);
        visit.value(name, ValueType::Number, text);
    };
    match (kind, value) {
        (FieldKind::Word, Value::Number(number)) => {
            let text = written(&mut room, format_args!("{number}"));
            visit.value(name, ValueType::Word, text);
        }
        (FieldKind::Signed, Value::Number(number)) => put(visit, format_args!("{}", *number as i64)),
        (FieldKind::ZigZag, Value::Number(number)) => {
            let plain = (number >> 1) as i64 ^ -((number & 1) as i64);
            put(visit, format_args!("{plain}"));
        }
        (_, Value::Number(number)) => put(visit, format_args!("{number}")),
        (FieldKind::SignedFixed(_), Value::Fixed32(bytes)) => {
            put(visit, format_args!("{}", i32::from_le_bytes(*bytes)));
        }
        (FieldKind::SignedFixed(_), Value::Fixed64(bytes)) => {
            put(visit, format_args!("{}", i64::from_le_bytes(*bytes)));
        }
        (FieldKind::Fixed(_), Value::Fixed32(bytes)) => {
            put(visit, format_args!("{}", u32::from_le_bytes(*bytes)));
        }
        (FieldKind::Fixed(_), Value::Fixed64(bytes)) => {
            put(visit, format_args!("{}", u64::from_le_bytes(*bytes)));
        }
        // In the short form: very large and very small ones would fill a page.
        (_, Value::Fixed32(bytes)) => put(visit, format_args!("{:?}", f32::from_le_bytes(*bytes))),
        (_, Value::Fixed64(bytes)) => put(visit, format_args!("{:?}", f64::from_le_bytes(*bytes))),
        (_, Value::Bytes(_)) => {}
    }
}

fn packed<S: Sink>(kind: FieldKind, name: &[u8], bytes: &[u8], visit: &mut Visit<'_, S>) {
    let mut rest = bytes;
    while !rest.is_empty() && !visit.is_over() {
        let value = match kind {
            // Measurements: nothing that tells anything by itself.
            FieldKind::Float => return,
            FieldKind::Fixed(Width::Four) | FieldKind::SignedFixed(Width::Four) => {
                take(&mut rest).map(Value::Fixed32)
            }
            FieldKind::Fixed(Width::Eight) | FieldKind::SignedFixed(Width::Eight) => {
                take(&mut rest).map(Value::Fixed64)
            }
            _ => varint(&mut rest).map(Value::Number),
        };
        let Some(value) = value else { return };
        number(kind, name, &value, visit);
    }
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn written<'r>(room: &'r mut [u8], arguments: std::fmt::Arguments<'_>) -> &'r [u8] {
    let length = room.len();
    let mut left = &mut room[..];
    // What does not fit is left out.
    let _ = left.write_fmt(arguments);
    let used = length - left.len();
    &room[..used]
}

/// `1980-02-03`, or `1980-02-03T10:11:12Z`.
fn timestamp<'r>(bytes: &[u8], room: &'r mut [u8]) -> &'r [u8] {
    let mut seconds = 0i64;
    let mut rest = bytes;
    while let Some((at, found)) = next(&mut rest) {
        if let (1, Value::Number(number)) = (at, found) {
            seconds = number as i64;
        }
    }
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    match seconds.rem_euclid(SECONDS_PER_DAY) {
        0 => written(room, format_args!("{year:04}-{month:02}-{day:02}")),
        within => {
            let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
            written(
                room,
                format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
            )
        }
    }
}

fn date<'r>(bytes: &[u8], room: &'r mut [u8]) -> &'r [u8] {
    let (mut year, mut month, mut day) = (0, 0, 0);
    let mut rest = bytes;
    while let Some((at, found)) = next(&mut rest) {
        match (at, found) {
            (1, Value::Number(number)) => year = number,
            (2, Value::Number(number)) => month = number,
            (3, Value::Number(number)) => day = number,
            _ => {}
        }
    }
    written(room, format_args!("{year:04}-{month:02}-{day:02}"))
}

/// Days since 1970 → year, month, day of the Gregorian calendar. Years begin in March, so that a leap day is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    // Since the first of March of the year 0; what is out of every calendar stays in one.
    let days = days.clamp(-(1 << 40), 1 << 40) + 719_468;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::super::schema::{MessageFields, Schema};
    use super::super::{Content, ContentLimits, Field, Format};
    use super::*;

    #[derive(Default)]
    struct Numbers(Vec<String>);

    impl Sink for Numbers {
        fn open(&mut self, _: &[u8], _: Container) {}
        fn close(&mut self) {}
        fn value(&mut self, _: &[u8], _: ValueType, value: &[u8]) {
            self.0.push(String::from_utf8_lossy(value).into());
        }
        fn segment(&mut self, _: Format, _: &[u8]) {}
        fn field(&mut self, _: Field<'_>, _: &[u8]) {}
    }

    #[test]
    fn packed_numbers_of_fixed_size_are_told() {
        let nine: &[u8] = b"\x09\0\0\0\xff\xff\xff\xff\x01\0\0\0\0\0\0\0";
        for (kind, expected) in [
            (FieldKind::Fixed(Width::Four), &["9", "4294967295", "1", "0"][..]),
            (FieldKind::SignedFixed(Width::Four), &["9", "-1", "1", "0"]),
            (FieldKind::Fixed(Width::Eight), &["18446744069414584329", "1"]),
            (FieldKind::SignedFixed(Width::Eight), &["-4294967287", "1"]),
            (FieldKind::Float, &[]),
        ] {
            let field = FieldType {
                number: 1,
                name: "mrn".into(),
                kind,
                repeated: true,
            };
            let message = MessageFields {
                name: "a.B".into(),
                meaning: Meaning::Fields,
                fields: vec![field],
            };
            let method = super::super::schema::Method {
                path: "a.C/D".into(),
                takes: 0,
                gives: 0,
            };
            let schema = Schema::new(vec![message], vec![method]);
            let bytes = [b"\x0a\x10", nine].concat();
            let content = Content {
                bytes: &bytes,
                content_type: b"application/x-protobuf",
                content_encoding: b"",
                message: schema.method("/a.C/D").map(|(takes, _)| takes),
                truncated: false,
            };
            let mut numbers = Numbers::default();
            content.visit(&ContentLimits::default(), &mut numbers);
            assert_eq!(numbers.0, expected, "{kind:?}");
        }
    }

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (-25_508, (1900, 3, 1)),
            (-25_509, (1900, 2, 28)),
            (20_818, (2026, 12, 31)),
        ] {
            assert_eq!(civil(days), expected);
        }
    }
}
