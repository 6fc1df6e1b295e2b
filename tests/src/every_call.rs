//! Every call is seen exactly once on each side, with the right names on it: curl and Python through nginx to an
//! application, in clear and with TLS, over both address families, on kept connections and on one per call.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::Story;
use crate::harness::certificates::Authority;
use crate::harness::clients::{self, Connections};
use crate::harness::events::{Side, check_side, trace_ids, with_ids};
use crate::harness::servers::Server;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, servers};

pub const STORIES: &[Story] = &[
    ("calls_in_clear_kept", || calls(false, Connections::Kept)),
    ("calls_in_clear_each", || calls(false, Connections::Each)),
    ("calls_in_tls_kept", || calls(true, Connections::Kept)),
    ("calls_in_tls_each", || calls(true, Connections::Each)),
    ("calls_of_python_in_tls", calls_of_python_in_tls),
    ("calls_in_tls_however_they_are_made", library_calls_in_tls),
];

/// Calls of one kind.
const CALLS: usize = 500;
/// Calls of one way to read, each on a connection of its own.
const CALLS_BY_WAY: usize = 20;

/// The system's library, which curl and nginx are linked to.
pub fn system_libssl_path() -> Result<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders
        .iter()
        .flat_map(|folder| ["libssl.so.3", "libssl.so.1.1"].map(|name| format!("{folder}/{name}")))
        .find_map(|path| std::fs::canonicalize(path).ok());
    found.context("the system has no libssl")
}

/// The file behind it.
pub fn system_libssl() -> Result<u64> {
    Ok(std::fs::metadata(system_libssl_path()?)?.ino())
}

/// curl → nginx → Python: four views of each call.
fn calls(tls: bool, connections: Connections) -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    let app = servers::app(&world, Place::Inside, None)?;
    let nginx = servers::nginx(&world, Place::Inside, app.port, &identity)?;
    if tls {
        agent.wait_library(system_libssl()?)?;
    }
    let mut all = Vec::new();
    for (host, remote) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let ids = trace_ids(CALLS);
        let (scheme, port) = if tls {
            ("https", nginx.tls)
        } else {
            ("http", nginx.clear)
        };
        let url = format!("{scheme}://{host}:{port}/fhir/Patient/1044?_summary=true");
        let ca = tls.then_some(authority.ca.as_path());
        clients::curl(&world, Place::Inside, &url, ca, &ids, connections, 200)?;
        all.push((ids, remote));
    }
    let [curl_exe, nginx_exe, python_exe] =
        [executable("curl")?, executable("nginx")?, executable("python3")?];
    let workers = nginx.workers()?;
    let app_pid = [app.process.pid()];
    for (ids, remote) in &all {
        let client = Side {
            direction: "outbound",
            exe: &curl_exe,
            pids: &[],
            tls,
            method: "GET",
            path: "/fhir/Patient/{id}",
            status: 200,
            remote,
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
            remote: "127.0.0.1",
            ..server.clone()
        };
        let application = Side {
            direction: "inbound",
            exe: &python_exe,
            pids: &app_pid,
            ..upstream.clone()
        };
        check_views(&mut agent, ids, &[client, server, upstream, application])?;
    }
    agent.check_no_losses()?;
    drop((nginx, app));
    agent.end()?;
    Ok(())
}

/// Each call has each of the views once, and no other.
pub fn check_views(agent: &mut Agent<'_>, ids: &[String], sides: &[Side<'_>]) -> Result {
    // What is missing is told by side, not by the wait.
    let waited = agent.events.wait_calls(sides.len() * ids.len(), ids);
    agent.events.read()?;
    let calls: Vec<_> = with_ids(&agent.events.all, ids).into_iter().cloned().collect();
    for side in sides {
        check_side(&calls, ids, side).with_context(|| {
            let losses = agent.check_no_losses().err();
            let losses = losses.map(|losses| format!("{losses:#}; "));
            format!("{}{}", losses.unwrap_or_default(), agent.events.summary())
        })?;
    }
    waited?;
    ensure!(
        calls.len() == sides.len() * ids.len(),
        "{} views of calls were told, not {}: some are of nobody's side",
        calls.len(),
        sides.len() * ids.len()
    );
    Ok(())
}

/// What `/proc/<pid>/exe` shows for a program.
pub fn executable(name: &str) -> Result<String> {
    let path = program(name)?.canonicalize()?;
    Ok(path.to_string_lossy().into_owned())
}

/// Python uses `SSL_read_ex` and `SSL_write_ex`, on both sides.
fn calls_of_python_in_tls() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let app = servers::app(&world, Place::Inside, Some(&identity))?;
    let exe = executable("python3")?;
    let app_pid = [app.process.pid()];
    let ca = Some(authority.ca.as_path());
    for (host, more) in [("127.0.0.1", None), ("::1", Some("--each"))] {
        let ids = trace_ids(CALLS);
        let mut arguments = vec![
            "--host",
            host,
            "--method",
            "POST",
            "--path",
            "/fhir/Observation",
            "--body",
            "{}",
        ];
        arguments.extend(more);
        clients::python(&world, Place::Inside, app.port, ca, &ids, &arguments, 201)?;
        let client = Side {
            direction: "outbound",
            exe: &exe,
            pids: &[],
            tls: true,
            method: "POST",
            path: "/fhir/Observation",
            status: 201,
            remote: host,
        };
        let server = Side {
            direction: "inbound",
            pids: &app_pid,
            ..client.clone()
        };
        check_views(&mut agent, &ids, &[client, server])?;
    }
    agent.check_no_losses()?;
    drop(app);
    agent.end()?;
    Ok(())
}

/// Each call at both sides once, whole and with its peer, however the server reads and writes: what is peeked at, or written
/// again, is not told twice, a handshake in the middle of a read shows whose connection it is, and so does what a child writes
/// by the object of its parent.
fn library_calls_in_tls() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;
    let exe = executable("python3")?;
    let ca = Some(authority.ca.as_path());
    for way in [
        "implicit", "peek", "small", "forked", "large", "waiting", "cleared",
    ] {
        // Long answers in such a hurry that bodies would be given up.
        let (calls, body_bytes) = match way {
            "large" | "waiting" => (4, 100_003),
            _ => (CALLS_BY_WAY, 2),
        };
        let Server {
            process: mut server,
            port,
        } = servers::library_app(&world, Place::Inside, way, &identity)?;
        let ids = trace_ids(calls);
        clients::python(&world, Place::Inside, port, ca, &ids, &["--each"], 200)
            .with_context(|| format!("{way}: the server{}", server.last_words()))?;
        let client = Side {
            direction: "outbound",
            exe: &exe,
            pids: &[],
            tls: true,
            method: "GET",
            path: "/fhir/Patient/{id}",
            status: 200,
            remote: "127.0.0.1",
        };
        let side = Side {
            direction: "inbound",
            ..client.clone()
        };
        check_views(&mut agent, &ids, &[client, side]).with_context(|| way.to_owned())?;
        for call in with_ids(&agent.events.all, &ids) {
            let told = &call["response"]["body"]["bytes_total"];
            ensure!(
                told == body_bytes,
                "{way}: a body of {told} bytes, not {body_bytes}"
            );
        }
        server.end()?;
    }
    agent.check_no_losses()?;
    agent.end()?;
    Ok(())
}
