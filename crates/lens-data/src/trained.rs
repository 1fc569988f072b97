//! The pairs that a reward model was trained on, by content: so that it is neither trained further nor
//! evaluated on pairs that are taken for new.

use crate::prompts::hash_key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kind of key by which a pair is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The text of its prompt: [`prompt_key`](crate::prompts::prompt_key).
    Prompt,
    /// The values of its two embeddings: [`embeddings_key`].
    Embeddings,
}

/// A key for a pair whose embeddings alone are known. It is the same whichever side is preferred.
pub fn embeddings_key(chosen: &[f32], rejected: &[f32]) -> i64 {
    let bytes = |row: &[f32]| row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut sides = [bytes(chosen), bytes(rejected)];
    sides.sort_unstable();
    hash_key("lens-embedded-pair-v1\n", &[&sides[0], &sides[1]])
}

/// Everything that a reward model was trained on, in one training or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The kind of the keys.
    pub by: KeyKind,
    /// How many folds the ensemble has: a fold is held out from the members whose number has this
    /// remainder.
    pub fold_count: usize,
    folds: BTreeMap<i64, usize>,
}

impl Trained {
    /// Nothing yet.
    pub fn new(by: KeyKind, fold_count: usize) -> Trained {
        Trained { by, fold_count, folds: BTreeMap::new() }
    }

    /// Adds keys with their folds. One that is known keeps its fold.
    pub fn extend(&mut self, keys: impl IntoIterator<Item = (i64, usize)>) {
        for (key, fold) in keys {
            self.folds.entry(key).or_insert(fold);
        }
    }

    /// The fold of a key; `None` if it was not trained on.
    pub fn fold(&self, key: i64) -> Option<usize> {
        self.folds.get(&key).copied()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.folds.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.folds.is_empty()
    }

    /// Keys in ascending order, and their folds.
    pub(crate) fn columns(&self) -> (Vec<i64>, Vec<i64>) {
        self.folds
            .iter()
            .map(|(&key, &fold)| (key, i64::try_from(fold).unwrap_or(i64::MAX)))
            .unzip()
    }

    /// The reverse of [`Trained::columns`]; `None` unless there is a fold for every key, each one of
    /// `fold_count`.
    pub(crate) fn from_columns(
        by: KeyKind,
        fold_count: usize,
        keys: Vec<i64>,
        folds: Vec<i64>,
    ) -> Option<Trained> {
        if keys.len() != folds.len() {
            return None;
        }
        let fold = |f: i64| usize::try_from(f).ok().filter(|&f| f < fold_count);
        let folds = keys.into_iter().zip(folds).map(|(key, f)| Some((key, fold(f)?)));
        Some(Trained { by, fold_count, folds: folds.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_embedded_pair_is_recognised_either_way_round() {
        let (a, b) = ([1.0, 2.0], [3.0, 4.0]);
        assert_eq!(embeddings_key(&a, &b), embeddings_key(&b, &a));
        assert_ne!(embeddings_key(&a, &b), embeddings_key(&a, &a));
    }

    #[test]
    fn columns_that_do_not_belong_together_are_refused() {
        let mut trained = Trained::new(KeyKind::Prompt, 3);
        trained.extend([(7, 2), (-1, 0), (7, 1)]);
        assert_eq!((trained.len(), trained.fold(7), trained.fold(8)), (2, Some(2), None));
        let (keys, folds) = trained.columns();
        assert_eq!((keys.as_slice(), folds.as_slice()), (&[-1, 7][..], &[0, 2][..]));
        let of = |count, keys: &[i64], folds: &[i64]| {
            Trained::from_columns(KeyKind::Prompt, count, keys.to_vec(), folds.to_vec())
        };
        assert_eq!(of(3, &keys, &folds), Some(trained));
        assert_eq!(of(2, &keys, &folds), None);
        assert_eq!(of(3, &keys, &folds[1..]), None);
        assert_eq!(of(3, &[1], &[-1]), None);
    }
}
