//! The VAE of embeddings with a divergence between the two sides of a pair (docs/method.md, step 2).
//!
//! Encoder: d -> h -> (mu, log sigma^2). Decoder: z -> h -> d. With h = 64, 16 latents and
//! d = 4096 it has 531,616 parameters, the paper's "0.5M".
//!
//! - [`loss`]: the objective and its gradient, written out by hand.
//! - [`train`]: minibatches, the optimiser, and the guard against divergence.

pub mod loss;
pub mod train;

use crate::activation::Activation;
use crate::error::{CoreError, require};
use crate::linalg::{Target, Threads, View, add_bias, matmul, vectorised};
use crate::matrix::MAX_VALUES;
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// log sigma^2 is kept within plus or minus this: outside it the variance is 0 or infinite for
/// all purposes, and its gradient is set to 0.
pub(crate) const LOG_VARIANCE_LIMIT: f64 = 12.0;

/// Settings of the VAE. P marks what the paper fixes, O what is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaeSettings {
    /// Latent dimensions (P). Defaults to 16.
    pub latent: usize,
    /// Width h of both hidden layers (O). Defaults to 64.
    pub hidden: usize,
    /// Non-linearity of both hidden layers (O). Defaults to ReLU.
    pub activation: Activation,
    /// Weight beta of the KL term (O). Defaults to 0.1. The divergence settles where |mu| is about
    /// gamma / beta: with the paper's gamma a beta of 0.001 lets the two sides run apart, and on
    /// 1,000 seed pairs of HH-RLHF harmless 0.01 costs a point of accuracy that 0.1 does not.
    pub beta: f64,
    /// Weight gamma of the Wasserstein term that drives the two sides of a pair apart (P).
    /// Defaults to 0.1, the paper's best.
    pub gamma: f64,
    /// Passes over the seed pairs (O). Defaults to 100.
    pub epochs: usize,
    /// Epochs over which beta and gamma grow from 0 to what they are, so that latents are found before
    /// they cost anything (O). Defaults to 0, none.
    pub warm_up: usize,
    /// Pairs in a step (O). Defaults to 128.
    pub batch: usize,
    /// Adam's learning rate (O). Defaults to 0.001.
    pub learning_rate: f64,
    /// Keeps the divergence of a pair from growing without end (O): with b above 0 it is
    /// b W2 / (b + W2), which is W2 while that is small and stays below b. Defaults to 0, which is
    /// the paper's W2 itself.
    pub w2_bound: f64,
    /// Mean W2 at which training stops as run away (O). Defaults to 100.
    pub w2_limit: f64,
}

impl Default for VaeSettings {
    fn default() -> Self {
        VaeSettings {
            latent: 16,
            hidden: 64,
            activation: Activation::Relu,
            beta: 0.1,
            gamma: 0.1,
            epochs: 100,
            warm_up: 0,
            batch: 128,
            learning_rate: 1e-3,
            w2_bound: 0.0,
            w2_limit: 100.0,
        }
    }
}

impl VaeSettings {
    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        require((1..=4096).contains(&self.latent), "vae.latent", self.latent, "from 1 to 4096")?;
        require((1..=65_536).contains(&self.hidden), "vae.hidden", self.hidden, "from 1 to 65536")?;
        require(
            self.beta.is_finite() && self.beta >= 0.0,
            "vae.beta",
            self.beta,
            "a finite number of at least 0",
        )?;
        require(
            self.gamma.is_finite() && self.gamma >= 0.0,
            "vae.gamma",
            self.gamma,
            "a finite number of at least 0",
        )?;
        require(self.epochs >= 1, "vae.epochs", self.epochs, "at least 1")?;
        require(
            self.warm_up < self.epochs,
            "vae.warm_up",
            self.warm_up,
            "fewer epochs than vae.epochs",
        )?;
        require(self.batch >= 1, "vae.batch", self.batch, "at least 1")?;
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.0,
            "vae.learning_rate",
            self.learning_rate,
            "a positive number",
        )?;
        require(
            self.w2_bound.is_finite() && self.w2_bound >= 0.0,
            "vae.w2_bound",
            self.w2_bound,
            "a finite number of at least 0",
        )?;
        require(self.w2_limit > 0.0, "vae.w2_limit", self.w2_limit, "a positive number")
    }
}

