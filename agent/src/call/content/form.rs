//! `application/x-www-form-urlencoded` and query strings (WHATWG URL, section 5.1).

use super::nested::Nested;
use super::{Container, Sink, Visit};

/// `dots`: names with them are of a structure, as those with brackets are.
pub(super) fn visit<S: Sink>(bytes: &[u8], dots: bool, visit: &mut Visit<'_, S>) {
    visit.open(b"", Container::Object);
    let mut nested = Nested::new(dots);
    for pair in bytes.split(|byte| *byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        if visit.is_over() {
            break;
        }
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[..0]),
        };
        let (name, value) = (decode(name), decode(value));
        nested.value(&name, &value, visit);
    }
    nested.end(visit);
    visit.close();
}

/// `%41+b` → `A b`; a broken escape stays.
fn decode(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return text.into();
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out.into()
}
