//! What hospitals speak: HL7 version 2 over MLLP, in clear and in TLS, and FHIR through nginx.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::{Authority, Identity};
use crate::harness::events::{trace_ids, traceparent, with_ids};
use crate::harness::policy;
use crate::harness::process::Start;
use crate::harness::servers::{Server, accepts, free_port};
use crate::harness::wire::{head, piece, send};
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, servers};

pub const STORIES: &[Story] = &[
    (
        "hl7_messages_and_their_acknowledgements",
        hl7_messages_and_their_acknowledgements,
    ),
    ("fhir_in_its_own_words", fhir_in_its_own_words),
    ("entries_of_compressed_answers", entries_of_compressed_answers),
    ("patients_are_not_sent_out", patients_are_not_sent_out),
];

const FHIR_GZIP: &str = include_str!("assets/fhir_gzip.py");
const MLLP: &str = include_str!("assets/mllp.py");

fn receiver(world: &World, tls: Option<&Identity>) -> Result<Server> {
    let port = free_port()?;
    let script = world.write("mllp.py", MLLP)?;
    let mut start = Start::new(world, Place::Inside, program("python3")?)
        .name("receiver")
        .arg("-I")
        .arg(script)
        .args(["--listen", &port.to_string()]);
    if let Some(tls) = tls {
        start = start.arg("--tls").arg(&tls.certificate).arg(&tls.key);
    }
    let mut process = start.spawn()?;
    process.wait_until("the receiver accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    Ok(Server { process, port })
}

/// Sends messages one after the other; returns the codes that came back.
fn deliver(world: &World, port: u16, authority: Option<&Authority>, messages: &[String]) -> Result<String> {
    let script = world.write("mllp.py", MLLP)?;
    let file = world.write("messages.json", json!(messages).to_string())?;
    let mut start = Start::new(world, Place::Inside, program("python3")?)
        .name("sender")
        .arg("-I")
        .arg(script)
        .args(["--port", &port.to_string(), "--messages"])
        .arg(file);
    if let Some(authority) = authority {
        start = start.arg("--ca").arg(&authority.ca);
    }
    start.run()
}

fn message(kind: &str, id: &str, more: &str) -> String {
    format!(
        "MSH|^~\\&|ADMISSIONS|WARD7|LABSYS|MAIN|20260101||{kind}|{id}|P|2.5.1||||||UNICODE UTF-8\nEVN||20260101\n\
         PID|1||4711^^^MRN||ZEBULON^ADA||19700101\n{more}"
    )
}

fn sides<'a>(calls: &'a [Value], id: &str) -> Result<[&'a Value; 2]> {
    let of = |direction: &str| {
        calls
            .iter()
            .find(|call| call["request"]["trace_id"] == id && call["direction"] == direction)
            .with_context(|| format!("no {direction} call {id}: {calls:#?}"))
    };
    Ok([of("outbound")?, of("inbound")?])
}

fn detail<'a>(call: &'a Value, name: &str) -> &'a Value {
    let details = call["operation"]["details"].as_array();
    let found = details
        .into_iter()
        .flatten()
        .find(|detail| detail["name"] == name);
    found.map_or(&Value::Null, |detail| &detail["value"])
}

