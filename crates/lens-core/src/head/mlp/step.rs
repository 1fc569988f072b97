//! One step of an ensemble on real and synthetic responses: forward, loss, backward, update.
//!
//! Two identities make augmentation cheap; neither changes the result (docs/method.md, E12, E13).
//!
//! - **Score once.** Every response is scored once, however many comparisons it is in (see
//!   [`super::pair_losses`]).
//! - **Never decode.** With c as the row of one more hidden unit that is always 1, a synthetic
//!   embedding is e = V' u, so that the first layer on it is A e = (A V') u. The h + 1 rows of V go
//!   through the two wide products together with the real embeddings: forward as inputs, backward with
//!   (sum of delta u') as their gradients. The synthetic rows themselves have h + 1 dimensions.
//!
//! A test holds both against the plain computation: decode, materialise every pair, differentiate
//! automatically; in any number of slabs (see `crate::wide`) and chunks.

use super::pair_losses::{Comparison, PairLosses};
use crate::activation::Activation;
use crate::adam::{Adam, AdamSettings};
use crate::bradley_terry::BradleyTerry;
use crate::head::ensemble::{Head, HeadShape, Layer};
use crate::linalg::{Target, Threads, View, add_bias, add_column_sums, matmul, vectorised};
use crate::real::Real;
use crate::vae::Vae;
use crate::wide::{Load, Wide, each};
use std::ops::Range;

/// Fewest responses that are worth a chunk.
const LEAST_ROWS: usize = 128;
/// Most chunks: their number depends on that of the responses alone, so that sums have one order.
const MOST_CHUNKS: usize = 8;

/// The inputs of one step. Rows 0..2B are the real responses (the B chosen, then the B rejected), the
/// rest the synthetic ones: codes, or embeddings that are treated like the real ones.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a, T> {
    /// Number of responses that are there as embeddings, 2B or more.
    pub real: usize,
    /// Gathers columns of their standardised embeddings, [real, columns].
    pub load: Load<'a, T>,
    /// Latent codes of the synthetic responses, [S, l].
    pub codes: &'a [T],
    /// Every comparison of the step.
    pub comparisons: &'a [Comparison],
    /// Whether member m trains on pair b: [M, B].
    pub trains: &'a [bool],
    /// With dropout, what the outputs of each hidden layer are multiplied by, [rows, M * outputs]:
    /// 0 or 1 / (1 - share).
    pub dropout: Option<&'a [Vec<T>]>,
}

/// An ensemble in training: its parameters, their gradients, the optimiser, and the buffers of a
/// step, allocated once.
pub(crate) struct HeadTrainer<'a, T> {
    shape: HeadShape,
    activation: Activation,
    layers: Vec<Layer>,
    /// The VAE of the synthetic responses, where these are latent codes.
    vae: Option<&'a Vae<T>>,
    /// Rows of the decoder that go through the first layer with the real embeddings: h + 1, or 0.
    decoder_rows: usize,
    /// The first layer, [M * w, d].
    wide: Wide<T>,
    /// All other parameters, as they lie behind the wide ones in [`HeadShape`].
    small: Vec<T>,
    small_gradient: Vec<T>,
    small_adam: Adam<T>,
    pair_losses: PairLosses<T>,
    threads: Threads,
    chunks: Vec<Chunk<T>>,
    least_rows: usize,
    /// The first layer's outputs for the decoder's rows, then for the real ones, [h + 1 + 2B, M * w].
    products: Vec<T>,
    /// The gradient by `products`, of the same shape; D of the wide gradient D' X.
    d_products: Vec<T>,
    /// [rows, M].
    rewards: Vec<T>,
    d_rewards: Vec<T>,
}

/// A range of the rows of a step, which one thread takes through all layers but the first.
struct Chunk<T> {
    rows: Range<usize>,
    /// The decoder's hidden layer u of the synthetic rows, with a last column of ones, [s, h + 1].
    units: Vec<T>,
    /// Outputs of each layer, [rows, M * outputs]; hidden ones after the activation.
    outputs: Vec<Vec<T>>,
    /// Gradients by each layer's pre-activations.
    deltas: Vec<Vec<T>>,
    /// This chunk's share of the gradient by the small parameters.
    gradient: Vec<T>,
    /// This chunk's share of the sum of u delta', [h + 1, M * w].
    cross: Vec<T>,
}

