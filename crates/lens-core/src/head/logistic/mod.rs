//! The logistic head: Bradley-Terry on a linear reward, trained to its optimum.
//!
//! With a linear reward w x the Bradley-Terry model is logistic regression on the difference of the
//! two responses (docs/method.md, equation E11). It has one setting that matters, the weight of its
//! penalty, and a convex solver finds its optimum quickly (`solve`), so that the weight can be chosen
//! on the folds among many. As with an MLP each member is trained without its own fold, and the reward
//! is their mean.
//!
//! Several views of a text side by side (layers, poolings, questions) differ in how much of their
//! spread lies between the two responses of a pair. Each is scaled so that the squared differences
//! come to 1 in the mean over the pairs, or one view would drown the others. Then, as
//! [`Combine`] says, one head sees them all, or each has a head of its own (`stack`).

mod cross_fit;
mod differences;
mod prior;
mod solve;
mod stack;

use super::data::{HeadData, HeadEpoch, HeadReport, check_pairs};
use super::ensemble::{Head, HeadShape};
use super::evaluate::evaluate;
use super::settings::{Combine, HeadSettings, L2};
use crate::bradley_terry::{self, BradleyTerry};
use crate::embedded::EmbeddedPairs;
use crate::error::{CoreError, require_same};
use crate::folds::Folds;
use crate::linalg::Threads;
use crate::metrics::credit;
use crate::progress::Progress;
use differences::Differences;
use prior::{Corrected, Direction};
pub use prior::{Prior, PriorReport};
use solve::{Comparisons, Optima, Solved, Task, solve};
use std::ops::Range;

/// Weights of the penalty that `l2 = "auto"` tries.
pub const PENALTIES: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Weights that it tries as well where an earlier head is trained further: the penalty is then on the
/// distance from that head.
const STRONG: [f64; 2] = [1e3, 1e4];
/// Size of the gradient at the end, as a share of its size at the start.
const TOLERANCE: f64 = 1e-3;

/// The heads on a range of columns: one optimum for every fold that is held out.
struct Block {
    columns: Range<usize>,
    l2: f64,
    /// Weights of the head without fold f, [folds, columns].
    weights: Vec<f32>,
    /// Reward differences of every comparison by the head without fold f.
    solved: Vec<Solved>,
    /// What became of the prior, where these columns have one.
    prior: Option<PriorReport>,
}

/// A logistic head in training.
struct Trainer<'a> {
    differences: Differences,
    dim: usize,
    folds: &'a Folds,
    /// Heads to train: one for each fold that some member has, or one where nothing is held out.
    heads: usize,
    /// Weight of each comparison for each head; 0 where the head is not trained on it.
    weights: Vec<Vec<f64>>,
    /// Reward differences by an earlier head, for each head.
    offsets: Vec<Vec<f64>>,
    /// A reward that is known before.
    prior: Option<Direction>,
    /// The comparisons that each head is evaluated on: the real ones of its own fold, without ties.
    evaluated: Vec<Vec<usize>>,
    form: BradleyTerry,
    threads: Threads,
    progress: &'a dyn Progress,
}

