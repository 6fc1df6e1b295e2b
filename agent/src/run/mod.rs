//! The running agent: everything is set up in order, then one thread takes records until it is told to stop.
//!
//! What can fail fails before anything is attached; what cannot be had is said and done without. When the loop
//! ends, dropping the programs detaches them: nothing stays behind.

mod drops;
mod facts;
mod gate;
mod inventory;
mod life;
mod listeners;
pub mod lock;
mod policies;
mod prove;
mod scope;
mod start;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::call;
use crate::capture::intake::Notice;
use crate::capture::libraries::{Libraries, Request};
use crate::capture::{Captured, FlowInfo, GapReason, KernelTime, Process};
use crate::config::Config;
use crate::enforce::{Actions, Egress, GateError, Withholding};
use crate::export::command::{Asked, Command};
use crate::export::{Exports, clock, control, wire};
use crate::kernel::egress::EgressMaps;
use crate::kernel::load::Maps;
use crate::kernel::ring::Ring;
use crate::kernel::run_times::RunTimes;
use crate::pipeline::Pipeline;
use crate::policy::breaker::Breakers;
use crate::policy::coverage::Ended;
use crate::policy::{Action, Mode, PolicySet};
use crate::telemetry::Telemetry;

pub use start::start;
use turn::{Turn, Waits};

/// Why a connection is unseen: bytes are missing, by overload or by a way that no hook sees, where requests may have been.
const GAP: &str = "gap";
/// Records taken before anything else is looked after.
const DRAIN_RECORDS_MAX: usize = 512;
/// Longest sleep without traffic.
const SLEEP: Duration = Duration::from_millis(500);
/// How often time is passed on to stages that wait for it.
const TICK: Duration = Duration::from_secs(1);
/// How often it is noted how far everything is seen.
const SEEN: Duration = Duration::from_millis(500);
/// How often losses become events.
const LOSSES: Duration = Duration::from_secs(5);
/// How long an event waits at most for others to go on with, while the agent observes, and for how many: what they take
/// stays within a processor's own cache.
const GATHERING: Duration = Duration::from_millis(10);
const GATHERED_EVENTS_MAX: usize = 128;
/// Full drains in a row that count as overload, and empty ones that end it.
const OVERLOAD_DRAINS: u32 = 128;

impl Withholding for EgressMaps {
    fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), GateError> {
        EgressMaps::withhold(self, cookie, from).map_err(|error| GateError::Failed(error.to_string()))
    }

    fn release(&mut self, cookie: u64) {
        EgressMaps::release(self, cookie);
    }

    fn egress(&mut self, cookie: u64) -> Option<Egress> {
        let (passed_end, at) = self.passed(cookie)?;
        Some(Egress {
            passed_end,
            passed_at: Some(KernelTime(at)),
            gate_from: self.gate_from(cookie),
        })
    }

    fn received_start(&mut self, cookie: u64) -> Option<u32> {
        EgressMaps::received_start(self, cookie)
    }
}

/// A running agent.
pub struct Agent {
    config: Config,
    exports: Exports,
    telemetry: Arc<Telemetry>,
    commands: tokio::sync::mpsc::Receiver<Command>,
    pipeline: Pipeline<Actions<EgressMaps>>,
    ring: Ring,
    maps: Maps,
    libraries: Libraries,
    libraries_known: u64,
    executables: scope::Executables,
    sight: scope::Sight,
    /// Where the kernel takes its programs.
    gate: Option<gate::Gate>,
    life: life::Life,
    capabilities: Vec<crate::kernel::load::Capability>,
    policies: Arc<PolicySet>,
    policies_from: Origin,
    /// What was in force before the last change, to go back to.
    policies_before: Option<(Arc<PolicySet>, Origin)>,
    drops: drops::Drops,
    proof: prove::Proof,
    /// Operations of exempt processes, by the kernel's count.
    operations_exempt: u64,
    held: Option<Held>,
    paths_raw: bool,
    telling: inventory::Telling,
    run_times: RunTimes,
    ticks: u64,
    overload: Overload,
    ticked: Instant,
    losses_told: Instant,
    /// `None` until all has been taken that was in the ring at first: it may have been full since the programs are attached.
    seen_noted: Option<Instant>,
    seeing: Option<Seeing>,
    /// Since when events are gathered.
    told_at: Instant,
}

