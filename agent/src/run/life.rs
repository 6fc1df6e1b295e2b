//! The life of the enforcement: what is kept when the agent ends, what was kept by the one before, and until when it
//! holds.
//!
//! A lease that the kernel itself checks ends enforcement that no living agent confirms. An agent that only starts over
//! and over again does not renew what it found: it has to serve for a while first.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use apiward_common::owner::Owner;
use aya::maps::MapError;

use super::{Agent, Signals, gate, listeners};
use crate::config::{Config, OnExit};
use crate::export::command::{Asked, Command, Prove, RELEASED, Term};
use crate::export::facts::Facts;
use crate::export::wire;
use crate::kernel::links::CgroupHook;
use crate::kernel::load::Adopted;
use crate::kernel::netlink::{DiagError, Namespaces, Sockets, list_namespaces};
use crate::kernel::pins::{self, Keeper, Kept, Lease, Removed};
use crate::policy::Mode;
use crate::policy::breaker::Breakers;

/// The lease is renewed when this part of it is over.
const RENEWALS: u32 = 4;
/// How often it is asked whether what is attached still is.
const MEND: Duration = Duration::from_secs(2);
/// More than a program takes to look at a call.
const LOOK: Duration = Duration::from_millis(20);
/// How often a released agent looks whether anything is asked of it.
const IDLE: Duration = Duration::from_millis(50);

/// What runs in the kernel on the agent's behalf, and how long it does.
pub(super) struct Life {
    /// `None`: the kernel does not take the program.
    egress: Option<CgroupHook>,
    lease: Lease,
    keeper: Keeper,
    keep: bool,
    keep_for: Duration,
    adopted: Option<Adopted>,
    /// When the lease is renewed next.
    renew_at: Instant,
    mended: Instant,
    /// Back to observing then.
    until: Option<Until>,
    /// Why nothing is kept although it should be; empty if it is.
    missing: String,
    /// Why the probes of TLS libraries do not judge, if an earlier agent's do; empty else.
    turn_missed: String,
    /// Programs that somebody else has detached, and that could not be attached again.
    open: Vec<String>,
    /// How often somebody else has detached a program.
    pub detached: u64,
    /// How often a policy denied too much and was put back to observing.
    pub tripped: u64,
    pub released: bool,
}

#[derive(Clone, Copy)]
struct Until {
    at: Instant,
    /// As it was asked for.
    span: Duration,
}

impl Life {
    pub fn new(
        config: &Config,
        egress: Option<CgroupHook>,
        lease: Lease,
        keeper: Keeper,
        adopted: Option<Adopted>,
    ) -> Self {
        let renew_at = Instant::now() + pins::proving(config.keep_for);
        Life {
            egress,
            lease,
            keeper,
            keep: config.on_exit == OnExit::Keep,
            keep_for: config.keep_for,
            adopted,
            renew_at,
            mended: Instant::now(),
            until: None,
            missing: String::new(),
            turn_missed: String::new(),
            open: Vec::new(),
            detached: 0,
            tripped: 0,
            released: false,
        }
    }

    /// Attached by the time that the gate judges.
    fn attach_egress(&mut self) -> Result<(), String> {
        match &mut self.egress {
            Some(hook) => hook
                .attach()
                .map_err(|error| format!("the program for what leaves does not attach: {error}")),
            None => Ok(()),
        }
    }

    fn dead_of_others(&self, gate: Option<&mut gate::Gate>) -> HashSet<u64> {
        let dead = self.keeper.dead_of_others(gate.map(gate::Gate::maps));
        dead.unwrap_or_else(|error| {
            tracing::error!(%error, "what an earlier agent has denied cannot be carried over");
            HashSet::new()
        })
    }

    /// What was found, or begun with, holds until it may be renewed.
    pub fn begin_to_serve(&mut self) {
        if let Err(error) = self.lease.bridge(self.keep_for) {
            tracing::error!(%error, "the lease is not renewed: what is denied may pass");
        }
        self.renew_at = Instant::now() + pins::proving(self.keep_for);
    }

