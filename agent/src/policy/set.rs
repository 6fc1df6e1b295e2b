//! Policies, compiled: every rule of every file in the order in which they apply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;
use smol_str::SmolStr;

use super::address::Networks;
use super::breaker::MaxDenied;
use super::expression::Expression;
use super::glob::Glob;
use super::host::Hosts;
use super::index::Index;
use super::path::PathPattern;
use super::rate::{By, Rate};
use super::{Action, Guarantee, Mode, document};
use crate::call::{AuthScheme, CallDirection, Phase, Protocol};
use crate::capture::Process;
use crate::errors;
use crate::yaml::{Place, Problem, Problems};

/// Most rules of all policies together.
pub const RULES_MAX: usize = 4_096;

/// Policies that are in force together. Never changed, but for breakers: a new set takes its place.
pub struct PolicySet {
    pub(super) policies: Vec<Policy>,
    /// By priority of the policy, then by file and place.
    pub(super) rules: Vec<Rule>,
    pub(super) index: Index,
    digest: String,
    literals: Vec<SmolStr>,
}

/// One policy.
#[derive(Clone)]
pub struct Policy {
    pub name: SmolStr,
    /// Its own mode; what is in force depends on the agent's too.
    pub mode: Mode,
    /// The mode is the author's, not the default.
    pub(super) mode_written: bool,
    /// Higher ones apply first.
    pub priority: i32,
    /// File and line.
    pub source: Arc<str>,
    pub(super) place: Place,
    /// How many rules it has.
    pub rules_len: usize,
    pub on_ambiguous: OnAmbiguous,
    pub on_unseen: OnUnseen,
    /// Where it denies more, it observes.
    pub max_denied: Option<MaxDenied>,
    /// It has, and does.
    pub(super) tripped: Arc<AtomicBool>,
    pub(super) workload: Option<Workload>,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// The share of its connections and of their bytes that has to be enforceable, or it is degraded.
    pub coverage_min: Option<f64>,
    /// The canaries' own: it enforces whatever the agent's mode is.
    pub(super) is_canary: bool,
}

impl Policy {
    /// The mode that it is in: its own, or observing once it has denied too much.
    pub fn mode_now(&self) -> Mode {
        match self.has_tripped() {
            true => Mode::Observe,
            false => self.mode,
        }
    }

    /// It has denied too much.
    pub fn has_tripped(&self) -> bool {
        self.tripped.load(Ordering::Relaxed)
    }

    /// From now on it observes. `false`: it does already.
    pub fn trip(&self) -> bool {
        !self.tripped.swap(true, Ordering::Relaxed) && self.mode == Mode::Enforce
    }

    /// The process is one of its workload.
    pub(super) fn concerns(&self, process: &Process) -> bool {
        self.workload
            .as_ref()
            .is_none_or(|workload| workload.has(process))
    }
}

/// What becomes of a target that two parsers may read differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAmbiguous {
    /// It is judged in every usual reading: denials and alerts match if one of them does, allowances if all do.
    #[default]
    Agent,
    /// A denial by path denies it, whatever its path; rules that allow by path do not match it.
    Deny,
}

impl OnAmbiguous {
    /// The name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            OnAmbiguous::Agent => "agent",
            OnAmbiguous::Deny => "deny",
        }
    }
}

/// What becomes of what cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnseen {
    #[default]
    Allow,
    Alert,
    Cut,
}

impl OnUnseen {
    /// The name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            OnUnseen::Allow => "allow",
            OnUnseen::Alert => "alert",
            OnUnseen::Cut => "cut",
        }
    }
}

/// One rule.
#[derive(Clone)]
pub struct Rule {
    /// Position of its policy in [`PolicySet::policies`].
    pub policy: usize,
    pub name: SmolStr,
    pub place: Place,
    /// File and line.
    pub source: Arc<str>,
    pub action: Action,
    pub require: Option<Guarantee>,
    /// It may stop messages over MLLP too, whose senders then wait with all that come after.
    pub allow_stall: bool,
    pub rate: Option<Rate>,
    pub(super) matches: Match,
    pub(super) when: Option<Expression>,
}

/// The conditions that the head and the connection decide. All of them have to hold; what is not written holds.
#[derive(Clone, Default)]
pub(super) struct Match {
    pub direction: Option<CallDirection>,
    /// Upper case.
    pub methods: Vec<SmolStr>,
    pub paths: Vec<PathPattern>,
    pub hosts: Option<Hosts>,
    pub peers: Option<Networks>,
    pub clients: Option<Networks>,
    pub workload: Option<Workload>,
    pub auth: Vec<AuthScheme>,
    pub protocols: Vec<Protocol>,
}

