//! Whose a connection is, and what the gate does where it has not seen all of one.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::Story;
use crate::harness::events::{text, trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::wire::{self, piece};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, servers, until};

pub const STORIES: &[Story] = &[
    ("two_listeners_on_one_port", two_listeners_on_one_port),
    (
        "a_connection_older_than_the_gate",
        a_connection_older_than_the_gate,
    ),
    (
        "rules_come_for_the_other_direction",
        rules_come_for_the_other_direction,
    ),
    (
        "a_denied_request_that_is_never_read",
        a_denied_request_that_is_never_read,
    ),
    ("a_listener_that_waits_for_bytes", a_listener_that_waits_for_bytes),
];

const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\n";
const EXPORT: &str = "/fhir/Patient/$export";
const NOBODY: u32 = 65_534;

fn document(rules: &Value) -> Value {
    let mut document = policy::document("tests", rules);
    document["spec"]["onAmbiguous"] = json!("deny");
    document
}

/// An agent that enforces these rules, and denies what is ambiguous.
pub fn enforcing<'a>(world: &'a World, rules: &Value) -> Result<Agent<'a>> {
    let file = world.write("tests.yaml", format!("{:#}\n", document(rules)))?;
    Agent::start(world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })
}

/// The rule is one process's, the port another's too: the address tells them apart. The other one began to listen last.
fn two_listeners_on_one_port() -> Result {
    let world = World::new()?;
    let rules = json!([{
        "name": "not-nobody",
        "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"], "workload": { "uid": NOBODY } },
        "action": "deny",
    }]);
    let mut agent = enforcing(&world, &rules)?;
    let port = servers::free_port()?;
    let listen = |address: &str, uid: u32| -> Result<_> {
        let mut server = servers::app_command(&world, Place::Inside, &[address], port, None)?
            .name(format!("app-{uid}"))
            .through([
                program("setpriv")?.into_os_string(),
                "--reuid".into(),
                uid.to_string().into(),
                "--clear-groups".into(),
            ])
            .spawn()?;
        let address = std::net::SocketAddr::new(address.parse()?, port);
        server.wait_until("it accepts", || Ok(servers::accepts(address)))?;
        Ok(server)
    };
    let call = |host: &str, id: &str| {
        let pieces = [piece(wire::head("GET", EXPORT, id, "Connection: close\r\n"))];
        wire::command(&world, Place::Outside, port, None, &pieces, &["--host", host])?.run()
    };
    let servers = [listen("127.0.0.2", NOBODY)?, listen("127.0.0.3", 0)?];
    // Until the agent has said what either of them is, calls are the pipeline's.
    until("the gate knows whose the listener is", || {
        Ok(call("127.0.0.2", &trace_ids(1)[0])?.starts_with(REFUSED))
    })?;
    let ids = trace_ids(20);
    for (number, id) in ids.iter().enumerate() {
        let denied = number % 2 == 0;
        let got = call(if denied { "127.0.0.2" } else { "127.0.0.3" }, id)?;
        ensure!(
            got.starts_with(REFUSED) == denied,
            "call {number}: the client got {got:?}"
        );
    }
    for call in agent.events.wait_calls(ids.len(), &ids)? {
        let denied = call["process"]["uid"] == NOBODY;
        let word = if denied { json!("prevented") } else { Value::Null };
        ensure!(
            (call["verdict"]["action"] == "deny") == denied && call["verdict"]["guarantee"] == word,
            "taken for the other one's: {call:#}"
        );
    }
    drop(servers);
    agent.end()?;
    Ok(())
}

/// Where its messages begin nobody has seen: the pipeline decides, but for a rule that has to be able to prevent.
fn a_connection_older_than_the_gate() -> Result {
    for required in [true, false] {
        let world = World::new()?;
        let mut rules = json!([{
            "name": "no-export",
            "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] },
            "action": "deny",
        }]);
        if required {
            rules[0]["require"] = json!("prevented");
        }
        let server = servers::app(&world, Place::Inside, None)?;
        let go = world.path("go");
        let ids = trace_ids(2);
        let pieces = [
            piece(wire::head("GET", "/fhir/Patient/1", &ids[0], "")),
            piece(wire::head(
                "GET",
                "/slow/Patient/1",
                &ids[1],
                "Connection: close\r\n",
            )),
        ];
        let mut client = wire::command(&world, Place::Outside, server.port, None, &pieces, &[])?
            .arg("--go")
            .arg(&go)
            .spawn()?;
        client.wait_until("the first call is answered", || {
            Ok(client_said(&world)?.contains("HTTP/1.1 200"))
        })?;
        let mut agent = enforcing(&world, &rules)?;
        std::fs::write(&go, "")?;
        client.wait(std::time::Duration::from_secs(20))?;
        let got = client.output()?;
        let answers = got.matches("HTTP/1.1 200").count();
        if required {
            ensure!(answers == 1, "what nobody could follow has passed: {got:?}");
            agent.events.wait("the denial is told", |all| {
                all.iter().any(|event| {
                    event["call"]["verdict"]["action"] == "deny"
                        && event["call"]["verdict"]["decided_by"] == "gate"
                })
            })?;
            // Whoever connects again is judged from the beginning.
            let pieces = [piece(wire::head(
                "GET",
                "/fhir/Patient/1",
                &trace_ids(1)[0],
                "Connection: close\r\n",
            ))];
            let got = wire::command(&world, Place::Outside, server.port, None, &pieces, &[])?.run()?;
            ensure!(got.starts_with("HTTP/1.1 200"), "the client got {got:?}");
        } else {
            ensure!(answers == 2, "an allowed call on an old connection: {got:?}");
        }
        drop(server);
        agent.end()?;
    }
    Ok(())
}

