//! The OpenAPI document that `apiward inventory --openapi` writes, held against the specification.
//!
//! The example is a document as the code writes it; that it is, the agent's own tests see to.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{python, sh};

const PACKAGES: [&str; 1] = ["openapi-spec-validator==0.9.0"];
const EXAMPLE: &str = "agent/src/cli/inventory/openapi_example.json";

/// Fails where the example is not what the specification allows.
pub fn check() -> Result<()> {
    let folder = python::environment("openapi", "the schema of OpenAPI", &PACKAGES)?;
    let said = sh::read(
        Command::new(folder.join("bin/openapi-spec-validator"))
            .args(["--schema", "3.1"])
            .arg(sh::root().join(EXAMPLE)),
    )
    .context("the document is not what OpenAPI 3.1 allows")?;
    sh::say(said.trim());
    Ok(())
}
