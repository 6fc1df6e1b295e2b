//! The life of the enforcement: what goes on without an agent, who takes it over, what ends it, and the way out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::Story;
use crate::harness::certificates::{Authority, Identity};
use crate::harness::events::{of_kind, text};
use crate::harness::process::Start;
use crate::harness::servers::{accepts, free_port};
use crate::harness::wait::patient;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Process, Result, World, policy, until};

pub const STORIES: &[Story] = &[
    (
        "killed_in_the_middle_of_forbidden_calls",
        killed_in_the_middle_of_forbidden_calls,
    ),
    (
        "killed_in_the_middle_of_forbidden_calls_in_tls",
        killed_in_the_middle_of_forbidden_calls_in_tls,
    ),
    (
        "release_with_and_without_an_agent",
        release_with_and_without_an_agent,
    ),
    (
        "a_mode_for_a_time_goes_back_unless_confirmed",
        a_mode_for_a_time_goes_back_unless_confirmed,
    ),
    (
        "what_somebody_detaches_is_attached_again",
        what_somebody_detaches_is_attached_again,
    ),
    (
        "a_policy_that_denies_too_much_observes",
        a_policy_that_denies_too_much_observes,
    ),
];

/// What a client sees of a denial: inbound the gate's own answer, outbound the reset of its socket. Without an agent
/// nobody answers.
const REFUSED: [&str; 2] = ["HTTP/1.1 403 Forbidden", "ConnectionAbortedError"];
pub const SERVED: &str = "HTTP/1.1 200 OK";
/// Which way a forbidden call goes.
pub const WAYS: [(usize, &str); 2] = [(0, "/fhir/Patient/$export"), (1, "/vendor/upload")];
/// More calls than any test takes; and when those end that are made while an agent takes over.
const ENDLESS: usize = 100_000;
const UNTIL_ANSWERED: [&str; 2] = ["100000", "20"];
/// How long a call is waited for that may have been stopped, on a machine that is not slow.
const UNANSWERED: Duration = Duration::from_millis(300);
pub const ALLOWED: [&str; 2] = ["/fhir/Patient/1", "/ok"];

/// A bpffs of the test's own: what is pinned in it ends with it.
pub struct Bpffs(PathBuf);

impl Bpffs {
    pub fn new(world: &World) -> Result<Bpffs> {
        let path = world.path("bpf");
        std::fs::create_dir(&path)?;
        mount("bpf", &path, "bpf", MountFlags::empty(), None).context("a bpffs is mounted")?;
        Ok(Bpffs(path))
    }

    pub fn pins(&self) -> PathBuf {
        self.0.join("apiward")
    }

