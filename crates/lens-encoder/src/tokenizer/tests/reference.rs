//! Against transformers' ids (written by `scripts/reference_tokenizers.py`).

use super::fixtures::{KINDS, data, folder, json, open, open_gguf};
use super::*;
use crate::model::gguf::GgufFile;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Instant;

fn text_of(case: &Value) -> String {
    match &case["text"] {
        Value::String(text) => text.clone(),
        rule => {
            let (piece, times) = (&rule["repeat"][0], &rule["repeat"][1]);
            piece.as_str().unwrap().repeat(times.as_u64().unwrap() as usize)
        }
    }
}

fn matches(ids: &[u32], want: &Value) -> bool {
    match want {
        Value::Array(want) => {
            want.len() == ids.len()
                && want.iter().zip(ids).all(|(w, id)| w.as_u64() == Some(u64::from(*id)))
        }
        rule => {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            rule["count"].as_u64() == Some(ids.len() as u64) && rule["sha256"] == *hash
        }
    }
}

/// What a text's ids in `Parse` are to be: transformers adds BOS even where the text brings it.
fn not_doubled(tokenizer: &TextTokenizer, want: &Value) -> Value {
    let Value::Array(ids) = want else { return want.clone() };
    let (prefix, suffix) = (&tokenizer.prefix, &tokenizer.suffix);
    let mut ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
    if !prefix.is_empty() && ids[prefix.len()..].starts_with(prefix) {
        ids.drain(..prefix.len());
    }
    let body = ids.len() - suffix.len();
    if !suffix.is_empty() && ids[prefix.len()..body].ends_with(suffix) {
        ids.truncate(body);
    }
    ids.into()
}

/// Compares all cases; returns what differs and the longest time that one text took.
fn compare(text: &TextTokenizer, parse: &TextTokenizer, cases: &Value) -> (Vec<String>, f64) {
    let mut wrong = Vec::new();
    let mut slowest = 0.0f64;
    for case in cases["texts"].as_array().unwrap() {
        let input = text_of(case);
        let start = Instant::now();
        let ids = text.text(&input).unwrap();
        slowest = slowest.max(start.elapsed().as_secs_f64());
        let short: String = input.chars().take(60).collect();
        let mut check = |mode: &str, ids: &[u32], want: &Value| {
            if !matches(ids, want) {
                let ids = &ids[..ids.len().min(40)];
                wrong.push(format!("{mode} {short:?}\n   got {ids:?}\n  want {want}"));
            }
        };
        check("text", &ids, &case["ids"]);
        let want = case.get("parse").unwrap_or(&case["ids"]);
        check("parse", &parse.text(&input).unwrap(), &not_doubled(parse, want));
    }
    (wrong, slowest)
}

fn both(open: impl Fn(SpecialTokens) -> TextTokenizer) -> (TextTokenizer, TextTokenizer) {
    (open(SpecialTokens::Text), open(SpecialTokens::Parse))
}

fn report(name: &str, (wrong, slowest): (Vec<String>, f64)) {
    println!("{name}: slowest text {slowest:.3} s");
    assert!(wrong.is_empty(), "{name}: {} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(slowest < 3.0, "{name}: a text of 100k characters took {slowest} s");
}

#[test]
fn folders_agree_with_transformers() {
    for kind in KINDS {
        let (text, parse) = both(|special| open(kind, special));
        let cases = json(folder(kind).join("reference.json"));
        report(kind, compare(&text, &parse, &cases));
    }
}

#[test]
fn gguf_files_agree_with_transformers() {
    for kind in KINDS {
        let (text, parse) = both(|special| open_gguf(kind, special));
        // A GGUF file cannot say that its model is one whose folder transformers reads otherwise;
        // as llama.cpp, we read it as SentencePiece did.
        let like = if kind == "llama2" { "mistral" } else { kind };
        let mut cases = json(folder(like).join("reference.json"));
        // In a GGUF file the user-defined piece '▁▁' is two spaces; that it was found where
        // somebody typed '▁▁' is lost.
        let lost = |case: &Value| kind == "gemma" && text_of(case).contains("▁▁");
        cases["texts"].as_array_mut().unwrap().retain(|case| !lost(case));
        report(kind, compare(&text, &parse, &cases));
    }
}

#[test]
fn chats_agree_with_transformers() {
    for kind in KINDS {
        let chat = &json(folder(kind).join("reference.json"))["chat"];
        let Some(rendered) = chat["text"].as_str() else { continue };
        let mut forms = vec![open(kind, SpecialTokens::Text), open(kind, SpecialTokens::Parse)];
        if kind != "llama2" {
            forms.push(open_gguf(kind, SpecialTokens::Text));
        }
        for tokenizer in forms {
            let ids = tokenizer.rendered(rendered, '\u{FDD0}').unwrap();
            assert!(matches(&ids, &chat["ids"]), "{kind}: {ids:?} {}", chat["ids"]);
            let before = tokenizer.ids_before(rendered, Some('\u{FDD0}'), rendered.len()).unwrap();
            assert_eq!(before, ids.len(), "{kind}");
        }
    }
}

fn at_hand(variable: &str) -> Option<PathBuf> {
    let wanted = std::env::var("LENS_MODEL_TESTS").as_deref() == Ok("1");
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|_| wanted);
    if path.is_none() {
        eprintln!("skipped: set LENS_MODEL_TESTS=1 and {variable} to compare with the real model");
    }
    path
}

/// Ids of the texts whose hidden states are in the shared data.
fn golden(tokenizer: &TextTokenizer, name: &str) {
    let shared = std::env::var_os("LENS_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let path = shared.join("golden").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    for case in json(path)["texts"].as_array().unwrap() {
        let ids = tokenizer.text(case["text"].as_str().unwrap()).unwrap();
        assert!(matches(&ids, &case["input_ids"]), "{}: {ids:?}", case["text"]);
    }
}

fn real_gguf(variable: &str, reference: &str, shared: &str) {
    let Some(path) = at_hand(variable) else { return };
    let file = GgufFile::open(&path).unwrap();
    let start = Instant::now();
    let (text, parse) = both(|special| {
        TextTokenizer::from_gguf(&file, 1 << 20, adds_bos(&file).unwrap(), special).unwrap()
    });
    println!("{reference}: built in {:.2} s", start.elapsed().as_secs_f64() / 2.0);
    golden(&text, shared);
    report(reference, compare(&text, &parse, &json(data().join(reference))));
}

#[test]
fn real_qwen_agrees() {
    real_gguf("LENS_MODEL_QWEN", "qwen2.json", "qwen2.5-coder-1.5b.json");
}

#[test]
fn real_gemma_agrees() {
    real_gguf("LENS_MODEL_GEMMA", "gemma3.json", "gemma-3-270m.json");
}

#[test]
fn real_minilm_agrees() {
    let Some(path) = at_hand("LENS_MODEL_MINILM") else { return };
    let (text, parse) =
        both(|special| TextTokenizer::from_folder(&path, 30522, true, special).unwrap());
    golden(&text, "all-MiniLM-L6-v2.json");
    report("minilm", compare(&text, &parse, &json(data().join("minilm.json"))));
    let foreign = TextTokenizer::from_folder(&path, 30521, true, SpecialTokens::Text);
    assert!(matches!(
        foreign.err(),
        Some(EncoderError::ForeignTokenizer { highest: 30521, rows: 30521, .. })
    ));
}
