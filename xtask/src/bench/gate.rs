//! What enforcing costs on top of observing.
//!
//! A hundred rules that share deep prefixes with the calls and deny none of them: the gate has to walk each path to its
//! end. Calls with a short path, and with a path of some 140 bytes and 20 more header fields; then with one call in a
//! hundred denied. The yardstick is HAProxy in the path with the same rules and without an agent. At the end, how long a
//! client waits for the gate's 403.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::Beside;
use super::bed::{Bed, Load, READY_LIMIT, Sample, program, text};
use super::calls::Calls;
use crate::children::{self, Interrupt, Process, Start};

/// Loads of a round, for the forecast: two beside nothing, two through HAProxy, two observing and three enforcing.
pub const LOADS: u32 = 9;
/// Rules of the policy; the last is the one that denies something.
const RULES: usize = 100;
/// One call in so many is denied, where some are.
const DENIED_NTH: u32 = 100;
const HEADERS: usize = 20;
const SHORT: &str = "/fhir/Patient/1/notes";
/// Three directories before it make it some 140 bytes.
const DEEP: &str = "/fhir/r4/region-north-east/hospital-of-the-holy-spirit/department-of-internal-medicine";
const FORBIDDEN: &str = "/fhir/Patient/1/forbidden";
/// How often the time to the 403 is taken.
const REFUSALS: usize = 300;

/// Round by round.
#[derive(Clone, Debug, Default)]
pub struct Gated {
    pub short: Shape,
    pub long: Shape,
    /// Short paths, one in [`DENIED_NTH`] denied.
    pub denied: Vec<Sample>,
    /// From the last byte of a forbidden head to the first of its 403, µs, each round's median.
    pub refusal_us: Vec<f64>,
}

/// The same calls in each configuration.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub alone: Vec<Sample>,
    pub haproxy: Vec<Sample>,
    pub observing: Vec<Sample>,
    pub enforcing: Vec<Sample>,
}

/// Fills a folder's `policy.yaml`.
pub fn write_policy(folder: &Path) -> Result<PathBuf> {
    let rules: Vec<_> = paths()
        .iter()
        .enumerate()
        .map(|(number, path)| {
            json!({
                "name": format!("rule-{number}"),
                "match": { "direction": "inbound", "paths": [path] },
                "action": "deny",
            })
        })
        .collect();
    let policy = json!({
        "apiVersion": "apiward.io/v1",
        "kind": "ApiPolicy",
        "metadata": { "name": "bench" },
        "spec": { "mode": "enforce", "onAmbiguous": "agent", "rules": rules },
    });
    let file = folder.join("policy.yaml");
    std::fs::write(&file, policy.to_string())?;
    Ok(file)
}

/// Half of the rules share the short path's prefix, half the long one's.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = (0..RULES - 1)
        .map(|number| match number % 2 {
            0 => format!("/fhir/Patient/{{id}}/kind-{number}"),
            _ => format!("{DEEP}/Patient/{{id}}/kind-{number}"),
        })
        .collect();
    paths.push("/fhir/Patient/{id}/forbidden".to_owned());
    paths
}

/// Every configuration in every round, there and back.
pub fn measure(bed: &mut Bed, rounds: u32, seconds: u32, interrupt: &Interrupt) -> Result<Gated> {
    let mut gated = Gated::default();
    for round in 1..=rounds {
        let mut order = [Beside::Nothing, Beside::Observing, Beside::Enforcing];
        if round % 2 == 0 {
            order.reverse();
        }
        for beside in order {
            if interrupt.is_set() {
                bail!("interrupted");
            }
            crate::sh::say(&format!("gate, round {round} of {rounds}: {}", beside.name()));
            bed.beside(beside, interrupt)?;
            let port = bed.port();
            gated.load(bed, beside, port, seconds)?;
            match beside {
                Beside::Nothing => {
                    let (_haproxy, port) = haproxy(bed, interrupt)?;
                    gated.through_haproxy(bed, port, seconds)?;
                }
                Beside::Enforcing => {
                    let some = short(port).with_refused(FORBIDDEN, DENIED_NTH);
                    gated.denied.push(bed.load(&some, seconds, Load::Saturated)?);
                    gated.refusal_us.push(refusal_us(port)?);
                }
                _ => {}
            }
        }
    }
    Ok(gated)
}

impl Gated {
    fn load(&mut self, bed: &Bed, beside: Beside, port: u16, seconds: u32) -> Result<()> {
        for (shape, calls) in [(&mut self.short, short(port)), (&mut self.long, long(port))] {
            let samples = match beside {
                Beside::Nothing => &mut shape.alone,
                Beside::Enforcing => &mut shape.enforcing,
                _ => &mut shape.observing,
            };
            samples.push(bed.load(&calls, seconds, Load::Saturated)?);
        }
        Ok(())
    }

    fn through_haproxy(&mut self, bed: &Bed, port: u16, seconds: u32) -> Result<()> {
        for (shape, calls) in [(&mut self.short, short(port)), (&mut self.long, long(port))] {
            shape.haproxy.push(bed.load(&calls, seconds, Load::Saturated)?);
        }
        Ok(())
    }
}

fn short(port: u16) -> Calls {
    Calls::plain(format!("http://127.0.0.1:{port}{SHORT}"))
}

fn long(port: u16) -> Calls {
    let path = format!("{DEEP}/Patient/6f1c0d0e-7a52-4c1f-9d8e-3b1f5a0c2d4e/notes");
    Calls::plain(format!("http://127.0.0.1:{port}{path}")).with_headers(HEADERS)
}

/// HAProxy before nginx, with one thread as nginx has one worker, and the same rules in its quickest form.
fn haproxy(bed: &Bed, interrupt: &Interrupt) -> Result<(Process, u16)> {
    let (folder, cgroup) = bed.place();
    let port = children::free_port()?;
    let rules: String = paths()
        .iter()
        .filter_map(|path| path.split_once("/{id}/"))
        .map(|(before, after)| {
            format!("  http-request deny if {{ path_beg {before}/ }} {{ path_end /{after} }}\n")
        })
        .collect();
    let config = folder.join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "global\n  nbthread 1\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend front\n  bind 127.0.0.1:{port}\n{rules}  default_backend back\n\
             backend back\n  server nginx 127.0.0.1:{}\n",
            bed.port()
        ),
    )?;
    let log = folder.join("haproxy.log");
    let how = Start {
        name: "haproxy",
        log: Some(&log),
        cgroup: Some(cgroup),
        own_group: true,
    };
    let mut haproxy = Process::start(&how, &program("haproxy")?, &["-db", "-f", text(&config)?])?;
    haproxy.wait_until(READY_LIMIT, interrupt, || children::accepts(port))?;
    Ok((haproxy, port))
}

/// The median time from a forbidden head to its 403, on connections of their own, µs.
fn refusal_us(port: u16) -> Result<f64> {
    let head = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut times = Vec::with_capacity(REFUSALS);
    for _ in 0..REFUSALS {
        let mut client = TcpStream::connect(("127.0.0.1", port))?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let sent = Instant::now();
        client.write_all(head.as_bytes())?;
        let mut answer = [0; 12];
        client
            .read_exact(&mut answer)
            .context("a forbidden call got no answer")?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
        ensure!(
            answer.ends_with(b" 403"),
            "a forbidden call got another answer than 403: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    times.sort_by(f64::total_cmp);
    Ok(times[REFUSALS / 2])
}
