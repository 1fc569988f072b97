//! Sources of synthetic responses: the method's own synthesis (docs/method.md, step 3) and its
//! rivals, all behind the trait [`Source`], so that heads that are compared differ in their data
//! alone: same head, same pairing, same factor.
//!
//! - [`lens`]: the VAE and its latent space (the method).
//! - [`perturbation`]: Gaussian noise on the embedding itself.
//! - [`gaussian`]: draws from a Gaussian fitted to the embeddings of each side.
//! - [`mixup`]: interpolation with another pair of the same label.
//!
//! A source whose responses are texts embeds them and hands them on as [`Synthetic::Embeddings`].

pub mod gaussian;
pub mod lens;
pub mod mixup;
pub mod perturbation;

use crate::embedded::EmbeddedPairs;
use crate::error::{CoreError, require};
use crate::folds::{FoldPartners, Folds};
use crate::linalg::Threads;
use crate::matrix::Rows;
use crate::standardise::Standardiser;
use crate::synthesis::{SynthesisSettings, SyntheticCodes};
use crate::vae::Vae;
use crate::vae::train::VaeReport;
use gaussian::GaussianSampling;
use mixup::Mixup;
use perturbation::Perturbation;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which source the synthetic responses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Latent space synthesis, the method itself. The default.
    #[default]
    Lens,
    /// Gaussian noise on the embeddings (the paper's direct perturbation).
    Perturbation,
    /// Draws from a Gaussian fitted to the embeddings of each side (the paper's Gaussian sampling).
    Gaussian,
    /// Interpolation between pairs (Zhang et al. 2018, in embedding space).
    Mixup,
}

impl SourceKind {
    /// Its name, as settings have it.
    pub fn name(self) -> &'static str {
        match self {
            SourceKind::Lens => "lens",
            SourceKind::Perturbation => "perturbation",
            SourceKind::Gaussian => "gaussian",
            SourceKind::Mixup => "mixup",
        }
    }
}

/// Settings of the rivals, all ours (O): the paper gives none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RivalSettings {
    /// Variance of the noise that direct perturbation adds to each dimension, in units of that
    /// dimension's variance over the seed pairs (without `standardise`, as it is). Defaults to 0.01.
    pub perturbation_variance: f64,
    /// Mixup's alpha: the share of the other pair is drawn from Beta(alpha, alpha), the smaller part
    /// of it. Defaults to 0.4.
    pub mixup_alpha: f64,
}

impl Default for RivalSettings {
    fn default() -> Self {
        RivalSettings { perturbation_variance: 0.01, mixup_alpha: 0.4 }
    }
}

impl SeedPairs<'_> {
    /// The pairs of the same fold that each pair may be mixed with.
    pub(crate) fn partners(&self) -> FoldPartners {
        FoldPartners::new(&self.pairs.labels, self.folds)
    }
}

impl RivalSettings {
    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        require(
            self.perturbation_variance.is_finite() && self.perturbation_variance >= 0.0,
            "rivals.perturbation_variance",
            self.perturbation_variance,
            "a finite number of at least 0",
        )?;
        require(
            (1e-3..=1e3).contains(&self.mixup_alpha),
            "rivals.mixup_alpha",
            self.mixup_alpha,
            "from 0.001 to 1000",
        )
    }
}

/// The seed pairs, how they are standardised, and their folds. Where the synthetic responses of one
/// pair depend on the label of another, both must be in one fold: otherwise the members that do not
/// train on a fold would learn its labels from synthetic pairs of other folds, and every figure on
/// folds would be too good.
#[derive(Clone, Copy)]
pub struct SeedPairs<'a> {
    /// The pairs.
    pub pairs: &'a EmbeddedPairs,
    /// Their standardisation.
    pub standardiser: &'a Standardiser,
    /// Their folds.
    pub folds: &'a Folds,
}

/// How many synthetic responses are options, and from which randomness.
#[derive(Debug, Clone, Copy)]
pub struct DrawOptions<'a> {
    /// k: for each side of each seed pair.
    pub per_side: usize,
    /// How latent space is drawn from. Every source takes `memory_mb` from it: responses that need
    /// more memory than that are not kept, but drawn again whenever a step needs them, the same to
    /// the bit.
    pub synthesis: &'a SynthesisSettings,
    /// Seed of the draws.
    pub seed: u64,
    /// How many threads may draw.
    pub threads: Threads,
}

/// A source of synthetic responses, already fitted to the seed pairs where it learns anything.
pub trait Source: Sync {
    /// Number of parameters that were learned from the seed pairs.
    fn parameters(&self) -> usize;

    /// `options.per_side` responses for each side of each of `seeds`, those of a pair from a stream of
    /// its own.
    ///
    /// # Errors
    /// [`CoreError::Setting`] and [`CoreError::Shape`] where the source does not fit the seed pairs.
    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError>;

    /// The VAE behind it and how its training went, where there is one.
    fn into_vae(self: Box<Self>) -> Option<(Vae, VaeReport)> {
        None
    }
}

/// Synthetic responses, k for each side of each seed pair.
pub enum Synthetic<'a> {
    /// As latent codes, which the head trains on without decoding them.
    Codes {
        /// Whose decoder they belong to.
        vae: &'a Vae,
        /// The codes.
        codes: SyntheticCodes,
    },
    /// As standardised embeddings.
    Embeddings(SyntheticEmbeddings<'a>),
}

