//! How things stand in the agent, as its owner says it: what `status`, the heartbeat and the hello are made of.
//!
//! Plain values: the pipeline fills them without knowing the contract, and `wire`'s sibling here converts them.

use std::collections::BTreeMap;

use apiward_proto::v1;

use crate::policy::Mode;

/// A moment's account. Lists are bounded by whoever fills them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub mode: Mode,
    /// Names the set of policies in force.
    pub policy_digest: String,
    /// For people: `the whole host`, or the configured limits.
    pub scope: String,
    pub policies: Vec<PolicyFacts>,
    pub libraries: Vec<LibraryFacts>,
    pub blind_spots: Vec<BlindSpot>,
    pub exemptions: Vec<Exemption>,
    /// Operations of exempt processes since the start; the kernel does not count them one by one.
    pub operations_exempt: u64,
    pub capabilities: Vec<Capability>,
    /// `inbound-clear`, `outbound-clear`, `inbound-tls`, `outbound-tls` → the guarantee that a denial has here.
    pub guarantees: BTreeMap<String, String>,
    /// Calls ended since the start.
    pub calls: u64,
    pub flows_open: u64,
    /// Kernel records read since the start.
    pub records: u64,
    /// One line each, with what to do; empty: all well.
    pub degraded: Vec<String>,
    /// What becomes of enforcement without the agent, for people.
    pub on_exit: String,
    /// When the mode goes back to observing (wall clock, ns); 0: it does not.
    pub mode_until_ns: u64,
    /// What canaries have measured last, and when (wall clock, ns).
    pub canaries: Vec<CanaryFacts>,
    pub proved_ns: u64,
}

/// One policy, and what it did.
#[derive(Clone, Debug, Default)]
pub struct PolicyFacts {
    pub name: String,
    pub mode: Mode,
    /// File that it came from.
    pub source: String,
    pub rules: u32,
    pub matched: u64,
    pub denied: u64,
    /// Of those, the ones that enforce mode could not stop.
    pub passed: u64,
    pub coverage: Coverage,
    /// What it requires and this host cannot give; one line each.
    pub unmet: Vec<String>,
}

/// The share of a policy's flows and bytes that was enforceable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    pub flows: u64,
    pub flows_enforceable: u64,
    pub bytes: u64,
    pub bytes_enforceable: u64,
    pub bytes_unseen: u64,
    /// Whose were not, and why.
    pub blind: Vec<BlindSpot>,
    /// What the policy asks for; `None`: nothing.
    pub min: Option<f64>,
    /// Shares of connections and bytes in the last hour, if any connection has ended in it.
    pub recent: Option<(f64, f64)>,
    /// Why the policy's word does not hold as it should; one line each.
    pub degraded: Vec<String>,
}

/// One quadrant as canaries have measured it. Words are those of guarantees, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanaryFacts {
    /// `inbound-clear`, `outbound-clear`, `inbound-tls`, `outbound-tls`.
    pub quadrant: String,
    pub promised: String,
    /// The weakest that is taken for kept.
    pub least: String,
    /// Empty: not measured.
    pub measured: String,
    pub reason: String,
    pub failed: bool,
    pub forbidden: BTreeMap<String, u64>,
    pub allowed: u64,
    pub allowed_failed: u64,
    pub median_ns: u64,
    pub told: BTreeMap<String, u64>,
    /// Forbidden calls whose whole answer had gone out before the reset.
    pub answered: u64,
}

/// What a canary is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    pub quadrant: String,
    pub best: String,
    pub least: String,
}

/// Canaries may begin: where, and by which rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProveReady {
    /// Below the mount point of cgroup2.
    pub cgroup: String,
    pub cgroup_id: u64,
    pub forbidden_path: String,
    pub promises: Vec<Promise>,
}

/// A TLS library that some process maps.
#[derive(Clone, Debug, Default)]
pub struct LibraryFacts {
    pub path: String,
    pub version: String,
    pub inode: u64,
    pub attached: bool,
    /// Which probe sites it got, and why.
    pub sites: Vec<String>,
    /// Why it is not attached, or not fully.
    pub reason: String,
}

/// A process whose bytes move and are not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlindSpot {
    pub exe: String,
    pub pid: u32,
    /// `unseen`, `sendfile`, `memory-bio`, `unknown-tls`, `mptcp`, `io-uring`.
    pub reason: String,
    pub bytes: u64,
    pub flows: u64,
}

/// Something that is left alone.
#[derive(Clone, Debug, Default)]
pub struct Exemption {
    /// `own`, `exe`, `cgroup`.
    pub kind: String,
    pub value: String,
}

/// Something that a kernel can or cannot do.
#[derive(Clone, Debug, Default)]
pub struct Capability {
    pub name: String,
    pub available: bool,
    pub reason: String,
}

