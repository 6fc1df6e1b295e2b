//! Canaries, as the agent sees them: their policy is in force beside the others for a while, and what they have measured
//! says whether the policies' word holds.
//!
//! Whoever sends them is a process of its own, `apiward prove`, also where the configuration asks for it: what it starts is
//! nobody's but its own, and the agent's own connections are exempt. See `cli/prove`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol_str::SmolStr;

use super::Agent;
use crate::call::CallDirection;
use crate::capture::KernelTime;
use crate::config::{self, Config, Scope};
use crate::export::command::{Asked, Prove};
use crate::export::facts::{CanaryFacts, Promise, ProveReady};
use crate::export::{clock, wire};
use crate::kernel::cgroup::{self, Cgroup};
use crate::policy::canary::Canary;
use crate::policy::{Guarantee, Policy, PolicySet, explain};

/// Why a connection that can be read could not be enforced: its socket is older than the cgroup's programs, or was made
/// outside of the scope.
pub const UNENFORCEABLE: &str = "unenforceable";
/// Every quadrant: direction, and whether in TLS.
pub const QUADRANTS: [(CallDirection, bool); 4] = [
    (CallDirection::Inbound, false),
    (CallDirection::Outbound, false),
    (CallDirection::Inbound, true),
    (CallDirection::Outbound, true),
];
/// Begins the name of every canary's cgroup.
const PREFIX: &str = "apiward-canary-";
/// A run of which nothing is heard for so long is over, and so is one that takes longer than the second.
const QUIET_MAX: Duration = Duration::from_secs(60);
const RUN_MAX: Duration = Duration::from_secs(300);
/// What the process that measures may have said when it failed.
const SAID_BYTES_MAX: u64 = 4_096;
/// A cgroup whose processes have been killed is empty after moments.
const EMPTY_WAIT: Duration = Duration::from_millis(500);

/// The quadrant's name.
pub fn quadrant(direction: CallDirection, tls: bool) -> String {
    let transport = if tls { "tls" } else { "clear" };
    format!("{}-{transport}", direction.as_str())
}

/// What is known of canaries.
pub struct Proof {
    running: Option<Run>,
    /// The last results, and when (wall clock, ns).
    canaries: Vec<CanaryFacts>,
    at_ns: u64,
    /// Why the last attempt gave none; empty: it did.
    missing: String,
    /// What was told to be degraded, by policy and kind.
    degraded: BTreeSet<(SmolStr, String)>,
    due: Option<Instant>,
    every: Option<Duration>,
    sender: Option<Child>,
    /// The set of policies that the metrics name.
    shown: String,
    /// Cgroups that could not be removed yet.
    left: Vec<Place>,
}

struct Run {
    canary: Canary,
    place: Place,
    heard: Instant,
    began: Instant,
}

/// The canaries' cgroup, with `near` and `far` in it. Dropping it ends what runs there.
struct Place {
    path: PathBuf,
}

impl Place {
    fn new(parent: &Path, name: &str) -> std::io::Result<Place> {
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let place = Place { path };
        for part in ["near", "far"] {
            fs::create_dir(place.path.join(part))?;
        }
        Ok(place)
    }

