//! Private keys in PEM.
//!
//! Source: RFC 7468 sections 10 and 11, RFC 4716.

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::PrivateKey,
    name: "private-key",
    group: Group::Credential,
    about: "Private keys in PEM.",
    source: "RFC 7468 sections 10 and 11, RFC 4716",
    identifies: true,
    keys: &["privatekey", "sshprivatekey", "signingkey"],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n",
        r#"{"key":"-----BEGIN PRIVATE KEY-----\nMIIEvQ\n"}"#,
    ],
    counter_examples: &[
        "-----BEGIN PUBLIC KEY-----\nMIIBIjAN\n",
        r#"{"privateKeyPath":true}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    any(value) && value.len() >= 32
}
