//! `cargo xtask image`: the container image from scratch, as an OCI archive. No base image, no daemon, no network.
//!
//! The image holds the two static binaries and nothing else: no shell to break into, nothing to patch.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Group;
use crate::{build, dist, setup, sh};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Build nothing; take static `apiward` and `apiward-collector` from this directory.
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure_packages(&[Group::Image])?;
    let built = match &args.binaries {
        Some(folder) => build::Built::in_folder(folder),
        None => dist::static_binaries()?,
    };
    let archive = sh::target_dir().join("image").join(archive_name());
    make(&built, &archive)?;
    sh::say(&format!("image: {}", archive.display()));
    Ok(())
}

/// The archive's file name.
pub fn archive_name() -> String {
    format!("apiward-{}-image.tar", env!("CARGO_PKG_VERSION"))
}

/// Writes the image into `archive`.
pub fn make(built: &build::Built, archive: &Path) -> Result<()> {
    for binary in [&built.agent, &built.collector] {
        dist::check_static(binary)?;
    }
    sh::step("writing the container image", || {
        let work = Buildah::new()?;
        let container = work.read(&["from", "--name", "apiward-image", "scratch"])?;
        let container = container.trim();
        let result = work.fill(container, built, archive);
        // Also after an error: a working container holds its storage.
        let removed = work.read(&["rm", container]);
        result.and(removed.map(drop))
    })
}

/// buildah with a storage of its own: the machine's images are none of our business.
struct Buildah {
    program: PathBuf,
    storage: PathBuf,
}

impl Buildah {
    fn new() -> Result<Buildah> {
        let storage = sh::target_dir().join("image/storage");
        if storage.exists() {
            std::fs::remove_dir_all(&storage).with_context(|| format!("{} is in use", storage.display()))?;
        }
        std::fs::create_dir_all(&storage)?;
        let program = sh::which("buildah").context("buildah is missing: `cargo xtask setup --image`")?;
        Ok(Buildah { program, storage })
    }

    fn fill(&self, container: &str, built: &build::Built, archive: &Path) -> Result<()> {
        for binary in [&built.agent, &built.collector] {
            let path = binary.to_str().context("the path of the binaries is not UTF-8")?;
            self.read(&[
                "copy",
                "--chmod",
                "0755",
                "--chown",
                "0:0",
                container,
                path,
                "/usr/bin/",
            ])?;
        }
        self.read(&[
            "config",
            "--entrypoint",
            "[\"/usr/bin/apiward\"]",
            "--cmd",
            "run",
            "--env",
            "PATH=/usr/bin",
            "--label",
            "org.opencontainers.image.title=Apiward",
            "--label",
            "org.opencontainers.image.licenses=Apache-2.0",
            "--label",
            &format!("org.opencontainers.image.version={}", env!("CARGO_PKG_VERSION")),
            container,
        ])?;
        let name = format!("apiward:{}", env!("CARGO_PKG_VERSION"));
        // A fixed time: the same binaries make the same image.
        self.read(&["commit", "--quiet", "--timestamp", "0", container, &name])?;
        let _ = std::fs::remove_file(archive);
        self.read(&[
            "push",
            "--quiet",
            &name,
            &format!("oci-archive:{}:{name}", archive.display()),
        ])?;
        if !archive.exists() {
            bail!("buildah ended well and wrote no {}", archive.display());
        }
        Ok(())
    }

    fn read(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        // `vfs` needs no overlay mounts and `chroot` no namespaces: both are refused on some build machines.
        command
            .env("BUILDAH_ISOLATION", "chroot")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.storage.join("root"))
            .arg("--runroot")
            .arg(self.storage.join("run"))
            .args(args);
        sh::read(&mut command).context("buildah cannot make the image here")
    }
}
