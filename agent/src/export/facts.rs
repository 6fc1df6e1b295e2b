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
    pub coverage: Coverage,
    /// What it requires and this host cannot give; one line each.
    pub unmet: Vec<String>,
}

/// The share of a policy's flows and bytes that was enforceable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub flows: u64,
    pub flows_enforceable: u64,
    pub bytes: u64,
    pub bytes_enforceable: u64,
    pub bytes_unseen: u64,
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
#[derive(Clone, Debug, Default)]
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
        };
        v1::PolicyStatus {
            name: self.name,
            mode: self.mode.as_str().to_owned(),
            source: self.source,
            rules: self.rules,
            matched: self.matched,
            denied: self.denied,
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
