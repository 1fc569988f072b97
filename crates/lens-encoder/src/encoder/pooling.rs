//! The pooling that a model declares: embedding models say how their vectors are meant.

use crate::error::{EncoderError, Result};
use crate::model::ModelFiles;
use crate::model::folder::json;
use lens_data::encoder::{EncoderIdentity, Pooling, View};
use serde_json::Value;
use std::path::{Component, Path};

/// The list of a model's modules, by sentence-transformers.
const MODULES: &str = "modules.json";
/// What the words of sentence-transformers mean.
const WORDS: [(&str, Pooling); 3] =
    [("mean", Pooling::Mean), ("cls", Pooling::First), ("lasttoken", Pooling::Last)];
/// The keys of earlier versions, one for each pooling.
const FLAGS: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_lasttoken", "lasttoken"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
];

/// A declared pooling, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredPooling {
    /// In the words of its file; `None` where the file is missing.
    word: Option<String>,
    /// Ours, if there is such a one.
    pooling: Option<Pooling>,
    place: String,
}

impl DeclaredPooling {
    /// What the files of a model declare; `None` where they declare nothing.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn of(files: &ModelFiles) -> Result<Option<Self>> {
        match files {
            ModelFiles::Gguf(file) => {
                let architecture = file.text("general.architecture")?.unwrap_or_default();
                let key = format!("{architecture}.pooling_type");
                let word = match file.int(&key)? {
                    Some(1) => "mean",
                    Some(2) => "cls",
                    Some(3) => "lasttoken",
                    // None, or a classifier's own.
                    _ => return Ok(None),
                };
                Ok(Some(Self::new(Some(word), key)))
            }
            ModelFiles::Folder(folder) => Self::of_folder(folder.path()),
        }
    }

    fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MODULES);
        if !path.is_file() {
            return Ok(None);
        }
        let modules = json(&path)?;
        let bad = |detail: &str| EncoderError::CorruptModel {
            path: path.clone(),
            detail: detail.to_owned(),
        };
        let modules = modules.as_array().ok_or_else(|| bad("it is no list of modules"))?;
        let is_pooling = |module: &&Value| {
            module["type"].as_str().is_some_and(|kind| kind.rsplit('.').next() == Some("Pooling"))
        };
        let Some(module) = modules.iter().find(is_pooling) else { return Ok(None) };
        let place = Path::new(module["path"].as_str().unwrap_or_default());
        // A name and nothing else: a model must not reach out of its folder.
        if !place.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(bad("the path of its pooling leaves the folder"));
        }
        let place = place.join("config.json");
        if !folder.join(&place).is_file() {
            return Ok(Some(Self::new(None, place.display().to_string())));
        }
        let config = json(&folder.join(&place))?;
        let words = match &config["pooling_mode"] {
            Value::String(word) => vec![word.clone()],
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => {
                let set = FLAGS.iter().filter(|(flag, _)| config[*flag] == Value::Bool(true));
                set.map(|(_, word)| (*word).to_owned()).collect()
            }
        };
        let place = place.display().to_string();
        Ok((!words.is_empty()).then(|| Self::new(Some(&words.join(" and ")), place)))
    }

    fn new(word: Option<&str>, place: String) -> Self {
        let of = |word: &str| WORDS.iter().find(|(known, _)| *known == word);
        let pooling = word.and_then(of).map(|(_, pooling)| *pooling);
        Self { word: word.map(str::to_owned), pooling, place }
    }
}

/// What is to be said where a model declares a pooling that none of the views has.
pub(super) fn note(
    declared: Option<&DeclaredPooling>,
    encoder: &EncoderIdentity,
) -> Option<String> {
    let DeclaredPooling { word, pooling, place } = declared?;
    let has = |view: &View| Some(view.pooling) == *pooling;
    if encoder.views.iter().any(has) {
        return None;
    }
    let views: Vec<String> = encoder.views.iter().map(View::in_words).collect();
    let views = views.join("; ");
    let Some(word) = word else {
        return Some(format!(
            "the model declares its pooling in {place}, which is missing; the view is {views}"
        ));
    };
    let instead = match pooling {
        Some(pooling) => format!("--pooling {pooling} takes it"),
        None => "it is none of the poolings here".to_owned(),
    };
    Some(format!("the model declares '{word}' pooling ({place}), the view is {views}: {instead}"))
}