/// The sizes of a VAE, and where its parameters lie in one flat vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaeShape {
    /// Width d of an embedding.
    pub dim: usize,
    /// Width h of the hidden layers.
    pub hidden: usize,
    /// Width l of the latent code.
    pub latent: usize,
}

impl VaeShape {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.decoder_in_bias().end
    }

    /// [`VaeShape::parameters`] of sizes from a file: `None` where one is 0, or where no vector could
    /// be so long.
    pub fn checked_parameters(&self) -> Option<usize> {
        let &VaeShape { dim, hidden, latent } = self;
        // Every layer with its biases has fewer than these together.
        let product = dim.checked_add(1)?.checked_mul(hidden.checked_add(1)?)?;
        let codes = latent.checked_add(1)?.checked_mul(hidden.checked_add(1)?)?;
        let bound = product.checked_add(codes)?.checked_mul(3)?;
        (dim > 0 && hidden > 0 && latent > 0 && bound <= MAX_VALUES).then(|| self.parameters())
    }

    /// First encoder layer and last decoder layer as one [2h, d] block, so that one product with
    /// the inputs serves both. Rows 0..h: encoder weights [h, d]. Rows h..2h: the transpose of the
    /// decoder's output weights, [h, d]; its bias follows as one more row.
    fn wide(&self) -> Range<usize> {
        0..2 * self.hidden * self.dim
    }

    /// Decoder output weights, transposed: [h, d].
    pub(crate) fn decoder_out(&self) -> Range<usize> {
        self.hidden * self.dim..2 * self.hidden * self.dim
    }

    fn after(previous: Range<usize>, len: usize) -> Range<usize> {
        previous.end..previous.end + len
    }

    /// Decoder output bias, [d].
    pub(crate) fn decoder_out_bias(&self) -> Range<usize> {
        Self::after(self.wide(), self.dim)
    }

    /// Encoder hidden bias, [h].
    fn encoder_bias(&self) -> Range<usize> {
        Self::after(self.decoder_out_bias(), self.hidden)
    }

    /// Weights of mu (rows 0..l) and log sigma^2 (rows l..2l), [2l, h].
    fn moments(&self) -> Range<usize> {
        Self::after(self.encoder_bias(), 2 * self.latent * self.hidden)
    }

    /// Biases of mu and log sigma^2, [2l].
    fn moments_bias(&self) -> Range<usize> {
        Self::after(self.moments(), 2 * self.latent)
    }

    /// Decoder hidden weights, [h, l].
    fn decoder_in(&self) -> Range<usize> {
        Self::after(self.moments_bias(), self.hidden * self.latent)
    }

    /// Decoder hidden bias, [h].
    fn decoder_in_bias(&self) -> Range<usize> {
        Self::after(self.decoder_in(), self.hidden)
    }

    /// The parameters by name, for files: name, rows, columns, place. A bias has 1 row.
    pub fn named(&self) -> Vec<(&'static str, usize, usize, Range<usize>)> {
        let (d, h, l) = (self.dim, self.hidden, self.latent);
        vec![
            ("vae.encoder.hidden.weight", h, d, 0..h * d),
            ("vae.encoder.hidden.bias", 1, h, self.encoder_bias()),
            ("vae.encoder.moments.weight", 2 * l, h, self.moments()),
            ("vae.encoder.moments.bias", 1, 2 * l, self.moments_bias()),
            ("vae.decoder.hidden.weight", h, l, self.decoder_in()),
            ("vae.decoder.hidden.bias", 1, h, self.decoder_in_bias()),
            ("vae.decoder.output.weight_transposed", h, d, self.decoder_out()),
            ("vae.decoder.output.bias", 1, d, self.decoder_out_bias()),
        ]
    }
}

/// A VAE: its shape, its activation and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Vae<T = f32> {
    shape: VaeShape,
    activation: Activation,
    parameters: Vec<T>,
}

/// Means and log variances of latent Gaussians, one row a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior<T = f32> {
    /// mu, [n, l].
    pub mean: Vec<T>,
    /// log sigma^2, [n, l].
    pub log_variance: Vec<T>,
}

