//! What HTTP/1 does to those who read along: heads in single bytes, bodies beyond every buffer, several requests in one
//! write, messages whose end has to be known to find the next. Every call is looked at from both sides.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::Authority;
use crate::harness::events::{trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::Server;
use crate::harness::wire::{head, piece, repeated, send};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, servers};

pub const STORIES: &[Story] = &[
    ("a_head_in_single_bytes", a_head_in_single_bytes),
    ("three_mebibytes_in_one_write", three_mebibytes_in_one_write),
    (
        "messages_that_end_in_their_own_ways",
        messages_that_end_in_their_own_ways,
    ),
    ("chunks_that_end_out_of_sight", chunks_that_end_out_of_sight),
    ("requests_in_one_write", requests_in_one_write),
    ("what_is_ambiguous_has_a_name", what_is_ambiguous_has_a_name),
];

const MIB: usize = 1 << 20;
const CLOSE: &str = "Connection: close\r\n";

/// The views of one call: from the client's side and from the server's, exactly one each.
fn both<'a>(calls: &'a [Value], id: &str) -> Result<[&'a Value; 2]> {
    let of = |direction: &str| -> Result<&'a Value> {
        let found: Vec<&Value> = calls
            .iter()
            .filter(|call| call["request"]["trace_id"] == id && call["direction"] == direction)
            .collect();
        ensure!(
            found.len() == 1,
            "the {direction} side was told {} times",
            found.len()
        );
        Ok(found[0])
    };
    Ok([of("outbound")?, of("inbound")?])
}

/// Waits for both sides of these calls.
fn told(agent: &mut Agent<'_>, ids: &[String]) -> Result<Vec<Value>> {
    agent.events.wait_calls(2 * ids.len(), ids)
}

/// Both sides say the same of these parts of a call.
#[track_caller]
fn expect(calls: &[Value], id: &str, expected: &Value) -> Result {
    for call in both(calls, id)? {
        for (pointer, value) in expected.as_object().context("a mapping of pointers")? {
            let seen = call.pointer(pointer).unwrap_or(&Value::Null);
            ensure!(
                seen == value,
                "{} side: {pointer} is {seen}, not {value}: {call:#}",
                call["direction"]
            );
        }
    }
    Ok(())
}

fn a_head_in_single_bytes() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let clear = servers::app(&world, Place::Inside, None)?;
    let tls = servers::app(&world, Place::Inside, Some(&identity))?;
    for (server, ca) in [(&clear, None), (&tls, Some(authority.ca.as_path()))] {
        let ids = trace_ids(1);
        // Longer than any buffer that a line is read into.
        let long = format!("X-Long: {}\r\n{CLOSE}", "v".repeat(2_000));
        let text = head("GET", "/fhir/Patient/1044", &ids[0], &long);
        send(&world, server.port, ca, &[piece(&text)], &["--bytes"])?;
        let calls = told(&mut agent, &ids)?;
        expect(
            &calls,
            &ids[0],
            &json!({
                "/request/method": "GET", "/request/path": "/fhir/Patient/{id}", "/request/head_bytes": text.len(),
                "/response/status": 200, "/state": "answered", "/anomalies": [],
            }),
        )?;
    }
    agent.check_no_losses()?;
    drop((clear, tls));
    agent.end()?;
    Ok(())
}

