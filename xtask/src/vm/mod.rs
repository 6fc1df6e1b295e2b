//! `cargo xtask vm`: the integration tests on other kernels, by booting them.
//!
//! Stock Debian kernels, the newest of each series, in QEMU without hardware acceleration; the first process runs the
//! same integration binary as `cargo xtask test` and prints one verdict. A test may skip what a kernel cannot do; a
//! skip that this kernel does not justify is a failure, so that a broken probe cannot hide behind it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::Group;
use crate::{build, ebpf, setup, sh};

mod boot;
mod initramfs;
mod kernels;

/// The series of the matrix, and where Debian keeps them.
const SERIES: [Series; 4] = [
    Series {
        name: "6.1",
        suite: kernels::Suite::OldStableSecurity,
    },
    Series {
        name: "6.12",
        suite: kernels::Suite::OldStableSecurity,
    },
    Series {
        name: "6.18",
        suite: kernels::Suite::StableBackports,
    },
    Series {
        name: "7",
        suite: kernels::Suite::StableBackports,
    },
];

/// What a test may need, and the first kernel that has it (Debian's configuration, not locked down). A test that
/// skips prints `SKIPPED test: needs FEATURE`; the tests are told what their kernel has, and hold the agent to it.
const FEATURES: [(&str, Version); 7] = [
    ("lsm", Version(5, 7)),
    ("fentry", Version(5, 5)),
    ("bpf_loop", Version(5, 17)),
    ("cgroup_skb_pid", Version(6, 7)),
    ("cgroup_kill", Version(5, 14)),
    ("uprobe_multi", Version(6, 6)),
    ("uprobe_write_registers", Version(6, 18)),
];

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only this series (6.1, 6.12, 6.18, 7); may be repeated.
    #[arg(long)]
    pub series: Vec<String>,
    /// Minutes that one kernel may take; everything is ten times slower there.
    #[arg(long, default_value_t = 20)]
    pub minutes: u64,
    /// Run this shell script there instead of the tests, and show its output: for looking around.
    #[arg(long, value_name = "FILE", conflicts_with = "filters")]
    pub script: Option<PathBuf>,
    /// Only the test of this name, or else those whose names contain it; they run in this order, each once, in one boot.
    pub filters: Vec<String>,
}

/// Kernels that begin alike.
#[derive(Clone, Copy, Debug)]
struct Series {
    name: &'static str,
    suite: kernels::Suite,
}

/// Major and minor number of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// How a kernel did.
#[derive(Debug)]
struct Line {
    name: String,
    outcome: Result<boot::Outcome>,
    took: Duration,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the matrix is for x86-64: its kernels are");
    }
    for name in &args.series {
        if !SERIES.iter().any(|series| series.name == name) {
            bail!(
                "no series {name}: there are {}",
                SERIES.map(|series| series.name).join(", ")
            );
        }
    }
    let toolchain = setup::ensure(&[Group::Build, Group::Demo, Group::Vm])?;
    let programs = build_programs(&toolchain)?;
    let names = match programs.last() {
        Some(tests) if !args.filters.is_empty() => chosen(&args.filters, &stories(tests)?)?,
        _ => Vec::new(),
    };
    let folder = sh::target_dir().join("vm");
    let archive = sh::step("looking at which kernels there are", || {
        kernels::Archive::open(&folder)
    })?;
    let base = sh::step("collecting the test machine's files", || {
        initramfs::Base::new(&folder, &programs)
    })?;
    let what = match &args.script {
        Some(file) => initramfs::What::Script(
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?,
        ),
        None => initramfs::What::Tests { names },
    };
    let mut lines = Vec::new();
    for series in SERIES {
        if !args.series.is_empty() && !args.series.iter().any(|name| name == series.name) {
            continue;
        }
        let start = Instant::now();
        let (name, outcome) = match archive.newest(series.name, series.suite) {
            Ok(kernel) => {
                sh::say(&format!("booting {}", kernel.version));
                let log = folder.join(format!("{}.log", kernel.version));
                let limit = Duration::from_secs(args.minutes * 60);
                let outcome = base
                    .with_kernel(&kernel, &features(&kernel.version), &what)
                    .and_then(|initrd| boot::boot(&kernel, &initrd, &log, limit, args.script.is_some()));
                (kernel.version, outcome)
            }
            // Told, and a failure: a matrix that shrinks by itself proves less every year.
            Err(error) => (series.name.to_owned(), Err(error)),
        };
        lines.push(Line {
            name,
            outcome,
            took: start.elapsed(),
        });
    }
    report(&lines, args.script.is_none())
}

/// Builds the binaries and the integration tests; returns their paths, the tests' last.
fn build_programs(toolchain: &ebpf::Toolchain) -> Result<Vec<PathBuf>> {
    sh::step("building the kernel programs", || ebpf::build(toolchain))?;
    sh::step("building binaries and integration tests", || {
        build::build_for_tests()?;
        let mut command = sh::cargo();
        build::name_object(&mut command);
        command
            .args(["test", "--no-run", "--quiet", "--message-format", "json"])
            .args(build::INTEGRATION);
        let messages = sh::read(&mut command)?;
        let tests = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "integration")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .context("cargo did not say where the integration tests are")?;
        let built = build::Built::in_folder(&sh::target_dir().join(build::Profile::Debug.folder()));
        Ok(vec![built.agent, built.collector, tests])
    })
}

