//! A name for the exact pairs that a reward model was trained on.

use crate::arrays::Array2;
use crate::error::Error;
use lens_core::{Content, Label, PreferencePair, Progress, Rows};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

/// Hashed first, so that another canonical form can never give the same fingerprint.
const FORM: &str = "lens-pairs-v1\n";

/// SHA-256, in lower-case hex, over the pairs in their order: one line of JSON each, without spaces,
/// keys in the order `prompt`, `chosen`, `rejected`, `margin` (left out where there is none), `tie`
/// (left out where it is false).
/// Where the pairs were read from, and their metadata, do not enter.
pub fn fingerprint<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> String {
    let mut fingerprint = Fingerprint::default();
    for pair in pairs {
        fingerprint.add(pair);
    }
    fingerprint.finish()
}

/// The [`fingerprint`] of pairs that come one after another.
#[derive(Debug, Clone)]
pub struct Fingerprint(Sha256);

impl Default for Fingerprint {
    fn default() -> Self {
        let mut hash = Sha256::new();
        hash.update(FORM);
        Fingerprint(hash)
    }
}

impl Fingerprint {
    /// Adds the next pair.
    pub fn add(&mut self, pair: &PreferencePair) {
        self.0.update(canonical(pair).to_string());
        self.0.update("\n");
    }

    /// The fingerprint of all that were added.
    pub fn finish(self) -> String {
        hex(self.0)
    }
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
        update(&mut hash, &array.data);
    }
    hex(hash)
}

/// As [`fingerprint_arrays`], over tables read row by row: the same for the same values, in
/// whatever form they are stored. Labels enter where one of them is a tie or has a margin.
/// [`Error::Cancelled`] where `progress` is cancelled.
pub fn fingerprint_rows(
    tables: &[&dyn Rows],
    labels: &[Label],
    progress: &dyn Progress,
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update("lens-arrays-v1\n");
    for table in tables {
        for size in [table.rows(), table.dim()] {
            hash.update((size as u64).to_le_bytes());
        }
        let mut row = vec![0.0; table.dim()];
        for i in 0..table.rows() {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            table.read(i, &mut row);
            update(&mut hash, &row);
            progress.advance(1);
        }
    }
    if labels.iter().any(|label| *label != Label::default()) {
        hash.update("labels\n");
        for label in labels {
            match label {
                Label::Tie => hash.update([1; 5]),
                Label::Preferred { margin } => {
                    hash.update([0]);
                    hash.update(margin.to_le_bytes());
                }
            }
        }
    }
    Ok(hex(hash))
}

/// Adds little-endian values, many at a time.
fn update(hash: &mut Sha256, values: &[f32]) {
    let mut bytes = [[0u8; 4]; 1024];
    for values in values.chunks(bytes.len()) {
        for (bytes, value) in bytes.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        hash.update(bytes[..values.len()].as_flattened());
    }
}

/// The digest in hex.
pub(crate) fn hex(hash: Sha256) -> String {
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
    if pair.tie {
        fields.insert("tie".to_owned(), Value::Bool(true));
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
            tie: false,
        }
    }

    #[test]
    fn the_canonical_form_is_that_of_serde_and_the_hash_is_pinned() {
        let pair = pair("p\n\"é", Some(1.5));
        assert_eq!(canonical(&pair).to_string(), serde_json::to_string(&pair).unwrap());
        let tie = PreferencePair { tie: true, margin: None, ..pair.clone() };
        assert_eq!(canonical(&tie).to_string(), serde_json::to_string(&tie).unwrap());
        assert!(canonical(&tie).to_string().ends_with(r#","tie":true}"#));
        // printf '{"prompt":..}\n' of before there were ties: the same name still.
        assert!(!canonical(&pair).to_string().contains("tie"));
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
            fingerprint([&PreferencePair { tie: true, ..pair("a", None) }]),
        ];
        for (i, print) in prints.iter().enumerate() {
            assert_eq!(print.len(), 64);
            assert!(!prints[..i].contains(print));
        }
        assert_eq!(fingerprint([&a]), fingerprint([&a.clone()]));
    }
}
