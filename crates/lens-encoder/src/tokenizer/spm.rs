//! SentencePiece-BPE vocabularies (`tokenizer.ggml.model = llama`): Gemma, Llama 2, Mistral.

use super::guard::failed;
use super::pipeline::{Added, Parts};
use super::{Kind, Vocabulary};
use crate::error::Result;
use crate::model::gguf::GgufFile;
use rayon::prelude::*;
use std::collections::HashMap;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{DecoderWrapper, NormalizerWrapper};

/// The character that stands for a space in the vocabulary.
const SPACE: &str = "▁";

/// Builds the tokenizer as transformers' converter does from the SentencePiece file.
pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary, added: Vec<Added>) -> Result<Parts> {
    let key = "tokenizer.ggml.scores";
    let mut scores = file.numbers(key)?.ok_or_else(|| file.bad(key, "is missing"))?;
    if scores.len() != vocabulary.tokens.len() {
        return Err(file.bad(key, "has another length than tokens"));
    }
    // Model files do not keep the scores of user-defined pieces. SentencePiece gives them the best
    // there is, 0; in the tokenizers that transformers has of Gemma all rank by their place.
    let gemma = file.text("general.architecture")?.is_some_and(|name| name.starts_with("gemma"));
    for (id, (score, kind)) in scores.iter_mut().zip(&vocabulary.kinds).enumerate() {
        match kind {
            _ if gemma => *score = -(id as f64),
            Kind::UserDefined => *score = 0.0,
            _ => {}
        }
    }
    let space_prefix = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    // Model files write the spaces of user-defined tokens as spaces; the vocabulary has them as ▁.
    let pieces: Vec<(String, Kind)> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .map(|(token, kind)| match kind {
            Kind::UserDefined => (token.replace(' ', SPACE), *kind),
            _ => (token.to_string(), *kind),
        })
        .collect();
    let vocab: Vocab =
        pieces.iter().enumerate().map(|(id, (piece, _))| (piece.clone(), id as u32)).collect();
    let mut model = BPE::builder()
        .vocab_and_merges(vocab, merges(&pieces, &scores))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some((piece, _)) = vocabulary.unknown.and_then(|id| pieces.get(id as usize)) {
        model = model.unk_token(piece.clone());
    }
    let spaces = Replace::new(" ", SPACE).map_err(failed)?;
    let normalizer = if space_prefix {
        let prefix = Prepend::new(SPACE.to_owned());
        NormalizerWrapper::Sequence(Sequence::new(vec![prefix.into(), spaces.into()]))
    } else {
        spaces.into()
    };
    let mut decoders: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if space_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    // Runs of spaces are found by the merges, which rank them first: as added tokens they would be
    // looked for before spaces become ▁, and transformers does not find them so.
    let found = |a: &Added| a.token.special || !a.token.content.trim_matches(' ').is_empty();
    Ok(Parts {
        normalizer: Some(normalizer),
        pre_tokenizer: None,
        model: model.build().map_err(failed)?.into(),
        decoder: Some(Decoders::new(decoders).into()),
        added: added.into_iter().filter(found).collect(),
    })
}

/// Two pieces that make a third, and how early they do.
struct Merge<'a> {
    score: f64,
    lengths: (usize, usize),
    parts: (&'a str, &'a str),
}

/// The merges in order of priority, reconstructed from pieces and scores: every way to put a piece
/// together from two others, best score first. Ties go to the longer left part, then the longer
/// right part, then the order of the vocabulary, as in transformers' `generate_merges`.
fn merges(pieces: &[(String, Kind)], scores: &[f64]) -> Vec<(String, String)> {
    let usable = |kind: &Kind| matches!(kind, Kind::Normal | Kind::UserDefined);
    let ids: HashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .filter(|(_, (_, kind))| usable(kind))
        .map(|(id, (piece, _))| (piece.as_str(), id))
        .collect();
    let of_piece = |id: usize| {
        let (piece, kind) = &pieces[id];
        if !usable(kind) {
            return Vec::new();
        }
        let score = scores.get(id).copied().unwrap_or(0.0);
        let length = piece.chars().count();
        let mut found: Vec<(usize, usize, Merge)> = piece
            .char_indices()
            .skip(1)
            .enumerate()
            .filter_map(|(n, (at, _))| {
                let parts = piece.split_at(at);
                let (left, right) = (*ids.get(parts.0)?, *ids.get(parts.1)?);
                let lengths = (n + 1, length - n - 1);
                Some((left, right, Merge { score, lengths, parts }))
            })
            .collect();
        found.sort_by_key(|(left, right, _)| (*left, *right));
        found.into_iter().map(|(_, _, merge)| merge).collect()
    };
    let mut all: Vec<Merge> = (0..pieces.len()).into_par_iter().flat_map_iter(of_piece).collect();
    // Stable, so that equal merges stay in the vocabulary's order.
    all.par_sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.lengths.cmp(&a.lengths)));
    all.into_par_iter().map(|m| (m.parts.0.to_owned(), m.parts.1.to_owned())).collect()
}
