//! International Bank Account Numbers.
//!
//! Source: ISO 13616-1 (mod 97-10).

use crate::detect::phi::checks::{bare, checked};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Iban,
    name: "iban",
    group: Group::Financial,
    about: "International Bank Account Numbers.",
    source: "ISO 13616-1 (mod 97-10)",
    identifies: true,
    keys: &["iban", "ibannumber"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["iban", "bank account"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[],
        word: Some((15, 42)),
        check,
        alone: 97,
        alone_grouped: 97,
        beside: 98,
    }),
    examples: &[
        r#"{"iban":"DE89370400440532013000"}"#,
        "Pay to GB82 WEST 1234 5698 7654 32 please.",
    ],
    counter_examples: &[
        r#"{"iban":"DE89370400440532013001"}"#,
        r#"{"sku":"AB12CDEF34567890"}"#,
    ],
};

/// Lengths by country, from the registry of ISO 13616.
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

fn check(value: &[u8]) -> Fit {
    let country = value.get(..2).unwrap_or_default();
    let Some((_, length)) = LENGTHS.iter().find(|(known, _)| known.as_slice() == country) else {
        return Fit::No;
    };
    if value.len() != *length {
        return Fit::No;
    }
    let mut rest = 0u32;
    for byte in value[4..].iter().chain(&value[..4]) {
        rest = match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            b'A'..=b'Z' => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
            _ => return Fit::No,
        };
    }
    checked(rest == 1)
}

fn own_fits(value: &[u8]) -> bool {
    let (bare, length) = bare(value);
    check(&bare[..length]) == Fit::Checked
}
