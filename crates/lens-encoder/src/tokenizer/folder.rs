//! Tokenizers of folders of transformers.

use super::files::{TokenizerConfig, end_ids, frame_of, model_type, tokenizer_json, unusable};
use super::guard::{failed, guarded};
use super::pattern::check_size;
use super::pipeline::{Added, Parts};
use super::{SpecialFrame, SpecialTokens, TextTokenizer};
use crate::error::{EncoderError, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{
    AddedToken, DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper,
};

/// `tokenizer.json`. Truncation and padding in it are not read: how long texts may be is decided
/// elsewhere, and nothing is padded.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    /// These hold expressions, which are looked at before the library compiles them.
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    post_processor: Option<PostProcessorWrapper>,
    model: ModelWrapper,
}

#[derive(Deserialize)]
struct AddedEntry {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

impl TextTokenizer {
    /// Builds the tokenizer of a folder of transformers, for a model with `vocab` embeddings. What
    /// its post-processor adds around a text (BERT's `[CLS]` and `[SEP]`) is always added, BOS
    /// where `add_bos` asks for it.
    pub fn from_folder(
        dir: &Path,
        vocab: usize,
        add_bos: bool,
        special: SpecialTokens,
    ) -> Result<Self> {
        guarded(|| Self::of_folder(dir, vocab, add_bos, special))
    }

