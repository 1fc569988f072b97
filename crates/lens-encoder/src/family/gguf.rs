//! Families as GGUF files describe them.

use super::{
    Activation, Biases, LayerKind, Layout, ModelSpec, NormKind, NormPlacement, Rope, RopeScaling,
    decoder, pattern,
};
use crate::error::{EncoderError, Result};
use crate::model::ModelFiles;
use crate::model::gguf::GgufFile;

/// The metadata of one architecture.
struct Metadata<'a> {
    file: &'a GgufFile,
    files: &'a ModelFiles,
    arch: &'a str,
}

/// Describes the model in the file.
pub(super) fn describe(file: &GgufFile, files: &ModelFiles) -> Result<(ModelSpec, Layout)> {
    let key = "general.architecture";
    let arch = file.text(key)?.ok_or_else(|| file.bad(key, "is missing"))?;
    let m = Metadata { file, files, arch };
    let mut layout = Layout::gguf();
    let spec = match arch {
        "llama" => {
            layout.interleaved = true;
            m.llama()?
        }
        "qwen2" => {
            let biases = Biases { qkv: true, ..Biases::default() };
            ModelSpec { biases, ..m.llama()? }
        }
        "qwen3" => ModelSpec { qk_norm: true, ..m.llama()? },
        "gemma2" => m.gemma2()?,
        "gemma3" => m.gemma3()?,
        "phi3" => {
            layout.fused_qkv = true;
            layout.fused_gate_up = true;
            m.phi3()?
        }
        "bert" => {
            layout.fused_qkv = file.has("blk.0.attn_qkv.weight");
            m.bert()?
        }
        _ => {
            return Err(EncoderError::UnknownArchitecture {
                path: file.path().to_owned(),
                found: arch.to_owned(),
                supported: super::SUPPORTED,
            });
        }
    };
    if file.has("output.weight") {
        layout.head = Some("output.weight".to_owned());
    }
    Ok((spec, layout))
}