/// Where no rule is for a direction, no connection is followed in it. Whoever calls all the while on one connection notices
/// nothing of rules that come and go; a forbidden call on it is the pipeline's then, and the gate's on the next one.
fn rules_come_for_the_other_direction() -> Result {
    rules_come_for("outbound", "inbound")?;
    rules_come_for("inbound", "outbound")
}

/// There are rules for the `other` direction all the while.
fn rules_come_for(direction: &str, other: &str) -> Result {
    const CALLER: &str = "import http.client, os, sys\n\
        port, forbidden, counted, target, field = sys.argv[1:]\n\
        connection = http.client.HTTPConnection('127.0.0.1', int(port), timeout=10)\n\
        def call(target, **headers):\n    \
            connection.request('GET', target, headers=headers)\n    \
            answer = connection.getresponse()\n    \
            answer.read()\n    \
            return answer.status\n\
        calls = 0\n\
        while not os.path.exists(forbidden):\n    \
            assert call('/fhir/Patient/1') == 200\n    \
            calls += 1\n    \
            open(counted + '.new', 'w').write(str(calls))\n    \
            os.rename(counted + '.new', counted)\n\
        # Until the connection is cut: what has ended by itself cannot be.\n\
        connection.auto_open = 0\n\
        try:\n    call(target, **dict([field.strip().split(': ')]))\n    \
            while calls < 1000000:\n        call('/fhir/Patient/1')\n        calls += 1\n\
        except (OSError, http.client.HTTPException) as error:\n    print(type(error).__name__)\n";
    let world = World::new()?;
    let rule = |direction: &str| {
        json!({
            "name": direction,
            "match": { "direction": direction, "paths": ["/fhir/{type}/$export"] },
            "action": "deny",
        })
    };
    let sets = [json!([rule(other)]), json!([rule(other), rule(direction)])];
    let (client, serving) = match direction {
        "inbound" => (Place::Outside, Place::Inside),
        _ => (Place::Inside, Place::Outside),
    };
    let mut agent = enforcing(&world, &sets[0])?;
    let server = servers::app(&world, serving, None)?;
    let (forbidden, counted) = (world.path("forbidden"), world.path("counted"));
    let ids = trace_ids(2);
    let mut caller = Start::new(&world, client, program("python3")?)
        .name("caller")
        .arg("-I")
        .arg(world.write("caller.py", CALLER)?)
        .arg(server.port.to_string())
        .arg(&forbidden)
        .arg(&counted)
        .arg(EXPORT)
        .arg(traceparent(&ids[0]))
        .spawn()?;
    let calls = || -> Result<u64> {
        let text = std::fs::read_to_string(&counted).unwrap_or_default();
        Ok(text.parse().unwrap_or(0))
    };
    // The last set is the one with rules for the direction.
    for change in 0..8 {
        let set = &sets[change % 2];
        world.write("tests.yaml", format!("{:#}\n", document(set)))?;
        agent.reload();
        let rules = set.as_array().map_or(0, Vec::len);
        agent.wait_status("the rules are in force", |status| {
            status["policies"][0]["rules"].as_u64() == Some(rules as u64)
        })?;
        let before = calls()?;
        caller.wait_until("calls go on", || Ok(calls()? >= before + 20))?;
    }
    std::fs::write(&forbidden, "")?;
    caller.wait(std::time::Duration::from_secs(20))?;
    let pieces = [piece(wire::head("GET", EXPORT, &ids[1], "Connection: close\r\n"))];
    let got = wire::command(&world, client, server.port, None, &pieces, &[])?.run()?;
    ensure!(
        !got.contains("HTTP/1.1 200"),
        "a forbidden call on a new connection: {got:?}"
    );
    for call in agent.events.wait_calls(2, &ids)? {
        let verdict = &call["verdict"];
        let is_new = call["request"]["trace_id"] == json!(ids[1]);
        let words: &[&str] = match is_new {
            true => &["prevented"],
            false => &["contained", "cut"],
        };
        ensure!(
            verdict["action"] == "deny"
                && verdict["decided_by"] == if is_new { "gate" } else { "pipeline" }
                && words.contains(&text(&verdict["guarantee"])),
            "denied in another way: {call:#}"
        );
    }
    drop(server);
    agent.end()?;
    Ok(())
}