    fn of_folder(dir: &Path, vocab: usize, add_bos: bool, special: SpecialTokens) -> Result<Self> {
        let (path, file): (_, TokenizerJson) = tokenizer_json(dir)?;
        let config = TokenizerConfig::read(dir)?;
        let (prefix, suffix) = frame_of(file.post_processor.as_ref(), &path)?;
        let mut parts = Parts {
            normalizer: checked::<NormalizerWrapper>(file.normalizer, &path)?,
            pre_tokenizer: checked::<PreTokenizerWrapper>(file.pre_tokenizer, &path)?,
            added: added(file.added_tokens, &file.model, &config),
            model: file.model,
            decoder: checked::<DecoderWrapper>(file.decoder, &path)?,
        };
        // Padding and other special tokens may lie beyond the embeddings: no text need hold them.
        let unneeded: HashSet<u32> =
            parts.added.iter().filter(|a| a.token.special).map(|a| a.id).collect();
        let ids = parts.model.get_vocab().into_values().chain(parts.added.iter().map(|a| a.id));
        let needed = ids.filter(|id| !unneeded.contains(id));
        let highest = needed.chain(prefix.iter().chain(&suffix).copied()).max().unwrap_or(0);
        if highest as usize >= vocab {
            return Err(EncoderError::ForeignTokenizer { path, highest, rows: vocab });
        }
        follow_transformers(&mut parts, dir, &config)?;

        let name = |role: &str| config.text(&format!("{role}_token")).unwrap_or_default();
        let id = |name: &str| {
            let added = parts.added.iter().find(|a| a.token.content == name);
            added.map(|a| a.id).or_else(|| parts.model.token_to_id(name))
        };
        let (bos, eos) = (name("bos"), name("eos"));
        let mut frame = SpecialFrame {
            prefix,
            suffix,
            end_ids: end_ids(dir)?.into_iter().chain(id(eos)).collect(),
            embedded: vocab,
            roles: config.roles(),
        };
        match id(bos) {
            Some(bos) if add_bos && frame.prefix.is_empty() => frame.prefix = vec![bos],
            Some(bos) if !add_bos => frame.prefix.retain(|id| *id != bos),
            None if add_bos && frame.prefix.is_empty() => {
                return Err(unusable(&path, "has no BOS token, but BOS is wanted"));
            }
            _ => {}
        }
        if config.flag("add_eos_token")? == Some(true) && frame.suffix.is_empty() {
            match id(eos) {
                Some(eos) => frame.suffix = vec![eos],
                None => return Err(unusable(&path, "has no EOS token, but EOS is wanted")),
            }
        }
        Self::new(parts, frame, special)
    }
}

/// A part of `tokenizer.json`, of which all expressions can be compiled in little memory.
fn checked<T: DeserializeOwned>(part: Option<Value>, path: &Path) -> Result<Option<T>> {
    let Some(part) = part else { return Ok(None) };
    let mut left = vec![&part];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(entries) => {
                if let Some(Value::String(source)) = entries.get("Regex") {
                    check_size(source)?;
                }
                left.extend(entries.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    let part = serde_json::from_value(part);
    part.map(Some).map_err(|e| unusable(path, format!("is not what it should be: {e}")))
}

/// Added tokens of all files, as transformers puts them together: those of `tokenizer.json`, with
/// the properties that `tokenizer_config.json` gives them, and everything that has a role is
/// special.
fn added(entries: Vec<AddedEntry>, model: &ModelWrapper, config: &TokenizerConfig) -> Vec<Added> {
    let mut added: Vec<Added> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut put = |id: u32, token: AddedToken| match known.entry(token.content.clone()) {
        Entry::Occupied(known) => added[*known.get()].token = token,
        Entry::Vacant(new) => {
            new.insert(added.len());
            let id = model.token_to_id(&token.content).unwrap_or(id);
            added.push(Added { id, token });
        }
    };
    let slow = config.get("added_tokens_decoder").and_then(Value::as_object);
    let slow = slow
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| Some((id.parse().ok()?, AddedToken::deserialize(token).ok()?)));
    let entries = entries.into_iter().map(|entry| (entry.id, entry.token));
    entries.chain(slow).for_each(|(id, token)| put(id, token));
    for name in config.special_names() {
        match known.get(name) {
            Some(known) => added[*known].token.special = true,
            // Names that are in no vocabulary have no embedding either.
            None => added.extend(
                model.token_to_id(name).map(|id| Added { id, token: AddedToken::from(name, true) }),
            ),
        }
    }
    let mut seen = HashSet::new();
    added.retain(|a| seen.insert(a.id));
    added
}

/// Where transformers does not take `tokenizer.json` at its word but builds the tokenizer anew, so
/// is it done here.
fn follow_transformers(parts: &mut Parts, dir: &Path, config: &TokenizerConfig) -> Result<()> {
    // BertTokenizer goes by the configuration.
    if let Some(NormalizerWrapper::BertNormalizer(bert)) = &mut parts.normalizer {
        if let Some(lowercase) = config.flag("do_lower_case")? {
            bert.lowercase = lowercase;
        }
        if let Some(chinese) = config.flag("tokenize_chinese_chars")? {
            bert.handle_chinese_chars = chinese;
        }
        if config.has("strip_accents") {
            bert.strip_accents = config.flag("strip_accents")?;
        }
    }
    // LlamaTokenizer (of models that have no class of their own) puts one space before a text,
    // and none before what follows a special token or begins with a space.
    let class = config.text("tokenizer_class").unwrap_or_default();
    let byte_level = matches!(parts.decoder, Some(DecoderWrapper::ByteLevel(_)));
    if class.strip_suffix("Fast").unwrap_or(class) == "LlamaTokenizer"
        && matches!(model_type(dir)?.as_deref(), None | Some("llama"))
        && matches!(parts.model, ModelWrapper::BPE(_))
        && !byte_level
    {
        let prefix = config.flag("add_prefix_space")?.unwrap_or(true);
        let scheme = match (prefix, config.flag("legacy")?.unwrap_or(false)) {
            (false, _) => PrependScheme::Never,
            (true, true) => PrependScheme::Always,
            (true, false) => PrependScheme::First,
        };
        parts.normalizer = None;
        parts.pre_tokenizer = Some(Metaspace::new('▁', scheme, false).into());
        let mut decoders: Vec<DecoderWrapper> = vec![
            Replace::new("▁", " ").map_err(failed)?.into(),
            ByteFallback::new().into(),
            Fuse::new().into(),
        ];
        if prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        parts.decoder = Some(Decoders::new(decoders).into());
    }
    Ok(())
}
