//! Training an ensemble of heads: minibatches of seed pairs, early stopping.

use super::batches::Batches;
use super::folds::{Best, Figures, Folds, Judge, watched};
use super::loss::LossForm;
use super::step::HeadTrainer;
use super::{Head, HeadKind, HeadSettings, HeadShape};
use crate::adam::AdamSettings;
use crate::embedded::{EmbeddedPairs, Label, distinct};
use crate::error::{CoreError, require_same};
use crate::linalg::Threads;
use crate::pairing::Pairing;
use crate::progress::Progress;
use crate::source::Synthetic;
use crate::standardise::Standardiser;
use crate::synthesis::Weighing;
use serde::{Deserialize, Serialize};

/// Loss beyond which a head counts as diverged.
const LOSS_LIMIT: f64 = 1e4;

/// Synthetic responses to train on, and how they are paired.
pub struct Augmentation<'a> {
    /// Training pairs for each seed pair, the original included.
    pub factor: usize,
    /// Where the other side of a combination comes from.
    pub pairing: Pairing,
    /// The synthetic responses of every seed pair; their number a side follows from the factor.
    pub synthetic: &'a Synthetic<'a>,
    /// What synthetic pairs count against real ones; only a logistic head weighs them.
    pub weighing: Weighing,
}

/// One epoch of head training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadEpoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss over members and steps.
    pub loss: f64,
    /// Mean log-loss of the members on their own folds; `None` where nothing is held out.
    pub fold_log_loss: Option<f64>,
    /// Mean accuracy of the members on their own folds, equal rewards as half.
    pub fold_accuracy: Option<f64>,
    /// Log-loss of the members' mean as they are after this epoch on held-out pairs, where some are
    /// watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heldout_log_loss: Option<f64>,
    /// Accuracy on the same pairs, equal rewards as half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heldout_accuracy: Option<f64>,
}

impl HeadEpoch {
    /// Adds its figures to the curves of `stage`.
    pub(super) fn draw(&self, stage: &str, progress: &dyn Progress) {
        let mut curve = vec![("loss", self.loss)];
        curve.extend(self.fold_log_loss.map(|x| ("fold_log_loss", x)));
        curve.extend(self.fold_accuracy.map(|x| ("fold_accuracy", x)));
        curve.extend(self.heldout_log_loss.map(|x| ("heldout_log_loss", x)));
        curve.extend(self.heldout_accuracy.map(|x| ("heldout_accuracy", x)));
        progress.curve("", stage, self.epoch as u64, &curve);
    }
}

/// How head training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// One entry an epoch.
    pub epochs: Vec<HeadEpoch>,
    /// The epoch each member was kept at, counted from 1; 0 is the earlier model it started from.
    pub kept_epoch: Vec<usize>,
    /// Log-loss on pairs the scoring member did not train on (but was stopped by); `None` where
    /// nothing is held out.
    pub fold_log_loss: Option<f64>,
    /// Accuracy on the same pairs, equal rewards as half.
    pub fold_accuracy: Option<f64>,
    /// Log-loss of every pair by the members that did not train on it, `None` where all did: what
    /// two heads with the same folds are compared on.
    pub fold_losses: Vec<Option<f64>>,
    /// Number of parameters of all members.
    pub parameters: usize,
    /// The weight of a logistic head's penalty, for each block of columns that has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub l2: Vec<f64>,
    /// With heads stacked, the weight of each view's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub view_weights: Vec<f64>,
}

/// What a head is trained on.
#[derive(Clone, Copy)]
pub struct HeadData<'a> {
    /// The seed pairs.
    pub pairs: &'a EmbeddedPairs,
    /// Their standardisation.
    pub standardiser: &'a Standardiser,
    /// Which of them are held out from which member.
    pub folds: &'a Folds,
    /// Their synthetic responses, where there are any.
    pub augmentation: Option<&'a Augmentation<'a>>,
    /// Held-out pairs to measure on after every epoch, for the curves: they decide nothing.
    pub watch: Option<&'a EmbeddedPairs>,
}

/// Trains an ensemble: a fresh one, or `start` further. Only real pairs decide when a member stops.
/// `stage` names the training in curves.
///
/// # Errors
/// [`CoreError::TooFewPairs`] below two prompts where some are to be held out, or when every pair
/// is a tie; [`CoreError::NoDifference`] when every pair has equal sides; [`CoreError::WarmStart`]
/// when `start` has other sizes than the settings ask for; [`CoreError::Diverged`];
/// [`CoreError::Cancelled`].
pub fn train(
    data: HeadData<'_>,
    settings: &HeadSettings,
    start: Option<&Head>,
    seed: u64,
    threads: Threads,
    stage: &str,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    threads.inside(|| match settings.kind {
        HeadKind::Mlp => run(data, settings, start, seed, threads, stage, progress),
        HeadKind::Logistic => {
            super::logistic::train(data, settings, start, seed, threads, stage, progress)
        }
    })
}

