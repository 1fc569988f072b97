//! `lens export`: a reward model as a folder that other tools load.

use crate::args::ExportArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{ExportOptions, export};

pub fn run(args: &ExportArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let options = ExportOptions {
        overwrite: args.overwrite,
        dtype: args.dtype.parse()?,
        model: args.model.clone(),
        runtime: settings.runtime()?,
        ..ExportOptions::new(&args.reward_model, args.to.parse()?, &args.output)
    };
    let result = export(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    output::line(&output::aligned(&result.lines()))
}
