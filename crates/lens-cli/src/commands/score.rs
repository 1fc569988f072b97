//! `lens score`: rewards for rows of text, one line a row, in their order.

use crate::args::ScoreArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::score::RowRewards;
use lens::{ScoreOptions, score};

/// Runs the command.
pub fn run(args: &ScoreArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let options = ScoreOptions {
        encoder: settings.encoder_of_bundle(args.model.as_deref())?,
        key: args.key.clone(),
        normalise: settings.normalise,
        reading: settings.reading()?,
        ..ScoreOptions::new(&args.bundle, &args.file)
    };
    for row in score(&options, reporter)?.rows {
        match settings.json {
            true => output::json(&row)?,
            false => output::line(&format!("{}\t{}", row.line, in_words(&row.rewards)))?,
        }
    }
    Ok(())
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
