//! Tokenizers of GGUF files.

use super::guard::guarded;
use super::pipeline::{Added, Parts};
use super::{SpecialFrame, SpecialTokens, TextTokenizer, byte_level, spm, wordpiece};
use crate::error::Result;
use crate::model::gguf::GgufFile;
use tokenizers::AddedToken;

const MODEL: &str = "tokenizer.ggml.model";

/// The kind of a token, by the model file's `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// `<bos>`, `<start_of_turn>`: never from a user's text.
    Control,
    /// Strings that are one token wherever they occur in a text.
    UserDefined,
    /// Bytes, unused ones.
    Other,
}

/// The vocabulary as the model file lists it.
pub(super) struct Vocabulary {
    pub tokens: Vec<String>,
    pub kinds: Vec<Kind>,
    pub unknown: Option<u32>,
}

/// Whether the model file asks for a BOS token.
pub(crate) fn adds_bos(file: &GgufFile) -> Result<bool> {
    if let Some(flag) = file.flag("tokenizer.ggml.add_bos_token")? {
        return Ok(flag);
    }
    // The format's conventions where the file is silent.
    Ok(match file.text(MODEL)? {
        Some("llama" | "bert") => true,
        Some("gpt2") => byte_level::pre(file)?.adds_bos,
        _ => false,
    })
}

impl TextTokenizer {
    /// Builds the tokenizer of a model with `vocab` embeddings. BERT's `[CLS]` and `[SEP]` are
    /// always added, BOS where `add_bos` asks for it.
    pub fn from_gguf(
        file: &GgufFile,
        vocab: usize,
        add_bos: bool,
        special: SpecialTokens,
    ) -> Result<Self> {
        guarded(|| Self::of_gguf(file, vocab, add_bos, special))
    }

    fn of_gguf(
        file: &GgufFile,
        vocab: usize,
        add_bos: bool,
        special: SpecialTokens,
    ) -> Result<Self> {
        let Described { parts, frame, .. } = describe(file, vocab, add_bos)?;
        Self::new(parts, frame, special)
    }
}

/// The tokenizer of a model file.
pub(super) struct Described {
    /// Its steps.
    pub parts: Parts,
    /// What it puts around a text.
    pub frame: SpecialFrame,
    /// Its tokens as the file lists them.
    pub tokens: Vec<String>,
}

/// Describes the tokenizer of a model with `vocab` embeddings.
pub(super) fn describe(file: &GgufFile, vocab: usize, add_bos: bool) -> Result<Described> {
    let key = "tokenizer.ggml.tokens";
    let tokens = file.texts(key)?;
    let count = tokens.len();
    let id_of = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match file.int(&key)? {
            Some(id) if id >= count => Err(file.bad(&key, "is not in the vocabulary")),
            id => Ok(id.map(|id| id as u32)),
        }
    };
    let either = |a: &str, b: &str| -> Result<Option<u32>> { Ok(id_of(a)?.or(id_of(b)?)) };
    let (bos, eos, unknown) = (id_of("bos")?, id_of("eos")?, id_of("unknown")?);
    let [padding, mask] = [id_of("padding")?, id_of("mask")?];
    // The key is misspelt in the format.
    let (cls, sep) = (id_of("cls")?, either("seperator", "separator")?);
    let by_role = [
        ("bos", bos),
        ("eos", eos),
        ("unk", unknown),
        ("sep", sep),
        ("pad", padding),
        ("cls", cls),
        ("mask", mask),
    ];
    let named: Vec<u32> = by_role.iter().filter_map(|(_, id)| *id).collect();
    let vocabulary = Vocabulary { kinds: kinds(file, count, &named)?, unknown, tokens };
    // Padding and other tokens that no text need hold may lie beyond the embeddings.
    if vocabulary.kinds.iter().skip(vocab).any(|kind| *kind == Kind::Normal) {
        return Err(file.bad(key, format!("has more than the {vocab} embedded tokens")));
    }

    let model = file.text(MODEL)?.unwrap_or("none");
    let architecture = file.text("general.architecture")?.unwrap_or_default();
    let strips = model == "llama" && architecture == "phi3";
    let added = added(&vocabulary, strips);
    let parts = match model {
        "llama" => spm::build(file, &vocabulary, added)?,
        "gpt2" => byte_level::build(file, &vocabulary, added)?,
        "bert" => wordpiece::build(file, &vocabulary, added)?,
        other => {
            let detail = format!("'{other}' is not supported (supported: llama, gpt2, bert)");
            return Err(file.bad(MODEL, detail));
        }
    };

    let name = |id: Option<u32>| {
        let token = id.and_then(|id| vocabulary.tokens.get(id as usize));
        token.map(|t| t.to_string()).unwrap_or_default()
    };
    let mut frame = SpecialFrame { embedded: vocab, ..SpecialFrame::default() };
    by_role.iter().for_each(|(role, id)| frame.roles.set(role, &name(*id)));
    if model == "bert" {
        let missing = |key| file.bad(key, "is missing");
        let first = cls.or(bos).ok_or_else(|| missing("tokenizer.ggml.cls_token_id"))?;
        let last = sep.or(eos).ok_or_else(|| missing("tokenizer.ggml.seperator_token_id"))?;
        (frame.prefix, frame.suffix) = (vec![first], vec![last]);
    } else {
        if add_bos {
            let key = "tokenizer.ggml.bos_token_id";
            frame.prefix = vec![bos.ok_or_else(|| file.bad(key, "is missing, but BOS is wanted"))?];
        }
        if file.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false) {
            frame.suffix.extend(eos);
        }
        frame.end_ids = [eos, id_of("eot")?, id_of("eom")?].into_iter().flatten().collect();
    }
    Ok(Described { parts, frame, tokens: vocabulary.tokens })
}

/// The kind of each token.
fn kinds(file: &GgufFile, count: usize, named: &[u32]) -> Result<Vec<Kind>> {
    let key = "tokenizer.ggml.token_type";
    let mut kinds = match file.numbers(key)? {
        Some(types) if types.len() != count => {
            return Err(file.bad(key, "has another length than tokens"));
        }
        Some(types) => types.iter().map(|t| kind(*t as i64)).collect(),
        None => {
            let mut kinds = vec![Kind::Normal; count];
            named.iter().for_each(|id| kinds[*id as usize] = Kind::Control);
            kinds
        }
    };
    // The unknown token has a type of its own, but no text may name it either. Some files name an
    // ordinary piece ('!') for want of a better one; it stays one.
    for id in named {
        let kind = &mut kinds[*id as usize];
        if *kind != Kind::Normal {
            *kind = Kind::Control;
        }
    }
    Ok(kinds)
}

fn kind(token_type: i64) -> Kind {
    match token_type {
        1 => Kind::Normal,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        _ => Kind::Other,
    }
}

/// Tokens that are looked for in texts. Those of Phi-3 take white space behind them along
/// (`strips`), which the format cannot say.
fn added(vocabulary: &Vocabulary, strips: bool) -> Vec<Added> {
    const BARE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
    let mut added: Vec<Added> = Vec::new();
    for (id, (token, kind)) in vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate() {
        let special = match kind {
            Kind::Control => true,
            Kind::UserDefined => false,
            Kind::Normal | Kind::Other => continue,
        };
        let strip = strips && !BARE.contains(&token.as_ref());
        let token = AddedToken::from(token.as_str(), special).normalized(false).rstrip(strip);
        added.push(Added { id: id as u32, token });
    }
    added
}
