//! `cargo xtask setup`: what a command needs on this machine, looked up first and installed only if it is missing.
//!
//! A need is a file or a program, not a package, so that the look-up takes milliseconds and works on any
//! distribution; Debian's package name is only how it is installed there. A machine that cannot be set up (not
//! Debian-like, not root, no network) is told exactly what to install.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

use crate::{ebpf, sh};

/// Where a service policy is put while packages are installed, see [`NoServices`].
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Package lists older than this are fetched again before something is installed.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(clap::Args, Default)]
pub struct Args {
    /// Also what `run --demo` and `test` need: nginx, curl, openssl, python3.
    #[arg(long)]
    pub demo: bool,
    /// Also what `vm` needs: QEMU, busybox.
    #[arg(long)]
    pub vm: bool,
    /// Also what `bench` needs: nginx, wrk.
    #[arg(long)]
    pub bench: bool,
    /// Also what `image` and `dist` need: buildah, kubectl.
    #[arg(long)]
    pub image: bool,
}

/// A set of things that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Compiling for this machine and for the kernel. Always needed.
    Build,
    Demo,
    Vm,
    Bench,
    Image,
    /// Rendering the Kubernetes manifests.
    Manifests,
    /// Environments for tools from the Python package index.
    Python,
}

/// How the presence of a need is known.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// A program on the PATH.
    Program(&'static str),
    /// One of these files.
    AnyFile(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug)]
struct Need {
    group: Group,
    probe: Probe,
    /// Debian's package.
    package: &'static str,
    why: &'static str,
}

const NEEDS: &[Need] = &[
    program(Group::Build, "cc", "gcc", "compiles SQLite and links"),
    Need {
        group: Group::Build,
        probe: Probe::AnyFile(&["/usr/include/stdio.h"]),
        package: "libc6-dev",
        why: "C headers for SQLite",
    },
    program(Group::Demo, "nginx", "nginx", "the hospital's front door"),
    program(Group::Demo, "curl", "curl", "a client"),
    program(
        Group::Demo,
        "openssl",
        "openssl",
        "makes the demo's certificate; a TLS client",
    ),
    program(
        Group::Demo,
        "python3",
        "python3",
        "the hospital's application; a client",
    ),
    Need {
        group: Group::Demo,
        probe: Probe::AnyFile(&["/usr/lib/python3/dist-packages/grpc/__init__.py"]),
        package: "python3-grpcio",
        why: "both ends of gRPC for the tests",
    },
    Need {
        group: Group::Demo,
        probe: Probe::AnyFile(&["/usr/lib/python3/dist-packages/websockets/__init__.py"]),
        package: "python3-websockets",
        why: "both ends of a WebSocket for the tests",
    },
    Need {
        group: Group::Demo,
        probe: Probe::AnyFile(&["/usr/lib/python3/dist-packages/h2/__init__.py"]),
        package: "python3-h2",
        why: "a client of HTTP/2 for the tests",
    },
    program(Group::Demo, "ip", "iproute2", "network namespaces for the tests"),
    program(
        Group::Vm,
        "qemu-system-x86_64",
        "qemu-system-x86",
        "boots other kernels",
    ),
    program(
        Group::Vm,
        "busybox",
        "busybox-static",
        "the first process of the test machine",
    ),
    program(Group::Vm, "dpkg-deb", "dpkg", "unpacks kernels"),
    program(Group::Vm, "depmod", "kmod", "finds the modules a module needs"),
    program(Group::Vm, "xz", "xz-utils", "unpacks modules"),
    program(Group::Vm, "cpio", "cpio", "packs the test machine's files"),
    program(
        Group::Vm,
        "ldd",
        "libc-bin",
        "finds the libraries a program needs",
    ),
    program(Group::Bench, "nginx", "nginx", "the server that is measured"),
    program(Group::Bench, "wrk", "wrk", "makes load"),
    program(
        Group::Bench,
        "haproxy",
        "haproxy",
        "the yardstick of what enforcing costs",
    ),
    program(
        Group::Bench,
        "openssl",
        "openssl",
        "makes the server's certificate",
    ),
    program(Group::Image, "buildah", "buildah", "writes the container image"),
    program(
        Group::Manifests,
        "kubectl",
        "kubernetes-client",
        "renders the manifests",
    ),
    program(
        Group::Python,
        "python3",
        "python3",
        "runs tools that validate and receive",
    ),
    Need {
        group: Group::Python,
        probe: Probe::AnyFile(&[
            "/usr/lib/python3.11/ensurepip",
            "/usr/lib/python3.12/ensurepip",
            "/usr/lib/python3.13/ensurepip",
            "/usr/lib/python3.14/ensurepip",
        ]),
        package: "python3-venv",
        why: "environments for those tools",
    },
];

