//! `lens run`: the main job, from a file of preference pairs to a saved reward model.

use crate::args::RunArgs;
use crate::curves;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens::{RunOptions, RunResult, StageTime, WarmStartOptions, run as run_job};
use lens_data::bundle::check_target;
use lens_report::text::thousands;
use std::path::PathBuf;

/// Runs the command.
pub fn run(args: &RunArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let output = settings.output.clone().unwrap_or_else(|| PathBuf::from("reward-model"));
    check_target(&output, settings.overwrite)?;
    curves::start(settings, Some(&output), reporter)?;
    let warm_start = match &settings.warm_start {
        None => None,
        Some(bundle) => Some(WarmStartOptions {
            bundle: bundle.clone(),
            encoder: settings.encoder_of_earlier_model()?,
        }),
    };
    let options = RunOptions {
        eval: settings.eval.clone().map(Into::into),
        holdout: settings.holdout,
        reading: settings.reading()?,
        model: settings.model()?,
        method: settings.method_options(),
        warm_start,
        output: Some(output),
        overwrite: settings.overwrite,
        ..RunOptions::new(args.pairs.clone())
    };
    let result = run_job(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    print(&result)
}

fn print(result: &RunResult) -> Result<(), CliError> {
    let mut lines = result.table.clone();
    lines.push(("saved head".to_owned(), result.decision.clone()));
    let worth_a_word = |s: &&StageTime| s.seconds >= 0.05 || s.tokens.is_some();
    let time: Vec<String> = result.stages.iter().filter(worth_a_word).map(stage).collect();
    lines.push(("time".to_owned(), time.join(", ")));
    for (label, path) in [("reward model", &result.folder), ("report", &result.page)] {
        lines.extend(path.as_ref().map(|p| (label.to_owned(), p.display().to_string())));
    }
    output::line(&output::aligned(&lines))
}

fn stage(stage: &StageTime) -> String {
    let StageTime { name, seconds, tokens, computed } = stage;
    match (tokens, computed) {
        (Some(tokens), Some(computed)) => format!(
            "{name} {seconds:.1} s ({} tokens, {} computed, {} tokens/s)",
            thousands(*tokens),
            thousands(*computed),
            thousands((*tokens as f64 / seconds.max(1e-9)) as u64)
        ),
        _ => format!("{name} {seconds:.1} s"),
    }
}
