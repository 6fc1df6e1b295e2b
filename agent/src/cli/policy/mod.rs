//! `apiward policy`: checks, explains and tests policies as files; needs no agent, no kernel and no root. `reload`, `undo`
//! and `draft` alone speak to a running agent.
//!
//! What a policy means is decided in `crate::policy`, by the same code that judges calls; here are only files, words
//! and exit codes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::Output;
use super::client::Problem as AgentProblem;
use super::print::{self, Color, Paper, Style};
use crate::config;
use crate::policy::{PolicySet, schema};
use crate::yaml::{Problem, Problems};

mod cases;
mod change;
mod check;
mod draft;
mod explain;
mod replay;

/// Check, explain and test policies.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 all is well · 1 a case failed, a warning with --strict, or the agent kept the old policies · 2 a file, or \
the command line, is wrong. docs/policy.md is the reference of policies, docs/errors.md has a section for every id.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// All errors of all files at once, and warnings of what will not do what it seems to.
    Check(check::Args),
    /// For every rule: where and when it is decided, and what its denials are worth on this host.
    Explain(explain::Args),
    /// Judges the calls in *.test.yaml by the policies beside them.
    Test(cases::Args),
    /// An allow-list in observe mode, with its tests, of what a workload serves.
    Draft(draft::Args),
    /// What would have been denied of calls that were stored.
    Replay(replay::Args),
    /// The JSON Schema of policies (2020-12), for editors.
    Schema,
    /// Has the running agent read its policy files again; wrong ones leave the old ones in force.
    Reload(change::Args),
    /// Has the running agent go back to the policies that were in force before the last change.
    Undo(change::Args),
}

/// What `check` and `explain` read.
#[derive(clap::Args)]
struct Files {
    /// Policy files, globs, or directories of *.yaml and *.yml; *.test.yaml are cases, and left out.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// The agent's configuration: the proxies that it trusts count for warnings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Test(args) => cases::run(&args),
        Command::Draft(args) => draft::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Schema => {
            print::out(&format!("{:#}\n", schema::schema().as_value()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Reload(args) => change::run(change::Change::Reload, &args),
        Command::Undo(args) => change::run(change::Change::Undo, &args),
    }
}

/// Reads and compiles. How many files there were, and the set.
fn load(paths: &[PathBuf]) -> Result<(usize, PolicySet), Problems> {
    let patterns: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    match config::policies::read(&patterns, true) {
        Ok(texts) => PolicySet::load(&texts).map(|set| (texts.len(), set)),
        Err(unread) => {
            // What can be read is told as well: all errors at once.
            let readable: Vec<(String, String)> = patterns
                .iter()
                .filter_map(|pattern| config::policies::read(std::slice::from_ref(pattern), true).ok())
                .flatten()
                .collect();
            let mut problems = unread.0;
            if let Err(found) = PolicySet::load(&readable) {
                problems.extend(found.0);
            }
            Err(Problems(problems))
        }
    }
}

/// The configuration's trusted proxies.
fn trusted_proxies(files: &Files) -> Result<Vec<ipnet::IpNet>, AgentProblem> {
    let Some(path) = &files.config else {
        return Ok(Vec::new());
    };
    config::load(Some(path), &config::Overrides::default())
        .map(|config| config.trusted_proxies)
        .map_err(AgentProblem::Config)
}

/// `file:line:column: error[ID]: what`, and below it what to write instead.
fn put_problem(paper: &mut Paper, severity: &str, style: Style, problem: &Problem) {
    let place = problem
        .place
        .map_or_else(String::new, |place| format!("{}:{}:", place.line, place.column));
    paper
        .styled(Style::Bold, &format!("{}:{place}", problem.file))
        .put(" ")
        .styled(style, &format!("{severity}[{}]", problem.id))
        .put(": ")
        .line(&problem.what)
        .put("    ")
        .styled(Style::Dim, &problem.instead)
        .end();
}

fn put_errors(paper: &mut Paper, problems: &Problems) {
    for problem in &problems.0 {
        put_problem(paper, "error", Style::Bad, problem);
    }
}

fn problem_json(severity: &str, problem: &Problem) -> Value {
    json!({
        "severity": severity,
        "id": problem.id,
        "file": &*problem.file,
        "line": problem.place.map(|place| place.line),
        "column": problem.place.map(|place| place.column),
        "what": problem.what,
        "instead": problem.instead,
    })
}

fn problems_json(severity: &str, problems: &[Problem]) -> Value {
    problems
        .iter()
        .map(|problem| problem_json(severity, problem))
        .collect()
}

/// Errors in the way of another command than `check`: told, and the exit code.
fn refused(problems: &Problems, output: Output) -> Result<ExitCode> {
    match output {
        Output::Json => put_json(&json!({ "errors": problems_json("error", &problems.0) }))?,
        Output::Table => {
            let mut paper = Paper::new(Color::Auto.is_on());
            put_errors(&mut paper, problems);
            print::out(paper.as_str())?;
        }
    }
    Ok(ExitCode::from(2))
}

fn put_json(value: &Value) -> io::Result<()> {
    print::out(&format!("{value:#}\n"))
}

/// The files of a directory whose names end so, sorted.
fn files_in(directory: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if endings.iter().any(|ending| name.ends_with(ending)) && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check::warnings;

    fn repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    #[test]
    fn what_is_shipped_has_no_errors_and_no_warnings() {
        for path in [
            "deploy/policies",
            "deploy/kubernetes/policy.yaml",
            "xtask/assets/demo/policy.yaml",
        ] {
            let (files, set) = load(&[repository(path)]).unwrap_or_else(|problems| panic!("{problems}"));
            let found = Problems(warnings(&set, &[]));
            assert!(files > 0 && found.0.is_empty(), "{found}");
        }
    }

    #[test]
    fn the_cases_of_the_shipped_policies_hold() {
        let directory = repository("deploy/policies");
        let policies = files_in(&directory, &[".yaml"]).expect("listed");
        let cases = files_in(&directory, &[".test.yaml"]).expect("listed");
        assert_eq!(policies.len(), 2 * cases.len(), "each policy has its cases");
        let told = cases::told(&[directory]);
        assert!(told.starts_with("30 cases in 4 files: 30 as expected"), "{told}");
    }
}
