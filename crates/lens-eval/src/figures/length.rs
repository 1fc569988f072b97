//! Length: how far does the reward follow it, and how far would length alone go?
//!
//! Longer wins: share of pairs whose preferred response is longer, equal lengths as half; shorter
//! wins is the rest. Balanced accuracy: the mean of the accuracy where the preferred response is
//! longer and of that where it is shorter, in which a preference for length of either sign is worth
//! nothing (reward-bench#267: picking the longer scores 80.6% on RewardBench Chat).
//!
//! Correlation: Pearson's r of reward and length over the different responses to one prompt, the mean
//! of the prompts. Prompts whose rewards or lengths do not vary have none; they are counted. (Of two
//! responses r is 1 or -1: whether the longer has the higher reward.) Lengths are in Unicode scalar
//! values.

use super::ScoredPairs;
use lens_core::metrics::{Estimate, bootstrap, longer_wins};
use lens_core::{Content, PreferencePair};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// The most points that are kept for a plot.
pub const MAX_POINTS: usize = 2000;

/// Reward and length of some pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// Accuracy of preferring the longer response.
    pub longer_wins: f64,
    /// Accuracy of preferring the shorter one.
    pub shorter_wins: f64,
    /// Pairs whose preferred response is longer, and the accuracy on them, ties as half.
    pub where_longer: Share,
    /// The same where it is shorter.
    pub where_shorter: Share,
    /// Mean of the two accuracies, if there are pairs of both.
    pub balanced_accuracy: Option<f64>,
    /// Mean within-prompt correlation of reward and length, with its interval over prompts.
    pub correlation: Option<Estimate>,
    /// Prompts with a correlation.
    pub prompts: usize,
    /// Prompts without: rewards or lengths do not vary.
    pub prompts_without: usize,
    /// Different responses.
    pub responses: usize,
    /// Length and reward of these, of many an even choice of [`MAX_POINTS`].
    pub points: Vec<(usize, f32)>,
}

/// Some of the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub pairs: usize,
    /// Accuracy on them; none of none.
    pub accuracy: Option<f64>,
}

/// Reward and length of pairs with their texts. `None` when there is none.
pub fn length<'a>(
    pairs: &ScoredPairs<'_>,
    texts: impl ExactSizeIterator<Item = &'a PreferencePair>,
) -> Option<Length> {
    let mut lengths = Vec::with_capacity(texts.len());
    let mut seen: HashSet<(u32, &Content)> = HashSet::new();
    let mut by_prompt: BTreeMap<u32, Vec<(usize, f32)>> = BTreeMap::new();
    let mut points = Vec::new();
    for (i, pair) in texts.enumerate() {
        let prompt = pairs.prompts[i];
        let sides = [(&pair.chosen, pairs.chosen[i]), (&pair.rejected, pairs.rejected[i])];
        let [chosen, rejected] = sides.map(|(text, reward)| {
            let length = text.chars();
            if seen.insert((prompt, text)) {
                by_prompt.entry(prompt).or_default().push((length, reward));
                points.push((length, reward));
            }
            length
        });
        lengths.push((chosen, rejected));
    }
    let longer = longer_wins(&lengths)?;
    let share = |wanted: std::cmp::Ordering| {
        let credits: Vec<f64> = lengths
            .iter()
            .enumerate()
            .filter(|(_, (chosen, rejected))| chosen.cmp(rejected) == wanted)
            .map(|(i, _)| lens_core::metrics::credit(pairs.chosen[i], pairs.rejected[i]))
            .collect();
        let n = credits.len();
        Share { pairs: n, accuracy: (n > 0).then(|| credits.iter().sum::<f64>() / n as f64) }
    };
    let where_longer = share(std::cmp::Ordering::Greater);
    let where_shorter = share(std::cmp::Ordering::Less);
    let both = where_longer.accuracy.zip(where_shorter.accuracy);
    let (prompts, correlations): (Vec<u32>, Vec<f64>) =
        by_prompt.iter().filter_map(|(&p, responses)| Some((p, pearson(responses)?))).unzip();
    let ones = vec![1.0; correlations.len()];
    Some(Length {
        longer_wins: longer,
        shorter_wins: 1.0 - longer,
        where_longer,
        where_shorter,
        balanced_accuracy: both.map(|(a, b)| (a + b) / 2.0),
        correlation: bootstrap(&correlations, &ones, &prompts, pairs.seed),
        prompts: prompts.len(),
        prompts_without: by_prompt.len() - prompts.len(),
        responses: points.len(),
        points: thinned(points),
    })
}

/// Every k-th, so that at most [`MAX_POINTS`] are left.
fn thinned(points: Vec<(usize, f32)>) -> Vec<(usize, f32)> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    points.into_iter().step_by(step).collect()
}