impl Metadata<'_> {
    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    fn int(&self, suffix: &str) -> Result<usize> {
        self.file.positive(&self.key(suffix))
    }

    fn optional(&self, suffix: &str) -> Result<Option<usize>> {
        match self.file.int(&self.key(suffix))? {
            None | Some(0) => Ok(None),
            Some(_) => self.int(suffix).map(Some),
        }
    }

    fn float(&self, suffix: &str) -> Result<Option<f64>> {
        self.file.float(&self.key(suffix))
    }

    /// The properties that all decoders have in common.
    fn base(&self) -> Result<ModelSpec> {
        if self.optional("expert_count")?.is_some() {
            return Err(EncoderError::UnknownArchitecture {
                path: self.file.path().to_owned(),
                found: format!("{} with a mixture of experts", self.arch),
                supported: super::SUPPORTED,
            });
        }
        let dim = self.int("embedding_length")?;
        let heads = self.int("attention.head_count")?;
        let head_dim = match self.optional("attention.key_length")? {
            Some(width) => width,
            None => dim / heads,
        };
        if self.optional("attention.value_length")?.unwrap_or(head_dim) != head_dim {
            let key = self.key("attention.value_length");
            return Err(self.file.bad(&key, "is not the key length"));
        }
        let blocks = self.int("block_count")?;
        if blocks > self.file.tensor_count() {
            let key = self.key("block_count");
            return Err(self.file.bad(&key, format!("is {blocks}, above the tensors")));
        }
        let eps = match self.float("attention.layer_norm_rms_epsilon")? {
            Some(eps) => eps,
            None => self.float("attention.layer_norm_epsilon")?.unwrap_or(1e-6),
        };
        Ok(ModelSpec {
            dim,
            heads,
            kv_heads: self.optional("attention.head_count_kv")?.unwrap_or(heads),
            ffn_dim: self.int("feed_forward_length")?,
            vocab: self.files.rows_of("token_embd.weight", dim)?,
            context: self.int("context_length")?,
            norm_eps: eps as f32,
            ropes: vec![self.rope(head_dim)?],
            layers: vec![LayerKind { window: None, rope: Some(0) }; blocks],
            ..decoder(self.arch, head_dim)
        })
    }

    fn rope(&self, head_dim: usize) -> Result<Rope> {
        let base = self.float("rope.freq_base")?.unwrap_or(1e4);
        let dims = self.optional("rope.dimension_count")?.unwrap_or(head_dim);
        let factors = |name: &str| -> Result<Vec<f64>> {
            let values = self.files.values(name, &[dims / 2])?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let key = self.key("rope.scaling.type");
        let scaling = if self.file.has("rope_factors_long.weight") {
            let context = self.int("context_length")?;
            let original =
                self.optional("rope.scaling.original_context_length")?.unwrap_or(context);
            RopeScaling::Long {
                short: factors("rope_factors_short.weight")?,
                long: factors("rope_factors_long.weight")?,
                original,
                attention: self
                    .float("rope.scaling.attn_factor")?
                    .unwrap_or_else(|| long_attention(context, original)),
            }
        } else if self.file.has("rope_freqs.weight") {
            RopeScaling::Factors(factors("rope_freqs.weight")?)
        } else {
            match self.file.text(&key)? {
                Some("linear") => {
                    RopeScaling::Linear(self.float("rope.scaling.factor")?.unwrap_or(1.0))
                }
                Some("none" | "longrope") | None => RopeScaling::None,
                Some(other) => {
                    return Err(self.file.bad(&key, format!("'{other}' is not supported")));
                }
            }
        };
        Ok(Rope { base, dims, scaling })
    }

    fn llama(&self) -> Result<ModelSpec> {
        self.base()
    }

    fn phi3(&self) -> Result<ModelSpec> {
        let mut spec = self.base()?;
        let window = self.optional("attention.sliding_window")?;
        for layer in &mut spec.layers {
            layer.window = window;
        }
        Ok(spec)
    }

    fn gemma2(&self) -> Result<ModelSpec> {
        let spec = self.base()?;
        let blocks = spec.layers.len();
        let cap = |suffix: &str| Ok::<_, EncoderError>(self.float(suffix)?.map(|c| c as f32));
        // The 27B model (46 blocks) scales by the width per head instead of the head's width.
        let scale_dim = if blocks == 46 { spec.dim / spec.heads } else { spec.head_dim };
        Ok(ModelSpec {
            placement: NormPlacement::Sandwich,
            activation: Activation::GeluTanh,
            attn_scale: 1.0 / (scale_dim as f32).sqrt(),
            attn_soft_cap: Some(cap("attn_logit_softcapping")?.unwrap_or(50.0)),
            final_soft_cap: Some(cap("final_logit_softcapping")?.unwrap_or(30.0)),
            embed_scale: (spec.dim as f32).sqrt(),
            layers: pattern(
                blocks,
                Some(self.optional("attention.sliding_window")?.unwrap_or(4096)),
                |i| i % 2 == 0,
                (0, 0),
            ),
            ..spec
        })
    }

    fn gemma3(&self) -> Result<ModelSpec> {
        let spec = self.base()?;
        let blocks = spec.layers.len();
        let window = self.int("attention.sliding_window")?;
        // Only the larger models stretch the positions of their global layers.
        let mut global = self.rope(spec.head_dim)?;
        global.base = self.float("rope.freq_base")?.unwrap_or(1e6);
        let base = self.float("rope.freq_base_swa")?.unwrap_or(1e4);
        let local = Rope { base, dims: global.dims, scaling: RopeScaling::None };
        let every = self.optional("attention.sliding_window_pattern")?.unwrap_or(6);
        // The 27B model (62 blocks) scales by the width per head instead of the head's width.
        let scale_dim = if blocks == 62 { spec.dim / spec.heads } else { spec.head_dim };
        Ok(ModelSpec {
            placement: NormPlacement::Sandwich,
            qk_norm: true,
            activation: Activation::GeluTanh,
            attn_scale: 1.0 / (scale_dim as f32).sqrt(),
            embed_scale: (spec.dim as f32).sqrt(),
            ropes: vec![global, local],
            // Some local layers, then one that sees everything.
            layers: pattern(blocks, Some(window), |i| (i + 1) % every != 0, (0, 1)),
            ..spec
        })
    }

    fn bert(&self) -> Result<ModelSpec> {
        let spec = self.base()?;
        let types = self.files.rows_of("token_types.weight", spec.dim)?;
        let rows = self.files.rows_of("position_embd.weight", spec.dim)?;
        if types == 0 {
            return Err(self.file.bad("token_types.weight", "is empty"));
        }
        Ok(ModelSpec {
            norm: NormKind::Layer,
            norm_eps: self.float("attention.layer_norm_epsilon")?.unwrap_or(1e-12) as f32,
            placement: NormPlacement::Post,
            biases: Biases { qkv: true, out: true, mlp: true },
            gated: false,
            activation: Activation::Gelu,
            causal: false,
            ropes: Vec::new(),
            context: spec.context.min(rows),
            learned_positions: Some(0),
            layers: vec![LayerKind { window: None, rope: None }; spec.layers.len()],
            ..spec
        })
    }
}

/// Phi-3's factor on cosines and sines where the file does not give it.
pub(crate) fn long_attention(context: usize, original: usize) -> f64 {
    let scale = context as f64 / original as f64;
    if scale <= 1.0 { 1.0 } else { (1.0 + scale.ln() / (original as f64).ln()).sqrt() }
}
