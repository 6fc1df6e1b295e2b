//! What a connection's TLS handshake tells of the calls on it: curl against nginx and Python in TLS 1.2 and 1.3, with and
//! without a client's certificate, with a Host of somebody else's, and a certificate that is over; and TLS in memory.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::{Authority, Identity, over};
use crate::harness::events::{text, trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    ("handshakes_are_facts_of_calls", handshakes_are_facts_of_calls),
    (
        "tls_that_nobody_reads_has_a_name",
        tls_that_nobody_reads_has_a_name,
    ),
    (
        "calls_while_hands_are_shaken_in_tls",
        calls_while_hands_are_shaken,
    ),
];

/// Its TLS is in memory, so that no library call is tied to the socket: to the agent the socket's bytes are anybody's.
const CLIENT: &str = r#"
import asyncio, ssl, sys
async def main():
    trust = ssl.create_default_context(cafile=sys.argv[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]), ssl=trust, server_hostname="localhost")
    writer.write(b"GET /fhir/Patient/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()
asyncio.run(main())
"#;

/// Asks another application, in clear, before it shakes hands: as servers ask for what they staple to their certificates.
const ASKING: &str = r#"
import http.client, socket, ssl, sys
port, application, certificate, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
questions = sys.argv[5:]
def ask(connection, name, context):
    client = http.client.HTTPConnection("127.0.0.1", application, timeout=20)
    client.request("GET", "/fhir/Patient/7", headers={"traceparent": questions.pop(0)})
    client.getresponse().read()
    client.close()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.sni_callback = ask
listener = socket.create_server(("127.0.0.1", port))
while True:
    client, _ = listener.accept()
    try:
        with context.wrap_socket(client, server_side=True) as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096) or b"\r\n\r\n"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    except OSError:
        # Somebody only wanted to know whether we listen.
        pass
"#;

/// One call by a curl of its own.
fn curl(world: &World, port: u16, id: &str, more: &[&str]) -> Result {
    let told = Start::new(world, Place::Inside, program("curl")?)
        .args([
            "-q",
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--noproxy",
            "*",
        ])
        .args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--http1.1",
        ])
        .args(["--header", &traceparent(id)])
        .args(more.iter().copied())
        .arg(format!("https://localhost:{port}/fhir/Patient/1"))
        .run()?;
    ensure!(told.trim() == "200", "the call was answered with {told}");
    Ok(())
}

/// The call as both sides saw it.
fn sides(agent: &mut Agent<'_>, id: &str) -> Result<[Value; 2]> {
    let ids = [id.to_owned()];
    let in_tls = |all: &[Value]| {
        let calls = with_ids(all, &ids);
        calls.iter().filter(|call| !call["tls"].is_null()).count()
    };
    agent
        .events
        .wait("both sides of the call are told", |all| in_tls(all) >= 2)?;
    let calls = with_ids(&agent.events.all, &ids);
    // nginx passes the header on, in clear.
    let of = |direction: &str| {
        calls
            .iter()
            .find(|call| call["direction"] == direction && !call["tls"].is_null())
            .map(|call| (*call).clone())
            .with_context(|| format!("no {direction} call {id} in TLS: {calls:#?}"))
    };
    Ok([of("outbound")?, of("inbound")?])
}

fn check(what: &str, call: &Value, facts: &Value) -> Result {
    let handshake = &call["tls"]["handshake"];
    for (pointer, value) in facts.as_object().into_iter().flatten() {
        ensure!(
            handshake.pointer(pointer) == Some(value),
            "{what}: {pointer} is not {value} in {call:#}"
        );
    }
    Ok(())
}

fn findings(call: &Value) -> Vec<&str> {
    let findings = call["findings"].as_array();
    findings
        .into_iter()
        .flatten()
        .map(|finding| text(&finding["kind"]))
        .collect()
}

struct Files<'a> {
    ca: &'a Path,
    client: &'a Identity,
}

