//! Python packages that the checks use, in an environment of their own under the target directory.
//!
//! Pinned, and fetched once: nothing of the machine's own Python is changed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sh;

/// How long fetching packages may take.
const FETCH_LIMIT: Duration = Duration::from_secs(180);

/// The environment `name` with these packages in it: its folder. `what`: for people.
pub fn environment(name: &str, what: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = sh::target_dir().join(name).join("python");
    let stamp = folder.join("packages");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let python = sh::which("python3").context("python3 is missing: `cargo xtask setup --image`")?;
    sh::step(&format!("fetching {what} (seconds, once)"), || {
        sh::read(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        pip.args(packages);
        if !sh::succeeds_within(&mut pip, FETCH_LIMIT) {
            bail!(
                "`{}` failed or took too long; is there a network?",
                sh::display(&pip)
            );
        }
        std::fs::write(&stamp, &wanted)?;
        Ok(())
    })?;
    Ok(folder)
}
