//! The state machine of enforcement: one entry for each denied call, one for each flow that is to stay dead.
//!
//! A denied call's flow is withheld first and reset then; what that was worth is told when the numbers are in: right
//! after the reset where the egress program counts, else when the flow's end is reported, else after a bounded
//! time with what is known. A denial sticks: the flow stays withheld until its socket is gone, whatever becomes of
//! policy and mode meanwhile.
//!
//! Pure: time comes in the records. It must not do anything itself.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Egress, GateError, Outcome, note};
use crate::call::{ApiCall, CallDirection, CallId, Phase};
use crate::capture::{FlowEnd, FlowId, FlowInfo, KernelTime, Process};
use crate::policy::{Action, Guarantee, Mode, Verdict};

mod calls;

use calls::Calls;

/// What this stage may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Denied calls whose outcome is not told yet, or not asked for yet. Beyond it, the oldest is told with what is known.
    pub denied_calls_max: usize,
    /// Flows that are kept dead. Beyond it the oldest is released; its socket was reset long ago.
    pub dead_flows_max: usize,
    /// The gate runs on this host: in enforce mode it would have decided what it can.
    pub gate: bool,
    /// And it can make a TLS library's read fail.
    pub refuses: bool,
    /// How long (record time) an outcome waits for the flow's end.
    pub outcome_wait_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            denied_calls_max: 16_384,
            dead_flows_max: 16_384,
            gate: false,
            refuses: false,
            outcome_wait_ns: 500_000_000,
        }
    }
}

/// Something to be done, in this order.
#[derive(Clone, Debug)]
pub enum Do {
    Withhold {
        cookie: u64,
        from: Option<u32>,
    },
    Destroy {
        call: CallId,
        cookie: u64,
        flow: Arc<FlowInfo>,
    },
    Kill {
        call: CallId,
        process: Arc<Process>,
        seen_at: KernelTime,
    },
    Release {
        cookie: u64,
    },
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Done {
    Withheld {
        cookie: u64,
        result: Result<(), GateError>,
    },
    /// With what had passed by then: after a successful reset, all that ever will.
    Destroyed {
        call: CallId,
        result: Result<(), GateError>,
        egress: Option<Egress>,
    },
    Killed {
        call: CallId,
        result: Result<(), GateError>,
    },
}

/// What is known of a call's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not denied: there is none.
    None,
    /// It will be among [`Enforcer::finished`].
    Pending,
    Ready(Outcome),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub denied: u64,
    pub prevented: u64,
    pub contained: u64,
    pub cut: u64,
    pub killed: u64,
    /// Denied in enforce mode, and yet nothing could be done to the flow.
    pub not_enforced: u64,
    /// Told with what was known, for want of room or of the flow's end.
    pub told_early: u64,
    /// Flows released before their sockets were gone, for want of room.
    pub dead_flows_evicted: u64,
}

impl Stats {
    /// A denied call has this outcome.
    pub(super) fn count(&mut self, guarantee: Guarantee) {
        match guarantee {
            Guarantee::Prevented => self.prevented += 1,
            Guarantee::Contained => self.contained += 1,
            Guarantee::Cut => self.cut += 1,
            _ => self.not_enforced += 1,
        }
    }

    /// Of both.
    pub(super) fn and(self, other: Stats) -> Stats {
        Stats {
            denied: self.denied + other.denied,
            prevented: self.prevented + other.prevented,
            contained: self.contained + other.contained,
            cut: self.cut + other.cut,
            killed: self.killed + other.killed,
            not_enforced: self.not_enforced + other.not_enforced,
            told_early: self.told_early + other.told_early,
            dead_flows_evicted: self.dead_flows_evicted + other.dead_flows_evicted,
        }
    }
}

/// How far the reset has come.
#[derive(Clone, Debug)]
enum Reset {
    Asked,
    Done,
    Failed(GateError),
}

