//! Procedures, by CPT, HCPCS, ICD-10-PCS, SNOMED CT or name.
//!
//! Source: GDPR Articles 4(15) and 9(1).

use crate::detect::phi::checks::code_or_text;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Procedure,
    name: "procedure",
    group: Group::Health,
    about: "Procedures, by CPT, HCPCS, ICD-10-PCS, SNOMED CT or name.",
    source: "GDPR Articles 4(15) and 9(1)",
    identifies: false,
    keys: &[
        "procedure",
        "procedurecode",
        "procedures",
        "cptcode",
        "cpt",
        "hcpcs",
        "hcpcscode",
        "surgery",
        "treatmentcode",
        "prcdrcd",
        "icd9prcdrcd",
        "hcpcscd",
        "icdprcdrcd",
        "proceduresourcevalue",
        "pxcode",
        "procdesc",
        "surgeryname",
        "procedureperformed",
        "operationperformed",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["underwent"],
    fits: code_or_text,
    shape: None,
    examples: &[
        "MSH|^~\\&|A|B|C|D|2024||DFT^P03|1|P|2.5\nFT1|1||||||99213^Office visit^C4",
        r#"{"cpt_code":"99213"}"#,
        r#"{"resourceType":"Procedure","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://www.ama-assn.org/go/cpt","code":"99213"}]}}"#,
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPR1|1||99213^Visit^C4",
    ],
    counter_examples: &[
        "MSH|^~\\&|A|B|C|D|2024||DFT^P03|1|P|2.5\nFT1|1||||||R120^Room, one night^LOCAL",
        r#"{"proc":"nightly"}"#,
        r#"{"cpt":null}"#,
    ],
};
