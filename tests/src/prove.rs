//! Canaries: what the agent promises is measured through its own hooks, by what the far end got, and a promise that does
//! not hold is told. Other traffic is never touched by it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::clients::{self, Connections};
use crate::harness::events::{text, trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::wire::{self, piece};
use crate::harness::world::binary;
use crate::harness::{Agent, Place, Result, World, cgroup, policy, servers, until};

pub const STORIES: &[Story] = &[
    (
        "canaries_beside_policies_in_force",
        canaries_beside_policies_in_force,
    ),
    (
        "canaries_while_observing_stop_nobody_else",
        canaries_while_observing_stop_nobody_else,
    ),
    (
        "canaries_over_a_reload_and_after_a_kill",
        canaries_over_a_reload_and_after_a_kill,
    ),
    ("canaries_without_an_agent", canaries_without_an_agent),
    (
        "a_canary_that_fails_degrades_what_rests_on_it",
        a_canary_that_fails_degrades_what_rests_on_it,
    ),
    (
        "canaries_that_the_agent_sends_itself",
        canaries_that_the_agent_sends_itself,
    ),
    (
        "too_little_within_reach_degrades_a_policy",
        too_little_within_reach_degrades_a_policy,
    ),
];

/// Canaries take as long as their processes take to start.
const LIMIT: Duration = Duration::from_secs(150);
/// Forbidden calls a quadrant.
const CALLS: &str = "6";

/// What `apiward prove` says, with its exit code.
fn proved(start: Start<'_>) -> Result<(Value, i32)> {
    let mut process = start.spawn()?;
    let status = process.wait(LIMIT)?;
    let text = process.output()?;
    let report = serde_json::from_str(&text).with_context(|| format!("no report ({status}): {text}"))?;
    Ok((report, status.code().context("it was killed")?))
}

fn prove(agent: &Agent<'_>) -> Result<(Value, i32)> {
    proved(agent.command(&[
        "prove", "--output", "json", "--reason", "a test", "--calls", CALLS,
    ])?)
}

fn quadrant<'v>(list: &'v Value, name: &str) -> Result<&'v Value> {
    list.as_array()
        .and_then(|all| all.iter().find(|one| one["quadrant"] == name))
        .with_context(|| format!("no {name} in {list:#}"))
}

/// Every quadrant is as promised, and each of its calls was counted once.
fn check_kept(report: &Value, code: i32) -> Result {
    ensure!(code == 0, "the exit code is {code}: {report:#}");
    for name in ["inbound-clear", "outbound-clear", "inbound-tls", "outbound-tls"] {
        let one = quadrant(&report["quadrants"], name)?;
        let forbidden: u64 = one["forbidden"]
            .as_object()
            .into_iter()
            .flat_map(|words| words.values().filter_map(Value::as_u64))
            .sum();
        ensure!(
            one["failed"] == false && forbidden.to_string() == CALLS && one["allowed_failed"] == 0,
            "{name}: {one:#}"
        );
        if name.ends_with("clear") {
            ensure!(
                one["measured"] == "prevented"
                    && one["promised"] == "prevented"
                    && one["told"] == one["forbidden"],
                "{name}: {one:#}"
            );
        }
    }
    Ok(())
}

/// No cgroup of canaries is below this one.
fn check_nothing_left(scope: &Path) -> Result {
    until("no canary's cgroup is left", || {
        let left = std::fs::read_dir(scope)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("apiward-canary-"))
            .count();
        Ok(left == 0)
    })
}

