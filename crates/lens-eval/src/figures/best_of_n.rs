//! Best-of-n: the judge's (gold) score of the response that the reward model (proxy) picks of n.
//!
//! Of N scored responses sorted by proxy, g_(1) .. g_(N), the expected gold score of the pick among
//! n drawn without replacement is, without bias (Nakano et al., arXiv 2112.09332, appendix I):
//!
//! R_n = sum over i = n .. N of C(i-1, n-1) / C(N, n) g_(i).
//!
//! The weights come from the recurrence w_N = n/N, w_(i-1) = w_i (i-n)/(i-1): products of numbers
//! between 0 and 1, which neither overflow nor cancel. Responses with equal proxies are picked among
//! at random: each has the mean gold score of its equals, which is the average over their orders.
//!
//! R_1 is the mean of all (random choice), R_N the gold score of the highest proxy. The oracle is the
//! same with the gold score as proxy, for the same n. The normalised gain of n is
//! (R_n - random) / (oracle_n - random), each a mean over prompts: 0 for chance, 1 for the judge.
//! KL of best-of-n to the policy: ln n - (n-1)/n.
//!
//! Prompts count alike, and are what the intervals resample. With several N, n goes up to the
//! smallest; every R_n uses all N of its prompt.

use crate::error::EvalError;
use lens_core::metrics::{Estimate, bootstrap};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

use super::over_optimisation::{Fit, fit};

/// The responses to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The line of the prompt, for errors.
    pub line: u64,
    /// The judge's score of each response.
    pub gold: Vec<f64>,
    /// The model's reward of each.
    pub proxy: Vec<f32>,
}

/// Best-of-n on some prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestOfN {
    /// Prompts.
    pub prompts: usize,
    /// Responses to all of them.
    pub responses: usize,
    /// The largest n.
    pub n: usize,
    /// Prompts with more responses than n.
    pub prompts_with_more: usize,
    /// Prompts whose responses all have one gold score, where nothing can be won or lost.
    pub prompts_without_choice: usize,
    /// Mean gold score of a response, the mean of prompts.
    pub random: Estimate,
    /// A point for every n from 1.
    pub curve: Vec<Point>,
    /// Over-optimisation: R_n - random = d (a - b d) with d = sqrt(KL).
    pub fit: Option<Fit>,
    /// Why there is no fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_fit: Option<String>,
    /// Share of the pairs of responses with different gold scores that the rewards order alike, ties
    /// as half.
    pub pair_accuracy: Estimate,
    /// How many pairs these are.
    pub pairs: usize,
}

/// Best of n.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How many are chosen from.
    pub n: usize,
    /// ln n - (n-1)/n.
    pub kl: f64,
    /// Mean gold score of the pick.
    pub gold: f64,
    /// Mean gold score of the judge's own pick.
    pub oracle: f64,
    /// Gold score of the pick with its interval over prompts, for n up to 32, powers of two and the
    /// largest.
    pub interval: Option<[f64; 2]>,
    /// (gold - random) / (oracle - random), with its interval where there is one; none for n = 1.
    pub gain: Option<Estimate>,
}

/// KL divergence of best-of-n from the policy, in nats.
pub fn kl(n: usize) -> f64 {
    let n = n as f64;
    n.ln() - (n - 1.0) / n
}

/// Gold scores in ascending order of the proxy, where equals have the mean of their gold scores.
pub fn by_proxy(gold: &[f64], proxy: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..gold.len()).collect();
    order.sort_by(|&a, &b| proxy(a).total_cmp(&proxy(b)));
    let mut sorted = Vec::with_capacity(gold.len());
    for equals in order.chunk_by(|&a, &b| proxy(a) == proxy(b)) {
        let mean = equals.iter().map(|&i| gold[i]).sum::<f64>() / equals.len() as f64;
        sorted.extend(std::iter::repeat_n(mean, equals.len()));
    }
    sorted
}

