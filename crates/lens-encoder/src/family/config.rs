//! Families as `config.json` describes them.

use super::layout::Naming;
use super::{
    Activation, Biases, LayerKind, Layout, ModelSpec, NormKind, NormPlacement, Rope, RopeScaling,
    decoder, pattern,
};
use crate::error::{EncoderError, Result};
use crate::model::ModelFiles;
use crate::model::folder::Folder;
use serde_json::Value;

/// The prefixes of the names of decoders' weights, in the order in which they are looked for.
const PREFIXES: [&str; 5] =
    ["model.", "", "language_model.model.", "model.language_model.", "language_model."];

/// `model_type` of a reward model that was exported with code of its own.
pub(crate) const EXPORTED: &str = "lens-reward-model";

/// The values that published configurations of Gemma 3 leave out, as they are transformers' defaults.
const GEMMA3: [(&str, usize); 5] = [
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
    ("vocab_size", 262_208),
];

/// The language model's part of a configuration: models with vision keep it apart, and so does a reward
/// model that was exported with code of its own.
fn of_text(config: &Value) -> &Value {
    let within = if config["model_type"] == EXPORTED { "base" } else { "text_config" };
    config.get(within).filter(|t| t.is_object()).unwrap_or(config)
}

/// The number of layers that a configuration names, where it names one.
pub(crate) fn layers(config: &Value) -> Option<usize> {
    of_text(config)["num_hidden_layers"].as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Describes the model in the folder.
pub(super) fn describe(folder: &Folder, files: &ModelFiles) -> Result<(ModelSpec, Layout)> {
    let whole = folder.config();
    let values = of_text(whole);
    let gemma3 = matches!(values["model_type"].as_str(), Some("gemma3" | "gemma3_text"));
    let c = Config { values, files, defaults: if gemma3 { &GEMMA3 } else { &[] } };
    if whole.get("quantization_config").is_some_and(|q| !q.is_null()) {
        let how = whole["quantization_config"]["quant_method"].as_str().unwrap_or("unknown");
        return Err(files.bad(
            "quantization_config",
            format!("method '{how}' is not supported; use the original weights or a GGUF file"),
        ));
    }
    let kind = c.text("model_type")?.ok_or_else(|| files.bad("model_type", "is missing"))?;
    let gemma = matches!(kind, "gemma2" | "gemma3" | "gemma3_text");
    let spec = match kind {
        "llama" | "mistral" => c.llama(kind)?,
        "qwen2" => {
            let biases = Biases { qkv: true, ..Biases::default() };
            ModelSpec { biases, ..c.llama(kind)? }
        }
        "qwen3" => ModelSpec { qk_norm: true, ..c.llama(kind)? },
        "gemma2" => c.gemma2()?,
        "gemma3" | "gemma3_text" => c.gemma3()?,
        "phi3" => c.llama(kind)?,
        "bert" => c.bert(kind, 0)?,
        "xlm-roberta" | "roberta" => {
            let padding = c.optional("pad_token_id")?.unwrap_or(1);
            c.bert("xlm-roberta", padding + 1)?
        }
        _ => {
            return Err(EncoderError::UnknownArchitecture {
                path: files.path().to_owned(),
                found: kind.to_owned(),
                supported: super::SUPPORTED,
            });
        }
    };
    let naming = c.naming(&spec)?;
    let fused = kind == "phi3";
    let head = match &naming {
        Naming::Decoder(_) if !c.flag("tie_word_embeddings")?.unwrap_or(gemma) => {
            ["lm_head.weight", "language_model.lm_head.weight"]
                .into_iter()
                .find(|name| files.has(name))
                .map(str::to_owned)
        }
        _ => None,
    };
    let layout = Layout {
        naming,
        fused_qkv: fused,
        fused_gate_up: fused,
        interleaved: false,
        norm_offset: if gemma { 1.0 } else { 0.0 },
        head,
    };
    Ok((spec, layout))
}

/// A configuration whose entries are looked at with suspicion.
struct Config<'a> {
    values: &'a Value,
    files: &'a ModelFiles,
    /// Values of entries that are not there.
    defaults: &'a [(&'a str, usize)],
}

