//! What is kept, long after its agent: nothing piles up, and nobody is spared by chance.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Story;
use crate::harness::certificates::Authority;
use crate::harness::events::of_kind;
use crate::harness::process::Start;
use crate::harness::servers::free_port;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Process, Result, World, until};
use crate::keep::{Bpffs, SERVED, Servers, WAYS, check_taken_over, end, ends, keeping, short, state};

pub const STORIES: &[Story] = &[
    ("a_lease_that_nobody_renews_ends", a_lease_that_nobody_renews_ends),
    (
        "a_process_with_the_id_of_a_dead_agent",
        a_process_with_the_id_of_a_dead_agent,
    ),
    (
        "an_agent_of_another_layout_takes_over",
        an_agent_of_another_layout_takes_over,
    ),
    (
        "what_is_withheld_ends_with_its_connection",
        what_is_withheld_ends_with_its_connection,
    ),
];

/// Nobody's dead agent blocks a hospital; and whoever comes then enforces at once.
fn a_lease_that_nobody_renews_ends() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let lease = short(&servers, 5)?;
    let mut agent = keeping(&world, &bpffs, &format!("{lease}s"))?;
    // It is renewed as long as the agent lives.
    let began = Instant::now();
    while began.elapsed() <= Duration::from_secs(lease + 1) {
        ensure!(!servers.passes()?, "the lease was not renewed");
    }
    agent.process.kill()?;
    ensure!(!servers.passes()?, "nothing was kept");
    until("what is forbidden passes", || servers.passes())?;
    servers.check_allowed()?;
    let next = keeping(&world, &bpffs, &format!("{lease}s"))?;
    servers.check_enforced()?;
    drop(agent);
    end(next, &bpffs)
}

/// The agent's own connections are left alone; not those of whoever has its id then.
fn a_process_with_the_id_of_a_dead_agent() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    let id = agent.process.pid().to_string();
    agent.process.kill()?;
    let (way, path) = WAYS[1];
    let script = world.write("as_pid.py", include_str!("assets/as_pid.py"))?;
    let prefix = [
        program("python3")?.into_os_string(),
        script.into_os_string(),
        id.into(),
    ];
    let mut client = servers.start(way, path, 3, "0.3")?.through(prefix).spawn()?;
    let status = client.wait(Duration::from_secs(30))?;
    ensure!(status.success(), "{status}{}", client.last_words());
    let ends = ends(&client)?;
    ensure!(
        ends[SERVED].is_null() && servers.forbidden() == 0,
        "a forbidden call of the process that has the agent's id: {ends}"
    );
    servers.check_allowed()?;
    let next = keeping(&world, &bpffs, "10m")?;
    drop(agent);
    end(next, &bpffs)
}

/// Also where something stays unread, and no agent is there to take it back.
fn what_is_withheld_ends_with_its_connection() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    let runs = bpffs.runs();
    let map = bpffs
        .pins()
        .join(runs.first().context("something is kept")?)
        .join("map-WITHHELD");
    let keys = world.write("keys.py", include_str!("assets/keys.py"))?;
    let withheld = || -> Result<String> {
        let text = Start::new(&world, Place::Ours, program("python3")?)
            .name("keys")
            .arg(&keys)
            .arg(&map)
            .run()?;
        Ok(text.trim().to_owned())
    };
    until("nothing is withheld", || Ok(withheld()? == "0"))?;
    read_behind_the_end(&world, &mut agent, &withheld)?;
    agent.process.kill()?;
    let script = world.write("unread.py", include_str!("assets/unread.py"))?;
    Start::new(&world, Place::Inside, program("python3")?)
        .name("unread")
        .arg(script)
        .args([servers.ports[1].to_string(), "5".into()])
        .run()?;
    let left = withheld()?;
    ensure!(
        left == "0" && servers.forbidden() == 0,
        "{left} connections that have ended are withheld"
    );
    let next = keeping(&world, &bpffs, "10m")?;
    drop(agent);
    end(next, &bpffs)
}

/// In TLS a head may be read, and denied, when its connection has ended long ago.
fn read_behind_the_end(
    world: &World,
    agent: &mut Agent<'_>,
    withheld: &dyn Fn() -> Result<String>,
) -> Result {
    let identity = Authority::new(world)?.issue(world, "late", &[])?;
    let (go, log, port) = (world.path("go"), world.path("late.log"), free_port()?);
    let script = world.write("late.py", include_str!("assets/late.py"))?;
    let mut server = Start::new(world, Place::Inside, program("python3")?)
        .name("late-server")
        .arg(script)
        .arg(port.to_string())
        .args([&identity.certificate, &identity.key, &go, &log])
        .spawn()?;
    // As the servers that listen already: this one's first connection would be the first call.
    server.wait_until("the server listens", || Ok(listens(port)))?;
    let script = world.write("hasty.py", include_str!("assets/hasty.py"))?;
    Start::new(world, Place::Outside, program("python3")?)
        .name("hasty")
        .arg(script)
        .arg(port.to_string())
        .run()?;
    std::fs::write(&go, "")?;
    let got = || std::fs::read_to_string(&log).unwrap_or_default();
    server.wait_until("the server has read", || Ok(!got().is_empty()))?;
    agent.events.wait("the denial is told", |all| {
        of_kind(all, "call")
            .iter()
            .any(|call| !call["tls"].is_null() && call["verdict"]["action"] == "deny")
    })?;
    let left = withheld()?;
    ensure!(
        left == "0",
        "{left} connections that had ended are withheld: the server read {:?}",
        got()
    );
    Ok(())
}

/// Whether somebody listens on the port, without a connection to it.
fn listens(port: u16) -> bool {
    // proc_pid_net(5): local address and port in hexadecimal digits, state 0A.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table
        .lines()
        .any(|line| line.contains(&format!(":{port:04X} 00000000:0000 0A")))
}

/// Nothing of the maps is shared; what was denied stays denied, and nothing is unjudged.
fn an_agent_of_another_layout_takes_over() -> Result {
    let world = World::new()?;
    let bpffs = Bpffs::new(&world)?;
    let servers = Servers::new(&world)?;
    let mut agent = keeping(&world, &bpffs, "10m")?;
    servers.check_enforced()?;
    agent.process.kill()?;
    let runs = bpffs.runs();
    let run = runs.first().context("something is kept")?;
    std::fs::rename(bpffs.pins().join(run), bpffs.pins().join("v0-00000000-7"))?;
    let start = |(way, path)| servers.start(way, path, 100, "0.1")?.spawn();
    let mut clients: Vec<Process> = WAYS.into_iter().map(start).collect::<Result<_>>()?;
    let mut next = keeping(&world, &bpffs, "10m")?;
    check_taken_over(&mut clients)?;
    servers.check_enforced()?;
    ensure!(servers.forbidden() == 0, "a forbidden call got through");
    next.events.wait("what was kept is told", |all| {
        state(all, "adopted").is_some_and(|detail| detail.contains("of another version"))
    })?;
    let runs = bpffs.runs();
    ensure!(runs.len() == 1 && runs[0].ends_with("-8"), "kept: {runs:?}");
    drop(agent);
    end(next, &bpffs)
}
