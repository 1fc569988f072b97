//! The minibatches of head training: seed pairs, their synthetic responses, and every comparison
//! between them.

use super::pair_losses::Comparison;
use super::step::{Batch, HeadTrainer};
use crate::adam::AdamSettings;
use crate::bradley_terry::BradleyTerry;
use crate::embedded::{EmbeddedPairs, Label};
use crate::error::CoreError;
use crate::folds::Folds;
use crate::head::data::Augmentation;
use crate::head::ensemble::HeadShape;
use crate::head::settings::HeadSettings;
use crate::linalg::Threads;
use crate::pairing::{Combination, Pairing, check_factor, combinations, synthetic_per_side};
use crate::rng::{Purpose, Stream};
use crate::source::Synthetic;
use crate::standardise::Standardiser;
use crate::vae::Vae;
use std::ops::Range;

/// Assembles the batch of every step into buffers allocated once.
pub(super) struct Batches<'a> {
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    augmentation: Option<&'a Augmentation<'a>>,
    folds: &'a Folds,
    seed: u64,
    /// Most seed pairs in a step.
    pub batch: usize,
    /// k, the number of synthetic responses a side.
    pub per_side: usize,
    margin_weight: f32,
    /// The combinations that every pair has, where a pair has all there are; otherwise each pair's
    /// are drawn when needed, the same in every epoch.
    all_combinations: Option<Vec<Combination>>,
    order: Stream,
    dropout: Option<Dropout>,
    /// The synthetic responses of a step: codes, [2B, k, l], or embeddings, [2B, k, d].
    synthetic: Vec<f32>,
    comparisons: Vec<Comparison>,
    /// Number of seed pairs in `comparisons`.
    compared: usize,
    /// Whether all steps with the same number of pairs have the same comparisons.
    same_comparisons: bool,
    trains: Vec<bool>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        pairs: &'a EmbeddedPairs,
        standardiser: &'a Standardiser,
        augmentation: Option<&'a Augmentation<'a>>,
        folds: &'a Folds,
        settings: &HeadSettings,
        seed: u64,
    ) -> Result<Self, CoreError> {
        let batch = settings.batch.min(pairs.len());
        let (mut per_side, mut width, mut all_combinations) = (0, 0, None);
        if let Some(a) = augmentation {
            check_factor(a.factor)?;
            per_side = synthetic_per_side(a.factor);
            let expected;
            (width, expected) = match a.synthetic {
                Synthetic::Codes { vae, codes } => (codes.latent(), vae.shape().latent),
                Synthetic::Embeddings(embeddings) => (embeddings.dim(), pairs.dim()),
            };
            let (expected, found) = ((per_side, expected), (a.synthetic.per_side(), width));
            if found != expected {
                return Err(CoreError::Shape { what: "synthetic responses", expected, found });
            }
            if a.factor == (per_side + 1).pow(2) {
                all_combinations = Some(combinations(a.factor, seed, 0));
            }
        }
        let has_all = all_combinations.is_some();
        let members = settings.members;
        let layers = HeadShape { dim: 1, hidden: settings.hidden.clone(), members }.layers();
        let widths = layers[..layers.len() - 1].iter().map(|l| members * l.outputs).collect();
        Ok(Batches {
            pairs,
            standardiser,
            augmentation,
            folds,
            seed,
            batch,
            per_side,
            margin_weight: settings.margin_weight as f32,
            all_combinations,
            order: Stream::new(seed, Purpose::HeadTrain, 0),
            dropout: (settings.dropout > 0.0).then(|| Dropout {
                share: settings.dropout,
                stream: Stream::new(seed, Purpose::Dropout, 0),
                widths,
                masks: Vec::new(),
            }),
            synthetic: vec![0.0; 2 * batch * per_side * width],
            comparisons: Vec::new(),
            compared: 0,
            same_comparisons: pairs.labels.iter().all(|&l| l == Label::default())
                && augmentation.is_none_or(|a| a.pairing == Pairing::Within)
                && (augmentation.is_none() || has_all),
            trains: Vec::new(),
        })
    }

    /// The VAE of the synthetic responses, where these are latent codes.
    pub(super) fn vae(&self) -> Option<&'a Vae> {
        match self.augmentation.filter(|_| self.per_side > 0)?.synthetic {
            Synthetic::Codes { vae, .. } => Some(vae),
            Synthetic::Embeddings(_) => None,
        }
    }

    /// Most embeddings in a step: of real responses, and of synthetic ones that are not codes.
    pub(super) fn most_embeddings(&self) -> usize {
        let synthetic = if self.vae().is_some() { 0 } else { self.per_side };
        2 * self.batch * (1 + synthetic)
    }

    /// Puts the pairs into the order of the next epoch.
    pub(super) fn shuffle(&mut self, order: &mut [usize]) {
        self.order.shuffle(order);
    }

    /// Prepares the step on the pairs `rows`, and takes it.
    pub(super) fn step(
        &mut self,
        rows: &[usize],
        trainer: &mut HeadTrainer<'_, f32>,
        form: BradleyTerry,
        losses: &mut [f64],
        update: AdamSettings,
        threads: Threads,
    ) {
        let b = rows.len();
        self.trains.clear();
        for m in 0..losses.len() {
            self.trains.extend(rows.iter().map(|&pair| !self.folds.is_held_out(m, pair)));
        }
        self.list_comparisons(rows);
        let (mut codes, mut embeddings): (&[f32], &[f32]) = (&[], &[]);
        match self.augmentation.map(|a| a.synthetic) {
            None => {}
            Some(Synthetic::Codes { codes: all, .. }) => {
                let out = &mut self.synthetic[..2 * b * self.per_side * all.latent()];
                all.gather(rows, out, threads);
                codes = out;
            }
            Some(Synthetic::Embeddings(all)) => {
                let out = &mut self.synthetic[..2 * b * self.per_side * all.dim()];
                all.gather(rows, out, threads);
                embeddings = out;
            }
        }
        let (pairs, standardiser) = (self.pairs, self.standardiser);
        let dim = pairs.dim();
        let load = |columns: Range<usize>, x: &mut [f32]| {
            let w = columns.len();
            let (real, synthetic) = x.split_at_mut(2 * b * w);
            pairs.gather_columns(standardiser, rows, columns.clone(), real);
            let embeddings = embeddings.chunks_exact(dim);
            for (out, row) in synthetic.chunks_exact_mut(w).zip(embeddings) {
                out.copy_from_slice(&row[columns.clone()]);
            }
        };
        let responses = 2 * b * (1 + self.per_side);
        let batch = Batch {
            real: 2 * b + embeddings.len() / dim,
            load: &load,
            codes,
            comparisons: &self.comparisons,
            trains: &self.trains,
            dropout: self.dropout.as_mut().map(|d| d.draw(responses)),
        };
        trainer.step(batch, form, losses, Some(update));
    }

    /// Lists every comparison of a step on the pairs `rows`.
    fn list_comparisons(&mut self, rows: &[usize]) {
        let (b, k) = (rows.len(), self.per_side);
        if self.same_comparisons && self.compared == b {
            return;
        }
        self.compared = b;
        let label = |pair: usize| self.pairs.labels[pair].with_scaled_margin(self.margin_weight);
        self.comparisons.clear();
        let Some(a) = self.augmentation else {
            self.comparisons.extend(rows.iter().zip(0..b as u32).map(|(&pair, i)| Comparison {
                chosen: i,
                rejected: i + b as u32,
                pairs: [i, i],
                label: label(pair),
            }));
            return;
        };
        // Row of copy `copy` of pair `i` on a side.
        let row = |i: usize, side: usize, copy: u16| {
            (if copy == 0 {
                side * b + i
            } else {
                2 * b + (side * b + i) * k + usize::from(copy) - 1
            }) as u32
        };
        for (i, &pair) in rows.iter().enumerate() {
            let drawn;
            let combinations = match &self.all_combinations {
                Some(all) => all,
                None => {
                    drawn = combinations(a.factor, self.seed, pair);
                    &drawn
                }
            };
            let own = label(pair);
            for c in combinations {
                let original = c.chosen == 0 && c.rejected == 0;
                let mut other = match a.pairing {
                    Pairing::Across if !original => self.order.below(b),
                    _ => i,
                };
                // A tie has no better side that could beat another pair's.
                if own.is_tie() || self.pairs.labels[rows[other]].is_tie() {
                    other = i;
                }
                self.comparisons.push(Comparison {
                    chosen: row(i, 0, c.chosen),
                    rejected: row(other, 1, c.rejected),
                    pairs: [i as u32, other as u32],
                    // A margin was given between the two responses of one pair only.
                    label: if other == i { own } else { Label::default() },
                });
            }
        }
    }
}

/// Draws the hidden units that are left out of a step.
struct Dropout {
    share: f64,
    stream: Stream,
    /// Outputs of each hidden layer, of all members.
    widths: Vec<usize>,
    masks: Vec<Vec<f32>>,
}

impl Dropout {
    /// The dropout masks for `responses` responses: factors on the outputs of each hidden layer.
    fn draw(&mut self, responses: usize) -> &[Vec<f32>] {
        let kept = (1.0 / (1.0 - self.share)) as f32;
        self.masks.resize(self.widths.len(), Vec::new());
        for (mask, width) in self.masks.iter_mut().zip(&self.widths) {
            mask.clear();
            let len = responses * width;
            mask.extend((0..len).map(|_| if self.stream.chance(self.share) { 0.0 } else { kept }));
        }
        &self.masks
    }
}