fn client_said(world: &World) -> Result<String> {
    Ok(std::fs::read_to_string(world.path("raw-client.log")).unwrap_or_default())
}

/// What a program sends from a file, the agent does not read: the gate's own copy tells of it.
fn a_denied_request_that_is_never_read() -> Result {
    const SENDER: &str = "import os, socket, sys\n\
        connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10)\n\
        file = os.open(sys.argv[2], os.O_RDONLY)\n\
        os.sendfile(connection.fileno(), file, 0, os.fstat(file).st_size)\n\
        try:\n    print(connection.recv(65536))\nexcept OSError as error:\n    print(type(error).__name__)\n";
    let world = World::new()?;
    let rules = json!([{
        "name": "no-export",
        "match": { "direction": "outbound", "paths": ["/fhir/{type}/$export"] },
        "action": "deny",
    }]);
    let mut agent = enforcing(&world, &rules)?;
    let server = servers::app(&world, Place::Outside, None)?;
    let script = world.write("sender.py", SENDER)?;
    let ids = trace_ids(2);
    for (id, target, denied) in [(&ids[0], "/fhir/Patient/1", false), (&ids[1], EXPORT, true)] {
        let file = world.write("head.txt", wire::head("GET", target, id, "Connection: close\r\n"))?;
        let said = Start::new(&world, Place::Inside, program("python3")?)
            .name("sender")
            .arg("-I")
            .arg(&script)
            .arg(server.port.to_string())
            .arg(file)
            .run()?;
        ensure!(said.contains("HTTP/1.1 200") != denied, "the sender got {said:?}");
    }
    let denied = [ids[1].clone()];
    let calls = agent.events.wait_calls(1, &denied)?;
    let verdict = &calls[0]["verdict"];
    ensure!(
        verdict["action"] == "deny"
            && verdict["decided_by"] == "gate"
            && text(&verdict["guarantee"]) == "prevented",
        "not prevented: {:#}",
        calls[0]
    );
    ensure!(
        with_ids(&agent.events.all, &denied).len() == 1,
        "it was told twice"
    );
    drop(server);
    agent.end()?;
    Ok(())
}

/// As Apache's are (`AcceptFilter`): it takes a connection in when there are bytes, and the gate lets no forbidden ones come.
fn a_listener_that_waits_for_bytes() -> Result {
    const SERVER: &str = "import socket, sys, threading\n\
        listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)\n\
        answer = b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok'\n\
        def serve(connection):\n    with connection:\n        try:\n            \
        print(connection.recv(65536).split(b'\\r\\n')[0], flush=True)\n            connection.sendall(answer)\n        \
        except OSError as error:\n            print(type(error).__name__, flush=True)\n\
        while True:\n    threading.Thread(target=serve, args=(listener.accept()[0],)).start()\n";
    let world = World::new()?;
    let rules = json!([{
        "name": "no-export",
        "match": { "direction": "inbound", "paths": ["/fhir/{type}/$export"] },
        "action": "deny",
    }]);
    let mut agent = enforcing(&world, &rules)?;
    let port = servers::free_port()?;
    let script = world.write("deferring.py", SERVER)?;
    let mut server = Start::new(&world, Place::Inside, program("python3")?)
        .name("deferring")
        .arg("-I")
        .arg(&script)
        .arg(port.to_string())
        .spawn()?;
    server.wait_until("it listens", || {
        Ok(servers::accepts(std::net::SocketAddr::from((
            [127, 0, 0, 1],
            port,
        ))))
    })?;
    let ids = trace_ids(6);
    for (number, id) in ids.iter().enumerate() {
        let allowed = number % 3 == 2;
        let target = if allowed { "/fhir/Patient/1" } else { EXPORT };
        let pieces = [piece(wire::head("GET", target, id, "Connection: close\r\n"))];
        let got = wire::command(&world, Place::Outside, port, None, &pieces, &[])?.run()?;
        let expected = if allowed { "HTTP/1.1 200" } else { REFUSED };
        ensure!(got.starts_with(expected), "call {number}: the client got {got:?}");
    }
    let prevented = agent
        .events
        .wait_calls(ids.len(), &ids)?
        .iter()
        .filter(|call| call["verdict"]["action"] == "deny" && call["verdict"]["guarantee"] == "prevented")
        .count();
    ensure!(prevented == 4, "{prevented} of 4 denials are told as prevented");
    let got = std::fs::read_to_string(world.path("deferring.log"))?;
    ensure!(
        got.contains("/fhir/Patient/1") && !got.contains("export"),
        "the application got {got}"
    );
    drop(server);
    agent.end()?;
    Ok(())
}
