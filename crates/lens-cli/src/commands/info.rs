//! `lens info`: what a file or folder is.

use crate::args::InfoArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::info;

pub fn run(args: &InfoArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let (reading, runtime) = (settings.reading()?, settings.runtime()?);
    let found = info(args.paths.clone(), &reading, &runtime, reporter)?;
    if settings.json {
        return output::json(&found);
    }
    let (path, kind) = (found.path.display(), found.kind);
    output::line(&format!("{path}: {kind}\n{}", output::aligned(&found.table)))
}
