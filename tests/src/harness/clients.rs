//! Real clients: curl and Python, with a trace id of its own for every call.

use std::path::Path;

use anyhow::ensure;

use super::events::traceparent;
use super::process::Start;
use super::world::program;
use super::{Place, Result, World};

const CLIENT: &str = include_str!("../assets/client.py");

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One for all calls.
    Kept,
    /// One for each.
    Each,
}

/// One curl process: a GET of `url` for each trace id.
pub fn curl_command<'a>(
    world: &'a World,
    place: Place,
    url: &str,
    ca: Option<&Path>,
    ids: &[String],
    connections: Connections,
) -> Result<Start<'a>> {
    let mut config = String::new();
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            config.push_str("next\n");
        }
        config.push_str(&format!(
            "url = \"{url}\"\nheader = \"{}\"\nsilent\nshow-error\noutput = \"/dev/null\"\nmax-time = 30\nnoproxy = \"*\"\nwrite-out = \"%{{http_code}}\\n\"\n",
            traceparent(id)
        ));
        if connections == Connections::Each {
            config.push_str("header = \"Connection: close\"\n");
        }
        if let Some(ca) = ca {
            config.push_str(&format!("cacert = \"{}\"\n", ca.display()));
        }
    }
    let file = world.write("curl.conf", config)?;
    Ok(Start::new(world, place, program("curl")?)
        .args(["-q", "--config"])
        .arg(file))
}

/// Runs curl and checks that every call was answered with `status`.
pub fn curl(
    world: &World,
    place: Place,
    url: &str,
    ca: Option<&Path>,
    ids: &[String],
    connections: Connections,
    status: u16,
) -> Result {
    let text = curl_command(world, place, url, ca, ids, connections)?.run()?;
    check_statuses(&text, ids.len(), status)
}

/// One Python process with `http.client`; `more` are further arguments of the script.
pub fn python_command<'a>(
    world: &'a World,
    place: Place,
    port: u16,
    ca: Option<&Path>,
    ids: &[String],
    more: &[&str],
) -> Result<Start<'a>> {
    let script = world.write("client.py", CLIENT)?;
    let list = world.write("ids.txt", ids.join("\n"))?;
    let mut start = Start::new(world, place, program("python3")?)
        .name("python-client")
        .arg("-I")
        .arg(script)
        .arg("--port")
        .arg(port.to_string())
        .arg("--ids")
        .arg(list)
        .args(more);
    if let Some(ca) = ca {
        start = start.arg("--ca").arg(ca);
    }
    Ok(start)
}

/// Runs it and checks that every call was answered with `status`.
pub fn python(
    world: &World,
    place: Place,
    port: u16,
    ca: Option<&Path>,
    ids: &[String],
    more: &[&str],
    status: u16,
) -> Result {
    let text = python_command(world, place, port, ca, ids, more)?.run()?;
    check_statuses(&text, ids.len(), status)
}

fn check_statuses(text: &str, count: usize, status: u16) -> Result {
    let status = status.to_string();
    let right = text.lines().filter(|line| line.trim() == status).count();
    ensure!(
        right == count && text.lines().count() == count,
        "{right} of {count} calls were answered with {status}; the client said:\n{}",
        text.lines().take(10).collect::<Vec<_>>().join("\n")
    );
    Ok(())
}