/// A moment, until all that was in the ring then is taken.
#[derive(Clone, Copy, Debug)]
struct Seeing {
    /// Wall clock, ns.
    began_ns: u64,
    /// Bytes that had been taken by then.
    taken_bytes: u64,
}

/// What is given back last: whoever finds the socket gone or the lock free may start the next agent.
#[derive(Debug)]
struct Held {
    place: control::Place,
    lock: lock::HostLock,
}

/// Where the policies in force came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The configured files.
    Files,
    /// A collector, in their place. They last until the next reload or restart: what an agent does is read from its
    /// own host's files, and nobody far away can change it for good.
    Collector,
}

impl Origin {
    fn words(self) -> &'static str {
        match self {
            Origin::Files => "this host's files",
            Origin::Collector => "a collector, until the next reload or restart",
        }
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[derive(Default)]
struct Overload {
    on: bool,
    full: u32,
    calm: u32,
}

/// Signals that change what the agent does.
#[derive(Clone, Default)]
pub struct Signals {
    /// SIGTERM, SIGINT.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP: read the policies again.
    pub reload: Arc<AtomicBool>,
}

impl Agent {
    /// Takes records until it is told to stop.
    pub fn serve(&mut self, signals: &Signals) {
        let mut turn = Turn::default();
        let mut waited = Instant::now();
        while !signals.stop.load(Ordering::Relaxed) {
            let late = waited.elapsed();
            let waits = self.waits();
            let began_ns = clock::wall_ns();
            if self.seen_noted.is_none_or(|noted| noted.elapsed() >= SEEN) {
                let taken_bytes = self.drops.taken_bytes();
                self.seeing.get_or_insert(Seeing {
                    began_ns,
                    taken_bytes,
                });
            }
            self.ring.listen(waits.until(SLEEP));
            let records = self.drain();
            let denied = self.pipeline.judge.enforcement.stats().denied;
            turn.take(waits, denied, records, late);
            // Whether all that was in the ring by then is out of it.
            let seen = self.seeing.take_if(|seeing| {
                records < DRAIN_RECORDS_MAX || self.drops.is_round_since(seeing.taken_bytes)
            });
            self.after_batch(records, seen.is_none() && waits != Waits::Everybody);
            if let Some(seen) = seen {
                self.seen_noted = Some(Instant::now());
                self.exports.seen_until(seen.began_ns);
            }
            if signals.reload.swap(false, Ordering::Relaxed) {
                let asked = Asked::unattended(&self.exports, "policy", "signal", "SIGHUP");
                self.reload(asked);
            }
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            if self.life.released {
                break;
            }
            let now = clock::now();
            self.pipeline.judge.enforcement.retry(now);
            if records < DRAIN_RECORDS_MAX {
                let limit = self.pipeline.judge.enforcement.retry_in(now);
                let limit = limit.map_or(SLEEP, |soon| soon.min(SLEEP));
                let until = waits.until(limit);
                waited = Instant::now();
                if !self.ring.wait(until, limit) {
                    // It slept until there was something.
                    waited = Instant::now();
                }
            }
        }
        if self.proof.is_running() {
            // They end with the agent, also where enforcement does not.
            self.drop_canaries();
            self.put_in_force();
        }
        while self.drain() == DRAIN_RECORDS_MAX {}
        let now = clock::now();
        self.ask_drops(now);
        self.pipeline.finish(now);
        self.tell_losses();
        self.tell_inventory(true);
        self.measure();
        self.after_batch(0, false);
    }

