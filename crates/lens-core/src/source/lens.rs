//! The method's own source: a VAE with divergence, and noise in its latent space.

use super::{
    Draw, DrawOptions, FoldPartners, SeedPairs, Source, Synthetic, SyntheticEmbeddings, read_side,
};
use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::rng::{Purpose, Stream};
use crate::standardise::Standardiser;
use crate::synthesis::{Centring, Decoding, Gate, Noise, SyntheticCodes, synthesise};
use crate::vae::train::{VaeReport, train};
use crate::vae::{Vae, VaeSettings};
use std::borrow::Cow;

/// A trained VAE. How its latent space is drawn from is asked for with each draw.
pub struct Lens {
    /// The VAE.
    pub vae: Vae,
    /// How its training went.
    pub report: VaeReport,
}

/// What a VAE is trained on.
#[derive(Clone, Copy)]
pub struct VaeInputs<'a> {
    /// Pairs, of whose labels nothing is used but whether they are ties.
    pub pairs: &'a EmbeddedPairs,
    /// How they are standardised.
    pub standardiser: &'a Standardiser,
    /// What it sees of a response.
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
        on: VaeInputs<'_>,
        vae: &VaeSettings,
        seed: u64,
        threads: Threads,
        progress: &dyn Progress,
    ) -> Result<Self, CoreError> {
        let (pairs, standardiser) = seen(on.pairs, on.standardiser, on.around)?;
        let (vae, report) = train(&pairs, &standardiser, vae, on.start, seed, threads, progress)?;
        Ok(Lens { vae, report })
    }
}

/// Pairs as the VAE sees them, with their standardisation.
fn seen<'a>(
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    around: Centring,
) -> Result<(Cow<'a, EmbeddedPairs>, Cow<'a, Standardiser>), CoreError> {
    if around == Centring::Origin {
        return Ok((Cow::Borrowed(pairs), Cow::Borrowed(standardiser)));
    }
    let (n, d) = (pairs.len(), pairs.dim());
    let mut sides = [(); 2].map(|()| Vec::with_capacity(n * d));
    let mut both = vec![0.0f32; 2 * d];
    for i in 0..n {
        pairs.gather(standardiser, &[i], &mut both, Threads::ONE);
        let (a, b) = both.split_at(d);
        sides[0].extend(a.iter().zip(b).map(|(a, b)| 0.5 * (a - b)));
        sides[1].extend(a.iter().zip(b).map(|(a, b)| 0.5 * (b - a)));
    }
    let [chosen, rejected] = sides.map(|side| Matrix::new(side, n, d));
    let centred = EmbeddedPairs::with_prompts(chosen?, rejected?, pairs.prompts.clone())?
        .with_labels(pairs.labels.clone())?;
    Ok((Cow::Owned(centred), Cow::Owned(Standardiser::identity(d))))
}

/// The latent space of a VAE that is there already.
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

