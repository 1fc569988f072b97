//! The candidates, and how each is judged on the outer folds.

use lens_core::folds::Folds;
use lens_core::head::{Combine, HeadKind, HeadSettings, L2};
use lens_core::method::{FoldGain, TrainingContext};
use lens_core::metrics::{credit, pair_loss};
use lens_core::progress::Within;
use lens_core::source::{Source, SourceKind};
use lens_core::synthesis::{Decoding, SynthesisSettings};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress, RewardModel, Threads};
use rayon::prelude::*;
use serde::Serialize;

/// The options of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// How many of the views, from the first on, the settings name; the others are further candidates.
    pub given_views: usize,
    /// Whether other views and heads than those of the settings are tried.
    pub heads: bool,
    /// Whether augmentation is tried.
    pub augment: bool,
    /// Weights of the VAE's divergence that are tried beside that of the settings.
    pub gammas: Vec<f64>,
    /// Variances of the latent noise, and of direct perturbation, that are tried beside that of the
    /// settings.
    pub noise_variances: Vec<f64>,
    /// Whether the rivals of latent space synthesis are candidates.
    pub rivals: bool,
    /// Outer folds.
    pub outer_folds: usize,
}

impl Default for Choices {
    fn default() -> Self {
        Choices {
            given_views: 1,
            heads: true,
            augment: true,
            gammas: vec![0.3],
            noise_variances: vec![0.1],
            rivals: true,
            outer_folds: 5,
        }
    }
}

/// The two kinds of candidates. Those of the second are trained with the best of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateKind {
    /// Views of the texts and the head on them, without augmentation.
    Head,
    /// The source of synthetic responses and its noise.
    Source,
}

impl CandidateKind {
    /// `views and head`, or `source of synthetic pairs`.
    pub fn name(self) -> &'static str {
        match self {
            CandidateKind::Head => "views and head",
            CandidateKind::Source => "source of synthetic pairs",
        }
    }
}

/// A choice of views and settings that may be taken.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub kind: CandidateKind,
    /// In words.
    pub label: String,
    /// Numbers of the views.
    pub views: Vec<usize>,
    /// Settings; a factor of 1 is no augmentation.
    pub settings: MethodSettings,
}

/// A candidate with its figures on the outer folds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CandidateResult {
    /// Its kind.
    #[serde(rename = "what")]
    pub kind: CandidateKind,
    /// Its description: `logistic on layer=12,pooling=mean`, `mixup, 4x`.
    pub label: String,
    /// Numbers of its views.
    pub views: Vec<usize>,
    /// Mean log-loss on the outer folds; `None` where training diverged.
    pub log_loss: Option<f64>,
    /// Accuracy on the outer folds; `None` where training diverged.
    pub accuracy: Option<f64>,
    /// Why there are no figures.
    pub diverged: Option<String>,
    /// Whether it is the one of its kind that is chosen.
    pub best: bool,
}

/// The candidate heads. The first is that of the settings; the last is chosen unless another is clearly
/// better: with several views one head on all of them. Single other views and stacked heads were tried
/// in studies, and are not worth their time (`docs/results.md`).
pub(super) fn heads(names: &[String], base: &MethodSettings, choices: &Choices) -> Vec<Candidate> {
    let plain = MethodSettings { augment: 1, ..base.clone() };
    let one = |label: String, views: Vec<usize>, head: HeadSettings| Candidate {
        kind: CandidateKind::Head,
        label,
        views,
        settings: MethodSettings { head, ..plain.clone() },
    };
    let on = |views: &[usize]| match views {
        [only] => names[*only].clone(),
        several if several.len() == names.len() => format!("all {} views", names.len()),
        several => format!("{} views", several.len()),
    };
    let given: Vec<usize> = (0..choices.given_views.clamp(1, names.len())).collect();
    let label = format!("{} on {}, as given", base.head.kind.name(), on(&given));
    let mut all = vec![one(label, given.clone(), base.head.clone())];
    if !choices.heads {
        return all;
    }
    let logistic = HeadSettings {
        kind: HeadKind::Logistic,
        l2: L2::Auto,
        combine: Combine::Joint,
        ..base.head.clone()
    };
    if base.head != logistic {
        all.push(one(format!("logistic on {}", on(&given)), given.clone(), logistic.clone()));
    }
    if names.len() > given.len() {
        let every: Vec<usize> = (0..names.len()).collect();
        all.push(one(format!("logistic on {}", on(&every)), every, logistic));
    }
    all
}

