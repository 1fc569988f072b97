//! Tokenizers whose steps multiply a text, take for ever, or want too much memory.

use super::fixtures::{ROWS, folder};
use super::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The tokenizer of `kind` with changes in its `tokenizer.json`.
fn changed(kind: &str, change: impl FnOnce(&mut Value)) -> Result<TextTokenizer> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        std::fs::copy(folder(kind).join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut file);
    std::fs::write(&path, file.to_string()).unwrap();
    TextTokenizer::from_folder(dir.path(), ROWS, false, SpecialTokens::Text)
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn grows(times: usize) -> Value {
    replace(json!({"String": "a"}), &"a".repeat(times))
}

fn normalizers(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "normalizers": steps})
}

fn split(source: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": source}, "behavior": "Isolated", "invert": false})
}

#[test]
fn a_text_is_not_multiplied_beyond_what_it_is() {
    let start = Instant::now();
    let nested = |inner: Value| normalizers(&[inner.clone(), normalizers(&[inner])]);
    for (what, steps) in [
        ("three times a thousand", normalizers(&vec![grows(1000); 3])),
        ("thirty times two", normalizers(&vec![grows(2); 30])),
        ("in sequences in sequences", nested(nested(nested(grows(100))))),
        ("wherever nothing is", replace(json!({"Regex": ""}), &"a".repeat(1 << 20))),
        ("before each piece", json!({"type": "Prepend", "prepend": "a".repeat(5 << 20)})),
        ("bytes as characters", normalizers(&vec![json!({"type": "ByteLevel"}); 40])),
    ] {
        let tokenizer = changed("qwen2", |file| file["normalizer"] = steps).unwrap();
        let error = tokenizer.text(&"aé".repeat(50)).unwrap_err().to_string();
        assert!(error.contains("could make"), "{what}: {error}");
    }
    // What grows little is as ever.
    let twice = changed("qwen2", |file| file["normalizer"] = grows(2)).unwrap();
    let plain = TextTokenizer::from_folder(&folder("qwen2"), ROWS, false, SpecialTokens::Text);
    assert_eq!(twice.text("abba").unwrap(), plain.unwrap().text("aabbaa").unwrap());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn what_is_decoded_is_not_multiplied_either() {
    let tokenizer = changed("qwen2", |file| {
        let steps = vec![grows(1000); 4];
        file["decoder"] = json!({"type": "Sequence", "decoders": steps});
    })
    .unwrap();
    let ids = tokenizer.text("aaaaaa").unwrap();
    let error = tokenizer.decode(&ids).unwrap_err().to_string();
    assert!(error.contains("could make"), "{error}");
}

#[test]
fn expressions_end() {
    let start = Instant::now();
    let text = "a".repeat(3000) + "!";
    for source in [r"(a+)+$", r"(?:a|aa|aaa)+$", r"(a|a?)+$"] {
        let pre = changed("qwen2", |file| {
            let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": false, "use_regex": false});
            file["pre_tokenizer"] =
                json!({"type": "Sequence", "pretokenizers": [split(source), byte_level]});
        });
        let error = pre.unwrap().text(&text).unwrap_err().to_string();
        assert!(error.contains("an expression"), "{source}: {error}");
        let normal = changed("qwen2", |file| {
            file["normalizer"] = replace(json!({"Regex": source}), "");
        });
        let error = normal.unwrap().text(&text).unwrap_err().to_string();
        assert!(error.contains("an expression"), "{source}: {error}");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn what_no_tokenizer_has_is_refused_when_it_is_opened() {
    let refused = |kind: &str, change: &dyn Fn(&mut Value)| {
        let start = Instant::now();
        let opened = changed(kind, |file| change(file)).err().expect("is refused");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        opened.to_string()
    };
    let error = refused("qwen2", &|file| file["pre_tokenizer"] = split("((a{999}){999}){999}"));
    assert!(error.contains("repeats itself"), "{error}");
    let error = refused("qwen2", &|file| file["pre_tokenizer"] = split(&"a|".repeat(60_000)));
    assert!(error.contains("an expression has 120000 bytes"), "{error}");
    let error = refused("qwen2", &|file| file["normalizer"] = normalizers(&vec![grows(1); 999]));
    assert!(error.contains("more than 64 steps"), "{error}");
    let error = refused("qwen2", &|file| {
        let step = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true});
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": vec![step; 30]});
    });
    assert!(error.contains("pre-tokenizers make"), "{error}");
    // A token that is in every place tried, and a frame longer than any text.
    let error = refused("qwen2", &|file| {
        file["model"]["vocab"]["a".repeat(9000)] = json!(0);
    });
    assert!(error.contains("a token of 9000 bytes"), "{error}");
    let error = refused("qwen2", &|file| {
        let mut added = file["added_tokens"][0].clone();
        (added["id"], added["content"]) = (json!(900), json!("a".repeat(9000)));
        file["added_tokens"].as_array_mut().unwrap().push(added);
    });
    assert!(error.contains("added tokens are too long"), "{error}");
    let error = refused("bert", &|file| {
        file["model"]["max_input_chars_per_word"] = json!(1 << 30);
    });
    assert!(error.contains("max_input_chars_per_word"), "{error}");
    let error = refused("bert", &|file| {
        let single = file["post_processor"]["single"].clone();
        let special = single[0].clone();
        let mut many = vec![special; 2000];
        many.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        file["post_processor"]["single"] = json!(many);
    });
    assert!(error.contains("adds 2000 tokens to a text"), "{error}");
}
