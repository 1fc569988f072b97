//! Bradley-Terry on a batch of seed pairs with their synthetic responses, and its gradient.
//!
//! Two identities make augmentation nearly free; neither changes the result.
//!
//! - **Score once.** The F pair losses of a seed pair need only 2 (1 + k) rewards: rewards are
//!   computed once a response, the loss lives on their differences, and one gradient a *response*
//!   goes back.
//! - **Never decode.** A synthetic embedding is affine in the decoder's last hidden layer,
//!   e = W u + c, so the first layer is A e = (A W) u + A c: A W is formed once a step and the rows
//!   live in h dimensions instead of d. The gradient of A is (sum of delta u') W' + (sum of delta) c'.
//!
//! A test holds both against the plain computation: decode, materialise every pair, differentiate
//! automatically.

use super::{Head, HeadShape};
use crate::linalg::{Target, Threads, View, add_column_sums, matmul};
use crate::real::Real;

/// The decoder's output layer, in which synthetic responses are affine.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'a, T> {
    /// W transposed, [h, d].
    pub weights: &'a [T],
    /// c, [d].
    pub bias: &'a [T],
    /// h.
    pub hidden: usize,
}

/// One comparison: response row `chosen` should beat response row `rejected`. Rows 0..2B are real
/// (the B chosen, then the B rejected), the rest synthetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub chosen: u32,
    pub rejected: u32,
    /// The seed pairs of the batch that the two rows come from: a comparison trains a member only
    /// if neither is held out for it.
    pub pairs: [u32; 2],
}

/// What a step sees.
pub(crate) struct Batch<'a, T> {
    /// Standardised real embeddings, [2B, d].
    pub real: &'a [T],
    /// The decoder's hidden layer of every synthetic response, [S, h].
    pub synthetic: &'a [T],
    /// Needed when there are synthetic responses.
    pub decoder: Option<Decoder<'a, T>>,
    /// Every comparison of the step.
    pub comparisons: &'a [Comparison],
    /// Whether member m trains on pair b: [M, B].
    pub trains: &'a [bool],
}

/// Buffers of one step, allocated once.
pub(crate) struct HeadWorkspace<T> {
    /// Outputs of each layer, [rows, M * outputs]; hidden ones after the activation.
    outputs: Vec<Vec<T>>,
    /// Gradients by each layer's pre-activations.
    deltas: Vec<Vec<T>>,
    /// A W, [M * w, h].
    projected: Vec<T>,
    /// A c, [M * w].
    offset: Vec<T>,
    /// Sum of delta u', [M * w, h].
    cross: Vec<T>,
    /// Sum of delta over synthetic rows, [M * w].
    sums: Vec<T>,
    counts: Vec<usize>,
}

impl<T: Real> HeadWorkspace<T> {
    /// Room for `rows` responses, real and synthetic, and a decoder of `hidden` units.
    pub(crate) fn new(shape: &HeadShape, rows: usize, hidden: usize) -> Self {
        let sizes: Vec<usize> = shape.layers().iter().map(|l| shape.members * l.outputs).collect();
        let buffers = || sizes.iter().map(|s| vec![T::ZERO; rows * s]).collect();
        HeadWorkspace {
            outputs: buffers(),
            deltas: buffers(),
            projected: vec![T::ZERO; sizes[0] * hidden],
            offset: vec![T::ZERO; sizes[0]],
            cross: vec![T::ZERO; sizes[0] * hidden],
            sums: vec![T::ZERO; sizes[0]],
            counts: vec![0; shape.members],
        }
    }
}

impl<T: Real> Head<T> {
    /// Mean Bradley-Terry loss of every member over the comparisons that train it, in `losses`
    /// ([M], 0 where none does); `gradient` is overwritten with the gradient of their sum.
    pub(crate) fn loss_and_gradient(
        &self,
        batch: &Batch<'_, T>,
        label_smoothing: f64,
        ws: &mut HeadWorkspace<T>,
        gradient: &mut [T],
        losses: &mut [f64],
        threads: Threads,
    ) {
        let d = self.shape.dim;
        let members = self.shape.members;
        let real = batch.real.len() / d;
        let synthetic = batch.decoder.map_or(0, |dec| batch.synthetic.len() / dec.hidden);
        let rows = real + synthetic;
        self.forward(batch, real, synthetic, ws, threads);

        let last = self.layers.len() - 1;
        let HeadWorkspace { outputs, deltas, counts, .. } = ws;
        let rewards = &outputs[last][..rows * members];
        let reward_deltas = &mut deltas[last][..rows * members];
        bradley_terry(batch, rewards, label_smoothing, members, reward_deltas, counts, losses);
        self.backward(batch, real, rows, ws, gradient, threads);
    }

