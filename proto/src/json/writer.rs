//! Writes what `json`'s shapes are made of, and nothing else: a serializer that knows its names are plain.
//!
//! Of a call's line two thirds are names and punctuation, the same every time. A general serializer looks at every byte
//! of them for something to escape; that was most of what a line cost. The tests hold this one against `serde_json`.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

/// Room for a call's line, about.
const LINE_BYTES_ABOUT: usize = 2048;

/// Appends `value` to `out`. Half a value may stay behind an error.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    out.reserve(LINE_BYTES_ABOUT);
    value.serialize(Writer(out))
}

/// A shape that no event has.
#[derive(Debug)]
pub(super) struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no event holds such a value")
    }
}

impl std::error::Error for Unsupported {}

impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Unsupported
    }
}

struct Writer<'o>(&'o mut Vec<u8>);

/// An object or array whose members follow.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
    close: u8,
}

impl Members<'_> {
    #[inline]
    fn next(&mut self) {
        self.out.push(std::mem::replace(&mut self.before, b','));
    }

    #[inline]
    fn end(self) -> Result<(), Unsupported> {
        if self.before != b',' {
            self.out.push(self.before);
        }
        self.out.push(self.close);
        Ok(())
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Unsupported;

    /// Names are identifiers of this crate: nothing in them is escaped. In place, so that each is a few stores.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        let before = std::mem::replace(&mut self.before, b',');
        self.out.extend_from_slice(&[before, b'"']);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.serialize(Writer(self.out))
    }

    #[inline]
    fn end(self) -> Result<(), Unsupported> {
        Members::end(self)
    }
}

impl SerializeSeq for Members<'_> {
    type Ok = ();
    type Error = Unsupported;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.next();
        value.serialize(Writer(self.out))
    }

    #[inline]
    fn end(self) -> Result<(), Unsupported> {
        Members::end(self)
    }
}

type No = Impossible<(), Unsupported>;

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Members<'o>;
    type SerializeStruct = Members<'o>;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStructVariant = No;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Unsupported> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), Unsupported> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), Unsupported> {
        number(value, self.0);
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Unsupported> {
        text(value, self.0);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Unsupported> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, _len: Option<usize>) -> Result<Members<'o>, Unsupported> {
        Ok(Members {
            out: self.0,
            before: b'[',
            close: b']',
        })
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Members<'o>, Unsupported> {
        Ok(Members {
            out: self.0,
            before: b'{',
            close: b'}',
        })
    }

    fn serialize_i8(self, _: i8) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_i16(self, _: i16) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_i32(self, _: i32) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_i64(self, _: i64) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Unsupported> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unsupported> {
        self.serialize_u64(value.into())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_char(self, _: char) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// JSON already: times and numbers in hex with their quotes, and what was written before.
    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unsupported> {
        self.0.extend_from_slice(value);
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_tuple(self, _: usize) -> Result<No, Unsupported> {
        Err(Unsupported)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<No, Unsupported> {
        Err(Unsupported)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unsupported> {
        Err(Unsupported)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<No, Unsupported> {
        Err(Unsupported)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unsupported> {
        Err(Unsupported)
    }
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A string with its quotes (RFC 8259 §7).
fn text(value: &str, out: &mut Vec<u8>) {
    out.reserve(value.len() + 2);
    out.push(b'"');
    if is_plain(value.as_bytes()) {
        out.extend_from_slice(value.as_bytes());
    } else {
        escaped(value, out);
    }
    out.push(b'"');
}

/// Nothing in it is escaped. Eight bytes at a time; the last eight once more, where there are eight.
fn is_plain(bytes: &[u8]) -> bool {
    let odd = |word: &[u8; 8]| odd_bytes(u64::from_le_bytes(*word));
    match bytes.last_chunk::<8>() {
        Some(last) => {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().fold(odd(last), |all, word| all | odd(word)) == 0
        }
        None => !bytes
            .iter()
            .any(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\')),
    }
}

/// Not 0 if one of the bytes is a quotation mark, a backslash or below a blank.
#[inline]
fn odd_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Bytes below n, n ≤ 128, and zero bytes; exact as to whether there is one.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

fn escaped(value: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in value.bytes() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => {
                let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Shape<'a> {
        text: &'a str,
        number: u64,
        small: u32,
        flag: bool,
        none: Option<u32>,
        list: Vec<&'a str>,
        empty: &'a [Inner],
        inner: Option<Inner>,
    }

    #[derive(serde::Serialize)]
    struct Inner {
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<u32>,
    }

    fn check(text: &str, number: u64) {
        let shape = Shape {
            text,
            number,
            small: number as u32,
            flag: number.is_multiple_of(2),
            none: None,
            list: vec![text, "", "plain"],
            empty: &[],
            inner: Some(Inner { left_out: None }),
        };
        let mut out = Vec::new();
        assert!(write(&shape, &mut out).is_ok());
        assert_eq!(String::from_utf8(out).ok(), serde_json::to_string(&shape).ok());
    }

    #[test]
    fn the_same_as_serde_json_writes() {
        for number in [0, 1, 9, 10, 99, 100, u64::from(u32::MAX), u64::MAX] {
            check("/fhir/Patient/{id}", number);
        }
        // Every character of one and two bytes at every place of a word and behind it.
        for character in (0..=0x100u32).filter_map(char::from_u32) {
            for before in 0..10 {
                check(
                    &format!("{}{character}{}", "a".repeat(before), "é".repeat(before % 5)),
                    7,
                );
            }
        }
        check("\u{2028}😀\"\\\u{7f}", 1);
    }

    #[test]
    fn a_shape_without_a_form_is_refused() {
        assert!(write(&1.5f64, &mut Vec::new()).is_err());
    }
}
