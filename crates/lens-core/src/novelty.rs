//! Novelty: how far a response is from those that a reward model was trained on. It is the Mahalanobis
//! distance of its posterior mean, in the VAE's latent space, from the posterior means of the seed
//! responses.
//!
//! With m and S their mean and covariance (divided by n), the distance of a posterior mean x is
//!
//! ```text
//! D(x) = sqrt((x - m)' A^-1 (x - m)),    A = (1 - s) S + s v I,    v = trace(S) / l
//! ```
//!
//! The weight s is that of Ledoit and Wolf (2004), which depends on the seed responses alone: near 1
//! with fewer responses than latents, near 0 with many. It gives collapsed latents a variance, so that
//! rounding in them is not mistaken for distance. The distance does not change when latent space is
//! shifted, rotated or scaled as a whole; with s = 0 it would not under any invertible affine map.
//!
//! # The threshold
//!
//! The threshold is the distance that 99 in 100 responses like the seed responses stay below. It cannot
//! be taken from the distances of the seed responses: the VAE was trained on them, and puts them closer
//! together than new ones (on 300 pairs of HH-RLHF harmless, 12 to 25 of 100 held-out responses are
//! beyond the distance that 1 of 100 seed responses is beyond). [`Novelty::fit_held_out`] therefore
//! trains the VAE again without a fold of the pairs, and takes the distances of that fold in that
//! latent space, fold after fold, until there are some hundreds. The fold is left out of the
//! standardisation, too: as all pairs together have mean 0, the mean of the others would lie opposite
//! to the fold, and a VAE of many dimensions learns that (on 300 pairs with four views, d = 2560, the
//! fold's distances were a third larger than those of new responses).
//!
//! Of n distances the threshold is the one of rank ceil(0.99 (n + 1)), as in conformal prediction: if
//! the n and a new response are drawn alike, at most 1 in 100 lies beyond. Below n = 99 that is the
//! largest of all, and the guarantee is 1 in n + 1; [`Novelty::judged`] is n.
//!
//! [`Novelty::fit`] trains no VAE. Each seed response's distance is there taken from the mean and
//! covariance without its own pair (with 100 pairs and 16 latents, a response that is part of them has
//! a distance smaller by about a tenth), but in the latent space of a VAE that was trained on it.

use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::folds::Folds;
use crate::linalg::{Threads, cholesky_definite, dot_in_order, solve_lower, solve_lower_packed};
use crate::matrix::Rows;
use crate::progress::{Progress, Within};
use crate::standardise::Standardiser;
use crate::vae::train::train;
use crate::vae::{Vae, VaeSettings};

/// Share of responses like the seed responses that the threshold admits.
const ADMITTED: f64 = 0.99;
/// Least weight of the identity in the covariance: with many responses Ledoit and Wolf's goes to 0,
/// and so would the variance of a collapsed latent.
const LEAST_SHRINKAGE: f64 = 1e-4;
/// Least mean variance: the prior's is 1, and posterior means that vary by less than this are equal.
const LEAST_VARIANCE: f64 = 1e-12;
/// Fewest pairs: without one of them there must be a pair left.
const LEAST_PAIRS: usize = 2;
/// Number of held-out responses that suffices for the threshold.
const ENOUGH: usize = 300;
/// Embeddings encoded at a time, so that a large store is never copied as a whole.
const BLOCK: usize = 512;

/// Mean and covariance of the seed responses in latent space, and the distance beyond which a
/// response is unlike them.
#[derive(Debug, Clone, PartialEq)]
pub struct Novelty {
    responses: usize,
    judged: usize,
    shrinkage: f32,
    threshold: f32,
    mean: Vec<f32>,
    factor: Vec<f32>,
}

/// How the VAE was trained: what is needed to train it again without a fold of the pairs.
#[derive(Clone, Copy)]
pub struct VaeRecipe<'a> {
    /// The folds of the pairs.
    pub folds: &'a Folds,
    /// The settings of the VAE.
    pub settings: &'a VaeSettings,
    /// The random seed.
    pub seed: u64,
}

