//! An ensemble of heads: its sizes, its parameters in one flat vector, and its rewards.

use crate::activation::Activation;
use crate::error::CoreError;
use crate::linalg::{Target, Threads, View, add_bias, matmul};
use crate::matrix::MAX_VALUES;
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The sizes of an ensemble of heads, and where its parameters lie in one flat vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadShape {
    /// Width d of an embedding.
    pub dim: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Members of the ensemble.
    pub members: usize,
}

/// One layer of all members: weights [members * outputs, inputs], biases [members * outputs]
/// (none in the last layer: Bradley-Terry does not see a shift).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Inputs of one member.
    pub inputs: usize,
    /// Outputs of one member.
    pub outputs: usize,
    /// The place of the weights in the flat vector.
    pub weights: Range<usize>,
    /// The place of the biases; empty in the last layer.
    pub bias: Range<usize>,
}

impl HeadShape {
    /// The layers, first to last.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::with_capacity(self.hidden.len() + 1);
        let (mut inputs, mut at) = (self.dim, 0);
        for j in 0..=self.hidden.len() {
            let last = j == self.hidden.len();
            let outputs = if last { 1 } else { self.hidden[j] };
            let weights = at..at + self.members * outputs * inputs;
            let bias = weights.end..weights.end + if last { 0 } else { self.members * outputs };
            at = bias.end;
            layers.push(Layer { inputs, outputs, weights, bias });
            inputs = outputs;
        }
        layers
    }

    /// Number of parameters of all members.
    pub fn parameters(&self) -> usize {
        self.layers().last().map_or(0, |l| l.bias.end)
    }

    /// [`HeadShape::parameters`] of sizes from a file: `None` where one is 0, or where no vector
    /// could be so long.
    pub fn checked_parameters(&self) -> Option<usize> {
        let (mut inputs, mut all) = (self.dim, 0usize);
        for &outputs in self.hidden.iter().chain([&1]) {
            let layer = inputs.checked_add(1)?.checked_mul(outputs)?.checked_mul(self.members)?;
            all = all.checked_add(layer).filter(|_| inputs > 0 && layer > 0)?;
            inputs = outputs;
        }
        (all <= MAX_VALUES).then(|| self.parameters())
    }

    /// The parts of the flat vector that belong to member `m`.
    pub(crate) fn member_ranges(&self, m: usize) -> Vec<Range<usize>> {
        let part = |all: &Range<usize>| {
            let size = all.len() / self.members;
            all.start + m * size..all.start + (m + 1) * size
        };
        self.layers().iter().flat_map(|l| [part(&l.weights), part(&l.bias)]).collect()
    }
}

/// An ensemble of heads: its shape, its activation and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Head<T = f32> {
    pub(crate) shape: HeadShape,
    pub(crate) activation: Activation,
    pub(crate) layers: Vec<Layer>,
    pub(crate) parameters: Vec<T>,
}

impl<T: Real> Head<T> {
    /// Fresh weights, uniform within 1 / sqrt(fan-in), each member from a stream of its own.
    pub fn new(shape: HeadShape, activation: Activation, seed: u64) -> Self {
        let layers = shape.layers();
        let mut parameters = vec![T::ZERO; shape.parameters()];
        for m in 0..shape.members {
            let mut stream = Stream::new(seed, Purpose::HeadInit, m as u64);
            for (ranges, layer) in shape.member_ranges(m).chunks_exact(2).zip(&layers) {
                let bound = 1.0 / (layer.inputs as f64).sqrt();
                for range in ranges {
                    for p in &mut parameters[range.clone()] {
                        *p = T::narrow((2.0 * stream.uniform() - 1.0) * bound);
                    }
                }
            }
        }
        Head { shape, activation, layers, parameters }
    }

    /// Given weights, laid out as [`HeadShape::layers`] says.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when their number is not [`HeadShape::parameters`].
    pub fn with_parameters(
        shape: HeadShape,
        activation: Activation,
        parameters: Vec<T>,
    ) -> Result<Self, CoreError> {
        if parameters.len() != shape.parameters() {
            return Err(CoreError::Shape {
                what: "parameters of the head",
                expected: (shape.parameters(), 1),
                found: (parameters.len(), 1),
            });
        }
        let layers = shape.layers();
        Ok(Head { shape, activation, layers, parameters })
    }

