//! A linear reward that is known before training, such as a public reward model's, as the prior of a
//! logistic head.
//!
//! The head is w = a p + v, where p is the known reward and the penalty is on v alone: without a label it
//! is a p, with many it is what the labels say. Its scale a is a share of the scale that the training
//! pairs of each head ask for (a Bradley-Terry temperature, at least 0); share and penalty are chosen
//! together by the log-loss on the folds. Share 0 is the head from nothing, to the byte, and is kept
//! unless the prior lowers the log-loss on the folds by more than the standard error of the difference
//! (docs/public-reward-models.md has what that costs and saves): a prior that is useless or wrong is left
//! alone.

use super::solve::{Comparisons, Optima, Solved, Task, solve};
use super::{STRONG, TOLERANCE, Trainer};
use crate::bradley_terry::{self, BradleyTerry};
use crate::embedded::Label;
use crate::error::CoreError;
use crate::method::FoldGain;
use crate::standardise::Standardiser;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Shares of the fitted scale that are tried beside 0.
const SHARES: [f64; 2] = [0.5, 1.0];
/// Weight of the penalty on the fitted scale, in units in which the mean squared reward difference is 1:
/// as much as one pair says. Without it a prior that ranks every pair rightly would have no finite scale.
const PULL: f64 = 1.0;

/// A linear reward that is known before training.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// The columns of the embeddings that it reads.
    pub columns: Range<usize>,
    /// The weight of each of these columns, of embeddings as they are (not standardised).
    pub weights: Vec<f32>,
}

/// What became of a prior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriorReport {
    /// Factor on the known reward in the trained one, in the mean over the members; 0 where the head is
    /// that from nothing.
    pub weight: f64,
    /// The share of the fitted scale that was chosen; 0 where the head is that from nothing.
    pub share: f64,
    /// By how much the best head with the prior lowers the log-loss on the folds; `None` where nothing was
    /// held out, or the prior ranks the training pairs no better than by chance.
    pub gain: Option<FoldGain>,
}

/// A prior in the space of the differences, in which views are equal.
pub(super) struct Direction {
    columns: Range<usize>,
    weights: Vec<f32>,
    /// What it says of every comparison, `[N]`.
    margins: Vec<f64>,
}

impl Direction {
    /// The direction of `prior` in columns that were standardised and then scaled by `scale`; `rows` are
    /// the differences, [N, dim].
    pub(super) fn new(
        prior: &Prior,
        standardiser: &Standardiser,
        scale: impl Fn(usize) -> f32,
        rows: &[f32],
        dim: usize,
    ) -> Result<Self, CoreError> {
        let columns = prior.columns.clone();
        if columns.end > dim || columns.len() != prior.weights.len() {
            let (expected, found) = ((columns.len(), dim), (prior.weights.len(), columns.end));
            return Err(CoreError::Shape { what: "weights of the prior", expected, found });
        }
        let weights: Vec<f32> = columns
            .clone()
            .zip(&prior.weights)
            .map(|(column, &weight)| {
                let unit = f64::from(standardiser.scale[column]) * f64::from(scale(column));
                // A dimension that is constant on the pairs says nothing of them.
                if unit == 0.0 { 0.0 } else { (f64::from(weight) / unit) as f32 }
            })
            .collect();
        let margin = |row: &[f32]| crate::linalg::dot(&row[columns.clone()], &weights);
        let margins = rows.chunks_exact(dim).map(margin).collect();
        Ok(Direction { columns, weights, margins })
    }

    pub(super) fn is_within(&self, columns: &Range<usize>) -> bool {
        columns.start <= self.columns.start && self.columns.end <= columns.end
    }
}

