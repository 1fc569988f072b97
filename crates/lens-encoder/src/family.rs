//! What distinguishes one decoder family from another, as data.
//!
//! There is one forward pass (`forward`): pre-norm blocks of attention and a gated MLP. A family
//! is a [`DecoderSpec`] that says which optional parts it has, built from the metadata of the
//! model file. A new family is a new builder here, not a new forward pass.

use crate::error::{EncoderError, Result};
use crate::gguf::GgufFile;

/// Architectures (by their GGUF name) that can be described.
pub const SUPPORTED: &[&str] = &["gemma3"];

/// The non-linearity of the gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)` in its tanh form, as Gemma has it.
    GeluTanh,
    /// `x * sigmoid(x)`, as Llama, Mistral and Qwen have it.
    Silu,
}

/// Rotary position embedding of one kind of layer (half-split form).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub base: f64,
    /// Positions are divided by this (linear scaling); 1 where there is none.
    pub factor: f64,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerKind {
    /// A token sees itself and the `window - 1` tokens before; `None`: all before.
    pub window: Option<usize>,
    /// Index into [`DecoderSpec::ropes`].
    pub rope: usize,
}

/// A decoder, described.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    /// Name as in the model file.
    pub architecture: String,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub ffn_dim: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Longest input the model was made for.
    pub context: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// Whether queries and keys are normed per head before the rotation.
    pub qk_norm: bool,
    /// Whether the outputs of attention and MLP are normed before they are added.
    pub sandwich_norms: bool,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Factor on query-key products.
    pub attn_scale: f32,
    /// `cap * tanh(score / cap)` on attention scores, where the family has it.
    pub attn_soft_cap: Option<f32>,
    /// Factor on token embeddings.
    pub embed_scale: f32,
    /// The distinct rotations.
    pub ropes: Vec<Rope>,
    /// One entry a layer.
    pub layers: Vec<LayerKind>,
}

impl DecoderSpec {
    /// Describes the model in the file.
    pub(crate) fn from_gguf(file: &GgufFile) -> Result<Self> {
        let key = "general.architecture";
        let found = file.text(key)?.ok_or_else(|| file.bad(key, "is missing"))?;
        if file.int("split.count")?.unwrap_or(1) > 1 {
            return Err(EncoderError::CorruptModel {
                path: file.path().to_owned(),
                detail: "it is one part of a split model; merge the parts first".into(),
            });
        }
        let spec = match found {
            "gemma3" => gemma3(file)?,
            _ => {
                return Err(EncoderError::UnknownArchitecture {
                    path: file.path().to_owned(),
                    found: found.to_owned(),
                    supported: SUPPORTED,
                });
            }
        };
        Ok(spec)
    }

    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Turns an index in the manner of transformers' `hidden_states` (negative counts from the
    /// end) into a number of blocks to run; the last one also has the final norm.
    pub fn resolve_layer(&self, layer: i32) -> Result<usize> {
        let last = self.layers.len();
        let index = if layer < 0 { last as i64 + 1 + i64::from(layer) } else { i64::from(layer) };
        usize::try_from(index)
            .ok()
            .filter(|i| *i <= last)
            .ok_or(EncoderError::LayerOutOfRange { layer, last })
    }
}

/// Gemma 3, text only.
fn gemma3(file: &GgufFile) -> Result<DecoderSpec> {
    let int = |suffix: &str| file.positive(&format!("gemma3.{suffix}"));
    let blocks = int("block_count")?;
    if blocks > file.tensor_count() {
        return Err(file.bad("gemma3.block_count", format!("is {blocks}, above the tensors")));
    }
    let dim = int("embedding_length")?;
    let heads = int("attention.head_count")?;
    let kv_heads = int("attention.head_count_kv")?;
    if heads % kv_heads != 0 {
        return Err(file.bad("gemma3.attention.head_count_kv", format!("does not divide {heads}")));
    }
    let head_dim = int("attention.key_length")?;
    if int("attention.value_length")? != head_dim || head_dim % 2 != 0 {
        return Err(file.bad("gemma3.attention.value_length", "is not the even key length"));
    }
    let window = int("attention.sliding_window")?;
    let base = file.float("gemma3.rope.freq_base")?.unwrap_or(1e6);
    // Only the larger models stretch the positions of their global layers.
    let factor = match file.text("gemma3.rope.scaling.type")? {
        Some("linear") => file.float("gemma3.rope.scaling.factor")?.unwrap_or(1.0),
        Some("none") | None => 1.0,
        Some(other) => {
            return Err(file.bad("gemma3.rope.scaling.type", format!("'{other}' is not known")));
        }
    };
    if base < 1.0 || factor < 1.0 {
        return Err(file.bad("gemma3.rope.freq_base", "or its scaling factor is below 1"));
    }
    let eps = file.float("gemma3.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6);
    // The 27B model (62 blocks) scales by the width per head instead of the head's width.
    let scale_dim = if blocks == 62 { dim / heads } else { head_dim };
    let vocab = match file.tensor("token_embd.weight")?.shape.as_slice() {
        [rows, _] => *rows,
        other => {
            return Err(EncoderError::TensorShape {
                path: file.path().to_owned(),
                name: "token_embd.weight".into(),
                expected: vec![0, dim],
                found: other.to_vec(),
            });
        }
    };
    Ok(DecoderSpec {
        architecture: "gemma3".into(),
        dim,
        heads,
        kv_heads,
        head_dim,
        ffn_dim: int("feed_forward_length")?,
        vocab,
        context: int("context_length")?,
        norm_eps: eps as f32,
        qk_norm: true,
        sandwich_norms: true,
        qkv_bias: false,
        activation: Activation::GeluTanh,
        attn_scale: 1.0 / (scale_dim as f32).sqrt(),
        attn_soft_cap: None,
        embed_scale: (dim as f32).sqrt(),
        ropes: vec![Rope { base, factor }, Rope { base: 1e4, factor: 1.0 }],
        layers: (0..blocks)
            .map(|i| {
                // Five local layers, then one that sees everything.
                if (i + 1) % 6 == 0 {
                    LayerKind { window: None, rope: 0 }
                } else {
                    LayerKind { window: Some(window), rope: 1 }
                }
            })
            .collect(),
    })
}
