//! How the cells of a group are trained by the method itself.

use super::engine::{Done, Group, Run, Runner, Seconds};
use super::plan::Cell;
use crate::error::EvalError;
use lens_core::head::train::Augmentation;
use lens_core::method::{Arena, Fitted};
use lens_core::metrics::{credits, log_loss};
use lens_core::progress::Within;
use lens_core::source::Source;
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress, Threads};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Trains cells one after the other, and shares what they have in common: standardisation and folds,
/// the VAE or whatever else a source has to learn, the head without augmentation.
pub struct MethodRunner<'a> {
    /// The pool as each encoder of the plan has it, pair by pair.
    pub pools: &'a [EmbeddedPairs],
}

/// A source that is ready and the seconds that took, or why there is none.
type Learned = Result<(Box<dyn Source>, f64), CoreError>;

impl Runner for MethodRunner<'_> {
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
        let progress = &Within(progress);
        let mut of_arena: HashMap<String, Vec<&Cell>> = HashMap::new();
        let mut order = Vec::new();
        for cell in cells {
            let MethodSettings { standardise, seed, head, .. } = &cell.settings;
            let of =
                of_arena.entry(key(&(standardise, seed, head.folds))?).or_insert_with_key(|k| {
                    order.push(k.clone());
                    Vec::new()
                });
            of.push(cell);
        }
        for cells in order.iter().filter_map(|key| of_arena.get(key)) {
            let Some(first) = cells.first() else { continue };
            match Arena::new(&seeds, &first.settings, Threads::ONE) {
                Ok(arena) => in_arena(&arena, &heldout, cells, done, progress)?,
                Err(error) => {
                    let run = ran_away(error)?;
                    cells.iter().try_for_each(|cell| done(cell, run.clone()))?;
                }
            }
        }
        Ok(())
    }
}

fn in_arena(
    arena: &Arena<'_>,
    heldout: &EmbeddedPairs,
    cells: &[&Cell],
    done: Done<'_>,
    progress: &dyn Progress,
) -> Result<(), EvalError> {
    let mut plain: HashMap<String, Run> = HashMap::new();
    // Cells with one source are one after the other, so that only one is held at a time.
    let mut augmented: Vec<(String, &Cell)> = Vec::new();
    for &cell in cells {
        let settings = &cell.settings;
        if settings.augment > 1 {
            let of_vae = settings.wants_vae().then_some(&settings.vae);
            let of_rival = (!settings.wants_vae()).then_some(&settings.rivals);
            augmented.push((key(&(settings.source, of_vae, of_rival))?, cell));
            continue;
        }
        let head = key(&settings.head)?;
        let run = match plain.get(&head) {
            Some(run) => run.clone(),
            None => {
                let run = judged(arena.head(&settings.head, None, progress), heldout)?;
                plain.insert(head, run.clone());
                run
            }
        };
        done(cell, run)?;
    }
    augmented.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.index.cmp(&b.1.index)));
    let mut held: Option<(String, Learned)> = None;
    for (key, cell) in augmented {
        if progress.cancelled() {
            return Err(EvalError::Cancelled);
        }
        if held.as_ref().is_none_or(|(of, _)| *of != key) {
            let clock = Instant::now();
            let source = arena.source(&cell.settings, progress);
            held = Some((key, source.map(|s| (s, clock.elapsed().as_secs_f64()))));
        }
        let run = match &held {
            Some((_, Ok((source, seconds)))) => {
                let mut run = with_source(arena, source.as_ref(), cell, heldout, progress)?;
                run.seconds.source += seconds;
                run
            }
            Some((_, Err(error))) => ran_away(error.clone())?,
            None => continue,
        };
        done(cell, run)?;
    }
    Ok(())
}

fn with_source(
    arena: &Arena<'_>,
    source: &dyn Source,
    cell: &Cell,
    heldout: &EmbeddedPairs,
    progress: &dyn Progress,
) -> Result<Run, EvalError> {
    let settings = &cell.settings;
    let clock = Instant::now();
    let synthetic = arena.synthesise(source, settings)?;
    let seconds = clock.elapsed().as_secs_f64();
    let (factor, pairing) = (settings.augment, settings.pairing);
    let augmentation = Augmentation { factor, pairing, synthetic: &synthetic };
    let mut run = judged(arena.head(&settings.head, Some(&augmentation), progress), heldout)?;
    run.generator_parameters = Some(source.parameters() as u64);
    run.seconds.source = seconds;
    Ok(run)
}

/// What decides a result, as text.
fn key(of: &impl Serialize) -> Result<String, EvalError> {
    serde_json::to_string(of).map_err(|e| EvalError::Runner { detail: e.to_string() })
}

/// What cannot be trained is a result where the data or the settings are the cause.
fn ran_away(error: CoreError) -> Result<Run, EvalError> {
    match error {
        CoreError::Diverged { .. }
        | CoreError::NoDifference { .. }
        | CoreError::AllConstant { .. } => Ok(Run::ran_away(error.to_string())),
        CoreError::Cancelled { .. } => Err(EvalError::Cancelled),
        error => Err(error.into()),
    }
}

fn judged(fitted: Result<Fitted, CoreError>, heldout: &EmbeddedPairs) -> Result<Run, EvalError> {
    let fitted = match fitted {
        Ok(fitted) => fitted,
        Err(error) => return ran_away(error),
    };
    let chosen = fitted.model.rewards(&heldout.chosen, Threads::ONE)?;
    let rejected = fitted.model.rewards(&heldout.rejected, Threads::ONE)?;
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