impl Files<'_> {
    fn arguments<'b>(&'b self, more: &[&'b str], certificate: bool) -> Result<Vec<&'b str>> {
        let path = |path: &'b Path| path.to_str().context("a path in UTF-8");
        let mut arguments = vec!["--cacert", path(self.ca)?];
        if certificate {
            arguments.extend([
                "--cert",
                path(&self.client.certificate)?,
                "--key",
                path(&self.client.key)?,
            ]);
        }
        arguments.extend(more);
        Ok(arguments)
    }
}

/// Version, cipher, names and certificates are told as far as they were said in the clear; no byte of it counts as moved
/// or lost.
fn handshakes_are_facts_of_calls() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let server = authority.issue(&world, "server", &[])?;
    let client = authority.issue(&world, "client", &[])?;
    let rules = policy::file(
        &world,
        "old",
        &json!([{
            "name": "no-older-than-1.3",
            "match": { "direction": "inbound" },
            "when": "call.tls.used && call.tls.protocol != '1.3' && call.tls.server_name == 'localhost'",
            "action": "alert",
        }]),
    )?;
    let mut agent = Agent::start(&world, |config| {
        config["policies"] = json!([rules]);
        config["capture"]["flow_ends"] = json!("all");
    })?;
    agent.wait_library(system_libssl()?)?;
    let app = servers::app(&world, Place::Inside, None)?;
    let asks = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; ssl_client_certificate {}; ssl_verify_client optional;",
        authority.ca.display()
    );
    let nginx = servers::nginx_with(&world, Place::Inside, app.port, &server, &asks)?;
    let old = servers::app(&world, Place::Inside, Some(&over(&world)?))?;
    let files = Files {
        ca: &authority.ca,
        client: &client,
    };
    let ids = trace_ids(5);

    curl(
        &world,
        nginx.tls,
        &ids[0],
        &files.arguments(&["--tls-max", "1.2"], false)?,
    )?;
    for call in sides(&mut agent, &ids[0])? {
        let facts = json!({
            "/version": "1.2",
            "/server_name": "localhost",
            "/alpn": "http/1.1",
            "/alpn_offered": ["http/1.1"],
            "/resumed": false,
            "/names_disagree": false,
            "/certificate/known": "shown",
            "/certificate/facts/self_signed": false,
            "/certificate/facts/expired": false,
            "/certificate/facts/names": ["localhost"],
            "/client_certificate/known": "none",
        });
        check("TLS 1.2", &call, &facts)?;
        let cipher = text(&call["tls"]["handshake"]["cipher"]);
        ensure!(
            cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"),
            "the cipher is {cipher:?}"
        );
        ensure!(findings(&call).is_empty(), "{:?}", findings(&call));
        let alerted = call["direction"] == "inbound";
        ensure!(
            (call["verdict"]["action"] == "alert") == alerted,
            "{:#}",
            call["verdict"]
        );
    }

    curl(
        &world,
        nginx.tls,
        &ids[1],
        &files.arguments(&["--tls-max", "1.2"], true)?,
    )?;
    for call in sides(&mut agent, &ids[1])? {
        check(
            "mutual TLS",
            &call,
            &json!({ "/client_certificate/known": "shown" }),
        )?;
        let credentials = &call["request"]["credentials"];
        let subject = &call["tls"]["handshake"]["client_certificate"]["facts"]["subject"];
        ensure!(
            credentials["client_certificate"] == true
                && credentials["principal_kind"] == "certificate"
                && credentials["principal"] == *subject
                && text(subject).starts_with("h:"),
            "{call:#}"
        );
    }

    curl(
        &world,
        nginx.tls,
        &ids[2],
        &files.arguments(&["--tlsv1.3"], true)?,
    )?;
    for call in sides(&mut agent, &ids[2])? {
        let facts = json!({
            "/version": "1.3",
            "/server_name": "localhost",
            "/alpn": null,
            "/alpn_offered": ["http/1.1"],
            "/certificate": { "known": "encrypted" },
            "/client_certificate": { "known": "encrypted" },
        });
        check("TLS 1.3", &call, &facts)?;
        ensure!(call["request"]["credentials"].is_null(), "{call:#}");
        ensure!(call["verdict"]["action"] == "allow", "{:#}", call["verdict"]);
    }

    let host = ["--header", "Host: records.front.test"];
    curl(&world, nginx.tls, &ids[3], &files.arguments(&host, false)?)?;
    for call in sides(&mut agent, &ids[3])? {
        check("another Host", &call, &json!({ "/names_disagree": true }))?;
        ensure!(
            findings(&call) == ["destination-disagrees"],
            "{:?}",
            findings(&call)
        );
    }

    curl(&world, old.port, &ids[4], &["--insecure", "--tls-max", "1.2"])?;
    for call in sides(&mut agent, &ids[4])? {
        let facts = json!({
            "/certificate/facts/self_signed": true,
            "/certificate/facts/expired": true,
            "/certificate/facts/not_after": "2019-12-31T00:00:00.000000000Z",
            "/client_certificate/known": "not-asked",
        });
        check("a certificate that is over", &call, &facts)?;
        ensure!(
            findings(&call) == ["certificate-expired", "certificate-self-signed"],
            "{:?}",
            findings(&call)
        );
    }

    agent.check_no_losses()?;
    let events = agent.end()?;
    for end in events.of_kind("flow_end") {
        let sides = [&end["sent"], &end["received"]];
        ensure!(
            sides
                .iter()
                .all(|side| side["moved"] == side["seen"] && side["lost"] == 0),
            "a connection's account is wrong: {end:#}"
        );
    }
    Ok(())
}