impl Facts {
    /// The part of the status that comes from here; the rest is filled in where it is known.
    pub(super) fn into_status(self) -> v1::Status {
        v1::Status {
            mode: self.mode.as_str().to_owned(),
            policy_digest: self.policy_digest,
            scope: self.scope,
            policies: self.policies.into_iter().map(PolicyFacts::into_wire).collect(),
            libraries: self.libraries.into_iter().map(LibraryFacts::into_wire).collect(),
            blind_spots: self.blind_spots.into_iter().map(BlindSpot::into_wire).collect(),
            exemptions: self.exemptions.into_iter().map(Exemption::into_wire).collect(),
            operations_exempt: self.operations_exempt,
            capabilities: self.capabilities.into_iter().map(Capability::into_wire).collect(),
            guarantees: self.guarantees,
            calls: self.calls,
            flows_open: self.flows_open,
            records: self.records,
            degraded: self.degraded,
            on_exit: self.on_exit,
            mode_until_ns: self.mode_until_ns,
            canaries: self.canaries.into_iter().map(CanaryFacts::into_wire).collect(),
            proved_ns: self.proved_ns,
            ..Default::default()
        }
    }
}

impl PolicyFacts {
    fn into_wire(self) -> v1::PolicyStatus {
        let coverage = v1::Coverage {
            policy: self.name.clone(),
            flows: self.coverage.flows,
            flows_enforceable: self.coverage.flows_enforceable,
            bytes: self.coverage.bytes,
            bytes_enforceable: self.coverage.bytes_enforceable,
            bytes_unseen: self.coverage.bytes_unseen,
            blind: self
                .coverage
                .blind
                .into_iter()
                .map(BlindSpot::into_wire)
                .collect(),
            degraded: self.coverage.degraded,
            min: self.coverage.min.unwrap_or_default(),
            flows_share: self.coverage.recent.map(|(flows, _)| flows),
            bytes_share: self.coverage.recent.map(|(_, bytes)| bytes),
        };
        v1::PolicyStatus {
            name: self.name,
            mode: self.mode.as_str().to_owned(),
            source: self.source,
            rules: self.rules,
            matched: self.matched,
            denied: self.denied,
            passed: self.passed,
            coverage: Some(coverage),
            unmet: self.unmet,
        }
    }
}

impl LibraryFacts {
    fn into_wire(self) -> v1::Library {
        v1::Library {
            path: self.path,
            version: self.version,
            inode: self.inode,
            attached: self.attached,
            sites: self.sites,
            reason: self.reason,
            // Counted where somebody waits for the answer: it takes a look at every process.
            processes: 0,
        }
    }
}

impl BlindSpot {
    fn into_wire(self) -> v1::BlindSpot {
        v1::BlindSpot {
            exe: self.exe,
            pid: self.pid,
            reason: self.reason,
            bytes: self.bytes,
            flows: self.flows,
        }
    }
}

impl Exemption {
    fn into_wire(self) -> v1::Exemption {
        v1::Exemption {
            kind: self.kind,
            value: self.value,
        }
    }
}

impl Capability {
    fn into_wire(self) -> v1::Capability {
        v1::Capability {
            name: self.name,
            available: self.available,
            reason: self.reason,
        }
    }
}

/// Bytes of a word that a canary's report gives, and of its reason; entries of its tables.
const WORD_BYTES_MAX: usize = 32;
const REASON_BYTES_MAX: usize = 512;
const WORDS_MAX: usize = 8;

fn cut(text: String, bytes_max: usize) -> String {
    let mut plain: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .collect();
    while plain.len() > bytes_max {
        plain.pop();
    }
    plain
}

fn words(table: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    table
        .into_iter()
        .take(WORDS_MAX)
        .map(|(word, count)| (cut(word, WORD_BYTES_MAX), count))
        .collect()
}

impl CanaryFacts {
    pub(super) fn into_wire(self) -> v1::Canary {
        v1::Canary {
            quadrant: self.quadrant,
            promised: self.promised,
            least: self.least,
            measured: self.measured,
            reason: self.reason,
            failed: self.failed,
            forbidden: self.forbidden,
            allowed: self.allowed,
            allowed_failed: self.allowed_failed,
            median_ns: self.median_ns,
            told: self.told,
            answered: self.answered,
        }
    }

    /// As whoever sent the canaries reports it: bounded, because it goes into events and the status.
    pub(super) fn from_wire(canary: v1::Canary) -> CanaryFacts {
        CanaryFacts {
            quadrant: cut(canary.quadrant, WORD_BYTES_MAX),
            promised: cut(canary.promised, WORD_BYTES_MAX),
            least: cut(canary.least, WORD_BYTES_MAX),
            measured: cut(canary.measured, WORD_BYTES_MAX),
            reason: cut(canary.reason, REASON_BYTES_MAX),
            failed: canary.failed,
            forbidden: words(canary.forbidden),
            allowed: canary.allowed,
            allowed_failed: canary.allowed_failed,
            median_ns: canary.median_ns,
            told: words(canary.told),
            answered: canary.answered,
        }
    }
}

impl ProveReady {
    pub(super) fn into_wire(self) -> v1::ProveReady {
        let promise = |promise: Promise| v1::Promise {
            quadrant: promise.quadrant,
            best: promise.best,
            least: promise.least,
        };
        v1::ProveReady {
            cgroup: self.cgroup,
            cgroup_id: self.cgroup_id,
            forbidden_path: self.forbidden_path,
            promises: self.promises.into_iter().map(promise).collect(),
        }
    }
}
