//! The state machine and the hands: what the one wants done, the other does, at once and in order.
//!
//! It must not decide: neither whether a call is denied nor what an outcome is worth.

use std::time::Duration;

use apiward_common::record::NO_SOCKET;
use hashbrown::HashMap;

use super::answers::{Answers, Step};
use super::{Answer, Do, Done, Egress, Enforcer, FlowGate, GateError, Limits, Outcome, Stats};
use crate::call::{ApiCall, CallId, Phase};
use crate::capture::{Decision, FlowEnd, FlowId, FlowInfo, Hook, KernelTime, Process};
use crate::policy::{Action, Verdict};

/// Carries verdicts out.
pub struct Enforcement<G> {
    enforcer: Enforcer,
    answers: Answers,
    gate: G,
    /// Those that were made to wait for nothing, by their cookies, and when.
    listeners: HashMap<u64, KernelTime>,
}

/// Listeners that are remembered.
const LISTENERS_MAX: usize = 1_024;
/// When one is looked at again: its program may have set the option anew.
const HURRIED_AGAIN_NS: u64 = 10_000_000_000;

impl<G: FlowGate> Enforcement<G> {
    /// With the hands to use.
    pub fn new(limits: Limits, gate: G) -> Self {
        Enforcement {
            enforcer: Enforcer::new(limits),
            answers: Answers::default(),
            gate,
            listeners: HashMap::new(),
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
        let ingress = |decision: &Decision| decision.hook == Hook::Ingress;
        if call.stopped.as_ref().is_some_and(ingress) {
            let steps = self.answers.on_stopped(at, call, verdict);
            self.take(at, steps);
            return;
        }
        let egress = call.flow.carrier.and_then(|cookie| self.gate.egress(cookie));
        let todo = self
            .enforcer
            .on_verdict(at, phase, call, verdict, others_open, egress);
        self.carry_out(todo);
    }

    /// A call begins, and is not denied.
    pub fn on_begun(&mut self, call: &ApiCall) {
        self.enforcer.on_begun(call);
    }

    /// A call on the flow has its whole answer, of the application.
    pub fn on_answered(&mut self, at: KernelTime, flow: FlowId) {
        let step = self.answers.on_application(flow);
        self.take(at, step);
    }

    /// Bytes that the agent itself has sent on a flow, in its server's place: no process did.
    pub fn own_bytes(&self, flow: FlowId) -> u32 {
        self.answers.bytes_on(flow)
    }

    /// How long [`Enforcement::retry`] can be waited with; `None`: nothing waits for it.
    pub fn retry_in(&self, at: KernelTime) -> Option<Duration> {
        self.answers.retry_in(at).map(Duration::from_nanos)
    }

    /// Tries again what could not be done yet.
    pub fn retry(&mut self, at: KernelTime) {
        let steps = self.answers.retry(at);
        self.take(at, steps);
    }

    /// The client of an answered connection closes.
    pub fn on_parted(&mut self, at: KernelTime, flow: FlowId) {
        let steps = self.answers.on_parted(at, flow);
        self.take(at, steps);
    }

    /// A request was stopped while its connection was being made: a listener that waits for the client's first bytes, which
    /// the gate drops, would wait for long. It is made not to.
    pub fn on_knocked(&mut self, at: KernelTime, flow: &FlowInfo, process: &Process) {
        let FlowId::Socket(listener) = flow.id else { return };
        let asked = self.listeners.get(&listener);
        if asked.is_some_and(|asked| at.since(*asked) < HURRIED_AGAIN_NS) {
            return;
        }
        if self.listeners.len() >= LISTENERS_MAX {
            self.listeners.clear();
        }
        self.listeners.insert(listener, at);
        // Where it cannot be done, the handshake ends by its own timeouts, and the outcome says so.
        match self.gate.hurry(flow, process, listener & !NO_SOCKET) {
            Ok(true) => tracing::info!(
                "process {} ({}) took connections at {} in with their first bytes only, and a denied call waited for \
                 that: TCP_DEFER_ACCEPT of its listener is 0 now",
                process.pid,
                process.comm,
                flow.local.map_or(0, |local| local.port()),
            ),
            Ok(false) => {}
            Err(error) => tracing::debug!("a listener goes on waiting for first bytes: {error}"),
        }
    }

    /// A flow has ended.
    pub fn on_closed(&mut self, flow: FlowId, end: &FlowEnd) {
        self.answers.on_closed(flow, end);
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

    /// Nothing is withheld of a connection any more that an earlier agent has left dead: it is being reset.
    pub fn forget(&mut self, cookie: u64) {
        self.gate.release(cookie);
    }

    /// Time has passed.
    pub fn on_tick(&mut self, at: KernelTime) {
        // Before the steps: what is reset by them cannot be asked any more.
        self.tell_due(at, false);
        let steps = self.answers.on_tick(at);
        self.take(at, steps);
        for (call, cookie) in self.enforcer.overdue(at) {
            let egress = self.gate.egress(cookie);
            self.enforcer.on_overdue(call, egress);
        }
    }

    /// The outcome for a call's event, asked for once, when the call is complete.
    pub fn outcome(&mut self, call: &ApiCall) -> Answer {
        match call.stopped {
            Some(Decision {
                hook: Hook::Ingress, ..
            }) => Answer::Pending,
            _ => self.enforcer.outcome(call.id),
        }
    }

    /// The outcomes that were pending when asked for, and are known now.
    pub fn finished(&mut self) -> Vec<(CallId, Outcome)> {
        let mut finished = self.enforcer.finished();
        finished.extend(self.answers.finished());
        finished
    }

    /// The agent ends: what is pending is told as it stands.
    pub fn finish(&mut self) {
        self.tell_due(KernelTime(u64::MAX), true);
        self.on_tick(KernelTime(u64::MAX));
    }

    fn tell_due(&mut self, at: KernelTime, all: bool) {
        for flow in self.answers.due(at, all) {
            let accepted = self.gate.accepted(&flow);
            self.answers.tell(flow.id, accepted);
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.enforcer.stats().and(self.answers.stats())
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

    fn take(&mut self, at: KernelTime, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            let next = match step {
                Step::Answer { call, flow, process } => {
                    let result = self.gate.answer(&flow, &process, call);
                    self.answers.on_answered(at, flow.id, result)
                }
                Step::Kill {
                    flow,
                    process,
                    seen_at,
                } => {
                    let result = self.gate.kill(&process, seen_at);
                    self.answers.on_killed(flow, result);
                    None
                }
                destroy @ Step::Destroy { .. } => Some(destroy),
            };
            if let Some(Step::Destroy { flow }) = next
                && let Some(cookie) = flow.carrier
            {
                // Where it is gone already, nothing is left to be done.
                let _ = self.gate.destroy(&flow, cookie);
            }
        }
    }

    fn carry_out(&mut self, todo: Vec<Do>) {
        for action in todo {
            let done = match action {
                Do::Withhold { cookie, from } => Done::Withheld {
                    cookie,
                    result: self.gate.withhold(cookie, from),
                },
                Do::Destroy { call, cookie, flow } => {
                    // What is withheld ends with the socket.
                    let gate_from = self.gate.egress(cookie).and_then(|egress| egress.gate_from);
                    let result = self.gate.destroy(&flow, cookie);
                    // After the reset: then it is final.
                    let egress = self.gate.egress(cookie).map(|egress| Egress {
                        gate_from: egress.gate_from.or(gate_from),
                        ..egress
                    });
                    Done::Destroyed { call, result, egress }
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