    /// How long denials are to hold from now on: no longer than the mode is asked for.
    fn span(&self) -> Duration {
        let left = |until: Until| until.at.saturating_duration_since(Instant::now());
        self.until
            .map_or(self.keep_for, |until| self.keep_for.min(left(until)))
    }

    fn renew(&mut self) {
        if let Err(error) = self.lease.renew(self.span()) {
            tracing::error!(%error, "the lease is not renewed: what is denied will pass");
        }
        self.renew_at = Instant::now() + self.keep_for / RENEWALS;
    }

    /// What is in force is kept, or nothing is, and never what only canaries have put there; what an earlier agent has kept
    /// is let go of, because this one's own programs are attached.
    fn settle(&mut self, gate: Option<&mut gate::Gate>, mode: Mode) -> Removed {
        let in_force = gate.filter(|gate| gate.is_in_force() && mode == Mode::Enforce);
        match in_force {
            Some(gate) if self.keep => {
                let hooks: Vec<&CgroupHook> =
                    self.egress.iter().chain(std::iter::once(&*gate.hook())).collect();
                self.missing = match self.keeper.keep(&hooks) {
                    Ok(()) => String::new(),
                    Err(error) => {
                        tracing::error!("what is enforced ends with the agent: {error}");
                        error.to_string()
                    }
                };
            }
            _ => {
                self.missing.clear();
                self.keeper.let_go();
            }
        }
        let others = self.keeper.others();
        if let Err(error) = self.take_turn(&others) {
            // The earlier run's programs are all there is.
            self.turn_missed = error.to_string();
            tracing::error!(%error, "the probes of TLS libraries do not take their turn: those of an earlier agent stay");
            return Removed::default();
        }
        self.turn_missed.clear();
        self.keeper.remove_others(others).unwrap_or_else(|error| {
            tracing::error!("what an earlier agent has kept cannot be let go of: {error}");
            Removed::default()
        })
    }

    /// At TLS libraries this run's programs judge from now on. `others`: those of earlier runs that are there yet.
    fn take_turn(&mut self, others: &[Kept]) -> Result<(), MapError> {
        let run = self.keeper.number();
        if !others.is_empty() {
            self.keeper.end_other_turns(others);
            self.lease.take_turn(run, true)?;
            // Who looks at a call now is done by then.
            std::thread::sleep(LOOK);
        }
        self.lease.take_turn(run, false)
    }

    /// So many heads have been denied: noted for the next agent.
    pub fn denied(&mut self, heads: u64) {
        self.lease.note_denied(heads);
    }

    /// What becomes of enforcement when the agent ends, for people.
    pub fn words(&self) -> String {
        let lease = crate::yaml::show_duration(self.keep_for);
        match (self.keep, self.keeper.is_pinned()) {
            (false, _) => "release: it ends with the agent".into(),
            (true, true) => format!("keep: the gate goes on for {lease} without an agent"),
            (true, false) if self.missing.is_empty() => "keep: nothing is in force that could be kept".into(),
            (true, false) => format!("keep: nothing is kept ({})", self.missing),
        }
    }

    /// When the mode goes back to observing (wall clock, ns); 0: it does not.
    pub fn mode_until_ns(&self) -> u64 {
        let Some(until) = self.until else { return 0 };
        let left = until.at.saturating_duration_since(Instant::now());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from((now.unwrap_or_default() + left).as_nanos()).unwrap_or(u64::MAX)
    }

    /// What is wrong with it; one line each.
    pub fn degraded(&self) -> Vec<String> {
        let mut lines = self.open.clone();
        if !self.missing.is_empty() {
            lines.push(format!("`on_exit: keep` keeps nothing: {}", self.missing));
        }
        let unkept = self.keeper.probes_unkept();
        if unkept > 0 {
            let probes = super::plural(unkept as usize, "probe", "probes");
            lines.push(format!(
                "`on_exit: keep` does not keep {probes} of TLS libraries: the log says why"
            ));
        }
        if !self.turn_missed.is_empty() {
            lines.push(format!(
                "inside TLS an earlier agent's programs judge, by what they knew: {}",
                self.turn_missed
            ));
        }
        if self.released {
            lines.push("everything was released: restart the agent to go on".into());
        }
        lines
    }

