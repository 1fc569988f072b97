//! An encoder's model as a checkpoint of transformers.
//!
//! - `config`: `config.json`, from the description of the model that the forward pass has;
//! - `tensors`: the model's tensors in the names and the order of rows of transformers, decoded where a
//!   GGUF file has them in blocks;
//! - `shards`: safetensors files, written as they are decoded;
//! - the tokenizer's files are written by `tokenizer::export`, the chat template by `template`.
//!
//! What is written is what the encoder computes: a text that goes through the exported template and
//! tokenizer becomes the tokens that the encoder makes of it, to which a check holds it.

mod config;
mod shards;
mod template;
mod tensors;

use crate::encoder::Encoder;
use crate::error::{EncoderError, Result};
use crate::family::NormPlacement;
use crate::tokenizer::{Exported, TokenizerFiles};
use lens_core::{Exchange, Progress};
use lens_data::Error;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

pub use shards::ExportType;
use tensors::{Tensor, Tensors};

const CONFIG: &str = "config.json";
/// Bytes of a file of weights; a larger tensor has a file of its own.
const SHARD: usize = 5_000_000_000;

/// Which class of transformers an exported model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointClass {
    /// `..ForSequenceClassification`: the model with a head on its last token.
    SequenceClassification,
    /// The model alone, `..Model`.
    Bare,
    /// A model within another one, whose class the caller names.
    Within,
}

/// A tensor of a head, by its name in the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTensor {
    /// Its name.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// As many values as the shape has.
    pub values: Vec<f32>,
}

/// What is exported of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointOptions {
    /// The class.
    pub class: CheckpointClass,
    /// In which form weights are written.
    pub dtype: ExportType,
    /// How many blocks are kept, from the first one on; the final norm follows the last of them.
    pub layers: usize,
    /// What stands after every text.
    pub suffix: Option<String>,
    /// Tensors of the head.
    pub tensors: Vec<HeadTensor>,
    /// Entries of `config.json` beside the model's, or in their place.
    pub config: Map<String, Value>,
    /// Most bytes of one file of weights. `None`: five gigabytes.
    pub shard_bytes: Option<usize>,
}

/// A written checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The token that fills lists of tokens up to one length; no text ends in it.
    pub pad_token_id: u32,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The model's `config.json`.
    pub config: Value,
}

