//! Over-optimisation: how the gold score rises and falls as more is chosen from.
//!
//! Gao, Schulman and Hilton (arXiv 2210.10760) find R(d) = d (a - b d) for best-of-n, with
//! d = sqrt(KL) and R measured from the policy's own mean, which is random choice. a is the gain at
//! the start, b what over-optimisation takes; for b > 0 the top is at d = a / (2 b).
//!
//! Fitted by least squares over the points n = 1, 2, .. (the points are means over the same prompts
//! and far from independent: no interval is claimed).

use serde::{Deserialize, Serialize};

/// R = d (a - b d).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Gain at the start.
    pub a: f64,
    /// The coefficient of over-optimisation.
    pub b: f64,
    /// Root mean square of what is left, over the points with d > 0.
    pub residual: f64,
    /// Where R is highest, as d = sqrt(KL), if it falls again after it.
    pub peak: Option<f64>,
}

/// The fit of points (d, R). `None` with fewer than two different d above 0.
pub fn fit(points: &[(f64, f64)]) -> Option<Fit> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(d, _)| *d > 0.0).collect();
    let sum = |term: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(d, r)| term(d, r)).sum::<f64>();
    let (s2, s3, s4) = (sum(&|d, _| d * d), sum(&|d, _| d.powi(3)), sum(&|d, _| d.powi(4)));
    let (t1, t2) = (sum(&|d, r| d * r), sum(&|d, r| d * d * r));
    // Normal equations of R = a d - b d^2: a s2 - b s3 = t1, a s3 - b s4 = t2.
    let determinant = s3 * s3 - s2 * s4;
    if points.len() < 2 || determinant.abs() <= 1e-12 * s2 * s4 {
        return None;
    }
    let a = (t2 * s3 - t1 * s4) / determinant;
    let b = (s2 * t2 - s3 * t1) / determinant;
    let squares = sum(&|d, r| (r - d * (a - b * d)).powi(2));
    let residual = (squares / points.len() as f64).sqrt();
    let peak = (b > 0.0 && a > 0.0).then(|| a / (2.0 * b));
    (a.is_finite() && b.is_finite()).then_some(Fit { a, b, residual, peak })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_points_by_hand() {
        // d = 1: a - b = 1; d = 2: 2 a - 4 b = 1. So b = 1/2, a = 3/2, top at 3/2.
        let found = fit(&[(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)]).unwrap();
        assert!((found.a - 1.5).abs() < 1e-12 && (found.b - 0.5).abs() < 1e-12, "{found:?}");
        assert!((found.peak.unwrap() - 1.5).abs() < 1e-12 && found.residual < 1e-12);
    }

    #[test]
    fn least_squares_by_hand() {
        // R = 1, 0, 0 at d = 1, 1, 2: at d = 1 the mean 1/2 is met, and at d = 2 zero:
        // a - b = 1/2, 2 a - 4 b = 0, so a = 1, b = 1/2; residual sqrt((1/4 + 1/4) / 3).
        let found = fit(&[(1.0, 1.0), (1.0, 0.0), (2.0, 0.0)]).unwrap();
        assert!((found.a - 1.0).abs() < 1e-12 && (found.b - 0.5).abs() < 1e-12, "{found:?}");
        assert!((found.residual - (0.5f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_distance_is_not_enough() {
        assert_eq!(fit(&[(0.0, 0.0), (0.4, 1.0)]), None);
        assert_eq!(fit(&[(0.4, 1.0), (0.4, 2.0)]), None);
        assert_eq!(fit(&[]), None);
    }

    proptest! {
        #[test]
        fn an_exact_curve_is_found_again(a in -2.0f64..2.0, b in -1.0f64..1.0, n in 3usize..40) {
            let points: Vec<(f64, f64)> = (1..=n).map(|k| {
                let d = super::super::best_of_n::kl(k).max(0.0).sqrt();
                (d, d * (a - b * d))
            }).collect();
            let found = fit(&points).unwrap();
            prop_assert!((found.a - a).abs() < 1e-6 && (found.b - b).abs() < 1e-6, "{found:?}");
        }
    }
}
