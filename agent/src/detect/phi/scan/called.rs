//! What an object is called, and what the object's own names and codes say by that: `{"medication": {"name": …}}`,
//! `{"photo": {"url": …}}`.

use super::*;

/// A class of an object's name that the object's own names and codes say more of: `{"medication": {"name": …}}`.
pub(super) fn is_of_health(class: ClassId) -> bool {
    const CLASSES: [Class; 9] = [
        Class::Diagnosis,
        Class::Procedure,
        Class::Medication,
        Class::Allergy,
        Class::Ethnicity,
        Class::Religion,
        Class::PoliticalOpinion,
        Class::SexualOrientation,
        Class::Genetic,
    ];
    CLASSES.iter().any(|known| *known as ClassId == class)
}

/// Names of what an object is called, and of its code.
pub(super) fn says_what(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"name",
        b"displayname",
        b"display",
        b"description",
        b"text",
        b"code",
        b"substance",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A word alone is a procedure's of a program, a race's of cars as well, where nobody is near.
pub(super) fn is_bare(class: ClassId, owner: Owner, value: &[u8]) -> bool {
    let of_others = class == Class::Procedure as ClassId || class == Class::Ethnicity as ClassId;
    of_others && owner == Owner::Unknown && !value.iter().any(u8::is_ascii_digit)
}

/// Names of a link to what an object is.
pub(super) fn links(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"url",
        b"href",
        b"src",
        b"uri",
        b"large",
        b"medium",
        b"small",
        b"thumbnail",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// `en`, `pt-BR`, `en_US`
pub(super) fn is_language(name: &[u8]) -> bool {
    // An `id` is one, whatever it is in Indonesia.
    let small = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_lowercase) && part != b"id";
    let large = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_uppercase);
    match name.split_at_checked(2) {
        Some((language, [])) => small(language),
        Some((language, [b'-' | b'_', region @ ..])) => small(language) && large(region),
        _ => false,
    }
}

/// `tax_id`, `taxId`
pub(super) fn is_tax_id(name: &[u8]) -> bool {
    let letters = name.iter().filter(|byte| byte.is_ascii_alphabetic());
    letters.map(u8::to_ascii_lowercase).eq(*b"taxid")
}