impl Novelty {
    /// Fits mean and covariance to the seed responses `pairs` in the latent space of `vae`, and takes
    /// the threshold from folds that VAEs trained as `recipe` says were not trained on. With a single
    /// fold it is as [`Novelty::fit`].
    ///
    /// # Errors
    /// As [`Novelty::fit`] and [`train`].
    pub fn fit_held_out(
        vae: &Vae,
        standardiser: &Standardiser,
        pairs: &EmbeddedPairs,
        recipe: VaeRecipe<'_>,
        threads: Threads,
        progress: &dyn Progress,
    ) -> Result<Novelty, CoreError> {
        let novelty = Self::fit(vae, standardiser, pairs, threads)?;
        let VaeRecipe { folds, settings, seed } = recipe;
        let mut distances = Vec::new();
        progress.begin("measure novelty", folds.count() as u64, "folds");
        let within = Within::silent(progress);
        // A standardiser that was not fitted to these pairs carries nothing of the fold.
        let fitted = *standardiser == Standardiser::fit(pairs);
        let measured = (0..folds.count()).try_for_each(|fold| -> Result<(), CoreError> {
            let (held, others): (Vec<usize>, Vec<usize>) =
                (0..pairs.len()).partition(|&pair| folds.of_pairs()[pair] == fold);
            if !held.is_empty() && others.len() >= LEAST_PAIRS && distances.len() < ENOUGH {
                let (held, others) = (pairs.select(&held), pairs.select(&others));
                let own = fitted.then(|| Standardiser::fit(&others));
                let standardiser = own.as_ref().unwrap_or(standardiser);
                let (vae, _) =
                    train(&others, standardiser, settings, None, seed, threads, &within)?;
                let seen = Self::fit(&vae, standardiser, &others, threads)?;
                for side in [&held.chosen, &held.rejected] {
                    distances.extend(seen.distances(&vae, standardiser, side, threads)?);
                }
            }
            progress.advance(1);
            Ok(())
        });
        progress.end();
        measured?;
        if distances.is_empty() {
            return Ok(novelty);
        }
        let judged = distances.len();
        Ok(Novelty { judged, threshold: conformal_threshold(&mut distances) as f32, ..novelty })
    }

    /// Fits mean and covariance to the seed responses `pairs` in the latent space of `vae`, and takes
    /// the threshold from these responses themselves.
    ///
    /// # Errors
    /// [`CoreError::TooFewPairs`] below 2 pairs; [`CoreError::Shape`] when the embeddings are not as
    /// wide as those that the VAE was trained on; [`CoreError::Diverged`] when a posterior mean is not
    /// finite.
    pub fn fit(
        vae: &Vae,
        standardiser: &Standardiser,
        pairs: &EmbeddedPairs,
        threads: Threads,
    ) -> Result<Novelty, CoreError> {
        let chosen = posterior_means(vae, standardiser, &pairs.chosen, threads)?;
        let rejected = posterior_means(vae, standardiser, &pairs.rejected, threads)?;
        Self::fit_means(&chosen, &rejected, vae.shape().latent, None)
    }

