//! gRPC and WebSocket between real peers: every call and every message told once on each side, with what was in it.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::certificates::{Authority, Identity};
use crate::harness::events::{of_kind, text, trace_ids, with_ids};
use crate::harness::process::{Process, Start};
use crate::harness::servers::{accepts, free_port};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World};

pub const STORIES: &[Story] = &[
    ("grpc_calls", grpc_calls),
    ("grpc_fields_have_names", grpc_fields_have_names),
    ("messages_of_a_websocket", || messages_of_a_websocket(false)),
    ("messages_of_a_websocket_in_tls", || messages_of_a_websocket(true)),
];

const GRPC_PEER: &str = include_str!("assets/grpc_peer.py");
const WEBSOCKET_PEER: &str = include_str!("assets/websocket_peer.py");

fn peer<'a>(world: &'a World, script: &Path, name: &str) -> Result<Start<'a>> {
    Ok(Start::new(world, Place::Inside, program("python3")?)
        .name(name)
        .arg("-I")
        .arg(script))
}

fn server(world: &World, script: &Path, identity: Option<&Identity>) -> Result<(Process, u16)> {
    let port = free_port()?;
    let mut start = peer(world, script, "peer-server")?.args(["server", &port.to_string()]);
    if let Some(identity) = identity {
        start = start.arg(&identity.certificate).arg(&identity.key);
    }
    let mut process = start.spawn()?;
    process.wait_until("the server accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    Ok((process, port))
}

/// What the operation says of itself under this name.
fn detail<'a>(call: &'a Value, name: &str) -> &'a str {
    call["operation"]["details"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|detail| detail["name"] == name)
        .map_or("", |detail| text(&detail["value"]))
}

/// The method of a call, and how many messages went each way.
struct Told {
    method: &'static str,
    sent: &'static str,
    received: &'static str,
    status: &'static str,
}

const fn told(
    method: &'static str,
    sent: &'static str,
    received: &'static str,
    status: &'static str,
) -> Told {
    Told {
        method,
        sent,
        received,
        status,
    }
}

/// In the order in which the client makes them; all others are like the first.
const GRPC_CALLS: [Told; 7] = [
    told("Get", "1", "1", "OK"),
    told("Get", "1", "0", "NOT_FOUND"),
    told("Get", "1", "1", "OK"),
    told("Get", "1", "1", "OK"),
    told("List", "1", "5", "OK"),
    told("Upload", "7", "1", "OK"),
    told("Update", "3", "3", "OK"),
];

fn nothing_leaks(agent: &Agent) -> Result {
    let leaks = |event: &&Value| event.to_string().contains("Okonkwo");
    match agent.events.all.iter().find(leaks) {
        Some(event) => anyhow::bail!("a name got into the events: {event:#}"),
        None => Ok(()),
    }
}

fn grpc_calls() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |_| {})?;
    let script = world.write("grpc_peer.py", GRPC_PEER)?;
    let (server, port) = server(&world, &script, None)?;
    let ids = trace_ids(GRPC_CALLS.len() + 60);
    peer(&world, &script, "peer-client")?
        .args(["client", &port.to_string(), &ids.join(",")])
        .run()?;
    agent.events.wait("every call is told on both sides", |all| {
        with_ids(all, &ids).len() >= 2 * ids.len()
    })?;
    for (index, id) in ids.iter().enumerate() {
        let wanted = GRPC_CALLS.get(index).unwrap_or(&GRPC_CALLS[0]);
        let views = with_ids(&agent.events.all, std::slice::from_ref(id));
        ensure!(views.len() == 2, "call {index}: {} views", views.len());
        for call in views {
            ensure!(
                call["protocol"] == "http/2"
                    && call["operation"]["api"] == "grpc"
                    && call["request"]["path"] == format!("/hospital.v1.Patients/{}", wanted.method)
                    && detail(call, "request-messages") == wanted.sent
                    && detail(call, "response-messages") == wanted.received
                    && detail(call, "status") == wanted.status,
                "call {index}: {call:#}"
            );
        }
    }
    nothing_leaks(&agent)?;
    agent.check_no_losses()?;
    drop(server);
    agent.end()?;
    Ok(())
}

