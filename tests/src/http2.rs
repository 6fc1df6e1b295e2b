//! HTTP/2 with real software: curl's streams through nginx, in clear and in TLS, each call seen once on each side; denied
//! by the pipeline; and a connection that is older than the agent.

use std::path::Path;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::{check_views, executable, system_libssl};
use crate::harness::certificates::Authority;
use crate::harness::events::{Side, text, trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{accepts, free_port};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    ("streams_in_clear", || streams(false)),
    ("streams_in_tls", || streams(true)),
    ("a_denied_stream", a_denied_stream),
    (
        "streams_of_a_connection_joined_late",
        streams_of_a_connection_joined_late,
    ),
];

const CALLS: usize = 200;

/// One curl process that asks for all of them at once, over as few connections as it can.
fn curl(world: &World, url: &str, ca: &Path, ids: &[String]) -> Result {
    let mut config = String::from("parallel\nparallel-max = 100\n");
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            config.push_str("next\n");
        }
        config.push_str(&format!(
            "url = \"{url}\"\nheader = \"{}\"\nsilent\nshow-error\noutput = \"/dev/null\"\nmax-time = 30\nnoproxy = \"*\"\n\
             write-out = \"%{{http_version}} %{{http_code}}\\n\"\nhttp2\ncacert = \"{}\"\n",
            traceparent(id),
            ca.display()
        ));
    }
    let file = world.write("curl-http2.conf", config)?;
    let told = Start::new(world, Place::Inside, program("curl")?)
        .args(["-q", "--config"])
        .arg(file)
        .run()?;
    let right = told.lines().filter(|line| line.trim() == "2 200").count();
    ensure!(
        right == ids.len(),
        "{right} of {} calls were answered in HTTP/2: {told}",
        ids.len()
    );
    Ok(())
}

/// A client on one connection in clear: it asks for all at once; or, with a file's name, once for nothing that counts,
/// and for the others one after the other when that file is there.
const CLIENT: &str = include_str!("assets/h2client.py");

fn one_connection<'a>(world: &'a World, port: u16, ids: &[String]) -> Result<Start<'a>> {
    let script = world.write("h2client.py", CLIENT)?;
    Ok(Start::new(world, Place::Inside, program("python3")?)
        .name("h2client")
        .arg("-I")
        .arg(script)
        .args([port.to_string(), ids.join(",")]))
}

/// nginx with two more ports that speak HTTP/2: in clear, and in TLS.
struct Edge {
    nginx: servers::Nginx,
    app: servers::Server,
    clear: u16,
    tls: u16,
}

fn edge(world: &World, authority: &Authority) -> Result<Edge> {
    let identity = authority.issue(world, "server", &[])?;
    let app = servers::app(world, Place::Inside, None)?;
    let (clear, tls) = (free_port()?, free_port()?);
    let more = format!("listen 127.0.0.1:{clear} http2; listen 127.0.0.1:{tls} ssl http2;");
    let nginx = servers::nginx_with(world, Place::Inside, app.port, &identity, &more)?;
    until("nginx accepts HTTP/2", || {
        Ok([clear, tls]
            .iter()
            .all(|port| accepts(([127, 0, 0, 1], *port).into())))
    })?;
    Ok(Edge {
        nginx,
        app,
        clear,
        tls,
    })
}

fn streams(tls: bool) -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let mut agent = Agent::start(&world, |_| {})?;
    let edge = edge(&world, &authority)?;
    if tls {
        agent.wait_library(system_libssl()?)?;
    }
    let ids = trace_ids(CALLS);
    let name = if tls { "curl" } else { "python3" };
    if tls {
        let url = format!("https://127.0.0.1:{}/fhir/Patient/1044?_summary=true", edge.tls);
        curl(&world, &url, &authority.ca, &ids)?;
    } else {
        let told = one_connection(&world, edge.clear, &ids)?.run()?;
        let right = told.lines().filter(|line| line.trim() == "200").count();
        ensure!(
            right == ids.len(),
            "{right} of {} calls were answered: {told}",
            ids.len()
        );
    }
    let (client_exe, nginx_exe, python_exe) =
        (executable(name)?, executable("nginx")?, executable("python3")?);
    let workers = edge.nginx.workers()?;
    let app_pid = [edge.app.process.pid()];
    let client = Side {
        direction: "outbound",
        exe: &client_exe,
        pids: &[],
        tls,
        method: "GET",
        path: "/fhir/Patient/{id}",
        status: 200,
        remote: "127.0.0.1",
    };
    let server = Side {
        direction: "inbound",
        exe: &nginx_exe,
        pids: &workers,
        ..client.clone()
    };
    let upstream = Side {
        direction: "outbound",
        tls: false,
        ..server.clone()
    };
    let application = Side {
        direction: "inbound",
        exe: &python_exe,
        pids: &app_pid,
        ..upstream.clone()
    };
    check_views(&mut agent, &ids, &[client, server, upstream, application])?;
    let in_http2 = with_ids(&agent.events.all, &ids)
        .iter()
        .filter(|call| call["protocol"] == "http/2")
        .count();
    ensure!(
        in_http2 == 2 * CALLS,
        "{in_http2} views are in HTTP/2, not {}",
        2 * CALLS
    );
    agent.check_no_losses()?;
    drop(edge);
    agent.end()?;
    Ok(())
}

