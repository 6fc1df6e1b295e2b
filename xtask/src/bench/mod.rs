//! `cargo xtask bench`: what the agent costs, as ratios within one run.
//!
//! Requests per second of a laptop say nothing about a server. What holds is the ratio of two configurations on the
//! same machine in the same minutes: rounds are interleaved (A B C A B C …, never A A B B), and every figure comes with
//! its spread over the rounds, median (least … greatest).
//!
//! Configurations, each with the same nginx and wrk in a cgroup of their own: without agent; observing (release build,
//! events to a collector on loopback, outside of the scope); and, over TLS, observing with entry and return probes on
//! the exported functions, for comparison. At saturation: requests per second, CPU time per request of nginx (its
//! cgroup's `cpu.stat`) and of the agent, losses. At half of the load that nginx reached alone: p50 and p99. And what
//! is not an API call: `dd bs=1` through a pipe, which all system-call tracers tax.
//!
//! It must not know the agent's inside: it meets the binaries at their command lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use crate::children::Interrupt;
use crate::setup::{self, Group};
use crate::{build, sh};
use bed::{Bed, Load};
use figures::Figures;

mod bed;
mod figures;

#[derive(clap::Args)]
pub struct Args {
    /// Interleaved rounds; the spread is over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Build nothing; take `apiward` and `apiward-collector` from this directory.
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
    /// Figures as JSON instead of the table.
    #[arg(long, value_parser = ["table", "json"], default_value = "table")]
    pub output: String,
}

/// What runs beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    Nothing,
    Observing,
    /// Observing with entry and return probes on the exported functions.
    Functions,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "no agent",
            Beside::Observing => "observing",
            Beside::Functions => "entry + return probes",
        }
    }
}

/// Saturated in clear, saturated over TLS, and both at half of what nginx reaches alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    Clear,
    Tls,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Traffic::Clear => "clear",
            Traffic::Tls => "TLS",
        }
    }
}

/// Every measurement that was made.
pub type Samples = BTreeMap<(Traffic, Beside), Vec<bed::Sample>>;

/// The command.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = setup::ensure(&[Group::Build, Group::Bench])?;
    if !sh::is_root() {
        bail!("the benchmark runs the agent, which needs root: kernel programs see every process");
    }
    let built = match &args.binaries {
        Some(folder) => build::Built::in_folder(folder),
        None => build::build(&toolchain, build::Profile::Release)?,
    };
    let interrupt = Interrupt::install()?;
    let mut bed = Bed::new(&built)?;
    bed.serve(&interrupt)?;
    let mut samples = Samples::new();
    let mut pipes: BTreeMap<Beside, Vec<f64>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for beside in [Beside::Nothing, Beside::Observing, Beside::Functions] {
            if interrupt.is_set() {
                bail!("interrupted");
            }
            sh::say(&format!("round {round} of {}: {}", args.rounds, beside.name()));
            bed.beside(beside, &interrupt)?;
            for traffic in [Traffic::Clear, Traffic::Tls] {
                if beside == Beside::Functions && traffic == Traffic::Clear {
                    continue;
                }
                let alone = samples
                    .get(&(traffic, Beside::Nothing))
                    .and_then(|all| all.first());
                let mut sample = bed.load(traffic, args.seconds, Load::Saturated)?;
                if beside != Beside::Functions {
                    // The first round without agent says what half of the load is, for all rounds.
                    let rate = alone.map_or(sample.requests_per_s, |first| first.requests_per_s) / 2.0;
                    let half = bed.load(traffic, args.seconds, Load::PerSecond(rate))?;
                    sample.half_load = Some((half.p50_us, half.p99_us, half.requests_per_s / rate));
                }
                samples.entry((traffic, beside)).or_default().push(sample);
            }
            if beside != Beside::Functions {
                pipes.entry(beside).or_default().push(bed.pipe()?);
            }
        }
        bed.beside(Beside::Nothing, &interrupt)?;
    }
    let figures = Figures::of(&samples, &pipes);
    match args.output.as_str() {
        "json" => println!("{}", json!(figures.to_json())),
        _ => figures.print(),
    }
    Ok(())
}
