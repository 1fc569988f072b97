//! The reward model proper: small heads from an embedding to a reward (method, step 5).
//!
//! An ensemble of M members is trained together: their first layers are one [M w, d] matrix, so
//! that the data is read once for all of them. Each member is stopped early on a fold of its own,
//! which also gives an estimate on unseen pairs without spending any. The reward is the members'
//! mean.
//!
//! - `loss`: what is asked of each pair.
//! - `batches`: what each minibatch consists of; `step`: what is done with it.
//! - [`folds`]: which pairs are held out from which member, and when a member stops.
//! - [`train`]: the training loop.
//! - [`logistic`]: the other kind of head, linear and trained to its optimum.

mod batches;
pub mod folds;
pub mod logistic;
pub(crate) mod loss;
pub(crate) mod step;
pub mod train;

use crate::activation::Activation;
use crate::error::{CoreError, require};
use crate::linalg::{Target, Threads, View, matmul};
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use crate::vae::add_bias;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// A small network, trained in steps and stopped early. The default.
    #[default]
    Mlp,
    /// Logistic regression on the difference of the two responses: linear, trained to its optimum,
    /// its penalty chosen on folds. Of the settings below it knows `members`, `folds`, `l2`,
    /// `combine`, and those of the labels.
    Logistic,
}

impl HeadKind {
    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            HeadKind::Mlp => "mlp",
            HeadKind::Logistic => "logistic",
        }
    }
}

/// How a logistic head looks at several views side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// One head on all of them, each made as wide as the others. The default.
    #[default]
    Joint,
    /// A head on each, with a penalty of its own; rewards are added with weights of at least 0,
    /// fitted on the folds.
    Stacked,
}

/// The weight of a logistic head's penalty, l2 / 2 |w|^2, against the sum of the losses.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum L2 {
    /// Chosen among [`logistic::PENALTIES`] by the log-loss on the folds. The default.
    #[default]
    #[serde(with = "auto_name")]
    Auto,
    /// This.
    Weight(f64),
}

/// `"auto"`, in an untagged enum.
mod auto_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("auto")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        match String::deserialize(from)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor `auto`"))),
        }
    }
}

/// Settings of the head, all ours (O).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// What it is. Defaults to `mlp`.
    pub kind: HeadKind,
    /// With `logistic`, the weight of its penalty. Defaults to `auto`.
    pub l2: L2,
    /// With `logistic`, how several views are combined. Defaults to `joint`.
    pub combine: Combine,
    /// Widths of the hidden layers; empty for a linear head. Defaults to one layer of 64.
    pub hidden: Vec<usize>,
    /// Non-linearity of the hidden layers. Defaults to ReLU.
    pub activation: Activation,
    /// Members of the ensemble. Defaults to 5.
    pub members: usize,
    /// Folds of the prompts; member m is stopped early on fold m modulo this. 1 holds nothing out:
    /// every pair trains every member in every epoch. Defaults to 5.
    pub folds: usize,
    /// Most passes over the seed pairs. Defaults to 60.
    pub epochs: usize,
    /// Passes without a better log-loss on its fold after which a member is done. Defaults to 8.
    pub patience: usize,
    /// Seed pairs in a step; every step covers all combinations of its seed pairs. Defaults to 128.
    pub batch: usize,
    /// Adam's learning rate. Defaults to 0.0003.
    pub learning_rate: f64,
    /// Decoupled weight decay. Defaults to 0.3.
    pub weight_decay: f64,
    /// Share of the hidden units that are left out, others for every response and step. Defaults
    /// to 0.
    pub dropout: f64,
    /// Share of the labels taken to be wrong, smoothing the loss. Defaults to 0.
    pub label_smoothing: f64,
    /// What the margins of the data are multiplied by: the reward difference of a pair is asked to
    /// exceed the result (Touvron et al. 2023, as in TRL). 0 ignores margins. Defaults to 1.
    pub margin_weight: f64,
    /// Where the data has ties: the reward difference within which a tie is the likeliest answer is
    /// of this order (ln theta of Rao and Kupper 1967). Defaults to 0.5.
    pub tie_threshold: f64,
}