pub(super) fn from_latent<'a>(
    vae: &'a Vae,
    seeds: SeedPairs<'a>,
    options: DrawOptions<'_>,
) -> Result<Synthetic<'a>, CoreError> {
    let DrawOptions { per_side, synthesis, seed, threads } = options;
    // The VAE does not know which side is which (W2 is symmetric), so it tells no label.
    let (pairs, standardiser) = seen(seeds.pairs, seeds.standardiser, synthesis.around)?;
    let codes = synthesise(vae, &pairs, &standardiser, synthesis, per_side, seed, threads)?;
    if synthesis.is_plain() {
        return Ok(Synthetic::Codes { vae, codes });
    }
    let cloud =
        (synthesis.gate == Gate::Plausible).then(|| CodeDistribution::of(&codes, pairs.len()));
    // What is not plain is a neighbour's label too, which must stay in its fold.
    let neighbours = (synthesis.noise == Noise::Neighbour).then(|| NeighbourSteps {
        partners: FoldPartners::of(seeds),
        most: synthesis.noise_variance.sqrt() as f32,
        seed,
    });
    let (decoding, around) = (synthesis.decoding, synthesis.around);
    let d = seeds.pairs.dim();
    let draw = move |pair: usize, chosen: &mut [f32], rejected: &mut [f32]| {
        let l = codes.latent();
        let mut drawn = [(); 2].map(|()| vec![0.0f32; per_side * l]);
        let [a, b] = &mut drawn;
        match &neighbours {
            Some(neighbours) => neighbours.write(&codes, pair, a, b),
            None => codes.write(pair, a, b),
        }
        let means = codes.means(pair);
        if let Some(cloud) = &cloud {
            for (drawn, mean) in drawn.iter_mut().zip(means) {
                let far = |code: &&mut [f32]| cloud.distance(code) > cloud.limit;
                drawn.chunks_exact_mut(l).filter(far).for_each(|c| c.copy_from_slice(mean));
            }
        }
        let mut own = [(); 2].map(|()| vec![0.0f32; d]);
        for (side, own) in own.iter_mut().enumerate() {
            read_side(seeds, side, pair, own);
        }
        let [a, b] = &own;
        let middle: Vec<f32> = a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect();
        let sides = [chosen, rejected].into_iter().zip(&drawn).zip(means).zip(&own);
        for (((out, drawn), mean), own) in sides {
            out.copy_from_slice(&vae.decode(drawn, Threads::ONE));
            // What is added to what is decoded.
            let rest: Cow<'_, [f32]> = match (decoding, around) {
                (Decoding::Residual, _) => {
                    let plain = vae.decode(mean, Threads::ONE);
                    own.iter().zip(&plain).map(|(&e, &g)| e - g).collect()
                }
                (Decoding::Plain, Centring::Pair) => Cow::Borrowed(&middle),
                (Decoding::Plain, Centring::Origin) => continue,
            };
            for row in out.chunks_exact_mut(d) {
                row.iter_mut().zip(rest.iter()).for_each(|(x, r)| *x += r);
            }
        }
    };
    let draw: Draw<'a> = Box::new(draw);
    let n = seeds.pairs.len();
    Ok(Synthetic::Embeddings(SyntheticEmbeddings::new(n, d, options, draw)))
}

/// Steps towards the codes of other responses.
struct NeighbourSteps {
    partners: FoldPartners,
    /// The largest share of the way.
    most: f32,
    seed: u64,
}

impl NeighbourSteps {
    fn write(&self, codes: &SyntheticCodes, pair: usize, chosen: &mut [f32], rejected: &mut [f32]) {
        let mut stream = Stream::new(self.seed, Purpose::Rivals, pair as u64);
        let from = codes.means(pair);
        for (side, out) in [chosen, rejected].into_iter().enumerate() {
            for code in out.chunks_exact_mut(codes.latent()) {
                let share = self.most * stream.uniform() as f32;
                let to = codes.means(self.partners.draw(pair, &mut stream))[side];
                for ((z, &a), &b) in code.iter_mut().zip(from[side]).zip(to) {
                    *z = a + share * (b - a);
                }
            }
        }
    }
}

/// Where the codes of the seeds lie, latent by latent.
struct CodeDistribution {
    mean: Vec<f64>,
    precision: Vec<f64>,
    /// The squared distance that 95% of the seeds' own codes do not pass.
    limit: f64,
}

impl CodeDistribution {
    fn of(codes: &SyntheticCodes, pairs: usize) -> CodeDistribution {
        let l = codes.latent();
        let all = || (0..pairs).flat_map(|pair| codes.means(pair));
        let n = (2 * pairs).max(1) as f64;
        let mut mean = vec![0.0; l];
        all().for_each(|code| mean.iter_mut().zip(code).for_each(|(m, &z)| *m += f64::from(z) / n));
        let mut variance = vec![0.0; l];
        for code in all() {
            let each = variance.iter_mut().zip(code).zip(&mean);
            each.for_each(|((v, &z), m)| *v += (f64::from(z) - m).powi(2) / n);
        }
        // A latent that says nothing puts no code far away.
        let inverse = |v: &f64| if *v > 1e-12 { 1.0 / v } else { 0.0 };
        let precision = variance.iter().map(inverse).collect();
        let mut cloud = CodeDistribution { mean, precision, limit: f64::INFINITY };
        let mut distances: Vec<f64> = all().map(|code| cloud.distance(code)).collect();
        distances.sort_unstable_by(f64::total_cmp);
        let last = distances.len().saturating_sub(1);
        let limit = distances.get((last as f64 * 0.95).round() as usize);
        cloud.limit = limit.copied().unwrap_or(f64::INFINITY);
        cloud
    }

    /// The squared Mahalanobis distance of a code from the middle.
    fn distance(&self, code: &[f32]) -> f64 {
        let each = code.iter().zip(&self.mean).zip(&self.precision);
        each.map(|((&z, m), p)| p * (f64::from(z) - m).powi(2)).sum()
    }
}
