//! Every way in which bytes get in and out of a socket: what is seen is right, what is not is counted, to the byte. No
//! call is told from bytes that were never on the socket.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::harness::certificates::Authority;
use crate::harness::events::{of_kind, trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::free_port;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, servers};

pub const STORIES: &[Story] = &[
    ("every_way_in_and_out_of_a_socket", every_way),
    ("what_is_missing_falls_under_on_unseen", what_is_missing),
    ("older_connections_in_tls_are_not_cut", older_connections),
];

const SCRIPT: &str = include_str!("assets/ways.py");

/// What the server's side can be seen of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    All,
    /// Nothing of the request.
    NoRequest,
    /// All but the request's first 100 bytes.
    NoStart,
    /// All but the response's body.
    NoBody,
    /// The same, because it comes from a file or a pipe: not captured, which is no loss of ours.
    FileBody,
    /// The server's side as [`Seen::All`]; of the client's, nothing.
    NoClient,
}

const WAYS: &[(&str, Seen)] = &[
    ("peek", Seen::All),
    ("waitall", Seen::All),
    ("recvmmsg", Seen::All),
    ("recvmsg", Seen::All),
    ("readv", Seen::All),
    ("lowat", Seen::All),
    ("half-closed", Seen::All),
    ("discarded", Seen::NoRequest),
    ("spliced", Seen::NoRequest),
    ("ring", Seen::NoRequest),
    ("ring-start", Seen::NoStart),
    ("sendmsg", Seen::All),
    ("sendmmsg", Seen::All),
    ("more", Seen::All),
    ("zerocopy", Seen::All),
    ("sendfile", Seen::FileBody),
    ("splice", Seen::FileBody),
    ("ring-sends", Seen::NoBody),
    ("mptcp", Seen::NoClient),
];

fn every_way() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |config| {
        config["capture"]["flow_ends"] = json!("all");
    })?;
    let ids = trace_ids(WAYS.len() + 1);
    let (trap, ids) = ids.split_first().context("ids were made")?;
    let script = world.write("ways.py", SCRIPT)?;
    let port = free_port()?;
    let text = Start::new(&world, Place::Inside, program("python3")?)
        .name("ways")
        .arg(script)
        .arg(port.to_string())
        .arg(format!("trap={trap}"))
        .args(WAYS.iter().zip(ids).map(|((way, _), id)| format!("{way}={id}")))
        .run()?;
    let done: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<std::result::Result<_, _>>()
        .with_context(|| text.clone())?;
    // What the kernel does not have is not tried: io_uring may be switched off, MPTCP not built.
    ensure!(done.len() + 4 >= WAYS.len(), "only these were tried: {text}");
    for exchange in &done {
        let (index, (way, seen)) = WAYS
            .iter()
            .enumerate()
            .find(|(_, (way, _))| exchange["way"] == *way)
            .context("a way of ours")?;
        check(&mut agent, port, exchange, &ids[index], *seen).with_context(|| format!("way {way}"))?;
    }
    ensure!(
        with_ids(&agent.events.all, std::slice::from_ref(trap)).is_empty(),
        "a call was told that was on no socket"
    );
    agent.end()?;
    Ok(())
}

/// Accounts to the byte, on both sides; and the calls that can be told, exactly once.
fn check(agent: &mut Agent<'_>, port: u16, exchange: &Value, id: &str, seen: Seen) -> Result {
    let number = |key: &str| exchange[key].as_u64().with_context(|| key.to_owned());
    let (request, head, body) = (number("request")?, number("head")?, number("body")?);
    let client_port = exchange["client_port"].clone();
    let account = |moved: u64, lost: u64| json!({ "moved": moved, "seen": moved - lost, "lost": lost });
    let response = head + body;
    let (request_lost, response_lost) = match seen {
        Seen::All | Seen::NoClient => (0, 0),
        Seen::NoRequest => (request, 0),
        Seen::NoStart => (100, 0),
        Seen::NoBody | Seen::FileBody => (0, body),
    };
    let server = (account(response, response_lost), account(request, request_lost));
    let client = (account(request, 0), account(response, 0));
    let mut sides = vec![(port.into(), client_port.clone(), server)];
    if seen != Seen::NoClient {
        sides.push((client_port, port.into(), client));
    }
    for (local, remote, (sent, received)) in sides {
        let of_side = |all: &[Value]| -> Vec<Value> {
            of_kind(all, "flow_end")
                .into_iter()
                .filter(|end| end["local"]["port"] == local && end["remote"]["port"] == remote)
                .cloned()
                .collect()
        };
        agent
            .events
            .wait("the connection's account is told", |all| !of_side(all).is_empty())?;
        let ends = of_side(&agent.events.all);
        ensure!(
            ends.len() == 1 && ends[0]["sent"] == sent && ends[0]["received"] == received,
            "the account from port {local} is not sent {sent}, received {received}: {ends:#?}"
        );
    }
    let calls = with_ids(&agent.events.all, std::slice::from_ref(&id.to_owned()));
    let whole = |direction: &str| {
        let of_side: Vec<_> = calls
            .iter()
            .filter(|call| call["direction"] == direction)
            .collect();
        ensure!(
            of_side.len() == 1
                && of_side[0]["request"]["path"] == "/fhir/Patient/{id}"
                && of_side[0]["response"]["status"] == 200
                && of_side[0]["response"]["body"]["bytes_total"] == body
                && of_side[0]["state"] == "answered",
            "the {direction} side: {of_side:#?}"
        );
        Ok(of_side[0]["loss_overlap"] == true)
    };
    let none = |direction: &str| calls.iter().all(|call| call["direction"] != direction);
    match seen {
        Seen::NoRequest | Seen::NoStart => {
            ensure!(none("inbound"), "a request is told that nobody read");
            ensure!(!whole("outbound")?, "the client's side is marked");
        }
        Seen::NoClient => {
            ensure!(none("outbound"), "a call over MPTCP is told");
            ensure!(!whole("inbound")?, "the server's side is marked");
            agent.wait_status("MPTCP is counted", |status| {
                status["losses"]["mptcp"].as_u64() > Some(0)
            })?;
        }
        Seen::All | Seen::NoBody | Seen::FileBody => {
            ensure!(!whole("outbound")?, "the client's side is marked");
            ensure!(
                whole("inbound")? == (seen == Seen::NoBody),
                "a call is marked that lost nothing, or not marked although it did"
            );
        }
    }
    Ok(())
}