    /// Ends the exporters in good order. What is not kept is detached first; after a release the agent stays until it is
    /// told to stop, and answers: whoever watches over it would start it again.
    pub fn stop(self, signals: &Signals) {
        self.telemetry.set_ready(false);
        let facts = self.life.released.then(|| self.facts());
        let Agent {
            exports,
            pipeline,
            libraries,
            ring,
            maps,
            held,
            gate,
            life,
            mut commands,
            ..
        } = self;
        let detail = life.end();
        drop((pipeline, libraries, ring, maps, gate));
        if let Some(facts) = facts {
            exports.send(vec![wire::agent_state("released", detail.as_str())]);
            life::idle(&facts, &mut commands, signals);
        }
        exports.send(vec![wire::agent_state("stopping", detail)]);
        exports.shutdown(Duration::from_secs(3));
        if let Some(Held { place, lock }) = held {
            drop(place);
            drop(lock);
        }
    }

    fn drain(&mut self) -> usize {
        let listed = self.libraries.shared();
        if self.libraries_known != listed.changes() {
            let infos = listed
                .libraries()
                .iter()
                .map(|known| known.info.clone())
                .collect();
            self.libraries_known = listed.changes();
            self.pipeline.intake.set_libraries(infos);
        }
        drop(listed);
        let Agent {
            ring,
            pipeline,
            libraries,
            executables,
            maps,
            gate,
            drops,
            exports,
            ..
        } = self;
        let (mut unseen, mut ended) = (Vec::new(), Vec::new());
        let records = ring.drain(DRAIN_RECORDS_MAX, |record| {
            if drops.is_due(record.len()) {
                let fresh = drops.fresh(&maps.counters());
                if fresh > 0 {
                    pipeline.lost(clock::now(), fresh);
                }
            }
            pipeline.record(record, &mut |notice| match notice {
                Notice::Mapped { at, pid, file, name } => {
                    libraries.request(Request::Mapped { at, pid, file, name });
                }
                Notice::Unseen {
                    info,
                    process,
                    reason,
                } => unseen.push((info, process, reason)),
                Notice::Ended {
                    process,
                    bytes,
                    enforceable,
                    seen,
                    ..
                } => {
                    ended.push((process, bytes, enforceable, seen));
                }
                Notice::Executed { at, process, file } => {
                    executables.list(process.exe.as_ref(), file, maps);
                    if let Some(gate) = gate {
                        gate.learn(gate::identity_of(&process, &file), &process);
                    }
                    let (pid, exe) = (process.pid, process.exe.clone());
                    libraries.request(Request::Executed { at, pid, file, exe });
                }
                Notice::Owner { process, identity } => {
                    if let Some(gate) = gate {
                        gate.learn(identity, &process);
                    }
                }
            });
            exports.hand_on_full(&mut pipeline.judge.events);
        });
        // Before the ends: a short connection may have begun and ended in this batch.
        for call::Unread { flow, process, why } in self.pipeline.calls.take_unread() {
            match why {
                call::UnreadWhy::Gap => self.unseen(&flow, &process, GAP),
            }
        }
        for carrier in self.pipeline.calls.take_beyond_http1() {
            self.ring.hasten(carrier);
        }
        for blind in self.pipeline.calls.take_blind() {
            self.pipeline.judge.blind(&blind);
        }
        for (process, bytes, enforceable, seen) in ended {
            self.pipeline.judge.flow_ended(&Ended {
                process: &process,
                bytes,
                out_of_reach: match (seen, enforceable) {
                    (false, _) => Some("unknown-tls"),
                    (_, false) => Some(prove::UNENFORCEABLE),
                    _ => None,
                },
                seen,
            });
        }
        for (info, process, reason) in unseen {
            self.unseen(&info, &process, reason.as_str());
        }
        records
    }