struct Denied {
    at: KernelTime,
    flow: FlowId,
    cookie: u64,
    direction: CallDirection,
    /// Sequence number where the response would begin, for sockets in clear.
    from: Option<u32>,
    /// Behind the request's head, for sockets in clear.
    head_end: Option<u32>,
    head_at: KernelTime,
    require: Option<Guarantee>,
    kill: bool,
    /// The gate has made the library's call fail.
    refused: bool,
    /// Nothing is done to the flow.
    left_alone: bool,
    reset: Reset,
    killed: Option<Result<(), GateError>>,
    collateral: u32,
    outcome: Option<Outcome>,
    /// The event waits for it.
    asked: bool,
}

struct DeadFlow {
    /// The call that it is dead by.
    call: CallId,
    withheld: Result<(), GateError>,
    reset: bool,
}

/// The denied calls and dead flows of the host.
pub struct Enforcer {
    limits: Limits,
    calls: Calls,
    /// By age. May name calls that are gone.
    order: VecDeque<CallId>,
    dead: HashMap<u64, DeadFlow>,
    dead_order: VecDeque<u64>,
    finished: Vec<(CallId, Outcome)>,
    stats: Stats,
}

impl Enforcer {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Enforcer {
            limits,
            calls: Calls::default(),
            order: VecDeque::new(),
            dead: HashMap::new(),
            dead_order: VecDeque::new(),
            finished: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Takes a verdict in, at any phase; the first denial of a call counts. `others_open` are the flow's other calls
    /// without a whole response, `egress` what has passed by now.
    pub fn on_verdict(
        &mut self,
        at: KernelTime,
        phase: Phase,
        call: &ApiCall,
        verdict: &Verdict,
        others_open: u32,
        egress: Option<Egress>,
    ) -> Vec<Do> {
        let denies = matches!(verdict.action, Action::Deny | Action::Kill);
        if !denies || self.calls.contains(&call.id) {
            return Vec::new();
        }
        self.stats.denied += 1;
        let mut denied = Denied {
            at,
            flow: call.flow.id,
            cookie: call.flow.carrier.unwrap_or_default(),
            direction: call.direction,
            from: call
                .response_position
                .filter(|_| matches!(call.flow.id, FlowId::Socket(_))),
            head_end: call.head_end,
            head_at: call.request.head_at,
            require: verdict.require,
            kill: verdict.action == Action::Kill,
            refused: call.stopped.as_ref().is_some_and(|decision| decision.refused),
            left_alone: false,
            reset: Reset::Asked,
            killed: None,
            collateral: 0,
            outcome: None,
            asked: false,
        };
        let why_not = not_enforceable(&call.flow);
        if verdict.mode == Mode::Observe {
            // As if it were reset now: what has passed is all that ever would have.
            denied.reset = Reset::Done;
            let by_gate = self.limits.gate && verdict.gated && !call.flow.joined_late;
            let in_clear = matches!(call.flow.id, FlowId::Socket(_));
            let would_be = match (why_not, by_gate) {
                (Some(_), _) => Guarantee::Observed,
                (None, true) if in_clear || self.limits.refuses => Guarantee::Prevented,
                (None, true) if denied.direction == CallDirection::Outbound => Guarantee::Prevented,
                (None, true) => Guarantee::Contained,
                (None, false) => denied.measured(egress, None, true),
            };
            let shortfall =
                why_not.map_or_else(String::new, |why| format!("it would not be enforced: {why}"));
            denied.outcome = Some(Outcome {
                guarantee: Guarantee::Observed,
                would_be: Some(would_be),
                killed: false,
                collateral: 0,
                shortfall,
            });
            self.keep(call.id, denied);
            return Vec::new();
        }

        let kill = denied.kill.then(|| Do::Kill {
            call: call.id,
            process: call.process.clone(),
            seen_at: call.request.head_at,
        });
        if let Some(why) = why_not {
            denied.left_alone = true;
            denied.reset = Reset::Failed(GateError::Failed(why.to_owned()));
            self.keep(call.id, denied);
            if kill.is_none() {
                self.tell(call.id, None, None);
            }
            return kill.into_iter().collect();
        }
        let cookie = denied.cookie;
        match self.dead.contains_key(&cookie) {
            false => denied.collateral = others_open,
            // Those are lost by the first, and this one is denied itself.
            true if phase > Phase::Head => {
                if let Some(collateral) = self.collateral_of(cookie) {
                    *collateral = collateral.saturating_sub(1);
                }
            }
            true => {}
        }
        let from = match denied.direction {
            // After the whole response there is nothing to withhold from; the connection shall still go.
            CallDirection::Inbound if phase < Phase::Complete => denied.from,
            // The request has left already; what follows it shall not.
            _ => None,
        };
        self.keep(call.id, denied);
        let mut todo = Vec::new();
        // A flow that is dead already is withheld from further ahead; its calls share its fate, not its numbers.
        if !self.dead.contains_key(&cookie) {
            todo.extend(self.bury(call.id, cookie));
            todo.push(Do::Withhold { cookie, from });
        }
        todo.extend(kill);
        todo.push(Do::Destroy {
            call: call.id,
            cookie,
            flow: call.flow.clone(),
        });
        todo
    }

