//! The table of conversations: items in, calls out. What happens inside one is `conversation`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::conversation::{Context, Conversation, Ended, Successor};
use super::known::KnownRequests;
use super::messages::Messages;
use super::mllp::Mllp;
use super::redact::Redactor;
use super::streams::Streams;
use super::tls::{BlindTls, Handshakes};
use super::{ApiCall, Options, Phase, Stats, Unread};
use crate::capture::{FlowId, FlowInfo, Hook, KernelTime};
use crate::decode::KnownHeads;
use crate::flow::Item;

/// How long a head that nobody says again is remembered (ns): there may be a token in it.
const REMEMBER_NS: u64 = 60_000_000_000;

enum Known {
    Http(Box<Conversation>),
    Streams(Box<Streams>),
    Messages(Box<Messages>),
    Mllp(Box<Mllp>),
    /// Some other protocol: remembered, so that its bytes are not looked at again.
    Other,
}

impl From<Successor> for Known {
    fn from(successor: Successor) -> Self {
        match successor {
            Successor::Streams(streams) => Known::Streams(streams),
            Successor::Messages(messages) => Known::Messages(messages),
            Successor::Tunnel(inner) => Known::Http(inner),
        }
    }
}

impl Known {
    fn info(&mut self, flow: Arc<FlowInfo>) {
        match self {
            Known::Http(conversation) => conversation.info(flow),
            Known::Streams(streams) => streams.info(flow),
            Known::Messages(messages) => messages.info(flow),
            Known::Mllp(mllp) => mllp.info(flow),
            Known::Other => {}
        }
    }

    fn end(self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        match self {
            Known::Http(mut conversation) => {
                conversation.end(at, how, cx);
                if let Some(successor) = conversation.take_successor() {
                    Known::from(successor).end(at, how, cx);
                }
            }
            Known::Streams(mut streams) => streams.end(at, how, cx),
            Known::Messages(mut messages) => messages.end(at, how, cx),
            Known::Mllp(mut mllp) => mllp.end(at, how, cx),
            Known::Other => {}
        }
    }
}