/// Which processes. Lists are alternatives; what is not known of a process does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Workload {
    pub exes: Vec<Glob>,
    pub uids: Vec<u32>,
    /// Prefixes of container ids, lower case.
    pub containers: Vec<SmolStr>,
    pub cgroups: Vec<Glob>,
    /// Ids of cgroups, which are nobody else's whatever they are called. No file can name them.
    pub cgroup_ids: Vec<u64>,
}

impl Workload {
    pub(super) fn has(&self, process: &Process) -> bool {
        let any = |globs: &[Glob], path: &str| {
            globs.is_empty() || (!path.is_empty() && globs.iter().any(|glob| glob.matches(path)))
        };
        let container = || {
            process.container.as_ref().is_some_and(|id| {
                self.containers
                    .iter()
                    .any(|prefix| id.starts_with(prefix.as_str()))
            })
        };
        any(&self.exes, &process.exe)
            && (self.uids.is_empty() || self.uids.contains(&process.uid))
            && (self.containers.is_empty() || container())
            && any(&self.cgroups, &process.cgroup_path)
            && (self.cgroup_ids.is_empty() || self.cgroup_ids.contains(&process.cgroup_id))
    }
}

impl Workload {
    /// Can no process be both? `false` where that is hard to tell.
    pub(super) fn excludes(&self, other: &Workload) -> bool {
        let uids = !self.uids.is_empty()
            && !other.uids.is_empty()
            && !self.uids.iter().any(|uid| other.uids.contains(uid));
        let containers = !self.containers.is_empty()
            && !other.containers.is_empty()
            && !self.containers.iter().any(|mine| {
                other
                    .containers
                    .iter()
                    .any(|theirs| mine.starts_with(theirs.as_str()) || theirs.starts_with(mine.as_str()))
            });
        uids || containers || apart(&self.exes, &other.exes) || apart(&self.cgroups, &other.cgroups)
    }
}

/// Is there no path that both lists match? Told only where one of them has no wildcards.
fn apart(one: &[Glob], other: &[Glob]) -> bool {
    let none_fits = |literals: &[Glob], globs: &[Glob]| {
        literals.iter().all(|literal| {
            literal
                .literal()
                .is_some_and(|path| !globs.iter().any(|glob| glob.matches(path)))
        })
    };
    !one.is_empty() && !other.is_empty() && (none_fits(one, other) || none_fits(other, one))
}

impl Policy {
    /// What holds for it where the agent's mode is this.
    pub fn mode_under(&self, agent: Mode) -> Mode {
        match (agent, self.mode_now()) {
            (_, _) if self.is_canary => Mode::Enforce,
            (Mode::Enforce, Mode::Enforce) => Mode::Enforce,
            _ => Mode::Observe,
        }
    }
}

impl Rule {
    /// The first phase at which it can be decided.
    pub fn needs(&self) -> Phase {
        self.when.as_ref().map_or(Phase::Head, |when| when.needs)
    }

    /// Names of the conditions that it has.
    pub fn dimensions(&self) -> Vec<&'static str> {
        let matches = &self.matches;
        let all = [
            (matches.direction.is_some(), "direction"),
            (!matches.methods.is_empty(), "methods"),
            (!matches.paths.is_empty(), "paths"),
            (matches.hosts.is_some(), "hosts"),
            (matches.peers.is_some(), "peers"),
            (matches.clients.is_some(), "clients"),
            (matches.workload.is_some(), "workload"),
            (!matches.auth.is_empty(), "auth"),
            (!matches.protocols.is_empty(), "protocols"),
            (self.when.is_some(), "when"),
            (self.rate.is_some(), "rate"),
        ];
        all.into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| name)
            .collect()
    }

    /// Directions of the calls that it matches. An outbound call has no client.
    pub fn directions(&self) -> &'static [CallDirection] {
        match self.matches.direction {
            Some(CallDirection::Inbound) => &[CallDirection::Inbound],
            Some(CallDirection::Outbound) => &[CallDirection::Outbound],
            None if self.by_client() => &[CallDirection::Inbound],
            None => &[CallDirection::Inbound, CallDirection::Outbound],
        }
    }

    /// It is about calls of this protocol.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        self.matches.protocols.is_empty() || self.matches.protocols.contains(&protocol)
    }

    /// It stops calls.
    pub fn denies(&self) -> bool {
        matches!(self.action, Action::Deny | Action::Kill)
    }

    /// It asks who the client is.
    pub(super) fn by_client(&self) -> bool {
        self.matches.clients.is_some() || self.rate.is_some_and(|rate| rate.by == By::Client)
    }
}

