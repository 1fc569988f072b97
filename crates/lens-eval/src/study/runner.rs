//! How the cells of a group are trained by the method itself.

use super::engine::{Done, Group, Run, Runner, Seconds};
use super::plan::{Cell, Plan};
use super::rivals::Auto;
use crate::error::EvalError;
use crate::tuning::{Choices, tune};
use lens_core::method::{Fitted, TrainingContext};
use lens_core::metrics::{credits, log_loss};
use lens_core::progress::Within;
use lens_core::source::Source;
use lens_core::splits::Split;
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress, Threads, fit};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Trains cells one after the other, and shares what they have in common: standardisation and folds,
/// the VAE or whatever else a source has to learn, the head without augmentation.
pub struct MethodRunner<'a> {
    /// The pool as each encoder of the plan has it, pair by pair.
    pub pools: &'a [EmbeddedPairs],
    /// Names of the views of each encoder's embeddings.
    pub views: &'a [Vec<String>],
}

impl MethodRunner<'_> {
    /// Whether every view that a rival names is one of every encoder's: asked before the work.
    ///
    /// # Errors
    /// [`EvalError::StudyKey`] names the rival and what there is.
    pub fn check(&self, plan: &Plan) -> Result<(), EvalError> {
        for rival in &plan.rivals {
            for names in self.views {
                if let Err(missing) = numbers(&rival.views, names) {
                    let there = if names.is_empty() { "none".to_owned() } else { names.join("; ") };
                    let detail = format!("names `{missing}`; the embeddings have {there}");
                    return Err(plan.file.bad(format!("rival.{}.views", rival.name), detail));
                }
            }
        }
        Ok(())
    }
}

/// The numbers of the views named, or the first that is not there.
fn numbers<'v>(wanted: &'v [String], names: &[String]) -> Result<Vec<usize>, &'v String> {
    let number = |w: &String| w.parse().ok().filter(|n| *n < names.len());
    let one = |w| names.iter().position(|n| n == w).or_else(|| number(w)).ok_or(w);
    wanted.iter().map(one).collect()
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
        let names = self.views.get(group.encoder).map_or(&[][..], |names| names);
        let mut by_views: Vec<(&[String], Vec<&Cell>)> = Vec::new();
        for cell in cells {
            match by_views.iter_mut().find(|(views, _)| *views == &cell.views[..]) {
                Some((_, of)) => of.push(cell),
                None => by_views.push((&cell.views, vec![cell])),
            }
        }
        for (views, cells) in by_views {
            let numbers = numbers(views, names).map_err(|missing| EvalError::Runner {
                detail: format!("there is no view `{missing}`"),
            })?;
            let (own, names) = match numbers.is_empty() {
                true => (pool.clone(), names.to_vec()),
                false => {
                    let names = numbers.iter().map(|&v| names[v].clone()).collect();
                    (pool.select_views(&numbers)?, names)
                }
            };
            let Split { seeds, heldout } = &*group.parts;
            let others = || {
                let seen: HashSet<usize> = seeds.iter().copied().collect();
                let others = (0..own.len()).filter(|i| !seen.contains(i));
                own.select(&seeds.iter().copied().chain(others).collect::<Vec<_>>())
            };
            let unlabelled = cells.iter().any(|cell| cell.unlabelled).then(others);
            let parts =
                Parts { seeds: own.select(seeds), heldout: own.select(heldout), unlabelled };
            run_on_views(&parts, &names, &cells, done, progress)?;
        }
        Ok(())
    }
}

/// Pairs of a group, as some cells see them.
struct Parts {
    seeds: EmbeddedPairs,
    heldout: EmbeddedPairs,
    /// The seeds, then all others, where a cell asks for them.
    unlabelled: Option<EmbeddedPairs>,
}

