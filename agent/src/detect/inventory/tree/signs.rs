//! The signs by which a word at a place is told from a value: how it is written, how often and beside what it was called,
//! and what stands below it. What they are worth together says `trees.txt`: small trees of questions, whose ends add up. One
//! sign means one thing beside another and a second thing without it, and sums of single signs cannot say that.
//!
//! The trees are fitted (gradient boosting on log loss, each place counted alike) to calls made from the descriptions of
//! several hundred published APIs, at every moment at which a place was judged; what is common in such paths
//! (`call/api_words.txt`) was counted without the API that was judged. No question is about one word.
//! It must not know what is done with the odds.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::learn::{Kind, is_mixed};
use super::{Node, Place, ROOT, Tree, hash, shape_index};
use crate::call::{Commonness, Learnable, Shape};

/// The signs, as `trees.txt` names them, in the order in which they are read. Counts are logarithms of one more.
const NAMES: [&str; SIGNS] = [
    // Of the place.
    "root",
    "beside_hits",
    "beside_values",
    "beside_mixed",
    "folded",
    "soft",
    "firm",
    "soft_once",
    "soft_twice",
    "soft_before_values",
    "soft_before_words",
    "soft_strange",
    "soft_plural",
    "soft_named",
    "actions",
    "place_hits",
    "place_gets",
    "place_posts",
    "place_common",
    "place_action",
    "behind_value",
    "beside_words",
    "beside_pure",
    "beside",
    "at_base",
    "at_value",
    "at_persons",
    "at_plural",
    // Of the word, as it is written.
    "known",
    "action",
    "plural",
    "underscore",
    "camel",
    "capital",
    "digit",
    "hyphens",
    "length",
    "dot",
    "symbol",
    "common_least",
    "common_most",
    "parts",
    "parts_strange",
    "named",
    "person",
    "as_code",
    "made",
    "no_part_known",
    "recurs",
    // Of how it was called.
    "hits",
    "hits_to_others",
    "hits_to_values",
    "ends",
    "before_values",
    "posts",
    "changes",
    "methods_beside",
    "methods_alike",
    "methods_alike_soft",
    "no_end",
    // Of what stands below it.
    "leaf",
    "has_value",
    "below",
    "below_shared",
    "below_shared_soft",
    "below_shared_beside",
    "below_count_soft",
    "below_count_beside",
    "below_values_shared",
    "below_values_beside",
];
const SIGNS: usize = 70;

/// A word with so common parts is rarely a value.
const FIRM_MIN: u8 = 3;

/// How a word is written; found once, when its place is made.
#[derive(Clone, Copy, Default)]
pub(super) struct Looks {
    pub common: Commonness,
    pub action: bool,
    pub plural: bool,
    underscore: bool,
    camel: bool,
    capital: bool,
    digit: bool,
    hyphens: u8,
    dot: bool,
    pub symbol: bool,
    person: bool,
    /// Made of common words, though no list has it.
    pub made: bool,
    /// Only services are called like this.
    pub service: bool,
    /// `DATABASE_URL`: a name of a setting.
    pub constant: bool,
}

impl Looks {
    pub fn of(word: &str) -> Looks {
        // An ending says what is sent, not what it is about.
        let word = Learnable::without_ending(word);
        let bytes = word.as_bytes();
        let camel = |two: &[u8]| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase();
        Looks {
            common: Commonness::of(word),
            action: Learnable::is_action(word),
            plural: Learnable::is_plural(word),
            underscore: bytes.contains(&b'_'),
            camel: bytes.windows(2).any(camel),
            capital: bytes.first().is_some_and(u8::is_ascii_uppercase),
            digit: bytes.iter().any(u8::is_ascii_digit),
            hyphens: bytes.iter().filter(|byte| **byte == b'-').count().min(255) as u8,
            dot: bytes.contains(&b'.'),
            symbol: Learnable::is_symbol(word),
            person: Learnable::is_name(word),
            made: Commonness::is_made(word),
            service: Learnable::is_service(word),
            constant: Learnable::is_constant(word),
        }
    }
}

/// One word at a place, and how much speaks for its being a value: log odds.
pub(super) struct Judged {
    pub place: Place,
    pub odds: f32,
    /// Neither known nor common.
    pub soft: bool,
}

/// The words at a place.
pub(super) struct Judgement {
    pub words: Vec<Judged>,
    /// Calls per word that is soft.
    pub calls_each: f32,
}

