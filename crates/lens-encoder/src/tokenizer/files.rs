//! The JSON files around a tokenizer in a folder of transformers.

use super::guard::guarded;
use super::roles::{ROLES, TokenRoles};
use crate::error::{EncoderError, Result};
use lens_data::files::read_small;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token};

pub(super) const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
/// Most tokens that a post-processor may add to a text: they count with every text.
const MAX_FRAME: usize = 64;

/// The longest file of a tokenizer: those of real models have a tenth.
const MAX_BYTES: u64 = 512 << 20;

pub(super) fn unusable(path: &Path, detail: impl Into<String>) -> EncoderError {
    EncoderError::TokenizerFile { path: path.to_owned(), detail: detail.into() }
}

/// The bytes of a file, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_small(path, MAX_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(lens_data::Error::NotFound { .. }) => Ok(None),
        Err(lens_data::Error::Io { source, .. }) => {
            Err(EncoderError::Io { path: path.to_owned(), source })
        }
        Err(lens_data::Error::TooLong { limit, .. }) => {
            Err(unusable(path, format!("it has more than {limit} bytes")))
        }
        Err(_) => Err(unusable(path, "it is no regular file")),
    }
}

/// A JSON file, if there is one.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    // Once over the whole file first: the library's own readers panic where JSON breaks off.
    let parsed = serde_json::from_slice::<IgnoredAny>(&bytes)
        .and_then(|_| serde_json::from_slice(&bytes))
        .map_err(|e| {
            let what = if e.is_eof() { "ends too early" } else { "is not what it should be" };
            unusable(path, format!("{what}: {e}"))
        })?;
    Ok(Some(parsed))
}

/// `tokenizer.json`, or what to do where there is none.
pub(super) fn tokenizer_json<T: DeserializeOwned>(dir: &Path) -> Result<(PathBuf, T)> {
    let path = dir.join(TOKENIZER);
    match json(&path)? {
        Some(parsed) => Ok((path, parsed)),
        None if dir.join("tokenizer.model").exists() => Err(unusable(
            &path,
            format!(
                "is missing; there is only tokenizer.model, which has to be converted once: in \
                 Python, AutoTokenizer.from_pretrained({0:?}).save_pretrained({0:?})",
                dir.display().to_string()
            ),
        )),
        None => Err(unusable(&path, "is missing")),
    }
}

/// The contents of `tokenizer_config.json`, completed by `special_tokens_map.json`.
#[derive(Debug)]
pub(super) struct TokenizerConfig {
    path: PathBuf,
    entries: serde_json::Map<String, Value>,
}

impl TokenizerConfig {
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let mut entries: serde_json::Map<String, Value> = json(&path)?.unwrap_or_default();
        let more: Option<serde_json::Map<String, Value>> =
            json(&dir.join("special_tokens_map.json"))?;
        for (key, value) in more.into_iter().flatten() {
            entries.entry(key).or_insert(value);
        }
        Ok(Self { path, entries })
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it with the value null.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(unusable(&self.path, format!("'{key}' is neither true nor false"))),
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(name_of)
    }

    /// The special tokens that have a role, and those that have none.
    pub fn special_names(&self) -> Vec<&str> {
        let roles = ROLES.iter().filter_map(|role| self.text(&format!("{role}_token")));
        let lists = ["additional_special_tokens", "extra_special_tokens"];
        let more = lists.iter().filter_map(|key| self.get(key)).flat_map(|list| match list {
            Value::Array(names) => names.iter().filter_map(name_of).collect(),
            Value::Object(names) => names.values().filter_map(name_of).collect(),
            _ => Vec::new(),
        });
        roles.chain(more).collect()
    }

    /// The special tokens by their roles: those of transformers, and those that the model names
    /// itself (`image_token`).
    pub fn roles(&self) -> TokenRoles {
        let mut roles = TokenRoles::default();
        for role in ROLES {
            roles.set(role, self.text(&format!("{role}_token")).unwrap_or_default());
        }
        let lists = ["additional_special_tokens", "extra_special_tokens"];
        for list in lists.iter().filter_map(|key| self.get(key)) {
            match list {
                Value::Array(names) => {
                    names.iter().filter_map(name_of).for_each(|name| roles.add(name));
                }
                Value::Object(names) => {
                    let named = names.iter().filter_map(|(key, name)| Some((key, name_of(name)?)));
                    named.for_each(|(key, name)| roles.set_variable(key, name));
                }
                _ => {}
            }
        }
        roles
    }
}

/// A token's name, written as text or as an object.
fn name_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The kind of model by `config.json`.
pub(super) fn model_type(dir: &Path) -> Result<Option<String>> {
    let config: Option<Value> = json(&dir.join("config.json"))?;
    Ok(config.as_ref().and_then(|c| c.get("model_type")?.as_str()).map(String::from))
}

/// End-of-text ids by `generation_config.json`, or where it is silent by `config.json`.
pub(super) fn end_ids(dir: &Path) -> Result<Vec<u32>> {
    for name in ["generation_config.json", "config.json"] {
        let path = dir.join(name);
        let Some(config) = json::<Value>(&path)? else { continue };
        let ids = match config.get("eos_token_id") {
            None | Some(Value::Null) => continue,
            Some(Value::Array(ids)) => ids.iter().collect(),
            Some(id) => vec![id],
        };
        return ids
            .into_iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| unusable(&path, "'eos_token_id' is no list of token ids"));
    }
    Ok(Vec::new())
}