    /// A call begins that is not denied. Behind one that is, on the same connection, it is lost with it.
    pub fn on_begun(&mut self, call: &ApiCall) {
        if let Some(collateral) = call.flow.carrier.and_then(|cookie| self.collateral_of(cookie)) {
            *collateral += 1;
        }
    }

    /// The calls that are lost by the first denial on a connection, until that is told.
    fn collateral_of(&mut self, cookie: u64) -> Option<&mut u32> {
        let denied = self.calls.get_mut(&self.dead.get(&cookie)?.call)?;
        match &mut denied.outcome {
            None => Some(&mut denied.collateral),
            Some(outcome) if outcome.guarantee != Guarantee::Observed => Some(&mut outcome.collateral),
            Some(_) => None,
        }
    }

    /// Takes in what became of something.
    pub fn on_done(&mut self, done: Done) {
        match done {
            Done::Withheld { cookie, result } => {
                if let Some(flow) = self.dead.get_mut(&cookie) {
                    flow.withheld = result;
                }
            }
            Done::Destroyed { call, result, egress } => {
                let Some(denied) = self.calls.get_mut(&call) else {
                    return;
                };
                let flow = self.dead.get_mut(&denied.cookie);
                denied.reset = match (result, flow) {
                    (Ok(()), Some(flow)) => {
                        flow.reset = true;
                        Reset::Done
                    }
                    (Ok(()), None) => Reset::Done,
                    // For an earlier call on the same flow.
                    (Err(GateError::Gone), Some(flow)) if flow.reset => Reset::Done,
                    (Err(error), _) => Reset::Failed(error),
                };
                // What passed before a reset is all that ever will. Of what was not reset, nothing is known yet.
                if matches!(denied.reset, Reset::Done) && egress.is_some() {
                    self.tell(call, egress, None);
                }
            }
            Done::Killed { call, result } => {
                let Some(denied) = self.calls.get_mut(&call) else {
                    return;
                };
                self.stats.killed += u64::from(result.is_ok());
                denied.killed = Some(result);
                if denied.left_alone {
                    self.tell(call, None, None);
                }
            }
        }
    }

    /// The flow has ended. Tells its calls' outcomes; releases it if its socket is gone.
    pub fn on_closed(&mut self, flow: FlowId, end: &FlowEnd, egress: Option<Egress>) -> Vec<Do> {
        let waiting: Vec<CallId> = self
            .calls
            .of(&flow)
            .iter()
            .filter(|id| self.calls.get(id).is_some_and(|denied| denied.outcome.is_none()))
            .copied()
            .collect();
        for call in waiting {
            self.tell(call, egress, Some(end));
        }
        match flow {
            FlowId::Socket(cookie) if self.dead.remove(&cookie).is_some() => vec![Do::Release { cookie }],
            _ => Vec::new(),
        }
    }

    /// The socket that the flow is dead by, if it is kept dead or waited for.
    pub fn cookie_of(&self, flow: FlowId) -> Option<u64> {
        match flow {
            FlowId::Socket(cookie) => self.dead.contains_key(&cookie).then_some(cookie),
            tls => {
                let call = self.calls.of(&tls).first();
                call.and_then(|call| self.calls.get(call))
                    .map(|denied| denied.cookie)
            }
        }
        .filter(|cookie| *cookie != 0)
    }

