//! Steuerliche Identifikationsnummern of Germany.
//!
//! Source: Bundeszentralamt für Steuern; ISO/IEC 7064 mod 11, 10.

use crate::detect::phi::checks::{checked, digits_of, is_digits};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::SteuerId,
    name: "steuer-id",
    group: Group::Phi,
    about: "Steuerliche Identifikationsnummern of Germany.",
    source: "Bundeszentralamt für Steuern; ISO/IEC 7064 mod 11, 10",
    identifies: true,
    keys: &[
        "germanytaxpayeridentificationnumber",
        "steuerid",
        "steueridnr",
        "steueridentifikationsnummer",
        "idnr",
        "steuernummer",
        "steuerident",
        "steueridentnr",
        "steueridentnummer",
        "steuerlicheidentifikationsnummer",
        "tinde",
        "steueridentifikationsnr",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "steuer-id",
        "steuer-identifikationsnummer",
        "idnr",
        "steueridentifikationsnummer",
    ],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[(&[2, 3, 3, 3], b" "), (&[11], b"")],
        word: None,
        check,
        alone: 0,
        alone_grouped: 80,
        beside: 97,
    }),
    examples: &[
        "SteuerID:86095742719",
        r#"{"steuer_id":"86095742719"}"#,
        "Die Nummer 86 095 742 719 steht im Bescheid.",
    ],
    counter_examples: &[r#"{"steuer_id":"86095742718"}"#, r#"{"order":"86095742719"}"#],
};

fn check(digits: &[u8]) -> Fit {
    if !is_digits(digits, 11) || digits[0] == b'0' {
        return Fit::No;
    }
    // Of the first ten digits, one comes twice or three times, and the others once at most.
    let mut times = [0u8; 10];
    for digit in &digits[..10] {
        times[usize::from(digit - b'0')] += 1;
    }
    let repeated: Vec<u8> = times.into_iter().filter(|times| *times > 1).collect();
    if !matches!(repeated.as_slice(), [2] | [3]) {
        return Fit::No;
    }
    let mut product = 10;
    for digit in &digits[..10] {
        let sum = (u32::from(digit - b'0') + product) % 10;
        product = (if sum == 0 { 10 } else { sum }) * 2 % 11;
    }
    checked((11 - product) % 10 == u32::from(digits[10] - b'0'))
}

fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| check(&digits[..length]) == Fit::Checked)
}
