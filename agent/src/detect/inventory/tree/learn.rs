//! Which words at a place are values: told by what stands before them, what is below them, and how many there are.
//!
//! Of the descriptions of real APIs, three collections in four (`/orders/…`) have values below them and next to none has
//! two words of its own there; behind a value (`/orders/{id}/…`) it is the other way about, and at the root there are
//! words alone. So the limits differ by what a place is. Words that have the same words below them as the values beside
//! them, or as each other, are values whatever they are called: `acme/orders`, `zenith/orders`.
//!
//! It must not know what is counted at an endpoint.

use hashbrown::{HashMap, HashSet};
use smol_str::SmolStr;

use super::{Merges, Node, Place, ROOT, Tree, hash, shape_index};
use crate::call::{Learnable, Shape};

/// Words that differ in a number alone: `bed1`, `bed2`.
const ALIKE_BUT_NUMBERS: usize = 3;
/// Words more that it takes for each collection beside them.
const LEAVES_PER_COLLECTION: usize = 2;
/// Words below two words alike that leave no doubt; at the root, twice as many.
const ALIKE_RICH: usize = 6;
/// Words that are put, patched or deleted.
const ALIKE_CHANGED: usize = 3;
/// Words with numbers of two digits at their ends.
const ALIKE_NAMED: usize = 2;
/// Words that several have below their values.
const ALIKE_BELOW_VALUES: usize = 4;
/// Words beside values of many shapes, with values below them as these have.
const ALIKE_COLLECTIONS: usize = 3;
/// Calls before a word is taken for what it looks like: what is below it may not have been called yet.
const RIPE: u32 = 3;
/// So many times the words that suffice need no more calls.
const WORDS_WITHOUT_CALLS: usize = 4;
/// Words of a few capitals, or two letters: `USD`, `fr`.
const ALIKE_SYMBOLS: usize = 3;
/// So many words, nearly each seen but once: nobody's API, whatever answers.
const FLOOD_WORDS: usize = 32;
/// Words seen but once are no API's beyond this, however often others were.
const FLOOD_WORDS_MAX: usize = 128;

/// Different versions that an API is served in at a time.
const VERSIONS_MAX: u32 = 4;
/// Names of values that are remembered over all places.
const NAMES_MAX: usize = 4_096;
/// Words with a place of their own in the vocabulary that are known to be values somewhere.
const TAKEN_MAX: usize = 128;

/// What a place is, which tells what to expect there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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

/// How many words a place needs for them to be values.
struct Needs {
    /// With nothing below them; beside values of many shapes; beside values of one shape that no word has.
    leaves: usize,
    leaves_mixed: usize,
    leaves_pure: usize,
    /// With the same words below them.
    alike: usize,
    /// With values right below them.
    collections: usize,
}

impl Kind {
    fn needs(self) -> Needs {
        let of = |leaves, leaves_mixed, leaves_pure, alike, collections| Needs {
            leaves,
            leaves_mixed,
            leaves_pure,
            alike,
            collections,
        };
        const NEVER: usize = usize::MAX;
        match self {
            Kind::Base => of(NEVER, 12, NEVER, 6, NEVER),
            Kind::Value => of(10, 6, 16, 4, 40),
            Kind::Persons => of(2, 2, 4, 2, 3),
            Kind::Plural => of(3, 2, 6, 2, 12),
            Kind::Other => of(4, 2, 8, 3, 40),
        }
    }
}

/// One word at a place.
struct Candidate {
    place: Place,
    known: bool,
    action: bool,
    half: bool,
    plural: bool,
    leaf: bool,
    has_value: bool,
    hits: u32,
}

/// How much was seen of some words.
struct Seen {
    words: usize,
    ripe: usize,
}

impl Seen {
    fn of<'c>(words: impl Iterator<Item = &'c &'c Candidate>) -> Seen {
        words.fold(Seen { words: 0, ripe: 0 }, |seen, word| Seen {
            words: seen.words + 1,
            ripe: seen.ripe + usize::from(word.hits >= RIPE),
        })
    }

    fn suffices(&self, limit: usize) -> bool {
        self.ripe >= limit || self.words >= limit.saturating_mul(WORDS_WITHOUT_CALLS)
    }
}