    /// Ends everything in it. `true`: it is gone.
    fn remove(&self) -> bool {
        for part in ["near", "far", ""] {
            let path = self.path.join(part);
            // Linux 5.14; before it, what runs there ends with whoever has started it.
            let _ = fs::write(path.join("cgroup.kill"), "1");
            let _ = fs::remove_dir(&path);
        }
        !self.path.exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let deadline = Instant::now() + EMPTY_WAIT;
        while !self.remove() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Proof {
    pub fn new(config: &Config) -> Proof {
        Proof {
            running: None,
            canaries: Vec::new(),
            at_ns: 0,
            missing: String::new(),
            degraded: BTreeSet::new(),
            due: match (config.prove.at_start, config.prove.every) {
                (true, _) => Some(Instant::now()),
                (false, every) => every.map(|every| Instant::now() + every),
            },
            every: config.prove.every,
            sender: None,
            shown: String::new(),
            left: Vec::new(),
        }
    }

    /// Canaries are in force now.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What was measured last.
    pub fn canaries(&self) -> &[CanaryFacts] {
        &self.canaries
    }

    /// When it was.
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// For the agent's own status: what was measured is no policy's matter alone.
    pub fn degraded(&self) -> Vec<String> {
        let missing = (!self.missing.is_empty()).then(|| {
            format!(
                "the canaries that `prove` asks for could not be sent: {}",
                self.missing
            )
        });
        let failed = self.canaries.iter().filter(|canary| canary.failed);
        failed
            .map(|canary| format!("canary {}: {}", canary.quadrant, canary.reason))
            .chain(missing)
            .collect()
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        // It cleans up behind itself, and nobody waits for it.
        let sender = self
            .sender
            .as_ref()
            .and_then(|sender| i32::try_from(sender.id()).ok());
        if let Some(pid) = sender.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Where canaries can be in scope; else why not, and what to do.
fn parent(scope: &Scope) -> Result<PathBuf, String> {
    let failed = |error: cgroup::CgroupError| error.to_string();
    match scope.cgroups.first() {
        Some(first) => Ok(Cgroup::open(first).map_err(failed)?.path),
        None if scope.is_host() => cgroup::root().map_err(failed),
        None => Err(format!(
            "no canary can be in the agent's scope ({}), which names no cgroup: add one to `capture.scope.cgroup`, or stop the \
             agent and run `apiward prove` alone, which measures this host in a scope of its own",
            scope.words()
        )),
    }
}

/// Cgroups that an agent has left that was killed.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            drop(Place { path: entry.path() });
        }
    }
}

impl Agent {
    /// What is in force goes by the policies, the mode, and canaries that run.
    pub(super) fn put_in_force(&mut self) {
        let mode = self.pipeline.judge.engine.mode();
        let with = self
            .proof
            .running
            .as_ref()
            .map(|run| self.policies.with_canary(&run.canary, mode));
        let set = match with {
            None => self.policies.clone(),
            Some(Ok(set)) => Arc::new(set),
            Some(Err(why)) => {
                self.drop_canaries();
                tracing::warn!("canaries are given up: {why}");
                self.policies.clone()
            }
        };
        self.pipeline.judge.engine.replace(set);
        self.replace_gate();
    }

    /// Something about canaries was asked.
    pub(super) fn prove(&mut self, asks: Prove) {
        match asks {
            Prove::Begin { asked, reply } => {
                let result = self.begin();
                match &result {
                    Ok(ready) => asked.accept("", ready.cgroup.clone(), "canaries run"),
                    Err(why) => asked.refuse(why.clone()),
                }
                // Whoever asked may have gone away: then the stream's end says so.
                let _ = reply.send(result);
            }
            Prove::Settle { run, reply } => {
                if self.is_run(&run) {
                    while self.drain() == super::DRAIN_RECORDS_MAX {}
                    if let Some(run) = &mut self.proof.running {
                        run.heard = Instant::now();
                    }
                    let told = std::mem::take(&mut self.pipeline.judge.canary_told);
                    let told = told
                        .into_iter()
                        .map(|(word, calls)| (word.as_str().to_owned(), calls))
                        .collect();
                    let _ = reply.send(told);
                }
            }
            Prove::End { run, canaries, asked } => {
                if !self.is_run(&run) {
                    asked.refuse("these canaries are over already");
                    return;
                }
                self.drop_canaries();
                self.put_in_force();
                let message = match canaries {
                    Some(canaries) => self.proved(canaries),
                    None => "the canaries are over".to_owned(),
                };
                asked.accept(run, "", message);
            }
        }
    }

    fn is_run(&self, run: &str) -> bool {
        let running = self.proof.running.as_ref();
        running.is_some_and(|running| run.ends_with(&running.canary.cgroup))
    }

    fn begin(&mut self) -> Result<ProveReady, String> {
        if self.proof.running.is_some() {
            return Err("canaries run already: wait until they are over, a minute at most".to_owned());
        }
        let parent = parent(&self.config.capture.scope)?;
        remove_stale(&parent);
        let name = format!("{PREFIX}{:016x}", rand::random::<u64>());
        let place = Place::new(&parent, &name).map_err(|error| {
            format!(
                "no cgroup can be made in {} ({error}): the agent needs to write there",
                parent.display()
            )
        })?;
        let open = |path: &Path| Cgroup::open(path).map_err(|error| error.to_string());
        let whole = open(&place.path)?;
        let root = cgroup::root().map_err(|error| error.to_string())?;
        let below = whole.path.strip_prefix(&root).unwrap_or(&whole.path);
        let canary = Canary {
            forbidden_path: format!("/{name}/forbidden"),
            near: open(&place.path.join("near"))?.id,
            far: open(&place.path.join("far"))?.id,
            cgroup: name,
        };
        let ready = ProveReady {
            cgroup: format!("/{}", below.display()),
            cgroup_id: whole.id,
            forbidden_path: canary.forbidden_path.clone(),
            promises: self.promises(),
        };
        // Asked before it is put in force: then there is nothing to take back.
        let mode = self.pipeline.judge.engine.mode();
        self.policies.with_canary(&canary, mode)?;
        self.pipeline.judge.canary_told.clear();
        self.proof.running = Some(Run {
            canary,
            place,
            heard: Instant::now(),
            began: Instant::now(),
        });
        self.put_in_force();
        Ok(ready)
    }

