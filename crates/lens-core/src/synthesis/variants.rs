//! Variants of synthesis that are ours: the paper has none of them, and all are off by default.
//!
//! They were tried because the paper's synthesis changes little on our data. In our comparisons no
//! variant was clearly better than training without synthesis (docs/results.md); they stay so that
//! anyone can try them on other data.
//!
//! - [`Noise`]: the unit of the latent noise; or steps towards the codes of other responses.
//! - [`Decoding`]: decode a code, or only what the noise changed.
//! - [`Centring`]: the VAE sees a response, or how it differs from the middle of its pair.
//! - [`Gate`]: synthetic codes or pairs that are left out.
//! - [`Weighing`], [`Emphasis`]: what synthetic pairs count against real ones.

use super::codes::SyntheticCodes;
use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::folds::FoldPartners;
use crate::linalg::Threads;
use crate::matrix::Matrix;
use crate::rng::{Purpose, Stream};
use crate::standardise::Standardiser;
use crate::vae::Vae;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The unit of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Noise {
    /// That of latent space: the same variance everywhere (P). The default.
    #[default]
    Isotropic,
    /// The posterior's own variance, response by response and latent by latent, times
    /// `noise_variance` (O).
    Posterior,
    /// No noise, but a step towards the code of another response of the same side and the same fold:
    /// a share of the way, uniform between 0 and the square root of `noise_variance` (O).
    Neighbour,
}

impl Noise {
    /// The standard deviation of the noise on each latent, where `log_variance` is that of the
    /// posterior and `deviation` the square root of `noise_variance`.
    pub(super) fn deviations(self, deviation: f32, log_variance: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(log_variance.iter().map(|&log_variance| match self {
            // A step towards a neighbour replaces what is drawn with this.
            Noise::Isotropic | Noise::Neighbour => deviation,
            Noise::Posterior => deviation * (0.5 * log_variance).exp(),
        }));
    }
}

/// How a latent code becomes a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// The code is decoded: e~ = g(z + eta) (P). The default.
    #[default]
    Plain,
    /// Only the change by the noise is decoded: e~ = e + g(z + eta) - g(z). What the VAE loses of a
    /// response then stays in it (O).
    Residual,
}

/// The input of the VAE for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Centring {
    /// Its standardised embedding (P). The default.
    #[default]
    Origin,
    /// Its difference from the mean of its pair's two embeddings, which is added again after
    /// decoding (O).
    Pair,
}

/// Which synthetic responses and pairs are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// None (P). The default.
    #[default]
    None,
    /// A code that is farther from the mean of all seed codes, by Mahalanobis distance, than 95% of
    /// these are, is replaced by the posterior mean of its response (O).
    Plausible,
    /// A synthetic pair whose order is contradicted by a logistic head that was trained on other
    /// folds counts nothing; its weight goes to its real pair (O).
    Ordered,
}

/// Which pairs get more of their weight from synthetic responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Emphasis {
    /// All alike (P). The default.
    #[default]
    Even,
    /// Those with a low margin, by a logistic head that was trained on other folds: in proportion to
    /// the slope of the Bradley-Terry loss there (O).
    Uncertain,
}

/// What synthetic pairs count against real ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighing {
    /// What a synthetic pair counts where a real one counts 1.
    pub weight: f64,
    /// Which of them count nothing.
    pub gate: Gate,
    /// Which pairs have synthetic ones that count more.
    pub emphasis: Emphasis,
}

impl Default for Weighing {
    fn default() -> Self {
        Weighing { weight: 1.0, gate: Gate::None, emphasis: Emphasis::Even }
    }
}

impl Weighing {
    /// Whether heads that were trained on other folds have to score the pairs first (cross-fitting).
    pub fn needs_cross_fitting(&self) -> bool {
        self.gate == Gate::Ordered || self.emphasis == Emphasis::Uncertain
    }

    /// What each comparison counts, `[N]`. The comparisons of a seed pair count 1 in all; with an
    /// emphasis, 1 in the mean over the seed pairs for which `counts` is true.
    ///
    /// `seed_pair[i]` is the seed pair of comparison i, `real[p]` the comparison of the two real
    /// responses of seed pair p, and `margins` the reward difference of every comparison by heads of
    /// other folds, which are needed where [`Weighing::needs_cross_fitting`] says so.
    pub(crate) fn comparison_weights(
        &self,
        seed_pair: &[usize],
        real: &[usize],
        margins: Option<&[f64]>,
        counts: impl Fn(usize) -> bool,
    ) -> Vec<f64> {
        let copies = (seed_pair.len() / real.len().max(1)).saturating_sub(1) as f64;
        let weight_of_real = 1.0 / (1.0 + copies * self.weight);
        let Some(margins) = margins else {
            let mut weights = vec![weight_of_real * self.weight; seed_pair.len()];
            real.iter().for_each(|&i| weights[i] = weight_of_real);
            return weights;
        };
        let emphasis = self.emphasis.of_pairs(real, margins, counts);
        let mut weights = vec![0.0; seed_pair.len()];
        for (i, &pair) in seed_pair.iter().enumerate() {
            let original = real[pair];
            let weight = match i == original {
                true => weight_of_real,
                false => weight_of_real * self.weight * emphasis[pair],
            };
            // The weight of a pair that is left out goes to the real one, so that no seed pair
            // counts less for it.
            let left_out = i != original && self.gate == Gate::Ordered && margins[i] <= 0.0;
            weights[if left_out { original } else { i }] += weight;
        }
        weights
    }
}