/// Both sides see each message with its acknowledgement; what denies only alerts, unless it may stall.
fn hl7_messages_and_their_acknowledgements() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let rules = policy::file(
        &world,
        "mllp",
        &json!([{
            "name": "no-merges",
            "match": { "direction": "inbound", "protocols": "mllp" },
            "when": "call.operation.name == 'ADT^A40'",
            "action": "deny",
        }]),
    )?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([rules]);
    })?;
    agent.wait_library(system_libssl()?)?;
    let clear = receiver(&world, None)?;
    let tls = receiver(&world, Some(&identity))?;
    for (server, authority) in [(&clear, None), (&tls, Some(&authority))] {
        let ids = trace_ids(3);
        let messages = [
            message("ADT^A01^ADT_A01", &ids[0], "PV1|1|I\nZXY|1"),
            message("ORU^R01", &ids[1], "REJ|1"),
            message("ADT^A40", &ids[2], "MRG|1"),
        ];
        let answers = deliver(&world, server.port, authority, &messages)?;
        ensure!(answers.split_whitespace().eq(["AA", "AE", "AA"]), "{answers}");
        let calls = agent.events.wait_calls(6, &ids)?;
        for (index, (name, ack, segments)) in [
            ("ADT^A01", "AA", "MSH,EVN,PID,PV1,Z"),
            ("ORU^R01", "AE", "MSH,EVN,PID,other"),
            ("ADT^A40", "AA", "MSH,EVN,PID,MRG"),
        ]
        .into_iter()
        .enumerate()
        {
            for call in sides(&calls, &ids[index])? {
                let operation = &call["operation"];
                let seen = json!([
                    call["protocol"],
                    call["state"],
                    call["request"]["method"],
                    operation["api"],
                    operation["name"],
                    detail(call, "ack"),
                    detail(call, "segments"),
                    detail(call, "version"),
                    call["tls"].is_null(),
                    call["anomalies"],
                ]);
                let expected = json!([
                    "mllp",
                    "answered",
                    "HL7",
                    "hl7v2",
                    name,
                    ack,
                    segments,
                    "2.5.1",
                    authority.is_none(),
                    [],
                ]);
                ensure!(seen == expected, "{seen} is not {expected}: {call:#}");
                ensure!(
                    operation["subject"]
                        .as_str()
                        .is_some_and(|subject| subject.starts_with("h:"))
                );
                let text = call.to_string();
                ensure!(!text.contains("ZEBULON") && !text.contains("WARD7"), "{text}");
            }
        }
        let [_, merge] = sides(&calls, &ids[2])?;
        ensure!(
            merge["verdict"]["action"] == "alert"
                && merge["verdict"]["shortfall"]
                    .as_str()
                    .is_some_and(|why| why.contains("allowStall")),
            "{merge:#}"
        );
    }
    agent.check_no_losses()?;
    drop((clear, tls));
    agent.end()?;
    Ok(())
}

/// A search, a read and a transaction through nginx: every leg says the same.
fn fhir_in_its_own_words() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let app = servers::app(&world, Place::Inside, None)?;
    let nginx = servers::nginx(&world, Place::Inside, app.port, &identity)?;
    let ids = trace_ids(3);
    let transaction = json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            { "resource": { "resourceType": "Observation", "subject": { "reference": "Patient/4711" } },
              "request": { "method": "POST", "url": "Observation" } },
            { "request": { "method": "DELETE", "url": "Observation/2" } },
        ],
    })
    .to_string();
    let posted = format!(
        "Content-Type: application/fhir+json\r\nContent-Length: {}\r\nConnection: close\r\n",
        transaction.len()
    );
    let pieces = [
        piece(head("GET", "/fhir/Patient/4711", &ids[0], "")),
        piece(head(
            "GET",
            "/fhir/Observation?patient=4711&_include=Observation:subject",
            &ids[1],
            "",
        )),
        piece(format!(
            "{}{transaction}",
            head("POST", "/fhir", &ids[2], &posted)
        )),
    ];
    send(&world, nginx.tls, Some(&authority.ca), &pieces, &[])?;
    let calls = agent.events.wait_calls(12, &ids)?;
    let mut subjects = Vec::new();
    for (id, name, resource, entries) in [
        (&ids[0], "read", "Patient", 0),
        (&ids[1], "search", "Observation", 0),
        (&ids[2], "transaction", "Bundle", 2),
    ] {
        let legs: Vec<&Value> = calls
            .iter()
            .filter(|call| call["request"]["trace_id"] == *id)
            .collect();
        ensure!(legs.len() == 4, "{} legs of {name}", legs.len());
        for leg in legs {
            let operation = &leg["operation"];
            let seen = json!([
                operation["api"],
                operation["name"],
                operation["resource"],
                operation["entries"]
            ]);
            ensure!(
                seen == json!(["fhir", name, resource, entries]),
                "{seen}: {leg:#}"
            );
            subjects.push(operation["subject"].to_string());
            ensure!(!leg.to_string().contains("4711"), "{leg:#}");
        }
    }
    subjects.dedup();
    ensure!(subjects.len() == 1 && subjects[0].contains("h:"), "{subjects:?}");
    drop((nginx, app));
    agent.end()?;
    Ok(())
}

