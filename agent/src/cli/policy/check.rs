//! `apiward policy check`: every error of every file, or every warning of what they mean together.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{Files, Output, load, problems_json, put_errors, put_json, put_problem, trusted_proxies};
use crate::cli::print::{self, Color, Paper, Style, plural};
use crate::policy::check;
use crate::yaml::Problems;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    files: Files,
    /// Warnings fail the command (exit 1).
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let trusted_proxies = match trusted_proxies(&args.files) {
        Ok(networks) => networks,
        Err(problem) => return Ok(problem.tell()),
    };
    let (files, set) = match load(&args.files.paths) {
        Ok(loaded) => loaded,
        Err(problems) => return errors(&problems, args.files.output),
    };
    let warnings = check::warnings(&set, &trusted_proxies);
    match args.files.output {
        Output::Json => put_json(&json!({
            "errors": [],
            "warnings": problems_json("warning", &warnings),
            "files": files,
            "policies": set.policies().len(),
            "rules": set.rules().len(),
            "digest": set.digest(),
        }))?,
        Output::Table => {
            let mut paper = Paper::new(Color::Auto.is_on());
            for warning in &warnings {
                put_problem(&mut paper, "warning", Style::Warn, warning);
            }
            paper.line(&format!(
                "{}, {}, {}: no errors, {} (digest {})",
                plural(files as u64, "file"),
                match set.policies().len() {
                    1 => "1 policy".to_owned(),
                    count => format!("{} policies", print::number(count as u64)),
                },
                plural(set.rules().len() as u64, "rule"),
                plural(warnings.len() as u64, "warning"),
                set.digest(),
            ));
            if set.policies().is_empty() {
                paper
                    .styled(Style::Warn, "there is no policy in it: every call is allowed")
                    .end();
            }
            print::out(paper.as_str())?;
        }
    }
    Ok(if args.strict && !warnings.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn errors(problems: &Problems, output: Output) -> Result<ExitCode> {
    match output {
        Output::Json => put_json(&json!({
            "errors": problems_json("error", &problems.0),
            "warnings": [],
        }))?,
        Output::Table => {
            let mut paper = Paper::new(Color::Auto.is_on());
            put_errors(&mut paper, problems);
            paper.line(&format!(
                "{}: an agent refuses these policies, and keeps those that it has; warnings come when they are mended",
                plural(problems.0.len() as u64, "error")
            ));
            print::out(paper.as_str())?;
        }
    }
    Ok(ExitCode::from(2))
}