/// The data that all chunks of a step share.
struct Shared<'a, T> {
    layers: &'a [Layer],
    members: usize,
    activation: Activation,
    small: &'a [T],
    vae: Option<&'a Vae<T>>,
    decoder_rows: usize,
    batch: Batch<'a, T>,
}

impl<'a, T: Real> HeadTrainer<'a, T> {
    /// Trains `head` in steps of up to `real` embeddings, and synthetic responses of `vae`.
    pub(crate) fn new(
        head: &Head<T>,
        vae: Option<&'a Vae<T>>,
        real: usize,
        threads: Threads,
    ) -> Self {
        let decoder_rows = vae.map_or(0, |v| v.shape().hidden + 1);
        let (d, wide) = (head.shape.dim, &head.parameters[head.layers[0].weights.clone()]);
        let wide = Wide::new(wide, d, decoder_rows + real, threads);
        Self::over(head, vae, wide, MOST_CHUNKS, threads)
    }

    /// The same over so many slabs and chunks.
    #[cfg(test)]
    pub(crate) fn with_slabs(
        head: &Head<T>,
        vae: Option<&'a Vae<T>>,
        real: usize,
        slabs: usize,
    ) -> Self {
        let decoder_rows = vae.map_or(0, |v| v.shape().hidden + 1);
        let (d, wide) = (head.shape.dim, &head.parameters[head.layers[0].weights.clone()]);
        let wide = Wide::with_slabs(wide, d, decoder_rows + real, slabs, Threads(2));
        HeadTrainer { least_rows: 1, ..Self::over(head, vae, wide, slabs, Threads(2)) }
    }

    fn over(
        head: &Head<T>,
        vae: Option<&'a Vae<T>>,
        mut wide: Wide<T>,
        chunks: usize,
        threads: Threads,
    ) -> Self {
        let decoder_rows = vae.map_or(0, |v| v.shape().hidden + 1);
        if let Some(vae) = vae {
            let d = head.shape.dim;
            wide.each(|slab| {
                let rows = vae.decoder_rows().chunks_exact(d);
                for (to, row) in slab.x.chunks_exact_mut(slab.columns.len()).zip(rows) {
                    to.copy_from_slice(&row[slab.columns.clone()]);
                }
            });
        }
        let small = head.parameters[head.layers[0].weights.end..].to_vec();
        let chunk = |_| Chunk {
            rows: 0..0,
            units: Vec::new(),
            outputs: vec![Vec::new(); head.layers.len()],
            deltas: vec![Vec::new(); head.layers.len()],
            gradient: vec![T::ZERO; small.len()],
            cross: Vec::new(),
        };
        HeadTrainer {
            shape: head.shape.clone(),
            activation: head.activation,
            layers: head.layers.clone(),
            vae,
            decoder_rows,
            wide,
            small_gradient: vec![T::ZERO; small.len()],
            small_adam: Adam::new(small.len()),
            pair_losses: PairLosses::new(chunks, threads),
            threads,
            chunks: (0..chunks.max(1)).map(chunk).collect(),
            least_rows: LEAST_ROWS,
            small,
            products: Vec::new(),
            d_products: Vec::new(),
            rewards: Vec::new(),
            d_rewards: Vec::new(),
        }
    }

    /// Writes the parameters as they are now.
    pub(crate) fn write_parameters(&self, out: &mut [T]) {
        let (wide, small) = out.split_at_mut(self.layers[0].weights.end);
        self.wide.write_weights(wide);
        small.copy_from_slice(&self.small);
    }

    /// The gradient of the last step by every parameter.
    #[cfg(test)]
    pub(crate) fn gradient(&self) -> Vec<T> {
        let mut gradient = vec![T::ZERO; self.shape.parameters()];
        let (wide, small) = gradient.split_at_mut(self.layers[0].weights.end);
        self.wide.write_gradient(wide);
        small.copy_from_slice(&self.small_gradient);
        gradient
    }

