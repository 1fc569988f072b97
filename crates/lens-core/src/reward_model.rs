//! The reward model: a standardiser and an ensemble of heads, embeddings in, rewards out.

use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::head::{Head, ensemble_mean};
use crate::linalg::Threads;
use crate::matrix::Rows;
use crate::metrics::mean_and_deviation;
use crate::standardise::Standardiser;

/// A trained reward model: embeddings in, rewards out.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardModel {
    /// Applied to every embedding first.
    pub standardiser: Standardiser,
    /// The ensemble.
    pub head: Head,
    /// Mean reward of the seed responses, by which scores can be normalised.
    pub reward_mean: f64,
    /// Standard deviation of the rewards of the seed responses.
    pub reward_deviation: f64,
}

impl RewardModel {
    /// A reward model with the mean and deviation of its rewards on `pairs`.
    pub(crate) fn calibrated(
        standardiser: Standardiser,
        head: Head,
        pairs: &EmbeddedPairs,
        threads: Threads,
    ) -> Result<Self, CoreError> {
        let mut model = RewardModel { standardiser, head, reward_mean: 0.0, reward_deviation: 1.0 };
        let chosen = model.rewards(&pairs.chosen, threads)?;
        let rejected = model.rewards(&pairs.rejected, threads)?;
        let all = chosen.iter().chain(&rejected).map(|&r| f64::from(r));
        (model.reward_mean, model.reward_deviation) = mean_and_deviation(all);
        Ok(model)
    }

    /// Every member's reward, [n, M].
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the embeddings are not as wide as those trained on.
    pub fn member_rewards(
        &self,
        embeddings: &dyn Rows,
        threads: Threads,
    ) -> Result<Vec<f32>, CoreError> {
        let (n, d) = (embeddings.rows(), self.standardiser.mean.len());
        if embeddings.dim() != d {
            return Err(CoreError::Shape {
                what: "embeddings to score",
                expected: (n, d),
                found: (n, embeddings.dim()),
            });
        }
        let mut rewards = Vec::with_capacity(n * self.head.shape().members);
        // Rows in blocks, so that a large store is never copied as a whole.
        let mut x = vec![0.0f32; 512.min(n) * d];
        for first in (0..n).step_by(512) {
            let x = &mut x[..512.min(n - first) * d];
            for (i, row) in x.chunks_exact_mut(d).enumerate() {
                embeddings.read(first + i, row);
                self.standardiser.apply(row);
            }
            rewards.extend(self.head.member_rewards(x, threads));
        }
        Ok(rewards)
    }

    /// Rewards: the ensemble's mean, `[n]`.
    ///
    /// # Errors
    /// As [`RewardModel::member_rewards`].
    pub fn rewards(&self, embeddings: &dyn Rows, threads: Threads) -> Result<Vec<f32>, CoreError> {
        let members = self.head.shape().members;
        Ok(ensemble_mean(&self.member_rewards(embeddings, threads)?, members))
    }

    /// A reward in standard deviations of the seed responses' rewards from their mean.
    pub fn normalise(&self, reward: f32) -> f64 {
        let deviation = if self.reward_deviation > 0.0 { self.reward_deviation } else { 1.0 };
        (f64::from(reward) - self.reward_mean) / deviation
    }
}