    /// What is kept, by run.
    pub fn runs(&self) -> Vec<String> {
        let mut runs: Vec<String> = std::fs::read_dir(self.pins())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        runs.sort();
        runs
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A server in scope that is called from outside, and one outside that is called from within.
pub struct Servers<'a> {
    world: &'a World,
    pub ports: [u16; 2],
    logs: [PathBuf; 2],
    is_tls: bool,
    _processes: Vec<Process>,
}

impl<'a> Servers<'a> {
    pub fn new(world: &'a World) -> Result<Servers<'a>> {
        Servers::start_all(world, None)
    }

    fn over_tls(world: &'a World) -> Result<Servers<'a>> {
        let identity = Authority::new(world)?.issue(world, "counting", &[])?;
        Servers::start_all(world, Some(&identity))
    }

    fn start_all(world: &'a World, tls: Option<&Identity>) -> Result<Servers<'a>> {
        let script = world.write("counting.py", include_str!("assets/counting.py"))?;
        let mut servers = Servers {
            world,
            ports: [free_port()?, free_port()?],
            logs: [world.path("inbound.log"), world.path("outbound.log")],
            is_tls: tls.is_some(),
            _processes: Vec::new(),
        };
        for (at, place) in [(0, Place::Inside), (1, Place::Outside)] {
            let port = servers.ports[at];
            let mut start = Start::new(world, place, program("python3")?)
                .name(format!("counting-{at}"))
                .arg(&script)
                .arg(port.to_string())
                .arg(&servers.logs[at]);
            if let Some(identity) = tls {
                start = start.arg(&identity.certificate).arg(&identity.key);
            }
            let mut process = start.spawn()?;
            process.wait_until("the server accepts", || {
                Ok(accepts(([127, 0, 0, 1], port).into()))
            })?;
            servers._processes.push(process);
        }
        Ok(servers)
    }

    /// `patience`: how many seconds a call is waited for, on a machine that is not slow.
    pub fn start(&self, way: usize, path: &str, count: usize, patience: &str) -> Result<Start<'a>> {
        let patience = patient(Duration::from_secs_f64(patience.parse()?)).as_secs_f64();
        let script = self
            .world
            .write("calling.py", include_str!("assets/calling.py"))?;
        let place = [Place::Outside, Place::Inside][way];
        Ok(Start::new(self.world, place, program("python3")?)
            .name(format!("calling-{way}"))
            .arg(script)
            .arg(format!(
                "{}{}",
                if self.is_tls { "tls:" } else { "" },
                self.ports[way]
            ))
            .arg(path)
            .arg(count.to_string())
            .arg(patience.to_string()))
    }

    /// Allowed calls that go out on one connection, until there is the file `stop`; how many is in `begun`.
    fn steady(&self, stop: &Path, begun: &Path) -> Result<Process> {
        let script = self.world.write("steady.py", include_str!("assets/steady.py"))?;
        Start::new(self.world, Place::Inside, program("python3")?)
            .name("steady")
            .arg(script)
            .arg(format!(
                "{}{}",
                if self.is_tls { "tls:" } else { "" },
                self.ports[1]
            ))
            .arg(ALLOWED[1])
            .arg(stop)
            .arg(begun)
            .spawn()
    }

    /// Makes calls, and says which ends they had.
    fn call(&self, way: usize, path: &str, count: usize, patience: &str) -> Result<Value> {
        let mut process = self.start(way, path, count, patience)?.spawn()?;
        process.wait(Duration::from_secs(60))?;
        ends(&process)
    }

    /// Forbidden requests that the servers got, by their own account.
    pub fn forbidden(&self) -> usize {
        WAYS.into_iter().map(|way| self.forbidden_one(way)).sum()
    }

    fn forbidden_one(&self, (way, path): (usize, &str)) -> usize {
        let log = std::fs::read_to_string(&self.logs[way]).unwrap_or_default();
        log.lines().filter(|line| line.contains(path)).count()
    }

    /// Every forbidden call is refused by the gate, and every allowed one served.
    pub fn check_enforced(&self) -> Result {
        for (way, path) in WAYS {
            let ends = self.call(way, path, 5, "5")?;
            ensure!(ends[REFUSED[way]] == 5, "{path}: not refused: {ends}");
        }
        self.check_allowed()
    }

    pub fn check_allowed(&self) -> Result {
        for (way, path) in ALLOWED.into_iter().enumerate() {
            let ends = self.call(way, path, 5, "5")?;
            ensure!(ends[SERVED] == 5, "{path}: not served: {ends}");
        }
        Ok(())
    }

    /// One forbidden call, inbound.
    pub fn passes(&self) -> Result<bool> {
        let ends = self.call(0, WAYS[0].1, 1, &UNANSWERED.as_secs_f64().to_string())?;
        ensure!(
            [SERVED, REFUSED[0], "TimeoutError"]
                .iter()
                .any(|end| ends[*end] == 1),
            "neither served nor stopped: {ends}"
        );
        Ok(ends[SERVED] == 1)
    }
}

/// Seconds of a lease or of a mode that are short, and yet outlast a few calls on this machine.
pub fn short(servers: &Servers<'_>, least: u64) -> Result<u64> {
    const CALLS: u32 = 4;
    let began = Instant::now();
    servers.check_allowed()?;
    let one = began.elapsed() / 2 + patient(UNANSWERED);
    Ok(least.max((one * CALLS).as_secs()))
}

/// Clients whose forbidden calls were made before an agent took over, when nobody answered them, and behind it.
pub fn check_taken_over(clients: &mut [Process]) -> Result {
    for (client, (way, path)) in clients.iter_mut().zip(WAYS) {
        client.wait(Duration::from_secs(60))?;
        let ends = ends(client)?;
        ensure!(
            ends[SERVED].is_null()
                && ends["TimeoutError"].as_u64() > Some(0)
                && ends[REFUSED[way]].as_u64() > Some(0),
            "{path}: served, or not in the middle of the calls: {ends}"
        );
    }
    Ok(())
}

/// How many calls a client has made.
fn calls(client: &Process) -> Result<usize> {
    let text = client.output()?;
    Ok(text
        .lines()
        .filter_map(|line| line.parse().ok())
        .max()
        .unwrap_or(0))
}

pub fn ends(process: &Process) -> Result<Value> {
    let text = process.output()?;
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("the client did not end: {text}"))?;
    Ok(serde_json::from_str(line)?)
}

/// Clients of both ways that make forbidden calls until they are told to end, whatever ends their calls have: where the
/// kernel lets probes make a library's call fail they end at once, also while no agent runs.
struct Callers<'s, 'w> {
    servers: &'s Servers<'w>,
    stop: PathBuf,
    clients: Vec<Process>,
}

impl<'s, 'w> Callers<'s, 'w> {
    fn new(servers: &'s Servers<'w>) -> Result<Callers<'s, 'w>> {
        let stop = servers.world.path("stop");
        let _ = std::fs::remove_file(&stop);
        let start = |(way, path)| {
            servers
                .start(way, path, ENDLESS, "0.2")?
                .args(["100000", "100000"])
                .arg(&stop)
                .spawn()
        };
        let clients = WAYS.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Callers {
            servers,
            stop,
            clients,
        })
    }