/// What all words at a place have in common.
#[derive(Default)]
struct Common<'t> {
    /// Of the place.
    signs: [f32; PLACE_SIGNS],
    soft: f32,
    soft_hits: f32,
    words: f32,
    /// Words below the words here: below how many, and below how many soft ones.
    below: HashMap<&'t str, (u32, u32)>,
    below_values: HashMap<&'t str, u32>,
    /// Sets of methods, by hash: of how many words, and of how many soft ones.
    methods: HashMap<u64, (u32, u32)>,
}

impl Node {
    pub(super) fn is_soft(&self) -> bool {
        !self.is_known && self.looks.common.least < FIRM_MIN
    }

    /// No API has a part of it, and it says not what is done.
    pub(super) fn is_strange(&self) -> bool {
        !self.is_known && self.looks.common.least == 0 && !self.looks.made && !self.looks.action
    }

    /// A hash of the methods that end here, whatever their order.
    fn methods(&self) -> u64 {
        self.ends
            .iter()
            .enumerate()
            .filter(|(at, (method, ..))| !self.ends[..*at].iter().any(|(known, ..)| known == method))
            .fold(0, |all, (_, (method, ..))| all ^ hash(method))
    }

    fn has_method(&self, method: &str) -> bool {
        self.ends.iter().any(|(known, ..)| known == method)
    }
}

impl Tree {
    /// Judges the words at a place that something has answered to.
    pub(super) fn judge(&self, place: Place) -> Judgement {
        let node = self.node(place);
        let words: Vec<Place> = node
            .words
            .values()
            .copied()
            .filter(|word| self.node(*word).hits > 0)
            .collect();
        if words.is_empty() {
            return Judgement {
                words: Vec::new(),
                calls_each: 0.0,
            };
        }
        let kind = self.kind(place);
        let beside = node
            .value
            .map(|value| self.node(value))
            .filter(|value| value.hits > 0);
        let common = self.common(place, kind, beside, &words);
        let judged = words
            .iter()
            .map(|word| {
                let mut signs = [0.0; SIGNS];
                signs[..PLACE_SIGNS].copy_from_slice(&common.signs);
                self.of_word(*word, beside, &common, &mut signs);
                Judged {
                    place: *word,
                    odds: TREES.odds(&signs),
                    soft: self.node(*word).is_soft(),
                }
            })
            .collect();
        Judgement {
            words: judged,
            calls_each: common.soft_hits / common.soft.max(1.0),
        }
    }

    /// Of one word: how much speaks for its being a value.
    pub(super) fn odds_of(&self, word: Place) -> f32 {
        let judgement = self.judge(self.node(word).parent);
        let found = judgement.words.iter().find(|judged| judged.place == word);
        found.map_or(f32::INFINITY, |judged| judged.odds)
    }

