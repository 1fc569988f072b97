//! `lens eval`: a saved reward model on held-out data.

mod show;

use crate::args::EvalArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{EvaluateOptions, StoredPairsOptions, evaluate};

/// Runs the command.
pub fn run(args: &EvalArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let StoredPairsOptions { keys, memory_mb, .. } = settings.stored(Vec::new())?;
    let options = EvaluateOptions {
        benchmark: args.benchmark,
        subsets: args.subset.clone(),
        n: args.n,
        worst: args.worst,
        outputs: args.outputs.clone(),
        report: args.report.clone(),
        overwrite: settings.overwrite,
        encoder: settings.encoder_of_bundle(args.model.as_deref())?,
        keys,
        memory_mb,
        reading: settings.reading()?,
        controls: args.controls,
        seed: settings.seed,
        ..EvaluateOptions::new(&args.bundle, args.data.clone())
    };
    for result in evaluate(&options, reporter)? {
        match settings.json {
            true => output::json(&result)?,
            false => show::print(&result)?,
        }
    }
    match &args.report {
        Some(file) if !settings.json => {
            output::line(&output::aligned(&[("report".to_owned(), file.display().to_string())]))
        }
        _ => Ok(()),
    }
}
