//! Biometric identifiers: fingerprints, voice prints, faces as data.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(P); GDPR Article 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Biometric,
    name: "biometric",
    group: Group::Phi,
    about: "Biometric identifiers: fingerprints, voice prints, faces as data.",
    source: "45 CFR 164.514(b)(2)(i)(P); GDPR Article 9(1)",
    identifies: true,
    keys: &[
        "fingerprint",
        "fingerprints",
        "fingerprinttemplate",
        "voiceprint",
        "retinascan",
        "irisscan",
        "iristemplate",
        "facetemplate",
        "faceencoding",
        "faceembedding",
        "biometric",
        "biometrics",
        "biometrictemplate",
        "biometricdata",
        "biometricidentifier",
        "biometricid",
        "biometrichash",
        "voiceprintid",
        "fingerprintid",
        "facialprint",
        "fingerprintdata",
        "fingerprintminutiae",
        "minutiae",
        "fingerprinthash",
        "palmprint",
        "palmprinttemplate",
        "iriscode",
        "irisdata",
        "facedescriptor",
        "facevector",
        "facialgeometry",
        "facegeometry",
        "handgeometry",
        "retinadata",
        "retinatemplate",
        "voicetemplate",
        "veinpattern",
        "facialrecognition",
        "facialtemplate",
        "voicebiometric",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"fingerprint_template":"Rk1SACAyMAAAAADyAAABPAFiAMUAxQEA"}"#,
        r#"{"voiceprint":"AAECAwQFBgcICQoLDA0ODw=="}"#,
        r#"{"biometric_identifier":"FPR-94555130"}"#,
    ],
    counter_examples: &[
        r#"{"fingerprint":true}"#,
        r#"{"tls_fingerprint_enabled":"yes"}"#,
        r#"{"fingerprint":"ab:cd"}"#,
    ],
};

/// Data, not a word: and no digest of a certificate, which is written with colons.
fn own_fits(value: &[u8]) -> bool {
    // `FPR-94555130`
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_number = digits >= 6 && value.contains(&b'-') && !value.iter().any(u8::is_ascii_lowercase);
    any(value)
        && (value.len() >= 16 || value.len() >= 8 && is_number)
        && !value.contains(&b':')
        && !value.contains(&b' ')
}
