//! Settings chosen without peeking: by nested cross-validation on the seed pairs alone.
//!
//! A *search* trains heads on some pairs and compares them by the log-loss of each pair under the
//! members that did not train on it: which view of the texts, which weight decay, then, with these,
//! which source of synthetic pairs, and how much of it. Every candidate has the same folds and the
//! same head.
//!
//! The lowest of many log-losses is too low, so the search itself is put to the test: the pairs are
//! dealt to outer folds, each is searched without, and what the search chose there is measured on it.
//! Augmentation is taken only where it lowers that log-loss by more than the standard error of the
//! difference.

mod search;

pub use search::{Candidate, Tried, What};

use lens_core::head::folds::Folds;
use lens_core::method::FoldGain;
use lens_core::metrics::{Estimate, bootstrap, credit, pair_loss};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress, RewardModel, Threads};
use rayon::prelude::*;
use search::{Found, search};
use serde::Serialize;

/// What the search chooses from. Each list holds what is tried beside the settings it starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// Weight decays of the head.
    pub weight_decays: Vec<f64>,
    /// Weights of the VAE's divergence.
    pub gammas: Vec<f64>,
    /// Variances of the latent noise, and of direct perturbation.
    pub noise_variances: Vec<f64>,
    /// Whether the rivals of latent space synthesis are candidates.
    pub rivals: bool,
    /// Augmentation factors, tried with the best of the sources.
    pub factors: Vec<usize>,
    /// Outer folds.
    pub outer_folds: usize,
}

impl Default for Choices {
    fn default() -> Self {
        Choices {
            weight_decays: vec![0.03, 0.1, 1.0, 3.0],
            gammas: vec![0.3],
            noise_variances: vec![0.1],
            rivals: true,
            factors: vec![2, 16],
            outer_folds: 3,
        }
    }
}

/// One way of looking at the texts: a layer and a pooling.
#[derive(Debug, Clone)]
pub struct View {
    /// As its user names it.
    pub name: String,
    /// The pairs, embedded so. All views have the same pairs in the same order.
    pub pairs: EmbeddedPairs,
}

/// What the outer folds say of the search, on pairs it did not see.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nested {
    /// Outer folds.
    pub folds: usize,
    /// Accuracy with the settings that the search started from, untuned and without augmentation.
    pub untuned: Estimate,
    /// Accuracy of what it chose, without augmentation.
    pub none: Estimate,
    /// Accuracy of what it chose, with augmentation.
    pub augmented: Estimate,
    /// `augmented` minus `none` on the same pairs.
    pub difference: Estimate,
    /// By how much augmentation lowers the log-loss.
    pub gain: FoldGain,
}

/// What tuning chose, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// Number of the view.
    pub view: usize,
    /// Its name.
    pub view_name: String,
    /// The settings, with the best augmentation there was (a factor above 1), taken or not.
    pub settings: MethodSettings,
    /// Whether augmentation won on the outer folds, and is taken.
    pub augment: bool,
    /// Everything that was tried on all seeds, in the order in which it was.
    pub tried: Vec<Tried>,
    /// The evidence.
    pub nested: Nested,
}

