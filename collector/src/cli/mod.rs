//! The command line: what each command does is in the files beside; where the store is, they share.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Prints a line; whoever read the output and has gone away wanted no more of it.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), $($words)*);
    }};
}
pub(crate) use say;

mod admin;
mod inventory;
mod read;
mod run;
mod summary;

/// Receives the agents' events, keeps them, and speaks back.
#[derive(Parser)]
#[command(name = "apiward-collector", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive and keep events.
    Run(run::Args),
    /// Print stored events.
    Query(Box<read::Args>),
    /// What the stored events say together: endpoints, processes, verdicts, losses.
    Summary(summary::Args),
    /// Pages for people who have no console.
    Report(inventory::Args),
    /// Agents with their last word.
    Agents(admin::AgentsArgs),
    /// Set the mode of agents that permit it.
    Mode(admin::ModeArgs),
    /// Policies of agents that permit it.
    Policy(admin::PolicyArgs),
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

/// Where the store is.
#[derive(clap::Args, Debug)]
pub struct DataArgs {
    /// The directory that `run --data` was given.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/apiward-collector")]
    pub data: PathBuf,
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Query(args) => read::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Report(args) => inventory::run(&args),
        Command::Agents(args) => admin::agents(&args),
        Command::Mode(args) => admin::mode(&args),
        Command::Policy(args) => admin::policy(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("apiward-collector: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what it came from, in one line; what an outer one has told already is not told again.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// `30s`, `10m`, `2h`, `7d`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no duration: write it as 30s, 10m, 2h or 7d");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .map(std::time::Duration::from_secs)
        .ok_or_else(wrong)
}

/// `64MiB`, `10GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write it as 64MiB or 10GiB");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1u64 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        use anyhow::Context;
        let error = Err::<(), _>(std::io::Error::other("no room"))
            .context("the disk says: no room")
            .context("it cannot be written");
        assert_eq!(
            causes(&error.expect_err("made so")),
            "it cannot be written: the disk says: no room"
        );
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("10m"), Ok(std::time::Duration::from_secs(600)));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("17"), Ok(17));
        for wrong in ["", "10", "m", "10 m", "1w", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "GiB", "1GB", "99999999999999999999GiB", "999999999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
