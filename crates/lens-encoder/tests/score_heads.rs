//! Public reward models against transformers: tiny `*ForSequenceClassification` checkpoints with random
//! weights, whose rewards were computed by `scripts/reference_rewards.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::Quiet;
use lens_encoder::{Encoder, EncoderError, EncoderOptions, Precision, ScoreHead};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reward-models")
}

fn open(path: &Path) -> Encoder {
    let options = EncoderOptions { weights: Precision::F32, ..Default::default() };
    Encoder::open(path, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn reward(head: &ScoreHead, state: &[f32]) -> f64 {
    let product = head.weights.iter().zip(state).map(|(w, h)| f64::from(*w) * f64::from(*h));
    product.sum::<f64>() + f64::from(head.bias)
}

#[test]
fn every_family_gives_the_rewards_of_transformers() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root()).unwrap() {
        let dir = entry.unwrap().path();
        let text = std::fs::read(dir.join("rewards.json")).unwrap();
        let reference: Value = serde_json::from_slice(&text).unwrap();
        let labels = reference["labels"].as_array().unwrap();
        let gguf = dir.join("model.gguf");
        for form in [Some(&dir), gguf.exists().then_some(&gguf)].into_iter().flatten() {
            let encoder = open(form);
            let (mut worst, mut size) = (0.0f64, 0.0f64);
            for (at, label) in labels.iter().enumerate() {
                let named = (labels.len() > 1).then(|| label.as_str().unwrap());
                let head = encoder.score_head(named).unwrap().unwrap();
                assert_eq!(head.label, label.as_str().unwrap());
                let rows = reference["sequences"].as_array().unwrap();
                let ids = |row: &Value| -> Vec<u32> {
                    let ids = row["input_ids"].as_array().unwrap();
                    ids.iter().map(|id| id.as_u64().unwrap() as u32).collect()
                };
                let lists: Vec<Vec<u32>> = rows.iter().map(ids).collect();
                let encoded = encoder.encode_ids(&lists, &Quiet).unwrap();
                for (row, encoded) in rows.iter().zip(&encoded) {
                    let want = row["logits"][at].as_f64().unwrap();
                    worst = worst.max((reward(&head, &encoded.vector) - want).abs());
                    size = size.max(want.abs());
                }
                for row in reference["texts"].as_array().into_iter().flatten() {
                    let text = row["text"].as_str().unwrap().to_owned();
                    assert_eq!(encoder.token_ids(&text).unwrap(), ids(row));
                    let encoded = encoder.encode_texts(&[text], &Quiet).unwrap();
                    let want = row["logits"][at].as_f64().unwrap();
                    worst = worst.max((reward(&head, &encoded[0].vector) - want).abs());
                }
            }
            println!("{}: off by {worst:.1e} of {size:.2}", form.display());
            assert!(worst < 1e-5, "{}: {worst:e}", form.display());
            assert!(size > 0.1, "{}", form.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 11, "a reward model of the reference data is missing");
}

#[test]
fn a_label_is_named_by_name_or_number_and_several_are_listed() {
    let encoder = open(&root().join("labels"));
    let safety = encoder.score_head(Some("safety")).unwrap().unwrap();
    assert_eq!(encoder.score_head(Some("1")).unwrap(), Some(safety));
    let none = encoder.score_head(None).unwrap_err();
    assert!(matches!(&none, EncoderError::SeveralLabels { labels, .. } if labels.len() == 3));
    assert!(none.to_string().ends_with("helpfulness, safety, verbosity"), "{none}");
    for wrong in ["Safety", "3", "-1", ""] {
        let error = encoder.score_head(Some(wrong)).unwrap_err();
        assert!(matches!(error, EncoderError::UnknownLabel { .. }), "{error}");
    }
}

/// A copy of a reward model, with a changed configuration.
fn copy(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(root().join(name).join(file), folder.path().join(file)).unwrap();
    }
    let config = folder.path().join("config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&config, value.to_string()).unwrap();
    folder
}

#[test]
fn what_is_no_reward_model_is_refused_by_name() {
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    assert_eq!(open(&plain.join("llama3")).score_head(None).unwrap(), None);

    let promised = copy("qwen2", |_| ());
    std::fs::copy(
        plain.join("mistral/model.safetensors"),
        promised.path().join("model.safetensors"),
    )
    .unwrap();
    std::fs::copy(plain.join("mistral/config.json"), promised.path().join("config.json")).unwrap();
    let config = promised.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("MistralForCausalLM", "MistralForSequenceClassification"))
        .unwrap();
    let error = open(promised.path()).score_head(None).unwrap_err();
    assert!(
        matches!(error, EncoderError::MissingTensor { ref name, .. } if name == "score.weight"),
        "{error}"
    );

    let token = copy("mistral", |config| {
        config["architectures"] = serde_json::json!(["MistralForTokenClassification"]);
    });
    let error = open(token.path()).score_head(None).unwrap_err();
    assert!(matches!(error, EncoderError::NotLinear { .. }), "{error}");

    let adapter = copy("mistral", |_| ());
    std::fs::write(adapter.path().join("adapter_config.json"), "{}").unwrap();
    let error = open(adapter.path()).score_head(None).unwrap_err();
    assert!(error.to_string().contains("adapter (PEFT)"), "{error}");
    std::fs::remove_file(adapter.path().join("config.json")).unwrap();
    let error = Encoder::open(adapter.path(), &EncoderOptions::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("merge them first"), "{error}");

    let quantised = copy("mistral", |config| {
        config["quantization_config"] = serde_json::json!({"quant_method": "bitsandbytes"});
    });
    let error =
        Encoder::open(quantised.path(), &EncoderOptions::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("bitsandbytes"), "{error}");
}
