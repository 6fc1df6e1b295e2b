//! A policy set → tables of the kernel's gate, and for every rule whether the gate decides it and why not.
//!
//! Only rules of policies that enforce take part, in the order in which they apply, one bit each. What the gate cannot
//! tell of a rule makes it a rule that is *left*: a call that meets it first is the agent's to decide. Pure, and the same
//! for the same keys.

mod automaton;
mod hosts;
mod local;
mod peers;
mod routes;
#[cfg(test)]
mod tests;

use apiward_common::gate::{
    Bits, Generation, Hash, METHODS, Method, NODES_MAX, Node, RULES_MAX, Rate, Workload as Class, method,
};

pub use local::{Local, judge};
pub use peers::{Prefix, mapped};

use self::automaton::{Automaton, Edge};
use self::hosts::Names;
use self::routes::Routes;
use super::rate::{By, Key};
use super::set::{OnAmbiguous, Workload};
use super::{Action, DecidedBy, Guarantee, Mode, PolicySet, Rule};
use crate::call::{AuthScheme, CallDirection, Protocol};
use crate::capture::Process;

/// Kinds of credentials in the gate's order.
const AUTH: [AuthScheme; 9] = [
    AuthScheme::None,
    AuthScheme::Basic,
    AuthScheme::Bearer,
    AuthScheme::Digest,
    AuthScheme::Negotiate,
    AuthScheme::SigV4,
    AuthScheme::ApiKey,
    AuthScheme::Cookie,
    AuthScheme::Other,
];

/// Tables for one generation of the gate.
pub struct Compiled {
    pub generation: Generation,
    /// Literal edges of both automata: from, hash of the literal, to.
    pub edges: Vec<(u32, u64, u32)>,
    pub nodes: Vec<Node>,
    /// By the hash of the method in lower case.
    pub methods: Vec<(u64, Method)>,
    pub peers: Vec<Prefix>,
    /// By bit.
    pub rates: Vec<Rate>,
    /// What each bit stands for: the position in [`PolicySet::rules`], of the first where it stands for several.
    pub rules: Vec<usize>,
    /// For every rule of the set.
    pub decided: Vec<Decided>,
    /// By bit: the workloads that it asks for.
    workloads: Vec<Vec<Workload>>,
}

impl Compiled {
    /// Positions of the rules whose rates the gate surely counts: a call that is left to the agent for the sake of a rule
    /// before them it does not.
    pub fn counted(&self) -> Vec<usize> {
        let generation = &self.generation;
        let bits = self.rules.iter().enumerate();
        bits.take_while(|(bit, _)| !generation.leaves.has(*bit as u32))
            .filter(|(bit, _)| generation.rated.has(*bit as u32))
            .map(|(_, position)| *position)
            .collect()
    }
}

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    pub by: DecidedBy,
    /// Why it is not the gate; empty if it is.
    pub why: &'static str,
}

const BY_GATE: Decided = Decided {
    by: DecidedBy::Gate,
    why: "",
};

const fn by_agent(why: &'static str) -> Decided {
    Decided {
        by: DecidedBy::Pipeline,
        why,
    }
}

const OBSERVES: &str = "its policy only observes, and the gate holds what is enforced";
const ALERTS: &str = "an alert stops nothing: the gate lets the call pass, the agent reports it";
const WHEN: &str = "`when` reads what the gate does not see";
const CLIENTS: &str = "who the client is stands in headers of proxies, which the gate does not read";
const CLIENT_RATE: &str = "the rate is by client, and who that is stands in headers of proxies";
const PROTOCOL: &str = "it is about protocols that the gate does not read";
const TOO_MANY: &str = "the gate has room for 256 rules that enforce, and this is behind them";
const TOO_BROAD: &str = "the paths of this rule and of those before it take more nodes than the gate has";
const TOO_MANY_HOSTS: &str =
    "the hosts of this rule and of those before it take more nodes than the gate has";

/// What the gate cannot tell of a rule, whatever the other rules are.
fn beyond(rule: &Rule) -> Option<&'static str> {
    if !rule.speaks(Protocol::Http1) {
        Some(PROTOCOL)
    } else if rule.when.is_some() {
        Some(WHEN)
    } else if rule.matches.clients.is_some() {
        Some(CLIENTS)
    } else if rule.rate.is_some_and(|rate| rate.by == By::Client) {
        Some(CLIENT_RATE)
    } else {
        None
    }
}

