//! Embeddings files out.

use super::{StoredView, keys};
use crate::arrays::{Array2, FloatType, Tensor, write_tensors};
use crate::encoder::EncoderRecord;
use crate::error::Error;
use lens_core::Label;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The numbers of the prompts in an embeddings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptColumn<'a> {
    /// None: the rows are texts without a prompt.
    None,
    /// Numbers that mean something within the file only.
    Numbers(&'a [i64]),
    /// The [`prompt_key`](crate::prompts::prompt_key) of each pair, which means the same in every
    /// file.
    Keys(&'a [i64]),
}

/// Embeddings to be written, with everything that says what they are.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingsFile<'a> {
    /// The tables by name, `[n, d]` each.
    pub tables: &'a [(&'a str, &'a Array2)],
    /// The type that their values are stored in.
    pub dtype: FloatType,
    /// The line of the dataset that each row is of.
    pub lines: &'a [i64],
    /// The numbers of the prompts.
    pub prompts: PromptColumn<'a>,
    /// The labels of pairs; empty for other rows.
    pub labels: &'a [Label],
    /// The encoder that made the embeddings.
    pub encoder: &'a EncoderRecord,
}

impl EmbeddingsFile<'_> {
    /// Writes the file, which appears whole or not at all. Margins and ties are stored where any pair
    /// has one.
    ///
    /// # Errors
    /// As [`write_tensors`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let tables = self.tables.iter().map(|(name, a)| (*name, Tensor::Floats(a, self.dtype)));
        let mut stored: Vec<(&str, Tensor<'_>)> = tables.collect();
        stored.push((keys::ROW, Tensor::Integers(self.lines)));
        let mut metadata = metadata_of(path, Some(self.encoder))?;
        match self.prompts {
            PromptColumn::None => {}
            PromptColumn::Numbers(numbers) => {
                stored.push((keys::PROMPT, Tensor::Integers(numbers)));
            }
            PromptColumn::Keys(prompts) => {
                stored.push((keys::PROMPT, Tensor::Integers(prompts)));
                metadata.insert(keys::PROMPT.to_owned(), keys::PROMPT_NUMBERS.to_owned());
            }
        }
        let margin = |label: &Label| match label {
            Label::Preferred { margin } => *margin,
            Label::Tie => 0.0,
        };
        let margins: Vec<f32> = self.labels.iter().map(margin).collect();
        if margins.iter().any(|&margin| margin != 0.0) {
            stored.push((keys::MARGIN, Tensor::Vector(&margins)));
        }
        let ties: Vec<i64> = self.labels.iter().map(|label| i64::from(label.is_tie())).collect();
        if ties.contains(&1) {
            stored.push((keys::TIE, Tensor::Integers(&ties)));
        }
        let identity = &self.encoder.identity;
        let place = |(i, view)| {
            let columns = [i * identity.dim, (i + 1) * identity.dim];
            StoredView { columns, view }
        };
        let views: Vec<_> = identity.views.iter().cloned().enumerate().map(place).collect();
        if !views.is_empty() {
            metadata.insert(keys::VIEWS.to_owned(), json(path, &views)?);
        }
        write_tensors(path, &stored, &metadata)
    }
}

/// The metadata of a file of synthetic responses: the settings that they were drawn with, and the
/// encoder where they are embeddings that it could have made (`None` for codes, which are not).
///
/// # Errors
/// [`Error::Corrupt`] for settings that have no form in JSON.
pub fn synthetic_metadata(
    path: &Path,
    settings: &impl Serialize,
    encoder: Option<&EncoderRecord>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut metadata = metadata_of(path, encoder)?;
    metadata.insert(keys::SYNTHETIC.to_owned(), json(path, settings)?);
    Ok(metadata)
}

fn metadata_of(
    path: &Path,
    encoder: Option<&EncoderRecord>,
) -> Result<BTreeMap<String, String>, Error> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut metadata = BTreeMap::from([(keys::LENS_VERSION.to_owned(), version)]);
    if let Some(encoder) = encoder {
        metadata.insert(keys::ENCODER.to_owned(), json(path, encoder)?);
    }
    Ok(metadata)
}

fn json(path: &Path, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::corrupt(path, "metadata", e))
}
