//! Calls against policies: the first rule that matches, in order, decides.
//!
//! A call comes at each [`Phase`]; the answer is final as soon as no earlier rule can change it. A rule that has to
//! wait for the body or the response makes the rules after it wait too, if the rest of it matches. A policy that
//! only observes never stands between a call and a policy that enforces: the denials of those that enforce count
//! first, and only then the first match of all.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use smol_str::SmolStr;

use super::address::{self, Client, contains};
use super::index::{Scratch, Unknown};
use super::rate::{Buckets, By, Key, Spare};
use super::set::{OnAmbiguous, OnUnseen, Policy, PolicySet, Rule};
use super::{Action, DecidedBy, Fit, Mode, Verdict, gate};
use crate::call::{ApiCall, CallId, Phase, Protocol};
use crate::capture::{Decision, Ground, Process};
use crate::detect::Finding;

/// Most calls that were counted by a rate and wait for a later phase; beyond, the oldest may be counted twice.
pub const CHARGED_LEN_MAX: usize = 65_536;

/// What the engine had to give up or could not decide, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// A `when` failed: the rule did not match, and an alert was raised if no other rule did.
    pub expressions_failed: u64,
    /// Rate keys forgotten to make room, each of which got a fresh allowance.
    pub rate_keys_evicted: u64,
    /// Rate keys held now.
    pub rate_keys_len: u64,
    /// A rate by peer or client met a call whose peer is not known; it was not counted.
    pub rate_unkeyed: u64,
    /// Waiting calls forgotten, see [`CHARGED_LEN_MAX`].
    pub charged_evicted: u64,
}

/// Generations of the gate's tables whose decisions may still be under way to the agent.
const GENERATIONS_MAX: usize = 8;

/// Judges calls. One for each thread that judges; rates are its own.
pub struct Engine {
    set: Arc<PolicySet>,
    mode: Mode,
    trusted_proxies: Vec<IpNet>,
    /// Ready-made answers, by rule and by policy: judging allocates nothing.
    verdicts: Vec<Verdict>,
    by_policy: Vec<PolicyVerdicts>,
    default: Verdict,
    asks_findings: bool,
    stops_nothing: bool,
    leaves_denials_to_gate: bool,
    rates: Vec<Option<Buckets>>,
    /// Positions of the rules whose rates the gate counts, and decides by.
    by_gate: Vec<usize>,
    charged: Charged,
    scratch: Scratch,
    counters: Counters,
    /// What the rules of the gate's tables say, by generation, the newest last.
    gate: VecDeque<(u32, Vec<GateVerdicts>)>,
}

/// What a rule of the gate's tables says.
struct GateVerdicts {
    denied: Verdict,
    ambiguous: Verdict,
}

struct PolicyVerdicts {
    ambiguous: Verdict,
    unseen_alert: Verdict,
    unseen_cut: Verdict,
}

/// Calls that a rate has counted already and that come again at a later phase.
#[derive(Default)]
struct Charged {
    known: HashSet<(CallId, u32)>,
    order: VecDeque<(CallId, u32)>,
    /// Counted in this walk.
    now: Vec<u32>,
}

impl Charged {
    /// The call will come again: remember what has counted it. Returns how many were forgotten.
    fn keep(&mut self, call: CallId) -> u64 {
        let mut evicted = 0;
        for rule in self.now.drain(..) {
            if self.known.insert((call, rule)) {
                self.order.push_back((call, rule));
            }
            if self.order.len() > CHARGED_LEN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
                evicted += 1;
            }
        }
        evicted
    }
}

/// How a rule's conditions on head and connection stand to a call.
enum Stand {
    No,
    Yes,
    /// All else fits, and what is missing is not known.
    Unseen,
    /// All else fits, and the target may be any path.
    Ambiguous,
}