    /// A connection that nothing can read: the first policy that says something of it decides.
    fn unseen(&mut self, info: &FlowInfo, process: &Process, reason: &str) {
        let judge = &mut self.pipeline.judge;
        let Some(verdict) = judge.engine.evaluate_unseen(process) else {
            return;
        };
        let done = match (verdict.action, verdict.mode) {
            (Action::Deny | Action::Kill, Mode::Enforce) => match judge.enforcement.cut_unseen(info) {
                Ok(()) => "it was cut".to_owned(),
                Err(error) => format!("it could not be cut: {error}"),
            },
            (Action::Deny | Action::Kill, Mode::Observe) => "enforce mode would have cut it".to_owned(),
            _ => "reported".to_owned(),
        };
        self.exports.send(vec![wire::flow_loss(wire::Loss {
            reason: "unseen",
            process: Some(process),
            detail: format!("{reason}: policy {} {}: {done}", verdict.policy, verdict.rule),
            ..wire::Loss::default()
        })]);
    }

    /// `may_gather`: what there is to tell need not be handed on now.
    fn after_batch(&mut self, records: usize, may_gather: bool) {
        let now = clock::now();
        if self.pipeline.intake.take_suspect() {
            self.ask_drops(now);
        }
        self.weigh(records);
        self.live();
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.ask_drops(now);
            // What has waited too long by the clock may have come, and lie in the ring.
            let reached = match records < DRAIN_RECORDS_MAX {
                true => now,
                false => self.pipeline.intake.reached(),
            };
            self.pipeline.captured(Captured::Tick { at: reached });
            self.pipeline.judge.clock.refresh(now);
            self.tell_libraries();
            self.list_containers();
            self.end_raw_paths();
            self.tell_inventory(false);
            self.prove_on_tick(now);
            self.measure();
            self.sample_run_times();
        }
        if self.losses_told.elapsed() >= LOSSES {
            self.losses_told = Instant::now();
            self.tell_losses();
        }
        self.tell_accounts();
        self.hand_on(records, may_gather);
    }

    /// Hands on what is told. While nobody waits for it, several batches go together: each that is handed on wakes two
    /// threads, which write and send.
    fn hand_on(&mut self, records: usize, may_gather: bool) {
        let judge = &mut self.pipeline.judge;
        if judge.events.is_empty() {
            self.told_at = Instant::now();
            return;
        }
        let gathers = records > 0
            && may_gather
            && judge.events.len() < GATHERED_EVENTS_MAX
            && self.told_at.elapsed() < GATHERING;
        if !gathers {
            self.exports.take_over(&mut judge.events);
            self.told_at = Instant::now();
        }
    }

    /// The kernel's own count of what it dropped.
    fn ask_drops(&mut self, now: KernelTime) {
        let counters = self.maps.counters();
        self.operations_exempt = counters.exempt;
        self.telemetry.set_operations_exempt(counters.exempt);
        self.telemetry.set_gate_again(counters.gate_again);
        self.life.denied(counters.gate_denied);
        let fresh = self.drops.fresh(&counters);
        if fresh > 0 {
            self.pipeline.lost(now, fresh);
        }
        for (name, total) in [
            ("ring-records", counters.dropped_records),
            ("ring-bytes", counters.dropped_bytes),
            ("shed-operations", counters.shed_operations),
            ("shed-bytes", counters.shed_bytes),
            ("other-carriers", counters.other_carriers),
            ("no-cookie", counters.no_cookie),
            ("mptcp", counters.mptcp),
            ("compat-calls", counters.compat),
            ("unreadable-bytes", counters.unreadable),
            ("gate-lost", counters.gate_lost),
            ("gate-unowned", counters.gate_unowned),
            ("gate-full", counters.gate_full),
            ("gate-expired", counters.gate_expired),
            ("programs-detached", self.life.detached),
            ("policies-tripped", self.life.tripped),
        ] {
            self.telemetry.set_loss_total(name, total);
        }
    }