fn three_mebibytes_in_one_write() -> Result {
    for body_bytes_max in [64 << 10, 4 * MIB] {
        let world = World::new()?;
        let authority = Authority::new(&world)?;
        let identity = authority.issue(&world, "server", &[])?;
        let mut agent = Agent::start(&world, |config| {
            config["capture"]["body_bytes_max"] = json!(body_bytes_max);
            // Room for all of it, read and written, at the speed of loopback.
            config["capture"]["ring_bytes"] = json!(64 * MIB);
        })?;
        agent.wait_library(system_libssl()?)?;
        let clear = servers::app(&world, Place::Inside, None)?;
        let tls = servers::app(&world, Place::Inside, Some(&identity))?;
        for (server, ca) in [(&clear, None), (&tls, Some(authority.ca.as_path()))] {
            let ids = trace_ids(2);
            let lines = format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                3 * MIB
            );
            // Head and body in one write; and a call after it on the same connection, found only by counting.
            let first = head("POST", "/fhir/Observation", &ids[0], &lines);
            let second = head("GET", &format!("/download/{}", 3 * MIB), &ids[1], CLOSE);
            let whole = format!("{first}{}", "b".repeat(3 * MIB));
            let answer = send(
                &world,
                server.port,
                ca,
                &[repeated(&whole, 1), piece(&second)],
                &[],
            )?;
            ensure!(
                answer.contains(&format!("\"received\": {}", 3 * MIB)),
                "the application got something else"
            );
            let calls = told(&mut agent, &ids)?;
            let captured = body_bytes_max.min(3 * MIB);
            let body = json!({
                "bytes_total": 3 * MIB, "bytes_captured": captured, "truncated": captured < 3 * MIB,
                "media_type": "application/json",
            });
            expect(
                &calls,
                &ids[0],
                &json!({ "/request/body": body, "/response/status": 201, "/state": "answered" }),
            )?;
            let mut body = body;
            body["media_type"] = json!("application/octet-stream");
            expect(
                &calls,
                &ids[1],
                &json!({ "/response/body": body, "/response/status": 200, "/state": "answered" }),
            )?;
        }
        drop((clear, tls));
        agent.end()?;
    }
    Ok(())
}

fn messages_that_end_in_their_own_ways() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |_| {})?;
    let app = servers::app(&world, Place::Inside, None)?;
    let ids = trace_ids(10);
    let get = |target: &str, index: usize, lines: &str| head("GET", target, &ids[index], lines);
    let chunked = format!(
        "{}5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: one\r\n\r\n",
        head(
            "POST",
            "/fhir/Observation",
            &ids[3],
            "Transfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n"
        )
    );
    // On one connection: each is found only if the end of the one before was.
    let pieces = [
        piece(head("HEAD", "/download/5000", &ids[0], "")),
        piece(get("/status/204", 1, "")),
        piece(get("/status/304", 2, "")),
        piece(&chunked[..chunked.len() - 40]),
        piece(&chunked[chunked.len() - 40..]),
        piece(get("/stream/7", 4, "")),
        piece(head("DELETE", "http://localhost/fhir/Patient/7", &ids[5], "")),
        piece(get("/close", 6, "")),
    ];
    send(&world, app.port, None, &pieces, &[])?;
    let answered = |status: u64, path: &str, bytes: u64| {
        json!({
            "/state": "answered", "/response/status": status, "/request/path": path, "/anomalies": [],
            "/response/body/bytes_total": bytes, "/response/body/truncated": false,
        })
    };
    // A body of the kind that announces itself and waits for leave: `100 Continue` comes first.
    let body = world.write("body.json", "c".repeat(5_000))?;
    let url = format!("http://127.0.0.1:{}/fhir/Observation", app.port);
    Start::new(&world, Place::Inside, program("curl")?)
        .args([
            "-q",
            "--fail",
            "--silent",
            "--noproxy",
            "*",
            "--header",
            "Expect: 100-continue",
        ])
        .args([
            "--header",
            &traceparent(&ids[7]),
            "--header",
            "Content-Type: application/json",
            "--data-binary",
        ])
        .arg(format!("@{}", body.display()))
        .arg(url)
        .run()?;
    send(
        &world,
        app.port,
        None,
        &[piece(get(
            "/upgrade",
            8,
            "Connection: Upgrade\r\nUpgrade: echo\r\n",
        ))],
        &[],
    )?;
    // A request that nobody answers: the client goes away.
    send(
        &world,
        app.port,
        None,
        &[piece(get("/status/200", 9, CLOSE))],
        &[],
    )?;
    let calls = told(&mut agent, &ids)?;
    expect(&calls, &ids[0], &answered(200, "/download/{id}", 0))?;
    expect(&calls, &ids[1], &answered(204, "/status/{id}", 0))?;
    expect(&calls, &ids[2], &answered(304, "/status/{id}", 0))?;
    expect(
        &calls,
        &ids[3],
        &json!({ "/response/status": 201, "/request/body/bytes_total": 11, "/anomalies": ["chunk-extension"] }),
    )?;
    expect(&calls, &ids[4], &answered(200, "/stream/{id}", 7 * 16))?;
    expect(
        &calls,
        &ids[5],
        &json!({ "/request/method": "DELETE", "/request/path": "/fhir/Patient/{id}" }),
    )?;
    expect(&calls, &ids[6], &answered(200, "/close", 13))?;
    expect(
        &calls,
        &ids[7],
        &json!({ "/response/status": 201, "/request/body/bytes_total": 5000 }),
    )?;
    expect(
        &calls,
        &ids[8],
        &json!({ "/response/status": 101, "/state": "switched" }),
    )?;
    expect(
        &calls,
        &ids[9],
        &json!({ "/response/status": 200, "/state": "answered" }),
    )?;
    agent.check_no_losses()?;
    drop(app);
    let events = agent.end()?;
    ensure!(
        events.of_kind("call").len() == 2 * ids.len(),
        "something else was taken for a call: {}",
        events.summary()
    );
    Ok(())
}