    /// The agent ends. Returns what becomes of what it enforces, for people.
    pub fn end(mut self) -> String {
        if self.keeper.is_pinned() {
            let left = self.lease.left().as_secs();
            return format!("the gate goes on without an agent, for {left} s at most");
        }
        self.keeper.let_go();
        "every program is detached".into()
    }
}

/// Answers until it is told to stop, and does nothing else.
pub(super) fn idle(facts: &Facts, commands: &mut tokio::sync::mpsc::Receiver<Command>, signals: &Signals) {
    const WHY: &str = "everything was released: restart the agent to go on";
    while !signals.stop.load(Ordering::Relaxed) {
        std::thread::sleep(IDLE);
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Facts { reply } => drop(reply.send(facts.clone())),
                Command::Release { asked } => {
                    asked.accept(RELEASED, RELEASED, "everything was released before");
                }
                Command::SetMode { asked, .. }
                | Command::ReloadPolicies { asked }
                | Command::UndoPolicies { asked }
                | Command::PushPolicies { asked, .. }
                | Command::Prove(Prove::End { asked, .. }) => asked.refuse(WHY),
                Command::Prove(Prove::Begin { asked, reply }) => {
                    asked.refuse(WHY);
                    let _ = reply.send(Err(WHY.to_owned()));
                }
                // Unanswered, it says that the run, or whoever knows, is over.
                Command::Prove(Prove::Settle { .. }) | Command::Inventory { .. } => {}
            }
        }
    }
}

/// Aborts connections that are dead by what an earlier agent has left in force: nobody has told their ends. Returns how
/// many it were, and those that are still there.
fn reset(dead: &HashSet<u64>) -> (usize, Vec<u64>) {
    let (mut count, mut left) = (0, Vec::new());
    if dead.is_empty() {
        return (count, left);
    }
    let mut namespaces = Namespaces::default();
    for space in list_namespaces().unwrap_or_default() {
        let Ok(diag) = namespaces.open(&space) else {
            continue;
        };
        let connections = diag.dump(Sockets::Connections, false).unwrap_or_default();
        for entry in connections.iter().filter(|entry| dead.contains(&entry.cookie)) {
            match diag.destroy(entry.local, entry.remote, entry.cookie) {
                Ok(()) => count += 1,
                // It has ended meanwhile.
                Err(DiagError::Gone) => {}
                Err(_) => left.push(entry.cookie),
            }
        }
    }
    (count, left)
}

