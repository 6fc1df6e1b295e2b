//! `cargo xtask build`: kernel programs first, then the binaries that embed them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::setup::Group;
use crate::{ebpf, elf, setup, sh};

/// Names the object to the agent's build script where it is not at the default place.
const OBJECT_VARIABLE: &str = "APIWARD_BPF_OBJECT";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Build in the development profile: faster to build, slower to run.
    #[arg(long)]
    pub debug: bool,
}

/// How the binaries are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Release,
    /// The development profile, whose compiled dependencies the tests share.
    Debug,
}

impl Profile {
    /// The folder under the target directory.
    pub fn folder(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Debug => "debug",
        }
    }
}

/// The binaries that were built.
#[derive(Clone, Debug)]
pub struct Built {
    pub agent: PathBuf,
    pub collector: PathBuf,
    pub object: PathBuf,
}

impl Built {
    /// The binaries of a folder, whoever put them there.
    pub fn in_folder(folder: &Path) -> Built {
        Built {
            agent: folder.join("apiward"),
            collector: folder.join("apiward-collector"),
            object: ebpf::object_path(),
        }
    }
}

/// The command: sets up, builds and prints the table of program sizes.
pub fn run(args: &Args) -> Result<Built> {
    let toolchain = setup::ensure(&[Group::Build])?;
    let profile = if args.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    let built = build(&toolchain, profile)?;
    elf::print_table(&built.object)?;
    println!("agent:     {}", built.agent.display());
    println!("collector: {}", built.collector.display());
    Ok(built)
}

/// Builds everything in one profile.
pub fn build(toolchain: &ebpf::Toolchain, profile: Profile) -> Result<Built> {
    sh::step("building the kernel programs", || ebpf::build(toolchain))?;
    sh::step("building agent and collector (minutes the first time)", || {
        let mut command = sh::cargo();
        command
            .arg("build")
            .args(sh::cargo_progress())
            .args(["-p", "apiward", "-p", "apiward-collector"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        name_object(&mut command);
        sh::run(&mut command)
    })?;
    Ok(Built::in_folder(&sh::target_dir().join(profile.folder())))
}

/// Compiles binaries and tests in the development profile, in one call: two would resolve features twice and
/// compile dependencies twice. Selections below have to be of the whole workspace for the same reason.
pub fn build_for_tests() -> Result<()> {
    let mut command = sh::cargo();
    name_object(&mut command);
    sh::run(
        command
            .arg("build")
            .args(sh::cargo_progress())
            .args(["--workspace", "--all-targets"]),
    )
}

/// How cargo selects the integration tests.
pub const INTEGRATION: [&str; 3] = ["--workspace", "--test", "integration"];

/// Tells the agent's build script where the kernel programs are, if it would not find them by itself. At the
/// default place it does, and a plain `cargo build` after ours sees no changed variable, so it compiles nothing
/// again.
pub fn name_object(command: &mut Command) {
    if sh::target_dir() != sh::root().join("target") {
        command.env(OBJECT_VARIABLE, ebpf::object_path());
    }
}