    /// Under overload bodies are given up first; the state is an event.
    fn weigh(&mut self, records: usize) {
        let overload = &mut self.overload;
        if records == DRAIN_RECORDS_MAX {
            overload.full += 1;
            overload.calm = 0;
        } else {
            overload.calm += 1;
            overload.full = 0;
        }
        if !overload.on && overload.full >= OVERLOAD_DRAINS {
            overload.on = true;
            self.pipeline.calls.set_body_bytes_max(0);
            let event = wire::agent_state(
                "overload-began",
                "bodies are counted and not kept until it is over",
            );
            self.exports.send(vec![event]);
        } else if overload.on && overload.calm >= OVERLOAD_DRAINS {
            overload.on = false;
            self.pipeline
                .calls
                .set_body_bytes_max(self.config.capture.body_bytes_max as usize);
            self.exports
                .send(vec![wire::agent_state("overload-ended", "bodies are kept again")]);
        }
    }

    /// What became of the bytes of connections that have ended.
    fn tell_accounts(&mut self) {
        let judge = &mut self.pipeline.judge;
        for ledger in self.pipeline.flows.take_ledgers() {
            // Behind the connection's calls.
            judge.events.push(&wire::flow_end(&judge.clock, &ledger));
        }
    }

    fn tell_losses(&mut self) {
        let mut events = Vec::new();
        for loss in self.pipeline.flows.take_losses() {
            let (reason, detail) = match loss.reason {
                // Never among them: the call says that it is cut short.
                GapReason::Limit => continue,
                GapReason::Lost => ("ring", "the ring had no room"),
                GapReason::Sendfile => ("sendfile", "sent from a file, never in the process's memory"),
                GapReason::Unreadable => ("unread", "the process's memory could not be read"),
                GapReason::Unseen => ("unseen", "moved by something that no hook sees"),
                GapReason::Overload => ("overload", "given up under overload"),
            };
            events.push(wire::flow_loss(wire::Loss {
                reason,
                process: loss.process.as_deref(),
                bytes: loss.bytes,
                records: loss.gaps,
                detail: detail.to_owned(),
                ..wire::Loss::default()
            }));
        }
        self.exports.send(events);
    }

    fn tell_libraries(&mut self) {
        let reports = self.libraries.shared().take_reports();
        let now = clock::now();
        for report in reports {
            self.maps.library_known(report.file);
            let what = if report.attached {
                "library-attached"
            } else {
                "library-failed"
            };
            let separator = if report.detail.is_empty() { "" } else { ": " };
            let mut events = vec![wire::agent_state(
                what,
                format!("{}{separator}{}", report.path, report.detail),
            )];
            // What the library's first users did before the probes came was not seen.
            if let Some(mapped_at) = report.mapped_at {
                events.push(wire::flow_loss(wire::Loss {
                    reason: "tls-attach",
                    duration_ns: report.attached_at.unwrap_or(now).since(mapped_at),
                    detail: report.path.clone(),
                    ..wire::Loss::default()
                }));
            }
            self.exports.send(events);
        }
    }

    /// Containers that began since the start.
    fn list_containers(&mut self) {
        for cgroup in scope::containers(&self.config.capture.scope.containers) {
            if let Err(error) = self.maps.list_cgroup(cgroup.id) {
                tracing::warn!(path = %cgroup.path.display(), %error, "the container is not seen; name fewer");
            }
        }
    }

    /// One second of every minute.
    fn sample_run_times(&mut self) {
        const EVERY: u64 = 60;
        self.ticks += 1;
        match self.ticks % EVERY {
            1 => self.run_times.sample(true),
            2 => {
                self.run_times.sample(false);
                for one in self.run_times.read() {
                    self.telemetry.set_program(&one.program, one.run_ns, one.runs);
                }
            }
            _ => {}
        }
    }

