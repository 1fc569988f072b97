//! Writes tiny random models, so that tests need no download; and opens parsers to tests.

pub(crate) mod gguf;
mod parsers;

pub use parsers::{Templates, server_refusal, server_vectors};

use crate::error::{EncoderError, Result};
use crate::model::stored::StoredType;
use gguf::{Entry, Tensor};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A random Gemma 3 model of a few kilobytes. Its vectors mean nothing, but they depend on every
/// token, every weight and every position, as those of a real model do.
#[derive(Debug, Clone, PartialEq)]
pub struct TinyModel {
    /// Blocks; every sixth has global attention.
    pub layers: usize,
    /// Width; a multiple of 32.
    pub dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP; a multiple of 32.
    pub ffn_dim: usize,
    /// Sliding window of the local layers.
    pub window: usize,
    /// Longest input.
    pub context: usize,
    /// Decides the weights.
    pub seed: u64,
    /// Written as `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// Written as `general.architecture`.
    pub architecture: String,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            layers: 6,
            dim: 32,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            ffn_dim: 64,
            window: 24,
            context: 512,
            seed: 1,
            chat_template: None,
            architecture: "gemma3".into(),
        }
    }
}

/// Control tokens, in the order of their ids.
const CONTROL: [&str; 6] = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"];
const USER_DEFINED: [&str; 4] = ["\n", "\n\n", "  ", "   "];
/// Pieces longer than a character, best first.
const PIECES: [&str; 24] = [
    "▁t", "in", "▁a", "er", "on", "he", "re", "▁th", "▁the", "an", "ing", "ou", "▁you", "is", "▁s",
    "▁w", "at", "en", "Hu", "man", "Human", "As", "Ass", "ist",
];