    /// Each makes some more calls.
    fn go_on(&self) -> Result {
        const CALLS: usize = 10;
        for client in &self.clients {
            let before = calls(client)?;
            until("more calls are made", || Ok(calls(client)? >= before + CALLS))?;
        }
        Ok(())
    }

    /// They end; no call was served, and none has left the host.
    fn check_none_served(mut self) -> Result {
        std::fs::write(&self.stop, "")?;
        for (client, (_, path)) in self.clients.iter_mut().zip(WAYS) {
            client.wait(Duration::from_secs(60))?;
            let ends = ends(client)?;
            ensure!(ends[SERVED].is_null(), "{path}: served: {ends}");
        }
        ensure!(
            self.servers.forbidden_one(WAYS[1]) == 0,
            "a forbidden call left the host"
        );
        Ok(())
    }
}

fn rules() -> Value {
    json!([
        { "name": "no-export", "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] }, "action": "deny" },
        { "name": "no-vendor", "match": { "direction": "outbound", "paths": ["/vendor/**"] }, "action": "deny" },
    ])
}

pub fn keeping<'a>(world: &'a World, bpffs: &Bpffs, keep_for: &str) -> Result<Agent<'a>> {
    let file = policy::file(world, "tests", &rules())?;
    Agent::start(world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
        config["on_exit"] = json!("keep");
        config["keep_for"] = json!(keep_for);
        config["pins"] = json!(bpffs.pins());
    })
}

/// Lets go of everything and ends the agent; nothing may be left.
pub fn end(agent: Agent<'_>, bpffs: &Bpffs) -> Result {
    agent.command(&["release"])?.run()?;
    ensure!(!bpffs.pins().exists(), "something is pinned: {:?}", bpffs.runs());
    agent.end().map(drop)
}

pub fn state<'e>(all: &'e [Value], name: &str) -> Option<&'e str> {
    of_kind(all, "agent_state")
        .into_iter()
        .find(|event| event["state"] == name)
        .map(|event| text(&event["detail"]))
}

