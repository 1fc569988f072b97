//! A model's tokenizer as the files that transformers reads.

use super::files::{TOKENIZER, tokenizer_json};
use super::pipeline::Parts;
use super::{TextTokenizer, gguf};
use crate::error::{EncoderError, Result};
use crate::export::pretty;
use crate::model::ModelFiles;
use crate::model::folder::json;
use lens_data::files::read_small;
use serde_json::{Map, Value, json as value};
use std::collections::BTreeSet;
use std::path::Path;

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const TEMPLATE: &str = "chat_template.jinja";
/// Files of a folder that some tokenizers of transformers want beside `tokenizer.json`.
const OTHERS: [&str; 5] =
    ["added_tokens.json", "merges.txt", "tokenizer.model", "vocab.json", "vocab.txt"];
/// The longest of them.
const MAX_BYTES: u64 = 512 << 20;
/// What the names of tokens have in them that were made to stand for nothing.
const RESERVED: [&str; 4] = ["pad", "unused", "reserved", "dummy"];

/// The files of an exported tokenizer.
pub(crate) struct TokenizerFiles {
    /// Names and contents.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// The token that fills lists up to one length. No text ends in it: a model of transformers takes
    /// the last token that is another one.
    pub pad: u32,
    /// BOS and EOS, where the model has them.
    pub bos: Option<u32>,
    pub eos: Option<u32>,
}

/// What the files are to say beside what the model's own say.
pub(crate) struct Exported<'a> {
    /// Rows of the model's token table.
    pub vocab: usize,
    pub add_bos: bool,
    /// Texts longer than this are shortened.
    pub max_length: usize,
    /// The chat template, in Jinja.
    pub template: Option<&'a str>,
    /// The tokens with which texts end.
    pub ends: &'a BTreeSet<u32>,
}

impl TextTokenizer {
    /// The files of this tokenizer, which is that of `files`.
    pub(crate) fn export(&self, files: &ModelFiles, to: &Exported) -> Result<TokenizerFiles> {
        let (mut tokenizer, mut config, mut all) = match files {
            ModelFiles::Gguf(file) => {
                let described = gguf::describe(file, to.vocab, to.add_bos)?;
                let json = self.tokenizer_json(&described.parts, &described.tokens)?;
                (json, self.config(), Vec::new())
            }
            ModelFiles::Folder(folder) => of_folder(folder.path())?,
        };
        let pad = match self.pad_token(to) {
            Some(pad) => pad,
            None => self.new_pad(&mut tokenizer, to.vocab)?,
        };
        let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
        let name = added
            .filter(|token| token["id"] == pad)
            .find_map(|token| token["content"].as_str().map(str::to_owned));
        let name = name
            .or_else(|| self.pipeline.name_of(pad))
            .ok_or_else(|| failed("padding has no name"))?;
        config.insert("pad_token".to_owned(), name.as_str().into());
        config.insert("padding_side".to_owned(), "right".into());
        config.insert("model_max_length".to_owned(), to.max_length.into());
        config.remove("chat_template");
        for (_, contents) in all.iter_mut().filter(|(file, _)| *file == MAP) {
            let map = serde_json::from_slice::<Map<String, Value>>(contents);
            let mut map = map.map_err(|e| failed(format!("{MAP}: {e}")))?;
            map.insert("pad_token".to_owned(), name.as_str().into());
            *contents = pretty(&map.into())?;
        }
        let whole = serde_json::to_vec(&tokenizer).map_err(|e| failed(e.to_string()))?;
        all.push((TOKENIZER, whole));
        all.push((CONFIG, pretty(&config.into())?));
        if let Some(template) = to.template {
            all.push((TEMPLATE, template.as_bytes().to_vec()));
        }
        let id = |role| self.roles.get(role).and_then(|name| self.pipeline.id_of(name));
        Ok(TokenizerFiles { files: all, pad, bos: id("bos"), eos: id("eos") })
    }

