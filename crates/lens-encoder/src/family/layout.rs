//! Where a model's weights lie: the names of its tensors, and how they are put together.

use super::{ModelSpec, NormKind, NormPlacement};
use crate::error::{EncoderError, Result};
use crate::model::ModelFiles;
use std::collections::HashSet;

/// Ends of the names of what older files store although it follows from the configuration.
const COMPUTED: [&str; 2] = ["rotary_emb.inv_freq", "attn_rot_embd.weight"];

/// How tensors are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `blk.0.attn_q.weight`
    Gguf,
    /// `model.layers.0.self_attn.q_proj.weight`, behind a prefix.
    Decoder(String),
    /// `encoder.layer.0.attention.self.query.weight`, behind a prefix.
    Bert(String),
}

/// Where the weights lie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    pub naming: Naming,
    /// Query, key and value projections are one tensor.
    pub fused_qkv: bool,
    /// Gate and up projections are one tensor.
    pub fused_gate_up: bool,
    /// Rows of query and key projections are in the order of interleaved rotation, as GGUF files
    /// of the Llama family have them.
    pub interleaved: bool,
    /// Added to stored norm weights: Gemma's are stored as the difference from one.
    pub norm_offset: f32,
    /// The output embedding, where it is not the token table.
    pub head: Option<String>,
}

/// The parts of a block, by their GGUF names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    AttnNorm,
    Q,
    K,
    V,
    Qkv,
    QNorm,
    KNorm,
    Out,
    PostAttnNorm,
    FfnNorm,
    Gate,
    Up,
    GateUp,
    Down,
    PostFfnNorm,
}

/// Parts of the model that are not in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    Tokens,
    EmbeddingNorm,
    Positions,
    TokenTypes,
    FinalNorm,
}

impl Layout {
    /// One for GGUF files.
    pub fn gguf() -> Self {
        Self {
            naming: Naming::Gguf,
            fused_qkv: false,
            fused_gate_up: false,
            interleaved: false,
            norm_offset: 0.0,
            head: None,
        }
    }

    /// Name of a part of block `i`; `kind` is `weight` or `bias`.
    pub fn name(&self, i: usize, part: Part, placement: NormPlacement, kind: &str) -> String {
        let post = placement == NormPlacement::Post;
        let name = match (&self.naming, part) {
            (Naming::Gguf, part) => match part {
                Part::AttnNorm => "attn_norm",
                Part::Q => "attn_q",
                Part::K => "attn_k",
                Part::V => "attn_v",
                Part::Qkv => "attn_qkv",
                Part::QNorm => "attn_q_norm",
                Part::KNorm => "attn_k_norm",
                Part::Out => "attn_output",
                Part::PostAttnNorm if post => "attn_output_norm",
                Part::PostAttnNorm => "post_attention_norm",
                Part::FfnNorm => "ffn_norm",
                Part::Gate => "ffn_gate",
                Part::Up | Part::GateUp => "ffn_up",
                Part::Down => "ffn_down",
                Part::PostFfnNorm if post => "layer_output_norm",
                Part::PostFfnNorm => "post_ffw_norm",
            },
            (Naming::Decoder(_), part) => match part {
                Part::AttnNorm => "input_layernorm",
                Part::Q => "self_attn.q_proj",
                Part::K => "self_attn.k_proj",
                Part::V => "self_attn.v_proj",
                Part::Qkv => "self_attn.qkv_proj",
                Part::QNorm => "self_attn.q_norm",
                Part::KNorm => "self_attn.k_norm",
                Part::Out => "self_attn.o_proj",
                Part::PostAttnNorm => "post_attention_layernorm",
                Part::FfnNorm if placement == NormPlacement::Sandwich => {
                    "pre_feedforward_layernorm"
                }
                Part::FfnNorm => "post_attention_layernorm",
                Part::Gate => "mlp.gate_proj",
                Part::Up => "mlp.up_proj",
                Part::GateUp => "mlp.gate_up_proj",
                Part::Down => "mlp.down_proj",
                Part::PostFfnNorm => "post_feedforward_layernorm",
            },
            (Naming::Bert(_), part) => match part {
                Part::Q => "attention.self.query",
                Part::K => "attention.self.key",
                Part::V => "attention.self.value",
                Part::Out => "attention.output.dense",
                Part::PostAttnNorm => "attention.output.LayerNorm",
                Part::Up => "intermediate.dense",
                Part::Down => "output.dense",
                Part::PostFfnNorm => "output.LayerNorm",
                // The family has none of these, so none is asked for.
                Part::AttnNorm
                | Part::Qkv
                | Part::QNorm
                | Part::KNorm
                | Part::FfnNorm
                | Part::Gate
                | Part::GateUp => "none",
            },
        };
        format!("{}{i}.{name}.{kind}", self.blocks())
    }

    /// The beginning of the names of all blocks' tensors; the block's number follows.
    fn blocks(&self) -> String {
        match &self.naming {
            Naming::Gguf => "blk.".to_owned(),
            Naming::Decoder(prefix) => format!("{prefix}layers."),
            Naming::Bert(prefix) => format!("{prefix}encoder.layer."),
        }
    }

