//! Which pairs are held out from which member of an ensemble, and when a member stops.

use super::loss::softplus;
use super::{Head, ensemble_mean};
use crate::embedded::{EmbeddedPairs, distinct};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::rng::{Purpose, Stream};
use crate::standardise::Standardiser;
use std::collections::HashMap;

/// The folds of some pairs: pairs of one prompt are in one fold, and member m of an ensemble does
/// not train on fold m modulo their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    of: Vec<usize>,
    count: usize,
}

impl Folds {
    /// Deals prompts to `folds` folds at random. With fewer prompts than folds there are only as
    /// many folds as prompts.
    pub fn assign(prompts: &[u32], folds: usize, seed: u64) -> Folds {
        let mut unique = distinct(prompts);
        Stream::new(seed, Purpose::Folds, 0).shuffle(&mut unique);
        let count = folds.min(unique.len()).max(1);
        let fold: HashMap<u32, usize> =
            unique.iter().enumerate().map(|(i, &p)| (p, i % count)).collect();
        Folds { of: prompts.iter().map(|p| fold[p]).collect(), count }
    }

    /// The `count` folds of an earlier training, with more pairs: a pair with a fold in `earlier`
    /// stays there, so that no member is judged on pairs that it was trained on then, and so do new
    /// pairs (`None`) of its prompt. New prompts are dealt to the smallest folds. Their number stays
    /// what it was, as it decides which members a fold is held out from.
    ///
    /// # Errors
    /// [`CoreError::WarmStart`] when an earlier fold is not one of `count`; [`CoreError::Shape`] when
    /// there are not as many earlier folds as pairs.
    pub fn further(
        prompts: &[u32],
        count: usize,
        earlier: &[Option<usize>],
        seed: u64,
    ) -> Result<Folds, CoreError> {
        if earlier.len() != prompts.len() {
            return Err(CoreError::Shape {
                what: "earlier folds against pairs",
                expected: (prompts.len(), 1),
                found: (earlier.len(), 1),
            });
        }
        let last = earlier.iter().flatten().max().map_or(1, |last| last + 1);
        if last > count {
            return Err(CoreError::WarmStart {
                name: "number of folds",
                expected: format!("at least {last}"),
                found: count.to_string(),
            });
        }
        let mut fold: HashMap<u32, usize> = HashMap::new();
        for (&prompt, known) in prompts.iter().zip(earlier) {
            if let Some(known) = known {
                fold.entry(prompt).or_insert(*known);
            }
        }
        let mut sizes = vec![0usize; count];
        fold.values().for_each(|&f| sizes[f] += 1);
        let mut unique = distinct(prompts);
        Stream::new(seed, Purpose::Folds, 0).shuffle(&mut unique);
        for prompt in unique {
            if let std::collections::hash_map::Entry::Vacant(entry) = fold.entry(prompt) {
                let smallest = (0..count).min_by_key(|&f| sizes[f]).unwrap_or(0);
                entry.insert(smallest);
                sizes[smallest] += 1;
            }
        }
        let of = prompts.iter().zip(earlier).map(|(p, known)| known.unwrap_or(fold[p])).collect();
        Ok(Folds { of, count })
    }

    /// How many folds there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The fold of every pair.
    pub fn of_pairs(&self) -> &[usize] {
        &self.of
    }

    /// Whether member `m` does not train on pair `pair`.
    pub fn held(&self, m: usize, pair: usize) -> bool {
        self.count > 1 && self.of[pair] == m % self.count
    }

    /// A member that does not train on pair `pair`, among the first `members`.
    pub fn judge(&self, pair: usize, members: usize) -> Option<usize> {
        (self.count > 1 && self.of[pair] < members).then(|| self.of[pair])
    }
}

/// A member's figures on its own fold, ties left out.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub log_loss: f64,
    pub accuracy: f64,
    /// Pair and log-loss; none where nothing is held out.
    losses: Vec<(usize, f64)>,
}

