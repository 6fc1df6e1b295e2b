//! Vehicle identification numbers and licence plates.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(L); 49 CFR 565.15 (check digit).

use crate::detect::phi::checks::{checked, number};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Vehicle,
    name: "vehicle",
    group: Group::Phi,
    about: "Vehicle identification numbers and licence plates.",
    source: "45 CFR 164.514(b)(2)(i)(L); 49 CFR 565.15 (check digit)",
    identifies: true,
    keys: &[
        "vin",
        "vehicleid",
        "vehicleidentificationnumber",
        "licenseplate",
        "licenceplate",
        "platenumber",
        "numberplate",
        "kennzeichen",
        "kfzkennzeichen",
        "nummernschild",
        "kenteken",
        "matricula",
        "immatriculation",
        "vehicleregistration",
        "registrationplate",
        "regplate",
        "vrm",
        "carplate",
        "carregistration",
        "carregistrationnumber",
        "vehicleplate",
    ],
    keys_alone: &[],
    keys_beside: &["plate"],
    words: &[
        "license plate",
        "licence plate",
        "number plate",
        "plate number",
        "registration plate",
        "kennzeichen",
        "kenteken",
        "vin",
        "vehicle",
        "plate",
    ],
    fits: number,
    shape: Some(Shape {
        digits: &[],
        word: Some((17, 17)),
        check,
        alone: 75,
        alone_grouped: 75,
        beside: 95,
    }),
    examples: &[
        "License plate 7XYZ482",
        "Licence plate number AB95 CDE was recorded.",
        "Kennzeichen B-MW 1234",
        r#"{"kenteken":"AB-636-C"}"#,
        r#"{"vehicle_registration":"7XYZ482"}"#,
        r#"{"licensePlates":["7XYZ482"]}"#,
        r#"{"vin":"1HGCM82633A004352"}"#,
        "The car 1HGCM82633A004352 was towed.",
        r#"{"license_plate":"7XYZ482"}"#,
    ],
    counter_examples: &[
        "vehicle 12345",
        "A plate of 12 EGGS.",
        "Plate SERIES 7",
        r#"{"ref":"1HGCM82633A004353"}"#,
        r#"{"vin":""}"#,
    ],
};

/// Position 9 is the sum of the others, by weight, modulo 11.
fn check(value: &[u8]) -> Fit {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    if value.len() != 17
        || !value.iter().any(u8::is_ascii_uppercase)
        || !value[13..].iter().all(u8::is_ascii_digit)
    {
        return Fit::No;
    }
    let mut sum = 0;
    for (byte, weight) in value.iter().zip(WEIGHTS) {
        let worth = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'H' => byte - b'A' + 1,
            b'J'..=b'N' => byte - b'J' + 1,
            b'P' => 7,
            b'R' => 9,
            b'S'..=b'Z' => byte - b'S' + 2,
            _ => return Fit::No,
        };
        sum += u32::from(worth) * weight;
    }
    let right = match sum % 11 {
        10 => b'X',
        rest => b'0' + rest as u8,
    };
    checked(value[8] == right)
}