    /// Its sizes.
    pub fn shape(&self) -> &HeadShape {
        &self.shape
    }

    /// Its non-linearity.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// All parameters, laid out as [`HeadShape::layers`] says.
    pub fn parameters(&self) -> &[T] {
        &self.parameters
    }

    /// Every member's reward, [n, M], of standardised embeddings `x`, [n, d].
    pub fn member_rewards(&self, x: &[T], threads: Threads) -> Vec<T> {
        let n = x.len() / self.shape.dim;
        let members = self.shape.members;
        let first = &self.layers[0];
        let mut values = vec![T::ZERO; n * members * first.outputs];
        let weights = View::new(
            &self.parameters[first.weights.clone()],
            members * first.outputs,
            first.inputs,
        );
        let target = Target::new(&mut values, members * first.outputs);
        matmul(target, View::new(x, n, self.shape.dim), weights.t(), T::ONE, false, threads);
        for j in 1..self.layers.len() {
            self.finish_layer(j - 1, &mut values);
            let mut next = vec![T::ZERO; n * members * self.layers[j].outputs];
            self.layer_forward(j, &values, &mut next, n, threads);
            values = next;
        }
        values
    }

    /// Adds the bias of hidden layer `j` and applies the activation.
    pub(crate) fn finish_layer(&self, j: usize, values: &mut [T]) {
        add_bias(values, &self.parameters[self.layers[j].bias.clone()]);
        self.activation.apply(values);
    }

    /// Pre-activations of layer `j` >= 1, member by member.
    pub(crate) fn layer_forward(
        &self,
        j: usize,
        inputs: &[T],
        outputs: &mut [T],
        n: usize,
        threads: Threads,
    ) {
        let Layer { inputs: i, outputs: o, weights, .. } = &self.layers[j];
        let members = self.shape.members;
        let weights = &self.parameters[weights.clone()];
        for m in 0..members {
            let x = View::columns(inputs, n, members * i, m * i, *i);
            let w = View::new(&weights[m * o * i..(m + 1) * o * i], *o, *i);
            let target = Target::columns(outputs, members * o, m * o);
            matmul(target, x, w.t(), T::ONE, false, threads);
        }
    }
}

/// Mean over the members, of rewards laid out [n, M].
pub fn ensemble_mean(member_rewards: &[f32], members: usize) -> Vec<f32> {
    member_rewards
        .chunks_exact(members)
        .map(|row| (row.iter().map(|&r| f64::from(r)).sum::<f64>() / members as f64) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_share_nothing_and_cover_everything() {
        let shape = HeadShape { dim: 5, hidden: vec![4, 3], members: 3 };
        let mut seen = vec![0; shape.parameters()];
        for m in 0..3 {
            shape.member_ranges(m).into_iter().flatten().for_each(|i| seen[i] += 1);
        }
        assert!(seen.iter().all(|&n| n == 1));
        assert_eq!(shape.parameters(), 3 * (5 * 4 + 4 + 4 * 3 + 3 + 3));
    }

    #[test]
    fn a_linear_head_is_a_dot_product() {
        let shape = HeadShape { dim: 2, hidden: vec![], members: 2 };
        let head =
            Head::with_parameters(shape, Activation::Relu, vec![1.0f64, 2.0, -1.0, 0.5]).unwrap();
        let rewards = head.member_rewards(&[3.0, 4.0], Threads::ONE);
        assert_eq!(rewards, [11.0, -1.0]);
    }

    #[test]
    fn an_ensemble_scores_as_its_members_do_alone() {
        let shape = HeadShape { dim: 4, hidden: vec![3, 2], members: 3 };
        let head = Head::<f64>::new(shape.clone(), Activation::Tanh, 11);
        let x: Vec<f64> = (0..8).map(|i| (f64::from(i) * 0.9).sin()).collect();
        let together = head.member_rewards(&x, Threads::ONE);
        for m in 0..3 {
            let alone: Vec<f64> = shape
                .member_ranges(m)
                .into_iter()
                .flat_map(|r| head.parameters[r].to_vec())
                .collect();
            let shape = HeadShape { members: 1, ..shape.clone() };
            let alone = Head::with_parameters(shape, Activation::Tanh, alone).unwrap();
            for (i, r) in alone.member_rewards(&x, Threads::ONE).iter().enumerate() {
                assert!((r - together[i * 3 + m]).abs() < 1e-12);
            }
        }
    }
}