impl Figures {
    fn none() -> Self {
        Figures { log_loss: f64::INFINITY, accuracy: 0.0, losses: Vec::new() }
    }

    /// The mean of one figure over those that have a fold.
    pub(crate) fn mean(all: &[Figures], f: impl Fn(&Figures) -> f64) -> Option<f64> {
        let judged: Vec<f64> = all.iter().filter(|x| !x.losses.is_empty()).map(f).collect();
        (!judged.is_empty()).then(|| judged.iter().sum::<f64>() / judged.len() as f64)
    }
}

/// Judges pairs by the members that do not train on them.
pub(crate) struct Judge<'a> {
    pairs: &'a EmbeddedPairs,
    standardiser: &'a Standardiser,
    folds: &'a Folds,
    wanted: Vec<usize>,
    x: Vec<f32>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        pairs: &'a EmbeddedPairs,
        standardiser: &'a Standardiser,
        folds: &'a Folds,
        members: usize,
    ) -> Self {
        let wanted: Vec<usize> = (0..pairs.len())
            .filter(|&i| !pairs.labels[i].is_tie() && folds.judge(i, members).is_some())
            .collect();
        let x = vec![0.0f32; 2 * 512.min(wanted.len()) * pairs.dim()];
        Judge { pairs, standardiser, folds, wanted, x }
    }

    /// Every member's figures.
    pub(crate) fn figures(&mut self, head: &Head, threads: Threads) -> Vec<Figures> {
        let members = head.shape.members;
        let mut sums = vec![(0.0f64, 0.0f64, Vec::new()); members];
        for rows in self.wanted.chunks(512) {
            let x = &mut self.x[..2 * rows.len() * self.pairs.dim()];
            self.pairs.gather(self.standardiser, rows, x, threads);
            let rewards = head.member_rewards(x, threads);
            for (i, &pair) in rows.iter().enumerate() {
                let held = sums.iter_mut().enumerate().filter(|(m, _)| self.folds.held(*m, pair));
                for (m, sum) in held {
                    let a = rewards[i * members + m];
                    let b = rewards[(i + rows.len()) * members + m];
                    let loss = softplus(-(f64::from(a) - f64::from(b)));
                    sum.0 += loss;
                    sum.1 += crate::metrics::credit(a, b);
                    sum.2.push((pair, loss));
                }
            }
        }
        sums.into_iter()
            .map(|(loss, right, losses)| {
                if losses.is_empty() {
                    return Figures::none();
                }
                let n = losses.len() as f64;
                Figures { log_loss: loss / n, accuracy: right / n, losses }
            })
            .collect()
    }
}

/// Log-loss and accuracy of an ensemble's mean reward on `pairs`, ties left out; `None` where that
/// leaves no pair.
pub(crate) fn watched(
    head: &Head,
    pairs: &EmbeddedPairs,
    standardiser: &Standardiser,
    threads: Threads,
) -> Option<(f64, f64)> {
    let decided: Vec<usize> = (0..pairs.len()).filter(|&i| !pairs.labels[i].is_tie()).collect();
    let members = head.shape.members;
    let (mut loss, mut right) = (0.0, 0.0);
    let mut x = vec![0.0f32; 2 * 512.min(decided.len()) * pairs.dim()];
    for rows in decided.chunks(512) {
        let x = &mut x[..2 * rows.len() * pairs.dim()];
        pairs.gather(standardiser, rows, x, threads);
        let rewards = ensemble_mean(&head.member_rewards(x, threads), members);
        let (chosen, rejected) = rewards.split_at(rows.len());
        for (&a, &b) in chosen.iter().zip(rejected) {
            loss += softplus(f64::from(b) - f64::from(a));
            right += crate::metrics::credit(a, b);
        }
    }
    let n = decided.len() as f64;
    (!decided.is_empty()).then(|| (loss / n, right / n))
}

/// The best state of every member so far; of a member that no pair judges, the last, or the first
/// where that is to be kept.
pub(crate) struct Best {
    keep_first: bool,
    pub parameters: Vec<f32>,
    pub figures: Vec<Figures>,
    pub epoch: Vec<usize>,
}