    /// Raw paths end on the day that the configuration says.
    fn end_raw_paths(&mut self) {
        if self.paths_raw && !self.config.redact.paths.is_raw(jiff::Timestamp::now()) {
            self.paths_raw = false;
            self.pipeline.calls.set_paths_raw(false);
            self.pipeline.judge.inventory.set_paths_raw(false);
            Asked::unattended(&self.exports, "redaction", "the configuration", "the day is over").accept(
                "raw",
                "template",
                "paths are templates again",
            );
        }
    }

    /// Back to the configured files, whatever is in force.
    fn reload(&mut self, mut asked: Asked) {
        let texts = policies::texts_again(&self.config, &self.policies);
        if let Ok(texts) = &texts {
            let texts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
            asked = asked.wanting(PolicySet::digest_of(&texts));
        }
        match texts.and_then(|texts| PolicySet::load(&texts)) {
            Ok(set) => {
                if self.policies_from == Origin::Collector {
                    asked.add("the configured files take the place of what a collector had pushed");
                }
                self.replace(Arc::new(set), Origin::Files, asked);
            }
            Err(errors) => {
                tracing::error!("the new policies are not used, the old ones stay in force:\n{errors}");
                asked.refuse(errors.to_string());
            }
        }
    }

    /// Back to what was in force before the last change. Asked again, it goes forward.
    fn undo(&mut self, mut asked: Asked) {
        match self.policies_before.take() {
            Some((set, origin)) => {
                asked.add(
                    "the last change of policies is undone; the next reload or restart reads the files again",
                );
                self.replace(set, origin, asked);
            }
            None => asked.refuse("no other policies were in force since the agent started"),
        }
    }

    fn replace(&mut self, set: Arc<PolicySet>, from: Origin, asked: Asked) {
        let old = self.policies.digest().to_owned();
        let new = set.digest().to_owned();
        let message = format!(
            "in force now: {}, {}, from {}",
            plural(set.policies().len(), "policy", "policies"),
            plural(set.rules().len(), "rule", "rules"),
            from.words(),
        );
        set.rearm();
        let before = std::mem::replace(&mut self.policies, set);
        // The same text again is no change to go back from.
        if old != new {
            self.policies_before = Some((before, self.policies_from));
        }
        self.policies_from = from;
        self.pipeline.judge.breakers = Breakers::new(&self.policies);
        self.put_in_force();
        let literals = start::literals(&self.config, &self.policies);
        self.pipeline.calls.set_literals(&literals);
        self.pipeline.judge.detectors.set_literals(&literals);
        self.tell_unmet();
        asked.accept(old, new, message);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetMode { mode, term, asked } => self.set_mode(mode, term, asked),
            Command::Release { asked } => self.release(asked),
            Command::ReloadPolicies { asked } => self.reload(asked),
            Command::UndoPolicies { asked } => self.undo(asked),
            Command::PushPolicies { files, asked } => {
                // Their rules are told apart from those of this host's files in events and in the status.
                let texts: Vec<(String, String)> = files
                    .into_iter()
                    .map(|file| (format!("collector/{}", file.name), file.text))
                    .collect();
                match PolicySet::load(&texts) {
                    Ok(set) => self.replace(Arc::new(set), Origin::Collector, asked),
                    Err(problems) => {
                        tracing::error!(
                            "the policies that a collector pushed are not used, the old ones stay in force:\n{problems}"
                        );
                        asked.refuse(problems.to_string());
                    }
                }
            }
            Command::Facts { reply } => {
                // The counters beside it are of this moment too.
                self.ask_drops(clock::now());
                self.measure();
                // Whoever asked may have gone away.
                let _ = reply.send(self.facts());
            }
            Command::Prove(asks) => self.prove(asks),
            Command::Inventory { reply } => drop(reply.send(self.pipeline.judge.inventory.endpoints())),
        }
    }
}