const fn program(group: Group, name: &'static str, package: &'static str, why: &'static str) -> Need {
    Need {
        group,
        probe: Probe::Program(name),
        package,
        why,
    }
}

impl Need {
    fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(name) => sh::which(name).is_some(),
            Probe::AnyFile(files) => files.iter().any(|file| Path::new(file).exists()),
        }
    }
}

/// The command: sets up, and says so also when nothing was missing.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let mut groups = vec![Group::Build];
    for (wanted, group) in [
        (args.demo, Group::Demo),
        (args.vm, Group::Vm),
        (args.bench, Group::Bench),
        (args.image, Group::Image),
        (args.image, Group::Manifests),
        (args.image, Group::Python),
    ] {
        if wanted {
            groups.push(group);
        }
    }
    let toolchain = ensure(&groups)?;
    sh::say(&format!(
        "set up: {}, linker {} ({})",
        toolchain.describe(),
        toolchain.linker.display(),
        sh::seconds(start.elapsed())
    ));
    Ok(())
}

/// Sets up what these groups need, and returns the toolchain for the kernel programs. Silent if all is there.
pub fn ensure(groups: &[Group]) -> Result<ebpf::Toolchain> {
    let all = || missing(groups).into_iter().chain(ebpf::missing()).collect();
    ensure_needs(groups).map_err(|error| by_hand(error, all()))?;
    ebpf::ensure().map_err(|error| by_hand(error, all()))
}

/// Sets up what these groups need, without the toolchain for the kernel programs.
pub fn ensure_packages(groups: &[Group]) -> Result<()> {
    ensure_needs(groups).map_err(|error| by_hand(error, missing(groups)))
}

fn ensure_needs(groups: &[Group]) -> Result<()> {
    let missing = missing(groups);
    for one in &missing {
        sh::say(&format!("missing: {} ({})", one.packages.join(" "), one.why));
    }
    install(&packages(&missing))?;
    match unmet(groups).first() {
        None => Ok(()),
        Some(need) => bail!(
            "{} was installed, and what it should bring is still not there: {:?}",
            need.package,
            need.probe
        ),
    }
}

/// Something that is not on this machine.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Debian's packages that bring it; none if it comes another way.
    pub packages: Vec<String>,
    pub why: String,
    /// How else to get it.
    pub instead: Option<String>,
}

fn unmet(groups: &[Group]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| groups.contains(&need.group) && !need.is_met())
        .collect()
}

fn missing(groups: &[Group]) -> Vec<Missing> {
    let one = |need: &Need| Missing {
        packages: vec![need.package.to_owned()],
        why: need.why.to_owned(),
        instead: None,
    };
    unmet(groups).into_iter().map(one).collect()
}

fn packages(missing: &[Missing]) -> Vec<&str> {
    let mut packages: Vec<&str> = Vec::new();
    for package in missing.iter().flat_map(|one| &one.packages) {
        if !packages.contains(&package.as_str()) {
            packages.push(package);
        }
    }
    packages
}

/// Puts everything that is still missing behind an error, at once: who has to install things by hand wants to do it
/// one time.
fn by_hand(error: anyhow::Error, missing: Vec<Missing>) -> anyhow::Error {
    if missing.is_empty() {
        return error;
    }
    let mut text = format!("{error:#}\n\nThis is missing here:\n");
    for one in &missing {
        let name = match one.packages.as_slice() {
            [package] => format!("{package}: "),
            _ => String::new(),
        };
        text.push_str(&format!("    {name}{}\n", one.why));
        if let Some(instead) = &one.instead {
            text.push_str(&format!("        {instead}\n"));
        }
    }
    let packages = packages(&missing);
    if !packages.is_empty() {
        text.push_str(&format!(
            "On Debian: {}\nElsewhere: what corresponds to these packages.\n",
            install_line(&packages)
        ));
    }
    text.push_str("Then try again.");
    anyhow::anyhow!(text)
}

