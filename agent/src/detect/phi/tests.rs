//! Every detector against its own examples.

use super::*;
use crate::call::{Content, Data, Part};

pub(super) fn scanner() -> Scanner {
    Scanner::new(&PhiSettings::default(), [7; 32], &[]).expect("the tables build")
}

pub(super) fn scan(scanner: &mut Scanner, body: &[u8], content_type: &str) -> Vec<Data> {
    let content = Content {
        bytes: body,
        content_type: content_type.as_bytes(),
        content_encoding: b"",
        truncated: false,
    };
    scanner.body(Part::RequestBody, &content);
    scanner.take()
}

#[test]
fn the_reference_is_rendered() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/data-classes.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, render()).expect("written");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == render(),
        "docs/data-classes.md differs: UPDATE_DOCS=1 cargo test -p apiward detect::phi"
    );
}

#[test]
fn detectors_stand_at_their_class() {
    for (at, detector) in DETECTORS.iter().enumerate() {
        assert_eq!(detector.class as usize, at, "{}", detector.name);
        assert!(!detector.examples.is_empty(), "{}", detector.name);
        assert!(!detector.counter_examples.is_empty(), "{}", detector.name);
    }
}

#[test]
fn examples_are_found_and_counter_examples_are_not() {
    let mut scanner = scanner();
    let mut wrong = Vec::new();
    for detector in DETECTORS {
        for example in detector.examples {
            let data = scan(&mut scanner, example.as_bytes(), "");
            if !data.iter().any(|data| data.class == detector.name) {
                wrong.push(format!("{} is not found in {example}: {data:?}", detector.name));
            }
        }
        for example in detector.counter_examples {
            let data = scan(&mut scanner, example.as_bytes(), "");
            if data.iter().any(|data| data.class == detector.name) {
                wrong.push(format!("{} is found in {example}: {data:?}", detector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
