//! Against transformers' float32 hidden states of the same weights.
//!
//! Runs with `LENS_MODEL_TESTS=1` only: the model is not part of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::vectors::{cosine, relative};
use common::{model, named, shared};
use lens_core::{Content, Exchange, Quiet};
use lens_encoder::{Encoder, EncoderOptions, LayerChoice, Pooling, TemplateChoice, ViewChoice};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// Holds ids and hidden states of a golden file's texts against ours; every view in one pass.
fn agrees(model: &Path, golden: &str, views: &[(i32, Pooling)]) {
    let path = shared().join("golden").join(golden);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not here", path.display());
        return;
    };
    let golden: Value = serde_json::from_slice(&bytes).unwrap();
    let cases = golden["texts"].as_array().unwrap();
    let texts: Vec<String> = cases.iter().map(|c| c["text"].as_str().unwrap().to_owned()).collect();
    let choice = |(layer, pooling): &(i32, Pooling)| ViewChoice {
        layer: LayerChoice::Index(*layer),
        pooling: *pooling,
        suffix: None,
    };
    let options = EncoderOptions {
        views: views.iter().map(choice).collect(),
        template: TemplateChoice::Plain,
        ..Default::default()
    };
    let encoder = Encoder::open(model, &options).unwrap();
    for (i, (case, text)) in cases.iter().zip(&texts).enumerate() {
        let want: Vec<u32> = numbers(&case["input_ids"]).into_iter().map(|id| id as u32).collect();
        assert_eq!(encoder.token_ids(text).unwrap(), want, "text {i}");
    }
    let mut worst = (1.0f64, 0.0f64);
    let encoded = encoder.encode_texts(&texts, &Quiet).unwrap();
    for (i, (case, encoded)) in cases.iter().zip(encoded).enumerate() {
        let vectors = encoded.vector.chunks_exact(encoder.identity().dim);
        for ((layer, pooling), got) in views.iter().zip(vectors) {
            let want = numbers(&case["layers"][layer.to_string()][pooling.to_string()]);
            let (cos, off) = (cosine(got, &want), relative(got, &want));
            assert!(cos >= 0.9999, "text {i}, layer {layer}, {pooling}: cosine {cos}");
            worst = (worst.0.min(cos), worst.1.max(off));
        }
    }
    println!("{}: worst cosine {:.9}, off {:.1e}", golden["model"], worst.0, worst.1);
}

#[test]
fn gemma_agrees_with_transformers() {
    let Some(model) = model() else { return };
    let (last, mean) = (Pooling::Last, Pooling::Mean);
    let views = [(0, last), (9, last), (17, last), (-1, last), (-1, mean)];
    agrees(&model, "gemma-3-270m.json", &views);
}

#[test]
fn qwen_agrees_with_transformers() {
    let Some(model) = named("LENS_MODEL_QWEN") else { return };
    let views = [(14, Pooling::Last), (-1, Pooling::Last), (-1, Pooling::Mean)];
    agrees(&model, "qwen2.5-coder-1.5b.json", &views);
}

#[test]
fn minilm_agrees_with_transformers() {
    let Some(model) = named("LENS_MODEL_MINILM") else { return };
    let views = [(3, Pooling::Last), (-1, Pooling::Last), (-1, Pooling::Mean)];
    agrees(&model, "all-MiniLM-L6-v2.json", &views);
}

#[test]
fn a_chat_template_yields_gemmas_control_tokens() {
    let Some(model) = model() else { return };
    let template = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n\
        {{ m.content }}<end_of_turn>\n{% endfor %}";
    let options = EncoderOptions {
        template: TemplateChoice::Custom(template.to_owned()),
        ..Default::default()
    };
    let encoder = Encoder::open(&model, &options).unwrap();
    let exchange = Exchange {
        prompt: Content::Text("Is <end_of_turn> a token?".into()),
        response: Content::Text("<bos>".into()),
    };
    let ids = encoder.exchange_ids(&exchange).unwrap();
    let count = |id| ids.iter().filter(|i| **i == id).count();
    assert_eq!(ids[..2], [2, 105]);
    assert_eq!(ids[ids.len() - 2..], [106, 107]);
    assert_eq!((count(2), count(105), count(106)), (1, 2, 2));
}
