//! How one group of cells is trained by the method itself.

use super::engine::{Done, Group, Run, Runner, Seconds};
use super::plan::Cell;
use crate::error::EvalError;
use lens_core::metrics::{credits, log_loss};
use lens_core::{
    CoreError, EmbeddedPairs, Extras, MethodSettings, Outcome, Progress, RewardModel, Threads,
    fit_with, method::Fitted,
};
use std::collections::HashMap;

/// Trains cells by [`fit_with`], and shares what it can: a fit with augmentation also has the head
/// without it.
pub struct FitRunner<'a> {
    /// The pool as each encoder of the plan has it, pair by pair.
    pub pools: &'a [EmbeddedPairs],
}

impl Runner for FitRunner<'_> {
    fn run(
        &self,
        group: &Group,
        cells: &[&Cell],
        done: Done<'_>,
        progress: &dyn Progress,
    ) -> Result<(), EvalError> {
        let pool = self.pools.get(group.encoder).ok_or_else(|| EvalError::Runner {
            detail: format!("there is no pool of encoder {}", group.encoder),
        })?;
        let seeds = pool.select(&group.parts.seeds);
        let heldout = pool.select(&group.parts.heldout);
        let mut plain: HashMap<String, Run> = HashMap::new();
        // Those with augmentation first: the others may be a part of them.
        let mut order = cells.to_vec();
        order.sort_by_key(|cell| cell.settings.augment == 1);
        for cell in order {
            if progress.cancelled() {
                return Err(EvalError::Cancelled);
            }
            let key = without_augmentation(&cell.settings)?;
            if cell.settings.augment == 1
                && let Some(run) = plain.get(&key)
            {
                done(cell, run.clone())?;
                continue;
            }
            let fitted =
                fit_with(&seeds, &cell.settings, Extras::default(), Threads::ONE, progress);
            let run = match fitted {
                Ok(Outcome { none, augmented, .. }) => {
                    let alone = judged(&none, &heldout)?;
                    let run = match &augmented {
                        None => alone.clone(),
                        Some(a) => {
                            let mut run = judged(&a.fitted, &heldout)?;
                            run.generator_parameters = Some(a.vae_report.parameters as u64);
                            run.seconds.source = a.vae_seconds + a.synthesis_seconds;
                            run
                        }
                    };
                    plain.insert(key, alone);
                    run
                }
                Err(error) => ran_away(error)?,
            };
            done(cell, run)?;
        }
        Ok(())
    }
}

/// What cannot be trained is a result where the data or the settings are the cause.
fn ran_away(error: CoreError) -> Result<Run, EvalError> {
    match error {
        CoreError::Diverged { .. }
        | CoreError::NoDifference { .. }
        | CoreError::AllConstant { .. } => Ok(Run::ran_away(error.to_string())),
        error => Err(error.into()),
    }
}

/// All settings that a head without augmentation depends on.
fn without_augmentation(settings: &MethodSettings) -> Result<String, EvalError> {
    let MethodSettings { standardise, seed, head, .. } = settings;
    serde_json::to_string(&(standardise, seed, head))
        .map_err(|e| EvalError::Runner { detail: e.to_string() })
}

fn judged(fitted: &Fitted, heldout: &EmbeddedPairs) -> Result<Run, EvalError> {
    let (chosen, rejected) = rewards(&fitted.model, heldout)?;
    Ok(Run {
        credits: credits(&chosen, &rejected),
        heldout_log_loss: log_loss(&chosen, &rejected),
        fold_log_loss: fitted.report.fold_log_loss,
        fold_accuracy: fitted.report.fold_accuracy,
        generator_parameters: None,
        seconds: Seconds { source: 0.0, head: fitted.seconds },
        diverged: None,
    })
}

fn rewards(model: &RewardModel, pairs: &EmbeddedPairs) -> Result<(Vec<f32>, Vec<f32>), EvalError> {
    let chosen = model.rewards(&pairs.chosen, Threads::ONE)?;
    Ok((chosen, model.rewards(&pairs.rejected, Threads::ONE)?))
}
