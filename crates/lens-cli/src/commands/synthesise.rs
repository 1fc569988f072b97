//! `lens synthesise`: the synthetic responses that training draws and never decodes, as embeddings.

use crate::args::SynthesiseArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{SynthesiseOptions, synthesise};
use lens_core::MethodSettings;
use lens_data::Bundle;
use lens_report::text::thousands;

/// The settings of the method that the reward model was trained with.
pub fn base(args: &SynthesiseArgs) -> Result<MethodSettings, CliError> {
    Ok(Bundle::read(&args.bundle)?.manifest.method)
}

/// Runs the command.
pub fn run(
    args: &SynthesiseArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let options = SynthesiseOptions {
        settings: Some(settings.method()),
        codes: args.codes,
        overwrite: settings.overwrite,
        ..SynthesiseOptions::new(&args.bundle, settings.stored(args.arrays.clone())?, &args.output)
    };
    let result = synthesise(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    let [rows, width] = result.shape;
    let (responses, megabytes) = (result.responses() as u64, result.bytes as f64 / 1e6);
    output::line(&output::aligned(&[
        (
            "pairs".into(),
            format!("{}, {} synthetic responses a side", result.pairs, result.per_side),
        ),
        ("tensors".into(), format!("chosen [{rows}, {width}], rejected [{rows}, {width}]")),
        (
            "written".into(),
            format!(
                "{} synthetic responses, {megabytes:.1} MB, {:.1} s, {:.0} MB/s",
                thousands(responses),
                result.seconds,
                result.mb_per_s()
            ),
        ),
        ("file".into(), result.output.display().to_string()),
    ]))
}
