//! Synthetic latent codes: candidates around the seed codes, of which the most likely are kept.

use super::settings::{Origin, SynthesisSettings};
use crate::embedded::EmbeddedPairs;
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::rng::{Purpose, Stream};
use crate::standardise::Standardiser;
use crate::vae::{Posterior, Vae};
use rayon::prelude::*;

/// Synthetic latent codes: k for each side of each seed pair.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticCodes {
    per_side: usize,
    latent: usize,
    /// The posterior of every response: chosen and rejected of pair 0, of pair 1, and so on.
    posterior: Posterior,
    settings: SynthesisSettings,
    seed: u64,
    /// The codes of every pair in the same order, unless they are drawn when needed.
    kept: Option<Vec<f32>>,
}

impl SyntheticCodes {
    /// k, the number of synthetic responses a side.
    pub fn per_side(&self) -> usize {
        self.per_side
    }

    /// Width of a code.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// Whether the codes are in memory; otherwise they are drawn whenever they are needed.
    pub fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The posterior means of seed pair `pair`, `[l]` each: of its chosen response, of the rejected.
    pub(crate) fn means(&self, pair: usize) -> [&[f32]; 2] {
        let l = self.latent;
        [0, 1].map(|side| &self.posterior.mean[(2 * pair + side) * l..(2 * pair + side + 1) * l])
    }

    /// Writes the codes of seed pair `pair`: the k of its chosen response, [k, l], and the k of the
    /// rejected one.
    pub fn write(&self, pair: usize, chosen: &mut [f32], rejected: &mut [f32]) {
        let size = self.per_side * self.latent;
        match &self.kept {
            Some(codes) => {
                let of_pair = &codes[2 * pair * size..2 * (pair + 1) * size];
                chosen.copy_from_slice(&of_pair[..size]);
                rejected.copy_from_slice(&of_pair[size..]);
            }
            None => self.draw(pair, chosen, rejected, &mut self.candidates()),
        }
    }

    /// Writes the codes of the pairs `rows`, [2B, k, l]: of the B chosen, then of the B rejected.
    pub(crate) fn gather(&self, rows: &[usize], out: &mut [f32], threads: Threads) {
        let size = self.per_side * self.latent;
        if size == 0 {
            return;
        }
        let (chosen, rejected) = out.split_at_mut(rows.len() * size);
        if threads == Threads::ONE || self.are_kept() {
            let sides = chosen.chunks_exact_mut(size).zip(rejected.chunks_exact_mut(size));
            rows.iter().zip(sides).for_each(|(&pair, (a, b))| self.write(pair, a, b));
        } else {
            let sides = chosen.par_chunks_exact_mut(size).zip(rejected.par_chunks_exact_mut(size));
            let each = rows.par_iter().zip(sides).with_min_len(8);
            each.for_each_init(
                || self.candidates(),
                |candidates, (&pair, (a, b))| self.draw(pair, a, b, candidates),
            );
        }
    }

    fn candidates(&self) -> Candidates {
        Candidates::new(self.per_side * self.settings.candidates, self.latent)
    }

    fn draw(&self, pair: usize, chosen: &mut [f32], rejected: &mut [f32], drawn: &mut Candidates) {
        let mut stream = Stream::new(self.seed, Purpose::Synthesis, pair as u64);
        for (side, out) in [chosen, rejected].into_iter().enumerate() {
            drawn.draw(&self.posterior, 2 * pair + side, &self.settings, &mut stream);
            drawn.keep_most_likely(self.per_side, out);
        }
    }
}

/// Describes `per_side` synthetic responses for each side of every pair, each pair from a stream of
/// its own: the codes of a pair do not depend on which other pairs there are after it.
///
/// # Errors
/// [`CoreError::Setting`] for settings out of range; [`CoreError::Shape`] when the VAE is of another
/// width than the pairs.
pub fn synthesise(
    vae: &Vae,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &SynthesisSettings,
    per_side: usize,
    seed: u64,
    threads: Threads,
) -> Result<SyntheticCodes, CoreError> {
    threads.inside(|| draw_all(vae, pairs, standardiser, settings, per_side, seed, threads))
}

