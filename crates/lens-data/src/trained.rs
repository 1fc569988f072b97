//! What a reward model was trained on, by content: so that it can be trained further without being
//! judged, or evaluated, on what it has seen.

use std::collections::BTreeMap;

use lens_core::{Content, PreferencePair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::fingerprint::content;
use crate::vet::Prompt;

/// By what a pair is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The text of its prompt: [`prompt_key`].
    Prompt,
    /// The values of its two embeddings: [`embeddings_key`].
    Embeddings,
}

/// 64 bits of the SHA-256 of some parts, each behind its length.
fn key(domain: &str, parts: &[&[u8]]) -> i64 {
    let mut hash = Sha256::new();
    hash.update(domain);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().take(8).fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)).cast_signed()
}

/// A number for the prompt of a pair: prompts that count as the same (white space around them aside,
/// one user message the same as its text) have equal numbers, on any machine. A pair with a blank
/// prompt has one of its own, whichever of its sides is preferred.
pub fn prompt_key(pair: &PreferencePair) -> i64 {
    content_key(&pair.prompt).unwrap_or_else(|| {
        let mut sides = [&pair.chosen, &pair.rejected].map(|side| content(side).to_string());
        sides.sort_unstable();
        key("lens-promptless-pair-v1\n", &[sides[0].as_bytes(), sides[1].as_bytes()])
    })
}

/// The [`prompt_key`] of pairs with this prompt; `None` if it is blank.
pub fn content_key(prompt: &Content) -> Option<i64> {
    if prompt.is_blank() {
        return None;
    }
    Some(match Prompt::of(prompt) {
        Prompt::Text(text) => key("lens-prompt-text-v1\n", &[text.as_bytes()]),
        Prompt::Turns(turns) => {
            let parts: Vec<&[u8]> =
                turns.iter().flat_map(|t| [t.0, t.1].map(str::as_bytes)).collect();
            key("lens-prompt-turns-v1\n", &parts)
        }
    })
}

/// A number for a pair of which only the embeddings are known, whichever side is preferred.
pub fn embeddings_key(chosen: &[f32], rejected: &[f32]) -> i64 {
    let bytes = |row: &[f32]| row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut sides = [bytes(chosen), bytes(rejected)];
    sides.sort_unstable();
    key("lens-embedded-pair-v1\n", &[&sides[0], &sides[1]])
}

/// Everything that a reward model was trained on, in one training or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// What the numbers are.
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
    pub(crate) fn of_columns(
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
    use lens_core::Message;

    fn pair(prompt: Content, chosen: &str, rejected: &str) -> PreferencePair {
        let text = |t: &str| Content::Text(t.to_owned());
        let json = serde_json::json!({"prompt": prompt, "chosen": text(chosen),
            "rejected": text(rejected)});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_prompt_is_known_again_whatever_was_answered() {
        let text = |t: &str| Content::Text(t.to_owned());
        let turn = |t: &str| Message { role: "user".into(), content: t.into() };
        let a = prompt_key(&pair(text("2 + 2?"), "4", "5"));
        assert_eq!(a, prompt_key(&pair(text(" 2 + 2?\n"), "four", "five")));
        assert_eq!(a, prompt_key(&pair(Content::Messages(vec![turn("2 + 2?")]), "4", "5")));
        assert_ne!(a, prompt_key(&pair(text("2 + 3?"), "4", "5")));
        let two = Content::Messages(vec![turn("2 +"), turn("2?")]);
        assert_ne!(a, prompt_key(&pair(two, "4", "5")));
        // Without a prompt it is the pair that is known, either way round.
        let blank = prompt_key(&pair(text(" "), "a", "b"));
        assert_eq!(blank, prompt_key(&pair(text(""), "b", "a")));
        assert_ne!(blank, prompt_key(&pair(text(""), "b", "c")));
    }

    #[test]
    fn keys_are_pinned_as_bundles_hold_them() {
        // (printf 'lens-prompt-text-v1\n'; printf '\1\0\0\0\0\0\0\0p') | sha256sum
        let p = pair(Content::Text("p".into()), "a", "b");
        assert_eq!(format!("{:016x}", prompt_key(&p)), "0bd312989c273172");
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
            Trained::of_columns(KeyKind::Prompt, count, keys.to_vec(), folds.to_vec())
        };
        assert_eq!(of(3, &keys, &folds), Some(trained));
        assert_eq!(of(2, &keys, &folds), None);
        assert_eq!(of(3, &keys, &folds[1..]), None);
        assert_eq!(of(3, &[1], &[-1]), None);
    }
}