fn short(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex().chars().take(16).collect()
}

impl Default for PolicySet {
    fn default() -> Self {
        PolicySet::assemble(Vec::new(), Vec::new(), blake3::Hasher::new())
    }
}

impl PolicySet {
    /// The digest that a set of these texts has, whether they are valid or not.
    pub fn digest_of<T: AsRef<str>>(texts: &[T]) -> String {
        let mut hasher = blake3::Hasher::new();
        for text in texts {
            hasher.update(blake3::hash(text.as_ref().as_bytes()).as_bytes());
        }
        short(&hasher)
    }

    /// Compiles files, given as names and texts. All errors of all files are told at once.
    pub fn load<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<PolicySet, Problems> {
        let mut problems = Vec::new();
        let mut policies: Vec<(Policy, Vec<Rule>)> = Vec::new();
        let mut hasher = blake3::Hasher::new();
        let mut names: BTreeMap<SmolStr, Arc<str>> = BTreeMap::new();
        for (name, text) in files {
            let (name, text) = (name.as_ref(), text.as_ref());
            hasher.update(blake3::hash(text.as_bytes()).as_bytes());
            let (read, found) = document::read(name, text, &mut names);
            policies.extend(read);
            problems.extend(found);
        }
        let rules_len: usize = policies.iter().map(|(_, rules)| rules.len()).sum();
        if rules_len > RULES_MAX {
            problems.push(Problem {
                id: errors::TOO_MANY_RULES,
                file: files.last().map_or("", |(name, _)| name.as_ref()).into(),
                place: None,
                what: format!("there are {rules_len} rules in all files together, more than {RULES_MAX}"),
                instead: "join rules that differ in one list only".into(),
            });
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        // Stable: among equals, files and places keep their order.
        policies.sort_by_key(|(policy, _)| std::cmp::Reverse(policy.priority));
        let mut all_rules = Vec::with_capacity(rules_len);
        let mut all_policies = Vec::with_capacity(policies.len());
        for (position, (policy, rules)) in policies.into_iter().enumerate() {
            all_rules.extend(rules.into_iter().map(|rule| Rule {
                policy: position,
                ..rule
            }));
            all_policies.push(policy);
        }
        Ok(PolicySet::assemble(all_policies, all_rules, hasher))
    }

    pub(super) fn assemble(policies: Vec<Policy>, rules: Vec<Rule>, hasher: blake3::Hasher) -> PolicySet {
        let words = |rule: &Rule| -> Vec<SmolStr> {
            let paths = rule.matches.paths.iter().flat_map(PathPattern::literals);
            let hosts = rule.matches.hosts.iter().flat_map(Hosts::names);
            paths.chain(hosts).cloned().collect()
        };
        let mut literals: Vec<SmolStr> = rules.iter().flat_map(words).collect();
        literals.sort();
        literals.dedup();
        let index = Index::build(&policies, &rules);
        let digest = short(&hasher);
        PolicySet {
            policies,
            rules,
            index,
            digest,
            literals,
        }
    }

    /// Literal path segments and hosts of all rules: words that redaction may show.
    pub fn literals(&self) -> &[SmolStr] {
        &self.literals
    }

    /// Names the texts it was made of.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The policies, in the order in which they apply.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The rules, in the order in which they apply.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The policies whose workload a process is.
    pub fn concerning(&self, process: &Process) -> impl Iterator<Item = &Policy> {
        self.policies.iter().filter(|policy| policy.concerns(process))
    }

    /// Policies that have denied too much are in their own mode again. Whether there were any.
    pub fn rearm(&self) -> bool {
        let tripped = |policy: &Policy| policy.tripped.swap(false, Ordering::Relaxed);
        self.policies.iter().filter(|policy| tripped(policy)).count() > 0
    }

    /// The policy of a rule.
    pub fn policy_of(&self, rule: &Rule) -> &Policy {
        &self.policies[rule.policy]
    }
}
