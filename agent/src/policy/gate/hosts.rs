//! Host patterns of all rules as one automaton, over labels from the left: the kernel sees a name in this order, and
//! `*.example.org` may begin at any label but the first.

use std::collections::BTreeSet;

use apiward_common::gate::Bits;
use smol_str::SmolStr;

use super::automaton::Patterns;
use crate::policy::host::{HostPattern, Hosts};

/// The patterns, and which rules have them.
pub(super) struct Names {
    /// What a name in no list fits.
    any: Bits,
    patterns: Vec<Pattern>,
    rules: Vec<(u32, Vec<u32>, bool)>,
}

struct Pattern {
    below: bool,
    labels: Vec<SmolStr>,
}

/// Places in patterns: (pattern, labels matched). Those of `*.` patterns begin with -1 in `started`, at the first label.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    places: Vec<(u32, u32)>,
    /// A label has come.
    begun: bool,
}

impl Names {
    /// `any`: rules that hold for every host.
    pub fn new(any: Bits) -> Names {
        Names {
            any,
            patterns: Vec::new(),
            rules: Vec::new(),
        }
    }

    pub fn insert(&mut self, hosts: &Hosts, rule: u32) {
        let mut own = Vec::new();
        for pattern in &hosts.patterns {
            own.push(self.patterns.len() as u32);
            self.patterns.push(match pattern {
                HostPattern::Exact(name) => Pattern {
                    below: false,
                    labels: labels(name),
                },
                HostPattern::Below(suffix) => Pattern {
                    below: true,
                    labels: labels(suffix.strip_prefix('.').unwrap_or(suffix)),
                },
            });
        }
        self.rules.push((rule, own, hosts.not));
    }

    fn is_whole(&self, place: &(u32, u32)) -> bool {
        self.patterns[place.0 as usize].labels.len() == place.1 as usize
    }
}

/// An address in brackets is one label.
fn labels(name: &str) -> Vec<SmolStr> {
    if name.starts_with('[') {
        return vec![name.into()];
    }
    name.split('.').map(SmolStr::from).collect()
}

impl Patterns for Names {
    type State = State;

    fn root(&self) -> State {
        State {
            places: self
                .patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| !pattern.below)
                .map(|(at, _)| (at as u32, 0))
                .collect(),
            begun: false,
        }
    }

    fn literals(&self, state: &State) -> BTreeSet<SmolStr> {
        let within = state.places.iter().copied();
        let starting = self.patterns.iter().enumerate().filter_map(|(at, pattern)| {
            // Below the name itself, so never at the first label.
            (pattern.below && state.begun).then_some((at as u32, 0))
        });
        within
            .chain(starting)
            .filter_map(|(pattern, at)| self.patterns[pattern as usize].labels.get(at as usize).cloned())
            .collect()
    }

    fn next(&self, state: &State, literal: Option<&str>) -> State {
        let mut places = BTreeSet::new();
        let starting = self
            .patterns
            .iter()
            .enumerate()
            .filter(|(_, pattern)| pattern.below && state.begun)
            .map(|(at, _)| (at as u32, 0));
        for (pattern, at) in state.places.iter().copied().chain(starting) {
            let label = self.patterns[pattern as usize].labels.get(at as usize);
            if label.is_some() && label.map(SmolStr::as_str) == literal {
                places.insert((pattern, at + 1));
            }
        }
        State {
            places: places.into_iter().collect(),
            begun: true,
        }
    }

    fn ends(&self, state: &State) -> Bits {
        let mut ends = self.any;
        for (rule, own, not) in &self.rules {
            let listed = state
                .places
                .iter()
                .any(|place| own.contains(&place.0) && self.is_whole(place));
            if listed != *not {
                ends.insert(*rule);
            }
        }
        ends
    }

    fn is_dead(&self, state: &State) -> bool {
        state.begun && state.places.is_empty() && !self.patterns.iter().any(|pattern| pattern.below)
    }
}