    /// Fits mean, covariance and threshold to posterior means, [n, l] for each side; tests give the
    /// shrinkage.
    fn fit_means(
        chosen: &[f64],
        rejected: &[f64],
        l: usize,
        shrinkage: Option<f64>,
    ) -> Result<Novelty, CoreError> {
        let pairs = chosen.len() / l;
        if pairs < LEAST_PAIRS {
            let what = "measuring how far a response is from the seeds";
            return Err(CoreError::TooFewPairs { what, needed: LEAST_PAIRS, found: pairs });
        }
        let rows = || chosen.chunks_exact(l).chain(rejected.chunks_exact(l));
        let n = 2.0 * pairs as f64;
        let mut mean = vec![0.0; l];
        rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, &x)| *m += x / n));
        let centred =
            |row: &[f64]| -> Vec<f64> { row.iter().zip(&mean).map(|(x, m)| x - m).collect() };
        let mut scatter = vec![0.0; l * l];
        let mut fourth = 0.0;
        for u in rows().map(centred) {
            fourth += dot_in_order(&u, &u).powi(2);
            for (out, &a) in scatter.chunks_exact_mut(l).zip(&u) {
                out.iter_mut().zip(&u).for_each(|(o, &b)| *o += a * b);
            }
        }
        let trace: f64 = (0..l).map(|i| scatter[i * l + i] / n).sum();
        let variance = (trace / l as f64).max(LEAST_VARIANCE);
        let shrinkage = shrinkage
            .unwrap_or_else(|| ledoit_wolf(&scatter, fourth, variance, n).max(LEAST_SHRINKAGE));
        // (1 - s) W / n + s v I, with n without the pair where it is left out.
        let shrunk = |n: f64| {
            let mut a: Vec<f64> = scatter.iter().map(|w| (1.0 - shrinkage) * w / n).collect();
            (0..l).for_each(|i| a[i * l + i] += shrinkage * variance);
            cholesky_definite(a, l)
        };
        let undefined = || {
            let figures = "the covariance of the posterior means has no Cholesky factor";
            CoreError::diverged("novelty", 0, figures, "retrain the VAE with a larger vae.beta")
        };
        let factor = shrunk(n).ok_or_else(undefined)?;
        let without = shrunk(n - 2.0).ok_or_else(undefined)?;
        let weight = (1.0 - shrinkage) / (n - 2.0);
        let mut distances = Vec::with_capacity(2 * pairs);
        for (c, r) in chosen.chunks_exact(l).zip(rejected.chunks_exact(l)) {
            distances.extend(pair_left_out(&without, &centred(c), &centred(r), weight, n));
        }
        if distances.iter().any(|d| !d.is_finite()) {
            return Err(undefined());
        }
        let threshold = conformal_threshold(&mut distances);
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
        let lower: Vec<f64> = (0..l).flat_map(|i| factor[i * l..i * l + i + 1].to_vec()).collect();
        Ok(Novelty {
            responses: 2 * pairs,
            judged: 0,
            shrinkage: shrinkage as f32,
            threshold: threshold as f32,
            mean: narrow(&mean),
            factor: narrow(&lower),
        })
    }

    /// Makes it from numbers that were fitted before, as the methods of the same names return them.
    /// `factor` is the lower Cholesky factor of A row by row, without the zeros: `[l (l + 1) / 2]`.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when mean and factor do not belong together; [`CoreError::Setting`] for
    /// numbers that no measurement gives.
    pub fn with_parameters(
        (responses, judged): (usize, usize),
        shrinkage: f32,
        threshold: f32,
        mean: Vec<f32>,
        factor: Vec<f32>,
    ) -> Result<Novelty, CoreError> {
        let l = mean.len();
        let expected = l * (l + 1) / 2;
        if factor.len() != expected {
            let (what, found) = ("factor of the latent covariance", (1, factor.len()));
            return Err(CoreError::Shape { what, expected: (1, expected), found });
        }
        let ok =
            |ok: bool, name, value: f32, expected| crate::error::require(ok, name, value, expected);
        ok(
            threshold.is_finite() && threshold >= 0.0,
            "novelty.threshold",
            threshold,
            "a finite number of at least 0",
        )?;
        for (i, &m) in mean.iter().enumerate() {
            ok(m.is_finite(), "novelty.mean", m, "finite")?;
            let row = &factor[i * (i + 1) / 2..(i + 1) * (i + 2) / 2];
            row.iter().try_for_each(|&x| ok(x.is_finite(), "novelty.factor", x, "finite"))?;
            ok(row[i] > 0.0, "novelty.factor", row[i], "positive on its diagonal")?;
        }
        Ok(Novelty { responses, judged, shrinkage, threshold, mean, factor })
    }

    /// The distance of every embedding from the seed responses, `[n]`: in standard deviations, so
    /// that those of the seed responses are about the square root of the number of latents.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the embeddings are not as wide, or the code not as long, as what was
    /// measured; [`CoreError::Diverged`] when a posterior mean is not finite.
    pub fn distances(
        &self,
        vae: &Vae,
        standardiser: &Standardiser,
        embeddings: &dyn Rows,
        threads: Threads,
    ) -> Result<Vec<f64>, CoreError> {
        let l = self.mean.len();
        if vae.shape().latent != l {
            let (expected, found) = ((1, l), (1, vae.shape().latent));
            return Err(CoreError::Shape { what: "latent codes", expected, found });
        }
        let means = posterior_means(vae, standardiser, embeddings, threads)?;
        Ok(means.chunks_exact(l).map(|x| self.distance(x)).collect())
    }

    /// The distance of one posterior mean, `[l]`.
    fn distance(&self, x: &[f64]) -> f64 {
        let deviation = x.iter().zip(&self.mean).map(|(&x, &m)| x - f64::from(m));
        let y = solve_lower_packed(&self.factor, deviation);
        dot_in_order(&y, &y).sqrt()
    }

    /// The distance beyond which a response is unlike the seed responses; 1 in 100 responses like them
    /// is beyond it too.
    pub fn threshold(&self) -> f64 {
        f64::from(self.threshold)
    }

    /// Whether a response at this distance is unlike the seed responses.
    pub fn is_beyond(&self, distance: f64) -> bool {
        distance > self.threshold()
    }

    /// Number of seed responses that mean and covariance were taken from.
    pub fn responses(&self) -> usize {
        self.responses
    }

    /// Number of held-out responses that the threshold was taken from; 0 where it was taken from the
    /// seed responses themselves.
    pub fn judged(&self) -> usize {
        self.judged
    }

    /// The weight s of the identity in the covariance, from 0 to 1.
    pub fn shrinkage(&self) -> f32 {
        self.shrinkage
    }

    /// The mean of the seed responses' posterior means, `[l]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The lower Cholesky factor of A, row by row without the zeros, `[l (l + 1) / 2]`.
    pub fn factor(&self) -> &[f32] {
        &self.factor
    }
}

