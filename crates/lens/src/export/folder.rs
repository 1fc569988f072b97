//! The files of an exported folder beside the checkpoint: the check, the code, the modules.

use super::plan::{Dense, Modules, Plan};
use super::{ExportOptions, ExportTarget};
use crate::Error;
use lens_core::{Content, Exchange, Message};
use lens_data::bundle::Bundle;
use lens_encoder::{Checkpoint, Encoder, ExportType};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The code of a model that transformers has no class for.
pub(super) const MODEL_CODE: &str = include_str!("python/modeling_lens.py");
const VERIFY_TRANSFORMERS: &str = include_str!("python/verify_transformers.py");
const VERIFY_SENTENCES: &str = include_str!("python/verify_sentence_transformers.py");

/// `verify.jsonl` and `verify.py`.
pub(super) fn write_verification(
    folder: &Path,
    encoder: &Encoder,
    plan: &Plan,
    texts: &[Exchange],
    expected: &[f32],
    options: &ExportOptions,
) -> Result<(), Error> {
    let mut rows = String::new();
    for (text, reward) in texts.iter().zip(expected) {
        let suffix = plan.suffix.as_deref();
        let messages: Vec<Value> = [&text.prompt, &text.response]
            .into_iter()
            .flat_map(|content| match content {
                Content::Messages(messages) => messages.clone(),
                Content::Text(text) => vec![Message { role: "user".into(), content: text.clone() }],
            })
            .map(|m| json!({"role": m.role, "content": m.content}))
            .collect();
        let row = json!({
            "messages": messages,
            "text": encoder.exchange_text_with(text, suffix)?,
            "token_ids": encoder.exchange_ids_with(text, suffix)?,
            "reward": reward,
        });
        rows.push_str(&row.to_string());
        rows.push('\n');
    }
    write(&folder.join("verify.jsonl"), rows.as_bytes())?;
    let program = match options.target {
        ExportTarget::SentenceTransformers => VERIFY_SENTENCES,
        _ => VERIFY_TRANSFORMERS,
    };
    let tolerance = match options.dtype {
        ExportType::F32 => "1e-3",
        ExportType::F16 => "0.05",
        ExportType::BF16 => "0.5",
    };
    let remote = if options.target == ExportTarget::RemoteCode { "True" } else { "False" };
    let program = program.replace("@TOLERANCE@", tolerance).replace("@REMOTE@", remote);
    write(&folder.join("verify.py"), program.as_bytes())
}

/// What `modeling_lens.py` is told of the views and the head.
pub(super) fn remote_config(
    bundle: &Bundle,
    encoder: &Encoder,
) -> Result<serde_json::Map<String, Value>, Error> {
    let shape = bundle.model.head.shape();
    let mut views = Vec::new();
    for view in encoder.views() {
        views.push(json!({
            "layer": view.layer,
            "pooling": view.pooling,
            "suffix": view.suffix,
            "suffix_ids": encoder.fragment_ids(view.suffix.as_deref().unwrap_or_default())?,
        }));
    }
    let entries = json!({
        "views": views,
        "hidden": shape.hidden,
        "members": shape.members,
        "activation": bundle.model.head.activation(),
        "num_labels": 1,
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
        "problem_type": "regression",
    });
    Ok(entries.as_object().cloned().unwrap_or_default())
}

/// The configuration of a model of `modeling_lens.py`: the language model's own lies in it, as `base`.
pub(super) fn remote_whole(plan: &Plan, checkpoint: &Checkpoint) -> Value {
    let class = "LensForSequenceClassification";
    let mut whole = serde_json::Map::from_iter([
        ("model_type".to_owned(), "lens-reward-model".into()),
        ("architectures".to_owned(), json!([class])),
        (
            "auto_map".to_owned(),
            json!({
                "AutoConfig": "modeling_lens.LensConfig",
                "AutoModelForSequenceClassification": format!("modeling_lens.{class}"),
            }),
        ),
        ("base".to_owned(), checkpoint.config.clone()),
    ]);
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"] {
        whole.insert(key.to_owned(), checkpoint.config[key].clone());
    }
    whole.extend(plan.config.clone());
    whole.into()
}

/// The files by which sentence-transformers knows its modules.
pub(super) fn write_modules(
    folder: &Path,
    modules: &Modules,
    encoder: &Encoder,
) -> Result<(), Error> {
    let module = |number: usize, path: &str, class: &str| {
        json!({"idx": number, "name": number.to_string(), "path": path,
               "type": format!("sentence_transformers.models.{class}")})
    };
    let mut list = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    let has = |word: &str| modules.poolings.iter().any(|pooling| pooling.to_string() == word);
    let pooling = json!({
        "word_embedding_dimension": encoder.identity().dim,
        "pooling_mode_cls_token": has("first"),
        "pooling_mode_mean_tokens": has("mean"),
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
        "pooling_mode_weightedmean_tokens": false,
        "pooling_mode_lasttoken": has("last"),
        "include_prompt": true,
    });
    create(&folder.join("1_Pooling"))?;
    write_json(&folder.join("1_Pooling/config.json"), &pooling)?;
    for (i, dense) in modules.dense.iter().enumerate() {
        let name = format!("{}_Dense", i + 2);
        list.push(module(i + 2, &name, "Dense"));
        create(&folder.join(&name))?;
        let config = json!({
            "in_features": dense.inputs,
            "out_features": dense.outputs,
            "bias": true,
            "activation_function": dense.activation,
        });
        write_json(&folder.join(&name).join("config.json"), &config)?;
        write_dense(&folder.join(&name).join("model.safetensors"), dense)?;
    }
    write_json(&folder.join("modules.json"), &list.into())?;
    let sentence = json!({"max_seq_length": encoder.identity().max_length, "do_lower_case": false});
    write_json(&folder.join("sentence_bert_config.json"), &sentence)?;
    let versions = json!({"prompts": {}, "default_prompt_name": null, "similarity_fn_name": "dot"});
    write_json(&folder.join("config_sentence_transformers.json"), &versions)
}

fn write_dense(path: &Path, dense: &Dense) -> Result<(), Error> {
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (weight, bias) = (bytes(&dense.weight), bytes(&dense.bias));
    let failed =
        |e: safetensors::SafeTensorError| Error::Refused(format!("{}: {e}", path.display()));
    let tensors = [
        ("linear.bias", TensorView::new(Dtype::F32, vec![dense.outputs], &bias).map_err(failed)?),
        (
            "linear.weight",
            TensorView::new(Dtype::F32, vec![dense.outputs, dense.inputs], &weight)
                .map_err(failed)?,
        ),
    ];
    write(path, &safetensors::serialize(tensors, None).map_err(failed)?)
}

fn create(folder: &Path) -> Result<(), Error> {
    Ok(fs::create_dir(folder).map_err(|e| lens_data::Error::io(folder, "write", e))?)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(fs::write(path, bytes).map_err(|e| lens_data::Error::io(path, "write", e))?)
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Refused(format!("{}: {e}", path.display())))?;
    write(path, format!("{text}\n").as_bytes())
}
