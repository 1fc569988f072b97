//! Calibration: does a margin of rewards say how sure it is?
//!
//! p = sigmoid(r+ - r-) is the Bradley-Terry probability that the first response is preferred. Every
//! pair counts twice, once with p and outcome 1, once with 1 - p and outcome 0 (the sides swapped),
//! since which side stands first is a convention of the file. Over these outcomes:
//!
//! ECE = sum over 20 equal bins of (n_b / n) |mean outcome - mean p| (Guo et al., arXiv 1706.04599);
//! Brier = mean (p - outcome)^2; log-loss = mean of -ln of the probability of what happened.
//!
//! Temperature: p = sigmoid((r+ - r-) / T), T of the least log-loss, which is convex in 1/T. Prompts
//! are dealt into two halves, and each half is judged with the T fitted on the other, so that no pair
//! is judged by a temperature that it was used to fit.

use super::ScoredPairs;
use lens_core::metrics::sigmoid;
use lens_core::splits::hold_out;
use serde::{Deserialize, Serialize};

/// How many bins there are.
pub const BINS: usize = 20;

/// Calibration of some pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Calibration of the rewards as they are.
    pub plain: Figures,
    /// With a temperature fitted on other prompts.
    pub tempered: Option<Tempered>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_temperature: Option<String>,
}

/// Calibration after a temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tempered {
    /// The temperature fitted on each half of the prompts, and used on the other.
    pub temperatures: [f64; 2],
    /// Pairs in each half.
    pub pairs: [usize; 2],
    /// Calibration of all pairs, each with the temperature of the half that it is not in.
    pub figures: Figures,
}

/// Figures over symmetrised pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Expected calibration error.
    pub ece: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// Mean log-loss in nats; ln 2 = 0.6931 is chance.
    pub log_loss: f64,
    /// The bins that have anything in them, for a reliability diagram.
    pub bins: Vec<Bin>,
}

/// One bin of probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its lower end.
    pub from: f64,
    /// Its upper end, which is in the next bin (1 is in the last).
    pub to: f64,
    /// Outcomes in it; every pair has two.
    pub count: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share that came true.
    pub observed: f64,
}

/// A temperature, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// The one with the least log-loss.
    Fitted(f64),
    /// No margin is negative: the smaller the better, without end.
    Separable,
    /// The mean margin is not positive: the larger the better, without end.
    NoSignal,
}

/// ln(1 + e^x), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The figures of margins r+ - r-. `None` for none.
pub fn figures(margins: &[f64]) -> Option<Figures> {
    if margins.is_empty() {
        return None;
    }
    let mut sums = [(0usize, 0.0, 0.0); BINS];
    let mut enter = |p: f64, outcome: f64| {
        let bin = ((p * BINS as f64) as usize).min(BINS - 1);
        let (count, probability, observed) = &mut sums[bin];
        *count += 1;
        *probability += p;
        *observed += outcome;
    };
    let (mut brier, mut log_loss) = (0.0, 0.0);
    for &margin in margins {
        let (p, q) = (sigmoid(margin), sigmoid(-margin));
        enter(p, 1.0);
        enter(q, 0.0);
        // Both ways round are off by the same.
        brier += q * q;
        log_loss += softplus(-margin);
    }
    let n = margins.len() as f64;
    let ece = sums.iter().map(|(_, p, observed)| (observed - p).abs()).sum::<f64>() / (2.0 * n);
    let bins = sums.iter().enumerate().filter(|(_, sum)| sum.0 > 0);
    let bins = bins.map(|(i, &(count, probability, observed))| Bin {
        from: i as f64 / BINS as f64,
        to: (i + 1) as f64 / BINS as f64,
        count,
        probability: probability / count as f64,
        observed: observed / count as f64,
    });
    Some(Figures { ece, brier: brier / n, log_loss: log_loss / n, bins: bins.collect() })
}

