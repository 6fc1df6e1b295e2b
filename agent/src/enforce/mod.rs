//! A [`Verdict`](crate::policy::Verdict) → an [`Outcome`]: what was done to the flow, and what that is worth.
//!
//! It acts on the decision and never decides again. The words are measured: `contained` only where the kernel's
//! own counters say that no byte of the response got out.

use crate::policy::Guarantee;

/// What became of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Observed` in observe mode; the measured word otherwise.
    pub guarantee: Guarantee,
    /// In observe mode: the guarantee that enforce mode would have had on this host.
    pub would_be: Option<Guarantee>,
    /// The process was killed (in addition to the flow).
    pub killed: bool,
    /// Other calls that were lost with the flow.
    pub collateral: u32,
    /// Why it is weaker than the rule requires or than asked; empty if it is not.
    pub shortfall: String,
}
