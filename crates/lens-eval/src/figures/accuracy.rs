//! Pair accuracy: the share of pairs whose preferred response has the higher reward.
//!
//! accuracy = mean over pairs of credit(r+, r-), where credit is 1 for r+ > r-, 0 for r+ < r-, and
//! for equal rewards what the [`TieRule`] says. Intervals come from resampling prompts
//! ([`lens_core::metrics::bootstrap`]), because pairs of one prompt are not independent.

use super::ScoredPairs;
use lens_core::metrics::{Estimate, bootstrap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The credit of a pair with equal rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TieRule {
    /// One half, as a coin would decide: our own tables.
    Half,
    /// Nothing: RewardBench 1.
    Wrong,
    /// 1 / #max, the number of responses at the highest reward: RewardBench 2. Of two responses
    /// that is one half.
    Shared,
}

/// Credit of one pair.
pub fn credit(rule: TieRule, chosen: f32, rejected: f32) -> f64 {
    match lens_core::metrics::credit(chosen, rejected) {
        tied if tied == 0.5 && rule == TieRule::Wrong => 0.0,
        credit => credit,
    }
}

/// [`credit`] of every pair.
pub fn credits(rule: TieRule, pairs: &ScoredPairs<'_>) -> Vec<f64> {
    pairs.chosen.iter().zip(pairs.rejected).map(|(&a, &b)| credit(rule, a, b)).collect()
}

/// Accuracy of some pairs under all three rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Pairs judged.
    pub pairs: usize,
    /// Pairs with equal rewards among these.
    pub tied: usize,
    /// Ties as one half.
    pub half: Estimate,
    /// Ties as wrong (RewardBench 1).
    pub wrong: Estimate,
    /// Ties share the credit (RewardBench 2): of pairs, the same as one half.
    pub shared: Estimate,
}

/// Accuracy with its intervals. `None` when there is no pair.
pub fn accuracy(pairs: &ScoredPairs<'_>) -> Option<Accuracy> {
    let estimate = |rule| {
        let credits = credits(rule, pairs);
        bootstrap(&credits, &vec![1.0; credits.len()], pairs.prompts, pairs.seed)
    };
    let tied = pairs.chosen.iter().zip(pairs.rejected).filter(|(a, b)| a == b).count();
    let half = estimate(TieRule::Half)?;
    // The rules differ in ties only; of pairs, sharing among two is one half.
    let wrong = if tied == 0 { half } else { estimate(TieRule::Wrong)? };
    Some(Accuracy { pairs: pairs.len(), tied, half, wrong, shared: half })
}

/// [`accuracy`] of the pairs of every subset; pairs without a subset are in none.
pub fn by_subset(pairs: &ScoredPairs<'_>, subsets: &[Option<&str>]) -> BTreeMap<String, Accuracy> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, subset) in subsets.iter().enumerate() {
        if let Some(subset) = subset {
            members.entry(subset).or_default().push(i);
        }
    }
    let one = |(name, rows): (&str, Vec<usize>)| {
        let pick = |values: &[f32]| rows.iter().map(|&i| values[i]).collect::<Vec<f32>>();
        let (chosen, rejected) = (pick(pairs.chosen), pick(pairs.rejected));
        let prompts: Vec<u32> = rows.iter().map(|&i| pairs.prompts[i]).collect();
        let part =
            ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &prompts, ..*pairs };
        Some((name.to_owned(), accuracy(&part)?))
    };
    members.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pairs<'a>(chosen: &'a [f32], rejected: &'a [f32], prompts: &'a [u32]) -> ScoredPairs<'a> {
        ScoredPairs { chosen, rejected, prompts, seed: 1 }
    }

    #[test]
    fn by_hand_under_each_rule() {
        // Right, tied, wrong, right.
        let p = pairs(&[2.0, 1.0, 0.0, 5.0], &[1.0, 1.0, 3.0, 4.0], &[0, 1, 2, 3]);
        let a = accuracy(&p).unwrap();
        assert_eq!((a.pairs, a.tied), (4, 1));
        assert_eq!((a.half.value, a.wrong.value, a.shared.value), (2.5 / 4.0, 0.5, 2.5 / 4.0));
        assert!(a.half.ci95[0] < a.half.value && a.half.value < a.half.ci95[1]);
        assert_eq!(accuracy(&pairs(&[], &[], &[])), None);
    }

    #[test]
    fn by_subset_by_hand() {
        let p = pairs(&[2.0, 1.0, 0.0, 5.0], &[1.0, 1.0, 3.0, 4.0], &[0, 1, 2, 3]);
        let found = by_subset(&p, &[Some("a"), Some("a"), Some("b"), None]);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((found["a"].half.value, found["a"].wrong.value), (0.75, 0.5));
        assert_eq!((found["b"].half.value, found["b"].pairs), (0.0, 1));
    }

    proptest! {
        #[test]
        fn swapping_the_sides_is_the_complement_and_order_is_nothing(
            rewards in prop::collection::vec((-3i8..3, -3i8..3), 1..40)
        ) {
            let chosen: Vec<f32> = rewards.iter().map(|r| f32::from(r.0)).collect();
            let rejected: Vec<f32> = rewards.iter().map(|r| f32::from(r.1)).collect();
            let prompts: Vec<u32> = (0..rewards.len() as u32).collect();
            let there = accuracy(&pairs(&chosen, &rejected, &prompts)).unwrap();
            let back = accuracy(&pairs(&rejected, &chosen, &prompts)).unwrap();
            prop_assert!((there.half.value + back.half.value - 1.0).abs() < 1e-12);
            prop_assert!(there.wrong.value <= there.half.value);
            let flip = |v: &[f32]| v.iter().rev().copied().collect::<Vec<f32>>();
            let reversed = accuracy(&pairs(&flip(&chosen), &flip(&rejected), &prompts)).unwrap();
            prop_assert!((there.half.value - reversed.half.value).abs() < 1e-12);
        }
    }
}
