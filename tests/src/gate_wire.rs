//! The gate against hostile peers and bad networks: a server on one side of a cable, and on the other a program that is
//! all of TCP itself, out of the agent's reach. Whatever it does, the server's own log has no whole denied head, what is
//! allowed comes through, and nobody is banned.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::harness::clients::{self, Connections};
use crate::harness::events::{of_kind, text, trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::veth::{End, PEER, SERVER, Veth};
use crate::harness::wire::{self, piece, repeated};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Process, Result, World, policy, servers, within};
use crate::{Story, gate};

pub const STORIES: &[Story] = &[
    ("hostile_peers", || hostile_peers(false)),
    ("hostile_peers_and_segments_put_together", || hostile_peers(true)),
    (
        "policies_change_under_hostile_peers",
        policies_change_under_hostile_peers,
    ),
    (
        "clients_that_send_with_their_syn",
        clients_that_send_with_their_syn,
    ),
    (
        "a_network_that_loses_and_reorders",
        a_network_that_loses_and_reorders,
    ),
];

const WITNESS: &str = include_str!("assets/witness.py");
const PEER_SCRIPT: &str = include_str!("assets/peer.py");
const TRICKS: &str = include_str!("assets/tricks.py");
const EXPORT: &str = "/fhir/Patient/$export";
/// Ports of the witness: ordinary, accepting late, with TCP Fast Open, one that listens for one connection, and one that
/// many connect to.
const PORTS: [u16; 5] = [8080, 8081, 8082, 8083, 8084];

fn rules(more: bool) -> Value {
    let mut rules = vec![
        json!({ "name": "no-export", "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] }, "action": "deny" }),
    ];
    if more {
        rules.insert(
            0,
            json!({ "name": "no-purge", "match": { "direction": "inbound", "methods": ["DELETE"], "paths": ["/fhir/**"] }, "action": "deny" }),
        );
    }
    Value::from(rules)
}

fn enforcing(world: &World) -> Result<Agent<'_>> {
    gate::enforcing(world, &rules(false))
}

/// An application that writes down what it gets, on the server's side of the cable.
struct Witness {
    _process: Process,
    log: PathBuf,
}

impl Witness {
    fn start(world: &World, veth: &Veth<'_>, place: Place) -> Result<Witness> {
        let script = world.write("witness.py", WITNESS)?;
        let log = world.path("witness.jsonl");
        let mut start = Start::new(world, place, program("python3")?)
            .name("witness")
            .arg("-I")
            .arg(script)
            .arg("--log")
            .arg(&log);
        for address in SERVER {
            for (port, how) in PORTS.iter().zip(["", ",defer", ",fastopen", ",once", ""]) {
                start = start.arg("--listen").arg(format!("{address},{port}{how}"));
            }
        }
        let mut process = start.through(veth.at(End::Server)?).spawn()?;
        process.wait_until("the application listens", || Ok(!lines(&log)?.is_empty()))?;
        Ok(Witness {
            _process: process,
            log,
        })
    }

    /// Heads that it got whole: target and trace id.
    fn heads(&self) -> Result<Vec<(String, String)>> {
        Ok(lines(&self.log)?
            .iter()
            .filter(|line| line["head"].is_string())
            .map(|line| (text(&line["head"]).to_owned(), text(&line["id"]).to_owned()))
            .collect())
    }
}

fn lines(log: &PathBuf) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a line of JSON: {line}")))
        .collect()
}

fn tricks<'a>(world: &'a World, veth: &Veth<'_>, only: &[&str], rounds: u32) -> Result<Start<'a>> {
    world.write("peer.py", PEER_SCRIPT)?;
    let script = world.write("tricks.py", TRICKS)?;
    let [port, defer, fastopen, once, crowded] = PORTS.map(|port| port.to_string());
    let mut start = Start::new(world, Place::Outside, program("python3")?)
        .name("tricks")
        .arg(script)
        .args(["--interface", "wire", "--mac", &veth.mac(End::Server)?])
        .args(["--own", PEER[0], PEER[1], "--server", SERVER[0], SERVER[1]])
        .args([
            "--port",
            &port,
            "--defer",
            &defer,
            "--fastopen",
            &fastopen,
            "--once",
            &once,
            "--crowded",
            &crowded,
        ])
        .args(["--rounds", &rounds.to_string()]);
    if !only.is_empty() {
        start = start.arg("--only").args(only.iter().copied());
    }
    Ok(start.through(veth.at(End::Peer)?))
}