    /// Calls whose outcome has waited long enough, with their sockets: see [`Enforcer::on_overdue`].
    pub fn overdue(&self, at: KernelTime) -> Vec<(CallId, u64)> {
        self.order
            .iter()
            .filter_map(|id| self.calls.get(id).map(|denied| (id, denied)))
            .take_while(|(_, denied)| at.since(denied.at) >= self.limits.outcome_wait_ns)
            .filter(|(_, denied)| denied.outcome.is_none())
            .map(|(id, denied)| (*id, denied.cookie))
            .collect()
    }

    /// Tells a call's outcome with what is known now.
    pub fn on_overdue(&mut self, call: CallId, egress: Option<Egress>) {
        if self
            .calls
            .get(&call)
            .is_some_and(|denied| denied.outcome.is_none())
        {
            self.stats.told_early += 1;
            self.tell(call, egress, None);
        }
    }

    /// The outcome for a call's event. A call is forgotten once its outcome was handed out, here or by
    /// [`Enforcer::finished`].
    pub fn outcome(&mut self, call: CallId) -> Answer {
        let Some(denied) = self.calls.get_mut(&call) else {
            return Answer::None;
        };
        match denied.outcome.take() {
            Some(outcome) => {
                self.calls.remove(&call);
                Answer::Ready(outcome)
            }
            None => {
                denied.asked = true;
                Answer::Pending
            }
        }
    }

    /// The outcomes that were pending when asked for, and are known now.
    pub fn finished(&mut self) -> Vec<(CallId, Outcome)> {
        std::mem::take(&mut self.finished)
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Flows that are kept dead now.
    pub fn dead_flows(&self) -> usize {
        self.dead.len()
    }

    fn tell(&mut self, call: CallId, egress: Option<Egress>, end: Option<&FlowEnd>) {
        let Some(denied) = self.calls.get_mut(&call) else {
            return;
        };
        let withheld = self.dead.get(&denied.cookie).map(|flow| &flow.withheld);
        let outcome = denied.outcome(egress, end, withheld);
        self.stats.count(outcome.guarantee);
        if denied.asked {
            self.calls.remove(&call);
            self.finished.push((call, outcome));
        } else {
            denied.outcome = Some(outcome);
        }
    }

    fn keep(&mut self, call: CallId, denied: Denied) {
        while self.calls.len() >= self.limits.denied_calls_max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.calls.get(&oldest).is_some_and(|denied| denied.asked) {
                self.on_overdue(oldest, None);
            }
            self.calls.remove(&oldest);
        }
        // Names of calls that are long gone.
        if self.order.len() >= self.limits.denied_calls_max.saturating_mul(2) {
            let calls = &self.calls;
            self.order.retain(|id| calls.contains(id));
        }
        self.order.push_back(call);
        self.calls.insert(call, denied);
    }

    fn bury(&mut self, call: CallId, cookie: u64) -> Option<Do> {
        let mut released = None;
        while self.dead.len() >= self.limits.dead_flows_max {
            let Some(oldest) = self.dead_order.pop_front() else {
                break;
            };
            if self.dead.remove(&oldest).is_some() {
                self.stats.dead_flows_evicted += 1;
                released = Some(Do::Release { cookie: oldest });
            }
        }
        if self.dead_order.len() >= self.limits.dead_flows_max.saturating_mul(2) {
            let dead = &self.dead;
            self.dead_order.retain(|cookie| dead.contains_key(cookie));
        }
        self.dead_order.push_back(cookie);
        let withheld = Err(GateError::Failed("not confirmed".to_owned()));
        self.dead.insert(
            cookie,
            DeadFlow {
                call,
                withheld,
                reset: false,
            },
        );
        released
    }
}

/// Why a flow is left alone: never by guess.
fn not_enforceable(flow: &FlowInfo) -> Option<&'static str> {
    if flow.carrier.is_none_or(|cookie| cookie == 0) {
        return Some(
            "no socket is known behind the TLS object (memory BIO, early data, or taken over from a parent process)",
        );
    }
    if !flow.enforceable {
        return Some(
            "the socket is older than its cgroup's programs or outside of them, so nothing of it can be withheld",
        );
    }
    if flow.local.is_none() || flow.remote.is_none() {
        return Some("the socket's addresses are not known");
    }
    None
}

/// Whether `a` is at or before `b` on the circle of sequence numbers (RFC 9293 §3.4).
fn at_or_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