/// The temperature of the least log-loss of margins.
pub fn temperature(margins: &[f64]) -> Temperature {
    let n = margins.len().max(1) as f64;
    let scale = margins.iter().map(|m| m.abs()).sum::<f64>() / n;
    let total: f64 = margins.iter().sum();
    if total <= 0.0 || scale <= 0.0 {
        return Temperature::NoSignal;
    }
    if !margins.iter().any(|&m| m < 0.0) {
        return Temperature::Separable;
    }
    // In units of the mean size: the slope of the log-loss in s = scale / T rises from below 0 at
    // s = 0 to above 0, for there are margins on both sides.
    let slope = |s: f64| margins.iter().map(|m| -m / scale * sigmoid(-s * m / scale)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while slope(high) < 0.0 {
        (low, high) = (high, high * 2.0);
        if high > 1e12 {
            // Beyond what f64 tells from no contradiction at all.
            return Temperature::Separable;
        }
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    match high {
        s if s > 0.0 && (scale / s).is_finite() => Temperature::Fitted(scale / s),
        _ => Temperature::NoSignal,
    }
}

/// Calibration of some pairs. `None` when there is none.
pub fn calibration(pairs: &ScoredPairs<'_>) -> Option<Calibration> {
    let margins: Vec<f64> = pairs.margins();
    let plain = figures(&margins)?;
    match tempered(&margins, pairs) {
        Ok(tempered) => Some(Calibration { plain, tempered: Some(tempered), no_temperature: None }),
        Err(why) => Some(Calibration { plain, tempered: None, no_temperature: Some(why) }),
    }
}

fn tempered(margins: &[f64], pairs: &ScoredPairs<'_>) -> Result<Tempered, String> {
    let second = hold_out(pairs.prompts, 0.5, pairs.seed);
    let half = |which: bool| -> Vec<f64> {
        margins.iter().zip(&second).filter(|(_, s)| **s == which).map(|(m, _)| *m).collect()
    };
    let halves = [half(false), half(true)];
    let sizes = [halves[0].len(), halves[1].len()];
    if sizes.contains(&0) {
        return Err("one prompt has no other to fit a temperature on".to_owned());
    }
    let fitted = |i: usize| match temperature(&halves[i]) {
        Temperature::Fitted(t) => Ok(t),
        Temperature::Separable => Err(format!(
            "all {} pairs of one half of the prompts are ordered as labelled: log-loss falls without \
             end as the temperature goes to 0",
            sizes[i]
        )),
        Temperature::NoSignal => Err(format!(
            "the mean margin of the {} pairs of one half of the prompts is not positive: log-loss \
             falls without end as the temperature grows",
            sizes[i]
        )),
    };
    let temperatures = [fitted(0)?, fitted(1)?];
    let other: Vec<f64> = margins
        .iter()
        .zip(&second)
        .map(|(m, &second)| m / temperatures[usize::from(!second)])
        .collect();
    let figures = figures(&other).ok_or("there is no pair")?;
    Ok(Tempered { temperatures, pairs: sizes, figures })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_by_hand() {
        // p = 3/4 twice, once right and once wrong: margins ln 3 and -ln 3.
        let found = figures(&[3.0f64.ln(), -(3.0f64.ln())]).unwrap();
        assert!((found.brier - (1.0 / 16.0 + 9.0 / 16.0) / 2.0).abs() < 1e-12);
        let loss = ((4.0f64 / 3.0).ln() + 4.0f64.ln()) / 2.0;
        assert!((found.log_loss - loss).abs() < 1e-12);
        // At 3/4 and at 1/4, half came true.
        assert!((found.ece - 0.25).abs() < 1e-12, "{found:?}");
        let counts: usize = found.bins.iter().map(|b| b.count).sum();
        assert_eq!(counts, 4);
    }

    #[test]
    fn what_is_calibrated_has_no_error() {
        // p = 3/4 four times, three times right.
        let m = 3.0f64.ln();
        let found = figures(&[m, m, m, -m]).unwrap();
        assert!(found.ece < 1e-12, "{found:?}");
        assert_eq!(temperature(&[m, m, m, -m]), temperature(&[m, m, -m, m]));
        let Temperature::Fitted(t) = temperature(&[m, m, m, -m]) else { unreachable!() };
        assert!((t - 1.0).abs() < 1e-9, "{t}");
        // Twice the margins want twice the temperature.
        let Temperature::Fitted(t) = temperature(&[2.0 * m, 2.0 * m, 2.0 * m, -2.0 * m]) else {
            unreachable!()
        };
        assert!((t - 2.0).abs() < 1e-9, "{t}");
        assert!((figures(&[1e9, -1e9]).unwrap().brier - 0.5).abs() < 1e-12);
        assert_eq!(figures(&[]), None);
    }

    #[test]
    fn no_temperature_is_infinite() {
        assert_eq!(temperature(&[1.0, 2.0, 0.0]), Temperature::Separable);
        assert_eq!(temperature(&[1.0, -2.0]), Temperature::NoSignal);
        assert_eq!(temperature(&[0.0, 0.0]), Temperature::NoSignal);
        assert_eq!(temperature(&[]), Temperature::NoSignal);
        // The slightest contradiction is enough: T falls with the logarithm of its size only.
        let Temperature::Fitted(t) = temperature(&[1.0, 1.0, -1e-30]) else { unreachable!() };
        assert!((0.005..0.1).contains(&t), "{t}");
    }

    #[test]
    fn no_pair_is_judged_by_a_temperature_fitted_on_it() {
        // Each half gets the temperature of the other: with one half three times the other's size,
        // the figures are those of margins divided crosswise.
        let prompts: Vec<u32> = (0..40).map(|i| i / 2).collect();
        let second = hold_out(&prompts, 0.5, 3);
        let m = 3.0f32.ln();
        let mut seen = [0usize; 2];
        let chosen: Vec<f32> = second
            .iter()
            .map(|&s| {
                let i = &mut seen[usize::from(s)];
                *i += 1;
                let sign = if *i % 4 == 0 { -1.0 } else { 1.0 };
                sign * m * if s { 3.0 } else { 1.0 }
            })
            .collect();
        let rejected = vec![0.0; 40];
        let pairs =
            ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &prompts, seed: 3 };
        let found = calibration(&pairs).unwrap().tempered.unwrap();
        assert_eq!(found.pairs, [20, 20]);
        let [first, other] = found.temperatures;
        assert!((first - 1.0).abs() < 1e-6 && (other - 3.0).abs() < 1e-6, "{found:?}");
        let crossed: Vec<f64> = chosen
            .iter()
            .zip(&second)
            .map(|(&c, &s)| f64::from(c) / if s { first } else { other })
            .collect();
        assert!((found.figures.log_loss - figures(&crossed).unwrap().log_loss).abs() < 1e-12);
        let one = ScoredPairs { prompts: &[0; 40], ..pairs };
        assert!(calibration(&one).unwrap().no_temperature.unwrap().contains("one prompt"));
    }

    proptest! {
        #[test]
        fn swapping_sides_changes_labels_only_and_the_temperature_is_least(
            margins in prop::collection::vec(-4.0f64..5.0, 2..60)
        ) {
            let found = figures(&margins).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.ece) && (0.0..=1.0).contains(&found.brier));
            prop_assert_eq!(found.bins.iter().map(|b| b.count).sum::<usize>(), 2 * margins.len());
            let mut back = margins.clone();
            back.reverse();
            prop_assert!((figures(&back).unwrap().ece - found.ece).abs() < 1e-9);
            if let Temperature::Fitted(t) = temperature(&margins) {
                let loss = |t: f64| {
                    let m: Vec<f64> = margins.iter().map(|m| m / t).collect();
                    figures(&m).unwrap().log_loss
                };
                prop_assert!(loss(t) <= loss(t * 1.01) + 1e-12 && loss(t) <= loss(t * 0.99) + 1e-12);
                prop_assert!(loss(t) <= found.log_loss + 1e-12);
            }
        }
    }
}
