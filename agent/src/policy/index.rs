//! Which rules a call may match, found for all rules at once: a bit set for each of direction, method and path,
//! and their intersection. What is left is looked at rule by rule.
//!
//! The paths of all rules are one trie, walked once a call. Nothing is allocated while calls are judged, but for
//! targets that can be read in several ways.

use hashbrown::HashMap;
use smol_str::SmolStr;

use super::Action;
use super::path::{Segment, split};
use super::reading;
use super::set::{OnAmbiguous, Policy, Rule};
use crate::call::{Anomaly, ApiCall, CallDirection};

/// Rules, by position.
type Bits = Vec<u64>;

/// The index over a set of rules.
pub(super) struct Index {
    words: usize,
    inbound: Bits,
    outbound: Bits,
    /// Rules without methods.
    any_method: Bits,
    /// Methods that rules name, with the rules that do, and those without methods.
    methods: Vec<(SmolStr, Bits)>,
    /// Rules without paths.
    any_path: Bits,
    /// Rules with paths of policies that deny what is ambiguous.
    ambiguous: Bits,
    /// Rules with paths that deny: where the path is not known, the policy's `onUnseen` says.
    unknown: Bits,
    /// Rules that allow: of a path with several readings, they have to match all.
    allowing: Bits,
    nodes: Vec<Node>,
}

/// What of a request is not known, because its connection was joined in the middle (HTTP/2).
#[derive(Clone, Copy, Default)]
pub(super) struct Unknown {
    pub method: bool,
    pub path: bool,
    pub host: bool,
    pub auth: bool,
}

impl Unknown {
    pub(super) fn of(call: &ApiCall) -> Unknown {
        if !call.anomalies.contains(&Anomaly::UnknownFields) {
            return Unknown::default();
        }
        Unknown {
            method: call.raw.method.is_empty(),
            path: call.raw.target.is_empty(),
            host: call.raw.host.is_empty(),
            // Any field may be the one that authenticates.
            auth: true,
        }
    }
}

/// A node of the trie.
#[derive(Default)]
struct Node {
    literals: HashMap<SmolStr, u32>,
    /// Any one segment.
    one: Option<u32>,
    /// Patterns that end here.
    ends: Vec<u32>,
    /// Patterns that go on with `**`.
    rest: Vec<u32>,
}

/// Memory that is used again for every call.
#[derive(Default)]
pub(super) struct Scratch {
    /// The rules found.
    pub bits: Vec<u64>,
    one: Vec<u64>,
    all: Vec<u64>,
    active: Vec<u32>,
    next: Vec<u32>,
}

impl Index {
    pub(super) fn build(policies: &[Policy], rules: &[Rule]) -> Index {
        let words = rules.len().div_ceil(64);
        let empty = || vec![0u64; words];
        let mut index = Index {
            words,
            inbound: empty(),
            outbound: empty(),
            any_method: empty(),
            methods: Vec::new(),
            any_path: empty(),
            ambiguous: empty(),
            unknown: empty(),
            allowing: empty(),
            nodes: vec![Node::default()],
        };
        for (position, rule) in rules.iter().enumerate() {
            for direction in rule.directions() {
                match direction {
                    CallDirection::Inbound => set(&mut index.inbound, position),
                    CallDirection::Outbound => set(&mut index.outbound, position),
                }
            }
            if rule.action == Action::Allow {
                set(&mut index.allowing, position);
            }
            if rule.matches.methods.is_empty() {
                set(&mut index.any_method, position);
            }
            for method in &rule.matches.methods {
                let found = index.methods.iter().position(|(name, _)| name == method);
                let at = found.unwrap_or_else(|| {
                    index.methods.push((method.clone(), empty()));
                    index.methods.len() - 1
                });
                set(&mut index.methods[at].1, position);
            }
            if rule.matches.paths.is_empty() {
                set(&mut index.any_path, position);
            } else if policies[rule.policy].on_ambiguous == OnAmbiguous::Deny
                && matches!(rule.action, Action::Deny | Action::Kill)
            {
                set(&mut index.ambiguous, position);
            }
            if !rule.matches.paths.is_empty() && matches!(rule.action, Action::Deny | Action::Kill) {
                set(&mut index.unknown, position);
            }
            for path in &rule.matches.paths {
                index.insert(&path.segments, path.rest, position as u32);
            }
        }
        for (_, bits) in &mut index.methods {
            for (word, any) in bits.iter_mut().zip(&index.any_method) {
                *word |= any;
            }
        }
        index
    }

