//! Names of people.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(A).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Name,
    name: "name",
    group: Group::Phi,
    about: "Names of people.",
    source: "45 CFR 164.514(b)(2)(i)(A)",
    identifies: true,
    keys: &[
        "firstname",
        "lastname",
        "fullname",
        "givenname",
        "familyname",
        "surname",
        "middlename",
        "maidenname",
        "patientname",
        "displayname",
        "preferredname",
        "legalname",
        "nickname",
        "forename",
        "birthname",
        "mothersmaidenname",
        "nameofpatient",
        "lname",
        "fname",
        "middleinitial",
        "subscribername",
        "membername",
        "insuredname",
        "guardianname",
        "nextofkin",
        "nachname",
        "vorname",
        "voornaam",
        "achternaam",
        "prenom",
        "nomdefamille",
        "nombrecompleto",
        "apellido",
        "apellidos",
    ],
    keys_alone: &[],
    keys_beside: &[
        "name", "first", "last", "middle", "given", "family", "contact", "nom",
    ],
    words: &["patient", "name", "mr", "mrs", "ms", "miss", "dr"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"first_name":"Marta","last_name":"Okafor"}"#,
        r#"{"patient":{"name":"Marta Okafor","birthDate":"1980-02-14"}}"#,
        r#"{"resourceType":"Patient","name":[{"family":"Okafor","given":["Marta"]}]}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||123^^^H^MR||OKAFOR^MARTA",
        "The patient Mrs. Marta Okafor was seen today.",
    ],
    counter_examples: &[
        r#"{"name":"status","value":"final"}"#,
        r#"{"filename":"report.pdf","hostname":"db1"}"#,
        r#"{"resourceType":"Organization","name":"General Hospital"}"#,
        r#"{"name":"Blue Widget","price":12.5}"#,
    ],
};

/// Letters, with what stands in names; not a sentence, not a path.
fn own_fits(value: &[u8]) -> bool {
    let letters = value
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80)
        .count();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    any(value)
        && value.len() <= 120
        && letters > 0
        && digits <= letters
        && !value.iter().any(|byte| b"/@<>{}=:_|\\;$%#?&".contains(byte))
}
