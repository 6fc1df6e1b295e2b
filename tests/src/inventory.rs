//! The inventory of a real application: every operation that was called is one endpoint, a scanner adds none, and no
//! name of a person's is shown.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::process::Start;
use crate::harness::world::{binary, program};
use crate::harness::{Agent, Place, Process, Result, World, servers, until};

pub const STORIES: &[Story] = &[("inventory_of_an_application", inventory_of_an_application)];

const SERVICE: &str = include_str!("assets/records.py");
const CALLS: &str = include_str!("assets/calls.py");

/// What the application serves, as it is shown.
const OPERATIONS: [&str; 11] = [
    "GET /api/appointments",
    "POST /api/appointments",
    "GET /api/appointments/{id}",
    "DELETE /api/appointments/{id}",
    "GET /api/appointments/{id}/notes",
    "GET /api/frobs/{id}/blips",
    "GET /patients/{id}",
    "GET /patients/{id}/chart",
    "GET /tags/{id}",
    "GET /fhir/Patient/{id}",
    "GET /v1/health",
];

const NAMES: [&str; 10] = [
    "alpherin", "brondel", "cwmarth", "delquist", "erravan", "fostrik", "gwendal", "hulvard", "iskander",
    "jorvin",
];

/// Calls as a day's work makes them, and a scanner's.
fn day() -> Vec<String> {
    let mut calls = Vec::new();
    for number in 0..60usize {
        let name = NAMES[number % NAMES.len()];
        let uuid = format!("8b0a5f62-8a3e-4c6b-9d19-4d43cd{number:06x}");
        calls.extend([
            "GET /api/appointments?status=booked".to_owned(),
            "POST /api/appointments".to_owned(),
            format!("GET /api/appointments/{number}"),
            format!("DELETE /api/appointments/{number}"),
            format!("GET /api/appointments/{number}/notes"),
            format!("GET /api/frobs/{uuid}/blips"),
            format!("GET /patients/{name}"),
            format!("GET /patients/{name}/chart"),
            format!("GET /tags/{name}-tag"),
            format!("GET /fhir/Patient/pat-{number}"),
            "GET /v1/health".to_owned(),
        ]);
    }
    for number in 0..1000 {
        calls.push(format!("GET /scan-{:x}/admin{number}.php", number * 7919));
        calls.push(format!("GET /api/{}{number:x}", NAMES[number % NAMES.len()]));
    }
    calls
}

fn service(world: &World) -> Result<(Process, u16)> {
    let port = servers::free_port()?;
    let script = world.write("records.py", SERVICE)?;
    let mut process = Start::new(world, Place::Inside, program("python3")?)
        .name("records")
        .arg("-I")
        .arg(script)
        .arg("--listen")
        .arg(format!("127.0.0.1,{port}"))
        .spawn()?;
    process.wait_until("the application accepts", || {
        Ok(servers::accepts((Ipv4Addr::LOCALHOST, port).into()))
    })?;
    Ok((process, port))
}

fn call(world: &World, port: u16, calls: &[String]) -> Result {
    let list = world.write("calls.txt", calls.join("\n"))?;
    let script = world.write("calls.py", CALLS)?;
    Start::new(world, Place::Inside, program("python3")?)
        .name("calls")
        .arg("-I")
        .arg(script)
        .arg(port.to_string())
        .arg(list)
        .run()?;
    Ok(())
}

/// What the agent's command prints, as JSON.
fn inventory(agent: &Agent<'_>, more: &[&str]) -> Result<Vec<Value>> {
    let mut arguments = vec!["inventory", "--output", "json"];
    arguments.extend(more);
    let text = agent.command(&arguments)?.run()?;
    let parsed: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
    Ok(parsed["endpoints"].as_array().cloned().unwrap_or_default())
}

fn shown(endpoints: &[Value]) -> BTreeSet<String> {
    endpoints
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            format!("{} {}", text("method"), text("path"))
        })
        .collect()
}