    fn insert(&mut self, segments: &[Segment], rest: bool, rule: u32) {
        let mut at = 0;
        for segment in segments {
            let fresh = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let next = match segment {
                Segment::Literal(literal) => *node.literals.entry(literal.clone()).or_insert(fresh),
                Segment::One => *node.one.get_or_insert(fresh),
            };
            if next == fresh {
                self.nodes.push(Node::default());
            }
            at = next as usize;
        }
        let node = &mut self.nodes[at];
        let list = if rest { &mut node.rest } else { &mut node.ends };
        list.push(rule);
    }

    /// Puts the rules whose direction, method and path fit into `scratch.bits`. For an ambiguous target those that fit
    /// one of its readings, or all of them if they allow; and those that deny it whatever its path.
    pub(super) fn find(&self, call: &ApiCall, scratch: &mut Scratch) {
        scratch.bits.clear();
        scratch.bits.extend_from_slice(&self.any_path);
        if call.ambiguous {
            self.read(call, scratch);
        } else if let Some(path) = &call.raw.path {
            let Scratch {
                bits, active, next, ..
            } = scratch;
            self.walk(path, bits, active, next);
        }
        let unknown = Unknown::of(call);
        if unknown.path {
            for (bits, denying) in scratch.bits.iter_mut().zip(&self.unknown) {
                *bits |= denying;
            }
        }
        let direction = match call.direction {
            CallDirection::Inbound => &self.inbound,
            CallDirection::Outbound => &self.outbound,
        };
        let method = self
            .methods
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(&call.raw.method))
            .map_or(&self.any_method, |(_, bits)| bits);
        for word in 0..self.words {
            if call.ambiguous {
                scratch.bits[word] |= self.ambiguous[word];
            }
            let method = if unknown.method { u64::MAX } else { method[word] };
            scratch.bits[word] &= direction[word] & method;
        }
    }

    fn read(&self, call: &ApiCall, scratch: &mut Scratch) {
        let Scratch {
            bits,
            one,
            all,
            active,
            next,
        } = scratch;
        let readings = reading::readings(call);
        all.clear();
        all.resize(self.words, if readings.is_empty() { 0 } else { u64::MAX });
        for path in &readings {
            one.clear();
            one.resize(self.words, 0);
            self.walk(path, one, active, next);
            for word in 0..self.words {
                bits[word] |= one[word] & !self.allowing[word];
                all[word] &= one[word];
            }
        }
        for word in 0..self.words {
            bits[word] |= all[word] & self.allowing[word];
        }
    }

    /// All patterns at once, one segment at a time; a node is reached in one way only, so the work is bounded by the
    /// size of the trie.
    fn walk(&self, path: &str, bits: &mut Bits, active: &mut Vec<u32>, next: &mut Vec<u32>) {
        active.clear();
        active.push(0);
        for segment in split(path) {
            next.clear();
            for at in active.iter() {
                let node = &self.nodes[*at as usize];
                node.rest.iter().for_each(|rule| set(bits, *rule as usize));
                if let Some(to) = node.literals.get(segment) {
                    next.push(*to);
                }
                if let Some(to) = node.one
                    && !segment.is_empty()
                {
                    next.push(to);
                }
            }
            std::mem::swap(active, next);
            if active.is_empty() {
                return;
            }
        }
        for at in active.iter() {
            let node = &self.nodes[*at as usize];
            node.rest
                .iter()
                .chain(&node.ends)
                .for_each(|rule| set(bits, *rule as usize));
        }
    }
}

fn set(bits: &mut [u64], position: usize) {
    bits[position / 64] |= 1 << (position % 64);
}