/// None passes: not while the agent dies, not while none runs, not while the next one takes over.
fn killed_in_the_middle_of_forbidden_calls() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    ensure!(bpffs.runs().len() == 1, "kept: {:?}", bpffs.runs());

    // They end when nobody answers any more.
    let start = |(way, path)| servers.start(way, path, ENDLESS, "0.1")?.arg("15").spawn();
    let mut clients: Vec<Process> = WAYS.into_iter().map(start).collect::<Result<_>>()?;
    for client in &mut clients {
        until("some calls were made", || Ok(client.output()?.contains("\n20\n")))?;
    }
    agent.process.kill()?;
    for (client, (way, path)) in clients.iter_mut().zip(WAYS) {
        client.wait(Duration::from_secs(60))?;
        let ends = ends(client)?;
        ensure!(
            ends[SERVED].is_null() && ends[REFUSED[way]].as_u64() >= Some(20),
            "{path}: {ends}"
        );
        ensure!(
            ends["TimeoutError"].as_u64() > Some(0),
            "the agent was killed too late to tell: {ends}"
        );
    }
    ensure!(servers.forbidden() == 0, "a forbidden call got through");
    servers.check_allowed()?;
    let status = agent.command(&["status"])?.run();
    let said = format!("{:#}", status.err().context("a dead agent has a status")?);
    ensure!(said.contains("goes on without it"), "the status says {said}");

    // The next one takes over in the middle of calls too.
    let start = |(way, path)| {
        servers
            .start(way, path, ENDLESS, "0.1")?
            .args(UNTIL_ANSWERED)
            .spawn()
    };
    let mut clients: Vec<Process> = WAYS.into_iter().map(start).collect::<Result<_>>()?;
    let mut next = keeping(&world, &bpffs, "10m")?;
    check_taken_over(&mut clients)?;
    servers.check_enforced()?;
    ensure!(servers.forbidden() == 0, "a forbidden call got through");
    next.events.wait("what was kept is told", |all| {
        state(all, "adopted").is_some_and(|detail| !detail.contains(" 0 heads denied"))
    })?;
    let runs = bpffs.runs();
    ensure!(
        runs.len() == 1 && runs[0].ends_with("-2"),
        "an earlier run is still kept: {runs:?}"
    );
    drop(agent);
    end(next, &bpffs)
}

/// As in clear: a request that leaves in TLS leaves no more, and of a server's answer not a byte comes out.
fn killed_in_the_middle_of_forbidden_calls_in_tls() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::over_tls(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    for (way, path) in WAYS {
        let ends = servers.call(way, path, 5, "5")?;
        ensure!(
            ends[SERVED].is_null() && ends["TimeoutError"].is_null(),
            "{path}: {ends}"
        );
    }
    servers.check_allowed()?;
    // One connection that all of it happens around.
    let (stop, begun) = (world.path("steady-stop"), world.path("begun"));
    let mut steady = servers.steady(&stop, &begun)?;
    let count = || -> Result<u64> {
        let text = std::fs::read_to_string(&begun).unwrap_or_default();
        Ok(text.parse().unwrap_or(0))
    };
    steady.wait_until("calls go out on one connection", || Ok(count()? > 10))?;
    let callers = Callers::new(&servers)?;
    callers.go_on()?;
    agent.process.kill()?;
    callers.go_on()?;
    callers.check_none_served()?;
    servers.check_allowed()?;
    let before = count()?;
    steady.wait_until("the connection goes on without an agent", || {
        Ok(count()? > before + 10)
    })?;

    // The next one takes over in the middle of calls too.
    let callers = Callers::new(&servers)?;
    callers.go_on()?;
    let mut next = keeping(&world, &bpffs, "10m")?;
    let before = count()?;
    steady.wait_until("the connection goes on with the next agent", || {
        Ok(count()? > before + 10)
    })?;
    callers.go_on()?;
    callers.check_none_served()?;
    servers.check_allowed()?;
    std::fs::write(&stop, "")?;
    let status = steady.wait(Duration::from_secs(20))?;
    ensure!(
        status.success(),
        "an allowed connection did not outlive the agents{}",
        steady.last_words()
    );
    drop(agent);
    check_told_once(next.events.read()?)?;
    end(next, &bpffs)
}

