//! The only build tool anyone has to know: `cargo xtask COMMAND`, one file a command.
//!
//! It drives programs that are on every development machine (cargo, apt-get, openssl …) and keeps everything it
//! makes under `target/`, so that removing that folder undoes it. It must not know the product's internals: it
//! meets the binaries where a user does, at their command lines.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod cgroup;
mod children;
mod codegen;
mod demo;
mod dist;
mod ebpf;
mod elf;
mod image;
mod manifests;
mod ocsf;
mod openapi;
mod python;
mod receiver;
mod run;
mod setup;
mod sh;
mod test;
mod tidy;
mod vm;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, runs, tests and packs Apiward."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this machine, and say so.
    Setup(setup::Args),
    /// Build the kernel programs, the agent and the collector.
    Build(build::Args),
    /// Start collector and agent here, and show live calls.
    Run(run::Args),
    /// Run every test and check; ends with the counts.
    Test(test::Args),
    /// Run the integration tests on other kernels.
    Vm(vm::Args),
    /// Measure what the agent costs, as ratios in one run.
    Bench(bench::Args),
    /// Make everything that is shipped, in dist/.
    Dist(dist::Args),
    /// Make the container image (an OCI archive) from the static binaries.
    Image(image::Args),
    /// Check the import rules and what else no compiler checks.
    Tidy,
    /// Regenerate the committed code from the .proto files.
    Codegen(codegen::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sh::tell(&format!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args).map(drop),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Tidy => tidy::run(),
        Command::Codegen(args) => codegen::run(&args),
    }
}