/// A server that throws its request away unread, and waits for what becomes of the connection.
const DEAF: &str = r#"
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
connection, _ = listener.accept()
client.sendall(b"GET /fhir/Patient/1 HTTP/1.1\r\nHost: a\r\n\r\n")
connection.recv(4, socket.MSG_TRUNC)
if sys.argv[1] == "stays":
    sys.exit()
connection.settimeout(20)
try:
    while connection.recv(4, socket.MSG_TRUNC):
        pass
except ConnectionError:
    sys.exit()
sys.exit("the connection was not cut")
"#;

/// What an application got and nobody could read may have been the forbidden request.
fn what_is_missing() -> Result {
    let world = World::new()?;
    let script = world.write("deaf.py", DEAF)?;
    for (on_unseen, mode, becomes, said) in [
        ("alert", "enforce", "stays", Some("reported")),
        ("cut", "observe", "stays", Some("enforce mode would have cut it")),
        ("cut", "enforce", "cut", Some("it was cut")),
        ("allow", "enforce", "stays", None),
    ] {
        let rules = json!([{ "name": "none", "match": { "paths": ["/admin/**"] }, "action": "deny" }]);
        let mut document = policy::document("reads-all", &rules);
        document["spec"]["onUnseen"] = json!(on_unseen);
        let file = world.write("reads-all.yaml", format!("{document:#}\n"))?;
        let mut agent = Agent::start(&world, |config| {
            config["mode"] = json!(mode);
            config["policies"] = json!([file]);
            config["capture"]["flow_ends"] = json!("all");
        })?;
        Start::new(&world, Place::Inside, program("python3")?)
            .name("deaf")
            .arg(&script)
            .arg(becomes)
            .run()
            .with_context(|| format!("onUnseen: {on_unseen}, mode {mode}"))?;
        agent.events.wait("both ends of the connection are told", |all| {
            of_kind(all, "flow_end").len() >= 2
        })?;
        let events = agent.end()?;
        let told: Vec<&str> = of_kind(&events.all, "flow_loss")
            .into_iter()
            .filter_map(|loss| {
                loss["detail"]
                    .as_str()?
                    .strip_prefix("gap: policy reads-all onUnseen: ")
            })
            .collect();
        ensure!(
            told == Vec::from_iter(said),
            "onUnseen: {on_unseen}, mode {mode}: {told:?} is told; {}",
            events.summary()
        );
        std::fs::remove_file(world.path("events.jsonl"))?;
    }
    Ok(())
}

/// Two agents start, one after the other, in the middle of a connection in TLS, under a policy that cuts what is not seen: it
/// goes on, and its calls are told at both ends.
fn older_connections() -> Result {
    const CALLS: usize = 5;
    let world = World::new()?;
    let identity = Authority::new(&world)?.issue(&world, "server", &[])?;
    let app = servers::app(&world, Place::Inside, Some(&identity))?;
    let (stop, begun) = (world.path("stop"), world.path("begun"));
    let mut client = Start::new(&world, Place::Inside, program("python3")?)
        .name("steady")
        .arg(world.write("steady.py", include_str!("assets/steady.py"))?)
        .args([format!("tls:{}", app.port), "/fhir/Patient/1".to_owned()])
        .args([&stop, &begun])
        .spawn()?;
    client.wait_until("the first call is answered", || Ok(begun.exists()))?;
    let rules = json!([{ "name": "none", "match": { "paths": ["/admin/**"] }, "action": "deny" }]);
    let mut document = policy::document("reads-all", &rules);
    document["spec"]["onUnseen"] = json!("cut");
    let file = world.write("reads-all.yaml", format!("{document:#}\n"))?;
    for _ in 0..2 {
        let mut agent = Agent::start(&world, |config| {
            config["mode"] = json!("enforce");
            config["policies"] = json!([file]);
        })?;
        agent.events.wait("calls at both ends are told", |all| {
            let calls = of_kind(all, "call");
            ["inbound", "outbound"].iter().all(|direction| {
                let at_end = |call: &&&Value| {
                    call["direction"] == *direction
                        && call["state"] == "answered"
                        && call["remote"]["address"] == "127.0.0.1"
                };
                calls.iter().filter(at_end).count() >= CALLS
            })
        })?;
        let events = agent.end()?;
        let unseen: Vec<_> = of_kind(&events.all, "flow_loss")
            .into_iter()
            .filter(|loss| loss["reason"] == "unseen")
            .collect();
        ensure!(unseen.is_empty(), "{unseen:?}");
        std::fs::remove_file(world.path("events.jsonl"))?;
    }
    ensure!(
        client.ended().is_none(),
        "the client gave up: {}",
        client.last_words()
    );
    std::fs::write(&stop, "")?;
    let ended = client.wait(Duration::from_secs(30))?;
    ensure!(ended.success(), "{ended}: {}", client.last_words());
    Ok(())
}
