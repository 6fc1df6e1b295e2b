//! Puts the kernel programs where `kernel` includes them: `OUT_DIR/apiward.o`.
//!
//! `cargo xtask build` makes the object before the agent. A plain `cargo build` or `cargo test` of the pure stages
//! needs no BPF toolchain: without an object an empty one is embedded, and `apiward run` says so.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Names the object where it is not at the default place.
const OBJECT_VARIABLE: &str = "APIWARD_BPF_OBJECT";

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-env-changed={OBJECT_VARIABLE}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("apiward.o");
    let object = match env::var_os(OBJECT_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => {
            // Relative, as scripts run in the package's folder: worktrees may share a target directory.
            let folder = Path::new("../target/bpf");
            // Watching a file that does not exist would run this script at every build; a folder can be watched
            // before the file is in it. Where it cannot be made, the script runs again, and that is all.
            let _ = fs::create_dir_all(folder);
            println!("cargo:rerun-if-changed={}", folder.display());
            folder.join("apiward.o")
        }
    };
    match fs::read(&object) {
        Ok(bytes) => {
            println!("cargo:rerun-if-changed={}", object.display());
            fs::write(out, bytes)
        }
        Err(_) => fs::write(out, []),
    }
}