    fn promises(&self) -> Vec<Promise> {
        let host = self.host();
        let word = |word: Option<Guarantee>| word.map_or(explain::UNSUPPORTED, Guarantee::as_str).to_owned();
        QUADRANTS
            .into_iter()
            .map(|(direction, tls)| {
                let (promise, least) = explain::canary(direction, tls, host);
                Promise {
                    quadrant: quadrant(direction, tls),
                    best: word(promise.best),
                    least: word(least),
                }
            })
            .collect()
    }

    pub(super) fn drop_canaries(&mut self) {
        if let Some(Run { place, .. }) = self.proof.running.take()
            && !place.remove()
        {
            // What has just been killed is still on its way out.
            self.proof.left.push(place);
        }
    }

    /// Takes results in: events, metrics, and the policies that rest on them. Says what they are.
    fn proved(&mut self, canaries: Vec<CanaryFacts>) -> String {
        let failed_before = |quadrant: &str| {
            let known = self.proof.canaries.iter();
            known
                .filter(|known| known.quadrant == quadrant)
                .any(|known| known.failed)
        };
        let mut events = Vec::new();
        let mut words = Vec::new();
        for canary in &canaries {
            let measured = match canary.measured.as_str() {
                "" => "not measured",
                word => word,
            };
            let mut line = format!("{} {measured}, promised {}", canary.quadrant, canary.promised);
            if !canary.reason.is_empty() {
                line.push_str(&format!(" ({})", canary.reason));
            }
            if canary.failed {
                events.push(wire::agent_state("canary-failed", line.clone()));
            } else if !canary.measured.is_empty() && failed_before(&canary.quadrant) {
                events.push(wire::agent_state("canary-recovered", line.clone()));
            }
            let value = match (canary.measured.is_empty(), canary.failed) {
                (_, true) => 0,
                (true, false) => -1,
                (false, false) => 1,
            };
            self.telemetry.set_canary(&canary.quadrant, value);
            words.push(line);
        }
        let words = words.join("; ");
        events.push(wire::agent_state("proved", words.clone()));
        self.exports.send(events);
        // A quadrant that could not be measured this time is not proven to hold again.
        let keeps = |canary: &CanaryFacts| {
            let now = canaries.iter().find(|now| now.quadrant == canary.quadrant);
            canary.failed && now.is_none_or(|now| now.measured.is_empty() && !now.failed)
        };
        let kept: Vec<CanaryFacts> = self
            .proof
            .canaries
            .iter()
            .filter(|known| keeps(known))
            .cloned()
            .collect();
        let is_kept = |canary: &CanaryFacts| kept.iter().any(|kept| kept.quadrant == canary.quadrant);
        let mut now: Vec<CanaryFacts> = canaries.into_iter().filter(|canary| !is_kept(canary)).collect();
        now.extend(kept);
        self.proof.canaries = now;
        self.proof.at_ns = clock::wall_ns();
        self.proof.missing.clear();
        self.tell_degraded();
        words
    }

    /// Why a policy's word does not hold as it should: kind, and words.
    pub(super) fn degradations(&self, position: usize, policy: &Policy) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mode = policy.mode_under(self.pipeline.judge.engine.mode());
        if mode == crate::policy::Mode::Enforce {
            let denies = |direction: &str| {
                self.policies
                    .rules()
                    .iter()
                    .filter(|rule| rule.policy == position && rule.denies())
                    .flat_map(|rule| rule.directions())
                    .any(|one| one.as_str() == direction)
            };
            for canary in self.proof.canaries.iter().filter(|canary| canary.failed) {
                let direction = canary.quadrant.split('-').next().unwrap_or_default();
                if denies(direction) {
                    found.push((
                        canary.quadrant.clone(),
                        format!("canary {}: {}", canary.quadrant, canary.reason),
                    ));
                }
            }
        }
        let reach = self
            .pipeline
            .judge
            .tally_of(&policy.name)
            .map(|tally| &tally.reach);
        if let (Some(min), Some(reach)) = (policy.coverage_min, reach)
            && reach.is_short()
        {
            let shares = reach.recent().map_or_else(String::new, |shares| {
                format!(
                    ": {:.1} % of its connections, {:.1} % of their bytes in the last hour",
                    100.0 * shares.flows,
                    100.0 * shares.bytes
                )
            });
            found.push((
                "coverage".to_owned(),
                format!(
                    "less of its traffic can be enforced than `coverage.min: {min}` asks for{shares}; `status` names what is out \
                     of reach"
                ),
            ));
        }
        found
    }

