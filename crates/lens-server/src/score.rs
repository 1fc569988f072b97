//! From embeddings to rewards and to distances from the training data.

use crate::failure::Failure;
use crate::models::Model;
use lens_core::{Matrix, Threads};
use lens_encoder::Encoded;

/// Rewards of some embeddings, each finite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scores {
    /// The ensemble's mean.
    pub rewards: Vec<f32>,
    /// The same in standard deviations from the mean of the training responses.
    pub normalised: Vec<f64>,
    /// Standard deviation of the ensemble's members.
    pub deviations: Vec<f64>,
}

impl Scores {
    /// The numbers of an answer: the rewards or, with `activation`, the sigmoids of the normalised
    /// rewards, from 0 to 1.
    pub fn values(&self, activation: bool) -> Vec<f64> {
        match activation {
            true => self.normalised.iter().map(|r| sigmoid(*r)).collect(),
            false => self.rewards.iter().map(|r| f64::from(*r)).collect(),
        }
    }
}

/// Scores rows of embeddings.
///
/// # Errors
/// 422 for a wrong width; 500 for a reward that is not finite.
pub(crate) fn score(model: &Model, rows: &Matrix) -> Result<Scores, Failure> {
    let members = model.reward.head.shape().members;
    let all = model.reward.member_rewards(rows, Threads::ONE)?;
    let n = rows.rows();
    let (mut rewards, mut normalised, mut deviations) =
        (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    for (i, own) in all.chunks_exact(members).enumerate() {
        let mean = own.iter().map(|&r| f64::from(r)).sum::<f64>() / members as f64;
        let squares = own.iter().map(|&r| (f64::from(r) - mean).powi(2)).sum::<f64>();
        let deviation = (squares / members as f64).sqrt();
        let reward = mean as f32;
        let in_deviations = model.reward.normalise(reward);
        if !reward.is_finite() || !deviation.is_finite() || !in_deviations.is_finite() {
            let message = format!("the reward of row {i} is not a finite number");
            return Err(Failure { code: "not_finite", ..Failure::internal(message) });
        }
        rewards.push(reward);
        normalised.push(in_deviations);
        deviations.push(deviation);
    }
    Ok(Scores { rewards, normalised, deviations })
}

/// The vectors of encoded texts, a row a text.
///
/// # Errors
/// 500 for an encoder that answers another width than the model needs.
pub(crate) fn matrix(model: &Model, encoded: &[Encoded]) -> Result<Matrix, Failure> {
    let mut data = Vec::with_capacity(encoded.len() * model.dim());
    for one in encoded {
        if one.vector.len() != model.dim() {
            let (found, needed) = (one.vector.len(), model.dim());
            let message = format!("the encoder gave {found} numbers, the model needs {needed}");
            return Err(Failure::internal(message));
        }
        data.extend_from_slice(&one.vector);
    }
    Ok(Matrix::new(data, encoded.len(), model.dim())?)
}

/// The distance of every row from the responses that were trained on, each finite; `None` for a
/// model without a VAE.
///
/// # Errors
/// 500 for a distance that is not finite.
pub(crate) fn distances(model: &Model, rows: &Matrix) -> Result<Option<Vec<f64>>, Failure> {
    let Some((vae, novelty)) = &model.novelty else { return Ok(None) };
    let standardiser = &model.reward.standardiser;
    let all = novelty.distances(vae, standardiser, rows, Threads::ONE)?;
    match all.iter().position(|d| !d.is_finite()) {
        None => Ok(Some(all)),
        Some(i) => {
            let message = format!("the distance of row {i} is not a finite number");
            Err(Failure { code: "not_finite", ..Failure::internal(message) })
        }
    }
}

/// 1 / (1 + exp(-x)): with a difference of rewards, the probability that the first is preferred
/// (Bradley and Terry).
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