impl Engine {
    /// An engine over a set. `trusted_proxies` are the agent's; policies may add their own.
    pub fn new(set: Arc<PolicySet>, mode: Mode, trusted_proxies: Vec<IpNet>) -> Engine {
        let mut engine = Engine {
            set: Arc::default(),
            mode,
            trusted_proxies,
            verdicts: Vec::new(),
            by_policy: Vec::new(),
            default: default_verdict(mode),
            asks_findings: false,
            stops_nothing: true,
            leaves_denials_to_gate: false,
            rates: Vec::new(),
            by_gate: Vec::new(),
            charged: Charged::default(),
            scratch: Scratch::default(),
            counters: Counters::default(),
            gate: VecDeque::new(),
        };
        engine.replace(set);
        engine
    }

    /// Takes another set from the next call on. Rules of the same policy and name keep what their rates have counted.
    pub fn replace(&mut self, set: Arc<PolicySet>) {
        let mut before: HashMap<(SmolStr, SmolStr), Buckets> = HashMap::new();
        for (rule, buckets) in self.set.rules.iter().zip(self.rates.drain(..)) {
            if let Some(buckets) = buckets {
                before.insert(
                    (self.set.policies[rule.policy].name.clone(), rule.name.clone()),
                    buckets,
                );
            }
        }
        self.rates = set
            .rules
            .iter()
            .map(|rule| {
                let key = (set.policies[rule.policy].name.clone(), rule.name.clone());
                rule.rate.map(|_| before.remove(&key).unwrap_or_default())
            })
            .collect();
        // Positions mean other rules now.
        self.charged = Charged::default();
        self.by_gate.clear();
        self.set = set;
        self.prepare();
    }

