//! The VAE's objective and its gradient.
//!
//! L = mean over pairs of [L(e+) + L(e-)] - gamma * mean W2(q+, q-), with
//! L(e) = |e - g(z)|^2 / d + beta * KL(N(mu, sigma^2) || N(0, I)), z = mu + sigma * eps, and
//! W2 = sqrt(|mu+ - mu-|^2 + |sigma+ - sigma-|^2) (docs/method.md, step 2).
//!
//! The reconstruction is never formed. With c as the row of one more hidden unit that is always 1,
//! g(z) = V' u, and both |e - g|^2 and its gradient need only X V', V V' and U' X: the inputs X are
//! read twice in a step, once for `X [W | V]'` and once for `[dH | U]' X`, where the plain computation
//! reads or writes d-wide rows five times. The result is the same; a test holds it against the plain
//! computation by automatic differentiation, in any number of slabs (see `crate::wide`).

use super::{LOG_VARIANCE_LIMIT, Vae, VaeShape, clamp};
use crate::activation::Activation;
use crate::adam::{Adam, AdamSettings};
use crate::linalg::{Target, Threads, View, add_bias, add_column_sums, dot, matmul};
use crate::real::Real;
use crate::wide::{Load, Wide};
use std::ops::Range;

/// The terms of the objective, each a mean over pairs (the sum of both sides).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VaeLoss {
    /// Squared reconstruction error averaged over dimensions, both sides added.
    pub reconstruction: f64,
    /// KL divergence from N(0, I), both sides added, before beta.
    pub kl: f64,
    /// 2-Wasserstein distance of the two sides, before gamma.
    pub w2: f64,
    /// The objective, which is minimised.
    pub total: f64,
}

/// Weights of the terms of the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossWeights {
    /// Weight of the KL term.
    pub beta: f64,
    /// Weight of the divergence.
    pub gamma: f64,
    /// Bound b on the divergence of a pair, b W2 / (b + W2); infinite for W2 itself.
    pub bound: f64,
}

/// The inputs of one step.
#[derive(Clone, Copy)]
pub(crate) struct VaeBatch<'a, T> {
    /// Number B of pairs.
    pub pairs: usize,
    /// Gathers columns of the standardised embeddings, [2B, columns]: the B chosen, then the B
    /// rejected.
    pub load: Load<'a, T>,
    /// Noise of the reparameterisation, [2B, l].
    pub eps: &'a [T],
    /// Which pairs are driven apart, [B]: those that are no ties.
    pub apart: &'a [bool],
}

/// A VAE in training: its parameters, their gradients, the optimiser, and the buffers of a step,
/// allocated once.
pub(crate) struct VaeTrainer<T> {
    shape: VaeShape,
    activation: Activation,
    /// Encoder weights, decoder weights and decoder bias, [2h + 1, d].
    wide: Wide<T>,
    /// All other parameters, as they lie behind the wide ones in [`VaeShape`].
    small: Vec<T>,
    small_gradient: Vec<T>,
    small_adam: Adam<T>,
    /// X [W | V]', [n, 2h + 1].
    products: Vec<T>,
    hidden: Vec<T>,
    moments: Vec<T>,
    sigma: Vec<T>,
    codes: Vec<T>,
    /// The decoder's hidden layer u, with a last column of ones, [n, h + 1].
    decoder: Vec<T>,
    d_decoder: Vec<T>,
    d_codes: Vec<T>,
    d_moments: Vec<T>,
    d_hidden: Vec<T>,
    /// The gradient by `products`, [n, 2h + 1]; D of the wide gradient D' X.
    d_products: Vec<T>,
    /// V V', [h + 1, h + 1].
    gram: Vec<T>,
    /// U' U, [h + 1, h + 1].
    decoder_gram: Vec<T>,
}

impl<T: Real> VaeTrainer<T> {
    /// Trains `vae` in steps of up to `pairs` pairs.
    pub(crate) fn new(vae: &Vae<T>, pairs: usize, threads: Threads) -> Self {
        let d = vae.shape.dim;
        let wide = &vae.parameters[..wide_len(vae.shape)];
        Self::over(vae, Wide::new(wide, d, 2 * pairs, threads), pairs)
    }

    /// The same over so many slabs.
    #[cfg(test)]
    pub(crate) fn with_slabs(vae: &Vae<T>, pairs: usize, slabs: usize) -> Self {
        let d = vae.shape.dim;
        let wide = &vae.parameters[..wide_len(vae.shape)];
        Self::over(vae, Wide::with_slabs(wide, d, 2 * pairs, slabs, Threads::ONE), pairs)
    }

