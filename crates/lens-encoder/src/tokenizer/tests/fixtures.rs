//! The small tokenizers, as folders and as the GGUF files that llama.cpp's converter makes of them.

use super::super::*;
use crate::model::gguf::GgufFile;
use crate::model::stored::StoredType;
use crate::testing::gguf::{Entry, Tensor, file};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

/// Kinds that exist in both forms.
pub const KINDS: [&str; 7] = ["llama3", "qwen2", "llama2", "mistral", "gemma", "phi3", "bert"];

/// More embeddings than any of them has tokens.
pub const ROWS: usize = 1024;

pub fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers"))
}

pub fn folder(kind: &str) -> PathBuf {
    data().join(kind)
}

pub fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn open(kind: &str, special: SpecialTokens) -> TextTokenizer {
    let add_bos = adds_bos_of_folder(&folder(kind)).unwrap();
    TextTokenizer::from_folder(&folder(kind), ROWS, add_bos, special).unwrap()
}

pub fn open_gguf(kind: &str, special: SpecialTokens) -> TextTokenizer {
    let (_dir, file) = gguf(&metadata(kind));
    TextTokenizer::from_gguf(&file, ROWS, adds_bos(&file).unwrap(), special).unwrap()
}

/// Writes metadata as a model file with one small tensor.
pub fn gguf(metadata: &[(String, Entry)]) -> (TempDir, GgufFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let tensor = Tensor {
        name: "x".into(),
        shape: vec![1, 32],
        values: vec![0.0; 32],
        stored: StoredType::F32,
    };
    std::fs::write(&path, file(metadata, &[tensor])).unwrap();
    let file = GgufFile::open(&path).unwrap();
    (dir, file)
}

/// The metadata that llama.cpp's converter writes for a kind.
pub fn metadata(kind: &str) -> Vec<(String, Entry)> {
    let file = json(folder(kind).join("tokenizer.json"));
    let config = json(folder(kind).join("tokenizer_config.json"));
    let mut tokens: Vec<(String, i32)> = Vec::new();
    let mut put = |id: usize, token: &str, kind: i32| {
        tokens.resize(tokens.len().max(id + 1), (String::new(), 5));
        tokens[id] = (token.to_owned(), kind);
    };
    for (token, id) in file["model"]["vocab"].as_object().unwrap() {
        put(id.as_u64().unwrap() as usize, token, 1);
    }
    for entry in file["added_tokens"].as_array().unwrap() {
        let kind = if entry["special"] == true { 3 } else { 4 };
        let name = entry["content"].as_str().unwrap().replace('▁', " ");
        put(entry["id"].as_u64().unwrap() as usize, &name, kind);
    }
    let id_of = |name: &Value| tokens.iter().position(|(t, _)| name.as_str() == Some(t));
    let mut all: Vec<(String, Entry)> = Vec::new();
    for (role, key) in [
        ("bos", "bos"),
        ("eos", "eos"),
        ("unk", "unknown"),
        ("pad", "padding"),
        ("cls", "cls"),
        ("sep", "seperator"),
        ("mask", "mask"),
    ] {
        if let Some(id) = id_of(&config[format!("{role}_token")]) {
            all.push((format!("tokenizer.ggml.{key}_token_id"), Entry::U32(id as u32)));
        }
    }
    let (model, pre, architecture) = match kind {
        "llama3" => ("gpt2", Some("llama-bpe"), "llama"),
        "qwen2" => ("gpt2", Some("qwen2"), "qwen2"),
        "gemma" => ("llama", None, "gemma3"),
        "phi3" => ("llama", None, "phi3"),
        "bert" => ("bert", None, "bert"),
        _ => ("llama", None, "llama"),
    };
    let text = |value: &str| Entry::String(value.to_owned());
    let mut set = |key: &str, value: Entry| all.push((key.to_owned(), value));
    set("general.architecture", text(architecture));
    set("tokenizer.ggml.model", text(model));
    if let Some(pre) = pre {
        set("tokenizer.ggml.pre", text(pre));
        let merges = file["model"]["merges"].as_array().unwrap().iter();
        let merges = merges.map(|m| {
            Entry::String(format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()))
        });
        set("tokenizer.ggml.merges", Entry::Array(merges.collect()));
    }
    match model {
        "llama" => {
            let scores = (0..tokens.len()).map(|id| Entry::F32(-(id as f32)));
            set("tokenizer.ggml.scores", Entry::Array(scores.collect()));
            for (id, (token, kind)) in tokens.iter_mut().enumerate() {
                if token.starts_with("<0x") {
                    *kind = 6;
                }
                if token == "<unk>" && id < 10 {
                    *kind = 2;
                }
            }
            set("tokenizer.ggml.add_space_prefix", Entry::Bool(kind != "gemma"));
            set("tokenizer.ggml.add_bos_token", Entry::Bool(kind != "phi3"));
        }
        "bert" => {
            for (token, _) in &mut tokens {
                *token = match token.strip_prefix("##") {
                    _ if token.starts_with('[') && token.ends_with(']') => continue,
                    Some(inside) => inside.to_owned(),
                    None => format!("▁{token}"),
                };
            }
        }
        _ if kind == "qwen2" => set("tokenizer.ggml.add_bos_token", Entry::Bool(false)),
        _ => {}
    }
    let names = tokens.iter().map(|(t, _)| Entry::String(t.clone())).collect();
    set("tokenizer.ggml.tokens", Entry::Array(names));
    let kinds = tokens.iter().map(|(_, k)| Entry::I32(*k)).collect();
    set("tokenizer.ggml.token_type", Entry::Array(kinds));
    all
}
