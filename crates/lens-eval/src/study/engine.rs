//! Runs the cells of a study: groups side by side, each on one thread, so that results do not depend
//! on how many there are.

use super::plan::{Cell, Plan};
use crate::error::EvalError;
use lens_core::progress::Within;
use lens_core::splits::{Split, split};
use lens_core::{EmbeddedPairs, Progress};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Cells that have seed pairs and folds in common, so that a VAE or a plain head can serve several.
#[derive(Debug, Clone)]
pub struct Group {
    /// Which encoder of the plan.
    pub encoder: usize,
    /// Which number of seed pairs.
    pub seeds: usize,
    /// Which split.
    pub split: usize,
    /// The pairs to train on and the pairs held out, as numbers in the pool.
    pub parts: Arc<Split>,
}

/// Wall-clock seconds of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Seconds to fit the source of synthetic pairs, such as a VAE, and to draw from it.
    pub source: f64,
    /// Seconds to train the head.
    pub head: f64,
}

/// The result of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Credit of each held-out pair, in the order of the pool: 1, 0.5 for a tie, 0. Empty where
    /// training ran away.
    #[serde(with = "credit_string")]
    pub credits: Vec<f64>,
    /// Mean log-loss on the held-out pairs.
    pub heldout_log_loss: Option<f64>,
    /// Log-loss of the members on their own folds of the seeds, by which rivals choose.
    pub fold_log_loss: Option<f64>,
    /// Accuracy on the same.
    pub fold_accuracy: Option<f64>,
    /// Parameters of the source of synthetic pairs.
    pub generator_parameters: Option<u64>,
    /// Seconds of training.
    pub seconds: Seconds,
    /// Why there is no model: training ran away, which is a result.
    pub diverged: Option<String>,
    /// The choice of a rival that tunes itself, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chose: Option<String>,
}

impl Run {
    /// A cell whose training ran away.
    pub fn ran_away(reason: String) -> Run {
        Run {
            credits: Vec::new(),
            heldout_log_loss: None,
            fold_log_loss: None,
            fold_accuracy: None,
            generator_parameters: None,
            seconds: Seconds::default(),
            diverged: Some(reason),
            chose: None,
        }
    }

    /// Mean credit; none where training ran away.
    pub fn accuracy(&self) -> Option<f64> {
        let n = self.credits.len();
        (n > 0).then(|| self.credits.iter().sum::<f64>() / n as f64)
    }
}

/// Credits as a string: `1`, `0`, and `t` for a tie.
pub(crate) mod credit_string {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn shown(credits: &[f64]) -> String {
        let one = |&c: &f64| match c {
            1.0 => '1',
            0.5 => 't',
            _ => '0',
        };
        credits.iter().map(one).collect()
    }

    pub(super) fn serialize<S: Serializer>(credits: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&shown(credits))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let text = String::deserialize(from)?;
        let one = |c: char| match c {
            '1' => Ok(1.0),
            't' => Ok(0.5),
            '0' => Ok(0.0),
            other => Err(D::Error::custom(format!("a credit is `{other}`, expected 0, t or 1"))),
        };
        text.chars().map(one).collect()
    }
}

/// Says that a cell is done, and keeps its run.
pub type Done<'a> = &'a (dyn Fn(&Cell, Run) -> Result<(), EvalError> + Sync);

/// How the cells of a group are trained. One call works on one thread, on pairs whose encoder the
/// group names.
pub trait Runner: Sync {
    /// Trains `cells`, which are all of `group` or those that are missing, in any order, and calls
    /// `done` for each as soon as it is. What runs away is a run, not an error.
    ///
    /// # Errors
    /// Whatever ends the study; what was `done` by then is kept.
    fn run(
        &self,
        group: &Group,
        cells: &[&Cell],
        done: Done<'_>,
        progress: &dyn Progress,
    ) -> Result<(), EvalError>;
}