fn run(
    data: HeadData<'_>,
    settings: &HeadSettings,
    start: Option<&Head>,
    seed: u64,
    threads: Threads,
    stage: &str,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    settings.check()?;
    let HeadData { pairs, standardiser, folds, augmentation, watch } = data;
    check_pairs(pairs, settings)?;
    let members = settings.members;
    let shape = HeadShape { dim: pairs.dim(), hidden: settings.hidden.clone(), members };
    let mut batches = Batches::new(pairs, standardiser, augmentation, folds, settings, seed)?;
    let mut head = match start {
        None => Head::<f32>::new(shape.clone(), settings.activation, seed),
        Some(earlier) => {
            require_same("head.hidden", &earlier.shape.hidden, &shape.hidden)?;
            require_same("head.members", earlier.shape.members, shape.members)?;
            require_same("head.activation", earlier.activation, settings.activation)?;
            require_same("width of the embeddings", earlier.shape.dim, shape.dim)?;
            earlier.clone()
        }
    };
    let mut judge = Judge::new(pairs, standardiser, folds, members);

    let mut trainer = HeadTrainer::new(&head, batches.vae(), batches.most_embeddings(), threads);
    let adam_settings =
        AdamSettings { learning_rate: settings.learning_rate, weight_decay: settings.weight_decay };
    let form = LossForm::new(settings, &pairs.labels);
    let mut losses = vec![0.0; members];
    let mut best = Best::new(&head, members, start.is_some() && folds.count() > 1);
    if start.is_some() {
        best.update(0, &head, &judge.figures(&head, threads));
    }
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut epochs = Vec::new();
    let mut step = 0u64;

    progress.begin(&format!("train {stage}"), settings.epochs as u64, "epochs");
    for epoch in 1..=settings.epochs {
        batches.shuffle(&mut order);
        let mut loss_sum = 0.0;
        for rows in order.chunks(batches.batch) {
            if progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "head" });
            }
            step += 1;
            batches.step(rows, &mut trainer, form, &mut losses, adam_settings, threads);
            let loss = losses.iter().sum::<f64>() / members as f64;
            if !loss.is_finite() || loss > LOSS_LIMIT {
                return Err(diverged(step, loss, settings, data));
            }
            loss_sum += loss * rows.len() as f64 / pairs.len() as f64;
        }
        trainer.write_parameters(&mut head.parameters);
        let fold = judge.figures(&head, threads);
        let heldout = watch.and_then(|w| watched(&head, w, standardiser, threads));
        let figures = HeadEpoch {
            epoch,
            loss: loss_sum,
            fold_log_loss: Figures::mean(&fold, |f| f.log_loss),
            fold_accuracy: Figures::mean(&fold, |f| f.accuracy),
            heldout_log_loss: heldout.map(|(loss, _)| loss),
            heldout_accuracy: heldout.map(|(_, accuracy)| accuracy),
        };
        figures.draw(stage, progress);
        epochs.push(figures);
        best.update(epoch, &head, &fold);
        progress.advance(1);
        if best.done(epoch, settings.patience) {
            break;
        }
    }
    progress.end();
    if best.parameters.iter().any(|p| !p.is_finite()) {
        return Err(diverged(step, f64::NAN, settings, data));
    }
    let report = HeadReport {
        epochs,
        kept_epoch: best.epoch.clone(),
        fold_log_loss: Figures::mean(&best.figures, |f| f.log_loss),
        fold_accuracy: Figures::mean(&best.figures, |f| f.accuracy),
        fold_losses: best.pair_losses(pairs.len()),
        parameters: shape.parameters(),
        l2: Vec::new(),
        view_weights: Vec::new(),
    };
    head.parameters = best.parameters;
    Ok((head, report))
}

pub(super) fn check_pairs(pairs: &EmbeddedPairs, settings: &HeadSettings) -> Result<(), CoreError> {
    let prompts = distinct(&pairs.prompts).len();
    let needed = if settings.folds > 1 { 2 } else { 1 };
    if prompts < needed {
        let what = if needed == 2 {
            "training the head, which holds out whole prompts (head.folds = 1 does not)"
        } else {
            "training the head"
        };
        return Err(CoreError::TooFewPairs { what, needed, found: prompts });
    }
    if pairs.labels.iter().all(|l| l.is_tie()) {
        let what = "training the head: every pair is a tie, none has a better side";
        return Err(CoreError::TooFewPairs { what, needed: 1, found: 0 });
    }
    if (0..pairs.len()).all(|i| pairs.equal_sides(i)) {
        return Err(CoreError::NoDifference { pairs: pairs.len() });
    }
    Ok(())
}

fn diverged(step: u64, loss: f64, settings: &HeadSettings, data: HeadData<'_>) -> CoreError {
    let mut advice = format!(
        "try a smaller head.learning_rate (now {}) or a larger head.weight_decay (now {})",
        settings.learning_rate, settings.weight_decay
    );
    if data.augmentation.is_some() {
        advice += ", or a smaller synthesis.noise_variance";
    }
    let margin = |label: &Label| match label {
        Label::Preferred { margin } => f64::from(margin.abs()),
        Label::Tie => 0.0,
    };
    let largest = data.pairs.labels.iter().map(margin).fold(0.0, f64::max);
    // Rewards are of the order of 1 to 10.
    if largest * settings.margin_weight > 100.0 {
        advice += &format!(
            "; a margin of {largest} is asked for: try a smaller head.margin_weight (now {})",
            settings.margin_weight
        );
    }
    CoreError::Diverged {
        stage: "head",
        step,
        figures: if loss.is_nan() {
            "a weight or the loss is not a number".to_owned()
        } else {
            format!("mean loss {loss:.4}")
        },
        advice,
    }
}
