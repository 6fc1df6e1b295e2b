//! The paths of one service as a tree of places, learnt from the calls: which segments are words of the API, and which
//! are values.
//!
//! What one segment cannot tell, its siblings do. Words at one place that look alike (the same methods, the same places
//! below) are values once they are more than words of an API would be; then the place is *folded*: they become one
//! `{name}`, and what was learnt below them is put together. Only calls that succeed make places, so a scanner that is
//! answered `404` makes none; behind a login, where everything is `401`, a few are made and no more.
//!
//! It must not know what is counted at an endpoint: an end is a number that its owner gave.

use hashbrown::{HashMap, HashSet};
use smol_str::SmolStr;

use super::{Limits, Proof};
use crate::call::{Commonness, Fhir, Learnable, Segment, Segments, Shape};

mod kept;
mod learn;
mod signs;

use self::signs::Looks;

/// Log odds of a strange word's being a value above which it is not shown.
const SHOWN_ODDS_MAX: f32 = -1.0;

/// A place, by its index in the tree.
pub(super) type Place = u32;
const ROOT: Place = 0;

/// Segments of a path that are told apart; the others are one `{rest}`.
const SEGMENTS_MAX: usize = 24;
/// Words at one place that no call has proven: no more are taken.
const UNPROVEN_WORDS_MAX: usize = 4;
/// At a place with more unknown words none is shown.
const SHOWN_SIBLINGS_MAX: usize = 12;
/// Successful calls after which a word may be shown.
const SHOWN_HITS_MIN: u32 = 20;
/// Different values beside it, above or below, by which a word is proven to be the API's own.
const SHOWN_VALUES_MIN: u32 = 8;

/// One place.
#[derive(Clone, Default)]
pub(super) struct Node {
    parent: Place,
    /// The word, or `{id}` and `{name}`. Empty where only its hash is known, after a restart.
    pub text: SmolStr,
    pub is_value: bool,
    is_known: bool,
    looks: Looks,
    /// Short hash of the word.
    short: u32,
    words: HashMap<SmolStr, Place>,
    value: Option<Place>,
    /// Words here are values.
    folded: bool,
    /// Short hashes of known words and actions that are values here.
    taken: Vec<u32>,
    /// Calls that succeeded, and that came this way at all.
    hits: u32,
    seen: u32,
    /// Which values were here, or before a word: a bit each, by hash.
    values: u64,
    /// Shapes of the values: a bit each.
    shapes: u16,
    /// The redactor shows it.
    redactor_shows: bool,
    /// Its words are shown once and for all: restored, or proven.
    proven: bool,
    /// Who ends here: method and operation, and the owner's number.
    pub ends: Vec<(SmolStr, SmolStr, u32)>,
    free: bool,
}

/// What the owner has to put together: the second into the first.
pub(super) type Merges = Vec<(u32, u32)>;

/// The tree.
pub(super) struct Tree {
    nodes: Vec<Node>,
    free: Vec<Place>,
    /// Ends made by calls that proved nothing.
    unproven: usize,
    /// Words of which only the hash was kept over a restart.
    hashed: usize,
    /// Short hashes of words that turned out to be values somewhere.
    names: HashSet<u32>,
    /// At how many places each word is one, by its short hash.
    recurring: HashMap<u32, u16>,
    /// Key of the short hashes.
    key: [u8; 32],
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    At(Place),
    /// Nothing was ever answered there.
    Unmatched,
    /// There is no room for it.
    Full,
}

/// A path to follow.
pub(super) struct Way<'a> {
    pub path: &'a str,
    /// As the redactor shows it, where it may be relied on.
    pub shown: Option<&'a str>,
    pub evidence: Proof,
    /// How many places may be made.
    pub room: usize,
    /// The call speaks FHIR.
    pub fhir: bool,
    /// What is kept of a word that may not be.
    pub hash_of: &'a dyn Fn(&str) -> SmolStr,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            nodes: vec![Node {
                is_known: true,
                ..Node::default()
            }],
            free: Vec::new(),
            unproven: 0,
            hashed: 0,
            names: HashSet::new(),
            recurring: HashMap::new(),
            key: [0; 32],
        }
    }
}

impl Tree {
    /// An empty one; `key` makes the hashes of words its own.
    pub fn new(key: &[u8; 32]) -> Tree {
        Tree {
            key: *key,
            ..Tree::default()
        }
    }

    /// What is remembered of a word that is a value.
    fn short_hash(&self, text: &str) -> u32 {
        let hash = blake3::keyed_hash(&self.key, text.as_bytes());
        let [first, second, third, fourth, ..] = *hash.as_bytes();
        u32::from_le_bytes([first, second, third, fourth])
    }