/// The chat template of a folder: its own file, else the entry of the configuration.
pub(crate) fn chat_template_of_folder(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if let Some(bytes) = read(&path)? {
        let text = String::from_utf8(bytes).map_err(|e| unusable(&path, e.to_string()))?;
        return Ok(Some(text));
    }
    for name in ["chat_template.json", CONFIG] {
        let path = dir.join(name);
        let Some(config) = json::<Value>(&path)? else { continue };
        let named = |all: Vec<(&str, Option<&str>)>| {
            let default = all.iter().find(|(name, _)| *name == "default");
            match default.and_then(|(_, template)| *template) {
                Some(template) => Ok(Some(template.to_owned())),
                None => {
                    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                    let names = names.join(", ");
                    Err(unusable(
                        &path,
                        format!("of its chat templates ({names}) none is 'default'"),
                    ))
                }
            }
        };
        let field =
            |entry: &'_ Value, key: &str| entry.get(key).and_then(Value::as_str).map(String::from);
        let found = match config.get("chat_template") {
            None | Some(Value::Null) => continue,
            Some(Value::String(template)) => Ok(Some(template.clone())),
            Some(Value::Array(list)) => {
                let all: Vec<(String, Option<String>)> = list
                    .iter()
                    .map(|e| (field(e, "name").unwrap_or_default(), field(e, "template")))
                    .collect();
                named(all.iter().map(|(n, t)| (n.as_str(), t.as_deref())).collect())
            }
            Some(Value::Object(map)) => {
                named(map.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect())
            }
            Some(_) => Err(unusable(&path, "'chat_template' is not text")),
        };
        return found;
    }
    Ok(None)
}

/// The key of the configuration that asks for an EOS token after texts.
const ADD_EOS: &str = "add_eos_token";

/// Whether the configuration of a folder asks for an EOS token after texts where `tokenizer.json` adds
/// none; and a sentence, where the two contradict each other. As with BOS, the configuration is
/// followed; what `tokenizer.json` adds stays.
pub(crate) fn adds_eos_of_folder(dir: &Path) -> Result<(bool, Option<String>)> {
    let Some(asked) = TokenizerConfig::read(dir)?.flag(ADD_EOS)? else { return Ok((false, None)) };
    // A folder without a tokenizer takes lists of ids, around which nothing is added.
    if !dir.join(TOKENIZER).exists() {
        return Ok((false, None));
    }
    let adds = !own_frame(dir)?.1.is_empty();
    let said =
        |what: &str| Some(format!("{CONFIG} has {ADD_EOS} = {asked}, but {TOKENIZER} adds {what}"));
    Ok(match (asked, adds) {
        (true, false) => (true, said("no EOS after texts: it is added")),
        (false, true) => (false, said("a token after texts: it is added")),
        _ => (false, None),
    })
}

/// Whether the tokenizer of a folder begins texts with a BOS token (or BERT's `[CLS]`): by
/// `add_bos_token` of its configuration, else by what `tokenizer.json` adds to texts.
pub(crate) fn adds_bos_of_folder(dir: &Path) -> Result<bool> {
    if let Some(flag) = TokenizerConfig::read(dir)?.flag("add_bos_token")? {
        return Ok(flag);
    }
    // A folder without a tokenizer takes lists of ids, around which nothing is added.
    if !dir.join(TOKENIZER).exists() {
        return Ok(false);
    }
    Ok(!own_frame(dir)?.0.is_empty())
}

/// The tokens that the `tokenizer.json` of a folder adds before and after a text.
fn own_frame(dir: &Path) -> Result<(Vec<u32>, Vec<u32>)> {
    #[derive(Deserialize)]
    struct PostProcessorOnly {
        post_processor: Option<PostProcessorWrapper>,
        #[serde(rename = "model")]
        _model: IgnoredAny,
    }
    guarded(|| {
        let (path, file): (_, PostProcessorOnly) = tokenizer_json(dir)?;
        frame_of(file.post_processor.as_ref(), &path)
    })
}

/// The tokens that a post-processor adds before and after a text.
pub(super) fn frame_of(
    post_processor: Option<&PostProcessorWrapper>,
    path: &Path,
) -> Result<(Vec<u32>, Vec<u32>)> {
    /// Stands for the text; no vocabulary reaches it.
    const TEXT: u32 = u32::MAX;
    let Some(post_processor) = post_processor else { return Ok(Default::default()) };
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "x".to_owned(), (0, 1))], 0);
    let framed = post_processor
        .process(text, None, true)
        .map_err(|e| unusable(path, format!("its post-processor fails: {e}")))?;
    let mut parts = framed.get_ids().split(|id| *id == TEXT);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) if before.len() + after.len() > MAX_FRAME => {
            let count = before.len() + after.len();
            Err(unusable(path, format!("adds {count} tokens to a text, above {MAX_FRAME}")))
        }
        (Some(before), Some(after), None) => Ok((before.to_vec(), after.to_vec())),
        _ => Err(unusable(path, "its post-processor does not take a text exactly once")),
    }
}
