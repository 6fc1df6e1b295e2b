//! `cargo xtask dist`: everything that is shipped, in `dist/`: static binaries, the image, manifests, the policies'
//! JSON Schema, checksums. What it makes runs without toolchain and network.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};

use crate::setup::Group;
use crate::{build, ebpf, elf, image, manifests, setup, sh};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Leave out the container image.
    #[arg(long)]
    pub no_image: bool,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    let mut groups = vec![Group::Manifests, Group::Python];
    if !args.no_image {
        groups.push(Group::Image);
    }
    setup::ensure_packages(&groups)?;
    let built = static_binaries()?;
    let dist = sh::root().join("dist");
    if dist.exists() {
        std::fs::remove_dir_all(&dist).with_context(|| format!("{} cannot be replaced", dist.display()))?;
    }
    std::fs::create_dir_all(&dist)?;

    let mut files = Vec::new();
    for binary in [&built.agent, &built.collector] {
        let name = binary
            .file_name()
            .and_then(|name| name.to_str())
            .context("a binary without a name")?;
        std::fs::copy(binary, dist.join(name))?;
        files.push(name.to_owned());
    }
    let schema = sh::read(Command::new(&built.agent).args(["policy", "schema"]))
        .context("the policies' JSON Schema could not be made")?;
    serde_json::from_str::<serde_json::Value>(&schema).context("`apiward policy schema` printed no JSON")?;
    std::fs::write(dist.join("apipolicy.schema.json"), schema)?;
    files.push("apipolicy.schema.json".to_owned());
    std::fs::copy(manifests::check()?, dist.join("kubernetes.yaml"))?;
    files.push("kubernetes.yaml".to_owned());
    if !args.no_image {
        image::make(&built, &dist.join(image::archive_name()))?;
        files.push(image::archive_name());
    }
    let sums = sh::read(Command::new("sha256sum").current_dir(&dist).args(&files))?;
    std::fs::write(dist.join("SHA256SUMS"), &sums)?;
    print!("{sums}");
    sh::say(&format!("shipped: {}", dist.display()));
    Ok(())
}

/// Builds both binaries for a machine that has nothing.
pub fn static_binaries() -> Result<build::Built> {
    let toolchain = setup::ensure(&[Group::Build])?;
    let object = sh::step("building the kernel programs", || ebpf::build(&toolchain))?;
    let target = host_target()?;
    sh::step("building static binaries (minutes the first time)", || {
        let sysroot = sh::read(
            Command::new("rustc")
                .current_dir(sh::root())
                .args(["--print", "sysroot"]),
        )?;
        let mut flags = sh::remap_flags(Some(Path::new(sysroot.trim())));
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        let mut command = sh::cargo();
        build::name_object(&mut command);
        // With `--target`, the flags stay away from build scripts, which cannot be static.
        command
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
            .arg("build")
            .args(sh::cargo_progress())
            .args(["--release", "--locked", "--target", &target])
            .args(["-p", "apiward", "-p", "apiward-collector"]);
        sh::run(&mut command)
    })?;
    elf::print_table(&object)?;
    let built = build::Built::in_folder(&sh::target_dir().join(&target).join("release"));
    for binary in [&built.agent, &built.collector] {
        check_static(binary)?;
        check_alone(binary)?;
    }
    Ok(built)
}

fn host_target() -> Result<String> {
    let about = sh::read(Command::new("rustc").current_dir(sh::root()).arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say for which machine it compiles")
}

/// Fails if a binary asks for a loader of shared libraries.
pub fn check_static(binary: &Path) -> Result<()> {
    let bytes = std::fs::read(binary).with_context(|| format!("{} cannot be read", binary.display()))?;
    let file = ElfFile64::<object::Endianness>::parse(&*bytes)
        .with_context(|| format!("{} is no program", binary.display()))?;
    let endian = object::Endianness::default();
    if file
        .elf_program_headers()
        .iter()
        .any(|header| header.p_type(endian) == object::elf::PT_INTERP)
    {
        bail!(
            "{} needs shared libraries, and the image has none",
            binary.display()
        );
    }
    Ok(())
}

/// Runs a binary where there is nothing but itself: no file, no network.
fn check_alone(binary: &Path) -> Result<()> {
    if !sh::is_root() {
        return sh::read(Command::new(binary).arg("--version")).map(drop);
    }
    let folder = sh::target_dir().join("alone");
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(binary, folder.join("program"))?;
    let result = sh::read(
        Command::new("unshare")
            .args(["--net", "chroot"])
            .arg(&folder)
            .args(["/program", "--version"]),
    );
    std::fs::remove_dir_all(&folder)?;
    result
        .map(drop)
        .with_context(|| format!("{} does not run in an empty file system", binary.display()))
}
