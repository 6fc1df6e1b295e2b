//! The configured policy files, read and compiled.

use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use crate::config::Config;
use crate::policy::PolicySet;

/// Files that the patterns may match together.
const FILES_MAX: usize = 1_024;

/// Reads what the configuration names. All errors at once, as text for people.
pub fn read(config: &Config) -> Result<PolicySet, String> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for pattern in &config.policies {
        match matching(pattern) {
            Ok(found) if found.is_empty() && config.policies_explicit => {
                errors.push(format!(
                    "{pattern}: no file matches; write a path that is there, or remove the line"
                ));
            }
            Ok(found) => files.extend(found),
            Err(error) => errors.push(error),
        }
    }
    files.sort();
    files.dedup();
    if files.len() > FILES_MAX {
        errors.push(format!(
            "{} policy files are more than {FILES_MAX}: join some",
            files.len()
        ));
    }
    let mut texts = Vec::new();
    for file in files.iter().take(FILES_MAX) {
        match fs::read_to_string(file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(error) => errors.push(format!("{}: {error}", file.display())),
        }
    }
    match PolicySet::load(&texts) {
        Ok(set) if errors.is_empty() => Ok(set),
        Ok(_) => Err(errors.join("\n")),
        Err(problems) => {
            errors.push(problems.to_string());
            Err(errors.join("\n"))
        }
    }
}

/// Files that match a pattern. A file of test cases beside a policy (`*.test.yaml`) is none.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(pattern);
    if !pattern.contains(['*', '?', '[', '{']) {
        return Ok(vec![path.to_owned()]);
    }
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("{pattern}: {error}"))?
        .compile_matcher();
    let base: PathBuf = path
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect();
    let depth = if pattern.contains("**") {
        16
    } else {
        path.components().count() - base.components().count()
    };
    let mut found = Vec::new();
    walk(&base, depth, &mut |file| {
        if glob.is_match(file) && !file.to_string_lossy().contains(".test.") && found.len() <= FILES_MAX {
            found.push(file.to_owned());
        }
    });
    Ok(found)
}

fn walk(directory: &Path, depth: usize, each: &mut dyn FnMut(&Path)) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, depth - 1, each);
        } else {
            each(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_policies_and_not_their_tests() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["a.yaml", "a.test.yaml", "b.yml", "sub/c.yaml"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let names = |pattern: &str| -> Vec<String> {
            let mut names: Vec<String> = matching(&format!("{}/{pattern}", dir.path().display()))
                .expect("a pattern")
                .iter()
                .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("*.yaml"), ["a.yaml"]);
        assert_eq!(names("**/*.yaml"), ["a.yaml", "c.yaml"]);
        assert_eq!(names("missing.yaml"), ["missing.yaml"]);
    }
}
