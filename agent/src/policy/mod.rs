//! An [`ApiCall`](crate::call::ApiCall) and its findings → a [`Verdict`]: which rule applies, and what it wants done.
//!
//! Pure: policies are compiled from text once, then evaluated over calls; time comes in the call.

use std::sync::Arc;

use smol_str::SmolStr;

mod address;
pub mod breaker;
pub mod canary;
pub mod cases;
pub mod check;
mod cost;
pub mod coverage;
pub mod document;
mod engine;
pub mod explain;
mod expression;
pub mod gate;
mod glob;
mod host;
mod index;
pub mod model;
mod path;
pub mod rate;
mod reading;
pub mod reference;
pub mod replay;
pub mod schema;
mod set;
#[cfg(test)]
mod tests;
mod words;

pub use engine::{Counters, Engine};
pub use set::{OnAmbiguous, OnUnseen, Policy, PolicySet, Rule};

/// Whether a condition holds, where it may be that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    No,
    Unknown,
    Yes,
}

impl Fit {
    /// Both conditions.
    fn and(self, other: Fit) -> Fit {
        match (self, other) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Yes, Fit::Yes) => Fit::Yes,
            _ => Fit::Unknown,
        }
    }
}

impl From<bool> for Fit {
    fn from(holds: bool) -> Self {
        if holds { Fit::Yes } else { Fit::No }
    }
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Action {
    #[default]
    Allow,
    Alert,
    Deny,
    /// Deny, and kill the process.
    Kill,
}

/// Whether denials are carried out. A policy enforces only where the agent's global mode does too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    #[default]
    Observe,
    Enforce,
}

/// What was promised, or would have been (design: "What is promised when a call is denied"). Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    Observed,
    Cut,
    Contained,
    Prevented,
}

/// Which part decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    Gate,
    Pipeline,
}

/// The rule that applied, or the default (allow) where none did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub action: Action,
    /// The mode in force for this policy: its own, limited by the agent's.
    pub mode: Mode,
    /// Name of the policy; empty for the default.
    pub policy: SmolStr,
    /// Name of the rule; empty for the default, `onAmbiguous` or `onUnseen` for those.
    pub rule: SmolStr,
    pub decided_by: DecidedBy,
    /// Where the policy enforces, the gate decides it, for calls in clear.
    pub gated: bool,
    /// The guarantee that the rule requires, if it says so.
    pub require: Option<Guarantee>,
    /// Why it is milder than its rule says; empty if it is not.
    pub shortfall: &'static str,
    /// Dimensions that matched, for `apiward why`: `methods`, `paths`, `peers` … Names, never values.
    pub matched: Arc<[&'static str]>,
    /// Where the rule stands: file and line.
    pub source: Arc<str>,
}

impl Action {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Alert => "alert",
            Action::Deny => "deny",
            Action::Kill => "kill",
        }
    }
}

impl Mode {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        }
    }
}

impl Guarantee {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Guarantee::Observed => "observed",
            Guarantee::Cut => "cut",
            Guarantee::Contained => "contained",
            Guarantee::Prevented => "prevented",
        }
    }
}

impl DecidedBy {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            DecidedBy::Gate => "gate",
            DecidedBy::Pipeline => "pipeline",
        }
    }
}