/// What the tricks said of themselves, held against the application's log and the agent's events. `outlived`: allowed calls
/// may be denied, as they took longer than the tables were kept that they began under; then they are told like all others.
fn check(said: &str, witness: &Witness, agent: &mut Agent<'_>, outlived: bool) -> Result {
    let outcomes: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the peer said: {line}")))
        .collect::<Result<_>>()?;
    ensure!(!outcomes.is_empty(), "no trick was tried");
    let heads = witness.heads()?;
    let got: HashSet<&str> = heads.iter().map(|(_, id)| id.as_str()).collect();
    let leaked: HashSet<&str> = heads
        .iter()
        .filter(|(target, _)| target == EXPORT)
        .map(|(_, id)| id.as_str())
        .collect();
    if !leaked.is_empty() {
        let of = |outcome: &&Value| {
            ids(&outcome["denied"])
                .iter()
                .any(|id| leaked.contains(id.as_str()))
        };
        let tricks: Vec<_> = outcomes.iter().filter(of).collect();
        let leaked: Vec<String> = leaked.iter().map(|id| (*id).to_owned()).collect();
        agent.events.read()?;
        let told = with_ids(&agent.events.all, &leaked);
        bail!("the application got denied heads: {leaked:?} of {tricks:#?}, told as {told:#?}");
    }
    let (mut told, mut early, mut never) = (Vec::new(), HashSet::new(), Vec::new());
    let (mut asked, mut came) = (0, 0);
    for outcome in &outcomes {
        let trick = text(&outcome["trick"]);
        ensure!(
            text(&outcome["error"]).is_empty(),
            "{trick}: {}",
            outcome["error"]
        );
        let allowed = ids(&outcome["allowed"]);
        let missing: Vec<_> = allowed
            .iter()
            .filter(|id| !got.contains(id.as_str()))
            .cloned()
            .collect();
        ensure!(
            missing.is_empty() || outlived,
            "{trick}: {} of {} allowed calls never came",
            missing.len(),
            allowed.len()
        );
        let answers = outcome["answers"].as_u64().unwrap_or_default() as usize;
        ensure!(
            answers >= allowed.len() - missing.len(),
            "{trick}: {answers} of {} calls were answered",
            allowed.len()
        );
        asked += allowed.len();
        came += allowed.len() - missing.len();
        early.extend(ids(&outcome["early"]));
        never.extend(ids(&outcome["never"]));
        let mut silent = ids(&outcome["silent"]);
        if !missing.is_empty() {
            // Denied itself, it may have ended the connection before a denied one behind it was whole.
            silent.extend(ids(&outcome["denied"]));
            told.extend(missing);
        }
        told.extend(
            ids(&outcome["denied"])
                .into_iter()
                .filter(|id| !silent.contains(id)),
        );
    }
    // Only few heads take that long.
    ensure!(
        2 * came > asked,
        "{came} of {asked} allowed calls came to the application"
    );
    let calls = agent.events.wait_calls(told.len(), &told)?;
    let distinct: HashSet<&str> = calls
        .iter()
        .map(|call| text(&call["request"]["trace_id"]))
        .collect();
    ensure!(
        distinct.len() == told.len() && calls.len() == told.len(),
        "{} events tell {} of {} denials",
        calls.len(),
        distinct.len(),
        told.len()
    );
    // What never was a connection cannot be measured; everything else is.
    for call in &calls {
        let verdict = &call["verdict"];
        let word = match early.contains(text(&call["request"]["trace_id"])) {
            true => "observed",
            false => "prevented",
        };
        let why = text(&verdict["shortfall"]);
        ensure!(
            verdict["action"] == "deny"
                && verdict["guarantee"] == word
                && why.contains("the connection was not established yet") == (word == "observed"),
            "not {word}: {call:#}"
        );
    }
    let phantoms = with_ids(&agent.events.all, &never);
    ensure!(
        phantoms.is_empty(),
        "parts of bodies are told as calls: {phantoms:#?}"
    );
    Ok(())
}

fn ids(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|id| text(id).to_owned()).collect()
}

