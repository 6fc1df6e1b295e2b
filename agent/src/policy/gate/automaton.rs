//! Subset construction: from patterns that may all match at once to an automaton that is in one state at a time, so that
//! the kernel looks up one edge a segment, whatever overlaps.

use std::collections::BTreeSet;

use apiward_common::gate::{Bits, NO_NODE, Node, node};
use hashbrown::HashMap;
use smol_str::SmolStr;

/// One automaton, its nodes numbered from 0, which is the root.
#[derive(Debug, Default)]
pub(super) struct Automaton {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

/// A literal edge.
#[derive(Debug)]
pub(super) struct Edge {
    pub from: u32,
    pub literal: SmolStr,
    pub to: u32,
}

/// What is built from: positions in patterns, and how they go on.
pub(super) trait Patterns {
    /// Where a set of patterns stands.
    type State: Clone + Eq + std::hash::Hash;

    fn root(&self) -> Self::State;
    /// Literals that make a difference here.
    fn literals(&self, state: &Self::State) -> BTreeSet<SmolStr>;
    /// One segment further; `None` stands for any that is not among the literals.
    fn next(&self, state: &Self::State, literal: Option<&str>) -> Self::State;
    /// Rules that hold if it ends here.
    fn ends(&self, state: &Self::State) -> Bits;
    /// Nothing that follows makes any difference to [`Patterns::nowhere`].
    fn is_dead(&self, state: &Self::State) -> bool;
}

impl Automaton {
    /// `None`: it would have more nodes than that.
    pub fn build<P: Patterns>(patterns: &P, nodes_max: usize) -> Option<Automaton> {
        let mut automaton = Automaton::default();
        let mut known: HashMap<P::State, u32> = HashMap::new();
        let mut states = vec![patterns.root()];
        known.insert(patterns.root(), 0);
        let mut at = 0;
        while at < states.len() {
            let state = states[at].clone();
            let mut go = |next: P::State| {
                if patterns.is_dead(&next) {
                    return NO_NODE;
                }
                *known.entry(next.clone()).or_insert_with(|| {
                    states.push(next);
                    (states.len() - 1) as u32
                })
            };
            let other = go(patterns.next(&state, None));
            let mut flags = 0;
            for literal in patterns.literals(&state) {
                let to = go(patterns.next(&state, Some(&literal)));
                if to == other {
                    continue;
                }
                flags |= node::LITERALS;
                automaton.edges.push(Edge {
                    from: at as u32,
                    literal,
                    to,
                });
            }
            let ends = patterns.ends(&state);
            automaton.nodes.push(Node {
                other,
                flags,
                ends,
                reach: ends,
            });
            if states.len() > nodes_max {
                return None;
            }
            at += 1;
        }
        automaton.reach();
        Some(automaton)
    }

    /// What holds at any node that can follow, until nothing changes any more.
    fn reach(&mut self) {
        loop {
            let mut changed = false;
            let step = |nodes: &mut Vec<Node>, from: u32, to: u32| {
                let Some(reach) = nodes.get(to as usize).map(|node| node.reach) else {
                    return false;
                };
                let before = nodes[from as usize].reach;
                nodes[from as usize].reach = before.or(&reach);
                nodes[from as usize].reach != before
            };
            // Later nodes mostly lie further out.
            for edge in self.edges.iter().rev() {
                changed |= step(&mut self.nodes, edge.from, edge.to);
            }
            for from in (0..self.nodes.len()).rev() {
                let other = self.nodes[from].other;
                changed |= step(&mut self.nodes, from as u32, other);
            }
            if !changed {
                return;
            }
        }
    }
}
