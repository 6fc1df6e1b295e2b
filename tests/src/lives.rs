//! Lives that do not fit the agent's: processes that are gone after milliseconds, connections that are older.

use std::collections::HashSet;

use anyhow::ensure;
use serde_json::json;

use crate::Story;
use crate::every_call::{check_views, executable, system_libssl};
use crate::harness::certificates::Authority;
use crate::harness::clients;
use crate::harness::events::{Side, of_kind, trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{accepts, free_port};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, code, servers};

pub const STORIES: &[Story] = &[
    ("processes_of_milliseconds", processes_of_milliseconds),
    (
        "connections_older_than_the_agent",
        connections_older_than_the_agent,
    ),
    (
        "a_reset_overtakes_the_first_call",
        a_reset_overtakes_the_first_call,
    ),
];

/// One curl process a call, which is gone before anyone can look at it.
fn processes_of_milliseconds() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let app = servers::app(&world, Place::Outside, None)?;
    let nginx = servers::nginx(&world, Place::Outside, app.port, &identity)?;
    let exe = executable("curl")?;
    for (scheme, port) in [("http", nginx.clear), ("https", nginx.tls)] {
        let ids = trace_ids(60);
        let script: String = ids
            .iter()
            .map(|id| {
                format!(
                    "{} -q --fail --silent --show-error --noproxy '*' --cacert {} --output /dev/null --header '{}' \
                     {scheme}://127.0.0.1:{port}/fhir/Patient/1044 || exit 1\n",
                    program_text("curl"),
                    authority.ca.display(),
                    traceparent(id)
                )
            })
            .collect();
        let script = world.write("calls.sh", script)?;
        Start::new(&world, Place::Inside, program("sh")?)
            .arg(script)
            .run()?;
        let side = Side {
            direction: "outbound",
            exe: &exe,
            pids: &[],
            tls: scheme == "https",
            method: "GET",
            path: "/fhir/Patient/{id}",
            status: 200,
            remote: "127.0.0.1",
        };
        check_views(&mut agent, &ids, &[side])?;
        let pids: HashSet<u64> = with_ids(&agent.events.all, &ids)
            .iter()
            .filter_map(|call| call["process"]["pid"].as_u64())
            .collect();
        ensure!(
            pids.len() == ids.len(),
            "{} processes made {} calls",
            pids.len(),
            ids.len()
        );
    }
    agent.check_no_losses()?;
    drop((nginx, app));
    agent.end()?;
    Ok(())
}

fn program_text(name: &str) -> String {
    program(name).map_or_else(|_| name.to_owned(), |path| path.display().to_string())
}

/// The next message on a connection that was there before: in clear, and inside of TLS that was negotiated before.
fn connections_older_than_the_agent() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    for tls in [false, true] {
        let app = servers::app(&world, Place::Inside, tls.then_some(&identity))?;
        let go = world.path(&format!("go-{tls}"));
        let ids = trace_ids(51);
        let ca = tls.then_some(authority.ca.as_path());
        let go_text = go.display().to_string();
        let mut client =
            clients::python_command(&world, Place::Inside, app.port, ca, &ids, &["--wait", &go_text])?
                .spawn()?;
        client.wait_until("the first call is answered", || Ok(true))?;
        crate::harness::until("the first call is answered", || {
            Ok(client.output()?.contains("200"))
        })?;
        let mut agent = Agent::start(&world, |_| {})?;
        if tls {
            agent.wait_library(system_libssl()?)?;
        }
        std::fs::write(&go, "")?;
        let status = client.wait(std::time::Duration::from_secs(30))?;
        ensure!(status.success(), "the client failed{}", client.last_words());
        let exe = executable("python3")?;
        let (client_pid, server_pid) = ([client.pid()], [app.process.pid()]);
        let side = Side {
            direction: "outbound",
            exe: &exe,
            pids: &client_pid,
            tls,
            method: "GET",
            path: "/fhir/Patient/{id}",
            status: 200,
            remote: "127.0.0.1",
        };
        let server = Side {
            direction: "inbound",
            pids: &server_pid,
            ..side.clone()
        };
        // A read that a thread was in when the library was probed has no beginning for the agent: the request that
        // it returns may be missing on that side, and is counted then.
        let sure = if tls { &ids[2..] } else { &ids[1..] };
        check_views(&mut agent, sure, &[side, server])?;
        if with_ids(&agent.events.all, &ids[1..2]).len() == 2 {
            agent.check_no_losses()?;
        } else {
            let losses = agent.status()?["losses"].clone();
            ensure!(
                tls && losses["responses-unpaired"].as_u64() > Some(0),
                "a request that was being read at the start is missing, and counted nowhere: {losses}"
            );
        }
        drop(client);
        let events = agent.end()?;
        ensure!(
            code::check_whole(&world)? > 0 || !tls,
            "the server's library was not looked at"
        );
        drop(app);
        let early = with_ids(&events.all, &ids[..1]);
        ensure!(
            early.is_empty(),
            "a call from before the agent was told: {early:#?}"
        );
        std::fs::remove_file(world.path("events.jsonl"))?;
    }
    Ok(())
}

/// Answers whoever has left already: the reset comes while the call that sends is still returning.
const UNASKED: &str = r#"
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.recv(1)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.close()
"#;

/// The one record of a connection may come after its end. It is told under its own address, ends, and is no loss.
fn a_reset_overtakes_the_first_call() -> Result {
    const ANSWER_BYTES: u64 = 47;
    let world = World::new()?;
    let mut agent = Agent::start(&world, |config| {
        config["capture"]["flow_ends"] = json!("all");
    })?;
    let port = free_port()?;
    let script = world.write("unasked.py", UNASKED)?;
    let mut server = Start::new(&world, Place::Inside, program("python3")?)
        .arg(script)
        .arg(port.to_string())
        .spawn()?;
    // Who asks whether it accepts leaves at once.
    server.wait_until("the server accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    agent.events.wait("the connection's account is told", |all| {
        of_kind(all, "flow_end").iter().any(|end| {
            end["local"]["port"] == port
                && end["sent"]["moved"] == ANSWER_BYTES
                && end["sent"]["seen"] == ANSWER_BYTES
        })
    })?;
    agent.check_no_losses()?;
    drop(server);
    agent.end()?;
    Ok(())
}