impl TinyModel {
    /// Writes the model.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (tokens, scores, types) = vocabulary();
        let tensors = self.tensors(tokens.len());
        write(path, &gguf::file(&self.metadata(&tokens, &scores, &types), &tensors))
    }

    /// Writes the model split into so many files, as llama.cpp splits and names them.
    pub fn write_parts(&self, folder: &Path, name: &str, parts: usize) -> Result<Vec<PathBuf>> {
        let (tokens, scores, types) = vocabulary();
        let tensors = self.tensors(tokens.len());
        let mut metadata = self.metadata(&tokens, &scores, &types);
        let mut paths = Vec::new();
        for (part, own) in tensors.chunks(tensors.len().div_ceil(parts)).enumerate() {
            // Only the first has what is said of the model.
            let mut metadata = std::mem::take(&mut metadata);
            let mut int = |key: &str, value: usize| {
                metadata.push((format!("split.{key}"), Entry::U32(value as u32)));
            };
            int("no", part);
            int("count", parts);
            int("tensors.count", tensors.len());
            let path = folder.join(format!("{name}-{:05}-of-{parts:05}.gguf", part + 1));
            write(&path, &gguf::file(&metadata, own))?;
            paths.push(path);
        }
        Ok(paths)
    }

    fn metadata(&self, tokens: &[String], scores: &[f32], types: &[i32]) -> Vec<(String, Entry)> {
        let arch = &self.architecture;
        let int = |key: &str, value: usize| (format!("{arch}.{key}"), Entry::U32(value as u32));
        let list = |values: Vec<Entry>| Entry::Array(values);
        let mut all = vec![
            ("general.architecture".to_owned(), Entry::String(arch.clone())),
            int("context_length", self.context),
            int("embedding_length", self.dim),
            int("block_count", self.layers),
            int("feed_forward_length", self.ffn_dim),
            int("attention.head_count", self.heads),
            int("attention.head_count_kv", self.kv_heads),
            int("attention.key_length", self.head_dim),
            int("attention.value_length", self.head_dim),
            int("attention.sliding_window", self.window),
            (format!("{arch}.rope.freq_base"), Entry::F32(1e6)),
            (format!("{arch}.attention.layer_norm_rms_epsilon"), Entry::F32(1e-6)),
            ("tokenizer.ggml.model".into(), Entry::String("llama".into())),
            (
                "tokenizer.ggml.tokens".into(),
                list(tokens.iter().map(|t| Entry::String(t.clone())).collect()),
            ),
            ("tokenizer.ggml.scores".into(), list(scores.iter().map(|s| Entry::F32(*s)).collect())),
            (
                "tokenizer.ggml.token_type".into(),
                list(types.iter().map(|t| Entry::I32(*t)).collect()),
            ),
            ("tokenizer.ggml.bos_token_id".into(), Entry::U32(2)),
            ("tokenizer.ggml.eos_token_id".into(), Entry::U32(1)),
            ("tokenizer.ggml.unknown_token_id".into(), Entry::U32(3)),
            ("tokenizer.ggml.add_bos_token".into(), Entry::Bool(true)),
            ("tokenizer.ggml.add_space_prefix".into(), Entry::Bool(false)),
        ];
        if let Some(template) = &self.chat_template {
            all.push(("tokenizer.chat_template".into(), Entry::String(template.clone())));
        }
        all
    }

    fn tensors(&self, vocab: usize) -> Vec<Tensor> {
        let (d, f, hd) = (self.dim, self.ffn_dim, self.head_dim);
        let (q, kv) = (self.heads * hd, self.kv_heads * hd);
        let mut random = Random(self.seed);
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            // Norms near 1; matrices that keep the size of what goes through.
            let (mean, spread) = match shape {
                [_] => (1.0, 0.3),
                [_, inputs] => (0.0, 1.7 / (*inputs as f32).sqrt()),
                _ => (0.0, 1.0),
            };
            let n: usize = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|_| mean + spread * random.next()).collect();
            let stored = if shape.len() == 2 { StoredType::Q8_0 } else { StoredType::F32 };
            all.push(Tensor { name, shape: shape.to_vec(), values, stored });
        };
        add("token_embd.weight".into(), &[vocab, d]);
        add("output_norm.weight".into(), &[d]);
        for i in 0..self.layers {
            let shapes: [(&str, &[usize]); 13] = [
                ("attn_norm", &[d]),
                ("attn_q", &[q, d]),
                ("attn_k", &[kv, d]),
                ("attn_v", &[kv, d]),
                ("attn_q_norm", &[hd]),
                ("attn_k_norm", &[hd]),
                ("attn_output", &[d, q]),
                ("post_attention_norm", &[d]),
                ("ffn_norm", &[d]),
                ("ffn_gate", &[f, d]),
                ("ffn_up", &[f, d]),
                ("ffn_down", &[d, f]),
                ("post_ffw_norm", &[d]),
            ];
            for (name, shape) in shapes {
                add(format!("blk.{i}.{name}.weight"), shape);
            }
        }
        all
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |source| EncoderError::Io { path: path.to_owned(), source };
    let mut file = File::create(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

/// Tokens, scores, types.
fn vocabulary() -> (Vec<String>, Vec<f32>, Vec<i32>) {
    let mut all: Vec<(String, f32, i32)> = Vec::new();
    all.extend(
        CONTROL
            .iter()
            .enumerate()
            .map(|(i, t)| ((*t).to_owned(), -1000.0, if i == 3 { 2 } else { 3 })),
    );
    all.extend(USER_DEFINED.iter().map(|t| ((*t).to_owned(), -1000.0, 4)));
    all.extend((0..=255u8).map(|b| (format!("<0x{b:02X}>"), -1000.0, 6)));
    let characters = ('!'..='~').chain(['▁']).map(String::from);
    let pieces = PIECES.iter().map(|p| (*p).to_owned()).chain(characters);
    all.extend(pieces.enumerate().map(|(i, p)| (p, -(i as f32), 1)));
    let tokens = all.iter().map(|(t, _, _)| t.clone()).collect();
    let scores = all.iter().map(|(_, s, _)| *s).collect();
    (tokens, scores, all.iter().map(|(_, _, t)| *t).collect())
}

/// SplitMix64, for values in -1..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