    fn over(vae: &Vae<T>, wide: Wide<T>, pairs: usize) -> Self {
        let n = 2 * pairs;
        let VaeShape { hidden: h, latent: l, .. } = vae.shape;
        let zeros = |len: usize| vec![T::ZERO; len];
        let small = vae.parameters[wide_len(vae.shape)..].to_vec();
        VaeTrainer {
            shape: vae.shape,
            activation: vae.activation,
            small_gradient: zeros(small.len()),
            small_adam: Adam::new(small.len()),
            small,
            products: zeros(n * (2 * h + 1)),
            wide,
            hidden: zeros(n * h),
            moments: zeros(n * 2 * l),
            sigma: zeros(n * l),
            codes: zeros(n * l),
            decoder: zeros(n * (h + 1)),
            d_decoder: zeros(n * (h + 1)),
            d_codes: zeros(n * l),
            d_moments: zeros(n * 2 * l),
            d_hidden: zeros(n * h),
            d_products: zeros(n * (2 * h + 1)),
            gram: zeros((h + 1) * (h + 1)),
            decoder_gram: zeros((h + 1) * (h + 1)),
        }
    }

    /// The VAE as it is now.
    pub(crate) fn vae(&self) -> Vae<T> {
        let mut parameters = vec![T::ZERO; self.shape.parameters()];
        let (wide, small) = parameters.split_at_mut(wide_len(self.shape));
        self.wide.write_weights(wide);
        small.copy_from_slice(&self.small);
        Vae { shape: self.shape, activation: self.activation, parameters }
    }

    /// The gradient of the last step by every parameter.
    #[cfg(test)]
    pub(crate) fn gradient(&self) -> Vec<T> {
        let mut gradient = vec![T::ZERO; self.shape.parameters()];
        let (wide, small) = gradient.split_at_mut(wide_len(self.shape));
        self.wide.write_gradient(wide);
        small.copy_from_slice(&self.small_gradient);
        gradient
    }

    /// The posterior means of the last step's `n` responses, a row each of width l.
    pub(crate) fn means(&self, n: usize) -> impl Iterator<Item = &[T]> {
        let l = self.shape.latent;
        self.moments[..n * 2 * l].chunks_exact(2 * l).map(move |row| &row[..l])
    }

    /// One step: the objective and its gradient on a batch and, with `update`, one step of the
    /// optimiser along it; where the objective is not finite nothing is updated.
    pub(crate) fn step(
        &mut self,
        batch: VaeBatch<'_, T>,
        weights: LossWeights,
        update: Option<AdamSettings>,
    ) -> VaeLoss {
        let n = 2 * batch.pairs;
        self.forward_wide(n, batch.load);
        let reconstruction = self.forward(n, batch.eps);
        let (kl, w2, divergence) = self.backward(n, batch, weights);
        let LossWeights { beta, gamma, .. } = weights;
        let total = reconstruction + beta * kl - gamma * divergence;
        if total.is_finite() {
            self.backward_wide(n, update);
        }
        VaeLoss { reconstruction, kl, w2, total }
    }

    /// X [W | V]', |x|^2 and V V'.
    fn forward_wide(&mut self, n: usize, load: Load<'_, T>) {
        let h = self.shape.hidden;
        self.wide.each(|slab| {
            let w = slab.width();
            load(slab.columns.clone(), &mut slab.x[..n * w]);
            slab.forward(0..n);
            slab.squares.clear();
            slab.squares.extend(slab.x[..n * w].chunks_exact(w).map(|row| dot(row, row)));
            slab.gram.resize((h + 1) * (h + 1), T::ZERO);
            let v = View::new(&slab.weights[h * w..], h + 1, w);
            let target = Target::new(&mut slab.gram, h + 1);
            matmul(target, v, v.t(), T::ONE, false, Threads::ONE);
        });
        self.wide.sum(&mut self.products[..n * (2 * h + 1)]);
        self.gram.fill(T::ZERO);
        for slab in &self.wide.slabs {
            self.gram.iter_mut().zip(&slab.gram).for_each(|(g, &s)| *g += s);
        }
    }

