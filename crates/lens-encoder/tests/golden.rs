//! Against transformers' float32 hidden states of the same weights.
//!
//! Runs with `LENS_MODEL_TESTS=1` only: the model is not part of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::vectors::{cosine, relative};
use common::{model, shared};
use lens_core::{Content, Exchange, Quiet};
use lens_encoder::{Encoder, EncoderOptions, Pooling, TemplateChoice};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

#[test]
fn gemma_agrees_with_transformers() {
    let Some(model) = model() else { return };
    let golden = std::fs::read(shared().join("golden/gemma-3-270m.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let cases = golden["texts"].as_array().unwrap();
    let texts: Vec<String> = cases.iter().map(|c| c["text"].as_str().unwrap().to_owned()).collect();
    let mut worst = (1.0, 0.0f64, String::new());
    for (layer, pooling) in [
        (0, Pooling::Last),
        (9, Pooling::Last),
        (17, Pooling::Last),
        (-1, Pooling::Last),
        (-1, Pooling::Mean),
    ] {
        let options = EncoderOptions::of(layer, pooling);
        let encoder = Encoder::open(&model, &options).unwrap();
        for (i, (case, text)) in cases.iter().zip(&texts).enumerate() {
            let want: Vec<u32> =
                numbers(&case["input_ids"]).into_iter().map(|id| id as u32).collect();
            assert_eq!(encoder.token_ids(text).unwrap(), want, "text {i}");
        }
        let encoded = encoder.encode_texts(&texts, &Quiet).unwrap();
        for (i, (case, encoded)) in cases.iter().zip(encoded).enumerate() {
            let want = numbers(&case["layers"][layer.to_string()][pooling.to_string()]);
            let (cos, off) = (cosine(&encoded.vector, &want), relative(&encoded.vector, &want));
            assert!(cos >= 0.9999, "text {i}, layer {layer}, {pooling}: cosine {cos}");
            if cos < worst.0 {
                worst.0 = cos;
                worst.2 = format!("text {i}, layer {layer}, {pooling}");
            }
            worst.1 = worst.1.max(off);
        }
    }
    println!("worst cosine {:.9} ({}), worst relative distance {:.2e}", worst.0, worst.2, worst.1);
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
