//! The LENS method in embedding space: a small VAE of language-model embeddings with a divergence
//! between the two sides of a preference pair, synthesis of preference pairs in its latent space,
//! and a Bradley-Terry head trained on real and synthetic pairs (Tao, Du and Li, "Limited
//! Preference Data? Learning Better Reward Model with Latent Space Synthesis", NeurIPS 2025).
//!
//! The modules follow the method: [`matrix`] (embedded pairs, standardisation), [`vae`],
//! [`synthesis`], [`source`] (synthesis and its rivals), [`pairing`], [`head`], and [`method`], which runs them; [`metrics`], [`order`]
//! and [`splits`] say how good the result is. No files, no network: those are other crates'.
//!
//! ```
//! use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Quiet, Threads, fit};
//!
//! // Twenty pairs in three dimensions; the first tells preferred from rejected.
//! let side = |sign: f32| {
//!     (0..20).flat_map(|i| [sign + 0.1 * (i % 5) as f32, (i % 3) as f32, (i % 7) as f32]).collect()
//! };
//! let pairs = EmbeddedPairs::new(Matrix::new(side(1.0), 20, 3)?, Matrix::new(side(-1.0), 20, 3)?)?;
//! let outcome = fit(&pairs, &MethodSettings::default(), Threads::ONE, &Quiet)?;
//! let model = outcome.none.model;
//! let rewards = model.rewards(&Matrix::new(vec![1.0, 1.0, 3.0, -1.0, 1.0, 3.0], 2, 3)?, Threads::ONE)?;
//! assert!(rewards[0] > rewards[1]);
//! # Ok::<(), lens_core::CoreError>(())
//! ```

pub mod activation;
mod adam;
mod bradley_terry;
pub mod embedded;
pub mod error;
pub mod folds;
pub mod head;
mod linalg;
pub mod matrix;
pub mod method;
pub mod metrics;
pub mod novelty;
#[cfg(test)]
mod oracle_tests;
pub mod order;
pub mod pair;
pub mod pairing;
pub mod progress;
pub mod real;
pub mod reward_model;
pub mod rng;
pub mod source;
pub mod splits;
pub mod standardise;
pub mod synthesis;
pub mod vae;
mod wide;

pub use embedded::{EmbeddedPairs, Label};
pub use error::CoreError;
pub use linalg::Threads;
pub use matrix::{Embeddings, Matrix, Rows};
pub use method::{Extras, MethodSettings, Outcome, WarmStart, fit, fit_with};
pub use novelty::Novelty;
pub use pair::{Content, Exchange, Message, PreferencePair};
pub use progress::{Progress, Quiet};
pub use reward_model::RewardModel;
pub use standardise::Standardiser;
