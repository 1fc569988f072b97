//! `lens info`: what a file or folder is.

use crate::args::InfoArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::info;

/// Runs the command.
pub fn run(args: &InfoArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let found = info(&args.path, &settings.runtime()?, reporter)?;
    if settings.json {
        return output::json(&found);
    }
    let (path, kind) = (found.path.display(), found.kind);
    output::line(&format!("{path}: {kind}\n{}", output::aligned(&found.table)))
}
