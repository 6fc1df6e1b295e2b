//! A tree of places as it outlasts a restart, and back.
//!
//! It must not know where it is kept; words that may not be shown leave it as hashes alone.

use hashbrown::HashMap;
use smol_str::SmolStr;

use super::super::KeptPlace;
use super::learn::{NAMES_MAX, TAKEN_MAX};
use super::{Node, Place, ROOT, Tree};

impl Tree {
    /// What of it outlasts a restart. Words that may not be shown are kept as what `hash_of` makes of them.
    pub fn keep(&self, hash_of: &dyn Fn(&str) -> SmolStr) -> Vec<KeptPlace> {
        let mut numbers = HashMap::new();
        let mut kept = Vec::with_capacity(self.len());
        let mut waiting = vec![ROOT];
        while let Some(place) = waiting.pop() {
            let node = self.node(place);
            numbers.insert(place, kept.len() as u32);
            let shows = self.shows(place);
            kept.push(KeptPlace {
                parent: numbers.get(&node.parent).copied().unwrap_or_default(),
                text: match shows || node.text.starts_with('#') {
                    true => node.text.clone(),
                    false => hash_of(&node.text),
                },
                is_value: node.is_value,
                is_known: node.is_known,
                folded: node.folded,
                proven: shows && !node.redactor_shows && !node.is_known,
                hits: node.hits,
                seen: node.seen,
                values: node.values,
                shapes: node.shapes,
                taken: node.taken.clone(),
                ends: node.ends.clone(),
            });
            waiting.extend(node.words.values());
            waiting.extend(node.value);
        }
        kept
    }

    /// What it holds on the heap, for tests of bounds.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        use std::mem::size_of;
        let node = |node: &Node| {
            let long = |word: &SmolStr| {
                if word.is_heap_allocated() {
                    word.len() + 16
                } else {
                    0
                }
            };
            node.words.capacity() * (size_of::<(SmolStr, Place)>() + 1)
                + node.ends.capacity() * size_of::<(SmolStr, SmolStr, u32)>()
                + node.taken.capacity() * size_of::<u32>()
                + 2 * long(&node.text)
        };
        self.nodes.iter().map(node).sum::<usize>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.names.capacity() * (size_of::<u32>() + 1)
    }

    /// The short hashes of words that are values somewhere.
    pub fn names(&self) -> Vec<u32> {
        let mut names: Vec<u32> = self.names.iter().copied().collect();
        names.sort_unstable();
        names
    }

    /// As it was kept; what does not fit together is left out.
    pub fn restore(kept: Vec<KeptPlace>, names: Vec<u32>, key: &[u8; 32]) -> Tree {
        let mut tree = Tree::new(key);
        tree.names.extend(names.into_iter().take(NAMES_MAX));
        let mut places: Vec<Option<Place>> = Vec::with_capacity(kept.len());
        for (index, one) in kept.into_iter().enumerate() {
            let node = Node {
                text: one.text.clone(),
                is_value: one.is_value,
                is_known: one.is_known,
                folded: one.folded,
                proven: one.proven,
                hits: one.hits,
                seen: one.seen,
                values: one.values,
                shapes: one.shapes,
                taken: one.taken.into_iter().take(TAKEN_MAX).collect(),
                ends: one.ends,
                ..Node::default()
            };
            if index == 0 {
                tree.nodes[0] = Node {
                    is_known: true,
                    ..node
                };
                places.push(Some(ROOT));
                continue;
            }
            let parent = places.get(one.parent as usize).copied().flatten();
            let Some(parent) = parent.filter(|parent| !one.is_value || tree.node(*parent).value.is_none())
            else {
                places.push(None);
                continue;
            };
            tree.hashed += usize::from(one.text.starts_with('#'));
            let node = match one.is_value || one.text.starts_with('#') {
                true => node,
                false => tree.with_looks(node),
            };
            let place = tree.put(Node { parent, ..node });
            match one.is_value {
                true => tree.at(parent).value = Some(place),
                false => drop(tree.at(parent).words.insert(one.text, place)),
            }
            places.push(Some(place));
        }
        tree
    }
}
