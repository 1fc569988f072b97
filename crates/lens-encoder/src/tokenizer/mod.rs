//! The model file's own tokenizer.
//!
//! Text of users is only ever text here: a `<end_of_turn>` that somebody typed becomes the letters
//! it consists of, not the control token. Control tokens come from chat templates alone, and only
//! where the template itself wrote them (see [`TextTokenizer::shield`]).

mod spm;

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer;

use crate::error::{EncoderError, Result};
use crate::model::gguf::GgufFile;

/// What a token is for, by the model file's `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    /// `<bos>`, `<start_of_turn>`: never from a user's text.
    Control,
    /// Strings that are one token wherever they occur in a text.
    UserDefined,
    /// Bytes, the unknown token, unused ones.
    Other,
}

/// The vocabulary as the model file lists it.
pub(crate) struct Vocabulary<'a> {
    tokens: Vec<Cow<'a, str>>,
    kinds: Vec<Kind>,
    unknown: Option<u32>,
}

/// Characters that no text contains for a reason: one of them marks what a template must not turn
/// into control tokens.
const MARKERS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

/// Turns text into token ids.
pub(crate) struct TextTokenizer {
    inner: Tokenizer,
    control: Option<AhoCorasick>,
    control_ids: Vec<u32>,
    /// BOS, if it is to be added.
    bos: Option<u32>,
    /// EOS, if it is to be added.
    eos: Option<u32>,
    /// BOS as templates write it.
    pub bos_text: String,
    /// EOS as templates write it.
    pub eos_text: String,
}

/// Tokens, and where each begins in the text.
type WithOffsets = Vec<(u32, usize)>;

/// Whether the model file asks for a BOS token.
pub(crate) fn adds_bos(file: &GgufFile) -> Result<bool> {
    if let Some(flag) = file.flag("tokenizer.ggml.add_bos_token")? {
        return Ok(flag);
    }
    // The format's convention where the file is silent.
    Ok(file.text("tokenizer.ggml.model")? == Some("llama"))
}