/// R_n of gold scores in ascending order of the proxy; `n` from 1 to their number.
pub fn expected_best(sorted: &[f64], n: usize) -> f64 {
    let total = sorted.len();
    let mut weight = n as f64 / total as f64;
    let mut sum = 0.0;
    for i in (n..=total).rev() {
        sum += weight * sorted[i - 1];
        if i > n {
            weight *= (i - n) as f64 / (i - 1) as f64;
        }
    }
    sum
}

/// Best-of-n for every n up to `asked`, or up to the smallest number of responses to a prompt.
///
/// # Errors
/// [`EvalError::NoRows`] without a prompt, [`EvalError::OneResponse`], [`EvalError::TooFewResponses`],
/// [`EvalError::NotFinite`], and [`EvalError::NothingToChoose`] where no prompt has two gold scores.
pub fn best_of_n(
    prompts: &[Scored],
    asked: Option<usize>,
    seed: u64,
    file: &Path,
) -> Result<BestOfN, EvalError> {
    let smallest = check(prompts, asked, file)?;
    let n = asked.unwrap_or(smallest).clamp(1, smallest);
    let sorted: Vec<[Vec<f64>; 2]> = prompts
        .iter()
        .map(|p| [by_proxy(&p.gold, |i| f64::from(p.proxy[i])), by_proxy(&p.gold, |i| p.gold[i])])
        .collect();
    let clusters: Vec<u32> = (0..prompts.len() as u32).collect();
    let ones = vec![1.0; prompts.len()];
    let estimate = |totals: &[f64], counts: &[f64]| bootstrap(totals, counts, &clusters, seed);
    let mean_of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let random_of: Vec<f64> = prompts.iter().map(|p| mean_of(&p.gold)).collect();
    let point = |k: usize| {
        let golds: Vec<f64> = sorted.iter().map(|[proxy, _]| expected_best(proxy, k)).collect();
        let oracles: Vec<f64> = sorted.iter().map(|[_, gold]| expected_best(gold, k)).collect();
        let minus = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&random_of).map(|(value, random)| value - random).collect()
        };
        let (gold, oracle) = (mean_of(&golds), mean_of(&oracles));
        let shown = k <= 32 || k.is_power_of_two() || k == n;
        Point {
            n: k,
            kl: kl(k),
            gold,
            oracle,
            interval: if shown { estimate(&golds, &ones).map(|e| e.ci95) } else { None },
            gain: if shown && k > 1 { estimate(&minus(&golds), &minus(&oracles)) } else { None },
        }
    };
    let curve: Vec<Point> = (1..=n).into_par_iter().map(point).collect();
    let random = estimate(&random_of, &ones).ok_or_else(|| no_rows(file))?;
    let (right, pairs) = ordered_pairs(prompts);
    let pair_accuracy = estimate(&right, &pairs).ok_or_else(|| nothing(prompts, file))?;
    let points: Vec<(f64, f64)> =
        curve.iter().map(|p| (p.kl.sqrt(), p.gold - random.value)).collect();
    let fit = fit(&points);
    Ok(BestOfN {
        prompts: prompts.len(),
        responses: prompts.iter().map(|p| p.gold.len()).sum(),
        n,
        prompts_with_more: prompts.iter().filter(|p| p.gold.len() > n).count(),
        prompts_without_choice: prompts.iter().filter(|p| !has_choice(p)).count(),
        random,
        curve,
        no_fit: fit.is_none().then(|| "a curve of two coefficients needs n of at least 3".into()),
        fit,
        pair_accuracy,
        pairs: pairs.iter().sum::<f64>() as usize,
    })
}

