//! `config.json` of an exported model, in the words of transformers.
//!
//! It is written from the [`ModelSpec`], which is all that the forward pass knows, so that it cannot say
//! anything else than what is computed here. Keys are those that transformers 4 and 5 both read.

use super::not_exportable;
use crate::error::Result;
use crate::family::{
    Activation, LayerKind, ModelSpec, NormPlacement, Rope, RopeScaling, long_attention,
};
use crate::forward::inverse_frequencies;
use serde_json::{Map, Value, json};

/// What a family is called in transformers.
pub(super) struct Family {
    /// `model_type`.
    pub model_type: &'static str,
    /// The beginning of its classes' names.
    pub class: &'static str,
}

/// The family of a model.
pub(super) fn family(spec: &ModelSpec) -> Result<Family> {
    let (model_type, class) = match spec.architecture.as_str() {
        "llama" => ("llama", "Llama"),
        "mistral" => ("mistral", "Mistral"),
        "qwen2" => ("qwen2", "Qwen2"),
        "qwen3" => ("qwen3", "Qwen3"),
        "gemma2" => ("gemma2", "Gemma2"),
        "gemma3" => ("gemma3_text", "Gemma3Text"),
        "phi3" => ("phi3", "Phi3"),
        "bert" => ("bert", "Bert"),
        "xlm-roberta" => ("xlm-roberta", "XLMRoberta"),
        other => return Err(not_exportable(format!("transformers has no class for '{other}'"))),
    };
    Ok(Family { model_type, class })
}

/// The configuration of the model's first `layers` blocks, with `rows` rows of the token table.
/// `table_rows` are the rows of the position and the type table of models that have them.
pub(super) fn config(
    spec: &ModelSpec,
    layers: usize,
    rows: usize,
    table_rows: Option<(usize, usize)>,
) -> Result<Map<String, Value>> {
    let mut c = Map::new();
    let mut set = |key: &str, value: Value| {
        c.insert(key.to_owned(), value);
    };
    set("model_type", family(spec)?.model_type.into());
    set("hidden_size", spec.dim.into());
    set("num_attention_heads", spec.heads.into());
    set("num_hidden_layers", layers.into());
    set("intermediate_size", spec.ffn_dim.into());
    set("vocab_size", rows.into());
    set("attention_dropout", 0.0.into());
    let activation = match spec.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Silu => "silu",
    };
    if spec.placement == NormPlacement::Post {
        let (positions, types) = table_rows.unwrap_or((spec.context, 1));
        set("hidden_act", activation.into());
        set("layer_norm_eps", plain(spec.norm_eps));
        set("max_position_embeddings", positions.into());
        set("type_vocab_size", types.into());
        set("position_embedding_type", "absolute".into());
        return Ok(c);
    }
    set("hidden_act", activation.into());
    set("num_key_value_heads", spec.kv_heads.into());
    set("head_dim", spec.head_dim.into());
    set("rms_norm_eps", plain(spec.norm_eps));
    set("max_position_embeddings", spec.context.into());
    set("tie_word_embeddings", true.into());
    set("use_cache", true.into());
    let kinds = &spec.layers[..layers];
    for (key, value) in windows(spec, kinds)? {
        set(key, value);
    }
    match spec.architecture.as_str() {
        "llama" => {
            set("attention_bias", spec.biases.qkv.into());
            set("mlp_bias", spec.biases.mlp.into());
        }
        "qwen3" => set("attention_bias", spec.biases.qkv.into()),
        "gemma2" | "gemma3" => {
            set("attention_bias", false.into());
            set("hidden_activation", activation.into());
            let scale = f64::from(spec.attn_scale);
            // transformers wants an integer where it is one.
            let scalar = near_whole(1.0 / (scale * scale));
            let integer = scalar.fract() == 0.0;
            set(
                "query_pre_attn_scalar",
                if integer { json!(scalar as u64) } else { json!(scalar) },
            );
            set("attn_logit_softcapping", spec.attn_soft_cap.map_or(Value::Null, plain));
            set("final_logit_softcapping", spec.final_soft_cap.map_or(Value::Null, plain));
        }
        _ => {}
    }
    rotations(spec, &mut set)?;
    Ok(c)
}

