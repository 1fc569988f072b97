//! The method's own source: synthesis in the latent space of a VAE with divergence.

use super::{DrawOptions, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side};
use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::progress::Progress;
use crate::standardise::Standardiser;
use crate::synthesis::synthesise;
use crate::synthesis::variants::{Centring, VariantCodes, vae_inputs};
use crate::vae::train::{VaeReport, train};
use crate::vae::{Vae, VaeSettings};

/// A VAE that was trained on the seed pairs. How its latent space is drawn from is part of
/// [`DrawOptions`].
pub struct Lens {
    /// The VAE.
    pub vae: Vae,
    /// How its training went.
    pub report: VaeReport,
}

/// The inputs of VAE training.
#[derive(Clone, Copy)]
pub struct VaeInputs<'a> {
    /// Pairs. Of their labels the VAE uses only whether they are ties.
    pub pairs: &'a EmbeddedPairs,
    /// How they are standardised.
    pub standardiser: &'a Standardiser,
    /// Whether the VAE sees responses as they are, or their differences from the middle of the pair.
    pub around: Centring,
    /// An earlier VAE to train further, where there is one.
    pub start: Option<&'a Vae>,
}

impl Lens {
    /// Trains the VAE, a fresh one or an earlier one further.
    ///
    /// # Errors
    /// As [`train`].
    pub fn fit(
        inputs: VaeInputs<'_>,
        vae: &VaeSettings,
        seed: u64,
        threads: Threads,
        progress: &dyn Progress,
    ) -> Result<Self, CoreError> {
        let (pairs, standardiser) = vae_inputs(inputs.pairs, inputs.standardiser, inputs.around)?;
        let (vae, report) =
            train(&pairs, &standardiser, vae, inputs.start, seed, threads, progress)?;
        Ok(Lens { vae, report })
    }
}

/// A source over a VAE that was trained before.
pub struct PretrainedVae<'v>(pub &'v Vae);

impl Source for PretrainedVae<'_> {
    fn parameters(&self) -> usize {
        self.0.shape().parameters()
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        from_latent(self.0, seeds, options)
    }
}

impl Source for Lens {
    fn parameters(&self) -> usize {
        self.vae.shape().parameters()
    }

    fn synthesise<'a>(
        &'a self,
        seeds: SeedPairs<'a>,
        options: DrawOptions<'_>,
    ) -> Result<Synthetic<'a>, CoreError> {
        from_latent(&self.vae, seeds, options)
    }

    fn into_vae(self: Box<Self>) -> Option<(Vae, VaeReport)> {
        Some((self.vae, self.report))
    }
}

/// Draws synthetic responses from the latent space of `vae`: as codes, or decoded where a variant
/// asks for more than decoding.
pub(super) fn from_latent<'a>(
    vae: &'a Vae,
    seeds: SeedPairs<'a>,
    options: DrawOptions<'_>,
) -> Result<Synthetic<'a>, CoreError> {
    let DrawOptions { per_side, synthesis, seed, threads } = options;
    // The VAE does not know which side is which (W2 is symmetric), so its codes carry no label.
    let (pairs, standardiser) = vae_inputs(seeds.pairs, seeds.standardiser, synthesis.around)?;
    let codes = synthesise(vae, &pairs, &standardiser, synthesis, per_side, seed, threads)?;
    if synthesis.is_plain() {
        return Ok(Synthetic::Codes { vae, codes });
    }
    let (n, d) = (seeds.pairs.len(), seeds.pairs.dim());
    let codes = VariantCodes::new(codes, synthesis.variant(), n, || seeds.partners(), seed);
    let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
        let mut real = [(); 2].map(|()| vec![0.0f32; d]);
        for (side, real) in real.iter_mut().enumerate() {
            read_side(seeds, side, pair, real);
        }
        let [a, b] = &real;
        codes.write(vae, pair, [a, b], chosen, rejected);
    };
    Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(n, d, options, Box::new(draw))))
}