/// Every denial has an event of its own, whichever agent told it.
fn check_told_once(all: &[Value]) -> Result {
    let mut told: HashMap<&str, usize> = HashMap::new();
    for event in of_kind(all, "call") {
        if event["verdict"]["action"] == "deny" {
            *told.entry(text(&event["request"]["trace_id"])).or_default() += 1;
        }
    }
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(twice.is_empty(), "denials are told more than once: {twice:?}");
    ensure!(told.len() >= 20, "{} denials are told", told.len());
    Ok(())
}

fn release_with_and_without_an_agent() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    let release = |agent: &Agent<'_>| -> Result<Value> {
        let text = agent.command(&["release", "--output", "json"])?.run()?;
        let done: Value = serde_json::from_str(&text)?;
        ensure!(
            done["released"] == true && done["left"] == json!([]),
            "not released: {done:#}"
        );
        ensure!(
            done["stopped_ms"]
                .as_u64()
                .is_some_and(|took| Duration::from_millis(took) < patient(Duration::from_secs(1))),
            "it took too long: {done:#}"
        );
        ensure!(!bpffs.pins().exists(), "something is pinned: {:?}", bpffs.runs());
        ensure!(servers.passes()?, "something is still stopped");
        Ok(done)
    };
    let done = release(&agent)?;
    ensure!(
        text(&done["agent"]).starts_with("the agent:"),
        "the agent was not asked: {done:#}"
    );
    agent.wait_status("the agent says that it has let go", |status| {
        status["mode"] == "observe" && status["reasons"].to_string().contains("released")
    })?;
    let refused = agent.command(&["mode", "enforce", "--reason", "a test"])?.run();
    ensure!(refused.is_err(), "a released agent enforces");
    agent.process.end()?;

    // One that does not answer is gone around, and lets go by itself when it can.
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    agent.process.signal(Signal::STOP);
    let said = agent.command(&["release"])?.run();
    agent.process.signal(Signal::CONT);
    let said = format!("{:#}", said.err().context("a stopped agent was released")?);
    ensure!(said.contains("AW1409"), "the release says {said}");
    ensure!(servers.passes()?, "something is still stopped");
    agent.wait_status("the agent has let go", |status| {
        status["mode"] == "observe" && status["reasons"].to_string().contains("released")
    })?;
    ensure!(servers.passes()?, "something is stopped again");
    agent.process.end()?;

    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    agent.process.kill()?;
    // Only the mode: the pins stay.
    agent.command(&["mode", "observe"])?.run()?;
    ensure!(
        servers.passes()? && !bpffs.runs().is_empty(),
        "the mode did not change, or something else did"
    );
    drop(agent);

    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    agent.process.kill()?;
    ensure!(!servers.passes()?, "nothing was kept");
    let done = release(&agent)?;
    ensure!(done["agent"] == "no agent runs", "{done:#}");
    agent.kill().map(drop)
}

fn a_mode_for_a_time_goes_back_unless_confirmed() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let time = short(&servers, 2)?;
    let for_a_time = format!("{time}s");
    let mut agent = keeping(&world, &bpffs, "10m")?;
    let enforce = |agent: &Agent<'_>, more: &[&str]| -> Result<String> {
        let line = [&["mode", "enforce", "--reason", "a test"], more].concat();
        agent.command(&line)?.run()
    };
    enforce(&agent, &["--for", &for_a_time])?;
    ensure!(!servers.passes()?, "it does not enforce");
    agent.wait_status("the mode goes back", |status| status["mode"] == "observe")?;
    ensure!(servers.passes()?, "it still enforces");
    ensure!(bpffs.runs().is_empty(), "something is kept: {:?}", bpffs.runs());
    agent.events.wait("the way back is recorded", |all| {
        of_kind(all, "audit")
            .iter()
            .any(|event| event["new_digest"] == "observe" && text(&event["reason"]).contains("confirmed"))
    })?;
    ensure!(
        agent.command(&["mode", "enforce", "--confirm"])?.run().is_err(),
        "what is over was confirmed"
    );

    // A dead agent enforces no longer than it was asked to.
    enforce(&agent, &["--for", &format!("{}s", 2 * time)])?;
    agent.process.kill()?;
    ensure!(!servers.passes()?, "nothing was kept");
    until("the time is over", || servers.passes())?;
    drop(agent);

    let agent = keeping(&world, &bpffs, "10m")?;
    enforce(&agent, &["--for", &for_a_time])?;
    let status = agent.status()?;
    ensure!(
        status["mode_until"].is_string(),
        "the status does not tell when: {status:#}"
    );
    agent.command(&["mode", "enforce", "--confirm"])?.run()?;
    let began = Instant::now();
    while began.elapsed() <= Duration::from_secs(time + 1) {
        ensure!(!servers.passes()?, "it went back although it was confirmed");
    }
    end(agent, &bpffs)
}

