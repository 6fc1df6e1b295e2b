//! `cargo xtask setup`: what a command needs on this machine, looked up first and installed only if it is missing.
//!
//! A need is a file or a program, not a package, so that the look-up takes milliseconds and works on any
//! distribution; Debian's package name is only how it is installed there. A machine that cannot be set up (not
//! Debian-like, not root, no network) is told exactly what to install.

use std::path::{Path, PathBuf};
use std::process::Command;
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
    ensure_packages(groups)?;
    ebpf::ensure()
}

/// Sets up what these groups need, without the toolchain for the kernel programs.
pub fn ensure_packages(groups: &[Group]) -> Result<()> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| groups.contains(&need.group) && !need.is_met())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        sh::say(&format!("missing: {} ({})", need.package, need.why));
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    install(&packages)?;
    for need in missing {
        if !need.is_met() {
            bail!(
                "{} was installed, and what it should bring is still not there: {:?}",
                need.package,
                need.probe
            );
        }
    }
    Ok(())
}

/// Installs Debian packages, or says what to install.
pub fn install(packages: &[&str]) -> Result<()> {
    let line = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if sh::which("apt-get").is_none() {
        bail!(
            "this machine has no apt-get, so it cannot be set up by itself. Install what corresponds to these \
             Debian packages, then try again: {}",
            packages.join(" ")
        );
    }
    if !sh::is_root() {
        bail!(
            "packages are missing, and only root can install them. Run this, then try again:\n    sudo {line}"
        );
    }
    sh::step(
        &format!("installing {} (seconds to a few minutes)", packages.join(" ")),
        || {
            let _no_services = NoServices::new();
            if !lists_are_current() || !packages.iter().all(|package| is_known(package)) {
                update()?;
            }
            if apt(&["install", "-y", "-qq", "--no-install-recommends"], packages).is_ok() {
                return Ok(());
            }
            // An archive changes under lists that are hours old, too.
            update()?;
            apt(&["install", "-y", "-qq", "--no-install-recommends"], packages).map_err(|error| {
                error.context(format!(
                    "the packages could not be installed. Is there a network? By hand: {line}"
                ))
            })
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
/// nginx binary. An existing policy of the machine is left alone.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn new() -> NoServices {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(SERVICE_POLICY);
        match file.and_then(|mut file| {
            file.write_all(b"#!/bin/sh\n# Put here by a build tool for seconds.\nexit 101\n")
        }) {
            Ok(()) => NoServices(Some(SERVICE_POLICY.into())),
            Err(_) => NoServices(None),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}
