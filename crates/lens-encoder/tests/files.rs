//! What a model's files say of its texts and vectors, on tiny models: padding tokens, EOS, pooling,
//! parts of a split file; and what becomes of files that change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::{Content, Exchange, Quiet};
use lens_encoder::testing::TinyModel;
use lens_encoder::{
    Encoded, Encoder, EncoderError, EncoderOptions, Pooling, Precision, SpecialTokens,
    TemplateChoice, TextEncoder as _,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn data(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(model)
}

/// A copy of a model folder, to be changed.
fn copy(model: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn plain() -> EncoderOptions {
    EncoderOptions { template: TemplateChoice::Plain, ..EncoderOptions::default() }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

fn vectors(encoded: &[Encoded]) -> Vec<&[f32]> {
    encoded.iter().map(|e| &*e.vector).collect()
}

const TEXTS: [&str; 3] = ["Seven minutes.", "How long should an egg boil?", "The ninth of May"];

#[test]
fn a_padding_token_beyond_the_embeddings_is_refused_only_where_a_text_has_it() {
    let dir = copy("llama3");
    // The model embeds 565 tokens, 0 to 564.
    change(&dir.path().join("tokenizer.json"), |tokenizer| {
        let mut pad = tokenizer["added_tokens"][0].clone();
        (pad["id"], pad["content"]) = (json!(565), json!("<|pad|>"));
        tokenizer["added_tokens"].as_array_mut().unwrap().push(pad);
    });
    change(&dir.path().join("tokenizer_config.json"), |config| {
        config["pad_token"] = json!("<|pad|>");
    });
    let (padded, original) = (dir.path(), data("llama3"));
    let open = |path: &Path, special_tokens| {
        Encoder::open(path, &EncoderOptions { special_tokens, ..plain() }).unwrap()
    };
    let (a, b) = (open(padded, SpecialTokens::Text), open(&original, SpecialTokens::Text));
    let all = texts(&TEXTS);
    let (a, b) = (a.encode_texts(&all, &Quiet).unwrap(), b.encode_texts(&all, &Quiet).unwrap());
    assert_eq!(vectors(&a), vectors(&b));

    let parsing = open(padded, SpecialTokens::Parse);
    let with_pad = texts(&["fine", "an egg<|pad|>"]);
    let error = parsing.encode_texts(&with_pad, &Quiet).unwrap_err();
    let EncoderError::NotEmbedded { index, token, id, rows } = &error else { panic!("{error}") };
    assert_eq!((*index, token.as_str(), *id, *rows), (1, "<|pad|>", 565, 565));
    assert!(error.to_string().contains("text 1 has the token \"<|pad|>\" (id 565)"), "{error}");
}

#[test]
fn templates_name_every_special_token() {
    let dir = copy("gemma3");
    let source = "{{ bos_token }}{{ messages[0].content }}{{ pad_token }}{{ unk_token }}\
        {{ eos_token }}{% if sep_token is defined %}sep{% endif %}";
    let exchange = Exchange {
        prompt: Content::Text("Hi".to_owned()),
        response: Content::Text("Yes".to_owned()),
    };
    let options = EncoderOptions {
        template: TemplateChoice::Custom(source.to_owned()),
        ..EncoderOptions::default()
    };
    let parse = EncoderOptions { special_tokens: SpecialTokens::Parse, ..plain() };
    for form in [dir.path().to_owned(), dir.path().join("model.gguf")] {
        let rendered = Encoder::open(&form, &options).unwrap().exchange_ids(&exchange).unwrap();
        let written = Encoder::open(&form, &parse).unwrap();
        assert_eq!(rendered, written.token_ids("<bos>Hi<pad><unk><eos>").unwrap());
    }
}

/// The same model file, whose metadata ask for EOS.
fn with_eos(gguf: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let flag =
        [text("tokenizer.ggml.add_eos_token"), 7u32.to_le_bytes().to_vec(), vec![1]].concat();
    // Filled up so that the tensors stay aligned.
    let head = [text("test.fill"), 8u32.to_le_bytes().to_vec()].concat();
    let left = (flag.len() + head.len() + 8).next_multiple_of(32) - flag.len() - head.len() - 8;
    let entries = [flag, head, text(&"x".repeat(left))].concat();
    let count = u64::from_le_bytes(gguf[16..24].try_into().unwrap()) + 2;
    [&gguf[..16], &count.to_le_bytes(), &entries, &gguf[24..]].concat()
}

#[test]
fn eos_is_added_where_the_configuration_asks_for_it_from_folder_and_file_alike() {
    let dir = copy("llama2");
    let gguf = dir.path().join("eos.gguf");
    std::fs::write(&gguf, with_eos(&std::fs::read(data("llama2").join("model.gguf")).unwrap()))
        .unwrap();
    change(&dir.path().join("tokenizer_config.json"), |config| {
        config["add_eos_token"] = json!(true);
    });
    let folder = Encoder::open(dir.path(), &plain()).unwrap();
    let file = Encoder::open(&gguf, &plain()).unwrap();
    let without = Encoder::open(&data("llama2"), &plain()).unwrap();
    // Without the space that the two forms of this tokenizer treat otherwise.
    for text in ["Seven", "x\n\ny"] {
        let ids = folder.token_ids(text).unwrap();
        assert_eq!(ids, file.token_ids(text).unwrap());
        assert_eq!(ids, [without.token_ids(text).unwrap(), vec![2]].concat());
    }
    // The post-processor adds none: said, and part of what decides the numbers.
    let [note] = &folder.notes()[..] else { panic!("{:?}", folder.notes()) };
    assert!(note.contains("add_eos_token = true") && note.contains("it is added"), "{note}");
    assert!(folder.identity().add_eos && !without.identity().add_eos);
    assert!(without.notes().is_empty() && file.notes().is_empty());

    // The other way round: what the post-processor adds stays, and that is said.
    change(&dir.path().join("tokenizer_config.json"), |config| {
        config["add_eos_token"] = json!(false);
    });
    change(&dir.path().join("tokenizer.json"), |tokenizer| {
        let eos = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        let processor = &mut tokenizer["post_processor"];
        processor["single"].as_array_mut().unwrap().push(eos);
        processor["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    });
    let kept = Encoder::open(dir.path(), &plain()).unwrap();
    assert_eq!(kept.token_ids("Seven").unwrap(), file.token_ids("Seven").unwrap());
    assert!(kept.notes()[0].contains("add_eos_token = false"), "{:?}", kept.notes());
    assert!(!kept.identity().add_eos);
}

#[test]
fn a_declared_pooling_that_no_view_has_is_said() {
    let modules = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]);
    let dir = copy("bert");
    let said = |pooling: Pooling| {
        let encoder = Encoder::open(dir.path(), &EncoderOptions::with_view(-1, pooling)).unwrap();
        encoder.notes()
    };
    assert!(said(Pooling::Last).is_empty());
    std::fs::write(dir.path().join("modules.json"), modules.to_string()).unwrap();
    assert!(said(Pooling::Last)[0].contains("1_Pooling/config.json, which is missing"));
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    let config = |config: Value| {
        std::fs::write(dir.path().join("1_Pooling/config.json"), config.to_string()).unwrap();
    };
    for declared in [
        json!({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}),
        json!({"word_embedding_dimension": 32, "pooling_mode": "mean"}),
    ] {
        config(declared);
        let notes = said(Pooling::Last);
        let [note] = &notes[..] else { panic!("{notes:?}") };
        assert!(note.contains("declares 'mean' pooling (1_Pooling/config.json)"), "{note}");
        assert!(note.contains("last token") && note.contains("--pooling mean"), "{note}");
        assert!(said(Pooling::Mean).is_empty());
    }
    config(json!({"pooling_mode": "cls"}));
    assert!(said(Pooling::First).is_empty() && said(Pooling::Mean)[0].contains("--pooling first"));
    config(json!({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}));
    assert!(said(Pooling::Mean)[0].contains("'mean and max' pooling"));
    // Whichever view is taken from now on.
    config(json!({"pooling_mode": "mean"}));
    let mut encoder = Encoder::open(dir.path(), &EncoderOptions::default()).unwrap();
    encoder.set_views(&EncoderOptions::with_view(-1, Pooling::Mean).views).unwrap();
    assert!(encoder.notes().is_empty());
    let outside = json!([{"path": "../up", "type": "sentence_transformers.models.Pooling"}]);
    std::fs::write(dir.path().join("modules.json"), outside.to_string()).unwrap();
    let error = Encoder::open(dir.path(), &EncoderOptions::default()).err().unwrap();
    assert!(error.to_string().contains("leaves the folder"), "{error}");
}

#[test]
fn a_split_model_is_one_model_whichever_part_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.gguf");
    let tiny = TinyModel::default();
    tiny.write(&whole).unwrap();
    let folder = dir.path().join("split");
    std::fs::create_dir(&folder).unwrap();
    let parts = tiny.write_parts(&folder, "tiny", 3).unwrap();
    assert!(parts[1].ends_with("tiny-00002-of-00003.gguf"));
    let wanted = Encoder::open(&whole, &plain()).unwrap();
    let wanted = wanted.encode_texts(&texts(&TEXTS), &Quiet).unwrap();
    let mut identities = Vec::new();
    for named in parts.iter().chain([&folder]) {
        let encoder = Encoder::open(named, &plain()).unwrap();
        let got = encoder.encode_texts(&texts(&TEXTS), &Quiet).unwrap();
        assert_eq!(vectors(&got), vectors(&wanted), "{}", named.display());
        identities.push(encoder.identity().clone());
    }
    assert!(identities.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(identities[0].model_file, "tiny-00001-of-00003.gguf");

    let refused = |path: &Path| Encoder::open(path, &plain()).err().unwrap().to_string();
    // Two models in a folder: one has to be named.
    std::fs::copy(&whole, folder.join("other.gguf")).unwrap();
    let error = refused(&folder);
    assert!(error.contains("other.gguf, tiny-00001-of-00003.gguf"), "{error}");
    // A part under another name, and one in the place of another.
    std::fs::copy(&parts[1], dir.path().join("renamed.gguf")).unwrap();
    let error = refused(&dir.path().join("renamed.gguf"));
    assert!(error.contains("one of the 3 parts of a model"), "{error}");
    std::fs::copy(&parts[0], &parts[1]).unwrap();
    let error = refused(&parts[2]);
    assert!(error.contains("it is part 1 by its header, 2 by its name"), "{error}");
    std::fs::remove_file(&parts[1]).unwrap();
    for named in [&parts[0], &parts[2]] {
        let error = refused(named);
        assert!(error.contains("are missing: tiny-00002-of-00003.gguf"), "{error}");
    }
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_used_is_an_error_and_not_the_end() {
    let folder = copy("qwen2");
    let gguf = folder.path().join("model.gguf");
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let shards: Vec<PathBuf> = shards.iter().map(|name| folder.path().join(name)).collect();
    let file = tempfile::tempdir().unwrap();
    let alone = file.path().join("model.gguf");
    std::fs::copy(&gguf, &alone).unwrap();
    for (model, files) in [(alone.as_path(), vec![alone.clone()]), (folder.path(), shards)] {
        for weights in [Precision::F32, Precision::Stored] {
            let encoder = Encoder::open(model, &EncoderOptions { weights, ..plain() }).unwrap();
            let whole: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
            let first = encoder.encode_texts(&texts(&TEXTS), &Quiet).unwrap();
            for file in &files {
                std::fs::File::options().write(true).open(file).unwrap().set_len(100).unwrap();
            }
            let error = encoder.encode_texts(&texts(&["Another text"]), &Quiet).unwrap_err();
            assert!(matches!(error, EncoderError::CorruptModel { .. }), "{error}");
            assert!(error.to_string().contains("became shorter while it was in use"), "{error}");
            // And as soon as all is there again, it goes on.
            for (file, bytes) in files.iter().zip(&whole) {
                std::fs::write(file, bytes).unwrap();
            }
            let again = encoder.encode_texts(&texts(&TEXTS), &Quiet).unwrap();
            assert_eq!(vectors(&again), vectors(&first), "{weights:?}");
        }
    }
}
