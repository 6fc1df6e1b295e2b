//! Whether letters look like a word at all, and whether the word is one that APIs are made of.
//!
//! The first is told by how often each pair of letters stands in the shipped words and names, against chance: `workhours`
//! and `abrechnung` do, `tbUMYWom` and `qzxkvw` do not. The second by a list. It must not know which words were seen.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::endpoint::camel_parts;
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
            let mut lower = [0; PART_BYTES_MAX];
            let class = lower.get_mut(..part.len()).map_or(0, |lower| {
                lower.copy_from_slice(part.as_bytes());
                lower.make_ascii_lowercase();
                let lower = std::str::from_utf8(lower).unwrap_or_default();
                let class = COMMON.get(lower).copied().unwrap_or_default();
                match class < OF_VOCABULARY && is_vocabulary(lower) {
                    true => OF_VOCABULARY,
                    false => class,
                }
            });
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
}

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