impl Config<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    fn optional(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(self.defaults.iter().find(|(k, _)| *k == key).map(|(_, n)| *n)),
            Some(value) => match value.as_u64() {
                // Products of two such numbers cannot overflow.
                Some(n) if n <= i32::MAX as u64 => Ok(Some(n as usize)),
                _ => Err(self.files.bad(key, format!("is {value}"))),
            },
        }
    }

    fn int(&self, key: &str) -> Result<usize> {
        match self.optional(key)? {
            Some(0) => Err(self.files.bad(key, "is 0")),
            Some(n) => Ok(n),
            None => Err(self.files.bad(key, "is missing")),
        }
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        number(self.values, key, self.files)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(self.files.bad(key, format!("is {other}"))),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(self.files.bad(key, format!("is {other}"))),
        }
    }

    fn activation(&self, keys: [&str; 2]) -> Result<Activation> {
        for key in keys {
            match self.text(key)? {
                None => {}
                Some("gelu_pytorch_tanh" | "gelu_new") => return Ok(Activation::GeluTanh),
                Some("gelu") => return Ok(Activation::Gelu),
                Some("silu" | "swish") => return Ok(Activation::Silu),
                Some(other) => {
                    return Err(self.files.bad(key, format!("'{other}' is not supported")));
                }
            }
        }
        Err(self.files.bad(keys[1], "is missing"))
    }

    fn gemma_activation(&self) -> Result<Activation> {
        match self.get("hidden_activation").or_else(|| self.get("hidden_act")) {
            None => Ok(Activation::GeluTanh),
            Some(_) => self.activation(["hidden_activation", "hidden_act"]),
        }
    }

    /// The tensors' names: whichever prefix the token table is found behind.
    fn naming(&self, spec: &ModelSpec) -> Result<Naming> {
        if spec.placement == NormPlacement::Post {
            let prefix = ["", "bert.", "roberta.", "model."]
                .into_iter()
                .find(|p| self.files.has(&format!("{p}embeddings.word_embeddings.weight")));
            return Ok(Naming::Bert(prefix.unwrap_or_default().to_owned()));
        }
        let prefix = self.prefix();
        Ok(Naming::Decoder(prefix.unwrap_or("model.").to_owned()))
    }

    fn prefix(&self) -> Option<&'static str> {
        PREFIXES.into_iter().find(|p| self.files.has(&format!("{p}embed_tokens.weight")))
    }

    fn base(&self, kind: &str) -> Result<ModelSpec> {
        let dim = self.int("hidden_size")?;
        let heads = self.int("num_attention_heads")?;
        let head_dim = match self.optional("head_dim")? {
            Some(width) if width > 0 => width,
            _ => dim / heads,
        };
        let blocks = self.int("num_hidden_layers")?;
        if blocks > self.files.tensor_count() {
            return Err(self.files.bad("num_hidden_layers", format!("is {blocks}")));
        }
        let vocab = self.int("vocab_size")?;
        Ok(ModelSpec {
            dim,
            heads,
            kv_heads: match self.optional("num_key_value_heads")? {
                Some(0) => return Err(self.files.bad("num_key_value_heads", "is 0")),
                Some(n) => n,
                None => heads,
            },
            ffn_dim: self.int("intermediate_size")?,
            vocab: match self.prefix() {
                Some(prefix) => self.files.rows_of(&format!("{prefix}embed_tokens.weight"), dim)?,
                None => vocab,
            },
            context: self.int("max_position_embeddings")?,
            norm_eps: self.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            layers: vec![LayerKind { window: None, rope: Some(0) }; blocks],
            ..decoder(kind, head_dim)
        })
    }

    /// Llama, Mistral, Qwen, Phi-3: one rotation, and windows where the configuration says so.
    fn llama(&self, kind: &str) -> Result<ModelSpec> {
        let spec = self.base(kind)?;
        let attention = self.flag("attention_bias")?.unwrap_or(false);
        let biases =
            Biases { qkv: attention, out: attention, mlp: self.flag("mlp_bias")?.unwrap_or(false) };
        let window = match self.flag("use_sliding_window")? {
            Some(false) => None,
            None if matches!(kind, "qwen2" | "qwen3") => None,
            _ => self.optional("sliding_window")?.filter(|w| *w > 0),
        };
        let layers = match (window, self.local_layers(spec.layers.len())?) {
            (None, _) => spec.layers.clone(),
            (Some(_), Some(local)) => pattern(local.len(), window, |i| local[i], (0, 0)),
            (Some(_), None) => {
                let from = match kind {
                    "qwen2" | "qwen3" => self.optional("max_window_layers")?.unwrap_or(28),
                    _ => 0,
                };
                pattern(spec.layers.len(), window, |i| i >= from, (0, 0))
            }
        };
        Ok(ModelSpec {
            biases,
            activation: self.activation(["hidden_act", "hidden_activation"])?,
            ropes: vec![self.rope(self.rope_values(None), spec.head_dim, 1e4)?],
            layers,
            ..spec
        })
    }

    fn gemma2(&self) -> Result<ModelSpec> {
        let spec = self.base("gemma2")?;
        let window = self.optional("sliding_window")?.filter(|w| *w > 0);
        let local = self.local_layers(spec.layers.len())?;
        let cap = |key: &str| Ok::<_, EncoderError>(self.float(key)?.map(|c| c as f32));
        Ok(ModelSpec {
            placement: NormPlacement::Sandwich,
            activation: self.gemma_activation()?,
            attn_scale: self.query_scale()?,
            attn_soft_cap: cap("attn_logit_softcapping")?,
            final_soft_cap: cap("final_logit_softcapping")?,
            embed_scale: (spec.dim as f32).sqrt(),
            ropes: vec![self.rope(self.rope_values(None), spec.head_dim, 1e4)?],
            layers: pattern(
                spec.layers.len(),
                window,
                |i| local.as_ref().map_or(i % 2 == 0, |l| l[i]),
                (0, 0),
            ),
            ..spec
        })
    }

    fn gemma3(&self) -> Result<ModelSpec> {
        let spec = self.base("gemma3")?;
        if self.flag("use_bidirectional_attention")?.unwrap_or(false) {
            return Err(self.files.bad("use_bidirectional_attention", "is not supported"));
        }
        let window = self.int("sliding_window")?;
        let every = self.optional("sliding_window_pattern")?.unwrap_or(6).max(1);
        let local = self.local_layers(spec.layers.len())?;
        let global = self.rope(self.rope_values(Some("full_attention")), spec.head_dim, 1e6)?;
        let near = self.rope_values(Some("sliding_attention"));
        let mut near = self.rope(near, spec.head_dim, 1e4)?;
        if self.get("rope_parameters").is_none() {
            // The older form: one base each, and scaling for the global layers only.
            near.base = self.float("rope_local_base_freq")?.unwrap_or(1e4);
            near.scaling = RopeScaling::None;
        }
        let cap = |key: &str| Ok::<_, EncoderError>(self.float(key)?.map(|c| c as f32));
        Ok(ModelSpec {
            placement: NormPlacement::Sandwich,
            qk_norm: true,
            activation: self.gemma_activation()?,
            attn_scale: self.query_scale()?,
            attn_soft_cap: cap("attn_logit_softcapping")?,
            final_soft_cap: cap("final_logit_softcapping")?,
            embed_scale: (spec.dim as f32).sqrt(),
            ropes: vec![global, near],
            layers: pattern(
                spec.layers.len(),
                Some(window),
                |i| local.as_ref().map_or((i + 1) % every != 0, |l| l[i]),
                (0, 1),
            ),
            ..spec
        })
    }

    fn bert(&self, kind: &str, first: usize) -> Result<ModelSpec> {
        let spec = self.base(kind)?;
        if let Some(other) = self.text("position_embedding_type")?
            && other != "absolute"
        {
            return Err(self.files.bad("position_embedding_type", format!("is '{other}'")));
        }
        Ok(ModelSpec {
            norm: NormKind::Layer,
            norm_eps: self.float("layer_norm_eps")?.unwrap_or(1e-12) as f32,
            placement: NormPlacement::Post,
            biases: Biases { qkv: true, out: true, mlp: true },
            gated: false,
            activation: self.activation(["hidden_act", "hidden_activation"])?,
            causal: false,
            context: spec.context.saturating_sub(first).max(1),
            learned_positions: Some(first),
            layers: vec![LayerKind { window: None, rope: None }; spec.layers.len()],
            ..spec
        })
    }

    fn query_scale(&self) -> Result<f32> {
        let dim = self.float("query_pre_attn_scalar")?.unwrap_or(256.0);
        if dim <= 0.0 {
            return Err(self.files.bad("query_pre_attn_scalar", format!("is {dim}")));
        }
        Ok(1.0 / (dim as f32).sqrt())
    }

    /// Which layers are local, where the configuration lists them.
    fn local_layers(&self, blocks: usize) -> Result<Option<Vec<bool>>> {
        let Some(value) = self.get("layer_types") else { return Ok(None) };
        let names = value.as_array().filter(|a| a.len() == blocks);
        let names = names.ok_or_else(|| {
            self.files.bad("layer_types", format!("is not a list of {blocks} names"))
        })?;
        names
            .iter()
            .map(|name| match name.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(self.files.bad("layer_types", format!("has {name}"))),
            })
            .collect::<Result<_>>()
            .map(Some)
    }

    /// The table that describes a rotation: by kind of layer, for all layers, or (the older form)
    /// `rope_scaling`.
    fn rope_values(&self, layer_type: Option<&str>) -> &Value {
        if let Some(all) = self.get("rope_parameters") {
            return layer_type.and_then(|kind| all.get(kind)).unwrap_or(all);
        }
        self.get("rope_scaling").unwrap_or(&Value::Null)
    }

    fn rope(&self, values: &Value, head_dim: usize, default_base: f64) -> Result<Rope> {
        let float = |key: &str| number(values, key, self.files);
        let base = match float("rope_theta")? {
            Some(base) => base,
            None => self.float("rope_theta")?.unwrap_or(default_base),
        };
        let partial = match float("partial_rotary_factor")? {
            Some(share) => share,
            None => self.float("partial_rotary_factor")?.unwrap_or(1.0),
        };
        let dims = (head_dim as f64 * partial) as usize;
        let need = |key: &str| {
            float(key)?.ok_or_else(|| self.files.bad("rope_scaling", format!("lacks {key}")))
        };
        let factors = |key: &str| -> Result<Vec<f64>> {
            let list = values.get(key).and_then(Value::as_array);
            let list = list.and_then(|l| l.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
            list.ok_or_else(|| {
                self.files.bad("rope_scaling", format!("{key} is no list of numbers"))
            })
        };
        if !(values.is_null() || values.is_object()) {
            return Err(self.files.bad("rope_scaling", format!("is {values}")));
        }
        let kind = values.get("rope_type").or_else(|| values.get("type"));
        if let Some(kind) = kind.filter(|k| !(k.is_null() || k.is_string())) {
            return Err(self.files.bad("rope_type", format!("is {kind}")));
        }
        let scaling = match kind.and_then(Value::as_str) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(need("factor")?),
            Some("llama3") => RopeScaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: need("original_max_position_embeddings")? as usize,
            },
            Some("longrope" | "su") => {
                let original = match float("original_max_position_embeddings")? {
                    Some(n) => n as usize,
                    None => self.int("original_max_position_embeddings")?,
                };
                let context = self.int("max_position_embeddings")?;
                let attention = match (float("attention_factor")?, float("factor")?) {
                    (Some(factor), _) => factor,
                    (None, Some(f)) if self.get("original_max_position_embeddings").is_none() => {
                        if f <= 1.0 {
                            1.0
                        } else {
                            (1.0 + f.ln() / (original as f64).ln()).sqrt()
                        }
                    }
                    _ => super::long_attention(context, original),
                };
                RopeScaling::Long {
                    short: factors("short_factor")?,
                    long: factors("long_factor")?,
                    original,
                    attention,
                }
            }
            Some(other) => {
                return Err(self.files.bad("rope_scaling", format!("'{other}' is not supported")));
            }
        };
        Ok(Rope { base, dims, scaling })
    }
}

fn number(values: &Value, key: &str, files: &ModelFiles) -> Result<Option<f64>> {
    match values.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(x) if x.is_finite() => Ok(Some(x)),
            _ => Err(files.bad(key, format!("is {value}"))),
        },
    }
}
