//! `apiward policy test`: calls that are written down, judged by the policies that they are for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Output, files_in, load, problems_json, put_errors, put_json};
use crate::cli::print::{self, Color, Paper, Style, plural};
use crate::config;
use crate::errors;
use crate::policy::cases::{self, Failure};
use crate::yaml::{Problem, Problems};

const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

#[derive(clap::Args)]
pub(super) struct Args {
    /// Policies with cases beside them (x.yaml, x.test.yaml), files of cases, or directories of them.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One file of cases, judged.
struct Judged {
    file: String,
    cases: usize,
    failures: Vec<Failure>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (judged, problems) = judge_all(&args.paths);
    match args.output {
        Output::Json => put_json(&page_json(&judged, &problems))?,
        Output::Table => print::out(page(&judged, &problems, Color::Auto.is_on()).as_str())?,
    }
    let failed = judged.iter().any(|one| !one.failures.is_empty());
    Ok(match (problems.0.is_empty(), failed) {
        (false, _) => ExitCode::from(2),
        (true, false) => ExitCode::SUCCESS,
        (true, true) => ExitCode::FAILURE,
    })
}

fn judge_all(paths: &[PathBuf]) -> (Vec<Judged>, Problems) {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        match find(path) {
            Ok(found) => files.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    files.sort();
    files.dedup();
    let mut judged = Vec::new();
    for file in &files {
        match judge(file) {
            Ok(one) => judged.push(one),
            Err(found) => problems.extend(found.0),
        }
    }
    (judged, Problems(problems))
}

/// What the command prints.
#[cfg(test)]
pub(super) fn told(paths: &[PathBuf]) -> String {
    let (judged, problems) = judge_all(paths);
    page(&judged, &problems, false).as_str().to_owned()
}

/// The files of cases that a path stands for.
fn find(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let none = |file: &Path, what: &str| Problem {
        id: errors::NO_POLICY_FILE,
        file: file.display().to_string().into(),
        place: None,
        what: what.into(),
        instead: "write cases beside the policy: x.test.yaml for x.yaml (docs/policy.md)".into(),
    };
    if path.is_dir() {
        let found = files_in(path, &ENDINGS).unwrap_or_default();
        return match found.is_empty() {
            true => Err(none(path, "no file of cases is there")),
            false => Ok(found),
        };
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let file = match ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        true => path.to_owned(),
        false => path.with_extension("test.yaml"),
    };
    match file.exists() {
        true => Ok(vec![file]),
        false => Err(none(&file, "there is no such file of cases")),
    }
}

fn judge(file: &Path) -> Result<Judged, Problems> {
    let name = file.display().to_string();
    let text = config::read_text(file).map_err(|error| config::unreadable(&name, &error))?;
    let cases = cases::read(&name, &text)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let policies: Vec<PathBuf> = match cases.policies.as_slice() {
        [] => vec![beside(file)],
        named => named.iter().map(|name| folder.join(name)).collect(),
    };
    let (_, set) = load(&policies)?;
    Ok(Judged {
        file: name,
        cases: cases.cases.len(),
        failures: cases::run(&Arc::new(set), &cases),
    })
}

/// `x.test.yaml` → `x.yaml`.
fn beside(file: &Path) -> PathBuf {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    file.with_file_name(name.replacen(".test.", ".", 1))
}

fn page(judged: &[Judged], problems: &Problems, is_colored: bool) -> Paper {
    let mut paper = Paper::new(is_colored);
    put_errors(&mut paper, problems);
    for one in judged {
        for failure in &one.failures {
            paper
                .styled(Style::Bad, "FAILED")
                .put(" ")
                .styled(
                    Style::Bold,
                    &format!("{}:{}:{}:", one.file, failure.place.line, failure.place.column),
                )
                .put(" ")
                .line(&failure.name)
                .put("    expected ")
                .line(&failure.expected)
                .put("    got      ")
                .line(&failure.got);
        }
    }
    let cases: usize = judged.iter().map(|one| one.cases).sum();
    let failed: usize = judged.iter().map(|one| one.failures.len()).sum();
    let wrong = problems.0.len();
    paper
        .put(&plural(cases as u64, "case"))
        .put(" in ")
        .put(&plural(judged.len() as u64, "file"))
        .put(": ");
    let style = if failed > 0 { Style::Bad } else { Style::Good };
    paper.styled(style, &format!("{} as expected, {failed} not", cases - failed));
    if wrong > 0 {
        paper.put(&format!("; {} in files", plural(wrong as u64, "error")));
    }
    paper.end();
    paper
}

fn page_json(judged: &[Judged], problems: &Problems) -> Value {
    let failures: Vec<Value> = judged
        .iter()
        .flat_map(|one| one.failures.iter().map(move |failure| (one, failure)))
        .map(|(one, failure)| {
            json!({
                "file": one.file,
                "line": failure.place.line,
                "column": failure.place.column,
                "case": failure.name,
                "expected": failure.expected,
                "got": failure.got,
            })
        })
        .collect();
    let cases: usize = judged.iter().map(|one| one.cases).sum();
    json!({
        "errors": problems_json("error", &problems.0),
        "files": judged.len(),
        "cases": cases,
        "failed": failures,
    })
}
