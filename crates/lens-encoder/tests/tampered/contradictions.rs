//! Models that say two things: each is refused with an error that names what is wrong.

use std::path::Path;

use lens_core::{Content, Exchange, Quiet};
use lens_encoder::{Encoder, EncoderError, EncoderOptions, Precision, TemplateChoice};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{copy, ids, reference, text, write};

/// A copy of a reference model with some entries of its configuration replaced.
fn with(name: &str, entries: Value) -> TempDir {
    let dir = copy(&reference(name));
    let path = dir.path().join("config.json");
    let mut config = crate::json(&path);
    config.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
    write(&path, &config);
    dir
}

/// What opening a model and computing ids fails with.
fn error(path: &Path) -> EncoderError {
    ids(path, Precision::F32).map(drop).expect_err("a contradiction was accepted")
}

#[track_caller]
fn says(error: &EncoderError, parts: &[&str]) {
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{said:?} lacks one of {parts:?}");
    assert!(!said.contains('\n'), "{said}");
}

#[test]
fn more_or_fewer_layers_than_weights() {
    let dir = with("llama3", json!({"num_hidden_layers": 4}));
    let e = error(dir.path());
    assert!(matches!(&e, EncoderError::MissingTensor { name, .. } if name.contains("layers.3.")));
    let dir = with("llama3", json!({"num_hidden_layers": 2}));
    let e = error(dir.path());
    assert!(matches!(e, EncoderError::CorruptModel { .. }));
    says(&e, &["model.layers.2.", "configuration knows nothing of it"]);
}

#[test]
fn widths_that_disagree_with_the_weights() {
    for (entries, tensor) in [
        (json!({"hidden_size": 64}), "model.embed_tokens.weight"),
        (json!({"intermediate_size": 30}), "model.layers.0.mlp.gate_proj.weight"),
        (json!({"num_attention_heads": 8}), "model.layers.0.self_attn.q_proj.weight"),
        (json!({"num_key_value_heads": 1}), "model.layers.0.self_attn.k_proj.weight"),
        (json!({"head_dim": 16}), "model.layers.0.self_attn.q_proj.weight"),
    ] {
        let dir = with("llama3", entries);
        let e = error(dir.path());
        assert!(matches!(&e, EncoderError::TensorShape { .. }), "{e}");
        says(&e, &[tensor, "has shape", "expected"]);
    }
}

#[test]
fn numbers_that_no_model_has() {
    for (name, entries, parts) in [
        ("llama3", json!({"head_dim": 7}), ["head width", "odd: 7"]),
        (
            "llama3",
            json!({"num_key_value_heads": 3}),
            ["key/value heads", "3 does not divide the 4"],
        ),
        ("llama3", json!({"num_attention_heads": 0}), ["num_attention_heads", "is 0"]),
        ("llama3", json!({"hidden_size": null}), ["hidden_size", "is missing"]),
        ("llama3", json!({"rms_norm_eps": "small"}), ["rms_norm_eps", "\"small\""]),
        ("llama3", json!({"rms_norm_eps": -1.0}), ["norm epsilon", "is -1"]),
        ("llama3", json!({"hidden_act": "relu6"}), ["hidden_act", "'relu6' is not supported"]),
        (
            "llama3",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            ["rope_scaling", "'yarn'"],
        ),
        (
            "llama3",
            json!({"rope_scaling": {"rope_type": "linear"}}),
            ["rope_scaling", "lacks factor"],
        ),
        ("llama3", json!({"rope_scaling": 8}), ["rope_scaling", "is 8"]),
        ("llama3", json!({"rope_scaling": {"rope_type": 3}}), ["rope_type", "is 3"]),
        (
            "llama3",
            json!({"quantization_config": {"quant_method": "awq"}}),
            ["quantization_config", "'awq'"],
        ),
        ("gemma2", json!({"attn_logit_softcapping": 0.0}), ["soft cap", "is 0"]),
        ("gemma2", json!({"query_pre_attn_scalar": 1e308}), ["attention scale", "is 0"]),
        ("gemma2", json!({"layer_types": ["full_attention"]}), ["layer_types", "is not a list of"]),
        (
            "bert",
            json!({"max_position_embeddings": 1u64 << 30}),
            ["position_embeddings", "has 128 rows"],
        ),
        (
            "bert",
            json!({"position_embedding_type": "relative_key"}),
            ["position_embedding_type", "relative_key"],
        ),
    ] {
        let dir = with(name, entries.clone());
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::Metadata { .. }), "{entries}: {e}");
        says(&e, &parts);
    }
}

