//! Reproducible random numbers: one random seed, and a stream of its own for every purpose.
//!
//! A stream is given by (random seed, purpose, index). The draws of one part of the method therefore
//! never depend on how much another part drew, and synthetic codes can be drawn again instead of
//! stored.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};
use rand_distr::{Beta, Distribution, StandardNormal};

/// The use of a stream of random numbers; its number is part of the stream's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights of the VAE.
    VaeInit = 1,
    /// Order of pairs in VAE training, and its reparameterisation noise.
    VaeTrain = 2,
    /// Latent perturbations; the index is the seed pair's.
    Synthesis = 3,
    /// Which combinations form the augmented pairs; the index is the seed pair's.
    Pairing = 4,
    /// Initial weights of the head.
    HeadInit = 5,
    /// Order of pairs in head training.
    HeadTrain = 6,
    /// Assignment of prompts to folds.
    Folds = 7,
    /// Bootstrap resamples.
    Bootstrap = 8,
    /// Splits into seed pairs and held-out pairs.
    Splits = 9,
    /// Prompts to hold out of a run.
    Holdout = 10,
    /// Tokens of a language model; the index is the sample's.
    Generation = 11,
    /// Texts and token ids made up for measuring speed; the index is the text's.
    Benchmark = 12,
    /// Hidden units of the head that are left out of a step.
    Dropout = 13,
    /// Synthetic responses of the rivals; the index is the seed pair's.
    Rivals = 14,
    /// Which prompt a pair gets where prompts are shuffled to see how much the model reads them.
    Controls = 15,
}

/// A reproducible stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` number `index` under `seed`.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Stream(rng)
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f32 {
        StandardNormal.sample(&mut self.0)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A share from Beta(`alpha`, `alpha`); one half unless `alpha` is a positive number.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        Beta::new(alpha, alpha).map_or(0.5, |beta| beta.sample(&mut self.0))
    }

    /// True with probability `p`, to within 2^-32.
    pub fn chance(&mut self, p: f64) -> bool {
        f64::from(self.0.next_u32()) < p * 4_294_967_296.0
    }

    /// Uniform in 0 .. n, without bias. `n` must be positive.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        // Lemire's rejection: the multiply spreads 64 bits over n cells, the rejected low part is
        // what would make some cells larger.
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(n);
            if wide as u64 >= n.wrapping_neg() % n {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose, index| Stream::new(seed, purpose, index).uniform();
        assert_eq!(draw(1, Purpose::Folds, 0), draw(1, Purpose::Folds, 0));
        assert_ne!(draw(1, Purpose::Folds, 0), draw(2, Purpose::Folds, 0));
        assert_ne!(draw(1, Purpose::Folds, 0), draw(1, Purpose::Splits, 0));
        assert_ne!(draw(1, Purpose::Folds, 0), draw(1, Purpose::Folds, 1));
    }

    #[test]
    fn normal_has_the_moments_of_a_standard_normal() {
        let mut s = Stream::new(3, Purpose::Synthesis, 0);
        let draws: Vec<f64> = (0..200_000).map(|_| f64::from(s.normal())).collect();
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((var - 1.0).abs() < 0.02, "{var}");
    }

    #[test]
    fn beta_has_the_variance_of_its_kind() {
        // The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
        let mut s = Stream::new(4, Purpose::Rivals, 0);
        let draws: Vec<f64> = (0..50_000).map(|_| s.beta(0.4)).collect();
        let var = draws.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((var - 1.0 / 7.2).abs() < 0.002, "{var}");
        assert_eq!(s.beta(f64::NAN), 0.5);
    }

    #[test]
    fn below_is_even_and_shuffle_keeps_all() {
        let mut s = Stream::new(5, Purpose::Splits, 0);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[s.below(7)] += 1;
        }
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
        let mut items: Vec<usize> = (0..50).collect();
        s.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