    /// Name of a part outside the blocks.
    pub fn global(&self, part: Global, kind: &str) -> String {
        match &self.naming {
            Naming::Gguf => {
                let name = match part {
                    Global::Tokens => "token_embd",
                    Global::EmbeddingNorm => "token_embd_norm",
                    Global::Positions => "position_embd",
                    Global::TokenTypes => "token_types",
                    Global::FinalNorm => "output_norm",
                };
                format!("{name}.{kind}")
            }
            Naming::Decoder(prefix) => {
                let name = if part == Global::Tokens { "embed_tokens" } else { "norm" };
                format!("{prefix}{name}.{kind}")
            }
            Naming::Bert(prefix) => {
                let name = match part {
                    Global::Tokens => "word_embeddings",
                    Global::Positions => "position_embeddings",
                    Global::TokenTypes => "token_type_embeddings",
                    Global::EmbeddingNorm | Global::FinalNorm => "LayerNorm",
                };
                format!("{prefix}embeddings.{name}.{kind}")
            }
        }
    }

    /// Parts and shapes of the linear layers of a block: input width, output width of each.
    pub fn linears(&self, spec: &ModelSpec) -> Vec<(Part, usize, usize, bool)> {
        let (d, q, kv, f) = (spec.dim, spec.q_dim(), spec.kv_dim(), spec.ffn_dim);
        let b = spec.biases;
        let mut all = if self.fused_qkv {
            vec![(Part::Qkv, d, q + 2 * kv, b.qkv)]
        } else {
            vec![(Part::Q, d, q, b.qkv), (Part::K, d, kv, b.qkv), (Part::V, d, kv, b.qkv)]
        };
        all.push((Part::Out, q, d, b.out));
        match (spec.gated, self.fused_gate_up) {
            (true, true) => all.push((Part::GateUp, d, 2 * f, b.mlp)),
            (true, false) => all.extend([(Part::Gate, d, f, b.mlp), (Part::Up, d, f, b.mlp)]),
            (false, _) => all.push((Part::Up, d, f, b.mlp)),
        }
        all.push((Part::Down, f, d, b.mlp));
        all
    }

    /// The norms of a block and their widths.
    pub fn norms(&self, spec: &ModelSpec) -> Vec<(Part, usize)> {
        let d = spec.dim;
        let mut all = match spec.placement {
            NormPlacement::Pre => vec![(Part::AttnNorm, d), (Part::FfnNorm, d)],
            NormPlacement::Post => vec![(Part::PostAttnNorm, d), (Part::PostFfnNorm, d)],
            NormPlacement::Sandwich => {
                [Part::AttnNorm, Part::PostAttnNorm, Part::FfnNorm, Part::PostFfnNorm]
                    .map(|p| (p, d))
                    .to_vec()
            }
        };
        if spec.qk_norm {
            all.extend([(Part::QNorm, spec.head_dim), (Part::KNorm, spec.head_dim)]);
        }
        all
    }

    /// Checks that every tensor is there with the shape the metadata promises, and that none is
    /// there that the metadata knows nothing of.
    pub fn check(&self, files: &ModelFiles, spec: &ModelSpec) -> Result<()> {
        files.raw_of(&self.global(Global::Tokens, "weight"), &[spec.vocab, spec.dim])?;
        let layer_norm = spec.norm == NormKind::Layer;
        let norm = if spec.placement == NormPlacement::Post {
            Global::EmbeddingNorm
        } else {
            Global::FinalNorm
        };
        files.raw_of(&self.global(norm, "weight"), &[spec.dim])?;
        let place = spec.placement;
        let mut known = HashSet::new();
        let mut check = |name: String, shape: &[usize]| -> Result<()> {
            files.raw_of(&name, shape)?;
            known.insert(name);
            Ok(())
        };
        for i in 0..spec.layers.len() {
            for (part, input, output, bias) in self.linears(spec) {
                check(self.name(i, part, place, "weight"), &[output, input])?;
                if bias {
                    check(self.name(i, part, place, "bias"), &[output])?;
                }
            }
            for (part, width) in self.norms(spec) {
                check(self.name(i, part, place, "weight"), &[width])?;
                if layer_norm {
                    check(self.name(i, part, place, "bias"), &[width])?;
                }
            }
        }
        // Weights that no part reads are those of another model: a bias, a norm, a block more.
        let unread =
            |name: &&&str| !known.contains(**name) && !COMPUTED.iter().any(|c| name.ends_with(c));
        if let Some(name) = files.names_from(&self.blocks()).iter().find(unread) {
            return Err(unexpected(files, name));
        }
        if let Some(first) = spec.learned_positions {
            let name = self.global(Global::Positions, "weight");
            let rows = files.rows_of(&name, spec.dim)?;
            if rows < first.saturating_add(spec.context) {
                let found = format!("has {rows} rows, for {} positions", spec.context);
                return Err(files.bad(&name, found));
            }
            let name = self.global(Global::TokenTypes, "weight");
            if files.rows_of(&name, spec.dim)? == 0 {
                return Err(files.bad(&name, "is empty"));
            }
        }
        if let Some(head) = &self.head {
            files.raw_of(head, &[spec.vocab, spec.dim])?;
        }
        Ok(())
    }
}

fn unexpected(files: &ModelFiles, name: &str) -> EncoderError {
    EncoderError::CorruptModel {
        path: files.path().to_owned(),
        detail: format!("tensor '{name}' is there, but its configuration knows nothing of it"),
    }
}
