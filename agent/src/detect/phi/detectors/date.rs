//! Dates of care that are directly related to a person: admission, discharge, visits, results.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(C).

use crate::detect::phi::checks::date;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Date,
    name: "date",
    group: Group::Phi,
    about: "Dates of care that are directly related to a person: admission, discharge, visits, results.",
    source: "45 CFR 164.514(b)(2)(i)(C)",
    identifies: false,
    keys: &[
        "admissiondate",
        "dateofadmission",
        "admitdate",
        "admittedat",
        "admissiondatetime",
        "dischargedate",
        "dateofdischarge",
        "dischargedat",
        "visitdate",
        "dateofvisit",
        "dateofservice",
        "servicedate",
        "encounterdate",
        "appointmentdate",
        "surgerydate",
        "proceduredate",
        "diagnosisdate",
        "diagnosedat",
        "immunizationdate",
        "vaccinationdate",
        "onsetdate",
        "collectiondate",
        "collectiondatetime",
        "admitdatetime",
        "dischargedatetime",
        "studydate",
        "entlassungsdatum",
    ],
    keys_alone: &[],
    keys_beside: &["aufnahmedatum", "fechaingreso", "fechaalta"],
    words: &["admitted", "admission", "discharged", "discharge"],
    fits: date,
    shape: None,
    examples: &[
        r#"{"labs":[{"collectionDate":"2024-05-02"}]}"#,
        r#"{"admission_date":"2024-05-02","discharge_date":"2024-05-09"}"#,
        r#"{"resourceType":"Encounter","subject":{"reference":"Patient/1"},"period":{"start":"2024-05-02"}}"#,
        "She was admitted on 2024-05-02.",
    ],
    counter_examples: &[
        r#"{"updated_at":"2024-05-02T10:00:00Z"}"#,
        r#"{"resourceType":"StructureDefinition","date":"2024-05-02"}"#,
    ],
};