    /// `tokenizer.json` of a tokenizer from a GGUF file.
    fn tokenizer_json(&self, parts: &Parts, tokens: &[String]) -> Result<Value> {
        let json = |what: serde_json::Result<Value>| what.map_err(|e| failed(e.to_string()));
        let mut model = json(serde_json::to_value(&parts.model))?;
        // Every token has its place, or the library would number those behind a gap anew.
        if let Some(vocab) = model["vocab"].as_object_mut() {
            let known: BTreeSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
            for (id, token) in tokens.iter().enumerate() {
                if !known.contains(&(id as u64)) && !vocab.contains_key(token) {
                    vocab.insert(token.clone(), id.into());
                }
            }
        }
        let added: Vec<Value> = parts
            .added
            .iter()
            .map(|added| {
                let token = &added.token;
                value!({
                    "id": added.id,
                    "content": token.content,
                    "single_word": token.single_word,
                    "lstrip": token.lstrip,
                    "rstrip": token.rstrip,
                    "normalized": token.normalized,
                    "special": token.special,
                })
            })
            .collect();
        Ok(value!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": json(serde_json::to_value(&parts.normalizer))?,
            "pre_tokenizer": json(serde_json::to_value(&parts.pre_tokenizer))?,
            "post_processor": self.post_processor(),
            "decoder": json(serde_json::to_value(&parts.decoder))?,
            "model": model,
        }))
    }

    /// What adds the tokens around a text.
    fn post_processor(&self) -> Value {
        let name = |id: &u32| self.pipeline.name_of(*id).unwrap_or_default();
        let special =
            |kind: u32| move |name: String| value!({"SpecialToken": {"id": name, "type_id": kind}});
        let text = |id: &str, kind: u32| value!({"Sequence": {"id": id, "type_id": kind}});
        let before = |kind| self.prefix.iter().map(name).map(special(kind));
        let after = |kind| self.suffix.iter().map(name).map(special(kind));
        let single: Vec<Value> = before(0).chain([text("A", 0)]).chain(after(0)).collect();
        let pair: Vec<Value> =
            single.iter().cloned().chain(before(1)).chain([text("B", 1)]).chain(after(1)).collect();
        let tokens: Map<String, Value> = self
            .prefix
            .iter()
            .chain(&self.suffix)
            .map(|id| {
                let name = name(id);
                (name.clone(), value!({"id": name, "ids": [id], "tokens": [name]}))
            })
            .collect();
        value!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
    }

    fn config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        set("tokenizer_class", "PreTrainedTokenizerFast".into());
        set("clean_up_tokenization_spaces", false.into());
        set("model_input_names", value!(["input_ids", "attention_mask"]));
        for (variable, token) in self.roles.named() {
            set(variable, token.into());
        }
        config
    }

    /// A token that the model has and no text ends in: its own padding where that is such a one, else
    /// one that was made to stand for nothing.
    fn pad_token(&self, to: &Exported) -> Option<u32> {
        let usable = |id: &u32| {
            (*id as usize) < to.vocab
                && !to.ends.contains(id)
                && !self.end_ids.contains(id)
                && !self.prefix.contains(id)
                && !self.suffix.contains(id)
        };
        let own = self.roles.get("pad").and_then(|name| self.pipeline.id_of(name)).filter(usable);
        own.or_else(|| {
            let reserved = |name: &&str| RESERVED.iter().any(|word| name.contains(word));
            let names = self.pipeline.special_names().filter(reserved);
            names.filter_map(|name| self.pipeline.id_of(name)).filter(usable).min()
        })
    }

    /// A new token behind all others, which may be one more than the model has rows for.
    fn new_pad(&self, tokenizer: &mut Value, vocab: usize) -> Result<u32> {
        let ids = |value: &Value| value.as_u64().unwrap_or(0);
        let model = match &tokenizer["model"]["vocab"] {
            Value::Object(vocab) => vocab.values().map(ids).max(),
            Value::Array(pieces) => Some((pieces.len() as u64).saturating_sub(1)),
            _ => None,
        };
        let added = tokenizer["added_tokens"].as_array_mut();
        let added = added.ok_or_else(|| failed(format!("{TOKENIZER} has no added tokens")))?;
        let last = added.iter().map(|token| ids(&token["id"])).max().max(model).unwrap_or(0);
        let id = u32::try_from(last + 1).map_err(|e| failed(e.to_string()))?;
        if id as usize > vocab {
            return Err(failed("no token is left that could be padding".to_owned()));
        }
        let mut names = (0..).map(|n| format!("<|padding_{n}|>"));
        let name = names.find(|name| self.pipeline.id_of(name).is_none());
        added.push(value!({
            "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
        Ok(id)
    }
}

/// `tokenizer.json`, the configuration, and the other files of a folder's tokenizer.
type OfFolder = (Value, Map<String, Value>, Vec<(&'static str, Vec<u8>)>);

fn of_folder(folder: &Path) -> Result<OfFolder> {
    let (_, tokenizer) = tokenizer_json(folder)?;
    let config = folder.join(CONFIG);
    let config = match config.is_file() {
        true => match json(&config)? {
            Value::Object(entries) => entries,
            _ => return Err(failed(format!("{} is no object", config.display()))),
        },
        false => Map::new(),
    };
    let mut others = Vec::new();
    for name in OTHERS.into_iter().chain([MAP]) {
        let path = folder.join(name);
        if path.is_file() {
            others.push((name, read_small(&path, MAX_BYTES)?));
        }
    }
    Ok((tokenizer, config, others))
}

fn failed(detail: impl Into<String>) -> EncoderError {
    EncoderError::NotExportable { detail: detail.into() }
}
