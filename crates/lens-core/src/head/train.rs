//! Training an ensemble of heads: folds by prompt, minibatches of seed pairs, early stopping.

use super::loss::{Batch, Comparison, Decoder, HeadWorkspace, softplus};
use super::{Head, HeadSettings, HeadShape};
use crate::adam::{Adam, AdamSettings};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::matrix::{EmbeddedPairs, Standardiser, distinct};
use crate::pairing::{Combination, Pairing, check_factor, combinations, synthetic_per_side};
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::synthesis::SyntheticCodes;
use crate::vae::Vae;
use crate::vae::train::gather;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Loss beyond which a head counts as diverged.
const LOSS_LIMIT: f64 = 1e4;

/// Synthetic responses to train on, with what is needed to score them.
pub struct Augmentation<'a> {
    /// Training pairs for each seed pair, the original included.
    pub factor: usize,
    /// Where the other side of a combination comes from.
    pub pairing: Pairing,
    /// The VAE whose decoder the codes belong to.
    pub vae: &'a Vae,
    /// The codes of every seed pair; their number a side follows from the factor.
    pub codes: &'a SyntheticCodes,
}

/// One epoch of head training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadEpoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss over members and steps.
    pub loss: f64,
    /// Mean log-loss of the members on their own folds.
    pub fold_log_loss: f64,
    /// Mean accuracy of the members on their own folds, ties as half.
    pub fold_accuracy: f64,
}

/// How head training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// One entry an epoch.
    pub epochs: Vec<HeadEpoch>,
    /// The epoch each member was kept at, counted from 1.
    pub kept_epoch: Vec<usize>,
    /// Log-loss on pairs the scoring member did not train on (but was stopped by).
    pub fold_log_loss: f64,
    /// Accuracy on the same pairs, ties as half.
    pub fold_accuracy: f64,
    /// Log-loss of every pair by the members that did not train on it, `None` where all did: what
    /// two heads with the same folds are compared on.
    pub fold_losses: Vec<Option<f64>>,
    /// Number of parameters of all members.
    pub parameters: usize,
}

/// The fold of every pair: prompts are dealt to `folds` folds at random, so that pairs of one
/// prompt are never on both sides. With fewer prompts than folds the surplus folds stay empty.
pub fn assign_folds(prompts: &[u32], folds: usize, seed: u64) -> Vec<usize> {
    let mut unique = distinct(prompts);
    Stream::new(seed, Purpose::Folds, 0).shuffle(&mut unique);
    let fold: HashMap<u32, usize> =
        unique.iter().enumerate().map(|(i, &p)| (p, i % folds)).collect();
    prompts.iter().map(|p| fold[p]).collect()
}

/// Trains an ensemble on `pairs` and, where given, their synthetic responses. Only real pairs
/// decide when a member stops.
///
/// # Errors
/// [`CoreError::TooFewPairs`] below two prompts; [`CoreError::NoDifference`] when every pair has
/// equal sides; [`CoreError::Diverged`]; [`CoreError::Cancelled`].
pub fn train(
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    augmentation: Option<&Augmentation<'_>>,
    settings: &HeadSettings,
    seed: u64,
    threads: Threads,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    settings.check()?;
    let folds = check_pairs(pairs, settings, seed)?;
    let members = settings.members;
    let shape = HeadShape { dim: pairs.dim(), hidden: settings.hidden.clone(), members };
    let mut steps = Steps::new(pairs, standardiser, augmentation, settings, seed)?;
    let mut head = Head::<f32>::new(shape.clone(), settings.activation, seed);
    let fold_count = folds.iter().max().map_or(1, |m| m + 1);
    let held = |m: usize, pair: usize| folds[pair] == m % fold_count;

    let mut workspace =
        HeadWorkspace::new(&shape, 2 * steps.batch * (1 + steps.per_side), steps.hidden);
    let mut gradient = vec![0.0f32; shape.parameters()];
    let mut adam = Adam::new(shape.parameters());
    let adam_settings =
        AdamSettings { learning_rate: settings.learning_rate, weight_decay: settings.weight_decay };
    let mut losses = vec![0.0; members];
    let mut best = Best::new(&head, members);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let mut stream = Stream::new(seed, Purpose::HeadTrain, 0);
    let mut epochs = Vec::new();
    let mut step = 0u64;

    progress.begin("train head", settings.epochs as u64, "epochs");
    for epoch in 1..=settings.epochs {
        stream.shuffle(&mut order);
        let mut loss_sum = 0.0;
        for rows in order.chunks(steps.batch) {
            if progress.cancelled() {
                return Err(CoreError::Cancelled { stage: "head" });
            }
            step += 1;
            let batch = steps.prepare(rows, members, &held, &mut stream, threads);
            head.loss_and_gradient(
                &batch,
                settings.label_smoothing,
                &mut workspace,
                &mut gradient,
                &mut losses,
                threads,
            );
            let loss = losses.iter().sum::<f64>() / members as f64;
            if !loss.is_finite() || loss > LOSS_LIMIT {
                return Err(CoreError::Diverged {
                    stage: "head",
                    step,
                    figures: format!("mean loss {loss:.4}"),
                    advice: format!(
                        "try a smaller head.learning_rate (now {}) or a larger head.weight_decay \
                         (now {})",
                        settings.learning_rate, settings.weight_decay
                    ),
                });
            }
            adam.step(adam_settings, &mut head.parameters, &gradient);
            loss_sum += loss * rows.len() as f64 / pairs.len() as f64;
        }
        let fold = fold_figures(&head, pairs, standardiser, &held, threads);
        let mean = |f: fn(&Figures) -> f64| fold.iter().map(f).sum::<f64>() / members as f64;
        epochs.push(HeadEpoch {
            epoch,
            loss: loss_sum,
            fold_log_loss: mean(|f| f.log_loss),
            fold_accuracy: mean(|f| f.accuracy),
        });
        best.update(epoch, &head, &fold);
        progress.advance(1);
        if best.done(epoch, settings.patience) {
            break;
        }
    }
    progress.end();
    let report = HeadReport {
        epochs,
        kept_epoch: best.epoch.clone(),
        fold_log_loss: best.mean(|f| f.log_loss),
        fold_accuracy: best.mean(|f| f.accuracy),
        fold_losses: best.pair_losses(pairs.len()),
        parameters: shape.parameters(),
    };
    head.parameters = best.parameters;
    Ok((head, report))
}

