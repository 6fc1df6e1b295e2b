//! Religious or philosophical beliefs.
//!
//! Source: GDPR Article 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Religion,
    name: "religion",
    group: Group::Pii,
    about: "Religious or philosophical beliefs.",
    source: "GDPR Article 9(1)",
    identifies: false,
    keys: &[
        "religion",
        "religiousbelief",
        "religiousaffiliation",
        "faith",
        "konfession",
        "religiouspreference",
        "religiousbeliefs",
        "religiousview",
        "religiousviews",
        "faithgroup",
        "faithpreference",
        "churchaffiliation",
        "religione",
        "religie",
        "religioesezugehoerigkeit",
        "confessione",
        "religionszugehoerigkeit",
    ],
    keys_alone: &[],
    keys_beside: &["worldview", "denomination"],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"religion":"Catholic"}"#,
        r#"{"resourceType":"Patient","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/patient-religion","valueCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ReligiousAffiliation","code":"1013"}]}}]}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||123^^^H^MR||OKAFOR^MARTA||||||||||||BAP",
    ],
    counter_examples: &[r#"{"religion":null}"#],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
