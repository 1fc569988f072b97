//! `lens embed`: texts or pairs to embeddings, stored as safetensors.

use crate::args::EmbedArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{EmbedOptions, EmbedWith, embed};
use lens_report::text::thousands;

/// Runs the command.
pub fn run(args: &EmbedArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let encoder = match &args.like {
        None => EmbedWith::Model(settings.model()?),
        Some(path) => EmbedWith::Bundle {
            path: path.clone(),
            encoder: settings.encoder_of_bundle(args.encoder.text.model.as_deref())?,
        },
    };
    let options = EmbedOptions {
        encoder,
        dtype: settings.dtype,
        reading: settings.reading()?,
        ..EmbedOptions::new(&args.file, &args.output)
    };
    let result = embed(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    let mut rows = format!("{} read, {} malformed", result.read, result.malformed);
    if result.refused > 0 {
        rows += &format!(", {} refused by the template", result.refused);
    }
    let tensor = |(name, [n, d]): &(String, [usize; 2])| format!("{name} [{n}, {d}]");
    let tensors: Vec<String> = result.tensors.iter().map(tensor).collect();
    output::line(&output::aligned(&[
        ("rows".into(), rows),
        ("tensors".into(), tensors.join(", ")),
        (
            "tokens".into(),
            format!(
                "{}, {} of them computed, in {:.1} s",
                thousands(result.tokens),
                thousands(result.computed),
                result.seconds
            ),
        ),
        ("file".into(), result.output.display().to_string()),
    ]))
}