impl Best {
    /// `keep_first`: a member that no pair judges stays as it is in `head`.
    pub(crate) fn new(head: &Head, members: usize, keep_first: bool) -> Self {
        Best {
            keep_first,
            parameters: head.parameters.clone(),
            figures: vec![Figures::none(); members],
            epoch: vec![0; members],
        }
    }

    pub(crate) fn update(&mut self, epoch: usize, head: &Head, fold: &[Figures]) {
        for (m, figures) in fold.iter().enumerate() {
            let better = if figures.losses.is_empty() {
                !self.keep_first
            } else {
                figures.log_loss < self.figures[m].log_loss
            };
            if better {
                self.figures[m] = figures.clone();
                self.epoch[m] = epoch;
                for range in head.shape.of_member(m) {
                    self.parameters[range.clone()].copy_from_slice(&head.parameters[range]);
                }
            }
        }
    }

    /// Whether no member has become better for `patience` epochs.
    pub(crate) fn done(&self, epoch: usize, patience: usize) -> bool {
        self.epoch.iter().all(|&best| epoch - best >= patience)
    }

    pub(crate) fn pair_losses(&self, pairs: usize) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0usize); pairs];
        for &(pair, loss) in self.figures.iter().flat_map(|f| &f.losses) {
            sums[pair].0 += loss;
            sums[pair].1 += 1;
        }
        sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pairs_of_one_prompt_share_a_fold_and_folds_are_even() {
        let prompts: Vec<u32> = (0..100).map(|i| i / 2).collect();
        let folds = Folds::assign(&prompts, 5, 1);
        let of = folds.of_pairs();
        assert!((0..100).step_by(2).all(|i| of[i] == of[i + 1]));
        assert!((0..5).all(|fold| of.iter().filter(|&&f| f == fold).count() == 20));
        assert!((0..100).all(|i| folds.held(of[i], i) && folds.held(of[i] + 5, i)));
    }

    #[test]
    fn one_fold_holds_nothing_out() {
        let folds = Folds::assign(&[0, 1, 2], 1, 1);
        assert!((0..3).all(|i| !folds.held(0, i) && folds.judge(i, 5).is_none()));
    }

    #[test]
    fn prompts_stay_in_the_fold_they_were_in_and_new_ones_fill_the_smallest() {
        let prompts = [0, 0, 1, 2, 3, 4];
        let earlier = [Some(2), None, Some(2), Some(0), None, None];
        let folds = Folds::further(&prompts, 3, &earlier, 1).unwrap();
        assert_eq!(folds.of_pairs()[..4], [2, 2, 2, 0]);
        // Fold 1 was empty and takes one of the two new prompts; then 0 and 1 are level.
        let mut new = folds.of_pairs()[4..].to_vec();
        new.sort_unstable();
        assert_eq!(new, [0, 1]);
        assert!(Folds::further(&prompts, 2, &earlier, 1).is_err());
        assert!(Folds::further(&prompts, 3, &earlier[1..], 1).is_err());
    }

    #[test]
    fn there_are_as_many_folds_as_there_were_whichever_of_them_come_again() {
        // Member 3 of 5 folds was trained on fold 0, so it must not be judged on it now.
        let folds = Folds::further(&[0, 1], 5, &[Some(0), None], 1).unwrap();
        assert_eq!(folds.count(), 5);
        assert!(folds.held(0, 0) && !folds.held(3, 0));
        let new = Folds::further(&[0, 1, 2], 5, &[None; 3], 1).unwrap();
        let mut of = new.of_pairs().to_vec();
        of.sort_unstable();
        assert_eq!((new.count(), of), (5, vec![0, 1, 2]));
        // Pairs that were in two folds stay in both, even if they have one prompt now.
        let two = Folds::further(&[7, 7, 7], 3, &[Some(2), Some(1), None], 1).unwrap();
        assert_eq!(two.of_pairs(), [2, 1, 2]);
    }
}
