//! `cargo xtask codegen`: the .proto files → the committed `proto/src/apiward.v1.rs`. Tests fail where it drifted.
//!
//! Committed, so that building the product needs neither a protobuf compiler nor a build script, and so that a
//! change of the contract shows in review.

use std::path::Path;

use anyhow::{Context, Result, bail};
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

use crate::sh;

/// The files of the contract, relative to `proto/`.
const PROTO_FILES: [&str; 3] = [
    "apiward/v1/events.proto",
    "apiward/v1/collector.proto",
    "apiward/v1/control.proto",
];

/// The committed file, relative to the root.
const GENERATED: &str = "proto/src/apiward.v1.rs";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Change nothing; fail if the committed code is not what the .proto files say.
    #[arg(long)]
    pub check: bool,
}

/// The command.
pub fn run(args: &Args) -> Result<()> {
    let scratch = sh::target_dir().join("codegen");
    std::fs::create_dir_all(&scratch).with_context(|| format!("{} cannot be created", scratch.display()))?;
    generate(sh::root(), &scratch)?;
    let new = std::fs::read(scratch.join("apiward.v1.rs")).context("no code was generated")?;
    let committed = sh::root().join(GENERATED);
    if args.check {
        if std::fs::read(&committed).ok().as_deref() != Some(new.as_slice()) {
            bail!(
                "{GENERATED} is not what the .proto files say. Run `cargo xtask codegen` and commit the result"
            );
        }
    } else if sh::write_if_changed(&committed, &new)? {
        sh::say(&format!("{GENERATED} written"));
    } else {
        sh::say(&format!("{GENERATED} is up to date"));
    }
    Ok(())
}

/// Makes a field of messages one of bytes, which is the same on the wire: nobody who only hands events on has to take
/// them apart, and what a newer agent says in them stays whole.
fn leave_as_bytes(descriptors: &mut FileDescriptorSet, message: &str, field: &str) -> Result<()> {
    let found = descriptors
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .filter(|one| one.name() == message)
        .flat_map(|one| &mut one.field)
        .find(|one| one.name() == field)
        .with_context(|| format!("there is no {message}.{field}"))?;
    found.set_type(Type::Bytes);
    found.type_name = None;
    Ok(())
}

/// Writes the generated code into `out_dir`.
pub fn generate(root: &Path, out_dir: &Path) -> Result<()> {
    let mut descriptors =
        protox::compile(PROTO_FILES, [root.join("proto")]).context("the .proto files do not compile")?;
    leave_as_bytes(&mut descriptors, "Batch", "events")?;
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .btree_map(".")
        .bytes(".apiward.v1.Batch.events")
        .compile_fds(descriptors)
        .context("code could not be generated")
}
