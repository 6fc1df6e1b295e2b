//! The Kubernetes manifests: rendered by kustomize, and held against the schemas that Kubernetes publishes.
//!
//! The schemas come with a package that lives in an environment of its own under the target directory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{python, sh};

/// The package that ships the schemas, pinned: a new one may know fewer old versions.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// The versions that the manifests must be valid for: the oldest that is still met, and the package's newest.
const KUBERNETES_VERSIONS: [&str; 2] = ["1.25", "1.37"];

/// Renders `deploy/`, validates it, and returns the file with all manifests.
pub fn check() -> Result<PathBuf> {
    let rendered = sh::target_dir().join("manifests/apiward.yaml");
    let kubectl = sh::which("kubectl").context("kubectl is missing: `cargo xtask setup --image`")?;
    let text = sh::read(
        Command::new(kubectl)
            .arg("kustomize")
            .arg(sh::root().join("deploy")),
    )
    .context("the manifests in deploy/ cannot be rendered")?;
    let image = format!("image: apiward:{}", env!("CARGO_PKG_VERSION"));
    if text.matches("image: apiward:").count() != text.matches(&image).count() {
        bail!("deploy/kubernetes names another version of the image than the workspace's: `{image}`");
    }
    sh::write_if_changed(&rendered, text.as_bytes())?;
    let validator = validator()?;
    for version in KUBERNETES_VERSIONS {
        sh::read(
            Command::new(&validator)
                .args(["--strict", "--quiet", "--kubernetes-version", version])
                .arg(&rendered),
        )
        .with_context(|| format!("the manifests are not valid for Kubernetes {version}"))?;
    }
    sh::say(&format!(
        "the manifests are valid for Kubernetes {}",
        KUBERNETES_VERSIONS.join(" and ")
    ));
    Ok(rendered)
}

/// The validating program; fetched once.
fn validator() -> Result<PathBuf> {
    let folder = python::environment("manifests", "the schemas of Kubernetes", &[VALIDATOR])?;
    Ok(folder.join("bin/kubernetes-validate"))
}