    /// One step: the mean loss of every member over the comparisons that train it, in `losses` ([M],
    /// 0 where none does), the gradient of their sum and, with `update`, one step of the optimiser
    /// along it; where a loss is not finite nothing is updated.
    pub(crate) fn step(
        &mut self,
        batch: Batch<'_, T>,
        form: BradleyTerry,
        losses: &mut [f64],
        update: Option<AdamSettings>,
    ) {
        let members = self.shape.members;
        let width = members * self.layers[0].outputs;
        let decoder_rows = if batch.codes.is_empty() { 0 } else { self.decoder_rows };
        let synthetic = self.vae.map_or(0, |vae| batch.codes.len() / vae.shape().latent);
        let rows = batch.real + synthetic;

        // The first layer, of the decoder's rows and of the real responses.
        let Batch { real, load, comparisons, trains, .. } = batch;
        let real_from = self.decoder_rows;
        let inputs = real_from - decoder_rows..real_from + real;
        self.wide.each(|slab| {
            let w = slab.width();
            load(slab.columns.clone(), &mut slab.x[real_from * w..(real_from + real) * w]);
            slab.forward(inputs.clone());
        });
        self.products.resize(inputs.len() * width, T::ZERO);
        self.wide.sum(&mut self.products);

        // All other layers, chunk by chunk.
        let shared = Shared {
            layers: &self.layers,
            members,
            activation: self.activation,
            small: &self.small,
            vae: self.vae,
            decoder_rows,
            batch,
        };
        let count = (rows / self.least_rows).clamp(1, self.chunks.len());
        let chunks = &mut self.chunks[..count];
        for (c, chunk) in chunks.iter_mut().enumerate() {
            chunk.rows = c * rows / count..(c + 1) * rows / count;
        }
        let products = &self.products;
        each(chunks, self.threads, |chunk| chunk.forward(&shared, products));

        // The loss.
        self.rewards.clear();
        for chunk in &*chunks {
            self.rewards.extend_from_slice(&chunk.outputs[chunk.outputs.len() - 1]);
        }
        self.d_rewards.resize(rows * members, T::ZERO);
        let (rewards, d_rewards) = (&self.rewards, &mut self.d_rewards);
        self.pair_losses.losses_and_gradients(
            comparisons,
            trains,
            form,
            rewards,
            d_rewards,
            losses,
        );
        if losses.iter().any(|l| !l.is_finite()) {
            return;
        }

        // Back through the layers; the chunks' gradients are added in their order.
        let d_rewards = &self.d_rewards;
        each(chunks, self.threads, |chunk| chunk.backward(&shared, d_rewards));
        self.small_gradient.fill(T::ZERO);
        self.d_products.clear();
        self.d_products.resize(inputs.len() * width, T::ZERO);
        let (top, bottom) = self.d_products.split_at_mut(decoder_rows * width);
        for chunk in &*chunks {
            add(&mut self.small_gradient, &chunk.gradient);
            if decoder_rows > 0 {
                add(top, &chunk.cross);
            }
            let real = chunk.rows.start.min(real)..chunk.rows.end.min(real);
            let len = real.len() * width;
            bottom[real.start * width..][..len].copy_from_slice(&chunk.deltas[0][..len]);
        }

        let d_products = &self.d_products;
        self.wide.each(|slab| {
            slab.backward(d_products, inputs.clone());
            if let Some(settings) = update {
                slab.step(settings);
            }
        });
        if let Some(settings) = update {
            self.small_adam.step(settings, &mut self.small, &self.small_gradient);
        }
    }
}

/// Bias and activation in place, then the one output of every member: `inputs` are [n, M * i],
/// `outputs` [n, M].
#[inline(always)]
fn output_forward<T: Real>(
    activation: Activation,
    inputs: &mut [T],
    bias: &[T],
    weights: &[T],
    i: usize,
    outputs: &mut [T],
) {
    for (row, out) in
        inputs.chunks_exact_mut(bias.len()).zip(outputs.chunks_exact_mut(weights.len() / i))
    {
        row.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
        activation.apply(row);
        for ((x, w), out) in row.chunks_exact(i).zip(weights.chunks_exact(i)).zip(out) {
            // Eight sums, so that the loop vectorises; their order is fixed.
            let mut sums = [T::ZERO; 8];
            let (xs, ws) = (x.chunks_exact(8), w.chunks_exact(8));
            let mut tail = T::ZERO;
            xs.remainder().iter().zip(ws.remainder()).for_each(|(&x, &w)| tail += x * w);
            for (x, w) in xs.zip(ws) {
                sums.iter_mut().zip(x).zip(w).for_each(|((s, &x), &w)| *s += x * w);
            }
            *out = sums.into_iter().fold(tail, |total, s| total + s);
        }
    }
}

