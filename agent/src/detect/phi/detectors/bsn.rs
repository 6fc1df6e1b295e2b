//! Burgerservicenummers of the Netherlands.
//!
//! Source: Rijksdienst voor Identiteitsgegevens, Logisch Ontwerp BSN (elfproef).

use crate::detect::phi::checks::{checked, digits_of, is_dummy};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Bsn,
    name: "bsn",
    group: Group::Phi,
    about: "Burgerservicenummers of the Netherlands.",
    source: "Rijksdienst voor Identiteitsgegevens, Logisch Ontwerp BSN (elfproef)",
    identifies: true,
    keys: &["bsn", "burgerservicenummer", "sofinummer", "citizenservicenumber"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["bsn", "burgerservicenummer"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[9], b""), (&[4, 2, 3], b". ")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 0,
        beside: 97,
    }),
    examples: &[
        r#"{"bsnnummer":"111222333"}"#,
        r#"{"bsn":"111222333"}"#,
        "Het BSN is 111222333 volgens de kaart.",
    ],
    counter_examples: &[r#"{"bsn":"111222334"}"#, r#"{"order":"111222333"}"#],
};

fn check(digits: &[u8]) -> Fit {
    let all = digits.len() == 9 || digits.len() == 8;
    if !all || is_dummy(digits) {
        return Fit::No;
    }
    let weights = [9i32, 8, 7, 6, 5, 4, 3, 2, -1];
    let sum: i32 = digits
        .iter()
        .zip(&weights[9 - digits.len()..])
        .map(|(digit, weight)| i32::from(digit - b'0') * weight)
        .sum();
    checked(sum % 11 == 0)
}

fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| check(&digits[..length]) == Fit::Checked)
}
