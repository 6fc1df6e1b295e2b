//! Forms that say what they are: names of SNOMED CT with their kind, what stands behind a telephone number, and before one
//! that is a thing's.

use super::super::class::Class;

/// `Atrial fibrillation (disorder)`: a fully specified name ends in its kind (SNOMED CT Editorial Guide, semantic tags).
pub(in super::super) fn tagged(text: &[u8]) -> Option<Class> {
    const LONGEST: usize = 200;
    let name = text.strip_suffix(b")")?;
    let at = memchr::memrchr(b'(', name)?;
    let class = match &name[at + 1..] {
        b"disorder" | b"finding" | b"situation" | b"morphologic abnormality" => Class::Diagnosis,
        b"procedure" | b"regime/therapy" => Class::Procedure,
        b"clinical drug" | b"medicinal product" => Class::Medication,
        _ => return None,
    };
    let is = text.len() <= LONGEST && at > 3 && text[0].is_ascii_alphanumeric() && !text.contains(&b'\n');
    is.then_some(class)
}

/// `555-0142x34`: behind a telephone number.
pub(super) fn is_extension(rest: &[u8]) -> bool {
    matches!(rest, [b'x' | b'X', digit, ..] if digit.is_ascii_digit())
}

/// `Order 618-20-7374`: what stands before a number says that it is a thing's.
pub(super) fn of_thing(before: &[u8]) -> bool {
    const THINGS: &[&[u8]] = &[
        b"order",
        b"invoice",
        b"part",
        b"sku",
        b"item",
        b"po",
        b"ticket",
        b"model",
        b"version",
        b"lot",
        b"batch",
        b"tracking",
        b"isbn",
        b"article",
        b"catalog",
        b"quote",
        b"shipment",
    ];
    const FILLING: [&[u8]; 4] = [b"no", b"number", b"id", b"num"];
    let from = before.len().saturating_sub(24);
    let mut words = before[from..].rsplit(|byte| !byte.is_ascii_alphabetic());
    let last = words
        .find(|word| !word.is_empty() && !FILLING.iter().any(|filling| word.eq_ignore_ascii_case(filling)));
    last.is_some_and(|last| THINGS.iter().any(|thing| last.eq_ignore_ascii_case(thing)))
}
