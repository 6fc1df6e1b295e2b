//! The command line: one file a command. Commands speak to a running agent through its control socket, or work
//! on files alone; only `run` loads programs.
//!
//! Exit codes: 0 done · 1 it did not work, the message says what to do · 2 the command line or a file is wrong.
//! `doctor`, `status` and `prove` say in their help what theirs mean beyond that.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::kernel::closing;

mod canary;
mod client;
mod doctor;
mod inventory;
mod mode;
mod policy;
mod print;
mod prove;
mod release;
mod run;
mod status;
mod watch;
mod why;

/// Where the configuration is if nobody says otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/apiward/agent.yaml";

/// Sees every API call on this host, holds it against policy, and stops what must not happen.
#[derive(Parser)]
#[command(name = "apiward", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent.
    Run(run::Args),
    /// Show live calls of the local agent.
    Watch(watch::Args),
    /// Mode, coverage, losses and blind spots of the local agent.
    Status(status::Args),
    /// Switch between observing and enforcing.
    Mode(mode::Args),
    /// Detach everything, at once, with or without a running agent.
    Release(release::Args),
    /// Check, explain and test policies.
    Policy(policy::Args),
    /// Why a call was judged as it was.
    Why(why::Args),
    /// Every API endpoint that was seen: who serves it, who calls it, what is in it.
    Inventory(inventory::Args),
    /// What this kernel allows, what is missing, and what it costs.
    Doctor(doctor::Args),
    /// Measure, with canaries, whether what is promised of denials holds on this host.
    Prove(prove::Args),
    /// One end of a canary's connection.
    #[command(hide = true)]
    Canary(canary::Args),
}

/// How a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
}

/// How a command finds the local agent.
#[derive(clap::Args, Debug)]
pub struct AgentArgs {
    /// The agent's configuration file, which names its control socket.
    #[arg(long, default_value = CONFIG_DEFAULT)]
    pub config: PathBuf,
    /// The control socket, where the agent was started with another than its configuration says.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let _closing = closing::WaitsAtEnd;
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Status(args) => status::run(args),
        Command::Mode(args) => mode::run(args),
        Command::Release(args) => release::run(args),
        Command::Policy(args) => policy::run(args),
        Command::Why(args) => why::run(args),
        Command::Inventory(args) => inventory::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Prove(args) => prove::run(args),
        Command::Canary(args) => canary::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("apiward: {error:#}");
            ExitCode::FAILURE
        }
    }
}
