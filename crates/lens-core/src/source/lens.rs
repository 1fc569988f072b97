//! The method's own source: a VAE with divergence, and noise in its latent space.

use super::{Draw, Seeds, Source, Synthetic, SyntheticEmbeddings, Wanted, read_side};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::progress::Progress;
use crate::synthesis::{Decoding, synthesise};
use crate::vae::train::{VaeReport, train};
use crate::vae::{Vae, VaeSettings};

/// A trained VAE. How its latent space is drawn from is asked for with each draw.
pub struct Lens {
    /// The VAE.
    pub vae: Vae,
    /// How its training went.
    pub report: VaeReport,
}

impl Lens {
    /// Trains the VAE, a fresh one or `start` further.
    ///
    /// # Errors
    /// As [`train`].
    pub fn fit(
        seeds: Seeds<'_>,
        vae: &VaeSettings,
        start: Option<&Vae>,
        seed: u64,
        threads: Threads,
        progress: &dyn Progress,
    ) -> Result<Self, CoreError> {
        let (vae, report) =
            train(seeds.pairs, seeds.standardiser, vae, start, seed, threads, progress)?;
        Ok(Lens { vae, report })
    }
}

/// The latent space of a VAE that is there already.
pub struct Latent<'v>(pub &'v Vae);

impl Source for Latent<'_> {
    fn parameters(&self) -> usize {
        self.0.shape().parameters()
    }

    fn synthesise<'a>(
        &'a self,
        seeds: Seeds<'a>,
        wanted: Wanted<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        from_latent(self.0, seeds, wanted)
    }
}

impl Source for Lens {
    fn parameters(&self) -> usize {
        self.vae.shape().parameters()
    }

    fn synthesise<'a>(
        &'a self,
        seeds: Seeds<'a>,
        wanted: Wanted<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        from_latent(&self.vae, seeds, wanted)
    }

    fn into_vae(self: Box<Self>) -> Option<(Vae, VaeReport)> {
        Some((self.vae, self.report))
    }
}

fn from_latent<'a>(
    vae: &'a Vae,
    seeds: Seeds<'a>,
    wanted: Wanted<'_>,
) -> Result<Synthetic<'a>, CoreError> {
    let Wanted { per_side, synthesis, seed, threads } = wanted;
    // The VAE does not know which side is which (W2 is symmetric), so it tells no label.
    let Seeds { pairs, standardiser, .. } = seeds;
    let codes = synthesise(vae, pairs, standardiser, synthesis, per_side, seed, threads)?;
    if synthesis.decoding == Decoding::Plain {
        return Ok(Synthetic::Codes { vae, codes });
    }
    let d = pairs.dim();
    let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
        let l = codes.latent();
        let mut drawn = [(); 2].map(|()| vec![0.0f32; per_side * l]);
        let [a, b] = &mut drawn;
        codes.write(pair, a, b);
        let mut own = vec![0.0f32; d];
        let sides = [chosen, rejected].into_iter().zip(&drawn).zip(codes.means(pair));
        for (side, ((out, drawn), mean)) in sides.enumerate() {
            read_side(seeds, side, pair, &mut own);
            let plain = vae.decode(mean, Threads::ONE);
            out.copy_from_slice(&vae.decode(drawn, Threads::ONE));
            for row in out.chunks_exact_mut(d) {
                for ((x, &e), &g) in row.iter_mut().zip(&own).zip(&plain) {
                    *x += e - g;
                }
            }
        }
    };
    let draw: Draw<'a> = Box::new(draw);
    Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(pairs.len(), d, wanted, draw)))
}