/// The names of all integration tests, by their own account.
fn stories(tests: &Path) -> Result<Vec<String>> {
    let list = sh::read(Command::new(tests).arg("--list"))?;
    Ok(list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// What the filters mean, in their order. One that means nothing is an error before anything is booted: beside others it
/// would pass for a test that ran.
fn chosen(filters: &[String], stories: &[String]) -> Result<Vec<String>> {
    let mut chosen: Vec<String> = Vec::new();
    let mut unknown = Vec::new();
    for filter in filters {
        let found: Vec<&String> = match stories.iter().find(|story| *story == filter) {
            Some(story) => vec![story],
            None => stories.iter().filter(|story| story.contains(filter)).collect(),
        };
        if found.is_empty() || filter.is_empty() {
            unknown.push(format!("{filter:?}"));
            continue;
        }
        for story in found {
            if !chosen.contains(story) {
                chosen.push(story.clone());
            }
        }
    }
    if !unknown.is_empty() {
        bail!(
            "no integration test has a name that contains {}; nothing was booted",
            unknown.join(", or ")
        );
    }
    Ok(chosen)
}

fn report(lines: &[Line], of_tests: bool) -> Result<()> {
    println!();
    let mut failed = 0;
    for line in lines {
        let (verdict, good) = match &line.outcome {
            Ok(outcome) => judge(&line.name, outcome, of_tests),
            Err(error) => (format!("FAILED: {error:#}"), false),
        };
        failed += usize::from(!good);
        println!("{:<32} {:>12}  {verdict}", line.name, sh::seconds(line.took));
    }
    println!("\n{} passed, {failed} failed", lines.len() - failed);
    if failed > 0 {
        bail!(
            "not every kernel passed; their consoles are in {}",
            sh::target_dir().join("vm").display()
        );
    }
    Ok(())
}

/// One line about a kernel, and whether it passed. `of_tests`: tests were to run there.
fn judge(kernel: &str, outcome: &boot::Outcome, of_tests: bool) -> (String, bool) {
    let unjustified: Vec<String> = outcome
        .skips
        .iter()
        .filter(|skip| !is_justified(kernel, &skip.feature))
        .map(|skip| format!("{} (needs {})", skip.test, skip.feature))
        .collect();
    let counts = format!("{} passed, {} skipped", outcome.passed, outcome.skips.len());
    match outcome.code {
        None => (
            "FAILED: no verdict: it hung, crashed or ran out of time".to_owned(),
            false,
        ),
        Some(0) if !of_tests => ("ok: the script ended well".to_owned(), true),
        Some(0) if outcome.passed == 0 => ("FAILED: no test ran".to_owned(), false),
        Some(0) if unjustified.is_empty() => (format!("ok: {counts}"), true),
        Some(0) => (
            format!(
                "FAILED: skipped what this kernel can do: {}",
                unjustified.join(", ")
            ),
            false,
        ),
        Some(code) if !of_tests => (format!("FAILED: the script ended with {code}"), false),
        Some(code) => (format!("FAILED: the tests ended with {code}; {counts}"), false),
    }
}

/// What a kernel has.
fn features(kernel: &str) -> Vec<&'static str> {
    let names = FEATURES.iter().map(|(name, _)| *name);
    names.filter(|name| !is_justified(kernel, name)).collect()
}

/// Whether a kernel lacks a feature. An unknown feature justifies nothing.
fn is_justified(kernel: &str, feature: &str) -> bool {
    let Some(version) = parse_version(kernel) else {
        return false;
    };
    FEATURES
        .iter()
        .any(|(name, since)| *name == feature && version < *since)
}

fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.split(['.', '-', '+']);
    Some(Version(
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_needs_a_kernel_that_lacks_it() {
        assert!(is_justified(
            "6.12.117+deb12-cloud-amd64",
            "uprobe_write_registers"
        ));
        assert!(!is_justified("7.3.4+deb13-cloud-amd64", "uprobe_write_registers"));
        assert!(!is_justified("6.1.0-56-cloud-amd64", "lsm"));
        assert!(!is_justified("6.1.0-56-cloud-amd64", "invented"));
    }

    #[test]
    fn what_a_kernel_has_is_what_it_may_not_skip() {
        assert!(features("6.1.0-56-cloud-amd64").contains(&"lsm"));
        assert!(!features("6.12.117+deb12-cloud-amd64").contains(&"uprobe_write_registers"));
        assert_eq!(features("7.3.4+deb13-cloud-amd64").len(), FEATURES.len());
    }

    #[test]
    fn filters_mean_tests_or_nothing_is_booted() {
        let strings =
            |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let stories = strings(&["peers", "peers_and_segments", "a_lease", "other_peers"]);
        let chosen = |filters: &[&str]| chosen(&strings(filters), &stories);
        // In the order of the filters, each once; a whole name means that test alone.
        assert_eq!(
            chosen(&["lease", "peers_", "_peers", "a_le"]).ok(),
            Some(strings(&["a_lease", "peers_and_segments", "other_peers"]))
        );
        assert_eq!(chosen(&["peers"]).ok(), Some(strings(&["peers"])));
        let error = chosen(&["lease", "perrs", "pears"]).map_err(|error| error.to_string());
        assert!(
            error
                .as_ref()
                .is_err_and(|text| text.contains("\"perrs\", or \"pears\"")),
            "{error:?}"
        );
        assert!(chosen(&["lease", ""]).is_err());
    }

    #[test]
    fn a_kernel_without_a_verdict_failed() {
        assert!(!judge("6.1.0", &boot::Outcome::default(), true).1);
        let nothing = boot::Outcome {
            code: Some(0),
            ..Default::default()
        };
        assert!(!judge("6.1.0", &nothing, true).1);
        let good = boot::Outcome {
            code: Some(0),
            passed: 3,
            ..Default::default()
        };
        assert_eq!(
            judge("6.1.0", &good, true),
            ("ok: 3 passed, 0 skipped".to_owned(), true)
        );
    }
}
