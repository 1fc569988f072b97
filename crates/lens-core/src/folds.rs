//! Folds: which pairs are held out from which member of an ensemble.

use crate::embedded::{Label, distinct};
use crate::error::CoreError;
use crate::rng::{Purpose, Stream};
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
    /// stays there, so that no member is evaluated on pairs that it was trained on then, and so do new
    /// pairs (`None`) of its prompt. New prompts are dealt to the smallest folds. Their number stays
    /// what it was, as it decides which members a fold is held out from.
    ///
    /// # Errors
    /// [`CoreError::WarmStart`] when an earlier fold is not one of `count`; [`CoreError::Shape`] when
    /// there are not as many earlier folds as pairs.
    pub fn assign_from_earlier(
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
    pub fn is_held_out(&self, m: usize, pair: usize) -> bool {
        self.count > 1 && self.of[pair] == m % self.count
    }

    /// A member that does not train on pair `pair`, among the first `members`.
    pub fn held_out_member(&self, pair: usize, members: usize) -> Option<usize> {
        (self.count > 1 && self.of[pair] < members).then(|| self.of[pair])
    }
}

/// The pairs of its own fold that each pair may be mixed with: those that are no ties.
pub(crate) struct FoldPartners {
    by_fold: Vec<Vec<usize>>,
    fold: Vec<usize>,
    tie: Vec<bool>,
}

impl FoldPartners {
    pub(crate) fn new(labels: &[Label], folds: &Folds) -> FoldPartners {
        // A tie has no better side: mixed with it a pair would lose its label.
        let tie: Vec<bool> = labels.iter().map(|label| label.is_tie()).collect();
        let fold = folds.of_pairs().to_vec();
        let mut by_fold = vec![Vec::new(); folds.count()];
        (0..tie.len()).filter(|&i| !tie[i]).for_each(|i| by_fold[fold[i]].push(i));
        FoldPartners { by_fold, fold, tie }
    }

    /// A random partner of `pair`, perhaps itself. A tie has no other, and neither has a pair whose
    /// fold has ties only.
    pub(crate) fn draw(&self, pair: usize, stream: &mut Stream) -> usize {
        let partners = &self.by_fold[self.fold[pair]];
        match self.tie[pair] || partners.is_empty() {
            true => pair,
            false => partners[stream.below(partners.len())],
        }
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
        assert!((0..100).all(|i| folds.is_held_out(of[i], i) && folds.is_held_out(of[i] + 5, i)));
    }

    #[test]
    fn one_fold_holds_nothing_out() {
        let folds = Folds::assign(&[0, 1, 2], 1, 1);
        assert!((0..3).all(|i| !folds.is_held_out(0, i) && folds.held_out_member(i, 5).is_none()));
    }

    #[test]
    fn prompts_stay_in_the_fold_they_were_in_and_new_ones_fill_the_smallest() {
        let prompts = [0, 0, 1, 2, 3, 4];
        let earlier = [Some(2), None, Some(2), Some(0), None, None];
        let folds = Folds::assign_from_earlier(&prompts, 3, &earlier, 1).unwrap();
        assert_eq!(folds.of_pairs()[..4], [2, 2, 2, 0]);
        // Fold 1 was empty and takes one of the two new prompts; then 0 and 1 are level.
        let mut new = folds.of_pairs()[4..].to_vec();
        new.sort_unstable();
        assert_eq!(new, [0, 1]);
        assert!(Folds::assign_from_earlier(&prompts, 2, &earlier, 1).is_err());
        assert!(Folds::assign_from_earlier(&prompts, 3, &earlier[1..], 1).is_err());
    }

    #[test]
    fn there_are_as_many_folds_as_there_were_whichever_of_them_come_again() {
        // Member 3 of 5 folds was trained on fold 0, so it must not be evaluated on it now.
        let folds = Folds::assign_from_earlier(&[0, 1], 5, &[Some(0), None], 1).unwrap();
        assert_eq!(folds.count(), 5);
        assert!(folds.is_held_out(0, 0) && !folds.is_held_out(3, 0));
        let new = Folds::assign_from_earlier(&[0, 1, 2], 5, &[None; 3], 1).unwrap();
        let mut of = new.of_pairs().to_vec();
        of.sort_unstable();
        assert_eq!((new.count(), of), (5, vec![0, 1, 2]));
        // Pairs that were in two folds stay in both, even if they have one prompt now.
        let two = Folds::assign_from_earlier(&[7, 7, 7], 3, &[Some(2), Some(1), None], 1).unwrap();
        assert_eq!(two.of_pairs(), [2, 1, 2]);
    }
}
