//! Telephone numbers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(D).

use crate::detect::phi::checks::{digits_of, is_dummy};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Phone,
    name: "phone",
    group: Group::Phi,
    about: "Telephone numbers.",
    source: "45 CFR 164.514(b)(2)(i)(D)",
    identifies: true,
    keys: &[
        "phone",
        "phonenumber",
        "telephone",
        "telephonenumber",
        "mobile",
        "mobilenumber",
        "mobilephone",
        "cell",
        "cellphone",
        "cellnumber",
        "homephone",
        "workphone",
        "tel",
        "telefon",
        "telefono",
        "telefoon",
        "contactnumber",
        "dayphone",
        "eveningphone",
        "telefonnummer",
        "rufnummer",
        "portable",
        "telephoneportable",
        "mobil",
        "telefoonnummer",
        "handynummer",
        "handy",
        "mobilnummer",
        "mobiltelefon",
        "mobilnr",
        "telefonnr",
        "telefonprivat",
        "numerotelephone",
        "numerodetelephone",
        "telephonemobile",
        "telephonefixe",
        "teleporteable",
        "celular",
        "movil",
        "telefonomovil",
        "numerotelefono",
        "numerodetelefono",
        "telefone",
        "numerotelefone",
        "mobiel",
        "mobielnummer",
        "gsmnummer",
        "puhelinnumero",
        "telefonszam",
        "cellulare",
        "phonehome",
        "phonework",
        "phonemobile",
        "phonecell",
        "emergencyphone",
        "daytimephone",
        "nighttimephone",
        "homenumber",
        "worktelephone",
        "hometelephone",
        "phoneno",
        "mobileno",
        "telno",
        "telnumber",
        "telephoneno",
        "cellno",
        "msisdn",
        "patientphone",
        "phoneprimary",
        "phonesecondary",
        "smsnumber",
        "whatsappnumber",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["phone", "tel", "telephone", "call", "mobile", "cell", "contact"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[3, 3, 4], b"-. )"), (&[10], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 75,
        beside: 85,
    }),
    examples: &[
        r#"{"phone":"+1 555-201-0142"}"#,
        r#"{"resourceType":"Patient","telecom":[{"system":"phone","value":"555-201-0142"}]}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||123^^^H^MR||OKAFOR^MARTA||||||||(212)555-0142",
        "Call me at (212) 555-0142.",
        "Reach the family under +49 30 901820 today.",
    ],
    counter_examples: &[
        r#"{"order":"2125550142"}"#,
        r#"{"total":"1234567.89"}"#,
        r#"{"phone":"string"}"#,
        r#"{"hospitals":[{"name":"General","phone":"217-555-0142"}]}"#,
        r#"{"resourceType":"Organization","telecom":[{"system":"phone","value":"212-555-0142"}]}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    let end = value
        .iter()
        .position(|byte| byte.is_ascii_alphabetic())
        .unwrap_or(value.len());
    // What follows is an extension.
    digits_of(value[..end].trim_ascii())
        .is_some_and(|(digits, length)| (5..=16).contains(&length) && !is_dummy(&digits[..length]))
}

/// North American numbering: neither area nor exchange begins with 0 or 1.
fn check(digits: &[u8]) -> Fit {
    let plan = digits.len() == 10 && digits[0] > b'1' && digits[3] > b'1' && !is_dummy(digits);
    if plan { Fit::Form } else { Fit::No }
}
