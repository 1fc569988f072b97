//! By what prompts are recognised: keys that mean the same on any machine, and numbers within a set.

use crate::dataset::fingerprint::content;
use lens_core::{Content, PreferencePair};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// 64 bits of the SHA-256 of some parts, each behind its length.
pub(crate) fn hash_key(domain: &str, parts: &[&[u8]]) -> i64 {
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
    PromptKey::of_pair(pair).key
}

/// The [`prompt_key`] of pairs with this prompt; `None` if it is blank.
pub fn content_key(prompt: &Content) -> Option<i64> {
    if prompt.is_blank() {
        return None;
    }
    let turns = match prompt {
        Content::Text(text) => return Some(text_key(text)),
        Content::Messages(messages) => messages,
    };
    if let [only] = turns.as_slice()
        && only.role == "user"
    {
        return Some(text_key(&only.content));
    }
    let parts: Vec<&[u8]> =
        turns.iter().flat_map(|t| [&*t.role, t.content.trim()]).map(str::as_bytes).collect();
    Some(hash_key("lens-prompt-turns-v1\n", &parts))
}

fn text_key(text: &str) -> i64 {
    hash_key("lens-prompt-text-v1\n", &[text.trim().as_bytes()])
}

/// A number for every prompt, counted from 0 in the order of first occurrence: prompts with equal
/// [`content_key`]s have equal numbers. Blank prompts have a number each.
pub fn prompt_numbers<'a>(prompts: impl Iterator<Item = &'a Content>) -> Vec<u32> {
    number(prompts.map(content_key))
}

/// Numbers keys from 0 in the order of first occurrence; every `None` has a number of its own.
fn number(keys: impl Iterator<Item = Option<i64>>) -> Vec<u32> {
    let mut seen: HashMap<i64, u32> = HashMap::new();
    let mut next = 0;
    keys.map(|key| {
        let number = key.map_or(next, |key| *seen.entry(key).or_insert(next));
        if number == next {
            next += 1;
        }
        number
    })
    .collect()
}

/// The key of a pair's prompt, as a set of pairs keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptKey {
    /// The [`prompt_key`].
    pub key: i64,
    /// Whether the prompt is blank, so that the key is that of the pair.
    pub blank: bool,
}

impl PromptKey {
    pub fn of_pair(pair: &PreferencePair) -> PromptKey {
        if let Some(key) = content_key(&pair.prompt) {
            return PromptKey { key, blank: false };
        }
        let mut sides = [&pair.chosen, &pair.rejected].map(|side| content(side).to_string());
        sides.sort_unstable();
        let parts = [sides[0].as_bytes(), sides[1].as_bytes()];
        PromptKey { key: hash_key("lens-promptless-pair-v1\n", &parts), blank: true }
    }

    /// As [`prompt_numbers`] of the same prompts.
    pub fn numbers(keys: &[PromptKey]) -> Vec<u32> {
        number(keys.iter().map(|k| (!k.blank).then_some(k.key)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lens_core::Message;

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    fn turn(text: &str) -> Message {
        Message { role: "user".into(), content: text.into() }
    }

    fn pair(prompt: Content, chosen: &str, rejected: &str) -> PreferencePair {
        let json = serde_json::json!({"prompt": prompt, "chosen": text(chosen),
            "rejected": text(rejected)});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_prompt_is_recognised_whatever_was_answered() {
        let a = prompt_key(&pair(text("2 + 2?"), "4", "5"));
        assert_eq!(a, prompt_key(&pair(text(" 2 + 2?\n"), "four", "five")));
        assert_eq!(a, prompt_key(&pair(Content::Messages(vec![turn("2 + 2?")]), "4", "5")));
        assert_ne!(a, prompt_key(&pair(text("2 + 3?"), "4", "5")));
        let two = Content::Messages(vec![turn("2 +"), turn("2?")]);
        assert_ne!(a, prompt_key(&pair(two, "4", "5")));
        // Without a prompt it is the pair that is recognised, either way round.
        let blank = prompt_key(&pair(text(" "), "a", "b"));
        assert_eq!(blank, prompt_key(&pair(text(""), "b", "a")));
        assert_ne!(blank, prompt_key(&pair(text(""), "b", "c")));
    }

    #[test]
    fn keys_are_pinned_as_bundles_hold_them() {
        // (printf 'lens-prompt-text-v1\n'; printf '\1\0\0\0\0\0\0\0p') | sha256sum
        let p = pair(text("p"), "a", "b");
        assert_eq!(format!("{:016x}", prompt_key(&p)), "0bd312989c273172");
    }

    #[test]
    fn prompts_are_numbered_by_first_occurrence_and_blank_ones_apart() {
        let message = Content::Messages(vec![turn("b")]);
        let prompts = [text("b"), text(" "), text("a"), text(" b"), text(" "), message, text("c")];
        assert_eq!(prompt_numbers(prompts.iter()), [0, 1, 2, 0, 3, 0, 4]);
        let pairs = prompts.map(|prompt| pair(prompt, "x", "y"));
        let keys: Vec<PromptKey> = pairs.iter().map(PromptKey::of_pair).collect();
        assert_eq!(PromptKey::numbers(&keys), [0, 1, 2, 0, 3, 0, 4]);
    }
}
