//! The head of a reward model: from a standardised embedding to a reward (docs/method.md, step 5).
//!
//! A head is an ensemble of M members, whose mean is the reward. Each member is trained without one
//! fold of the seed pairs, which gives an estimate on unseen pairs without spending any.
//!
//! - `settings`: the settings of both kinds of head ([`HeadSettings`]).
//! - `ensemble`: the ensemble itself, its parameters and its rewards ([`Head`]).
//! - `data`: the training data, and the report of a training ([`HeadData`], [`HeadReport`]).
//! - [`train()`] goes to one of the two kinds of head:
//!   - `mlp`: a small network, trained in steps and stopped early;
//!   - [`logistic`]: a linear head, trained to its optimum.

mod data;
mod ensemble;
mod evaluate;
pub mod logistic;
pub(crate) mod mlp;
mod settings;
mod train;

pub use data::{Augmentation, HeadData, HeadEpoch, HeadReport};
pub use ensemble::{Head, HeadShape, Layer, ensemble_mean};
pub use settings::{Combine, HeadKind, HeadSettings, L2};
pub use train::train;
