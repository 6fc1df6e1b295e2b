//! Numbers of members and policies of health plans.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(I).

use crate::detect::phi::checks::number;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::HealthPlan,
    name: "health-plan",
    group: Group::Phi,
    about: "Numbers of members and policies of health plans.",
    source: "45 CFR 164.514(b)(2)(i)(I)",
    identifies: true,
    keys: &[
        "healthplannumber",
        "memberid",
        "memberno",
        "membernumber",
        "subscriberid",
        "subscribernumber",
        "policynumber",
        "policyno",
        "insuranceid",
        "insurancenumber",
        "insurancepolicynumber",
        "healthinsurancenumber",
        "beneficiaryid",
        "beneficiarynumber",
        "medicaidid",
        "medicaidnumber",
        "medicareid",
        "medicarenumber",
        "hicn",
        "groupnumber",
        "healthcardnumber",
        "versichertennummer",
        "kvnr",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "member id",
        "policy number",
        "subscriber id",
        "insurance number",
        "medicaid",
        "health plan",
        "beneficiary",
    ],
    fits: number,
    shape: None,
    examples: &[
        r#"{"member_id":"XQZ482913001"}"#,
        r#"{"resourceType":"Coverage","subscriberId":"XQZ482913001"}"#,
        "Insurance policy number: XQZ482913001.",
    ],
    counter_examples: &[r#"{"members":42}"#, r#"{"policy":"default-allow"}"#],
};
