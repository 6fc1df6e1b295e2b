//! `apiward policy`: checks, explains and tests policies as files; needs no agent, no kernel and no root.
//!
//! Exit codes: 0 all well · 1 a test failed, or a warning with `--strict` · 2 a file is wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::client::{self, Agent, Problem as Refused};
use super::print::{self, Color, Paper, Style};
use super::{AgentArgs, Output};
use crate::config;
use crate::policy::cases::{self, phase_name};
use crate::policy::explain::Explained;
use crate::policy::{PolicySet, check, explain, schema};
use crate::yaml::{Problem, Problems};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// All errors and warnings at once, with their places.
    Check {
        #[command(flatten)]
        files: Files,
        /// Warnings are errors (exit 1).
        #[arg(long)]
        strict: bool,
    },
    /// For each rule: where it is decided, when, and what a denial is worth.
    Explain {
        #[command(flatten)]
        files: Files,
    },
    /// Runs the calls of *.test.yaml against the policies beside them.
    Test {
        /// Files of test cases, policies with one beside them, or directories.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Table for people, JSON for machines.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// The JSON Schema of policies, for editors.
    Schema,
    /// Makes the running agent read its policy files again.
    Reload {
        /// Goes into the audit.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        agent: AgentArgs,
    },
}

#[derive(clap::Args)]
struct Files {
    /// Policy files, globs, or directories.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Check { files, strict } => check_files(&files, strict),
        Command::Explain { files } => explain_files(&files),
        Command::Test { paths, output } => test(&paths, output),
        Command::Schema => {
            println!("{:#}", schema::schema().as_value());
            Ok(ExitCode::SUCCESS)
        }
        Command::Reload { reason, agent } => reload(&reason, &agent),
    }
}

/// What clap got as paths → patterns: a directory stands for the policies in it.
fn patterns(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| match path.is_dir() {
            true => path.join("*.yaml").display().to_string(),
            false => path.display().to_string(),
        })
        .collect()
}

fn load(paths: &[PathBuf]) -> Result<PolicySet, Problems> {
    let texts = config::policies::read(&patterns(paths), true)?;
    PolicySet::load(&texts)
}

fn problem_json(severity: &str, problem: &Problem) -> serde_json::Value {
    json!({
        "severity": severity,
        "id": problem.id.to_string(),
        "file": &*problem.file,
        "line": problem.place.map(|place| place.line),
        "column": problem.place.map(|place| place.column),
        "what": problem.what,
        "instead": problem.instead,
    })
}

fn print_problems(problems: &Problems, output: Output) {
    match output {
        Output::Json => {
            for problem in &problems.0 {
                println!("{}", problem_json("error", problem));
            }
        }
        Output::Table => {
            for problem in &problems.0 {
                eprint!("{}", said(Style::Bad, &format!("error: {problem}")));
            }
        }
    }
}