fn hostile_peers(gro: bool) -> Result {
    let world = World::new()?;
    let veth = Veth::raw(&world, gro)?;
    let mut agent = enforcing(&world)?;
    let witness = Witness::start(&world, &veth, Place::Inside)?;
    // All of them, unless somebody looks into one.
    let only = std::env::var("APIWARD_TRICKS").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    let said = tricks(&world, &veth, &only, 1)?.run()?;
    check(&said, &witness, &mut agent, false)?;
    drop(witness);
    agent.end()?;
    if gro {
        let (wire, ip) = veth.taken()?;
        ensure!(
            ip < wire,
            "no segments were put together: {wire} packets came, {ip} of them to IP"
        );
    }
    Ok(())
}

/// New generations of tables all the time, each of which denies the same, and faster than some heads come: one that outlives
/// all tables that are kept is denied, whatever it is, and never let pass.
fn policies_change_under_hostile_peers() -> Result {
    const ONLY: &[&str] = &[
        "whole",
        "every_byte_a_segment",
        "pipelined",
        "behind_chunks",
        "out_of_sequence",
        "bad_checksums",
        "ahead_in_a_body_that_fell_to_its_checksum",
        "two_contents_joined",
        "the_sequence_wraps",
        "fast_open_and_more_before_the_handshake_ends",
        "long_heads",
    ];
    const CHANGES: Duration = Duration::from_millis(60);
    let world = World::new()?;
    let veth = Veth::raw(&world, false)?;
    let mut agent = enforcing(&world)?;
    let witness = Witness::start(&world, &veth, Place::Inside)?;
    let mut peer = tricks(&world, &veth, ONLY, 2)?.spawn()?;
    let mut changes = 0;
    let mut changed = Instant::now();
    let status = within(Duration::from_secs(60), "the peer has tried everything", || {
        if changed.elapsed() >= CHANGES {
            changed = Instant::now();
            changes += 1;
            policy::file(&world, "tests", &rules(changes % 2 == 1))?;
            agent.reload();
        }
        Ok(peer.ended())
    })?;
    ensure!(status.success(), "the peer failed{}", peer.last_words());
    let taken = of_kind(agent.events.read()?, "audit")
        .iter()
        .filter(|audit| audit["what"] == "policy" && audit["accepted"] == true)
        .count();
    ensure!(
        taken > 10,
        "the policies were changed {taken} times, of {changes} that were asked for"
    );
    check(&peer.output()?, &witness, &mut agent, true)?;
    drop(witness);
    agent.end()?;
    Ok(())
}

/// Clients, with a request that is on the SYN (RFC 7413) as soon as they have a cookie for the server.
fn clients_that_send_with_their_syn() -> Result {
    let world = World::new()?;
    let veth = Veth::raw(&world, false)?;
    let rules = json!([
        { "name": "no-vendor", "match": { "direction": "outbound", "paths": ["/vendor/**"] }, "action": "deny" },
    ]);
    let file = policy::file(&world, "tests", &rules)?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let witness = Witness::start(&world, &veth, Place::Outside)?;
    let script = world.write("early.py", include_str!("assets/early.py"))?;
    let mut denied = Vec::new();
    for address in SERVER {
        let ids = trace_ids(6);
        let target = |at: usize| if at % 3 == 2 { "/vendor/upload" } else { "/ok" };
        let said = Start::new(&world, Place::Inside, program("python3")?)
            .name("early")
            .arg(&script)
            .args([address, &PORTS[2].to_string()])
            .args(
                ids.iter()
                    .enumerate()
                    .map(|(at, id)| format!("{id},{}", target(at))),
            )
            .through(veth.at(End::Server)?)
            .run()?;
        let said: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("the client said: {line}")))
            .collect::<Result<_>>()?;
        let is_served = |one: &Value| text(&one["end"]).ends_with(" 200 OK");
        for (at, one) in said.iter().enumerate() {
            ensure!(
                is_served(one) == (at % 3 != 2),
                "a call that is not to be served, or is: {said:?}"
            );
        }
        ensure!(
            said.len() == ids.len() && said.iter().filter(|one| one["early"] == true).count() >= 2,
            "no request was on the SYN: {said:?}"
        );
        denied.extend([ids[2].clone(), ids[5].clone()]);
        agent.events.wait_calls(ids.len(), &ids)?;
    }
    let heads = witness.heads()?;
    ensure!(
        heads.len() == 8 && heads.iter().all(|(target, _)| target == "/ok"),
        "the server got {heads:?}"
    );
    let told = agent.end()?;
    let calls = with_ids(&told.all, &denied);
    ensure!(
        calls.len() == denied.len()
            && calls
                .iter()
                .all(|call| call["verdict"]["guarantee"] == "prevented"),
        "not prevented, or not told once: {calls:#?}"
    );
    drop(witness);
    Ok(())
}

