//! The score head of a public reward model: what `*ForSequenceClassification` adds to a decoder.
//!
//! transformers computes `score = Linear(hidden, num_labels, bias=False)` on the last hidden state after
//! the final norm, at the last token that is no padding (`modeling_layers.py`,
//! `GenericForSequenceClassification`): reward = w h. A tensor `score.bias`, which vLLM adds and heads of
//! other makers have, is added too. llama.cpp keeps the head as `cls.output`.

use crate::error::{EncoderError, Result};
use crate::family::{ModelSpec, NormPlacement};
use crate::model::ModelFiles;
use crate::model::folder::ADAPTER;
use serde_json::Value;

/// The names of the head's tensors, less `.weight` and `.bias`: of folders, then of GGUF files.
const NAMES: [&str; 4] = ["score", "model.score", "classifier", "cls.output"];
/// Layers between hidden state and head, with which a reward is not linear in the state.
const DENSE: [&str; 5] = [
    "cls.weight",
    "classifier.dense.weight",
    "pooler.dense.weight",
    "bert.pooler.dense.weight",
    "dense.weight",
];

/// One reward of a public reward model, linear in the last hidden state of the last token.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreHead {
    /// Weight of each dimension of the hidden state, `[dim]`.
    pub weights: Vec<f32>,
    /// Added to the product; 0 where the head has none.
    pub bias: f32,
    /// The label whose score it is, as the model names it.
    pub label: String,
}

impl ScoreHead {
    /// The head of a model's files, `label` by name or by index (counted from 0) where there are several;
    /// `None` where the model has none.
    ///
    /// # Errors
    /// [`EncoderError::SeveralLabels`], [`EncoderError::UnknownLabel`]; [`EncoderError::NotLinear`] for a
    /// head that is no linear function of the last token's state; [`EncoderError::CorruptModel`] for a
    /// folder that also holds an adapter; the problem of a tensor.
    pub(crate) fn of(
        files: &ModelFiles,
        spec: &ModelSpec,
        label: Option<&str>,
    ) -> Result<Option<Self>> {
        let path = || files.path().to_owned();
        if let ModelFiles::Folder(folder) = files
            && folder.path().join(ADAPTER).is_file()
        {
            let detail = "an adapter (PEFT) lies beside its model: merge them first, the weights alone \
                          are not that reward model";
            return Err(EncoderError::CorruptModel { path: path(), detail: detail.into() });
        }
        let not_linear = |detail: &str| EncoderError::NotLinear {
            path: files.path().to_owned(),
            detail: detail.to_owned(),
        };
        let promised = promised(files);
        let weight = |stem: &&str| files.has(&format!("{stem}.weight"));
        let Some(stem) = NAMES.into_iter().find(weight) else {
            return match promised {
                Some(name) if name.ends_with("ForSequenceClassification") => {
                    Err(EncoderError::MissingTensor { path: path(), name: "score.weight".into() })
                }
                _ => Ok(None),
            };
        };
        if spec.placement == NormPlacement::Post || !spec.causal {
            return Err(not_linear("its head reads the first token through a pooler"));
        }
        if let Some(dense) = DENSE.into_iter().find(|name| files.has(name)) {
            return Err(not_linear(&format!("there is a layer '{dense}' before its head")));
        }
        if promised.as_deref().is_some_and(|name| name.ends_with("ForTokenClassification")) {
            return Err(not_linear("its head labels every token (ForTokenClassification)"));
        }
        let d = spec.dim;
        let name = format!("{stem}.weight");
        let raw = files.raw(&name)?;
        // GGUF drops the outer dimension of a head with one label.
        let rows = match raw.shape.as_slice() {
            [columns] if *columns == d => 1,
            _ => files.rows_of(&name, d)?,
        };
        let names = labels(files, rows)?;
        let row = choose(files, &names, label)?;
        let values = files.values(&name, &raw.shape)?;
        let bias = format!("{stem}.bias");
        let bias = match files.has(&bias) {
            true => files.values(&bias, &[rows])?[row],
            false => 0.0,
        };
        let weights = values[row * d..(row + 1) * d].to_vec();
        if weights.iter().chain([&bias]).any(|w| !w.is_finite()) {
            return Err(files.bad(&name, "has a weight that is not finite"));
        }
        if weights.iter().all(|w| *w == 0.0) {
            return Err(files.bad(&name, "is zero: every reward would be the same"));
        }
        Ok(Some(Self { weights, bias, label: names[row].clone() }))
    }
}

/// The token that pads batches.
pub(crate) fn pad_token(files: &ModelFiles) -> Result<Option<u32>> {
    let id = match files {
        ModelFiles::Gguf(file) => file.int("tokenizer.ggml.padding_token_id")?,
        ModelFiles::Folder(folder) => {
            let config = folder.config();
            let own = config.get("pad_token_id").filter(|id| !id.is_null());
            let id = own.unwrap_or(&config["text_config"]["pad_token_id"]).as_u64();
            id.and_then(|id| usize::try_from(id).ok())
        }
    };
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

/// The class that a folder's configuration names.
fn promised(files: &ModelFiles) -> Option<String> {
    match files {
        ModelFiles::Gguf(_) => None,
        ModelFiles::Folder(folder) => {
            folder.config()["architectures"][0].as_str().map(str::to_owned)
        }
    }
}

/// The names of the labels, in the order of the head's rows: their numbers where the model has none.
fn labels(files: &ModelFiles, rows: usize) -> Result<Vec<String>> {
    let named: Vec<Option<String>> = match files {
        ModelFiles::Gguf(file) => {
            let key = format!(
                "{}.classifier.output_labels",
                file.text("general.architecture")?.unwrap_or_default()
            );
            match file.says(&key) {
                true => file.texts(&key)?.into_iter().map(Some).collect(),
                false => Vec::new(),
            }
        }
        ModelFiles::Folder(folder) => {
            let all = &folder.config()["id2label"];
            let name = |row: usize| all.get(row.to_string()).and_then(Value::as_str);
            (0..rows).map(|row| name(row).map(str::to_owned)).collect()
        }
    };
    let name = |row: usize| named.get(row).cloned().flatten().unwrap_or_else(|| row.to_string());
    Ok((0..rows).map(name).collect())
}

/// Which row is asked for.
fn choose(files: &ModelFiles, names: &[String], label: Option<&str>) -> Result<usize> {
    let (path, labels) = (files.path().to_owned(), names.to_vec());
    let Some(asked) = label else {
        return match names.len() {
            1 => Ok(0),
            0 => Err(files.bad("score.weight", "has no row")),
            _ => Err(EncoderError::SeveralLabels { path, labels }),
        };
    };
    let by_name = names.iter().position(|name| name == asked);
    let by_number = || asked.parse::<usize>().ok().filter(|row| *row < names.len());
    by_name.or_else(by_number).ok_or_else(|| EncoderError::UnknownLabel {
        path,
        asked: asked.to_owned(),
        labels,
    })
}