/// The gradients that belong to [`output_forward`], whose activated inputs and `deltas`, [n, M], it
/// takes: by the pre-activations, and added to `d_weights` and `d_bias`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // One pass over all of them is the point.
fn output_backward<T: Real>(
    activation: Activation,
    inputs: &[T],
    weights: &[T],
    i: usize,
    deltas: &[T],
    below: &mut [T],
    d_weights: &mut [T],
    d_bias: &mut [T],
) {
    let width = weights.len();
    let rows = inputs.chunks_exact(width).zip(below.chunks_exact_mut(width));
    for ((x, below), delta) in rows.zip(deltas.chunks_exact(width / i)) {
        for (m, &delta) in delta.iter().enumerate() {
            let part = m * i..(m + 1) * i;
            let (x, below) = (&x[part.clone()], &mut below[part.clone()]);
            let (w, dw) = (&weights[part.clone()], &mut d_weights[part]);
            for (((b, dw), &w), &x) in below.iter_mut().zip(dw).zip(w).zip(x) {
                *b = delta * w;
                *dw += delta * x;
            }
        }
        activation.backward(x, below);
        d_bias.iter_mut().zip(&*below).for_each(|(d, &b)| *d += b);
    }
}

fn add<T: Real>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(t, &f)| *t += f);
}

impl<T: Real> Shared<'_, T> {
    /// Outputs of layer `j`, of all members.
    fn width(&self, j: usize) -> usize {
        self.members * self.layers[j].outputs
    }

    /// The place of a range of parameters in the vector of the small ones.
    fn at(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.layers[0].weights.end;
        range.start - start..range.end - start
    }

    /// The weights of layer `j` >= 1, [M, i], where it has one output a member and nothing is dropped
    /// before it: then one pass over its inputs does everything.
    fn only_outputs(&self, j: usize) -> Option<&[T]> {
        let one = self.layers[j].outputs == 1 && self.batch.dropout.is_none();
        one.then(|| &self.small[self.at(&self.layers[j].weights)])
    }

    /// Weights of member `m` in layer `j` >= 1, [o, i], among the small parameters.
    fn weights_of(&self, j: usize, m: usize) -> Range<usize> {
        let Layer { inputs, outputs, weights, .. } = &self.layers[j];
        let start = self.at(weights).start + m * outputs * inputs;
        start..start + outputs * inputs
    }
}

impl<T: Real> Chunk<T> {
    /// Rows of the chunk that are real, and those that are synthetic, each counted from its first.
    fn parts(&self, real: usize) -> (Range<usize>, Range<usize>) {
        let Range { start, end } = self.rows;
        (start.min(real)..end.min(real), start.max(real) - real..end.max(real) - real)
    }

    /// Outputs of every layer. `products` has those of the first layer, for the decoder's rows and the
    /// real rows.
    fn forward(&mut self, shared: &Shared<'_, T>, products: &[T]) {
        let Shared { layers, members, decoder_rows, batch, .. } = *shared;
        let (n, width) = (self.rows.len(), shared.width(0));
        let (real, synthetic) = self.parts(batch.real);
        self.outputs[0].resize(n * width, T::ZERO);
        let (top, bottom) = self.outputs[0].split_at_mut(real.len() * width);
        top.copy_from_slice(
            &products[(decoder_rows + real.start) * width..(decoder_rows + real.end) * width],
        );
        if let (Some(vae), false) = (shared.vae, synthetic.is_empty()) {
            let l = vae.shape().latent;
            self.units.resize(synthetic.len() * decoder_rows, T::ZERO);
            let codes = &batch.codes[synthetic.start * l..synthetic.end * l];
            vae.decoder_units(codes, &mut self.units);
            let units = View::new(&self.units, synthetic.len(), decoder_rows);
            let projected = View::new(products, decoder_rows, width);
            matmul(Target::new(bottom, width), units, projected, T::ONE, false, Threads::ONE);
        }
        for j in 1..layers.len() {
            let Layer { inputs: i, outputs: o, .. } = layers[j];
            let (before, after) = self.outputs.split_at_mut(j);
            let (inputs, outputs) = (&mut before[j - 1], &mut after[0]);
            outputs.resize(n * members * o, T::ZERO);
            let bias = &shared.small[shared.at(&layers[j - 1].bias)];
            if let Some(weights) = shared.only_outputs(j) {
                vectorised(
                    #[inline(always)]
                    || output_forward(shared.activation, inputs, bias, weights, i, outputs),
                );
                continue;
            }
            vectorised(
                #[inline(always)]
                || {
                    add_bias(inputs, bias);
                    shared.activation.apply(inputs);
                },
            );
            if let Some(masks) = batch.dropout {
                let mask = &masks[j - 1][self.rows.start * members * i..];
                inputs.iter_mut().zip(mask).for_each(|(y, &m)| *y = *y * m);
            }
            for m in 0..members {
                let x = View::columns(inputs, n, members * i, m * i, i);
                let w = View::new(&shared.small[shared.weights_of(j, m)], o, i);
                let target = Target::columns(outputs, members * o, m * o);
                matmul(target, x, w.t(), T::ONE, false, Threads::ONE);
            }
        }
    }

