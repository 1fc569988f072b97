//! The formulae of a study: resampling of prompts, p-values, their correction, monotone regression.

use lens_core::metrics::Estimate;
use lens_core::rng::{Purpose, Stream};
use rayon::prelude::*;
use std::sync::Arc;

/// Figures that are a ratio of sums over prompts: of credits to how many there are, say.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// The numerator by prompt.
    pub totals: Vec<f64>,
    /// The denominator by prompt; often the same for many figures.
    pub counts: Arc<Vec<f64>>,
}

impl Ratio {
    /// The figure on the data as they are.
    pub fn value(&self) -> f64 {
        self.totals.iter().sum::<f64>() / self.counts.iter().sum::<f64>()
    }
}

/// Draws of every figure over resamples of prompts, which are the same resamples for all of them,
/// and those that [`lens_core::metrics::bootstrap`] draws with this seed: `[figures][resamples]`.
pub fn resample(figures: &[Ratio], prompts: usize, resamples: usize, seed: u64) -> Vec<Vec<f64>> {
    /// Resamples at a time: enough to keep every figure's numbers at hand for several of them.
    const BLOCK: usize = 32;
    let mut stream = Stream::new(seed, Purpose::Bootstrap, 0);
    let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(resamples); figures.len()];
    if prompts == 0 {
        return draws;
    }
    // Equal counts are added up once.
    let mut below: Vec<&Arc<Vec<f64>>> = Vec::new();
    let which: Vec<usize> = figures
        .iter()
        .map(|f| {
            below.iter().position(|b| Arc::ptr_eq(b, &f.counts)).unwrap_or_else(|| {
                below.push(&f.counts);
                below.len() - 1
            })
        })
        .collect();
    let mut weights = vec![0.0f64; BLOCK * prompts];
    let mut done = 0;
    while done < resamples {
        let block = BLOCK.min(resamples - done);
        let weights = &mut weights[..block * prompts];
        weights.fill(0.0);
        for row in weights.chunks_exact_mut(prompts) {
            for _ in 0..prompts {
                row[stream.below(prompts)] += 1.0;
            }
        }
        let weights = &*weights;
        let sums = |values: &[f64]| -> Vec<f64> {
            weights.chunks_exact(prompts).map(|row| dot(row, values)).collect()
        };
        let below: Vec<Vec<f64>> = below.par_iter().map(|counts| sums(counts)).collect();
        draws.par_iter_mut().zip(figures).zip(&which).for_each(|((draws, figure), &which)| {
            let above = sums(&figure.totals);
            draws.extend(above.iter().zip(&below[which]).map(|(t, n)| t / n));
        });
        done += block;
    }
    draws
}

/// Several sums side by side. Credits are halves and counts whole numbers, so no order of adding
/// changes a digit.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (mut x, mut y) = (a.chunks_exact(8), b.chunks_exact(8));
    for (x, y) in x.by_ref().zip(y.by_ref()) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    let rest: f64 = x.remainder().iter().zip(y.remainder()).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// The value with its 95% interval: the 2.5% and 97.5% quantiles of the draws. `None` where there is
/// no value.
pub fn estimate(value: f64, draws: &[f64]) -> Option<Estimate> {
    let mut draws: Vec<f64> = draws.iter().copied().filter(|x| x.is_finite()).collect();
    if !value.is_finite() || draws.is_empty() {
        return None;
    }
    draws.sort_unstable_by(f64::total_cmp);
    Some(Estimate { value, ci95: [quantile(&draws, 0.025), quantile(&draws, 0.975)] })
}

/// A quantile of sorted draws: the nearest of them.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// Two-sided bootstrap p-value of "the difference is 0": 2 min(P(d <= 0), P(d >= 0)) over the draws,
/// never below 1 / (draws + 1), for more than that they cannot tell, nor above 1.
pub fn p_value(draws: &[f64]) -> f64 {
    let n = draws.iter().filter(|d| d.is_finite()).count() as f64;
    let share = |f: fn(&f64) -> bool| draws.iter().filter(|d| f(d)).count() as f64 / n;
    let p = 2.0 * share(|d| *d <= 0.0).min(share(|d| *d >= 0.0));
    if n == 0.0 { 1.0 } else { p.max(1.0 / (n + 1.0)).min(1.0) }
}