/// A connection that cannot be read is in the inventory all the same, by the name that its client asked for.
fn tls_that_nobody_reads_has_a_name() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let agent = Agent::start(&world, |_| {})?;
    let server = servers::app(&world, Place::Outside, Some(&identity))?;
    let script = world.write("client.py", CLIENT)?;
    Start::new(&world, Place::Inside, program("python3")?)
        .arg("-I")
        .arg(script)
        .arg(&authority.ca)
        .arg(server.port.to_string())
        .run()?;
    until("the inventory has the connection", || {
        let text = agent
            .command(&["inventory", "--unmatched", "--output", "json"])?
            .run()?;
        let told: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
        let endpoints = told["endpoints"].as_array();
        Ok(endpoints.into_iter().flatten().any(|one| {
            one["protocol"] == "tls"
                && one["host"] == "localhost"
                && one["path"] == "{encrypted}"
                && one["tls"].to_string().contains("tls 1.")
        }))
    })?;
    agent.end()?;
    Ok(())
}

/// A connection that is used while the library shakes hands on another one stays what it is, and so does that one.
fn calls_while_hands_are_shaken() -> Result {
    const CALLS: usize = 8;
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let app = servers::app(&world, Place::Inside, None)?;
    let (calls, questions) = (trace_ids(CALLS), trace_ids(CALLS));
    let port = servers::free_port()?;
    let script = world.write("asking.py", ASKING)?;
    let contexts = questions.iter().map(|id| format!("00-{id}-00f067aa0ba902b7-01"));
    let mut server = Start::new(&world, Place::Inside, program("python3")?)
        .name("asking")
        .arg(script)
        .args([port, app.port].map(|port| port.to_string()))
        .args([&identity.certificate, &identity.key])
        .args(contexts)
        .spawn()?;
    server.wait_until("the server listens", || {
        Ok(servers::accepts(([127, 0, 0, 1], port).into()))
    })?;
    let ca = authority.ca.display().to_string();
    for id in &calls {
        curl(&world, port, id, &["--cacert", &ca])
            .with_context(|| format!("the server{}", server.last_words()))?;
        sides(&mut agent, id)?;
    }
    for call in agent.events.wait_calls(2 * CALLS, &questions)? {
        ensure!(
            call["tls"].is_null()
                && call["response"]["status"] == 200
                && call["remote"]["address"] == "127.0.0.1",
            "a question is not told as it was asked: {call:#}"
        );
    }
    ensure!(
        with_ids(&agent.events.all, &questions).len() == 2 * CALLS,
        "a question was told twice"
    );
    agent.check_no_losses()?;
    drop((server, app));
    agent.end()?;
    Ok(())
}