fn draw_all(
    vae: &Vae,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    settings: &SynthesisSettings,
    per_side: usize,
    seed: u64,
    threads: Threads,
) -> Result<SyntheticCodes, CoreError> {
    settings.check()?;
    let (d, l) = (pairs.dim(), vae.shape().latent);
    if vae.shape().dim != d {
        return Err(CoreError::Shape {
            what: "embeddings to synthesise from",
            expected: (pairs.len(), vae.shape().dim),
            found: (pairs.len(), d),
        });
    }
    let n = if per_side == 0 { 0 } else { pairs.len() };
    let zeros = || vec![0.0f32; 2 * n * l];
    let mut posterior = Posterior { mean: zeros(), log_variance: zeros() };
    let all: Vec<usize> = (0..n).collect();
    let mut x = vec![0.0f32; 2 * 256.min(n) * d];
    for rows in all.chunks(256) {
        let x = &mut x[..2 * rows.len() * d];
        pairs.gather(standardiser, rows, x, threads);
        let of_rows = vae.encode(x, threads);
        // From all chosen before all rejected to pair by pair.
        for (i, &pair) in rows.iter().enumerate() {
            for side in 0..2 {
                let from = (side * rows.len() + i) * l;
                let to = (2 * pair + side) * l;
                posterior.mean[to..to + l].copy_from_slice(&of_rows.mean[from..from + l]);
                posterior.log_variance[to..to + l]
                    .copy_from_slice(&of_rows.log_variance[from..from + l]);
            }
        }
    }
    let mut codes = SyntheticCodes {
        per_side,
        latent: l,
        posterior,
        settings: settings.clone(),
        seed,
        kept: None,
    };
    let values = 2 * n * per_side * l;
    if values * size_of::<f32>() <= settings.memory_mb << 20 {
        let mut kept = vec![0.0f32; values];
        let size = per_side * l;
        if size > 0 {
            let draw = |drawn: &mut Candidates, (pair, out): (usize, &mut [f32])| {
                let (chosen, rejected) = out.split_at_mut(size);
                codes.draw(pair, chosen, rejected, drawn);
            };
            if threads == Threads::ONE {
                let mut drawn = codes.candidates();
                kept.chunks_exact_mut(2 * size).enumerate().for_each(|one| draw(&mut drawn, one));
            } else {
                let each = kept.par_chunks_exact_mut(2 * size).enumerate().with_min_len(8);
                each.for_each_init(|| codes.candidates(), draw);
            }
        }
        codes.kept = Some(kept);
    }
    Ok(codes)
}

/// Candidates for one response, and how likely each is.
struct Candidates {
    latent: usize,
    /// [candidates, l].
    codes: Vec<f32>,
    /// Log-likelihood and number of each candidate.
    scores: Vec<(f64, usize)>,
    /// 1 / sigma^2 of each latent.
    precision: Vec<f32>,
    /// Standard deviation of the noise eta on each latent.
    noise: Vec<f32>,
    /// sigma of each latent, where z is a draw from the posterior.
    spread: Vec<f32>,
}

impl Candidates {
    fn new(count: usize, latent: usize) -> Self {
        Candidates {
            latent,
            codes: vec![0.0; count * latent],
            scores: vec![(0.0, 0); count],
            precision: Vec::with_capacity(latent),
            noise: Vec::with_capacity(latent),
            spread: Vec::with_capacity(latent),
        }
    }

    /// Draws candidates z + eta for the response in row `row` of `posterior`, and their
    /// log-likelihoods.
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
        self.precision.clear();
        self.precision.extend(log_variance.iter().map(|&lv| (-f64::from(lv)).exp() as f32));
        settings.noise.deviations(
            settings.noise_variance.sqrt() as f32,
            log_variance,
            &mut self.noise,
        );
        self.spread.clear();
        if settings.origin == Origin::Draw {
            self.spread.extend(log_variance.iter().map(|&lv| (0.5 * lv).exp()));
        }
        for (c, (code, score)) in self.codes.chunks_exact_mut(l).zip(&mut self.scores).enumerate() {
            // First the deviation from the posterior mean, then the code.
            match settings.origin {
                Origin::Mean => draw_noise(code, &self.noise, stream),
                Origin::Draw => draw_noise_on_posterior(code, &self.spread, &self.noise, stream),
            }
            *score = (log_likelihood(code, &self.precision), c);
            code.iter_mut().zip(mean).for_each(|(z, &mu)| *z += mu);
        }
    }

    /// Writes the `k` most likely codes to `out`, `[k, l]`, most likely first.
    fn keep_most_likely(&mut self, k: usize, out: &mut [f32]) {
        let kept = most_likely(&mut self.scores, k);
        for (&(_, c), to) in kept.iter().zip(out.chunks_exact_mut(self.latent)) {
            to.copy_from_slice(&self.codes[c * self.latent..(c + 1) * self.latent]);
        }
    }
}

/// eta: noise with these standard deviations.
fn draw_noise(out: &mut [f32], noise: &[f32], stream: &mut Stream) {
    out.iter_mut().zip(noise).for_each(|(z, &s)| *z = s * stream.normal());
}

/// z - mu + eta, where z is drawn from the posterior N(mu, sigma^2) too.
fn draw_noise_on_posterior(out: &mut [f32], sigma: &[f32], noise: &[f32], stream: &mut Stream) {
    for ((z, &sigma), &s) in out.iter_mut().zip(sigma).zip(noise) {
        *z = sigma * stream.normal() + s * stream.normal();
    }
}

/// log N(mu + deviation; mu, sigma^2), given 1 / sigma^2, up to the terms that all candidates of a
/// response have in common.
fn log_likelihood(deviation: &[f32], precision: &[f32]) -> f64 {
    let squares = deviation.iter().zip(precision).map(|(&z, &p)| f64::from(z * z * p));
    -0.5 * squares.sum::<f64>()
}