fn canaries_beside_policies_in_force() -> Result {
    let world = World::new()?;
    // Policies that would stop every canary, allowed ones as well, if they were asked.
    let rules = json!([
        { "name": "nothing-comes", "match": { "direction": "inbound" }, "action": "deny" },
        { "name": "nothing-leaves", "match": { "direction": "outbound" }, "action": "deny" },
    ]);
    let file = policy::file(&world, "tests", &rules)?;
    let agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let before = agent.status()?;
    let (report, code) = prove(&agent)?;
    check_kept(&report, code)?;
    ensure!(
        report["agent"] == "running" && report["mode"] == "enforce",
        "whose canaries: {report:#}"
    );
    let status = agent.status()?;
    ensure!(
        status["policy_digest"] == before["policy_digest"] && status["mode"] == "enforce",
        "something else is in force now"
    );
    ensure!(
        status["policies"][0]["coverage"]["flows"] == 0 && status["policies"][0]["matched"] == 0,
        "canaries count for nobody's policy: {:#}",
        status["policies"]
    );
    ensure!(
        quadrant(&status["canaries"], "inbound-clear")?["measured"] == "prevented",
        "the status tells of no canaries: {:#}",
        status["canaries"]
    );
    agent.check_no_losses()?;
    check_nothing_left(&world.inside.path)?;
    // The policies are as they were.
    let server = servers::app(&world, Place::Inside, None)?;
    let pieces = [piece(wire::head("GET", "/anything", &trace_ids(1)[0], ""))];
    let got = wire::command(&world, Place::Outside, server.port, None, &pieces, &[])?.run()?;
    ensure!(got.starts_with("HTTP/1.1 403 "), "the client got {got:?}");
    drop(server);
    let events = agent.end()?;
    let calls = events.of_kind("call");
    ensure!(
        calls.len() == 1,
        "canaries' calls are nobody's events: {} calls",
        calls.len()
    );
    let changes = |what: &str| -> Vec<Value> {
        events
            .of_kind("audit")
            .into_iter()
            .filter(|audit| audit["what"] == what && audit["who"] != "start")
            .cloned()
            .collect()
    };
    let audits = changes("canary");
    ensure!(
        audits.len() == 2 && audits[0]["reason"] == "a test" && text(&audits[0]["who"]).starts_with("uid=0"),
        "the canaries are not in the audit: {audits:#?}"
    );
    ensure!(
        changes("policy").is_empty(),
        "canaries were told as a change of the policies: {:#?}",
        changes("policy")
    );
    ensure!(
        events
            .of_kind("agent_state")
            .iter()
            .any(|state| state["state"] == "proved"),
        "no event tells what was measured"
    );
    Ok(())
}

fn canaries_while_observing_stop_nobody_else() -> Result {
    let world = World::new()?;
    let rules =
        json!([{ "name": "no-export", "match": { "paths": ["/fhir/{type}/$export"] }, "action": "deny" }]);
    let file = policy::file(&world, "tests", &rules)?;
    let mut agent = Agent::start(&world, |config| config["policies"] = json!([file]))?;
    let server = servers::app(&world, Place::Inside, None)?;
    let mut proving = agent
        .command(&["prove", "--output", "json", "--calls", CALLS])?
        .spawn()?;
    // What the policy would deny goes on all the while.
    let url = format!("http://127.0.0.1:{}/fhir/Patient/$export", server.port);
    let mut ids = Vec::new();
    while proving.ended().is_none() {
        let now = trace_ids(5);
        clients::curl(&world, Place::Outside, &url, None, &now, Connections::Each, 200)?;
        ids.extend(now);
        ensure!(ids.len() < 20_000, "the canaries do not end");
    }
    let status = proving.wait(LIMIT)?;
    let report: Value = serde_json::from_str(&proving.output()?)?;
    check_kept(&report, status.code().unwrap_or(-1))?;
    ensure!(report["mode"] == "observe", "{report:#}");
    ensure!(agent.status()?["mode"] == "observe", "the mode has changed");
    for call in agent.events.wait_calls(ids.len(), &ids)? {
        ensure!(
            call["verdict"]["guarantee"] == "observed" && call["verdict"]["mode"] == "observe",
            "not only observed: {call:#}"
        );
    }
    ensure!(
        with_ids(&agent.events.all, &ids).len() == ids.len(),
        "a call was told twice"
    );
    check_nothing_left(&world.inside.path)?;
    drop((proving, server));
    agent.end()?;
    Ok(())
}

