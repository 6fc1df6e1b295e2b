//! Protocol Buffers without a schema (protobuf.dev, Encoding): fields by number. What is text is a value, what is a
//! message all through is looked into, and numbers are handed on in decimal. Messages of gRPC are taken out of their
//! frames first.

use super::{Container, Sink, ValueType, Visit, encoding};

/// Messages within messages.
const DEPTH_MAX: usize = 16;

/// The messages of a gRPC stream: a flag, a length, the message.
pub(super) fn visit_grpc<S: Sink>(mut bytes: &[u8], visit: &mut Visit<'_, S>) {
    visit.open(b"", Container::Array);
    while let [flag, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let message = &rest[..length.min(rest.len())];
        // Trailers of gRPC-Web are text.
        let compressed = flag & 1 == 1;
        if flag & 0x80 == 0 && !visit.is_over() {
            match compressed {
                true => {
                    let limits = visit.limits;
                    let (message, _) = encoding::decode(message, b"gzip", false, &limits);
                    self::visit(&message, visit);
                }
                false => self::visit(message, visit),
            }
        }
        bytes = &rest[length.min(rest.len())..];
    }
    visit.close();
}

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    message(bytes, b"", 0, visit);
}

fn message<S: Sink>(bytes: &[u8], name: &[u8], depth: usize, visit: &mut Visit<'_, S>) {
    visit.open(name, Container::Object);
    let mut rest = bytes;
    while let Some((number, value, after)) = field(rest) {
        if visit.is_over() {
            break;
        }
        rest = after;
        let mut digits = [0; 20];
        match value {
            Value::Bytes(value) => {
                let mut number_digits = [0; 20];
                let name = decimal(number, &mut number_digits);
                if is_text(value) {
                    visit.value(name, ValueType::Text, value);
                } else if depth < DEPTH_MAX && is_message(value) {
                    message(value, name, depth + 1, visit);
                } else {
                    visit.value(name, ValueType::Bytes, value);
                }
            }
            Value::Number(value) => {
                let mut number_digits = [0; 20];
                let name = decimal(number, &mut number_digits);
                visit.value(name, ValueType::Number, decimal(value, &mut digits));
            }
            Value::Fixed => {}
        }
    }
    visit.close();
}

enum Value<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// One field; a value that is cut gives its beginning.
fn field(bytes: &[u8]) -> Option<(u64, Value<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let number = tag >> 3;
    if number == 0 || number >= 1 << 29 {
        return None;
    }
    Some(match tag & 7 {
        0 => {
            let (value, rest) = varint(rest)?;
            (number, Value::Number(value), rest)
        }
        1 => (number, Value::Fixed, rest.get(8..)?),
        5 => (number, Value::Fixed, rest.get(4..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let end = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            (number, Value::Bytes(&rest[..end]), &rest[end..])
        }
        _ => return None,
    })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// Printable UTF-8.
fn is_text(value: &[u8]) -> bool {
    !value.is_empty()
        && std::str::from_utf8(value)
            .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)))
}

/// It is fields from its beginning to its end.
fn is_message(value: &[u8]) -> bool {
    let mut rest = value;
    while !rest.is_empty() {
        let Some((_, _, after)) = field(rest) else {
            return false;
        };
        rest = after;
    }
    !value.is_empty()
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
