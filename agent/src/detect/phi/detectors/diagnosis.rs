//! Diagnoses and problems, by ICD, SNOMED CT or name.
//!
//! Source: GDPR Articles 4(15) and 9(1).

use crate::detect::phi::checks::code_or_text;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Diagnosis,
    name: "diagnosis",
    group: Group::Health,
    about: "Diagnoses and problems, by ICD, SNOMED CT or name.",
    source: "GDPR Articles 4(15) and 9(1)",
    identifies: false,
    keys: &[
        "diagnosis",
        "diagnoses",
        "diagnosiscode",
        "icd10",
        "icd10code",
        "icd9",
        "icd",
        "icdcode",
        "primarydiagnosis",
        "admittingdiagnosis",
        "chiefcomplaint",
        "medicalcondition",
        "medicalhistory",
        "diagnose",
        "diagnosen",
        "diagnostico",
        "diagnosticos",
        "dxcode",
        "primarydx",
        "admittingdx",
        "problemcode",
    ],
    keys_alone: &[],
    keys_beside: &["diagnostic", "dx", "dx1", "dx2"],
    words: &["diagnosed with", "diagnosis"],
    fits: code_or_text,
    shape: None,
    examples: &[
        r#"{"diagn\u00f3stico":"E11.9"}"#,
        r#"{"diagnosis_description":"Essential hypertension"}"#,
        r#"{"diagnosisCodes":["E11.9"]}"#,
        "MSH|^~\\&|A|B|C|D|2024||DFT^P03|1|P|2.5\nFT1|1||||||||||||||||||E11.9^Diabetes^I10",
        r#"{"icd10":"E11.9"}"#,
        r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"44054006"}]}}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nDG1|1||E11.9^Diabetes^I10",
    ],
    counter_examples: &[
        r#"{"condition":"new"}"#,
        r#"{"diagnostics":true}"#,
        r#"{"resourceType":"CodeSystem","concept":[{"code":"E11.9"}],"url":"http://hl7.org/fhir/sid/icd-10"}"#,
    ],
};