/// Ordinary clients, over a cable that loses, doubles and reorders.
fn a_network_that_loses_and_reorders() -> Result {
    let world = World::new()?;
    let veth = Veth::lossy(&world, 7, [20, 20, 100])?;
    let mut agent = enforcing(&world)?;
    let port = servers::free_port()?;
    let mut server = servers::app_command(&world, Place::Inside, &SERVER, port, None)?
        .name("app")
        .through(veth.at(End::Server)?)
        .spawn()?;
    let url = format!("http://{}:{port}/fhir/Patient/1", SERVER[0]);
    let call = |ids: &[String], connections| -> Result<String> {
        clients::curl_command(&world, Place::Outside, &url, None, ids, connections)?
            .through(veth.at(End::Peer)?)
            .run()
    };
    server.wait_until("the application answers", || {
        Ok(call(&trace_ids(1), Connections::Each).is_ok())
    })?;
    for connections in [Connections::Kept, Connections::Each] {
        let allowed = trace_ids(20);
        let said = call(&allowed, connections)?;
        ensure!(
            said.lines().filter(|line| *line == "200").count() == allowed.len(),
            "allowed calls fail: {said}"
        );
        agent.events.wait_calls(allowed.len(), &allowed)?;
    }
    let denied = trace_ids(12);
    let long = format!("X-Long: {}\r\n", "a".repeat(12_000));
    let mut answered = Vec::new();
    for (number, id) in denied.iter().enumerate() {
        let close = "Connection: close\r\n";
        let bad = wire::head("GET", EXPORT, id, if number % 3 == 1 { &long } else { close });
        let good = wire::head(
            "POST",
            "/fhir/Patient",
            &trace_ids(1)[0],
            "Content-Length: 100000\r\n",
        );
        let pieces = match number % 3 {
            2 => vec![piece(good), repeated("body", 25_000), piece(bad)],
            _ => vec![piece(bad)],
        };
        let mut more = vec!["--host", SERVER[number / 6]];
        if number % 3 == 0 {
            more.push("--bytes");
        }
        let got = wire::command(&world, Place::Outside, port, None, &pieces, &more)?
            .through(veth.at(End::Peer)?)
            .run()?;
        let answers = got.matches("HTTP/1.1 20").count();
        ensure!(
            answers <= usize::from(number % 3 == 2),
            "call {number}: the client got {got:?}"
        );
        answered.push(answers);
    }
    let stopped = agent.events.wait_calls(denied.len(), &denied)?;
    for (number, id) in denied.iter().enumerate().filter(|(number, _)| number % 3 == 2) {
        // The body's end may have come in one segment with the denied head. And an answer that had left before may be lost
        // on the way when the connection is reset: that is told of no call (docs/enforcement.md), but never is one told as
        // lost that the client got.
        for call in stopped
            .iter()
            .filter(|call| call["request"]["trace_id"] == id.as_str())
        {
            let collateral = call["verdict"]["collateral"].as_u64().unwrap_or_default();
            ensure!(
                answered[number] as u64 + collateral <= 1,
                "a call that was answered is told as lost: {call:#}"
            );
        }
    }
    let mut prevented = 0;
    for call in &stopped {
        let verdict = &call["verdict"];
        // The gate keeps it from the application in any case. A head can come before its connection, and that one not come
        // for a while: then nothing was measured, and the report says why.
        let unmeasured = verdict["guarantee"] == "observed"
            && text(&verdict["shortfall"]).contains("the connection was not established yet");
        prevented += usize::from(verdict["guarantee"] == "prevented");
        ensure!(
            verdict["action"] == "deny" && (verdict["guarantee"] == "prevented" || unmeasured),
            "not prevented: {call:#}"
        );
    }
    ensure!(2 * prevented > denied.len(), "only {prevented} were prevented");
    let told = with_ids(&agent.end()?.all, &denied).len();
    ensure!(
        told == denied.len(),
        "{} denials are told {told} times",
        denied.len()
    );
    drop(server);
    Ok(())
}
