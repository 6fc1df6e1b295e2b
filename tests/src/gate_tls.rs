//! The gate inside TLS: a client's forbidden request never leaves, of a server's answer to one no byte gets out, and where
//! the kernel lets a probe write registers, the application is never told of it.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::{Authority, Identity};
use crate::harness::events::{text, trace_ids, with_ids};
use crate::harness::servers::Server;
use crate::harness::wire::{self, piece, repeated};
use crate::harness::{Agent, Place, Result, World, policy, servers, skip, until};

pub const STORIES: &[Story] = &[
    ("tls_inbound_however_it_is_split", tls_inbound_however_it_is_split),
    (
        "tls_outbound_however_it_is_split",
        tls_outbound_however_it_is_split,
    ),
    ("tls_what_only_looks_forbidden_passes", || {
        looks_forbidden("inbound")?;
        looks_forbidden("outbound")
    }),
    ("tls_the_server_is_never_told", tls_the_server_is_never_told),
    ("tls_an_object_for_several_connections", || {
        library_server("cleared")
    }),
    ("tls_in_a_forked_child", || library_server("forked")),
];

const FORBIDDEN: &str = "/fhir/Patient/$export";

/// An agent that forbids exports one way, and the application with TLS on that side of it.
struct Scene<'a> {
    agent: Agent<'a>,
    server: Server,
    authority: Authority,
    /// Where the client is.
    place: Place,
    direction: &'static str,
    /// The guarantee that this host gives.
    word: String,
}

fn scene<'a>(world: &'a World, direction: &'static str) -> Result<Scene<'a>> {
    scene_of(world, direction, servers::telling_app)
}

fn scene_of<'a>(
    world: &'a World,
    direction: &'static str,
    server: impl Fn(&World, Place, &Identity) -> Result<Server>,
) -> Result<Scene<'a>> {
    let authority = Authority::new(world)?;
    let identity = authority.issue(world, "server", &[])?;
    let rules = json!([{ "name": "no-export", "match": { "direction": direction, "paths": ["/fhir/{type}/$export"] }, "action": "deny" }]);
    let file = policy::file(world, "tests", &rules)?;
    let agent = Agent::start(world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    agent.wait_library(system_libssl()?)?;
    // The other end is out of the agent's reach.
    let (at, place) = match direction {
        "inbound" => (Place::Inside, Place::Outside),
        _ => (Place::Outside, Place::Inside),
    };
    let Server { process, port } = server(world, at, &identity)?;
    let word = text(&agent.status()?["guarantees"][format!("{direction}-tls")]).to_owned();
    let words: &[&str] = match direction {
        "inbound" => &["contained", "prevented"],
        _ => &["prevented"],
    };
    ensure!(words.contains(&word.as_str()), "{direction} in TLS is {word}");
    Ok(Scene {
        agent,
        server: Server { process, port },
        authority,
        place,
        direction,
        word,
    })
}

impl Scene<'_> {
    /// What came back.
    fn send(&self, world: &World, pieces: &[Value], more: &[&str]) -> Result<String> {
        let ca = Some(self.authority.ca.as_path());
        wire::command(world, self.place, self.server.port, ca, pieces, more)?.run()
    }

    /// The calls with these ids, all of them stopped as well as this host can.
    fn check_stopped(&mut self, ids: &[String]) -> Result {
        let word = self.word.clone();
        for call in self.agent.events.wait_calls(ids.len(), ids)? {
            let verdict = &call["verdict"];
            ensure!(
                verdict["action"] == "deny"
                    && verdict["guarantee"] == word
                    && verdict["decided_by"] == "gate"
                    && verdict["rule"] == "no-export",
                "not {word} by the gate: {call:#}"
            );
        }
        ensure!(
            with_ids(&self.agent.events.all, ids).len() == ids.len(),
            "a call was told twice"
        );
        Ok(())
    }

    /// Requests that the application has handled, by its own account.
    fn handled(&self, path: &str) -> Result<usize> {
        let log = self.server.process.output()?;
        Ok(log.lines().filter(|line| line.ends_with(path)).count())
    }

    fn end(self) -> Result {
        self.agent.check_no_losses()?;
        drop(self.server);
        self.agent.end()?;
        Ok(())
    }
}

