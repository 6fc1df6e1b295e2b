//! Registration numbers of the Drug Enforcement Administration.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(K); 21 CFR 1301, check digit (1+3+5)+2(2+4+6).

use crate::detect::phi::checks::{bare, checked, is_digits};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Dea,
    name: "dea",
    group: Group::Pii,
    about: "Registration numbers of the Drug Enforcement Administration.",
    source: "45 CFR 164.514(b)(2)(i)(K); 21 CFR 1301, check digit (1+3+5)+2(2+4+6)",
    identifies: true,
    keys: &["dea", "deanumber", "deano", "dearegistration"],
    keys_alone: &[],
    keys_beside: &[],
    words: &["dea"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[],
        word: Some((9, 9)),
        check,
        alone: 0,
        alone_grouped: 0,
        beside: 97,
    }),
    examples: &[
        r#"{"dea":"BB1388568"}"#,
        "Prescriber DEA number BB1388568 on file.",
        "MSH|^~\\&|A|B|C|D|2024||RDE^O11|1|P|2.5\nRXE|||||||||||||BB1388568^SMITH^JOHN",
    ],
    counter_examples: &[r#"{"dea":"BB1388567"}"#, r#"{"passport":"none"}"#],
};

fn check(value: &[u8]) -> Fit {
    let form = value.len() == 9
        && value[0].is_ascii_uppercase()
        && (value[1].is_ascii_uppercase() || value[1] == b'9')
        && is_digits(&value[2..], 7);
    if !form {
        return Fit::No;
    }
    let digit = |at: usize| u32::from(value[at + 1] - b'0');
    let sum = digit(1) + digit(3) + digit(5) + 2 * (digit(2) + digit(4) + digit(6));
    checked(sum % 10 == digit(7))
}

fn own_fits(value: &[u8]) -> bool {
    let (bare, length) = bare(value);
    check(&bare[..length]) == Fit::Checked
}