/// The smallest number of responses to a prompt, if every prompt is fit for best-of-n.
///
/// # Errors
/// Those of [`best_of_n`].
pub fn check(prompts: &[Scored], asked: Option<usize>, file: &Path) -> Result<usize, EvalError> {
    let fewest = prompts.iter().min_by_key(|p| p.gold.len()).ok_or_else(|| no_rows(file))?;
    if fewest.gold.len() < 2 {
        return Err(EvalError::OneResponse {
            file: file.to_owned(),
            line: fewest.line,
            prompts: prompts.iter().filter(|p| p.gold.len() < 2).count(),
        });
    }
    if let Some(n) = asked.filter(|&n| n > fewest.gold.len()) {
        let found = fewest.gold.len();
        let (file, line) = (file.to_owned(), fewest.line);
        return Err(EvalError::TooFewResponses { file, line, found, asked: n });
    }
    for p in prompts {
        let finite = p.gold.iter().all(|g| g.is_finite()) && p.proxy.iter().all(|r| r.is_finite());
        if !finite || p.gold.len() != p.proxy.len() {
            return Err(EvalError::NotFinite { file: file.to_owned(), line: p.line });
        }
    }
    if !prompts.iter().any(has_choice) {
        return Err(nothing(prompts, file));
    }
    Ok(fewest.gold.len())
}

fn no_rows(file: &Path) -> EvalError {
    EvalError::NoRows { file: file.to_owned(), what: "prompt with scored responses" }
}

fn nothing(prompts: &[Scored], file: &Path) -> EvalError {
    let line = prompts.first().map_or(1, |p| p.line);
    EvalError::NothingToChoose { file: file.to_owned(), line, prompts: prompts.len() }
}

fn has_choice(prompt: &Scored) -> bool {
    prompt.gold.iter().any(|g| *g != prompt.gold[0])
}

