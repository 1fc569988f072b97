//! A name for the exact pairs that a reward model was trained on.

use lens_core::{Content, PreferencePair};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::arrays::Array2;

/// Hashed first, so that another canonical form can never give the same fingerprint.
const FORM: &str = "lens-pairs-v1\n";

/// SHA-256, in lower-case hex, over the pairs in their order: one line of JSON each, without spaces,
/// keys in the order `prompt`, `chosen`, `rejected`, `margin` (left out where there is none).
/// Where the pairs were read from, and their metadata, do not enter.
pub fn fingerprint<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> String {
    let mut hash = Sha256::new();
    hash.update(FORM);
    for pair in pairs {
        hash.update(canonical(pair).to_string());
        hash.update("\n");
    }
    hex(hash)
}

/// SHA-256, in lower-case hex, over shapes and little-endian values of some arrays: the name of
/// what a reward model was trained on where that was embeddings.
pub fn fingerprint_arrays(arrays: &[&Array2]) -> String {
    let mut hash = Sha256::new();
    hash.update("lens-arrays-v1\n");
    for array in arrays {
        for size in array.shape() {
            hash.update((size as u64).to_le_bytes());
        }
        for value in &array.data {
            hash.update(value.to_le_bytes());
        }
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(pair: &PreferencePair) -> Value {
    let mut fields = Map::new();
    fields.insert("prompt".to_owned(), content(&pair.prompt));
    fields.insert("chosen".to_owned(), content(&pair.chosen));
    fields.insert("rejected".to_owned(), content(&pair.rejected));
    if let Some(margin) = pair.margin.and_then(Number::from_f64) {
        fields.insert("margin".to_owned(), Value::Number(margin));
    }
    Value::Object(fields)
}

pub(crate) fn content(content: &Content) -> Value {
    match content {
        Content::Text(text) => Value::String(text.clone()),
        Content::Messages(messages) => messages
            .iter()
            .map(|message| {
                let mut fields = Map::new();
                fields.insert("role".to_owned(), Value::String(message.role.clone()));
                fields.insert("content".to_owned(), Value::String(message.content.clone()));
                Value::Object(fields)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use lens_core::Message;

    fn pair(prompt: &str, margin: Option<f64>) -> PreferencePair {
        PreferencePair {
            prompt: Content::Text(prompt.to_owned()),
            chosen: Content::Messages(vec![Message {
                role: "assistant".to_owned(),
                content: "yes".to_owned(),
            }]),
            rejected: Content::Text("no".to_owned()),
            margin,
        }
    }

    #[test]
    fn the_canonical_form_is_that_of_serde_and_the_hash_is_pinned() {
        let pair = pair("p\n\"é", Some(1.5));
        assert_eq!(canonical(&pair).to_string(), serde_json::to_string(&pair).unwrap());
        // printf 'lens-pairs-v1\n' | sha256sum
        assert_eq!(
            fingerprint([]),
            "212037d16599665ec75454a5ddecf83f330ede50627ba40aa5e1317359592908"
        );
    }

    #[test]
    fn order_margin_and_text_all_count() {
        let (a, b) = (pair("a", None), pair("b", None));
        let prints = [
            fingerprint([&a, &b]),
            fingerprint([&b, &a]),
            fingerprint([&a]),
            fingerprint([&pair("a", Some(0.0))]),
        ];
        for (i, print) in prints.iter().enumerate() {
            assert_eq!(print.len(), 64);
            assert!(!prints[..i].contains(print));
        }
        assert_eq!(fingerprint([&a]), fingerprint([&a.clone()]));
    }
}