impl Agent {
    /// The gate goes by what is in force: policies and mode.
    pub(super) fn replace_gate(&mut self) {
        let Agent {
            gate,
            life,
            pipeline,
            maps,
            sight,
            exports,
            ..
        } = self;
        let mode = pipeline.judge.engine.mode();
        let adopted = life.adopted.take();
        if let Some(gate) = gate {
            if adopted.is_some() {
                // The kernel goes by the numbers that they were given: they are to mean the same in the new tables.
                for owner in sight.running().into_iter().filter_map(listeners::owner_of) {
                    gate.learn(owner.identity(), &pipeline.intake.process_of(&owner));
                }
            }
            let engine = &mut pipeline.judge.engine;
            let attached = life.attach_egress();
            let set = engine.set().clone();
            let mut is_new = gate.replace(&set, mode, engine);
            is_new |= adopted.is_some() && gate.is_in_force();
            if let Err(why) = attached {
                tracing::error!("{why}");
                gate.missing = why;
            }
            if is_new {
                let judged = |owner: &Owner| {
                    sight.has(owner.pid) && !sight.is_exempt(owner.pid) && !maps.is_exempt(&owner.exe())
                };
                for (cookie, port, owner) in listeners::running(judged) {
                    gate.listens(cookie, port, owner, &pipeline.intake.process_of(&owner));
                }
                // And whoever may connect: else their first connections are left to the pipeline.
                for owner in sight.running().into_iter().filter_map(listeners::owner_of) {
                    gate.learn(owner.identity(), &pipeline.intake.process_of(&owner));
                }
            }
            if !gate.missing.is_empty() {
                exports.send(vec![wire::agent_state("gate-open", gate.missing.clone())]);
            }
        }
        let Some(adopted) = adopted else {
            life.settle(gate.as_mut(), mode);
            return;
        };
        if gate.as_ref().is_some_and(|gate| !gate.missing.is_empty()) {
            // Those of an earlier agent are all there is: they stay until this one's own can take their place.
            life.adopted = Some(adopted);
            return;
        }
        // Nobody has told the ends of what was denied. Before the programs go that hold it up, and again for what they
        // have denied meanwhile: TCP repeats itself, but not that quickly.
        let dead = life.dead_of_others(gate.as_mut());
        let (early, _) = reset(&dead);
        let mut removed = life.settle(gate.as_mut(), mode);
        removed.dead.extend(dead);
        let (late, left) = reset(&removed.dead);
        for cookie in removed.dead.iter().filter(|cookie| !left.contains(cookie)) {
            pipeline.judge.enforcement.forget(*cookie);
        }
        life.begin_to_serve();
        let detail = format!(
            "what an earlier agent had kept in force{}: {} denied while no agent ran, {} reset, {} taken off",
            if adopted.is_shared {
                ""
            } else {
                " (of another version: connections that are open now are left to the pipeline)"
            },
            super::plural(removed.denied as usize, "head", "heads"),
            super::plural(early + late, "connection", "connections"),
            super::plural(removed.links, "program", "programs"),
        );
        tracing::info!("taken over: {detail}");
        exports.send(vec![wire::agent_state("adopted", detail)]);
    }

    /// Switches the mode, for good or for a time.
    pub(super) fn set_mode(&mut self, mode: Mode, term: Term, asked: Asked) {
        let old = self.pipeline.judge.engine.mode();
        let span = match term {
            Term::Confirm if self.life.until.is_none() => {
                asked.refuse(format!(
                    "nothing is to be confirmed: the mode is {}, and no time runs",
                    old.as_str()
                ));
                return;
            }
            Term::For(span) if mode == Mode::Enforce => Some(span),
            _ => None,
        };
        self.life.until = span.map(|span| Until {
            at: Instant::now() + span,
            span,
        });
        self.life.renew();
        if mode == Mode::Enforce && term != Term::Confirm {
            self.rearm();
        }
        self.pipeline.judge.engine.set_mode(mode);
        self.put_in_force();
        self.telemetry.set_enforcing(mode == Mode::Enforce);
        let until = span.map_or_else(String::new, |span| {
            format!(", for {} unless confirmed", crate::yaml::show_duration(span))
        });
        asked.accept(
            old.as_str(),
            mode.as_str(),
            format!("the agent's mode is {}{until}", mode.as_str()),
        );
    }

    /// Takes away what can stop anything; the rest goes when the loop ends, which is at once.
    pub(super) fn release(&mut self, asked: Asked) {
        let old = self.pipeline.judge.engine.mode();
        self.life.until = None;
        self.life.keep = false;
        self.life.released = true;
        self.pipeline.judge.engine.set_mode(Mode::Observe);
        self.drop_canaries();
        self.put_in_force();
        if let Some(gate) = &mut self.gate {
            gate.hook().detach();
        }
        if let Some(egress) = &mut self.life.egress {
            egress.detach();
        }
        self.telemetry.set_enforcing(false);
        self.telemetry.set_ready(false);
        asked.accept(
            old.as_str(),
            RELEASED,
            "everything is detached, and nothing is kept; the agent does nothing more until it is restarted",
        );
    }

