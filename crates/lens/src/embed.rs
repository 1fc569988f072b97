//! Texts or pairs to embeddings, stored as safetensors.

use crate::error::stop_if_cancelled;
use crate::inputs::resolve_input;
use crate::models::{
    encoder_record, note_encoder, note_truncated, open_encoder, open_encoder_of_bundle,
};
use crate::options::{BundleModelOptions, ModelOptions};
use crate::outputs::check_output;
use crate::{Error, Progress};
use lens_core::{Content, Exchange, Label};
use lens_data::bundle::Bundle;
use lens_data::{
    Array2, EmbeddingsFile, FloatType, Input, PromptColumn, ReadOptions, Row, ScoreRow, prompt_key,
    prompt_numbers, read_exchanges_with,
};
use lens_encoder::{Encoded, TextEncoder};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What [`embed()`] is told.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Rows of pairs, of prompt and response(s), or of text.
    pub file: Input,
    /// The safetensors file to write; one that is there is replaced.
    pub output: PathBuf,
    /// The encoder.
    pub encoder: EmbedWith,
    /// In which form embeddings are stored. Defaults to f32.
    pub dtype: FloatType,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
}

/// Which encoder makes embeddings.
#[derive(Debug, Clone)]
pub enum EmbedWith {
    /// A language model with its views.
    Model(ModelOptions),
    /// The encoder that a reward model was trained with.
    Bundle {
        /// The reward model's folder.
        path: PathBuf,
        /// What is named of its encoder.
        encoder: BundleModelOptions,
    },
}

impl EmbedOptions {
    /// The defaults, for a file of rows and a file to write.
    pub fn new(file: impl Into<Input>, output: impl Into<PathBuf>) -> Self {
        EmbedOptions {
            file: file.into(),
            output: output.into(),
            encoder: EmbedWith::Model(ModelOptions::default()),
            dtype: FloatType::default(),
            reading: ReadOptions::default(),
        }
    }
}

/// What [`embed()`] did. Serialises to what `lens embed --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbedResult {
    /// Rows read.
    pub read: usize,
    /// Rows embedded.
    pub embedded: usize,
    /// Rows that could not be read.
    pub malformed: usize,
    /// The tables written, with their shapes `[n, d]`, in their order.
    #[serde(serialize_with = "shapes")]
    pub tensors: Vec<(String, [usize; 2])>,
    /// In which form they are stored.
    pub dtype: FloatType,
    /// The file.
    pub output: PathBuf,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Tokens of all texts.
    pub tokens: u64,
    /// Tokens that went through the model: not cached, not shared between texts.
    pub computed: u64,
}

fn shapes<S: serde::Serializer>(
    tensors: &[(String, [usize; 2])],
    to: S,
) -> Result<S::Ok, S::Error> {
    let shapes = tensors.iter().map(|(name, shape)| (name.clone(), json!(shape)));
    shapes.collect::<Map<String, Value>>().serialize(to)
}

/// Embeds the rows of a file.
///
/// # Errors
/// What is wrong with the options, the file, the model or the output; rows of several kinds.
pub fn embed(options: &EmbedOptions, progress: &dyn Progress) -> Result<EmbedResult, Error> {
    let start = Instant::now();
    if let EmbedWith::Model(model) = &options.encoder {
        model.check()?;
    }
    check_output(&options.file, &options.output)?;
    let runtime = match &options.encoder {
        EmbedWith::Model(model) => &model.runtime,
        EmbedWith::Bundle { encoder, .. } => &encoder.runtime,
    };
    let input = resolve_input(&options.file, runtime, progress)?;
    let set = read_exchanges_with(&input, &options.reading, progress)?;
    for row in &set.malformed {
        progress.note(&format!("left out: {row}"));
    }
    let (encoder, model) = open(&options.encoder, progress)?;
    note_encoder(encoder.as_ref(), progress);
    let arrays = arrays(&set.rows, encoder.as_ref(), progress)?;
    note_truncated(&arrays.encoded, encoder.identity().max_length, progress);
    let tables: Vec<(&str, &Array2)> = arrays.tables.iter().map(|(n, a)| (*n, a)).collect();
    let prompts = match arrays.prompts.as_slice() {
        [] => PromptColumn::None,
        keys if tables.len() == 2 => PromptColumn::Keys(keys),
        numbers => PromptColumn::Numbers(numbers),
    };
    let file = EmbeddingsFile {
        tables: &tables,
        dtype: options.dtype,
        lines: &arrays.rows,
        prompts,
        labels: &arrays.labels,
        encoder: &encoder_record(encoder.as_ref(), &model),
    };
    stop_if_cancelled(progress)?;
    file.write(&options.output)?;
    let stats = encoder.stats();
    Ok(EmbedResult {
        read: set.read,
        embedded: set.rows.len(),
        malformed: set.malformed.len(),
        tensors: tables.iter().map(|(name, a)| ((*name).to_owned(), [a.rows, a.dim])).collect(),
        dtype: options.dtype,
        output: options.output.clone(),
        seconds: start.elapsed().as_secs_f64(),
        tokens: stats.tokens,
        computed: stats.computed,
    })
}

