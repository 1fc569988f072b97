//! How good a reward model is, and whether a method helps: figures of benchmarks ([`figures`]),
//! methods compared on several splits ([`study`]), and a page that shows them ([`report`]).
//!
//! No language model and no network: rewards and embeddings come in, figures go out.

pub mod error;
pub mod figures;
pub mod report;
pub mod study;

pub use error::EvalError;
