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

/// What a reward model says of some embeddings, one of each for every row.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The mean of the ensemble's members, which is the reward.
    pub rewards: Vec<f32>,
    /// The reward in standard deviations of the seed responses' rewards from their mean.
    pub normalised: Vec<f64>,
    /// The standard deviation of the members around their mean: how far they disagree.
    pub deviations: Vec<f64>,
}

impl Judged {
    /// The first row, counted from 0, of which a figure is NaN or infinite.
    pub fn first_not_finite(&self) -> Option<usize> {
        (0..self.rewards.len()).find(|&i| {
            let Judged { rewards, normalised, deviations } = self;
            !(rewards[i].is_finite() && normalised[i].is_finite() && deviations[i].is_finite())
        })
    }
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

    /// Rewards with how far the ensemble's members disagree on each.
    ///
    /// # Errors
    /// As [`RewardModel::member_rewards`].
    pub fn judge(&self, embeddings: &dyn Rows, threads: Threads) -> Result<Judged, CoreError> {
        let members = self.head.shape().members;
        let all = self.member_rewards(embeddings, threads)?;
        let rewards = ensemble_mean(&all, members);
        let normalised = rewards.iter().map(|&reward| self.normalise(reward)).collect();
        let deviation =
            |own: &[f32]| mean_and_deviation(own.iter().map(|&reward| f64::from(reward))).1;
        let deviations = all.chunks_exact(members).map(deviation).collect();
        Ok(Judged { rewards, normalised, deviations })
    }

    /// A reward in standard deviations of the seed responses' rewards from their mean.
    pub fn normalise(&self, reward: f32) -> f64 {
        let deviation = if self.reward_deviation > 0.0 { self.reward_deviation } else { 1.0 };
        (f64::from(reward) - self.reward_mean) / deviation
    }
}