    /// A word's place, with what its text tells.
    fn with_looks(&mut self, node: Node) -> Node {
        let short = self.short_hash(&node.text);
        let places = self.recurring.entry(short).or_default();
        *places = places.saturating_add(1);
        Node {
            looks: Looks::of(&node.text),
            short,
            ..node
        }
    }

    /// A word's place is no more.
    fn forget_word(&mut self, node: &Node) {
        if node.is_value {
            return;
        }
        if let Some(places) = self.recurring.get_mut(&node.short) {
            *places = places.saturating_sub(1);
            if *places == 0 {
                self.recurring.remove(&node.short);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub fn node(&self, place: Place) -> &Node {
        &self.nodes[place as usize]
    }

    fn at(&mut self, place: Place) -> &mut Node {
        &mut self.nodes[place as usize]
    }

    /// Follows a path and learns from it. Merged ends are added to `merges`.
    pub fn walk(&mut self, way: &Way<'_>, merges: &mut Merges) -> Found {
        let Way {
            path,
            shown,
            evidence,
            room,
            fhir,
            hash_of,
        } = *way;
        let mut trail: [Place; SEGMENTS_MAX + 1] = [ROOT; SEGMENTS_MAX + 1];
        let mut depth = 0;
        let mut shown = shown.map(|shown| Segments::of(shown.strip_prefix('/').unwrap_or(shown)));
        let mut place = ROOT;
        let mut values = 0u64;
        let mut made = 0;
        let mut before = "";
        let mut fhir = fhir;
        for segment in Segments::of(path).filter(|segment| !segment.is_empty()) {
            let shows = shown.as_mut().and_then(Iterator::next) == Some(segment);
            if depth == SEGMENTS_MAX {
                break;
            }
            fhir |= segment.eq_ignore_ascii_case("fhir");
            let resource = fhir && (Fhir::is_type(before) || before == "_history");
            let read = self.read(place, segment, resource);
            before = segment;
            if self.hashed > 0 && read.shape == Shape::Word {
                self.recall(place, &read.text, hash_of);
            }
            let next = match self.follow(place, &read) {
                Some(next) => next,
                None => match self.grow(place, &read, evidence, room.saturating_sub(made)) {
                    Ok(next) => {
                        made += 1;
                        next
                    }
                    Err(found) => return found,
                },
            };
            let node = self.at(next);
            let bit = 1u64 << (hash(segment) & 63);
            if node.is_value {
                if evidence != Proof::None {
                    node.values |= bit;
                    node.shapes |= 1 << shape_index(read.shape);
                }
                values = values.rotate_left(7) ^ bit;
            } else {
                node.redactor_shows = shows;
                if evidence == Proof::Success && values != 0 {
                    // Which values stood before it.
                    node.values |= 1 << (values.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58);
                }
            }
            place = next;
            depth += 1;
            trail[depth] = place;
        }
        for place in &trail[1..=depth] {
            let node = self.at(*place);
            node.seen = node.seen.saturating_add(1);
            node.hits = node.hits.saturating_add(u32::from(evidence == Proof::Success));
        }
        if made > 0 || evidence == Proof::Success {
            // From the root on: what is folded above may take the places below with it.
            for index in 0..depth {
                let parent = trail[index];
                let child = trail[index + 1];
                let node = self.node(child);
                // Only what is new, or what may just have come to look otherwise, can tip the scales.
                let news = made > 0 || node.seen.is_power_of_two();
                if news && self.fold(parent, merges) {
                    // The trail is no longer where it was.
                    return self.find(path, fhir);
                }
            }
        }
        Found::At(place)
    }

    /// Where a path leads, without learning from it.
    pub fn find(&self, path: &str, fhir: bool) -> Found {
        let (mut place, mut fhir, mut before) = (ROOT, fhir, "");
        for segment in path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .take(SEGMENTS_MAX)
        {
            fhir |= segment.eq_ignore_ascii_case("fhir");
            let resource = fhir && (Fhir::is_type(before) || before == "_history");
            before = segment;
            match self.follow(place, &self.read(place, segment, resource)) {
                Some(next) => place = next,
                None => return Found::Unmatched,
            }
        }
        Found::At(place)
    }

    /// What a segment is there.
    fn read<'a>(&self, place: Place, segment: &'a str, resource: bool) -> Segment<'a> {
        let read = Segment::read(segment, resource);
        let is_version = match read.shape {
            Shape::Number => self.is_version_at(place, segment),
            // `/api/v1.0.0/orders`; elsewhere it is a release of something.
            Shape::Code => Learnable::is_version(segment) && self.kind(place) == learn::Kind::Base,
            _ => false,
        };
        match is_version {
            true => Segment {
                shape: Shape::Version,
                text: SmolStr::new(segment),
                ..read
            },
            false => read,
        }
    }

    /// The place of a segment, if there is one.
    fn follow(&self, place: Place, read: &Segment<'_>) -> Option<Place> {
        let node = self.node(place);
        if read.shape.is_word() {
            if let Some(next) = node.words.get(read.text.as_str()) {
                return Some(*next);
            }
            // Among values, a word that is not known here is one of them; among numbered ones, one with a number is.
            let is_numbered = read.shape == Shape::Word
                && read.text.bytes().any(|byte| byte.is_ascii_digit())
                && Commonness::of(&read.text).least == 0;
            let is_value = self.takes(node, &read.text, read.shape == Shape::Word);
            return (is_value || is_numbered).then_some(node.value).flatten();
        }
        node.value
    }

    /// A word of which only the hash was known gets its text back.
    fn recall(&mut self, place: Place, text: &SmolStr, hash_of: &dyn Fn(&str) -> SmolStr) {
        if self.node(place).words.contains_key(text) {
            return;
        }
        if let Some(word) = self.at(place).words.remove(&hash_of(text)) {
            self.at(place).words.insert(text.clone(), word);
            let node = std::mem::take(self.at(word));
            *self.at(word) = self.with_looks(Node {
                text: text.clone(),
                ..node
            });
            self.hashed -= 1;
        }
    }

    fn grow(
        &mut self,
        place: Place,
        read: &Segment<'_>,
        evidence: Proof,
        room: usize,
    ) -> Result<Place, Found> {
        if evidence == Proof::None {
            return Err(Found::Unmatched);
        }
        let node = self.node(place);
        let known = matches!(read.shape, Shape::Known | Shape::Version);
        if evidence == Proof::Weak && !known && read.shape.is_word() {
            let unproven = node
                .words
                .values()
                .filter(|word| self.node(**word).hits == 0)
                .count();
            if unproven >= UNPROVEN_WORDS_MAX {
                return Err(Found::Unmatched);
            }
        }
        if room == 0 {
            return Err(Found::Full);
        }
        let is_value = !read.shape.is_word();
        let made = Node {
            parent: place,
            text: read.text.clone(),
            is_value,
            is_known: known || is_value,
            ..Node::default()
        };
        let made = match is_value {
            true => made,
            false => self.with_looks(made),
        };
        let next = self.put(made);
        let node = self.at(place);
        if is_value {
            node.value = Some(next);
        } else {
            node.words.insert(read.text.clone(), next);
        }
        Ok(next)
    }

    fn put(&mut self, node: Node) -> Place {
        if let Some(place) = self.free.pop() {
            *self.at(place) = node;
            return place;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as Place
    }

    /// Puts `from` and all below it into `into`.
    fn merge(&mut self, into: Place, from: Place, merges: &mut Merges) {
        let mut waiting = vec![(into, from)];
        while let Some((into, from)) = waiting.pop() {
            let taken = std::mem::replace(
                self.at(from),
                Node {
                    free: true,
                    ..Node::default()
                },
            );
            self.free.push(from);
            self.forget_word(&taken);
            let node = self.at(into);
            node.hits = node.hits.saturating_add(taken.hits);
            node.seen = node.seen.saturating_add(taken.seen);
            node.values |= if node.is_value == taken.is_value {
                taken.values
            } else {
                0
            };
            node.shapes |= taken.shapes;
            node.folded |= taken.folded;
            for word in taken.taken {
                if node.taken.len() < learn::TAKEN_MAX && !node.taken.contains(&word) {
                    node.taken.push(word);
                }
            }
            for (method, operation, number) in taken.ends {
                let same = node.ends.iter().find(|(m, o, _)| *m == method && *o == operation);
                match same {
                    Some((_, _, kept)) => merges.push((*kept, number)),
                    None => node.ends.push((method, operation, number)),
                }
            }
            for (text, child) in taken.words {
                match self.node(into).words.get(&text).copied() {
                    Some(same) => waiting.push((same, child)),
                    None => {
                        self.at(child).parent = into;
                        self.at(into).words.insert(text, child);
                    }
                }
            }
            if let Some(child) = taken.value {
                match self.node(into).value {
                    Some(same) => waiting.push((same, child)),
                    None => {
                        self.at(child).parent = into;
                        self.at(into).value = Some(child);
                    }
                }
            }
        }
    }

    /// The end of a method and operation at a place.
    pub fn end(&self, place: Place, method: &str, operation: &str) -> Option<u32> {
        let ends = &self.node(place).ends;
        let found = ends.iter().find(|(m, o, _)| m == method && o == operation);
        found.map(|(_, _, number)| *number)
    }

    /// Makes one, if the evidence suffices.
    pub fn make_end(
        &mut self,
        place: Place,
        method: SmolStr,
        operation: SmolStr,
        evidence: Proof,
        limits: &Limits,
        number: u32,
    ) -> bool {
        match evidence {
            Proof::None => return false,
            Proof::Weak if self.unproven >= limits.unproven_endpoints_max => return false,
            Proof::Weak => self.unproven += 1,
            Proof::Success => {}
        }
        self.at(place).ends.push((method, operation, number));
        true
    }

    /// Takes an end away, and the places that nobody needs any more.
    pub fn remove_end(&mut self, place: Place, number: u32) {
        self.at(place).ends.retain(|(_, _, known)| *known != number);
        let mut place = place;
        while place != ROOT {
            let node = self.node(place);
            if !node.ends.is_empty() || !node.words.is_empty() || node.value.is_some() {
                break;
            }
            let (parent, text) = (node.parent, node.text.clone());
            let above = self.at(parent);
            if above.value == Some(place) {
                above.value = None;
            } else {
                above.words.remove(&text);
            }
            let gone = std::mem::replace(
                self.at(place),
                Node {
                    free: true,
                    ..Node::default()
                },
            );
            self.forget_word(&gone);
            self.free.push(place);
            place = parent;
        }
    }

    /// Every end: its place and the owner's number.
    pub fn ends(&self) -> impl Iterator<Item = (Place, &SmolStr, &SmolStr, u32)> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.free)
            .flat_map(|(place, node)| {
                let place = place as Place;
                node.ends
                    .iter()
                    .map(move |(method, operation, number)| (place, method, operation, *number))
            })
    }