    /// Everything between the two wide products: posterior, codes z = mu + sigma * eps, the decoder's
    /// hidden layer, and the reconstruction error, which it returns:
    /// |x - V' u|^2 = |x|^2 - 2 u . Vx + u' V V' u.
    fn forward(&mut self, n: usize, eps: &[T]) -> f64 {
        let VaeShape { dim: d, hidden: h, latent: l } = self.shape;
        let (u, r, one) = (h + 1, 2 * h + 1, Threads::ONE);
        let part = |range: Range<usize>| &self.small[small(self.shape, range)];
        let hidden = &mut self.hidden[..n * h];
        for (out, row) in hidden.chunks_exact_mut(h).zip(self.products.chunks_exact(r)) {
            out.copy_from_slice(&row[..h]);
        }
        add_bias(hidden, part(self.shape.encoder_bias()));
        self.activation.apply(hidden);

        let moments = &mut self.moments[..n * 2 * l];
        let weights = View::new(part(self.shape.moments()), 2 * l, h);
        let hidden = View::new(&*hidden, n, h);
        matmul(Target::new(moments, 2 * l), hidden, weights.t(), T::ONE, false, one);
        add_bias(moments, part(self.shape.moments_bias()));
        for (i, row) in moments.chunks_exact(2 * l).enumerate() {
            for j in 0..l {
                let s = (clamp(row[l + j]) * T::narrow(0.5)).exp();
                self.sigma[i * l + j] = s;
                self.codes[i * l + j] = row[j] + s * eps[i * l + j];
            }
        }

        let decoder = &mut self.decoder[..n * u];
        let weights = View::new(part(self.shape.decoder_in()), h, l);
        let codes = View::new(&self.codes, n, l);
        matmul(Target::new(decoder, u), codes, weights.t(), T::ONE, false, one);
        let bias = part(self.shape.decoder_in_bias());
        for row in decoder.chunks_exact_mut(u) {
            let (units, last) = row.split_at_mut(h);
            units.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
            self.activation.apply(units);
            last[0] = T::ONE;
        }

        // V V' u of every response, from which V x is taken away: the gradient by u, but for a factor.
        let d_decoder = &mut self.d_decoder[..n * u];
        let (units, gram) = (View::new(&*decoder, n, u), View::new(&self.gram, u, u));
        matmul(Target::new(d_decoder, u), units, gram, T::ONE, false, one);
        let mut error = 0.0;
        let products = self.products.chunks_exact(r).map(|row| &row[h..]);
        let rows = decoder.chunks_exact(u).zip(d_decoder.chunks_exact_mut(u)).zip(products);
        for (i, ((units, du), vx)) in rows.enumerate() {
            let square: f64 = self.wide.slabs.iter().map(|slab| slab.squares[i]).sum();
            // Rounding may leave a tiny negative square where the reconstruction is perfect.
            error += (square - 2.0 * dot(units, vx) + dot(units, du)).max(0.0);
            du.iter_mut().zip(vx).for_each(|(g, &p)| *g -= p);
        }
        2.0 * error / (n * d) as f64
    }

    /// The gradients by all but the wide parameters, and what the wide ones are formed with. Returns
    /// the mean KL, the mean W2, and the mean of what gamma multiplies: W2, bounded or not.
    fn backward(
        &mut self,
        n: usize,
        batch: VaeBatch<'_, T>,
        weights: LossWeights,
    ) -> (f64, f64, f64) {
        let scale = 1.0 / batch.pairs as f64;
        self.backward_decoder(n, scale);
        let kl = self.backward_posterior(n, batch.eps, scale * weights.beta);
        let (w2, divergence) = self.backward_divergence(batch, weights, scale);
        self.backward_encoder(n);
        (kl * scale, w2 * scale, divergence * scale)
    }

    /// The gradients by the decoder's hidden layer and by the codes, and what those by its output
    /// weights are formed with. The output bias is the weight of a unit that is always 1.
    fn backward_decoder(&mut self, n: usize, scale: f64) {
        let shape = self.shape;
        let VaeShape { dim: d, hidden: h, latent: l } = shape;
        let (u, r, one) = (h + 1, 2 * h + 1, Threads::ONE);
        let recon_scale = T::narrow(2.0 * scale / d as f64);
        let at = |range: Range<usize>| small(shape, range);
        let gradient = &mut self.small_gradient;
        let decoder = &self.decoder[..n * u];
        let rows = self.d_products.chunks_exact_mut(r).zip(decoder.chunks_exact(u));
        for (row, units) in rows {
            for (o, &value) in row[h..].iter_mut().zip(units) {
                *o = -(recon_scale * value);
            }
        }
        let units = View::new(decoder, n, u);
        let target = Target::new(&mut self.decoder_gram, u);
        matmul(target, units.t(), units, recon_scale, false, one);
        let d_decoder = &mut self.d_decoder[..n * u];
        gradient[at(shape.decoder_in_bias())].fill(T::ZERO);
        for (du, units) in d_decoder.chunks_exact_mut(u).zip(decoder.chunks_exact(u)) {
            du.iter_mut().for_each(|g| *g = *g * recon_scale);
            self.activation.backward(&units[..h], &mut du[..h]);
            let bias = &mut gradient[at(shape.decoder_in_bias())];
            bias.iter_mut().zip(&*du).for_each(|(b, &g)| *b += g);
        }
        let dz = View::columns(&*d_decoder, n, u, 0, h);
        let target = Target::new(&mut gradient[at(shape.decoder_in())], l);
        matmul(target, dz.t(), View::new(&self.codes, n, l), T::ONE, false, one);
        let decoder_in = View::new(&self.small[at(shape.decoder_in())], h, l);
        let d_codes = &mut self.d_codes[..n * l];
        matmul(Target::new(d_codes, l), dz, decoder_in, T::ONE, false, one);
    }

