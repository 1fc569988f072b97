//! When a member stops: its figures on the fold that it does not train on, and its best state.

use crate::bradley_terry;
use crate::embedded::EmbeddedPairs;
use crate::folds::Folds;
use crate::head::ensemble::Head;
use crate::linalg::Threads;
use crate::standardise::Standardiser;

/// A member's figures on its own fold, ties left out.
#[derive(Debug, Clone)]
pub(crate) struct FoldFigures {
    pub log_loss: f64,
    pub accuracy: f64,
    /// Pair and log-loss; none where nothing is held out.
    losses: Vec<(usize, f64)>,
}

impl FoldFigures {
    fn none() -> Self {
        FoldFigures { log_loss: f64::INFINITY, accuracy: 0.0, losses: Vec::new() }
    }

    /// The mean of one figure over those that have a fold.
    pub(crate) fn mean(all: &[FoldFigures], f: impl Fn(&FoldFigures) -> f64) -> Option<f64> {
        let found: Vec<f64> = all.iter().filter(|x| !x.losses.is_empty()).map(f).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    }
}

/// Evaluates pairs by the members that do not train on them.
pub(crate) struct FoldEvaluator<'a> {
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    folds: &'a Folds,
    evaluated: Vec<usize>,
    x: Vec<f32>,
}

impl<'a> FoldEvaluator<'a> {
    pub(crate) fn new(
        pairs: &'a EmbeddedPairs,
        standardiser: &'a Standardiser,
        folds: &'a Folds,
        members: usize,
    ) -> Self {
        let evaluated: Vec<usize> = (0..pairs.len())
            .filter(|&i| !pairs.labels[i].is_tie() && folds.held_out_member(i, members).is_some())
            .collect();
        let x = vec![0.0f32; 2 * 512.min(evaluated.len()) * pairs.dim()];
        FoldEvaluator { pairs, standardiser, folds, evaluated, x }
    }

    /// Every member's figures.
    pub(crate) fn figures(&mut self, head: &Head, threads: Threads) -> Vec<FoldFigures> {
        let members = head.shape.members;
        let mut sums = vec![(0.0f64, 0.0f64, Vec::new()); members];
        for rows in self.evaluated.chunks(512) {
            let x = &mut self.x[..2 * rows.len() * self.pairs.dim()];
            self.pairs.gather(self.standardiser, rows, x, threads);
            let rewards = head.member_rewards(x, threads);
            for (i, &pair) in rows.iter().enumerate() {
                let held =
                    sums.iter_mut().enumerate().filter(|(m, _)| self.folds.is_held_out(*m, pair));
                for (m, sum) in held {
                    let a = rewards[i * members + m];
                    let b = rewards[(i + rows.len()) * members + m];
                    let loss = bradley_terry::loss(f64::from(a) - f64::from(b));
                    sum.0 += loss;
                    sum.1 += crate::metrics::credit(a, b);
                    sum.2.push((pair, loss));
                }
            }
        }
        sums.into_iter()
            .map(|(loss, right, losses)| {
                if losses.is_empty() {
                    return FoldFigures::none();
                }
                let n = losses.len() as f64;
                FoldFigures { log_loss: loss / n, accuracy: right / n, losses }
            })
            .collect()
    }
}

/// The best state of every member so far. A member whose fold has no pair keeps its last state, or its
/// first where that is asked for.
pub(crate) struct EarlyStopping {
    keep_first: bool,
    pub parameters: Vec<f32>,
    pub figures: Vec<FoldFigures>,
    pub epoch: Vec<usize>,
}

impl EarlyStopping {
    /// With `keep_first`, a member whose fold has no pair stays as it is in `head`.
    pub(crate) fn new(head: &Head, members: usize, keep_first: bool) -> Self {
        EarlyStopping {
            keep_first,
            parameters: head.parameters.clone(),
            figures: vec![FoldFigures::none(); members],
            epoch: vec![0; members],
        }
    }

    pub(crate) fn update(&mut self, epoch: usize, head: &Head, fold: &[FoldFigures]) {
        for (m, figures) in fold.iter().enumerate() {
            let better = if figures.losses.is_empty() {
                !self.keep_first
            } else {
                figures.log_loss < self.figures[m].log_loss
            };
            if better {
                self.figures[m] = figures.clone();
                self.epoch[m] = epoch;
                for range in head.shape.member_ranges(m) {
                    self.parameters[range.clone()].copy_from_slice(&head.parameters[range]);
                }
            }
        }
    }

    /// Whether no member has become better for `patience` epochs.
    pub(crate) fn done(&self, epoch: usize, patience: usize) -> bool {
        self.epoch.iter().all(|&best| epoch - best >= patience)
    }

    pub(crate) fn pair_losses(&self, pairs: usize) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0usize); pairs];
        for &(pair, loss) in self.figures.iter().flat_map(|f| &f.losses) {
            sums[pair].0 += loss;
            sums[pair].1 += 1;
        }
        sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
    }
}
