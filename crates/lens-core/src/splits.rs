//! Splits of one pool of pairs into seed pairs and held-out pairs. At 1,000 seed pairs results move by
//! a point or two with the split, so that no comparison should rest on a single one.
//!
//! ```
//! use lens_core::splits::hold_out;
//!
//! // A fifth of five prompts: both pairs of one prompt are held out.
//! let held_out = hold_out(&[0, 0, 1, 1, 2, 2, 3, 3, 4, 4], 0.2, 1);
//! assert_eq!(held_out.iter().filter(|&&held| held).count(), 2);
//! ```

use crate::embedded::{EmbeddedPairs, distinct};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::method::{Extras, MethodSettings, Outcome, WarmStart, fit_with};
use crate::metrics::{Estimate, bootstrap, credits};
use crate::progress::{Progress, Within};
use crate::reward_model::RewardModel;
use crate::rng::{Purpose, Stream};
use rayon::prelude::*;
use serde::Serialize;

/// One split: which pairs train, which are held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Seed pairs.
    pub seeds: Vec<usize>,
    /// Held-out pairs, none of a prompt among the seed pairs, and no tie.
    pub heldout: Vec<usize>,
}

/// Split number `index` of `pairs`: prompts are drawn at random until `seed_pairs` pairs are
/// reached, the rest is held out.
///
/// # Errors
/// [`CoreError::TooFewPairs`] when nothing would be left to hold out.
pub fn split(
    pairs: &EmbeddedPairs,
    seed_pairs: usize,
    seed: u64,
    index: u64,
) -> Result<Split, CoreError> {
    split_keeping_known(pairs, &vec![false; pairs.len()], seed_pairs, seed, index)
}

/// As [`split`], but every pair of a prompt with a `known` pair, which an earlier model was trained
/// on, is among the seed pairs; others are drawn until there are `seed_pairs` in all.
///
/// # Errors
/// As [`split`]; [`CoreError::Shape`] unless there is one `known` for each pair.
pub fn split_keeping_known(
    pairs: &EmbeddedPairs,
    known: &[bool],
    seed_pairs: usize,
    seed: u64,
    index: u64,
) -> Result<Split, CoreError> {
    if known.len() != pairs.len() {
        return Err(CoreError::Shape {
            what: "known pairs against pairs",
            expected: (pairs.len(), 1),
            found: (known.len(), 1),
        });
    }
    let mut by_prompt: std::collections::BTreeMap<u32, Vec<usize>> = Default::default();
    for (i, &p) in pairs.prompts.iter().enumerate() {
        by_prompt.entry(p).or_default().push(i);
    }
    let (trained_on, mut prompts): (Vec<Vec<usize>>, Vec<Vec<usize>>) =
        by_prompt.into_values().partition(|rows| rows.iter().any(|&i| known[i]));
    Stream::new(seed, Purpose::Splits, index).shuffle(&mut prompts);
    let mut split = Split { seeds: trained_on.concat(), heldout: Vec::new() };
    for rows in prompts {
        // A prompt whose pairs would overfill the seed pairs is held out as a whole.
        if split.seeds.len() + rows.len() <= seed_pairs {
            split.seeds.extend(rows);
        } else {
            split.heldout.extend(rows);
        }
    }
    // A tie has no order that could be right or wrong.
    split.heldout.retain(|&i| !pairs.labels[i].is_tie());
    split.seeds.sort_unstable();
    split.heldout.sort_unstable();
    if split.heldout.is_empty() || split.seeds.is_empty() {
        return Err(CoreError::TooFewPairs {
            what: "splitting into seeds and held-out pairs of other prompts",
            needed: seed_pairs.max(1) + 1,
            found: pairs.len(),
        });
    }
    Ok(split)
}

/// Which pairs to hold out so that about `share` of the prompts are unseen: true for every pair of a
/// prompt drawn. At least one prompt is drawn if `share` is positive, and never all of them.
pub fn hold_out(prompts: &[u32], share: f64, seed: u64) -> Vec<bool> {
    let mut unique = distinct(prompts);
    Stream::new(seed, Purpose::Holdout, 0).shuffle(&mut unique);
    let wanted = (unique.len() as f64 * share).round() as usize;
    let least = usize::from(share > 0.0);
    unique.truncate(wanted.max(least).min(unique.len().saturating_sub(1)));
    let drawn: std::collections::HashSet<u32> = unique.into_iter().collect();
    prompts.iter().map(|p| drawn.contains(p)).collect()
}

/// Held-out figures over several splits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitsReport {
    /// Accuracy without augmentation.
    pub none: Estimate,
    /// Accuracy with it; `None` where the factor is 1 in any split.
    pub augmented: Option<Estimate>,
    /// Augmented minus none on the same pairs of the same splits.
    pub difference: Option<Estimate>,
    /// Accuracy of every split: without, and with augmentation.
    pub by_split: Vec<(f64, Option<f64>)>,
}

