//! What is asked of each pair: the Bradley-Terry loss and its relatives, on rewards.
//!
//! The F pair losses of a seed pair need only 2 (1 + k) rewards: rewards are computed once a
//! response, the loss lives on their differences, and one gradient a *response* goes back ("score
//! once"; see [`super::step`] for the other identity).
//!
//! What is asked of a pair depends on its label. With the reward difference D of the two sides:
//!
//! - preferred: -log sigmoid(D), or with label smoothing s its mixture with -log sigmoid(-D);
//! - preferred by a margin m: the same of D - m (Touvron et al. 2023), and of -D - m;
//! - in data with ties, where t is half the width of the tie (Rao and Kupper 1967): preferred is
//!   sigmoid(D - t), a tie sigmoid(D + t) - sigmoid(D - t).

use super::HeadSettings;
use crate::embedded::Label;
use crate::real::Real;
use rayon::prelude::*;

/// One comparison: response row `chosen` should beat response row `rejected`. Rows 0..2B are real
/// (the B chosen, then the B rejected), the rest synthetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    pub chosen: u32,
    pub rejected: u32,
    /// The seed pairs of the batch that the two rows come from: a comparison trains a member only
    /// if neither is held out for it.
    pub pairs: [u32; 2],
    /// Which side should win, and by how much.
    pub label: Label,
}

/// What is fixed of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossForm {
    /// Share of the labels taken to be wrong.
    pub smoothing: f64,
    /// t, 0 where the data has no ties.
    pub tie_threshold: f64,
}

impl LossForm {
    /// As the settings have it, for data with these labels.
    pub(crate) fn new(settings: &HeadSettings, labels: &[Label]) -> Self {
        let has_ties = labels.iter().any(|l| l.is_tie());
        LossForm {
            smoothing: settings.label_smoothing,
            tie_threshold: if has_ties { settings.tie_threshold } else { 0.0 },
        }
    }

    /// The loss of one reward difference, and its derivative.
    pub(crate) fn of(&self, difference: f64, label: Label) -> (f64, f64) {
        let t = self.tie_threshold;
        match label {
            Label::Preferred { margin } => {
                let ask = f64::from(margin) + t;
                let s = self.smoothing;
                let (mut loss, mut slope) = against(difference - ask);
                if s > 0.0 {
                    let (wrong, wrong_slope) = against(-difference - ask);
                    loss = (1.0 - s) * loss + s * wrong;
                    slope = (1.0 - s) * slope - s * wrong_slope;
                }
                (loss, slope)
            }
            // sigmoid(x) - sigmoid(y) = sigmoid(x) sigmoid(-y) (1 - e^(y - x)), which keeps the
            // logarithm exact where both are close to 1.
            Label::Tie => {
                let (upper, upper_slope) = against(difference + t);
                let (lower, lower_slope) = against(t - difference);
                (upper + lower - (-(-2.0 * t).exp_m1()).ln(), upper_slope - lower_slope)
            }
        }
    }
}

/// log(1 + e^x) without overflow.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// -log sigmoid(x) and its derivative, sigmoid(x) - 1, without overflow.
fn against(x: f64) -> (f64, f64) {
    let e = (-x.abs()).exp();
    let share = 1.0 / (1.0 + e);
    if x >= 0.0 { (e.ln_1p(), -e * share) } else { (e.ln_1p() - x, -share) }
}

/// Fewest losses that are worth a thread.
const LEAST_LOSSES: usize = 2048;

/// The losses of a step, cut into parts, one a thread.
pub(crate) struct PairLosses<T> {
    parts: Vec<Part<T>>,
}

/// What some of the comparisons give.
#[derive(Clone, Default)]
struct Part<T> {
    deltas: Vec<T>,
    losses: Vec<f64>,
}

impl<T: Real> PairLosses<T> {
    pub(crate) fn new(threads: usize) -> Self {
        PairLosses { parts: vec![Part::default(); threads.max(1)] }
    }

