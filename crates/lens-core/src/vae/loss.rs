//! The VAE's objective and its gradient.
//!
//! L = mean over pairs of [L(e+) + L(e-)] - gamma * mean W2(q+, q-), with
//! L(e) = |e - g(z)|^2 / d + beta * KL(N(mu, sigma^2) || N(0, I)), z = mu + sigma * eps, and
//! W2 = sqrt(|mu+ - mu-|^2 + |sigma+ - sigma-|^2) (method, step 2).
//!
//! The reconstruction g(z) = V u + c is never formed. Both |e - g|^2 and its gradient need only
//! X V, V'V and U'X, so the inputs X are read twice in a step, once for `X [W | V]` and once for
//! `[dH | U]' X`, where the plain computation reads or writes d-wide rows five times. The result is
//! the same; a test holds it against the plain computation by automatic differentiation.

use super::{LOG_VARIANCE_LIMIT, Vae, VaeShape, add_bias, clamp};
use crate::linalg::{Target, Threads, View, add_column_sums, dot, matmul};
use crate::real::Real;

/// The terms of the objective, each a mean over pairs (the sum of both sides).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VaeLoss {
    /// Squared reconstruction error averaged over dimensions, both sides added.
    pub reconstruction: f64,
    /// KL divergence from N(0, I), both sides added, before beta.
    pub kl: f64,
    /// 2-Wasserstein distance of the two sides, before gamma.
    pub w2: f64,
    /// What is minimised.
    pub total: f64,
}

/// Weights of the terms of the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossWeights {
    /// Of the KL term.
    pub beta: f64,
    /// Of the divergence.
    pub gamma: f64,
}

/// What a step sees.
#[derive(Clone, Copy)]
pub(crate) struct VaeBatch<'a, T> {
    /// Standardised embeddings, [2B, d]: the B chosen, then the B rejected.
    pub x: &'a [T],
    /// Noise of the reparameterisation, [2B, l].
    pub eps: &'a [T],
    /// Which pairs are driven apart, [B]: those of which one side is better.
    pub apart: &'a [bool],
}

/// Buffers of one step, allocated once.
pub(crate) struct VaeWorkspace<T> {
    wide: Vec<T>,
    hidden: Vec<T>,
    moments: Vec<T>,
    sigma: Vec<T>,
    codes: Vec<T>,
    decoder: Vec<T>,
    d_decoder: Vec<T>,
    d_codes: Vec<T>,
    d_moments: Vec<T>,
    d_hidden: Vec<T>,
    d_wide: Vec<T>,
    gram: Vec<T>,
    gram_bias: Vec<T>,
    decoder_gram: Vec<T>,
    decoder_sum: Vec<T>,
}

impl<T: Real> VaeWorkspace<T> {
    /// Room for steps of up to `pairs` pairs.
    pub(crate) fn new(shape: VaeShape, pairs: usize) -> Self {
        let n = 2 * pairs;
        let VaeShape { hidden: h, latent: l, .. } = shape;
        let zeros = |len: usize| vec![T::ZERO; len];
        VaeWorkspace {
            wide: zeros(n * 2 * h),
            hidden: zeros(n * h),
            moments: zeros(n * 2 * l),
            sigma: zeros(n * l),
            codes: zeros(n * l),
            decoder: zeros(n * h),
            d_decoder: zeros(n * h),
            d_codes: zeros(n * l),
            d_moments: zeros(n * 2 * l),
            d_hidden: zeros(n * h),
            d_wide: zeros(n * 2 * h),
            gram: zeros(h * h),
            gram_bias: zeros(h),
            decoder_gram: zeros(h * h),
            decoder_sum: zeros(h),
        }
    }

    /// The posterior means of the last step's `n` responses, a row each of width l.
    pub(crate) fn means(&self, n: usize, latent: usize) -> impl Iterator<Item = &[T]> {
        self.moments[..n * 2 * latent].chunks_exact(2 * latent).map(move |row| &row[..latent])
    }
}

