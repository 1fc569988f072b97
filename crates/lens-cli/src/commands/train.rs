//! `lens train`: from stored embeddings to figures over several splits and, where asked for, a reward
//! model trained on all of them.

use crate::args::TrainArgs;
use crate::curves;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::{Augment, Settings};
use lens::{TrainOptions, TrainResult, train};
use lens_data::bundle::{Kept, check_target};
use lens_eval::figures::heldout::{PairAccuracy, difference_in_words};
use std::collections::BTreeMap;

/// Runs the command.
pub fn run(args: &TrainArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    if let Some(output) = &settings.output {
        check_target(output, settings.overwrite)?;
    }
    curves::start(settings, settings.output.as_deref(), reporter)?;
    let options = TrainOptions {
        seed_pairs: settings.seed_pairs,
        splits: settings.splits,
        method: settings.method_options(),
        warm_start: settings.warm_start.clone(),
        output: settings.output.clone(),
        overwrite: settings.overwrite,
        ..TrainOptions::new(settings.stored(args.arrays.clone())?)
    };
    let result = train(&options, reporter)?;
    if settings.json {
        return output::json(&result);
    }
    print(&result, settings)
}

fn print(result: &TrainResult, settings: &Settings) -> Result<(), CliError> {
    let TrainResult { splits, shape: (pairs, width), seed_pairs, selected, seconds, .. } = result;
    let mut rows = vec![("pairs".to_owned(), format!("{pairs}, width {width}"))];
    rows.extend(result.warm_start.as_ref().map(|w| ("warm start".to_owned(), w.in_words())));
    let number = splits.by_split.len();
    let shown = format!("{number}, each {seed_pairs} to train on, the rest held out");
    rows.push(("splits".to_owned(), shown));
    if !selected.is_empty() {
        rows.push(("chosen in them".to_owned(), counted(selected)));
    }
    rows.push(("without augmentation".to_owned(), PairAccuracy::from(splits.none).to_string()));
    if let (Some(augmented), Some(difference)) = (splits.augmented, &splits.difference) {
        let label = match settings.augment {
            Augment::Auto => "with the best augmentation, same head".to_owned(),
            Augment::Factor(factor) => format!("with {factor}x, same head"),
        };
        rows.push((label, PairAccuracy::from(augmented).to_string()));
        rows.push(("difference".to_owned(), difference_in_words(difference)));
    }
    if splits.augmented.is_none() && settings.augment == Augment::Auto {
        let without = splits.by_split.iter().filter(|(_, with)| with.is_none()).count();
        let said = format!("no source could be trained in {without} of {number} splits");
        rows.push(("with augmentation".to_owned(), said));
    }
    rows.push(("time".to_owned(), format!("{seconds:.1} s")));
    if let Some(saved) = &result.saved {
        let head = match saved.kept {
            Kept::None => "the head without augmentation",
            Kept::Augmented => "the augmented head",
        };
        rows.push(("reward model".to_owned(), format!("{} ({head})", saved.folder.display())));
    }
    output::line(&output::aligned(&rows))
}

/// What was chosen in how many splits, the most frequent first.
fn counted(selected: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    selected.iter().for_each(|what| *counts.entry(what).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let shown = counts.iter().map(|(what, n)| format!("{what} ({n} of {})", selected.len()));
    shown.collect::<Vec<_>>().join("; ")
}