/// The scale at which `margins` are Bradley-Terry rewards of the comparisons with these weights, at
/// least 0.
fn temperature(margins: &[f64], weights: &[f64], labels: &[Label], form: BradleyTerry) -> f64 {
    let all = || (0..margins.len()).filter(|&i| weights[i] > 0.0);
    let squares: f64 = all().map(|i| weights[i] * margins[i] * margins[i]).sum();
    let mean = squares / all().map(|i| weights[i]).sum::<f64>();
    if mean <= 0.0 || !mean.is_finite() {
        return 0.0;
    }
    // The slope of a convex function of the scale t: it grows with t.
    let slope = |t: f64| {
        let one =
            |i: usize| weights[i] * margins[i] * form.loss_and_slope(t * margins[i], labels[i]).1;
        all().map(one).sum::<f64>() + PULL * mean * t
    };
    if slope(0.0) >= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0 / mean.sqrt());
    while slope(high) < 0.0 && high.is_finite() {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// A block of columns with the prior.
pub(super) struct Corrected {
    pub l2: f64,
    /// [heads, columns].
    pub weights: Vec<f32>,
    pub solved: Vec<Solved>,
}

impl Trainer<'_> {
    /// Log-loss of each comparison that some head is evaluated on, head by head.
    fn fold_losses(&self, solved: &[Solved]) -> Vec<f64> {
        let of_head = |(one, own): (&Solved, &Vec<usize>)| -> Vec<f64> {
            own.iter().map(|&i| bradley_terry::loss(one.margins[i])).collect()
        };
        solved.iter().zip(&self.evaluated).flat_map(of_head).collect()
    }

    /// The heads on some columns with the prior, where they are clearly better on the folds than those
    /// `from_nothing`; else only what was found.
    pub(super) fn corrected(
        &self,
        direction: &Direction,
        columns: &Range<usize>,
        differences: &[f32],
        penalties: &[f64],
        from_nothing: &[Solved],
    ) -> Result<(Option<Corrected>, PriorReport), CoreError> {
        let left = |gain| PriorReport { weight: 0.0, share: 0.0, gain };
        let labels = &self.differences.labels;
        let scales: Vec<f64> = (0..self.heads)
            .map(|f| temperature(&direction.margins, &self.weights[f], labels, self.form))
            .collect();
        let evaluated: usize = self.evaluated.iter().map(Vec::len).sum();
        if evaluated == 0 || self.folds.count() < 2 || scales.iter().all(|&scale| scale == 0.0) {
            return Ok((None, left(None)));
        }
        let penalties: Vec<f64> = match penalties {
            [one] => vec![*one],
            many => many.iter().chain(&STRONG).copied().collect(),
        };
        let offsets: Vec<Vec<f64>> = SHARES
            .iter()
            .flat_map(|share| scales.iter().map(move |scale| share * scale))
            .map(|scale| direction.margins.iter().map(|margin| scale * margin).collect())
            .collect();
        let heads = self.heads;
        let mut tasks = Vec::new();
        for share in 0..SHARES.len() {
            for &l2 in &penalties {
                tasks.extend((0..heads).map(|f| Task {
                    weights: &self.weights[f],
                    offset: &offsets[share * heads + f],
                    l2,
                }));
            }
        }
        let data = Comparisons { differences, dim: columns.len(), labels, form: self.form };
        let optima: Optima<f32> = solve(&data, &tasks, TOLERANCE, self.threads, self.progress)
            .ok_or(CoreError::Cancelled { stage: "head" })?;
        let best = self.best(&optima, SHARES.len() * penalties.len());
        let chosen: Vec<usize> = (best * heads..(best + 1) * heads).collect();
        let solved: Vec<Solved> = chosen.iter().map(|&t| optima.solved[t].clone()).collect();
        let losses = self.fold_losses(from_nothing).into_iter().zip(self.fold_losses(&solved));
        let gain = FoldGain::from_gains(losses.map(|(without, with)| without - with));
        if !gain.is_some_and(|gain| gain.is_clear()) {
            return Ok((None, left(gain)));
        }
        let share = SHARES[best / penalties.len()];
        let mut weights = optima.weights(&data, &chosen, self.threads);
        let at = direction.columns.start - columns.start;
        for (own, scale) in weights.chunks_exact_mut(columns.len()).zip(&scales) {
            let factor = (share * scale) as f32;
            let own = &mut own[at..at + direction.weights.len()];
            own.iter_mut().zip(&direction.weights).for_each(|(w, p)| *w += factor * p);
        }
        let weight = share * scales.iter().sum::<f64>() / heads as f64;
        let l2 = penalties[best % penalties.len()];
        Ok((Some(Corrected { l2, weights, solved }), PriorReport { weight, share, gain }))
    }
}

#[cfg(test)]
mod tests;
