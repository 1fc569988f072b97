//! From embedded preference pairs to a reward model: the method of Tao, Du and Li, "Limited Preference
//! Data? Learning Better Reward Model with Latent Space Synthesis" (NeurIPS 2025, arXiv 2509.26074), as
//! docs/method.md states it. Arrays in, weights and rewards out; no files and no network.
//!
//! Walk through the modules in the order of the paper:
//!
//! 1. [`embedded`]: pairs of embeddings with labels, prompts and views; [`standardise`].
//! 2. [`vae`]: the VAE with a divergence between the two sides of a pair.
//! 3. [`synthesis`]: synthetic responses in its latent space; [`source`]: the same behind one trait with
//!    its rivals.
//! 4. [`pairing`]: which real and synthetic responses are paired.
//! 5. [`head`]: the Bradley-Terry head, an `mlp` or a `logistic` one, with [`folds`];
//!    [`reward_model`]: standardisation and head.
//! 6. [`metrics`] and [`splits`]: how good the result is on held-out pairs.
//! 7. [`order`]: whether synthesis keeps the order of pairs; [`novelty`]: whether a response is like the
//!    seed pairs.
//!
//! [`method`] runs them. Below them lie [`matrix`] (tables of embeddings), [`rng`] (random streams),
//! [`progress`] and [`error`]. [`pair`] has the pairs as text, which other crates embed.
//!
//! ```
//! use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Quiet, Threads, fit};
//!
//! // Embeddings of twenty pairs in three dimensions. The first one tells preferred from rejected.
//! let side = |sign: f32| {
//!     let rows = (0..20).flat_map(|i| [sign + 0.1 * (i % 5) as f32, (i % 3) as f32, (i % 7) as f32]);
//!     Matrix::new(rows.collect(), 20, 3)
//! };
//! let pairs = EmbeddedPairs::new(side(1.0)?, side(-1.0)?)?;
//!
//! // Twice the same head: on the pairs alone, and with four times as many by synthesis.
//! let settings = MethodSettings { augment: 4, ..MethodSettings::default() };
//! let outcome = fit(&pairs, &settings, Threads::ONE, &Quiet)?;
//! let augmented = outcome.augmented.ok_or("augment is more than 1")?;
//!
//! // Rewards of two new responses.
//! let new = Matrix::new(vec![1.0, 1.0, 3.0, -1.0, 1.0, 3.0], 2, 3)?;
//! for model in [outcome.none.model, augmented.fitted.model] {
//!     let rewards = model.rewards(&new, Threads::ONE)?;
//!     assert!(rewards[0] > rewards[1]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
pub use reward_model::{Judged, RewardModel};
pub use standardise::Standardiser;
