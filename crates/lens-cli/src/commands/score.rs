//! `lens score`: rewards for rows of text, one line a row, in their order; or in a file, beside them.

use super::reward_model;
use crate::args::ScoreArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::score::RowRewards;
use lens::{ScoreFileOptions, ScoreOptions, ScoredFile, score, score_to_file};

/// Runs the command.
pub fn run(args: &ScoreArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let (bundle, encoder) = reward_model(args.bundle.as_deref(), args.model.as_deref(), settings)?;
    let options = ScoreOptions {
        encoder,
        key: args.key.clone(),
        normalise: settings.normalise,
        reading: settings.reading()?,
        ..ScoreOptions::new(bundle, &args.file)
    };
    if let Some(file) = &args.output {
        let options = ScoreFileOptions {
            prefix: args.prefix.clone().unwrap_or_default(),
            overwrite: settings.overwrite,
            ..ScoreFileOptions::new(options, file)
        };
        let written = score_to_file(&options, reporter)?;
        return match settings.json {
            true => output::json(&written),
            false => output::line(&output::aligned(&summary(&written))),
        };
    }
    for row in score(&options, reporter)?.rows {
        match settings.json {
            true => output::json(&row)?,
            false => output::line(&format!("{}\t{}", row.line, in_words(&row.rewards)))?,
        }
    }
    Ok(())
}

fn summary(written: &ScoredFile) -> Vec<(String, String)> {
    let ScoredFile { rows, malformed, responses, out_of_distribution, columns, output } = written;
    let beyond = match out_of_distribution {
        Some(n) => format!("{responses}, {n} of them unlike the training responses"),
        None => responses.to_string(),
    };
    [
        ("rows", format!("{rows}, {malformed} of them malformed")),
        ("responses", beyond),
        ("added columns", columns.join(", ")),
        ("output", output.display().to_string()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .to_vec()
}

fn in_words(rewards: &RowRewards) -> String {
    match rewards {
        RowRewards::One { reward } => format!("{reward:.4}"),
        RowRewards::Several { rewards } => {
            rewards.iter().map(|r| format!("{r:.4}")).collect::<Vec<_>>().join("\t")
        }
        RowRewards::Pair { chosen, rejected } => {
            format!("chosen {chosen:.4}\trejected {rejected:.4}")
        }
        RowRewards::Error { error } => format!("error: {error}"),
    }
}
