//! `cargo xtask codegen`: the .proto files → the committed `proto/src/apiward.v1.rs`. Tests fail where it drifted.

use std::path::Path;

use anyhow::{Context, Result};

/// The files of the contract, relative to `proto/`.
const PROTO_FILES: [&str; 3] = [
    "apiward/v1/events.proto",
    "apiward/v1/collector.proto",
    "apiward/v1/control.proto",
];

/// Writes the generated code into `out_dir`.
pub fn generate(root: &Path, out_dir: &Path) -> Result<()> {
    let descriptors =
        protox::compile(PROTO_FILES, [root.join("proto")]).context("the .proto files do not compile")?;
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .btree_map(".")
        .compile_fds(descriptors)
        .context("code could not be generated")
}
