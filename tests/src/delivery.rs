//! What happens to events and policies when something dies or is wrong: nothing twice, nothing lost in silence, and
//! nothing that was read leaves.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::clients::{self, Connections};
use crate::harness::events::{of_kind, text, trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{accepts, free_port};
use crate::harness::world::{binary, program};
use crate::harness::{Agent, Place, Process, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    ("every_event_is_stored_once_over_kills", stored_once_over_kills),
    (
        "a_killed_agents_silence_is_told_whole",
        a_killed_agents_silence_is_told_whole,
    ),
    ("a_bad_policy_leaves_the_old_one", a_bad_policy_leaves_the_old_one),
    ("what_is_read_does_not_leave", what_is_read_does_not_leave),
    ("a_second_agent_is_refused", a_second_agent_is_refused),
];

/// Calls of one go.
const CALLS: usize = 40;

struct Collector<'a> {
    world: &'a World,
    port: u16,
    data: PathBuf,
    process: Process,
}

impl<'a> Collector<'a> {
    fn start(world: &'a World, port: u16) -> Result<Collector<'a>> {
        let data = world.path("store");
        let listen = format!("127.0.0.1:{port}");
        let mut process = Start::new(world, Place::Ours, binary("apiward-collector")?)
            .name("collector")
            .args(["run", "--metrics", "off", "--listen", &listen, "--data"])
            .arg(&data)
            .spawn()?;
        process.wait_until("the collector accepts", || {
            Ok(accepts(([127, 0, 0, 1], port).into()))
        })?;
        Ok(Collector {
            world,
            port,
            data,
            process,
        })
    }

    fn stored(&self) -> Result<Vec<Value>> {
        let text = Start::new(self.world, Place::Ours, binary("apiward-collector")?)
            .name("query")
            .args(["query", "--output", "json", "--data"])
            .arg(&self.data)
            .run()?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a line of JSON: {line}")))
            .collect()
    }

    /// Waits until the server side of each of these calls is there.
    fn wait(&self, ids: &[String]) -> Result<Vec<Value>> {
        let mut stored = Vec::new();
        until(&format!("{} calls are stored", ids.len()), || {
            stored = self.stored()?;
            Ok(inbound(&stored, ids) >= ids.len())
        })?;
        Ok(stored)
    }
}

fn inbound(all: &[Value], ids: &[String]) -> usize {
    with_ids(all, ids)
        .iter()
        .filter(|call| call["direction"] == "inbound")
        .count()
}

fn stored_once_over_kills() -> Result {
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let base = format!("http://127.0.0.1:{}/", app.port);
    let port = free_port()?;
    let mut collector = Collector::start(&world, port)?;
    let configure = |config: &mut Value| {
        config["export"] = json!([{ "collector": { "endpoint": format!("http://127.0.0.1:{port}") } }]);
    };
    let agent = Agent::start(&world, configure)?;
    let calls =
        |ids: &[String]| clients::curl(&world, Place::Inside, &base, None, ids, Connections::Kept, 200);

    let before = trace_ids(CALLS);
    calls(&before)?;
    collector.wait(&before)?;
    // The collector dies; what is told meanwhile waits in the spool.
    collector.process.kill()?;
    let without_collector = trace_ids(CALLS);
    calls(&without_collector)?;
    let mut collector = Collector::start(&world, collector.port)?;
    collector.wait(&without_collector)?;
    // The agent dies, and comes back.
    agent.kill()?;
    let agent = Agent::start(&world, configure)?;
    let after = trace_ids(CALLS);
    calls(&after)?;
    collector.wait(&after)?;
    // Both.
    collector.process.kill()?;
    agent.kill()?;
    let collector = Collector::start(&world, collector.port)?;
    let agent = Agent::start(&world, configure)?;
    let last = trace_ids(CALLS);
    calls(&last)?;
    let stored = collector.wait(&last)?;
    agent.end()?;

    for ids in [&before, &without_collector, &after, &last] {
        let found = inbound(&stored, ids);
        ensure!(found == ids.len(), "{found} of {} calls are stored", ids.len());
    }
    let mut names: Vec<&str> = stored.iter().map(|event| text(&event["id"])).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    ensure!(
        names.len() == all,
        "{} events are stored more than once",
        all - names.len()
    );
    Ok(())
}

/// Calls go on while the agent is killed and comes back: each is stored, or lies in the silence that is reported.
fn a_killed_agents_silence_is_told_whole() -> Result {
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let mut agent = Agent::start(&world, |_| {})?;
    let ids = trace_ids(200_000);
    let (times, enough) = (world.path("times"), world.path("enough"));
    let more = [
        "--times",
        &times.display().to_string(),
        "--until",
        &enough.display().to_string(),
    ];
    let mut client = clients::python_command(&world, Place::Inside, app.port, None, &ids, &more)?.spawn()?;
    agent
        .events
        .wait("calls are told", |all| with_ids(all, &ids[..50]).len() >= 100)?;
    let client_pid = client.pid();
    let killed = jiff::Timestamp::now().as_nanosecond();
    agent.kill()?;
    let mut agent = Agent::start(&world, |_| {})?;
    let back = jiff::Timestamp::now().as_nanosecond();
    agent
        .events
        .wait("the silence is told", |all| !silences(all).is_empty())?;
    let told = |all: &[Value]| with_ids(all, &ids).len();
    let before = told(agent.events.read()?);
    agent
        .events
        .wait("calls are told again", |all| told(all) >= before + 100)?;
    std::fs::write(&enough, "")?;
    let status = client.wait(std::time::Duration::from_secs(30))?;
    ensure!(status.success(), "the client failed{}", client.last_words());
    drop(client);
    let events = agent.end()?;
    let silences = silences(&events.all);
    ensure!(
        silences.len() == 1,
        "one silence is told {} times",
        silences.len()
    );
    let (from, until) = silences[0];
    ensure!(
        from > killed - SILENCE_NS_MORE && until < back + SILENCE_NS_MORE,
        "silent from {from} to {until} is said; killed at {killed}, back at {back}"
    );
    let stored: std::collections::HashSet<(&str, &str)> = with_ids(&events.all, &ids)
        .iter()
        .map(|call| (text(&call["request"]["trace_id"]), text(&call["direction"])))
        .collect();
    let text = std::fs::read_to_string(&times)?;
    let mut missing = 0;
    // By direction, what is missing although the agent was there: calls on connections that it gave up under this load.
    let mut given_up = [0_u64; 2];
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, began, ended] = words[..] else { continue };
        let (began, ended): (i128, i128) = (began.parse()?, ended.parse()?);
        for (at, direction) in ["inbound", "outbound"].into_iter().enumerate() {
            if !stored.contains(&(id, direction)) {
                missing += 1;
                let silent = began <= until && ended >= from;
                ensure!(
                    silent || began > until,
                    "an {direction} call from {began} to {ended} is missing, and no silence from {from} to {until}"
                );
                given_up[at] += u64::from(!silent);
            }
        }
    }
    for (calls, (direction, pid)) in given_up
        .into_iter()
        .zip([("inbound", app.process.pid()), ("outbound", client_pid)])
    {
        let bytes = u64::from(CALL_BYTES_MIN) * calls;
        let told = told_lost(&events.all, pid);
        ensure!(
            told >= bytes,
            "{calls} {direction} calls are missing outside of the silence, and {told} bytes are told as lost"
        );
    }
    ensure!(missing > 0, "nothing was missed: nothing is tried here");
    Ok(())
}

