//! One search: everything that is tried on one set of pairs.

use super::Choices;
use lens_core::head::train::Augmentation;
use lens_core::method::{Arena, Fitted};
use lens_core::progress::Within;
use lens_core::source::{Source, SourceKind};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress, RewardModel, Threads};
use rayon::prelude::*;
use serde::Serialize;

/// What a candidate is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The view of the texts, without augmentation.
    View,
    /// The head's weight decay, without augmentation.
    WeightDecay,
    /// The source of synthetic responses and its noise.
    Source,
    /// How many of them.
    Factor,
}

/// A view and settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Number of the view.
    pub view: usize,
    /// Settings; a factor of 1 is none.
    #[serde(skip)]
    pub settings: MethodSettings,
}

/// One candidate and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// What it was tried for.
    pub what: What,
    /// What it is, in words: `layer=12,pooling=mean`, `mixup, 4x`.
    pub label: String,
    /// The candidate.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Log-loss on the folds; `None` where training ran away.
    pub fold_log_loss: Option<f64>,
    /// Accuracy on the folds.
    pub fold_accuracy: Option<f64>,
    /// Why there is no figure.
    pub diverged: Option<String>,
    /// Whether it was the best of its kind.
    pub best: bool,
}

/// What a search found.
pub(super) struct Found {
    pub view: usize,
    /// The settings it started from, on the first view, without augmentation.
    pub untuned: RewardModel,
    pub none: RewardModel,
    pub augmented: RewardModel,
    /// Of `augmented`; with a factor of 1 they are those of `none`.
    pub augmented_settings: MethodSettings,
    pub tried: Vec<Tried>,
}

/// How many heads a search trains.
pub(super) fn fits(views: usize, choices: &Choices) -> usize {
    views
        + choices.weight_decays.len()
        + sources(&MethodSettings::default(), choices).len()
        + choices.factors.len()
}

/// The sources that are tried at the factor to begin with.
fn sources(base: &MethodSettings, choices: &Choices) -> Vec<(String, MethodSettings)> {
    let factor = if base.augment > 1 { base.augment } else { MethodSettings::default().augment };
    let base = MethodSettings { augment: factor, source: SourceKind::Lens, ..base.clone() };
    let mut all = Vec::new();
    let with = |own: f64, others: &[f64]| {
        let mut values = vec![own];
        values.extend(others.iter().filter(|&&x| x != own));
        values
    };
    // Variances of one VAE stand side by side, so that it is trained once.
    for gamma in with(base.vae.gamma, &choices.gammas) {
        for noise in with(base.synthesis.noise_variance, &choices.noise_variances) {
            let mut settings = base.clone();
            settings.vae.gamma = gamma;
            settings.synthesis.noise_variance = noise;
            all.push((format!("lens, gamma {gamma}, s^2 {noise}, {factor}x"), settings));
        }
    }
    if !choices.rivals {
        return all;
    }
    for noise in with(base.rivals.perturbation_variance, &choices.noise_variances) {
        let mut settings = MethodSettings { source: SourceKind::Perturbation, ..base.clone() };
        settings.rivals.perturbation_variance = noise;
        all.push((format!("perturbation, s^2 {noise}, {factor}x"), settings));
    }
    for source in [SourceKind::Mixup, SourceKind::Gaussian] {
        let settings = MethodSettings { source, ..base.clone() };
        all.push((format!("{}, {factor}x", source.name()), settings));
    }
    all
}

/// A head, if it could be trained.
struct Outcome {
    tried: Tried,
    fitted: Option<Fitted>,
}

struct Search<'a> {
    names: &'a [&'a str],
    views: &'a [EmbeddedPairs],
    progress: &'a dyn Progress,
}