/// Cells that see the same views of the pairs.
fn run_on_views(
    parts: &Parts,
    names: &[String],
    cells: &[&Cell],
    done: Done<'_>,
    progress: &dyn Progress,
) -> Result<(), EvalError> {
    let progress = &Within::silent(progress);
    let Parts { seeds, heldout, unlabelled } = parts;
    let mut of_arena: HashMap<String, Vec<&Cell>> = HashMap::new();
    let mut order = Vec::new();
    for &cell in cells {
        if let Some(auto) = cell.auto {
            done(cell, chosen(seeds, heldout, names, auto, &cell.settings, progress)?)?;
            continue;
        }
        let MethodSettings { standardise, seed, head, .. } = &cell.settings;
        let of = of_arena
            .entry(key(&(standardise, seed, head.folds, cell.unlabelled))?)
            .or_insert_with_key(|k| {
                order.push(k.clone());
                Vec::new()
            });
        of.push(cell);
    }
    for cells in order.iter().filter_map(|key| of_arena.get(key)) {
        let Some(first) = cells.first() else { continue };
        match TrainingContext::new(seeds, &first.settings, Threads::ONE) {
            Ok(mut arena) => {
                arena.unlabelled = unlabelled.as_ref().filter(|_| first.unlabelled);
                in_arena(&arena, heldout, cells, done, progress)?;
            }
            Err(error) => {
                let run = ran_away(error)?;
                cells.iter().try_for_each(|cell| done(cell, run.clone()))?;
            }
        }
    }
    Ok(())
}

/// A rival that chooses for itself, on the seeds alone, and what it chose on the held-out pairs.
fn chosen(
    seeds: &EmbeddedPairs,
    heldout: &EmbeddedPairs,
    names: &[String],
    auto: Auto,
    settings: &MethodSettings,
    progress: &dyn Progress,
) -> Result<Run, EvalError> {
    let clock = Instant::now();
    // Embeddings of one view, unnamed, have that.
    let unnamed = [String::from("the embeddings")];
    let names = if names.is_empty() { &unnamed[..] } else { names };
    let choices = Choices { augment: auto == Auto::Augment, ..Choices::default() };
    let tuned = match tune(seeds, names, settings, &choices, progress) {
        Ok(tuned) => tuned,
        Err(error) => return ran_away(error),
    };
    let chose = tuned.in_words();
    let mut settings = tuned.settings;
    if !tuned.augment {
        settings.augment = 1;
    }
    let (seeds, heldout) = (seeds.select_views(&tuned.views)?, heldout.select_views(&tuned.views)?);
    let outcome = match fit(&seeds, &settings, Threads::ONE, progress) {
        Ok(outcome) => outcome,
        Err(error) => return ran_away(error),
    };
    let augmented = outcome.augmented;
    let parameters = augmented.as_ref().map(|a| a.source_parameters as u64);
    let kept = augmented.map_or(outcome.none, |a| a.fitted);
    Ok(Run {
        generator_parameters: parameters,
        seconds: Seconds { source: 0.0, head: clock.elapsed().as_secs_f64() },
        chose: Some(chose),
        ..judged(Ok(kept), &heldout)?
    })
}

fn in_arena(
    arena: &TrainingContext<'_>,
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
            let around = settings.synthesis.around;
            let of_vae = settings.trains_vae().then_some((&settings.vae, around));
            let of_rival = (!settings.trains_vae()).then_some(&settings.rivals);
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
    arena: &TrainingContext<'_>,
    source: &dyn Source,
    cell: &Cell,
    heldout: &EmbeddedPairs,
    progress: &dyn Progress,
) -> Result<Run, EvalError> {
    let settings = &cell.settings;
    let clock = Instant::now();
    let synthetic = arena.synthesise(source, settings)?;
    let seconds = clock.elapsed().as_secs_f64();
    let augmentation = settings.augmentation(&synthetic);
    let mut run = judged(arena.head(&settings.head, Some(&augmentation), progress), heldout)?;
    run.generator_parameters = Some(source.parameters() as u64);
    run.seconds.source = seconds;
    Ok(run)
}

/// A key, as text, of the settings that decide a result.
fn key(of: &impl Serialize) -> Result<String, EvalError> {
    serde_json::to_string(of).map_err(|e| EvalError::Runner { detail: e.to_string() })
}

/// A run without a model, where the data or the settings are the cause; other errors are passed on.
fn ran_away(error: CoreError) -> Result<Run, EvalError> {
    match error {
        error if error.is_without_model() => Ok(Run::ran_away(error.to_string())),
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
        chose: None,
    })
}