impl<T: Real> Vae<T> {
    /// A VAE with fresh weights: uniform within 1 / sqrt(fan-in), as PyTorch's linear layers.
    pub fn new(shape: VaeShape, activation: Activation, seed: u64) -> Self {
        let mut stream = Stream::new(seed, Purpose::VaeInit, 0);
        let mut parameters = vec![T::ZERO; shape.parameters()];
        let (d, h, l) = (shape.dim, shape.hidden, shape.latent);
        let layers = [
            (0..h * d, d),
            (shape.encoder_bias(), d),
            (shape.moments(), h),
            (shape.moments_bias(), h),
            (shape.decoder_in(), l),
            (shape.decoder_in_bias(), l),
            (shape.decoder_out(), h),
            (shape.decoder_out_bias(), h),
        ];
        for (range, fan_in) in layers {
            let bound = 1.0 / (fan_in as f64).sqrt();
            for p in &mut parameters[range] {
                *p = T::narrow((2.0 * stream.uniform() - 1.0) * bound);
            }
        }
        Vae { shape, activation, parameters }
    }

    /// A VAE with given weights, laid out as [`VaeShape::named`] says.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when their number is not [`VaeShape::parameters`].
    pub fn with_parameters(
        shape: VaeShape,
        activation: Activation,
        parameters: Vec<T>,
    ) -> Result<Self, CoreError> {
        if parameters.len() != shape.parameters() {
            return Err(CoreError::Shape {
                what: "parameters of the VAE",
                expected: (shape.parameters(), 1),
                found: (parameters.len(), 1),
            });
        }
        Ok(Vae { shape, activation, parameters })
    }

    /// Its sizes.
    pub fn shape(&self) -> VaeShape {
        self.shape
    }

    /// Its non-linearity.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// All parameters, laid out as [`VaeShape::named`] says.
    pub fn parameters(&self) -> &[T] {
        &self.parameters
    }

    fn part(&self, range: Range<usize>) -> &[T] {
        &self.parameters[range]
    }

    /// Decoder output weights, transposed: [h, d].
    pub(crate) fn decoder_out(&self) -> &[T] {
        self.part(self.shape.decoder_out())
    }

    /// Decoder output bias, [d].
    pub(crate) fn decoder_out_bias(&self) -> &[T] {
        self.part(self.shape.decoder_out_bias())
    }

    /// Latent Gaussians of standardised embeddings `x`, [n, d].
    pub fn encode(&self, x: &[T], threads: Threads) -> Posterior<T> {
        let VaeShape { dim: d, hidden: h, latent: l } = self.shape;
        let n = x.len() / d;
        let mut hidden = vec![T::ZERO; n * h];
        let weights = View::new(&self.parameters, h, d).t();
        let target = Target::new(&mut hidden, h);
        matmul(target, View::new(x, n, d), weights, T::ONE, false, threads);
        add_bias(&mut hidden, self.part(self.shape.encoder_bias()));
        self.activation.apply(&mut hidden);
        let mut moments = vec![T::ZERO; n * 2 * l];
        self.moments_of(&hidden, &mut moments, threads);
        let mut posterior = Posterior { mean: Vec::new(), log_variance: Vec::new() };
        for row in moments.chunks_exact(2 * l) {
            posterior.mean.extend_from_slice(&row[..l]);
            posterior.log_variance.extend(row[l..].iter().map(|&v| clamp(v)));
        }
        posterior
    }

    /// mu and unclamped log sigma^2 side by side, [n, 2l], from the hidden layer [n, h].
    fn moments_of(&self, hidden: &[T], out: &mut [T], threads: Threads) {
        let VaeShape { hidden: h, latent: l, .. } = self.shape;
        let n = hidden.len() / h;
        let weights = View::new(self.part(self.shape.moments()), 2 * l, h).t();
        let target = Target::new(out, 2 * l);
        matmul(target, View::new(hidden, n, h), weights, T::ONE, false, threads);
        add_bias(out, self.part(self.shape.moments_bias()));
    }

    /// Decoder output weights, transposed, and behind them its bias: [h + 1, d].
    pub(crate) fn decoder_rows(&self) -> &[T] {
        self.part(self.shape.decoder_out().start..self.shape.decoder_out_bias().end)
    }

