//! Label efficiency: how many labels the baseline needs to be as accurate as a rival with n.
//!
//! Accuracy is taken to grow with the number of labels: its measured means are made monotone
//! ([`isotonic`]), and read off linearly in the logarithm of the labels between them. Beyond what was
//! measured nothing is read off.

use super::statistics::{isotonic, quantile};
use serde::Serialize;

/// A number of labels that was read off a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// So many.
    Labels(f64),
    /// No more than this, the smallest number that was measured.
    AtMost(f64),
    /// More than this, the largest number that was measured: the level is not reached.
    MoreThan(f64),
}

impl Reading {
    /// For sorting: what lies beyond the range lies beyond all that is in it.
    fn order(self) -> f64 {
        match self {
            Reading::Labels(n) => n,
            Reading::AtMost(_) => f64::NEG_INFINITY,
            Reading::MoreThan(_) => f64::INFINITY,
        }
    }

    /// `420`, `100 or fewer`, `more than 1000`.
    pub fn shown(self) -> String {
        match self {
            Reading::Labels(n) => format!("{n:.0}"),
            Reading::AtMost(n) => format!("{n:.0} or fewer"),
            Reading::MoreThan(n) => format!("more than {n:.0}"),
        }
    }
}

/// Accuracy at some numbers of labels, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    labels: Vec<f64>,
    accuracy: Vec<f64>,
}

impl Curve {
    /// The monotone curve through measured accuracies; `None` where one of them is missing.
    pub fn new(labels: &[usize], accuracy: &[f64], weights: &[f64]) -> Option<Curve> {
        let sound = !labels.is_empty() && accuracy.iter().all(|a| a.is_finite());
        sound.then(|| Curve {
            labels: labels.iter().map(|&n| n as f64).collect(),
            accuracy: isotonic(accuracy, weights),
        })
    }

    /// The monotone accuracy at measured number `i`.
    pub fn at(&self, i: usize) -> f64 {
        self.accuracy[i]
    }

    /// The fewest labels at which the curve reaches `level`.
    pub fn reaches(&self, level: f64) -> Reading {
        let (n, a) = (&self.labels, &self.accuracy);
        match a.iter().position(|&x| x >= level) {
            None => Reading::MoreThan(n[n.len() - 1]),
            Some(0) => Reading::AtMost(n[0]),
            Some(i) => {
                let share = (level - a[i - 1]) / (a[i] - a[i - 1]);
                let log = n[i - 1].ln() + share * (n[i].ln() - n[i - 1].ln());
                Reading::Labels(log.exp())
            }
        }
    }
}

/// The 2.5% and 97.5% quantiles of some readings, those beyond the range in their place.
pub fn interval(mut readings: Vec<Reading>) -> Option<[Reading; 2]> {
    if readings.is_empty() {
        return None;
    }
    readings.sort_by(|a, b| a.order().total_cmp(&b.order()));
    let places: Vec<f64> = (0..readings.len()).map(|i| i as f64).collect();
    let at = |q| readings[quantile(&places, q) as usize];
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn read_by_hand() {
        let curve = Curve::new(&[100, 400, 1600], &[0.6, 0.7, 0.8], &[1.0; 3]).unwrap();
        // Half way up between 100 and 400 is the geometric mean.
        let Reading::Labels(n) = curve.reaches(0.65) else { unreachable!() };
        assert!((n - 200.0).abs() < 1e-9, "{n}");
        // At the smallest number or below nothing tells how few would do.
        assert_eq!(curve.reaches(0.6), Reading::AtMost(100.0));
        assert_eq!(curve.reaches(0.81), Reading::MoreThan(1600.0));
        assert_eq!(curve.reaches(0.81).shown(), "more than 1600");
        // Where it reaches a plateau, its beginning.
        let flat = Curve::new(&[100, 400, 1600], &[0.6, 0.72, 0.68], &[1.0; 3]).unwrap();
        let Reading::Labels(n) = flat.reaches(0.7) else { unreachable!() };
        assert!((n - 400.0).abs() < 1e-9, "{n}");
        assert_eq!(Curve::new(&[10, 20], &[0.5, f64::NAN], &[1.0; 2]), None);
    }

    #[test]
    fn readings_beyond_the_range_keep_their_place() {
        let mut readings = vec![Reading::MoreThan(1000.0); 10];
        readings.extend((0..90).map(|i| Reading::Labels(f64::from(i))));
        let [low, high] = interval(readings).unwrap();
        assert_eq!((low, high), (Reading::Labels(2.0), Reading::MoreThan(1000.0)));
        assert_eq!(interval(Vec::new()), None);
    }
}
