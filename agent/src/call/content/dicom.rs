//! DICOM files (PS3.10), which DICOMweb stores and gives: the attributes of the data set that are text, each under its tag
//! as in the DICOM JSON model (PS3.18 annex F).
//!
//! Pixels and other binary values are stepped over by their length, never looked at. A file that was cut gives what was
//! seen. It must not know which attributes are about a person.

use encoding_rs::{Encoding, WINDOWS_1252};

use super::{Container, ContentLimits, Sink, ValueType, Visit, encoding};

/// Where `DICM` stands (PS3.10 §7.1).
const PREAMBLE_BYTES: usize = 128;
/// Sequences and items within each other; what is deeper is stepped over.
const LEVELS_MAX: usize = 32;
/// Longest text that is handed on; reports in `UT` can be long, and what comes later is not lost by that.
const TEXT_BYTES_MAX: usize = 64 * 1024;
const UNDEFINED: u32 = u32::MAX;
const META_GROUP: u16 = 0x0002;
const CHARACTER_SET: (u16, u16) = (0x0008, 0x0005);
const TRANSFER_SYNTAX: (u16, u16) = (0x0002, 0x0010);
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const ITEM_END: (u16, u16) = (0xfffe, 0xe00d);
const SEQUENCE_END: (u16, u16) = (0xfffe, 0xe0dd);

/// It is a file of DICOM. Some libraries leave the preamble out and begin with the meta information.
pub(super) fn is(bytes: &[u8]) -> bool {
    meta_at(bytes).is_some()
}

/// Where the meta information begins.
fn meta_at(bytes: &[u8]) -> Option<usize> {
    // Behind it stands the group of the meta information, which no text has: four letters alone hide nothing.
    if bytes.get(PREAMBLE_BYTES..PREAMBLE_BYTES + 6) == Some(b"DICM\x02\x00") {
        return Some(PREAMBLE_BYTES + 4);
    }
    let bare = matches!(
        bytes,
        [2, 0, _, 0, b'U', b'L' | b'I', ..] | [2, 0, _, 0, b'O', b'B', ..]
    );
    bare.then_some(0)
}

/// How a data set is written (PS3.5 annex A).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    ImplicitLittle,
    ExplicitLittle,
    /// Retired, and still in archives.
    ExplicitBig,
}

/// A sequence or an item that is open, and where it ends if its length says so.
struct Level {
    item: bool,
    end: Option<usize>,
}

struct Element<'a> {
    tag: (u16, u16),
    /// Two letters; of implicit syntax `\0\0`.
    vr: [u8; 2],
    length: u32,
    /// As far as it was captured; empty where the length is undefined.
    value: &'a [u8],
    cut: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    syntax: Syntax,
}

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let Some(at) = meta_at(bytes) else {
        return;
    };
    let mut reader = Reader {
        bytes,
        at,
        syntax: Syntax::ExplicitLittle,
    };
    let mut syntax: &[u8] = b"";
    // The meta information is always explicit and little.
    while let Some(element) = reader.peek().filter(|element| element.tag.0 == META_GROUP) {
        if element.tag == TRANSFER_SYNTAX {
            syntax = trimmed(element.value);
        }
        reader.pass(&element);
    }
    let rest = bytes.get(reader.at..).unwrap_or_default();
    let limits = visit.limits;
    match syntax {
        b"1.2.840.10008.1.2" => data_set(rest, Syntax::ImplicitLittle, visit),
        b"1.2.840.10008.1.2.2" => data_set(rest, Syntax::ExplicitBig, visit),
        b"1.2.840.10008.1.2.1.99" => {
            data_set(&inflated(rest, &limits), Syntax::ExplicitLittle, visit);
        }
        _ => data_set(rest, Syntax::ExplicitLittle, visit),
    }
}

fn inflated(bytes: &[u8], limits: &ContentLimits) -> Vec<u8> {
    encoding::decode(bytes, b"deflate", true, limits).0.into_owned()
}