/// Trains the ensemble; with `start`, the penalty is on how far it departs from that.
///
/// # Errors
/// As [`super::train()`]; [`CoreError::Setting`] for pairing across pairs.
pub(super) fn train(
    data: HeadData<'_>,
    settings: &HeadSettings,
    start: Option<&Head>,
    seed: u64,
    threads: Threads,
    stage: &str,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    settings.check()?;
    let HeadData { pairs, standardiser, folds, augmentation, watch, prior } = data;
    check_pairs(pairs, settings)?;
    let (members, dim) = (settings.members, pairs.dim());
    let shape = HeadShape { dim, hidden: Vec::new(), members };
    let heads = if folds.count() > 1 { folds.count().min(members) } else { 1 };
    if let Some(start) = start {
        require_same("head.hidden", &start.shape.hidden, &shape.hidden)?;
        require_same("head.members", start.shape.members, members)?;
        require_same("width of the embeddings", start.shape.dim, dim)?;
    }
    let differences = Differences::new(pairs, standardiser, augmentation, settings, seed, threads)?;
    let n = differences.labels.len();
    let decided = |&pair: &usize| !pairs.labels[pair].is_tie();
    let evaluated = (0..heads).map(|f| {
        let own = (0..pairs.len()).filter(|&pair| folds.is_held_out(f, pair)).filter(decided);
        own.map(|pair| differences.original[pair]).collect()
    });
    let offset = |f: usize| match start {
        None => Vec::new(),
        Some(head) => (0..n)
            .map(|i| {
                let row = &differences.rows[i * dim..(i + 1) * dim];
                crate::linalg::dot(row, &head.parameters[f * dim..(f + 1) * dim])
            })
            .collect(),
    };
    let evaluated = evaluated.collect();
    let offsets = (0..heads).map(offset).collect();
    let mut trainer = Trainer {
        differences,
        dim,
        folds,
        heads,
        weights: Vec::new(),
        offsets,
        prior: None,
        evaluated,
        form: settings.loss(&pairs.labels),
        threads,
        progress,
    };
    let views = pairs.view_columns();
    let stacked = settings.combine == Combine::Stacked && views.len() > 1;
    let blocks = if stacked { views.len() } else { 1 };
    progress.begin(&format!("train {stage}"), blocks as u64, "heads");
    let penalties: Vec<f64> = match (settings.l2, start) {
        (L2::Weight(l2), _) => vec![l2],
        (L2::Auto, None) => PENALTIES.to_vec(),
        (L2::Auto, Some(_)) => PENALTIES.iter().chain(&STRONG).copied().collect(),
    };
    let scales = trainer.equalise(&views, if stacked { 1 } else { views.len() });
    // An earlier head has taken up the prior already.
    if let Some(prior) = prior.filter(|_| start.is_none()) {
        let of_view =
            |j: usize| views.iter().position(|v| v.contains(&j)).map_or(0.0, |v| scales[v]);
        let rows = &trainer.differences.rows;
        trainer.prior = Some(Direction::new(prior, standardiser, of_view, rows, dim)?);
    }
    trainer.weights = trainer.comparison_weights(augmentation.map(|a| a.weighing), &penalties)?;
    let mut combined = if stacked {
        let mut blocks = Vec::with_capacity(views.len());
        for columns in &views {
            blocks.push(trainer.block(columns.clone(), &penalties)?);
            progress.advance(1);
        }
        trainer.stack(&blocks)
    } else {
        let block = trainer.block(0..dim, &penalties)?;
        progress.advance(1);
        trainer.single(block)
    };
    progress.end();
    for head in combined.parameters.chunks_exact_mut(dim) {
        for (columns, &scale) in views.iter().zip(&scales) {
            head[columns.clone()].iter_mut().for_each(|w| *w *= scale);
        }
    }

    let mut head =
        Head::with_parameters(shape.clone(), settings.activation, vec![0.0; members * dim])?;
    for m in 0..members {
        let own = &combined.parameters[(m % heads) * dim..(m % heads + 1) * dim];
        let to = &mut head.parameters[m * dim..(m + 1) * dim];
        to.copy_from_slice(own);
        if let Some(start) = start {
            let before = &start.parameters[m * dim..(m + 1) * dim];
            to.iter_mut().zip(before).for_each(|(w, &b)| *w += b);
        }
    }
    if head.parameters.iter().any(|p| !p.is_finite()) {
        let (figures, advice) = ("a weight is not a number", "try a larger head.l2");
        return Err(CoreError::diverged("head", 0, figures, advice));
    }
    let mut report = trainer.report(combined, &head, pairs);
    let heldout = watch.and_then(|w| evaluate(&head, w, standardiser, threads));
    if let Some(epoch) = report.epochs.first_mut() {
        epoch.heldout_log_loss = heldout.map(|(loss, _)| loss);
        epoch.heldout_accuracy = heldout.map(|(_, accuracy)| accuracy);
        epoch.draw(stage, progress);
    }
    Ok((head, report))
}

/// The heads after the views are combined.
struct Combined {
    /// Weights of every head, [heads, d].
    parameters: Vec<f32>,
    /// Reward difference of every comparison by every head.
    margins: Vec<Vec<f64>>,
    /// Penalty of each block of columns.
    l2: Vec<f64>,
    /// Weight of each view where heads are stacked; else empty.
    view_weights: Vec<f64>,
    /// Mean training loss.
    loss: f64,
    /// What became of the prior.
    prior: Option<PriorReport>,
}

