//! Files that cannot work, and what the user is told.

use super::fixtures::{ROWS, folder, gguf, metadata};
use super::*;
use crate::testing::gguf::Entry;
use std::path::Path;
use tempfile::TempDir;

fn copy(kind: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        std::fs::copy(folder(kind).join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn refusal(dir: &Path, rows: usize) -> String {
    let opened = TextTokenizer::from_folder(dir, rows, false, SpecialTokens::Text);
    opened.err().expect("is refused").to_string()
}

#[test]
fn folders_without_a_usable_tokenizer_are_refused() {
    let dir = copy("bert");
    let path = dir.path().join("tokenizer.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(refusal(dir.path(), ROWS).contains("ends too early"));
    std::fs::write(&path, b"").unwrap();
    assert!(refusal(dir.path(), ROWS).contains("ends too early"));
    std::fs::write(&path, b"<!DOCTYPE html>").unwrap();
    assert!(refusal(dir.path(), ROWS).contains("is not what it should be"));
    std::fs::write(&path, b"{\"model\": {\"type\": \"BPE\"}}").unwrap();
    assert!(refusal(dir.path(), ROWS).contains("is not what it should be"));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path(), ROWS).contains("tokenizer.json is missing"));
    std::fs::write(dir.path().join("tokenizer.model"), b"x").unwrap();
    let text = refusal(dir.path(), ROWS);
    assert!(text.contains("AutoTokenizer.from_pretrained(") && text.contains("save_pretrained("));
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let text = refusal(&folder("qwen2"), 500);
    assert!(text.contains("of another model") && text.contains("563") && text.contains("500"));
    assert!(TextTokenizer::from_folder(&folder("qwen2"), 564, false, SpecialTokens::Text).is_ok());
}

#[test]
fn bos_that_there_is_none_of_cannot_be_added() {
    let opened = TextTokenizer::from_folder(&folder("qwen2"), ROWS, true, SpecialTokens::Text);
    assert!(opened.err().unwrap().to_string().contains("no BOS token"));
}

#[test]
fn damaged_tokenizers_never_panic() {
    let dir = copy("llama3");
    let path = dir.path().join("tokenizer.json");
    let whole = std::fs::read(&path).unwrap();
    let mut state = 1u64;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = b"0\"}],{x1:"[(state >> 20) as usize % 9];
        }
        std::fs::write(&path, bytes).unwrap();
        let opened = TextTokenizer::from_folder(dir.path(), ROWS, true, SpecialTokens::Parse);
        if let Ok(tokenizer) = opened {
            let _ = tokenizer.text("Hello <|eot_id|> world, 123 é😀");
        }
    }
}

fn of_gguf(metadata: &[(String, Entry)]) -> Result<TextTokenizer> {
    let (_dir, file) = gguf(metadata);
    adds_bos(&file)
        .and_then(|add_bos| TextTokenizer::from_gguf(&file, ROWS, add_bos, SpecialTokens::Text))
}

#[test]
fn model_files_name_what_is_unknown() {
    let change = |kind: &str, key: &str, value: Option<Entry>| {
        let mut all = metadata(kind);
        all.retain(|(k, _)| k != key);
        all.extend(value.map(|value| (key.to_owned(), value)));
        of_gguf(&all).err().expect("is refused").to_string()
    };
    let text = |t: &str| Some(Entry::String(t.to_owned()));
    let refused = change("llama3", "tokenizer.ggml.pre", text("deepseek-v9"));
    assert!(refused.contains("'deepseek-v9'") && refused.contains("llama-bpe"), "{refused}");
    let refused = change("llama3", "tokenizer.ggml.pre", None);
    assert!(refused.contains("tokenizer.ggml.pre' is missing"), "{refused}");
    let refused = change("bert", "tokenizer.ggml.model", text("t5"));
    assert!(refused.contains("'t5' is not supported"), "{refused}");
    let merges = Some(Entry::Array(vec![Entry::String("ab".into())]));
    let refused = change("qwen2", "tokenizer.ggml.merges", merges);
    assert!(refused.contains("tokenizer.ggml.merges"), "{refused}");
    let merges = Some(Entry::Array(vec![Entry::String("ab cdefg".into())]));
    let refused = change("qwen2", "tokenizer.ggml.merges", merges);
    assert!(refused.contains("do not fit the vocabulary"), "{refused}");
    let refused = change("bert", "tokenizer.ggml.unknown_token_id", None);
    assert!(refused.contains("unknown_token_id"), "{refused}");
    let refused = change("llama2", "tokenizer.ggml.bos_token_id", Some(Entry::U32(70_000)));
    assert!(refused.contains("is not in the vocabulary"), "{refused}");
}

#[test]
fn every_known_pre_tokenizer_works() {
    for pre in ["gpt-2", "default", "llama-bpe", "llama-v3", "llama3", "qwen2", "smollm", "tekken"]
    {
        let mut all = metadata("llama3");
        all.retain(|(k, _)| k != "tokenizer.ggml.pre");
        all.push(("tokenizer.ggml.pre".into(), Entry::String(pre.into())));
        let tokenizer = of_gguf(&all).unwrap();
        let text = "Hello  World's 1234 ÄÖ\r\n\n x\u{301} 北京";
        let ids = tokenizer.text(text).unwrap();
        if pre != "qwen2" {
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{pre}");
        }
        let bos = matches!(pre, "llama-bpe" | "llama-v3" | "llama3" | "tekken");
        assert_eq!(tokenizer.prefix_len(), usize::from(bos), "{pre}");
    }
}
