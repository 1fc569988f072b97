//! What tests outside of this crate need of it.

use crate::args::Cli;
use crate::settings::Settings;
use clap::Parser;
use std::path::Path;

/// The settings of `lens run` with a settings file and entries of `--set`, as `--show-settings` prints
/// them.
///
/// # Errors
/// What the program would say.
pub fn settings_of_run(file: &Path, set: &[&str]) -> Result<String, String> {
    let mut words = vec!["lens".into(), "run".into(), "pairs.jsonl".into()];
    words.push(format!("--config={}", file.display()));
    words.extend(set.iter().map(|entry| format!("--set={entry}")));
    let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
    let shown = Settings::resolve(&cli).and_then(|settings| settings.to_toml());
    shown.map_err(|e| e.to_string())
}