/// The candidate sources of synthetic pairs: a description and the settings of each.
pub(super) fn sources(base: &MethodSettings, choices: &Choices) -> Vec<(String, MethodSettings)> {
    let factor = if base.augment > 1 { base.augment } else { MethodSettings::default().augment };
    let base = MethodSettings { augment: factor, source: SourceKind::Lens, ..base.clone() };
    let mut all = Vec::new();
    let with = |own: f64, others: &[f64]| {
        let mut values = vec![own];
        values.extend(others.iter().filter(|&&x| x != own));
        values
    };
    // Candidates that share a VAE are neighbours, so that it is trained once.
    for gamma in with(base.vae.gamma, &choices.gammas) {
        for noise in with(base.synthesis.noise_variance, &choices.noise_variances) {
            let mut settings = base.clone();
            settings.vae.gamma = gamma;
            settings.synthesis.noise_variance = noise;
            all.push((format!("lens, gamma {gamma}, s^2 {noise}, {factor}x"), settings.clone()));
            if settings.synthesis.decoding == Decoding::Plain
                && noise > base.synthesis.noise_variance
            {
                let decoding = Decoding::Residual;
                settings.synthesis = SynthesisSettings { decoding, ..settings.synthesis };
                all.push((
                    format!("lens, gamma {gamma}, s^2 {noise}, residual, {factor}x"),
                    settings,
                ));
            }
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

/// A candidate with its figures pair by pair.
pub(super) struct Evaluated {
    pub candidate: Candidate,
    /// Log-loss and credit of every pair, by the head that was trained without the pair's outer fold;
    /// `None` for ties, and for folds where training diverged.
    pub pairs: Vec<Option<(f64, f64)>>,
    pub diverged: Option<String>,
}

impl Evaluated {
    /// By how much its log-loss is lower than another's on the pairs for which `counts` is true; `None`
    /// where training diverged for one of both.
    pub(super) fn gain_over(
        &self,
        other: &Evaluated,
        counts: &impl Fn(usize) -> bool,
    ) -> Option<FoldGain> {
        if self.diverged.is_some() || other.diverged.is_some() {
            return None;
        }
        let counted = (0..self.pairs.len()).filter(|&i| counts(i));
        FoldGain::from_gains(counted.filter_map(|i| Some(other.pairs[i]?.0 - self.pairs[i]?.0)))
    }

    /// Mean log-loss of the pairs for which `counts` is true; `None` where training diverged.
    pub(super) fn log_loss(&self, counts: &impl Fn(usize) -> bool) -> Option<f64> {
        self.mean(|(loss, _)| loss, counts)
    }

    fn mean(
        &self,
        figure: impl Fn((f64, f64)) -> f64,
        counts: &impl Fn(usize) -> bool,
    ) -> Option<f64> {
        if self.diverged.is_some() {
            return None;
        }
        let own: Vec<f64> = (0..self.pairs.len())
            .filter(|&i| counts(i))
            .filter_map(|i| self.pairs[i].map(&figure))
            .collect();
        (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
    }

    pub(super) fn result(&self, best: bool) -> CandidateResult {
        let Candidate { kind, label, views, .. } = &self.candidate;
        CandidateResult {
            kind: *kind,
            label: label.clone(),
            views: views.clone(),
            log_loss: self.log_loss(&|_| true),
            accuracy: self.mean(|(_, credit)| credit, &|_| true),
            diverged: self.diverged.clone(),
            best,
        }
    }
}

/// Trains and judges candidates.
pub(super) struct Search<'a> {
    pub pairs: &'a EmbeddedPairs,
    pub outer: &'a Folds,
    pub progress: &'a dyn Progress,
}

/// The figures of one candidate on one outer fold: number, log-loss and credit of each of its pairs, or
/// why training without that fold diverged.
type FoldResult = Result<Vec<(usize, f64, f64)>, String>;

impl Search<'_> {
    /// Judges candidates on every outer fold.
    pub(super) fn judge(&self, candidates: Vec<Candidate>) -> Result<Vec<Evaluated>, CoreError> {
        // Candidates that share a VAE are trained by one worker.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, one) in candidates.iter().enumerate() {
            let shares = |group: &&mut Vec<usize>| {
                let other = &candidates[group[0]];
                let both_lens = one.settings.trains_vae() && other.settings.trains_vae();
                both_lens && one.settings.vae == other.settings.vae && one.views == other.views
            };
            match groups.iter_mut().find(shares) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        let work: Vec<(&[usize], usize)> = groups
            .iter()
            .flat_map(|group| (0..self.outer.count()).map(move |fold| (&group[..], fold)))
            .collect();
        let parts: Vec<Vec<FoldResult>> = work
            .par_iter()
            .with_max_len(1)
            .map(|(group, fold)| {
                let own: Vec<&Candidate> = group.iter().map(|&i| &candidates[i]).collect();
                self.without(&own, *fold)
            })
            .collect::<Result<_, CoreError>>()?;
        let mut evaluated: Vec<Evaluated> = candidates
            .into_iter()
            .map(|candidate| Evaluated {
                candidate,
                pairs: vec![None; self.pairs.len()],
                diverged: None,
            })
            .collect();
        for ((group, _), parts) in work.into_iter().zip(parts) {
            for (&candidate, part) in group.iter().zip(parts) {
                let to = &mut evaluated[candidate];
                match part {
                    Ok(of) => of.into_iter().for_each(|(i, loss, c)| to.pairs[i] = Some((loss, c))),
                    Err(why) => to.diverged = Some(why),
                }
            }
        }
        Ok(evaluated)
    }

    /// Candidates of one group, trained without one outer fold and judged on it.
    fn without(&self, group: &[&Candidate], fold: usize) -> Result<Vec<FoldResult>, CoreError> {
        let progress = &Within::silent(self.progress);
        let of = self.outer.of_pairs();
        let seen: Vec<usize> = (0..of.len()).filter(|&i| of[i] != fold).collect();
        let held = |&i: &usize| of[i] == fold && !self.pairs.labels[i].is_tie();
        let held: Vec<usize> = (0..of.len()).filter(held).collect();
        let views = self.pairs.select_views(&group[0].views)?;
        let (train, heldout) = (views.select(&seen), views.select(&held));
        let mut parts = Vec::with_capacity(group.len());
        let arena = match TrainingContext::new(&train, &group[0].settings, Threads::ONE) {
            Ok(arena) => arena,
            Err(error) => {
                let why = ran_away(error)?;
                self.progress.advance(group.len() as u64);
                return Ok(vec![Err(why); group.len()]);
            }
        };
        let mut source: Option<Result<Box<dyn Source>, CoreError>> = None;
        for candidate in group {
            if self.progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "tune" });
            }
            let settings = &candidate.settings;
            let fitted = if settings.augment == 1 {
                arena.head(&settings.head, None, progress)
            } else {
                let source = source.get_or_insert_with(|| arena.source(settings, progress));
                match source {
                    Ok(source) => arena.head_with(source.as_ref(), settings, progress),
                    Err(error) => Err(error.clone()),
                }
            };
            self.progress.advance(1);
            parts.push(match fitted {
                Ok(fitted) => Ok(figures(&fitted.model, &heldout, &held)?),
                Err(error) => Err(ran_away(error)?),
            });
        }
        Ok(parts)
    }
}

/// Why training failed, where the data or the settings are the cause; other errors are passed on.
fn ran_away(error: CoreError) -> Result<String, CoreError> {
    if error.is_without_model() { Ok(error.to_string()) } else { Err(error) }
}

fn figures(
    model: &RewardModel,
    heldout: &EmbeddedPairs,
    numbers: &[usize],
) -> Result<Vec<(usize, f64, f64)>, CoreError> {
    let chosen = model.rewards(&heldout.chosen, Threads::ONE)?;
    let rejected = model.rewards(&heldout.rejected, Threads::ONE)?;
    let both = numbers.iter().zip(chosen.into_iter().zip(rejected));
    Ok(both.map(|(&i, (a, b))| (i, pair_loss(a, b), credit(a, b))).collect())
}