/// The parts of every (seeds, split): the same pairs are held out for every number of seeds, those
/// that the largest number leaves.
///
/// # Errors
/// [`lens_core::CoreError::TooFewPairs`] where nothing is left to hold out.
pub fn parts(plan: &Plan, pairs: &EmbeddedPairs) -> Result<Vec<Vec<Arc<Split>>>, EvalError> {
    let largest = plan.seeds.iter().copied().max().unwrap_or(0);
    let of_split = |index: usize| -> Result<Vec<Arc<Split>>, EvalError> {
        let index = index as u64;
        let most = split(pairs, largest, plan.file.seed, index)?;
        let of = |&seeds: &usize| -> Result<Arc<Split>, EvalError> {
            let mut parts = split(pairs, seeds, plan.file.seed, index)?;
            // With several pairs a prompt, fewer seeds may have room for a prompt that more do not.
            parts.heldout.retain(|i| most.heldout.binary_search(i).is_ok());
            Ok(Arc::new(parts))
        };
        plan.seeds.iter().map(of).collect()
    };
    let by_split: Vec<_> = (0..plan.file.splits).map(of_split).collect::<Result<_, EvalError>>()?;
    let column = |s: usize| by_split.iter().map(|row| Arc::clone(&row[s])).collect();
    Ok((0..plan.seeds.len()).map(column).collect())
}

/// Runs every cell that is not among `known`, and returns the runs of all, in the order of the plan.
/// `keep` is called for each new one before the next of its group begins.
///
/// # Errors
/// [`EvalError::Cancelled`] where the user asked to stop; the first error of any group.
pub fn run(
    plan: &Plan,
    parts: &[Vec<Arc<Split>>],
    mut known: HashMap<String, Run>,
    runner: &dyn Runner,
    keep: &(dyn Fn(&Cell, &Run) -> Result<(), EvalError> + Sync),
    progress: &dyn Progress,
) -> Result<Vec<Run>, EvalError> {
    let mut runs: Vec<Option<Run>> = vec![None; plan.len()];
    let mut groups: Vec<(Group, Vec<Cell>)> = Vec::new();
    for encoder in 0..plan.encoders.len() {
        for seeds in 0..plan.seeds.len() {
            for split in 0..plan.file.splits {
                let parts = Arc::clone(&parts[seeds][split]);
                let held_out = parts.heldout.len();
                let mut missing = plan.cells(encoder, seeds, split);
                missing.retain(|cell| match known.remove(&cell.key) {
                    Some(run) if run.diverged.is_some() || run.credits.len() == held_out => {
                        runs[cell.index] = Some(run);
                        false
                    }
                    _ => true,
                });
                if !missing.is_empty() {
                    groups.push((Group { encoder, seeds, split, parts }, missing));
                }
            }
        }
    }
    // Large ones first, so that the last to end is short.
    groups.sort_by_key(|(group, _)| std::cmp::Reverse(plan.seeds[group.seeds]));
    let total: usize = groups.iter().map(|(_, cells)| cells.len()).sum();
    let runs = Mutex::new(runs);
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<EvalError>> = Mutex::new(None);
    let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let work = || -> Result<(), EvalError> {
        // In their order, one after the other to whichever thread is free.
        while let Some((group, cells)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            if progress.cancelled() {
                return Err(EvalError::Cancelled);
            }
            if failed() {
                return Ok(());
            }
            let wanted: Vec<&Cell> = cells.iter().collect();
            let done = |cell: &Cell, mut run: Run| {
                // JSON has no infinity: a figure must not depend on whether it was read back.
                for figure in
                    [&mut run.heldout_log_loss, &mut run.fold_log_loss, &mut run.fold_accuracy]
                {
                    *figure = figure.filter(|x| x.is_finite());
                }
                let held_out = group.parts.heldout.len();
                if run.diverged.is_none() && run.credits.len() != held_out {
                    let found = run.credits.len();
                    let detail = format!("{found} credits for {held_out} held-out pairs");
                    return Err(EvalError::Runner { detail });
                }
                keep(cell, &run)?;
                runs.lock().unwrap_or_else(PoisonError::into_inner)[cell.index] = Some(run);
                progress.advance(1);
                Ok(())
            };
            // Within a group there is no bar: the study's counts cells. Nor are there curves.
            runner.run(group, &wanted, &done, &Within::with_notes(progress))?;
        }
        Ok(())
    };
    progress.begin("study", total as u64, "trainings");
    (0..rayon::current_num_threads().min(groups.len())).into_par_iter().with_max_len(1).for_each(
        |_| {
            if let Err(error) = work() {
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
        },
    );
    progress.end();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(match error {
            EvalError::Core(lens_core::CoreError::Cancelled { .. }) => EvalError::Cancelled,
            error => error,
        });
    }
    let runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    let detail = || "a cell was left undone".to_owned();
    runs.into_iter().map(|run| run.ok_or_else(|| EvalError::Runner { detail: detail() })).collect()
}