/// Opens the encoder; with it the name of its model.
fn open(
    encoder: &EmbedWith,
    progress: &dyn Progress,
) -> Result<(Box<dyn TextEncoder>, String), Error> {
    match encoder {
        EmbedWith::Model(options) => Ok((open_encoder(options, progress)?, options.model.clone())),
        EmbedWith::Bundle { path, encoder } => {
            let bundle = Bundle::read(Path::new(path))?;
            let opened = open_encoder_of_bundle(&bundle, path, encoder, progress)?;
            let recorded = bundle.manifest.encoder.map(|record| record.model);
            let model = encoder.model.clone().or(recorded).unwrap_or_default();
            Ok((opened, model))
        }
    }
}

/// The arrays of the file.
struct Arrays {
    tables: Vec<(&'static str, Array2)>,
    rows: Vec<i64>,
    prompts: Vec<i64>,
    /// The labels of pairs; empty for other rows.
    labels: Vec<Label>,
    encoded: Vec<Encoded>,
}

fn arrays(
    rows: &[Row<ScoreRow>],
    encoder: &dyn TextEncoder,
    progress: &dyn Progress,
) -> Result<Arrays, Error> {
    let (mut texts, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lines, mut prompts): (Vec<i64>, Vec<&Content>) = (Vec::new(), Vec::new());
    let mut labels = Vec::new();
    let (mut key, mut keys) = (None, Vec::new());
    for row in rows {
        let line = row.line.cast_signed();
        let kind = match &row.value {
            ScoreRow::Text(text) => {
                lines.push(line);
                texts.push(text.clone());
                "text"
            }
            ScoreRow::Single(exchange) => {
                lines.push(line);
                prompts.push(&exchange.prompt);
                first.push(exchange.clone());
                "response"
            }
            ScoreRow::Candidates { prompt, responses } => {
                for response in responses {
                    lines.push(line);
                    prompts.push(prompt);
                    first.push(Exchange { prompt: prompt.clone(), response: response.clone() });
                }
                "responses"
            }
            ScoreRow::Pair(pair) => {
                lines.push(line);
                labels.push(pair.label());
                keys.push(prompt_key(pair));
                first.push(pair.chosen_exchange());
                second.push(pair.rejected_exchange());
                "chosen"
            }
        };
        match key {
            None => key = Some((kind, row.line)),
            Some((known, line)) if known != kind => {
                return Err(Error::Refused(format!(
                    "line {line} is a row with `{known}`, line {} one with `{kind}`: rows of one \
                     kind go into one file",
                    row.line
                )));
            }
            Some(_) => {}
        }
    }
    let key = key.map_or("text", |(k, _)| k);
    let n = first.len();
    let encoded = if key == "text" {
        encoder.encode_texts(&texts, progress)?
    } else {
        first.extend(second);
        encoder.encode_exchanges(&first, progress)?
    };
    let array = |part: &[Encoded]| -> Result<Array2, Error> {
        let data = part.iter().flat_map(|e| e.vector.iter().copied()).collect();
        Ok(Array2::new(part.len(), encoder.dim(), data)?)
    };
    let tables = match key {
        "text" => vec![("text", array(&encoded)?)],
        "chosen" => vec![("chosen", array(&encoded[..n])?), ("rejected", array(&encoded[n..])?)],
        other => vec![(other, array(&encoded)?)],
    };
    let prompts = match keys.is_empty() {
        true => prompt_numbers(prompts.into_iter()).into_iter().map(i64::from).collect(),
        false => keys,
    };
    Ok(Arrays { tables, rows: lines, prompts, labels, encoded })
}
