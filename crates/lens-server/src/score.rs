//! From embeddings to rewards and to distances from the training data.

use crate::failure::Failure;
use crate::models::Model;
use lens_core::metrics::sigmoid;
use lens_core::{Judged, Matrix, Threads};
use lens_encoder::Encoded;
use serde::Serialize;

/// The numbers of an answer: the rewards or, with `activation`, the sigmoids of the normalised
/// rewards, from 0 to 1.
pub(crate) fn values(judged: &Judged, activation: bool) -> Vec<f64> {
    match activation {
        true => judged.normalised.iter().map(|r| sigmoid(*r)).collect(),
        false => judged.rewards.iter().map(|r| f64::from(*r)).collect(),
    }
}

/// Scores rows of embeddings; every figure is finite.
///
/// # Errors
/// 422 for a wrong width; 500 for a reward that is not finite.
pub(crate) fn score(model: &Model, rows: &Matrix) -> Result<Judged, Failure> {
    let judged = model.reward.judge(rows, Threads::ONE)?;
    match judged.first_not_finite() {
        None => Ok(judged),
        Some(i) => {
            let message = format!("the reward of row {i} is not a finite number");
            Err(Failure { code: "not_finite", ..Failure::internal(message) })
        }
    }
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

/// The distance of a response from those that were trained on, in latent space.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Distance {
    pub distance: f64,
    /// The distance beyond which a response is out of distribution.
    pub threshold: f64,
    pub out_of_distribution: bool,
}

/// The distance of every row from the responses that were trained on, each finite; `None` for a
/// model that does not measure it.
///
/// # Errors
/// 500 for a distance that is not finite.
pub(crate) fn distances(model: &Model, rows: &Matrix) -> Result<Option<Vec<Distance>>, Failure> {
    let Some((vae, novelty)) = &model.novelty else { return Ok(None) };
    let standardiser = &model.reward.standardiser;
    let all = novelty.distances(vae, standardiser, rows, Threads::ONE)?;
    if let Some(i) = all.iter().position(|d| !d.is_finite()) {
        let message = format!("the distance of row {i} is not a finite number");
        return Err(Failure { code: "not_finite", ..Failure::internal(message) });
    }
    let one = |distance: f64| Distance {
        distance,
        threshold: novelty.threshold(),
        out_of_distribution: novelty.is_beyond(distance),
    };
    Ok(Some(all.into_iter().map(one).collect()))
}