/// The entries on which layers see how far back.
fn windows(spec: &ModelSpec, kinds: &[LayerKind]) -> Result<Vec<(&'static str, Value)>> {
    let window = kinds.iter().find_map(|kind| kind.window);
    if kinds.iter().any(|kind| kind.window.is_some() && kind.window != window) {
        return Err(not_exportable("its layers have windows of several widths".into()));
    }
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| if kind.window.is_some() { "sliding_attention" } else { "full_attention" })
        .collect();
    let all = names.iter().all(|name| *name == "sliding_attention");
    Ok(match spec.architecture.as_str() {
        "llama" if window.is_some() => {
            return Err(not_exportable("Llama of transformers has no attention window".into()));
        }
        "llama" => Vec::new(),
        "mistral" | "phi3" => match window {
            Some(_) if !all => {
                let what = "only some of its layers have an attention window";
                return Err(not_exportable(what.into()));
            }
            window => vec![("sliding_window", json!(window))],
        },
        "qwen2" | "qwen3" => {
            let full = names.iter().take_while(|name| **name == "full_attention").count();
            vec![
                ("use_sliding_window", window.is_some().into()),
                ("sliding_window", json!(window)),
                ("max_window_layers", full.into()),
                ("layer_types", json!(names)),
            ]
        }
        _ => vec![
            // A model that was cut off before its first layer with a window still wants a number.
            ("sliding_window", json!(window.or(spec.layers.iter().find_map(|k| k.window)))),
            ("layer_types", json!(names)),
        ],
    })
}

/// The entries on rotary embeddings.
fn rotations(spec: &ModelSpec, set: &mut impl FnMut(&str, Value)) -> Result<()> {
    let Some(rope) = spec.ropes.first() else { return Ok(()) };
    set("rope_theta", near_whole(rope.base).into());
    if rope.dims != spec.head_dim {
        match spec.architecture.as_str() {
            "phi3" => {
                set("partial_rotary_factor", (rope.dims as f64 / spec.head_dim as f64).into());
            }
            _ => return Err(not_exportable("only a part of each head is rotated".into())),
        }
    }
    if let Some(near) = spec.ropes.get(1) {
        set("rope_local_base_freq", near_whole(near.base).into());
    }
    let scaling = match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 { factor, low, high, original } => {
            llama3(*factor, *low, *high, *original)
        }
        RopeScaling::Factors(factors) => of_factors(rope, factors)?,
        RopeScaling::Long { short, long, original, attention } => {
            set("original_max_position_embeddings", (*original).into());
            let mut scaling = json!({"rope_type": "longrope", "type": "longrope", "short_factor": short, "long_factor": long});
            if *attention != long_attention(spec.context, *original) {
                scaling["attention_factor"] = (*attention).into();
            }
            scaling
        }
    };
    set("rope_scaling", scaling);
    Ok(())
}

fn llama3(factor: f64, low: f64, high: f64, original: usize) -> Value {
    json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    })
}

/// The rule behind the factors that a GGUF file lists: that of Llama 3, or none that transformers knows. The
/// file does not say for which context the model was made first.
fn of_factors(rope: &Rope, factors: &[f64]) -> Result<Value> {
    let (low, high) = (1.0, 4.0);
    let factor = factors.iter().copied().fold(1.0, f64::max);
    let listed = inverse_frequencies(rope, false);
    let follows = |original: &usize| {
        let scaling = RopeScaling::Llama3 { factor, low, high, original: *original };
        let by_rule = inverse_frequencies(&Rope { scaling, ..rope.clone() }, false);
        listed.iter().zip(&by_rule).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
    };
    // 8192 is Llama's own.
    let originals = std::iter::once(8192).chain((5..=20).map(|power| 1usize << power));
    match originals.into_iter().find(follows) {
        Some(original) => Ok(llama3(factor, low, high, original)),
        None => Err(not_exportable(
            "its file lists factors of the rotation that follow no rule of transformers".into(),
        )),
    }
}

/// A number that was read as f32, as a person would write it.
fn plain(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A number that is most likely whole, but for rounding.
fn near_whole(value: f64) -> f64 {
    let rounded = value.round();
    match (value - rounded).abs() <= 1e-4 * rounded.abs() {
        true => rounded,
        false => value,
    }
}
