//! Path patterns of all rules as one automaton.

use std::collections::BTreeSet;

use apiward_common::gate::Bits;
use smol_str::SmolStr;

use super::automaton::Patterns;
use crate::policy::path::{PathPattern, Segment};

/// A trie of the patterns, as `index` has it, to walk with several positions at once.
pub(super) struct Routes {
    any: Bits,
    nodes: Vec<TrieNode>,
}

#[derive(Default)]
struct TrieNode {
    literals: Vec<(SmolStr, u32)>,
    one: Option<u32>,
    ends: Bits,
    rest: Bits,
}

/// Positions in the trie, and rules that hold whatever follows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    active: Vec<u32>,
    held: Bits,
}

impl Routes {
    /// `any`: rules that hold for every path.
    pub fn new(any: Bits) -> Routes {
        Routes {
            any,
            nodes: vec![TrieNode::default()],
        }
    }

    pub fn insert(&mut self, pattern: &PathPattern, rule: u32) {
        let mut at = 0usize;
        for segment in &pattern.segments {
            let fresh = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let next = match segment {
                Segment::Literal(literal) => match node.literals.iter().find(|(text, _)| text == literal) {
                    Some((_, next)) => *next,
                    None => {
                        node.literals.push((literal.clone(), fresh));
                        fresh
                    }
                },
                Segment::One => *node.one.get_or_insert(fresh),
            };
            if next == fresh {
                self.nodes.push(TrieNode::default());
            }
            at = next as usize;
        }
        let node = &mut self.nodes[at];
        if pattern.rest {
            node.rest.insert(rule);
        } else {
            node.ends.insert(rule);
        }
    }

    fn active<'s>(&'s self, state: &'s State) -> impl Iterator<Item = &'s TrieNode> {
        state.active.iter().map(|at| &self.nodes[*at as usize])
    }
}

impl Patterns for Routes {
    type State = State;

    fn root(&self) -> State {
        State {
            active: vec![0],
            held: Bits::NONE,
        }
    }

    fn literals(&self, state: &State) -> BTreeSet<SmolStr> {
        self.active(state)
            .flat_map(|node| node.literals.iter().map(|(text, _)| text.clone()))
            .collect()
    }

    fn next(&self, state: &State, literal: Option<&str>) -> State {
        let mut next = State {
            active: Vec::new(),
            held: state.held,
        };
        for node in self.active(state) {
            next.held = next.held.or(&node.rest);
            next.active.extend(node.one);
            next.active.extend(
                node.literals
                    .iter()
                    .filter(|(text, _)| Some(text.as_str()) == literal)
                    .map(|(_, to)| *to),
            );
        }
        next.active.sort_unstable();
        next.active.dedup();
        next
    }

    fn ends(&self, state: &State) -> Bits {
        let mut ends = self.any.or(&state.held);
        for node in self.active(state) {
            ends = ends.or(&node.rest).or(&node.ends);
        }
        ends
    }

    fn is_dead(&self, state: &State) -> bool {
        state.active.is_empty() && state.held.is_empty()
    }
}
