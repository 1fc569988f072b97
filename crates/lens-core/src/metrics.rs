//! Figures of merit, with intervals.
//!
//! Pair accuracy is the mean of 1[r+ > r-]; a tie counts one half here (RewardBench 1 counts it
//! wrong, RewardBench 2 shares the credit; those have evaluations of their own). Intervals are
//! bootstrapped over *prompts*: pairs of one prompt are drawn together, because they are not
//! independent.
//!
//! ```
//! use lens_core::metrics::pair_accuracy;
//!
//! // Three pairs of three prompts: right, right, wrong.
//! let accuracy = pair_accuracy(&[1.0, 2.0, 0.0], &[0.0, 1.0, 3.0], &[0, 1, 2], 0);
//! assert_eq!(accuracy.map(|a| a.value), Some(2.0 / 3.0));
//! ```

use crate::bradley_terry;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Bootstrap resamples behind every interval.
pub const RESAMPLES: usize = 2000;

/// Credit of one pair: 1 if the preferred response has the higher reward, 1/2 for a tie, else 0.
pub fn credit(chosen: f32, rejected: f32) -> f64 {
    match chosen.partial_cmp(&rejected) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    }
}

/// [`credit`] of every pair.
pub fn credits(chosen: &[f32], rejected: &[f32]) -> Vec<f64> {
    chosen.iter().zip(rejected).map(|(&a, &b)| credit(a, b)).collect()
}

/// An estimate with its 95% bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate on the data as it is.
    pub value: f64,
    /// The 2.5% and 97.5% quantiles over resamples.
    pub ci95: [f64; 2],
}

/// The ratio sum(total) / sum(count) over items, with a 95% interval from resampling whole
/// clusters (prompts). With one item a cluster and counts of 1 this is a plain bootstrap mean.
/// `None` when there is no item.
pub fn bootstrap(totals: &[f64], counts: &[f64], clusters: &[u32], seed: u64) -> Option<Estimate> {
    let mut index: HashMap<u32, usize> = HashMap::new();
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for ((&t, &n), &c) in totals.iter().zip(counts).zip(clusters) {
        let i = *index.entry(c).or_insert_with(|| {
            sums.push((0.0, 0.0));
            sums.len() - 1
        });
        sums[i].0 += t;
        sums[i].1 += n;
    }
    let ratio = |items: &mut dyn Iterator<Item = (f64, f64)>| {
        let (t, n) = items.fold((0.0, 0.0), |acc, x| (acc.0 + x.0, acc.1 + x.1));
        t / n
    };
    let value = ratio(&mut sums.iter().copied());
    if !value.is_finite() {
        return None;
    }
    let mut stream = Stream::new(seed, Purpose::Bootstrap, 0);
    let mut draws: Vec<f64> = (0..RESAMPLES)
        .map(|_| ratio(&mut (0..sums.len()).map(|_| sums[stream.below(sums.len())])))
        .filter(|x| x.is_finite())
        .collect();
    draws.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| draws[((draws.len() - 1) as f64 * q).round() as usize];
    Some(Estimate { value, ci95: [quantile(0.025), quantile(0.975)] })
}

/// Accuracy of rewards on held-out pairs, ties as half, with its interval over prompts.
/// `None` when there is no pair.
pub fn pair_accuracy(
    chosen: &[f32],
    rejected: &[f32],
    prompts: &[u32],
    seed: u64,
) -> Option<Estimate> {
    let credits = credits(chosen, rejected);
    bootstrap(&credits, &vec![1.0; credits.len()], prompts, seed)
}

/// Accuracy of preferring the longer response, ties as half: the baseline that many "quality"
/// gains turn out to be. `None` when there is no pair.
pub fn longer_wins(lengths: &[(usize, usize)]) -> Option<f64> {
    if lengths.is_empty() {
        return None;
    }
    let right: f64 = lengths
        .iter()
        .map(|(chosen, rejected)| match chosen.cmp(rejected) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    Some(right / lengths.len() as f64)
}

/// Log-loss of Bradley-Terry on one pair: -log sigmoid(r+ - r-).
pub fn pair_loss(chosen: f32, rejected: f32) -> f64 {
    bradley_terry::loss(f64::from(chosen) - f64::from(rejected))
}

/// Mean log-loss of Bradley-Terry on rewards. `None` when there is no pair.
pub fn log_loss(chosen: &[f32], rejected: &[f32]) -> Option<f64> {
    if chosen.is_empty() {
        return None;
    }
    let sum: f64 = chosen.iter().zip(rejected).map(|(&a, &b)| pair_loss(a, b)).sum();
    Some(sum / chosen.len() as f64)
}

/// 1 / (1 + e^-x): of a difference of rewards, the probability that the first response is preferred
/// (Bradley and Terry). Without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// Mean and population standard deviation, summed in f64. (0, 0) for nothing.
pub fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accuracy_by_hand_ties_as_half() {
        // Right, tie, wrong, right: (1 + 0.5 + 0 + 1) / 4.
        let a = pair_accuracy(&[2.0, 1.0, 0.0, -1.0], &[1.0, 1.0, 3.0, -2.0], &[0, 1, 2, 3], 0);
        assert_eq!(a.unwrap().value, 0.625);
    }

    #[test]
    fn longer_wins_by_hand() {
        assert_eq!(longer_wins(&[(5, 3), (2, 2), (1, 9), (1, 2)]).unwrap(), 0.375);
        assert_eq!(longer_wins(&[]), None);
    }

    #[test]
    fn log_loss_by_hand() {
        // Margins 0 and ln 3: losses ln 2 and -ln(3/4).
        let loss = log_loss(&[1.0, 3.0f32.ln()], &[1.0, 0.0]).unwrap();
        assert!((loss - (2.0f64.ln() + (4.0f64 / 3.0).ln()) / 2.0).abs() < 1e-7, "{loss}");
    }

    #[test]
    fn the_interval_has_the_width_of_the_binomial() {
        // 1,000 prompts, 60% right: standard error sqrt(.6 * .4 / 1000) = 0.0155.
        let right: Vec<f32> = (0..1000).map(|i| if i % 5 < 3 { 1.0 } else { -1.0 }).collect();
        let prompts: Vec<u32> = (0..1000).collect();
        let e = pair_accuracy(&right, &[0.0; 1000], &prompts, 1).unwrap();
        assert!((e.value - 0.6).abs() < 1e-12);
        let half = (e.ci95[1] - e.ci95[0]) / 2.0;
        assert!((0.027..0.034).contains(&half), "{half}");
    }

    #[test]
    fn pairs_of_one_prompt_widen_the_interval() {
        let right: Vec<f32> = (0..1000).map(|i| if i % 500 < 300 { 1.0 } else { -1.0 }).collect();
        let apart: Vec<u32> = (0..1000).collect();
        let together: Vec<u32> = (0..1000).map(|i| i / 10).collect();
        let width = |p: &[u32]| {
            let e = pair_accuracy(&right, &[0.0; 1000], p, 1).unwrap();
            e.ci95[1] - e.ci95[0]
        };
        assert!(width(&together) > 2.0 * width(&apart));
    }

    #[test]
    fn nothing_gives_no_estimate() {
        assert_eq!(pair_accuracy(&[], &[], &[], 0), None);
    }
}
