//! Allergies and intolerances.
//!
//! Source: GDPR Articles 4(15) and 9(1).

use crate::detect::phi::checks::code_or_text;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Allergy,
    name: "allergy",
    group: Group::Health,
    about: "Allergies and intolerances.",
    source: "GDPR Articles 4(15) and 9(1)",
    identifies: false,
    keys: &[
        "allergy",
        "allergies",
        "allergen",
        "allergycode",
        "intolerances",
        "allergien",
        "alergias",
        "allergie",
        "allergenes",
        "alergenos",
        "allergyname",
        "allergynotes",
        "allergylist",
        "knownallergies",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["allergic to", "allergy to"],
    fits: code_or_text,
    shape: None,
    examples: &[
        r#"{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"7980"}]}}"#,
        r#"{"allergies":["Penicillin"]}"#,
        r#"{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"91936005"}]}}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nAL1|1|DA|1605^Acetaminophen",
    ],
    counter_examples: &[r#"{"allergies":[]}"#, r#"{"allergies":"none"}"#],
};
