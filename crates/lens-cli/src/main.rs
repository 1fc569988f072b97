//! The binary `lens`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lens::sandbox::install();
    lens_cli::main()
}