/// The distance that all but 1 in 100 new ones stay within, of a sample of them.
fn conformal_threshold(distances: &mut [f64]) -> f64 {
    distances.sort_unstable_by(f64::total_cmp);
    let n = distances.len() as f64;
    distances[(ADMITTED * (n + 1.0)).ceil().min(n) as usize - 1]
}

/// Ledoit and Wolf's weight: the expected squared error of the covariance as a share of its squared
/// distance from v I, estimated from the squared norms' squares `fourth` of the centred rows.
fn ledoit_wolf(scatter: &[f64], fourth: f64, variance: f64, n: f64) -> f64 {
    let l = (scatter.len() as f64).sqrt();
    let square = dot_in_order(scatter, scatter) / (n * n);
    let spread = square - l * variance * variance;
    if spread <= 0.0 {
        return 1.0;
    }
    (((fourth / n - square) / n) / spread).clamp(0.0, 1.0)
}

/// The distances of both responses of a pair from mean and covariance of all others, given their
/// deviations u and v from the mean of all n. Leaving them out takes U K U' from the scatter, with
/// U = [u v], K = I + 1 1' / (n - 2), and adds (u + v) / (n - 2) to both deviations; the inverse
/// follows by Woodbury's identity from `factor`, of the scatter that still has them.
fn pair_left_out(factor: &[f64], u: &[f64], v: &[f64], weight: f64, n: f64) -> [f64; 2] {
    let (a, b) = (solve_lower(factor, u), solve_lower(factor, v));
    let g = [dot_in_order(&a, &a), dot_in_order(&a, &b), dot_in_order(&b, &b)];
    let k = 1.0 / (n - 2.0);
    // M = K^-1 / weight - G; K^-1 = I - k / (1 + 2 k) 1 1'.
    let off = -k / (1.0 + 2.0 * k) / weight;
    let m = if weight > 0.0 {
        [1.0 / weight + off - g[0], off - g[1], 1.0 / weight + off - g[2]]
    } else {
        [f64::INFINITY, 0.0, f64::INFINITY]
    };
    let determinant = m[0] * m[2] - m[1] * m[1];
    [[1.0 + k, k], [k, 1.0 + k]].map(|c| {
        let x = [g[0] * c[0] + g[1] * c[1], g[1] * c[0] + g[2] * c[1]];
        let own = c[0] * x[0] + c[1] * x[1];
        if weight == 0.0 {
            return own.sqrt();
        }
        let more = m[2] * x[0] * x[0] - 2.0 * m[1] * x[0] * x[1] + m[0] * x[1] * x[1];
        (own + more / determinant).sqrt()
    })
}

/// Posterior means of `embeddings`, [n, l], in double precision.
fn posterior_means(
    vae: &Vae,
    standardiser: &Standardiser,
    embeddings: &dyn Rows,
    threads: Threads,
) -> Result<Vec<f64>, CoreError> {
    let (n, d) = (embeddings.rows(), vae.shape().dim);
    if embeddings.dim() != d || standardiser.mean.len() != d {
        return Err(CoreError::Shape {
            what: "embeddings to measure in latent space",
            expected: (n, d),
            found: (n, embeddings.dim()),
        });
    }
    let mut means = Vec::with_capacity(n * vae.shape().latent);
    let mut x = vec![0.0f32; BLOCK.min(n) * d];
    for first in (0..n).step_by(BLOCK) {
        let x = &mut x[..BLOCK.min(n - first) * d];
        for (i, row) in x.chunks_exact_mut(d).enumerate() {
            embeddings.read(first + i, row);
            standardiser.apply(row);
        }
        means.extend(vae.encode(x, threads).mean.iter().map(|&m| f64::from(m)));
    }
    if means.iter().any(|m| !m.is_finite()) {
        let figures = "a posterior mean is not a finite number";
        let advice = "are the embeddings those of the encoder that the model was trained with?";
        return Err(CoreError::diverged("novelty", 0, figures, advice));
    }
    Ok(means)
}

#[cfg(test)]
mod tests;
