//! Numéros de sécurité sociale (NIR) of France.
//!
//! Source: INSEE, numéro d’inscription au répertoire (key 97 − n mod 97).

use crate::detect::phi::checks::{bare, checked, modulo};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Nir,
    name: "nir",
    group: Group::Phi,
    about: "Numéros de sécurité sociale (NIR) of France.",
    source: "INSEE, numéro d’inscription au répertoire (key 97 − n mod 97)",
    identifies: true,
    keys: &["nir", "numerosecuritesociale", "numsecu", "insee", "numeross"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["nir", "sécurité sociale", "securite sociale", "insee"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[1, 2, 2, 2, 3, 3, 2], b" "), (&[13, 2], b" "), (&[15], b"")],
        word: None,
        check,
        alone: 80,
        alone_grouped: 92,
        beside: 97,
    }),
    examples: &[
        r#"{"nir":"255081416802538"}"#,
        "Son numéro 2 55 08 14 168 025 38 figure ici.",
    ],
    counter_examples: &[
        r#"{"nir":"255081416802539"}"#,
        r#"{"timestamp":"255081416802537"}"#,
    ],
};

fn check(digits: &[u8]) -> Fit {
    if digits.len() != 15 || !matches!(digits[0], b'1' | b'2' | b'3' | b'4' | b'7' | b'8') {
        return Fit::No;
    }
    // Corsica's departments have a letter, and count as the two before it.
    let (mut plain, mut less) = ([0; 15], 0);
    plain.copy_from_slice(digits);
    match &digits[5..7] {
        b"2A" => (plain[6], less) = (b'0', 1),
        b"2B" => (plain[6], less) = (b'0', 2),
        _ => {}
    }
    if !plain.iter().all(u8::is_ascii_digit) {
        return Fit::No;
    }
    let month = modulo(&plain[3..5], 100);
    // Months beyond twelve stand for "not known".
    if !matches!(month, 1..=12 | 20..=42 | 50..=99) {
        return Fit::No;
    }
    let number = plain[..13]
        .iter()
        .fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let number = number - less * 1_000_000;
    checked(97 - number % 97 == u64::from(modulo(&plain[13..], 100)))
}

fn own_fits(value: &[u8]) -> bool {
    let (bare, length) = bare(value);
    check(&bare[..length]) == Fit::Checked
}