    fn forward(
        &self,
        batch: &Batch<'_, T>,
        real: usize,
        synthetic: usize,
        ws: &mut HeadWorkspace<T>,
        threads: Threads,
    ) {
        let d = self.shape.dim;
        let rows = real + synthetic;
        let width = self.shape.members * self.layers[0].outputs;
        let weights = View::new(&self.parameters[self.layers[0].weights.clone()], width, d);
        let first = &mut ws.outputs[0][..rows * width];
        let (top, bottom) = first.split_at_mut(real * width);
        let x = View::new(batch.real, real, d);
        matmul(Target::new(top, width), x, weights.t(), T::ONE, false, threads);
        if let (Some(decoder), true) = (&batch.decoder, synthetic > 0) {
            let h = decoder.hidden;
            let w = View::new(decoder.weights, h, d);
            matmul(Target::new(&mut ws.projected, h), weights, w.t(), T::ONE, false, threads);
            let c = View::new(decoder.bias, d, 1);
            matmul(Target::new(&mut ws.offset, 1), weights, c, T::ONE, false, threads);
            let u = View::new(batch.synthetic, synthetic, h);
            let projected = View::new(&ws.projected, width, h);
            matmul(Target::new(bottom, width), u, projected.t(), T::ONE, false, threads);
            for row in bottom.chunks_exact_mut(width) {
                for (x, &o) in row.iter_mut().zip(&ws.offset) {
                    *x += o;
                }
            }
        }
        for j in 1..self.layers.len() {
            let (before, after) = ws.outputs.split_at_mut(j);
            let inputs = &mut before[j - 1][..rows * self.shape.members * self.layers[j].inputs];
            self.finish_layer(j - 1, inputs);
            let outputs = &mut after[0][..rows * self.shape.members * self.layers[j].outputs];
            self.layer_forward(j, inputs, outputs, rows, threads);
        }
    }

    fn backward(
        &self,
        batch: &Batch<'_, T>,
        real: usize,
        rows: usize,
        ws: &mut HeadWorkspace<T>,
        gradient: &mut [T],
        threads: Threads,
    ) {
        let members = self.shape.members;
        for j in (1..self.layers.len()).rev() {
            let layer = &self.layers[j];
            let (i, o) = (layer.inputs, layer.outputs);
            let inputs = &ws.outputs[j - 1][..rows * members * i];
            let (lower, upper) = ws.deltas.split_at_mut(j);
            let below = &mut lower[j - 1][..rows * members * i];
            let delta = &upper[0][..rows * members * o];
            for m in 0..members {
                let delta = View::columns(delta, rows, members * o, m * o, o);
                let x = View::columns(inputs, rows, members * i, m * i, i);
                let at = layer.weights.start + m * o * i;
                let target = Target::new(&mut gradient[at..at + o * i], i);
                matmul(target, delta.t(), x, T::ONE, false, threads);
                let weights = View::new(&self.parameters[at..at + o * i], o, i);
                let target = Target::columns(below, members * i, m * i);
                matmul(target, delta, weights, T::ONE, false, threads);
            }
            self.activation.backward(inputs, below);
            let bias = &mut gradient[self.layers[j - 1].bias.clone()];
            bias.fill(T::ZERO);
            add_column_sums(bias, below, T::ONE);
        }
        let d = self.shape.dim;
        let width = members * self.layers[0].outputs;
        let (top, bottom) = ws.deltas[0][..rows * width].split_at(real * width);
        let target = &mut gradient[self.layers[0].weights.clone()];
        let x = View::new(batch.real, real, d);
        let delta = View::new(top, real, width);
        matmul(Target::new(target, d), delta.t(), x, T::ONE, false, threads);
        if let (Some(decoder), true) = (&batch.decoder, rows > real) {
            let h = decoder.hidden;
            let delta = View::new(bottom, rows - real, width);
            let u = View::new(batch.synthetic, rows - real, h);
            matmul(Target::new(&mut ws.cross, h), delta.t(), u, T::ONE, false, threads);
            let cross = View::new(&ws.cross, width, h);
            let w = View::new(decoder.weights, h, d);
            matmul(Target::new(target, d), cross, w, T::ONE, true, threads);
            ws.sums.fill(T::ZERO);
            add_column_sums(&mut ws.sums, bottom, T::ONE);
            for (row, &s) in target.chunks_exact_mut(d).zip(&ws.sums) {
                for (g, &c) in row.iter_mut().zip(decoder.bias) {
                    *g += s * c;
                }
            }
        }
    }
}

/// log(1 + e^x) without overflow.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e^-x) without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// The loss on reward differences, and its gradient by every reward.
fn bradley_terry<T: Real>(
    batch: &Batch<'_, T>,
    rewards: &[T],
    smoothing: f64,
    members: usize,
    deltas: &mut [T],
    counts: &mut [usize],
    losses: &mut [f64],
) {
    let pairs = batch.trains.len() / members;
    let trains = |m: usize, c: &Comparison| {
        batch.trains[m * pairs + c.pairs[0] as usize]
            && batch.trains[m * pairs + c.pairs[1] as usize]
    };
    for (m, count) in counts.iter_mut().enumerate() {
        *count = batch.comparisons.iter().filter(|c| trains(m, c)).count();
    }
    deltas.fill(T::ZERO);
    losses.fill(0.0);
    for c in batch.comparisons {
        let (a, b) = (c.chosen as usize * members, c.rejected as usize * members);
        for m in 0..members {
            if !trains(m, c) {
                continue;
            }
            let share = 1.0 / counts[m] as f64;
            let margin = (rewards[a + m] - rewards[b + m]).wide();
            losses[m] +=
                share * ((1.0 - smoothing) * softplus(-margin) + smoothing * softplus(margin));
            let slope = T::of(share * (sigmoid(margin) - (1.0 - smoothing)));
            deltas[a + m] += slope;
            deltas[b + m] -= slope;
        }
    }
}
