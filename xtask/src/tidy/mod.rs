//! `cargo xtask tidy`: what rustc and clippy do not know about this repository, checked by machine.
//!
//! The architecture is a table of who may import what; a table that nobody checks is a wish. Each complaint is
//! `file:line: what to do`.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sh;

mod lex;
mod paths;
mod rules;

/// Folders that are made, foreign, or not ours to judge.
const SKIPPED_FOLDERS: [&str; 6] = ["target", "dist", ".git", "corpus", "node_modules", "artifacts"];
/// Written by `cargo xtask codegen`.
const GENERATED_FILES: [&str; 1] = ["proto/src/apiward.v1.rs"];
const TEXT_ENDINGS: [&str; 11] = [
    "rs", "md", "toml", "yaml", "yml", "proto", "sh", "py", "json", "conf", "t",
];

/// The command.
pub fn run() -> Result<()> {
    let mut files = Vec::new();
    list(sh::root(), "", &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(sh::root().join(file))
            .with_context(|| format!("{file} cannot be read"))?;
        texts.push((file.as_str(), text));
    }
    let is_rust = |file: &str| file.ends_with(".rs");
    let tests: Vec<String> = texts
        .iter()
        .filter(|(file, _)| is_rust(file))
        .flat_map(|(file, text)| rules::test_modules(file, text))
        .collect();
    let mut complaints = Vec::new();
    for (file, text) in &texts {
        complaints.extend(rules::check_text(file, text));
        if is_rust(file) {
            complaints.extend(rules::check_rust(file, text, &tests));
        }
    }
    complaints.sort();
    complaints.dedup();
    for complaint in &complaints {
        println!("{}:{}: {}", complaint.file, complaint.line, complaint.message);
    }
    if !complaints.is_empty() {
        bail!(
            "tidy: {} to change in {} files, listed above",
            complaints.len(),
            files.len()
        );
    }
    sh::say(&format!("tidy: {} files are in order", files.len()));
    Ok(())
}

/// Collects text files below `folder`, as paths relative to the root.
fn list(folder: &Path, relative: &str, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if relative.is_empty() {
            name.clone()
        } else {
            format!("{relative}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                list(&entry.path(), &path, files)?;
            }
        } else if kind.is_file()
            && name
                .rsplit_once('.')
                .is_some_and(|(_, ending)| TEXT_ENDINGS.contains(&ending))
            && !GENERATED_FILES.contains(&path.as_str())
        {
            files.push(path);
        }
    }
    Ok(())
}