fn data_set<S: Sink>(bytes: &[u8], syntax: Syntax, visit: &mut Visit<'_, S>) {
    let mut reader = Reader { bytes, at: 0, syntax };
    let mut levels: Vec<Level> = Vec::new();
    let mut charset = None;
    visit.open(b"", Container::Object);
    while !visit.is_over() {
        while levels
            .last()
            .is_some_and(|level| level.end.is_some_and(|end| reader.at >= end))
        {
            leave(&mut levels, visit);
        }
        let Some(element) = reader.peek() else {
            break;
        };
        let end =
            |from: usize| (element.length != UNDEFINED).then(|| from.saturating_add(element.length as usize));
        match element.tag {
            ITEM => {
                reader.at += 8;
                if levels.last().is_none_or(|level| level.item) {
                    // An item of what is no sequence: fragments of pixels, or nonsense.
                    break;
                }
                levels.push(Level {
                    item: true,
                    end: end(reader.at),
                });
                visit.open(b"", Container::Object);
                continue;
            }
            ITEM_END | SEQUENCE_END => {
                reader.at += 8;
                let item = element.tag == ITEM_END;
                if levels.last().is_some_and(|level| level.item == item) {
                    leave(&mut levels, visit);
                }
                continue;
            }
            _ => {}
        }
        let is_sequence = match &element.vr {
            b"SQ" => true,
            b"\0\0" => element.length == UNDEFINED || starts_item(&element),
            _ => false,
        };
        if is_sequence && levels.len() < LEVELS_MAX {
            reader.at = reader.value_at(&element);
            levels.push(Level {
                item: false,
                end: end(reader.at),
            });
            visit.open(&name(element.tag), Container::Object);
            visit.open(b"Value", Container::Array);
            continue;
        }
        if element.length == UNDEFINED {
            // Fragments of pixels, or what the sender itself could not tell: nothing about a person comes after them.
            break;
        }
        if element.tag == CHARACTER_SET {
            charset = charset_of(element.value);
        } else {
            attribute(&element, charset, visit);
        }
        if element.cut {
            break;
        }
        reader.pass(&element);
    }
    while !levels.is_empty() {
        leave(&mut levels, visit);
    }
    visit.close();
}

fn leave<S: Sink>(levels: &mut Vec<Level>, visit: &mut Visit<'_, S>) {
    if let Some(level) = levels.pop() {
        visit.close();
        if !level.item {
            visit.close();
        }
    }
}

/// Its value begins with an item of a sequence.
fn starts_item(element: &Element<'_>) -> bool {
    element.value.starts_with(&[0xfe, 0xff, 0x00, 0xe0])
}

fn attribute<S: Sink>(element: &Element<'_>, charset: Option<&'static Encoding>, visit: &mut Visit<'_, S>) {
    let kind = match &element.vr {
        b"AE" | b"AS" | b"CS" | b"DA" | b"DT" | b"LO" | b"LT" | b"PN" | b"SH" | b"ST" | b"TM" | b"UC"
        | b"UR" | b"UT" => ValueType::Text,
        b"DS" | b"IS" => ValueType::Number,
        b"\0\0" if is_text(element.value) => ValueType::Text,
        _ => return,
    };
    let value = &element.value[..element.value.len().min(TEXT_BYTES_MAX)];
    if trimmed(value).is_empty() {
        return;
    }
    let text = match (charset, std::str::from_utf8(value)) {
        (None, Ok(text)) => text.into(),
        (Some(charset), _) => charset.decode_without_bom_handling(value).0,
        (None, Err(_)) => WINDOWS_1252.decode_without_bom_handling(value).0,
    };
    let text = text.as_bytes();
    let is_name = element.vr == *b"PN";
    visit.open(&name(element.tag), Container::Object);
    visit.open(b"Value", Container::Array);
    match &element.vr {
        // One text, whatever is in it.
        b"LT" | b"ST" | b"UT" | b"UR" => visit.value(b"", kind, trimmed(text)),
        _ => {
            for one in text.split(|byte| *byte == b'\\').map(trimmed) {
                if visit.is_over() || one.is_empty() {
                    continue;
                }
                match is_name {
                    true => person(one, visit),
                    false => visit.value(b"", kind, one),
                }
            }
        }
    }
    visit.close();
    visit.close();
}

/// A name in up to three scripts (PS3.5 §6.2.1).
fn person<S: Sink>(one: &[u8], visit: &mut Visit<'_, S>) {
    visit.open(b"", Container::Object);
    let scripts: [&[u8]; 3] = [b"Alphabetic", b"Ideographic", b"Phonetic"];
    for (script, part) in scripts.into_iter().zip(one.split(|byte| *byte == b'=')) {
        if part.iter().any(|byte| !matches!(byte, b'^' | b' ')) {
            visit.value(script, ValueType::Text, part);
        }
    }
    visit.close();
}

