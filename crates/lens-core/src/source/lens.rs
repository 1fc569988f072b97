//! The method's own source: a VAE with divergence, and noise in its latent space.

use super::{Seeds, Source, Synthetic, Wanted};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::progress::Progress;
use crate::synthesis::synthesise;
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
    Ok(Synthetic::Codes { vae, codes })
}
