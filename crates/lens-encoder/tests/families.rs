//! Every family against transformers: tiny random models, whose hidden states at every layer were
//! computed by `scripts/reference_models.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::vectors::{cosine, decode, relative};
use lens_core::Quiet;
use lens_encoder::{Encoded, Encoder, EncoderOptions, LayerChoice, Pooling, Precision, ViewChoice};
use serde_json::Value;

/// Every model of the reference data, and the forms it is there in.
fn models() -> Vec<(String, Value, Vec<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        let text = std::fs::read(dir.join("reference.json")).unwrap();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let gguf = dir.join("model.gguf");
        let forms = [Some(dir), gguf.exists().then_some(gguf)].into_iter().flatten().collect();
        all.push((name, serde_json::from_slice(&text).unwrap(), forms));
    }
    assert_eq!(all.len(), 13, "a model of the reference data is missing");
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn every_layer() -> EncoderOptions {
    let view = |pooling| ViewChoice { layer: LayerChoice::All, pooling, suffix: None };
    EncoderOptions {
        views: vec![view(Pooling::Last), view(Pooling::Mean)],
        weights: Precision::F32,
        ..Default::default()
    }
}

fn ids(reference: &Value, form: &Path) -> Vec<Vec<u32>> {
    let is_gguf = form.extension().is_some_and(|e| e == "gguf");
    let limit = reference["gguf_max_tokens"].as_u64().filter(|_| is_gguf).unwrap_or(u64::MAX);
    let sequences = reference["sequences"].as_array().unwrap().iter();
    let lists = sequences.map(|s| s["input_ids"].as_array().unwrap());
    lists
        .filter(|l| l.len() as u64 <= limit)
        .map(|l| l.iter().map(|id| id.as_u64().unwrap() as u32).collect())
        .collect()
}

#[test]
fn every_layer_of_every_family_agrees_with_transformers() {
    for (name, reference, forms) in models() {
        let dim = reference["dim"].as_u64().unwrap() as usize;
        let layers = reference["layers"].as_u64().unwrap() as usize;
        for form in forms {
            let encoder = Encoder::open(&form, &every_layer())
                .unwrap_or_else(|e| panic!("{name} {}: {e}", form.display()));
            assert_eq!(encoder.dim(), 2 * (layers + 1) * dim, "{name}");
            let lists = ids(&reference, &form);
            let encoded = encoder.encode_ids(&lists, &Quiet).unwrap();
            let mut worst = (1.0f64, 0.0f64);
            for (encoded, sequence) in
                encoded.iter().zip(reference["sequences"].as_array().unwrap())
            {
                let vectors = encoded.vector.chunks_exact(dim);
                let wanted = ["last", "mean"].map(|p| sequence[p].as_array().unwrap().iter());
                let wanted: Vec<&Value> = wanted.into_iter().flatten().collect();
                assert_eq!(wanted.len(), 2 * (layers + 1));
                for (at, (got, want)) in vectors.zip(wanted).enumerate() {
                    let want = decode(want);
                    let (cos, off) = (cosine(got, &want), relative(got, &want));
                    let (layer, n) = (at % (layers + 1), encoded.tokens);
                    assert!(
                        cos >= 0.9999 && off < 1e-4,
                        "{name} ({}), {n} tokens, view {at}, layer {layer}: cosine {cos}, off {off}",
                        form.file_name().unwrap().to_string_lossy()
                    );
                    worst = (worst.0.min(cos), worst.1.max(off));
                }
            }
            println!(
                "{name}: worst cosine {:.9}, worst relative distance {:.1e}",
                worst.0, worst.1
            );
        }
    }
}

fn close(a: &[Encoded], b: &[Encoded], within: f64, what: &str) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let off = relative(&a.vector, &b.vector);
        assert!(off <= within, "{what}: list {i} is off by {off}");
    }
}

/// Lists that begin alike in many ways.
fn company(lists: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut all = lists.to_vec();
    let long = lists.iter().max_by_key(|l| l.len()).unwrap();
    for at in [17, 33, 50, 99, 119] {
        if at < long.len() {
            all.push(long[..at].to_vec());
            let mut changed = long.clone();
            changed[at] = if changed[at] == 5 { 6 } else { 5 };
            all.push(changed);
        }
    }
    all
}

#[test]
fn a_text_has_one_vector_alone_in_company_and_behind_a_shared_beginning() {
    for (name, reference, forms) in models() {
        let form = &forms[0];
        let alone = EncoderOptions { share_prefixes: false, batch_tokens: 1, ..every_layer() };
        let alone = Encoder::open(form, &alone).unwrap();
        let lists = company(&ids(&reference, form));
        let want: Vec<Encoded> = lists
            .iter()
            .flat_map(|l| alone.encode_ids(std::slice::from_ref(l), &Quiet).unwrap())
            .collect();
        for (batch_tokens, share_prefixes) in [(10_000, true), (200, true), (10_000, false)] {
            let options = EncoderOptions { batch_tokens, share_prefixes, ..every_layer() };
            let encoder = Encoder::open(form, &options).unwrap();
            let got = encoder.encode_ids(&lists, &Quiet).unwrap();
            close(&got, &want, 1e-5, &format!("{name} {batch_tokens} {share_prefixes}"));
            let causal = encoder.spec().causal;
            assert_eq!(encoder.stats().shared > 0, share_prefixes && causal, "{name}");
        }
    }
}

#[test]
fn weights_kept_as_stored_give_the_same_vectors() {
    for (name, reference, forms) in models() {
        for form in &forms {
            let lists = ids(&reference, form);
            let open = |weights| {
                let options = EncoderOptions { weights, ..every_layer() };
                Encoder::open(form, &options).unwrap().encode_ids(&lists, &Quiet).unwrap()
            };
            let want = open(Precision::F32);
            close(&open(Precision::Stored), &want, 1e-5, &name);
            // Rounded weights are near, and (unless they were stored so) not the same.
            close(&open(Precision::Bf16), &want, 0.1, &name);
        }
    }
}

/// From text to vector: tokenizer, special tokens and forward pass together.
#[test]
fn texts_agree_with_transformers() {
    let mut seen = 0;
    for (name, reference, forms) in models() {
        let Some(texts) = reference["texts"].as_array() else { continue };
        let dim = reference["dim"].as_u64().unwrap() as usize;
        let all: Vec<String> =
            texts.iter().map(|t| t["text"].as_str().unwrap().to_owned()).collect();
        for form in forms {
            let encoder = Encoder::open(&form, &every_layer()).unwrap();
            let encoded = encoder.encode_texts(&all, &Quiet).unwrap();
            for (text, encoded) in texts.iter().zip(encoded) {
                let ids = text["input_ids"].as_array().unwrap();
                let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
                let got = encoder.token_ids(text["text"].as_str().unwrap()).unwrap();
                assert_eq!(got, ids, "{name} {}", form.display());
                let last = decode(text["last"].as_array().unwrap().last().unwrap());
                let at = reference["layers"].as_u64().unwrap() as usize * dim;
                let off = relative(&encoded.vector[at..at + dim], &last);
                assert!(off < 1e-4, "{name} {}: off {off}", form.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 24, "{seen}");
}
