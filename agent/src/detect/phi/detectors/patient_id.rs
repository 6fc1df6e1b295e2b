//! Other numbers and names that stand for one patient in a system.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(R).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::PatientId,
    name: "patient-id",
    group: Group::Phi,
    about: "Other numbers and names that stand for one patient in a system.",
    source: "45 CFR 164.514(b)(2)(i)(R)",
    identifies: true,
    keys: &[
        "patientid",
        "patientidentifier",
        "patientnumber",
        "patientno",
        "patientref",
        "patientuuid",
        "patientkey",
        "subjectid",
        "patientennummer",
        "patientennr",
        "patientenid",
        "patientnummer",
        "idpatient",
        "numeropatient",
        "idpaciente",
        "numeropaciente",
        "pubpid",
        "patientcode",
        "patientvisitid",
        "personnumber",
        "desynpufid",
        "beneid",
        "personsourcevalue",
        "patientpseudonym",
        "subjectkey",
        "patienticn",
        "patientdfn",
        "patientexternalid",
        "patientuid",
        "patientguid",
        "demographicno",
        "demographicnumber",
    ],
    keys_alone: &[],
    keys_beside: &["personid", "participantid", "clientno", "clientnumber"],
    words: &["patient id", "patient number"],
    fits: own_fits,
    shape: None,
    examples: &[
        "patient_id=8812345",
        r#"{"patientennummer":"7330657"}"#,
        r#"{"id_paciente":"3027407"}"#,
        r#"{"patientIds":["8812"]}"#,
        r#"{"patient":{"id":"12345"}}"#,
        r#"{"resourceType":"CareTeam","subject":{"reference":"urn:uuid:6f1c"},"participant":[{"member":{"reference":"urn:uuid:6f1c"}}]}"#,
        r#"{"patient_id":"8812-A"}"#,
        r#"{"resourceType":"Observation","subject":{"reference":"Patient/8812"}}"#,
        r#"{"resourceType":"Patient","id":"8812"}"#,
    ],
    counter_examples: &[
        "http://h.example/a?patient_idx=8812345",
        "patient_id=null",
        r#"{"patientView":{"id":"12345"}}"#,
        r#"{"id":"8812"}"#,
        r#"{"resourceType":"ValueSet","id":"8812"}"#,
        r#"{"subject":{"reference":"Device/1"}}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    any(value) && value.len() <= 128 && !value.contains(&b' ')
}
