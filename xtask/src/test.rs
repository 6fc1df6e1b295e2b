//! `cargo xtask test`: everything that must hold before a change goes in, from a fresh clone, in one command.
//!
//! All stages run, also after a failure, so that one run shows all there is to repair. Everything is compiled in
//! the development profile (dependencies optimised), once: the integration tests drive the same binaries.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::Group;
use crate::{build, codegen, ebpf, elf, manifests, ocsf, openapi, receiver, setup, sh, tidy};

/// Tells the integration tests where the binaries are.
const BINARIES_VARIABLE: &str = "APIWARD_BIN_DIR";

/// How long one stage of tests may run (for `timeout`); a hang is a failure, and CI has an end.
const TESTS_LIMIT: &str = "30m";
/// How long rustup's server may take.
const COMPONENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args, Default)]
pub struct Args {
    /// Leave out what needs root: the integration tests.
    #[arg(long)]
    pub unit: bool,
    /// Only tests whose name contains this (integration and unit tests).
    pub filter: Option<String>,
}

/// Why the integration tests cannot run without root.
const WHY_ROOT: &str = "the tests need root: they load kernel programs, make a cgroup and network namespaces of their own, \
     and set up missing packages. Run `sudo -E env \"PATH=$PATH\" cargo xtask test`; `cargo xtask test --unit` runs what needs no root";

/// The command.
pub fn run(args: &Args) -> Result<()> {
    if !args.unit && !sh::is_root() {
        bail!(WHY_ROOT);
    }
    let mut report = Report::default();
    let groups: &[Group] = if args.unit {
        &[Group::Build]
    } else {
        &[Group::Build, Group::Demo]
    };
    let toolchain = report.stage("setup", || setup::ensure(groups))?;
    let filtered = args.filter.is_some();
    if !filtered {
        report.stage("compiler's components", ensure_components)?;
    }
    if !filtered {
        report.check("generated code is current", || {
            codegen::run(&codegen::Args { check: true })
        });
        report.check("format", check_format);
        report.check("tidy", tidy::run);
    }
    let mut object = None;
    report.check("kernel programs", || {
        object = Some(ebpf::build(&toolchain)?);
        Ok(())
    });
    if let (Some(object), false) = (&object, filtered) {
        elf::print_table(object)?;
    }
    if !filtered {
        report.check("clippy", || {
            let mut command = sh::cargo();
            command.args([
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]);
            sh::run(&mut command)
        });
    }
    report.optional("OpenTelemetry receiver", receiver::ensure);
    let compiled = report.check("compile", build::build_for_tests);
    if compiled {
        report.tests("unit tests", args, &["--workspace", "--exclude", "apiward-tests"]);
        if !args.unit && object.is_some() {
            report.tests("integration tests", args, &build::INTEGRATION);
        }
    }
    if !filtered {
        report.check("manifests", || {
            setup::ensure_packages(&[Group::Manifests, Group::Python])?;
            manifests::check().map(drop)
        });
        report.check("OCSF", || {
            setup::ensure_packages(&[Group::Python])?;
            ocsf::check()
        });
        report.check("OpenAPI", || {
            setup::ensure_packages(&[Group::Python])?;
            openapi::check()
        });
    }
    report.finish()
}

/// Toolchains come without them where somebody chose a minimal profile.
fn ensure_components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if sh::read(sh::cargo().args([subcommand, "--version"])).is_ok() {
            continue;
        }
        sh::say(&format!(
            "missing: {component}; asking rustup for it (up to a minute)"
        ));
        let mut rustup = Command::new("rustup");
        if !sh::succeeds_within(rustup.args(["component", "add", component]), COMPONENT_LIMIT) {
            bail!("`cargo {subcommand}` is missing, and rustup could not install it: install {component}");
        }
    }
    Ok(())
}

/// Workspaces of their own, which `cargo fmt --all` does not reach.
const OTHER_WORKSPACES: [&str; 2] = ["agent-ebpf", "tests/fuzz"];

