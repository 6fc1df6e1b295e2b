//! `cargo xtask bench`: what the agent costs, as ratios within one run. Not written yet; this is what it is to do.
//!
//! **Why ratios.** Requests per second of a laptop say nothing about a server. What holds is the ratio of two
//! configurations on the same machine in the same minutes, so rounds are interleaved (A B C A B C …, never A A B B),
//! and every ratio comes with its spread over the rounds (median, least, greatest). A run whose spread is larger than
//! the difference says so instead of a number.
//!
//! **Configurations**, each with nginx and wrk in a cgroup of their own (`cgroup.rs`), pinned to two cores:
//! 1. without agent;
//! 2. observing (release build, events to a collector on loopback outside of the scope);
//! 3. observing with entry and return probes instead of chosen sites, for comparison.
//!
//! **Loads**: in clear and over TLS; one connection per core, keep-alive; a small response (100 bytes) and a larger
//! one (16 KiB). At saturation: requests per second, CPU time per request of nginx (its cgroup's `cpu.stat`) and of
//! the agent, losses by stage from `apiward status --output json`. At half of the load that configuration 1 reached:
//! p50 and p99 (`wrk --latency`).
//!
//! **And what is not an API call**: `dd bs=1 count=1000000` through a pipe, which all system-call tracers tax.
//!
//! **Output**: one table of ratios, one line of losses, and JSON with `--output json`. Targets from the specification
//! are printed beside the ratios: nginx's CPU per request ≤ 1.20 in clear and ≤ 1.45 over TLS; over TLS at least 2.5
//! times less added time than with entry and return probes; the agent's own CPU ≤ 12 µs per call; p99 + ≤ 100 µs.
//!
//! It builds on `children` (processes and their end), `cgroup` and `run::session`, and needs `setup --bench` (wrk).

use anyhow::{Result, bail};

#[derive(clap::Args, Default)]
pub struct Args {}

/// The command.
pub fn run(_args: &Args) -> Result<()> {
    bail!("there is no benchmark yet; xtask/src/bench.rs says what it is to measure")
}