fn install_line(packages: &[&str]) -> String {
    format!(
        "{}apt-get install --no-install-recommends {}",
        if sh::is_root() { "" } else { "sudo " },
        packages.join(" ")
    )
}

/// Installs Debian packages.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if sh::which("apt-get").is_none() {
        bail!("this machine has no apt-get, so it cannot be set up by itself");
    }
    if !sh::is_root() {
        bail!("packages are missing, and only root can install them");
    }
    sh::step(
        &format!("installing {} (seconds to a few minutes)", packages.join(" ")),
        || {
            let _no_services = NoServices::new()?;
            let fetch = || -> Result<()> {
                if !lists_are_current() || !packages.iter().all(|package| is_known(package)) {
                    update()?;
                }
                let install = ["install", "-y", "-qq", "--no-install-recommends"];
                if apt(&install, packages).is_ok() {
                    return Ok(());
                }
                // An archive changes under lists that are hours old, too.
                update()?;
                apt(&install, packages)
            };
            fetch().map_err(|error| error.context("packages could not be installed (is there a network?)"))
        },
    )
}

/// Whether the package lists are of today, and of the sources as they are now. Older ones name versions that are
/// too old, or gone from the archive.
fn lists_are_current() -> bool {
    let modified = |path: &str| {
        Path::new(path)
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    // The files in it carry the server's times; the folder's is when they were fetched.
    let Some(fetched) = modified("/var/lib/apt/lists/partial").max(modified("/var/lib/apt/lists")) else {
        return false;
    };
    let sources = modified("/etc/apt/sources.list").max(modified("/etc/apt/sources.list.d"));
    let young = SystemTime::now()
        .duration_since(fetched)
        .is_ok_and(|age| age < LISTS_AGE_MAX);
    young && sources.is_none_or(|sources| sources < fetched)
}

fn is_known(package: &str) -> bool {
    sh::read(Command::new("apt-cache").args(["show", "--no-all-versions", package])).is_ok()
}

fn update() -> Result<()> {
    sh::say("refreshing the package lists");
    apt(&["update", "-qq"], &[])
}

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(verb)
        .args(packages)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    sh::run(&mut command)
}

/// While it lives, Debian's packages start no services: a build tool must not open port 80 because it wanted the
/// nginx binary. An existing policy of the machine is left alone. Signals wait until it is gone.
struct NoServices {
    is_ours: bool,
    ended: Arc<AtomicBool>,
    handlers: Vec<signal_hook::SigId>,
}

/// What the policy says.
const NO_SERVICES: &[u8] = b"#!/bin/sh\n# Put here by a build tool for seconds.\nexit 101\n";

impl NoServices {
    fn new() -> Result<NoServices> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let ended = Arc::new(AtomicBool::new(false));
        let mut handlers = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            handlers.push(signal_hook::flag::register(signal, Arc::clone(&ended))?);
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(SERVICE_POLICY);
        let is_ours = match file {
            Ok(mut file) => file.write_all(NO_SERVICES).is_ok(),
            // Left by a run that was killed.
            Err(_) => std::fs::read(SERVICE_POLICY).is_ok_and(|text| text == NO_SERVICES),
        };
        Ok(NoServices {
            is_ours,
            ended,
            handlers,
        })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(SERVICE_POLICY);
        }
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
        if self.ended.load(Ordering::Relaxed) {
            std::process::exit(130);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let missing = |packages: &[&str], why: &str, instead: Option<&str>| Missing {
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
            why: why.to_owned(),
            instead: instead.map(str::to_owned),
        };
        let text = by_hand(
            anyhow::anyhow!("no apt-get here"),
            vec![
                missing(&["gcc"], "compiles", None),
                missing(&[], "links for the kernel", Some("cargo install bpf-linker")),
                missing(&["gcc", "nginx"], "serves", None),
            ],
        )
        .to_string();
        assert!(
            text.starts_with("no apt-get here\n\nThis is missing here:\n    gcc: compiles\n"),
            "{text}"
        );
        assert!(text.contains("        cargo install bpf-linker\n"), "{text}");
        assert!(text.contains("--no-install-recommends gcc nginx\n"), "{text}");
    }
}
