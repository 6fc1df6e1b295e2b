//! Numbers of certificates and licences.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(K).

use crate::detect::phi::checks::number;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Licence,
    name: "licence",
    group: Group::Phi,
    about: "Numbers of certificates and licences.",
    source: "45 CFR 164.514(b)(2)(i)(K)",
    identifies: true,
    keys: &[
        "driverslicense",
        "driverslicensenumber",
        "driverlicense",
        "driverlicensenumber",
        "drivinglicence",
        "drivinglicense",
        "dlnumber",
        "licensenumber",
        "licencenumber",
        "licenseno",
        "certificatenumber",
        "fuehrerscheinnummer",
        "drivinglicencenumber",
        "drivinglicensenumber",
        "drivinglicenceno",
        "driverslicence",
        "driverlicence",
        "driverslicensno",
        "driverlicenseno",
        "driverlicenseid",
        "permisdeconduire",
        "numeropermis",
        "rijbewijsnummer",
        "fuhrerscheinnummer",
        "licenciadeconducir",
        "dln",
        "medicallicense",
        "statelicense",
        "fuehrerschein",
        "permisconduire",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "license no",
        "licence no",
        "driver's license",
        "drivers license",
        "driver license",
        "license number",
        "licence number",
    ],
    fits: number,
    shape: None,
    examples: &[
        "license no. MD12345",
        r#"{"drivers_license":"S99948213"}"#,
        r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"code":"DL"}]},"value":"S99948213"}]}"#,
        "Shown: driver's license S99948213.",
    ],
    counter_examples: &[r#"{"license":"MIT"}"#, r#"{"license_number":"string"}"#],
};
