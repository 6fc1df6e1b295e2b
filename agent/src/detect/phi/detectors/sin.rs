//! Social Insurance Numbers of Canada.
//!
//! Source: Service Canada, Social Insurance Number (Luhn).

use crate::detect::phi::checks::{checked, digits_of, is_dummy, luhn};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Sin,
    name: "sin",
    group: Group::Phi,
    about: "Social Insurance Numbers of Canada.",
    source: "Service Canada, Social Insurance Number (Luhn)",
    identifies: true,
    keys: &["sin", "sinnumber", "socialinsurancenumber", "socialinsurance"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["sin", "social insurance"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[3, 3, 3], b"- "), (&[9], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 70,
        beside: 97,
    }),
    examples: &[r#"{"sin":"130-692-544"}"#, "Her SIN 130 692 544 is on file."],
    counter_examples: &[
        r#"{"sin":"130-692-545"}"#,
        r#"{"order":"130692544"}"#,
        r#"{"sin":0.5}"#,
    ],
};

fn check(digits: &[u8]) -> Fit {
    checked(digits.len() == 9 && digits[0] != b'0' && digits[0] != b'8' && !is_dummy(digits) && luhn(digits))
}

fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| check(&digits[..length]) == Fit::Checked)
}
