//! Synthesis in latent space (method, step 3).
//!
//! For each latent code of a seed response, candidates z + eta with eta ~ N(0, s^2 I) are drawn and
//! the k most likely under the encoder's own Gaussian N(mu, sigma^2) are kept. Nothing is decoded:
//! the head trains on the codes (see [`crate::head`]).

use crate::error::{CoreError, require};
use crate::linalg::Threads;
use crate::matrix::{EmbeddedPairs, Standardiser};
use crate::rng::{Purpose, Stream};
use crate::vae::train::gather;
use crate::vae::{Posterior, Vae};
use serde::{Deserialize, Serialize};

/// What the noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The posterior mean (O). The default.
    #[default]
    Mean,
    /// A draw from the posterior, a fresh one for every candidate (O).
    Draw,
}

/// Settings of synthesis. P marks what the paper fixes, O what is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthesisSettings {
    /// Variance s^2 of the latent noise (P). Defaults to 0.01, the paper's best.
    pub noise_variance: f64,
    /// Candidates drawn for every one that is kept (O). Defaults to 4.
    pub candidates: usize,
    /// What the noise is added to (O). Defaults to the posterior mean.
    pub origin: Origin,
}

impl Default for SynthesisSettings {
    fn default() -> Self {
        SynthesisSettings { noise_variance: 0.01, candidates: 4, origin: Origin::Mean }
    }
}

impl SynthesisSettings {
    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        require(
            self.noise_variance.is_finite() && self.noise_variance >= 0.0,
            "synthesis.noise_variance",
            self.noise_variance,
            "a finite number of at least 0",
        )?;
        require(
            (1..=1024).contains(&self.candidates),
            "synthesis.candidates",
            self.candidates,
            "from 1 to 1024 (candidates drawn for each one kept)",
        )
    }
}

/// Synthetic latent codes: k for each side of each seed pair.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticCodes {
    per_side: usize,
    latent: usize,
    codes: Vec<f32>,
}

impl SyntheticCodes {
    /// No codes: training without augmentation.
    pub fn none(latent: usize) -> Self {
        SyntheticCodes { per_side: 0, latent, codes: Vec::new() }
    }

    /// k, the number of synthetic responses a side.
    pub fn per_side(&self) -> usize {
        self.per_side
    }

    /// Width of a code.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// The k codes of one side of seed pair `pair`, [k, l]; side 0 is chosen, 1 rejected.
    pub fn of(&self, pair: usize, side: usize) -> &[f32] {
        let size = self.per_side * self.latent;
        let start = (2 * pair + side) * size;
        &self.codes[start..start + size]
    }
}

/// Draws `per_side` codes for each side of every pair, each pair from a stream of its own: the
/// codes of a pair do not depend on which other pairs there are after it.
///
/// # Errors
/// [`CoreError::Setting`] for settings out of range.
pub fn synthesise(
    vae: &Vae,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &SynthesisSettings,
    per_side: usize,
    seed: u64,
    threads: Threads,
) -> Result<SyntheticCodes, CoreError> {
    settings.check()?;
    let l = vae.shape().latent;
    let mut codes = Vec::with_capacity(2 * pairs.len() * per_side * l);
    if per_side == 0 {
        return Ok(SyntheticCodes::none(l));
    }
    let all: Vec<usize> = (0..pairs.len()).collect();
    let mut drawn = Candidates::new(per_side * settings.candidates, l);
    for rows in all.chunks(256) {
        let mut x = vec![0.0f32; 2 * rows.len() * pairs.dim()];
        gather(pairs, standardiser, rows, &mut x);
        let posterior = vae.encode(&x, threads);
        for (i, &pair) in rows.iter().enumerate() {
            let mut stream = Stream::new(seed, Purpose::Synthesis, pair as u64);
            for row in [i, i + rows.len()] {
                drawn.draw(&posterior, row, settings, &mut stream);
                drawn.keep(per_side, &mut codes);
            }
        }
    }
    Ok(SyntheticCodes { per_side, latent: l, codes })
}

/// Candidates for one response, with their log-likelihoods up to a constant.
struct Candidates {
    latent: usize,
    codes: Vec<f32>,
    scores: Vec<(f64, usize)>,
}

impl Candidates {
    fn new(count: usize, latent: usize) -> Self {
        Candidates { latent, codes: vec![0.0; count * latent], scores: vec![(0.0, 0); count] }
    }

