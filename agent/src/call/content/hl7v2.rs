//! HL7 version 2 in the classic encoding (chapter 2): segments, fields, repetitions, components, subcomponents, with the
//! separators that each MSH declares. MLLP's block bytes, batches (FHS, BHS) and LF as line end are stepped over.

use super::{Field, Format, Sink, Visit};

struct Separators {
    field: u8,
    component: u8,
    repetition: u8,
    escape: u8,
    subcomponent: u8,
}

const USUAL: Separators = Separators {
    field: b'|',
    component: b'^',
    repetition: b'~',
    escape: b'\\',
    subcomponent: b'&',
};

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let mut separators = USUAL;
    let mut text = Vec::new();
    for line in bytes.split(|byte| matches!(byte, b'\r' | b'\n')) {
        if visit.is_over() {
            break;
        }
        let start = line
            .iter()
            .position(|byte| !matches!(byte, 0x0b | 0x1c | b' ' | b'\t'));
        let line = &line[start.unwrap_or(line.len())..];
        let Some(id) = line
            .get(..3)
            .filter(|id| id.iter().all(u8::is_ascii_alphanumeric))
        else {
            continue;
        };
        let header = matches!(id, b"MSH" | b"FHS" | b"BHS");
        if header {
            separators = declared(line).unwrap_or(USUAL);
        }
        visit.values = visit.values.saturating_sub(1);
        visit.sink.segment(Format::Hl7v2, id);
        let rest = line.get(4..).unwrap_or_default();
        // MSH-1 is the separator itself, MSH-2 the others.
        let (first, skipped) = if header { (2, 1) } else { (1, 0) };
        for (index, field) in rest
            .split(|byte| *byte == separators.field)
            .enumerate()
            .skip(skipped)
        {
            if field.is_empty() {
                continue;
            }
            let number = u16::try_from(first + index).unwrap_or(u16::MAX);
            self::field(id, number, field, &separators, &mut text, visit);
        }
    }
}

/// `MSH|^~\&|`
fn declared(line: &[u8]) -> Option<Separators> {
    let field = *line.get(3)?;
    let others: Vec<u8> = line[4..]
        .iter()
        .copied()
        .take_while(|byte| *byte != field)
        .collect();
    let other = |at: usize, usual: u8| others.get(at).copied().unwrap_or(usual);
    (!field.is_ascii_alphanumeric()).then(|| Separators {
        field,
        component: other(0, b'^'),
        repetition: other(1, b'~'),
        escape: other(2, b'\\'),
        subcomponent: other(3, b'&'),
    })
}

fn field<S: Sink>(
    segment: &[u8],
    number: u16,
    field: &[u8],
    separators: &Separators,
    text: &mut Vec<u8>,
    visit: &mut Visit<'_, S>,
) {
    for (repetition, one) in (0u16..).zip(field.split(|byte| *byte == separators.repetition)) {
        for (component, one) in (1u16..).zip(one.split(|byte| *byte == separators.component)) {
            for (subcomponent, one) in (1u16..).zip(one.split(|byte| *byte == separators.subcomponent)) {
                // `""` deletes what the receiver has.
                if one.is_empty() || one == b"\"\"" || visit.is_over() {
                    continue;
                }
                let value = match memchr::memchr(separators.escape, one) {
                    Some(_) => {
                        unescape(one, separators, text);
                        text.as_slice()
                    }
                    None => one,
                };
                visit.values = visit.values.saturating_sub(1);
                let at = Field {
                    segment,
                    field: number,
                    repetition,
                    component,
                    subcomponent,
                };
                visit.sink.field(at, value);
            }
        }
    }
}

/// `\F\`, `\T\` and their kin; formatting commands become a space.
fn unescape(one: &[u8], separators: &Separators, text: &mut Vec<u8>) {
    text.clear();
    let mut rest = one;
    while let Some(start) = memchr::memchr(separators.escape, rest) {
        text.extend_from_slice(&rest[..start]);
        let after = &rest[start + 1..];
        let Some(end) = memchr::memchr(separators.escape, after) else {
            rest = after;
            break;
        };
        text.push(match &after[..end] {
            b"F" => separators.field,
            b"S" => separators.component,
            b"R" => separators.repetition,
            b"E" => separators.escape,
            b"T" => separators.subcomponent,
            _ => b' ',
        });
        rest = &after[end + 1..];
    }
    text.extend_from_slice(rest);
}
