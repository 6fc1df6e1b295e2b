//! The life of a call, wired: record → capture → flow → decode → call → detect → policy → enforce → export, in
//! path order, on one thread. The types on the arrows are the stages' own; here they are only handed on.
//!
//! What is kept here belongs to no stage: the verdict on a call until the call ends, and the events of calls whose
//! outcome the kernel has not told yet.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::call::{ApiCall, BlindTls, CallId, CallState, Calls, Phase, Raw};
use crate::capture::intake::{Intake, Notice};
use crate::capture::{Captured, FlowId, KernelTime};
use crate::detect::{Detectors, Finding, Inventory, Vendors};
use crate::enforce::{Answer, Enforcement, FlowGate, Outcome};
use crate::export::clock::Clock;
use crate::export::{Batch, wire};
use crate::flow::{Flows, Item};
use crate::policy::breaker::Breakers;
use crate::policy::coverage::{Ended, Reach};
use crate::policy::{Action, Engine, Guarantee, Mode, Verdict, canary};

/// Ended calls whose outcome is not known yet; beyond it, an event goes out without one, and says so.
const UNTOLD_CALLS_MAX: usize = 8_192;

/// Every stage, in path order.
pub struct Pipeline<G> {
    pub intake: Intake,
    pub flows: Flows,
    pub calls: Calls,
    pub judge: Judge<G>,
    /// Time of the last record.
    now: KernelTime,
}

/// detect → policy → enforce → export: what happens to a call at each of its phases.
pub struct Judge<G> {
    pub detectors: Detectors,
    pub engine: Engine,
    pub enforcement: Enforcement<G>,
    pub clock: Clock,
    pub inventory: Inventory,
    pub vendors: Vendors,
    /// Verdicts that are final, on calls that have not ended.
    judged: HashMap<CallId, Verdict>,
    /// Calls that have begun and not ended, by flow.
    open: HashMap<FlowId, u32>,
    /// Ended and denied; the outcome is to come.
    untold: HashMap<CallId, Untold>,
    by_policy: HashMap<smol_str::SmolStr, Tally>,
    told: wire::Told,
    pub breakers: Breakers,
    /// What was said of denied calls of canaries: those are nobody's events.
    pub canary_told: BTreeMap<Guarantee, u64>,
    /// On their way out; taken by the owner.
    pub events: Batch,
    pub ended: u64,
    /// Events that could not wait for their outcome.
    pub outcomes_missed: u64,
}

struct Untold {
    call: ApiCall,
    findings: Vec<Finding>,
    verdict: Verdict,
}

/// What a policy has decided so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub matched: u64,
    pub denied: u64,
    /// Of those, the ones that enforce mode could not stop.
    pub passed: u64,
    /// Connections of its workload that have ended.
    pub reach: Reach,
}

impl<G: FlowGate> Pipeline<G> {
    pub fn new(intake: Intake, flows: Flows, calls: Calls, judge: Judge<G>) -> Self {
        Pipeline {
            intake,
            flows,
            calls,
            judge,
            now: KernelTime(0),
        }
    }

    /// One record from the ring, all the way.
    pub fn record(&mut self, record: &[u8], notice: &mut dyn FnMut(Notice)) {
        let Pipeline {
            intake,
            flows,
            calls,
            judge,
            now,
        } = self;
        intake.on(
            record,
            &mut |captured| pass(flows, calls, judge, now, captured),
            notice,
        );
    }

    /// Something that no record said: time passes, the kernel has dropped records.
    pub fn captured(&mut self, captured: Captured) {
        if let Captured::Tick { at } = captured {
            self.due(Some(at));
        }
        let Pipeline {
            flows,
            calls,
            judge,
            now,
            ..
        } = self;
        pass(flows, calls, judge, now, captured);
    }

    /// What capture has held back until now; with `None`, all of it.
    fn due(&mut self, at: Option<KernelTime>) {
        let Pipeline {
            intake,
            flows,
            calls,
            judge,
            now,
        } = self;
        intake.tick(at, &mut |captured| pass(flows, calls, judge, now, captured));
    }

    /// The kernel's own count says that `records` were dropped.
    pub fn lost(&mut self, at: KernelTime, records: u64) {
        let Pipeline {
            intake,
            flows,
            calls,
            judge,
            now,
        } = self;
        intake.lost(at, records, &mut |captured| {
            pass(flows, calls, judge, now, captured)
        });
    }

