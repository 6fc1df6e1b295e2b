//! Debian's kernels: found in package lists and fetched with apt in a root of its own, so that the machine's own
//! sources, lists and packages stay as they are. Kernels are unpacked, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::sh;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists older than this are fetched again.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where Debian keeps a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    OldStableSecurity,
    StableBackports,
}

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub version: String,
    pub image: PathBuf,
    /// `…/lib/modules/VERSION`.
    pub modules: PathBuf,
    /// What `depmod -b` wants.
    pub root: PathBuf,
}

/// The package lists.
pub struct Archive {
    apt: PathBuf,
    kernels: PathBuf,
    names: Vec<String>,
}

impl Archive {
    /// Fetches the lists, unless they are fresh.
    pub fn open(folder: &Path) -> Result<Archive> {
        let apt = folder.join("apt");
        let kernels = folder.join("kernels");
        for below in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ] {
            std::fs::create_dir_all(apt.join(below))?;
        }
        std::fs::create_dir_all(&kernels)?;
        std::fs::write(apt.join("var/lib/dpkg/status"), "")?;
        let sources = sh::write_if_changed(&apt.join("etc/apt/sources.list"), sources()?.as_bytes())?;
        let mut archive = Archive {
            apt,
            kernels,
            names: Vec::new(),
        };
        let stamp = archive.apt.join("updated");
        let fresh = |stamp: &Path| {
            let modified = stamp.metadata().and_then(|metadata| metadata.modified()).ok();
            modified
                .and_then(|at| SystemTime::now().duration_since(at).ok())
                .is_some_and(|age| age < LISTS_AGE_MAX)
        };
        if sources || !fresh(&stamp) {
            sh::read(archive.command("apt-get").args(["update", "-qq"]))
                .context("the package lists cannot be fetched; is there a network?")?;
            std::fs::write(&stamp, "")?;
        }
        let names = sh::read(archive.command("apt-cache").arg("pkgnames"))?;
        archive.names = names.lines().map(str::to_owned).collect();
        Ok(archive)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-o")
            .arg(format!("Dir={}", self.apt.display()))
            .arg("-o")
            .arg(format!(
                "Dir::State::status={}",
                self.apt.join("var/lib/dpkg/status").display()
            ))
            .args(["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"]);
        command
    }

    /// The newest kernel of a series that can be fetched. The lists name a few that the archive has dropped.
    pub fn newest(&self, series: &str, suite: Suite) -> Result<Kernel> {
        let versions = versions(&self.names, series);
        let mut errors = Vec::new();
        for version in versions.iter().take(3) {
            match self.fetch(version) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => errors.push(format!("{version}: {error:#}")),
            }
        }
        match errors.len() {
            0 => bail!(
                "Debian has no kernel {series} any more ({suite:?}): take the series out of the matrix, or replace it"
            ),
            _ => bail!("no kernel {series} can be fetched: {}", errors.join("; ")),
        }
    }

    fn fetch(&self, version: &str) -> Result<Kernel> {
        let folder = self.kernels.join(version);
        let complete = folder.join("complete");
        if !complete.exists() {
            sh::step(&format!("fetching kernel {version}"), || {
                let _ = std::fs::remove_dir_all(&folder);
                std::fs::create_dir_all(&folder)?;
                // Since 7.0 image and modules are packages of their own, and `linux-image` only needs them.
                let packages: Vec<String> = ["linux-image", "linux-binary", "linux-modules"]
                    .iter()
                    .map(|kind| format!("{kind}-{version}"))
                    .filter(|name| self.names.contains(name))
                    .collect();
                sh::read(
                    self.command("apt-get")
                        .current_dir(&folder)
                        .arg("download")
                        .args(&packages),
                )?;
                for entry in std::fs::read_dir(&folder)? {
                    let path = entry?.path();
                    if path.extension().is_some_and(|ending| ending == "deb") {
                        sh::read(
                            Command::new("dpkg-deb")
                                .arg("-x")
                                .arg(&path)
                                .arg(folder.join("root")),
                        )?;
                        std::fs::remove_file(&path)?;
                    }
                }
                std::fs::write(&complete, "")?;
                Ok(())
            })?;
        }
        locate(version, &folder.join("root"))
    }
}

/// The image and the modules, wherever this release puts them.
fn locate(version: &str, root: &Path) -> Result<Kernel> {
    let image = [
        format!("boot/vmlinuz-{version}"),
        format!("usr/lib/modules/{version}/vmlinuz"),
    ]
    .iter()
    .map(|path| root.join(path))
    .find(|path| path.exists())
    .with_context(|| format!("the packages of kernel {version} hold no image"))?;
    // depmod looks below lib/, whatever the release says.
    let merged = root.join("usr/lib/modules");
    let modules = root.join("lib/modules");
    if merged.exists() && !modules.exists() {
        std::fs::create_dir_all(root.join("lib"))?;
        std::os::unix::fs::symlink("../usr/lib/modules", &modules)?;
    }
    Ok(Kernel {
        version: version.to_owned(),
        image,
        modules: modules.join(version),
        root: root.to_path_buf(),
    })
}

/// Versions of a series' cloud kernels, newest first.
fn versions(names: &[String], series: &str) -> Vec<String> {
    let mut versions: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|version| version.ends_with("-cloud-amd64"))
        .filter(|version| {
            version
                .strip_prefix(series)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .collect();
    versions.sort_by_key(|version| std::cmp::Reverse(numbers(version)));
    versions.into_iter().map(str::to_owned).collect()
}

/// Every number in a version, in order: enough to compare two of one series.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// The private sources: the machine's own mirror, other suites.
fn sources() -> Result<String> {
    let targets = sh::read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))
    .unwrap_or_default();
    let find = |ending: &str| {
        let uri = targets
            .lines()
            .find(|uri| uri.trim_end_matches('/').ends_with(ending));
        uri.map(|uri| uri.trim_end_matches('/').to_owned())
    };
    let main =
        find("/debian").context("apt knows no Debian mirror on this machine, where the kernels come from")?;
    let security = find("/debian-security").unwrap_or_else(|| format!("{main}-security"));
    if !Path::new(KEYRING).exists() {
        bail!("{KEYRING} is missing: install debian-archive-keyring");
    }
    Ok(format!(
        "deb [signed-by={KEYRING}] {main} bookworm main\n\
         deb [signed-by={KEYRING}] {security} bookworm-security main\n\
         deb [signed-by={KEYRING}] {main} trixie-backports main\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::versions;

    #[test]
    fn the_newest_of_a_series_comes_first() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64-unsigned",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            versions(&names, "6.1"),
            ["6.1.0-56-cloud-amd64", "6.1.0-9-cloud-amd64"]
        );
        assert_eq!(
            versions(&names, "6.12").first().map(String::as_str),
            Some("6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(versions(&names, "7"), ["7.3.4+deb13-cloud-amd64"]);
        assert!(versions(&names, "5").is_empty());
    }
}
