//! Numbers of passports and national identity cards.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(R).

use crate::detect::phi::checks::number;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Passport,
    name: "passport",
    group: Group::Phi,
    about: "Numbers of passports and national identity cards.",
    source: "45 CFR 164.514(b)(2)(i)(R)",
    identifies: true,
    keys: &[
        "passport",
        "passportnumber",
        "passportno",
        "nationalid",
        "nationalidnumber",
        "idcardnumber",
        "personalausweis",
        "reisepass",
        "taxid",
        "taxpayerid",
        "tin",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["passport", "national id"],
    fits: number,
    shape: None,
    examples: &[
        r#"{"passport_number":"X48291377"}"#,
        "Travels with passport X48291377.",
        r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"code":"PPN"}]},"value":"X48291377"}]}"#,
    ],
    counter_examples: &[r#"{"passport":"local-strategy"}"#, r#"{"passport":true}"#],
};
