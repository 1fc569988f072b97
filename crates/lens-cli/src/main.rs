//! The binary `lens`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lens_cli::main()
}