    /// The gradient by mu and log sigma^2 of the reconstruction, through the codes, and of the KL
    /// divergence, whose sum it returns.
    fn backward_posterior(&mut self, n: usize, eps: &[T], kl_weight: f64) -> f64 {
        let l = self.shape.latent;
        let (moments, sigma) = (&self.moments[..n * 2 * l], &self.sigma[..n * l]);
        let (d_codes, d_moments) = (&self.d_codes[..n * l], &mut self.d_moments[..n * 2 * l]);
        let mut kl = 0.0;
        let (kl_weight, half) = (T::narrow(kl_weight), T::narrow(0.5));
        for i in 0..n {
            for j in 0..l {
                let (mu, raw) = (moments[i * 2 * l + j], moments[i * 2 * l + l + j]);
                let (lv, s, dz) = (clamp(raw), sigma[i * l + j], d_codes[i * l + j]);
                kl += kl_from_standard_normal(mu, s, lv);
                d_moments[i * 2 * l + j] = dz + kl_weight * mu;
                d_moments[i * 2 * l + l + j] =
                    dz * eps[i * l + j] * s * half + kl_weight * half * (s * s - T::ONE);
            }
        }
        kl
    }

    /// Takes the gradient of gamma times the divergence of each pair from that by mu and
    /// log sigma^2. Returns the sum of W2 and of the divergence, over pairs that are no ties.
    fn backward_divergence(
        &mut self,
        batch: VaeBatch<'_, T>,
        LossWeights { gamma, bound, .. }: LossWeights,
        scale: f64,
    ) -> (f64, f64) {
        let l = self.shape.latent;
        let VaeBatch { pairs, apart, .. } = batch;
        let (moments, sigma) = (&self.moments[..], &self.sigma[..]);
        let d_moments = &mut self.d_moments[..];
        let (mut w2, mut divergence) = (0.0, 0.0);
        let half = T::narrow(0.5);
        let gamma_scale = gamma * scale;
        for p in (0..pairs).filter(|&p| apart[p]) {
            let (a, b) = (p, p + pairs);
            let mean = |i: usize| &moments[i * 2 * l..i * 2 * l + l];
            let deviation = |i: usize| &sigma[i * l..(i + 1) * l];
            let distance = wasserstein2(mean(a), deviation(a), mean(b), deviation(b));
            w2 += distance;
            // b / (b + W2): what the bound leaves of W2; its square is the slope by W2.
            let share = if bound.is_finite() { bound / (bound + distance) } else { 1.0 };
            divergence += share * distance;
            // At distance 0 the gradient is taken as 0, one of its subgradients.
            if distance > 1e-12 {
                let pull = T::narrow(gamma_scale * share * share / distance);
                for j in 0..l {
                    let by_mu = pull * (moments[a * 2 * l + j] - moments[b * 2 * l + j]);
                    let (sa, sb) = (sigma[a * l + j], sigma[b * l + j]);
                    let by_sigma = pull * (sa - sb);
                    d_moments[a * 2 * l + j] -= by_mu;
                    d_moments[b * 2 * l + j] += by_mu;
                    d_moments[a * 2 * l + l + j] -= by_sigma * sa * half;
                    d_moments[b * 2 * l + l + j] += by_sigma * sb * half;
                }
            }
        }
        (w2, divergence)
    }

