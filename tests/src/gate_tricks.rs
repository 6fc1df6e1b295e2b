//! Requests as hostile clients write them, which some servers take all the same; and clients that are told no.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::gate_edges::enforcing;
use crate::harness::events::of_kind;
use crate::harness::process::Start;
use crate::harness::world::program;
use crate::harness::{Place, Result, World, policy, servers};
use crate::{Story, gate};

pub const STORIES: &[Story] = &[
    (
        "what_only_some_servers_take_for_a_request",
        what_only_some_servers_take_for_a_request,
    ),
    (
        "an_answered_client_does_not_keep_its_server",
        an_answered_client_does_not_keep_its_server,
    ),
    (
        "a_head_that_outlives_its_policies",
        a_head_that_outlives_its_policies,
    ),
];

const LIMIT: Duration = Duration::from_secs(20);
const HONEST: &str = "GET /fhir/Patient/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn no_admin() -> Value {
    json!([{ "name": "no-admin", "match": { "direction": "inbound", "paths": ["/admin/**"] }, "action": "deny" }])
}

/// Sends the pieces one by one, ends its direction if it is to, and returns what comes until the other end closes.
fn call(port: u16, pieces: &[&[u8]], ends: bool) -> Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).context("no connection")?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(LIMIT))?;
    let mut got = Vec::new();
    let mut talk = || -> std::io::Result<()> {
        for piece in pieces {
            connection.write_all(piece)?;
        }
        if ends {
            connection.shutdown(Shutdown::Write)?;
        }
        connection.read_to_end(&mut got).map(drop)
    };
    match talk() {
        // A reset is an end as well.
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(String::from_utf8_lossy(&got).into_owned()),
    }
}

/// Python's server splits lines at any white space, takes any bytes for a method, and a head that the connection's end cuts
/// off for a whole one. None of it gets there, and an honest call does.
fn what_only_some_servers_take_for_a_request() -> Result {
    let world = World::new()?;
    let agent = enforcing(&world, &no_admin())?;
    let port = servers::free_port()?;
    let mut server = servers::app_command(&world, Place::Inside, &["127.0.0.1"], port, None)?
        .arg("--log")
        .name("app")
        .spawn()?;
    server.wait_until("the application accepts", || {
        Ok(servers::accepts(([127, 0, 0, 1], port).into()))
    })?;
    let chunked = "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let both =
        "POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let hidden = "GET /admin/x HTTP/1.1\r\nHost: x\r\n\r\n";
    let long = "A".repeat(300);
    let tricks = [
        (format!(" {hidden}"), false),
        (format!("\t{hidden}"), false),
        ("GET\x0c/admin/x\x0cHTTP/1.1\r\nHost: x\r\n\r\n".into(), false),
        ("GET\r/admin/x\rHTTP/1.1\r\nHost: x\r\n\r\n".into(), false),
        ("GET\u{1c}/admin/x HTTP/1.1\r\nHost: x\r\n\r\n".into(), false),
        ("GET /admin/x HTTP/1.1\r\r\nHost: x\r\n\r\n".into(), false),
        (format!("{long} /admin/x HTTP/1.1\r\nHost: x\r\n\r\n"), false),
        (format!("\0{hidden}"), false),
        (format!("x\r\n{hidden}"), false),
        (format!("\u{16}\u{3}\u{1}\n\n{}\n{hidden}", &long[..200]), false),
        (
            format!("{chunked}5;{long}{long}{long}\r\nhello\r\n 0\r\n\r\n{hidden}"),
            false,
        ),
        (format!("{chunked}0x5\r\nhello\r\n0\r\n\r\n{hidden}"), false),
        (format!("{chunked}{hidden}"), false),
        (format!("{both}0\r\n\r\n{hidden}"), false),
        ("GET /admin/x HTTP/1.1\r\n".into(), true),
        ("GET /admin/x HTTP/1.1\r\nHost: x".into(), true),
        (
            format!(
                "{}GET /admin/x HTTP/1.1\r\n",
                HONEST.replace("close", "keep-alive")
            ),
            true,
        ),
    ];
    for (text, ends) in &tricks {
        let got = call(port, &[text.as_bytes()], *ends)?;
        ensure!(!got.contains("/admin"), "it was served: {text:?}: {got:?}");
        let got = call(port, &[HONEST.as_bytes()], false)?;
        ensure!(got.starts_with("HTTP/1.1 200"), "behind {text:?}: {got:?}");
    }
    // Who speaks another protocol, and closes, is no business of the gate's.
    for text in [
        "\u{b}MSH|^~\\&|A|B\r\u{1c}\r",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        "PING",
        "EHLO a\r\nQUIT\r\nGET",
        "GET",
    ] {
        let got = call(port, &[text.as_bytes()], true)?;
        ensure!(!got.contains("403 Forbidden"), "{text:?} was denied: {got:?}");
    }
    let said = server.output()?;
    ensure!(!said.contains("/admin"), "the application was asked: {said}");
    ensure!(said.contains("/fhir/Patient/1"), "it was asked nothing: {said}");
    drop(server);
    // Each is told once, and nothing else was denied.
    let events = agent.end()?;
    let denied = |event: &&Value| event["call"]["verdict"]["action"] == "deny";
    let told = events.all.iter().filter(denied).count();
    ensure!(
        told == tricks.len(),
        "{told} denials are told: {}",
        events.summary()
    );
    Ok(())
}

