//! The whole method, from embedded seed pairs to two reward models: one with synthesis and, with the
//! same head, the same folds and the same budget, one without.

use crate::embedded::EmbeddedPairs;
use crate::error::{CoreError, require, require_same};
use crate::folds::Folds;
use crate::head::logistic::Prior;
use crate::head::{
    Augmentation, HeadData, HeadKind, HeadReport, HeadSettings, train as train_head,
};
use crate::linalg::Threads;
use crate::metrics::mean_and_deviation;
use crate::order::{OrderReport, measure_order};
use crate::pairing::{Pairing, check_factor, synthetic_per_side};
use crate::progress::Progress;
use crate::reward_model::RewardModel;
use crate::source::lens::{Lens, VaeInputs};
use crate::source::{
    DrawOptions, RivalSettings, SeedPairs, Source, SourceKind, Synthetic, fit_rival,
};
use crate::standardise::Standardiser;
use crate::synthesis::{SynthesisSettings, Weighing};
use crate::vae::train::VaeReport;
use crate::vae::{Vae, VaeSettings};
use serde::{Deserialize, Serialize};

/// Every setting of the method. P marks what the paper fixes, O what is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MethodSettings {
    /// Augmentation factor F (P): training pairs for each seed pair, the original included; 1 turns
    /// synthesis off. Defaults to 4.
    pub augment: usize,
    /// Which responses meet in the augmented pairs (O). Defaults to `within`.
    pub pairing: Pairing,
    /// Standardise embeddings per dimension on the seed pairs (O). Defaults to true.
    pub standardise: bool,
    /// The random seed, from which all randomness follows. Defaults to 0.
    pub seed: u64,
    /// The VAE (step 2).
    pub vae: VaeSettings,
    /// The source of synthetic responses (P: latent space; the others are rivals).
    /// Defaults to `lens`.
    pub source: SourceKind,
    /// Synthesis (step 3).
    pub synthesis: SynthesisSettings,
    /// The rivals' parameters.
    pub rivals: RivalSettings,
    /// The head (step 5).
    pub head: HeadSettings,
}

impl Default for MethodSettings {
    fn default() -> Self {
        MethodSettings {
            augment: 4,
            pairing: Pairing::Within,
            standardise: true,
            seed: 0,
            vae: VaeSettings::default(),
            source: SourceKind::default(),
            synthesis: SynthesisSettings::default(),
            rivals: RivalSettings::default(),
            head: HeadSettings::default(),
        }
    }
}

impl MethodSettings {
    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        check_factor(self.augment)?;
        self.vae.check()?;
        self.synthesis.check()?;
        self.rivals.check()?;
        let alone = self.pairing == Pairing::Within || self.augment == 1;
        require(
            self.head.kind == HeadKind::Mlp || alone,
            "pairing",
            "across",
            "`within` with head.kind = \"logistic\"",
        )?;
        let even = self.synthesis.weighing() == Weighing::default();
        require(
            self.head.kind == HeadKind::Logistic || even || self.augment == 1,
            "synthesis.weight, .gate, .emphasis",
            "other than even",
            "weight 1, no gate by order and even emphasis with head.kind = \"mlp\"",
        )?;
        self.head.check()
    }

    /// Synthetic responses as these settings have a head trained on them.
    pub fn augmentation<'a>(&self, synthetic: &'a Synthetic<'a>) -> Augmentation<'a> {
        let (factor, pairing) = (self.augment, self.pairing);
        Augmentation { factor, pairing, synthetic, weighing: self.synthesis.weighing() }
    }

    /// Whether a VAE is trained: there is augmentation, and it comes from latent space.
    pub fn trains_vae(&self) -> bool {
        self.augment > 1 && self.source == SourceKind::Lens
    }

    /// Whether a model that was trained with the settings `earlier` can be trained further with
    /// these; checked before the work. Settings of the VAE count where it is trained further, too.
    ///
    /// # Errors
    /// [`CoreError::WarmStart`] names the first setting that would have to be the same.
    pub fn check_warm_start(&self, earlier: &MethodSettings, vae: bool) -> Result<(), CoreError> {
        let (then, now) = (&earlier.head, &self.head);
        require_same("standardise", earlier.standardise, self.standardise)?;
        require_same("head.kind", then.kind.name(), now.kind.name())?;
        require_same("head.hidden", then.layers(), now.layers())?;
        require_same("head.activation", then.activation, now.activation)?;
        require_same("head.members", then.members, now.members)?;
        require_same("head.folds", then.folds, now.folds)?;
        if !vae || !self.trains_vae() {
            return Ok(());
        }
        let (then, now) = (&earlier.vae, &self.vae);
        let around = |settings: &MethodSettings| settings.synthesis.around;
        require_same("synthesis.around", around(earlier), around(self))?;
        require_same("vae.hidden", then.hidden, now.hidden)?;
        require_same("vae.latent", then.latent, now.latent)?;
        require_same("vae.activation", then.activation, now.activation)
    }
}

