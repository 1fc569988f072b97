//! `lens likelihood`: how likely responses are to a language model, one line a row, in their order.

use crate::args::LikelihoodArgs;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::likelihood::RowLikelihood;
use lens::{LikelihoodOptions, Progress, likelihood};
use lens_report::text::percent;

/// Runs the command.
pub fn run(
    args: &LikelihoodArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let options = LikelihoodOptions {
        output: args.output.clone(),
        model: settings.model()?,
        reading: settings.reading()?,
        ..LikelihoodOptions::new(&args.file)
    };
    let result = likelihood(&options, reporter)?;
    if args.output.is_none() {
        for row in &result.rows {
            match settings.json {
                true => output::json(row)?,
                false => output::line(&format!("{}\t{}", row.line, in_words(&row.answer)))?,
            }
        }
    }
    if let Some(found) = result.chosen_likelier {
        reporter.note(&format!(
            "chosen is likelier in {} of {} pairs; per token in {}",
            percent(found.by_sum),
            found.pairs,
            percent(found.by_token)
        ));
    }
    Ok(())
}

fn in_words(answer: &RowLikelihood) -> String {
    let one = |sum: f64, tokens: usize| format!("{sum:.4} ({tokens} tokens)");
    match answer {
        RowLikelihood::One { log_likelihood, tokens } => one(*log_likelihood, *tokens),
        RowLikelihood::Several { log_likelihoods, tokens } => {
            let all = log_likelihoods.iter().zip(tokens).map(|(&sum, &tokens)| one(sum, tokens));
            all.collect::<Vec<_>>().join("\t")
        }
        RowLikelihood::Pair { chosen, rejected, chosen_tokens, rejected_tokens } => format!(
            "chosen {}\trejected {}",
            one(*chosen, *chosen_tokens),
            one(*rejected, *rejected_tokens)
        ),
        RowLikelihood::Error { error } => format!("error: {error}"),
    }
}
