//! An embedding server as vLLM, text-embeddings-inference and others answer.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::{Reply, Request};

pub const DIM: usize = 8;
pub const MODEL: &str = "org/served-model";

/// The vector of a text: the same for the same text, not of length 1.
pub fn vector(text: &str) -> Vec<f32> {
    let mut state = 1469598103934665603u64;
    for b in text.bytes() {
        state = (state ^ u64::from(b)).wrapping_mul(1099511628211);
    }
    let value = |i: usize| (state.rotate_left(7 * i as u32) % 2001) as f32 / 250.0 - 4.0;
    (0..DIM).map(value).collect()
}

pub fn unit(text: &str) -> Vec<f32> {
    let v = vector(text);
    let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    v.iter().map(|x| x / norm).collect()
}

pub fn texts(request: &Request) -> Vec<String> {
    let body = request.json();
    if let Some(messages) = body["messages"].as_array() {
        let turns = messages.iter().map(|m| format!("<{}>{}", m["role"], m["content"]));
        return vec![turns.collect()];
    }
    let input = if body["input"].is_null() { &body["inputs"] } else { &body["input"] };
    serde_json::from_value(input.clone()).unwrap()
}

/// An answer of `/v1/embeddings` with these vectors.
pub fn answer(vectors: &[Vec<f32>]) -> Value {
    let item =
        |(i, v): (usize, &Vec<f32>)| json!({"object": "embedding", "index": i, "embedding": v});
    let data: Vec<Value> = vectors.iter().enumerate().map(item).collect();
    let tokens = 10 * vectors.len();
    json!({"object": "list", "data": data, "model": MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

pub fn models(owner: &str) -> Value {
    json!({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": owner}]})
}

/// What a well-behaved server of that owner answers.
pub fn well(request: &Request, owner: &str) -> Reply {
    match (request.path.as_str(), owner) {
        ("/info", "tei") => Reply::json(&json!({"model_id": MODEL, "max_input_length": 512,
                "max_client_batch_size": 4})),
        ("/embed", "tei") => {
            let vectors: Vec<_> = texts(request).iter().map(|t| vector(t)).collect();
            Reply::json(&json!(vectors)).with("x-compute-tokens", 10 * vectors.len())
        }
        ("/v1/models", "vllm" | "llamacpp" | "openai") => Reply::json(&models(owner)),
        ("/models", "infinity") => Reply::json(&models(owner)),
        ("/v1/embeddings", "vllm" | "llamacpp" | "openai") | ("/embeddings", "infinity") => {
            let body = request.json();
            let raw = match owner {
                "vllm" => body["use_activation"] == json!(false),
                "llamacpp" => body["embd_normalize"] == json!(-1),
                _ => false,
            };
            let of = |t: &String| if raw { vector(t) } else { unit(t) };
            Reply::json(&answer(&texts(request).iter().map(of).collect::<Vec<_>>()))
        }
        _ => Reply::new(404, r#"{"detail": "Not Found"}"#),
    }
}

/// Whether it is a request for vectors after the probe of the opening.
pub fn is_work(request: &Request) -> bool {
    request.path.contains("embed")
        && !texts(request).iter().any(|t| t.starts_with("The river rose"))
}
