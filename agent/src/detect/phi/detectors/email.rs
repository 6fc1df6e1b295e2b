//! Email addresses.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(F).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Email,
    name: "email",
    group: Group::Phi,
    about: "Email addresses.",
    source: "45 CFR 164.514(b)(2)(i)(F)",
    identifies: true,
    keys: &[
        "email",
        "emailaddress",
        "mail",
        "emailid",
        "useremail",
        "patientemail",
        "emailaddr",
        "correoelectronico",
        "correo",
        "courriel",
        "adressemail",
        "adresseelectronique",
        "emailadres",
        "emailadresse",
        "mailadresse",
        "epost",
        "epostadresse",
        "sahkoposti",
        "emailpersonal",
        "personalemail",
        "workemail",
        "homeemail",
        "contactemail",
        "primaryemail",
        "이메일",
        "邮箱",
        "メール",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["email"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"email":"marta.okafor@mail.example"}"#,
        "Write to marta.okafor@mail.example about it.",
        r#"{"resourceType":"Patient","telecom":[{"system":"email","value":"m@x.example"}]}"#,
    ],
    counter_examples: &[
        r#"{"handle":"@marta"}"#,
        r#"{"package":"@types/node@20.1.0"}"#,
        r#"{"email":"string"}"#,
        r#"{"resourceType":"CapabilityStatement","contact":[{"telecom":[{"system":"email","value":"info@hl7.example"}]}]}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    let at = memchr::memchr(b'@', value);
    any(value) && at.is_some_and(|at| at > 0 && value[at..].contains(&b'.')) && value.len() <= 254
}
