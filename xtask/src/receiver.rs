//! A real OpenTelemetry receiver for the tests: Rotel, from the Python package index, in an environment of its own
//! under the target directory.
//!
//! The exporter's own tests speak to a server that was made from the same protocol files as the exporter. This one
//! was not: it is what shows that others understand us. Where it cannot be had (no network, no wheel for this
//! Python) the one test that needs it says that it was left out.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Group};
use crate::sh;

/// The package, pinned: its options are not stable yet.
const PACKAGE: &str = "rotel==0.0.1a15";
/// How long fetching it may take.
const FETCH_LIMIT: Duration = Duration::from_secs(180);

/// Where the tests look for the program.
fn program() -> PathBuf {
    sh::target_dir().join("receiver/rotel")
}

/// Makes the receiver's program available to the tests; fetched once.
pub fn ensure() -> Result<()> {
    let program = program();
    let stamp = sh::target_dir().join("receiver/package");
    if runs(&program) && std::fs::read_to_string(&stamp).is_ok_and(|package| package == PACKAGE) {
        return Ok(());
    }
    setup::ensure_packages(&[Group::Python])?;
    let python = sh::which("python3").context("python3 is missing: install it")?;
    sh::step("fetching an OpenTelemetry receiver (seconds, once)", || {
        let folder = sh::target_dir().join("receiver/python");
        sh::read(Command::new(&python).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]);
        if !sh::succeeds_within(&mut pip, FETCH_LIMIT) {
            bail!(
                "`{}` failed or took too long; is there a network?",
                sh::display(&pip)
            );
        }
        let _ = std::fs::remove_file(&program);
        symlink(binary(&folder)?, &program)?;
        if !runs(&program) {
            // The wheel holds a program that is linked to the shared library of its Python.
            let version = "import sys; print(f'libpython{sys.version_info[0]}.{sys.version_info[1]}')";
            let library = sh::read(Command::new(&python).args(["-c", version]))?;
            setup::install(&[library.trim()])?;
        }
        if !runs(&program) {
            bail!("{} does not run on this machine", program.display());
        }
        std::fs::write(&stamp, PACKAGE)?;
        Ok(())
    })
}

fn runs(program: &Path) -> bool {
    program.exists() && sh::read(Command::new(program).arg("version")).is_ok()
}

/// The package's program: it is not among the scripts of the environment.
fn binary(folder: &Path) -> Result<PathBuf> {
    let versions = std::fs::read_dir(folder.join("lib"))?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("site-packages/rotel/rotel-agent")))
        .find(|path| path.exists())
        .with_context(|| format!("{PACKAGE} has no program where it should be"))
}
