//! The embeddings file: hidden states as arrays in one safetensors file, with everything that says
//! what they are. This is its one reader, its one writer and its one set of names.
//!
//! A file of pairs holds `chosen` and `rejected`, `[n, d]` each, and beside them `row` (line numbers),
//! `prompt`, and where there are any `margin` and `tie`, `[n]` each. Its metadata says which encoder
//! made the embeddings (`encoder`, an [`EncoderRecord`]) and which columns hold which view (`views`).
//! A file of other rows holds one table: `text`, `response` or `responses`.
//!
//! Files from elsewhere may hold the tables alone, under other names, and two `.npy` files can stand
//! for the two sides. [`StoredPairs::open`] reads pairs, [`StoredTable::open`] a single table,
//! [`EmbeddingsFile::write`] writes.

pub mod keys;
mod labels;
mod pairs;
#[cfg(test)]
mod tests;
mod views;
mod write;

use crate::arrays::ArrayFile;
use crate::encoder::EncoderRecord;
use std::collections::BTreeMap;

pub use pairs::{StoreKeys, StoredPairs, StoredTable};
pub use views::{StoredView, StoredViews, ViewColumns, covers_all, pairs_of_columns};
pub use write::{EmbeddingsFile, PromptColumn, synthetic_metadata};

/// The record of the encoder that made the embeddings of a file; `None` where the file has no such
/// record, as files from elsewhere.
pub fn stored_encoder(file: &ArrayFile) -> Option<EncoderRecord> {
    encoder_of(&file.metadata())
}

fn encoder_of(metadata: &BTreeMap<String, String>) -> Option<EncoderRecord> {
    // Another tool may keep something else under this name, which says nothing to us.
    metadata.get(keys::ENCODER).and_then(|text| serde_json::from_str(text).ok())
}
