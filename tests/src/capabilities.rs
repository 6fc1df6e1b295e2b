//! What a kernel can do is found and used: the words of the status, the errors that a refused client gets.
//!
//! `cargo xtask vm` says what its kernel has; elsewhere only what follows from the agent's own answers is asked.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Story;
use crate::every_call::system_libssl;
use crate::harness::certificates::Authority;
use crate::harness::events::{trace_ids, traceparent, with_ids};
use crate::harness::process::Start;
use crate::harness::servers::{self, Server};
use crate::harness::wait::patient;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, policy, skip, wire};

pub const STORIES: &[Story] = &[
    ("what_a_kernel_can_do_is_used", what_a_kernel_can_do_is_used),
    ("all_descriptors_are_taken", all_descriptors_are_taken),
    (
        "a_forbidden_send_after_waiting_to_read",
        a_forbidden_send_after_waiting_to_read,
    ),
    (
        "a_proxy_that_may_not_ask_its_upstream",
        a_proxy_that_may_not_ask_its_upstream,
    ),
];

const CLIENT: &str = include_str!("assets/after_waiting.py");
const FORBIDDEN: &str = "/fhir/Patient/$export";
/// How long a client waits for anything.
const CLIENT_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Capabilities that no kernel of the matrix may lack.
const EVERYWHERE: [&str; 5] = [
    "gate-ingress",
    "gate-egress",
    "egress-withhold",
    "socket-destroy",
    "uprobe",
];
/// What the matrix calls a kernel's feature, and the capability that the agent makes of it.
const BY_KERNEL: [(&str, &str); 3] = [
    ("lsm", "send-refuse"),
    ("uprobe_write_registers", "tls-refuse"),
    ("uprobe_multi", "probe-links"),
];

fn is_available(status: &Value, name: &str) -> Result<bool> {
    let all = status["capabilities"]
        .as_array()
        .context("the status has capabilities")?;
    let one = all.iter().find(|one| one["name"] == name);
    Ok(one.with_context(|| format!("the status has no word on {name}"))?["available"] == true)
}

fn enforcing<'a>(world: &'a World, direction: &str) -> Result<Agent<'a>> {
    let rules = json!([{ "name": "no-export", "match": { "direction": direction, "paths": ["/fhir/{type}/$export"] }, "action": "deny" }]);
    let file = policy::file(world, "tests", &rules)?;
    Agent::start(world, |config| {
        config["mode"] = json!("enforce");
        config["policies"] = json!([file]);
    })
}

fn what_a_kernel_can_do_is_used() -> Result {
    let world = World::new()?;
    let agent = enforcing(&world, "inbound")?;
    let status = agent.status()?;
    for name in EVERYWHERE {
        ensure!(
            is_available(&status, name)?,
            "{name} is missing: {:#}",
            status["capabilities"]
        );
    }
    if let Some(has) = skip::kernel_has() {
        for (feature, name) in BY_KERNEL {
            let expected = has.iter().any(|one| one == feature);
            ensure!(
                is_available(&status, name)? == expected,
                "this kernel's {feature} is {expected}, and {name} is not: {:#}",
                status["capabilities"]
            );
        }
    }
    let in_tls = if is_available(&status, "tls-refuse")? {
        "prevented"
    } else {
        "contained"
    };
    let expected = json!({
        "inbound-clear": "prevented", "outbound-clear": "prevented", "outbound-tls": "prevented", "inbound-tls": in_tls,
    });
    ensure!(
        status["guarantees"] == expected,
        "promised is {:#}",
        status["guarantees"]
    );
    agent.end()?;
    Ok(())
}

/// The application in TLS, out of the agent's reach, telling what it handles.
fn far_application(world: &World, authority: &Authority) -> Result<Server> {
    let identity = authority.issue(world, "server", &[])?;
    servers::telling_app(world, Place::Outside, &identity)
}

/// The calls with these ids that were sent from here, all of them kept from leaving.
fn check_prevented(agent: &mut Agent<'_>, ids: &[String]) -> Result {
    agent.events.wait_calls(ids.len(), ids)?;
    for call in with_ids(&agent.events.all, ids) {
        let verdict = &call["verdict"];
        ensure!(
            call["direction"] == "outbound"
                && verdict["action"] == "deny"
                && verdict["guarantee"] == "prevented"
                && verdict["decided_by"] == "gate",
            "it was not kept from leaving: {call:#}"
        );
    }
    Ok(())
}

