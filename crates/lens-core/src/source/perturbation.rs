//! Direct perturbation, a rival in the paper's table 1: e~ = e + eta with eta ~ N(0, s^2 I), on the
//! standardised embedding.

use super::{DrawOptions, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side};
use crate::error::CoreError;
use crate::rng::{Purpose, Stream};

/// Gaussian noise on embeddings. It learns nothing.
pub struct Perturbation {
    /// s^2, the variance of the noise on each standardised dimension.
    pub variance: f64,
}

impl Source for Perturbation {
    fn parameters(&self) -> usize {
        0
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        let (dim, noise) = (seeds.pairs.dim(), self.variance.sqrt() as f32);
        let DrawOptions { seed, .. } = options;
        let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
            let mut stream = Stream::new(seed, Purpose::Rivals, pair as u64);
            let mut real = vec![0.0f32; dim];
            for (side, out) in [chosen, rejected].into_iter().enumerate() {
                read_side(seeds, side, pair, &mut real);
                for copy in out.chunks_exact_mut(dim) {
                    copy.iter_mut().zip(&real).for_each(|(c, &e)| *c = e + noise * stream.normal());
                }
            }
        };
        let n = seeds.pairs.len();
        Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(n, dim, options, Box::new(draw))))
    }
}
