//! Figures of merit of evaluation: each formula in a module of its own, with its source.
//!
//! [`kind`] recognises the benchmark of a file; [`Evaluation`] has all figures of a reward model on it,
//! each with the reason where it is absent. [`heldout`] compares the heads of one training.

pub mod accuracy;
pub mod best_of_n;
pub mod calibration;
pub mod controls;
mod evaluation;
pub mod heldout;
pub mod kind;
pub mod length;
pub mod over_optimisation;
pub mod rewardbench;
pub mod rewardbench2;
pub mod rm_bench;
pub mod worst;

pub use evaluation::{Evaluation, Measured, PairData};
pub use kind::{Benchmark, part_of, recognise};

/// Rewards of some pairs: one of each for every pair.
#[derive(Debug, Clone, Copy)]
pub struct ScoredPairs<'a> {
    /// Rewards of the preferred responses.
    pub chosen: &'a [f32],
    /// Rewards of the other responses.
    pub rejected: &'a [f32],
    /// A number for each pair, equal for equal prompts: intervals resample prompts.
    pub prompts: &'a [u32],
    /// Seed of the resampling.
    pub seed: u64,
}

impl ScoredPairs<'_> {
    /// How many pairs.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// r+ - r- of each.
    pub fn margins(&self) -> Vec<f64> {
        let margin = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
        self.chosen.iter().zip(self.rejected).map(margin).collect()
    }
}
