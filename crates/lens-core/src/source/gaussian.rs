//! Gaussian sampling, a rival in the paper's table 1: responses drawn from a Gaussian fitted to the
//! standardised embeddings of their side, whatever the prompt was. Both sides have one covariance, a
//! full one; their means are those of the pair's fold. A covariance for each side would tell the labels
//! of every fold to all others: with fewer pairs than it has numbers it all but lists what it was
//! fitted to.

use super::{DrawOptions, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side};
use crate::error::CoreError;
use crate::linalg::{Target, Threads, View, matmul};
use crate::rng::{Purpose, Stream};

/// Pairs whose products are added to the covariance at a time.
const BLOCK: usize = 256;
/// Added to the diagonal, as a share of the mean variance: with fewer seeds than dimensions the
/// covariance alone has no Cholesky factor.
const RIDGE: f64 = 1e-6;

/// A Gaussian for each side.
pub struct GaussianSampling {
    /// Of each side and each fold, [d].
    means: [Vec<Vec<f32>>; 2],
    /// The lower Cholesky factor of the covariance, [d, d].
    factor: Vec<f32>,
}

impl GaussianSampling {
    /// Fits both.
    ///
    /// # Errors
    /// [`CoreError::TooFewPairs`] when there is no pair; [`CoreError::Diverged`] when the covariance is
    /// not finite.
    pub fn fit(seeds: SeedPairs<'_>, threads: Threads) -> Result<Self, CoreError> {
        let (n, d) = (seeds.pairs.len(), seeds.pairs.dim());
        if n == 0 {
            let what = "fitting a Gaussian to the embeddings";
            return Err(CoreError::TooFewPairs { what, needed: 1, found: 0 });
        }
        let means = [means(seeds, 0), means(seeds, 1)];
        let mut covariance = vec![0.0f64; d * d];
        let mut row = vec![0.0f32; d];
        let mut block = vec![0.0f64; BLOCK.min(n) * d];
        for (side, means) in means.iter().enumerate() {
            for first in (0..n).step_by(BLOCK) {
                let rows = BLOCK.min(n - first);
                for (i, out) in block[..rows * d].chunks_exact_mut(d).enumerate() {
                    read_side(seeds, side, first + i, &mut row);
                    let mean = &means[seeds.folds.of_pairs()[first + i]];
                    for ((o, &x), &m) in out.iter_mut().zip(&row).zip(mean) {
                        *o = f64::from(x) - f64::from(m);
                    }
                }
                let x = View::new(&block[..rows * d], rows, d);
                let target = Target::new(&mut covariance, d);
                matmul(target, x.t(), x, 0.5 / n as f64, true, threads);
            }
        }
        let ridge = RIDGE * (0..d).map(|i| covariance[i * d + i]).sum::<f64>() / d.max(1) as f64;
        (0..d).for_each(|i| covariance[i * d + i] += ridge);
        let factor = cholesky(covariance, d).ok_or_else(|| CoreError::Diverged {
            stage: "gaussian",
            step: 0,
            figures: "the covariance of the embeddings has no Cholesky factor".to_owned(),
            advice: "are all embeddings the same?".to_owned(),
        })?;
        Ok(GaussianSampling { means, factor })
    }

    fn dim(&self) -> usize {
        self.means[0][0].len()
    }
}

/// The mean of each fold on one side.
fn means(seeds: SeedPairs<'_>, side: usize) -> Vec<Vec<f32>> {
    let d = seeds.pairs.dim();
    let mut row = vec![0.0f32; d];
    let mut sums = vec![(0usize, vec![0.0f64; d]); seeds.folds.count()];
    for (pair, &fold) in seeds.folds.of_pairs().iter().enumerate() {
        read_side(seeds, side, pair, &mut row);
        let (count, sum) = &mut sums[fold];
        *count += 1;
        sum.iter_mut().zip(&row).for_each(|(m, &x)| *m += f64::from(x));
    }
    let mean = |(count, sum): (usize, Vec<f64>)| {
        sum.into_iter().map(|m| (m / count.max(1) as f64) as f32).collect()
    };
    sums.into_iter().map(mean).collect()
}

/// The lower Cholesky factor of `a`, [d, d], row by row; zero above the diagonal. `None` unless `a` is
/// positive definite, but for directions without any variance.
fn cholesky(mut a: Vec<f64>, d: usize) -> Option<Vec<f32>> {
    for j in 0..d {
        let (before, from) = a.split_at_mut(j * d);
        let own = &mut from[..d];
        for k in 0..j {
            let other = &before[k * d..k * d + k];
            let dot: f64 = own[..k].iter().zip(other).map(|(x, y)| x * y).sum();
            let pivot = before[k * d + k];
            own[k] = if pivot > 0.0 { (own[k] - dot) / pivot } else { 0.0 };
        }
        let square = own[j] - own[..j].iter().map(|x| x * x).sum::<f64>();
        if !square.is_finite() || square < 0.0 {
            return None;
        }
        own[j] = square.sqrt();
        own[j + 1..].fill(0.0);
    }
    Some(a.into_iter().map(|x| x as f32).collect())
}

impl Source for GaussianSampling {
    fn parameters(&self) -> usize {
        let d = self.dim();
        2 * self.means[0].len() * d + d * (d + 1) / 2
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        let (n, dim) = (seeds.pairs.len(), seeds.pairs.dim());
        let folds = (seeds.folds.count(), self.means[0].len());
        if dim != self.dim() || folds.0 != folds.1 {
            return Err(CoreError::Shape {
                what: "embeddings to draw beside",
                expected: (n, self.dim()),
                found: (n, dim),
            });
        }
        let DrawOptions { per_side: k, seed, .. } = options;
        let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
            let mut stream = Stream::new(seed, Purpose::Rivals, pair as u64);
            for (means, out) in self.means.iter().zip([chosen, rejected]) {
                let noise: Vec<f32> = (0..k * dim).map(|_| stream.normal()).collect();
                let factor = View::new(&self.factor, dim, dim);
                let noise = View::new(&noise, k, dim);
                matmul(Target::new(out, dim), noise, factor.t(), 1.0, false, Threads::ONE);
                for copy in out.chunks_exact_mut(dim) {
                    let mean = &means[seeds.folds.of_pairs()[pair]];
                    copy.iter_mut().zip(mean).for_each(|(c, &m)| *c += m);
                }
            }
        };
        Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(n, dim, options, Box::new(draw))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cholesky_factor_by_hand() {
        // [[4, 2], [2, 5]] = L L' with L = [[2, 0], [1, 2]].
        assert_eq!(
            cholesky(vec![4.0, 2.0, 2.0, 5.0], 2).as_deref(),
            Some(&[2.0, 0.0, 1.0, 2.0][..])
        );
        // A direction without variance stays without.
        assert_eq!(
            cholesky(vec![0.0, 0.0, 0.0, 9.0], 2).as_deref(),
            Some(&[0.0, 0.0, 0.0, 3.0][..])
        );
        assert_eq!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(cholesky(vec![f64::NAN], 1), None);
    }
}
