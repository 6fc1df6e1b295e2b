//! Fax numbers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(E).

use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Fax,
    name: "fax",
    group: Group::Phi,
    about: "Fax numbers.",
    source: "45 CFR 164.514(b)(2)(i)(E)",
    identifies: true,
    keys: &[
        "fax",
        "faxnumber",
        "faxno",
        "telefax",
        "faxnummer",
        "faxnr",
        "telefaxnummer",
        "numerofax",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["fax", "telefax"],
    fits: own_fits,
    shape: None,
    examples: &[
        "Please fax the results to 226.641.5887.",
        "Fax: 212-555-0142",
        "Phone 212-555-0143, fax (212) 555-0142.",
        "Fax: +1-212-555-0142",
        r#"{"fax":"212-555-0143"}"#,
        r#"{"fax_number":"(837)585-5517x541"}"#,
        r#"{"faxnummer":"+49 (0) 4614 800831"}"#,
        r#"{"resourceType":"Patient","telecom":[{"system":"fax","value":"212-555-0143"}]}"#,
    ],
    counter_examples: &[
        "555-201-0143 fax\n01.89.69.88.79 mobile",
        "555-201-0143 fax\n+1 555 201 0142 mobile",
        "Fax the 12 pages to us.",
        r#"{"fax":""}"#,
        r#"{"faxEnabled":true}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    (Class::Phone.detector().fits)(value)
}