    /// Policies that have denied too much are in their own mode again.
    fn rearm(&mut self) {
        self.pipeline.judge.breakers = Breakers::new(&self.policies);
        if self.policies.rearm() {
            let digest = self.policies.digest();
            let why = "`apiward mode enforce` arms breakers again";
            let asked = Asked::unattended(&self.exports, "policy", "the policies' breakers", why);
            let old = asked.in_force();
            asked.accept(
                old,
                digest,
                "what had observed because of its breaker enforces again",
            );
        }
    }

    /// Policies that have denied too much observe from here on.
    fn trip(&mut self) {
        let tripped = self.pipeline.judge.breakers.take_tripped();
        if tripped.is_empty() {
            return;
        }
        let mode = self.pipeline.judge.engine.mode();
        for one in tripped {
            let Some(policy) = self.policies.policies().get(one.position) else {
                continue;
            };
            if !policy.trip() {
                continue;
            }
            self.life.tripped += 1;
            let window = policy
                .max_denied
                .map(|max| crate::yaml::show_duration(max.window));
            let why = format!(
                "policy {}: {} of {} calls within {} were denied, more than its max_denied",
                policy.name,
                one.denied,
                one.judged,
                window.unwrap_or_default()
            );
            tracing::error!(
                "{why}: it observes until it is loaded again, or `apiward mode enforce` is asked for"
            );
            let digest = self.policies.digest();
            let observing = format!("{digest} ({} observes)", policy.name);
            let detail = format!("{why}: it observes");
            self.exports
                .send(vec![wire::agent_state("breaker-tripped", detail)]);
            Asked::unattended(&self.exports, "policy", "the policy's breaker", why).accept(
                digest,
                observing,
                "it observes",
            );
        }
        self.pipeline.judge.engine.set_mode(mode);
        self.replace_gate();
    }

    /// Time has passed.
    pub(super) fn live(&mut self) {
        self.trip();
        let now = Instant::now();
        if let Some(until) = self.life.until
            && now >= until.at
        {
            let asked = Asked::unattended(
                &self.exports,
                "mode",
                "the agent",
                format!(
                    "nobody confirmed it within {}",
                    crate::yaml::show_duration(until.span)
                ),
            );
            tracing::warn!("the mode goes back to observe: nobody has confirmed it");
            self.set_mode(Mode::Observe, Term::ForGood, asked);
        }
        if now >= self.life.renew_at && !self.life.lease.is_released() {
            self.life.renew();
            if self.life.adopted.is_some() {
                // Perhaps there is room for this one's own programs now.
                self.replace_gate();
            }
        }
        if self.life.mended.elapsed() >= MEND {
            self.life.mended = now;
            match self.life.lease.is_released() {
                true => {
                    let why = "`apiward release` was asked for while the agent did not answer";
                    let asked = Asked::unattended(&self.exports, "mode", "apiward release", why);
                    self.release(asked);
                }
                false => self.mend(),
            }
        }
    }

    /// Attaches again what somebody else has detached.
    fn mend(&mut self) {
        let mode = self.pipeline.judge.engine.mode();
        let Agent {
            life, gate, exports, ..
        } = self;
        let hooks = life.egress.iter_mut().chain(gate.as_mut().map(gate::Gate::hook));
        let found: Vec<_> = hooks.flat_map(CgroupHook::mend).collect();
        life.open.retain(|open| {
            found
                .iter()
                .any(|one| !one.failure.is_empty() && open.starts_with(&one.place))
        });
        for one in &found {
            life.detached += 1;
            let detail = match one.failure.as_str() {
                "" => format!(
                    "{} was detached by somebody else, and is attached again",
                    one.place
                ),
                failure => format!(
                    "{} was detached by somebody else, and cannot be attached again: {failure}",
                    one.place
                ),
            };
            if !one.failure.is_empty() {
                if life.open.contains(&detail) {
                    continue;
                }
                life.open.push(detail.clone());
            }
            tracing::error!("{detail}: look for who does that (`bpftool link`)");
            exports.send(vec![wire::agent_state("program-detached", detail)]);
        }
        if !found.is_empty() && life.keeper.is_pinned() {
            life.settle(gate.as_mut(), mode);
        }
    }
}
