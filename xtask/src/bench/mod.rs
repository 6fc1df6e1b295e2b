//! `cargo xtask bench`: what the agent costs, as ratios within one run.
//!
//! Requests per second of a laptop say nothing about a server. What holds is the ratio of two configurations on the
//! same machine in the same minutes: rounds are interleaved (A B C A B C …, never A A B B), and every figure comes with
//! its spread over the rounds, median (least … greatest).
//!
//! Configurations, each with the same nginx (one worker) and wrk (one thread) in a cgroup of their own, all of it on two
//! cores: without agent; observing (release build, every event to JSON lines and to a collector on loopback, which are
//! outside of the scope); and, over TLS, observing with entry and return probes on the exported functions, for
//! comparison. At saturation: requests per second, CPU time per request of nginx (its cgroup's `cpu.stat`) and of the
//! agent, losses. At half of the load that nginx reached alone: p50 and p99. What is not an API call: `dd bs=1` through
//! a pipe, which all system-call tracers tax. Then the agent's memory beside some thousand open connections; at the end
//! what enforcing costs on top of observing, see [`gate`].
//!
//! Every figure that the specification bounds is printed with its target. A missed one is no failure: whoever else
//! uses the machine can make it.
//!
//! It must not know the agent's inside: it meets the binaries at their command lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::children::Interrupt;
use crate::setup::{self, Group};
use crate::{build, sh};
use about::About;
use bed::{Bed, Half, Load, Pipe};
use figures::Figures;

mod about;
mod bed;
mod calls;
mod counters;
mod figures;
mod gate;
mod stages;

/// Seconds that one configuration takes to start, settle and end, about; for the forecast.
const CHANGE_S: u32 = 4;

#[derive(clap::Args)]
pub struct Args {
    /// Interleaved rounds; the spread is over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Connections held open while the agent's memory is measured; 0: it is not.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub connections: u32,
    /// Leave out what enforcing costs.
    #[arg(long)]
    pub no_gate: bool,
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
    /// Enforcing with the rules of [`gate::write_policy`].
    Enforcing,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "no agent",
            Beside::Observing => "observing",
            Beside::Functions => "entry + return probes",
            Beside::Enforcing => "enforcing",
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
/// And of the pipe.
pub type Pipes = BTreeMap<Beside, Vec<Pipe>>;

/// The command.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = setup::ensure(&[Group::Build, Group::Bench])?;
    if !sh::is_root() {
        bail!("the benchmark runs the agent, which needs root: kernel programs see every process");
    }
    let built = match &args.binaries {
        // Processes are started in another directory.
        Some(folder) => build::Built::in_folder(
            &folder
                .canonicalize()
                .with_context(|| format!("{} is not there", folder.display()))?,
        ),
        None => build::build(&toolchain, build::Profile::Release)?,
    };
    let mut about = About::of(&built, about::keep_to_two_cores());
    let interrupt = Interrupt::install()?;
    let gated = match args.no_gate {
        true => 0,
        false => args.rounds * (gate::LOADS * args.seconds + 4 * CHANGE_S),
    };
    // Loads of a round: two kinds at two rates, twice; one more beside entry and return probes.
    let forecast = args.rounds * (9 * args.seconds + 3 * CHANGE_S) + 4 * args.seconds + gated;
    sh::say(&format!(
        "about {} min; figures are worth most on a machine that does nothing else",
        forecast.div_ceil(60)
    ));
    let mut bed = Bed::new(&built)?;
    bed.serve(&interrupt)?;
    let mut samples = Samples::new();
    let mut pipes: Pipes = BTreeMap::new();
    for round in 1..=args.rounds {
        // There and back, so that what changes slowly (a warming processor) favours none.
        let mut order = [Beside::Nothing, Beside::Observing, Beside::Functions];
        if round % 2 == 0 {
            order.reverse();
        }
        for beside in order {
            if interrupt.is_set() {
                bail!("interrupted");
            }
            sh::say(&format!("round {round} of {}: {}", args.rounds, beside.name()));
            bed.beside(beside, &interrupt)?;
            measure(&bed, beside, args.seconds, &mut samples, &mut pipes)?;
            if beside == Beside::Observing && round == 1 {
                about.sites = bed.sites()?;
            }
        }
    }
    let crowd = match args.connections {
        0 => None,
        connections => {
            sh::say(&format!("observing beside {connections} open connections"));
            // Anew: what earlier loads left behind is not this one's.
            bed.beside(Beside::Nothing, &interrupt)?;
            bed.beside(Beside::Observing, &interrupt)?;
            Some(bed.crowd(connections, 2 * args.seconds, &interrupt)?)
        }
    };
    let gated = match args.no_gate {
        true => None,
        false => Some(gate::measure(&mut bed, args.rounds, args.seconds, &interrupt)?),
    };
    bed.beside(Beside::Nothing, &interrupt)?;
    let figures = Figures::of(&samples, &pipes, crowd.as_ref(), gated.as_ref());
    match args.output.as_str() {
        "json" => {
            let mut all = figures.to_json();
            all["about"] = about.to_json();
            all["rounds"] = args.rounds.into();
            all["seconds"] = args.seconds.into();
            println!("{all}");
        }
        _ => {
            println!();
            about.print();
            println!("{} interleaved rounds, {} s a load", args.rounds, args.seconds);
            figures.print();
            if args.binaries.is_none() {
                println!();
                stages::run()?;
            }
        }
    }
    Ok(())
}

/// One configuration in one round.
fn measure(bed: &Bed, beside: Beside, seconds: u32, samples: &mut Samples, pipes: &mut Pipes) -> Result<()> {
    for traffic in [Traffic::Clear, Traffic::Tls] {
        if beside == Beside::Functions && traffic == Traffic::Clear {
            continue;
        }
        let mut sample = bed.load(&bed.calls(traffic), seconds, Load::Saturated)?;
        if beside != Beside::Functions {
            // The first round without agent says what half of the load is, for all rounds.
            let alone = samples
                .get(&(traffic, Beside::Nothing))
                .and_then(|all| all.first());
            let rate = alone.map_or(sample.requests_per_s, |first| first.requests_per_s) / 2.0;
            let half = bed.load(&bed.calls(traffic), seconds, Load::PerSecond(rate))?;
            sample.half = Some(Half {
                p50_us: half.p50_us,
                p99_us: half.p99_us,
                reached: half.requests_per_s / rate,
                agent_call_us: half.agent_call_us(),
            });
        }
        samples.entry((traffic, beside)).or_default().push(sample);
    }
    if beside != Beside::Functions {
        pipes.entry(beside).or_default().push(bed.pipe()?);
    }
    Ok(())
}
