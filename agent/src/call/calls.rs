//! The table of conversations: items in, calls out. What happens inside one is `conversation`'s.

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::conversation::{Context, Conversation, Ended};
use super::mllp::Mllp;
use super::redact::Redactor;
use super::{ApiCall, Options, Phase, Stats, Unread};
use crate::capture::{FlowId, Hook, KernelTime};
use crate::flow::Item;

enum Known {
    Http(Box<Conversation>),
    Mllp(Box<Mllp>),
    /// Some other protocol: remembered, so that its bytes are not looked at again.
    Other,
}

/// All conversations of the host.
pub struct Calls {
    options: Options,
    conversations: HashMap<FlowId, Known>,
    redactor: Redactor,
    stats: Stats,
    bodies_bytes: usize,
    calls_open: usize,
    lost_at: Option<KernelTime>,
    unread: Vec<Unread>,
    /// Reused by ticks, which walk the table in pieces of their own choosing.
    scratch: VecDeque<FlowId>,
}

impl Calls {
    /// An empty table.
    pub fn new(options: Options) -> Self {
        let mut redactor = Redactor::new(options.key, options.earning);
        redactor.set_literals(&options.literals);
        Calls {
            conversations: HashMap::new(),
            redactor,
            stats: Stats::default(),
            bodies_bytes: 0,
            calls_open: 0,
            lost_at: None,
            unread: Vec::new(),
            scratch: VecDeque::new(),
            options,
        }
    }

    /// Replaces the words that policies and configuration name, and that may thus be shown: path segments (whole
    /// path patterns are taken apart) and hosts.
    pub fn set_literals(&mut self, literals: &[String]) {
        self.redactor.set_literals(literals);
    }

    /// Shows paths as they are, without query (`redact.paths: raw`), or as templates again.
    pub fn set_paths_raw(&mut self, paths_raw: bool) {
        self.redactor.set_paths_raw(paths_raw);
    }

    /// Changes how much of a body is kept, from the next bytes on.
    pub fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.options.limits.body_bytes_max = body_bytes_max;
    }

    /// Takes one item in; `out` gets every call at each phase it reaches.
    pub fn on(&mut self, item: Item, out: &mut dyn FnMut(Phase, &mut ApiCall)) {
        let mut context = Context {
            limits: &self.options.limits,
            boot_id: &self.options.boot_id,
            redactor: &mut self.redactor,
            stats: &mut self.stats,
            bodies_bytes: &mut self.bodies_bytes,
            calls_open: &mut self.calls_open,
            lost_at: self.lost_at,
            unread: &mut self.unread,
            out,
        };
        match item {
            Item::Piece(piece) => {
                let full = self.conversations.len() >= self.options.limits.flows_max;
                let known = match self.conversations.entry(piece.flow.id) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(_) if full => {
                        context.stats.flows_given_up += 1;
                        return;
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(Known::Http(Box::new(Conversation::new(piece.flow.clone()))))
                    }
                };
                match known {
                    Known::Http(conversation) => {
                        conversation.piece(piece, &mut context);
                        if let Some(piece) = conversation.take_mllp() {
                            let mut mllp = Box::new(Mllp::new(piece.flow.clone()));
                            mllp.piece(piece, &mut context);
                            *known = Known::Mllp(mllp);
                        } else if conversation.is_over() {
                            *known = Known::Other;
                        }
                    }
                    Known::Mllp(mllp) => {
                        let flow = piece.flow.clone();
                        mllp.piece(piece, &mut context);
                        if mllp.is_left() {
                            *known = Known::Http(Box::new(Conversation::rejoined(flow)));
                        }
                    }
                    Known::Other => {}
                }
            }
            Item::Info(flow) => match self.conversations.get_mut(&flow.id) {
                Some(Known::Http(conversation)) => conversation.info(flow),
                Some(Known::Mllp(mllp)) => mllp.info(flow),
                Some(Known::Other) | None => {}
            },
            Item::End { flow, at, reset } => {
                let ended = if reset { Ended::Reset } else { Ended::Closed };
                match self.conversations.remove(&flow.id) {
                    Some(Known::Http(mut conversation)) => {
                        conversation.info(flow);
                        conversation.end(at, ended, &mut context);
                    }
                    Some(Known::Mllp(mut mllp)) => {
                        mllp.info(flow);
                        mllp.end(at, ended, &mut context);
                    }
                    Some(Known::Other) | None => {}
                }
            }
            Item::Evicted { flow, at } => match self.conversations.remove(&flow.id) {
                Some(Known::Http(mut conversation)) => {
                    conversation.end(at, Ended::Forgotten, &mut context);
                }
                Some(Known::Mllp(mut mllp)) => mllp.end(at, Ended::Forgotten, &mut context),
                Some(Known::Other) | None => {}
            },
            Item::Stopped(stopped) => {
                let fresh = || Known::Http(Box::new(Conversation::new(stopped.flow.clone())));
                let known = match stopped.decision.hook != Hook::Ingress {
                    // Its bytes come by themselves.
                    true => self.conversations.entry(stopped.flow.id).or_insert_with(fresh),
                    // It is the last that the connection says, whatever came before it.
                    false => match self.conversations.get_mut(&stopped.flow.id) {
                        Some(known @ Known::Http(_)) => known,
                        _ => &mut fresh(),
                    },
                };
                if let Known::Http(conversation) = known {
                    conversation.stopped(stopped, &mut context);
                }
            }
            Item::Lost { at, .. } => self.lost_at = Some(at),
            Item::Tick { at } => {
                for (id, known) in &mut self.conversations {
                    match known {
                        Known::Http(conversation) => {
                            conversation.tick(at, &mut context);
                            if conversation.is_over() {
                                self.scratch.push_back(*id);
                            }
                        }
                        Known::Mllp(mllp) => mllp.tick(at, &mut context),
                        Known::Other => {}
                    }
                }
                for id in self.scratch.drain(..) {
                    self.conversations.insert(id, Known::Other);
                }
            }
        }
    }

    /// The agent ends: calls that are open are told as they stand, as `pending`.
    pub fn finish(&mut self, at: KernelTime, out: &mut dyn FnMut(Phase, &mut ApiCall)) {
        let mut context = Context {
            limits: &self.options.limits,
            boot_id: &self.options.boot_id,
            redactor: &mut self.redactor,
            stats: &mut self.stats,
            bodies_bytes: &mut self.bodies_bytes,
            calls_open: &mut self.calls_open,
            lost_at: self.lost_at,
            unread: &mut self.unread,
            out,
        };
        for (_, known) in self.conversations.drain() {
            match known {
                Known::Http(mut conversation) => conversation.end(at, Ended::Unwatched, &mut context),
                Known::Mllp(mut mllp) => mllp.end(at, Ended::Unwatched, &mut context),
                Known::Other => {}
            }
        }
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.conversations.values().flat_map(|known| {
            let (http, mllp) = match known {
                Known::Http(conversation) => (Some(conversation.open_calls()), None),
                Known::Mllp(mllp) => (None, Some(mllp.open_calls())),
                Known::Other => (None, None),
            };
            http.into_iter().flatten().chain(mllp.into_iter().flatten())
        })
    }

    /// Conversations that turned out to be what this build does not read, since the last time this was asked.
    pub fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread)
    }

    /// Captured body bytes that open calls hold.
    pub fn bodies_bytes(&self) -> usize {
        self.bodies_bytes
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        Stats {
            calls_open: self.calls_open as u64,
            words_not_learnt: self.redactor.not_learnt,
            ..self.stats
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
