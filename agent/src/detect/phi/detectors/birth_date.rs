//! Dates of birth.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(C).

use crate::detect::phi::checks::date;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::BirthDate,
    name: "birth-date",
    group: Group::Phi,
    about: "Dates of birth.",
    source: "45 CFR 164.514(b)(2)(i)(C)",
    identifies: false,
    keys: &[
        "birthdate",
        "dateofbirth",
        "dob",
        "birthday",
        "birthdt",
        "birthdatetime",
        "geburtsdatum",
        "geboortedatum",
        "datenaissance",
        "datedenaissance",
        "fechanacimiento",
    ],
    keys_alone: &[],
    keys_beside: &["birth", "born"],
    words: &["born", "birth", "dob", "d.o.b", "geboren", "geburtsdatum"],
    fits: date,
    shape: None,
    examples: &[
        r#"{"dob":"1980-02-14"}"#,
        r#"{"resourceType":"Patient","birthDate":"1980-02-14"}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||123^^^H^MR||OKAFOR^MARTA||19800214",
        "Patient, born 02/14/1980, was seen.",
    ],
    counter_examples: &[
        r#"{"created_at":"2024-01-01"}"#,
        r#"{"dob":"string"}"#,
        r#"{"resourceType":"ValueSet","date":"2024-01-01"}"#,
    ],
};
