//! What each comparison counts: how much synthetic ones weigh against the real one of their pair, which
//! of them are denied, and which pairs get more of them.
//!
//! Heads that judge a pair were trained on other folds than its own, and on other folds than the one that
//! the head in training is judged by: otherwise the labels of that fold would reach the head through its
//! weights, and every figure on folds would be too good.

use super::solve::{Comparisons, Optima, Task, solve};
use super::{TOLERANCE, Trainer};
use crate::error::CoreError;
use crate::synthesis::{Emphasis, Gate, Weighing};

impl Trainer<'_> {
    /// What each comparison counts for each head, [heads, N]. The comparisons of a pair count 1 in all;
    /// where pairs get synthetic ones by their margin, 1 in the mean over pairs.
    ///
    /// # Errors
    /// [`CoreError::TooFewPairs`] where there are no three folds for judges; [`CoreError::Cancelled`].
    pub(super) fn weigh(
        &self,
        weighing: Option<Weighing>,
        penalties: &[f64],
    ) -> Result<Vec<Vec<f64>>, CoreError> {
        let pairs = self.differences.original.len();
        let Some(weighing) = weighing else {
            let all = vec![1.0; self.differences.labels.len()];
            return Ok((0..self.heads).map(|f| self.trained(f, &all)).collect());
        };
        let copies = (self.differences.labels.len() / pairs.max(1)).saturating_sub(1) as f64;
        let real = 1.0 / (1.0 + copies * weighing.weight);
        let judges = match weighing.needs_cross_fitting() {
            true => Some(self.judges(penalties)?),
            false => None,
        };
        let of_head = |f: usize| {
            let Some(judges) = &judges else {
                let mut all = vec![real * weighing.weight; self.differences.labels.len()];
                self.differences.original.iter().for_each(|&i| all[i] = real);
                return self.trained(f, &all);
            };
            let margins = &judges[f];
            let emphasis = self.emphasis(f, margins, weighing.emphasis);
            let mut all = vec![0.0; self.differences.labels.len()];
            for (i, &pair) in self.differences.pair.iter().enumerate() {
                let original = self.differences.original[pair];
                let share = match i == original {
                    true => real,
                    false => real * weighing.weight * emphasis[pair],
                };
                // What is denied goes to the real comparison, so that no pair counts less for it.
                let denied = i != original && weighing.gate == Gate::Ordered && margins[i] <= 0.0;
                all[if denied { original } else { i }] += share;
            }
            self.trained(f, &all)
        };
        Ok((0..self.heads).map(of_head).collect())
    }

    /// `weights`, with 0 for what head `f` is not trained on.
    fn trained(&self, f: usize, weights: &[f64]) -> Vec<f64> {
        let own = weights.iter().zip(&self.differences.pair);
        own.map(|(&w, &pair)| if self.folds.is_held_out(f, pair) { 0.0 } else { w }).collect()
    }

    /// How much synthetic comparisons of each pair count against those of others: 1 in the mean over the
    /// pairs that head `f` is trained on.
    fn emphasis(&self, f: usize, margins: &[f64], emphasis: Emphasis) -> Vec<f64> {
        let originals = &self.differences.original;
        if emphasis == Emphasis::Even {
            return vec![1.0; originals.len()];
        }
        // The slope of the loss: how much a pair still asks for.
        let doubt: Vec<f64> = originals.iter().map(|&i| 1.0 / (1.0 + margins[i].exp())).collect();
        let seen = (0..originals.len()).filter(|&pair| !self.folds.is_held_out(f, pair));
        let (mut sum, mut count) = (0.0, 0.0);
        seen.for_each(|pair| {
            sum += doubt[pair];
            count += 1.0;
        });
        doubt.iter().map(|d| d * count / sum.max(f64::MIN_POSITIVE)).collect()
    }

    /// Reward differences of every comparison by a judge that saw neither its fold nor fold `f`, for each
    /// head: [heads, N]. Judges are trained on real comparisons alone, with the penalty that is best on
    /// the folds, and from nothing: an earlier head has seen one of the two folds.
    fn judges(&self, penalties: &[f64]) -> Result<Vec<Vec<f64>>, CoreError> {
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
        // One judge serves two heads: without f and g is without g and f.
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
        let of = Comparisons {
            differences: &self.differences.rows,
            dim: self.dim,
            labels: &self.differences.labels,
            form: self.form,
        };
        solve(&of, tasks, TOLERANCE, self.threads, self.progress)
            .ok_or(CoreError::Cancelled { stage: "head" })
    }
}