fn check_files(files: &Files, strict: bool) -> Result<ExitCode> {
    let set = match load(&files.paths) {
        Ok(set) => set,
        Err(problems) => {
            print_problems(&problems, files.output);
            if files.output == Output::Table {
                eprintln!("{} errors: such policies are not loaded", problems.0.len());
            }
            return Ok(ExitCode::from(2));
        }
    };
    let warnings = check::warnings(&set, &[]);
    match files.output {
        Output::Json => {
            for warning in &warnings {
                println!("{}", problem_json("warning", warning));
            }
        }
        Output::Table => {
            for warning in &warnings {
                print::out(&said(Style::Warn, &format!("warning: {warning}")))?;
            }
            println!(
                "{} policies, {} rules, {} warnings; digest {}",
                set.policies().len(),
                set.rules().len(),
                warnings.len(),
                set.digest()
            );
        }
    }
    Ok(if strict && !warnings.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn explain_files(files: &Files) -> Result<ExitCode> {
    let set = match load(&files.paths) {
        Ok(set) => set,
        Err(problems) => {
            print_problems(&problems, files.output);
            return Ok(ExitCode::from(2));
        }
    };
    for explained in explain::explain(&set) {
        let rule = explained.rule;
        let policy = set.policy_of(rule);
        let unmet = explained.unmet();
        match files.output {
            Output::Json => println!(
                "{}",
                json!({
                    "policy": policy.name.as_str(), "rule": rule.name.as_str(), "source": &*rule.source, "action": rule.action.as_str(),
                    "mode": policy.mode.as_str(),
                    "decided_by": explained.decided_by.as_str(), "decided_at": phase_name(explained.decided_at),
                    "matches_on": rule.dimensions(),
                    "require": rule.require.map(|require| require.as_str()),
                    "counts_as_enforced": unmet.is_empty(),
                    "guarantees": explained.promises.iter().map(|(direction, tls, promise)| json!({
                        "direction": direction.as_str(), "tls": tls, "best": promise.best.as_str(),
                        "worst": promise.worst.as_str(), "why": promise.why,
                    })).collect::<Vec<_>>(),
                })
            ),
            Output::Table => print::out(&explained_words(&policy.name, &explained))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One rule, for people.
fn explained_words(policy: &str, explained: &Explained<'_>) -> String {
    let (rule, unmet) = (explained.rule, explained.unmet());
    let mut paper = Paper::new(Color::Auto.is_on());
    paper
        .styled(Style::Bold, &format!("{policy}/{}", rule.name))
        .put(&format!(" {}  ", rule.action.as_str()))
        .styled(Style::Dim, &rule.source)
        .end();
    let by = match rule.dimensions().as_slice() {
        [] => String::new(),
        some => format!(", by {}", some.join(", ")),
    };
    let (place, phase) = (explained.decided_by.as_str(), phase_name(explained.decided_at));
    paper.line(&format!("  decided by the {place} when the {phase} is whole{by}"));
    for (direction, tls, promise) in &explained.promises {
        let transport = if *tls { "TLS" } else { "clear" };
        let (direction, words) = (direction.as_str(), promise.words());
        paper.line(&format!("  {direction} {transport}: {words} ({})", promise.why));
    }
    if let Some(require) = rule.require.filter(|_| !unmet.is_empty()) {
        let text = format!("  requires {}: does not count as enforced here", require.as_str());
        paper.styled(Style::Bad, &text).end();
    }
    paper.as_str().to_owned()
}

/// One line in a style.
fn said(style: Style, text: &str) -> String {
    let mut paper = Paper::new(Color::Auto.is_on());
    for line in text.lines() {
        paper.styled(style, line).end();
    }
    paper.as_str().to_owned()
}

/// The files of cases that a path stands for.
fn case_files(path: &Path) -> Vec<PathBuf> {
    let is_cases = |path: &Path| path.to_string_lossy().ends_with(".test.yaml");
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| is_cases(path))
            .collect();
        found.sort();
        return found;
    }
    match is_cases(path) {
        true => vec![path.to_owned()],
        false => vec![path.with_extension("test.yaml")],
    }
}

fn test(paths: &[PathBuf], output: Output) -> Result<ExitCode> {
    let files: Vec<PathBuf> = paths.iter().flat_map(|path| case_files(path)).collect();
    if files.is_empty() {
        eprintln!("no *.test.yaml there: write one beside the policy, see docs/policy.md");
        return Ok(ExitCode::from(2));
    }
    let (mut ran, mut failed, mut wrong) = (0, 0, false);
    for file in &files {
        let shown = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{shown}: {error}");
                wrong = true;
                continue;
            }
        };
        let cases = match cases::read(&shown, &text) {
            Ok(cases) => cases,
            Err(problems) => {
                print_problems(&problems, output);
                wrong = true;
                continue;
            }
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        let policies: Vec<PathBuf> = match cases.policies.as_slice() {
            [] => vec![PathBuf::from(shown.replace(".test.yaml", ".yaml"))],
            named => named.iter().map(|name| folder.join(name)).collect(),
        };
        let set = match load(&policies) {
            Ok(set) => Arc::new(set),
            Err(problems) => {
                print_problems(&problems, output);
                wrong = true;
                continue;
            }
        };
        let failures = cases::run(&set, &cases);
        ran += cases.cases.len();
        failed += failures.len();
        for failure in &failures {
            match output {
                Output::Json => println!(
                    "{}",
                    json!({
                        "file": shown, "line": failure.place.line, "case": failure.name,
                        "expected": failure.expected, "got": failure.got,
                    })
                ),
                Output::Table => {
                    let place = format!("FAILED {shown}:{}: {}", failure.place.line, failure.name);
                    print::out(&said(Style::Bad, &place))?;
                    print::out(&said(Style::Plain, &format!("  expected {}", failure.expected)))?;
                    print::out(&said(Style::Plain, &format!("  got      {}", failure.got)))?;
                }
            }
        }
    }
    if output == Output::Table {
        println!("{ran} cases, {failed} failed");
    }
    Ok(match (wrong, failed) {
        (true, _) => ExitCode::from(2),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

fn reload(reason: &str, args: &AgentArgs) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(args).await?;
        let result = agent.reload_policies(reason).await?;
        if !result.accepted {
            let text = format!("the old policies stay in force:\n{}", result.message);
            return Err(Refused::Agent(text).into());
        }
        match args.output {
            Output::Json => println!("{}", json!({ "accepted": true, "message": result.message })),
            Output::Table => print::out(&said(Style::Plain, &result.message))?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
