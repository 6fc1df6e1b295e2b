//! JSON (RFC 8259) in one pass, tolerant: what is no JSON is stepped over, what is cut gives its beginning, and values
//! after values are a sequence (NDJSON, RFC 7464).
//!
//! Duplicate keys are all visited, numbers are handed on as they are written, and depth costs one bit a level.

use super::{Container, Sink, ValueType, Visit};

/// One bit a level: is it an object?
#[derive(Default)]
struct Levels {
    bits: Vec<u64>,
    depth: usize,
}

impl Levels {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
    }

    fn pop(&mut self) -> bool {
        if self.depth == 0 {
            return false;
        }
        self.depth -= 1;
        true
    }

    fn in_object(&self) -> bool {
        match self.depth.checked_sub(1) {
            Some(at) => self.bits[at / 64] >> (at % 64) & 1 == 1,
            None => false,
        }
    }
}

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let mut levels = Levels::default();
    // The key that the next value belongs to; empty outside of objects.
    let (mut key_text, mut value_text) = (Vec::new(), Vec::new());
    let mut key: &[u8] = b"";
    // Whether `key_text` holds the key, because it had escapes.
    let mut key_escaped = false;
    // In an object, a string is a key until a colon was seen.
    let mut colon = false;
    // Whether the innermost level is an object.
    let mut in_object = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if visit.is_over() {
            break;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'"' => {
                let (end, escaped) = string_end(bytes, at + 1);
                let inside = &bytes[at + 1..end.min(bytes.len())];
                at = end + 1;
                if in_object && !colon {
                    key_escaped = escaped;
                    if escaped {
                        unescape(inside, &mut key_text);
                    } else {
                        key = inside;
                    }
                    // It mostly follows at once.
                    if bytes.get(at) == Some(&b':') {
                        colon = true;
                        at += 1;
                    }
                    continue;
                }
                let value = match escaped {
                    true => {
                        unescape(inside, &mut value_text);
                        value_text.as_slice()
                    }
                    false => inside,
                };
                let name = if key_escaped { key_text.as_slice() } else { key };
                visit.value(name, ValueType::Text, value);
                (key, key_escaped, colon) = (b"", false, false);
            }
            b':' => {
                colon = true;
                at += 1;
            }
            b',' => {
                (key, key_escaped, colon) = (b"", false, false);
                at += 1;
            }
            b'{' | b'[' => {
                let name = if key_escaped { key_text.as_slice() } else { key };
                in_object = byte == b'{';
                let container = match in_object {
                    true => Container::Object,
                    false => Container::Array,
                };
                visit.open(name, container);
                levels.push(in_object);
                (key, key_escaped, colon) = (b"", false, false);
                at += 1;
            }
            b'}' | b']' => {
                if levels.pop() {
                    visit.close();
                }
                in_object = levels.in_object();
                (key, key_escaped, colon) = (b"", false, false);
                at += 1;
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let end = word_end(bytes, at);
                let name = if key_escaped { key_text.as_slice() } else { key };
                let kind = match byte {
                    b'-' | b'0'..=b'9' => ValueType::Number,
                    _ => ValueType::Word,
                };
                visit.value(name, kind, &bytes[at..end]);
                (key, key_escaped, colon) = (b"", false, false);
                at = end;
            }
            _ => at += 1,
        }
    }
    // A body that was cut leaves levels open.
    while levels.pop() {
        visit.close();
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Bytes that are zero, as high bits; exact up to and including the first.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Where the string ends (its closing quote, or the end of what there is), and whether it has escapes.
fn string_end(bytes: &[u8], from: usize) -> (usize, bool) {
    let (mut at, mut escaped) = (from, false);
    loop {
        while let Some(eight) = bytes.get(at..at + 8) {
            // Eight bytes at a time: most strings are too short for anything wider to pay.
            let word = u64::from_le_bytes(eight.try_into().unwrap_or_default());
            let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            None => return (bytes.len(), escaped),
            Some(b'"') => return (at, escaped),
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' | b'_'))
        .map_or(bytes.len(), |length| from + length)
}

/// The text of a string; what is no escape is kept as it is.
fn unescape(inside: &[u8], text: &mut Vec<u8>) {
    text.clear();
    let mut rest = inside;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        let mut used = 2;
        match rest.get(at + 1) {
            Some(b'n') => text.push(b'\n'),
            Some(b't') => text.push(b'\t'),
            Some(b'r') => text.push(b'\r'),
            Some(b'b') => text.push(8),
            Some(b'f') => text.push(12),
            Some(b'u') => {
                let (c, length) = unicode(&rest[at..]);
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                used = length;
            }
            Some(&other) => text.push(other),
            None => used = 1,
        }
        rest = &rest[(at + used).min(rest.len())..];
    }
    text.extend_from_slice(rest);
}

/// `\uXXXX`, or two of them that are a pair: the character, and how long it was.
fn unicode(escape: &[u8]) -> (char, usize) {
    let hex = |at: usize| {
        let digits = std::str::from_utf8(escape.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = hex(2) else {
        return (char::REPLACEMENT_CHARACTER, 2);
    };
    if (0xd800..0xdc00).contains(&first)
        && escape.get(6..8) == Some(b"\\u")
        && let Some(second) = hex(8)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}