fn check_format() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    for folder in OTHER_WORKSPACES {
        let manifest = sh::root().join(folder).join("Cargo.toml");
        if manifest.exists() {
            sh::run(
                sh::cargo()
                    .args(["fmt", "--check", "--manifest-path"])
                    .arg(manifest),
            )?;
        }
    }
    Ok(())
}

/// What ran, how long it took, and how it ended.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    passed: u64,
    failed: u64,
    ignored: u64,
    total: Duration,
}

impl Report {
    /// A stage without which nothing else can run.
    fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        sh::say(name);
        let result = work();
        self.note(name, start, if result.is_ok() { "ok" } else { "FAILED" });
        result
    }

    /// A stage that passes or fails as one.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        let result = self.stage(name, work);
        match &result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                eprintln!("{name}: {error:#}");
            }
        }
        result.is_ok()
    }

    /// A stage that a machine without network may leave out, with the tests that need it; they say so.
    fn optional(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        sh::say(name);
        let ended = match work() {
            Ok(()) => "ok",
            Err(error) => {
                eprintln!("{name}: {error:#}");
                "left out"
            }
        };
        self.note(name, start, ended);
    }

    /// A stage of `cargo test`, whose tests are counted.
    fn tests(&mut self, name: &str, args: &Args, selection: &[&str]) {
        let start = Instant::now();
        sh::say(name);
        let cargo = sh::cargo();
        // Ended as a whole when its time is over, or when we are gone: a test that hangs holds programs in the
        // kernel.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "timeout", "--kill-after=20", TESTS_LIMIT])
            .arg(cargo.get_program())
            .current_dir(sh::root());
        build::name_object(&mut command);
        command
            .env(
                BINARIES_VARIABLE,
                sh::target_dir().join(build::Profile::Debug.folder()),
            )
            .args(["test", "--no-fail-fast"])
            .args(selection);
        command.args(&args.filter);
        let mut counts = Counts::default();
        let outcome = match run_counting(&mut command, &mut counts) {
            Ok(true) => "ok",
            Ok(false) | Err(_) if counts.failed > 0 => "FAILED",
            Ok(false) => {
                // It ended badly without a count: a crash, or a test binary that does not build.
                counts.failed += 1;
                "FAILED"
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                counts.failed += 1;
                "FAILED"
            }
        };
        self.passed += counts.passed;
        self.failed += counts.failed;
        self.ignored += counts.ignored;
        self.note(
            name,
            start,
            &format!("{outcome}: {} passed, {} failed", counts.passed, counts.failed),
        );
    }

    fn note(&mut self, name: &str, start: Instant, outcome: &str) {
        let took = start.elapsed();
        self.total += took;
        self.lines
            .push(format!("{name:<28} {:>12}  {outcome}", sh::seconds(took)));
    }

    fn finish(self) -> Result<()> {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        println!("{:<28} {:>12}", "together", sh::seconds(self.total));
        if self.ignored > 0 {
            println!("{} ignored", self.ignored);
        }
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            bail!("not everything passed; the reasons are above");
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result:") else {
            return;
        };
        // Up to the first full stop stands `ok` or `FAILED`.
        let counts = counts.split_once('.').map_or(counts, |(_, rest)| rest);
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                (Some(number), Some("ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs a command, shows what it prints, and counts test results. True if it ended with success.
fn run_counting(command: &mut Command, counts: &mut Counts) -> Result<bool> {
    let text = sh::display(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{text}` could not be started"))?;
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            std::io::stdout().write_all(&line)?;
            counts.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn results_are_counted() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        counts.add("running 3 tests");
        counts.add("test result: FAILED. 2 passed; 1 failed; 0 ignored");
        assert_eq!(
            counts,
            Counts {
                passed: 14,
                failed: 1,
                ignored: 1
            }
        );
    }
}