/// A reward model and how its head's training went.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The model.
    pub model: RewardModel,
    /// Its head's curve and figures on folds.
    pub report: HeadReport,
    /// Wall-clock seconds its head took.
    pub seconds: f64,
}

/// The head with augmentation, and what it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmented {
    /// The head trained on real and synthetic pairs.
    pub fitted: Fitted,
    /// Numbers that the source of the synthetic responses learned.
    pub source_parameters: usize,
    /// The VAE, and how its training went; `None` with a source that has none.
    pub vae: Option<(Vae, VaeReport)>,
    /// Whether synthetic pairs keep their order; `None` where nothing was held out.
    pub order: Option<OrderReport>,
    /// Wall-clock seconds that the source took to learn: of VAE training, mostly.
    pub source_seconds: f64,
    /// Wall-clock seconds of drawing the synthetic responses (codes, in latent space).
    pub synthesis_seconds: f64,
}

/// Both reward models of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Trained on the seed pairs alone.
    pub none: Fitted,
    /// Trained with synthetic pairs; `None` where the factor is 1.
    pub augmented: Option<Augmented>,
    /// Which pairs were held out from which member.
    pub folds: Folds,
}

/// An earlier reward model, from which training goes on when more pairs have come in.
#[derive(Clone, Copy)]
pub struct WarmStart<'a> {
    /// The model: its standardisation is kept, its head trained further.
    pub model: &'a RewardModel,
    /// Its VAE, trained further where it has one.
    pub vae: Option<&'a Vae>,
    /// The fold that each pair was in then; `None` for pairs that it was not trained on.
    pub folds: &'a [Option<usize>],
    /// How many folds there were then ([`Folds::count`]), whether or not each has a pair now.
    pub fold_count: usize,
}

/// How much lower one head's log-loss is than another's, on the same pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FoldGain {
    /// Mean over pairs of the loss without augmentation minus the loss with it.
    pub mean: f64,
    /// Standard error of that mean.
    pub standard_error: f64,
}

impl FoldGain {
    /// The gain over pairs whose single gains these are; `None` where there is no pair.
    pub fn from_gains(gains: impl Iterator<Item = f64>) -> Option<FoldGain> {
        let gains: Vec<f64> = gains.collect();
        if gains.is_empty() {
            return None;
        }
        let (mean, deviation) = mean_and_deviation(gains.iter().copied());
        let standard_error = deviation / (gains.len().saturating_sub(1).max(1) as f64).sqrt();
        Some(FoldGain { mean, standard_error })
    }

    /// Whether the gain is larger than its standard error: below that, the simpler head is as good
    /// (the one-standard-error rule of Breiman et al. 1984).
    pub fn is_clear(&self) -> bool {
        self.mean > self.standard_error
    }
}

impl Outcome {
    /// The gain by augmentation on the seed pairs' own folds: the ground for choosing a head that uses
    /// no held-out pair. `None` without augmentation, and where nothing was held out.
    pub fn fold_gain(&self) -> Option<FoldGain> {
        let with = &self.augmented.as_ref()?.fitted.report.fold_losses;
        let gains = self.none.report.fold_losses.iter().zip(with);
        FoldGain::from_gains(gains.filter_map(|(a, b)| Some((*a)? - (*b)?)))
    }
}

/// Optional inputs of training.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// An earlier model to go on from.
    pub start: Option<WarmStart<'a>>,
    /// Held-out pairs to measure on after every epoch, for the curves: they decide nothing.
    pub watch: Option<&'a EmbeddedPairs>,
    /// A reward that is known before training, such as a public reward model's: the prior of logistic
    /// heads. Without part where training goes on from an earlier model.
    pub prior: Option<&'a Prior>,
}

