//! The configured policy files, read and compiled.

use crate::config::{self, Config};
use crate::errors;
use crate::policy::PolicySet;
use crate::yaml::{Problem, Problems};

use super::plural;

/// Names and texts of the files that the configuration names.
pub fn texts(config: &Config) -> Result<Vec<(String, String)>, Problems> {
    config::policies::read(&config.policies, config.policies_explicit)
}

/// Reads what the configuration names. All errors at once.
pub fn read(config: &Config) -> Result<PolicySet, Problems> {
    PolicySet::load(&texts(config)?)
}

/// As [`texts`], while policies are in force. An editor that writes in place, and a disk that is full, leave a file empty:
/// policies that are in force do not end by that.
pub fn texts_again(config: &Config, in_force: &PolicySet) -> Result<Vec<(String, String)>, Problems> {
    let texts = texts(config)?;
    let emptied = texts.iter().filter(|(_, text)| text.trim().is_empty());
    let problems: Vec<Problem> = emptied
        .filter_map(|(name, _)| {
            let were_in_it = |source: &str| source.rsplit_once(':').is_some_and(|(file, _)| file == name);
            let policies = in_force.policies().iter();
            let lost = policies.filter(|policy| were_in_it(&policy.source)).count();
            (lost > 0).then(|| Problem {
                id: errors::EMPTIED_FILE,
                file: name.as_str().into(),
                place: None,
                what: format!("the file is empty; {} in force came from it", plural(lost, "policy", "policies")),
                instead: "if it is being written, reload when it is whole; to end its policies, leave a comment in it".into(),
            })
        })
        .collect();
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(Problems(problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str =
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: p }\nspec:\n  rules: []\n";

    #[test]
    fn an_emptied_file_does_not_end_its_policies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.yaml");
        let config = Config {
            policies: vec![path.display().to_string()],
            policies_explicit: true,
            ..Config::default()
        };
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("");
        let none = read(&config).unwrap();
        assert!(texts_again(&config, &none).is_ok(), "nothing is lost");
        write(POLICY);
        let in_force = read(&config).unwrap();
        for emptied in ["", " \n"] {
            write(emptied);
            let problems = texts_again(&config, &in_force).unwrap_err();
            assert_eq!(problems.0[0].id, errors::EMPTIED_FILE);
        }
        for meant in [POLICY, "# nothing any more\n"] {
            write(meant);
            assert!(texts_again(&config, &in_force).is_ok());
        }
    }
}