/// A forbidden head in several ways, one connection each; the last is behind an allowed request and its body.
fn ways(ids: &[String]) -> Vec<(Vec<Value>, bool)> {
    let head = |id: &str, lines: &str| wire::head("GET", FORBIDDEN, id, lines);
    let long = format!("X-Long: {}\r\n", "a".repeat(12_000));
    let whole = head(&ids[1], "");
    let (one, other) = whole.split_at(whole.len() / 2);
    let allowed = wire::head(
        "POST",
        "/fhir/Patient",
        &trace_ids(1)[0],
        "Content-Length: 40000\r\n",
    );
    vec![
        (vec![piece(head(&ids[0], ""))], false),
        (vec![piece(one), piece(other)], false),
        (vec![piece(head(&ids[2], ""))], true),
        (vec![piece(head(&ids[3], &long))], false),
        (
            vec![piece(allowed), repeated("body", 10_000), piece(head(&ids[4], ""))],
            false,
        ),
    ]
}

fn however_it_is_split(direction: &'static str) -> Result {
    let world = World::new()?;
    let mut scene = scene(&world, direction)?;
    let ids = trace_ids(5);
    let mut handled = 0;
    for (number, (pieces, bytes)) in ways(&ids).iter().enumerate() {
        let more: &[&str] = if *bytes { &["--bytes"] } else { &[] };
        let got = scene.send(&world, pieces, more)?;
        // Python's server takes the connection's end for that of a head whose beginning it has got; it reads 8 KiB at a time.
        ensure!(
            scene.word != "prevented" || [1, 2, 3].contains(&number) || scene.handled(FORBIDDEN)? == handled,
            "way {number}: the application has handled it"
        );
        handled = scene.handled(FORBIDDEN)?;
        // The allowed one may be lost with it, when the connection is reset before its answer has left.
        ensure!(
            got.matches("HTTP/1.1 ").count() <= usize::from(number == 4) && !got.contains("$export"),
            "way {number}: the client got {got:?}"
        );
    }
    scene.check_stopped(&ids)?;
    // Nobody is banned, and what was allowed passes.
    let close = "Connection: close\r\n";
    let allowed = trace_ids(1);
    let got = scene.send(
        &world,
        &[piece(wire::head("GET", "/fhir/Patient/1", &allowed[0], close))],
        &[],
    )?;
    ensure!(got.starts_with("HTTP/1.1 200 "), "a neighbour got {got:?}");
    // Lines of before have been written by now: of three ways the server may have taken a part for the whole.
    ensure!(
        scene.word != "prevented" || scene.handled(FORBIDDEN)? <= 3,
        "the application has handled more"
    );
    scene.end()
}

fn tls_inbound_however_it_is_split() -> Result {
    however_it_is_split("inbound")
}

fn tls_outbound_however_it_is_split() -> Result {
    however_it_is_split("outbound")
}

/// A request line in a body, a path in a query or a header, a neighbour of the path.
fn looks_forbidden(direction: &'static str) -> Result {
    let world = World::new()?;
    let mut scene = scene(&world, direction)?;
    let ids = trace_ids(5);
    let inner = wire::head("GET", FORBIDDEN, &trace_ids(1)[0], "");
    let close = "Connection: close\r\n";
    let length = format!("Content-Length: {}\r\n{close}", inner.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n{close}");
    let get = |target: &str, id: &str, lines: &str| vec![piece(wire::head("GET", target, id, lines))];
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
        get(&format!("/fhir/Patient?next={FORBIDDEN}"), &ids[2], close),
        get(
            "/fhir/Patient",
            &ids[3],
            &format!("Referer: {FORBIDDEN}\r\n{close}"),
        ),
        get("/fhir/Patient/$exports", &ids[4], close),
    ];
    for (number, pieces) in ways.iter().enumerate() {
        let got = scene.send(&world, pieces, &[])?;
        ensure!(
            got.starts_with("HTTP/1.1 20"),
            "{} way {number}: the client got {got:?}",
            scene.direction
        );
    }
    for call in scene.agent.events.wait_calls(ids.len(), &ids)? {
        ensure!(
            call["verdict"]["action"] == "allow" && call["state"] == "answered",
            "stopped without a reason: {call:#}"
        );
    }
    scene.end()
}

