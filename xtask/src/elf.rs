//! What the kernel programs cost, as far as the object file tells: instructions per program.
//!
//! The verifier's own count (instructions it walked) needs a kernel; `apiward doctor` and `cargo xtask vm` show it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// Bytes of one instruction (a 64-bit immediate load counts as two).
const INSTRUCTION_BYTES: u64 = 8;

/// A function in the object: a program if its section says where it attaches, else a subprogram.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Empty for subprograms, which the loader copies behind every program that calls them.
    pub section: String,
    pub name: String,
    pub instructions: u64,
}

/// Reads the functions of an object, sorted by section and name.
pub fn functions(object: &[u8]) -> Result<Vec<Function>> {
    let file = object::File::parse(object).context("the kernel programs are not an ELF object")?;
    let mut functions = Vec::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
    {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?;
        if section.kind() != SectionKind::Text {
            continue;
        }
        let section = section.name()?;
        functions.push(Function {
            section: if section == ".text" {
                String::new()
            } else {
                section.to_owned()
            },
            name: symbol.name()?.to_owned(),
            instructions: symbol.size() / INSTRUCTION_BYTES,
        });
    }
    functions.sort();
    Ok(functions)
}

/// Prints the table that the build ends with.
pub fn print_table(object: &Path) -> Result<()> {
    let bytes = std::fs::read(object)?;
    let functions = functions(&bytes)?;
    let mut subprograms = BTreeMap::new();
    println!("{:<36} {:<28} {:>12}", "program", "attaches to", "instructions");
    for function in &functions {
        if function.section.is_empty() {
            *subprograms.entry("").or_insert(0) += function.instructions;
        } else {
            println!(
                "{:<36} {:<28} {:>12}",
                function.name, function.section, function.instructions
            );
        }
    }
    if let Some(total) = subprograms.get("") {
        println!("{:<36} {:<28} {:>12}", "(shared subprograms)", "", total);
    }
    println!(
        "object: {} KiB with type and debug information",
        bytes.len().div_ceil(1024)
    );
    Ok(())
}