#[test]
fn weights_of_another_family() {
    for (name, kind, tensor) in [
        ("qwen2", "llama", "model.layers.0.self_attn.k_proj.bias"),
        ("qwen3", "llama", "model.layers.0.self_attn.k_norm.weight"),
        ("gemma2", "llama", "model.layers.0.post_feedforward_layernorm.weight"),
        ("gemma3", "gemma2", "model.layers.0.self_attn.k_norm.weight"),
    ] {
        let dir = with(name, json!({"model_type": kind, "hidden_act": "silu"}));
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::CorruptModel { .. }), "{e}");
        says(&e, &[tensor, "configuration knows nothing of it"]);
    }
    for (name, kind, tensor) in [
        ("llama3", "qwen2", "q_proj.bias"),
        ("llama3", "qwen3", "q_norm.weight"),
        ("llama3", "phi3", "qkv_proj.weight"),
        ("qwen2", "bert", "word_embeddings.weight"),
    ] {
        let dir = with(name, json!({"model_type": kind}));
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::MissingTensor { .. }), "{e}");
        says(&e, &[tensor, "is missing"]);
    }
    let dir = with("llama3", json!({"model_type": "rwkv9"}));
    let e = error(dir.path());
    assert!(matches!(e, EncoderError::UnknownArchitecture { .. }), "{e}");
    says(&e, &["'rwkv9'", "llama, mistral"]);
}

#[test]
fn files_that_are_missing_or_no_files() {
    let without = |name: &str, gone: &[&str]| {
        let dir = copy(&reference(name));
        gone.iter().for_each(|file| std::fs::remove_file(dir.path().join(file)).unwrap());
        dir
    };
    let dir = without("llama3", &["config.json"]);
    let e = error(dir.path());
    assert!(matches!(e, EncoderError::Io { .. }), "{e}");
    says(&e, &["config.json"]);
    std::fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    says(&error(dir.path()), &["adapter", "merge"]);

    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let dir = without("qwen2", &shards);
    let e = error(dir.path());
    let EncoderError::MissingShards { missing, .. } = &e else { panic!("{e}") };
    assert_eq!(missing, &shards);
    says(&e, &shards);

    let dir = without("llama3", &["model.safetensors"]);
    says(&error(dir.path()), &["1 of the model's weight files", "model.safetensors"]);
    std::fs::write(dir.path().join("pytorch_model.bin"), "pickle").unwrap();
    says(&error(dir.path()), &["pickled weights", "save_pretrained"]);

    for file in ["config.json", "model.safetensors"] {
        let dir = copy(&reference("llama3"));
        std::fs::write(dir.path().join(file), "").unwrap();
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::CorruptModel { .. }), "{e}");
        says(&e, &[file]);
        std::fs::remove_file(dir.path().join(file)).unwrap();
        std::fs::create_dir(dir.path().join(file)).unwrap();
        says(&error(dir.path()), &[file]);
    }
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("m.gguf");
    std::fs::write(&empty, "").unwrap();
    says(&error(&empty), &["m.gguf", "empty"]);
    says(&error(&dir.path().join("none.gguf")), &["none.gguf"]);
    // A folder of GGUF files alone is the model in it.
    says(&error(dir.path()), &["m.gguf", "empty"]);
    std::fs::remove_file(&empty).unwrap();
    says(&error(dir.path()), &["config.json"]);
}

#[test]
fn an_index_does_not_reach_out_of_its_folder_or_lie() {
    let dir = copy(&reference("qwen2"));
    let path = dir.path().join("model.safetensors.index.json");
    let index = crate::json(&path);
    let tensor = "model.layers.0.mlp.up_proj.weight";
    for place in
        ["../model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "", "x.bin"]
    {
        let mut index = index.clone();
        index["weight_map"][tensor] = json!(place);
        write(&path, &index);
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::CorruptModel { .. }), "{e}");
        says(&e, &[&format!("'{tensor}' is placed in '{place}'")]);
    }
    let other = "model-00002-of-00002.safetensors";
    let mut lying = index.clone();
    assert_ne!(lying["weight_map"][tensor], other);
    lying["weight_map"][tensor] = json!(other);
    write(&path, &lying);
    says(&error(dir.path()), &[tensor, other, "where it is not"]);
    let mut missing = index.clone();
    missing["weight_map"][tensor] = json!("model-00003-of-00003.safetensors");
    write(&path, &missing);
    says(&error(dir.path()), &["1 of the model's", "model-00003-of-00003"]);
}

/// Names another type of the same width in the header of a safetensors file.
fn stored_as(dtype: &str, tensor: &str) -> TempDir {
    let dir = copy(&reference("llama3"));
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let end = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    header[tensor]["dtype"] = json!(dtype);
    if dtype.contains('8') {
        let rows = header[tensor]["shape"][0].as_u64().unwrap();
        header[tensor]["shape"][0] = json!(2 * rows);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let parts = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[end..]];
    std::fs::write(&path, parts.concat()).unwrap();
    dir
}

