//! The model's own tokenizer, from its GGUF file or from a folder of transformers: the same ids as
//! transformers gives.
//!
//! Unless asked otherwise ([`SpecialTokens`]), text of users is only ever text here: a
//! `<end_of_turn>` that somebody typed becomes the letters it consists of, not the control token.
//! Control tokens come from chat templates alone, and only where the template itself wrote them
//! (see [`TextTokenizer::shield`]).

// Folders, `Parse` and decoding are used from here on by those who load folders and generate.

mod byte_level;
mod export;
mod files;
mod folder;
mod gguf;
mod guard;
mod pattern;
mod pipeline;
mod roles;
mod spm;
mod stages;
mod stream;
mod wordpiece;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use lens_data::encoder::SpecialTokens;
use std::borrow::Cow;

pub(crate) use export::{Exported, TokenizerFiles};
pub(crate) use files::{adds_bos_of_folder, adds_eos_of_folder, chat_template_of_folder};
pub(crate) use gguf::adds_bos;
use gguf::{Kind, Vocabulary};
use guard::failed;
use pipeline::{Parse, Parts, Pipeline};
pub(crate) use roles::TokenRoles;
pub(crate) use stream::TextStream;

use crate::error::{EncoderError, Result};

/// Characters that no text contains for a reason: one of them marks what a template must not turn
/// into control tokens.
const MARKERS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

/// Special tokens that end a turn, whatever the files say: models that write them go on with
/// nonsense otherwise.
const END_OF_TURN: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"];

/// Turns text into token ids, and ids into text.
pub(crate) struct TextTokenizer {
    pipeline: Pipeline,
    special: SpecialTokens,
    /// Names of special tokens, to find them in texts of users.
    names: Option<AhoCorasick>,
    /// The ids that begin every list: BOS, or BERT's `[CLS]`.
    prefix: Vec<u32>,
    /// The ids that end every list: BERT's `[SEP]`, rarely EOS.
    suffix: Vec<u32>,
    end_ids: Vec<u32>,
    /// Tokens that the model embeds: all ids below this.
    embedded: usize,
    /// Special tokens by their roles, as templates write them.
    pub roles: TokenRoles,
}

/// The special tokens before and after a text, and their names.
#[derive(Debug, Default)]
struct SpecialFrame {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    /// EOS and others that end a text or a turn.
    end_ids: Vec<u32>,
    /// Tokens that the model embeds.
    embedded: usize,
    roles: TokenRoles,
}