/// Searches `views`, all of the same pairs.
pub(super) fn search(
    names: &[&str],
    views: &[EmbeddedPairs],
    base: &MethodSettings,
    choices: &Choices,
    progress: &dyn Progress,
) -> Result<Found, CoreError> {
    let search = Search { names, views, progress };
    let plain = MethodSettings { augment: 1, ..base.clone() };
    let mut tried = Vec::new();

    let by_view = (0..views.len())
        .into_par_iter()
        .map(|view| search.plain(What::View, view, plain.clone()))
        .collect::<Result<Vec<Outcome>, CoreError>>()?;
    let untuned = model(&by_view[0])?;
    let best = keep(by_view, &mut tried)?;
    let view = best.tried.candidate.view;

    let decays = choices.weight_decays.iter().filter(|&&w| w != base.head.weight_decay);
    let decays: Vec<MethodSettings> = decays
        .map(|&weight_decay| {
            let mut settings = plain.clone();
            settings.head.weight_decay = weight_decay;
            settings
        })
        .collect();
    let mut by_decay = decays
        .into_par_iter()
        .map(|settings| search.plain(What::WeightDecay, view, settings))
        .collect::<Result<Vec<Outcome>, CoreError>>()?;
    // That of the settings themselves has been tried.
    let own = Tried {
        what: What::WeightDecay,
        label: format!("weight decay {}", base.head.weight_decay),
        ..best.tried.clone()
    };
    by_decay.push(Outcome { tried: own, fitted: best.fitted });
    let best = keep(by_decay, &mut tried)?;
    let none = model(&best)?;
    let settings = best.tried.candidate.settings;

    // From here on every candidate has that view and weight decay.
    let mut base = base.clone();
    base.head = settings.head.clone();
    let arena = Arena::new(&views[view], &base, Threads::ONE)?;
    let mut by_source = search.sources(&arena, view, What::Source, sources(&base, choices))?;
    mark(&mut by_source);
    let Some(best) = by_source.iter().find(|o| o.tried.best) else {
        // Every source ran away: there is nothing to augment with.
        tried.extend(by_source.into_iter().map(|o| o.tried));
        let augmented = none.clone();
        return Ok(Found { view, untuned, none, augmented, augmented_settings: settings, tried });
    };
    let of_best = best.tried.candidate.settings.clone();
    let label = best.tried.label.rsplit_once(", ").map_or("", |(l, _)| l).to_owned();
    let factors = choices.factors.iter().filter(|&&f| f > 1 && f != of_best.augment);
    let factors: Vec<(String, MethodSettings)> = factors
        .map(|&f| (format!("{label}, {f}x"), MethodSettings { augment: f, ..of_best.clone() }))
        .collect();
    let mut by_factor = search.sources(&arena, view, What::Factor, factors)?;
    let at = by_source.iter().position(|o| o.tried.best).unwrap_or(0);
    let best = by_source.remove(at);
    let of_source = best.tried.clone();
    by_factor
        .push(Outcome { tried: Tried { what: What::Factor, ..best.tried }, fitted: best.fitted });
    let mut listed: Vec<Tried> = by_source.into_iter().map(|o| o.tried).collect();
    listed.insert(at, of_source);
    tried.extend(listed);
    let best = keep(by_factor, &mut tried)?;
    let augmented = model(&best)?;
    let augmented_settings = best.tried.candidate.settings;
    Ok(Found { view, untuned, none, augmented, augmented_settings, tried })
}

