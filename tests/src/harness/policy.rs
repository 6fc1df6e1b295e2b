//! Policies of the tests, as files.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Result, World};

/// A policy in enforce mode with these rules, as a document.
pub fn document(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "apiward.io/v1",
        "kind": "ApiPolicy",
        "metadata": { "name": name },
        "spec": { "mode": "enforce", "rules": rules },
    })
}

/// Writes it to a file, at once: an agent that reads it meanwhile has it whole, or the one before.
pub fn file(world: &World, name: &str, rules: &Value) -> Result<PathBuf> {
    let path = world.path(&format!("{name}.yaml"));
    let written = world.write(&format!("{name}.new"), format!("{:#}\n", document(name, rules)))?;
    std::fs::rename(written, &path)?;
    Ok(path)
}