/// `00100010`
fn name((group, element): (u16, u16)) -> [u8; 8] {
    let number = u32::from(group) << 16 | u32::from(element);
    std::array::from_fn(|at| b"0123456789ABCDEF"[(number >> (28 - 4 * at) & 15) as usize])
}

/// Without the padding to an even length.
fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !matches!(byte, b' ' | 0));
    value[..end.map_or(0, |end| end + 1)].trim_ascii()
}

/// Of a value whose type is not written beside it: characters, and padding at its end.
fn is_text(value: &[u8]) -> bool {
    let value = trimmed(&value[..value.len().min(TEXT_BYTES_MAX)]);
    value.len() > 1
        && value
            .iter()
            .all(|byte| !matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f))
}

/// Of a Specific Character Set (PS3.3 §C.12.1.1.2). Code extensions switch within a value: their escapes stay in it.
fn charset_of(value: &[u8]) -> Option<&'static Encoding> {
    let value = trimmed(value);
    if value.contains(&b'\\') {
        return None;
    }
    let label: &[u8] = match value {
        b"ISO_IR 192" => return None,
        b"ISO_IR 100" => b"windows-1252",
        b"ISO_IR 101" => b"iso-8859-2",
        b"ISO_IR 109" => b"iso-8859-3",
        b"ISO_IR 110" => b"iso-8859-4",
        b"ISO_IR 144" => b"iso-8859-5",
        b"ISO_IR 127" => b"iso-8859-6",
        b"ISO_IR 126" => b"iso-8859-7",
        b"ISO_IR 138" => b"iso-8859-8",
        b"ISO_IR 148" => b"windows-1254",
        b"ISO_IR 203" => b"iso-8859-15",
        b"ISO_IR 13" => b"shift_jis",
        b"ISO_IR 166" => b"windows-874",
        b"GB18030" => b"gb18030",
        b"GBK" => b"gbk",
        _ => return None,
    };
    Encoding::for_label(label)
}

impl<'a> Reader<'a> {
    /// The element that begins here. Items and their ends have no value of their own.
    fn peek(&self) -> Option<Element<'a>> {
        let head = self.bytes.get(self.at..)?;
        let tag = (self.u16(head, 0)?, self.u16(head, 2)?);
        if tag.0 == ITEM.0 {
            return Some(Element {
                tag,
                vr: [0; 2],
                length: self.u32(head, 4)?,
                value: b"",
                cut: false,
            });
        }
        let (vr, length, from) = match self.syntax {
            Syntax::ImplicitLittle => ([0; 2], self.u32(head, 4)?, 8),
            _ => {
                let vr = [*head.get(4)?, *head.get(5)?];
                if !vr.iter().all(u8::is_ascii_uppercase) {
                    return None;
                }
                match is_long(vr) {
                    true => (vr, self.u32(head, 8)?, 12),
                    false => (vr, u32::from(self.u16(head, 6)?), 8),
                }
            }
        };
        let rest = head.get(from..).unwrap_or_default();
        let wanted = match length {
            UNDEFINED => 0,
            length => length as usize,
        };
        Some(Element {
            tag,
            vr,
            length,
            value: &rest[..wanted.min(rest.len())],
            cut: wanted > rest.len(),
        })
    }

    fn value_at(&self, element: &Element<'_>) -> usize {
        let long = self.syntax != Syntax::ImplicitLittle && is_long(element.vr);
        self.at + if long { 12 } else { 8 }
    }

    fn pass(&mut self, element: &Element<'_>) {
        self.at = self.value_at(element).saturating_add(match element.length {
            UNDEFINED => 0,
            length => length as usize,
        });
    }

    fn u16(&self, head: &[u8], at: usize) -> Option<u16> {
        let bytes: [u8; 2] = head.get(at..at + 2)?.try_into().ok()?;
        Some(match self.syntax {
            Syntax::ExplicitBig => u16::from_be_bytes(bytes),
            _ => u16::from_le_bytes(bytes),
        })
    }

    fn u32(&self, head: &[u8], at: usize) -> Option<u32> {
        let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
        Some(match self.syntax {
            Syntax::ExplicitBig => u32::from_be_bytes(bytes),
            _ => u32::from_le_bytes(bytes),
        })
    }
}

/// Types whose length has four bytes (PS3.5 §7.1.2).
fn is_long(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
    )
}

#[cfg(test)]
mod tests;