/// Pearson's r of length and reward. `None` where either does not vary.
fn pearson(responses: &[(usize, f32)]) -> Option<f64> {
    let (first_length, first_reward) = *responses.first()?;
    let varies = responses.iter().any(|r| r.0 != first_length)
        && responses.iter().any(|r| r.1 != first_reward);
    if !varies {
        return None;
    }
    let n = responses.len() as f64;
    let lengths = || responses.iter().map(|r| r.0 as f64);
    let rewards = || responses.iter().map(|r| f64::from(r.1));
    let (x, y) = (lengths().sum::<f64>() / n, rewards().sum::<f64>() / n);
    let covariance: f64 = lengths().zip(rewards()).map(|(a, b)| (a - x) * (b - y)).sum();
    let (xx, yy) = (
        lengths().map(|a| (a - x).powi(2)).sum::<f64>(),
        rewards().map(|b| (b - y).powi(2)).sum::<f64>(),
    );
    let r = covariance / (xx.sqrt() * yy.sqrt());
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pair(chosen: usize, rejected: usize) -> PreferencePair {
        let text = |n: usize| Content::Text("x".repeat(n));
        PreferencePair {
            prompt: Content::Text("p".to_owned()),
            chosen: text(chosen),
            rejected: text(rejected),
            margin: None,
            tie: false,
        }
    }

    fn judge(rewards: &[(f32, f32)], prompts: &[u32], texts: &[PreferencePair]) -> Length {
        let chosen: Vec<f32> = rewards.iter().map(|r| r.0).collect();
        let rejected: Vec<f32> = rewards.iter().map(|r| r.1).collect();
        let pairs = ScoredPairs { chosen: &chosen, rejected: &rejected, prompts, seed: 0 };
        length(&pairs, texts.iter()).unwrap()
    }

    #[test]
    fn by_hand() {
        // Longer and right, longer and wrong, shorter and right, equal and right.
        let texts = [pair(5, 3), pair(6, 2), pair(1, 9), pair(4, 4)];
        let found = judge(&[(2.0, 1.0), (0.0, 3.0), (1.0, 0.0), (1.0, 0.0)], &[0, 1, 2, 3], &texts);
        assert_eq!((found.longer_wins, found.shorter_wins), (2.5 / 4.0, 1.5 / 4.0));
        assert_eq!(found.where_longer, Share { pairs: 2, accuracy: Some(0.5) });
        assert_eq!(found.where_shorter, Share { pairs: 1, accuracy: Some(1.0) });
        assert_eq!(found.balanced_accuracy, Some(0.75));
        // r = 1, -1, -1; the last prompt has one text on both sides: no variance.
        assert!((found.correlation.unwrap().value + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.prompts, found.prompts_without, found.responses), (3, 1, 7));
        assert_eq!(found.points.len(), 7);
    }

    #[test]
    fn responses_in_several_pairs_count_once() {
        // Lengths 1, 2, 3 with rewards 1, 2, 4 over three pairs of one prompt:
        // r = (1 * 4/3 + 0 + 1 * 5/3) / sqrt(2 * (16 + 1 + 25) / 9) = 3 / sqrt(28/3).
        let texts = [pair(3, 1), pair(3, 2), pair(2, 1)];
        let found = judge(&[(4.0, 1.0), (4.0, 2.0), (2.0, 1.0)], &[7, 7, 7], &texts);
        assert_eq!(found.responses, 3);
        assert!((found.correlation.unwrap().value - 3.0 / (28.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(found.balanced_accuracy, None);
    }

    proptest! {
        #[test]
        fn a_reward_that_is_the_length_picks_the_longer(
            lengths in prop::collection::vec((0usize..9, 0usize..9), 1..30)
        ) {
            let texts: Vec<PreferencePair> = lengths.iter().map(|&(a, b)| pair(a, b)).collect();
            let rewards: Vec<(f32, f32)> =
                lengths.iter().map(|&(a, b)| (a as f32, b as f32)).collect();
            let prompts: Vec<u32> = (0..lengths.len() as u32).collect();
            let found = judge(&rewards, &prompts, &texts);
            prop_assert!((found.longer_wins + found.shorter_wins - 1.0).abs() < 1e-12);
            if let Some(balanced) = found.balanced_accuracy {
                prop_assert_eq!(balanced, 0.5);
            }
            if let Some(r) = found.correlation {
                prop_assert!((r.value - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn plots_stay_small(n in 0usize..10_000) {
            prop_assert!(thinned(vec![(0, 0.0); n]).len() <= MAX_POINTS);
        }
    }
}