/// Trains both reward models on embedded seed pairs: steps 1 (from standardisation on) to 5 of
/// docs/method.md, and the checks of step 7.
///
/// # Errors
/// Any [`CoreError`]: settings out of range, too few pairs, divergence, cancellation.
pub fn fit(
    pairs: &EmbeddedPairs,
    settings: &MethodSettings,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<Outcome, CoreError> {
    fit_with(pairs, settings, Extras::default(), threads, progress)
}

/// As [`fit`], with extras. From an earlier model, its head and VAE are trained further on `pairs`,
/// and each member keeps its earlier state unless it becomes better on its fold.
///
/// # Errors
/// As [`fit`]; [`CoreError::WarmStart`] when the settings ask for other sizes than the earlier
/// model has; [`CoreError::Shape`] when not every pair has an entry among the earlier folds.
pub fn fit_with(
    pairs: &EmbeddedPairs,
    settings: &MethodSettings,
    extras: Extras<'_>,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<Outcome, CoreError> {
    settings.check()?;
    let Extras { start, watch, prior } = extras;
    let context = match start {
        None => TrainingContext::new(pairs, settings, threads)?,
        Some(earlier) => TrainingContext::from_earlier(pairs, settings, earlier, threads)?,
    };
    let context = TrainingContext { watch, prior, ..context };
    let none = context.head(&settings.head, None, progress)?;
    if settings.augment == 1 {
        let TrainingContext { folds, .. } = context;
        return Ok(Outcome { none, augmented: None, folds });
    }
    let clock = std::time::Instant::now();
    let source = context.source(settings, progress)?;
    let source_seconds = clock.elapsed().as_secs_f64();
    let clock = std::time::Instant::now();
    let synthetic = context.synthesise(source.as_ref(), settings)?;
    let synthesis_seconds = clock.elapsed().as_secs_f64();
    let augmentation = settings.augmentation(&synthetic);
    let fitted = context.head(&settings.head, Some(&augmentation), progress)?;
    let TrainingContext { seed, .. } = context;
    let order = measure_order(
        pairs,
        &context.folds,
        &none.model,
        &synthetic,
        settings.augment,
        seed,
        threads,
    );
    drop(synthetic);
    let source_parameters = source.parameters();
    let vae = source.into_vae();
    let augmented =
        Augmented { fitted, source_parameters, vae, order, source_seconds, synthesis_seconds };
    Ok(Outcome { none, augmented: Some(augmented), folds: context.folds })
}

/// What heads that are compared have in common: pairs, standardisation, folds and random seed.
/// [`fit_with`] trains two heads in one context; a study trains many sources and heads in it.
#[derive(Clone)]
pub struct TrainingContext<'a> {
    /// The seed pairs.
    pub pairs: &'a EmbeddedPairs,
    /// Their standardisation.
    pub standardiser: Standardiser,
    /// Which of them are held out from which member.
    pub folds: Folds,
    /// The random seed.
    pub seed: u64,
    /// How many threads may be used.
    pub threads: Threads,
    /// Held-out pairs to measure on after every epoch, for the curves: they decide nothing.
    pub watch: Option<&'a EmbeddedPairs>,
    /// The seed pairs together with others whose labels are not known, for the VAE, which needs none;
    /// without them it is trained on the seed pairs alone.
    pub unlabelled: Option<&'a EmbeddedPairs>,
    /// A reward that is known before training: the prior of logistic heads.
    pub prior: Option<&'a Prior>,
    start: Option<WarmStart<'a>>,
}

impl<'a> TrainingContext<'a> {
    /// A context for heads that start afresh, with the standardisation, folds and random seed of
    /// `settings`.
    ///
    /// # Errors
    /// [`CoreError::NoDifference`] and [`CoreError::AllConstant`] where there is nothing to learn from.
    pub fn new(
        pairs: &'a EmbeddedPairs,
        settings: &MethodSettings,
        threads: Threads,
    ) -> Result<Self, CoreError> {
        let standardiser = if settings.standardise {
            Standardiser::fit(pairs)
        } else {
            Standardiser::identity(pairs.dim())
        };
        if standardiser.constant_dimensions() == pairs.dim() && !pairs.is_empty() {
            return Err(match (0..pairs.len()).all(|i| pairs.equal_sides(i)) {
                true => CoreError::NoDifference { pairs: pairs.len() },
                false => CoreError::AllConstant { dim: pairs.dim(), pairs: pairs.len() },
            });
        }
        let seed = settings.seed;
        let folds = Folds::assign(&pairs.prompts, settings.head.folds, seed);
        Ok(Self::on(pairs, standardiser, folds, seed, threads))
    }

