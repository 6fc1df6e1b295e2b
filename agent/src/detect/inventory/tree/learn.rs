//! Which words at a place are values: told by what stands before them, what is below them, and how many there are.
//!
//! Each word is judged by its signs (`signs`), and what is more likely a value than not, by far, is taken for one. What is
//! folded once stays folded, and a word is judged each time something new is seen; so the first calls do not suffice for
//! what many would, and where values are proven, less suffices. Words that have the same words below them as the values
//! beside them, or as most other words, are values whatever they are called: `acme/orders`, `web/orders`.
//!
//! It must not know what is counted at an endpoint.

use hashbrown::HashSet;
use smol_str::SmolStr;

use super::signs::Judged;
use super::{Merges, Node, Place, ROOT, Tree, shape_index};
use crate::call::{Learnable, Shape};

/// Log odds from which on a word is a value.
const ODDS_MIN: f32 = 0.6;
/// As long as the words at a place were called less often than `CALLS_EACH_MIN` each, it takes more: literals that were
/// called once each look like values; unless they are many that no API has.
const ODDS_MORE_EARLY: f32 = 1.0;
const CALLS_EACH_MIN: f32 = 4.0;
/// Where values are proven.
const ODDS_BESIDE_VALUES: f32 = 0.0;
/// What is less likely a value is none, whatever is below it.
const ODDS_LIKE_VALUES: f32 = 0.5;
/// Different values that prove a place to be one of values.
const PROVEN_VALUES: u32 = 3;
/// Words that fold a place, at once or one by one, if they are half of the unknown ones.
const FOLDING_WORDS: usize = 2;
const FOLDING_ONE_BY_ONE: usize = 6;
/// So many words below a word and below the values beside it make them the same.
const SAME_BELOW: usize = 3;
/// So many words at a place are compared with each other.
const TWINS_MAX: usize = 64;
/// Words beside values of many shapes, with values below them as these have.
const ALIKE_COLLECTIONS: usize = 3;
/// Words that no API has, right below persons.
const STRANGERS: usize = 2;
/// So many of them at any place need no more calls.
const STRANGERS_MANY: usize = 10;
/// So many words, nearly each seen but once: nobody's API, whatever answers.
const FLOOD_WORDS: usize = 64;
/// Words seen but once are no API's beyond this, however often others were.
const FLOOD_WORDS_MAX: usize = 128;

/// Different versions that an API is served in at a time.
const VERSIONS_MAX: u32 = 4;
/// Names of values that are remembered over all places.
pub(super) const NAMES_MAX: usize = 4_096;
/// Known words and actions that are remembered to be values at a place; where there are so many, every word is one.
pub(super) const TAKEN_MAX: usize = 64;

/// What a place is, which tells what to expect there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The root, a version, `api`.
    Base,
    /// Behind a value.
    Value,
    /// A collection of persons.
    Persons,
    /// Any other plural.
    Plural,
    Other,
}

impl Tree {
    pub(super) fn kind(&self, place: Place) -> Kind {
        let node = self.node(place);
        let word = node.text.as_str();
        match () {
            () if place == ROOT || (!node.is_value && Learnable::is_base(word)) => Kind::Base,
            () if !node.is_value && is_bare_version(word) => Kind::Base,
            // A version by its date or its number alone: `/2015-03-31/functions`, `/1.0/orders`.
            () if node.is_value && self.is_version(place) => Kind::Base,
            () if node.is_value || is_oneself(word) => Kind::Value,
            () if Learnable::is_of_persons(word) => Kind::Persons,
            () if Learnable::is_plural(word) => Kind::Plural,
            () => Kind::Other,
        }
    }

    /// A number right behind a base is a version, as long as they are few: `/rest/api/2`, `/2.0/repositories`. It is a word
    /// then.
    pub(super) fn is_version_at(&self, place: Place, text: &str) -> bool {
        let node = self.node(place);
        // Behind a version stands no other.
        if !is_bare_version(text) || self.kind(place) != Kind::Base || is_bare_version(&node.text) {
            return false;
        }
        let versions = || node.words.keys().filter(|word| is_bare_version(word));
        !self.has_numbers(place)
            && (node.words.contains_key(text) || versions().count() < VERSIONS_MAX as usize)
    }

