//! How good a reward model is, and whether a method helps: figures of benchmarks ([`figures`]),
//! methods compared on several splits ([`study`]), settings chosen on the seeds alone ([`tuning`]).
//!
//! No language model and no network: rewards and embeddings come in, figures go out.

pub mod error;
pub mod figures;
pub mod study;
pub mod tuning;

pub use error::EvalError;

/// Runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
