//! Which real and synthetic responses are paired (docs/method.md, step 4; the paper's equation 8).
//!
//! A seed pair has 1 + k preferred and 1 + k rejected responses, of which number 0 is the real one. F
//! of their combinations are kept: the real pair always, the others drawn without replacement.
//!
//! ```
//! use lens_core::pairing::{combinations, synthetic_per_side};
//!
//! // Factor 4: one synthetic response a side, and all four combinations.
//! assert_eq!(synthetic_per_side(4), 1);
//! let copies: Vec<_> = combinations(4, 0, 0).iter().map(|c| (c.chosen, c.rejected)).collect();
//! assert_eq!(copies, [(0, 0), (0, 1), (1, 0), (1, 1)]);
//! ```

use crate::error::{CoreError, require};
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Which seed pair the rejected response of a combination comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// The same seed pair ("up to 4x per original triplet"). The default.
    #[default]
    Within,
    /// Any seed pair of the same step: the other reading of equation 8. The original pair is kept.
    Across,
}

/// Largest augmentation factor.
pub const MAX_FACTOR: usize = 4096;

/// Checks an augmentation factor.
///
/// # Errors
/// [`CoreError::Setting`] unless it is from 1 to [`MAX_FACTOR`].
pub fn check_factor(factor: usize) -> Result<(), CoreError> {
    require((1..=MAX_FACTOR).contains(&factor), "augment", factor, "from 1 to 4096")
}

/// k = ceil(sqrt(F)) - 1: synthetic responses a side for an augmentation factor F.
pub fn synthetic_per_side(factor: usize) -> usize {
    let mut side = 1;
    while side * side < factor {
        side += 1;
    }
    side - 1
}

/// One combination: copy `chosen` of the preferred side meets copy `rejected` of the other side.
/// Copy 0 is the real response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Combination {
    /// Which copy of the preferred response, 0..=k.
    pub chosen: u16,
    /// Which copy of the rejected response, 0..=k.
    pub rejected: u16,
}

/// The F combinations of seed pair `pair`: the original first, the rest a draw without replacement
/// from the other (1 + k)^2 - 1.
pub fn combinations(factor: usize, seed: u64, pair: usize) -> Vec<Combination> {
    let side = synthetic_per_side(factor) + 1;
    let mut cells: Vec<usize> = (1..side * side).collect();
    if factor < side * side {
        let mut stream = Stream::new(seed, Purpose::Pairing, pair as u64);
        stream.shuffle(&mut cells);
        cells.truncate(factor - 1);
        cells.sort_unstable();
    }
    std::iter::once(0)
        .chain(cells)
        .map(|cell| Combination { chosen: (cell / side) as u16, rejected: (cell % side) as u16 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_synthetic_response_a_side_turns_a_pair_into_four() {
        assert_eq!(synthetic_per_side(4), 1);
        let all: HashSet<_> = combinations(4, 0, 0).into_iter().collect();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn k_follows_the_factor() {
        let k: Vec<usize> = [1, 2, 4, 8, 16, 32, 64].map(synthetic_per_side).to_vec();
        assert_eq!(k, [0, 1, 1, 2, 3, 5, 7]);
    }

    #[test]
    fn every_factor_gives_that_many_different_pairs_with_the_original_first() {
        for factor in 1..=70 {
            let pairs = combinations(factor, 7, 3);
            assert_eq!(pairs[0], Combination { chosen: 0, rejected: 0 });
            assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), factor);
            let k = synthetic_per_side(factor) as u16;
            assert!(pairs.iter().all(|p| p.chosen <= k && p.rejected <= k));
        }
    }

    #[test]
    fn factors_out_of_range_are_refused() {
        assert!(check_factor(0).is_err());
        assert!(check_factor(MAX_FACTOR + 1).is_err());
        assert!(check_factor(64).is_ok());
    }
}
