//! `lens pull`: get a model into the cache.

use crate::args::PullArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{named_models, pull};

/// Runs the command.
pub fn run(args: &PullArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let Some(name) = &args.model else {
        return list(settings);
    };
    let pulled = pull(name, &settings.runtime()?, reporter)?;
    match settings.json {
        true => output::json(&pulled),
        false => output::line(&pulled.path.display().to_string()),
    }
}

fn list(settings: &Settings) -> Result<(), CliError> {
    for model in named_models() {
        let megabytes = model.bytes / 1_000_000;
        match settings.json {
            true => output::json(&model)?,
            false => output::line(&format!(
                "{}  {} ({megabytes} MB; {})",
                model.name, model.about, model.licence
            ))?,
        }
    }
    Ok(())
}
