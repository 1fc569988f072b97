//! `lens pull`: get a model into the cache.

use crate::args::PullArgs;
use crate::embedding::find_model;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_encoder::models;
use serde_json::json;

/// Runs the command.
pub fn run(args: &PullArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let Some(name) = &args.model else {
        for model in models::KNOWN {
            let megabytes = model.bytes / 1_000_000;
            if settings.json {
                output::json(&json!({"name": model.name, "file": model.file,
                    "bytes": model.bytes, "sha256": model.sha256, "about": model.about,
                    "licence": model.licence}))?;
            } else {
                output::line(&format!(
                    "{}  {} ({megabytes} MB; {})",
                    model.name, model.about, model.licence
                ))?;
            }
        }
        return Ok(());
    };
    let path = find_model(name, settings, reporter)?;
    if settings.json {
        output::json(&json!({"model": name, "path": path}))
    } else {
        output::line(&path.display().to_string())
    }
}
