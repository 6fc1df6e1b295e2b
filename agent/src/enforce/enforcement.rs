//! The state machine and the hands: what the one wants done, the other does, at once and in order.
//!
//! It must not decide: neither whether a call is denied nor what an outcome is worth.

use super::{Answer, Do, Done, Enforcer, FlowGate, GateError, Limits, Outcome, Stats};
use crate::call::{ApiCall, CallId, Phase};
use crate::capture::{FlowEnd, FlowId, FlowInfo, KernelTime};
use crate::policy::{Action, Verdict};

/// Carries verdicts out.
pub struct Enforcement<G> {
    enforcer: Enforcer,
    gate: G,
}

impl<G: FlowGate> Enforcement<G> {
    /// With the hands to use.
    pub fn new(limits: Limits, gate: G) -> Self {
        Enforcement {
            enforcer: Enforcer::new(limits),
            gate,
        }
    }

    /// Carries out the verdict on a call, at any phase. `others_open` are the flow's other calls that have no whole
    /// response yet.
    pub fn on_verdict(
        &mut self,
        at: KernelTime,
        phase: Phase,
        call: &ApiCall,
        verdict: &Verdict,
        others_open: u32,
    ) {
        if !matches!(verdict.action, Action::Deny | Action::Kill) {
            return;
        }
        let egress = call.flow.carrier.and_then(|cookie| self.gate.egress(cookie));
        let todo = self
            .enforcer
            .on_verdict(at, phase, call, verdict, others_open, egress);
        self.carry_out(todo);
    }

    /// A flow has ended.
    pub fn on_closed(&mut self, flow: FlowId, end: &FlowEnd) {
        let egress = self
            .enforcer
            .cookie_of(flow)
            .and_then(|cookie| self.gate.egress(cookie));
        let todo = self.enforcer.on_closed(flow, end, egress);
        self.carry_out(todo);
    }

    /// Ends a connection that cannot be read at all (`onUnseen: cut`). No call is denied by it: none was seen.
    pub fn cut_unseen(&mut self, flow: &FlowInfo) -> Result<(), GateError> {
        let cookie = flow
            .carrier
            .ok_or_else(|| GateError::Failed("no socket is known behind it".into()))?;
        self.gate.withhold(cookie, None)?;
        let destroyed = self.gate.destroy(flow, cookie);
        if destroyed.is_ok() {
            self.gate.release(cookie);
        }
        destroyed
    }

    /// Time has passed.
    pub fn on_tick(&mut self, at: KernelTime) {
        for (call, cookie) in self.enforcer.overdue(at) {
            let egress = self.gate.egress(cookie);
            self.enforcer.on_overdue(call, egress);
        }
    }

    /// The outcome for a call's event, asked for once, when the call is complete.
    pub fn outcome(&mut self, call: CallId) -> Answer {
        self.enforcer.outcome(call)
    }

    /// The outcomes that were pending when asked for, and are known now.
    pub fn finished(&mut self) -> Vec<(CallId, Outcome)> {
        self.enforcer.finished()
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.enforcer.stats()
    }

    /// Flows that are kept dead now.
    pub fn dead_flows(&self) -> usize {
        self.enforcer.dead_flows()
    }

    /// The hands.
    #[cfg(test)]
    pub(super) fn gate_mut(&mut self) -> &mut G {
        &mut self.gate
    }

    fn carry_out(&mut self, todo: Vec<Do>) {
        for action in todo {
            let done = match action {
                Do::Withhold { cookie, from } => Done::Withheld {
                    cookie,
                    result: self.gate.withhold(cookie, from),
                },
                Do::Destroy { call, cookie, flow } => {
                    let result = self.gate.destroy(&flow, cookie);
                    // After the reset: then it is final.
                    Done::Destroyed {
                        call,
                        result,
                        egress: self.gate.egress(cookie),
                    }
                }
                Do::Kill {
                    call,
                    process,
                    seen_at,
                } => Done::Killed {
                    call,
                    result: self.gate.kill(&process, seen_at),
                },
                Do::Release { cookie } => {
                    self.gate.release(cookie);
                    continue;
                }
            };
            self.enforcer.on_done(done);
        }
    }
}