fn check_pairs(
    pairs: &EmbeddedPairs,
    settings: &HeadSettings,
    seed: u64,
) -> Result<Vec<usize>, CoreError> {
    let prompts = distinct(&pairs.prompts).len();
    if prompts < 2 {
        return Err(CoreError::TooFewPairs {
            what: "training the head, which holds out whole prompts",
            needed: 2,
            found: prompts,
        });
    }
    if (0..pairs.len()).all(|i| pairs.chosen.row(i) == pairs.rejected.row(i)) {
        return Err(CoreError::NoDifference { pairs: pairs.len() });
    }
    Ok(assign_folds(&pairs.prompts, settings.folds, seed))
}

/// Assembles the batches of every step into buffers allocated once.
struct Steps<'a> {
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    augmentation: Option<&'a Augmentation<'a>>,
    batch: usize,
    per_side: usize,
    hidden: usize,
    /// The combinations of every pair, one after another: they are the same in every epoch.
    combinations: Vec<Combination>,
    real: Vec<f32>,
    codes: Vec<f32>,
    synthetic: Vec<f32>,
    comparisons: Vec<Comparison>,
    trains: Vec<bool>,
}

impl<'a> Steps<'a> {
    fn new(
        pairs: &'a EmbeddedPairs,
        standardiser: &'a Standardiser,
        augmentation: Option<&'a Augmentation<'a>>,
        settings: &HeadSettings,
        seed: u64,
    ) -> Result<Self, CoreError> {
        let batch = settings.batch.min(pairs.len());
        let (mut per_side, mut hidden, mut drawn) = (0, 0, Vec::new());
        if let Some(a) = augmentation {
            check_factor(a.factor)?;
            per_side = synthetic_per_side(a.factor);
            hidden = a.vae.shape().hidden;
            let found = (a.codes.per_side(), a.codes.latent());
            let expected = (per_side, a.vae.shape().latent);
            if found != expected {
                return Err(CoreError::Shape { what: "synthetic codes", expected, found });
            }
            drawn = (0..pairs.len()).flat_map(|pair| combinations(a.factor, seed, pair)).collect();
        }
        Ok(Steps {
            pairs,
            standardiser,
            augmentation,
            batch,
            per_side,
            hidden,
            combinations: drawn,
            real: vec![0.0; 2 * batch * pairs.dim()],
            codes: Vec::new(),
            synthetic: vec![0.0; 2 * batch * per_side * hidden],
            comparisons: Vec::new(),
            trains: Vec::new(),
        })
    }

