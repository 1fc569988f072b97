//! From logits to a token.

use crate::error::{EncoderError, Result};
use lens_core::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// How a token is drawn. The order is that of transformers: temperature, `top_k`, `top_p`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the likeliest token. Defaults to 1.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are left; 0 leaves all. Defaults to 0.
    pub top_k: usize,
    /// Tokens are drawn from the fewest likeliest ones that together have this probability. Defaults
    /// to 1.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0 }
    }
}

impl Sampling {
    /// Whether the values can be used.
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |option, detail| Err(EncoderError::InvalidOption { option, detail });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return invalid("temperature", format!("{} is below 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return invalid("top_p", format!("{} is not above 0 and at most 1", self.top_p));
        }
        Ok(())
    }
}

/// Log-softmax of logits, the sum in `f64`.
pub(super) fn log_probabilities(logits: &[f32]) -> (f64, impl Fn(u32) -> f64 + '_) {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    let log_sum = f64::from(max) + sum.ln();
    (log_sum, move |token| f64::from(logits[token as usize]) - log_sum)
}

/// Draws the tokens of one sample.
pub(super) struct Sampler {
    sampling: Sampling,
    stream: Stream,
}

impl Sampler {
    /// The sampler of sample `index` under `seed`.
    pub fn new(sampling: Sampling, seed: u64, index: u64) -> Self {
        Self { sampling, stream: Stream::new(seed, Purpose::Generation, index) }
    }

    /// The next token. Of equal logits the lower id counts as likelier.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p } = self.sampling;
        let likelier = |a: &u32, b: &u32| {
            let (x, y) = (logits[*a as usize], logits[*b as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        if temperature == 0.0 {
            return ids.into_iter().min_by(likelier).unwrap_or(0);
        }
        if top_k > 0 && top_k < ids.len() {
            ids.select_nth_unstable_by(top_k - 1, likelier);
            ids.truncate(top_k);
        }
        if top_p < 1.0 {
            ids.sort_unstable_by(likelier);
        } else {
            ids.sort_unstable();
        }
        let max = ids.iter().map(|id| logits[*id as usize]).fold(f32::NEG_INFINITY, f32::max);
        let weight = |id: &u32| (f64::from(logits[*id as usize] - max) / temperature).exp();
        let mut weights: Vec<f64> = ids.iter().map(weight).collect();
        if top_p < 1.0 {
            let enough = top_p * weights.iter().sum::<f64>();
            let mut sum = 0.0;
            let n = weights.iter().take_while(|w| {
                let more = sum < enough;
                sum += **w;
                more
            });
            let n = n.count().max(1);
            weights.truncate(n);
        }
        let mut rest = self.stream.uniform() * weights.iter().sum::<f64>();
        for (id, weight) in ids.iter().zip(&weights) {
            rest -= weight;
            if rest < 0.0 {
                return *id;
            }
        }
        // Rounding can leave a crumb: it belongs to the last.
        weights.len().checked_sub(1).and_then(|last| ids.get(last)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// How often each token comes.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        const N: u64 = 20_000;
        let mut counts = vec![0.0; logits.len()];
        for i in 0..N {
            counts[Sampler::new(sampling, 7, i).draw(logits) as usize] += 1.0 / N as f64;
        }
        counts
    }

    fn near(got: &[f64], want: &[f64]) {
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 0.015, "{got:?} {want:?}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.5f32, 0.2, 0.2, 0.1].map(f32::ln);
        let of = |temperature, top_k, top_p| Sampling { temperature, top_k, top_p };
        near(&shares(of(1.0, 0, 1.0), &logits), &[0.5, 0.2, 0.2, 0.1]);
        near(&shares(of(1.0, 2, 1.0), &logits), &[5.0 / 7.0, 2.0 / 7.0, 0.0, 0.0]);
        // Half is reached by the first; a little more needs the second.
        near(&shares(of(1.0, 0, 0.5), &logits), &[1.0, 0.0, 0.0, 0.0]);
        near(&shares(of(1.0, 0, 0.6), &logits), &[5.0 / 7.0, 2.0 / 7.0, 0.0, 0.0]);
        near(&shares(of(0.5, 0, 1.0), &logits), &[25.0 / 34.0, 4.0 / 34.0, 4.0 / 34.0, 1.0 / 34.0]);
        near(&shares(of(0.0, 0, 1.0), &logits), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn probabilities_are_normalised() {
        let logits = [1.0f32, -2.0, 1000.0, 999.0];
        let (_, log) = log_probabilities(&logits);
        let total: f64 = (0..4).map(|i| log(i).exp()).sum();
        assert!((total - 1.0).abs() < 1e-9);
        assert!((log(2) - log(3) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in [
            Sampling { temperature: -1.0, ..Default::default() },
            Sampling { temperature: f64::NAN, ..Default::default() },
            Sampling { top_p: 0.0, ..Default::default() },
            Sampling { top_p: 1.1, ..Default::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