/// Trains and evaluates on `splits` splits in parallel, with and without augmentation. Intervals
/// come from resampling prompts, each with its mean credit over the splits that held it out. From an
/// earlier model, no split holds out what that was trained on.
///
/// # Errors
/// The first error of any split.
pub fn run_splits(
    pairs: &EmbeddedPairs,
    settings: &MethodSettings,
    start: Option<WarmStart<'_>>,
    seed_pairs: usize,
    splits: usize,
    progress: &dyn Progress,
) -> Result<SplitsReport, CoreError> {
    let as_they_are =
        |_: &EmbeddedPairs, settings: &MethodSettings, _: &dyn Progress| Ok(settings.clone());
    run_splits_choosing(pairs, settings, start, seed_pairs, splits, &as_they_are, progress)
}

/// Chooses the settings of a split from its seed pairs and the settings that were given.
pub type ChooseSettings<'a> = dyn Fn(&EmbeddedPairs, &MethodSettings, &dyn Progress) -> Result<MethodSettings, CoreError>
    + Sync
    + 'a;

/// As [`run_splits`], with settings that `choose` chooses anew in every split, on its seed pairs alone,
/// so that held-out pairs have no part in the choice. The random seed of the settings that `choose`
/// gets is that of `settings` plus the number of the split.
///
/// # Errors
/// As [`run_splits`], and any error of `choose`.
pub fn run_splits_choosing(
    pairs: &EmbeddedPairs,
    settings: &MethodSettings,
    start: Option<WarmStart<'_>>,
    seed_pairs: usize,
    splits: usize,
    choose: &ChooseSettings<'_>,
    progress: &dyn Progress,
) -> Result<SplitsReport, CoreError> {
    let known: Vec<bool> = match start {
        None => vec![false; pairs.len()],
        Some(earlier) => earlier.folds.iter().map(Option::is_some).collect(),
    };
    // Splits side by side; what is left over when they are few goes into each.
    let inside = Threads((Threads::available().0 / splits.max(1)).max(1));
    progress.begin("train splits", splits as u64, "splits");
    let results: Vec<(Split, Vec<f64>, Option<Vec<f64>>)> = (0..splits as u64)
        .into_par_iter()
        .map(|index| {
            let parts = split_keeping_known(pairs, &known, seed_pairs, settings.seed, index)?;
            let settings =
                MethodSettings { seed: settings.seed.wrapping_add(index), ..settings.clone() };
            let seeds = pairs.select(&parts.seeds);
            let heldout = pairs.select(&parts.heldout);
            let progress_inside = Within::with_curves(progress, format!("split-{}", index + 1));
            let watch = progress.wants_curves().then_some(&heldout);
            let folds: Vec<Option<usize>> =
                start.map_or(Vec::new(), |s| parts.seeds.iter().map(|&i| s.folds[i]).collect());
            let start = start.map(|s| WarmStart { folds: &folds, ..s });
            let settings = choose(&seeds, &settings, &progress_inside)?;
            let extras = Extras { start, watch, prior: None };
            let Outcome { none, augmented, .. } =
                fit_with(&seeds, &settings, extras, inside, &progress_inside)?;
            let none = heldout_credits(&none.model, &heldout, inside)?;
            let augmented = augmented
                .map(|a| heldout_credits(&a.fitted.model, &heldout, inside))
                .transpose()?;
            progress.advance(1);
            Ok((parts, none, augmented))
        })
        .collect::<Result<_, CoreError>>()?;
    progress.end();

    let n = pairs.len();
    let (mut counts, mut none, mut augmented) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut by_split = Vec::with_capacity(splits);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    for (parts, without, with) in &results {
        for (at, &i) in parts.heldout.iter().enumerate() {
            counts[i] += 1.0;
            none[i] += without[at];
            augmented[i] += with.as_ref().map_or(0.0, |w| w[at]);
        }
        by_split.push((mean(without), with.as_deref().map(mean)));
    }
    let estimate = |totals: &[f64]| bootstrap(totals, &counts, &pairs.prompts, settings.seed);
    let missing = || CoreError::TooFewPairs { what: "evaluating the splits", needed: 1, found: 0 };
    let differences: Vec<f64> = augmented.iter().zip(&none).map(|(a, b)| a - b).collect();
    let with = results.iter().all(|(_, _, with)| with.is_some());
    Ok(SplitsReport {
        none: estimate(&none).ok_or_else(missing)?,
        augmented: if with { estimate(&augmented) } else { None },
        difference: if with { estimate(&differences) } else { None },
        by_split,
    })
}

fn heldout_credits(
    model: &RewardModel,
    pairs: &EmbeddedPairs,
    threads: Threads,
) -> Result<Vec<f64>, CoreError> {
    let chosen = model.rewards(&pairs.chosen, threads)?;
    let rejected = model.rewards(&pairs.rejected, threads)?;
    Ok(credits(&chosen, &rejected))
}