    fn prepare(
        &mut self,
        rows: &[usize],
        members: usize,
        held: &impl Fn(usize, usize) -> bool,
        stream: &mut Stream,
        threads: Threads,
    ) -> Batch<'_, f32> {
        let b = rows.len();
        let real = &mut self.real[..2 * b * self.pairs.dim()];
        gather(self.pairs, self.standardiser, rows, real);
        self.trains.clear();
        for m in 0..members {
            self.trains.extend(rows.iter().map(|&pair| !held(m, pair)));
        }
        self.comparisons.clear();
        let mut synthetic_len = 0;
        match self.augmentation {
            None => self.comparisons.extend((0..b as u32).map(|i| Comparison {
                chosen: i,
                rejected: i + b as u32,
                pairs: [i, i],
            })),
            Some(a) => {
                self.codes.clear();
                for side in 0..2 {
                    for &pair in rows {
                        self.codes.extend_from_slice(a.codes.of(pair, side));
                    }
                }
                synthetic_len = 2 * b * self.per_side * self.hidden;
                if self.per_side > 0 {
                    let out = &mut self.synthetic[..synthetic_len];
                    a.vae.decoder_hidden(&self.codes, out, threads);
                }
                // Row of copy `copy` of pair `i` on a side.
                let row = |i: usize, side: usize, copy: u16| {
                    (if copy == 0 {
                        side * b + i
                    } else {
                        2 * b + (side * b + i) * self.per_side + usize::from(copy) - 1
                    }) as u32
                };
                for (i, &pair) in rows.iter().enumerate() {
                    for c in &self.combinations[pair * a.factor..(pair + 1) * a.factor] {
                        let original = c.chosen == 0 && c.rejected == 0;
                        let other = match a.pairing {
                            Pairing::Across if !original => stream.below(b),
                            _ => i,
                        };
                        self.comparisons.push(Comparison {
                            chosen: row(i, 0, c.chosen),
                            rejected: row(other, 1, c.rejected),
                            pairs: [i as u32, other as u32],
                        });
                    }
                }
            }
        }
        Batch {
            real,
            synthetic: &self.synthetic[..synthetic_len],
            decoder: self.augmentation.filter(|_| self.per_side > 0).map(|a| Decoder {
                weights: a.vae.decoder_out(),
                bias: a.vae.decoder_out_bias(),
                hidden: self.hidden,
            }),
            comparisons: &self.comparisons,
            trains: &self.trains,
        }
    }
}

/// A member's figures on its own fold.
#[derive(Debug, Clone)]
struct Figures {
    log_loss: f64,
    accuracy: f64,
    /// Pair and log-loss.
    losses: Vec<(usize, f64)>,
}

fn fold_figures(
    head: &Head,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    held: &impl Fn(usize, usize) -> bool,
    threads: Threads,
) -> Vec<Figures> {
    let members = head.shape.members;
    let mut sums = vec![(0.0f64, 0.0f64, Vec::new()); members];
    let wanted: Vec<usize> =
        (0..pairs.len()).filter(|&i| (0..members).any(|m| held(m, i))).collect();
    let mut x = vec![0.0f32; 2 * 512.min(wanted.len()) * pairs.dim()];
    for rows in wanted.chunks(512) {
        let x = &mut x[..2 * rows.len() * pairs.dim()];
        gather(pairs, standardiser, rows, x);
        let rewards = head.member_rewards(x, threads);
        for (i, &pair) in rows.iter().enumerate() {
            for (m, sum) in sums.iter_mut().enumerate().filter(|(m, _)| held(*m, pair)) {
                let a = rewards[i * members + m];
                let b = rewards[(i + rows.len()) * members + m];
                let margin = f64::from(a) - f64::from(b);
                let loss = softplus(-margin);
                sum.0 += loss;
                sum.1 += crate::metrics::credit(a, b);
                sum.2.push((pair, loss));
            }
        }
    }
    sums.into_iter()
        .map(|(loss, right, losses)| {
            let n = losses.len().max(1) as f64;
            Figures { log_loss: loss / n, accuracy: right / n, losses }
        })
        .collect()
}

/// The best state of every member so far.
struct Best {
    parameters: Vec<f32>,
    figures: Vec<Figures>,
    epoch: Vec<usize>,
}

impl Best {
    fn new(head: &Head, members: usize) -> Self {
        let worst = Figures { log_loss: f64::INFINITY, accuracy: 0.0, losses: Vec::new() };
        Best {
            parameters: head.parameters.clone(),
            figures: vec![worst; members],
            epoch: vec![0; members],
        }
    }

    fn update(&mut self, epoch: usize, head: &Head, fold: &[Figures]) {
        for (m, figures) in fold.iter().enumerate() {
            if figures.log_loss < self.figures[m].log_loss {
                self.figures[m] = figures.clone();
                self.epoch[m] = epoch;
                for range in head.shape.of_member(m) {
                    self.parameters[range.clone()].copy_from_slice(&head.parameters[range]);
                }
            }
        }
    }

    fn done(&self, epoch: usize, patience: usize) -> bool {
        self.epoch.iter().all(|&best| epoch - best >= patience)
    }

    fn pair_losses(&self, pairs: usize) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0usize); pairs];
        for &(pair, loss) in self.figures.iter().flat_map(|f| &f.losses) {
            sums[pair].0 += loss;
            sums[pair].1 += 1;
        }
        sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
    }

    fn mean(&self, f: impl Fn(&Figures) -> f64) -> f64 {
        self.figures.iter().map(f).sum::<f64>() / self.figures.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_one_prompt_share_a_fold_and_folds_are_even() {
        let prompts: Vec<u32> = (0..100).map(|i| i / 2).collect();
        let folds = assign_folds(&prompts, 5, 1);
        for i in (0..100).step_by(2) {
            assert_eq!(folds[i], folds[i + 1]);
        }
        for fold in 0..5 {
            assert_eq!(folds.iter().filter(|&&f| f == fold).count(), 20);
        }
    }
}