/// All conversations of the host.
pub struct Calls {
    options: Options,
    conversations: HashMap<FlowId, Known>,
    redactor: Redactor,
    heads: KnownHeads,
    known: KnownRequests,
    remembered_since: KernelTime,
    handshakes: Handshakes,
    stats: Stats,
    bodies_bytes: usize,
    calls_open: usize,
    decoders_bytes: usize,
    lost_at: Option<KernelTime>,
    unread: Vec<Unread>,
    /// Carriers of conversations that have turned out to be in another protocol than plain HTTP/1.
    beyond_http1: Vec<u64>,
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
            heads: KnownHeads::default(),
            known: KnownRequests::default(),
            remembered_since: KernelTime(0),
            handshakes: Handshakes::default(),
            stats: Stats::default(),
            bodies_bytes: 0,
            calls_open: 0,
            decoders_bytes: 0,
            lost_at: None,
            unread: Vec::new(),
            beyond_http1: Vec::new(),
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
        let handshakes = &self.handshakes;
        let out = &mut |phase: Phase, call: &mut ApiCall| {
            handshakes.tell(phase, call);
            out(phase, call);
        };
        let mut context = Context {
            limits: &self.options.limits,
            boot_id: &self.options.boot_id,
            redactor: &mut self.redactor,
            heads: &mut self.heads,
            known: &mut self.known,
            stats: &mut self.stats,
            bodies_bytes: &mut self.bodies_bytes,
            calls_open: &mut self.calls_open,
            decoders_bytes: &mut self.decoders_bytes,
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
                        let carrier = piece.flow.carrier;
                        conversation.piece(piece, &mut context);
                        if let Some(successor) = conversation.take_successor() {
                            self.beyond_http1.extend(carrier);
                            *known = Known::from(successor);
                        } else if let Some(piece) = conversation.take_mllp() {
                            self.beyond_http1.extend(carrier);
                            let mut mllp = Box::new(Mllp::new(piece.flow.clone()));
                            mllp.piece(piece, &mut context);
                            *known = Known::Mllp(mllp);
                        } else if conversation.is_over() {
                            *known = Known::Other;
                        }
                    }
                    Known::Streams(streams) => streams.piece(piece, &mut context),
                    Known::Messages(messages) => messages.piece(piece, &mut context),
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
            Item::Info(flow) => {
                if let Some(known) = self.conversations.get_mut(&flow.id) {
                    known.info(flow);
                }
            }
            Item::End { flow, at, reset } => {
                if let Some(mut known) = self.conversations.remove(&flow.id) {
                    known.info(flow);
                    known.end(at, if reset { Ended::Reset } else { Ended::Closed }, &mut context);
                }
            }
            Item::Evicted { flow, at } => {
                if let Some(known) = self.conversations.remove(&flow.id) {
                    known.end(at, Ended::Forgotten, &mut context);
                }
            }
            Item::Stopped(stopped) => {
                let fresh = || Box::new(Conversation::new(stopped.flow.clone()));
                let is_last = stopped.decision.hook == Hook::Ingress;
                let known = match is_last {
                    // It is the last that the connection says, whatever came before it.
                    true => self.conversations.get_mut(&stopped.flow.id),
                    // Its bytes come by themselves.
                    false => Some(
                        self.conversations
                            .entry(stopped.flow.id)
                            .or_insert_with(|| Known::Http(fresh())),
                    ),
                };
                let at = stopped.at;
                match known {
                    Some(Known::Http(conversation)) => conversation.stopped(stopped, &mut context),
                    // Nobody here takes it up when it comes, so it is told as it is.
                    Some(_) | None => {
                        let mut alone = fresh();
                        alone.stopped(stopped, &mut context);
                        alone.end(at, Ended::Unwatched, &mut context);
                    }
                }
            }
            Item::Handshake(handshake) => {
                let flows_max = self.options.limits.flows_max;
                self.handshakes
                    .take(&handshake, flows_max, &mut self.redactor, &mut self.stats);
            }
            Item::SocketEnd { carrier } => self.handshakes.forget(carrier),
            Item::Lost { at, .. } => self.lost_at = Some(at),
            Item::Tick { at } => {
                if at.since(self.remembered_since) >= REMEMBER_NS {
                    self.remembered_since = at;
                    context.heads.forget_unused();
                    context.known.forget();
                }
                for (id, known) in &mut self.conversations {
                    match known {
                        Known::Http(conversation) => {
                            conversation.tick(at, &mut context);
                            if let Some(successor) = conversation.take_successor() {
                                *known = Known::from(successor);
                            } else if conversation.is_over() {
                                self.scratch.push_back(*id);
                            }
                        }
                        Known::Streams(streams) => streams.tick(at, &mut context),
                        Known::Mllp(mllp) => mllp.tick(at, &mut context),
                        Known::Messages(_) | Known::Other => {}
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
            heads: &mut self.heads,
            known: &mut self.known,
            stats: &mut self.stats,
            bodies_bytes: &mut self.bodies_bytes,
            calls_open: &mut self.calls_open,
            decoders_bytes: &mut self.decoders_bytes,
            lost_at: self.lost_at,
            unread: &mut self.unread,
            out,
        };
        for (_, known) in self.conversations.drain() {
            known.end(at, Ended::Unwatched, &mut context);
        }
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.conversations.values().flat_map(|known| {
            let mut open: Vec<&ApiCall> = Vec::new();
            match known {
                Known::Http(conversation) => open.extend(conversation.open_calls()),
                Known::Streams(streams) => open.extend(streams.open_calls()),
                Known::Messages(messages) => open.extend(messages.open_calls()),
                Known::Mllp(mllp) => open.extend(mllp.open_calls()),
                Known::Other => {}
            }
            open
        })
    }

    /// Connections whose calls are in a protocol that the gate does not judge, as they turn out to be: their cookies.
    pub fn take_beyond_http1(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.beyond_http1)
    }

    /// Conversations that turned out to be what this build does not read, since the last time this was asked.
    pub fn take_unread(&mut self) -> Vec<Unread> {
        std::mem::take(&mut self.unread)
    }

    /// TLS connections that nobody reads, and what their handshakes said, since the last time this was asked.
    pub fn take_blind(&mut self) -> Vec<BlindTls> {
        self.handshakes.take_blind()
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