    /// Whether a word may be shown: the redactor shows it, it is vocabulary, or it is proven to be the API's own.
    fn shows(&self, place: Place) -> bool {
        let node = self.node(place);
        if node.is_value || node.is_known || node.redactor_shows || node.proven {
            return true;
        }
        let parent = self.node(node.parent);
        let siblings = parent
            .words
            .values()
            .filter(|word| !self.node(**word).is_known)
            .count();
        if parent.folded
            || siblings > SHOWN_SIBLINGS_MAX
            || node.hits < SHOWN_HITS_MIN
            || !Learnable::is(&node.text)
            || (!parent.is_value && Learnable::is_of_persons(&parent.text))
        {
            return false;
        }
        // A sub-resource under many different values, or a collection of many.
        let below = node.value.map_or(0, |value| self.node(value).values.count_ones());
        let above = if parent.is_value {
            node.values.count_ones()
        } else {
            0
        };
        above.max(below) >= SHOWN_VALUES_MIN
            // A word that no API has must look like a word of this one by far.
            && ((node.looks.common.parts > 0 && node.looks.common.unknown == 0)
                || self.odds_of(place) < SHOWN_ODDS_MAX)
    }

    /// `/api/frobs/{id}/notes`. A word that may not be shown is `{word-…}` with what `hide` makes of it.
    pub fn template(&self, place: Place, hide: &dyn Fn(&str) -> SmolStr) -> String {
        let mut places = Vec::new();
        let mut at = place;
        while at != ROOT {
            places.push(at);
            at = self.node(at).parent;
        }
        if places.is_empty() {
            return "/".to_owned();
        }
        let mut template = String::new();
        for place in places.into_iter().rev() {
            template.push('/');
            match self.shows(place) {
                true => template.push_str(&self.node(place).text),
                false => template.push_str(&hide(&self.node(place).text)),
            }
        }
        template
    }

    /// Shapes of the values of a template, in order.
    pub fn value_shapes(&self, place: Place) -> Vec<Vec<Shape>> {
        let mut found = Vec::new();
        let mut at = place;
        while at != ROOT {
            let node = self.node(at);
            if node.is_value {
                let has = |shape: &Shape| node.shapes & (1 << shape_index(*shape)) != 0;
                found.push(Shape::ALL.into_iter().filter(has).collect());
            }
            at = node.parent;
        }
        found.reverse();
        found
    }
}

/// Only for bits and looks: who could make two words meet would gain nothing but a coarser count.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte))
            .wrapping_mul(0x0100_0000_01B3)
            .rotate_left(23)
    })
}

fn shape_index(shape: Shape) -> usize {
    Shape::ALL
        .iter()
        .position(|known| known.as_str() == shape.as_str())
        .unwrap_or_default()
}