impl Encoder {
    /// Writes the encoder's model, its tokenizer and its template into `folder`, as transformers reads
    /// them: `config.json`, safetensors (in several files where they are large), `tokenizer.json`,
    /// `tokenizer_config.json` and `chat_template.jinja`. Weights go through memory some MB at a time.
    /// `texts` show how texts end.
    ///
    /// # Errors
    /// [`EncoderError::NotExportable`] with what transformers cannot hold; the problem of a tensor or
    /// the tokenizer; [`EncoderError::Output`]; [`EncoderError::Cancelled`]. Files may then be
    /// half-written: give a folder that is thrown away.
    pub fn write_checkpoint(
        &self,
        folder: &Path,
        options: &CheckpointOptions,
        texts: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Checkpoint> {
        let (files, spec) = (self.files(), self.spec());
        if !(1..=spec.layers.len()).contains(&options.layers) {
            let (layers, all) = (options.layers, spec.layers.len());
            return Err(not_exportable(format!("{layers} of its {all} blocks cannot be kept")));
        }
        if spec.placement == NormPlacement::Post
            && options.class == CheckpointClass::SequenceClassification
        {
            let what = "a classifier of its family has a layer between the model and its head";
            return Err(not_exportable(what.into()));
        }
        let tokenizer = self.tokenizer()?;
        let suffix = match &options.suffix {
            Some(suffix) => tokenizer.fragment(suffix)?,
            None => Vec::new(),
        };
        let mut ends = BTreeSet::new();
        for text in texts {
            let ids = self.exchange_ids(text)?;
            ends.extend(suffix.last().or(ids.last()));
        }
        let template = template::exported(self, &tokenizer, options.suffix.as_deref())?;
        let identity = self.identity();
        let exported = Exported {
            vocab: spec.vocab,
            add_bos: identity.add_bos,
            max_length: identity.max_length,
            template: template.as_deref(),
            ends: &ends,
        };
        let TokenizerFiles { files: tokenizer_files, pad, bos, eos } =
            tokenizer.export(files, &exported)?;
        let rows = spec.vocab.max(pad as usize + 1);
        let (mut config, bytes) = self.write_model(folder, options, rows, progress)?;
        for (key, id) in [("bos_token_id", bos), ("eos_token_id", eos), ("pad_token_id", Some(pad))]
        {
            config.insert(key.to_owned(), id.map_or(Value::Null, Value::from));
        }
        for (name, contents) in tokenizer_files {
            let path = folder.join(name);
            std::fs::write(&path, contents).map_err(|e| Error::io(&path, "write", e))?;
        }
        let model = Value::Object(config.clone());
        config.extend(options.config.clone());
        write_json(&folder.join(CONFIG), &config.into())?;
        Ok(Checkpoint { pad_token_id: pad, bytes, config: model })
    }

    /// Writes the weights, with `rows` rows of the token table; returns `config.json`, which says nothing of
    /// the tokenizer yet, and the bytes of all tensors.
    fn write_model(
        &self,
        folder: &Path,
        options: &CheckpointOptions,
        rows: usize,
        progress: &dyn Progress,
    ) -> Result<(Map<String, Value>, u64)> {
        let (files, spec) = (self.files(), self.spec());
        let (prefix, suffix) = match options.class {
            CheckpointClass::SequenceClassification => {
                ("model.", Some("ForSequenceClassification"))
            }
            CheckpointClass::Bare => ("", Some("Model")),
            CheckpointClass::Within => ("model.", None),
        };
        let tensors = Tensors { files, spec, layout: self.layout(), prefix };
        let family = config::family(spec)?;
        let mut config = config::config(spec, options.layers, rows, tensors.table_rows()?)?;
        if let Some(suffix) = suffix {
            let name = format!("{}{suffix}", family.class);
            config.insert("architectures".to_owned(), vec![name].into());
        }
        config.insert("dtype".to_owned(), options.dtype.name().into());
        config.insert("torch_dtype".to_owned(), options.dtype.name().into());
        let mut all = tensors.list(options.layers, rows)?;
        let given = options.tensors.iter();
        all.extend(given.map(|t| Tensor::given(&t.name, t.shape.clone(), t.values.clone())));
        let limit = options.shard_bytes.unwrap_or(SHARD);
        let bytes = shards::write(folder, &all, options.dtype, limit, progress)?;
        Ok((config, bytes))
    }

    /// Token ids of an exchange with a suffix behind it, as a view with that suffix has them.
    ///
    /// # Errors
    /// The problem of the tokenizer or the template.
    pub fn exchange_ids_with(&self, exchange: &Exchange, suffix: Option<&str>) -> Result<Vec<u32>> {
        let mut ids = self.exchange_ids(exchange)?;
        if let Some(suffix) = suffix {
            ids.extend(self.tokenizer()?.fragment(suffix)?);
        }
        Ok(ids)
    }

    /// Token ids of a view's suffix, in which names of control tokens are parsed.
    ///
    /// # Errors
    /// The problem of the tokenizer.
    pub fn fragment_ids(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer()?.fragment(text)
    }

    /// An exchange as text with a suffix behind it, without the tokens that the tokenizer adds to every
    /// text by itself: with them it becomes the tokens of [`Encoder::exchange_ids_with`].
    ///
    /// # Errors
    /// The problem of the tokenizer or the template.
    pub fn exchange_text_with(&self, exchange: &Exchange, suffix: Option<&str>) -> Result<String> {
        let text = template::unframed(self, exchange)?;
        Ok(match suffix {
            Some(suffix) => text + &template::suffix_text(self, suffix)?,
            None => text,
        })
    }
}

fn not_exportable(detail: String) -> EncoderError {
    EncoderError::NotExportable { detail }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(std::fs::write(path, pretty(value)?).map_err(|e| Error::io(path, "write", e))?)
}

/// A file of JSON for people.
pub(crate) fn pretty(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| not_exportable(e.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests;