/// The path of a stream is judged; what is denied is withheld or cut, and its neighbours are told of.
fn a_denied_stream() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let rules = json!([{
        "name": "no-export",
        "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] },
        "action": "deny",
    }]);
    let file = policy::file(&world, "tests", &rules)?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let edge = edge(&world, &authority)?;
    agent.wait_library(system_libssl()?)?;
    for (tls, scheme, port) in [(false, "http", edge.clear), (true, "https", edge.tls)] {
        let ids = trace_ids(2);
        let url = |path: &str| format!("{scheme}://127.0.0.1:{port}{path}");
        let ca = tls.then_some(authority.ca.as_path());
        if let Some(ca) = ca {
            curl(&world, &url("/fhir/Patient/1"), ca, &ids[..1])?;
        }
        let answer = world.path("denied.bin");
        let mut start = Start::new(&world, Place::Inside, program("curl")?)
            .args(["-q", "--silent", "--max-time", "10", "--noproxy", "*", "--output"])
            .arg(&answer)
            .args(["--header", &traceparent(&ids[1])]);
        start = match ca {
            Some(ca) => start.arg("--http2").arg("--cacert").arg(ca),
            None => start.arg("--http2-prior-knowledge"),
        };
        let mut process = start.arg(url("/fhir/Patient/$export")).spawn()?;
        process.wait(std::time::Duration::from_secs(20))?;
        let got = std::fs::read(&answer).unwrap_or_default();
        let id = [ids[1].clone()];
        let denied = |all: &[Value]| -> Option<Value> {
            with_ids(all, &id)
                .into_iter()
                .find(|call| call["direction"] == "inbound" && call["protocol"] == "http/2")
                .cloned()
        };
        let all = agent
            .events
            .wait("the denied stream is told", |all| denied(all).is_some())?;
        let call = denied(all).unwrap_or_default();
        let verdict = &call["verdict"];
        ensure!(
            verdict["action"] == "deny"
                && verdict["rule"] == "no-export"
                && verdict["decided_by"] == "pipeline",
            "{call:#}"
        );
        match text(&verdict["guarantee"]) {
            "contained" => ensure!(
                got.is_empty(),
                "contained, and the client has {} bytes",
                got.len()
            ),
            "cut" => {}
            "observed" => ensure!(!verdict["shortfall"].is_null(), "{verdict:#}"),
            other => anyhow::bail!("the pipeline cannot promise `{other}`: {verdict:#}"),
        }
        ensure!(
            with_ids(&agent.events.all, &ids[..1])
                .iter()
                .all(|call| call["verdict"]["action"] != "deny")
        );
    }
    drop(edge);
    agent.end()?;
    Ok(())
}

fn streams_of_a_connection_joined_late() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let edge = edge(&world, &authority)?;
    let ids = trace_ids(20);
    let go = world.path("go");
    let mut client = one_connection(&world, edge.clear, &ids)?.arg(&go).spawn()?;
    let ready = world.path("go.ready");
    client.wait_until("the client has asked once", || Ok(ready.exists()))?;
    let mut agent = Agent::start(&world, |_| {})?;
    std::fs::write(&go, "")?;
    let status = client.wait(std::time::Duration::from_secs(30))?;
    ensure!(status.success(), "{}", client.last_words());
    let client_pid = client.pid();
    let of_client = |all: &[Value]| -> Vec<Value> {
        crate::harness::events::of_kind(all, "call")
            .into_iter()
            .filter(|call| call["direction"] == "outbound" && call["process"]["pid"] == client_pid)
            .cloned()
            .collect()
    };
    let all = agent
        .events
        .wait("the calls of the old connection are told", |all| {
            of_client(all).len() >= ids.len()
        })?;
    let calls = of_client(all);
    ensure!(
        calls.len() == ids.len(),
        "{} calls, not {}",
        calls.len(),
        ids.len()
    );
    for call in &calls {
        // The path is in the table since before the agent; it is right or not there.
        let path = text(&call["request"]["path"]);
        let unknown = call["anomalies"].to_string().contains("unknown-fields");
        ensure!(
            call["response"]["status"] == 200
                && (path == "/fhir/Patient/{id}" || (path.is_empty() && unknown)),
            "{call:#}"
        );
    }
    let losses = agent.status()?["losses"].clone();
    ensure!(
        losses["streams-unknown"].as_u64() > Some(0),
        "status does not say how many streams had unknown fields: {losses:#}"
    );
    drop(edge);
    agent.end()?;
    Ok(())
}
