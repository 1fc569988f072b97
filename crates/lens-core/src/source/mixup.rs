//! Mixup in embedding space (Zhang et al. 2018): a synthetic pair lies between a seed pair and
//! another one of the same fold, at the same point of the way on both sides, so that its label is that
//! of both.
//! e~ = (1 - w) e + w e', with w the smaller part of a Beta(alpha, alpha) draw.

use super::{DrawOptions, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side};
use crate::error::CoreError;
use crate::rng::{Purpose, Stream};

/// Interpolation between pairs. It learns nothing.
pub struct Mixup {
    /// alpha of the Beta distribution: near 0 pairs stay as they are, at 1 every share up to one half
    /// is as likely.
    pub alpha: f64,
}

impl Source for Mixup {
    fn parameters(&self) -> usize {
        0
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        let (n, dim, alpha) = (seeds.pairs.len(), seeds.pairs.dim(), self.alpha);
        let DrawOptions { seed, .. } = options;
        let partners = seeds.partners();
        let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
            let mut stream = Stream::new(seed, Purpose::Rivals, pair as u64);
            let (mut real, mut other) = (vec![0.0f32; dim], vec![0.0f32; dim]);
            let copies = chosen.chunks_exact_mut(dim).zip(rejected.chunks_exact_mut(dim));
            for (a, b) in copies {
                let share = stream.beta(alpha);
                let share = share.min(1.0 - share) as f32;
                let partner = partners.draw(pair, &mut stream);
                for (side, out) in [a, b].into_iter().enumerate() {
                    read_side(seeds, side, pair, &mut real);
                    read_side(seeds, side, partner, &mut other);
                    for ((o, &e), &f) in out.iter_mut().zip(&real).zip(&other) {
                        *o = e + share * (f - e);
                    }
                }
            }
        };
        Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(n, dim, options, Box::new(draw))))
    }
}
