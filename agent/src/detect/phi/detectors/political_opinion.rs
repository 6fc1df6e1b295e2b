//! Political opinions.
//!
//! Source: GDPR Article 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::PoliticalOpinion,
    name: "political-opinion",
    group: Group::Pii,
    about: "Political opinions.",
    source: "GDPR Article 9(1)",
    identifies: false,
    keys: &[
        "politicalaffiliation",
        "politicalparty",
        "politicalopinion",
        "politicalviews",
        "partymembership",
        "politicalview",
        "politicalbelief",
        "politicalbeliefs",
        "politicalleaning",
        "partyaffiliation",
        "registeredparty",
        "partyregistration",
        "politicalorientation",
        "politicalstance",
        "politicalideology",
        "politischemeinung",
        "opinionpolitique",
        "opinionespoliticas",
        "opinionpolitica",
        "politicalpreference",
        "votingpreference",
        "opinionepolitica",
        "politiekevoorkeur",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[r#"{"political_affiliation":"Green"}"#],
    counter_examples: &[r#"{"party":"third"}"#],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
