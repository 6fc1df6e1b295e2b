//! The only build tool anyone has to know.
mod codegen;

fn main() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf();
    codegen::generate(&root, &root.join("proto/src"))
}