    /// The gradients by the encoder. Where log sigma^2 is clamped its gradient is 0.
    fn backward_encoder(&mut self, n: usize) {
        let shape = self.shape;
        let VaeShape { hidden: h, latent: l, .. } = shape;
        let (r, one) = (2 * h + 1, Threads::ONE);
        let at = |range: Range<usize>| small(shape, range);
        let gradient = &mut self.small_gradient;
        let d_moments = &mut self.d_moments[..n * 2 * l];
        let limit = T::narrow(LOG_VARIANCE_LIMIT);
        let moments = self.moments[..n * 2 * l].chunks_exact(2 * l);
        for (row, d_row) in moments.zip(d_moments.chunks_exact_mut(2 * l)) {
            for j in l..2 * l {
                if row[j] > limit || row[j] < -limit {
                    d_row[j] = T::ZERO;
                }
            }
        }
        let hidden = &self.hidden[..n * h];
        let dm = View::new(&*d_moments, n, 2 * l);
        let target = Target::new(&mut gradient[at(shape.moments())], h);
        matmul(target, dm.t(), View::new(hidden, n, h), T::ONE, false, one);
        gradient[at(shape.moments_bias())].fill(T::ZERO);
        add_column_sums(&mut gradient[at(shape.moments_bias())], d_moments, T::ONE);
        let weights = View::new(&self.small[at(shape.moments())], 2 * l, h);
        let d_hidden = &mut self.d_hidden[..n * h];
        matmul(Target::new(d_hidden, h), dm, weights, T::ONE, false, one);
        self.activation.backward(hidden, d_hidden);
        gradient[at(shape.encoder_bias())].fill(T::ZERO);
        add_column_sums(&mut gradient[at(shape.encoder_bias())], d_hidden, T::ONE);
        for (row, dh) in self.d_products.chunks_exact_mut(r).zip(d_hidden.chunks_exact(h)) {
            row[..h].copy_from_slice(dh);
        }
    }

    /// The wide gradients, `[dH | -U]' X` and `U'U V`, and the optimiser's step.
    fn backward_wide(&mut self, n: usize, update: Option<AdamSettings>) {
        let h = self.shape.hidden;
        let (products, gram) = (&self.d_products[..n * (2 * h + 1)], &self.decoder_gram);
        self.wide.each(|slab| {
            slab.backward(products, 0..n);
            let w = slab.width();
            let (gram, v) =
                (View::new(gram, h + 1, h + 1), View::new(&slab.weights[h * w..], h + 1, w));
            let target = Target::new(&mut slab.gradient[h * w..], w);
            matmul(target, gram, v, T::ONE, true, Threads::ONE);
            if let Some(settings) = update {
                slab.step(settings);
            }
        });
        if let Some(settings) = update {
            self.small_adam.step(settings, &mut self.small, &self.small_gradient);
        }
    }
}

/// W2, the 2-Wasserstein distance of two Gaussians with diagonal covariance, from their means and
/// standard deviations, `[l]` each:
///
/// W2 = sqrt(|mu_a - mu_b|^2 + |sigma_a - sigma_b|^2).
pub(crate) fn wasserstein2<T: Real>(mu_a: &[T], sigma_a: &[T], mu_b: &[T], sigma_b: &[T]) -> f64 {
    let mut square = 0.0;
    for j in 0..mu_a.len() {
        square += (mu_a[j] - mu_b[j]).widen().powi(2) + (sigma_a[j] - sigma_b[j]).widen().powi(2);
    }
    square.sqrt()
}

/// KL(N(mu, sigma^2) || N(0, 1)) of one latent: (mu^2 + sigma^2 - 1 - log sigma^2) / 2.
fn kl_from_standard_normal<T: Real>(mu: T, sigma: T, log_variance: T) -> f64 {
    0.5 * ((mu * mu + sigma * sigma - T::ONE - log_variance).widen())
}

/// Number of wide parameters: encoder weights, decoder weights and decoder bias, [2h + 1, d].
fn wide_len(shape: VaeShape) -> usize {
    shape.decoder_out_bias().end
}

/// The place of a range of parameters in the vector of the small ones.
fn small(shape: VaeShape, range: Range<usize>) -> Range<usize> {
    range.start - wide_len(shape)..range.end - wide_len(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means (3, 0) and (0, 4), deviations (1, 2) and (1, 14): sqrt(3^2 + 4^2 + 12^2) = 13.
    #[test]
    fn wasserstein2_by_hand() {
        let w2 = wasserstein2(&[3.0, 0.0], &[1.0, 2.0], &[0.0, 4.0], &[1.0, 14.0]);
        assert_eq!(w2, 13.0);
        assert_eq!(wasserstein2(&[0.5f32; 3], &[2.0; 3], &[0.5; 3], &[2.0; 3]), 0.0);
    }

    #[test]
    fn kl_by_hand() {
        assert_eq!(kl_from_standard_normal(0.0f64, 1.0, 0.0), 0.0);
        // N(2, 4): (4 + 4 - 1 - ln 4) / 2.
        let kl = kl_from_standard_normal(2.0f64, 2.0, 4.0f64.ln());
        assert!((kl - (7.0 - 4.0f64.ln()) / 2.0).abs() < 1e-12, "{kl}");
    }
}