fn requests_in_one_write() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let clear = servers::app(&world, Place::Inside, None)?;
    let tls = servers::app(&world, Place::Inside, Some(&identity))?;
    let pipeline = |server: &Server, ca, agent: &mut Agent<'_>| -> Result {
        let ids = trace_ids(40);
        let mut text = String::new();
        for (index, id) in ids.iter().enumerate() {
            let last = if index + 1 == ids.len() { CLOSE } else { "" };
            text.push_str(&head("GET", &format!("/status/{}", 200 + index), id, last));
        }
        send(&world, server.port, ca, &[piece(&text)], &[])?;
        let calls = told(agent, &ids)?;
        ensure!(
            calls.len() == 2 * ids.len(),
            "{} views of {} calls",
            calls.len(),
            ids.len()
        );
        for (index, id) in ids.iter().enumerate() {
            // 204 has no body, 304 is not reached; each answer belongs to the request in its place.
            expect(
                &calls,
                id,
                &json!({ "/response/status": 200 + index, "/state": "answered", "/anomalies": [] }),
            )?;
        }
        Ok(())
    };
    pipeline(&clear, None, &mut agent)?;
    pipeline(&tls, Some(authority.ca.as_path()), &mut agent)?;
    agent.check_no_losses()?;
    drop((clear, tls));
    agent.end()?;
    Ok(())
}

/// Two lengths in one head: what a proxy and the application may read differently.
fn what_is_ambiguous_has_a_name() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |_| {})?;
    let app = servers::app(&world, Place::Inside, None)?;
    let ids = trace_ids(1);
    let lines = format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n{CLOSE}");
    let text = format!("{}0\r\n\r\n", head("POST", "/fhir/Observation", &ids[0], &lines));
    send(&world, app.port, None, &[piece(&text)], &[])?;
    told(&mut agent, &ids)?;
    for call in with_ids(&agent.events.all, &ids) {
        let named = call["anomalies"]
            .as_array()
            .is_some_and(|names| !names.is_empty());
        ensure!(named, "nothing is said of two lengths in one head: {call:#}");
    }
    drop(app);
    agent.end()?;
    Ok(())
}

/// Most of what was written is not captured: that it is whole is known by its last bytes.
fn chunks_that_end_out_of_sight() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |config| {
        config["capture"]["body_bytes_max"] = json!(4 << 10);
    })?;
    let port = servers::free_port()?;
    let script = world.write("chunks.py", include_str!("assets/chunks.py"))?;
    let mut server = Start::new(&world, Place::Inside, program("python3")?)
        .name("chunks")
        .arg(script)
        .arg(port.to_string())
        .spawn()?;
    server.wait_until("the server accepts", || {
        Ok(servers::accepts(([127, 0, 0, 1], port).into()))
    })?;
    let ids = trace_ids(2);
    for (id, path) in [(&ids[0], "/whole"), (&ids[1], "/dead")] {
        send(&world, port, None, &[piece(head("GET", path, id, CLOSE))], &[])?;
    }
    let calls = told(&mut agent, &ids)?;
    for (id, state) in [(&ids[0], "answered"), (&ids[1], "closed")] {
        expect(&calls, id, &json!({ "/response/status": 200, "/state": state }))?;
    }
    drop(server);
    agent.end()?;
    Ok(())
}
