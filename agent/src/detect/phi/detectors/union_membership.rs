//! Trade union membership.
//!
//! Source: GDPR Article 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::UnionMembership,
    name: "union-membership",
    group: Group::Pii,
    about: "Trade union membership.",
    source: "GDPR Article 9(1)",
    identifies: false,
    keys: &[
        "unionmembership",
        "tradeunion",
        "unionmember",
        "unionname",
        "gewerkschaft",
        "laborunion",
        "labourunion",
        "unionlocal",
        "unioncode",
        "unionmemberid",
        "unionmembernumber",
        "unionaffiliation",
        "vakbond",
        "vakbondslidmaatschap",
        "syndicat",
        "sindicato",
        "gewerkschaftszugehoerigkeit",
        "sindacato",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[r#"{"trade_union":"Local 42"}"#],
    counter_examples: &[r#"{"union":"outer"}"#],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