    /// Numbers at a place are values.
    fn has_numbers(&self, place: Place) -> bool {
        let value = self.node(place).value.map(|value| self.node(value));
        value.is_some_and(|value| {
            let numbers = value.shapes & (1 << shape_index(Shape::Number)) != 0;
            numbers && value.values.count_ones() > 1 && value.hits > 1
        })
    }

    /// Dates and numbers at the root, and few of them.
    fn is_version(&self, place: Place) -> bool {
        let node = self.node(place);
        let parent = self.node(node.parent);
        let base = node.parent == ROOT || (!parent.is_value && Learnable::is_base(&parent.text));
        let plain = 1 << shape_index(Shape::Number) | 1 << shape_index(Shape::Date);
        base && node.shapes & !plain == 0 && node.values.count_ones() <= VERSIONS_MAX
    }

    /// Which of the words at a place are values; and whether all unknown ones that may come are.
    fn values_at(&self, place: Place) -> (Vec<Place>, bool) {
        let node = self.node(place);
        let judgement = self.judge(place);
        if judgement.words.is_empty() {
            return (Vec::new(), false);
        }
        let kind = self.kind(place);
        let beside = node.value.filter(|value| self.node(*value).hits > 0);
        let is_mixed_with = |several: u32| {
            node.folded
                || beside.is_some_and(|value| {
                    let value = self.node(value);
                    is_mixed(value.shapes) && value.values.count_ones() >= several
                })
        };
        let strange = judgement
            .words
            .iter()
            .filter(|word| self.node(word.place).is_strange())
            .count();
        let early = judgement.calls_each < CALLS_EACH_MIN && strange < STRANGERS_MANY;
        let first = ODDS_MIN + if early { ODDS_MORE_EARLY } else { 0.0 };
        let needed = match is_mixed_with(PROVEN_VALUES) {
            true => first.min(ODDS_BESIDE_VALUES),
            false => first,
        };
        let likely = judgement.words.iter().filter(|word| word.odds > needed);
        let mut values: HashSet<Place> = likely.map(|word| word.place).collect();
        if let Some(value) = beside {
            // One value may be a word that was misread; several are none.
            let several = if kind == Kind::Value { PROVEN_VALUES } else { 2 };
            self.like_values(kind, value, is_mixed_with(several), &judgement.words, &mut values);
        }
        if matches!(kind, Kind::Value | Kind::Persons | Kind::Plural) {
            self.twins(&judgement.words, &mut values);
        }
        if matches!(kind, Kind::Persons | Kind::Plural) {
            let constants = judgement.words.iter().map(|word| word.place);
            values.extend(constants.filter(|word| self.node(*word).looks.constant));
        }
        if kind == Kind::Persons {
            self.persons(&judgement.words, &mut values);
        }
        let soft = judgement.words.iter().filter(|word| word.soft);
        let folding = soft.clone().filter(|word| values.contains(&word.place)).count();
        let one_by_one = folding > 0 && folding + node.taken.len() >= FOLDING_ONE_BY_ONE;
        let enough = folding >= FOLDING_WORDS || one_by_one;
        let mut all = node.folded || (enough && folding * 2 >= soft.count());
        if all {
            let beside = judgement
                .words
                .iter()
                .filter(|word| word.soft && word.odds > ODDS_BESIDE_VALUES);
            values.extend(beside.map(|word| word.place));
        }
        let has_numbers = self.has_numbers(place);
        values.retain(|word| {
            let word = self.node(*word);
            !is_oneself(&word.text) && !word.looks.service && !is_bare_version(&word.text)
        });
        if has_numbers {
            let words = judgement.words.iter().map(|word| word.place);
            values.extend(words.filter(|word| is_bare_version(&self.node(*word).text)));
        }
        // Where services are called by names that only they have, the others are services, too.
        let is_service = |word: &&Judged| self.node(word.place).looks.service;
        if judgement.words.iter().filter(is_service).count() * 2 >= judgement.words.len() {
            (values, all) = (HashSet::new(), node.folded);
        }
        let unknown = judgement
            .words
            .iter()
            .map(|word| self.node(word.place))
            .filter(|word| word.is_strange());
        let calls: u64 = unknown.map(|word| u64::from(word.hits)).sum();
        let rare: Vec<Place> = judgement
            .words
            .iter()
            .map(|word| word.place)
            .filter(|word| {
                let word = self.node(*word);
                // Who calls what an API might have, by a list of words, is met by other limits.
                word.is_strange() && word.looks.common.most == 0 && word.hits <= 1
            })
            .collect();
        if (rare.len() >= FLOOD_WORDS && rare.len() as u64 * 100 >= calls * 92)
            || rare.len() >= FLOOD_WORDS_MAX
        {
            values.extend(rare);
            all = true;
        }
        let mut values: Vec<Place> = values.into_iter().collect();
        values.sort_unstable();
        (values, all)
    }

