//! `lens generate`: responses of a language model to prompts.

use crate::args::GenerateArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{GenerateOptions, generate};
use lens_report::text::thousands;

/// Runs the command.
pub fn run(args: &GenerateArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let options = GenerateOptions {
        model: settings.model()?,
        sampling: settings.generate.clone(),
        reading: settings.reading()?,
        ..GenerateOptions::new(&args.file, &args.output)
    };
    let result = generate(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    output::line(&output::aligned(&[
        ("rows".into(), format!("{} read, {} malformed", result.read, result.malformed)),
        (
            "responses".into(),
            format!(
                "{}, {} of them cut off at {} tokens",
                result.responses, result.cut_off, settings.generate.max_new_tokens
            ),
        ),
        (
            "tokens".into(),
            format!("{} in {:.1} s", thousands(result.tokens as u64), result.seconds),
        ),
        ("file".into(), result.output.display().to_string()),
    ]))
}
