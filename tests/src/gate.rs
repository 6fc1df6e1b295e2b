//! The gate in the kernel: a forbidden head never reaches the application, however it is split, and what only looks like
//! one is left alone.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::Story;
use crate::harness::events::{text, trace_ids, with_ids};
use crate::harness::wire::{self, piece, repeated};
use crate::harness::{Agent, Place, Result, World, policy, servers};

pub const STORIES: &[Story] = &[
    (
        "a_forbidden_head_however_it_is_split",
        a_forbidden_head_however_it_is_split,
    ),
    (
        "what_only_looks_forbidden_passes",
        what_only_looks_forbidden_passes,
    ),
    ("a_listener_older_than_the_gate", a_listener_older_than_the_gate),
];

const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\n";

pub fn enforcing<'a>(world: &'a World, rules: &Value) -> Result<Agent<'a>> {
    let file = policy::file(world, "tests", rules)?;
    Agent::start(world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })
}

fn no_exports() -> Value {
    json!([{ "name": "no-export", "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] }, "action": "deny" }])
}

/// The calls with these ids, all of them prevented by the gate.
fn check_prevented(agent: &mut Agent<'_>, ids: &[String]) -> Result {
    for call in agent.events.wait_calls(ids.len(), ids)? {
        let verdict = &call["verdict"];
        ensure!(
            call["state"] == "stopped"
                && verdict["action"] == "deny"
                && verdict["guarantee"] == "prevented"
                && verdict["decided_by"] == "gate"
                && verdict["rule"] == "no-export",
            "not prevented: {call:#}"
        );
    }
    ensure!(
        with_ids(&agent.events.all, ids).len() == ids.len(),
        "a call was told twice"
    );
    Ok(())
}

fn a_forbidden_head_however_it_is_split() -> Result {
    let world = World::new()?;
    let mut agent = enforcing(&world, &no_exports())?;
    let server = servers::app(&world, Place::Inside, None)?;
    let ids = trace_ids(5);
    let head = |id: &str, lines: &str| wire::head("GET", "/fhir/Patient/$export", id, lines);
    let long = format!("X-Long: {}\r\n", "a".repeat(12_000));
    let split = |text: String| -> Vec<Value> {
        let (one, other) = text.split_at(text.len() / 2);
        vec![piece(one), piece(other)]
    };
    let ways = [
        (vec![piece(head(&ids[0], ""))], false),
        (split(head(&ids[1], "")), false),
        (vec![piece(head(&ids[2], ""))], true),
        (vec![piece(head(&ids[3], &long))], false),
        // Behind an allowed request and its body.
        (
            vec![
                piece(wire::head(
                    "POST",
                    "/fhir/Patient",
                    &trace_ids(1)[0],
                    "Content-Length: 4000\r\n",
                )),
                repeated("body", 1000),
                piece(head(&ids[4], "")),
            ],
            false,
        ),
    ];
    for (number, (pieces, bytes)) in ways.iter().enumerate() {
        let more: &[&str] = if *bytes { &["--bytes"] } else { &[] };
        let got = wire::command(&world, Place::Outside, server.port, None, pieces, more)?.run()?;
        ensure!(
            got.matches(REFUSED).count() == 1 && got.ends_with("}\n"),
            "way {number}: the client got {got:?}"
        );
        ensure!(
            got.matches("HTTP/1.1 ").count() == if number == 4 { 2 } else { 1 },
            "way {number}: answers are missing, or the application has answered: {got:?}"
        );
    }
    check_prevented(&mut agent, &ids)?;
    agent.check_no_losses()?;
    drop(server);
    agent.end()?;
    Ok(())
}

/// A request line in a body, a path in a query or a header, a neighbour of the path; and a peer that was denied is not
/// banned.
fn what_only_looks_forbidden_passes() -> Result {
    let world = World::new()?;
    let mut agent = enforcing(&world, &no_exports())?;
    let server = servers::app(&world, Place::Inside, None)?;
    let ids = trace_ids(6);
    let inner = wire::head("GET", "/fhir/Patient/$export", &trace_ids(1)[0], "");
    let close = "Connection: close\r\n";
    let length = format!("Content-Length: {}\r\n{close}", inner.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n{close}");
    let ways = [
        vec![
            piece(wire::head("POST", "/fhir/Patient", &ids[0], &length)),
            piece(&inner),
        ],
        vec![
            piece(wire::head("POST", "/fhir/Patient", &ids[1], &chunked)),
            piece(format!("{:x}\r\n", inner.len())),
            piece(&inner),
            piece("\r\n0\r\n\r\n"),
        ],
        vec![piece(wire::head(
            "GET",
            "/fhir/Patient?next=/fhir/Patient/$export",
            &ids[2],
            close,
        ))],
        vec![piece(wire::head(
            "GET",
            "/fhir/Patient",
            &ids[3],
            &format!("Referer: /fhir/Patient/$export\r\n{close}"),
        ))],
        vec![piece(wire::head("GET", "/fhir/Patient/$exports", &ids[4], close))],
        vec![piece(wire::head("GET", "/fhir/Patient/1", &ids[5], close))],
    ];
    let denied = trace_ids(1);
    for (number, pieces) in ways.iter().enumerate() {
        if number == 5 {
            let forbidden = [piece(wire::head(
                "GET",
                "/fhir/Patient/$export",
                &denied[0],
                close,
            ))];
            wire::command(&world, Place::Outside, server.port, None, &forbidden, &[])?.run()?;
        }
        let got = wire::command(&world, Place::Outside, server.port, None, pieces, &[])?.run()?;
        ensure!(
            got.starts_with("HTTP/1.1 20") && !got.contains(REFUSED),
            "way {number}: the client got {got:?}"
        );
    }
    for call in agent.events.wait_calls(ids.len(), &ids)? {
        ensure!(
            call["verdict"]["action"] == "allow" && call["state"] == "answered",
            "stopped without a reason: {call:#}"
        );
    }
    check_prevented(&mut agent, &denied)?;
    agent.check_no_losses()?;
    drop(server);
    agent.end()?;
    Ok(())
}

/// Nobody has told the kernel whose the listener is: the agent looks.
fn a_listener_older_than_the_gate() -> Result {
    let world = World::new()?;
    let server = servers::app(&world, Place::Inside, None)?;
    let mut agent = enforcing(&world, &no_exports())?;
    let ids = trace_ids(3);
    for id in &ids {
        let pieces = [piece(wire::head("GET", "/fhir/Patient/$export", id, ""))];
        let got = wire::command(&world, Place::Outside, server.port, None, &pieces, &[])?.run()?;
        ensure!(got.starts_with(REFUSED), "the client got {got:?}");
    }
    check_prevented(&mut agent, &ids)?;
    let processes: Vec<&Value> = with_ids(&agent.events.all, &ids)
        .into_iter()
        .map(|call| &call["process"])
        .collect();
    ensure!(
        processes
            .iter()
            .all(|process| text(&process["exe"]).contains("python")),
        "whose calls they were: {processes:#?}"
    );
    drop(server);
    agent.end()?;
    Ok(())
}