impl Search<'_> {
    fn plain(
        &self,
        what: What,
        view: usize,
        settings: MethodSettings,
    ) -> Result<Outcome, CoreError> {
        let arena = Arena::new(&self.views[view], &settings, Threads::ONE)?;
        let fitted = arena.head(&settings.head, None, &Within(self.progress));
        let label = match what {
            What::View => self.names[view].to_owned(),
            _ => format!("weight decay {}", settings.head.weight_decay),
        };
        self.outcome(what, label, Candidate { view, settings }, fitted)
    }

    /// A head for each of some settings that differ in their source and factor.
    fn sources(
        &self,
        arena: &Arena<'_>,
        view: usize,
        what: What,
        all: Vec<(String, MethodSettings)>,
    ) -> Result<Vec<Outcome>, CoreError> {
        let within = Within(self.progress);
        // Those with one VAE are one after the other, and share it.
        let mut groups: Vec<Vec<(String, MethodSettings)>> = Vec::new();
        for one in all {
            let same = |group: &&mut Vec<(String, MethodSettings)>| {
                let other = &group[0].1;
                let lens = SourceKind::Lens;
                (one.1.source, other.source) == (lens, lens) && one.1.vae == other.vae
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
        let group = |group: Vec<(String, MethodSettings)>| {
            let source = match arena.source(&group[0].1, &within) {
                Ok(source) => source,
                Err(error) => {
                    let each = group.into_iter().map(|(label, settings)| {
                        let candidate = Candidate { view, settings };
                        self.outcome(what, label, candidate, Err(error.clone()))
                    });
                    return each.collect();
                }
            };
            let each = group.into_iter().map(|(label, settings)| {
                let fitted = fit(arena, source.as_ref(), &settings, &within);
                self.outcome(what, label, Candidate { view, settings }, fitted)
            });
            each.collect::<Result<Vec<Outcome>, CoreError>>()
        };
        let done = groups.into_par_iter().map(group).collect::<Result<Vec<_>, CoreError>>()?;
        Ok(done.into_iter().flatten().collect())
    }

    /// A training that ran away is an outcome; any other error is one.
    fn outcome(
        &self,
        what: What,
        label: String,
        candidate: Candidate,
        fitted: Result<Fitted, CoreError>,
    ) -> Result<Outcome, CoreError> {
        self.progress.advance(1);
        let (fitted, diverged) = match fitted {
            Ok(fitted) => (Some(fitted), None),
            Err(error @ CoreError::Diverged { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let report = fitted.as_ref().map(|f| &f.report);
        let tried = Tried {
            what,
            label,
            candidate,
            fold_log_loss: report.and_then(|r| r.fold_log_loss),
            fold_accuracy: report.and_then(|r| r.fold_accuracy),
            diverged,
            best: false,
        };
        Ok(Outcome { tried, fitted })
    }
}

fn fit(
    arena: &Arena<'_>,
    source: &dyn Source,
    settings: &MethodSettings,
    progress: &dyn Progress,
) -> Result<Fitted, CoreError> {
    let synthetic = arena.synthesise(source, settings)?;
    let (factor, pairing) = (settings.augment, settings.pairing);
    let augmentation = Augmentation { factor, pairing, synthetic: &synthetic };
    arena.head(&settings.head, Some(&augmentation), progress)
}

/// Marks the one with the lowest log-loss, the first of equals.
fn mark(outcomes: &mut [Outcome]) {
    let loss = |o: &Outcome| o.tried.fold_log_loss.unwrap_or(f64::INFINITY);
    outcomes.iter_mut().for_each(|o| o.tried.best = false);
    let best = outcomes.iter_mut().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    if let Some(best) = best.filter(|o| o.fitted.is_some()) {
        best.tried.best = true;
    }
}

/// The best outcome; all of them are listed.
fn keep(mut outcomes: Vec<Outcome>, tried: &mut Vec<Tried>) -> Result<Outcome, CoreError> {
    mark(&mut outcomes);
    tried.extend(outcomes.iter().map(|o| o.tried.clone()));
    outcomes.into_iter().find(|o| o.tried.best).ok_or_else(|| CoreError::Diverged {
        stage: "head",
        step: 0,
        figures: "no setting that was tried could be trained".to_owned(),
        advice: "try a smaller head.learning_rate".to_owned(),
    })
}

fn model(outcome: &Outcome) -> Result<RewardModel, CoreError> {
    outcome.fitted.as_ref().map(|f| f.model.clone()).ok_or_else(|| CoreError::Diverged {
        stage: "head",
        step: 0,
        figures: outcome.tried.diverged.clone().unwrap_or_default(),
        advice: "try a smaller head.learning_rate".to_owned(),
    })
}