/// A reload leaves them in force; whoever sends them may be killed, and nothing of them stays.
fn canaries_over_a_reload_and_after_a_kill() -> Result {
    let world = World::new()?;
    let rules = json!([{ "name": "no-export", "match": { "paths": ["/x"] }, "action": "deny" }]);
    let file = policy::file(&world, "tests", &rules)?;
    let agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let run = || -> Option<std::path::PathBuf> {
        let mut entries = std::fs::read_dir(&world.inside.path).ok()?.flatten();
        let found =
            entries.find(|entry| entry.file_name().to_string_lossy().starts_with("apiward-canary-"))?;
        Some(found.path())
    };
    let begun = |calls: &str| {
        let mut proving = agent
            .command(&["prove", "--output", "json", "--calls", calls])?
            .spawn()?;
        proving.wait_until("canaries run", || {
            let near = run().map(|path| path.join("near/cgroup.procs"));
            let list = near.and_then(|list| std::fs::read_to_string(list).ok());
            Ok(list.is_some_and(|list| !list.is_empty()))
        })?;
        Ok::<_, anyhow::Error>(proving)
    };
    let mut proving = begun(CALLS)?;
    agent
        .command(&["policy", "reload", "--reason", "a test"])?
        .run()?;
    let status = proving.wait(LIMIT)?;
    check_kept(
        &serde_json::from_str(&proving.output()?)?,
        status.code().unwrap_or(-1),
    )?;
    let mut proving = begun("200")?;
    proving.kill()?;
    check_nothing_left(&world.inside.path)?;
    // The next ones find nothing in their way.
    let (report, code) = prove(&agent)?;
    check_kept(&report, code)?;
    let events = agent.end()?;
    ensure!(
        events
            .of_kind("audit")
            .iter()
            .any(|audit| audit["what"] == "canary"
                && audit["accepted"] == true
                && text(&audit["reason"]).contains("has gone away")),
        "no record of the canaries that were left alone"
    );
    Ok(())
}

fn canaries_without_an_agent() -> Result {
    let world = World::new()?;
    let config = world.write(
        "nobody.yaml",
        format!("control: {}\n", world.path("nobody.sock").display()),
    )?;
    let left = |folder: &Path| -> Result<Vec<String>> {
        Ok(std::fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("apiward-prove-"))
            .collect())
    };
    let everywhere = || -> Result<Vec<String>> {
        Ok([left(&cgroup::mount_point()?)?, left(&std::env::temp_dir())?].concat())
    };
    // Of one that was killed before.
    let before = everywhere()?;
    let start = Start::new(&world, Place::Ours, binary("apiward")?)
        .name("prove")
        .args(["prove", "--output", "json", "--calls", CALLS, "--config"])
        .arg(&config);
    let (report, code) = proved(start)?;
    check_kept(&report, code)?;
    ensure!(report["agent"] == "own", "{report:#}");
    let mut found = everywhere()?;
    found.retain(|name| !before.contains(name));
    ensure!(found.is_empty(), "something was left behind: {found:?}");
    Ok(())
}

/// Whatever the reason is for which the hooks do not reach the canaries: here, that their cgroup is exempt.
fn a_canary_that_fails_degrades_what_rests_on_it() -> Result {
    let world = World::new()?;
    let inbound = policy::file(
        &world,
        "inbound",
        &json!([{ "name": "no-export", "match": { "direction": "inbound", "paths": ["/x"] }, "action": "deny" }]),
    )?;
    let allowing = policy::file(&world, "allowing", &json!([{ "name": "all", "action": "allow" }]))?;
    let agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([inbound, allowing]);
        config["exempt"] = json!({ "cgroups": [&world.inside.path] });
    })?;
    let (report, code) = prove(&agent)?;
    ensure!(code == 1, "the exit code is {code}: {report:#}");
    let one = quadrant(&report["quadrants"], "inbound-clear")?;
    ensure!(
        one["failed"] == true
            && one["measured"] == "none"
            && text(&one["reason"]).contains("prevented was promised"),
        "{one:#}"
    );
    let status = agent.status()?;
    let degraded = |name: &str| -> Vec<String> {
        let policies = status["policies"].as_array().into_iter().flatten();
        policies
            .filter(|policy| policy["name"] == name)
            .flat_map(|policy| policy["degraded"].as_array().cloned().unwrap_or_default())
            .map(|line| text(&line).to_owned())
            .collect()
    };
    ensure!(
        degraded("inbound")
            .iter()
            .any(|line| line.starts_with("canary inbound-clear: ")),
        "the policy is not degraded: {:#}",
        status["policies"]
    );
    ensure!(
        !degraded("inbound").iter().any(|line| line.contains("outbound")) && degraded("allowing").is_empty(),
        "policies that do not rest on it are degraded: {:#}",
        status["policies"]
    );
    let events = agent.end()?;
    let states = events.of_kind("agent_state");
    for (state, about) in [
        ("canary-failed", "inbound-clear"),
        ("policy-degraded", "policy inbound: "),
    ] {
        ensure!(
            states
                .iter()
                .any(|one| one["state"] == state && text(&one["detail"]).contains(about)),
            "no event {state} of {about}"
        );
    }
    Ok(())
}

