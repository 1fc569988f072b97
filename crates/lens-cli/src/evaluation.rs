//! A reward model on held-out pairs: figures, and how they are shown.

use crate::error::CliError;
use crate::output::percent;
use lens_core::metrics::{Estimate, bootstrap, credits, log_loss, longer_wins, pair_accuracy};
use lens_core::{EmbeddedPairs, PreferencePair, RewardModel, Threads};
use serde::Serialize;

/// Accuracy with its interval, as `--json` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share of pairs ordered as labelled, ties as half.
    pub accuracy: f64,
    /// 95% bootstrap interval over prompts.
    pub ci95: [f64; 2],
}

impl From<Estimate> for Accuracy {
    fn from(e: Estimate) -> Self {
        Accuracy { accuracy: e.value, ci95: e.ci95 }
    }
}

impl Accuracy {
    /// `64.5% (95% interval 61.8% to 67.1%)`.
    pub fn shown(&self) -> String {
        let [low, high] = self.ci95;
        format!("{} (95% interval {} to {})", percent(self.accuracy), percent(low), percent(high))
    }
}

/// `+0.4 points (95% interval -0.2 to +1.0)`.
pub fn shown_difference(e: &Estimate) -> String {
    let [low, high] = e.ci95.map(|x| 100.0 * x);
    format!("{:+.1} points (95% interval {low:+.1} to {high:+.1})", 100.0 * e.value)
}

/// Rewards of both sides of some pairs.
pub struct PairRewards {
    /// Of the preferred responses.
    pub chosen: Vec<f32>,
    /// Of the others.
    pub rejected: Vec<f32>,
}

impl PairRewards {
    /// Scores both sides.
    pub fn of(model: &RewardModel, pairs: &EmbeddedPairs) -> Result<Self, CliError> {
        let threads = Threads::available();
        Ok(PairRewards {
            chosen: model.rewards(&pairs.chosen, threads)?,
            rejected: model.rewards(&pairs.rejected, threads)?,
        })
    }

    /// Accuracy, and log-loss.
    pub fn figures(&self, prompts: &[u32], seed: u64) -> Option<(Accuracy, f64)> {
        let accuracy = pair_accuracy(&self.chosen, &self.rejected, prompts, seed)?;
        Some((accuracy.into(), log_loss(&self.chosen, &self.rejected)?))
    }

    fn credits(&self) -> Vec<f64> {
        credits(&self.chosen, &self.rejected)
    }

    /// Accuracy of these rewards minus that of `other` on the same pairs.
    pub fn minus(&self, other: &PairRewards, prompts: &[u32], seed: u64) -> Option<Estimate> {
        let difference: Vec<f64> =
            self.credits().iter().zip(other.credits()).map(|(a, b)| a - b).collect();
        bootstrap(&difference, &vec![1.0; difference.len()], prompts, seed)
    }
}

/// Accuracy of preferring the longer response.
pub fn longer_baseline<'a>(pairs: impl Iterator<Item = &'a PreferencePair>) -> Option<f64> {
    let lengths: Vec<(usize, usize)> =
        pairs.map(|p| (p.chosen.chars(), p.rejected.chars())).collect();
    longer_wins(&lengths)
}
