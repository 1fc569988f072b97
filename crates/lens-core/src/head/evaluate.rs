//! The figures of an ensemble on pairs that it is not trained on.

use super::ensemble::{Head, ensemble_mean};
use crate::bradley_terry;
use crate::embedded::EmbeddedPairs;
use crate::linalg::Threads;
use crate::standardise::Standardiser;

/// Log-loss and accuracy of an ensemble's mean reward on `pairs`, ties left out; `None` where that
/// leaves no pair.
pub(super) fn evaluate(
    head: &Head,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    threads: Threads,
) -> Option<(f64, f64)> {
    let decided: Vec<usize> = (0..pairs.len()).filter(|&i| !pairs.labels[i].is_tie()).collect();
    let members = head.shape.members;
    let (mut loss, mut right) = (0.0, 0.0);
    let mut x = vec![0.0f32; 2 * 512.min(decided.len()) * pairs.dim()];
    for rows in decided.chunks(512) {
        let x = &mut x[..2 * rows.len() * pairs.dim()];
        pairs.gather(standardiser, rows, x, threads);
        let rewards = ensemble_mean(&head.member_rewards(x, threads), members);
        let (chosen, rejected) = rewards.split_at(rows.len());
        for (&a, &b) in chosen.iter().zip(rejected) {
            loss += bradley_terry::loss(f64::from(a) - f64::from(b));
            right += crate::metrics::credit(a, b);
        }
    }
    let n = decided.len() as f64;
    (!decided.is_empty()).then(|| (loss / n, right / n))
}