    /// The loss on reward differences, and its gradient by every reward. `rewards` and `deltas` are
    /// [rows, M], `losses` [M]: the mean over the comparisons that train a member, 0 where none does.
    /// `trained` says whether member m trains on pair b, [M, B].
    pub(crate) fn take(
        &mut self,
        comparisons: &[Comparison],
        trained: &[bool],
        form: LossForm,
        rewards: &[T],
        deltas: &mut [T],
        losses: &mut [f64],
    ) {
        let members = losses.len();
        let pairs = trained.len() / members;
        let trains = |m: usize, c: &Comparison| {
            trained[m * pairs + c.pairs[0] as usize] && trained[m * pairs + c.pairs[1] as usize]
        };
        let share = |m| 1.0 / comparisons.iter().filter(|c| trains(m, c)).count() as f64;
        let shares: Vec<f64> = (0..members).map(share).collect();
        let work = |(part, comparisons): (&mut Part<T>, &[Comparison])| {
            part.deltas.clear();
            part.deltas.resize(rewards.len(), T::ZERO);
            part.losses.clear();
            part.losses.resize(members, 0.0);
            for c in comparisons {
                let (a, b) = (c.chosen as usize * members, c.rejected as usize * members);
                for (m, share) in shares.iter().enumerate() {
                    if !trains(m, c) {
                        continue;
                    }
                    let (loss, slope) = form.of((rewards[a + m] - rewards[b + m]).wide(), c.label);
                    part.losses[m] += share * loss;
                    let slope = T::of(share * slope);
                    part.deltas[a + m] += slope;
                    part.deltas[b + m] -= slope;
                }
            }
        };
        let count = (comparisons.len() * members / LEAST_LOSSES).clamp(1, self.parts.len());
        let some = comparisons.chunks(comparisons.len().div_ceil(count).max(1));
        match &mut self.parts[..count] {
            [only] => work((only, comparisons)),
            several => several.par_iter_mut().zip(some.collect::<Vec<_>>()).for_each(work),
        }
        deltas.fill(T::ZERO);
        losses.fill(0.0);
        for part in &self.parts[..count] {
            deltas.iter_mut().zip(&part.deltas).for_each(|(d, &p)| *d += p);
            losses.iter_mut().zip(&part.losses).for_each(|(l, &p)| *l += p);
        }
    }
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
        let plain = LossForm { smoothing: 0.0, tie_threshold: 0.0 };
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        close(plain.of(0.7, preferred(0.0)).0, (1.0 + (-0.7f64).exp()).ln());
        close(plain.of(0.7, preferred(0.5)).0, (1.0 + (-0.7f64 + 0.5).exp()).ln());
        let smooth = LossForm { smoothing: 0.1, ..plain };
        let by_hand = 0.9 * (1.0 + (-0.7f64).exp()).ln() + 0.1 * (1.0 + 0.7f64.exp()).ln();
        close(smooth.of(0.7, preferred(0.0)).0, by_hand);
    }

    #[test]
    fn win_tie_and_loss_are_all_that_can_happen() {
        let form = LossForm { smoothing: 0.0, tie_threshold: 0.5 };
        for difference in [-30.0, -2.0, -0.1, 0.0, 0.6, 5.0, 30.0] {
            let likelihood = |d: f64, label| (-form.of(d, label).0).exp();
            let win = likelihood(difference, preferred(0.0));
            let lose = likelihood(-difference, preferred(0.0));
            let tie = likelihood(difference, Label::Tie);
            assert!((win + lose + tie - 1.0).abs() < 1e-12, "{win} {lose} {tie}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        for (smoothing, tie_threshold) in [(0.0, 0.0), (0.2, 0.0), (0.1, 0.7)] {
            let form = LossForm { smoothing, tie_threshold };
            let labels = [preferred(0.0), preferred(1.5), Label::Tie];
            for label in labels.into_iter().filter(|l| !l.is_tie() || tie_threshold > 0.0) {
                for at in [-3.0, -0.4, 0.0, 0.9, 4.0] {
                    let numeric =
                        (form.of(at + 1e-6, label).0 - form.of(at - 1e-6, label).0) / 2e-6;
                    assert!((form.of(at, label).1 - numeric).abs() < 1e-8, "{label:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn extreme_differences_stay_finite() {
        let form = LossForm { smoothing: 0.1, tie_threshold: 0.5 };
        for label in [preferred(0.0), preferred(1e30), Label::Tie] {
            for at in [-1e30, -800.0, 800.0, 1e30] {
                let (loss, slope) = form.of(at, label);
                assert!(loss.is_finite() && slope.is_finite() && slope.abs() <= 1.0 + 1e-12);
            }
        }
    }
}
