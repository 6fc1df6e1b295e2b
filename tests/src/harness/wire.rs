//! A client in scope that says exactly what a test wants on the wire, in the writes that it wants.

use std::path::Path;

use serde_json::{Value, json};

use super::process::Start;
use super::world::program;
use super::{Place, Result, World};

const RAW: &str = include_str!("../assets/raw.py");

/// One write of a text.
pub fn piece(text: impl AsRef<str>) -> Value {
    json!(text.as_ref())
}

/// One write of a text that repeats.
pub fn repeated(text: &str, count: usize) -> Value {
    json!([text, count])
}

/// Runs the client; it prints what came back until the server closed.
pub fn send(world: &World, port: u16, ca: Option<&Path>, pieces: &[Value], more: &[&str]) -> Result<String> {
    command(world, Place::Inside, port, ca, pieces, more)?.run()
}

/// How the client is started.
pub fn command<'a>(
    world: &'a World,
    place: Place,
    port: u16,
    ca: Option<&Path>,
    pieces: &[Value],
    more: &[&str],
) -> Result<Start<'a>> {
    let script = world.write("raw.py", RAW)?;
    let file = world.write("pieces.json", json!(pieces).to_string())?;
    let mut start = Start::new(world, place, program("python3")?)
        .name("raw-client")
        .arg("-I")
        .arg(script)
        .args(["--port", &port.to_string(), "--pieces"])
        .arg(file)
        .args(more);
    if let Some(ca) = ca {
        start = start.arg("--ca").arg(ca);
    }
    Ok(start)
}

/// A request's head with a trace id; `lines` are further header lines, each with its line ending.
pub fn head(method: &str, target: &str, id: &str, lines: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n{lines}\r\n",
        super::events::traceparent(id)
    )
}
