//! What a tokenizer's file does to a text before and after its tokens, one step at a time: no step may
//! make far more of a text than it is.

use super::guard::failed;
use super::pattern::Expression;
use crate::error::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::{
    Decoder, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior,
};

/// Most steps: real tokenizers have up to a handful.
const MAX_STEPS: usize = 64;
/// Bytes that every text may become. The library keeps 17 bytes for each.
const SMALL: usize = 4 << 20;
/// How many times its bytes a longer text may become. One character of three bytes is 33 in NFKC.
const TIMES: usize = 40;
/// How many times its bytes a text may become by what is done before it is cut into words: each of these
/// steps has a fixed factor.
const MAX_PRE_GROWTH: usize = 64;

/// Bytes that may be made of a text.
pub(super) struct Room(usize);

impl Room {
    pub fn of(bytes: usize) -> Self {
        Self(SMALL.max(TIMES.saturating_mul(bytes)))
    }

    fn holds(&self, bytes: usize) -> tokenizers::Result<()> {
        match bytes <= self.0 {
            true => Ok(()),
            false => Err(format!(
                "its steps could make {bytes} bytes of a piece of this text, above {}",
                self.0
            )
            .into()),
        }
    }

    /// Takes away what was made.
    fn take(&mut self, bytes: usize) -> tokenizers::Result<()> {
        self.holds(bytes)?;
        self.0 -= bytes;
        Ok(())
    }
}

/// How long a text can become in a step that the library does.
#[derive(Debug, Clone, Copy)]
enum Growth {
    Plus(usize),
    Times(usize),
}

impl Growth {
    fn of(self, bytes: usize) -> usize {
        match self {
            Growth::Plus(more) => bytes.saturating_add(more),
            Growth::Times(times) => bytes.saturating_mul(times),
        }
    }
}

/// `Replace` of normalizers and decoders.
struct Replace {
    pattern: Expression,
    content: String,
}

impl Replace {
    fn new(step: &impl Serialize) -> Result<Self> {
        let step = serde_json::to_value(step).map_err(failed)?;
        let pattern = expression(&step["pattern"])?;
        let content = step["content"].as_str().unwrap_or_default().to_owned();
        Ok(Self { pattern, content })
    }

    /// Bytes of the result, or at least as many where that is little.
    fn growth(&self, text: &str, room: &Room) -> tokenizers::Result<usize> {
        let most = text.len() + (text.len() + 1).saturating_mul(self.content.len());
        if most <= room.0 {
            return Ok(most);
        }
        let parts = self.pattern.on(text.len()).find_matches(text)?;
        let times = parts.iter().filter(|(_, matched)| *matched).count();
        Ok(text.len().saturating_add(times.saturating_mul(self.content.len())))
    }
}

/// The pattern of a step: an expression, or text.
fn expression(pattern: &Value) -> Result<Expression> {
    match (pattern["Regex"].as_str(), pattern["String"].as_str()) {
        (Some(source), _) => Expression::new(source),
        (None, Some(text)) => Expression::literal(text),
        (None, None) => Err(failed("a step has no pattern")),
    }
}

/// The steps of nested sequences in their order.
fn flat<'a, T>(step: &'a T, inner: &impl Fn(&'a T) -> Option<&'a [T]>) -> Result<Vec<&'a T>> {
    let mut steps = Vec::new();
    let mut left = vec![step];
    while let Some(step) = left.pop() {
        match inner(step) {
            Some(inner) => left.extend(inner.iter().rev()),
            None => steps.push(step),
        }
        if steps.len() + left.len() > MAX_STEPS {
            return Err(failed(format!("a sequence has more than {MAX_STEPS} steps")));
        }
    }
    Ok(steps)
}

/// The steps of a normalizer.
pub(super) struct Normalizers(Vec<NormalStep>);

enum NormalStep {
    Library(NormalizerWrapper, Growth),
    Replace(Replace),
}

impl Normalizers {
    pub fn new(normalizer: Option<&NormalizerWrapper>) -> Result<Self> {
        let Some(normalizer) = normalizer else { return Ok(Self(Vec::new())) };
        let inner = |step| match step {
            &NormalizerWrapper::Sequence(ref sequence) => Some(sequence.as_ref()),
            _ => None,
        };
        let step = |step: &NormalizerWrapper| {
            let growth = match step {
                NormalizerWrapper::Replace(replace) => {
                    return Ok(NormalStep::Replace(Replace::new(replace)?));
                }
                NormalizerWrapper::Prepend(prepend) => Growth::Plus(prepend.prepend.len()),
                NormalizerWrapper::Precompiled(_) => Growth::Times(longest_replacement(step)?),
                // Forms of Unicode, of which NFKC makes the most of a character.
                _ => Growth::Times(12),
            };
            Ok(NormalStep::Library(step.clone(), growth))
        };
        flat(normalizer, &inner)?.into_iter().map(step).collect::<Result<_>>().map(Self)
    }