impl Trainer<'_> {
    /// Scales the columns of every view so that the squared differences of the seed pairs come to
    /// 1 / `share` in the mean; returns the factors.
    fn equalise(&mut self, views: &[Range<usize>], share: usize) -> Vec<f32> {
        let dim = self.dim;
        let Differences { rows, original, .. } = &mut self.differences;
        let mut scales = Vec::with_capacity(views.len());
        for columns in views {
            let square = |&i: &usize| {
                let part = &rows[i * dim + columns.start..i * dim + columns.end];
                crate::linalg::dot(part, part)
            };
            let mean = original.iter().map(square).sum::<f64>() / original.len().max(1) as f64;
            let scale = (1.0 / (mean * share as f64).sqrt()) as f32;
            // A view that never differs between the two sides is left out.
            scales.push(if scale.is_finite() { scale } else { 0.0 });
        }
        for row in rows.chunks_exact_mut(dim) {
            for (columns, &scale) in views.iter().zip(&scales) {
                row[columns.clone()].iter_mut().for_each(|x| *x *= scale);
            }
        }
        scales
    }

    /// The optimum on a range of columns for every head, with the penalty that is best on the folds.
    fn block(&self, columns: Range<usize>, penalties: &[f64]) -> Result<Block, CoreError> {
        let Differences { rows, labels, .. } = &self.differences;
        let width = columns.len();
        let own: Vec<f32>;
        let differences = if width == self.dim {
            &rows[..]
        } else {
            own = rows.chunks_exact(self.dim).flat_map(|r| &r[columns.clone()]).copied().collect();
            &own[..]
        };
        let data = Comparisons { differences, dim: width, labels, form: self.form };
        let tasks: Vec<Task<'_>> = penalties
            .iter()
            .flat_map(|&l2| {
                (0..self.heads).map(move |f| Task {
                    weights: &self.weights[f],
                    offset: &self.offsets[f],
                    l2,
                })
            })
            .collect();
        let optima: Optima<f32> = solve(&data, &tasks, TOLERANCE, self.threads, self.progress)
            .ok_or(CoreError::Cancelled { stage: "head" })?;
        let best = self.best(&optima, penalties.len());
        let chosen: Vec<usize> = (best * self.heads..(best + 1) * self.heads).collect();
        let solved: Vec<Solved> = chosen.iter().map(|&t| optima.solved[t].clone()).collect();
        let mut report = None;
        if let Some(prior) = self.prior.as_ref().filter(|p| p.is_within(&columns)) {
            let (corrected, found) =
                self.corrected(prior, &columns, differences, penalties, &solved)?;
            report = Some(found);
            if let Some(Corrected { l2, weights, solved }) = corrected {
                return Ok(Block { columns, l2, weights, solved, prior: report });
            }
        }
        let weights = optima.weights(&data, &chosen, self.threads);
        Ok(Block { columns, l2: penalties[best], weights, solved, prior: report })
    }

    /// The number of the penalty with the least loss on the folds, the strongest of equals. `optima`
    /// has a task for each penalty and head, all heads of one penalty side by side.
    fn best(&self, optima: &Optima<f32>, penalties: usize) -> usize {
        let loss = |p: usize| {
            let of_head = |f: usize| {
                let solved = &optima.solved[p * self.heads + f];
                self.evaluated[f]
                    .iter()
                    .map(|&i| bradley_terry::loss(solved.margins[i]))
                    .sum::<f64>()
            };
            (0..self.heads).map(of_head).sum::<f64>()
        };
        let losses: Vec<f64> = (0..penalties).map(loss).collect();
        (0..penalties).rev().min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0)
    }

    /// The heads of `Combine::Joint`: one block with all columns.
    fn single(&self, block: Block) -> Combined {
        // The comparisons of a pair count 1 in all, or nearly.
        let mean = |(s, w): (&Solved, &Vec<f64>)| s.objective / w.iter().sum::<f64>();
        let losses = block.solved.iter().zip(&self.weights).map(mean);
        let loss = losses.sum::<f64>() / self.heads as f64;
        let margins = block.solved.into_iter().map(|s| s.margins).collect();
        let (l2, view_weights) = (vec![block.l2], Vec::new());
        let prior = block.prior;
        Combined { parameters: block.weights, margins, l2, view_weights, loss, prior }
    }

    /// The heads of `Combine::Stacked`: a block for each view, added with weights fitted on the folds.
    fn stack(&self, blocks: &[Block]) -> Combined {
        // Each view's reward differences, by the head that was not trained on the pair.
        let n = self.differences.labels.len();
        let unseen: Vec<Vec<f64>> = blocks
            .iter()
            .map(|block| {
                let mut margins = vec![0.0; n];
                for (f, evaluated) in self.evaluated.iter().enumerate() {
                    evaluated.iter().for_each(|&i| {
                        margins[i] = block.solved[f].margins[i] - self.offset(f, i);
                    });
                }
                margins
            })
            .collect();
        let all: Vec<usize> = self.evaluated.iter().flatten().copied().collect();
        let mut before = vec![0.0; n];
        for (f, evaluated) in self.evaluated.iter().enumerate() {
            evaluated.iter().for_each(|&i| before[i] = self.offset(f, i));
        }
        let weights = stack::fit(&unseen, &before, &all);
        let mut parameters = vec![0.0f32; self.heads * self.dim];
        for (block, &weight) in blocks.iter().zip(&weights) {
            let width = block.columns.len();
            for (f, own) in block.weights.chunks_exact(width).enumerate() {
                let to = &mut parameters[f * self.dim..][block.columns.clone()];
                to.iter_mut().zip(own).for_each(|(t, &w)| *t = weight as f32 * w);
            }
        }
        let mut margins = Vec::with_capacity(self.heads);
        for f in 0..self.heads {
            // A fold is evaluated with weights that were fitted without it.
            let others: Vec<usize> = (0..self.heads)
                .filter(|&other| other != f)
                .flat_map(|other| self.evaluated[other].iter().copied())
                .collect();
            let honest = stack::fit(&unseen, &before, &others);
            let own = |i: usize| {
                let parts = blocks.iter().zip(&honest);
                let sum: f64 =
                    parts.map(|(b, w)| w * (b.solved[f].margins[i] - self.offset(f, i))).sum();
                self.offset(f, i) + sum
            };
            margins.push((0..n).map(own).collect::<Vec<f64>>());
        }
        let losses = all.iter().map(|&i| {
            let sum: f64 = unseen.iter().zip(&weights).map(|(m, w)| w * m[i]).sum();
            bradley_terry::loss(before[i] + sum)
        });
        let loss = losses.sum::<f64>() / all.len().max(1) as f64;
        let l2 = blocks.iter().map(|b| b.l2).collect();
        let prior = blocks.iter().zip(&weights).find_map(|(block, view)| {
            let prior = block.prior.clone()?;
            Some(PriorReport { weight: view * prior.weight, ..prior })
        });
        Combined { parameters, margins, l2, view_weights: weights, loss, prior }
    }

    fn offset(&self, f: usize, i: usize) -> f64 {
        self.offsets[f].get(i).copied().unwrap_or(0.0)
    }

    fn report(&self, combined: Combined, head: &Head, pairs: &EmbeddedPairs) -> HeadReport {
        let Combined { margins, l2, view_weights, loss, prior, .. } = combined;
        let mut fold_losses = vec![None; pairs.len()];
        let (mut total, mut right, mut count) = (0.0, 0.0, 0usize);
        if self.folds.count() > 1 {
            for (f, evaluated) in self.evaluated.iter().enumerate() {
                for &i in evaluated {
                    let margin = margins[f][i];
                    let own = bradley_terry::loss(margin);
                    fold_losses[self.differences.pair[i]] = Some(own);
                    total += own;
                    right += credit(margin as f32, 0.0);
                    count += 1;
                }
            }
        }
        let mean = |sum: f64| (count > 0).then(|| sum / count as f64);
        let (fold_log_loss, fold_accuracy) = (mean(total), mean(right));
        let epoch = HeadEpoch {
            epoch: 1,
            loss,
            fold_log_loss,
            fold_accuracy,
            heldout_log_loss: None,
            heldout_accuracy: None,
        };
        HeadReport {
            epochs: vec![epoch],
            kept_epoch: vec![1; head.shape.members],
            fold_log_loss,
            fold_accuracy,
            fold_losses,
            parameters: head.shape.parameters(),
            l2,
            view_weights,
            prior,
        }
    }
}

#[cfg(test)]
mod tests;
