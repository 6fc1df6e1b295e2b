//! `apiward run`: the agent in the foreground, until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use crate::config::{self, Overrides};
use crate::kernel::{memory, turns};
use crate::run::{self, Signals};
use crate::yaml::Problems;

#[derive(clap::Args)]
pub struct Args {
    /// The configuration file [default: /etc/apiward/agent.yaml, if it is there].
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("APIWARD_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let config = match config::load(args.config.as_deref(), &args.overrides) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(2));
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // The agent holds what it reads in memory: nobody gets a core of it, and its files are its own.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "the agent can be dumped");
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    memory::keep_small();
    turns::give_way();
    let signals = Signals::default();
    listen(&signals).context("signals cannot be handled")?;
    let mode = config.mode.as_str();
    let mut agent = match run::start(config) {
        Ok(agent) => agent,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                eprintln!("{problems}");
                return Ok(ExitCode::from(2));
            }
            None => return Err(error),
        },
    };
    memory::give_back();
    tracing::info!(mode, "the agent runs; stop with SIGTERM");
    agent.serve(&signals);
    agent.stop(&signals);
    Ok(ExitCode::SUCCESS)
}

/// Flags only: what they lead to happens between two batches. The thread sleeps until a signal comes.
fn listen(signals: &Signals) -> std::io::Result<()> {
    let Signals { stop, reload } = signals.clone();
    let mut source = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ])?;
    std::thread::Builder::new()
        .name("apiward-signal".into())
        .spawn(move || {
            for signal in source.forever() {
                if signal == signal_hook::consts::SIGHUP {
                    reload.store(true, Ordering::Relaxed);
                } else {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        })?;
    Ok(())
}
