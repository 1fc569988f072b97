//! From text to ids and back, as the `tokenizers` library does it, except that the caller decides
//! for each text which special tokens are parsed.

use super::guard::{failed, guarded};
use super::stages::{Decoders, Normalizers, PreTokenizers, Room};
use crate::error::Result;
use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;
use tokenizers::normalizer::Range;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, ModelWrapper, NormalizedString, NormalizerWrapper,
    OffsetType, PreTokenizedString, PreTokenizerWrapper, Token,
};

/// Bytes of the longest added token, and of all of them: they are searched for at once, in a table.
const MAX_NAME: usize = 1000;
const MAX_NAMES: usize = 4 << 20;
/// Bytes of the longest token of a vocabulary.
const MAX_TOKEN: usize = 4000;
/// Characters of the longest word that is cut into pieces; the usual limit is 100.
const MAX_WORD: usize = 1000;

/// An added token with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub id: u32,
    pub token: AddedToken,
}

/// Which special tokens are parsed. Added tokens that are not special are found in any case.
#[derive(Clone, Copy)]
pub(super) enum Parse<'a> {
    All,
    Nothing,
    /// Those in which none of these positions (bytes, ascending) lies.
    Unmarked(&'a [usize]),
}

/// The parts of a tokenizer. Nothing is added around a text, truncated or padded.
pub(super) struct Pipeline {
    normalizers: Normalizers,
    pre_tokenizers: PreTokenizers,
    model: ModelWrapper,
    decoders: Option<Decoders>,
    /// Found in the text as it is.
    raw: Matcher,
    /// Found in the normalised text.
    normalized: Matcher,
    by_id: HashMap<u32, AddedToken>,
    by_name: HashMap<String, u32>,
}

/// The parts that a pipeline is made of.
pub(super) struct Parts {
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub model: ModelWrapper,
    pub decoder: Option<DecoderWrapper>,
    pub added: Vec<Added>,
}

/// Tokens to look for, leftmost first, then longest.
struct Matcher {
    search: Option<AhoCorasick>,
    tokens: Vec<Added>,
}

static WORD_END: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\w$").ok());
static WORD_START: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\w").ok());

impl Matcher {
    fn new(tokens: Vec<Added>, patterns: &[String]) -> Result<Self> {
        let search = match tokens.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(patterns)
                    .map_err(failed)?,
            ),
        };
        Ok(Self { search, tokens })
    }

    /// Cuts a text into added tokens and what lies between, as `AddedVocabulary` of the library.
    fn split(
        &self,
        text: NormalizedString,
        parse: Parse,
        whole_name: bool,
    ) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
        let Some(search) = &self.search else { return Ok(vec![(text, None)]) };
        let sentence = text.get();
        let mut ranges: Vec<(Option<u32>, usize, usize)> = Vec::new();
        let mut done = 0;
        for found in search.find_iter(sentence) {
            let (mut start, mut end) = (found.start(), found.end());
            let Added { id, token } = &self.tokens[found.pattern().as_usize()];
            if token.special && !wanted(parse, &text, start..end, token, whole_name) {
                continue;
            }
            if token.single_word && (ends_word(&sentence[..start]) || begins_word(&sentence[end..]))
            {
                continue;
            }
            if token.lstrip {
                start = sentence[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = sentence.len() - sentence[end..].trim_start().len();
            }
            // A token inside the white space that an earlier one took with it counts too: so it
            // does in the library.
            if done < start {
                ranges.push((None, done, start));
            }
            ranges.push((Some(*id), start, end));
            done = end;
        }
        if done < sentence.len() {
            ranges.push((None, done, sentence.len()));
        }
        ranges
            .into_iter()
            .map(|(id, start, end)| {
                let slice = text
                    .slice(Range::Normalized(start..end))
                    .ok_or("an added token does not lie on character boundaries")?;
                let token = id.map(|id| vec![Token::new(id, String::new(), (0, end - start))]);
                Ok((slice, token))
            })
            .collect()
    }
}

/// Whether a special token that was found is to be parsed.
fn wanted(
    parse: Parse,
    text: &NormalizedString,
    at: std::ops::Range<usize>,
    token: &AddedToken,
    whole_name: bool,
) -> bool {
    let marks = match parse {
        Parse::All => return true,
        Parse::Nothing => return false,
        Parse::Unmarked(marks) => marks,
    };
    let Some(slice) = text.slice(Range::Normalized(at)) else { return false };
    // Normalising can make a name of what was none; a template writes names in full.
    if whole_name && slice.get_original() != token.content {
        return false;
    }
    let (start, end) = slice.offsets_original();
    let first = marks.partition_point(|m| *m < start);
    marks.get(first).is_none_or(|m| *m >= end)
}

fn last_char(text: &str) -> &str {
    text.char_indices().next_back().map_or("", |(at, _)| &text[at..])
}

fn ends_word(text: &str) -> bool {
    WORD_END.as_ref().is_some_and(|word| word.is_match(last_char(text)))
}

fn begins_word(text: &str) -> bool {
    WORD_START.as_ref().is_some_and(|word| word.is_match(text))
}

