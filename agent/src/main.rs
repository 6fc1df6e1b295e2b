//! The binary `apiward`: parses the command line and hands over to `cli`, one file a command.

use std::process::ExitCode;

/// Calls are made of small pieces that live for milliseconds, some of which end on another thread; the C library's
/// allocator took a quarter of the time that judging a call takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    apiward::cli::main()
}