impl<T: Real> Vae<T> {
    /// The objective on one batch; `gradient` is overwritten with its gradient by every parameter.
    pub(crate) fn loss_and_gradient(
        &self,
        batch: VaeBatch<'_, T>,
        weights: LossWeights,
        ws: &mut VaeWorkspace<T>,
        gradient: &mut [T],
        threads: Threads,
    ) -> VaeLoss {
        let VaeBatch { x, eps, apart } = batch;
        let LossWeights { beta, gamma } = weights;
        let shape = self.shape;
        let VaeShape { dim: d, hidden: h, latent: l } = shape;
        let n = x.len() / d;
        let pairs = n / 2;
        let scale = 1.0 / pairs as f64;
        let act = self.activation;
        let decoder_bias = self.decoder_out_bias();

        let wide = &mut ws.wide[..n * 2 * h];
        let hidden = &mut ws.hidden[..n * h];
        let moments = &mut ws.moments[..n * 2 * l];
        let sigma = &mut ws.sigma[..n * l];
        let codes = &mut ws.codes[..n * l];
        let decoder = &mut ws.decoder[..n * h];
        let d_decoder = &mut ws.d_decoder[..n * h];
        let d_codes = &mut ws.d_codes[..n * l];
        let d_moments = &mut ws.d_moments[..n * 2 * l];
        let d_hidden = &mut ws.d_hidden[..n * h];
        let d_wide = &mut ws.d_wide[..n * 2 * h];
        let x_view = View::new(x, n, d);

        // Forward. Columns 0..h of `wide`: encoder pre-activations; h..2h: X V.
        let both = View::new(self.part(shape.wide()), 2 * h, d);
        matmul(Target::new(wide, 2 * h), x_view, both.t(), T::ONE, false, threads);
        for (out, row) in hidden.chunks_exact_mut(h).zip(wide.chunks_exact(2 * h)) {
            out.copy_from_slice(&row[..h]);
        }
        add_bias(hidden, self.part(shape.encoder_bias()));
        act.apply(hidden);
        self.moments_of(hidden, moments, threads);
        for (i, row) in moments.chunks_exact(2 * l).enumerate() {
            for j in 0..l {
                let s = (clamp(row[l + j]) * T::of(0.5)).exp();
                sigma[i * l + j] = s;
                codes[i * l + j] = row[j] + s * eps[i * l + j];
            }
        }
        self.decoder_hidden(codes, decoder, threads);

        // |x - V u - c|^2 = |x|^2 - 2 (u . Vx + x . c) + u'Gu + 2 u . Vc + |c|^2, G = V V'.
        let v = View::new(self.decoder_out(), h, d);
        matmul(Target::new(&mut ws.gram, h), v, v.t(), T::ONE, false, threads);
        let bias_view = View::new(decoder_bias, d, 1);
        matmul(Target::new(&mut ws.gram_bias, 1), v, bias_view, T::ONE, false, threads);
        // d_decoder = G u + Vc - Vx, later scaled: also u . (G u) and its friends are in it.
        let gram = View::new(&ws.gram, h, h);
        let u_view = View::new(&*decoder, n, h);
        matmul(Target::new(d_decoder, h), u_view, gram, T::ONE, false, threads);
        let bias_norm = dot(decoder_bias, decoder_bias);
        let mut reconstruction = 0.0;
        for i in 0..n {
            let (xi, u) = (&x[i * d..(i + 1) * d], &decoder[i * h..(i + 1) * h]);
            let xv = &wide[i * 2 * h + h..(i + 1) * 2 * h];
            let du = &mut d_decoder[i * h..(i + 1) * h];
            let quadratic = dot(u, du) + 2.0 * dot(u, &ws.gram_bias) + bias_norm;
            let cross = dot(u, xv) + dot(xi, decoder_bias);
            // Rounding may leave a tiny negative square where the reconstruction is perfect.
            reconstruction += (dot(xi, xi) - 2.0 * cross + quadratic).max(0.0);
            for ((g, &b), &p) in du.iter_mut().zip(&ws.gram_bias).zip(xv) {
                *g += b - p;
            }
        }
        reconstruction *= scale / d as f64;

        // Backward through the decoder.
        let recon_scale = T::of(2.0 * scale / d as f64);
        for (row, u) in d_wide.chunks_exact_mut(2 * h).zip(decoder.chunks_exact(h)) {
            for (o, &value) in row[h..].iter_mut().zip(u) {
                *o = -(recon_scale * value);
            }
        }
        d_decoder.iter_mut().for_each(|g| *g = *g * recon_scale);
        ws.decoder_sum.fill(T::ZERO);
        add_column_sums(&mut ws.decoder_sum, decoder, T::ONE);
        let target = Target::new(&mut ws.decoder_gram, h);
        matmul(target, u_view.t(), u_view, T::ONE, false, threads);
        act.backward(decoder, d_decoder);
        let dz_view = View::new(&*d_decoder, n, h);
        let target = Target::new(&mut gradient[shape.decoder_in()], l);
        matmul(target, dz_view.t(), View::new(codes, n, l), T::ONE, false, threads);
        gradient[shape.decoder_in_bias()].fill(T::ZERO);
        add_column_sums(&mut gradient[shape.decoder_in_bias()], d_decoder, T::ONE);
        let decoder_in = View::new(self.part(shape.decoder_in()), h, l);
        matmul(Target::new(d_codes, l), dz_view, decoder_in, T::ONE, false, threads);

        // Moments: reconstruction through z, then KL, then the divergence of each pair.
        let (mut kl, mut w2) = (0.0, 0.0);
        let kl_scale = T::of(scale * beta);
        let half = T::of(0.5);
        for i in 0..n {
            for j in 0..l {
                let (mu, raw) = (moments[i * 2 * l + j], moments[i * 2 * l + l + j]);
                let (lv, s, dz) = (clamp(raw), sigma[i * l + j], d_codes[i * l + j]);
                kl += 0.5 * ((mu * mu + s * s - T::ONE - lv).wide());
                d_moments[i * 2 * l + j] = dz + kl_scale * mu;
                d_moments[i * 2 * l + l + j] =
                    dz * eps[i * l + j] * s * half + kl_scale * half * (s * s - T::ONE);
            }
        }
        let gamma_scale = gamma * scale;
        for p in (0..pairs).filter(|&p| apart[p]) {
            let (a, b) = (p, p + pairs);
            let mut square = 0.0;
            for j in 0..l {
                square += (moments[a * 2 * l + j] - moments[b * 2 * l + j]).wide().powi(2)
                    + (sigma[a * l + j] - sigma[b * l + j]).wide().powi(2);
            }
            let distance = square.sqrt();
            w2 += distance;
            // At distance 0 the gradient is taken as 0, one of its subgradients.
            if distance > 1e-12 {
                let pull = T::of(gamma_scale / distance);
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
        let limit = T::of(LOG_VARIANCE_LIMIT);
        for (row, d_row) in moments.chunks_exact(2 * l).zip(d_moments.chunks_exact_mut(2 * l)) {
            for j in l..2 * l {
                if row[j] > limit || row[j] < -limit {
                    d_row[j] = T::ZERO;
                }
            }
        }

        // Backward through the encoder.
        let dm_view = View::new(&*d_moments, n, 2 * l);
        let target = Target::new(&mut gradient[shape.moments()], h);
        matmul(target, dm_view.t(), View::new(hidden, n, h), T::ONE, false, threads);
        gradient[shape.moments_bias()].fill(T::ZERO);
        add_column_sums(&mut gradient[shape.moments_bias()], d_moments, T::ONE);
        let moments_weights = View::new(self.part(shape.moments()), 2 * l, h);
        matmul(Target::new(d_hidden, h), dm_view, moments_weights, T::ONE, false, threads);
        act.backward(hidden, d_hidden);
        gradient[shape.encoder_bias()].fill(T::ZERO);
        add_column_sums(&mut gradient[shape.encoder_bias()], d_hidden, T::ONE);
        for (row, dh) in d_wide.chunks_exact_mut(2 * h).zip(d_hidden.chunks_exact(h)) {
            row[..h].copy_from_slice(dh);
        }

        // The two wide gradients in one pass over X, then what does not involve X.
        let dw_view = View::new(&*d_wide, n, 2 * h);
        let target = Target::new(&mut gradient[shape.wide()], d);
        matmul(target, dw_view.t(), x_view, T::ONE, false, threads);
        let target = Target::new(&mut gradient[shape.decoder_out()], d);
        let decoder_gram = View::new(&ws.decoder_gram, h, h);
        matmul(target, decoder_gram, v, recon_scale, true, threads);
        for (j, row) in gradient[shape.decoder_out()].chunks_exact_mut(d).enumerate() {
            let factor = recon_scale * ws.decoder_sum[j];
            for (g, &c) in row.iter_mut().zip(decoder_bias) {
                *g += factor * c;
            }
        }
        let d_bias = &mut gradient[shape.decoder_out_bias()];
        let count = T::of(n as f64);
        let sum_view = View::new(&ws.decoder_sum, 1, h);
        matmul(Target::new(d_bias, d), sum_view, v, recon_scale, false, threads);
        for (g, &c) in d_bias.iter_mut().zip(decoder_bias) {
            *g += recon_scale * count * c;
        }
        add_column_sums(d_bias, x, -recon_scale);

        kl *= scale;
        w2 *= scale;
        let total = reconstruction + beta * kl - gamma * w2;
        VaeLoss { reconstruction, kl, w2, total }
    }
}
