//! Values by what they look like: numbers with check digits, emails, tokens, and what words beside them make of them.
//!
//! One pass sums up which bytes there are; most values end there. Words are found where words begin, credentials by one
//! set of literals, and numbers by walking runs of digits once. Nothing goes back further than a fixed number of bytes.

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;
use regex_automata::meta::Regex;

use super::class::{Class, DETECTORS, Fit, Shape};
use super::keys::ClassId;
use crate::call::Evidence;

mod addresses;
mod behind;
mod cards;
mod forms;
mod given;
mod others;
mod people;
mod prose;
mod quiet;
mod secrets;
mod surnames;
mod vocabulary;
mod words;

use addresses::{addresses, street};
use behind::{
    begins_line_of_log, comes_from, groups_in, is_called, mac_in, pin_in, said, secret_behind, url_in,
};
pub(super) use behind::{is_told, says_none, value_in};
pub(super) use forms::tagged;
use forms::{is_extension, of_thing};
use people::{Cue, by_given, name_behind, of_letters};
pub(super) use people::{is_persons, is_surely_persons, names_somebody};
pub(super) use prose::name_in;
use prose::{date_in, emails, number_in, phrase_in};
use quiet::Quiet;
use vocabulary::Vocabulary;

/// A word counts for what stands so many bytes behind it.
const WINDOW_BYTES: usize = 40;
/// Digits of a number's first run; longer ones begin nothing.
const FIRST_DIGITS_MAX: usize = 31;
/// Runs of digits that are looked at together.
const RUNS_MAX: usize = 16;
/// Confidence of what a word and a number or date beside it say.
const BESIDE: u8 = 80;

const DIGIT: u8 = 1;
const AT: u8 = 2;
const UPPER: u8 = 4;
const SPACE: u8 = 8;
const LOWER: u8 = 16;
const SIGN: u8 = 32;
/// Letters, digits, and what a word of a program or of another script is written with.
const WORD: u8 = 64;

static SORTS: [u8; 256] = {
    let mut sorts = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        sorts[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT | WORD,
            b'A'..=b'Z' => UPPER | WORD,
            b'a'..=b'z' => LOWER | WORD,
            b'_' | 0x80.. => WORD,
            b'@' => AT,
            b' ' | b'\n' | b'\t' | b'\r' => SPACE,
            b':' => SPACE | SIGN,
            b'=' | b'#' => SIGN,
            _ => 0,
        };
        byte += 1;
    }
    sorts
};

/// A regular expression of the configuration.
pub(super) struct Own {
    pub class: ClassId,
    pub regex: Regex,
    /// In lower case; empty: it counts by itself.
    pub words: Vec<String>,
}

/// Something in a text.
pub(super) struct Found {
    pub class: ClassId,
    pub evidence: Evidence,
    pub confidence: u8,
    pub start: usize,
    pub end: usize,
}

/// What is known of the text's place.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Around {
    /// Classes whose words are in its key.
    pub context: u64,
    /// Its key says that its numbers are nobody's.
    pub technical: bool,
    /// It is a JSON number, or one of a record.
    pub number: bool,
}

