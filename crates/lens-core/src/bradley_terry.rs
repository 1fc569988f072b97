//! The Bradley-Terry loss (docs/method.md, equation E10), with margins, label smoothing and ties.
//!
//! The loss of a comparison depends on the reward difference D = r+ - r- and on the label:
//!
//! - preferred: -log sigmoid(D), or with label smoothing s its mixture with -log sigmoid(-D);
//! - preferred by a margin m: the same of D - m (Touvron et al. 2023), and of -D - m;
//! - in data with ties, where t is half the width of the tie (Rao and Kupper 1967): preferred is
//!   sigmoid(D - t), a tie sigmoid(D + t) - sigmoid(D - t).

use crate::embedded::Label;

/// The settings of the loss that are the same for all comparisons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BradleyTerry {
    /// Share of the labels taken to be wrong.
    pub smoothing: f64,
    /// t, half the width of a tie in units of reward; 0 where the data has no ties.
    pub tie_threshold: f64,
}

impl BradleyTerry {
    /// For data with these labels: the tie threshold counts only where there are ties.
    pub(crate) fn for_labels(smoothing: f64, tie_threshold: f64, labels: &[Label]) -> Self {
        let has_ties = labels.iter().any(|l| l.is_tie());
        BradleyTerry { smoothing, tie_threshold: if has_ties { tie_threshold } else { 0.0 } }
    }

    /// The loss of one comparison with this label, and its derivative by the reward difference
    /// r+ - r-.
    pub(crate) fn loss_and_slope(&self, difference: f64, label: Label) -> (f64, f64) {
        let t = self.tie_threshold;
        match label {
            Label::Preferred { margin } => {
                let ask = f64::from(margin) + t;
                let s = self.smoothing;
                let (mut loss, mut slope) = loss_and_slope(difference - ask);
                if s > 0.0 {
                    let (wrong, wrong_slope) = loss_and_slope(-difference - ask);
                    loss = (1.0 - s) * loss + s * wrong;
                    slope = (1.0 - s) * slope - s * wrong_slope;
                }
                (loss, slope)
            }
            // sigmoid(x) - sigmoid(y) = sigmoid(x) sigmoid(-y) (1 - e^(y - x)), which keeps the
            // logarithm exact where both are close to 1.
            Label::Tie => {
                let (upper, upper_slope) = loss_and_slope(difference + t);
                let (lower, lower_slope) = loss_and_slope(t - difference);
                (upper + lower - (-(-2.0 * t).exp_m1()).ln(), upper_slope - lower_slope)
            }
        }
    }
}

/// log(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The Bradley-Terry loss of a reward difference D = r+ - r-: -log sigmoid(D).
pub(crate) fn loss(difference: f64) -> f64 {
    softplus(-difference)
}

/// The Bradley-Terry loss -log sigmoid(D) and its derivative by D, sigmoid(D) - 1, without overflow.
fn loss_and_slope(difference: f64) -> (f64, f64) {
    let e = (-difference.abs()).exp();
    let share = 1.0 / (1.0 + e);
    if difference >= 0.0 { (e.ln_1p(), -e * share) } else { (e.ln_1p() - difference, -share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred(margin: f32) -> Label {
        Label::Preferred { margin }
    }

    /// -ln sigmoid(0.7) = ln(1 + e^-0.7) = 0.403186..
    #[test]
    fn losses_by_hand() {
        let plain = BradleyTerry { smoothing: 0.0, tie_threshold: 0.0 };
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        close(plain.loss_and_slope(0.7, preferred(0.0)).0, (1.0 + (-0.7f64).exp()).ln());
        close(plain.loss_and_slope(0.7, preferred(0.5)).0, (1.0 + (-0.7f64 + 0.5).exp()).ln());
        let smooth = BradleyTerry { smoothing: 0.1, ..plain };
        let by_hand = 0.9 * (1.0 + (-0.7f64).exp()).ln() + 0.1 * (1.0 + 0.7f64.exp()).ln();
        close(smooth.loss_and_slope(0.7, preferred(0.0)).0, by_hand);
    }

    #[test]
    fn win_tie_and_loss_are_all_that_can_happen() {
        let form = BradleyTerry { smoothing: 0.0, tie_threshold: 0.5 };
        for difference in [-30.0, -2.0, -0.1, 0.0, 0.6, 5.0, 30.0] {
            let likelihood = |d: f64, label| (-form.loss_and_slope(d, label).0).exp();
            let win = likelihood(difference, preferred(0.0));
            let lose = likelihood(-difference, preferred(0.0));
            let tie = likelihood(difference, Label::Tie);
            assert!((win + lose + tie - 1.0).abs() < 1e-12, "{win} {lose} {tie}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        for (smoothing, tie_threshold) in [(0.0, 0.0), (0.2, 0.0), (0.1, 0.7)] {
            let form = BradleyTerry { smoothing, tie_threshold };
            let labels = [preferred(0.0), preferred(1.5), Label::Tie];
            for label in labels.into_iter().filter(|l| !l.is_tie() || tie_threshold > 0.0) {
                for at in [-3.0, -0.4, 0.0, 0.9, 4.0] {
                    let numeric = (form.loss_and_slope(at + 1e-6, label).0
                        - form.loss_and_slope(at - 1e-6, label).0)
                        / 2e-6;
                    assert!(
                        (form.loss_and_slope(at, label).1 - numeric).abs() < 1e-8,
                        "{label:?} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn extreme_differences_stay_finite() {
        let form = BradleyTerry { smoothing: 0.1, tie_threshold: 0.5 };
        for label in [preferred(0.0), preferred(1e30), Label::Tie] {
            for at in [-1e30, -800.0, 800.0, 1e30] {
                let (loss, slope) = form.loss_and_slope(at, label);
                assert!(loss.is_finite() && slope.is_finite() && slope.abs() <= 1.0 + 1e-12);
            }
        }
    }
}
