//! What looking for personal data takes, without a kernel: the agent's own stage on bodies that are made up, on one core.
//!
//! It runs in a process of its own (an example of the agent's crate), so that this tool links nothing of the agent.

use anyhow::Result;

use crate::sh;

/// Megabytes a second that all detectors together have to reach on mixed JSON.
const MIXED_MBS_MIN: f64 = 100.0;

/// Prints a line a kind of body, and the target.
pub fn run() -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "apiward",
        "--example",
        "bench_stages",
        "--",
        "data",
    ]);
    let lines = sh::read(&mut cargo)?;
    for line in lines.lines() {
        println!("{line}");
    }
    println!("{:<28} at least {MIXED_MBS_MIN:.0} MB/s on mixed JSON", "target");
    Ok(())
}