    /// The decoder's last hidden layer u, [n, h], of latent codes `z`, [n, l]. An embedding is
    /// affine in it: e = W u + c, which is what makes decoding unnecessary in training.
    pub(crate) fn decoder_hidden(&self, z: &[T], out: &mut [T], threads: Threads) {
        let VaeShape { hidden: h, latent: l, .. } = self.shape;
        let n = z.len() / l;
        let weights = View::new(self.part(self.shape.decoder_in()), h, l).t();
        let target = Target::new(&mut out[..n * h], h);
        matmul(target, View::new(z, n, l), weights, T::ONE, false, threads);
        add_bias(&mut out[..n * h], self.part(self.shape.decoder_in_bias()));
        self.activation.apply(&mut out[..n * h]);
    }

    /// The same with a last column of ones, [n, h + 1]: the weight of that unit is the bias c, so that
    /// an embedding is linear in it (see [`Vae::decoder_rows`]).
    pub(crate) fn decoder_units(&self, z: &[T], out: &mut [T]) {
        let VaeShape { hidden: h, latent: l, .. } = self.shape;
        let n = z.len() / l;
        let weights = View::new(self.part(self.shape.decoder_in()), h, l).t();
        let target = Target::new(&mut out[..n * (h + 1)], h + 1);
        matmul(target, View::new(z, n, l), weights, T::ONE, false, Threads::ONE);
        let bias = self.part(self.shape.decoder_in_bias());
        let activation = self.activation;
        vectorised(
            #[inline(always)]
            || {
                for row in out.chunks_exact_mut(h + 1) {
                    let (units, last) = row.split_at_mut(h);
                    units.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
                    activation.apply(units);
                    last[0] = T::ONE;
                }
            },
        );
    }

    /// Standardised embeddings `[n, d]` of latent codes `z`, `[n, l]`: needed only when someone asks
    /// to see them.
    pub fn decode(&self, z: &[T], threads: Threads) -> Vec<T> {
        let VaeShape { dim: d, latent: l, .. } = self.shape;
        let mut e = vec![T::ZERO; z.len() / l * d];
        self.decode_into(z, &mut e, threads);
        e
    }

    /// As [`Vae::decode`], into `e`, `[n, d]`: for decoding block after block.
    ///
    /// # Panics
    /// When `e` has another number of rows than `z`: a bug in the caller.
    pub fn decode_into(&self, z: &[T], e: &mut [T], threads: Threads) {
        let VaeShape { dim: d, hidden: h, latent: l } = self.shape;
        let n = z.len() / l;
        assert_eq!(e.len(), n * d, "room for {n} embeddings of width {d}");
        let mut u = vec![T::ZERO; n * h];
        self.decoder_hidden(z, &mut u, threads);
        let target = Target::new(e, d);
        let weights = View::new(self.decoder_out(), h, d);
        matmul(target, View::new(&u, n, h), weights, T::ONE, false, threads);
        add_bias(e, self.decoder_out_bias());
    }
}

fn clamp<T: Real>(log_variance: T) -> T {
    let limit = T::narrow(LOG_VARIANCE_LIMIT);
    if log_variance > limit {
        limit
    } else if log_variance < -limit {
        -limit
    } else {
        log_variance
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn has_the_papers_half_million_parameters_at_4096() {
        let shape = VaeShape { dim: 4096, hidden: 64, latent: 16 };
        assert_eq!(shape.parameters(), 531_616);
    }

    #[test]
    fn named_parameters_cover_every_one_once() {
        let shape = VaeShape { dim: 7, hidden: 5, latent: 3 };
        let mut seen = vec![0; shape.parameters()];
        for (name, rows, cols, range) in shape.named() {
            assert_eq!(rows * cols, range.len(), "{name}");
            range.for_each(|i| seen[i] += 1);
        }
        assert!(seen.iter().all(|&n| n == 1));
    }

    #[test]
    fn refuses_settings_out_of_range_by_name() {
        let bad = VaeSettings { beta: f64::NAN, ..VaeSettings::default() };
        assert!(bad.check().unwrap_err().to_string().contains("vae.beta"));
        let bad = VaeSettings { latent: 0, ..VaeSettings::default() };
        assert!(bad.check().unwrap_err().to_string().contains("vae.latent"));
    }
}