/// From when to when (Unix nanoseconds) nobody saw.
/// Fewer bytes than any call of these tests has, on either side: its request's head alone is longer.
const CALL_BYTES_MIN: u32 = 100;
/// How much longer than from the kill to the new agent's readiness a silence may be told: what was not written yet, and
/// what was in the ring.
const SILENCE_NS_MORE: i128 = 5_000_000_000;

/// Bytes of a process that were told as lost while an agent was there.
fn told_lost(all: &[Value], pid: u32) -> u64 {
    let losses = all.iter().map(|event| &event["flow_loss"]);
    losses
        .filter(|loss| loss["process"]["pid"] == pid)
        .filter_map(|loss| loss["bytes"].as_u64())
        .sum()
}

fn silences(all: &[Value]) -> Vec<(i128, i128)> {
    all.iter()
        .filter(|event| event["flow_loss"]["reason"] == "agent-killed")
        .filter_map(|event| {
            let until: jiff::Timestamp = text(&event["time"]).parse().ok()?;
            let duration = i128::from(event["flow_loss"]["duration_ns"].as_u64()?);
            Some((until.as_nanosecond() - duration, until.as_nanosecond()))
        })
        .collect()
}

fn a_bad_policy_leaves_the_old_one() -> Result {
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let base = format!("http://127.0.0.1:{}/", app.port);
    let rule =
        |action: &str| json!([{ "name": "all", "match": { "direction": "inbound" }, "action": action }]);
    let file = policy::file(&world, "tests", &rule("alert"))?;
    let mut agent = Agent::start(&world, |config| config["policies"] = json!([file]))?;
    let good = agent.status()?["policy_digest"].clone();
    let audits = |all: &[Value], accepted: bool| {
        of_kind(all, "audit")
            .iter()
            .filter(|audit| {
                audit["what"] == "policy" && audit["accepted"] == accepted && audit["who"] != "start"
            })
            .count()
    };
    std::fs::write(&file, "kind: ApiPolicy\nrules: nonsense\n")?;
    agent.reload();
    agent
        .events
        .wait("the refusal is audited", |all| audits(all, false) == 1)?;
    ensure!(
        agent.status()?["policy_digest"] == good,
        "the old policies are not in force any more"
    );
    let ids = trace_ids(1);
    clients::curl(&world, Place::Inside, &base, None, &ids, Connections::Each, 200)?;
    let actions = |call: &Value| call["direction"] == "inbound" && call["verdict"]["action"] == "alert";
    agent.events.wait("the old policy judges", |all| {
        with_ids(all, &ids).into_iter().any(actions)
    })?;
    policy::file(&world, "tests", &rule("allow"))?;
    agent.reload();
    agent
        .events
        .wait("the change is audited", |all| audits(all, true) == 1)?;
    ensure!(
        agent.status()?["policy_digest"] != good,
        "the new policy is not in force"
    );
    agent.end()?;
    Ok(())
}