impl Tree {
    fn kind(&self, place: Place) -> Kind {
        let node = self.node(place);
        let word = node.text.as_str();
        match () {
            () if place == ROOT || (!node.is_value && Learnable::is_base(word)) => Kind::Base,
            // A version by its date or its number alone: `/2015-03-31/functions`, `/1.0/orders`.
            () if node.is_value && self.is_version(place) => Kind::Base,
            () if node.is_value || matches!(word, "me" | "self" | "current") => Kind::Value,
            () if Learnable::is_of_persons(word) => Kind::Persons,
            () if Learnable::is_plural(word) => Kind::Plural,
            () => Kind::Other,
        }
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
        let candidates: Vec<Candidate> = node
            .words
            .values()
            .map(|word| self.candidate(*word))
            .filter(|word| word.hits > 0)
            .collect();
        if candidates.is_empty() {
            return (Vec::new(), false);
        }
        let kind = self.kind(place);
        let needs = kind.needs();
        let beside = node.value.filter(|value| self.node(*value).hits > 0);
        // One value may be a word that was misread; several are none.
        let several = if kind == Kind::Value { 3 } else { 2 };
        let mixed = node.folded
            || beside.is_some_and(|value| {
                let value = self.node(value);
                is_mixed(value.shapes) && value.values.count_ones() >= several
            });
        let mut values: HashSet<Place> = HashSet::new();
        let mut all = false;
        if let Some(value) = beside {
            self.like_values(kind, value, mixed, &candidates, &mut values);
        }
        self.like_each_other(kind, &needs, &candidates, &mut values, &mut all);
        self.like_each_other_below(kind, &needs, &candidates, &mut values, &mut all);
        // What has nothing below.
        let leaves_changed = |tree: &Tree| {
            let changed = |word: &&Candidate| word.leaf && !word.known && tree.is_changed(word.place);
            candidates.iter().filter(changed).count()
        };
        let inner = candidates.iter().filter(|word| word.has_value).count();
        // One value of a shape that words have may be a word that was misread, and says nothing.
        let pure = beside.is_some_and(|value| !is_mixed(self.node(value).shapes));
        let limit = match (node.folded, pure || mixed, mixed) {
            (true, ..) => 1,
            (_, true, true) => needs.leaves_mixed,
            (_, true, false) => needs.leaves_pure,
            // Collections may be emptied and settings be written; three of them beside each other rarely are.
            _ if kind == Kind::Other && leaves_changed(self) >= ALIKE_CHANGED => ALIKE_CHANGED,
            // Where collections are, a word with nothing below it is one that was not looked into yet.
            _ => needs.leaves.saturating_add(LEAVES_PER_COLLECTION * inner),
        };
        let leaves: Vec<&Candidate> = candidates
            .iter()
            .filter(|word| word.leaf && !word.known && !values.contains(&word.place))
            .collect();
        let alike = self.of_common_methods(beside, &leaves);
        let plain = alike.iter().filter(|word| !word.action);
        // Where there are values, what is changed as they are is one of them.
        if mixed && !matches!(kind, Kind::Base | Kind::Value) {
            values.extend(
                plain
                    .clone()
                    .filter(|word| self.is_changed(word.place))
                    .map(|word| word.place),
            );
        }
        // Half of what a word is worth by itself if part of it is vocabulary, nothing if it is a plural.
        let halves: usize = plain
            .clone()
            .map(|word| match (word.plural && !mixed, word.half) {
                (true, _) => 0,
                (_, true) => 1,
                _ => 2,
            })
            .sum();
        let seen = Seen::of(plain.clone());
        if halves >= limit.saturating_mul(2) && (mixed || seen.suffices(limit)) {
            values.extend(plain.map(|word| word.place));
            all = true;
        }
        // Collections, by their form; unless there are more than an API has.
        let collections = candidates
            .iter()
            .filter(|word| word.has_value && !word.known && !word.action && !word.plural);
        if collections.clone().count() >= needs.collections {
            values.extend(collections.map(|word| word.place));
            all = true;
        }
        // Who is a value elsewhere is one here: the same names are behind many collections.
        if !matches!(kind, Kind::Base | Kind::Value) {
            let named = candidates.iter().filter(|word| {
                !word.known
                    && !word.action
                    && self.names.contains(&(hash(&self.node(word.place).text) as u32))
            });
            if named.clone().count() >= if beside.is_some() { 1 } else { ALIKE_NAMED } {
                values.extend(named.map(|word| word.place));
            }
        }
        self.numbered(kind, &candidates, &mut values);
        let symbols = leaves
            .iter()
            .filter(|word| Learnable::is_symbol(&self.node(word.place).text));
        if kind != Kind::Base && symbols.clone().count() >= ALIKE_SYMBOLS {
            values.extend(symbols.map(|word| word.place));
        }
        let unknown = candidates.iter().filter(|word| !word.known);
        let rare: Vec<Place> = unknown
            .clone()
            .filter(|word| word.hits <= 1)
            .map(|word| word.place)
            .collect();
        let calls: u64 = unknown.map(|word| u64::from(word.hits)).sum();
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

    fn candidate(&self, place: Place) -> Candidate {
        let node = self.node(place);
        Candidate {
            place,
            known: node.is_known,
            action: Learnable::is_action(&node.text),
            half: Learnable::is_half_known(&node.text) || Learnable::is_written_as_code(&node.text),
            plural: Learnable::is_plural(&node.text),
            leaf: node.words.is_empty() && node.value.is_none(),
            has_value: node.value.is_some(),
            hits: node.hits,
        }
    }

    /// Words with the same words below them as the values beside them.
    fn like_values(
        &self,
        kind: Kind,
        value: Place,
        mixed: bool,
        candidates: &[Candidate],
        values: &mut HashSet<Place>,
    ) {
        let value = self.node(value);
        let rare_place = matches!(kind, Kind::Base | Kind::Value);
        let mut collections = Vec::new();
        for word in candidates {
            let node = self.node(word.place);
            if word.known && kind != Kind::Base && Learnable::is_version(&node.text) {
                values.insert(word.place);
                continue;
            }
            if word.leaf {
                // A known word where everything else is a value: only what is changed there like them is one.
                let changes = self.is_changed(word.place);
                let has = |method: &str| value.ends.iter().any(|(known, ..)| known == method);
                if word.known
                    && mixed
                    && changes
                    && !rare_place
                    && node.ends.iter().all(|(method, ..)| has(method))
                {
                    values.insert(word.place);
                }
                continue;
            }
            if kind != Kind::Base && self.same_below_values(node, value) {
                values.insert(word.place);
                continue;
            }
            if node.words.is_empty() {
                let below = value.value.is_some() || !value.words.is_empty();
                if mixed && !word.known && !word.action && !word.plural && below && kind != Kind::Base {
                    collections.push(word.place);
                }
                continue;
            }
            let shared = node
                .words
                .keys()
                .filter(|text| value.words.contains_key(*text))
                .count();
            let enough = match (word.known, mixed, rare_place) {
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

    /// Behind the values below a word stand the words that stand behind those of its neighbours' values.
    fn same_below_values(&self, word: &Node, value: &Node) -> bool {
        let (Some(one), Some(other)) = (word.value, value.value) else {
            return false;
        };
        let (one, other) = (&self.node(one).words, &self.node(other).words);
        let shared = one.keys().filter(|text| other.contains_key(*text)).count();
        shared >= 2 && shared * 2 >= one.len()
    }

    fn is_changed(&self, place: Place) -> bool {
        let changes = |method: &str| matches!(method, "PUT" | "PATCH" | "DELETE");
        self.node(place).ends.iter().any(|(method, ..)| changes(method))
    }

    /// Something below it is asked for, not only posted to.
    fn is_read(&self, place: Place) -> bool {
        let node = self.node(place);
        node.value.is_some()
            || !node.words.is_empty()
            || node.ends.is_empty()
            || node.ends.iter().any(|(method, ..)| method != "POST")
    }

    /// Words that have the same words below them as others have.
    fn like_each_other(
        &self,
        kind: Kind,
        needs: &Needs,
        candidates: &[Candidate],
        values: &mut HashSet<Place>,
        all: &mut bool,
    ) {
        let rare_place = matches!(kind, Kind::Base | Kind::Value);
        let mut below: HashMap<&str, usize> = HashMap::new();
        let mut below_all: HashMap<&str, usize> = HashMap::new();
        let fits = |word: &&Candidate| !(word.known || word.leaf || rare_place && word.has_value);
        let only_posted = |place: Place| {
            let ends = &self.node(place).ends;
            !ends.is_empty() && ends.iter().all(|(method, ..)| method == "POST")
        };
        for word in candidates.iter().filter(fits) {
            for (text, below_it) in &self.node(word.place).words {
                if only_posted(word.place) && !self.is_read(*below_it) {
                    continue;
                }
                // Values are shared by collections, too: only what is the API's own says that they are none.
                let own = || {
                    let below_it = self.node(*below_it);
                    below_it.is_known
                        || below_it.value.is_some()
                        || Learnable::is_action(text)
                        || Learnable::is_written_as_code(text)
                        || (Learnable::is_plural(text) && !self.names.contains(&(hash(text) as u32)))
                };
                *below_all.entry(text.as_str()).or_default() += 1;
                if !matches!(kind, Kind::Plural | Kind::Persons) && !own() {
                    continue;
                }
                *below.entry(text.as_str()).or_default() += 1;
            }
        }
        let shared = |word: &Candidate, below: &HashMap<&str, usize>| {
            let words = self.node(word.place).words.keys();
            words
                .filter(|text| below.get(text.as_str()).is_some_and(|many| *many > 1))
                .count()
        };
        let alike = |enough: usize, below: &HashMap<&str, usize>| -> Vec<&Candidate> {
            let alike = candidates.iter().filter(fits);
            alike
                .filter(|word| {
                    let shared = shared(word, below);
                    shared >= enough && shared * 2 >= self.node(word.place).words.len()
                })
                .collect()
        };
        let counts = |words: &[&Candidate]| words.iter().filter(|word| !word.plural).count();
        let (enough, rich) = match kind {
            Kind::Base => (3, 2 * ALIKE_RICH),
            Kind::Other => (2, ALIKE_RICH),
            _ => (1, ALIKE_RICH),
        };
        let few = alike(enough, &below);
        let patience = rare_place && !Seen::of(few.iter()).suffices(needs.alike);
        let many = alike(rich, &below_all);
        let single = alike(1, &below);
        let found = if counts(&few) >= needs.alike && !patience {
            few
        } else if counts(&many) >= 2 {
            many
        } else if kind == Kind::Other && counts(&single) >= 2 * needs.alike {
            single
        } else {
            return;
        };
        values.extend(found.iter().map(|word| word.place));
        *all = true;
    }

    /// Words with values below them, and the same many words below these: `repos/acme/{id}/pulls`.
    fn like_each_other_below(
        &self,
        kind: Kind,
        needs: &Needs,
        candidates: &[Candidate],
        values: &mut HashSet<Place>,
        all: &mut bool,
    ) {
        let below = |word: &Candidate| self.node(word.place).value.map(|value| &self.node(value).words);
        let mut shared: HashMap<&str, usize> = HashMap::new();
        let fits = |word: &&Candidate| !word.known && word.has_value;
        for word in candidates.iter().filter(fits) {
            for text in below(word).into_iter().flat_map(|words| words.keys()) {
                *shared.entry(text.as_str()).or_default() += 1;
            }
        }
        let enough = if kind == Kind::Base {
            ALIKE_BELOW_VALUES * 2
        } else {
            ALIKE_BELOW_VALUES
        };
        let alike: Vec<&Candidate> = candidates
            .iter()
            .filter(fits)
            .filter(|word| {
                let Some(words) = below(word) else {
                    return false;
                };
                let same = words
                    .keys()
                    .filter(|text| shared.get(text.as_str()).is_some_and(|many| *many >= needs.alike));
                let same = same.count();
                same >= enough && same * 3 >= words.len() * 2
            })
            .collect();
        if alike.iter().filter(|word| !word.plural).count() >= needs.alike {
            values.extend(alike.iter().map(|word| word.place));
            *all = true;
        }
    }

    /// Those called with methods that others are called with, too.
    fn of_common_methods<'c>(&self, beside: Option<Place>, leaves: &[&'c Candidate]) -> Vec<&'c Candidate> {
        let mut methods: HashMap<&SmolStr, usize> = HashMap::new();
        for word in leaves {
            for (method, ..) in &self.node(word.place).ends {
                *methods.entry(method).or_default() += 1;
            }
        }
        if let Some(value) = beside {
            for (method, ..) in &self.node(value).ends {
                *methods.entry(method).or_default() += 1;
            }
        }
        leaves
            .iter()
            .filter(|word| {
                let ends = &self.node(word.place).ends;
                // What is only posted to is done, not named; unless values are posted to, too.
                let posts = !ends.is_empty() && ends.iter().all(|(method, ..)| method == "POST");
                let posted = beside
                    .is_some_and(|value| self.node(value).ends.iter().any(|(method, ..)| method == "POST"));
                (!posts || posted)
                    && ends
                        .iter()
                        .all(|(method, ..)| methods.get(method).is_some_and(|many| *many > 1))
            })
            .copied()
            .collect()
    }

    fn numbered(&self, kind: Kind, candidates: &[Candidate], values: &mut HashSet<Place>) {
        let mut numbered: HashMap<String, Vec<Place>> = HashMap::new();
        for word in candidates.iter().filter(|word| !word.known) {
            let text = &self.node(word.place).text;
            if text.bytes().any(|byte| byte.is_ascii_digit()) {
                let bare = text.chars().filter(|one| !one.is_ascii_digit()).collect();
                numbered.entry(bare).or_default().push(word.place);
            }
        }
        for group in numbered.values().filter(|group| group.len() >= ALIKE_BUT_NUMBERS) {
            values.extend(group);
        }
        // `otto31`, `marta84`: two digits at the end are no part of a word.
        let named: Vec<Place> = candidates
            .iter()
            .filter(|word| !word.known && !word.half && !matches!(kind, Kind::Base | Kind::Value))
            .filter(|word| {
                let text = &self.node(word.place).text;
                text.bytes().rev().take_while(u8::is_ascii_digit).count() >= 2
            })
            .map(|word| word.place)
            .collect();
        if named.len() >= ALIKE_NAMED {
            values.extend(named);
        }
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
            let text = self.node(word).text.clone();
            if all && !self.node(word).is_known && self.names.len() < NAMES_MAX {
                self.names.insert(hash(&text) as u32);
            }
            if !all || self.node(word).is_known || Learnable::is_action(&text) {
                let taken = &mut self.at(place).taken;
                if taken.len() < TAKEN_MAX {
                    taken.push(hash(&text) as u32);
                }
            }
            let node = self.at(into);
            node.values |= 1 << (hash(&text) & 63);
            node.shapes |= 1 << shape_index(Shape::Word);
            self.at(place).words.remove(&text);
            self.merge(into, word, merges);
        }
        true
    }
}

impl Node {
    /// Whether a word that has no place of its own here is one of the values.
    pub(super) fn takes(&self, text: &str, is_unknown: bool) -> bool {
        (self.folded && is_unknown && !Learnable::is_action(text))
            || (!self.taken.is_empty() && self.taken.contains(&(hash(text) as u32)))
    }
}

/// Values of several shapes, or of one that words are among: names, codes, tokens.
fn is_mixed(shapes: u16) -> bool {
    const PURE: [Shape; 5] = [Shape::Number, Shape::Uuid, Shape::Ulid, Shape::Date, Shape::Hex];
    let pure = PURE.iter().fold(0, |bits, shape| bits | 1 << shape_index(*shape));
    shapes & !pure != 0
}