    /// The agent ends: what is open is told as it stands, outcomes with what is known of them.
    pub fn finish(&mut self, at: KernelTime) {
        self.due(None);
        let Pipeline { calls, judge, .. } = self;
        calls.finish(at, &mut |phase, call| judge.call(at, phase, call));
        judge.enforcement.finish();
        judge.tell();
    }

    /// Time of the last record.
    pub fn now(&self) -> KernelTime {
        self.now
    }
}

/// flow → decode, call → detect, policy, enforce, export.
fn pass<G: FlowGate>(
    flows: &mut Flows,
    calls: &mut Calls,
    judge: &mut Judge<G>,
    now: &mut KernelTime,
    mut captured: Captured,
) {
    if let Captured::Closed { flow, end, .. } = &mut captured {
        let own = judge.enforcement.own_bytes(*flow);
        if own > 0 {
            end.sent_end = u64::from((end.sent_end as u32).wrapping_sub(own));
            end.bytes_acked = end.bytes_acked.saturating_sub(u64::from(own));
        }
    }
    let closed = match &captured {
        Captured::Segment(segment) => {
            *now = segment.at;
            None
        }
        Captured::Handshake(handshake) => {
            *now = handshake.at;
            None
        }
        Captured::Stopped(stopped) => {
            *now = stopped.at;
            None
        }
        Captured::Closed { at, flow, end } => {
            *now = *at;
            Some((*flow, *end))
        }
        Captured::Parted { at, flow } => {
            *now = *at;
            judge.enforcement.on_parted(*at, *flow);
            None
        }
        Captured::Tick { at } | Captured::Lost { at, .. } => {
            *now = *at;
            None
        }
        Captured::Knocked { at, flow, process } => {
            *now = *at;
            judge.enforcement.on_knocked(*at, flow, process);
            None
        }
        Captured::Flow(_) => None,
    };
    let at = *now;
    let tick = matches!(captured, Captured::Tick { .. });
    flows.on(captured, &mut |item: Item| {
        calls.on(item, &mut |phase, call| judge.call(at, phase, call));
    });
    // After the calls of the flow: what they still decide counts.
    if let Some((flow, end)) = closed {
        judge.enforcement.on_closed(flow, &end);
        judge.open.remove(&flow);
    }
    if tick {
        judge.enforcement.on_tick(at);
    }
    judge.tell();
}

fn is_denial(verdict: &Verdict) -> bool {
    matches!(verdict.action, Action::Deny | Action::Kill)
}

impl<G: FlowGate> Judge<G> {
    /// `events`: where the first ones go.
    pub fn new(
        detectors: Detectors,
        engine: Engine,
        enforcement: Enforcement<G>,
        clock: Clock,
        inventory: Inventory,
        events: Batch,
    ) -> Self {
        Judge {
            detectors,
            breakers: Breakers::new(engine.set()),
            engine,
            enforcement,
            clock,
            inventory,
            vendors: Vendors::default(),
            judged: HashMap::new(),
            open: HashMap::new(),
            untold: HashMap::new(),
            by_policy: HashMap::new(),
            told: wire::Told::default(),
            canary_told: BTreeMap::new(),
            events,
            ended: 0,
            outcomes_missed: 0,
        }
    }

