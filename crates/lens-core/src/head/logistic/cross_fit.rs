//! The weights of comparisons in training, which may depend on margins by heads of other folds
//! (cross-fitting; the rules are those of [`Weighing`]).
//!
//! The head that scores a pair was trained neither on the pair's own fold nor on the fold that the
//! head in training is evaluated on: otherwise the labels of that fold would reach the head through
//! the weights, and every figure on folds would be too good.

use super::solve::{Comparisons, Optima, Task, solve};
use super::{Differences, TOLERANCE, Trainer};
use crate::error::CoreError;
use crate::synthesis::Weighing;

impl Trainer<'_> {
    /// The weight of each comparison for each head, [heads, N]: 1 without `weighing`; always 0 where the
    /// head does not train on the comparison's pair.
    ///
    /// # Errors
    /// [`CoreError::TooFewPairs`] where cross-fitting has fewer than three folds;
    /// [`CoreError::Cancelled`].
    pub(super) fn comparison_weights(
        &self,
        weighing: Option<Weighing>,
        penalties: &[f64],
    ) -> Result<Vec<Vec<f64>>, CoreError> {
        let Some(weighing) = weighing else {
            let all = vec![1.0; self.differences.labels.len()];
            return Ok((0..self.heads).map(|f| self.trained(f, &all)).collect());
        };
        let margins = match weighing.needs_cross_fitting() {
            true => Some(self.cross_fitted_margins(penalties)?),
            false => None,
        };
        let Differences { pair, original, .. } = &self.differences;
        let of_head = |f: usize| {
            let margins = margins.as_ref().map(|margins| &margins[f][..]);
            let trains = |pair: usize| !self.folds.is_held_out(f, pair);
            self.trained(f, &weighing.comparison_weights(pair, original, margins, trains))
        };
        Ok((0..self.heads).map(of_head).collect())
    }

    /// `weights`, with 0 for what head `f` is not trained on.
    fn trained(&self, f: usize, weights: &[f64]) -> Vec<f64> {
        let own = weights.iter().zip(&self.differences.pair);
        own.map(|(&w, &pair)| if self.folds.is_held_out(f, pair) { 0.0 } else { w }).collect()
    }

    /// For each head f, the reward difference of every comparison by a head that was trained neither
    /// on fold f nor on the fold of its pair: [heads, N]. These heads are trained on real comparisons
    /// alone, with the penalty that is best on the folds, and from nothing: an earlier head has been
    /// trained on one of the two folds.
    fn cross_fitted_margins(&self, penalties: &[f64]) -> Result<Vec<Vec<f64>>, CoreError> {
        let count = self.folds.count();
        if count < 3 {
            let what = "folds for synthesis.gate or synthesis.emphasis (head.folds, prompts)";
            return Err(CoreError::TooFewPairs { what, needed: 3, found: count });
        }
        let n = self.differences.labels.len();
        let mut real = vec![0.0; n];
        self.differences.original.iter().for_each(|&i| real[i] = 1.0);
        let single: Vec<Vec<f64>> = (0..self.heads).map(|f| self.trained(f, &real)).collect();
        let penalty = match penalties {
            [one] => *one,
            many => {
                let tasks: Vec<Task<'_>> = many
                    .iter()
                    .flat_map(|&l2| {
                        single.iter().map(move |weights| Task { weights, offset: &[], l2 })
                    })
                    .collect();
                many[self.best(&self.solved(&tasks)?, many.len())]
            }
        };
        // A head without folds f and g serves both f and g.
        let mut both = Vec::new();
        for (f, without) in single.iter().enumerate() {
            for g in f + 1..count {
                both.push((f, g, self.trained(g, without)));
            }
        }
        let tasks: Vec<Task<'_>> =
            both.iter().map(|(_, _, weights)| Task { weights, offset: &[], l2: penalty }).collect();
        let judged = self.solved(&tasks)?.solved;
        let mut margins = vec![vec![0.0; n]; self.heads];
        for ((f, g, _), solved) in both.iter().zip(&judged) {
            for (head, fold) in [(*f, *g), (*g, *f)] {
                let Some(own) = margins.get_mut(head) else { continue };
                for (i, &pair) in self.differences.pair.iter().enumerate() {
                    if self.folds.is_held_out(fold, pair) {
                        own[i] = solved.margins[i];
                    }
                }
            }
        }
        Ok(margins)
    }

    fn solved(&self, tasks: &[Task<'_>]) -> Result<Optima<f32>, CoreError> {
        let data = Comparisons {
            differences: &self.differences.rows,
            dim: self.dim,
            labels: &self.differences.labels,
            form: self.form,
        };
        solve(&data, tasks, TOLERANCE, self.threads, self.progress)
            .ok_or(CoreError::Cancelled { stage: "head" })
    }
}