/// Holm's correction of some p-values for being so many: in ascending order the i-th of m (from 1)
/// becomes (m - i + 1) p, at least its predecessor and at most 1. Below alpha then means: the chance
/// of even one false claim among all is below alpha.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut least = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p.len() - rank) as f64 * p[i]).min(1.0);
        corrected[i] = least;
    }
    corrected
}

/// The non-decreasing values nearest to `values` in weighted squares, by pooling adjacent violators.
pub fn isotonic(values: &[f64], weights: &[f64]) -> Vec<f64> {
    // Mean, weight and length of each pool so far.
    let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(values.len());
    for (&value, &weight) in values.iter().zip(weights) {
        let mut pool = (value, weight, 1);
        while let Some(&(mean, weight, length)) = pools.last()
            && mean > pool.0
        {
            pools.pop();
            let sum = weight + pool.1;
            pool = ((mean * weight + pool.0 * pool.1) / sum, sum, length + pool.2);
        }
        pools.push(pool);
    }
    pools.into_iter().flat_map(|(mean, _, length)| std::iter::repeat_n(mean, length)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lens_core::metrics::{RESAMPLES, bootstrap};

    #[test]
    fn holm_by_hand() {
        // Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 as its predecessor, 0.04 x 1 raised to 0.06.
        let corrected = holm(&[0.03, 0.01, 0.04, 0.02]);
        let expected = [0.06, 0.04, 0.06, 0.06];
        assert!(
            corrected.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{corrected:?}"
        );
        assert_eq!(holm(&[0.6, 0.9]), [1.0, 1.0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn isotonic_by_hand() {
        assert_eq!(isotonic(&[1.0, 2.0, 3.0], &[1.0; 3]), [1.0, 2.0, 3.0]);
        // 3 and 2 pool to 2.5, then 1 joins: (3 + 2 + 1) / 3.
        assert_eq!(isotonic(&[3.0, 2.0, 1.0, 4.0], &[1.0; 4]), [2.0, 2.0, 2.0, 4.0]);
        // Weighted: (3 x 1 + 1 x 3) / 4.
        assert_eq!(isotonic(&[0.0, 3.0, 1.0], &[1.0, 1.0, 3.0]), [0.0, 1.5, 1.5]);
    }

    #[test]
    fn p_values_by_hand() {
        // One of ten draws is at or below 0.
        let draws = [-0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
        assert!((p_value(&draws) - 0.2).abs() < 1e-12);
        // None is: ten draws cannot tell less than 1/11.
        assert!((p_value(&draws[1..]) - 0.1).abs() < 1e-12);
        // Draws of 0 count on both sides.
        assert_eq!(p_value(&[0.0; 8]), 1.0);
        assert_eq!(p_value(&[]), 1.0);
    }

    #[test]
    fn the_resamples_are_those_of_the_core() {
        let clusters: Vec<u32> = (0..40).map(|i| i / 2).collect();
        let totals: Vec<f64> = (0..40).map(|i| f64::from(i % 5 < 3) * 2.0).collect();
        let counts: Vec<f64> = (0..40).map(|i| f64::from(i % 3)).collect();
        let core = bootstrap(&totals, &counts, &clusters, 7).unwrap();
        let by_prompt = |v: &[f64]| v.chunks(2).map(|c| c[0] + c[1]).collect::<Vec<f64>>();
        let counts = Arc::new(by_prompt(&counts));
        let figure = Ratio { totals: by_prompt(&totals), counts };
        let both = [figure.clone(), figure.clone()];
        let draws = resample(&both, 20, RESAMPLES, 7);
        assert_eq!(estimate(figure.value(), &draws[1]), Some(core));
        assert_eq!(draws[0], draws[1]);
    }
}