    fn call(&mut self, at: KernelTime, phase: Phase, call: &mut ApiCall) {
        match phase {
            Phase::Head => {
                *self.open.entry(call.flow.id).or_insert(0) += 1;
                self.inventory.begin(call);
            }
            Phase::Request => {}
            Phase::Complete => {
                if let Some(open) = self.open.get_mut(&call.flow.id) {
                    *open = open.saturating_sub(1);
                    if *open == 0 {
                        self.open.remove(&call.flow.id);
                    }
                }
            }
        }
        if phase == Phase::Complete && call.state == CallState::Answered {
            self.enforcement.on_answered(at, call.flow.id);
        }
        // Also where the verdict is final: what is in the call is told all the same.
        self.detectors.look(phase, call);
        self.vendors.mark(call, self.clock.unix_ns(call.request.head_at));
        // What was allowed here is not, if the gate's decision came behind.
        let undecided = match self.judged.get(&call.id) {
            None => true,
            Some(verdict) => call.stopped.is_some() && !is_denial(verdict),
        };
        // What there is to find is found where somebody asks for it: a rule, or whoever reads the event.
        let mut findings = None;
        if undecided {
            if phase == Phase::Complete || self.engine.asks_findings() {
                findings = Some(self.detectors.findings(call));
            }
            let known = findings.as_deref().unwrap_or_default();
            if let Some(verdict) = self.engine.evaluate(call, known, phase) {
                if is_denial(&verdict) {
                    let open = self.open.get(&call.flow.id).copied().unwrap_or(0);
                    let others = if phase == Phase::Complete {
                        open
                    } else {
                        open.saturating_sub(1)
                    };
                    self.enforcement.on_verdict(at, phase, call, &verdict, others);
                }
                let set = self.engine.set();
                self.breakers.count(set, &call.process, &verdict, at);
                self.judged.insert(call.id, verdict);
            }
        }
        let stops = |verdict: &Verdict| is_denial(verdict) && verdict.mode == Mode::Enforce;
        if phase == Phase::Head
            && self.enforcement.dead_flows() > 0
            && !self.judged.get(&call.id).is_some_and(stops)
        {
            self.enforcement.on_begun(call);
        }
        if phase == Phase::Complete
            && let Some(verdict) = self.judged.remove(&call.id)
        {
            self.ended += 1;
            self.count(&verdict);
            // Over the whole call: the response has its findings too.
            let findings = findings.unwrap_or_else(|| self.detectors.findings(call));
            if verdict.policy != canary::NAME {
                let denied = is_denial(&verdict);
                let at_ns = self.clock.unix_ns(call.request.head_at);
                self.inventory.ended(call, &findings, denied, at_ns);
                let detectors = &mut self.detectors;
                self.inventory.outline(call, &mut |name| detectors.shows(name));
            }
            self.finish(call, findings, verdict);
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        if !verdict.policy.is_empty() {
            let tally = self.tally(&verdict.policy);
            tally.matched += 1;
            tally.denied += u64::from(is_denial(verdict));
        }
    }

    /// A TLS connection that nobody reads: the inventory tells that it is, and where it goes.
    pub fn blind(&mut self, blind: &BlindTls) {
        if self.engine.set().is_canary(&blind.process) {
            return;
        }
        let at_ns = self.clock.unix_ns(blind.at);
        let third_party = self.vendors.of_blind(blind, at_ns);
        self.inventory.blind(blind, third_party, at_ns);
    }

    /// A connection has ended: it counts for the coverage of every policy whose workload it was.
    pub fn flow_ended(&mut self, ended: &Ended<'_>) {
        let set = self.engine.set().clone();
        if set.is_canary(ended.process) {
            return;
        }
        for policy in set.concerning(ended.process) {
            self.tally(&policy.name).reach.ended(ended);
        }
    }

    /// What a policy has decided so far; `None`: nothing, and none of its connections has ended.
    pub fn tally_of(&self, policy: &str) -> Option<&Tally> {
        self.by_policy.get(policy)
    }

    /// The same, to count on.
    pub fn tally(&mut self, policy: &smol_str::SmolStr) -> &mut Tally {
        self.by_policy.entry(policy.clone()).or_default()
    }

    fn finish(&mut self, call: &mut ApiCall, findings: Vec<Finding>, verdict: Verdict) {
        let outcome = match self.enforcement.outcome(call) {
            Answer::None => None,
            Answer::Ready(outcome) => Some(outcome),
            Answer::Pending if self.untold.len() < UNTOLD_CALLS_MAX => {
                let mut call = call.clone();
                call.raw = Raw::default();
                self.untold.insert(
                    call.id,
                    Untold {
                        call,
                        findings,
                        verdict,
                    },
                );
                return;
            }
            Answer::Pending => {
                self.outcomes_missed += 1;
                None
            }
        };
        self.tell_call(call, &findings, &verdict, outcome.as_ref());
    }

    fn tell_call(
        &mut self,
        call: &ApiCall,
        findings: &[Finding],
        verdict: &Verdict,
        outcome: Option<&Outcome>,
    ) {
        if verdict.policy != canary::NAME {
            let passed = outcome.is_some_and(Outcome::has_passed);
            if passed {
                self.tally(&verdict.policy).passed += 1;
            }
            self.told.call(&self.clock, call, findings, verdict, outcome);
            self.events.push_call(&mut self.told);
        } else if let Some(outcome) = outcome {
            *self.canary_told.entry(outcome.guarantee).or_default() += 1;
        }
    }

    /// Events whose outcome is known now.
    fn tell(&mut self) {
        for (id, outcome) in self.enforcement.finished() {
            if let Some(Untold {
                call,
                findings,
                verdict,
            }) = self.untold.remove(&id)
            {
                self.tell_call(&call, &findings, &verdict, Some(&outcome));
            }
        }
    }
}