/// How many patients an answer holds is told however it is written, and that they are patients.
fn entries_of_compressed_answers() -> Result {
    let world = World::new()?;
    let mut agent = Agent::start(&world, |_| {})?;
    let port = free_port()?;
    let script = world.write("fhir_gzip.py", FHIR_GZIP)?;
    let mut server = Start::new(&world, Place::Inside, program("python3")?)
        .name("fhir")
        .arg("-I")
        .arg(script)
        .arg(port.to_string())
        .spawn()?;
    server.wait_until("the server accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    let counts = [0, 1, 200];
    let ids = trace_ids(counts.len());
    let pieces: Vec<Value> = ids
        .iter()
        .zip(counts)
        .enumerate()
        .map(|(index, (id, count))| {
            let last = index + 1 == counts.len();
            let lines = if last { "Connection: close\r\n" } else { "" };
            let target = format!("/fhir/Patient?_count={count}");
            piece(head(
                "GET",
                &target,
                id,
                &format!("Accept-Encoding: gzip\r\n{lines}"),
            ))
        })
        .collect();
    send(&world, port, None, &pieces, &[])?;
    let calls = agent.events.wait_calls(2 * counts.len(), &ids)?;
    for (id, count) in ids.iter().zip(counts) {
        for view in sides(&calls, id)? {
            let told = |class: &str| {
                view["data"].as_array().into_iter().flatten().any(|data| {
                    data["class"] == class && data["count"] == count && data["part"] == "response.body"
                })
            };
            ensure!(
                view["operation"]["name"] == "search" && view["operation"]["entries"] == count,
                "{count} entries: {view:#}"
            );
            ensure!(
                count == 0 || (told("name") && told("birth-date")),
                "{count} entries: {view:#}"
            );
            ensure!(!view.to_string().contains("Okonkwo"), "{view:#}");
        }
    }
    agent.check_no_losses()?;
    drop(server);
    agent.end()?;
    Ok(())
}

/// A rule on what is in a body: it is decided once the body is whole, by the pipeline, and the event says no more than
/// was done.
fn patients_are_not_sent_out() -> Result {
    const PATIENT: &str =
        r#"{"resourceType":"Patient","name":[{"family":"Okonkwo"}],"birthDate":"1970-03-02"}"#;
    const PLAIN: &str = r#"{"job":"nightly","rows":1044}"#;
    let world = World::new()?;
    let rules = json!([{
        "name": "no-patients-out",
        "match": { "direction": "outbound", "methods": ["POST"] },
        "when": "call.request.phi.count > 0",
        "action": "deny",
    }]);
    let file = policy::file(&world, "tests", &rules)?;
    let mut agent = Agent::start(&world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })?;
    let vendor = servers::app(&world, Place::Outside, None)?;
    let ids = trace_ids(12);
    let mut answers = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        let body = if index % 2 == 0 { PATIENT } else { PLAIN };
        let answer = world.path("answer.bin");
        // Not there if nothing came.
        let _ = std::fs::remove_file(&answer);
        let mut process = Start::new(&world, Place::Inside, program("curl")?)
            .args(["-q", "--silent", "--max-time", "10", "--noproxy", "*", "--output"])
            .arg(&answer)
            .args([
                "--header",
                &traceparent(id),
                "--header",
                "Content-Type: application/json",
            ])
            .args(["--data", body])
            .arg(format!("http://127.0.0.1:{}/fhir/Observation", vendor.port))
            .spawn()?;
        let status = process.wait(std::time::Duration::from_secs(20))?;
        answers.push((status.success(), std::fs::read(&answer).unwrap_or_default()));
    }
    agent
        .events
        .wait("every call is told", |all| with_ids(all, &ids).len() >= ids.len())?;
    for (index, (id, (succeeded, answer))) in ids.iter().zip(&answers).enumerate() {
        let [call] = with_ids(&agent.events.all, std::slice::from_ref(id))[..] else {
            anyhow::bail!("call {index} is told more than once")
        };
        let verdict = &call["verdict"];
        if index % 2 == 1 {
            ensure!(
                *succeeded && verdict["action"] == "allow",
                "call {index}: {call:#}"
            );
            continue;
        }
        ensure!(
            verdict["action"] == "deny"
                && verdict["rule"] == "no-patients-out"
                && verdict["decided_by"] == "pipeline",
            "call {index}: {call:#}"
        );
        match verdict["guarantee"].as_str() {
            Some("contained") => ensure!(
                answer.is_empty(),
                "call {index} was contained, and has its answer"
            ),
            Some("cut") => {}
            Some("observed") => ensure!(!verdict["shortfall"].is_null(), "call {index}: {verdict:#}"),
            _ => anyhow::bail!("what has been written cannot be prevented: {verdict:#}"),
        }
    }
    let leaks = |event: &&Value| event.to_string().contains("Okonkwo");
    ensure!(
        agent.events.all.iter().find(leaks).is_none(),
        "a name got into the events"
    );
    drop(vendor);
    agent.end()?;
    Ok(())
}
