//! `lens eval`: a saved reward model on held-out data.

mod show;

use super::reward_model;
use crate::args::EvalArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{EvaluateOptions, StoredPairsOptions, evaluate};
use lens_data::bundle::Bundle;

/// Runs the command.
pub fn run(args: &EvalArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let StoredPairsOptions { keys, memory_mb, .. } = settings.stored(Vec::new())?;
    // With a public reward model every argument is a file.
    let bundle = args.bundle.as_deref().filter(|b| args.model.is_none() || Bundle::is_at(b));
    let first = args.bundle.clone().filter(|_| bundle.is_none());
    let (bundle, encoder) = reward_model(bundle, args.model.as_deref(), settings)?;
    let options = EvaluateOptions {
        benchmark: args.benchmark,
        subsets: args.subset.clone(),
        gold: args.gold.clone(),
        n: args.n,
        worst: args.worst,
        outputs: args.outputs.clone(),
        report: args.report.clone(),
        overwrite: settings.overwrite,
        encoder,
        keys,
        memory_mb,
        reading: settings.reading()?,
        controls: args.controls,
        seed: settings.seed,
        ..EvaluateOptions::new(bundle, first.into_iter().chain(args.data.clone()).collect())
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