/// nginx reads the head in parts, and after it has been told to wait; it takes none of what is denied for a request.
fn tls_the_server_is_never_told() -> Result {
    let world = World::new()?;
    let mut scene = scene(&world, "inbound")?;
    let capabilities = scene.agent.status()?["capabilities"].clone();
    let refuses = capabilities
        .as_array()
        .context("the status has capabilities")?
        .iter()
        .any(|one| one["name"] == "tls-refuse" && one["available"] == true);
    skip::unless(refuses, "uprobe_write_registers")?;
    ensure!(
        scene.word == "prevented",
        "the agent promises {} only",
        scene.word
    );
    let identity = scene.authority.issue(&world, "nginx", &[])?;
    let app = servers::app(&world, Place::Outside, None)?;
    let log = world.path("access.log");
    // It takes the longest head, instead of refusing it by itself before it has read all of it.
    let more = format!("access_log {}; large_client_header_buffers 4 16k;", log.display());
    let nginx = servers::nginx_with(&world, Place::Inside, app.port, &identity, &more)?;
    let ids = trace_ids(5);
    for (pieces, bytes) in ways(&ids) {
        let more: &[&str] = if bytes { &["--bytes"] } else { &[] };
        let ca = Some(scene.authority.ca.as_path());
        let got = wire::command(&world, Place::Outside, nginx.tls, ca, &pieces, more)?.run()?;
        ensure!(!got.contains("$export"), "the client got {got:?}");
    }
    scene.check_stopped(&ids)?;
    let close = "Connection: close\r\n";
    let neighbour = [piece(wire::head(
        "GET",
        "/fhir/Patient/1",
        &trace_ids(1)[0],
        close,
    ))];
    let ca = Some(scene.authority.ca.as_path());
    let got = wire::command(&world, Place::Outside, nginx.tls, ca, &neighbour, &[])?.run()?;
    ensure!(got.starts_with("HTTP/1.1 200 "), "a neighbour got {got:?}");
    until("nginx logs", || {
        Ok(std::fs::read_to_string(&log)?.contains("/fhir/Patient/1"))
    })?;
    let log = std::fs::read_to_string(&log)?;
    // Of three ways nginx has got a part of the head, and takes the connection's end for a client that gave up: no answer,
    // and nobody was asked for one, or there would be more calls with these ids.
    let told: Vec<&str> = log.lines().filter(|line| line.contains("$export")).collect();
    ensure!(
        told.len() <= 3 && told.iter().all(|line| line.contains("\" 400 0 \"")),
        "nginx was told: {log}"
    );
    drop((nginx, app));
    scene.end()
}

/// What a server is asked that uses the library in a way of its own. `cleared`: the object of a connection that was denied
/// something is used for the next ones, which are none the worse for it. `forked`: the parent shakes hands and frees the object,
/// its child reads by its own copy, also when the parent has freed the objects of later connections by then.
fn library_server(way: &'static str) -> Result {
    let world = World::new()?;
    let mut scene = scene_of(&world, "inbound", |world, place, identity| {
        servers::library_app(world, place, way, identity)
    })?;
    let ids = trace_ids(12);
    let close = "Connection: close\r\n";
    let (mut forbidden, mut allowed) = (Vec::new(), Vec::new());
    for (round, pair) in ids.chunks(2).enumerate() {
        let more: &[&str] = match (way, round % 2) {
            ("forked", 1) => &["--others", "2"],
            _ => &[],
        };
        let got = scene.send(&world, &[piece(wire::head("GET", FORBIDDEN, &pair[0], ""))], more)?;
        ensure!(got.is_empty(), "of a forbidden call the client got {got:?}");
        forbidden.push(pair[0].clone());
        let head = wire::head("GET", "/fhir/Patient/1", &pair[1], close);
        let got = scene.send(&world, &[piece(head)], more)?;
        ensure!(
            got.starts_with("HTTP/1.1 200 "),
            "the next connection got {got:?}"
        );
        allowed.push(pair[1].clone());
    }
    scene.check_stopped(&forbidden)?;
    for call in scene.agent.events.wait_calls(allowed.len(), &allowed)? {
        ensure!(
            call["response"]["status"] == 200 && call["verdict"]["action"] != "deny",
            "not as any other call: {call:#}"
        );
    }
    scene.end()
}
