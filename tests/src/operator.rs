//! What an operator does under pressure, with what the commands print: a bad policy is taken back, a collector does what
//! this host permits and no more, and a configuration that cannot work says so and breaks nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::certificates::{Authority, Identity};
use crate::harness::clients::{self, Connections};
use crate::harness::events::{of_kind, text, trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{accepts, free_port};
use crate::harness::world::{binary, program};
use crate::harness::{Agent, Place, Process, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    (
        "a_bad_policy_is_undone_by_what_is_printed",
        a_bad_policy_is_undone,
    ),
    (
        "a_collector_does_what_the_host_permits",
        a_collector_does_what_the_host_permits,
    ),
    (
        "what_cannot_be_configured_is_told",
        what_cannot_be_configured_is_told,
    ),
    ("what_cannot_be_had_degrades", what_cannot_be_had_degrades),
];

/// What a command printed, and how it ended.
fn said(mut process: Process) -> Result<(Option<i32>, String)> {
    let status = process.wait(Duration::from_secs(60))?;
    Ok((status.code(), process.output()?))
}

fn rules(action: &str) -> Value {
    json!([{ "name": "everything", "match": { "direction": "inbound" }, "action": action }])
}

/// One call through the application; whether it was answered.
fn works(world: &World, port: u16) -> Result<bool> {
    let process = Start::new(world, Place::Inside, program("curl")?)
        .args(["-q", "--silent", "--fail", "--max-time", "10", "--noproxy", "*"])
        .args(["--output", "/dev/null"])
        .arg(format!("http://127.0.0.1:{port}/patients/1"))
        .spawn()?;
    Ok(said(process)?.0 == Some(0))
}

/// The command that a line proposes.
fn proposed<'a>(printed: &'a str, before: &str) -> Result<Vec<&'a str>> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix(before))
        .with_context(|| format!("nothing is proposed as `{before}`: {printed}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words.first() == Some(&"apiward"), "no command of ours: {line}");
    Ok(words[1..].to_vec())
}

fn a_bad_policy_is_undone() -> Result {
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let file = policy::file(&world, "tests", &rules("allow"))?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    ensure!(works(&world, app.port)?, "an allowed call failed");
    let good = agent.status()?["policy_digest"].clone();

    policy::file(&world, "tests", &rules("deny"))?;
    let started = Instant::now();
    let reload = agent.command(&["policy", "reload", "--reason", "change 1"])?;
    let (code, printed) = said(reload.spawn()?)?;
    ensure!(code == Some(0), "the reload failed: {printed}");
    ensure!(
        printed.contains("AW1"),
        "no warning of a denial of everything: {printed}"
    );
    ensure!(
        !works(&world, app.port)?,
        "the policy denies everything, and a call passed"
    );

    // The line that is printed, word for word.
    let command = proposed(&printed, "to undo: ")?;
    let (code, undone) = said(
        Start::new(&world, Place::Ours, binary("apiward")?)
            .name("undo")
            .args(command.iter().map(ToString::to_string))
            .spawn()?,
    )?;
    ensure!(code == Some(0), "it could not be undone: {undone}");
    ensure!(works(&world, app.port)?, "it was undone, and a call fails");
    ensure!(started.elapsed() < Duration::from_secs(60), "that took too long");
    let status = agent.status()?;
    ensure!(status["policy_digest"] == good, "other policies are in force");
    ensure!(status["mode"] == "enforce", "it does not enforce any more");

    // And the other line, for whoever wants it to stop first.
    agent.reload();
    until("everything is denied again", || Ok(!works(&world, app.port)?))?;
    let command = proposed(&printed, "should it stop what it must not: ")?;
    let (code, observing) = said(
        Start::new(&world, Place::Ours, binary("apiward")?)
            .name("observe")
            .args(command.iter().map(ToString::to_string))
            .spawn()?,
    )?;
    ensure!(code == Some(0), "{observing}");
    ensure!(works(&world, app.port)?, "it observes, and a call fails");

    let all = agent.events.wait("every change is audited", |all| {
        of_kind(all, "audit")
            .iter()
            .filter(|audit| audit["who"] != "start")
            .count()
            == 4
    })?;
    let audits: Vec<&Value> = of_kind(all, "audit")
        .into_iter()
        .filter(|audit| audit["who"] != "start")
        .collect();
    ensure!(
        audits[0]["old_digest"] == good
            && audits[0]["new_digest"] == audits[1]["old_digest"]
            && audits[1]["new_digest"] == good
            && text(&audits[0]["reason"]) == "change 1"
            && text(&audits[0]["who"]).starts_with("uid=0 pid="),
        "the records do not tell what happened: {audits:#?}"
    );
    ensure!(audits[3]["what"] == "mode" && audits[3]["old_digest"] == "enforce");
    agent.end()?;
    Ok(())
}

struct Collector<'a> {
    world: &'a World,
    data: PathBuf,
    _process: Process,
}