    /// Changes the agent's mode from the next call on.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        self.prepare();
    }

    /// The agent's mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Some rule may ask for a call's findings; where none does, they are not needed to judge.
    pub fn asks_findings(&self) -> bool {
        self.asks_findings
    }

    /// No rule that enforces stops anything, and no policy cuts what it cannot see.
    pub fn stops_nothing(&self) -> bool {
        self.stops_nothing
    }

    /// Whatever is denied by rules that enforce is denied by the gate, where it judges the connection.
    pub fn leaves_denials_to_gate(&self) -> bool {
        self.leaves_denials_to_gate
    }

    /// The set in force.
    pub fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// What was given up or could not be decided.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for buckets in self.rates.iter().flatten() {
            counters.rate_keys_evicted += buckets.evicted;
            counters.rate_keys_len += buckets.len() as u64;
        }
        counters
    }

    /// Judges a call at a phase. `None`: not decided yet, ask again at the next phase. `Some` is final, also if it is
    /// the default (allow, without a policy's name). At [`Phase::Complete`] it is always `Some`.
    pub fn evaluate(&mut self, call: &ApiCall, findings: &[Finding], phase: Phase) -> Option<Verdict> {
        if let Some(decision) = &call.stopped {
            return Some(self.of_gate(decision));
        }
        let set = self.set.clone();
        let mut scratch = std::mem::take(&mut self.scratch);
        set.index.find(call, &mut scratch);
        let result = self.judge(&set, &scratch.bits, call, findings, phase);
        self.scratch = scratch;
        if result.is_none() {
            self.counters.charged_evicted += self.charged.keep(call.id);
        }
        self.charged.now.clear();
        result
    }

    fn judge(
        &mut self,
        set: &PolicySet,
        bits: &[u64],
        call: &ApiCall,
        findings: &[Finding],
        phase: Phase,
    ) -> Option<Verdict> {
        let peer = address::peer(call);
        // The first match of all, if it is from a policy that only observes; then only those that enforce are asked.
        let mut observed: Option<Verdict> = None;
        // Such a policy may still match, later.
        let mut observed_waits = false;
        // What to say if no rule matches.
        let mut doubt: Option<Verdict> = None;
        for (word, bits) in bits.iter().enumerate() {
            let mut left = *bits;
            while left != 0 {
                let position = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let rule = &set.rules[position];
                let policy = &set.policies[rule.policy];
                let enforces = policy.mode_now() == Mode::Enforce;
                if !enforces && (observed.is_some() || observed_waits) {
                    continue;
                }
                let stand = self.stand(rule, policy, call, peer);
                if matches!(stand, Stand::No) {
                    continue;
                }
                if let Some(when) = &rule.when {
                    if when.needs > phase {
                        if enforces {
                            return None;
                        }
                        observed_waits = true;
                        continue;
                    }
                    match when.holds(call, findings) {
                        Ok(true) => {}
                        Ok(false) => continue,
                        Err(_) => {
                            self.counters.expressions_failed += 1;
                            doubt.get_or_insert_with(|| Verdict {
                                action: Action::Alert,
                                require: None,
                                ..self.verdicts[position].clone()
                            });
                            continue;
                        }
                    }
                }
                let verdict = match stand {
                    Stand::No => continue,
                    Stand::Unseen => match policy.on_unseen {
                        OnUnseen::Allow => continue,
                        OnUnseen::Alert => {
                            doubt.get_or_insert_with(|| self.by_policy[rule.policy].unseen_alert.clone());
                            continue;
                        }
                        OnUnseen::Cut => self.by_policy[rule.policy].unseen_cut.clone(),
                    },
                    Stand::Yes | Stand::Ambiguous => {
                        if !self.beyond_rate(position, rule, policy, call, peer) {
                            continue;
                        }
                        match stand {
                            Stand::Ambiguous => self.by_policy[rule.policy].ambiguous.clone(),
                            _ => self.verdicts[position].clone(),
                        }
                    }
                };
                let verdict = spared(rule, call, verdict);
                if !enforces {
                    observed = Some(verdict);
                    continue;
                }
                if matches!(verdict.action, Action::Deny | Action::Kill) {
                    return Some(verdict);
                }
                return match observed {
                    Some(observed) => Some(observed),
                    None if observed_waits => None,
                    None => Some(verdict),
                };
            }
        }
        match observed {
            None if observed_waits => None,
            Some(observed) => Some(observed),
            None => Some(doubt.unwrap_or_else(|| self.default.clone())),
        }
    }

    /// The conditions that the index has not settled.
    fn stand(&self, rule: &Rule, policy: &Policy, call: &ApiCall, peer: Option<IpAddr>) -> Stand {
        let matches = &rule.matches;
        let denies = matches!(rule.action, Action::Deny | Action::Kill);
        let ambiguous =
            call.ambiguous && !matches.paths.is_empty() && policy.on_ambiguous == OnAmbiguous::Deny;
        // A path that may be read differently proves nothing.
        if ambiguous && !denies {
            return Stand::No;
        }
        if !rule.speaks(call.protocol) {
            return Stand::No;
        }
        let mut fit = Fit::Yes;
        let unknown = Unknown::of(call);
        if (unknown.path && !matches.paths.is_empty()) || (unknown.method && !matches.methods.is_empty()) {
            fit = Fit::Unknown;
        }
        if !matches.auth.is_empty() {
            fit = fit.and(match unknown.auth {
                true => Fit::Unknown,
                false => Fit::from(matches.auth.contains(&call.request.auth)),
            });
        }
        if let Some(hosts) = &matches.hosts {
            fit = fit.and(match unknown.host {
                true => Fit::Unknown,
                false => Fit::from(hosts.has(&call.raw.host)),
            });
        }
        if fit == Fit::No {
            return Stand::No;
        }
        if let Some(peers) = &matches.peers {
            fit = fit.and(peer.map_or(Fit::Unknown, |peer| Fit::from(peers.has(peer))));
        }
        if fit != Fit::No
            && let Some(clients) = &matches.clients
        {
            fit = fit.and(
                self.client(policy, call)
                    .fit(clients, rule.action == Action::Allow),
            );
        }
        let workloads = policy.workload.iter().chain(&matches.workload);
        if fit == Fit::No || !workloads.into_iter().all(|workload| workload.has(&call.process)) {
            return Stand::No;
        }
        match fit {
            // Only a denial can fall under `onUnseen`; to allow or to alert needs a fact.
            Fit::Unknown if denies => Stand::Unseen,
            Fit::Yes if ambiguous => Stand::Ambiguous,
            Fit::Yes => Stand::Yes,
            _ => Stand::No,
        }
    }

    fn client(&self, policy: &Policy, call: &ApiCall) -> Client {
        address::client(call, |address| {
            contains(&self.trusted_proxies, address) || contains(&policy.trusted_proxies, address)
        })
    }

    /// Counts the call where the rule has a rate. `true`: the rule applies.
    fn beyond_rate(
        &mut self,
        position: usize,
        rule: &Rule,
        policy: &Policy,
        call: &ApiCall,
        peer: Option<IpAddr>,
    ) -> bool {
        let Some(rate) = &rule.rate else { return true };
        if !self.charged.known.is_empty() && self.charged.known.contains(&(call.id, position as u32)) {
            return false;
        }
        let key = match rate.by {
            By::Peer => peer.map(Key::Address),
            By::Client => self.client(policy, call).key(peer).map(Key::Address),
            By::Workload => Some(Key::workload(&call.process)),
        };
        let (Some(key), Some(buckets)) = (key, &mut self.rates[position]) else {
            self.counters.rate_unkeyed += 1;
            return false;
        };
        // Of what both count the gate decides, by when bytes came; when they were read may be closer together.
        let by_gate = call.protocol == Protocol::Http1
            && !call.ambiguous
            && !call.flow.joined_late
            && call.flow.carrier.is_some()
            && self.by_gate.contains(&position);
        let spare = if by_gate { Spare::Allowance } else { Spare::Nothing };
        let beyond = buckets.charge(rate, spare, &key, call.request.head_at);
        if !beyond {
            self.charged.now.push(position as u32);
        }
        beyond
    }

    /// The gate goes by tables that were made of the set in force. `rules`: for each rule of the tables its position in
    /// the set.
    pub fn gate_goes_by(&mut self, generation: u32, rules: &[usize]) {
        let of = |position: &usize| {
            let rule = self.set.rules.get(*position)?;
            let by_gate = |verdict: &Verdict| Verdict {
                mode: Mode::Enforce,
                decided_by: DecidedBy::Gate,
                ..verdict.clone()
            };
            Some(GateVerdicts {
                denied: by_gate(self.verdicts.get(*position)?),
                ambiguous: by_gate(&self.by_policy.get(rule.policy)?.ambiguous),
            })
        };
        let verdicts = rules.iter().map_while(of).collect();
        self.gate.push_back((generation, verdicts));
        if self.gate.len() > GENERATIONS_MAX {
            self.gate.pop_front();
        }
    }

    /// The gate counts for these rules of the set in force, or for none.
    pub fn gate_counts_for(&mut self, positions: Vec<usize>) {
        self.by_gate = positions;
    }

    /// What the gate has decided is done, whatever the set says by now.
    fn of_gate(&self, decision: &Decision) -> Verdict {
        let generation = self
            .gate
            .iter()
            .rev()
            .find(|(known, _)| *known == decision.generation);
        let rule = generation.and_then(|(_, rules)| rules.get(decision.rule as usize));
        match (rule, decision.ground) {
            (Some(rule), Ground::Rule) => rule.denied.clone(),
            (Some(rule), Ground::Ambiguous) => rule.ambiguous.clone(),
            // No rule of the tables, or of tables that are forgotten.
            (_, ground) => Verdict {
                action: Action::Deny,
                mode: Mode::Enforce,
                rule: SmolStr::new_static(match ground {
                    Ground::TwoContents => "two-contents",
                    Ground::Rule | Ground::Ambiguous => "forgotten",
                }),
                decided_by: DecidedBy::Gate,
                ..self.default.clone()
            },
        }
    }

    /// What the policies say of traffic of a process that cannot be read at all (unknown TLS, memory BIO, gaps). Of the
    /// policies whose workload it is, the first that cuts and enforces; else the first that says more than `allow`.
    /// `None`: nothing.
    pub fn evaluate_unseen(&self, process: &Process) -> Option<Verdict> {
        // Canaries are no other policy's business, and theirs says nothing of it.
        if self.set.is_canary(process) {
            return None;
        }
        let mut first: Option<&Verdict> = None;
        for (policy, verdicts) in self.set.policies.iter().zip(&self.by_policy) {
            let concerns = policy.concerns(process);
            let said = match policy.on_unseen {
                OnUnseen::Alert if concerns => &verdicts.unseen_alert,
                OnUnseen::Cut if concerns => &verdicts.unseen_cut,
                _ => continue,
            };
            if policy.mode_now() == Mode::Enforce && policy.on_unseen == OnUnseen::Cut {
                return Some(said.clone());
            }
            first = first.or(Some(said));
        }
        first.cloned()
    }

    /// Makes the answers ready.
    fn prepare(&mut self) {
        let set = &self.set;
        self.default = default_verdict(self.mode);
        self.asks_findings = set.rules.iter().any(|rule| rule.when.is_some());
        let decided = gate::decided(set);
        self.verdicts = set
            .rules
            .iter()
            .zip(decided)
            .map(|(rule, decided)| Verdict {
                gated: decided.by == DecidedBy::Gate,
                action: rule.action,
                mode: self.mode_of(&set.policies[rule.policy]),
                policy: set.policies[rule.policy].name.clone(),
                rule: rule.name.clone(),
                decided_by: DecidedBy::Pipeline,
                require: rule.require,
                shortfall: "",
                matched: rule.dimensions().into(),
                source: rule.source.clone(),
            })
            .collect();
        let mut stopping = self
            .verdicts
            .iter()
            .filter(|verdict| verdict.mode == Mode::Enforce && stops(verdict.action))
            .peekable();
        self.stops_nothing = stopping.peek().is_none()
            && set
                .policies
                .iter()
                .all(|policy| policy.on_unseen != OnUnseen::Cut || self.mode_of(policy) == Mode::Observe);
        self.leaves_denials_to_gate = stopping.all(|verdict| verdict.gated);
        self.by_policy = set
            .policies
            .iter()
            .map(|policy| {
                let of = |action, rule: &'static str| Verdict {
                    action,
                    mode: self.mode_of(policy),
                    policy: policy.name.clone(),
                    rule: SmolStr::new_static(rule),
                    decided_by: DecidedBy::Pipeline,
                    gated: false,
                    require: None,
                    shortfall: "",
                    matched: Arc::default(),
                    source: policy.source.clone(),
                };
                PolicyVerdicts {
                    ambiguous: of(Action::Deny, "onAmbiguous"),
                    unseen_alert: of(Action::Alert, "onUnseen"),
                    unseen_cut: of(Action::Deny, "onUnseen"),
                }
            })
            .collect();
    }

    /// Enforced only where both say so.
    fn mode_of(&self, policy: &Policy) -> Mode {
        policy.mode_under(self.mode)
    }
}

fn stops(action: Action) -> bool {
    matches!(action, Action::Deny | Action::Kill)
}

/// Why a denial over MLLP is an alert.
const STALLS: &str = "the rule does not say allowStall: senders of HL7 retry in order, so a denied message would hold up the whole interface";

/// What a rule does to a call whose protocol does not bear to be cut: it alerts, unless it says that it may stop it.
fn spared(rule: &Rule, call: &ApiCall, verdict: Verdict) -> Verdict {
    match stops(verdict.action) && call.protocol == Protocol::Mllp && !rule.allow_stall {
        true => Verdict {
            action: Action::Alert,
            require: None,
            shortfall: STALLS,
            ..verdict
        },
        false => verdict,
    }
}

pub(super) fn default_verdict(mode: Mode) -> Verdict {
    Verdict {
        action: Action::Allow,
        mode,
        policy: SmolStr::default(),
        rule: SmolStr::default(),
        decided_by: DecidedBy::Pipeline,
        gated: false,
        require: None,
        shortfall: "",
        matched: Arc::default(),
        source: Arc::from(""),
    }
}
