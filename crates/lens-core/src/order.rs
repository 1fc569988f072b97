//! Order preservation (docs/method.md, step 7): the paper's theorem 1 as a measurement on a user's own
//! pairs.
//!
//! The theorem bounds |r*(e~) - r*(e)| by the decoder's reconstruction error and the noise, so that a
//! synthetic pair keeps its order where the margin of its seed pair is larger. The reference reward of
//! a seed pair is that of a member of the head without augmentation that was not trained on it.

use crate::embedded::EmbeddedPairs;
use crate::folds::Folds;
use crate::linalg::Threads;
use crate::pairing::combinations;
use crate::reward_model::RewardModel;
use crate::source::Synthetic;
use serde::{Deserialize, Serialize};

/// Most seed pairs measured: more would not change the second digit.
const MOST_PAIRS: usize = 2000;

/// Whether synthetic pairs keep the order of their seed pairs, by a head that was trained on neither.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderReport {
    /// Seed pairs measured.
    pub pairs: usize,
    /// Share of synthetic pairs that the reference head orders as labelled.
    pub synthetic_kept: f64,
    /// The same share for the seed pairs themselves.
    pub seeds_kept: f64,
    /// Mean |r(e~) - r(e)| over synthetic responses.
    pub drift_mean: f64,
    /// Its 95% quantile.
    pub drift_p95: f64,
    /// Median |r(e+) - r(e-)| of the seed pairs, to hold the drift against.
    pub seed_margin_median: f64,
}

/// Measures on (up to 2,000 of) the seed pairs, ties left out, that some member of the reference was
/// held out from; `None` where there is no such pair.
#[allow(clippy::too_many_arguments)] // Each is one ingredient of the measurement.
pub(crate) fn measure_order(
    pairs: &EmbeddedPairs,
    folds: &Folds,
    reference: &RewardModel,
    synthetic: &Synthetic<'_>,
    factor: usize,
    seed: u64,
    threads: Threads,
) -> Option<OrderReport> {
    let members = reference.head.shape().members;
    let k = synthetic.per_side();
    let judged =
        |i: usize| (!pairs.labels[i].is_tie()).then(|| folds.held_out_member(i, members))?;
    let rows: Vec<usize> =
        (0..pairs.len()).filter(|&i| judged(i).is_some()).take(MOST_PAIRS).collect();
    if rows.is_empty() {
        return None;
    }
    let (mut kept, mut total, mut seeds) = (0.0, 0usize, 0.0);
    let (mut drift, mut margins) = (Vec::new(), Vec::new());
    for block in rows.chunks(64) {
        let mut x = vec![0.0f32; 2 * block.len() * pairs.dim()];
        pairs.gather(&reference.standardiser, block, &mut x, threads);
        let real = reference.head.member_rewards(&x, threads);
        for (i, &pair) in block.iter().enumerate() {
            let Some(m) = judged(pair) else { continue };
            let embeddings = synthetic.embeddings(pair, threads);
            let mut side_rewards = [vec![real[i * members + m]], Vec::new()];
            side_rewards[1].push(real[(block.len() + i) * members + m]);
            for (side, rewards) in side_rewards.iter_mut().enumerate() {
                let synthetic = reference.head.member_rewards(&embeddings[side], threads);
                rewards.extend((0..k).map(|c| synthetic[c * members + m]));
                drift.extend(rewards[1..].iter().map(|r| f64::from((r - rewards[0]).abs())));
            }
            let [chosen, rejected] = &side_rewards;
            margins.push(f64::from((chosen[0] - rejected[0]).abs()));
            seeds += crate::metrics::credit(chosen[0], rejected[0]);
            for c in combinations(factor, seed, pair).into_iter().skip(1) {
                let (a, b) = (chosen[usize::from(c.chosen)], rejected[usize::from(c.rejected)]);
                kept += crate::metrics::credit(a, b);
                total += 1;
            }
        }
    }
    let quantile = |values: &mut Vec<f64>, q: f64| {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        values.get((last as f64 * q).round() as usize).copied().unwrap_or(0.0)
    };
    Some(OrderReport {
        pairs: rows.len(),
        synthetic_kept: kept / total.max(1) as f64,
        seeds_kept: seeds / rows.len().max(1) as f64,
        drift_mean: drift.iter().sum::<f64>() / drift.len().max(1) as f64,
        drift_p95: quantile(&mut drift, 0.95),
        seed_margin_median: quantile(&mut margins, 0.5),
    })
}