impl TextTokenizer {
    /// Builds the tokenizer of a model with `vocab` embeddings.
    pub fn from_gguf(file: &GgufFile, vocab: usize, add_bos: bool) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let tokens = file.texts(key)?;
        if tokens.len() > vocab {
            return Err(file.bad(key, format!("has more than the {vocab} embedded tokens")));
        }
        let types = file.numbers("tokenizer.ggml.token_type")?;
        if types.as_ref().is_some_and(|t| t.len() != tokens.len()) {
            return Err(file.bad("tokenizer.ggml.token_type", "has another length than tokens"));
        }
        let kinds = match types {
            None => vec![Kind::Normal; tokens.len()],
            Some(types) => types.iter().map(|t| kind(*t as i64)).collect(),
        };
        let special = |name: &str| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match file.int(&key)? {
                Some(id) if id >= tokens.len() => Err(file.bad(&key, "is not in the vocabulary")),
                id => Ok(id.map(|id| id as u32)),
            }
        };
        let (bos, eos) = (special("bos")?, special("eos")?);
        if add_bos && bos.is_none() {
            return Err(file.bad("tokenizer.ggml.bos_token_id", "is missing, but BOS is wanted"));
        }
        let text = |id: Option<u32>| {
            id.and_then(|id| tokens.get(id as usize)).map(|t| t.to_string()).unwrap_or_default()
        };
        let (bos_text, eos_text) = (text(bos), text(eos));
        let (control_ids, names): (Vec<u32>, Vec<&str>) = tokens
            .iter()
            .zip(&kinds)
            .enumerate()
            .filter(|(_, (token, kind))| **kind == Kind::Control && !token.is_empty())
            .map(|(id, (token, _))| (id as u32, token.as_ref()))
            .unzip();
        let control = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&names)
            .map_err(|e| EncoderError::Tokenizer { detail: e.to_string() })?;
        let control = (!names.is_empty()).then_some(control);
        let vocabulary = Vocabulary { kinds, unknown: special("unknown")?, tokens };
        let inner = match file.text("tokenizer.ggml.model")? {
            Some("llama") => {
                let key = "tokenizer.ggml.scores";
                let scores = file.numbers(key)?.ok_or_else(|| file.bad(key, "is missing"))?;
                if scores.len() != vocabulary.tokens.len() {
                    return Err(file.bad(key, "has another length than tokens"));
                }
                let prefix = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                spm::build(&vocabulary, &scores, prefix)?
            }
            other => {
                let found = other.unwrap_or("none");
                let detail = format!("'{found}' is not supported (supported: llama)");
                return Err(file.bad("tokenizer.ggml.model", detail));
            }
        };
        let add_eos = file.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        Ok(Self {
            inner,
            control,
            control_ids,
            bos: bos.filter(|_| add_bos),
            eos: eos.filter(|_| add_eos),
            bos_text,
            eos_text,
        })
    }

    /// Ids of a text in which nothing is a control token.
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        self.piece(text, &mut ids)?;
        ids.extend(self.eos);
        Ok(ids)
    }

    /// Ids of a rendered chat template: control tokens that the template wrote are parsed, the
    /// `marker` disappears, and BOS is added if the template did not write it.
    pub fn rendered(&self, text: &str, marker: char) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = Vec::new();
        self.pieces(text, marker, |piece, control| match control {
            Some(id) => {
                ids.push(id);
                Ok(())
            }
            None => self.piece(&piece.0, &mut ids),
        })?;
        if let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        if let Some(eos) = self.eos
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        Ok(ids)
    }

    /// Ids of a text by the model's user rather than the texts' (a view's suffix): control tokens in
    /// it are parsed, and nothing is added around it.
    pub fn fragment(&self, text: &str) -> Result<Vec<u32>> {
        let marker = self.marker(std::iter::once(text))?;
        let mut ids: Vec<u32> = Vec::new();
        self.pieces(text, marker, |piece, control| match control {
            Some(id) => {
                ids.push(id);
                Ok(())
            }
            None => self.piece(&piece.0, &mut ids),
        })?;
        Ok(ids)
    }

    /// How many of the ids that [`Self::text`] or [`Self::rendered`] (with a marker) returned
    /// begin before byte `at` of the text.
    pub fn ids_before(&self, text: &str, marker: Option<char>, at: usize) -> Result<usize> {
        let mut all: WithOffsets = Vec::new();
        let marker = match marker {
            Some(marker) => marker,
            None => {
                self.piece_offsets(text, 0, &mut all)?;
                return Ok(usize::from(self.bos.is_some()) + before(&all, at));
            }
        };
        self.pieces(text, marker, |piece, control| match control {
            Some(id) => {
                all.push((id, piece.1));
                Ok(())
            }
            None => self.piece_offsets(&piece.0, piece.1, &mut all),
        })?;
        let added = self.bos.is_some() && all.first().map(|(id, _)| *id) != self.bos;
        Ok(usize::from(added) + before(&all, at))
    }

    /// Whether BOS begins every list of ids.
    pub fn has_bos(&self) -> bool {
        self.bos.is_some()
    }

    /// A character that occurs in none of the texts, to be passed to [`Self::shield`].
    pub fn marker<'a>(&self, mut texts: impl Iterator<Item = &'a str> + Clone) -> Result<char> {
        MARKERS
            .into_iter()
            .find(|m| !texts.clone().any(|t| t.contains(*m)))
            .or_else(|| texts.next().is_none().then_some('\u{FDD0}'))
            .ok_or_else(|| EncoderError::Tokenizer {
                detail: "a text contains all 32 non-characters U+FDD0 to U+FDEF".into(),
            })
    }

    /// Breaks names of control tokens in a user's text with the marker, so that they are not
    /// taken for control tokens after the text went through a template.
    pub fn shield<'a>(&self, text: &'a str, marker: char) -> Cow<'a, str> {
        let Some(control) = &self.control else { return Cow::Borrowed(text) };
        let mut text = Cow::Borrowed(text);
        // Again until nothing is left: a broken name can uncover another that overlapped it.
        while let Some(found) = control.find(text.as_ref()) {
            let first = text[found.start()..].chars().next().map_or(1, char::len_utf8);
            let (head, tail) = text.split_at(found.start() + first);
            if tail.is_empty() || first == found.len() {
                // A name of one character cannot be broken; no vocabulary has one.
                break;
            }
            text = Cow::Owned(format!("{head}{marker}{tail}"));
        }
        text
    }

    /// Cuts a rendered text into control tokens and the text between, which arrives without the
    /// marker and with its position.
    fn pieces(
        &self,
        text: &str,
        marker: char,
        mut each: impl FnMut((Cow<'_, str>, usize), Option<u32>) -> Result<()>,
    ) -> Result<()> {
        let clean = |from: usize, to: usize| {
            let piece = &text[from..to];
            if piece.contains(marker) {
                Cow::Owned(piece.replace(marker, ""))
            } else {
                Cow::Borrowed(piece)
            }
        };
        let mut done = 0;
        for found in self.control.iter().flat_map(|c| c.find_iter(text)) {
            if found.start() > done {
                each((clean(done, found.start()), done), None)?;
            }
            let id = self.control_ids[found.pattern().as_usize()];
            each((Cow::Borrowed(""), found.start()), Some(id))?;
            done = found.end();
        }
        if done < text.len() {
            each((clean(done, text.len()), done), None)?;
        }
        Ok(())
    }

    fn piece(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| EncoderError::Tokenizer { detail: e.to_string() })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    fn piece_offsets(&self, text: &str, at: usize, all: &mut WithOffsets) -> Result<()> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| EncoderError::Tokenizer { detail: e.to_string() })?;
        let offsets = encoding.get_offsets().iter().map(|(from, _)| at + from);
        all.extend(encoding.get_ids().iter().copied().zip(offsets));
        Ok(())
    }
}

fn before(all: &WithOffsets, at: usize) -> usize {
    all.iter().take_while(|(_, from)| *from < at).count()
}

fn kind(token_type: i64) -> Kind {
    match token_type {
        1 => Kind::Normal,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        _ => Kind::Other,
    }
}