impl Default for HeadSettings {
    fn default() -> Self {
        HeadSettings {
            kind: HeadKind::Mlp,
            l2: L2::Auto,
            combine: Combine::Joint,
            hidden: vec![64],
            activation: Activation::Relu,
            members: 5,
            folds: 5,
            epochs: 60,
            patience: 8,
            batch: 128,
            learning_rate: 3e-4,
            weight_decay: 0.3,
            dropout: 0.0,
            label_smoothing: 0.0,
            margin_weight: 1.0,
            tie_threshold: 0.5,
        }
    }
}

impl HeadSettings {
    /// Widths of the hidden layers of such a head.
    pub fn layers(&self) -> &[usize] {
        match self.kind {
            HeadKind::Mlp => &self.hidden,
            HeadKind::Logistic => &[],
        }
    }

    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        if let L2::Weight(l2) = self.l2 {
            let permitted = "`auto`, or a positive number";
            require(l2.is_finite() && l2 > 0.0, "head.l2", l2, permitted)?;
        }
        require(
            self.kind == HeadKind::Mlp || self.folds > 1 || self.l2 != L2::Auto,
            "head.l2",
            "auto",
            "a number where head.folds is 1: nothing is held out to choose by",
        )?;
        let widths = format!("{:?}", self.hidden);
        require(
            self.hidden.len() <= 16 && self.hidden.iter().all(|w| (1..=65_536).contains(w)),
            "head.hidden",
            widths,
            "at most 16 widths from 1 to 65536",
        )?;
        require((1..=256).contains(&self.members), "head.members", self.members, "from 1 to 256")?;
        require((1..=1000).contains(&self.folds), "head.folds", self.folds, "from 1 to 1000")?;
        require(self.epochs >= 1, "head.epochs", self.epochs, "at least 1")?;
        require(self.patience >= 1, "head.patience", self.patience, "at least 1")?;
        require(self.batch >= 1, "head.batch", self.batch, "at least 1")?;
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.0,
            "head.learning_rate",
            self.learning_rate,
            "a positive number",
        )?;
        require(
            self.weight_decay >= 0.0 && self.weight_decay * self.learning_rate < 1.0,
            "head.weight_decay",
            self.weight_decay,
            "at least 0 and below 1 / head.learning_rate",
        )?;
        require(
            (0.0..1.0).contains(&self.dropout),
            "head.dropout",
            self.dropout,
            "at least 0 and below 1",
        )?;
        require(
            self.margin_weight.is_finite() && self.margin_weight >= 0.0,
            "head.margin_weight",
            self.margin_weight,
            "a finite number of at least 0",
        )?;
        require(
            self.tie_threshold.is_finite() && self.tie_threshold > 0.0,
            "head.tie_threshold",
            self.tie_threshold,
            "a positive number",
        )?;
        require(
            (0.0..0.5).contains(&self.label_smoothing),
            "head.label_smoothing",
            self.label_smoothing,
            "at least 0 and below 0.5",
        )
    }
}

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
    /// Where the weights lie.
    pub weights: Range<usize>,
    /// Where the biases lie; empty in the last layer.
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

    /// The parts of the flat vector that belong to member `m`.
    pub(crate) fn of_member(&self, m: usize) -> Vec<Range<usize>> {
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
            for (ranges, layer) in shape.of_member(m).chunks_exact(2).zip(&layers) {
                let bound = 1.0 / (layer.inputs as f64).sqrt();
                for range in ranges {
                    for p in &mut parameters[range.clone()] {
                        *p = T::of((2.0 * stream.uniform() - 1.0) * bound);
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
            shape.of_member(m).into_iter().flatten().for_each(|i| seen[i] += 1);
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
            let alone: Vec<f64> =
                shape.of_member(m).into_iter().flat_map(|r| head.parameters[r].to_vec()).collect();
            let shape = HeadShape { members: 1, ..shape.clone() };
            let alone = Head::with_parameters(shape, Activation::Tanh, alone).unwrap();
            for (i, r) in alone.member_rewards(&x, Threads::ONE).iter().enumerate() {
                assert!((r - together[i * 3 + m]).abs() < 1e-12);
            }
        }
    }
}
