//! NHS numbers of the United Kingdom.
//!
//! Source: NHS Data Dictionary, NHS NUMBER (modulus 11).

use crate::detect::phi::checks::{checked, digits_of, is_digits, is_dummy};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::NhsNumber,
    name: "nhs-number",
    group: Group::Phi,
    about: "NHS numbers of the United Kingdom.",
    source: "NHS Data Dictionary, NHS NUMBER (modulus 11)",
    identifies: true,
    keys: &[
        "nationalhealthservicenumber",
        "nhsnumber",
        "nhsno",
        "nhsid",
        "nhs",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["nhs"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[3, 3, 4], b" -"), (&[10], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 0,
        beside: 97,
    }),
    examples: &[
        r#"{"nhs_number":"943 476 5919"}"#,
        "NHS number 9434765919 was given.",
    ],
    counter_examples: &[r#"{"nhs_number":"943 476 5918"}"#, r#"{"order":"9434765919"}"#],
};

fn check(digits: &[u8]) -> Fit {
    if !is_digits(digits, 10) || is_dummy(digits) {
        return Fit::No;
    }
    let sum: u32 = digits[..9]
        .iter()
        .zip((2..=10).rev())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    let right = (11 - sum % 11) % 11;
    checked(right < 10 && u32::from(digits[9] - b'0') == right)
}

fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| check(&digits[..length]) == Fit::Checked)
}
