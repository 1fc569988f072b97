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
//! What is asked of a pair depends on its label. With the reward difference D of the two sides:
//!
//! - preferred: -log sigmoid(D), or with label smoothing s its mixture with -log sigmoid(-D);
//! - preferred by a margin m: the same of D - m (Touvron et al. 2023), and of -D - m;
//! - in data with ties, where t is half the width of the tie (Rao and Kupper 1967): preferred is
//!   sigmoid(D - t), a tie sigmoid(D + t) - sigmoid(D - t).
//!
//! A test holds both identities against the plain computation: decode, materialise every pair, differentiate
//! automatically.

use super::{Head, HeadShape};
use crate::embedded::Label;
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    pub chosen: u32,
    pub rejected: u32,
    /// The seed pairs of the batch that the two rows come from: a comparison trains a member only
    /// if neither is held out for it.
    pub pairs: [u32; 2],
    /// Which side should win, and by how much.
    pub label: Label,
}

/// What is fixed of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossForm {
    /// Share of the labels taken to be wrong.
    pub smoothing: f64,
    /// t, 0 where the data has no ties.
    pub tie_threshold: f64,
}

impl LossForm {
    /// The loss of one reward difference, and its derivative.
    fn of(&self, difference: f64, label: Label) -> (f64, f64) {
        let t = self.tie_threshold;
        match label {
            Label::Preferred { margin } => {
                let ask = f64::from(margin) + t;
                let (right, wrong) = (difference - ask, -difference - ask);
                let s = self.smoothing;
                let mut loss = (1.0 - s) * softplus(-right);
                let mut slope = (1.0 - s) * (sigmoid(right) - 1.0);
                if s > 0.0 {
                    loss += s * softplus(-wrong);
                    slope += s * (1.0 - sigmoid(wrong));
                }
                (loss, slope)
            }
            // sigmoid(x) - sigmoid(y) = sigmoid(x) sigmoid(-y) (1 - e^(y - x)), which keeps the
            // logarithm exact where both are close to 1.
            Label::Tie => {
                let (upper, lower) = (difference + t, difference - t);
                let loss = softplus(-upper) + softplus(lower) - (-(-2.0 * t).exp_m1()).ln();
                (loss, sigmoid(upper) - 1.0 + sigmoid(lower))
            }
        }
    }
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
    /// With dropout, what the outputs of each hidden layer are multiplied by, [rows, M * outputs]:
    /// 0 or 1 / (1 - share).
    pub dropout: Option<&'a [Vec<T>]>,
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
        form: LossForm,
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
        bradley_terry(batch, rewards, form, members, reward_deltas, counts, losses);
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
            if let Some(masks) = batch.dropout {
                inputs.iter_mut().zip(&masks[j - 1]).for_each(|(y, &m)| *y = *y * m);
            }
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
            let inputs = &mut ws.outputs[j - 1][..rows * members * i];
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
            if let Some(masks) = batch.dropout {
                // Back to what the activation gave. Where a unit was left out its gradient is 0.
                for ((y, g), &m) in inputs.iter_mut().zip(below.iter_mut()).zip(&masks[j - 1]) {
                    *g = *g * m;
                    if m > T::ZERO {
                        *y = *y / m;
                    }
                }
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
    form: LossForm,
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
            let (loss, slope) = form.of((rewards[a + m] - rewards[b + m]).wide(), c.label);
            losses[m] += share * loss;
            let slope = T::of(share * slope);
            deltas[a + m] += slope;
            deltas[b + m] -= slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred(margin: f32) -> Label {
        Label::Preferred { margin }
    }

    /// -ln sigmoid(0.7) = ln(1 + e^-0.7) = 0.403186..
    #[test]
    fn losses_by_hand() {
        let plain = LossForm { smoothing: 0.0, tie_threshold: 0.0 };
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        close(plain.of(0.7, preferred(0.0)).0, (1.0 + (-0.7f64).exp()).ln());
        close(plain.of(0.7, preferred(0.5)).0, (1.0 + (-0.7f64 + 0.5).exp()).ln());
        let smooth = LossForm { smoothing: 0.1, ..plain };
        let by_hand = 0.9 * (1.0 + (-0.7f64).exp()).ln() + 0.1 * (1.0 + 0.7f64.exp()).ln();
        close(smooth.of(0.7, preferred(0.0)).0, by_hand);
    }

    #[test]
    fn win_tie_and_loss_are_all_that_can_happen() {
        let form = LossForm { smoothing: 0.0, tie_threshold: 0.5 };
        for difference in [-30.0, -2.0, -0.1, 0.0, 0.6, 5.0, 30.0] {
            let likelihood = |d: f64, label| (-form.of(d, label).0).exp();
            let win = likelihood(difference, preferred(0.0));
            let lose = likelihood(-difference, preferred(0.0));
            let tie = likelihood(difference, Label::Tie);
            assert!((win + lose + tie - 1.0).abs() < 1e-12, "{win} {lose} {tie}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        for (smoothing, tie_threshold) in [(0.0, 0.0), (0.2, 0.0), (0.1, 0.7)] {
            let form = LossForm { smoothing, tie_threshold };
            let labels = [preferred(0.0), preferred(1.5), Label::Tie];
            for label in labels.into_iter().filter(|l| !l.is_tie() || tie_threshold > 0.0) {
                for at in [-3.0, -0.4, 0.0, 0.9, 4.0] {
                    let numeric =
                        (form.of(at + 1e-6, label).0 - form.of(at - 1e-6, label).0) / 2e-6;
                    assert!((form.of(at, label).1 - numeric).abs() < 1e-8, "{label:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn extreme_differences_stay_finite() {
        let form = LossForm { smoothing: 0.1, tie_threshold: 0.5 };
        for label in [preferred(0.0), preferred(1e30), Label::Tie] {
            for at in [-1e30, -800.0, 800.0, 1e30] {
                let (loss, slope) = form.of(at, label);
                assert!(loss.is_finite() && slope.is_finite() && slope.abs() <= 1.0 + 1e-12);
            }
        }
    }
}
