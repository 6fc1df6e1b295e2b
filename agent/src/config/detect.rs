//! `detect`, as written → what the detectors take. Classes and patterns are checked here, where there is a place to name.

use crate::detect::{Pattern, PhiSettings};
use crate::errors;
use crate::yaml::{Fields, Node, quote};

pub(super) fn read(fields: &Fields<'_>, phi: &mut PhiSettings) {
    let Some(detect) = fields.mapping("detect") else {
        return;
    };
    if let Some(written) = detect.mapping("phi") {
        phi.enabled = written.bool("enabled").unwrap_or(phi.enabled);
        for (class, place) in written.texts("off", "a class").unwrap_or_default() {
            if is_class(class) {
                phi.off.push(class.to_owned());
            } else {
                not_a_class(&written, class, place);
            }
        }
        if let Some(node) = written.take("keys") {
            keys(&written, node, phi);
        }
        if let Some(node) = written.take("patterns") {
            patterns(&written, node, phi);
        }
        written.finish();
    }
    detect.finish();
}

fn keys(phi: &Fields<'_>, node: &Node, settings: &mut PhiSettings) {
    for item in phi.reader().items(node) {
        let Some(fields) = phi.reader().fields(item, "detect.phi.keys[]") else {
            continue;
        };
        fields.require("names", "names of keys");
        let names = fields.texts("names", "the name of a key").unwrap_or_default();
        if let Some(class) = class(&fields) {
            for (name, _) in names {
                settings.keys.push((name.to_owned(), class.clone()));
            }
        }
        fields.finish();
    }
}

fn patterns(phi: &Fields<'_>, node: &Node, settings: &mut PhiSettings) {
    for item in phi.reader().items(node) {
        let Some(fields) = phi.reader().fields(item, "detect.phi.patterns[]") else {
            continue;
        };
        let class = class(&fields);
        let wanted = "a regular expression without look-around and back-references";
        let regex = fields.require("regex", wanted).and_then(|node| {
            fields.reader().parse(node, wanted, |text| {
                Pattern::is_regex(text).then(|| text.to_owned())
            })
        });
        let words = fields.texts("words", "a word").unwrap_or_default();
        if let (Some(class), Some(regex)) = (class, regex) {
            settings.patterns.push(Pattern {
                class,
                regex,
                words: words.into_iter().map(|(word, _)| word.to_owned()).collect(),
            });
        }
        fields.finish();
    }
}

fn class(fields: &Fields<'_>) -> Option<String> {
    let node = fields.require("class", "a class")?;
    let class = fields.reader().text(node, "a class")?;
    if !is_class(class) {
        not_a_class(fields, class, node.place);
        return None;
    }
    Some(class.to_owned())
}

/// Its name is shown everywhere: it is a word, not a sentence.
fn is_class(name: &str) -> bool {
    (2..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn not_a_class(fields: &Fields<'_>, name: &str, place: crate::yaml::Place) {
    fields.reader().problem(
        errors::BAD_VALUE,
        place,
        format!("{} cannot be the name of a class", quote(name)),
        "write 2 to 40 lower-case letters, digits and `-`",
    );
}
