//! Language models from files, and what embedding servers answer.

use crate::scratch::{files, in_file, in_folder};
use lens_core::{Content, Exchange, Quiet};
use lens_encoder::{Encoder, EncoderOptions, ServerApi, testing};
use std::path::Path;

/// The files of a model folder that are read.
const FOLDER: [&str; 11] = [
    "adapter_config.json",
    "chat_template.jinja",
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-00001-of-00002.gguf",
    "model-00002-of-00002.gguf",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];

/// A GGUF file, to the vector of a text.
pub fn gguf(bytes: &[u8]) {
    in_file("model.gguf", bytes, encode);
}

/// A folder with the files of a model, or with the parts of a GGUF file.
pub fn model_folder(bytes: &[u8]) {
    in_folder(bytes, &FOLDER, encode);
}

fn encode(model: &Path) {
    let options = EncoderOptions { max_length: 16, batch_tokens: 16, ..EncoderOptions::default() };
    let Ok(encoder) = Encoder::open(model, &options) else { return };
    let text = |text: &str| Content::Text(text.to_owned());
    let exchange = Exchange { prompt: text("Hi <s> a"), response: text("b\u{fe0f} </s>") };
    let _ = (encoder.token_ids("ab a"), encoder.exchange_ids(&exchange));
    let _ = encoder.rendered_ids("<s>[INST] Hi [/INST]");
    if let Ok(vectors) = encoder.encode_exchanges(&[exchange], &Quiet) {
        assert!(vectors.iter().all(|v| v.vector.iter().all(|x| x.is_finite())));
    }
}

/// The bodies that an embedding server answers with: `=== vectors`, `=== tei` and `=== refusal`.
pub fn server_answer(bytes: &[u8]) {
    for (name, body) in files(bytes) {
        let api = match name {
            "vectors" => ServerApi::OpenAi,
            "tei" => ServerApi::Tei,
            _ => {
                let shown = testing::server_refusal(body);
                assert!(!shown.contains(char::is_control), "{shown:?}");
                continue;
            }
        };
        for texts in 1..=3 {
            if let Some(vectors) = testing::server_vectors(api, body, texts) {
                assert_eq!(vectors.len(), texts);
                assert!(vectors.iter().flatten().all(|x| x.is_finite()));
            }
        }
    }
}