impl TextTokenizer {
    fn new(parts: Parts, frame: SpecialFrame, special: SpecialTokens) -> Result<Self> {
        let pipeline = Pipeline::new(parts)?;
        let mut names: Vec<&str> = pipeline.special_names().collect();
        names.sort_unstable();
        let search = match names.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(&names)
                    .map_err(failed)?,
            ),
        };
        let SpecialFrame { prefix, suffix, mut end_ids, embedded, roles } = frame;
        let turns = END_OF_TURN.iter().filter_map(|name| pipeline.id_of(name));
        end_ids.extend(turns.filter(|id| pipeline.is_special(*id)));
        end_ids.sort_unstable();
        end_ids.dedup();
        let around = prefix.iter().chain(&suffix);
        if let Some(id) = around.copied().find(|id| *id as usize >= embedded) {
            let token = pipeline.name_of(id).unwrap_or_default();
            return Err(EncoderError::NotEmbedded { index: 0, token, id, rows: embedded });
        }
        let names = search;
        Ok(Self { pipeline, special, names, prefix, suffix, end_ids, embedded, roles })
    }

    /// Ids of a text as it is.
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.ids(text, self.parse(None))?;
        Ok(match self.special {
            SpecialTokens::Text => [self.prefix.as_slice(), &ids, &self.suffix].concat(),
            SpecialTokens::Parse => self.framed(ids),
        })
    }

    /// Ids of a rendered chat template: control tokens that the template wrote are parsed, the
    /// `marker` disappears, and BOS is added if the template did not write it.
    pub fn rendered(&self, text: &str, marker: char) -> Result<Vec<u32>> {
        let (text, marks) = unmarked(text, marker);
        self.ids(&text, self.parse(Some(&marks))).map(|ids| self.framed(ids))
    }

    /// Ids of a text by the model's user rather than the texts' (a view's suffix): control tokens in
    /// it are parsed, and nothing is added around it.
    pub fn fragment(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, self.parse(Some(&[])))
    }

    /// Ids of a text, each of which the model embeds.
    fn ids(&self, text: &str, parse: Parse) -> Result<Vec<u32>> {
        let ids = self.pipeline.ids(text, parse)?;
        match ids.iter().find(|id| **id as usize >= self.embedded) {
            None => Ok(ids),
            Some(id) => Err(EncoderError::NotEmbedded {
                index: 0,
                token: self.pipeline.name_of(*id).unwrap_or_default(),
                id: *id,
                rows: self.embedded,
            }),
        }
    }

    /// How many of the ids that [`Self::text`] or [`Self::rendered`] (with a marker) returned
    /// end at byte `at` of the text or before: a token that goes beyond it belongs to what follows.
    pub fn ids_before(&self, text: &str, marker: Option<char>, at: usize) -> Result<usize> {
        let (clean, marks) = match marker {
            None => (Cow::Borrowed(text), None),
            Some(marker) => {
                let (clean, marks) = unmarked(text, marker);
                (clean, Some((marks, marker)))
            }
        };
        let at = match &marks {
            None => at,
            Some((_, marker)) => {
                let before = text.match_indices(*marker).take_while(|(m, _)| *m < at);
                at - before.map(|(m, _)| marker.len_utf8().min(at - m)).sum::<usize>()
            }
        };
        let parse = self.parse(marks.as_ref().map(|(marks, _)| marks.as_slice()));
        let starts = self.pipeline.starts(&clean, parse)?;
        let begun = starts.iter().take_while(|start| **start < at).count();
        let end = starts.get(begun).copied().unwrap_or(clean.len());
        let before = if end > at { begun.saturating_sub(1) } else { begun };
        let framed = marker.is_some() || self.special == SpecialTokens::Parse;
        let there = framed && self.pipeline.ids(&clean, parse)?.starts_with(&self.prefix);
        Ok(if there { before } else { self.prefix.len() + before })
    }

    /// Which special tokens of a text are parsed; `marks` are those of a rendered one.
    fn parse<'a>(&self, marks: Option<&'a [usize]>) -> Parse<'a> {
        match (self.special, marks) {
            (SpecialTokens::Parse, _) => Parse::All,
            (SpecialTokens::Text, Some(marks)) => Parse::Unmarked(marks),
            (SpecialTokens::Text, None) => Parse::Nothing,
        }
    }

    /// Adds what stands around a text where the text does not bring it itself.
    fn framed(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if !ids.starts_with(&self.prefix) {
            ids.splice(..0, self.prefix.iter().copied());
        }
        // A token that begins the text cannot end it as well.
        if !ids[self.prefix.len()..].ends_with(&self.suffix) {
            ids.extend_from_slice(&self.suffix);
        }
        ids
    }

    /// How many ids begin every list: BOS or `[CLS]`.
    pub fn prefix_len(&self) -> usize {
        self.prefix.len()
    }

    /// How many ids end every list: `[SEP]`, rarely EOS.
    pub fn suffix_len(&self) -> usize {
        self.suffix.len()
    }

    /// The names of the tokens that begin every list, as one text.
    pub fn prefix_text(&self) -> Option<String> {
        self.prefix.iter().map(|id| self.pipeline.name_of(*id)).collect()
    }

    /// The names of the tokens that end every list, as one text.
    pub fn suffix_text(&self) -> Option<String> {
        self.suffix.iter().map(|id| self.pipeline.name_of(*id)).collect()
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

    /// Breaks names of special tokens in a user's text with the marker, so that they are not taken
    /// for special tokens after the text went through a template. Where special tokens are to be
    /// parsed, nothing is done.
    pub fn shield<'a>(&self, text: &'a str, marker: char) -> Cow<'a, str> {
        let names = match (&self.names, self.special) {
            (Some(names), SpecialTokens::Text) => names,
            _ => return Cow::Borrowed(text),
        };
        let mut shielded = String::new();
        let mut done = 0;
        // Names that overlap one another are broken too.
        while let Some(found) = names.find(Input::new(text).span(done..text.len())) {
            let first = text[found.start()..].chars().next().map_or(1, char::len_utf8);
            // The marker goes behind the first character, or before the only one.
            let cut = if first == found.len() { found.start() } else { found.start() + first };
            shielded.push_str(&text[done..cut]);
            shielded.push(marker);
            shielded.push_str(&text[cut..found.start() + first]);
            done = found.start() + first;
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        shielded.push_str(&text[done..]);
        Cow::Owned(shielded)
    }

    /// Text of ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.pipeline.decode(ids)
    }

    /// Turns ids that arrive one by one into text.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(&self.pipeline)
    }

    /// Tokens after which a text or a turn is over, in ascending order.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// How names of special tokens in texts are read.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Names of the special tokens that stand in a text, in their order.
    pub fn special_names_in<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.names.iter().flat_map(move |names| names.find_iter(text));
        found.map(move |name| &text[name.range()])
    }

    /// Names of the tokens that begin lists or texts: BOS, `[CLS]`.
    pub fn names_before(&self) -> Vec<String> {
        let prefix = self.prefix.iter().filter_map(|id| self.pipeline.name_of(*id));
        distinct(prefix.chain(self.roles.get("bos").map(str::to_owned)))
    }

    /// Names of the tokens that end lists, texts or turns: EOS, `[SEP]`, `<|im_end|>`.
    pub fn names_after(&self) -> Vec<String> {
        let special = self.end_ids.iter().filter(|id| self.pipeline.is_special(**id));
        let ends = self.suffix.iter().chain(special);
        let named = ends.filter_map(|id| self.pipeline.name_of(*id));
        distinct(named.chain(self.roles.get("eos").map(str::to_owned)))
    }

    /// Names of the tokens that fill lists up to one length: the padding token, and what the files
    /// call one.
    pub fn names_of_padding(&self) -> Vec<String> {
        let is_padding = |name: &&str| name.to_ascii_lowercase().contains("pad");
        let named = self.pipeline.special_names().filter(is_padding).map(str::to_owned);
        distinct(named.chain(self.roles.get("pad").map(str::to_owned)))
    }

    /// The id of a token by its name.
    #[cfg(test)]
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.pipeline.id_of(name)
    }

    #[cfg(test)]
    fn is_special(&self, id: u32) -> bool {
        self.pipeline.is_special(id)
    }
}

/// Each name once, empty ones not at all.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A text without the marker, and where the marker was, as positions in what is left.
fn unmarked(text: &str, marker: char) -> (Cow<'_, str>, Vec<usize>) {
    let marks: Vec<usize> = text
        .match_indices(marker)
        .enumerate()
        .map(|(n, (at, _))| at - n * marker.len_utf8())
        .collect();
    match marks.is_empty() {
        true => (Cow::Borrowed(text), marks),
        false => (Cow::Owned(text.replace(marker, "")), marks),
    }
}

#[cfg(test)]
mod tests;
