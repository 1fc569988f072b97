//! The heads of one training on held-out pairs: each head scores every pair once, and every figure of
//! the result and of the report comes from those rewards.
//!
//! Accuracy is the mean of [`credit`](lens_core::metrics::credit) over pairs, ties as half, with a 95%
//! interval from resampling prompts; log-loss is that of Bradley-Terry,
//! mean of -log sigmoid(r+ - r-). The difference of two heads is taken pair by pair, so its interval is
//! narrower than those of the two accuracies.

use crate::error::EvalError;
use lens_core::metrics::{Estimate, bootstrap, credits, log_loss, longer_wins, pair_accuracy};
use lens_core::{CoreError, EmbeddedPairs, Outcome, PreferencePair, RewardModel, Threads};
use lens_data::bundle::Kept;
use lens_report::text::{percent, points};
use serde::Serialize;
use std::fmt;

/// Pair accuracy with its interval. As text: `64.5% (95% interval 61.8% to 67.1%)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairAccuracy {
    /// Share of pairs whose preferred response has the higher reward, ties as half.
    pub accuracy: f64,
    /// Ends of the 95% bootstrap interval over prompts.
    pub ci95: [f64; 2],
}

impl From<Estimate> for PairAccuracy {
    fn from(estimate: Estimate) -> Self {
        PairAccuracy { accuracy: estimate.value, ci95: estimate.ci95 }
    }
}

impl fmt::Display for PairAccuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.ci95.map(percent);
        write!(f, "{} (95% interval {low} to {high})", percent(self.accuracy))
    }
}

/// A difference of accuracies as text: `+0.4 points (95% interval -0.2 to +1.0)`.
pub fn difference_in_words(difference: &Estimate) -> String {
    let [low, high] = difference.ci95.map(points);
    format!("{} points (95% interval {low} to {high})", points(difference.value))
}

/// Rewards of both responses of some pairs, in the order of the pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRewards {
    /// Rewards of the preferred responses.
    pub chosen: Vec<f32>,
    /// Rewards of the other responses.
    pub rejected: Vec<f32>,
}

impl PairRewards {
    /// Scores both responses of every pair.
    ///
    /// # Errors
    /// [`CoreError::Shape`] where the pairs have another width than the model.
    pub fn score(
        model: &RewardModel,
        pairs: &EmbeddedPairs,
        threads: Threads,
    ) -> Result<Self, CoreError> {
        Ok(PairRewards {
            chosen: model.rewards(&pairs.chosen, threads)?,
            rejected: model.rewards(&pairs.rejected, threads)?,
        })
    }

    /// Margin of each pair: reward of the preferred response minus that of the other.
    pub fn margins(&self) -> Vec<f64> {
        let margin = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
        self.chosen.iter().zip(&self.rejected).map(margin).collect()
    }

    /// Accuracy of these rewards minus that of `other` on the same pairs, with its interval over
    /// prompts; `None` without a pair. `prompts` has a number for each pair, equal for equal prompts.
    pub fn accuracy_minus(
        &self,
        other: &PairRewards,
        prompts: &[u32],
        seed: u64,
    ) -> Option<Estimate> {
        let (ours, theirs) = (self.credits(), other.credits());
        let difference: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        bootstrap(&difference, &vec![1.0; difference.len()], prompts, seed)
    }

    fn credits(&self) -> Vec<f64> {
        credits(&self.chosen, &self.rejected)
    }
}

/// Lengths of the preferred and of the other response of each pair, in characters.
pub fn response_lengths<'a>(
    pairs: impl IntoIterator<Item = &'a PreferencePair>,
) -> Vec<(usize, usize)> {
    pairs.into_iter().map(|pair| (pair.chosen.chars(), pair.rejected.chars())).collect()
}

/// Accuracy of always preferring the longer response, ties as half; `None` without a pair.
pub fn longer_baseline<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> Option<f64> {
    longer_wins(&response_lengths(pairs))
}