/// Refused, a library's write fails while the library remembers a read that had to wait: the client must get an error
/// all the same, and at the send wherever the kernel can refuse one.
fn a_forbidden_send_after_waiting_to_read() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let mut agent = enforcing(&world, "outbound")?;
    agent.wait_library(system_libssl()?)?;
    let app = far_application(&world, &authority)?;
    let status = agent.status()?;
    let (by_library, by_hook) = (
        is_available(&status, "tls-refuse")?,
        is_available(&status, "send-refuse")?,
    );
    let script = world.write("after_waiting.py", CLIENT)?;
    let ids = trace_ids(3);
    for id in &ids {
        let head = world.write("head.txt", wire::head("GET", FORBIDDEN, id, ""))?;
        let said = Start::new(&world, Place::Inside, program("python3")?)
            .name("waiting-client")
            .arg("-I")
            .arg(&script)
            .args(["--port", &app.port.to_string(), "--ca"])
            .arg(&authority.ca)
            .args(["--limit", &patient(CLIENT_LIMIT).as_secs().to_string(), "--head"])
            .arg(head)
            .run()?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let is_right = match words[..] {
            ["send", error] => error != "TimeoutError",
            ["receive", error, ..] => !by_hook && !by_library && !["TimeoutError", "bytes"].contains(&error),
            _ => false,
        };
        ensure!(is_right, "the client ended with {said:?}");
    }
    check_prevented(&mut agent, &ids)?;
    if by_hook && !by_library {
        let said = hooked(&world, &authority, app.port)?;
        ensure!(said.contains("Operation not permitted"), "curl was told: {said}");
    }
    let log = app.process.output()?;
    ensure!(!log.contains("$export"), "the application has handled it: {log}");
    agent.check_no_losses()?;
    drop(app);
    agent.end()?;
    Ok(())
}

/// What curl says of a forbidden send; it names the error that the system call ended with.
fn hooked(world: &World, authority: &Authority, port: u16) -> Result<String> {
    let mut curl = Start::new(world, Place::Inside, program("curl")?)
        .name("hooked-curl")
        .args(["-q", "--silent", "--show-error", "--noproxy", "*", "--cacert"])
        .arg(&authority.ca)
        .arg("--max-time")
        .arg(patient(CLIENT_LIMIT).as_secs().to_string())
        .arg(format!("https://127.0.0.1:{port}{FORBIDDEN}"))
        .spawn()?;
    ensure!(!curl.wait(CLIENT_LIMIT)?.success(), "a forbidden send went well");
    curl.output()
}

/// nginx asks the application in TLS for its own clients. What it may not ask never leaves; its client gets nginx's
/// error at once, and the next one is served.
fn a_proxy_that_may_not_ask_its_upstream() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "nginx", &[])?;
    let mut agent = enforcing(&world, "outbound")?;
    agent.wait_library(system_libssl()?)?;
    let app = far_application(&world, &authority)?;
    let more = format!("location /fhir/ {{ proxy_pass https://127.0.0.1:{}; }}", app.port);
    let nginx = servers::nginx_with(&world, Place::Inside, app.port, &identity, &more)?;
    let call = |path: &str, id: &str| -> Result<String> {
        Start::new(&world, Place::Outside, program("curl")?)
            .name("curl")
            .args([
                "-q",
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--output",
                "/dev/null",
            ])
            .args(["--write-out", "%{http_code}", "--max-time"])
            .arg(patient(CLIENT_LIMIT).as_secs().to_string())
            .args(["--header", &traceparent(id)])
            .arg(format!("http://127.0.0.1:{}{path}", nginx.clear))
            .run()
    };
    let (ids, neighbours) = (trace_ids(5), trace_ids(5));
    for (id, neighbour) in ids.iter().zip(&neighbours) {
        let got = call(FORBIDDEN, id)?;
        ensure!(got == "502", "a forbidden call was answered with {got}");
        let got = call("/fhir/Patient/1", neighbour)?;
        ensure!(got == "200", "a neighbour was answered with {got}");
    }
    let inbound = |call: &Value| call["direction"] == "inbound";
    // nginx's own client is none of the rule's business.
    agent.events.wait_calls(2 * ids.len(), &ids)?;
    let outbound: Vec<String> = ids
        .iter()
        .filter(|id| {
            with_ids(&agent.events.all, std::slice::from_ref(*id))
                .iter()
                .any(|call| !inbound(call))
        })
        .cloned()
        .collect();
    ensure!(
        outbound.len() == ids.len(),
        "{} of {} forbidden calls were told on their way out",
        outbound.len(),
        ids.len()
    );
    for call in with_ids(&agent.events.all, &ids) {
        let verdict = &call["verdict"];
        ensure!(
            inbound(call) && verdict["action"] == "allow"
                || verdict["action"] == "deny"
                    && verdict["guarantee"] == "prevented"
                    && verdict["decided_by"] == "gate",
            "it was not kept from leaving: {call:#}"
        );
    }
    let log = app.process.output()?;
    ensure!(!log.contains("$export"), "the application has handled it: {log}");
    agent.check_no_losses()?;
    drop((nginx, app));
    agent.end()?;
    Ok(())
}

/// Every probe takes two: the agent takes what it may have, and says where that is little.
fn all_descriptors_are_taken() -> Result {
    for (hard, enough) in [(5_000, true), (600, false)] {
        let world = World::new()?;
        let config = crate::harness::agent::config(&world);
        let limit = format!("--nofile=200:{hard}");
        let mut agent = Agent::launch_through(&world, &config, &["prlimit", &limit])?;
        agent.wait_ready()?;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.process.pid()))?;
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        ensure!(
            words.get(3) == Some(&hard.to_string().as_str()),
            "the agent left descriptors untaken: {words:?}"
        );
        let status = agent.status()?;
        ensure!(
            is_available(&status, "descriptors")? == enough
                && status["capabilities"].to_string().contains("LimitNOFILE") != enough,
            "of {hard} descriptors the status says: {:#}",
            status["capabilities"]
        );
        agent.end()?;
    }
    Ok(())
}
