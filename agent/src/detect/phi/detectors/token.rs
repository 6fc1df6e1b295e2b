//! Tokens and keys of access: JWT, bearer tokens, cloud and vendor keys, session cookies.
//!
//! Source: RFC 7519, RFC 6750; AWS IAM identifiers; vendors’ published prefixes.

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Token,
    name: "token",
    group: Group::Credential,
    about: "Tokens and keys of access: JWT, bearer tokens, cloud and vendor keys, session cookies.",
    source: "RFC 7519, RFC 6750; AWS IAM identifiers; vendors’ published prefixes",
    identifies: true,
    keys: &[
        "accesstoken",
        "refreshtoken",
        "idtoken",
        "authtoken",
        "apikey",
        "apisecret",
        "clientsecret",
        "secretkey",
        "bearertoken",
        "sessiontoken",
        "sessionid",
        "jwt",
        "authorization",
        "awssecretaccesskey",
        "awsaccesskeyid",
        "privatetoken",
        "xapikey",
        "csrftoken",
        "httpcookie",
        "apitoken",
        "sessioncookie",
        "authcookie",
        "webhooksecret",
        "signingsecret",
        "accesstokensecret",
        "oauthtoken",
        "oauthtokensecret",
    ],
    keys_alone: &["token", "secret"],
    keys_beside: &[],
    words: &["bearer", "token", "api key"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA"}"#,
        "Use eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9 now.",
        r#"{"note":"AKIAIOSFODNN7EXAMPLE"}"#,
        r#"{"header":"Bearer mF_9.B5f-4.1JqM0d8a7"}"#,
    ],
    counter_examples: &[
        r#"{"tokens":["hello-world"]}"#,
        r#"{"token_type":"bearer"}"#,
        r#"{"token":"eof"}"#,
        r#"{"tokens":4096}"#,
        r#"{"note":"AKIAnot"}"#,
    ],
};

/// Long enough that nobody remembers it, in one word.
fn own_fits(value: &[u8]) -> bool {
    any(value) && value.len() >= 8 && value.iter().filter(|byte| **byte == b' ').count() <= 1
}
