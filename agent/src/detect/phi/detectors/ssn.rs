//! Social Security numbers of the United States.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(G); SSA, POMS RM 10201.035 (numbers never assigned).

use crate::detect::phi::checks::{digits_of, is_dummy};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Ssn,
    name: "ssn",
    group: Group::Phi,
    about: "Social Security numbers of the United States.",
    source: "45 CFR 164.514(b)(2)(i)(G); SSA, POMS RM 10201.035 (numbers never assigned)",
    identifies: true,
    keys: &[
        "ssn",
        "socialsecuritynumber",
        "socialsecurity",
        "socialsecurityno",
        "socsec",
        "ssnumber",
        "itin",
        "socsecnum",
        "socsecno",
        "ssnno",
        "socialsecuritynum",
        "socialsecno",
        "socialsecuritynbr",
        "ssnnumber",
        "ssnlast4",
        "last4ssn",
        "last4ofssn",
        "ssnlastfour",
        "ssn4",
        "lastfourssn",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["ssn", "social security", "soc sec"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[3, 2, 4], b"- "), (&[3, 2, 4], b"."), (&[9], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 85,
        beside: 95,
    }),
    examples: &[
        r#"{"ssn":"536-22-8741"}"#,
        r#"{"patient_ssn":536228741}"#,
        r#"{"ssn":"999-12-1234"}"#,
        r#"{"patientssn":"536228741"}"#,
        r#"{"ssns":["536-22-8741"]}"#,
        "Her SSN:536228741 is on file.",
        r#"{"ids":[{"type":"SSN","value":"536228741"}]}"#,
        "SSN: 999-12-1234 is on file.",
        "The number is 536-22-8741 as stated.",
        "Her social security number is 536228741.",
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||||||||||||||||||536228741",
    ],
    counter_examples: &[
        r#"{"ssn":"000-12-3456"}"#,
        r#"{"ssn":"string"}"#,
        r#"{"order":"536228741"}"#,
        r#"{"part":"666-12-3456"}"#,
        r#"{"span":"2021-536-22-8741"}"#,
        "The part is 999-12-1234 as stated.",
    ],
};

/// All of it, or the last four: where only those are kept, they are what a caller is asked for.
fn own_fits(value: &[u8]) -> bool {
    let is = |digits: &[u8]| check(digits) != Fit::No || digits.len() == 4 && value.len() == 4;
    digits_of(value).is_some_and(|(digits, length)| is(&digits[..length]))
}

/// Area 000, 666 and group or serial 0 are never assigned; from 900 on they are taxpayers' numbers of the same form, whose
/// group is 50 or more. Records that are made up have other groups there, and names beside them.
fn check(digits: &[u8]) -> Fit {
    let fits = digits.len() == 9
        && &digits[..3] != b"000"
        && &digits[..3] != b"666"
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
        && digits != b"123456789"
        && !is_dummy(digits);
    match fits {
        true if digits[0] == b'9' && digits[3] < b'5' => Fit::Named,
        true => Fit::Form,
        false => Fit::No,
    }
}
