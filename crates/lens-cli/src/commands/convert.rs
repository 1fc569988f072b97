//! `lens convert`: preference pairs of any shape as TRL has them.

use crate::args::ConvertArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{ConvertOptions, convert};

pub fn run(args: &ConvertArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let options = ConvertOptions {
        reading: settings.reading()?,
        all: args.all,
        overwrite: args.overwrite,
        runtime: settings.runtime()?,
        ..ConvertOptions::new(args.pairs.clone(), &args.output)
    };
    let result = convert(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    output::line(&output::aligned(&[
        ("pairs".into(), format!("{} read, {} written", result.pairs.read, result.written)),
        ("left out".into(), result.pairs.summary()),
        ("file".into(), result.output.display().to_string()),
    ]))
}