    /// A context of these parts, with nothing that is optional.
    fn on(
        pairs: &'a EmbeddedPairs,
        standardiser: Standardiser,
        folds: Folds,
        seed: u64,
        threads: Threads,
    ) -> Self {
        let (watch, unlabelled, prior, start) = (None, None, None, None);
        TrainingContext {
            pairs,
            standardiser,
            folds,
            seed,
            threads,
            watch,
            unlabelled,
            prior,
            start,
        }
    }

    /// A context for heads that are trained further from an earlier model.
    fn from_earlier(
        pairs: &'a EmbeddedPairs,
        settings: &MethodSettings,
        earlier: WarmStart<'a>,
        threads: Threads,
    ) -> Result<Self, CoreError> {
        let seed = settings.seed;
        let standardiser = earlier.model.standardiser.clone();
        require_same("width of the embeddings", standardiser.mean.len(), pairs.dim())?;
        // Fewer than asked for are right: the earlier training had fewer prompts.
        if earlier.fold_count > settings.head.folds {
            require_same("head.folds", earlier.fold_count, settings.head.folds)?;
        }
        let folds =
            Folds::assign_from_earlier(&pairs.prompts, earlier.fold_count, earlier.folds, seed)?;
        let context = Self::on(pairs, standardiser, folds, seed, threads);
        Ok(TrainingContext { start: Some(earlier), ..context })
    }

    fn seed_pairs(&self) -> SeedPairs<'_> {
        SeedPairs { pairs: self.pairs, standardiser: &self.standardiser, folds: &self.folds }
    }

    /// Trains a head, with synthetic responses or without.
    ///
    /// # Errors
    /// As [`train_head`].
    pub fn head(
        &self,
        settings: &HeadSettings,
        augmentation: Option<&Augmentation<'_>>,
        progress: &dyn Progress,
    ) -> Result<Fitted, CoreError> {
        let clock = std::time::Instant::now();
        let TrainingContext { pairs, standardiser, folds, seed, threads, start, .. } = self;
        let (watch, prior) = (self.watch, self.prior);
        let data = HeadData { pairs, standardiser, folds, augmentation, watch, prior };
        let (head, report) = train_head(
            data,
            settings,
            start.map(|s| &s.model.head),
            *seed,
            *threads,
            if augmentation.is_some() { "augmented head" } else { "head" },
            progress,
        )?;
        let model = RewardModel::calibrated(standardiser.clone(), head, pairs, *threads)?;
        Ok(Fitted { model, report, seconds: clock.elapsed().as_secs_f64() })
    }

    /// Draws what the factor of `settings` needs of `source`, and trains a head with it.
    ///
    /// # Errors
    /// As [`TrainingContext::synthesise`] and [`TrainingContext::head`].
    pub fn head_with(
        &self,
        source: &dyn Source,
        settings: &MethodSettings,
        progress: &dyn Progress,
    ) -> Result<Fitted, CoreError> {
        let synthetic = self.synthesise(source, settings)?;
        self.head(&settings.head, Some(&settings.augmentation(&synthetic)), progress)
    }

    /// Fits the source that `settings` name: trains the VAE, or fits the rival.
    ///
    /// # Errors
    /// Any [`CoreError`] of the source.
    pub fn source(
        &self,
        settings: &MethodSettings,
        progress: &dyn Progress,
    ) -> Result<Box<dyn Source>, CoreError> {
        let MethodSettings { source, rivals, vae, synthesis, .. } = settings;
        let (seeds, threads) = (self.seed_pairs(), self.threads);
        if let Some(rival) = fit_rival(*source, rivals, seeds, threads)? {
            return Ok(rival);
        }
        let on = VaeInputs {
            pairs: self.unlabelled.unwrap_or(self.pairs),
            standardiser: &self.standardiser,
            around: synthesis.around,
            start: self.start.and_then(|s| s.vae),
        };
        Ok(Box::new(Lens::fit(on, vae, self.seed, threads, progress)?))
    }

    /// Draws as many responses of `source` as the factor of `settings` needs.
    ///
    /// # Errors
    /// As [`Source::synthesise`].
    pub fn synthesise<'s>(
        &'s self,
        source: &'s dyn Source,
        settings: &MethodSettings,
    ) -> Result<Synthetic<'s>, CoreError> {
        check_factor(settings.augment)?;
        source.synthesise(
            self.seed_pairs(),
            DrawOptions {
                per_side: synthetic_per_side(settings.augment),
                synthesis: &settings.synthesis,
                seed: self.seed,
                threads: self.threads,
            },
        )
    }
}