impl Emphasis {
    /// The factor on the synthetic comparisons of each seed pair: 1 in the mean over the seed pairs
    /// for which `counts` is true.
    fn of_pairs(self, real: &[usize], margins: &[f64], counts: impl Fn(usize) -> bool) -> Vec<f64> {
        if self == Emphasis::Even {
            return vec![1.0; real.len()];
        }
        // The slope of the loss: sigmoid of minus the margin.
        let slopes: Vec<f64> = real.iter().map(|&i| 1.0 / (1.0 + margins[i].exp())).collect();
        let (mut sum, mut count) = (0.0, 0.0);
        (0..real.len()).filter(|&pair| counts(pair)).for_each(|pair| {
            sum += slopes[pair];
            count += 1.0;
        });
        slopes.iter().map(|s| s * count / sum.max(f64::MIN_POSITIVE)).collect()
    }
}

/// Seed pairs as the VAE sees them, with their standardisation: for [`Centring::Pair`] each response
/// is replaced by its difference from the mean of its pair.
pub(crate) fn vae_inputs<'a>(
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    centring: Centring,
) -> Result<(Cow<'a, EmbeddedPairs>, Cow<'a, Standardiser>), CoreError> {
    if centring == Centring::Origin {
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

/// How codes become responses, where not by decoding alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    /// With [`Noise::Neighbour`], the largest share of the way to a neighbour.
    pub neighbour_share: Option<f32>,
    /// Whether the gate is [`Gate::Plausible`].
    pub plausible_only: bool,
    /// How a code is decoded.
    pub decoding: Decoding,
    /// What is added again after decoding.
    pub centring: Centring,
}

/// Synthetic codes that become responses as a [`Variant`] says.
pub(crate) struct VariantCodes {
    codes: SyntheticCodes,
    neighbours: Option<NeighbourSteps>,
    plausible: Option<CodeDistribution>,
    decoding: Decoding,
    centring: Centring,
}

impl VariantCodes {
    /// `codes` of `pairs` seed pairs. `partners` are the other responses that a code may move towards.
    pub(crate) fn new(
        codes: SyntheticCodes,
        variant: Variant,
        pairs: usize,
        partners: impl FnOnce() -> FoldPartners,
        seed: u64,
    ) -> Self {
        let Variant { neighbour_share, plausible_only, decoding, centring } = variant;
        let plausible = plausible_only.then(|| CodeDistribution::fit(&codes, pairs));
        let neighbours = neighbour_share.map(|largest_share| NeighbourSteps {
            partners: partners(),
            largest_share,
            seed,
        });
        VariantCodes { codes, neighbours, plausible, decoding, centring }
    }

    /// Writes the synthetic responses of seed pair `pair`, `[k, d]` each: of its chosen response and
    /// of the rejected one, whose standardised embeddings, `[d]` each, are `real`.
    pub(crate) fn write(
        &self,
        vae: &Vae,
        pair: usize,
        real: [&[f32]; 2],
        chosen: &mut [f32],
        rejected: &mut [f32],
    ) {
        let (l, d) = (self.codes.latent(), real[0].len());
        let mut drawn = [(); 2].map(|()| vec![0.0f32; self.codes.per_side() * l]);
        let [a, b] = &mut drawn;
        match &self.neighbours {
            Some(neighbours) => neighbours.write(&self.codes, pair, a, b),
            None => self.codes.write(pair, a, b),
        }
        let means = self.codes.means(pair);
        if let Some(plausible) = &self.plausible {
            for (drawn, mean) in drawn.iter_mut().zip(means) {
                let far = |code: &&mut [f32]| plausible.square_distance(code) > plausible.limit;
                drawn.chunks_exact_mut(l).filter(far).for_each(|c| c.copy_from_slice(mean));
            }
        }
        let [a, b] = real;
        let middle: Vec<f32> = a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect();
        let sides = [chosen, rejected].into_iter().zip(&drawn).zip(means).zip(real);
        for (((out, drawn), mean), real) in sides {
            out.copy_from_slice(&vae.decode(drawn, Threads::ONE));
            // What decoding leaves out, and is added to every copy.
            let rest: Cow<'_, [f32]> = match (self.decoding, self.centring) {
                (Decoding::Residual, _) => {
                    let plain = vae.decode(mean, Threads::ONE);
                    real.iter().zip(&plain).map(|(&e, &g)| e - g).collect()
                }
                (Decoding::Plain, Centring::Pair) => Cow::Borrowed(&middle),
                (Decoding::Plain, Centring::Origin) => continue,
            };
            for row in out.chunks_exact_mut(d) {
                row.iter_mut().zip(rest.iter()).for_each(|(x, r)| *x += r);
            }
        }
    }
}

