//! Denials: what a client got must be what the event says it got, neighbours must not notice, and observing must
//! stop nothing.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::Authority;
use crate::harness::clients::{self, Connections};
use crate::harness::events::{text, trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{Server, accepts};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    ("a_denied_call_inbound_in_clear", || inbound(false)),
    ("a_denied_call_inbound_in_tls", || inbound(true)),
    ("a_denied_call_outbound_in_clear", || outbound(false)),
    ("a_denied_call_outbound_in_tls", || outbound(true)),
    ("a_killed_process_and_no_other", a_killed_process_and_no_other),
    ("observing_stops_nothing", observing_stops_nothing),
    (
        "the_mode_is_switched_while_running",
        the_mode_is_switched_while_running,
    ),
];

/// What curl got of an answer.
struct Got {
    /// Every byte of the application's answer, head included.
    bytes: usize,
    /// The agent has answered in its place, with the name of the event.
    refused: Option<String>,
    exit_code: Option<i32>,
}

/// One call; whatever arrives of its answer is counted.
fn get(world: &World, place: Place, url: &str, ca: Option<&Path>, id: &str) -> Result<Got> {
    let body = world.path("answer.bin");
    let _ = std::fs::remove_file(&body);
    let mut start = Start::new(world, place, program("curl")?)
        .args([
            "-q",
            "--silent",
            "--include",
            "--no-buffer",
            "--max-time",
            "10",
            "--noproxy",
            "*",
            "--output",
        ])
        .arg(&body)
        .args(["--header", &traceparent(id)]);
    if let Some(ca) = ca {
        start = start.arg("--cacert").arg(ca);
    }
    let mut process = start.arg(url).spawn()?;
    let status = process.wait(std::time::Duration::from_secs(20))?;
    let text = std::fs::read(&body).unwrap_or_default();
    let refused = std::str::from_utf8(&text).ok().and_then(|text| {
        let (_, event) = text
            .starts_with("HTTP/1.1 403 ")
            .then(|| text.split_once("\"denied by policy\",\"event\":\""))??;
        Some(event.split('"').next()?.to_owned())
    });
    Ok(Got {
        bytes: if refused.is_some() { 0 } else { text.len() },
        refused,
        exit_code: status.code(),
    })
}

fn deny(direction: &str, path: &str) -> Value {
    json!([{ "name": "no-export", "match": { "direction": direction, "paths": [path] }, "action": "deny" }])
}

/// The verdict on the one call with this id and direction.
fn verdict(agent: &mut Agent<'_>, id: &str, direction: &str) -> Result<Value> {
    let ids = [id.to_owned()];
    let found = |all: &[Value]| -> Vec<Value> {
        with_ids(all, &ids)
            .into_iter()
            .filter(|call| call["direction"] == direction)
            .cloned()
            .collect()
    };
    let all = agent
        .events
        .wait("the denied call is told", |all| !found(all).is_empty())?;
    let calls = found(all);
    ensure!(calls.len() == 1, "the call was told {} times", calls.len());
    Ok(calls[0]["verdict"].clone())
}

/// The word must be no stronger than what the client saw.
fn check_word(verdict: &Value, got: &Got) -> Result {
    ensure!(verdict["action"] == "deny", "it was not denied: {verdict:#}");
    match text(&verdict["guarantee"]) {
        "contained" | "prevented" => ensure!(
            got.bytes == 0,
            "the client got {} bytes of an answer that the event says was {}",
            got.bytes,
            verdict["guarantee"]
        ),
        "cut" => {}
        // It was all over before the verdict: that has to be said, and nothing more.
        "observed" => ensure!(
            !verdict["shortfall"].is_null(),
            "denied, not stopped, and no word on why: {verdict:#}"
        ),
        other => anyhow::bail!("a denied call in enforce mode is `{other}`: {verdict:#}"),
    }
    Ok(())
}

