//! Full-face photographs and comparable images.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(Q).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Photo,
    name: "photo",
    group: Group::Phi,
    about: "Full-face photographs and comparable images.",
    source: "45 CFR 164.514(b)(2)(i)(Q)",
    identifies: false,
    keys: &[
        "photo",
        "facephoto",
        "patientphoto",
        "portrait",
        "headshot",
        "selfie",
        "profilephoto",
        "profilepicture",
        "photourl",
        "mugshot",
        "profileimage",
        "photolink",
        "photouri",
        "photosrc",
        "profileimageuri",
        "profileimageurl",
        "profilepic",
        "profilepicurl",
        "profilephotouri",
        "userphoto",
        "userpicture",
        "selfieimage",
        "photobase64",
        "faceimage",
        "patientphotourl",
        "headshoturl",
        "passportphoto",
        "idphoto",
        "photoidimage",
    ],
    keys_alone: &["picture", "avatar"],
    keys_beside: &["picurl"],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"avatar_url":"https://cdn.example/p/56224043.jpg"}"#,
        r#"{"patient_photo":"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMC"}"#,
        r#"{"resourceType":"Patient","photo":[{"contentType":"image/jpeg","data":"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMC"}]}"#,
    ],
    counter_examples: &[
        r#"{"photo":false}"#,
        r#"{"resourceType":"Patient","photo":[]}"#,
        r#"{"photos":12}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    any(value) && value.len() >= 12 && !value.contains(&b' ')
}
