//! WordPiece vocabularies (`tokenizer.ggml.model = bert`): BERT, MiniLM.

use super::guard::failed;
use super::pipeline::{Added, Parts};
use super::{Kind, Vocabulary};
use crate::error::Result;
use crate::model::gguf::GgufFile;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

/// The mark at the beginning of a word in a model file.
const WORD: char = '▁';
/// The mark at the beginning of every piece of a word but the first.
const INSIDE: &str = "##";

/// Builds the tokenizer that the file describes.
pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary, added: Vec<Added>) -> Result<Parts> {
    let key = "tokenizer.ggml.unknown_token_id";
    let unknown = vocabulary
        .unknown
        .and_then(|id| vocabulary.tokens.get(id as usize))
        .ok_or_else(|| file.bad(key, "is missing, but the vocabulary is one of WordPiece"))?;
    let pieces: Vec<String> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .map(|(token, kind)| piece(token, *kind))
        .collect();
    // Model files do not say whether letters keep their case, but the vocabulary shows it: one
    // that was trained on lower-cased text has no upper-case piece.
    let cased = vocabulary.tokens.iter().zip(&vocabulary.kinds).any(|(token, kind)| {
        let name = *kind != Kind::Normal || token.starts_with('[') && token.ends_with(']');
        !name && token.contains(|c: char| c.is_ascii_uppercase())
    });
    let vocab: Vocab = pieces.into_iter().enumerate().map(|(id, p)| (p, id as u32)).collect();
    let model = WordPiece::builder()
        .vocab(vocab)
        .unk_token(unknown.to_string())
        .continuing_subword_prefix(INSIDE.to_owned())
        .max_input_chars_per_word(100)
        .build()
        .map_err(failed)?;
    Ok(Parts {
        normalizer: Some(BertNormalizer::new(true, true, None, !cased).into()),
        pre_tokenizer: Some(BertPreTokenizer.into()),
        model: model.into(),
        decoder: Some(WordPieceDecoder::new(INSIDE.to_owned(), true).into()),
        added,
    })
}

/// A piece as WordPiece has it, from how model files spell it: `▁word`, bare pieces inside words,
/// names in brackets as they are.
fn piece(token: &str, kind: Kind) -> String {
    match token.strip_prefix(WORD) {
        _ if kind != Kind::Normal => token.to_owned(),
        // The piece '▁' itself is spelled '▁▁'.
        Some(word) if !word.is_empty() => word.to_owned(),
        _ if token.starts_with('[') && token.ends_with(']') => token.to_owned(),
        _ => format!("{INSIDE}{token}"),
    }
}