/// Compiles a set. `mode` is the agent's; `number` names the generation (not 0), and `keys` are random.
pub fn compile(set: &PolicySet, mode: Mode, number: u32, keys: Hash) -> Compiled {
    let mut build = Build::new(set, mode);
    build.bits();
    build.finish(number, keys)
}

struct Build<'s> {
    set: &'s PolicySet,
    /// Positions of the rules that have a bit of their own.
    rules: Vec<usize>,
    /// Positions behind them that share the last one.
    rest: Vec<usize>,
    decided: Vec<Decided>,
    generation: Generation,
}

impl<'s> Build<'s> {
    fn new(set: &'s PolicySet, mode: Mode) -> Self {
        let enforces = |rule: &Rule| set.policy_of(rule).mode_under(mode) == Mode::Enforce;
        let decided = set
            .rules
            .iter()
            .map(|rule| {
                if enforces(rule) {
                    decided_alone(rule)
                } else {
                    by_agent(OBSERVES)
                }
            })
            .collect();
        let mut rules: Vec<usize> = (0..set.rules.len())
            // What is never about HTTP/1 stands before nothing that the gate judges.
            .filter(|position| {
                let rule = &set.rules[*position];
                enforces(rule) && rule.speaks(Protocol::Http1)
            })
            .collect();
        // Behind the last rule that stops calls, nothing changes what becomes of one.
        let last = rules.iter().rposition(|position| set.rules[*position].denies());
        rules.truncate(last.map_or(0, |last| last + 1));
        let rest = if rules.len() > RULES_MAX {
            rules.split_off(RULES_MAX - 1)
        } else {
            Vec::new()
        };
        Build {
            set,
            rules,
            rest,
            decided,
            generation: Generation::default(),
        }
    }