/// Chooses a view and settings on the seed pairs of `views`, starting from `base` and its first view.
///
/// # Errors
/// [`CoreError::Setting`] when `head.folds` is 1: nothing would be held out to choose by;
/// [`CoreError::TooFewPairs`] below two prompts an outer fold; any other [`CoreError`] of training
/// without augmentation. A source that diverges is not taken, and listed as such.
pub fn tune(
    views: &[View],
    base: &MethodSettings,
    choices: &Choices,
    progress: &dyn Progress,
) -> Result<Tuned, CoreError> {
    base.check()?;
    if base.head.folds < 2 {
        return Err(CoreError::Setting {
            name: "head.folds",
            value: base.head.folds.to_string(),
            expected: "at least 2 with augment = \"auto\": nothing else is held out to choose by",
        });
    }
    let first = views.first().ok_or(CoreError::TooFewPairs {
        what: "choosing among no views",
        needed: 1,
        found: 0,
    })?;
    let pairs = &first.pairs;
    let outer = Folds::assign(&pairs.prompts, choices.outer_folds.max(2), base.seed);
    let needed = 4 * choices.outer_folds.max(2);
    if pairs.len() < needed || outer.count() < 2 {
        let what = "nested cross-validation (augment = \"auto\")";
        return Err(CoreError::TooFewPairs { what, needed, found: pairs.len() });
    }
    let fits = search::fits(views.len(), choices) * (outer.count() + 1);
    progress.begin("tune", fits as u64, "fits");
    // The last part is everything: what is chosen there is kept, the others say how good choosing is.
    let found: Vec<(Vec<usize>, Found)> = (0..=outer.count())
        .into_par_iter()
        .map(|part| {
            let seen: Vec<usize> =
                (0..pairs.len()).filter(|&i| outer.of_pairs()[i] != part).collect();
            let parts: Vec<EmbeddedPairs> = views.iter().map(|v| v.pairs.select(&seen)).collect();
            let names = views.iter().map(|v| v.name.as_str()).collect::<Vec<_>>();
            Ok((seen, search(&names, &parts, base, choices, progress)?))
        })
        .collect::<Result<_, CoreError>>()?;
    progress.end();

    let mut judged = Judged::default();
    let (outside, all) = found.split_at(outer.count());
    for (part, (_, found)) in outside.iter().enumerate() {
        let held = |&i: &usize| outer.of_pairs()[i] == part && !pairs.labels[i].is_tie();
        let held: Vec<usize> = (0..pairs.len()).filter(held).collect();
        judged.add(views, &held, found)?;
    }
    let nested = judged.nested(outer.count(), base.seed).ok_or(CoreError::TooFewPairs {
        what: "nested cross-validation: every pair is a tie",
        needed: 1,
        found: 0,
    })?;
    let (_, chosen) = &all[0];
    Ok(Tuned {
        view: chosen.view,
        view_name: views[chosen.view].name.clone(),
        settings: chosen.augmented_settings.clone(),
        augment: nested.gain.is_clear(),
        tried: chosen.tried.clone(),
        nested,
    })
}

/// Credits and losses of held-out pairs, fold after fold.
#[derive(Default)]
struct Judged {
    prompts: Vec<u32>,
    /// Untuned, tuned, augmented.
    credits: [Vec<f64>; 3],
    gains: Vec<f64>,
}

impl Judged {
    fn add(&mut self, views: &[View], held: &[usize], found: &Found) -> Result<(), CoreError> {
        let margins = |view: usize, model: &RewardModel| -> Result<Vec<(f32, f32)>, CoreError> {
            let pairs = views[view].pairs.select(held);
            let chosen = model.rewards(&pairs.chosen, Threads::ONE)?;
            Ok(chosen.into_iter().zip(model.rewards(&pairs.rejected, Threads::ONE)?).collect())
        };
        let untuned = margins(0, &found.untuned)?;
        let none = margins(found.view, &found.none)?;
        let augmented = margins(found.view, &found.augmented)?;
        let loss = |&(a, b): &(f32, f32)| pair_loss(a, b);
        self.gains.extend(none.iter().zip(&augmented).map(|(x, y)| loss(x) - loss(y)));
        for (credits, rewards) in self.credits.iter_mut().zip([untuned, none, augmented]) {
            credits.extend(rewards.into_iter().map(|(a, b)| credit(a, b)));
        }
        self.prompts.extend(held.iter().map(|&i| views[0].pairs.prompts[i]));
        Ok(())
    }

    fn nested(&self, folds: usize, seed: u64) -> Option<Nested> {
        let estimate =
            |totals: &[f64]| bootstrap(totals, &vec![1.0; totals.len()], &self.prompts, seed);
        let [untuned, none, augmented] = &self.credits;
        let difference: Vec<f64> = augmented.iter().zip(none).map(|(a, b)| a - b).collect();
        Some(Nested {
            folds,
            untuned: estimate(untuned)?,
            none: estimate(none)?,
            augmented: estimate(augmented)?,
            difference: estimate(&difference)?,
            gain: FoldGain::of(self.gains.iter().copied())?,
        })
    }
}

#[cfg(test)]
mod tests;
