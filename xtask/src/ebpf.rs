//! The kernel programs: which compiler builds them, and the build itself.
//!
//! eBPF in Rust needs `core` from source, so a compiler with its matching library source, and a `bpf-linker` with
//! the same LLVM. A rustup toolchain that has `rust-src` is preferred; else Debian's matched pair beside rustup.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::setup::Missing;
use crate::{setup, sh};

const TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler, cargo and library source of the same version.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// The oldest rustc whose `core` aya-ebpf is known to build with; older ones at the same path do not count.
const RUSTC_MINOR_MIN: u32 = 89;
const LINKER_VERSION: &str = "0.13.0";
/// How long rustup's server may take: where it cannot be reached, the next way is tried.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A compiler that can build `core` for the kernel, and a linker.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    /// e.g. `1.96.0`.
    version: String,
    llvm_major: u32,
}

impl Toolchain {
    /// For people.
    pub fn describe(&self) -> String {
        let Compiler {
            rustc,
            version,
            llvm_major,
            ..
        } = &self.compiler;
        format!("rustc {version} at {} with LLVM {llvm_major}", rustc.display())
    }
}

/// Finds the toolchain; installs what is missing of it.
pub fn ensure() -> Result<Toolchain> {
    let compiler = match find_compiler() {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    let linker = match find_linker() {
        Some(linker) => linker,
        None => install_linker(&compiler)?,
    };
    Ok(Toolchain { compiler, linker })
}

/// What is missing of it, for somebody who installs it by hand.
pub fn missing() -> Vec<Missing> {
    let compiler = find_compiler();
    let mut missing = Vec::new();
    if compiler.is_none() {
        missing.push(Missing {
            packages: DEBIAN_PACKAGES.map(str::to_owned).to_vec(),
            why: format!(
                "a compiler (rustc >= 1.{RUSTC_MINOR_MIN}) with the source of Rust's core library, which kernel programs \
                 need built for their target"
            ),
            instead: Some("rustup component add rust-src (then no package is needed for it)".to_owned()),
        });
    }
    if find_linker().is_none() {
        let major = compiler.map(|compiler| compiler.llvm_major);
        missing.push(match major {
            Some(major) => Missing {
                packages: linker_packages(major),
                why: format!("bpf-linker, which links the kernel programs, built against LLVM {major}"),
                instead: Some(by_hand(&linker_command(major), major)),
            },
            None => Missing {
                packages: Vec::new(),
                why: "bpf-linker, which links the kernel programs".to_owned(),
                instead: Some(
                    "once the compiler is there, `cargo xtask setup` builds it, or says how".to_owned(),
                ),
            },
        });
    }
    missing
}

fn find_compiler() -> Option<Compiler> {
    rustup_compiler().or_else(debian_compiler)
}

/// The toolchain that cargo itself runs with, if it has the library's source.
fn rustup_compiler() -> Option<Compiler> {
    let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = sh::read(Command::new(&rustc).args(["--print", "sysroot"])).ok()?;
    let sysroot = Path::new(sysroot.trim());
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    compiler(cargo, sysroot.join("bin/rustc"), sysroot)
}

fn debian_compiler() -> Option<Compiler> {
    compiler(DEBIAN_CARGO.into(), DEBIAN_RUSTC.into(), Path::new("/usr"))
}

fn compiler(cargo: PathBuf, rustc: PathBuf, sysroot: &Path) -> Option<Compiler> {
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists()
        || !sh::exists(&cargo)
    {
        return None;
    }
    let about = sh::read(Command::new(&rustc).arg("-vV")).ok()?;
    let (version, minor, llvm_major) = parse_rustc_version(&about)?;
    (minor >= RUSTC_MINOR_MIN).then_some(Compiler {
        cargo,
        rustc,
        version,
        llvm_major,
    })
}

/// `rustc -vV` → release, its minor number, LLVM's major number.
fn parse_rustc_version(about: &str) -> Option<(String, u32, u32)> {
    let field = |name: &str| {
        about
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let release = field("release:")?;
    let minor = release.split('.').nth(1)?.parse().ok()?;
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((release.to_owned(), minor, llvm))
}

fn install_compiler() -> Result<Compiler> {
    sh::say("missing: the source of Rust's core library (kernel programs need it built for their target)");
    if let Some(rustup) = sh::which("rustup") {
        sh::say("asking rustup for rust-src (up to a minute)");
        if sh::succeeds_within(
            Command::new(rustup).args(["component", "add", "rust-src"]),
            RUSTUP_LIMIT,
        ) && let Some(compiler) = rustup_compiler()
        {
            return Ok(compiler);
        }
        sh::say("rustup could not; taking Debian's compiler with its matching source");
    }
    setup::install(&DEBIAN_PACKAGES).context("no compiler for the kernel programs")?;
    debian_compiler().with_context(|| {
        format!(
            "{DEBIAN_RUSTC} is older than 1.{RUSTC_MINOR_MIN}, and this distribution has no newer one. Install a \
             toolchain with rustup, then `rustup component add rust-src`"
        )
    })
}

/// On the PATH, or where `cargo install` puts programs (which need not be on the PATH).
fn find_linker() -> Option<PathBuf> {
    sh::which("bpf-linker")
        .or_else(|| Some(sh::cargo_home()?.join("bin/bpf-linker")).filter(|file| file.exists()))
}

/// Debian's packages that building the linker still needs.
fn linker_packages(llvm_major: u32) -> Vec<String> {
    let prefix = llvm_prefix(llvm_major);
    let wanted = [
        (
            format!("{prefix}/bin/llvm-config"),
            format!("llvm-{llvm_major}-dev"),
        ),
        (
            format!("{prefix}/lib/libPolly.a"),
            format!("libpolly-{llvm_major}-dev"),
        ),
        ("/usr/include/zstd.h".to_owned(), "libzstd-dev".to_owned()),
        ("/usr/include/zlib.h".to_owned(), "zlib1g-dev".to_owned()),
    ];
    let compiler = sh::which("c++").is_none().then(|| "g++".to_owned());
    let files = wanted.into_iter().filter(|(file, _)| !Path::new(file).exists());
    files.map(|(_, package)| package).chain(compiler).collect()
}

fn llvm_prefix(llvm_major: u32) -> String {
    format!("/usr/lib/llvm-{llvm_major}")
}

fn linker_command(llvm_major: u32) -> Command {
    let prefix = llvm_prefix(llvm_major);
    let mut command = sh::cargo();
    command
        .env("RUSTFLAGS", format!("-L {prefix}/lib"))
        .env("LLVM_PREFIX", prefix)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["install", "bpf-linker", "--quiet", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{llvm_major}"));
    command
}

/// The command as one would type it, with what it needs around it.
fn by_hand(command: &Command, llvm_major: u32) -> String {
    let prefix = llvm_prefix(llvm_major);
    let words: Vec<String> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    format!(
        "LLVM_PREFIX={prefix} RUSTFLAGS=\"-L {prefix}/lib\" cargo {}",
        words.join(" ")
    )
}

fn install_linker(compiler: &Compiler) -> Result<PathBuf> {
    let major = compiler.llvm_major;
    sh::say(&format!(
        "missing: bpf-linker (links the kernel programs; built against LLVM {major})"
    ));
    let packages = linker_packages(major);
    setup::install(&packages.iter().map(String::as_str).collect::<Vec<_>>())
        .with_context(|| format!("bpf-linker needs LLVM {major} with its headers to be built"))?;
    let mut command = linker_command(major);
    sh::step("building bpf-linker (one to three minutes, once)", || {
        sh::run(&mut command).context("bpf-linker could not be built")
    })?;
    match find_linker() {
        Some(linker) => Ok(linker),
        None => bail!("bpf-linker was built and is not found: add cargo's bin directory to the PATH"),
    }
}

/// Where the agent's build looks for the kernel programs if nobody says otherwise.
pub fn object_path() -> PathBuf {
    sh::target_dir().join("bpf/apiward.o")
}

/// Builds the kernel programs and puts the object at [`object_path`].
pub fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    let target_dir = sh::target_dir().join("ebpf");
    let source = sh::root().join("agent-ebpf");
    let compiler = &toolchain.compiler;
    let mut flags = vec![
        format!("-Clinker={}", toolchain.linker.display()),
        // Type information, which aya needs to load maps and to relocate callbacks.
        "-Clink-arg=--btf".to_owned(),
        // Small blocks are filled and copied by a few stores, instead of calls of loops over bytes.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // 32-bit arithmetic and atomics that return a value (Linux 5.12).
        "-Ctarget-cpu=v3".to_owned(),
    ];
    // The object is shipped inside the agent.
    flags.extend(sh::remap_flags(compiler.rustc.parent().and_then(Path::parent)));
    let mut command = Command::new(&compiler.cargo);
    command
        .current_dir(&source)
        .env("RUSTC", &compiler.rustc)
        // `-Z build-std` is the one unstable thing needed; this spares everybody a nightly toolchain.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", &target_dir)
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .args([
            "build",
            "--quiet",
            "-Zbuild-std=core",
            "--release",
            "--target",
            TARGET,
        ]);
    sh::run(&mut command).context("the kernel programs do not build; the compiler's messages are above")?;
    let built = target_dir.join(TARGET).join("release/apiward");
    let object = std::fs::read(&built).with_context(|| format!("{} was not built", built.display()))?;
    let path = object_path();
    sh::write_if_changed(&path, &object)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_rustc_prints() {
        let about = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                     release: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_rustc_version(about), Some(("1.96.0".to_owned(), 96, 22)));
        assert_eq!(
            parse_rustc_version("release: 1.95.0-nightly\nLLVM version: 22.1\n").map(|v| v.1),
            Some(95)
        );
        assert_eq!(parse_rustc_version("rustc 1.0"), None);
    }
}