fn what_somebody_detaches_is_attached_again() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    // What its connection sent meanwhile nobody saw; it goes on all the same.
    let (stop, begun) = (world.path("stop"), world.path("begun"));
    let mut steady = servers.steady(&stop, &begun)?;
    let count = || -> Result<u64> {
        let text = std::fs::read_to_string(&begun).unwrap_or_default();
        Ok(text.parse().unwrap_or(0))
    };
    steady.wait_until("calls go out on one connection", || Ok(count()? > 10))?;
    let script = world.write("detach.py", include_str!("assets/detach.py"))?;
    let detached = Start::new(&world, Place::Ours, program("python3")?)
        .name("detach")
        .arg(script)
        .arg(&world.inside.path)
        .run()?;
    ensure!(detached.trim() == "2", "detached: {detached}");
    agent.events.wait("both are told", |all| {
        let told = of_kind(all, "agent_state");
        let told = told.iter().filter(|event| event["state"] == "program-detached");
        told.filter(|event| text(&event["detail"]).ends_with("attached again"))
            .count()
            == 2
    })?;
    servers.check_enforced()?;
    agent.wait_status("both are counted", |status| {
        status["losses"]["programs-detached"] == 2
    })?;
    let before = count()?;
    steady.wait_until("the connection goes on", || Ok(count()? > before + 10))?;
    std::fs::write(&stop, "")?;
    let status = steady.wait(Duration::from_secs(20))?;
    ensure!(
        status.success(),
        "a connection stopped where a program was attached again{}",
        steady.last_words()
    );
    // And what is kept is what is attached now.
    agent.process.kill()?;
    ensure!(!servers.passes()?, "what was attached again is not kept");
    agent.command(&["release"])?.run()?;
    agent.kill().map(drop)
}

/// A policy that denies more than its author thought observes, loudly, until somebody looks.
fn a_policy_that_denies_too_much_observes() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut document = policy::document("tests", &rules());
    document["spec"]["max_denied"] = json!({ "ratio": 0.4, "window": "5m" });
    let file = world.write("tests.yaml", format!("{document:#}\n"))?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
        config["pins"] = json!(bpffs.pins());
    })?;
    let served = servers.call(0, ALLOWED[0], 12, "5")?;
    ensure!(served[SERVED] == 12, "not served: {served}");
    let refused = servers.call(0, WAYS[0].1, 6, "5")?;
    ensure!(refused[REFUSED[0]] == 6, "not refused, or too early: {refused}");
    servers.call(0, WAYS[0].1, 4, "5")?;
    agent.events.wait("the breaker is told", |all| {
        state(all, "breaker-tripped").is_some_and(|detail| detail.contains("more than its max_denied"))
            && of_kind(all, "audit")
                .iter()
                .any(|event| text(&event["who"]).contains("breaker"))
    })?;
    agent.wait_status("the policy observes", |status| {
        status["mode"] == "enforce"
            && status["policies"][0]["mode"] == "observe"
            && status["reasons"].to_string().contains("max_denied")
    })?;
    ensure!(servers.passes()?, "it still denies");
    agent
        .command(&["mode", "enforce", "--reason", "looked at"])?
        .run()?;
    ensure!(!servers.passes()?, "it was not armed again");
    agent.end().map(drop)
}