impl<'a> Collector<'a> {
    /// With TLS, and for agents of this authority alone.
    fn start(world: &'a World, port: u16, authority: &Authority, identity: &Identity) -> Result<Self> {
        let data = world.path("store");
        let mut process = Start::new(world, Place::Ours, binary("apiward-collector")?)
            .name("collector")
            .args([
                "run",
                "--metrics",
                "off",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--data",
            ])
            .arg(&data)
            .arg("--tls-cert")
            .arg(&identity.certificate)
            .arg("--tls-key")
            .arg(&identity.key)
            .arg("--tls-client-ca")
            .arg(&authority.ca)
            .spawn()?;
        process.wait_until("the collector accepts", || {
            Ok(accepts(([127, 0, 0, 1], port).into()))
        })?;
        Ok(Collector {
            world,
            data,
            _process: process,
        })
    }

    fn command(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        let start = Start::new(self.world, Place::Ours, binary("apiward-collector")?)
            .name(format!("collector-{}", args.first().unwrap_or(&"")))
            .args(args.iter().map(ToString::to_string))
            .arg("--data")
            .arg(&self.data);
        said(start.spawn()?)
    }

    fn agents(&self) -> Result<Vec<Value>> {
        let (_, text) = self.command(&["agents", "--output", "json"])?;
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}

fn a_collector_does_what_the_host_permits() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let (server, client) = (
        authority.issue(&world, "server", &[])?,
        authority.issue(&world, "client", &[])?,
    );
    let port = free_port()?;
    let collector = Collector::start(&world, port, &authority, &server)?;
    let export = |identity: Option<&Identity>| {
        let mut tls = json!({ "ca": authority.ca, "server_name": "localhost" });
        if let Some(identity) = identity {
            tls["cert"] = json!(identity.certificate);
            tls["key"] = json!(identity.key);
        }
        json!([
            { "jsonl": { "path": world.path("events.jsonl") } },
            { "collector": { "endpoint": format!("https://127.0.0.1:{port}"), "tls": tls } },
        ])
    };
    // Without a certificate of its own it is turned away, says so, and works on.
    let stranger = Agent::start(&world, |config| config["export"] = export(None))?;
    let status = stranger.wait_status("the exporter fails", |status| {
        let exporters = status["exporters"].as_array();
        exporters.is_some_and(|all| all.iter().any(|one| one["state"] == "failing"))
    })?;
    ensure!(
        status["verdict"] == "degraded" && text(&status["reasons"][0]).contains("collector"),
        "the status does not say it: {status:#}"
    );
    ensure!(collector.agents()?.is_empty(), "a stranger came in");
    stranger.end()?;