/// One head on the held-out pairs. Its rewards are not serialised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadScores {
    /// Rewards of both responses of every pair.
    #[serde(skip)]
    pub rewards: PairRewards,
    /// Accuracy with its interval.
    #[serde(flatten)]
    pub accuracy: PairAccuracy,
    /// Mean log-loss.
    pub log_loss: f64,
}

impl HeadScores {
    /// Figures of rewards; `None` without a pair. `prompts` has a number for each pair, equal for equal
    /// prompts, which `seed` resamples.
    pub fn new(rewards: PairRewards, prompts: &[u32], seed: u64) -> Option<Self> {
        let accuracy = pair_accuracy(&rewards.chosen, &rewards.rejected, prompts, seed)?.into();
        let log_loss = log_loss(&rewards.chosen, &rewards.rejected)?;
        Some(HeadScores { rewards, accuracy, log_loss })
    }

    /// Margin of each pair: reward of the preferred response minus that of the other.
    pub fn margins(&self) -> Vec<f64> {
        self.rewards.margins()
    }
}

/// The models that are compared on the held-out pairs.
#[derive(Debug, Clone, Copy)]
pub struct HeldOutModels<'a> {
    /// The head that was trained without augmentation.
    pub none: &'a RewardModel,
    /// The head that was trained with augmentation, if any.
    pub augmented: Option<&'a RewardModel>,
    /// The model that training started from, if any.
    pub earlier: Option<&'a RewardModel>,
}

impl<'a> HeldOutModels<'a> {
    /// The heads of a training, and the model that it started from.
    pub fn new(outcome: &'a Outcome, earlier: Option<&'a RewardModel>) -> Self {
        HeldOutModels {
            none: &outcome.none.model,
            augmented: outcome.augmented.as_ref().map(|augmented| &augmented.fitted.model),
            earlier,
        }
    }
}

/// Figures of a training on its held-out pairs. Serialises to the object `heldout` of `lens run --json`.
/// Without held-out pairs every figure is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldOut {
    /// The model that training started from.
    pub earlier: Option<HeadScores>,
    /// The head without augmentation.
    pub none: Option<HeadScores>,
    /// The head with augmentation.
    pub augmented: Option<HeadScores>,
    /// Accuracy with augmentation minus that without, on the same pairs.
    pub difference: Option<Estimate>,
    /// Accuracy of always preferring the longer response.
    pub longer_wins: Option<f64>,
    /// Number of held-out pairs.
    pub pairs: usize,
}

impl HeldOut {
    /// Scores the pairs with every model, and bootstraps the figures over prompts with `seed`.
    /// `lengths` are those of [`response_lengths`]; empty where the texts are not known.
    ///
    /// # Errors
    /// [`EvalError::Lengths`] where there are lengths, but not for every pair; [`EvalError::Core`]
    /// where the pairs have another width than a model.
    pub fn measure(
        models: HeldOutModels<'_>,
        pairs: &EmbeddedPairs,
        lengths: &[(usize, usize)],
        seed: u64,
    ) -> Result<Self, EvalError> {
        if !lengths.is_empty() && lengths.len() != pairs.len() {
            return Err(EvalError::Lengths { expected: pairs.len(), found: lengths.len() });
        }
        let scores = |model: &RewardModel| -> Result<Option<HeadScores>, CoreError> {
            let rewards = PairRewards::score(model, pairs, Threads::available())?;
            Ok(HeadScores::new(rewards, &pairs.prompts, seed))
        };
        let scores_of = |model: Option<&RewardModel>| match model {
            Some(model) => scores(model),
            None => Ok(None),
        };
        let none = scores(models.none)?;
        let augmented = scores_of(models.augmented)?;
        let earlier = scores_of(models.earlier)?;
        let difference = match (&augmented, &none) {
            (Some(augmented), Some(none)) => {
                augmented.rewards.accuracy_minus(&none.rewards, &pairs.prompts, seed)
            }
            _ => None,
        };
        let longer_wins = longer_wins(lengths);
        Ok(HeldOut { earlier, none, augmented, difference, longer_wins, pairs: pairs.len() })
    }

