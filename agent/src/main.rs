//! The binary `apiward`: parses the command line and hands over to `cli`, one file a command.

use std::process::ExitCode;

fn main() -> ExitCode {
    apiward::cli::main()
}