/// What is looked for, built once.
pub(super) struct Text {
    words: Vocabulary,
    /// By word: the classes that it is a word of, and how it says a name.
    masks: Vec<u64>,
    cues: Vec<Cue>,
    /// In capitals alone: `pin` is in many words.
    pin: Finder<'static>,
    secrets: AhoCorasick,
    shapes: Vec<(ClassId, &'static Shape)>,
    /// By the digits of a number's first run: those of `shapes` that begin so, a bit each.
    begins: [u64; FIRST_DIGITS_MAX + 1],
    own: Vec<Own>,
    quiet: Quiet,
}

impl Text {
    pub fn new(own: Vec<Own>) -> Result<Text, String> {
        let mut words: Vec<(&str, u64)> = Vec::new();
        for (id, detector) in DETECTORS.iter().enumerate() {
            for word in detector.words {
                match words.iter_mut().find(|(known, _)| known == word) {
                    Some((_, mask)) => *mask |= 1 << id,
                    None => words.push((word, 1 << id)),
                }
            }
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let shapes: Vec<(ClassId, &Shape)> = DETECTORS
            .iter()
            .enumerate()
            .filter_map(|(id, detector)| Some((id as ClassId, detector.shape.as_ref()?)))
            .collect();
        let mut begins = [0; FIRST_DIGITS_MAX + 1];
        for (at, (_, shape)) in shapes.iter().enumerate() {
            for first in shape.digits.iter().filter_map(|(lengths, _)| lengths.first()) {
                begins[usize::from(*first)] |= 1 << at;
            }
        }
        Ok(Text {
            pin: Finder::new(b"PIN "),
            cues: names.iter().map(|word| people::cue(word)).collect(),
            words: Vocabulary::new(&names),
            masks: words.into_iter().map(|(_, mask)| mask).collect(),
            secrets: secrets::finder().map_err(|error| error.to_string())?,
            shapes,
            begins,
            own,
            quiet: Quiet::new(),
        })
    }

    /// Another body begins: what was said in the last one is forgotten.
    pub fn forget(&mut self) {
        self.quiet.forget();
    }

    /// Tells everything in `text`. Whether names may stand in it, and values behind them.
    pub fn scan(&mut self, text: &[u8], around: Around, out: &mut dyn FnMut(Found)) -> bool {
        let Some(place) = Quiet::place(text) else {
            return self.scan_anew(text, around, out);
        };
        if let Some(may_have_labels) = self.quiet.get(place, text, around) {
            return may_have_labels;
        }
        let mut is_quiet = true;
        let may_have_labels = self.scan_anew(text, around, &mut |found| {
            is_quiet = false;
            out(found);
        });
        if is_quiet {
            self.quiet.keep(place, text, around, may_have_labels);
        }
        may_have_labels
    }

    fn scan_anew(&self, text: &[u8], around: Around, out: &mut dyn FnMut(Found)) -> bool {
        let sorts = text
            .iter()
            .fold(0, |sorts, byte| sorts | SORTS[usize::from(*byte)]);
        // What is an address as a whole is none in its parts.
        let mut whole = Vec::new();
        if sorts & (SPACE | DIGIT | UPPER) == SPACE | DIGIT | UPPER {
            addresses(text, &mut |start, end| {
                out(found(Class::Address, Evidence::Pattern, 85, start, end));
                whole.push((start, end));
            });
        }
        // Nor is what a card says.
        let mut said = Vec::new();
        if cards::are(text) {
            cards::cards(text, &mut |found| {
                said.push((found.start, found.end));
                out(found);
            });
        }
        let mut out = |found: Found| {
            let is_part = found.class == Class::Address as ClassId && is_told(&whole, found.start, found.end);
            if !is_part && !is_told(&said, found.start, found.end) {
                out(found);
            }
        };
        let out: &mut dyn FnMut(Found) = &mut out;
        // What was a number by itself is told once.
        let mut told = Vec::new();
        if sorts & DIGIT != 0 {
            self.numbers(text, around, &mut |found| {
                told.push((found.start, found.end));
                out(found);
            });
        }
        if sorts & AT != 0 {
            emails(text, out);
        }
        if text.len() >= 16 {
            self.secrets(text, out);
        }
        // Prose: words, and something that they may be about.
        if sorts & SPACE != 0
            && sorts & (DIGIT | UPPER) != 0
            && sorts & (UPPER | LOWER) != 0
            && text.len() >= 8
        {
            self.prose(text, &told, sorts & AT != 0, out);
        }
        if !self.own.is_empty() {
            self.own(text, out);
        }
        let may_end = sorts & SIGN != 0 || sorts & (SPACE | DIGIT) == SPACE | DIGIT;
        may_end && sorts & (DIGIT | UPPER) != 0 && sorts & (UPPER | LOWER) != 0
    }

    fn numbers(&self, text: &[u8], around: Around, out: &mut dyn FnMut(Found)) {
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            let mut sorts = SORTS[usize::from(byte)] & (DIGIT | UPPER | LOWER);
            if sorts == 0 {
                at += 1;
                continue;
            }
            let start = at;
            at += 1;
            while let Some(byte) = text.get(at) {
                let sort = SORTS[usize::from(*byte)] & (DIGIT | UPPER | LOWER);
                if sort == 0 {
                    break;
                }
                sorts |= sort;
                at += 1;
            }
            if sorts == DIGIT {
                at = self.runs(text, start, around, out);
            } else if sorts == DIGIT | UPPER {
                let digits = text[start..at].iter().filter(|byte| byte.is_ascii_digit());
                if digits.take(2).count() == 2 {
                    at = self.word(text, start, at, around, out);
                }
            }
        }
    }

