//! ASC X12 interchanges: ISA declares the separators at fixed places, then segments of elements and components.

use super::{Field, Format, Sink, Visit};

/// Length of ISA with its terminator; the separators stand at fixed places of it.
const ISA_BYTES: usize = 106;

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let (mut element, mut component, mut terminator) = (b'*', b':', b'~');
    let start = bytes
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    if let Some(isa) = bytes.get(..ISA_BYTES).filter(|isa| isa.starts_with(b"ISA")) {
        (element, component, terminator) = (isa[3], isa[104], isa[105]);
    }
    for segment in bytes.split(|byte| *byte == terminator) {
        let segment = segment.trim_ascii();
        let mut elements = segment.split(|byte| *byte == element);
        let Some(id) = elements
            .next()
            .filter(|id| (2..=3).contains(&id.len()) && id.iter().all(u8::is_ascii_alphanumeric))
        else {
            continue;
        };
        if visit.is_over() {
            break;
        }
        visit.values = visit.values.saturating_sub(1);
        visit.sink.segment(Format::X12, id);
        for (number, value) in (1u16..).zip(elements) {
            for (part, value) in (1u16..).zip(value.split(|byte| *byte == component)) {
                let value = value.trim_ascii();
                if value.is_empty() || visit.is_over() {
                    continue;
                }
                visit.values = visit.values.saturating_sub(1);
                let at = Field {
                    segment: id,
                    field: number,
                    repetition: 0,
                    component: part,
                    subcomponent: 1,
                };
                visit.sink.field(at, value);
            }
        }
    }
}