    pub fn normalize(
        &self,
        text: &mut NormalizedString,
        room: &mut Room,
    ) -> tokenizers::Result<()> {
        for step in &self.0 {
            match step {
                NormalStep::Library(normalizer, growth) => {
                    room.holds(growth.of(text.get().len()))?;
                    normalizer.normalize(text)?;
                }
                NormalStep::Replace(replace) => {
                    let bytes = text.get().len();
                    room.holds(replace.growth(text.get(), room)?)?;
                    text.replace(replace.pattern.on(bytes), &replace.content)?;
                }
            }
        }
        match self.0.is_empty() {
            true => Ok(()),
            false => room.take(text.get().len()),
        }
    }
}

/// Bytes of the longest text that a table of replacements has for a character.
fn longest_replacement(step: &NormalizerWrapper) -> Result<usize> {
    let step = serde_json::to_value(step).map_err(failed)?;
    let table = STANDARD.decode(step["precompiled_charsmap"].as_str().unwrap_or_default());
    let table = table.map_err(failed)?;
    // The size of a search tree, the tree, and the replacements, each with a zero behind it.
    let size = table.first_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let replacements = table.get(4usize.saturating_add(size)..).unwrap_or(&table);
    let longest = replacements.split(|byte| *byte == 0).map(<[u8]>::len).max();
    Ok(longest.unwrap_or(0).max(1))
}

/// The steps that cut a text into words.
pub(super) struct PreTokenizers(Vec<PreStep>);

enum PreStep {
    Library(PreTokenizerWrapper),
    Split { pattern: Expression, behavior: SplitDelimiterBehavior, invert: bool },
}

impl PreTokenizers {
    pub fn new(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Result<Self> {
        let Some(pre_tokenizer) = pre_tokenizer else { return Ok(Self(Vec::new())) };
        let inner = |step| match step {
            &PreTokenizerWrapper::Sequence(ref sequence) => Some(sequence.as_ref()),
            _ => None,
        };
        let mut growth = 1usize;
        let steps = flat(pre_tokenizer, &inner)?.into_iter().map(|step| {
            growth = growth.saturating_mul(match step {
                // A byte becomes two, and a space a character, which may also stand before each word.
                PreTokenizerWrapper::ByteLevel(_) => 2,
                PreTokenizerWrapper::Metaspace(_) => 8,
                _ => 1,
            });
            Ok(match step {
                PreTokenizerWrapper::Split(split) => PreStep::Split {
                    pattern: expression(&serde_json::to_value(&split.pattern).map_err(failed)?)?,
                    behavior: split.behavior,
                    invert: split.invert,
                },
                step => PreStep::Library(step.clone()),
            })
        });
        let steps = steps.collect::<Result<Vec<_>>>()?;
        if growth > MAX_PRE_GROWTH {
            let detail = format!("its pre-tokenizers make {growth} bytes of one");
            return Err(failed(detail));
        }
        Ok(Self(steps))
    }

    /// Cuts a text of so many bytes.
    pub fn pre_tokenize(
        &self,
        pieces: &mut PreTokenizedString,
        bytes: usize,
    ) -> tokenizers::Result<()> {
        for step in &self.0 {
            match step {
                PreStep::Library(pre_tokenizer) => pre_tokenizer.pre_tokenize(pieces)?,
                PreStep::Split { pattern, behavior, invert } => {
                    let pattern = pattern.on(bytes);
                    pieces.split(|_, piece| match invert {
                        true => piece.split(Invert(pattern), *behavior),
                        false => piece.split(pattern, *behavior),
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The steps of a decoder.
pub(super) struct Decoders(Vec<DecodeStep>);

enum DecodeStep {
    Library(DecoderWrapper),
    Replace(Replace),
}

impl Decoders {
    pub fn new(decoder: &DecoderWrapper) -> Result<Self> {
        let inner = |step| match step {
            &DecoderWrapper::Sequence(ref sequence) => Some(sequence.get_decoders()),
            _ => None,
        };
        let step = |step: &DecoderWrapper| {
            Ok(match step {
                DecoderWrapper::Replace(replace) => DecodeStep::Replace(Replace::new(replace)?),
                step => DecodeStep::Library(step.clone()),
            })
        };
        flat(decoder, &inner)?.into_iter().map(step).collect::<Result<_>>().map(Self)
    }

    pub fn decode(&self, mut tokens: Vec<String>) -> tokenizers::Result<String> {
        let all = |tokens: &[String]| tokens.iter().map(String::len).sum::<usize>();
        let room = Room::of(all(&tokens));
        for step in &self.0 {
            match step {
                DecodeStep::Library(decoder) => {
                    room.holds(Growth::Times(4).of(all(&tokens)))?;
                    tokens = decoder.decode_chain(tokens)?;
                }
                DecodeStep::Replace(replace) => {
                    let mut growth = 0usize;
                    for token in &tokens {
                        growth = growth.saturating_add(replace.growth(token, &room)?);
                    }
                    room.holds(growth)?;
                    tokens = replaced(replace, tokens)?;
                }
            }
        }
        Ok(tokens.concat())
    }
}

fn replaced(replace: &Replace, tokens: Vec<String>) -> tokenizers::Result<Vec<String>> {
    let one = |token: String| {
        let parts = replace.pattern.on(token.len()).find_matches(&token)?;
        let part = |((start, end), matched)| match matched {
            true => replace.content.as_str(),
            false => &token[start..end],
        };
        Ok(parts.into_iter().map(part).collect())
    };
    tokens.into_iter().map(one).collect()
}