    /// An event for every policy whose word has ceased to hold, or holds again.
    fn tell_degraded(&mut self) {
        let set: Arc<PolicySet> = self.policies.clone();
        let mut now = BTreeSet::new();
        let mut events = Vec::new();
        for (position, policy) in set.policies().iter().enumerate() {
            for (kind, words) in self.degradations(position, policy) {
                let key = (policy.name.clone(), kind);
                if !self.proof.degraded.contains(&key) {
                    let text = format!("policy {}: {words}", policy.name);
                    tracing::warn!("degraded: {text}");
                    events.push(wire::agent_state("policy-degraded", text));
                }
                now.insert(key);
            }
        }
        for (policy, kind) in self.proof.degraded.difference(&now) {
            events.push(wire::agent_state(
                "policy-recovered",
                format!("policy {policy}: {kind} is as it should be again, or no longer asked for"),
            ));
        }
        if now != self.proof.degraded || self.proof.shown != set.digest() {
            self.proof.shown = set.digest().to_owned();
            let is_degraded = |name: &SmolStr| now.iter().any(|(policy, _)| policy == name);
            let policies = set.policies().iter();
            self.telemetry.set_policies_degraded(
                policies.map(|policy| (policy.name.as_str(), is_degraded(&policy.name))),
            );
        }
        self.proof.degraded = now;
        self.exports.send(events);
    }

    /// Time has passed: runs that nobody ends, runs that are due, and what became of policies' traffic.
    pub(super) fn prove_on_tick(&mut self, now: KernelTime) {
        let set = self.policies.clone();
        for policy in set.policies() {
            let reach = &mut self.pipeline.judge.tally(&policy.name).reach;
            reach.on_tick(now);
            if let Some(min) = policy.coverage_min {
                reach.falls_short(min);
            }
        }
        self.tell_degraded();
        self.proof.left.retain(|place| !place.remove());
        let over =
            self.proof
                .running
                .as_ref()
                .and_then(|run| match (run.heard.elapsed(), run.began.elapsed()) {
                    (quiet, _) if quiet > QUIET_MAX => Some("nothing was heard of them any more"),
                    (_, long) if long > RUN_MAX => Some("they took too long"),
                    _ => None,
                });
        if let Some(why) = over {
            self.drop_canaries();
            self.put_in_force();
            Asked::unattended(&self.exports, "canary", "the agent", why).accept(
                "",
                "",
                "the canaries are over",
            );
        }
        self.send_canaries();
    }

    /// The configuration asks for canaries: a process of its own sends them, and reports as anybody would.
    fn send_canaries(&mut self) {
        if let Some(sender) = &mut self.proof.sender {
            let Ok(Some(status)) = sender.try_wait() else {
                return;
            };
            let mut said = String::new();
            if let Some(stderr) = sender.stderr.take() {
                let _ = stderr.take(SAID_BYTES_MAX).read_to_string(&mut said);
            }
            self.proof.sender = None;
            // 0 and 1 have reported what they found, and so has 2 if it came so far.
            if !matches!(status.code(), Some(0 | 1)) && !said.trim().is_empty() {
                let last = said.trim().lines().last().unwrap_or_default();
                self.miss_canaries(last.trim_start_matches("apiward: ").to_owned());
            } else if status.code().is_none() {
                self.miss_canaries(format!("`apiward prove` ended with {status}"));
            }
        }
        if self.proof.due.is_none_or(|due| Instant::now() < due) || self.proof.running.is_some() {
            return;
        }
        self.proof.due = self.proof.every.map(|every| Instant::now() + every);
        let mut command = Command::new("/proc/self/exe");
        command
            .args([
                "prove",
                "--output",
                "json",
                "--reason",
                "the configuration asks for it",
            ])
            .arg("--control")
            .arg(&self.config.control)
            .arg("--config")
            .arg(match self.config.source.as_str() {
                "" => config::PATH_DEFAULT,
                source => source,
            })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        match command.spawn() {
            Ok(sender) => self.proof.sender = Some(sender),
            Err(error) => self.miss_canaries(format!("`apiward prove` cannot be started: {error}")),
        }
    }

    fn miss_canaries(&mut self, why: String) {
        tracing::warn!("canaries could not be sent: {why}");
        self.exports
            .send(vec![wire::agent_state("canary-missing", why.clone())]);
        self.proof.missing = why;
    }
}