fn what_is_read_does_not_leave() -> Result {
    const CANARY: &str = "Kanarienvogel";
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let port = free_port()?;
    let collector = Collector::start(&world, port)?;
    let metrics = format!("127.0.0.1:{}", free_port()?);
    let mut config = crate::harness::agent::config(&world);
    config["export"] = json!([
        { "jsonl": { "path": world.path("events.jsonl") } },
        { "collector": { "endpoint": format!("http://127.0.0.1:{port}") } },
    ]);
    config["metrics"] = json!({ "listen": metrics });
    // The log says all it can, and a core would be written if anybody may have one.
    let prefix = ["env", "APIWARD_LOG=debug", "prlimit", "--core=unlimited", "--"];
    let mut agent = Agent::launch_through(&world, &config, &prefix)?;
    agent.wait_ready()?;
    let url = format!(
        "http://127.0.0.1:{}/fhir/Patient/{CANARY}?name={CANARY}",
        app.port
    );
    let header = |name: &str| format!("{name}: {CANARY}");
    Start::new(&world, Place::Inside, program("curl")?)
        .args(["-q", "--silent", "--noproxy", "*", "--output", "/dev/null"])
        .args([
            "--header",
            &header("X-Request-Id"),
            "--header",
            &header("traceparent"),
        ])
        .args([
            "--header",
            &header("Authorization"),
            "--header",
            &header("Cookie"),
        ])
        .args([
            "--header",
            &format!("Content-Type: text/{CANARY}"),
            "--user-agent",
            CANARY,
        ])
        .args(["--data", &format!("family={CANARY}")])
        .arg(&url)
        .run()?;
    let sides = |all: &[Value]| {
        of_kind(all, "call")
            .iter()
            .filter(|call| call["request"]["method"] == "POST")
            .count()
    };
    agent.events.wait("both sides are told", |all| sides(all) == 2)?;
    until("both sides are stored", || Ok(sides(&collector.stored()?) == 2))?;
    let told = [
        agent.command(&["status", "--output", "json"])?.run()?,
        agent.command(&["status"])?.run()?,
        Start::new(&world, Place::Ours, program("sh")?)
            .name("doctor")
            .arg("-c")
            // Its verdict is the host's, not asked for here.
            .arg(format!("{} doctor || true", binary("apiward")?.display()))
            .run()?,
        Start::new(&world, Place::Ours, program("curl")?)
            .name("metrics")
            .args(["-q", "--silent", "--fail", "--noproxy", "*"])
            .arg(format!("http://{metrics}/metrics"))
            .run()?,
        agent
            .command(&["why", "1", "--output", "json"])?
            .run()
            .unwrap_or_default(),
    ];
    ensure!(
        !told.iter().any(|text| text.contains(CANARY)),
        "a command shows what was read"
    );
    ensure!(
        agent.process.output()?.contains("DEBUG"),
        "the log does not say all it can"
    );
    agent.process.signal(rustix::process::Signal::ABORT);
    let status = agent.process.wait(std::time::Duration::from_secs(10))?;
    ensure!(
        status.signal() == Some(6) && !status.core_dumped(),
        "what the agent has read is in a core: {status}"
    );
    drop((agent, collector));
    let mut leaked = Vec::new();
    look_for(CANARY.as_bytes(), world.folder(), &mut leaked)?;
    ensure!(leaked.is_empty(), "what was read is in {leaked:?}");
    Ok(())
}

/// Files below a folder that contain these bytes; what the clients and servers wrote themselves is not meant.
fn look_for(bytes: &[u8], folder: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            look_for(bytes, &path, found)?;
        } else if path.is_file() {
            let content = std::fs::read(&path)?;
            let ours = !path.ends_with("curl.log") && !path.ends_with("app.log");
            if ours && content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
    Ok(())
}

fn a_second_agent_is_refused() -> Result {
    let world = World::new()?;
    let agent = Agent::start(&world, |_| {})?;
    let mut config = crate::harness::agent::config(&world);
    config["control"] = json!(world.path("second.sock"));
    config["spool"] = json!({ "dir": world.path("second-spool") });
    let mut second = Agent::launch(&world, &config)?;
    let status = second.process.wait(std::time::Duration::from_secs(30))?;
    ensure!(!status.success(), "a second agent ran");
    let said = second.process.output()?;
    ensure!(
        said.contains(crate::harness::agent::ANOTHER_AGENT),
        "it does not say why: {said}"
    );
    drop(second);
    agent.end()?;
    Ok(())
}
