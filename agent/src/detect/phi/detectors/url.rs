//! Web addresses of people.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(N).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Url,
    name: "url",
    group: Group::Phi,
    about: "Web addresses of people.",
    source: "45 CFR 164.514(b)(2)(i)(N)",
    identifies: true,
    keys: &[
        "website",
        "homepage",
        "profileurl",
        "linkedin",
        "facebook",
        "twitter",
        "personalurl",
        "linkedinprofile",
        "socialmediaprofile",
        "linkedinurl",
        "facebookurl",
        "twitterurl",
        "instagramurl",
        "personalwebsite",
        "socialprofile",
    ],
    keys_alone: &[],
    keys_beside: &[
        "profilelink",
        "githuburl",
        "blogurl",
        "portfoliourl",
        "webpage",
        "personalsite",
        "personalpage",
        "homepageurl",
        "weburl",
    ],
    words: &["website", "homepage", "my site", "my website", "linkedin"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"homepage":"https://marta.example/me"}"#,
        r#"{"resourceType":"Patient","telecom":[{"system":"url","value":"https://marta.example/me"}]}"#,
    ],
    counter_examples: &[
        r#"{"url":"https://api.example/fhir/metadata"}"#,
        r#"{"homepage":""}"#,
        r#"{"resourceType":"StructureDefinition","url":"http://hl7.org/fhir/StructureDefinition/Patient"}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    any(value) && value.contains(&b'.') && !value.contains(&b' ')
}
