//! Events in the Open Cybersecurity Schema Framework, held against the schema that it publishes.
//!
//! The examples are every kind of event as the code writes it; that they are, the tests of `proto` see to.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{python, sh};

/// The published schema, and what validates against it.
const PACKAGES: [&str; 2] = ["ocsf-json-schema==1.2.0", "jsonschema==4.26.0"];
const EXAMPLES: &str = "proto/src/ocsf/examples.jsonl";
const SCRIPT: &str = include_str!("ocsf.py");

/// Fails where an example is not what the schema of its class allows.
pub fn check() -> Result<()> {
    let folder = python::environment("ocsf", "the schema of OCSF", &PACKAGES)?;
    let said = sh::read(
        Command::new(folder.join("bin/python"))
            .args(["-c", SCRIPT])
            .arg(sh::root().join(EXAMPLES)),
    )
    .context("an event is not what OCSF's schema allows")?;
    sh::say(said.trim());
    Ok(())
}