    /// Words of which no API has a part, right below persons: their names, however often they were called.
    fn persons(&self, words: &[Judged], values: &mut HashSet<Place>) {
        let strangers = words.iter().map(|word| word.place).filter(|word| {
            let word = self.node(*word);
            word.is_strange() && word.looks.common.most == 0 && word.words.is_empty() && word.value.is_none()
        });
        if strangers.clone().count() >= STRANGERS {
            values.extend(strangers);
        }
    }

    /// Words with the same words below them as the values beside them.
    fn like_values(
        &self,
        kind: Kind,
        value: Place,
        mixed: bool,
        words: &[Judged],
        values: &mut HashSet<Place>,
    ) {
        let value = self.node(value);
        let rare_place = matches!(kind, Kind::Base | Kind::Value);
        let mut collections = Vec::new();
        for word in words {
            let node = self.node(word.place);
            let known = node.is_known;
            let below = self.below_values(node, value).filter(|_| kind != Kind::Base);
            // However often it was called: one caller may use one value for all that he does.
            let same = is_same(node, value) && (!known || kind != Kind::Base);
            if same || (!known && below.is_some_and(|(one, other)| is_same(one, other))) {
                values.insert(word.place);
                continue;
            }
            if word.odds <= ODDS_LIKE_VALUES {
                continue;
            }
            if known && kind != Kind::Base && Learnable::is_version(&node.text) {
                values.insert(word.place);
                continue;
            }
            if node.words.is_empty() && node.value.is_none() {
                // A known word where everything else is a value: only what is changed there like them is one.
                let changes = self.is_changed(node);
                let has = |method: &str| value.ends.iter().any(|(known, ..)| known == method);
                if known
                    && mixed
                    && changes
                    && !rare_place
                    && node.ends.iter().all(|(method, ..)| has(method))
                {
                    values.insert(word.place);
                }
                continue;
            }
            let alike = |(one, other)| shared(one, other) >= 2 && shared(one, other) * 2 >= one.words.len();
            if below.is_some_and(alike) {
                values.insert(word.place);
                continue;
            }
            if node.words.is_empty() {
                let below = value.value.is_some() || !value.words.is_empty();
                if mixed && !known && !node.looks.action && !node.looks.plural && below && kind != Kind::Base
                {
                    collections.push(word.place);
                }
                continue;
            }
            let shared = shared(node, value);
            let enough = match (known, mixed, rare_place) {
                (false, true, _) | (true, true, false) | (false, false, false) => 1,
                _ => 2,
            };
            if shared >= enough && shared * 2 >= node.words.len() {
                values.insert(word.place);
            }
        }
        if collections.len() >= ALIKE_COLLECTIONS {
            values.extend(collections);
        }
    }

    /// Words with the same words below them as others here, if half of the words are so: values whatever they are called.
    /// At a base, and below a word of no kind, an API has collections that are as much alike.
    fn twins(&self, words: &[Judged], values: &mut HashSet<Place>) {
        // What comes in versions, or says what is done, stands below many things.
        let tells =
            |text: &str, node: &Node| node.hits > 0 && !node.looks.action && !Learnable::is_version(text);
        let below = |word: &Node, is: &dyn Fn(&str) -> bool| {
            let below = word.words.iter();
            below
                .filter(|(text, place)| tells(text, self.node(**place)) && is(text))
                .count()
        };
        let candidates: Vec<(Place, &Node, usize)> = words
            .iter()
            .map(|word| (word.place, self.node(word.place)))
            .filter(|(_, word)| {
                let collection = word.is_known && word.looks.plural;
                !collection && !word.looks.action && !Learnable::is_version(&word.text)
            })
            .map(|(place, word)| (place, word, below(word, &|_| true)))
            .filter(|(.., count)| *count >= SAME_BELOW)
            .take(TWINS_MAX)
            .collect();
        let are_twins = |(place, word, count): &(Place, &Node, usize), other: &(Place, &Node, usize)| {
            let has = |text: &str| {
                let same = other.1.words.get(text);
                same.is_some_and(|same| tells(text, self.node(*same)))
            };
            let shared = || below(word, &has);
            *place != other.0 && enough_shared(shared(), (*count).min(other.2))
        };
        let twins: Vec<Place> = candidates
            .iter()
            .filter(|one| candidates.iter().any(|other| are_twins(one, other)))
            .map(|one| one.0)
            .collect();
        if twins.len() * 2 >= words.len().min(TWINS_MAX) {
            values.extend(twins);
        }
    }