    let file = policy::file(&world, "own", &rules("alert"))?;
    let mut agent = Agent::start(&world, |config| {
        config["export"] = export(Some(&client));
        config["remote"] = json!("policies");
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    until("the agent is connected", || {
        Ok(collector.agents()?.iter().any(|agent| agent["connected"] == true))
    })?;
    let own = agent.status()?["policy_digest"].clone();

    let (code, printed) = collector.command(&["mode", "observe", "--reason", "ticket 1"])?;
    ensure!(code == Some(0) && printed.contains("accepted"), "{printed}");
    let (code, printed) = collector.command(&["mode", "enforce", "--reason", "ticket 2"])?;
    ensure!(
        code == Some(1) && printed.contains("remote: policies"),
        "it was not refused with the reason: {printed}"
    );
    let pushed = policy::file(&world, "pushed", &rules("deny"))?;
    let pushed = pushed.to_string_lossy().into_owned();
    let (code, printed) = collector.command(&["policy", "push", &pushed, "--reason", "ticket 3"])?;
    ensure!(
        code == Some(0) && printed.contains("apiward policy undo"),
        "{printed}"
    );
    let status = agent.status()?;
    ensure!(
        text(&status["policies"][0]["source"]).starts_with("collector/pushed.yaml"),
        "what was pushed is not in force: {status:#}"
    );
    let bad = world.write("bad.yaml", "apiVersion: apiward.io/v1\nkind: ApiPolicy\n")?;
    let bad = bad.to_string_lossy().into_owned();
    let (code, printed) = collector.command(&["policy", "push", &bad, "--reason", "ticket 4"])?;
    ensure!(
        code == Some(1) && printed.contains("REFUSED") && printed.contains("collector/bad.yaml:1:1"),
        "the errors are not told: {printed}"
    );
    let (code, printed) = said(agent.command(&["policy", "undo"])?.spawn()?)?;
    ensure!(code == Some(0), "{printed}");
    ensure!(
        agent.status()?["policy_digest"] == own,
        "its own policies are not back"
    );

    let all = agent.events.wait("every try is audited", |all| {
        let remote = |audit: &&&Value| text(&audit["who"]).starts_with("collector");
        of_kind(all, "audit").iter().filter(remote).count() == 4
    })?;
    let tried: Vec<&Value> = of_kind(all, "audit")
        .into_iter()
        .filter(|audit| text(&audit["who"]).starts_with("collector"))
        .collect();
    let told: Vec<(bool, &str, &str)> = tried
        .iter()
        .map(|audit| {
            (
                audit["accepted"] == true,
                text(&audit["old_digest"]),
                text(&audit["reason"]),
            )
        })
        .collect();
    ensure!(
        told[0] == (true, "enforce", "ticket 1")
            && (told[1].0, told[1].1) == (false, "observe")
            && told[1].2.starts_with("ticket 2; refused: ")
            && tried[1]["new_digest"] == "enforce"
            && (told[2].0, told[2].2) == (true, "ticket 3")
            && !told[3].0
            && tried[3]["old_digest"] == tried[2]["new_digest"]
            && told[3].2.starts_with("ticket 4; refused: collector/bad.yaml"),
        "the records do not tell what happened: {tried:#?}"
    );
    agent.end()?;
    // What was in force is known at the next start.
    let agent = Agent::start(&world, |_| {})?;
    let events = agent.end()?;
    let again = of_kind(&events_of(events)?, "audit")
        .into_iter()
        .rfind(|audit| audit["who"] == "start" && audit["what"] == "policy")
        .cloned();
    ensure!(
        again.is_some_and(|audit| audit["old_digest"] == own),
        "what was in force before the restart is not told"
    );
    Ok(())
}

fn events_of(mut events: crate::harness::events::Events) -> Result<Vec<Value>> {
    Ok(events.read()?.to_vec())
}

/// Configurations that are wrong, what is said, and with which exit code: nothing is loaded, nothing panics.
fn what_cannot_be_configured_is_told() -> Result {
    let world = World::new()?;
    let file = world.write("file", "")?;
    let text = world.write("text", "no descriptors\n")?;
    let base = crate::harness::agent::config(&world);
    let table: Vec<(&str, Value, i32, &str)> = vec![
        ("an unknown key", json!({ "modes": "observe" }), 2, "[AW1002]"),
        ("a bad value", json!({ "mode": "block" }), 2, "[AW1004]"),
        (
            "a file without descriptors",
            json!({ "decode": { "grpc": { "descriptors": [text] } } }),
            2,
            "[AW1004]",
        ),
        (
            "a size out of range",
            json!({ "spool": { "bytes_max": "128GiB" } }),
            2,
            "[AW1005]",
        ),
        (
            "no such policy",
            json!({ "policies": [world.path("none.yaml")] }),
            2,
            "[AW1106]",
        ),
        (
            "no such cgroup",
            json!({ "capture": { "scope": { "cgroup": ["/sys/fs/cgroup/none"] } } }),
            2,
            "[AW1011]",
        ),
        (
            "a file as the spool",
            json!({ "spool": { "dir": &file }, "export": [{ "collector": { "endpoint": "http://127.0.0.1:1" } }] }),
            1,
            "[AW1404]",
        ),
        ("a file as the socket", json!({ "control": &file }), 1, "[AW1403]"),
        (
            "a socket where nothing can be",
            json!({ "control": "/proc/none/c.sock" }),
            1,
            "[AW1403]",
        ),
        (
            "raw paths without an end",
            json!({ "redact": { "paths": { "raw": { "reason": "x" } } } }),
            2,
            "[AW1007]",
        ),
        (
            "keeping where nothing can be kept",
            json!({ "on_exit": "keep", "pins": "/proc/none/apiward" }),
            1,
            "[AW1408]",
        ),
    ];
    for (what, change, code, said) in table {
        let mut config = base.clone();
        for (key, value) in change.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let mut agent = Agent::launch(&world, &config)?;
        let status = agent.process.wait(Duration::from_secs(30))?;
        let printed = agent.process.output()?;
        ensure!(
            status.code() == Some(code) && printed.contains(said) && !printed.contains("panicked"),
            "{what}: {status}, {printed}"
        );
    }
    Ok(())
}

/// What is missing around the agent, and nothing more: it works, and says what does not.
fn what_cannot_be_had_degrades() -> Result {
    let world = World::new()?;
    let app = servers::app(&world, Place::Inside, None)?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut agent = Agent::start(&world, |config| {
        config["metrics"] =
            json!({ "listen": taken.local_addr().map(|address| address.to_string()).unwrap_or_default() });
        config["export"] = json!([
            { "jsonl": { "path": world.path("events.jsonl") } },
            { "jsonl": { "path": "/dev/full" } },
            { "collector": { "endpoint": "http://127.0.0.1:1" } },
        ]);
    })?;
    let ids = trace_ids(3);
    let url = format!("http://127.0.0.1:{}/", app.port);
    clients::curl(&world, Place::Inside, &url, None, &ids, Connections::Each, 200)?;
    agent.events.wait("the calls are told all the same", |all| {
        with_ids(all, &ids).len() >= 6
    })?;
    let status = agent.wait_status("all three are told", |status| {
        let reasons: Vec<&str> = status["reasons"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        let says = |words: &str| reasons.iter().any(|reason| reason.contains(words));
        says("metrics 127.0.0.1") && says("jsonl /dev/full") && says("collector http://127.0.0.1:1")
    })?;
    ensure!(status["verdict"] == "degraded", "{status:#}");
    let lost = status["losses"]["jsonl"].as_u64().unwrap_or_default();
    ensure!(lost > 0, "what /dev/full did not take is not counted: {status:#}");
    agent.end()?;
    Ok(())
}