fn canaries_that_the_agent_sends_itself() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |config| config["prove"] = json!({ "at_start": true }))?;
    let mut last = Value::Null;
    crate::harness::within(LIMIT, "the agent has sent canaries", || {
        last = agent.status()?;
        let missed = last["reasons"].to_string().contains("could not be sent");
        Ok((missed || last["canaries"].as_array().map(Vec::len) == Some(4)).then_some(()))
    })?;
    ensure!(
        !last["reasons"].to_string().contains("could not be sent"),
        "{:#}",
        last["reasons"]
    );
    ensure!(
        quadrant(&last["canaries"], "outbound-clear")?["measured"] == "prevented",
        "{:#}",
        last["canaries"]
    );
    agent.events.wait("the result is an event", |all| {
        all.iter().any(|event| event["agent_state"]["state"] == "proved")
    })?;
    check_nothing_left(&world.inside.path)?;
    agent.end()?;
    Ok(())
}

fn too_little_within_reach_degrades_a_policy() -> Result {
    let world = World::new()?;
    let mut document = policy::document(
        "tests",
        &json!([{ "name": "no-export", "match": { "paths": ["/x"] }, "action": "deny" }]),
    );
    document["spec"]["coverage"] = json!({ "min": 0.5 });
    let file = world.write("tests.yaml", format!("{document:#}\n"))?;
    let agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let server = servers::app(&world, Place::Inside, None)?;
    let coverage = |status: &Value| status["policies"][0].clone();
    let calls = |count: usize| -> Result {
        let url = format!("http://127.0.0.1:{}/fhir/Patient/1", server.port);
        clients::curl(
            &world,
            Place::Outside,
            &url,
            None,
            &trace_ids(count),
            Connections::Each,
            200,
        )
    };
    calls(1)?;
    let status = agent.wait_status("the first connection counts", |status| {
        coverage(status)["coverage"]["flows"] != 0
    })?;
    ensure!(
        coverage(&status)["degraded"] == json!([]),
        "{:#}",
        coverage(&status)
    );
    // It begins like TLS of a library that nobody here knows.
    for _ in 0..20 {
        let pieces = [piece("\u{16}\u{3}\u{1}\u{0}\u{10}0123456789abcd\r\n")];
        wire::command(&world, Place::Outside, server.port, None, &pieces, &[])?.run()?;
    }
    let status = agent.wait_status("the policy is degraded", |status| {
        coverage(status)["degraded"]
            .as_array()
            .is_some_and(|why| !why.is_empty())
    })?;
    let policy = coverage(&status);
    ensure!(
        policy["degraded"].to_string().contains("coverage.min")
            && policy["coverage"]["min"] == 0.5
            && policy["coverage"]["blind"]
                .to_string()
                .contains("\"reason\":\"unknown-tls\""),
        "{policy:#}"
    );
    calls(60)?;
    agent.wait_status("the policy is as it should be again", |status| {
        coverage(status)["degraded"] == json!([])
    })?;
    drop(server);
    let events = agent.end()?;
    let count = |state: &str| {
        let states = events.of_kind("agent_state");
        states.iter().filter(|one| one["state"] == state).count()
    };
    ensure!(
        count("policy-degraded") == 1 && count("policy-recovered") == 1,
        "told {} and {} times",
        count("policy-degraded"),
        count("policy-recovered")
    );
    Ok(())
}