    /// What stands behind the values below a word, and behind those of its neighbours' values.
    fn below_values(&self, word: &Node, value: &Node) -> Option<(&Node, &Node)> {
        Some((self.node(word.value?), self.node(value.value?)))
    }

    pub(super) fn is_changed(&self, word: &Node) -> bool {
        let changes = |method: &str| matches!(method, "PUT" | "PATCH" | "DELETE");
        word.ends.iter().any(|(method, ..)| changes(method))
    }

    /// It is a value elsewhere.
    pub(super) fn is_named(&self, word: &Node) -> bool {
        !self.names.is_empty() && self.names.contains(&word.short)
    }

    /// Puts the words at a place together that are values, if there are any.
    pub(super) fn fold(&mut self, place: Place, merges: &mut Merges) -> bool {
        let (values, all) = self.values_at(place);
        if values.is_empty() {
            return false;
        }
        if all {
            self.at(place).folded = true;
        }
        let into = match self.node(place).value {
            Some(value) => value,
            None => {
                let made = Node {
                    parent: place,
                    text: SmolStr::new_static("{id}"),
                    is_value: true,
                    is_known: true,
                    ..Node::default()
                };
                let value = self.put(made);
                self.at(place).value = Some(value);
                value
            }
        };
        for word in values {
            let node = self.node(word);
            let (text, short, known) = (node.text.clone(), node.short, node.is_known);
            let action = node.looks.action;
            if all && !known && self.names.len() < NAMES_MAX {
                self.names.insert(short);
            }
            if !all || known || action {
                let taken = &mut self.at(place).taken;
                if taken.len() < TAKEN_MAX && !taken.contains(&short) {
                    taken.push(short);
                }
            }
            let node = self.at(into);
            node.values |= 1 << (super::hash(&text) & 63);
            node.shapes |= 1 << shape_index(Shape::Word);
            self.at(place).words.remove(&text);
            self.merge(into, word, merges);
        }
        true
    }
}

impl Tree {
    /// Whether a word that has no place of its own at this one is one of the values.
    pub(super) fn takes(&self, node: &Node, text: &str, is_unknown: bool) -> bool {
        (node.folded && is_unknown && !Learnable::is_action(text) && !Learnable::is_service(text))
            || node.taken.len() >= TAKEN_MAX
            || (!node.taken.is_empty() && node.taken.contains(&self.short_hash(text)))
    }
}

/// How many of the words below the one are below the other.
fn shared(one: &Node, other: &Node) -> usize {
    let both = one.words.keys().filter(|text| other.words.contains_key(*text));
    both.count()
}

/// So many, and so great a part of the one's, that both are the same thing, whatever it is called.
fn is_same(one: &Node, other: &Node) -> bool {
    enough_shared(shared(one, other), one.words.len())
}

fn enough_shared(shared: usize, of: usize) -> bool {
    shared >= SAME_BELOW && shared * 3 >= of * 2
}

/// A version without its letter: `2`, `1.0`, `2.1.3`.
fn is_bare_version(word: &str) -> bool {
    let mut parts = word.split('.');
    let number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.clone().count() <= 3 && parts.all(number)
}

/// Who calls, by another name than his own.
fn is_oneself(word: &str) -> bool {
    matches!(word, "me" | "@me" | "self" | "current" | "myself")
}

/// Values of several shapes, or of one that words are among: names, codes, tokens.
pub(super) fn is_mixed(shapes: u16) -> bool {
    const PURE: [Shape; 5] = [Shape::Number, Shape::Uuid, Shape::Ulid, Shape::Date, Shape::Hex];
    let pure = PURE.iter().fold(0, |bits, shape| bits | 1 << shape_index(*shape));
    shapes & !pure != 0
}