/// Steps towards the codes of other responses ([`Noise::Neighbour`]).
struct NeighbourSteps {
    partners: FoldPartners,
    /// The largest share of the way.
    largest_share: f32,
    seed: u64,
}

impl NeighbourSteps {
    fn write(&self, codes: &SyntheticCodes, pair: usize, chosen: &mut [f32], rejected: &mut [f32]) {
        let mut stream = Stream::new(self.seed, Purpose::Rivals, pair as u64);
        let from = codes.means(pair);
        for (side, out) in [chosen, rejected].into_iter().enumerate() {
            for code in out.chunks_exact_mut(codes.latent()) {
                let share = self.largest_share * stream.uniform() as f32;
                let to = codes.means(self.partners.draw(pair, &mut stream))[side];
                for ((z, &a), &b) in code.iter_mut().zip(from[side]).zip(to) {
                    *z = a + share * (b - a);
                }
            }
        }
    }
}

/// Mean and variance of the seed codes, latent by latent ([`Gate::Plausible`]).
struct CodeDistribution {
    mean: Vec<f64>,
    precision: Vec<f64>,
    /// The squared distance that 95% of the seed codes do not exceed.
    limit: f64,
}

impl CodeDistribution {
    /// Fits it to the posterior means of `pairs` seed pairs.
    fn fit(codes: &SyntheticCodes, pairs: usize) -> CodeDistribution {
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
        // A latent that does not vary adds nothing to a distance.
        let inverse = |v: &f64| if *v > 1e-12 { 1.0 / v } else { 0.0 };
        let precision = variance.iter().map(inverse).collect();
        let mut fitted = CodeDistribution { mean, precision, limit: f64::INFINITY };
        let mut distances: Vec<f64> = all().map(|code| fitted.square_distance(code)).collect();
        distances.sort_unstable_by(f64::total_cmp);
        let last = distances.len().saturating_sub(1);
        let limit = distances.get((last as f64 * 0.95).round() as usize);
        fitted.limit = limit.copied().unwrap_or(f64::INFINITY);
        fitted
    }

    /// The squared Mahalanobis distance of a code from the mean.
    fn square_distance(&self, code: &[f32]) -> f64 {
        let each = code.iter().zip(&self.mean).zip(&self.precision);
        each.map(|((&z, m), p)| p * (f64::from(z) - m).powi(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seed pairs of three comparisons each, the real one first: with weight 1/2 the real one
    /// counts 1 / (1 + 2 / 2), and each synthetic one half of that.
    #[test]
    fn the_comparisons_of_a_seed_pair_count_one_in_all() {
        let (seed_pair, real) = ([0, 0, 0, 1, 1, 1], [0, 3]);
        let half = Weighing { weight: 0.5, ..Weighing::default() };
        let weights = half.comparison_weights(&seed_pair, &real, None, |_| true);
        assert_eq!(weights, [0.5, 0.25, 0.25, 0.5, 0.25, 0.25]);
        // A contradicted synthetic pair gives its weight to the real one.
        let ordered = Weighing { gate: Gate::Ordered, ..half };
        let margins = [1.0, -0.1, 2.0, 1.0, 0.3, 0.0];
        let weights = ordered.comparison_weights(&seed_pair, &real, Some(&margins), |_| true);
        assert_eq!(weights, [0.75, 0.0, 0.25, 0.75, 0.25, 0.0]);
    }

    /// Margins of 0 and ln 3: slopes 1/2 and 1/4, so that the synthetic pairs of the first seed pair
    /// count twice as much as those of the second.
    #[test]
    fn uncertain_pairs_get_more_weight_from_synthetic_ones() {
        let uncertain = Weighing { emphasis: Emphasis::Uncertain, ..Weighing::default() };
        let margins = [0.0, 0.0, 3.0f64.ln(), 0.0];
        let weigh = |counts: &dyn Fn(usize) -> bool| {
            uncertain.comparison_weights(&[0, 0, 1, 1], &[0, 2], Some(&margins), counts)
        };
        let close = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        close(weigh(&|_| true), [0.5, 2.0 / 3.0, 0.5, 1.0 / 3.0]);
        // The mean is taken over the pairs that count.
        close(weigh(&|pair| pair == 0), [0.5, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn noise_in_posterior_units_is_scaled_latent_by_latent() {
        let mut deviations = Vec::new();
        Noise::Posterior.deviations(2.0, &[0.0, 4.0f32.ln()], &mut deviations);
        assert!((deviations[0] - 2.0).abs() < 1e-6 && (deviations[1] - 4.0).abs() < 1e-6);
        Noise::Isotropic.deviations(0.1, &[0.0, 9.0], &mut deviations);
        assert_eq!(deviations, [0.1, 0.1]);
    }
}
