//! Medication and vaccines, by RxNorm, NDC, ATC, CVX or name.
//!
//! Source: GDPR Articles 4(15) and 9(1).

use crate::detect::phi::checks::code_or_text;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Medication,
    name: "medication",
    group: Group::Health,
    about: "Medication and vaccines, by RxNorm, NDC, ATC, CVX or name.",
    source: "GDPR Articles 4(15) and 9(1)",
    identifies: false,
    keys: &[
        "medication",
        "medications",
        "medicationname",
        "medicationcode",
        "drugname",
        "drug",
        "drugcode",
        "rxnorm",
        "rxcui",
        "ndc",
        "ndccode",
        "prescription",
        "prescriptions",
        "vaccine",
        "vaccinecode",
        "dosage",
        "medikament",
        "medikamente",
        "arzneimittel",
        "medicament",
        "medicaments",
        "medicamento",
        "medicamentos",
        "medicatie",
        "medicijn",
        "rxnormcode",
        "medname",
        "rxname",
        "medicationlist",
        "drugdesc",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["prescribed"],
    fits: code_or_text,
    shape: None,
    examples: &[
        r#"{"medikament":"Ibuprofen 400"}"#,
        r#"{"medicamento":"Paracetamol"}"#,
        r#"{"rxnorm":"860975"}"#,
        r#"{"resourceType":"MedicationRequest","subject":{"reference":"Patient/1"},"medicationCodeableConcept":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"860975"}]}}"#,
        r#"{"medication":"Metformin 500 mg"}"#,
    ],
    counter_examples: &[
        r#"{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"7980"}]}}"#,
        r#"{"medication":null}"#,
        r#"{"media":"image"}"#,
    ],
};