/// The client's end comes behind bytes that were withheld, so the server's TCP never takes it in. A server that has few
/// places has them back at once all the same.
fn an_answered_client_does_not_keep_its_server() -> Result {
    const PLACES: usize = 24;
    let world = World::new()?;
    let agent = enforcing(&world, &no_admin())?;
    let port = servers::free_port()?;
    let folder = world.folder().display();
    let conf = world.write(
        "few.conf",
        format!(
            "daemon off; pid {folder}/few.pid; error_log {folder}/few.log crit;\n\
             events {{ worker_connections {PLACES}; }}\n\
             http {{\n\
               access_log off; client_body_temp_path {folder}/few-b; proxy_temp_path {folder}/few-p;\n\
               fastcgi_temp_path {folder}/few-f; uwsgi_temp_path {folder}/few-u; scgi_temp_path {folder}/few-s;\n\
               server {{ listen 127.0.0.1:{port}; location / {{ return 200 fine; }} }}\n\
             }}\n"
        ),
    )?;
    let mut server = Start::new(&world, Place::Inside, program("nginx")?)
        .name("few")
        .args(["-e", "stderr", "-g", "user root;", "-c"])
        .arg(conf)
        .spawn()?;
    server.wait_until("nginx accepts", || {
        Ok(servers::accepts(([127, 0, 0, 1], port).into()))
    })?;
    for number in 0..4 * PLACES {
        let got = call(port, &[b"GET /adm", b"in/x HTTP/1.1\r\nHost: x\r\n\r\n"], false)?;
        ensure!(
            got.starts_with("HTTP/1.1 403"),
            "forbidden call {number}: {got:?}"
        );
        let got = call(port, &[HONEST.as_bytes()], false)?;
        ensure!(
            got.starts_with("HTTP/1.1 200"),
            "behind {number} forbidden ones: {got:?}"
        );
    }
    drop(server);
    agent.end()?;
    Ok(())
}

/// A client that waits within a head until the policies have been changed more often than tables are kept. Nobody can tell any
/// more which rules the head meets, so it does not get through; who begins after them is judged by what is in force.
fn a_head_that_outlives_its_policies() -> Result {
    const CHANGES: usize = 5;
    let world = World::new()?;
    let rules = |number: usize| {
        json!([
            { "name": format!("no-admin-{number}"), "match": { "direction": "inbound", "paths": ["/admin/**"] }, "action": "deny" },
        ])
    };
    let mut agent = gate::enforcing(&world, &rules(0))?;
    let server = servers::app(&world, Place::Inside, None)?;
    let forbidden = "GET /admin/x HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut connections = Vec::new();
    for text in [forbidden, HONEST] {
        for cut in [3, 12] {
            let mut connection = TcpStream::connect(("127.0.0.1", server.port))?;
            connection.set_nodelay(true)?;
            connection.set_read_timeout(Some(LIMIT))?;
            connection.write_all(&text.as_bytes()[..cut])?;
            connections.push((connection, &text[cut..]));
        }
    }
    for number in 1..=CHANGES {
        policy::file(&world, "tests", &rules(number))?;
        agent.reload();
        let is_taken = |audit: &&&Value| audit["what"] == "policy" && audit["who"] == "signal";
        agent.events.wait("the policies are changed", |all| {
            of_kind(all, "audit").iter().filter(is_taken).count() == number
        })?;
    }
    for (connection, rest) in &mut connections {
        connection.write_all(rest.as_bytes())?;
        let mut got = String::new();
        connection.read_to_string(&mut got)?;
        ensure!(got.starts_with("HTTP/1.1 403"), "{rest:?} came through: {got:?}");
    }
    let got = call(server.port, &[HONEST.as_bytes()], false)?;
    ensure!(
        got.starts_with("HTTP/1.1 200"),
        "an honest call behind them: {got:?}"
    );
    let got = call(server.port, &[forbidden.as_bytes()], false)?;
    ensure!(
        got.starts_with("HTTP/1.1 403"),
        "a forbidden one behind them: {got:?}"
    );
    drop(server);
    let events = agent.end()?;
    let denied = |event: &&Value| event["call"]["verdict"]["action"] == "deny";
    let told: Vec<_> = events.all.iter().filter(denied).collect();
    ensure!(
        told.len() == connections.len() + 1
            && told
                .iter()
                .all(|event| event["call"]["verdict"]["guarantee"] == "prevented"),
        "not each is told once as prevented: {told:#?}"
    );
    Ok(())
}
