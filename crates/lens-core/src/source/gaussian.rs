//! Gaussian sampling, a rival in the paper's table 1: responses drawn from a Gaussian fitted to the
//! standardised embeddings of their side, independent of the prompt. Both sides share one full
//! covariance; their means are those of the pair's fold. A covariance for each side would leak the
//! labels of every fold to the others: with fewer pairs than dimensions it nearly determines the
//! embeddings that it was fitted to.

use super::{DrawOptions, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side};
use crate::error::CoreError;
use crate::linalg::{Target, Threads, View, cholesky, matmul};
use crate::rng::{Purpose, Stream};

/// Pairs whose products are added to the covariance at a time.
const BLOCK: usize = 256;
/// Added to the diagonal, as a share of the mean variance: with fewer seed pairs than dimensions the
/// covariance alone has no Cholesky factor.
const RIDGE: f64 = 1e-6;

/// A Gaussian for each side, of one covariance.
pub struct GaussianSampling {
    /// The mean, [d], of each side and each fold.
    means: [Vec<Vec<f32>>; 2],
    /// The lower Cholesky factor of the covariance, [d, d].
    factor: Vec<f32>,
}

impl GaussianSampling {
    /// Fits means and covariance.
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
        let factor = cholesky(covariance, d).ok_or_else(|| {
            let figures = "the covariance of the embeddings has no Cholesky factor";
            CoreError::diverged("gaussian", 0, figures, "are all embeddings the same?")
        })?;
        let factor = factor.into_iter().map(|x| x as f32).collect();
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
