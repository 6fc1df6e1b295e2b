//! Dates of birth.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(C).

use crate::detect::phi::checks::{date, digits_of};
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
        "birthtime",
        "geburtsdatum",
        "geburtstag",
        "nele",
        "datebirth",
        "geboortedatum",
        "datenaissance",
        "datedenaissance",
        "fechanacimiento",
        "bornon",
        "birthdayon",
        "dateofbirthday",
        "fechadenacimiento",
        "datadinascita",
        "datanascita",
        "datadenascimento",
        "datanascimento",
        "fodelsedatum",
        "fodselsdato",
        "foedselsdato",
        "syntymaaika",
        "dataurodzenia",
        "datumnarozeni",
        "szuletesidatum",
        "gebdatum",
        "gebdat",
        "patientdob",
        "birthdte",
        "dobdate",
        "yearofbirth",
        "birthyear",
        "geboortedag",
        "datenaiss",
        "dtnascimento",
        "fechanac",
        "fecnacimiento",
        "fecnac",
        "fnac",
        "datanasc",
        "dtnasc",
        "dogumtarihi",
        "datanasterii",
        "datumrodenja",
        "datumrodjenja",
        "fodelsedata",
        "szuletesi",
        "syntymapaiva",
        "birthdateiso",
        "생년월일",
        "出生日期",
        "生日",
        "生年月日",
        "датарождения",
        "ημερομηνίαγέννησης",
        "datetimeofbirth",
        "dobiso",
        "dobdt",
        "benebirthdt",
        "dmg02",
        "hmerominiagennisis",
        "nascimento",
        "fnacimiento",
        "bdate",
    ],
    keys_alone: &[],
    keys_beside: &["birth", "born"],
    words: &[
        "birthdate",
        "date of birth",
        "geb.",
        "geboortedatum",
        "date de naissance",
        "né le",
        "née le",
        "fecha de nacimiento",
        "born",
        "birth",
        "dob",
        "d.o.b",
        "geboren",
        "geburtsdatum",
        "nacida",
        "nacido",
        "nac\u{ed} el",
        "naci\u{f3} el",
        "nascido",
        "nascida",
        "nasci em",
        "urodzony",
        "urodzona",
        "f\u{f6}dd",
        "f\u{f8}dt",
        "nato il",
        "nata il",
        "fecha nac",
        "nato",
        "nata",
    ],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"person":{"birthDtTm":"1980-02-14T00:00:00Z"}}"#,
        r#"{"pat_dob_dt":"1980-02-14"}"#,
        "Birthdate: 1980-02-14",
        "geb. 14.02.1980",
        r#"{"dob":"1980-02-14"}"#,
        r#"{"resourceType":"Patient","birthDate":"1980-02-14"}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||123^^^H^MR||OKAFOR^MARTA||19800214",
        "Patient, born 02/14/1980, was seen.",
        r#"{"dob":"14021980"}"#,
        r#"{"dob":"/Date(319334400000)/"}"#,
        r#"{"Geburtstag":"14.02.1980"}"#,
        r#"{"resourceType":"Patient","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/patient-birthTime","valueDateTime":"1980-02-14T10:00:00Z"}]}"#,
    ],
    counter_examples: &[
        "GEB 2023-01-01 is out.",
        r#"{"created_at":"2024-01-01"}"#,
        r#"{"dob":"string"}"#,
        r#"{"dob":"45671980"}"#,
        r#"{"resourceType":"ValueSet","date":"2024-01-01"}"#,
    ],
};

/// A date, also with the year behind (`14021980`) and as .NET writes it (`/Date(319334400000)/`).
fn own_fits(value: &[u8]) -> bool {
    let ticks = value
        .strip_prefix(b"/Date(")
        .and_then(|rest| rest.strip_suffix(b")/"));
    if let Some(ticks) = ticks {
        return ticks.iter().any(u8::is_ascii_digit)
            && ticks
                .iter()
                .all(|byte| byte.is_ascii_digit() || b"+-".contains(byte));
    }
    if date(value) {
        return true;
    }
    match digits_of(value) {
        Some((digits, 8)) if value.len() == 8 => {
            let parted = [&digits[..2], b"/", &digits[2..4], b"/", &digits[4..8]].concat();
            date(&parted)
        }
        _ => false,
    }
}