    fn own(&self) -> impl Iterator<Item = (u32, &'s Rule)> + use<'s> {
        let set = self.set;
        let rules = self.rules.clone();
        (0..)
            .zip(rules)
            .map(move |(bit, position)| (bit, &set.rules[position]))
    }

    /// Every set but those of peers, hosts and paths.
    fn bits(&mut self) {
        let mut generation = Generation::default();
        for (bit, rule) in self.own() {
            let matches = &rule.matches;
            let policy = self.set.policy_of(rule);
            for direction in rule.directions() {
                match direction {
                    CallDirection::Inbound => generation.inbound.insert(bit),
                    CallDirection::Outbound => generation.outbound.insert(bit),
                }
            }
            if matches.methods.is_empty() {
                generation.any_method.insert(bit);
            }
            if policy.workload.is_none() && matches.workload.is_none() {
                generation.any_workload.insert(bit);
            }
            for (kind, auth) in AUTH.iter().enumerate() {
                if matches.auth.is_empty() || matches.auth.contains(auth) {
                    generation.auth[kind].insert(bit);
                }
            }
            if !matches.auth.is_empty() {
                generation.by_auth.insert(bit);
            }
            if matches.hosts.is_some() {
                generation.by_host.insert(bit);
            }
            if rule.denies() {
                generation.stops.insert(bit);
                // A lost boundary is ambiguous, and the policy says what becomes of that.
                let strict = rule.require == Some(Guarantee::Prevented);
                if strict && policy.on_ambiguous == OnAmbiguous::Deny {
                    generation.strict.insert(bit);
                }
            }
            let is_ours = beyond(rule).is_none();
            if is_ours && rule.denies() && rule.rate.is_none() && policy.on_ambiguous == OnAmbiguous::Deny {
                generation.garbled.insert(bit);
            }
            if !is_ours {
                generation.leaves.insert(bit);
            } else if let Some(rate) = &rule.rate {
                generation.rated.insert(bit);
                if rate.by == By::Workload {
                    generation.rated_by_workload.insert(bit);
                }
            }
            if !matches.paths.is_empty() {
                match (policy.on_ambiguous, rule.denies()) {
                    (OnAmbiguous::Agent, _) => generation.ambiguous_leave.insert(bit),
                    (OnAmbiguous::Deny, true) => generation.ambiguous_deny.insert(bit),
                    // A path that may be read differently proves nothing.
                    (OnAmbiguous::Deny, false) => {}
                }
            }
        }
        if !self.rest.is_empty() {
            let bit = self.rules.len() as u32;
            for bits in [
                &mut generation.inbound,
                &mut generation.outbound,
                &mut generation.any_method,
                &mut generation.any_workload,
                &mut generation.stops,
                &mut generation.leaves,
            ] {
                bits.insert(bit);
            }
            generation.auth.iter_mut().for_each(|bits| bits.insert(bit));
            for position in &self.rest {
                self.decided[*position] = by_agent(TOO_MANY);
            }
        }
        self.generation = generation;
    }

    /// The bit of the rules that share one.
    fn rest_bit(&self) -> Option<u32> {
        (!self.rest.is_empty()).then_some(self.rules.len() as u32)
    }

    /// An automaton over as many rules as there is room for; those behind are left to the agent, whatever the call's
    /// path or host. Returns the rules without a condition of this kind as well.
    fn automaton(
        &mut self,
        concerns: impl Fn(&Rule) -> bool,
        why: &'static str,
        nodes_max: usize,
        build: impl Fn(Bits, &[(u32, &Rule)]) -> Option<Automaton>,
    ) -> (Automaton, Bits) {
        let mut any = Bits::NONE;
        let mut concerned = Vec::new();
        for (bit, rule) in self.own() {
            if concerns(rule) {
                concerned.push((bit, rule));
            } else {
                any.insert(bit);
            }
        }
        if let Some(bit) = self.rest_bit() {
            any.insert(bit);
        }
        debug_assert!(
            nodes_max > 1,
            "one rule's patterns fit by their own bounds, or are given up"
        );
        let with = |len: usize| {
            let mut any = any;
            concerned[len..].iter().for_each(|(bit, _)| any.insert(*bit));
            build(any, &concerned[..len]).map(|automaton| (automaton, any))
        };
        if let Some(whole) = with(concerned.len()) {
            return whole;
        }
        // The longest beginning that fits.
        let (mut fits, mut too_many) = (0, concerned.len());
        while fits + 1 < too_many {
            let middle = fits.midpoint(too_many);
            if with(middle).is_some() {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        for (bit, _) in &concerned[fits..] {
            self.generation.leaves.insert(*bit);
            self.generation.rated.remove(*bit);
            self.decided[self.rules[*bit as usize]] = by_agent(why);
        }
        with(fits).unwrap_or_default()
    }

    fn finish(mut self, number: u32, keys: Hash) -> Compiled {
        let nodes_max = NODES_MAX as usize / 2;
        let (routes, any_route) = self.automaton(
            |rule| !rule.matches.paths.is_empty(),
            TOO_BROAD,
            nodes_max,
            |any, rules| {
                let mut routes = Routes::new(any);
                for (bit, rule) in rules {
                    for path in &rule.matches.paths {
                        routes.insert(path, *bit);
                    }
                }
                Automaton::build(&routes, nodes_max)
            },
        );
        let (names, any_host) = self.automaton(
            |rule| rule.matches.hosts.is_some(),
            TOO_MANY_HOSTS,
            nodes_max,
            |any, rules| {
                let mut names = Names::new(any);
                for (bit, rule) in rules {
                    if let Some(hosts) = &rule.matches.hosts {
                        names.insert(hosts, *bit);
                    }
                }
                Automaton::build(&names, nodes_max)
            },
        );
        let mut nodes = routes.nodes;
        let host_root = nodes.len() as u32;
        nodes.extend(names.nodes.iter().map(|node| Node {
            other: shifted(node.other, host_root),
            ..*node
        }));
        let edges: Vec<Edge> = routes
            .edges
            .into_iter()
            .chain(names.edges.into_iter().map(|edge| Edge {
                from: edge.from + host_root,
                to: shifted(edge.to, host_root),
                ..edge
            }))
            .collect();
        let (keys, edges) = hashed(keys, &edges);
        let (peers, any_peer) = self.peers();
        // A host in no list fits what the lists of all but some say.
        let mut no_host = any_host;
        for (bit, rule) in self.own() {
            if rule.matches.hosts.as_ref().is_some_and(|hosts| hosts.not) {
                no_host.insert(bit);
            }
        }
        let generation = Generation {
            number,
            route_root: 0,
            host_root,
            hash: keys,
            any_route,
            any_host: no_host,
            any_peer,
            matters: self.generation.stops.or(&self.generation.rated),
            ..self.generation
        };
        let mut rules = self.rules.clone();
        rules.extend(self.rest.first());
        Compiled {
            edges,
            nodes,
            methods: self.methods(keys),
            peers,
            rates: self.rates(),
            workloads: self.workloads(),
            rules,
            decided: self.decided,
            generation,
        }
    }

    fn peers(&self) -> (Vec<Prefix>, Bits) {
        let mut any = Bits::NONE;
        let mut lists = Vec::new();
        for (bit, rule) in self.own() {
            match &rule.matches.peers {
                Some(networks) => lists.push((bit, networks)),
                None => any.insert(bit),
            }
        }
        if let Some(bit) = self.rest_bit() {
            any.insert(bit);
        }
        peers::table(any, &lists)
    }

    /// The registered methods, so that the gate knows them, and those that rules name.
    fn methods(&self, keys: Hash) -> Vec<(u64, Method)> {
        let mut named: Vec<String> = METHODS.iter().map(|name| name.to_ascii_lowercase()).collect();
        for (_, rule) in self.own() {
            named.extend(rule.matches.methods.iter().map(|name| name.to_ascii_lowercase()));
        }
        named.sort();
        named.dedup();
        named
            .into_iter()
            .map(|name| {
                let mut bits = self.generation.any_method;
                for (bit, rule) in self.own() {
                    if rule
                        .matches
                        .methods
                        .iter()
                        .any(|method| method.eq_ignore_ascii_case(&name))
                    {
                        bits.insert(bit);
                    }
                }
                let registered = METHODS.iter().any(|method| method.eq_ignore_ascii_case(&name));
                let flags = if registered { method::REGISTERED } else { 0 };
                (keys.of(name.as_bytes()), Method { bits, flags })
            })
            .collect()
    }

    fn rates(&self) -> Vec<Rate> {
        self.own()
            .map(|(_, rule)| {
                rule.rate.map_or(Rate::default(), |rate| {
                    let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
                    Rate {
                        each: per / u64::from(rate.requests.max(1)),
                        per,
                    }
                })
            })
            .collect()
    }

    fn workloads(&self) -> Vec<Vec<Workload>> {
        self.own()
            .map(|(_, rule)| {
                let policy = self.set.policy_of(rule);
                policy
                    .workload
                    .iter()
                    .chain(&rule.matches.workload)
                    .cloned()
                    .collect()
            })
            .collect()
    }
}

fn shifted(node: u32, by: u32) -> u32 {
    if node == apiward_common::gate::NO_NODE {
        node
    } else {
        node + by
    }
}

/// Edges by hash. Two literals of one node with one hash would be one: then other keys are taken.
fn hashed(mut keys: Hash, edges: &[Edge]) -> (Hash, Vec<(u32, u64, u32)>) {
    loop {
        let mut seen = hashbrown::HashSet::new();
        let hashed: Vec<(u32, u64, u32)> = edges
            .iter()
            .map(|edge| (edge.from, keys.of(edge.literal.as_bytes()), edge.to))
            .collect();
        if hashed.iter().all(|(from, hash, _)| seen.insert((*from, *hash))) {
            return (keys, hashed);
        }
        keys.start = keys.start.wrapping_add(1);
    }
}

impl Compiled {
    /// What the gate is told of a process.
    pub fn workload(&self, process: &Process) -> Class {
        let mut bits = self.generation.any_workload;
        for (bit, wanted) in (0..).zip(&self.workloads) {
            if wanted.iter().all(|workload| workload.has(process)) {
                bits.insert(bit);
            }
        }
        let name = match Key::workload(process) {
            Key::Container(id) => format!("container {id}"),
            Key::Cgroup(id) => format!("cgroup {id}"),
            Key::Exe(path) => format!("exe {path}"),
            Key::Address(address) => format!("address {address}"),
        };
        Class {
            bits,
            rate_key: self.generation.hash.of(name.as_bytes()),
        }
    }

    /// Some rule asks for the workload: the kernel has to be told who is who.
    pub fn by_workload(&self) -> bool {
        self.workloads.iter().any(|wanted| !wanted.is_empty())
            || !self.generation.rated_by_workload.is_empty()
    }
}

/// Where a rule is decided, if there is room for it and its policy enforces.
pub fn decided_alone(rule: &Rule) -> Decided {
    match beyond(rule) {
        Some(why) => by_agent(why),
        None if rule.action == Action::Alert => by_agent(ALERTS),
        None => BY_GATE,
    }
}

/// For every rule of a set that is enforced: where it is decided.
pub fn decided(set: &PolicySet) -> Vec<Decided> {
    decided_under(set, Mode::Enforce)
}

/// The same, where the agent's mode is this.
pub fn decided_under(set: &PolicySet, mode: Mode) -> Vec<Decided> {
    compile(set, mode, 1, Hash::default()).decided
}