impl Denied {
    /// The word that the numbers allow. `held`: payload is withheld still.
    fn measured(&self, egress: Option<Egress>, end: Option<&FlowEnd>, held: bool) -> Guarantee {
        // A socket that is gone took its entries along; the kernel's last word of it holds the same numbers.
        let by_gate = end
            .filter(|end| end.withheld_by_gate)
            .and_then(|end| end.withheld_from);
        let last = end.and_then(|end| end.egress).map(|(passed_end, at)| Egress {
            passed_end,
            passed_at: Some(at),
            gate_from: None,
        });
        let egress = egress.or(last).map(|egress| Egress {
            gate_from: egress.gate_from.or(by_gate),
            ..egress
        });
        let response_kept_in = self.direction == CallDirection::Inbound
            && match (self.from, egress) {
                (Some(from), Some(egress)) => at_or_before(egress.passed_end, from),
                // In TLS, plaintext positions are not the socket's: what counts is that nothing at all has left
                // since before the application was given the head.
                (None, Some(egress)) => {
                    egress.passed_at.is_some_and(|at| at < self.head_at)
                        || egress
                            .gate_from
                            .is_some_and(|from| at_or_before(egress.passed_end, from))
                }
                // The application never wrote anything after the head.
                (Some(from), None) => end.is_some_and(|end| end.sent_end as u32 == from),
                (None, None) => false,
            };
        let was_reset = matches!(self.reset, Reset::Done) || end.is_some_and(|end| end.reset);
        // Numbers count once nothing can change them any more.
        let is_final = was_reset || end.is_some() || held;
        let never_told = self.direction == CallDirection::Inbound && self.refused;
        if is_final && (never_told || (self.direction == CallDirection::Outbound && self.kept_in(egress))) {
            Guarantee::Prevented
        } else if is_final && response_kept_in {
            Guarantee::Contained
        } else if was_reset {
            Guarantee::Cut
        } else {
            Guarantee::Observed
        }
    }

    /// The whole head of an outbound request never left the host.
    fn kept_in(&self, egress: Option<Egress>) -> bool {
        let Some(egress) = egress else { return false };
        match (self.head_end, egress.gate_from) {
            (Some(head_end), _) => !at_or_before(head_end, egress.passed_end),
            // In TLS: what was written from the denied head on was withheld by the gate, and none of it has passed.
            (None, Some(from)) => at_or_before(egress.passed_end, from),
            (None, None) => false,
        }
    }

    fn outcome(
        &self,
        egress: Option<Egress>,
        end: Option<&FlowEnd>,
        withheld: Option<&Result<(), GateError>>,
    ) -> Outcome {
        let guarantee = self.measured(egress, end, withheld.is_some_and(Result::is_ok));
        let mut shortfall = String::new();
        if let (Some(Err(error)), Guarantee::Observed | Guarantee::Cut) = (withheld, guarantee) {
            note(&mut shortfall, &format!("its payload was not withheld: {error}"));
        }
        match (&self.reset, guarantee) {
            (Reset::Failed(error), Guarantee::Observed | Guarantee::Cut) => {
                let text = match error {
                    GateError::Gone => "the connection had ended before it could be reset".to_owned(),
                    GateError::Failed(why) => format!("the connection was not reset: {why}"),
                };
                note(&mut shortfall, &text);
            }
            (Reset::Asked, Guarantee::Observed) => note(&mut shortfall, "the reset is not confirmed"),
            _ => {}
        }
        match &self.killed {
            Some(Err(error)) => note(&mut shortfall, &format!("the process was not killed: {error}")),
            None if self.kill => note(&mut shortfall, "the kill is not confirmed"),
            _ => {}
        }
        if let Some(require) = self.require.filter(|require| guarantee < *require) {
            note(&mut shortfall, &format!("the rule requires {}", require.as_str()));
        }
        let killed = matches!(self.killed, Some(Ok(())));
        let collateral = if guarantee == Guarantee::Observed {
            0
        } else {
            self.collateral
        };
        Outcome {
            guarantee,
            would_be: None,
            killed,
            collateral,
            shortfall,
        }
    }
}

#[cfg(test)]
mod tests;