    fn draw(
        &mut self,
        posterior: &Posterior,
        row: usize,
        settings: &SynthesisSettings,
        stream: &mut Stream,
    ) {
        let l = self.latent;
        let mean = &posterior.mean[row * l..(row + 1) * l];
        let log_variance = &posterior.log_variance[row * l..(row + 1) * l];
        let noise = settings.noise_variance.sqrt() as f32;
        for (c, (code, score)) in self.codes.chunks_exact_mut(l).zip(&mut self.scores).enumerate() {
            let mut likelihood = 0.0f64;
            for ((z, &mu), &lv) in code.iter_mut().zip(mean).zip(log_variance) {
                let spread = match settings.origin {
                    Origin::Mean => 0.0,
                    Origin::Draw => (0.5 * lv).exp() * stream.normal(),
                };
                *z = mu + spread + noise * stream.normal();
                // The variance is the same for all candidates of a response, so its own term is.
                likelihood -= 0.5 * f64::from(*z - mu).powi(2) / f64::from(lv).exp();
            }
            *score = (likelihood, c);
        }
    }

    /// Appends the `k` most likely codes to `out`, most likely first; ties by order of drawing.
    fn keep(&mut self, k: usize, out: &mut Vec<f32>) {
        self.scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, c) in &self.scores[..k] {
            out.extend_from_slice(&self.codes[c * self.latent..(c + 1) * self.latent]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::activation::Activation;
    use crate::matrix::Matrix;
    use crate::vae::VaeShape;

    fn setup() -> (Vae, EmbeddedPairs, Standardiser) {
        let (n, d) = (5, 6);
        let value = |i: usize| ((i * 7 % 13) as f32 * 0.3).sin();
        let chosen = Matrix::new((0..n * d).map(value).collect(), n, d).unwrap();
        let rejected = Matrix::new((0..n * d).map(|i| value(i + 5)).collect(), n, d).unwrap();
        let pairs = EmbeddedPairs::new(chosen, rejected).unwrap();
        let standardiser = Standardiser::fit(&pairs);
        let shape = VaeShape { dim: d, hidden: 4, latent: 3 };
        (Vae::new(shape, Activation::Tanh, 1), pairs, standardiser)
    }

    fn spread(settings: &SynthesisSettings) -> f64 {
        let (vae, pairs, standardiser) = setup();
        let k = 40;
        let codes = synthesise(&vae, &pairs, &standardiser, settings, k, 9, Threads::ONE).unwrap();
        let mut x = vec![0.0; 2 * 5 * 6];
        gather(&pairs, &standardiser, &[0, 1, 2, 3, 4], &mut x);
        let posterior = vae.encode(&x, Threads::ONE);
        let mut total = 0.0;
        for pair in 0..5 {
            for side in 0..2 {
                let mu = &posterior.mean[(pair + 5 * side) * 3..][..3];
                for code in codes.of(pair, side).chunks_exact(3) {
                    total +=
                        code.iter().zip(mu).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                }
            }
        }
        total / (5.0 * 2.0 * k as f64 * 3.0)
    }

    #[test]
    fn noise_has_the_variance_asked_for_when_every_candidate_is_kept() {
        let settings = SynthesisSettings { candidates: 1, ..Default::default() };
        let variance = spread(&settings);
        assert!((0.009..0.011).contains(&variance), "{variance}");
    }

    #[test]
    fn keeping_the_most_likely_of_many_draws_closer_to_the_mean() {
        let one = spread(&SynthesisSettings { candidates: 1, ..Default::default() });
        let four = spread(&SynthesisSettings { candidates: 4, ..Default::default() });
        assert!(four < 0.7 * one, "{four} against {one}");
    }

    #[test]
    fn posterior_draws_add_the_posterior_variance() {
        let settings =
            SynthesisSettings { candidates: 1, origin: Origin::Draw, ..Default::default() };
        assert!(spread(&settings) > 0.1);
    }

    #[test]
    fn the_same_seed_gives_the_same_codes_whatever_follows() {
        let (vae, pairs, standardiser) = setup();
        let settings = SynthesisSettings::default();
        let all = synthesise(&vae, &pairs, &standardiser, &settings, 3, 9, Threads::ONE).unwrap();
        let few = pairs.select(&[0, 1, 2]);
        let few = synthesise(&vae, &few, &standardiser, &settings, 3, 9, Threads::ONE).unwrap();
        for (a, b) in all.of(2, 1).iter().zip(few.of(2, 1)) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}
