//! Against transformers' float32 hidden states of the same weights, of texts written for this
//! repository (`scripts/reference_vectors.py`).
//!
//! Runs with `LENS_MODEL_TESTS=1` only: the models are not part of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::vectors::{cosine, decode, relative};
use common::{model, named, reference};
use lens_core::{Content, Exchange, Message, Quiet};
use lens_encoder::{
    Encoded, Encoder, EncoderOptions, LayerChoice, Pooling, TemplateChoice, ViewChoice,
};
use serde_json::Value;
use test_needs::needs;

/// Whole texts are at least this near to transformers' vectors.
const COSINE: f64 = 0.9999;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// The exchange of a reference text that is a chat: all but the last turn, and the last.
fn exchange(text: &Value) -> Option<Exchange> {
    let turn = |m: &Value| Message {
        role: m["role"].as_str().unwrap().to_owned(),
        content: m["content"].as_str().unwrap().to_owned(),
    };
    let mut turns: Vec<Message> = text["messages"].as_array()?.iter().map(turn).collect();
    let response = Content::Messages(vec![turns.pop().unwrap()]);
    Some(Exchange { prompt: Content::Messages(turns), response })
}

/// The worst cosine and relative distance so far.
struct Worst {
    cosine: f64,
    off: f64,
}

impl Worst {
    /// Holds the vectors of one text, a view after the other, against the reference.
    fn see(&mut self, case: &Value, views: &[(i32, Pooling)], encoded: &Encoded) {
        let dim = encoded.vector.len() / views.len();
        for ((layer, pooling), got) in views.iter().zip(encoded.vector.chunks_exact(dim)) {
            let want = decode(&case["vectors"][format!("{layer}/{pooling}")]);
            let (cos, off) = (cosine(got, &want), relative(got, &want));
            let name = &case["name"];
            assert!(cos >= COSINE, "{name}, layer {layer}, {pooling}: cosine {cos}");
            self.cosine = self.cosine.min(cos);
            self.off = self.off.max(off);
        }
    }
}

/// Holds ids and hidden states of all reference texts against ours; every view in one pass. A chat
/// is rendered with
/// `chat`, where the model chats.
fn agrees(model: &Path, name: &str, views: &[(i32, Pooling)], chat: Option<TemplateChoice>) {
    let golden = reference(name);
    let cases = golden["texts"].as_array().unwrap();
    let texts = reference("texts.json");
    let texts = texts.as_array().unwrap().iter();
    let (chats, plain): (Vec<&Value>, Vec<&Value>) =
        texts.partition(|text| text["messages"].is_array());
    assert_eq!(cases.len(), plain.len() + if chat.is_some() { chats.len() } else { 0 });
    let case = |text: &Value| cases.iter().find(|case| case["name"] == text["name"]).unwrap();

    let choice = |(layer, pooling): &(i32, Pooling)| ViewChoice {
        layer: LayerChoice::Index(*layer),
        pooling: *pooling,
        suffix: None,
    };
    let open = |template| {
        let views = views.iter().map(choice).collect();
        let options = EncoderOptions { views, template, ..Default::default() };
        Encoder::open(model, &options).unwrap()
    };
    let mut worst = Worst { cosine: 1.0, off: 0.0 };

    let encoder = open(TemplateChoice::Plain);
    let strings: Vec<String> =
        plain.iter().map(|text| text["text"].as_str().unwrap().to_owned()).collect();
    for (text, string) in plain.iter().zip(&strings) {
        let want = ids(&case(text)["input_ids"]);
        assert_eq!(encoder.token_ids(string).unwrap(), want, "{}", text["name"]);
    }
    let encoded = encoder.encode_texts(&strings, &Quiet).unwrap();
    for (text, encoded) in plain.iter().zip(&encoded) {
        worst.see(case(text), views, encoded);
    }

    if let Some(template) = chat {
        let encoder = open(template);
        for text in chats {
            let exchange = exchange(text).unwrap();
            let want = ids(&case(text)["input_ids"]);
            assert_eq!(encoder.exchange_ids(&exchange).unwrap(), want, "{}", text["name"]);
            let encoded = encoder.encode_exchanges(&[exchange], &Quiet).unwrap();
            worst.see(case(text), views, &encoded[0]);
        }
    }
    println!("{name}: worst cosine {:.9}, off {:.1e}", worst.cosine, worst.off);
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn gemma_agrees_with_transformers() {
    let (last, mean) = (Pooling::Last, Pooling::Mean);
    let views = [(0, last), (9, last), (17, last), (-1, last), (-1, mean)];
    // The base model has no template of its own.
    let template = reference("gemma-3-270m.json")["chat_template"].as_str().unwrap().to_owned();
    let chat = Some(TemplateChoice::Custom(template));
    agrees(&model(), "gemma-3-270m.json", &views, chat);
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn qwen_agrees_with_transformers() {
    let (last, mean) = (Pooling::Last, Pooling::Mean);
    let views = [(0, last), (14, last), (-1, last), (-1, mean)];
    let chat = Some(TemplateChoice::Chat);
    agrees(&named("LENS_MODEL_QWEN"), "qwen2.5-coder-1.5b.json", &views, chat);
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn minilm_agrees_with_transformers() {
    let (last, mean) = (Pooling::Last, Pooling::Mean);
    let views = [(0, mean), (3, last), (-1, last), (-1, mean)];
    agrees(&named("LENS_MODEL_MINILM"), "all-MiniLM-L6-v2.json", &views, None);
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn a_chat_template_yields_gemmas_control_tokens() {
    let model = model();
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
