//! Medicare Beneficiary Identifiers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(I); CMS, Understanding the MBI format.

use crate::detect::phi::checks::bare;
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Mbi,
    name: "mbi",
    group: Group::Phi,
    about: "Medicare Beneficiary Identifiers.",
    source: "45 CFR 164.514(b)(2)(i)(I); CMS, Understanding the MBI format",
    identifies: true,
    keys: &["mbi", "medicarebeneficiaryidentifier"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["mbi", "medicare"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[],
        word: Some((11, 13)),
        check,
        alone: 85,
        alone_grouped: 85,
        beside: 95,
    }),
    examples: &[
        r#"{"mbi":"1EG4-TE5-MK73"}"#,
        r#"{"note":"card 1EG4TE5MK73 shown"}"#,
    ],
    counter_examples: &[
        r#"{"mbi":"none"}"#,
        r#"{"sku":"1SG4TE5MK73"}"#,
        r#"{"sku":"1EG4TE5MK7"}"#,
    ],
};

/// C A AN N A AN N A A N N, without S, L, O, I, B, Z.
fn check(value: &[u8]) -> Fit {
    let digit = |at: usize| value[at].is_ascii_digit();
    let letter = |at: usize| value[at].is_ascii_uppercase() && !b"SLOIBZ".contains(&value[at]);
    let fits = value.len() == 11
        && digit(0)
        && value[0] != b'0'
        && letter(1)
        && (letter(2) || digit(2))
        && digit(3)
        && letter(4)
        && (letter(5) || digit(5))
        && digit(6)
        && letter(7)
        && letter(8)
        && digit(9)
        && digit(10);
    if fits { Fit::Form } else { Fit::No }
}

fn own_fits(value: &[u8]) -> bool {
    let (bare, length) = bare(value);
    check(&bare[..length]) != Fit::No
}
