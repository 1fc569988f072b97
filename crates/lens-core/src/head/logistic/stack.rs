//! Weights by which heads on several views are added up.

/// Rounds over all weights; each is a Newton step on every one of them.
const ROUNDS: usize = 100;

/// Weights of at least 0 that minimise the mean log-loss of the weighted sum of `margins`, one column
/// of reward differences for each view, on top of `before`, over the comparisons `rows`; with a small
/// pull towards equal weights, which decides where the comparisons do not.
pub(super) fn fit(margins: &[Vec<f64>], before: &[f64], rows: &[usize]) -> Vec<f64> {
    let views = margins.len();
    let equal = 1.0 / views as f64;
    // As much as a few comparisons of the usual margin.
    let squares = |m: &Vec<f64>| rows.iter().map(|&i| m[i] * m[i]).sum::<f64>();
    let scale = margins.iter().map(squares).sum::<f64>() / (rows.len() * views).max(1) as f64;
    let pull = 2.0 * scale.max(1e-12);
    let mut weights = vec![equal; views];
    let mut sums: Vec<f64> = rows
        .iter()
        .map(|&i| before[i] + margins.iter().map(|m| equal * m[i]).sum::<f64>())
        .collect();
    for _ in 0..ROUNDS {
        let mut moved = 0.0f64;
        for (weight, own) in weights.iter_mut().zip(margins) {
            let (mut slope, mut curvature) = (pull * (*weight - equal), pull);
            for (&i, &sum) in rows.iter().zip(&sums) {
                let share = 1.0 / (1.0 + sum.exp());
                slope -= share * own[i];
                curvature += share * (1.0 - share) * own[i] * own[i];
            }
            // A full step may overshoot where the logistic function is flat.
            let step = (slope / curvature).clamp(-1.0, 1.0);
            let next = (*weight - step).max(0.0);
            let change = next - *weight;
            if change != 0.0 {
                rows.iter().zip(&mut sums).for_each(|(&i, sum)| *sum += change * own[i]);
                *weight = next;
                moved = moved.max(change.abs());
            }
        }
        if moved < 1e-6 {
            break;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bradley_terry::loss;
    use crate::rng::{Purpose, Stream};

    fn columns(n: usize) -> Vec<Vec<f64>> {
        let mut stream = Stream::new(3, Purpose::Splits, 0);
        let mut column = |mean: f64| (0..n).map(|_| mean + f64::from(stream.normal())).collect();
        vec![column(0.5), column(0.0), column(-0.5)]
    }

    #[test]
    fn what_tells_weighs_most_and_what_misleads_nothing() {
        let margins = columns(400);
        let rows: Vec<usize> = (0..400).collect();
        let weights = fit(&margins, &[0.0; 400], &rows);
        assert!(weights[0] > 0.5 && weights[0] > 3.0 * weights[1], "{weights:?}");
        assert_eq!(weights[2], 0.0, "{weights:?}");
        // Nought is the slope of the objective at a weight that is not at its bound.
        let total = |w: f64| -> f64 {
            let sum = |i: usize| w * margins[0][i] + weights[1] * margins[1][i];
            rows.iter().map(|&i| loss(sum(i))).sum()
        };
        let slope = (total(weights[0] + 1e-4) - total(weights[0] - 1e-4)) / 2e-4;
        assert!(slope.abs() < 3.0, "{slope}");
    }

    #[test]
    fn without_comparisons_they_are_equal() {
        assert_eq!(fit(&columns(4), &[0.0; 4], &[]), [1.0 / 3.0; 3]);
    }
}