/// What the messages of grpc_peer.py are.
const HOSPITAL: &str = r#"
syntax = "proto3";
package hospital.v1;
message Asked { int64 id = 1; }
message Patient { int64 id = 1; string family_name = 2; string zork_text = 3; }
service Patients { rpc Get(Asked) returns (Patient); rpc List(Asked) returns (stream Patient); }
"#;

/// With descriptors, what is in a field is told by the field's name.
fn grpc_fields_have_names() -> Result {
    let world = World::new()?;
    let source = world.write("hospital.proto", HOSPITAL)?;
    let directory = source.parent().context("a directory")?;
    let mut compiler = protox::Compiler::new([directory])?;
    compiler.include_imports(true).open_file("hospital.proto")?;
    let descriptors = world.write("hospital.binpb", compiler.encode_file_descriptor_set())?;
    let mut agent = Agent::start(&world, |config| {
        config["decode"] = json!({ "grpc": { "descriptors": [descriptors] } });
    })?;
    let script = world.write("grpc_peer.py", GRPC_PEER)?;
    let (server, port) = server(&world, &script, None)?;
    let ids = trace_ids(GRPC_CALLS.len());
    peer(&world, &script, "peer-client")?
        .args(["client", &port.to_string(), &ids.join(",")])
        .run()?;
    agent.events.wait("every call is told on both sides", |all| {
        with_ids(all, &ids).len() >= 2 * ids.len()
    })?;
    for (index, count) in [(0, 1), (4, 5)] {
        for call in with_ids(&agent.events.all, std::slice::from_ref(&ids[index])) {
            let is_told = call["data"].as_array().into_iter().flatten().any(|data| {
                data["class"] == "name"
                    && data["location"] == "$[].family_name"
                    && data["evidence"] == "structure"
                    && data["count"] == count
            });
            ensure!(is_told, "call {index}: {call:#}");
        }
    }
    nothing_leaks(&agent)?;
    drop(server);
    agent.end()?;
    Ok(())
}

/// Patients that are told one by one.
const MESSAGES: usize = 20;

fn messages_of_a_websocket(tls: bool) -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    let script = world.write("websocket_peer.py", WEBSOCKET_PEER)?;
    let (server, port) = server(&world, &script, tls.then_some(&identity))?;
    if tls {
        agent.wait_library(crate::every_call::system_libssl()?)?;
    }
    let scheme = if tls { "wss" } else { "ws" };
    let mut client = peer(&world, &script, "peer-client")?.args([
        "client",
        &format!("{scheme}://127.0.0.1:{port}/fhir/subscription"),
        &MESSAGES.to_string(),
    ]);
    if tls {
        client = client.arg(&authority.ca);
    }
    client.run()?;
    let messages = |all: &[Value], direction: &str| -> Vec<Value> {
        of_kind(all, "call")
            .into_iter()
            .filter(|call| call["direction"] == direction && call["protocol"] == "websocket")
            .cloned()
            .collect()
    };
    // Each one of them, the one in pieces and the long one, there and back.
    let expected = 2 * (MESSAGES + 2);
    let all = agent.events.wait("every message is told on both sides", |all| {
        ["inbound", "outbound"]
            .iter()
            .all(|direction| messages(all, direction).len() >= expected)
    })?;
    for direction in ["inbound", "outbound"] {
        let told = messages(all, direction);
        let patients = told
            .iter()
            .filter(|call| call["data"].to_string().contains("\"name\""))
            .count();
        ensure!(
            told.len() == expected && patients == 2 * (MESSAGES + 1),
            "{direction}: {} messages of {expected}, {patients} with a name",
            told.len()
        );
        ensure!(
            told.iter()
                .all(|call| call["request"]["path"] == "/fhir/subscription"),
            "{:#}",
            told[0]
        );
    }
    nothing_leaks(&agent)?;
    drop(server);
    agent.end()?;
    Ok(())
}