#[test]
fn types_that_cannot_be_decoded_are_named() {
    let tensor = "model.layers.1.mlp.up_proj.weight";
    for dtype in ["F8_E4M3", "I8", "I16"] {
        let dir = stored_as(dtype, tensor);
        let e = error(dir.path());
        assert!(matches!(e, EncoderError::TensorType { .. }), "{e}");
        says(&e, &[tensor, dtype]);
    }
    let bytes = std::fs::read(reference("llama3").join("model.gguf")).unwrap();
    let name = b"blk.1.ffn_up.weight";
    // Behind the name: the number of dimensions (2), the dimensions, the type.
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 16;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    for (id, found) in [(18u32, "IQ3_XXS"), (9, "Q8_1"), (39, "MXFP4"), (1000, "ggml type 1000")] {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&id.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let e = error(&path);
        assert!(matches!(e, EncoderError::TensorType { .. }), "{e}");
        says(&e, &["'blk.1.ffn_up.weight' is stored as", found]);
    }
}

#[test]
fn a_part_of_a_split_gguf_file_is_recognised() {
    let bytes = std::fs::read(reference("llama3").join("model.gguf")).unwrap();
    let entries = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let key = b"split.count";
    let mut split = bytes[..16].to_vec();
    split.extend((entries + 1).to_le_bytes());
    split.extend((key.len() as u64).to_le_bytes());
    split.extend(key);
    // Type u16, the value, and a name of some length to keep the data's alignment.
    split.extend(2u32.to_le_bytes());
    split.extend(3u16.to_le_bytes());
    let pad = split.len() - 24;
    split.extend(&bytes[24..]);
    assert!(pad < 32, "{pad}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    // The data moves by as much as the header grew, rounded up to the alignment; a file that is
    // too long is no contradiction.
    split.extend([0; 64]);
    std::fs::write(&path, split).unwrap();
    says(&error(&path), &["one of the 3 parts of a model", "NAME-00001-of-00003.gguf"]);
}

#[test]
fn tokenizers_that_are_missing_or_another_models() {
    let dir = copy(&reference("llama3"));
    let tokenizer = dir.path().join("tokenizer.json");
    std::fs::copy(reference("gemma3").join("tokenizer.json"), &tokenizer).unwrap();
    let e = text(dir.path()).unwrap_err();
    let EncoderError::ForeignTokenizer { highest, rows, .. } = &e else { panic!("{e}") };
    assert!(*highest as usize >= *rows && *rows == 565, "{e}");
    says(&e, &["tokenizer of another model", "565"]);
    ids(dir.path(), Precision::F32).unwrap();

    std::fs::remove_file(&tokenizer).unwrap();
    let e = text(dir.path()).unwrap_err();
    assert!(matches!(e, EncoderError::TokenizerFile { .. }), "{e}");
    says(&e, &["tokenizer.json", "is missing"]);
    ids(dir.path(), Precision::F32).unwrap();

    std::fs::write(&tokenizer, "{\"model\": ").unwrap();
    says(&text(dir.path()).unwrap_err(), &["tokenizer.json", "ends too early"]);
}

#[test]
fn ids_beyond_the_embeddings_are_refused() {
    let encoder = Encoder::open(&reference("llama3"), &EncoderOptions::default()).unwrap();
    let e = encoder.encode_ids(&[vec![1, 565]], &Quiet).unwrap_err();
    says(&e, &["565", "embedded tokens"]);
}

fn exchange(prompt: &str, response: &str) -> Exchange {
    Exchange { prompt: Content::Text(prompt.into()), response: Content::Text(response.into()) }
}

/// A prompt that does not fit loses its beginning; what a reward is for, the response, stays.
#[test]
fn prompts_beyond_the_context_are_shortened_and_flagged() {
    for (name, context) in [("llama3", 256), ("bert", 128)] {
        let options = EncoderOptions { template: TemplateChoice::Plain, ..Default::default() };
        let encoder = Encoder::open(&reference(name), &options).unwrap();
        let long = "the question is how many words there are ".repeat(80);
        let other = format!("a beginning that is lost. {long}");
        let all = [
            exchange(&long, "The good answer."),
            exchange(&other, "The good answer."),
            exchange(&long, "The bad reply."),
            exchange("A question?", "The good answer."),
        ];
        let encoded = encoder.encode_exchanges(&all, &Quiet).unwrap();
        let flags: Vec<bool> = encoded.iter().map(|e| e.truncated).collect();
        assert_eq!(flags, [true, true, true, false], "{name}");
        assert!(encoded[..3].iter().all(|e| e.tokens == context), "{name}");
        assert_eq!(encoded[0].ids_hash, encoded[1].ids_hash, "{name}");
        assert_ne!(encoded[0].vector, encoded[2].vector, "{name}");
        // The short exchange ends with the same ids: the whole response, and what follows it.
        let (full, short) =
            (encoder.exchange_ids(&all[0]).unwrap(), encoder.exchange_ids(&all[3]).unwrap());
        let tail = full.iter().rev().zip(short.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(tail >= 3, "{name}: {tail} of {short:?}");
    }
}
