//! Byte-level BPE vocabularies (`tokenizer.ggml.model = gpt2`): Qwen, Llama 3, GPT-2, Mistral Nemo.

use super::guard::failed;
use super::pipeline::{Added, Parts};
use super::{Kind, Vocabulary};
use crate::error::{EncoderError, Result};
use crate::model::gguf::GgufFile;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut into words before merging, by the name that model files give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    /// GPT-2's own expression, which the library has built in.
    Gpt2,
    /// The same, and every digit is a word.
    Gpt2Digits,
    /// An expression of the model's.
    Split(&'static str),
}

/// The pre-tokenizer that a name in `tokenizer.ggml.pre` stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pre {
    words: Words,
    /// Whether a word that is in the vocabulary is one token, whatever the merges say.
    ignore_merges: bool,
    /// Whether texts are put into Unicode's composed form first.
    nfc: bool,
    /// Whether a BOS begins texts where the file does not say.
    pub adds_bos: bool,
}

/// Names that are known.
const KNOWN: &str = "gpt-2, default, llama-bpe, llama-v3, llama3, qwen2, smollm, tekken";

/// Looks the file's pre-tokenizer up: a wrong one gives wrong ids without a word.
pub(super) fn pre(file: &GgufFile) -> Result<Pre> {
    let plain = |words| Pre { words, ignore_merges: false, nfc: false, adds_bos: false };
    let name = file.text(PRE)?.ok_or_else(|| {
        file.bad(PRE, "is missing: it says how texts are cut into words, which cannot be guessed")
    })?;
    Ok(match name {
        "gpt-2" | "default" => plain(Words::Gpt2),
        "smollm" => plain(Words::Gpt2Digits),
        "qwen2" => Pre { nfc: true, ..plain(Words::Split(QWEN2)) },
        "llama-bpe" | "llama-v3" | "llama3" => {
            Pre { ignore_merges: true, adds_bos: true, ..plain(Words::Split(LLAMA3)) }
        }
        "tekken" => Pre { ignore_merges: true, adds_bos: true, ..plain(Words::Split(TEKKEN)) },
        other => {
            return Err(file.bad(PRE, format!("is '{other}', which is not known ({KNOWN} are)")));
        }
    })
}

/// Builds the tokenizer that the file describes.
pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary, added: Vec<Added>) -> Result<Parts> {
    let Pre { words, ignore_merges, nfc, .. } = pre(file)?;
    // Control tokens are not part of it, so that no text of a user's can become one.
    let vocab: Vocab = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .enumerate()
        .filter(|(_, (_, kind))| matches!(kind, Kind::Normal | Kind::UserDefined))
        .map(|(id, (token, _))| (token.to_string(), id as u32))
        .collect();
    let merges = file
        .texts(MERGES)?
        .iter()
        .enumerate()
        .map(|(at, merge)| match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => Err(file.bad(MERGES, format!("has no two parts at place {at}: '{merge}'"))),
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|e| file.bad(MERGES, format!("do not fit the vocabulary: {e}")))?;
    Ok(Parts {
        normalizer: nfc.then_some(NormalizerWrapper::NFC(NFC)),
        pre_tokenizer: Some(words.pre_tokenizer()?),
        model: model.into(),
        decoder: Some(ByteLevel::new(false, true, true).into()),
        added,
    })
}

impl Words {
    fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, EncoderError> {
        let bytes = |own_words| ByteLevel::new(false, true, own_words);
        let both = |first: PreTokenizerWrapper, own_words| {
            PreTokenizerWrapper::Sequence(Sequence::new(vec![first, bytes(own_words).into()]))
        };
        Ok(match self {
            Self::Gpt2 => bytes(true).into(),
            Self::Gpt2Digits => both(Digits::new(true).into(), true),
            Self::Split(expression) => {
                let pattern = SplitPattern::Regex(expression.to_owned());
                let isolated = SplitDelimiterBehavior::Isolated;
                both(Split::new(pattern, isolated, false).map_err(failed)?.into(), false)
            }
        })
    }
}
