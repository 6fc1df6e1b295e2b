//! Policy files from disk: patterns → names and texts. `policy` itself never touches a file.

use std::path::{Path, PathBuf};

use super::{read_text, unreadable};
use crate::errors;
use crate::yaml::{Problem, Problems};

/// Most policy files.
pub const POLICY_FILES_MAX: usize = 1_000;
/// Most bytes of all of them together.
pub const POLICY_BYTES_MAX: usize = 16 << 20;

/// The files' names and texts, by name. A directory stands for its `*.yaml` and `*.yml`. With `required`, a pattern
/// without a file is a problem. Files ending in `.test.yaml` or `.test.yml` hold cases, not policies, and are left out
/// of patterns.
pub fn read(patterns: &[String], required: bool) -> Result<Vec<(String, String)>, Problems> {
    let mut problems = Vec::new();
    let mut paths = Vec::new();
    for pattern in patterns {
        match expand(Path::new(pattern)) {
            Ok(found) if found.is_empty() && required => problems.push(Problem {
                id: errors::NO_POLICY_FILE,
                file: pattern.as_str().into(),
                place: None,
                what: "no policy file is there".into(),
                instead: "check the path; a pattern has to match at least one file".into(),
            }),
            Ok(found) => paths.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    paths.sort();
    paths.dedup();
    if paths.len() > POLICY_FILES_MAX {
        problems.push(Problem {
            id: errors::TOO_LARGE,
            file: patterns.join(", ").into(),
            place: None,
            what: format!("{} policy files match, more than {POLICY_FILES_MAX}", paths.len()),
            instead: "put several policies into one file, separated by `---`".into(),
        });
        paths.clear();
    }
    let mut texts = Vec::new();
    let mut bytes = 0;
    for path in paths {
        let name = path.display().to_string();
        match read_text(&path) {
            Ok(text) => {
                bytes += text.len();
                if bytes > POLICY_BYTES_MAX {
                    problems.push(Problem {
                        id: errors::TOO_LARGE,
                        file: name.into(),
                        place: None,
                        what: format!(
                            "up to here, the policy files have more than {POLICY_BYTES_MAX} bytes together"
                        ),
                        instead: "join rules that differ in one list only".into(),
                    });
                    break;
                }
                texts.push((name, text));
            }
            Err(error) => problems.extend(unreadable(&name, &error).0),
        }
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(Problems(problems))
    }
}

/// Wildcards are understood in the last component only: a directory that may vary invites surprises.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, Problem> {
    if pattern.is_dir() {
        let mut found = expand(&pattern.join("*.yaml"))?;
        found.extend(expand(&pattern.join("*.yml"))?);
        return Ok(found);
    }
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?', '[', '{']) {
        return Ok(if pattern.exists() {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        });
    }
    let bad = |what: String, instead: &str| Problem {
        id: errors::BAD_VALUE,
        file: text.as_ref().into(),
        place: None,
        what,
        instead: instead.into(),
    };
    let (Some(dir), Some(last)) = (
        pattern.parent(),
        pattern.file_name().and_then(|name| name.to_str()),
    ) else {
        return Err(bad(
            "this is no pattern of files".into(),
            "write a path such as `/etc/apiward/policies/*.yaml`",
        ));
    };
    if dir.to_string_lossy().contains(['*', '?', '[', '{']) {
        return Err(bad(
            "a wildcard stands in a directory's name".into(),
            "write wildcards in the last component only",
        ));
    }
    let glob = globset::Glob::new(last)
        .map_err(|error| {
            bad(
                format!("this is no glob: {}", error.kind()),
                "check brackets and braces",
            )
        })?
        .compile_matcher();
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(found);
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_cases = name
            .to_str()
            .is_none_or(|name| name.ends_with(".test.yaml") || name.ends_with(".test.yml"));
        // Kubernetes mounts ConfigMaps with hidden directories and links beside the files.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !is_cases && !hidden && glob.is_match(Path::new(&name)) && entry.path().is_file() {
            found.push(dir.join(name));
        }
    }
    Ok(found)
}