    /// From a run of digits; returns where to go on.
    fn runs(&self, text: &[u8], start: usize, around: Around, out: &mut dyn FnMut(Found)) -> usize {
        let mut runs = [(0usize, 0usize); RUNS_MAX];
        // What stands before each run but the first.
        let mut between = [0u8; RUNS_MAX];
        let mut count = 0;
        let mut at = start;
        let end = loop {
            let from = at;
            while text.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            let extended = count > 0 && is_extension(&text[at..]);
            if text.get(at).is_some_and(u8::is_ascii_alphabetic) && !extended {
                // `12px`: the last run is part of a word.
                break from;
            }
            runs[count] = (from, at);
            count += 1;
            if count == RUNS_MAX {
                break at;
            }
            let gap = match (text.get(at), text.get(at + 1)) {
                (Some(b')'), Some(b' ')) => 2,
                (Some(b' '), Some(b'(')) => 2,
                (Some(b' ' | b'-' | b'.' | b'/' | b')' | b':' | b'('), _) => 1,
                _ => break at,
            };
            if !text.get(at + gap).is_some_and(u8::is_ascii_digit) {
                break at;
            }
            between[count] = text[at];
            at += gap;
        };
        let mut left = start.checked_sub(1).map_or(b' ', |before| text[before]);
        // `+(968) 2469 0002`, `+ 974 4403 4980`
        let plus = match (left, start.checked_sub(2).map(|before| text[before])) {
            (b'(', Some(b'+')) => start - 2,
            (b' ', Some(b'+')) if count > 2 => start - 2,
            _ => start.saturating_sub(1),
        };
        // No country's code begins with 0, and an offset of time does.
        if text.get(plus) == Some(&b'+') && text[start] != b'0' {
            left = b'+';
        }
        // In EDIFACT it separates: `UNOC:3+4316642163619:14`.
        let separates = plus
            .checked_sub(1)
            .is_some_and(|before| text[before].is_ascii_digit());
        if left == b'+' && text[start] != b'0' && count > 0 && !separates {
            // International form: plus, and all digits up to something else.
            let digits: usize = runs[..count].iter().map(|(from, to)| to - from).sum();
            if (8..=15).contains(&digits) && between[1..count].iter().all(|byte| b" -.)(".contains(byte)) {
                let confidence = if around.context & bit(Class::Phone) != 0 {
                    90
                } else {
                    75
                };
                let evidence = if confidence == 90 {
                    Evidence::Context
                } else {
                    Evidence::Pattern
                };
                out(found(
                    self.phone_or_fax(text, start),
                    evidence,
                    confidence,
                    plus,
                    runs[count - 1].1,
                ));
                return runs[count - 1].1;
            }
        }
        let before = start.checked_sub(2).map_or(b' ', |before| text[before]);
        // `SSN:536228741`: behind a colon it is what the word says, or nothing.
        let of_word = left == b':' && before.is_ascii_alphabetic();
        let glued = left == b'_' || (b".-/:".contains(&left) && before.is_ascii_alphanumeric() && !of_word);
        let mut first = 0;
        while first < count {
            let free = if first == 0 {
                !glued
            } else {
                // `001-212-555-0142`
                let of_country = first == 1 && matches!(&text[runs[0].0..runs[0].1], b"001" | b"1");
                matches!(between[first], b' ' | b'(') || of_country && !glued
            };
            let taken = match free {
                true => self.layouts(
                    text,
                    &runs[..count],
                    &between[..count],
                    first,
                    around,
                    of_word && first == 0,
                    out,
                ),
                false => 0,
            };
            first += taken.max(1);
        }
        end.max(start + 1).max(at)
    }

