//! Sex life, sexual orientation, gender identity.
//!
//! Source: GDPR Article 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::SexualOrientation,
    name: "sexual-orientation",
    group: Group::Pii,
    about: "Sex life, sexual orientation, gender identity.",
    source: "GDPR Article 9(1)",
    identifies: false,
    keys: &[
        "sexualorientation",
        "sexualpreference",
        "genderidentity",
        "sexlife",
        "sexuality",
        "orientacionsexual",
        "sexuelleorientierung",
        "orientationsexuelle",
        "orientamentosessuale",
        "orientacaosexual",
        "seksueleorientatie",
        "sexualidentity",
        "transgenderstatus",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[r#"{"sexual_orientation":"bisexual"}"#],
    counter_examples: &[r#"{"orientation":"landscape"}"#],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
