//! Racial or ethnic origin.
//!
//! Source: GDPR Article 9(1).

use crate::detect::phi::checks::{any, is_message};
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Ethnicity,
    name: "ethnicity",
    group: Group::Pii,
    about: "Racial or ethnic origin.",
    source: "GDPR Article 9(1)",
    identifies: false,
    keys: &[
        "ethnicity",
        "race",
        "ethnicgroup",
        "ethnicorigin",
        "racialorigin",
        "racecode",
        "ethnicgroupcode",
        "ethnicityname",
        "ethnicitycode",
        "racacor",
        "etnia",
        "ethnie",
        "indigenousstatus",
        "ancestry",
        "ethnicityreference",
        "etnicidad",
        "racesourcevalue",
        "ethnicitysourcevalue",
        "raceethnicity",
        "raca",
        "ethniccategory",
        "ethnicitycategory",
        "ethnicgroupdescription",
        "ethnicbackground",
        "racialbackground",
        "ethnischeherkunft",
        "origineethnique",
    ],
    keys_alone: &[],
    keys_beside: &["racename"],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"ethnicity":"Hispanic or Latino"}"#,
        r#"{"resourceType":"Patient","extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race","extension":[{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2106-3"}}]}]}"#,
        r#"{"resourceType":"Patient","extension":[{"extension":[{"url":"text","valueString":"White"}],"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"}]}"#,
    ],
    counter_examples: &[
        r#"{"race_condition":false}"#,
        r#"{"race":"24h Le Mans"}"#,
        r#"{"race":["is invalid"]}"#,
        r#"{"ethnicity":"<string>","race":"[RACE]"}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    // `24h Le Mans` is another race.
    let counts = value
        .windows(2)
        .any(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic());
    any(value) && !counts && !is_message(value)
}
