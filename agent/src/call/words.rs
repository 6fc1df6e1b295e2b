//! Whether letters look like a word at all, and whether the word is one that APIs are made of.
//!
//! The first is told by how often each pair of letters stands in the shipped words and names, against chance: `workhours`
//! and `abrechnung` do, `tbUMYWom` and `qzxkvw` do not. The second by a list. It must not know which words were seen.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::learnable::camel_parts;
use super::redact::is_vocabulary;

/// Letters, and the border of a word.
const SYMBOLS: usize = 27;
const BORDER: usize = 26;
/// Letters from which on chance shows.
const LETTERS_MIN: usize = 6;
const LETTERS_SURE: usize = 8;
/// Mean of a pair's log2 odds below which letters are no word: about one word in a hundred is below, and nine random
/// strings in ten.
const SHORT_ODDS: f32 = -1.3;
const LONG_ODDS: f32 = -1.0;
/// Where capitals stand as they do in no camel case.
const MIXED_ODDS: f32 = -0.2;

/// Log2 odds of the second letter behind the first, against one in twenty-seven.
static ODDS: LazyLock<[[f32; SYMBOLS]; SYMBOLS]> = LazyLock::new(|| {
    let mut counts = [[0.3f32; SYMBOLS]; SYMBOLS];
    let words = [include_str!("vocabulary.txt"), include_str!("names.txt")];
    let words = words
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(|c: char| !c.is_ascii_lowercase()))
        .filter(|word| word.len() > 2);
    for word in words {
        let mut before = BORDER;
        for letter in word.bytes().map(|byte| usize::from(byte - b'a')) {
            counts[before][letter] += 1.0;
            before = letter;
        }
        counts[before][BORDER] += 1.0;
    }
    counts.map(|row| {
        let all: f32 = row.iter().sum();
        row.map(|count| (count / all * SYMBOLS as f32).log2())
    })
});

/// How common the parts of a word are in the paths of published APIs: 0 where no API has them, 4 where many have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commonness {
    pub least: u8,
    pub most: u8,
    pub parts: u8,
    /// Parts that no API has.
    pub unknown: u8,
}

/// Longer parts are in no list.
const PART_BYTES_MAX: usize = 24;
/// What may be shown is as common as this.
const OF_VOCABULARY: u8 = 3;

static COMMON: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| {
    let mut words = HashMap::new();
    let mut class = 0;
    for line in include_str!("api_words.txt")
        .lines()
        .filter(|line| !line.starts_with("#:"))
    {
        match line.strip_prefix("# ") {
            Some(next) => class = next.parse().unwrap_or_default(),
            None => words.extend(line.split_ascii_whitespace().map(|word| (word, class))),
        }
    }
    words
});

impl Commonness {
    /// Of a word as it stands in a path.
    pub fn of(word: &str) -> Commonness {
        let mut all = Commonness {
            least: u8::MAX,
            ..Commonness::default()
        };
        let parts = word
            .split(|c: char| !c.is_ascii_alphabetic())
            .flat_map(camel_parts);
        for part in parts.filter(|part| part.len() > 1) {
            let class = with_lower(part, class_of).unwrap_or_default();
            all.least = all.least.min(class);
            all.most = all.most.max(class);
            all.parts = all.parts.saturating_add(1);
            all.unknown = all.unknown.saturating_add(u8::from(class == 0));
        }
        match all.parts {
            0 => Commonness::default(),
            _ => all,
        }
    }

    /// No part is common by itself, but each that is not is made of such as are: `resetpassword`, `joined`.
    pub fn is_made(word: &str) -> bool {
        let mut made = false;
        let all = parts_of(word).all(|part| {
            let class = with_lower(part, class_of).unwrap_or_default();
            made |= class == 0;
            class > 0 || with_lower(part, is_made_of_common).unwrap_or_default()
        });
        all && made
    }

    /// At least half of its letters are common words'.
    pub(super) fn is_half_known(word: &str) -> bool {
        let (mut known, mut letters) = (0, 0);
        for part in parts_of(word) {
            letters += part.len();
            // Two letters are a word of the list by chance.
            if part.len() > 2 || word.contains(['-', '_']) {
                let class = with_lower(part, class_of).unwrap_or_default();
                known += if class > 0 { part.len() } else { 0 };
            }
        }
        known > 0 && known * 2 >= letters
    }
}

/// The parts of a word as it stands in a path.
fn parts_of(word: &str) -> impl Iterator<Item = &str> {
    let parts = word.split(|c: char| !c.is_ascii_alphabetic());
    parts.flat_map(camel_parts).filter(|part| part.len() > 1)
}