struct Enforcing<'a> {
    agent: Agent<'a>,
    server: Server,
    base: String,
    authority: Authority,
}

fn enforcing<'a>(
    world: &'a World,
    server_at: Place,
    tls: bool,
    mode: &str,
    rules: &Value,
) -> Result<Enforcing<'a>> {
    let authority = Authority::new(world)?;
    let identity = authority.issue(world, "server", &[])?;
    let file = policy::file(world, "tests", rules)?;
    let mut agent = Agent::start(world, |config| {
        config["mode"] = json!(mode);
        config["policies"] = json!([file]);
    })?;
    if tls {
        agent.wait_library(system_libssl()?)?;
    }
    let server = servers::app(world, server_at, tls.then_some(&identity))?;
    let scheme = if tls { "https" } else { "http" };
    let base = format!("{scheme}://127.0.0.1:{}", server.port);
    agent.events.read()?;
    Ok(Enforcing {
        agent,
        server,
        base,
        authority,
    })
}

/// Calls that are denied at once after one another, and how they are told.
const DENIED: usize = 20;

/// The client is outside, so that only the server's side can act.
fn inbound(tls: bool) -> Result {
    let world = World::new()?;
    let rules = deny("inbound", "/slow/{id}/$export");
    let mut rules = rules;
    rules.as_array_mut().context("a list")?.push(
        json!({ "name": "no-fast-one", "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] }, "action": "deny" }),
    );
    let Enforcing {
        mut agent,
        server,
        base,
        authority,
    } = enforcing(&world, Place::Inside, tls, "enforce", &rules)?;
    let ca = tls.then_some(authority.ca.as_path());
    // In TLS it depends on what the kernel lets a probe do.
    let transport = if tls { "tls" } else { "clear" };
    let word = text(&agent.status()?["guarantees"][format!("inbound-{transport}")]).to_owned();
    let words = if tls {
        ["contained", "prevented"]
    } else {
        ["prevented"; 2]
    };
    ensure!(words.contains(&word.as_str()), "inbound in {transport}: {word}");

    // The application thinks before it answers: the verdict is there first.
    for id in trace_ids(3) {
        let got = get(&world, Place::Outside, &format!("{base}/slow/7/$export"), ca, &id)?;
        ensure!(got.bytes == 0, "the client got {} bytes", got.bytes);
        let by = "gate";
        ensure!(
            got.refused.is_none() == tls && (got.exit_code == Some(0)) != tls,
            "in clear curl is refused, in TLS reset"
        );
        let verdict = verdict(&mut agent, &id, "inbound")?;
        ensure!(verdict["guarantee"] == word, "not {word}: {verdict:#}");
        ensure!(
            verdict["policy"] == "tests" && verdict["rule"] == "no-export",
            "{verdict:#}"
        );
        ensure!(
            verdict["decided_by"] == by && verdict["mode"] == "enforce",
            "{verdict:#}"
        );
        check_word(&verdict, &got)?;
    }
    // It answers at once: whoever is faster, the word is true. Allowed calls go on around it.
    let neighbours = trace_ids(100);
    let url = format!("{base}/fhir/Patient/1044");
    let mut allowed =
        clients::curl_command(&world, Place::Outside, &url, ca, &neighbours, Connections::Kept)?
            .name("neighbour")
            .spawn()?;
    for id in trace_ids(DENIED) {
        let got = get(
            &world,
            Place::Outside,
            &format!("{base}/fhir/Patient/$export"),
            ca,
            &id,
        )?;
        check_word(&verdict(&mut agent, &id, "inbound")?, &got)?;
    }
    let status = allowed.wait(std::time::Duration::from_secs(30))?;
    ensure!(
        status.success() && allowed.output()?.lines().all(|line| line == "200"),
        "neighbours were disturbed{}",
        allowed.last_words()
    );
    check_allowed(&mut agent, &neighbours)?;
    // The listener is nobody's flow.
    ensure!(
        accepts(([127, 0, 0, 1], server.port).into()),
        "the server no longer accepts"
    );
    clients::curl(
        &world,
        Place::Outside,
        &url,
        ca,
        &trace_ids(1),
        Connections::Each,
        200,
    )?;
    drop(server);
    agent.end()?;
    Ok(())
}

fn check_allowed(agent: &mut Agent<'_>, ids: &[String]) -> Result {
    agent.events.wait_calls(ids.len(), ids)?;
    for call in with_ids(&agent.events.all, ids) {
        ensure!(
            call["verdict"]["action"] == "allow" && call["state"] == "answered",
            "an allowed call: {call:#}\nall of them, by head and duration:\n{}\nlosses: {}",
            times(&agent.events.all, ids),
            agent.status()?["losses"]
        );
    }
    Ok(())
}

/// Which of these calls began when and took how long: an answer that was missed shifts those behind it.
fn times(all: &[Value], ids: &[String]) -> String {
    let line = |call: &&Value| {
        let (id, head) = (&call["request"]["trace_id"], &call["request"]["head_time"]);
        format!("{id} {head} {} {}", call["duration_ns"], call["state"])
    };
    with_ids(all, ids).iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The server is outside, so that only the client's side can act.
fn outbound(tls: bool) -> Result {
    let world = World::new()?;
    let rules = deny("outbound", "/slow/{id}/$export");
    let Enforcing {
        mut agent,
        server,
        base,
        authority,
    } = enforcing(&world, Place::Outside, tls, "enforce", &rules)?;
    let ca = tls.then_some(authority.ca.as_path());
    for id in trace_ids(5) {
        let got = get(&world, Place::Inside, &format!("{base}/slow/7/$export"), ca, &id)?;
        ensure!(
            got.bytes == 0 && got.exit_code != Some(0),
            "the client got {} bytes although it was cut off long before the answer",
            got.bytes
        );
        let verdict = verdict(&mut agent, &id, "outbound")?;
        check_word(&verdict, &got)?;
        ensure!(
            verdict["guarantee"] == "prevented" && verdict["decided_by"] == "gate",
            "{verdict:#}"
        );
    }
    let ids = trace_ids(50);
    clients::curl(
        &world,
        Place::Inside,
        &format!("{base}/fhir/Patient/1"),
        ca,
        &ids,
        Connections::Kept,
        200,
    )?;
    check_allowed(&mut agent, &ids)?;
    drop(server);
    agent.end()?;
    Ok(())
}

fn a_killed_process_and_no_other() -> Result {
    let world = World::new()?;
    let rules = json!([{
        "name": "kill-it", "match": { "direction": "outbound", "paths": ["/slow/{id}/$export"] }, "action": "kill",
    }]);
    let Enforcing {
        mut agent,
        server,
        base,
        ..
    } = enforcing(&world, Place::Inside, false, "enforce", &rules)?;
    // Two of the same program, side by side: one stays.
    let neighbour_ids = trace_ids(2);
    let go = world.path("go");
    let go_text = go.display().to_string();
    let mut neighbour = clients::python_command(
        &world,
        Place::Inside,
        server.port,
        None,
        &neighbour_ids,
        &["--wait", &go_text],
    )?
    .name("neighbour")
    .spawn()?;
    until("the neighbour has its first answer", || {
        Ok(neighbour.output()?.contains("200"))
    })?;
    let ids = trace_ids(1);
    let mut killed = clients::python_command(
        &world,
        Place::Inside,
        server.port,
        None,
        &ids,
        &["--path", "/slow/7/$export"],
    )?
    .name("killed")
    .spawn()?;
    let status = killed.wait(std::time::Duration::from_secs(20))?;
    use std::os::unix::process::ExitStatusExt;
    ensure!(
        status.signal() == Some(9),
        "the process ended with {status}{}",
        killed.last_words()
    );
    let verdict = verdict(&mut agent, &ids[0], "outbound")?;
    ensure!(
        verdict["action"] == "kill" && verdict["killed"] == true,
        "{verdict:#}"
    );
    std::fs::write(&go, "")?;
    let status = neighbour.wait(std::time::Duration::from_secs(20))?;
    ensure!(
        status.success(),
        "the neighbour suffered{}",
        neighbour.last_words()
    );
    clients::curl(
        &world,
        Place::Inside,
        &format!("{base}/fhir/Patient/1"),
        None,
        &trace_ids(1),
        Connections::Each,
        200,
    )?;
    drop((neighbour, killed, server));
    agent.end()?;
    Ok(())
}

fn observing_stops_nothing() -> Result {
    let world = World::new()?;
    let rules = deny("inbound", "/slow/{id}/$export");
    let Enforcing {
        mut agent,
        server,
        base,
        ..
    } = enforcing(&world, Place::Inside, false, "observe", &rules)?;
    for id in trace_ids(3) {
        let got = get(
            &world,
            Place::Outside,
            &format!("{base}/slow/7/$export"),
            None,
            &id,
        )?;
        ensure!(
            got.exit_code == Some(0) && got.bytes > 100,
            "observing has stopped a call"
        );
        let verdict = verdict(&mut agent, &id, "inbound")?;
        ensure!(
            verdict["action"] == "deny" && verdict["guarantee"] == "observed" && verdict["mode"] == "observe",
            "{verdict:#}"
        );
        // What it would have been.
        ensure!(verdict["would_be"] == "prevented", "{verdict:#}");
    }
    drop(server);
    agent.end()?;
    Ok(())
}

fn the_mode_is_switched_while_running() -> Result {
    let world = World::new()?;
    let rules = deny("inbound", "/slow/{id}/$export");
    let Enforcing {
        mut agent,
        server,
        base,
        ..
    } = enforcing(&world, Place::Inside, false, "observe", &rules)?;
    let url = format!("{base}/slow/7/$export");
    let ids = trace_ids(3);
    let got = get(&world, Place::Outside, &url, None, &ids[0])?;
    ensure!(got.exit_code == Some(0), "observing has stopped a call");
    agent.command(&["mode", "enforce", "--reason", "a test"])?.run()?;
    ensure!(
        agent.status()?["mode"] == "enforce",
        "the status says something else"
    );
    let got = get(&world, Place::Outside, &url, None, &ids[1])?;
    ensure!(got.bytes == 0, "enforcing has stopped nothing");
    // Without a reason: it has to work at three in the morning.
    agent.command(&["mode", "observe"])?.run()?;
    let got = get(&world, Place::Outside, &url, None, &ids[2])?;
    ensure!(got.exit_code == Some(0), "observing again has stopped a call");
    let words: Vec<(String, String)> = ids
        .iter()
        .map(|id| {
            let verdict = verdict(&mut agent, id, "inbound")?;
            Ok((
                text(&verdict["mode"]).to_owned(),
                text(&verdict["guarantee"]).to_owned(),
            ))
        })
        .collect::<Result<_>>()?;
    let expected = [
        ("observe", "observed"),
        ("enforce", "prevented"),
        ("observe", "observed"),
    ];
    ensure!(
        words
            .iter()
            .map(|(mode, word)| (mode.as_str(), word.as_str()))
            .eq(expected),
        "the calls were told as {words:?}"
    );
    drop(server);
    let events = agent.end()?;
    let audits: Vec<&Value> = events
        .of_kind("audit")
        .into_iter()
        .filter(|audit| audit["what"] == "mode" && text(&audit["who"]).starts_with("uid=0"))
        .collect();
    ensure!(
        audits.len() == 2
            && audits[0]["new_digest"] == "enforce"
            && audits[0]["reason"] == "a test"
            && audits[1]["new_digest"] == "observe",
        "the switches are not in the audit: {audits:#?}"
    );
    Ok(())
}