    fn common<'t>(&'t self, place: Place, kind: Kind, beside: Option<&Node>, words: &[Place]) -> Common<'t> {
        let node = self.node(place);
        let mut all = Common {
            words: words.len() as f32,
            ..Common::default()
        };
        let (mut once, mut twice, mut before_values, mut before_words) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        let (mut strange, mut plural, mut named, mut actions) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for word in words {
            let word = self.node(*word);
            let soft = word.is_soft();
            for text in word.words.keys() {
                let count = all.below.entry(text.as_str()).or_default();
                count.0 += 1;
                count.1 += u32::from(soft);
            }
            for text in word
                .value
                .into_iter()
                .flat_map(|value| self.node(value).words.keys())
            {
                *all.below_values.entry(text.as_str()).or_default() += 1;
            }
            let methods = all.methods.entry(word.methods()).or_default();
            methods.0 += 1;
            methods.1 += u32::from(soft);
            actions += one(word.looks.action);
            if soft {
                all.soft += 1.0;
                all.soft_hits += word.hits as f32;
                once += one(word.hits <= 1);
                twice += one(word.hits <= 2);
                before_values += one(word.value.is_some());
                before_words += one(!word.words.is_empty());
                strange += one(word.looks.common.least == 0);
                plural += one(word.looks.plural);
                named += one(self.is_named(word));
            }
        }
        let share = |part: f32| if all.soft > 0.0 { part / all.soft } else { 0.0 };
        all.signs = [
            one(place == ROOT),
            log(beside.map_or(0.0, |value| value.hits as f32)),
            beside.map_or(0.0, |value| value.values.count_ones() as f32),
            one(beside.is_some_and(|value| is_mixed(value.shapes))),
            one(node.folded),
            log(all.soft),
            log(all.words - all.soft),
            share(once),
            share(twice),
            log(before_values),
            log(before_words),
            share(strange),
            share(plural),
            log(named),
            log(actions),
            log(node.hits as f32),
            one(node.has_method("GET")),
            one(node.has_method("POST")),
            if node.is_value {
                -1.0
            } else {
                f32::from(node.looks.common.least)
            },
            one(node.looks.action),
            one(place != ROOT && self.node(node.parent).is_value),
            one(beside.is_some_and(|value| value.shapes & (1 << shape_index(Shape::Word)) != 0)),
            one(beside
                .is_some_and(|value| !is_mixed(value.shapes) && value.values.count_ones() >= PURE_VALUES)),
            one(beside.is_some()),
            one(kind == Kind::Base),
            one(kind == Kind::Value),
            one(kind == Kind::Persons),
            one(kind == Kind::Plural),
        ];
        all
    }

    fn of_word(&self, word: Place, beside: Option<&Node>, common: &Common<'_>, signs: &mut [f32; SIGNS]) {
        let word = self.node(word);
        let looks = &word.looks;
        let soft = u32::from(word.is_soft());
        let shared = |words: &HashMap<super::SmolStr, Place>, with: &dyn Fn(&str) -> bool| {
            let many = words.keys().filter(|text| with(text)).count() as f32;
            let share = if words.is_empty() {
                -1.0
            } else {
                many / words.len() as f32
            };
            (many, share)
        };
        let below = |text: &str| common.below.get(text).copied().unwrap_or_default();
        let (_, below_shared) = shared(&word.words, &|text| below(text).0 > 1);
        let (soft_count, below_soft) = shared(&word.words, &|text| below(text).1 > soft);
        let (beside_count, below_beside) = shared(&word.words, &|text| {
            beside.is_some_and(|value| value.words.contains_key(text))
        });
        let (mut values_shared, mut values_beside) = (-1.0, -1.0);
        if let Some(value) = word.value.map(|value| self.node(value)) {
            let other = beside
                .and_then(|beside| beside.value)
                .map(|other| self.node(other));
            values_shared = shared(&value.words, &|text| {
                common.below_values.get(text).is_some_and(|many| *many > 1)
            })
            .1;
            values_beside = shared(&value.words, &|text| {
                other.is_some_and(|other| other.words.contains_key(text))
            })
            .1;
        }
        let (alike, alike_soft) = common.methods.get(&word.methods()).copied().unwrap_or_default();
        let has_ends = !word.ends.is_empty();
        let all_ends =
            |is: &dyn Fn(&str) -> bool| has_ends && word.ends.iter().all(|(method, ..)| is(method));
        signs[PLACE_SIGNS..].copy_from_slice(&[
            one(word.is_known),
            one(looks.action),
            one(looks.plural),
            one(looks.underscore),
            one(looks.camel),
            one(looks.capital),
            one(looks.digit),
            log(f32::from(looks.hyphens)),
            log(word.text.len() as f32),
            one(looks.dot),
            one(looks.symbol),
            f32::from(looks.common.least),
            f32::from(looks.common.most),
            f32::from(looks.common.parts),
            f32::from(looks.common.unknown),
            one(self.is_named(word)),
            one(looks.person),
            one((looks.common.least == 0 && looks.camel) || looks.underscore),
            one(looks.made),
            one(looks.common.most == 0 && !looks.made),
            log(self
                .recurring
                .get(&word.short)
                .map_or(0.0, |places| f32::from(*places) - 1.0)),
            log(word.hits as f32),
            log(word.hits as f32) - log(common.soft_hits / common.soft.max(1.0)),
            beside.map_or(0.0, |value| {
                log(word.hits as f32) - log(value.hits as f32 / value.values.count_ones().max(1) as f32)
            }),
            log(word.ends.len() as f32),
            log(word.values.count_ones() as f32),
            one(all_ends(&|method| method == "POST")),
            one(self.is_changed(word)),
            one(beside.is_some_and(|value| all_ends(&|method| value.has_method(method)))),
            alike as f32 / common.words,
            if common.soft > 0.0 {
                (alike_soft - soft) as f32 / common.soft
            } else {
                0.0
            },
            one(!has_ends),
            one(word.words.is_empty() && word.value.is_none()),
            one(word.value.is_some()),
            word.words.len() as f32,
            below_shared,
            below_soft,
            below_beside,
            soft_count,
            beside_count,
            values_shared,
            values_beside,
        ]);
    }
}

const PLACE_SIGNS: usize = 28;
/// So many different values of pure shapes tell that words beside them are none.
const PURE_VALUES: u32 = 3;

fn one(is: bool) -> f32 {
    f32::from(u8::from(is))
}

