//! Medical record numbers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(H).

use crate::detect::phi::checks::number;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Mrn,
    name: "mrn",
    group: Group::Phi,
    about: "Medical record numbers.",
    source: "45 CFR 164.514(b)(2)(i)(H)",
    identifies: true,
    keys: &[
        "mrn",
        "medicalrecordnumber",
        "medicalrecordno",
        "medicalrecord",
        "mrnumber",
        "patientmrn",
        "chartnumber",
        "chartno",
        "hospitalnumber",
        "medrecno",
        "recordnumber",
        "medrecnum",
        "medicalrecordnum",
        "medicalrecordid",
        "medrec",
        "medrecnumber",
        "medrecordno",
        "numerohistoriaclinica",
        "historiaclinica",
        "patientmedicalrecordnumber",
        "mrnid",
        "unitnumber",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "chart no",
        "hospital no",
        "med rec",
        "mrn",
        "medical record",
        "chart number",
        "hospital number",
        "mr#",
    ],
    fits: number,
    shape: None,
    examples: &[
        r#"{"MRN__c":"00482913"}"#,
        r#"{"hospitalNo":"482913"}"#,
        "Seen, chart no. 482913 today.",
        r#"{"mrn":"00482913"}"#,
        r#"{"mrns":["00482913"]}"#,
        r#"{"type":"MRN","value":"482913"}"#,
        r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"482913"}]}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1||482913^^^H^MR",
        "Seen today, MRN: 00482913, in good health.",
        r#"{"00100020":{"vr":"LO","Value":["482913"]}}"#,
    ],
    counter_examples: &[
        r#"{"mrn":""}"#,
        r#"{"type":"count","value":"482913"}"#,
        r#"{"recordCount":42}"#,
        "The record has 12 entries.",
    ],
};