/// The `k` candidates with the highest log-likelihood, most likely first; of equals the one that was
/// drawn first. A score is a log-likelihood and the candidate's number.
fn most_likely(scores: &mut [(f64, usize)], k: usize) -> &[(f64, usize)] {
    scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    &scores[..k]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::activation::Activation;
    use crate::matrix::Matrix;
    use crate::synthesis::variants::Noise;
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

    /// The codes of one pair: of the chosen response, of the rejected one.
    fn of(codes: &SyntheticCodes, pair: usize) -> [Vec<f32>; 2] {
        let mut sides = [(); 2].map(|()| vec![0.0; codes.per_side() * codes.latent()]);
        let [chosen, rejected] = &mut sides;
        codes.write(pair, chosen, rejected);
        sides
    }

    #[test]
    fn the_most_likely_candidates_are_those_nearest_in_units_of_sigma() {
        // Variances 4 and 1/4: (2, 0) and (0, 1/2) are one sigma away, (0, 1) two, (0, 0) none.
        let precision = [0.25, 4.0];
        let deviations = [[0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.5]];
        let mut scores: Vec<(f64, usize)> =
            deviations.iter().map(|d| log_likelihood(d, &precision)).zip(0..).collect();
        assert_eq!(scores, [(-2.0, 0), (-0.5, 1), (0.0, 2), (-0.5, 3)]);
        let kept = most_likely(&mut scores, 3);
        assert_eq!(kept, [(0.0, 2), (-0.5, 1), (-0.5, 3)]);
    }

    #[test]
    fn noise_in_units_of_the_posterior_is_as_wide_as_it() {
        let (vae, pairs, standardiser) = setup();
        let settings = SynthesisSettings {
            noise_variance: 4.0,
            candidates: 1,
            noise: Noise::Posterior,
            ..SynthesisSettings::default()
        };
        let k = 4000;
        let codes = synthesise(&vae, &pairs, &standardiser, &settings, k, 3, Threads::ONE).unwrap();
        let [chosen, _] = of(&codes, 2);
        let [mean, _] = codes.means(2);
        for j in 0..3 {
            let square = |c: usize| f64::from(chosen[c * 3 + j] - mean[j]).powi(2);
            let variance = (0..k).map(square).sum::<f64>() / k as f64;
            let own = f64::from(codes.posterior.log_variance[2 * 2 * 3 + j]).exp();
            assert!((variance / (4.0 * own) - 1.0).abs() < 0.1, "{variance} {own}");
        }
    }

    fn spread(settings: &SynthesisSettings) -> f64 {
        let (vae, pairs, standardiser) = setup();
        let k = 40;
        let codes = synthesise(&vae, &pairs, &standardiser, settings, k, 9, Threads::ONE).unwrap();
        let mut x = vec![0.0; 2 * 5 * 6];
        pairs.gather(&standardiser, &[0, 1, 2, 3, 4], &mut x, Threads::ONE);
        let posterior = vae.encode(&x, Threads::ONE);
        let mut total = 0.0;
        for pair in 0..5 {
            for side in 0..2 {
                let mu = &posterior.mean[(pair + 5 * side) * 3..][..3];
                for code in of(&codes, pair)[side].chunks_exact(3) {
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
        for (a, b) in of(&all, 2)[1].iter().zip(&of(&few, 2)[1]) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn codes_drawn_when_needed_are_those_that_would_have_been_kept() {
        let (vae, pairs, standardiser) = setup();
        let codes = |memory_mb, origin, threads| {
            let settings = SynthesisSettings { memory_mb, origin, ..Default::default() };
            synthesise(&vae, &pairs, &standardiser, &settings, 3, 9, threads).unwrap()
        };
        for origin in [Origin::Mean, Origin::Draw] {
            let kept = codes(512, origin, Threads::ONE);
            assert!(kept.are_kept());
            for threads in [Threads::ONE, Threads(2)] {
                let drawn = codes(0, origin, threads);
                assert!(!drawn.are_kept());
                let rows = [4, 0, 2];
                let [mut a, mut b] = [(); 2].map(|()| vec![0.0; 2 * 3 * 3 * 3]);
                kept.gather(&rows, &mut a, threads);
                drawn.gather(&rows, &mut b, threads);
                assert_eq!(a, b);
                assert_eq!(of(&kept, 1), of(&drawn, 1));
            }
        }
    }

    #[test]
    fn as_many_are_kept_as_asked_even_where_no_more_were_drawn() {
        let (vae, pairs, standardiser) = setup();
        let settings = SynthesisSettings { candidates: 1, ..Default::default() };
        let codes = synthesise(&vae, &pairs, &standardiser, &settings, 7, 9, Threads::ONE).unwrap();
        let [chosen, _] = of(&codes, 0);
        let mut rows: Vec<&[f32]> = chosen.chunks_exact(3).collect();
        rows.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap());
        rows.dedup();
        assert_eq!(rows.len(), 7);
        assert!(SynthesisSettings { candidates: 0, ..settings }.check().is_err());
    }
}