fn inventory_of_an_application() -> Result {
    let world = World::new()?;
    let agent = Agent::start(&world, |_| {})?;
    let (process, port) = service(&world)?;
    let calls = day();
    call(&world, port, &calls)?;
    until("all calls are in the inventory", || {
        let served = inventory(&agent, &["--direction", "inbound", "--unmatched"])?;
        let total: u64 = served.iter().filter_map(|one| one["calls"].as_u64()).sum();
        Ok(total >= calls.len() as u64)
    })?;
    let served = inventory(&agent, &["--direction", "inbound"])?;
    let wanted: BTreeSet<String> = OPERATIONS.iter().map(|one| (*one).to_owned()).collect();
    ensure!(shown(&served) == wanted, "{:#?}", shown(&served));
    for endpoint in &served {
        let counted = endpoint["calls"].as_u64();
        ensure!(counted == Some(60), "{endpoint:#}");
        let caller = endpoint["callers"][0]["name"].as_str().unwrap_or_default();
        ensure!(caller.contains("python"), "{endpoint:#}");
        ensure!(
            endpoint["exposure"] == "east-west" && endpoint["latency_ns"]["p95"].is_u64(),
            "{endpoint:#}"
        );
    }
    let table = agent.command(&["inventory", "--unmatched"])?.run()?;
    ensure!(table.contains("/api/appointments/{id}/notes"), "{table}");
    let everything = format!("{table}{:?}", inventory(&agent, &["--unmatched"])?);
    for name in NAMES {
        ensure!(!everything.contains(name), "{name} is shown");
    }
    documents(&world, &agent)?;
    drafts(&world, &agent, port)?;
    drop(process);
    agent.end()?;
    // It is there again after a restart, and was told as events.
    let told = std::fs::read_to_string(world.path("events.jsonl"))?;
    ensure!(
        told.lines().any(|line| line.contains("\"kind\":\"inventory\"")),
        "no event tells of the inventory"
    );
    for name in NAMES {
        ensure!(!told.contains(name), "{name} is in an event");
        let kept = std::fs::read(world.path("spool/inventory"))?;
        let is_kept = kept.windows(name.len()).any(|window| window == name.as_bytes());
        ensure!(!is_kept, "{name} is in the file of the inventory");
    }
    let agent = Agent::start(&world, |_| {})?;
    let again = inventory(&agent, &["--direction", "inbound"])?;
    ensure!(shown(&again) == wanted, "{:#?}", shown(&again));
    agent.end()?;
    Ok(())
}

/// The document of what is served, and what differs from one that somebody wrote.
fn documents(world: &World, agent: &Agent<'_>) -> Result {
    let text = agent.command(&["inventory", "--openapi"])?.run()?;
    let document: Value = serde_json::from_str(&text)?;
    ensure!(
        document["paths"]["/api/appointments/{id}/notes"]["get"].is_object(),
        "{document:#}"
    );
    let answer = &document["paths"]["/api/appointments/{id}/notes"]["get"]["responses"]["2XX"]["content"];
    let schema = &answer["application/json"]["schema"];
    ensure!(
        schema["properties"]["status"]["type"] == "integer" && schema["required"] == json!(["status"]),
        "the schema is not inferred: {schema:#}"
    );
    for name in NAMES {
        ensure!(!text.contains(name), "{name} is in the document");
    }
    let spec = world.write(
        "spec.yaml",
        "openapi: 3.1.0\ninfo: { title: t, version: v }\npaths:\n  /api/appointments: { get: { deprecated: true }, post: {} }\n  \
         /never: { get: {} }\n",
    )?;
    let mut process = agent
        .command(&[
            "inventory",
            "--output",
            "json",
            "--direction",
            "inbound",
            "--diff",
            spec.to_str().context("a path of text")?,
        ])?
        .spawn()?;
    let status = process.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(3), "{status}: {}", process.output()?);
    let found: Value = serde_json::from_str(&process.output()?)?;
    let kinds: BTreeSet<&str> = found["differences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    for kind in ["shadow-endpoint", "shadow-parameter", "zombie", "unseen"] {
        ensure!(kinds.contains(kind), "no {kind}: {found:#}");
    }
    Ok(())
}

/// An allow-list of what is served holds its own tests, and would have denied the scanner alone.
fn drafts(world: &World, agent: &Agent<'_>, port: u16) -> Result {
    let folder = world.path("drafts");
    std::fs::create_dir_all(&folder)?;
    let said = agent
        .command(&[
            "policy",
            "draft",
            "--workload",
            "python3",
            "--from",
            "24h",
            "--out",
            folder.to_str().context("a path of text")?,
        ])?
        .run()?;
    let policy = said
        .lines()
        .next()
        .context("the draft's name is printed")?
        .to_owned();
    let apiward = |name: &str| -> Result<Start<'_>> {
        Ok(Start::new(world, Place::Ours, binary("apiward")?).name(name.to_owned()))
    };
    apiward("test")?.args(["policy", "test"]).arg(&policy).run()?;
    // What nobody did while the draft was made.
    const FRESH: usize = 5;
    call(world, port, &vec!["DELETE /fhir/Patient/1044".to_owned(); FRESH])?;
    until("the fresh calls are told", || {
        let told = std::fs::read_to_string(world.path("events.jsonl"))?;
        let fresh = |line: &&str| {
            line.contains("\"inbound\"")
                && line.contains("\"method\":\"DELETE\",\"path\":\"/fhir/Patient/{id}\"")
        };
        Ok(told.lines().filter(fresh).count() >= FRESH)
    })?;
    let mut process = apiward("replay")?
        .args(["policy", "replay", "--output", "json", "--calls"])
        .arg(world.path("events.jsonl"))
        .arg(&policy)
        .spawn()?;
    let status = process.wait(Duration::from_secs(60))?;
    ensure!(status.code() == Some(1), "{status}: {}", process.output()?);
    let found: Value = serde_json::from_str(&process.output()?)?;
    let number = |key: &str| found[key].as_u64().unwrap_or_default();
    // The scanner's calls are 2,000; those whose words are hidden may be anything that the policy names.
    ensure!(
        number("denied") + number("undecidable") >= 2_000 && number("denied") >= FRESH as u64,
        "{found:#}"
    );
    ensure!(number("allowed") >= 400, "{found:#}");
    Ok(())
}
