//! A [`Verdict`](crate::policy::Verdict) → an [`Outcome`]: what was done to the flow, and what that is worth.
//!
//! It acts on the decision and never decides again. The words are measured: `contained` only where the kernel's
//! own counters say that no byte of the response got out.
//!
//! `enforcer` is the state machine: verdicts, results and ends in, things to do and outcomes out. `enforcement` lets a
//! [`FlowGate`] do them. `actions` is what the host's kernel offers for that; the withholding itself is a map that
//! the egress program looks into. `answers` is the state machine of requests that the gate has stopped before their
//! server had them.

use crate::call::CallId;
use crate::capture::{FlowInfo, KernelTime, Process};
use crate::policy::Guarantee;

mod actions;
mod answers;
mod enforcement;
mod enforcer;
mod powerless;

pub use actions::{Actions, Withholding};
pub use enforcement::Enforcement;
pub use enforcer::{Answer, Do, Done, Enforcer, Limits, Stats};
pub use powerless::Powerless;

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

impl Outcome {
    /// It was to be stopped, and was not, whatever became of the process.
    pub fn has_passed(&self) -> bool {
        self.guarantee == Guarantee::Observed && self.would_be.is_none()
    }
}

/// What the egress program has let through of one socket's payload, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// TCP sequence number after the last payload byte that passed, retransmissions included.
    pub passed_end: u32,
    /// When it last let payload pass, 0 if never; `None` if nobody takes the time.
    pub passed_at: Option<KernelTime>,
    /// Sequence number from which the gate itself has withheld payload; `None` if it has not.
    pub gate_from: Option<u32>,
}

/// Why something could not be done to a flow or a process. The texts end up in [`Outcome::shortfall`]: no captured
/// value may be in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("it had ended before")]
    Gone,
    #[error("{0}")]
    Failed(String),
}

/// What can be done to flows and processes: by the kernel in the agent, by a recording in the tests.
pub trait FlowGate {
    /// Lets no payload of the socket leave the host from sequence number `from` on; `None`: from what has passed by
    /// now. ACK, FIN and RST pass. Holds until [`FlowGate::release`].
    fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), GateError>;
    /// Forgets the socket, which is gone.
    fn release(&mut self, cookie: u64);
    /// What has passed so far; `None` if nobody counts.
    fn egress(&mut self, cookie: u64) -> Option<Egress>;
    /// Aborts the connection of this socket, and no other.
    fn destroy(&mut self, flow: &FlowInfo, cookie: u64) -> Result<(), GateError>;
    /// Tells the connection's client, in its server's place, that the call was denied, and closes the sending direction.
    /// `event` names the call. Returns how many bytes that took. [`GateError::Gone`]: no process has the socket open yet.
    fn answer(&mut self, flow: &FlowInfo, process: &Process, event: CallId) -> Result<u32, GateError>;
    /// Lets the listener of this cookie, to which the flow is being made, take connections in before their first bytes
    /// (`TCP_DEFER_ACCEPT`, tcp(7)). Whether it did not.
    fn hurry(&mut self, flow: &FlowInfo, process: &Process, listener: u64) -> Result<bool, GateError>;
    /// Behind the last byte that TCP has taken in on the connection, as a sequence number; `None` if that cannot be told.
    fn accepted(&mut self, flow: &FlowInfo) -> Option<u32>;
    /// Kills the process, if it still is the one that was alive, with the same program, at `seen_at`.
    fn kill(&mut self, process: &Process, seen_at: KernelTime) -> Result<(), GateError>;
}

/// Adds a remark to a shortfall.
fn note(shortfall: &mut String, text: &str) {
    if !shortfall.is_empty() {
        shortfall.push_str("; ");
    }
    shortfall.push_str(text);
}
