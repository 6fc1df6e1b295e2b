//! Dates of death.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(C).

use crate::detect::phi::checks::date;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::DeathDate,
    name: "death-date",
    group: Group::Phi,
    about: "Dates of death.",
    source: "45 CFR 164.514(b)(2)(i)(C)",
    identifies: false,
    keys: &[
        "deathdate",
        "deathtime",
        "dateofdeath",
        "deceaseddate",
        "deceaseddatetime",
        "dod",
        "deathdatetime",
        "sterbedatum",
        "diedon",
        "datedeces",
        "datededeces",
        "fechadefuncion",
        "fechafallecimiento",
        "dodhosp",
        "dodssn",
        "deathdt",
        "benedeathdt",
        "deceasedon",
        "deathon",
        "deathdateandtime",
        "dateandtimeofdeath",
        "patientdeathdateandtime",
        "dateofdeceased",
        "diedat",
        "deceasedat",
        "deathtimestamp",
        "dataobito",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "died",
        "death",
        "deceased",
        "passed away",
        "verstorben",
        "décédé",
        "décédée",
        "falleció",
    ],
    fits: date,
    shape: None,
    examples: &[
        r#"{"date_of_death":"2021-03-02"}"#,
        r#"{"resourceType":"Patient","deceasedDateTime":"2021-03-02"}"#,
        "He died on 2021-03-02 at home.",
    ],
    counter_examples: &[r#"{"deceasedBoolean":false}"#, r#"{"due_date":"2021-03-02"}"#],
};