    /// The best that a number beginning at run `first` can be; how many runs it takes. `of_word`: only what a word before it
    /// says.
    #[expect(
        clippy::too_many_arguments,
        reason = "a number with all that is known of its place"
    )]
    fn layouts(
        &self,
        text: &[u8],
        runs: &[(usize, usize)],
        between: &[u8],
        first: usize,
        around: Around,
        of_word: bool,
        out: &mut dyn FnMut(Found),
    ) -> usize {
        let mut best: Option<(Found, usize)> = None;
        let mut near = None;
        let begins = self.begins.get(runs[first].1 - runs[first].0);
        for (class, shape) in self.shapes_of(begins.copied().unwrap_or(0)) {
            for &(lengths, separators) in shape.digits {
                let last = first + lengths.len();
                if last > runs.len() {
                    continue;
                }
                let fits = runs[first..last]
                    .iter()
                    .zip(lengths)
                    .all(|((from, to), length)| to - from == usize::from(*length))
                    && between[first + 1..last]
                        .iter()
                        .all(|byte| separators.contains(byte));
                // What goes on behind it belongs to it.
                let goes_on = last < runs.len() && b"-./:".contains(&between[last]);
                if !fits || goes_on {
                    continue;
                }
                let (mut digits, mut length) = ([0u8; 32], 0);
                for (from, to) in &runs[first..last] {
                    digits[length..length + to - from].copy_from_slice(&text[*from..*to]);
                    length += to - from;
                }
                let fit = (shape.check)(&digits[..length]);
                if fit == Fit::No {
                    continue;
                }
                let (start, end) = (runs[first].0, runs[last - 1].1);
                let near = *near.get_or_insert_with(|| around.context | self.near(text, start));
                // A fax has a number like a telephone's.
                let fax = if *class == Class::Phone as ClassId {
                    bit(Class::Fax)
                } else {
                    0
                };
                let beside = near & (1 << class | fax) != 0;
                if !beside
                    && (fit == Fit::Named || of_word || fit != Fit::Checked && of_thing(&text[..start]))
                {
                    continue;
                }
                let grouped = lengths.len() > 1;
                // A plain number of a length that ids have, too, is none by itself.
                let plain_id = around.number || around.technical || matches!(length, 13 | 14 | 19);
                let confidence = match (beside, grouped) {
                    (true, _) => shape.beside,
                    (false, true) if around.technical && fit != Fit::Checked => 0,
                    (false, true) => shape.alone_grouped,
                    (false, false) if plain_id => 0,
                    (false, false) => shape.alone,
                };
                if confidence == 0 {
                    continue;
                }
                // Parts, lots and positions are written like it: within a text it needs its word, or the area in parentheses.
                let lone = start == 0 && end == text.len();
                let area = start > 0 && text[start - 1] == b'(' && text.get(runs[first].1) == Some(&b')');
                let of_country = first == 1 && &text[runs[0].0..runs[0].1] == b"001";
                let formal = area || of_country || is_extension(&text[end..]);
                let named = around.context & bit(Class::Phone) != 0;
                let alone = if grouped {
                    !beside && !lone && !formal
                } else {
                    !named && !is_called(&text[start.saturating_sub(WINDOW_BYTES)..start])
                };
                if *class == Class::Phone as ClassId && alone {
                    continue;
                }
                let evidence = match (fit, beside) {
                    (Fit::Checked, _) => Evidence::Checksum,
                    (_, true) => Evidence::Context,
                    _ => Evidence::Pattern,
                };
                let better = best.as_ref().is_none_or(|(known, _)| {
                    (beside, confidence)
                        > (
                            known.evidence == Evidence::Context || known.confidence >= 95,
                            known.confidence,
                        )
                });
                if better {
                    best = Some((found_id(*class, evidence, confidence, start, end), lengths.len()));
                }
            }
        }
        if let Some((mut found, taken)) = best {
            if found.class == Class::Phone as ClassId {
                found.class = self.phone_or_fax(text, found.start) as ClassId;
            }
            out(found);
            return taken;
        }
        // `203.0.113.77`
        let four = runs
            .get(first..first + 4)
            .filter(|_| between.get(first + 1..first + 4) == Some(b"..."));
        if let Some(four) = four
            && between.get(first + 4).is_none_or(|byte| !b".-".contains(byte))
            && four
                .iter()
                .all(|(from, to)| super::checks::modulo(&text[*from..*to], 1000) < 256 && to - from <= 3)
            && ((around.context | self.near(text, four[0].0)) & bit(Class::Ip) != 0
                || begins_line_of_log(text, four[0].0, four[3].1)
                || comes_from(text, four[0].0, four[3].1))
            && !super::checks::is_machine_text(&text[four[0].0..four[3].1])
        {
            out(found(Class::Ip, Evidence::Context, 85, four[0].0, four[3].1));
            return 4;
        }
        if let Some((start, end)) = street(text, runs[first]) {
            out(found(Class::Address, Evidence::Pattern, 75, start, end));
        }
        0
    }

    /// Those whose bits are set.
    fn shapes_of(&self, mut bits: u64) -> impl Iterator<Item = &(ClassId, &'static Shape)> {
        std::iter::from_fn(move || {
            let at = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            self.shapes.get(at)
        })
    }

    /// What the last word for either says.
    fn phone_or_fax(&self, text: &[u8], start: usize) -> Class {
        let (_, last) = self.words_near(text, start);
        match last & bit(Class::Fax) != 0 {
            true => Class::Fax,
            false => Class::Phone,
        }
    }

    /// Classes whose words stand shortly before.
    fn near(&self, text: &[u8], start: usize) -> u64 {
        self.words_near(text, start).0
    }

    /// Those of all words that stand shortly before, and of the last one for a telephone or a fax.
    fn words_near(&self, text: &[u8], start: usize) -> (u64, u64) {
        let from = start.saturating_sub(WINDOW_BYTES);
        let (mut mask, mut last) = (0, 0);
        for found in self.words.find(text, from, start) {
            let of_word = self.masks[found.word];
            mask |= of_word;
            // `… fax`, and the next line is another.
            if of_word & (bit(Class::Phone) | bit(Class::Fax)) != 0 {
                let ends_line = found.end < start && text[found.end] == b'\n';
                last = if ends_line { 0 } else { of_word };
            }
        }
        (mask, last)
    }

    /// A word of capitals and digits, with what belongs to it; returns where to go on.
    fn word(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        around: Around,
        out: &mut dyn FnMut(Found),
    ) -> usize {
        let left = start.checked_sub(1).map_or(b' ', |before| text[before]);
        if b"-_./".contains(&left) && start >= 2 && text[start - 2].is_ascii_alphanumeric() {
            return end;
        }
        let (mut bare, mut length) = ([0u8; 48], 0);
        let mut push = |part: &[u8]| {
            let room = bare.len() - length;
            let part = &part[..part.len().min(room)];
            bare[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        };
        push(&text[start..end]);
        let mut to = end;
        // IBAN and MBI are written in groups of four and three.
        if end - start == 4 {
            let separator = text.get(end).copied().unwrap_or(0);
            while matches!(separator, b' ' | b'-') && text.get(to) == Some(&separator) {
                let group = text[to + 1..]
                    .iter()
                    .take(5)
                    .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
                    .count();
                if group == 0 || group > 4 || to - start > 44 {
                    break;
                }
                push(&text[to + 1..to + 1 + group]);
                to += 1 + group;
            }
        }
        if text
            .get(to)
            .is_some_and(|byte| *byte == b'_' || byte.is_ascii_alphanumeric())
        {
            return end;
        }
        for (class, shape) in &self.shapes {
            // Behind groups of four there may stand a word that is no part of it.
            let Some((least, most)) = shape.word else {
                continue;
            };
            let mut last = (length, to);
            loop {
                if (least..=most).contains(&last.0) {
                    let fit = (shape.check)(&bare[..last.0]);
                    if fit != Fit::No {
                        let beside = (around.context | self.near(text, start)) & (1 << class) != 0;
                        let confidence = if beside { shape.beside } else { shape.alone };
                        let evidence = match (fit, beside) {
                            (Fit::Checked, _) => Evidence::Checksum,
                            (_, true) => Evidence::Context,
                            _ => Evidence::Pattern,
                        };
                        if confidence > 0 && (!around.technical || beside) {
                            out(found_id(*class, evidence, confidence, start, last.1));
                            return last.1;
                        }
                    }
                }
                let Some(cut) = text[start..last.1]
                    .iter()
                    .rposition(|byte| !byte.is_ascii_alphanumeric())
                else {
                    break;
                };
                last = (last.0 - (last.1 - start - cut - 1), start + cut);
            }
        }
        end
    }

    fn own(&self, text: &[u8], out: &mut dyn FnMut(Found)) {
        for own in &self.own {
            for matched in own.regex.find_iter(text) {
                let start = matched.start();
                let window = text[start.saturating_sub(WINDOW_BYTES)..start].to_ascii_lowercase();
                let beside = own
                    .words
                    .iter()
                    .any(|word| memchr::memmem::find(&window, word.as_bytes()).is_some());
                if own.words.is_empty() || beside {
                    let (evidence, confidence) = match beside {
                        true => (Evidence::Context, 90),
                        false => (Evidence::Pattern, 80),
                    };
                    out(found_id(own.class, evidence, confidence, start, matched.end()));
                }
            }
        }
    }
}

const fn bit(class: Class) -> u64 {
    1 << class as u64
}

fn found(class: Class, evidence: Evidence, confidence: u8, start: usize, end: usize) -> Found {
    found_id(class as ClassId, evidence, confidence, start, end)
}

fn found_id(class: ClassId, evidence: Evidence, confidence: u8, start: usize, end: usize) -> Found {
    Found {
        class,
        evidence,
        confidence,
        start,
        end,
    }
}

fn is_word(byte: u8) -> bool {
    SORTS[usize::from(byte)] & WORD != 0
}
