//! National Provider Identifiers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(K); 45 CFR 162.406, check digit by ISO/IEC 7812 over the prefix 80840.

use crate::detect::phi::checks::{checked, digits_of, luhn_from};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Npi,
    name: "npi",
    group: Group::Pii,
    about: "National Provider Identifiers.",
    source: "45 CFR 164.514(b)(2)(i)(K); 45 CFR 162.406, check digit by ISO/IEC 7812 over the prefix 80840",
    identifies: true,
    keys: &[
        "npi",
        "npinumber",
        "nationalprovideridentifier",
        "providernpi",
        "nationalproviderid",
        "npicode",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["npi", "national provider"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[10], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 0,
        beside: 97,
    }),
    examples: &[
        r#"{"npi":"1234567893"}"#,
        "Referred by NPI 1245319599 today.",
        r#"{"npis":["1234567893"]}"#,
        "NPI:1245319599 is on file.",
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPV1|1|I|||||1245319599^SMITH^JOHN^A^^DR^^^NPI",
    ],
    counter_examples: &[
        r#"{"npi":"1234567890"}"#,
        r#"{"order":"1234567893"}"#,
        "See urn:isbn:1245319599 there.",
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPV1|1|I|||||1245319599^SMITH^JOHN^A^^DR^^^HOSP",
    ],
};

/// The sum of 80840, which stands before the number.
const PREFIX_SUM: u32 = 24;

fn check(digits: &[u8]) -> Fit {
    checked(digits.len() == 10 && matches!(digits[0], b'1' | b'2') && luhn_from(digits, PREFIX_SUM))
}

fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| check(&digits[..length]) == Fit::Checked)
}