    /// Whether no pair was held out, so that nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// The scores of one of the two heads; `None` where it was not trained, or nothing was held out.
    pub fn head(&self, head: Kept) -> Option<&HeadScores> {
        match head {
            Kept::None => self.none.as_ref(),
            Kept::Augmented => self.augmented.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lens_core::{Content, Matrix, MethodSettings, Quiet, fit};

    fn rewards(chosen: &[f32], rejected: &[f32]) -> PairRewards {
        PairRewards { chosen: chosen.to_vec(), rejected: rejected.to_vec() }
    }

    #[test]
    fn figures_of_one_head_by_hand() {
        // Right, tied, wrong, right: (1 + 0.5 + 0 + 1) / 4. Margins 1, 0, -1, 1.
        let scores = HeadScores::new(
            rewards(&[1.0, 2.0, 0.0, 1.0], &[0.0, 2.0, 1.0, 0.0]),
            &[0, 1, 2, 3],
            7,
        )
        .unwrap();
        assert_eq!(scores.accuracy.accuracy, 0.625);
        assert_eq!(scores.margins(), [1.0, 0.0, -1.0, 1.0]);
        let loss = |margin: f64| (1.0 + (-margin).exp()).ln();
        let expected = (loss(1.0) + loss(0.0) + loss(-1.0) + loss(1.0)) / 4.0;
        assert!((scores.log_loss - expected).abs() < 1e-12, "{}", scores.log_loss);
        assert_eq!(HeadScores::new(rewards(&[], &[]), &[], 7), None);
    }

    #[test]
    fn a_difference_is_taken_pair_by_pair() {
        let prompts: Vec<u32> = (0..40).collect();
        let half = |from: usize| (0..40).map(|i| if i % 2 == from { 1.0 } else { -1.0 }).collect();
        let (even, odd) = (
            PairRewards { chosen: half(0), rejected: vec![0.0; 40] },
            PairRewards { chosen: half(1), rejected: vec![0.0; 40] },
        );
        // No pair differs: the interval has no width. Every pair differs: it has one.
        let same = even.accuracy_minus(&even.clone(), &prompts, 1).unwrap();
        assert_eq!((same.value, same.ci95), (0.0, [0.0, 0.0]));
        let other = even.accuracy_minus(&odd, &prompts, 1).unwrap();
        assert_eq!(other.value, 0.0);
        assert!(other.ci95[0] < -0.1 && other.ci95[1] > 0.1, "{other:?}");
        assert_eq!(even.accuracy_minus(&odd, &[], 1), None);
    }

    #[test]
    fn accuracies_and_differences_in_words() {
        let accuracy = PairAccuracy { accuracy: 0.645, ci95: [0.618, 0.671] };
        assert_eq!(accuracy.to_string(), "64.5% (95% interval 61.8% to 67.1%)");
        let difference = Estimate { value: 0.004, ci95: [-0.002, 0.01] };
        assert_eq!(difference_in_words(&difference), "+0.4 points (95% interval -0.2 to +1.0)");
    }

    #[test]
    fn the_longer_answer_by_hand() {
        let pair = |chosen: &str, rejected: &str| PreferencePair {
            prompt: Content::Text("p".into()),
            chosen: Content::Text(chosen.into()),
            rejected: Content::Text(rejected.into()),
            margin: None,
            tie: false,
        };
        // Longer, as long (characters count, not bytes), shorter, shorter.
        let pairs =
            [pair("abc", "a"), pair("\u{e4}b", "ab"), pair("", "a"), pair("a", "\u{e4}\u{e4}")];
        assert_eq!(response_lengths(&pairs), [(3, 1), (2, 2), (0, 1), (1, 2)]);
        assert_eq!(longer_baseline(&pairs), Some(1.5 / 4.0));
        assert_eq!(longer_baseline([]), None);
    }

    /// Pairs of width 2 that differ along the first dimension.
    fn pairs(n: usize, shift: f32) -> EmbeddedPairs {
        let value = |i: usize, sign: f32| sign * shift + ((i * 7) % 5) as f32;
        let side = |sign: f32| {
            let values = (0..n).flat_map(|i| [value(i, sign), (i % 3) as f32]).collect();
            Matrix::new(values, n, 2).unwrap()
        };
        EmbeddedPairs::new(side(1.0), side(-1.0)).unwrap()
    }

    fn outcome() -> Outcome {
        let mut settings = MethodSettings { augment: 2, ..MethodSettings::default() };
        settings.vae.epochs = 2;
        settings.head.epochs = 3;
        settings.head.hidden = vec![4];
        fit(&pairs(24, 0.5), &settings, Threads::ONE, &Quiet).unwrap()
    }

    #[test]
    fn every_figure_is_that_of_the_rewards_and_serialises_as_the_result_does() {
        let outcome = outcome();
        let held = pairs(9, 0.3);
        let lengths: Vec<(usize, usize)> = (0..9).map(|i| (i, 4)).collect();
        let augmented = &outcome.augmented.as_ref().unwrap().fitted.model;
        let models = HeldOutModels::new(&outcome, Some(augmented));
        let found = HeldOut::measure(models, &held, &lengths, 5).unwrap();

        let none = PairRewards::score(&outcome.none.model, &held, Threads::ONE).unwrap();
        let with = PairRewards::score(augmented, &held, Threads::ONE).unwrap();
        let accuracy = pair_accuracy(&none.chosen, &none.rejected, &held.prompts, 5).unwrap();
        let scores = found.head(Kept::None).unwrap();
        assert_eq!(scores.accuracy, PairAccuracy::from(accuracy));
        assert_eq!(scores.log_loss, log_loss(&none.chosen, &none.rejected).unwrap());
        assert_eq!(scores.rewards, none);
        assert_eq!(found.head(Kept::Augmented).unwrap().rewards, with);
        assert_eq!(found.earlier, found.augmented);
        assert_eq!(found.difference, with.accuracy_minus(&none, &held.prompts, 5));
        // Longer in 4 of 9, as long in 1.
        assert_eq!((found.longer_wins, found.pairs), (Some(4.5 / 9.0), 9));

        let head = |scores: &HeadScores| {
            let PairAccuracy { accuracy, ci95 } = scores.accuracy;
            serde_json::json!({"accuracy": accuracy, "ci95": ci95, "log_loss": scores.log_loss})
        };
        let expected = serde_json::json!({
            "earlier": head(found.earlier.as_ref().unwrap()),
            "none": head(found.none.as_ref().unwrap()),
            "augmented": head(found.augmented.as_ref().unwrap()),
            "difference": found.difference.unwrap(),
            "longer_wins": 0.5,
            "pairs": 9,
        });
        // To the byte: the order of the keys too.
        assert_eq!(serde_json::to_string(&found).unwrap(), expected.to_string());
    }

    #[test]
    fn without_held_out_pairs_nothing_is_measured() {
        let outcome = outcome();
        let models = HeldOutModels::new(&outcome, None);
        let found = HeldOut::measure(models, &pairs(9, 0.3).select(&[]), &[], 5).unwrap();
        assert!(found.is_empty() && found.head(Kept::None).is_none());
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"earlier":null,"none":null,"augmented":null,"difference":null,"longer_wins":null,"pairs":0}"#
        );
        let wrong = HeldOut::measure(models, &pairs(9, 0.3), &[(1, 2)], 5).unwrap_err();
        assert!(matches!(wrong, EvalError::Lengths { expected: 9, found: 1 }), "{wrong}");
    }
}