fn log(count: f32) -> f32 {
    (1.0 + count).ln()
}

/// What the signs are worth together: trees of questions, each of which adds what stands at the end of its answers.
struct Trees {
    /// Of all trees, one behind the other.
    steps: Vec<Step>,
    /// Where each begins.
    roots: Vec<usize>,
    bias: f32,
}

#[derive(Clone, Copy)]
enum Step {
    /// Whether a sign is above a threshold. If not, the next step answers; if so, the one that is named.
    Ask {
        sign: usize,
        threshold: f32,
        above: usize,
    },
    Add(f32),
}

static TREES: LazyLock<Trees> = LazyLock::new(|| Trees::read(include_str!("trees.txt")));

impl Trees {
    /// A line a tree: a question (`hits>1.5`), all of what follows a no, all of what follows a yes; ends in hundredths of
    /// log odds. The first line is added always.
    fn read(text: &str) -> Trees {
        let mut trees = Trees {
            steps: Vec::new(),
            roots: Vec::new(),
            bias: 0.0,
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(bias) = line.strip_prefix("bias ") {
                trees.bias = bias.parse::<f32>().unwrap_or_default() / 100.0;
                continue;
            }
            trees.roots.push(trees.steps.len());
            // Questions whose yes is still to come, and whether their no is behind.
            let mut open: Vec<usize> = Vec::new();
            for word in line.split_ascii_whitespace() {
                let at = trees.steps.len();
                if let Some((name, threshold)) = word.split_once('>') {
                    open.push(at);
                    trees.steps.push(Step::Ask {
                        sign: NAMES.iter().position(|known| *known == name).unwrap_or_default(),
                        threshold: threshold.parse().unwrap_or_default(),
                        above: 0,
                    });
                    continue;
                }
                trees
                    .steps
                    .push(Step::Add(word.parse::<f32>().unwrap_or_default() / 100.0));
                // What was asked last is answered by no; its yes comes next.
                if let Some(asked) = open.pop()
                    && let Some(Step::Ask { above, .. }) = trees.steps.get_mut(asked)
                {
                    *above = at + 1;
                }
            }
        }
        trees
    }

    fn odds(&self, signs: &[f32; SIGNS]) -> f32 {
        self.roots
            .iter()
            .fold(self.bias, |odds, root| odds + self.answer(*root, signs))
    }

    fn answer(&self, root: usize, signs: &[f32; SIGNS]) -> f32 {
        let mut at = root;
        // A step leads only forward.
        while let Some(step) = self.steps.get(at) {
            at = match *step {
                Step::Add(odds) => return odds,
                Step::Ask {
                    sign,
                    threshold,
                    above,
                } => match signs[sign] > threshold {
                    true if above > at => above,
                    true => return 0.0,
                    false => at + 1,
                },
            };
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_about_a_sign_and_has_two_answers() {
        let text = include_str!("trees.txt");
        for line in text.lines().filter(|line| !line.starts_with(['#', 'b'])) {
            let (mut asked, mut ends) = (0, 0);
            for word in line.split_ascii_whitespace() {
                match word.split_once('>') {
                    Some((name, threshold)) => {
                        assert!(
                            NAMES.contains(&name) && threshold.parse::<f32>().is_ok(),
                            "{word}"
                        );
                        asked += 1;
                    }
                    None => {
                        assert!(word.parse::<i32>().is_ok(), "{word}");
                        ends += 1;
                    }
                }
            }
            assert_eq!(ends, asked + 1, "{line}");
        }
        for step in &TREES.steps {
            assert!(!matches!(step, Step::Ask { above: 0, .. }));
        }
    }

    #[test]
    fn trees_are_read_in_order() {
        let trees = Trees::read("bias 100\nhits>1 soft>2 -50 50 200\nbeside>0.5 0 25");
        let odds = |hits: f32, soft: f32, beside: f32| {
            let mut signs = [0.0; SIGNS];
            for (name, value) in [("hits", hits), ("soft", soft), ("beside", beside)] {
                signs[NAMES.iter().position(|known| *known == name).unwrap()] = value;
            }
            trees.odds(&signs)
        };
        for (hits, soft, beside, expected) in [
            (0.0, 0.0, 0.0, 0.5),
            (0.0, 3.0, 0.0, 1.5),
            (2.0, 0.0, 0.0, 3.0),
            (2.0, 3.0, 1.0, 3.25),
        ] {
            assert_eq!(odds(hits, soft, beside), expected, "{hits} {soft} {beside}");
        }
    }
}