/// By prompt: credit of the pairs with different gold scores, and how many these are.
fn ordered_pairs(prompts: &[Scored]) -> (Vec<f64>, Vec<f64>) {
    let of = |p: &Scored| {
        let (mut right, mut pairs) = (0.0, 0.0);
        for i in 0..p.gold.len() {
            for j in 0..p.gold.len() {
                if p.gold[i] > p.gold[j] {
                    right += lens_core::metrics::credit(p.proxy[i], p.proxy[j]);
                    pairs += 1.0;
                }
            }
        }
        (right, pairs)
    };
    prompts.par_iter().map(of).unzip()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn prompt(gold: &[f64], proxy: &[f32]) -> Scored {
        Scored { line: 3, gold: gold.to_vec(), proxy: proxy.to_vec() }
    }

    fn judge(prompts: &[Scored], asked: Option<usize>) -> Result<BestOfN, EvalError> {
        best_of_n(prompts, asked, 0, Path::new("b.jsonl"))
    }

    #[test]
    fn weights_by_hand() {
        // N = 4, n = 2: C(i-1, 1) / 6 = 1/6, 2/6, 3/6 for i = 2, 3, 4.
        let r = expected_best(&[7.0, 1.0, 4.0, 2.0], 2);
        assert!((r - (1.0 + 2.0 * 4.0 + 3.0 * 2.0) / 6.0).abs() < 1e-12, "{r}");
        // n = 3: C(2, 2) / 4 and C(3, 2) / 4.
        let r = expected_best(&[7.0, 1.0, 4.0, 2.0], 3);
        assert!((r - (4.0 + 3.0 * 2.0) / 4.0).abs() < 1e-12, "{r}");
    }

    #[test]
    fn a_thousand_responses_do_not_overflow() {
        let golds: Vec<f64> = (0..5000).map(f64::from).collect();
        for n in [1, 2, 700, 2500, 4999, 5000] {
            // The expected maximum of n of 0 .. N-1 is n (N+1) / (n+1) - 1.
            let expected = n as f64 * 5001.0 / (n as f64 + 1.0) - 1.0;
            let found = expected_best(&golds, n);
            assert!((found - expected).abs() < 1e-8 * expected, "{n}: {found} {expected}");
        }
    }

    #[test]
    fn equal_proxies_share_their_gold() {
        assert_eq!(by_proxy(&[1.0, 5.0, 3.0], |i| [2.0, 1.0, 2.0][i]), [5.0, 2.0, 2.0]);
    }

    #[test]
    fn two_prompts_by_hand() {
        // The proxy is right on the first prompt and reversed on the second.
        let prompts =
            [prompt(&[0.0, 1.0, 2.0], &[1.0, 2.0, 3.0]), prompt(&[0.0, 3.0], &[1.0, 0.0])];
        let found = judge(&prompts, None).unwrap();
        assert_eq!((found.prompts, found.responses, found.n), (2, 5, 2));
        assert_eq!((found.prompts_with_more, found.prompts_without_choice), (1, 0));
        assert_eq!(found.random.value, (1.0 + 1.5) / 2.0);
        // R_2: (1 + 2 * 2) / 3 on the first, 0 on the second; oracle: 5/3 and 3.
        let two = found.curve[1];
        assert!((two.gold - 5.0 / 6.0).abs() < 1e-12);
        assert!((two.oracle - (5.0 / 3.0 + 3.0) / 2.0).abs() < 1e-12);
        let gain = (5.0 / 6.0 - 1.25) / (7.0 / 3.0 - 1.25);
        assert!((two.gain.unwrap().value - gain).abs() < 1e-12);
        assert!((two.kl - (2.0f64.ln() - 0.5)).abs() < 1e-12);
        assert_eq!((found.curve[0].kl, found.curve[0].gain), (0.0, None));
        assert_eq!((found.pairs, found.pair_accuracy.value), (4, 0.75));
        assert!(found.fit.is_none() && found.no_fit.is_some());
    }

    #[test]
    fn what_cannot_be_is_named_by_its_line() {
        let good = Scored { line: 1, ..prompt(&[0.0, 1.0], &[0.0, 1.0]) };
        let said = |prompts: &[Scored], n| judge(prompts, n).unwrap_err().to_string();
        let one = said(&[good.clone(), prompt(&[0.0], &[0.0])], None);
        assert!(one.starts_with("b.jsonl:3: "), "{one}");
        let few = said(std::slice::from_ref(&good), Some(4));
        assert!(few.starts_with("b.jsonl:1: ") && few.contains("n = 4"), "{few}");
        let nan = said(&[good.clone(), prompt(&[0.0, f64::NAN], &[0.0, 1.0])], None);
        assert!(nan.starts_with("b.jsonl:3: "), "{nan}");
        let equal = said(&[prompt(&[2.0, 2.0], &[0.0, 1.0])], None);
        assert!(equal.starts_with("b.jsonl:3: "), "{equal}");
        assert!(matches!(judge(&[], None), Err(EvalError::NoRows { .. })));
    }

    proptest! {
        #[test]
        fn one_is_the_mean_all_is_the_top_and_the_oracle_is_above(
            responses in prop::collection::vec((-5i8..5, -3i8..3), 2..12), rotate in 0usize..12
        ) {
            let gold: Vec<f64> = responses.iter().map(|r| f64::from(r.0)).collect();
            let proxy: Vec<f64> = responses.iter().map(|r| f64::from(r.1)).collect();
            let sorted = by_proxy(&gold, |i| proxy[i]);
            let mean = gold.iter().sum::<f64>() / gold.len() as f64;
            prop_assert!((expected_best(&sorted, 1) - mean).abs() < 1e-9);
            let top = proxy.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let best: Vec<f64> =
                (0..gold.len()).filter(|&i| proxy[i] == top).map(|i| gold[i]).collect();
            let best = best.iter().sum::<f64>() / best.len() as f64;
            prop_assert!((expected_best(&sorted, gold.len()) - best).abs() < 1e-9);
            let oracle = by_proxy(&gold, |i| gold[i]);
            let turn = |v: &[f64]| { let mut v = v.to_vec(); v.rotate_left(rotate % gold.len()); v };
            let (turned, turned_proxy) = (turn(&gold), turn(&proxy));
            let other = by_proxy(&turned, |i| turned_proxy[i]);
            for n in 1..=gold.len() {
                let value = expected_best(&sorted, n);
                prop_assert!(expected_best(&oracle, n) >= value - 1e-9);
                prop_assert!((expected_best(&other, n) - value).abs() < 1e-9);
                let ones = vec![1.0; gold.len()];
                prop_assert!((expected_best(&ones, n) - 1.0).abs() < 1e-9);
            }
        }
    }
}