    /// Gradients by every layer's pre-activations and by the small parameters, and the sum of
    /// u delta', from the gradient by the rewards.
    fn backward(&mut self, shared: &Shared<'_, T>, d_rewards: &[T]) {
        let Shared { layers, members, decoder_rows, batch, .. } = *shared;
        let n = self.rows.len();
        let last = layers.len() - 1;
        self.deltas[last].clear();
        self.deltas[last]
            .extend_from_slice(&d_rewards[self.rows.start * members..self.rows.end * members]);
        for j in (1..layers.len()).rev() {
            let Layer { inputs: i, outputs: o, .. } = layers[j];
            let inputs = &mut self.outputs[j - 1];
            let (lower, upper) = self.deltas.split_at_mut(j);
            let (below, delta) = (&mut lower[j - 1], &upper[0]);
            below.resize(n * members * i, T::ZERO);
            if let Some(weights) = shared.only_outputs(j) {
                let (at, bias) = (shared.at(&layers[j].weights), shared.at(&layers[j - 1].bias));
                // The weights lie right behind the bias of the layer before.
                let (d_bias, d_weights) =
                    self.gradient[bias.start..at.end].split_at_mut(bias.len());
                d_bias.fill(T::ZERO);
                d_weights.fill(T::ZERO);
                let act = shared.activation;
                vectorised(
                    #[inline(always)]
                    || output_backward(act, inputs, weights, i, delta, below, d_weights, d_bias),
                );
                continue;
            }
            for m in 0..members {
                let delta = View::columns(delta, n, members * o, m * o, o);
                let x = View::columns(&*inputs, n, members * i, m * i, i);
                let at = shared.weights_of(j, m);
                let target = Target::new(&mut self.gradient[at.clone()], i);
                matmul(target, delta.t(), x, T::ONE, false, Threads::ONE);
                let target = Target::columns(below, members * i, m * i);
                let weights = View::new(&shared.small[at], o, i);
                matmul(target, delta, weights, T::ONE, false, Threads::ONE);
            }
            if let Some(masks) = batch.dropout {
                // Back to what the activation gave. Where a unit was left out its gradient is 0.
                let mask = &masks[j - 1][self.rows.start * members * i..];
                for ((y, g), &m) in inputs.iter_mut().zip(below.iter_mut()).zip(mask) {
                    *g = *g * m;
                    if m > T::ZERO {
                        *y = *y / m;
                    }
                }
            }
            let bias = &mut self.gradient[shared.at(&layers[j - 1].bias)];
            bias.fill(T::ZERO);
            vectorised(
                #[inline(always)]
                || {
                    shared.activation.backward(inputs, below);
                    add_column_sums(bias, below, T::ONE);
                },
            );
        }
        if decoder_rows == 0 {
            return;
        }
        let width = shared.width(0);
        let (real, synthetic) = self.parts(batch.real);
        self.cross.resize(decoder_rows * width, T::ZERO);
        let delta = View::new(&self.deltas[0][real.len() * width..], synthetic.len(), width);
        let units = View::new(&self.units, synthetic.len(), decoder_rows);
        matmul(Target::new(&mut self.cross, width), units.t(), delta, T::ONE, false, Threads::ONE);
    }
}
