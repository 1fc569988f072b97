//! Types shared by both kinds of head: the training data, and the report of a training.

use super::logistic::{Prior, PriorReport};
use super::settings::HeadSettings;
use crate::embedded::{EmbeddedPairs, distinct};
use crate::error::CoreError;
use crate::folds::Folds;
use crate::pairing::Pairing;
use crate::progress::Progress;
use crate::source::Synthetic;
use crate::standardise::Standardiser;
use crate::synthesis::Weighing;
use serde::{Deserialize, Serialize};

/// Synthetic responses to train on, and how they are paired.
pub struct Augmentation<'a> {
    /// Training pairs for each seed pair, the original included.
    pub factor: usize,
    /// Which responses meet in a combination.
    pub pairing: Pairing,
    /// The synthetic responses of every seed pair; their number a side follows from the factor.
    pub synthetic: &'a Synthetic<'a>,
    /// The weight of synthetic pairs against real ones; only a logistic head uses it.
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
    /// What became of a logistic head's prior, where it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorReport>,
}

/// The data that a head is trained on.
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
    /// A reward that is known before training; only a logistic head that starts afresh uses it.
    pub prior: Option<&'a Prior>,
}

/// Whether there is something to learn from.
///
/// # Errors
/// As [`super::train()`] says of pairs.
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