impl Synthetic<'_> {
    /// k, the number of synthetic responses a side.
    pub fn per_side(&self) -> usize {
        match self {
            Synthetic::Codes { codes, .. } => codes.per_side(),
            Synthetic::Embeddings(embeddings) => embeddings.per_side,
        }
    }

    /// The standardised embeddings of seed pair `pair`, `[k, d]` each: of its chosen response and of
    /// the rejected one.
    pub fn embeddings(&self, pair: usize, threads: Threads) -> [Vec<f32>; 2] {
        let zeros = |width| [(); 2].map(|()| vec![0.0f32; self.per_side() * width]);
        match self {
            Synthetic::Codes { vae, codes } => {
                let mut sides = zeros(codes.latent());
                let [chosen, rejected] = &mut sides;
                codes.write(pair, chosen, rejected);
                sides.map(|codes| vae.decode(&codes, threads))
            }
            Synthetic::Embeddings(embeddings) => {
                let mut sides = zeros(embeddings.dim);
                let [chosen, rejected] = &mut sides;
                embeddings.write(pair, chosen, rejected);
                sides
            }
        }
    }
}

/// Writes the synthetic embeddings of one seed pair: `[k, d]` of its chosen response, `[k, d]` of the
/// rejected one.
pub type DrawFn<'a> = Box<dyn Fn(usize, &mut [f32], &mut [f32]) + Send + Sync + 'a>;

/// Synthetic responses as standardised embeddings: kept where memory allows, else drawn again
/// whenever they are needed.
pub struct SyntheticEmbeddings<'a> {
    per_side: usize,
    dim: usize,
    draw: DrawFn<'a>,
    kept: Option<Vec<f32>>,
}

impl<'a> SyntheticEmbeddings<'a> {
    /// The responses of `pairs` seed pairs of width `dim`. `draw` must write the same values whenever
    /// it is called for the same pair.
    pub fn new(pairs: usize, dim: usize, options: DrawOptions<'_>, draw: DrawFn<'a>) -> Self {
        let DrawOptions { per_side, synthesis, threads, .. } = options;
        let size = per_side * dim;
        let fits = (2 * pairs)
            .checked_mul(size)
            .filter(|n| n * size_of::<f32>() <= synthesis.memory_mb << 20);
        let kept = fits.map(|values| {
            let mut kept = vec![0.0f32; values];
            if size > 0 {
                let write = |(pair, out): (usize, &mut [f32])| {
                    let (chosen, rejected) = out.split_at_mut(size);
                    draw(pair, chosen, rejected);
                };
                if threads == Threads::ONE {
                    kept.chunks_exact_mut(2 * size).enumerate().for_each(write);
                } else {
                    kept.par_chunks_exact_mut(2 * size).enumerate().with_min_len(8).for_each(write);
                }
            }
            kept
        });
        SyntheticEmbeddings { per_side, dim, draw, kept }
    }

    /// Whether they are in memory.
    pub fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Writes those of seed pair `pair`, `[k, d]` each.
    pub fn write(&self, pair: usize, chosen: &mut [f32], rejected: &mut [f32]) {
        let size = self.per_side * self.dim;
        match &self.kept {
            Some(kept) => {
                let (a, b) = kept[2 * pair * size..2 * (pair + 1) * size].split_at(size);
                chosen.copy_from_slice(a);
                rejected.copy_from_slice(b);
            }
            None => (self.draw)(pair, chosen, rejected),
        }
    }

    /// Writes those of the pairs `rows`, [2B, k, d]: of the B chosen, then of the B rejected.
    pub(crate) fn gather(&self, rows: &[usize], out: &mut [f32], threads: Threads) {
        let size = self.per_side * self.dim;
        if size == 0 {
            return;
        }
        let (chosen, rejected) = out.split_at_mut(rows.len() * size);
        if threads == Threads::ONE {
            let sides = chosen.chunks_exact_mut(size).zip(rejected.chunks_exact_mut(size));
            rows.iter().zip(sides).for_each(|(&pair, (a, b))| self.write(pair, a, b));
        } else {
            let sides = chosen.par_chunks_exact_mut(size).zip(rejected.par_chunks_exact_mut(size));
            let each = rows.par_iter().zip(sides).with_min_len(8);
            each.for_each(|(&pair, (a, b))| self.write(pair, a, b));
        }
    }

    /// Width of a response.
    pub fn dim(&self) -> usize {
        self.dim
    }
}

/// The rival of this kind, fitted to the seed pairs; `None` for the method's own source, whose VAE
/// has to be trained ([`lens::Lens::fit`]).
///
/// # Errors
/// [`CoreError::Setting`] for parameters out of range; any error of fitting it.
pub fn fit_rival(
    kind: SourceKind,
    settings: &RivalSettings,
    seeds: SeedPairs<'_>,
    threads: Threads,
) -> Result<Option<Box<dyn Source>>, CoreError> {
    settings.check()?;
    Ok(match kind {
        SourceKind::Lens => None,
        SourceKind::Perturbation => {
            Some(Box::new(Perturbation { variance: settings.perturbation_variance }))
        }
        SourceKind::Gaussian => Some(Box::new(GaussianSampling::fit(seeds, threads)?)),
        SourceKind::Mixup => Some(Box::new(Mixup { alpha: settings.mixup_alpha })),
    })
}

/// Writes the standardised embedding of one side of pair `pair`, `[d]`.
fn read_side(seeds: SeedPairs<'_>, side: usize, pair: usize, out: &mut [f32]) {
    let rows = if side == 0 { &seeds.pairs.chosen } else { &seeds.pairs.rejected };
    rows.read(pair, out);
    seeds.standardiser.apply(out);
}

#[cfg(test)]
mod tests;
