//! The commands, one file each.

pub mod bench;
pub mod convert;
pub mod embed;
pub mod eval;
pub mod export;
pub mod generate;
pub mod info;
pub mod likelihood;
pub mod pull;
pub mod run;
pub mod score;
pub mod serve;
pub mod shell;
pub mod study;
pub mod synthesise;
pub mod train;

use crate::error::CliError;
use crate::settings::Settings;
use lens::BundleModelOptions;
use std::path::{Path, PathBuf};

/// The reward model of a folder and a `--model`, and its encoder: without a folder, the model is the reward
/// model, as the settings have it.
fn reward_model(
    bundle: Option<&Path>,
    model: Option<&str>,
    settings: &Settings,
) -> Result<(PathBuf, BundleModelOptions), CliError> {
    let (None, Some(name)) = (bundle, model) else {
        let bundle = bundle.map(Path::to_owned).unwrap_or_default();
        return Ok((bundle, settings.encoder_of_bundle(model)?));
    };
    let own = settings.encoder_of_earlier_model()?;
    let options = BundleModelOptions { model: Some(name.to_owned()), views: None, ..own };
    Ok((PathBuf::from(name), options))
}