/// Refuses names of which the search would take too much memory.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut all = 0;
    for name in names {
        all += name.len();
        if name.len() > MAX_NAME || all > MAX_NAMES {
            return Err(failed(format!(
                "its added tokens are too long: one may have {MAX_NAME} bytes, all {MAX_NAMES}"
            )));
        }
    }
    Ok(())
}

/// Refuses models that take time without end: for every place in a text they try all tokens, up to the
/// longest, or all pieces of a word.
fn check_model(model: &ModelWrapper) -> Result<()> {
    let longest = model.get_vocab().keys().map(String::len).max().unwrap_or(0);
    if longest > MAX_TOKEN {
        return Err(failed(format!("it has a token of {longest} bytes, above {MAX_TOKEN}")));
    }
    match model {
        ModelWrapper::WordPiece(model) if model.max_input_chars_per_word > MAX_WORD => {
            let found = model.max_input_chars_per_word;
            Err(failed(format!("'max_input_chars_per_word' is {found}, above {MAX_WORD}")))
        }
        _ => Ok(()),
    }
}

impl Pipeline {
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { normalizer, pre_tokenizer, model, decoder, mut added } = parts;
        added.retain(|a| !a.token.content.is_empty());
        check_names(added.iter().map(|a| a.token.content.as_str()))?;
        check_model(&model)?;
        let normalizers = Normalizers::new(normalizer.as_ref())?;
        let pre_tokenizers = PreTokenizers::new(pre_tokenizer.as_ref())?;
        let decoders = decoder.as_ref().map(Decoders::new).transpose()?;
        // Special ones come first, as in the library: of two equal patterns the first is found.
        added.sort_by_key(|a| (!a.token.special, a.id));
        let by_id = added.iter().map(|a| (a.id, a.token.clone())).collect();
        let by_name = added.iter().map(|a| (a.token.content.clone(), a.id)).collect();
        let (normalized, raw): (Vec<Added>, Vec<Added>) =
            added.into_iter().partition(|a| a.token.normalized);
        let names: Vec<String> = raw.iter().map(|a| a.token.content.clone()).collect();
        let mut normal_names = Vec::with_capacity(normalized.len());
        for Added { token, .. } in &normalized {
            let mut name = NormalizedString::from(token.content.as_str());
            let mut room = Room::of(token.content.len());
            normalizers.normalize(&mut name, &mut room).map_err(failed)?;
            normal_names.push(name.get().to_owned());
        }
        check_names(normal_names.iter().map(String::as_str))?;
        // A name of which nothing is left would be found everywhere.
        let (normalized, normal_names) = normalized
            .into_iter()
            .zip(normal_names)
            .filter(|(_, name)| !name.is_empty())
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Ok(Self {
            normalizers,
            pre_tokenizers,
            model,
            decoders,
            raw: Matcher::new(raw, &names)?,
            normalized: Matcher::new(normalized, &normal_names)?,
            by_id,
            by_name,
        })
    }

    /// Ids of a text.
    pub fn ids(&self, text: &str, parse: Parse) -> Result<Vec<u32>> {
        let encoding = guarded(|| {
            self.tokens(text, parse)
                .and_then(|tokens| tokens.into_encoding(None, 0, OffsetType::None))
                .map_err(failed)
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Where (byte of the text) the token of each id begins.
    pub fn starts(&self, text: &str, parse: Parse) -> Result<Vec<usize>> {
        let encoding = guarded(|| {
            self.tokens(text, parse)
                .and_then(|tokens| tokens.into_encoding(None, 0, OffsetType::Byte))
                .map_err(failed)
        })?;
        Ok(encoding.get_offsets().iter().map(|(start, _)| *start).collect())
    }

    fn tokens(&self, text: &str, parse: Parse) -> tokenizers::Result<PreTokenizedString> {
        let mut pieces = PreTokenizedString::from(text);
        let mut room = Room::of(text.len());
        pieces.split(|_, piece| self.raw.split(piece, parse, false))?;
        pieces.split(|_, mut piece| {
            self.normalizers.normalize(&mut piece, &mut room)?;
            self.normalized.split(piece, parse, true)
        })?;
        self.pre_tokenizers.pre_tokenize(&mut pieces, text.len())?;
        pieces.tokenize(|piece| self.model.tokenize(piece.get()))?;
        Ok(pieces)
    }

    /// Text of ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let tokens = ids.iter().filter_map(|id| match self.by_id.get(id) {
            Some(token) => (!token.special).then(|| token.content.clone()),
            None => self.model.id_to_token(*id),
        });
        match &self.decoders {
            Some(decoders) => guarded(|| decoders.decode(tokens.collect()).map_err(failed)),
            None => Ok(tokens.collect::<Vec<_>>().join(" ")),
        }
    }

    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied().or_else(|| self.model.token_to_id(name))
    }

    pub fn name_of(&self, id: u32) -> Option<String> {
        let added = self.by_id.get(&id).map(|token| token.content.clone());
        added.or_else(|| self.model.id_to_token(id))
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.by_id.get(&id).is_some_and(|token| token.special)
    }

    /// Names of the special tokens.
    pub fn special_names(&self) -> impl Iterator<Item = &str> {
        self.by_id.values().filter(|t| t.special).map(|t| t.content.as_str())
    }
}