/// In small letters, without a string of its own; `None`: longer than any word of a list.
fn with_lower<T>(part: &str, read: impl FnOnce(&str) -> T) -> Option<T> {
    let mut lower = [0; PART_BYTES_MAX];
    let lower = lower.get_mut(..part.len())?;
    lower.copy_from_slice(part.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok().map(read)
}

/// How common a word in small letters is.
fn class_of(lower: &str) -> u8 {
    let class = COMMON.get(lower).copied().unwrap_or_default();
    match class < OF_VOCABULARY && is_vocabulary(lower) {
        true => OF_VOCABULARY,
        false => class,
    }
}

/// Another form of a common word, or two or three of them written together. Names are in no list, and what only looks
/// like one of these forms (`cooper`) is none: no form ends with `er`.
fn is_made_of_common(lower: &str) -> bool {
    let common = |word: &str| word.len() >= FORM_BYTES_MIN && class_of(word) > 0;
    let with = |stem: &str, ending: &str| common(&smol_str::format_smolstr!("{stem}{ending}"));
    let is_form = ENDINGS.iter().any(|(ending, instead)| {
        let stem = lower.strip_suffix(ending);
        stem.is_some_and(|stem| stem.len() >= FORM_BYTES_MIN && instead.iter().any(|other| with(stem, other)))
    });
    if is_form
        || (lower.len() > FORM_BYTES_MIN && ["s", "d", "ed", "ing"].iter().any(|more| with(lower, more)))
    {
        return true;
    }
    let is_two = |text: &str| {
        (FORM_BYTES_MIN..text.len().saturating_sub(FORM_BYTES_MIN - 1)).any(|at| {
            let halves = text.split_at_checked(at);
            halves.is_some_and(|(one, other)| common(one) && common(other))
        })
    };
    if lower.len() >= GLUED_BYTES_MIN && is_two(lower) {
        return true;
    }
    (FORM_BYTES_MIN..lower.len()).any(|at| {
        let parts = lower.split_at_checked(at);
        parts.is_some_and(|(one, others)| common(one) && others.len() >= GLUED_BYTES_MIN && is_two(others))
    })
}

/// Endings of a word's forms, and what stands in their place in the word that is common.
const ENDINGS: &[(&str, &[&str])] = &[
    ("s", &[""]),
    ("es", &["", "e"]),
    ("ies", &["y"]),
    ("ed", &["", "e"]),
    ("ing", &["", "e"]),
    ("ion", &["", "e"]),
    ("ions", &["", "e"]),
    ("ation", &["", "e"]),
    ("ment", &[""]),
    ("ly", &[""]),
    ("able", &["", "e"]),
];
/// Shorter words are found in any other.
const FORM_BYTES_MIN: usize = 3;
/// So long are two words that are written as one.
const GLUED_BYTES_MIN: usize = 7;

/// The letters in it are no word's.
pub(super) fn is_random(text: &str) -> bool {
    let (mut letters, mut pairs, mut odds, mut odd_capitals) = (0usize, 0usize, 0.0f32, 0usize);
    let mut before: Option<u8> = None;
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if !byte.is_ascii_alphabetic() {
            before = None;
            continue;
        }
        letters += 1;
        if let Some(last) = before {
            let row = &ODDS[usize::from(last.to_ascii_lowercase() - b'a')];
            odds += row[usize::from(byte.to_ascii_lowercase() - b'a')];
            pairs += 1;
            // A capital behind a small letter that begins nothing: `tbUM`, `Ydq`.
            let begins = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            let next_small = bytes.get(at + 2).is_none_or(|next| !next.is_ascii_uppercase());
            odd_capitals += usize::from(
                last.is_ascii_lowercase() && byte.is_ascii_uppercase() && !(begins && next_small),
            );
        }
        before = Some(byte);
    }
    if letters < LETTERS_MIN || pairs * 2 < letters {
        return false;
    }
    let mean = odds / pairs as f32;
    match () {
        () if odd_capitals > 0 && letters >= LETTERS_SURE => mean < MIXED_ODDS,
        () if letters >= LETTERS_SURE => mean < LONG_ODDS,
        () => mean < SHORT_ODDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_common_words_are() {
        assert_eq!(Commonness::of("patients").least, 3);
        assert_eq!(Commonness::of("users").least, 4);
        assert_eq!(
            Commonness::of("qzxkvw-listUsers"),
            Commonness {
                least: 0,
                most: 4,
                parts: 3,
                unknown: 1
            }
        );
        assert_eq!(Commonness::of("42"), Commonness::default());
        assert!(COMMON.len() > 4_000 && COMMON.values().all(|class| (1..=4).contains(class)));
    }

    #[test]
    fn words_that_are_made_of_common_ones() {
        for word in [
            "resetpassword",
            "joined",
            "catalog-links",
            "allApps",
            "statusboard",
        ] {
            assert!(
                Commonness::is_made(word) || Commonness::of(word).least > 0,
                "{word}"
            );
        }
        for word in ["cooper", "smith", "frobs", "brave-otter", "users", "42", "x"] {
            assert!(!Commonness::is_made(word), "{word}");
        }
        assert!(Commonness::is_half_known("send_dtmf") && Commonness::is_half_known("by_size"));
        assert!(
            !Commonness::is_half_known("IZewxaFUl") && !Commonness::is_half_known("aGVsbG9Xb3JsZEZvb0Jhcg")
        );
    }

    #[test]
    fn words_and_what_is_none() {
        for word in [
            "workhours",
            "abrechnung",
            "getStationsData",
            "inbox",
            "draft",
            "patients",
            "listAPIs",
            "oauth",
            "emergency-contacts",
            "vorgaenge",
            "prescripciones",
            "rendezvous",
            "DICOMweb",
            "userIDs",
        ] {
            assert!(!is_random(word), "{word}");
        }
        for random in [
            "tbUMYWom",
            "IZewxaFUl",
            "qzxkvwjh",
            "xkqjzv",
            "FsOWVUcSp",
            "EAwmOSrPTfJ",
        ] {
            assert!(is_random(random), "{random}");
        }
    }
}
