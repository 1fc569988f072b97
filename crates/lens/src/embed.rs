//! Texts or pairs to embeddings, stored as safetensors.

use crate::data_source;
use crate::encoded::{EncoderOf, encode_rows};
use crate::error::stop_if_cancelled;
use crate::models::{encoder_record, note_encoder, open_encoder, open_encoder_of_bundle};
use crate::notes;
use crate::options::{BundleModelOptions, ModelOptions};
use crate::outputs::{Written, check_output, check_own};
use crate::{Error, Progress};
use lens_core::{Content, Exchange, Label};
use lens_data::bundle::Bundle;
use lens_data::{
    Array2, DataSource, EmbeddingsFile, FloatType, Place, PromptColumn, ReadOptions, Row, ScoreRow,
    prompt_key, prompt_numbers, read_exchanges_with,
};
use lens_encoder::{Encoded, Input, Refused, TextEncoder};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What [`embed()`] is told.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// Rows of pairs, of prompt and response(s), or of text.
    pub file: DataSource,
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
    pub fn new(file: impl Into<DataSource>, output: impl Into<PathBuf>) -> Self {
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
    /// Rows that the template refuses.
    pub refused: usize,
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
    check_own(&options.output, "-o", Written::Arrays)?;
    let runtime = match &options.encoder {
        EmbedWith::Model(model) => &model.runtime,
        EmbedWith::Bundle { encoder, .. } => &encoder.runtime,
    };
    let input = data_source::resolve(&options.file, runtime, progress)?;
    let set = read_exchanges_with(&input, &options.reading, progress)?;
    notes::each_malformed(&set.malformed, progress);
    let (encoder, model) = open(&options.encoder, progress)?;
    note_encoder(encoder.as_ref(), progress);
    let arrays = Texts::of(&set.rows)?.embed(options, encoder.as_ref(), progress)?;
    for (place, refused) in &arrays.refused {
        let file = place.file.as_deref().map_or_else(|| options.file.name(), PathBuf::from);
        progress.note(&format!("left out: {}:{}: {refused}", file.display(), place.line));
    }
    if let (true, Some(first)) = (arrays.rows.is_empty(), arrays.refused.values().next()) {
        let (path, n) = (&options.file, arrays.refused.len());
        let Refused { template, detail } = first;
        return Err(Error::Refused(format!(
            "{path}: the template '{template}' refuses all {n} rows; the first: {detail}"
        )));
    }
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
        embedded: set.rows.len() - arrays.refused.len(),
        malformed: set.malformed.len(),
        refused: arrays.refused.len(),
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
    /// Rows that the template refuses.
    refused: BTreeMap<Place, Refused>,
}

/// What stands beside the vectors of one row of the arrays.
struct Beside<'a> {
    place: Place,
    /// Of a row with a response.
    prompt: Option<&'a Content>,
    /// Of a pair: its prompt's key and its label.
    pair: Option<(i64, Label)>,
}

/// The texts of a file whose rows are all of one kind.
struct Texts<'a> {
    /// The name of the first table.
    key: &'static str,
    beside: Vec<Beside<'a>>,
    first: Vec<Input>,
    /// The rejected responses of pairs.
    second: Vec<Input>,
}

impl<'a> Texts<'a> {
    fn of(rows: &'a [Row<ScoreRow>]) -> Result<Self, Error> {
        let mut all = Texts { key: "text", beside: vec![], first: vec![], second: vec![] };
        let mut known: Option<(&'static str, u64)> = None;
        for row in rows {
            let line = row.line;
            let mut put = |prompt, pair, input| {
                all.beside.push(Beside { place: row.place(), prompt, pair });
                all.first.push(input);
            };
            let kind = match &row.value {
                ScoreRow::Text(text) => {
                    put(None, None, Input::Text(text.clone()));
                    "text"
                }
                ScoreRow::Single(exchange) => {
                    put(Some(&exchange.prompt), None, Input::Exchange(exchange.clone()));
                    "response"
                }
                ScoreRow::Candidates { prompt, responses } => {
                    for response in responses {
                        let (prompt_text, response) = (prompt.clone(), response.clone());
                        let exchange = Exchange { prompt: prompt_text, response };
                        put(Some(prompt), None, Input::Exchange(exchange));
                    }
                    "responses"
                }
                ScoreRow::Pair(pair) => {
                    let beside = Some((prompt_key(pair), pair.label()));
                    put(None, beside, Input::Exchange(pair.chosen_exchange()));
                    all.second.push(Input::Exchange(pair.rejected_exchange()));
                    "chosen"
                }
            };
            match known {
                None => known = Some((kind, line)),
                Some((known, first)) if known != kind => {
                    return Err(Error::Refused(format!(
                        "line {first} is a row with `{known}`, line {line} one with `{kind}`: rows \
                         of one kind go into one file"
                    )));
                }
                Some(_) => {}
            }
        }
        all.key = known.map_or("text", |(kind, _)| kind);
        Ok(all)
    }

    fn embed(
        self,
        options: &EmbedOptions,
        encoder: &dyn TextEncoder,
        progress: &dyn Progress,
    ) -> Result<Arrays, Error> {
        let Texts { key, beside, first: mut inputs, second } = self;
        let n = beside.len();
        inputs.extend(second);
        let of = match options.encoder {
            EmbedWith::Model(_) => EncoderOf::Options,
            EmbedWith::Bundle { .. } => EncoderOf::Bundle,
        };
        let name = options.file.name();
        let place = |index: usize| {
            let Place { file, line, .. } = &beside[index % n].place;
            (file.as_deref().map_or(name.as_path(), Path::new), *line)
        };
        let encoded = encode_rows(encoder, &inputs, place, of, progress)?;
        drop(inputs);

        // A row of which the template refuses one text is left out whole.
        let mut refused: BTreeMap<Place, Refused> = BTreeMap::new();
        for (index, one) in encoded.iter().enumerate() {
            if let Err(why) = one {
                refused.entry(beside[index % n].place.clone()).or_insert_with(|| why.clone());
            }
        }
        let kept: Vec<&Beside> =
            beside.iter().filter(|b| !refused.contains_key(&b.place)).collect();
        let usable = |(index, one): (usize, &'_ Result<Encoded, Refused>)| {
            let kept = !refused.contains_key(&beside[index % n].place);
            one.as_ref().ok().filter(|_| kept).cloned()
        };
        let vectors: Vec<Encoded> = encoded.iter().enumerate().filter_map(usable).collect();
        let (first, second) = vectors.split_at(kept.len());
        let array = |part: &[Encoded]| -> Result<Array2, Error> {
            let data = part.iter().flat_map(|e| e.vector.iter().copied()).collect();
            Ok(Array2::new(part.len(), encoder.dim(), data)?)
        };
        let tables = match key {
            "chosen" => vec![("chosen", array(first)?), ("rejected", array(second)?)],
            other => vec![(other, array(first)?)],
        };
        let pairs = || kept.iter().filter_map(|b| b.pair);
        let prompts = match key {
            "chosen" => pairs().map(|(key, _)| key).collect(),
            _ => {
                let numbers = prompt_numbers(kept.iter().filter_map(|b| b.prompt));
                numbers.into_iter().map(i64::from).collect()
            }
        };
        Ok(Arrays {
            tables,
            rows: kept.iter().map(|b| b.place.line.cast_signed()).collect(),
            prompts,
            labels: pairs().map(|(_, label)| label).collect(),
            refused,
        })
    }
}
