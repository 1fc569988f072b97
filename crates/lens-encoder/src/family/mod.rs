//! The differences between model families, as data.
//!
//! There is one forward pass (`forward`). A family is a [`ModelSpec`], which says what parts a
//! block has, and a [`Layout`], which says where their weights lie; both are built from the
//! metadata of the model (`gguf`, `config`). A new family is a new builder here, not a new forward
//! pass.

pub(crate) mod config;
mod gguf;
mod layout;

use crate::error::{EncoderError, Result};
use crate::model::ModelFiles;
pub(crate) use gguf::long_attention;
pub(crate) use layout::{Global, Layout, Naming, Part};

/// Families that work, by the names in GGUF files and in `config.json`.
pub const SUPPORTED: &[&str] =
    &["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bert", "xlm-roberta"];

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)`, exactly: BERT.
    Gelu,
    /// `x * Phi(x)` in its tanh form: Gemma.
    GeluTanh,
    /// `x * sigmoid(x)`: Llama, Mistral, Qwen, Phi-3.
    Silu,
}

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Divides by the root of the mean square.
    Rms,
    /// Also subtracts the mean first, and adds a bias last.
    Layer,
}

/// Where a block has its norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and MLP.
    Pre,
    /// Before and after each, inside the residual branch: Gemma.
    Sandwich,
    /// After each has been added to the residual: BERT.
    Post,
}

/// How the angles of a rotation are stretched for long texts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by this.
    Linear(f64),
    /// Long wavelengths are stretched, short ones kept, those between blended: Llama 3.
    Llama3 {
        /// Factor of the long wavelengths.
        factor: f64,
        /// Below this many turns in the original context a wavelength is long.
        low: f64,
        /// Above this many it is short.
        high: f64,
        /// The context before stretching.
        original: usize,
    },
    /// Each frequency is divided by its own factor.
    Factors(Vec<f64>),
    /// Two sets of factors, chosen by the length of the text: Phi-3.
    Long {
        /// For texts up to the original context.
        short: Vec<f64>,
        /// For longer ones.
        long: Vec<f64>,
        /// The context before stretching.
        original: usize,
        /// Factor on cosines and sines.
        attention: f64,
    },
}

/// Rotary position embedding of one kind of layer (half-split form).
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub base: f64,
    /// How many of a head's values are rotated; even.
    pub dims: usize,
    /// How the angles are stretched.
    pub scaling: RopeScaling,
}

/// The properties that differ from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerKind {
    /// A token sees itself and the `window - 1` tokens before; `None`: all before.
    pub window: Option<usize>,
    /// Index into [`ModelSpec::ropes`]; `None` where positions are learned.
    pub rope: Option<usize>,
}

/// Which linear layers have biases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// Attention's output projection.
    pub out: bool,
    /// The MLP's projections.
    pub mlp: bool,
}

/// A model, described.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The family, by its name in [`SUPPORTED`].
    pub architecture: String,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Width of the MLP.
    pub ffn_dim: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Longest input the model was made for.
    pub context: usize,
    /// The kind of all norms.
    pub norm: NormKind,
    /// Added to the mean square (or the variance) in norms.
    pub norm_eps: f32,
    /// Where the norms are.
    pub placement: NormPlacement,
    /// Whether queries and keys are normed per head before the rotation.
    pub qk_norm: bool,
    /// Which linear layers have biases.
    pub biases: Biases,
    /// Whether the MLP's inner values are gated.
    pub gated: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Whether a token sees only what came before it.
    pub causal: bool,
    /// Factor on query-key products.
    pub attn_scale: f32,
    /// `cap * tanh(score / cap)` on attention scores, where the family has it.
    pub attn_soft_cap: Option<f32>,
    /// The same on the logits.
    pub final_soft_cap: Option<f32>,
    /// Factor on token embeddings.
    pub embed_scale: f32,
    /// The distinct rotations.
    pub ropes: Vec<Rope>,
    /// Where positions are learned: the row of the first position in their table.
    pub learned_positions: Option<usize>,
    /// One entry a layer.
    pub layers: Vec<LayerKind>,
}

impl ModelSpec {
    /// Describes a model, and checks that all its tensors are there in the right shapes.
    pub(crate) fn from_files(files: &ModelFiles) -> Result<(Self, Layout)> {
        let (spec, layout) = match files {
            ModelFiles::Gguf(file) => gguf::describe(file, files)?,
            ModelFiles::Folder(folder) => config::describe(folder, files)?,
        };
        spec.check(files)?;
        layout.check(files, &spec)?;
        Ok((spec, layout))
    }

    /// Whether the numbers can be those of a model.
    fn check(&self, files: &ModelFiles) -> Result<()> {
        let bad = |key: &str, detail: String| Err(files.bad(key, detail));
        if self.layers.len() > files.tensor_count() {
            return bad("number of layers", format!("is {}, above the tensors", self.layers.len()));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (h, kv) = (self.heads, self.kv_heads);
            return bad("key/value heads", format!("{kv} does not divide the {h} heads"));
        }
        if self.head_dim == 0 {
            return bad("head width", format!("is 0: {} heads of {} values", self.heads, self.dim));
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad("head width", format!("is odd: {}", self.head_dim));
        }
        let eps = self.norm_eps;
        if !(eps.is_finite() && eps >= 0.0) {
            return bad("norm epsilon", format!("is {eps}"));
        }
        if self.vocab == 0 {
            return bad("vocabulary", "is empty".into());
        }
        let factors = [
            ("attention scale", Some(self.attn_scale)),
            ("attention's soft cap", self.attn_soft_cap),
            ("logits' soft cap", self.final_soft_cap),
        ];
        for (key, factor) in factors {
            if let Some(factor) = factor.filter(|f| !(f.is_finite() && *f > 0.0)) {
                return bad(key, format!("is {factor}"));
            }
        }
        for rope in &self.ropes {
            if !(rope.base.is_finite() && rope.base >= 1.0) {
                return bad("rope base", format!("is {}", rope.base));
            }
            if rope.dims == 0 || !rope.dims.is_multiple_of(2) || rope.dims > self.head_dim {
                let dims = rope.dims;
                return bad("rotated values", format!("{dims} of {} in a head", self.head_dim));
            }
            let half = rope.dims / 2;
            let positive = |all: &[f64]| all.iter().all(|f| f.is_finite() && *f > 0.0);
            let fine = match &rope.scaling {
                RopeScaling::None => true,
                RopeScaling::Linear(factor) => *factor >= 1.0,
                RopeScaling::Llama3 { factor, low, high, original } => {
                    positive(&[*factor, *low, *high]) && high > low && *original > 0
                }
                RopeScaling::Factors(all) => all.len() == half && positive(all),
                RopeScaling::Long { short, long, attention, .. } => {
                    short.len() == half
                        && long.len() == half
                        && positive(short)
                        && positive(long)
                        && positive(&[*attention])
                }
            };
            if !fine {
                return bad("rope scaling", format!("cannot be {:?}", rope.scaling));
            }
        }
        Ok(())
    }

    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of the MLP's first projection: gate and up side by side where it is gated.
    pub fn inner_dim(&self) -> usize {
        if self.gated { 2 * self.ffn_dim } else { self.ffn_dim }
    }

    /// Number of weights in the linear layers of the first `layers` blocks: a token costs twice as
    /// many floating-point operations, attention's products aside.
    pub fn elements(&self, layers: usize) -> u64 {
        let (d, q, kv) = (self.dim as u64, self.q_dim() as u64, self.kv_dim() as u64);
        let block = d * (q + 2 * kv) + q * d + d * (self.inner_dim() + self.ffn_dim) as u64;
        block * layers as u64
    }

    /// Texts longer than this are rotated by other angles than shorter ones, so that nothing can be
    /// shared between them; `None` where all texts are rotated alike.
    pub fn long_from(&self) -> Option<usize> {
        self.ropes.iter().find_map(|rope| match rope.scaling {
            RopeScaling::Long { original, .. } => Some(original),
            _ => None,
        })
    }

    /// Turns an index in the manner of transformers' `hidden_states` (negative counts from the
    /// end) into a number of blocks to run; the last one also has the final norm.
    ///
    /// # Errors
    /// [`EncoderError::LayerOutOfRange`].
    pub fn resolve_layer(&self, layer: i32) -> Result<usize> {
        resolve_layer(layer, self.layers.len())
    }
}

/// [`ModelSpec::resolve_layer`] of a model with so many layers.
pub(crate) fn resolve_layer(layer: i32, last: usize) -> Result<usize> {
    let index = if layer < 0 { last as i64 + 1 + i64::from(layer) } else { i64::from(layer) };
    usize::try_from(index)
        .ok()
        .filter(|i| *i <= last)
        .ok_or(EncoderError::LayerOutOfRange { layer, last })
}

/// Layers of two kinds in turn, by a pattern of local ones.
fn pattern(
    blocks: usize,
    window: Option<usize>,
    local: impl Fn(usize) -> bool,
    ropes: (usize, usize),
) -> Vec<LayerKind> {
    let kind = |i| {
        if window.is_some() && local(i) {
            LayerKind { window, rope: Some(ropes.1) }
        } else {
            LayerKind { window: None, rope: Some(ropes.0) }
        }
    };
    (0..blocks).map(kind).collect()
}

/// A decoder in the manner of Llama, which most families are a small change of.
fn decoder(architecture: &str, head_dim: usize) -> ModelSpec {
    ModelSpec {
        architecture: architecture.to_owned(),
        dim: 0,
        heads: 0,
        kv_heads: 0,
        head_dim,
        ffn_dim: 0,
        vocab: 0,
        context: 0,
        norm: NormKind::Rms,
        norm_eps: 1e-6,
        placement: NormPlacement::Pre,
        qk_norm: false,
        biases: Biases::default(),
        gated: true,
        activation: Activation::Silu,
        causal: true,
        attn_scale: 1.0 / (head_dim as f32).sqrt(),
        attn_soft_cap: None,
        final_soft_cap: None,
        embed_scale: 1.0,
        ropes: Vec::new(),
        learned_positions: None,
        layers: Vec::new(),
    }
}
