#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::options::EncoderOptions;
use lens_core::{Content, Message, Quiet};
use lens_data::encoder::{LayerChoice, Pooling, TemplateChoice, ViewChoice};
use std::path::PathBuf;

/// The tiny models of every family, each as a folder of transformers and as a GGUF file.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    let mut forms = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let gguf = folder.join("model.gguf");
        forms.extend(gguf.exists().then_some(gguf));
        forms.push(folder);
    }
    forms.sort();
    assert!(forms.len() >= 25, "{forms:?}");
    forms
}

fn every_layer() -> EncoderOptions {
    let view = |pooling| ViewChoice { layer: LayerChoice::All, pooling, suffix: None };
    EncoderOptions { views: vec![view(Pooling::Last), view(Pooling::Mean)], ..Default::default() }
}

fn whole(encoder: &Encoder, class: CheckpointClass) -> CheckpointOptions {
    CheckpointOptions {
        class,
        dtype: ExportType::F32,
        layers: encoder.spec().layers.len(),
        suffix: None,
        tensors: Vec::new(),
        config: Map::new(),
        shard_bytes: None,
    }
}

fn largest_difference(a: &Encoder, b: &Encoder, ids: &[Vec<u32>]) -> f32 {
    let [a, b] = [a, b].map(|encoder| encoder.encode_ids(ids, &Quiet).unwrap());
    let values = a.iter().zip(&b).flat_map(|(a, b)| a.vector.iter().zip(b.vector.iter()));
    values.map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f32::max)
}

#[test]
fn every_family_is_written_as_the_model_that_it_is() {
    let ids: Vec<Vec<u32>> = vec![vec![5, 1, 7, 7, 30, 2, 11], (3..40).collect(), vec![9]];
    for form in models() {
        let encoder = Encoder::open(&form, &every_layer()).unwrap();
        for (class, shard_bytes) in
            [(CheckpointClass::Bare, None), (CheckpointClass::Within, Some(20_000))]
        {
            let home = tempfile::tempdir().unwrap();
            let options = CheckpointOptions { shard_bytes, ..whole(&encoder, class) };
            let rows = encoder.spec().vocab + 1;
            let (config, bytes) = encoder.write_model(home.path(), &options, rows, &Quiet).unwrap();
            write_json(&home.path().join(CONFIG), &config.into()).unwrap();
            let written = Encoder::open(home.path(), &every_layer())
                .unwrap_or_else(|e| panic!("{}: {e}", form.display()));
            assert!(written.files().bytes() > bytes, "headers are there as well");
            assert_eq!(written.spec().vocab, rows, "a row of zeros for the padding");
            let far = largest_difference(&encoder, &written, &ids);
            assert!(far < 2e-5, "{} {class:?}: {far}", form.display());
        }
    }
}

#[test]
fn half_precision_is_rounded_and_not_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/gemma2");
    let encoder = Encoder::open(&root, &every_layer()).unwrap();
    let ids = vec![vec![5, 1, 7, 7, 30, 2, 11]];
    for (dtype, least, most) in [(ExportType::F16, 1e-6, 5e-2), (ExportType::BF16, 1e-4, 0.5)] {
        let home = tempfile::tempdir().unwrap();
        let options = CheckpointOptions { dtype, ..whole(&encoder, CheckpointClass::Bare) };
        let (config, bytes) =
            encoder.write_model(home.path(), &options, encoder.spec().vocab, &Quiet).unwrap();
        write_json(&home.path().join(CONFIG), &config.into()).unwrap();
        let written = Encoder::open(home.path(), &every_layer()).unwrap();
        let far = largest_difference(&encoder, &written, &ids);
        assert!((least..most).contains(&far), "{dtype:?}: {far}");
        assert!(bytes * 2 < encoder.files().bytes() + 4096);
    }
}

fn turns(pairs: &[(&str, &str)]) -> Content {
    let message = |(role, content): &(&str, &str)| Message {
        role: (*role).into(),
        content: (*content).into(),
    };
    Content::Messages(pairs.iter().map(message).collect())
}

/// Conversations whose texts are the same in every template.
fn conversations() -> Vec<Exchange> {
    let reply = |prompt: &[(&str, &str)], response| Exchange {
        prompt: turns(prompt),
        response: turns(&[("assistant", response)]),
    };
    vec![
        reply(&[("user", "What is the capital of France?")], "Paris."),
        reply(
            &[("system", "Be brief."), ("user", "Is it so?")],
            "It is\n\n  so. 12 \u{e9}\u{1f600}",
        ),
        reply(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("tool", "d")], "it's \"so\""),
    ]
}

const OWN: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\n";

#[test]
fn the_tokenizer_and_the_template_go_with_it() {
    let custom = || TemplateChoice::Custom(OWN.to_owned());
    let mut seen = 0;
    for form in models() {
        let folder = if form.is_dir() { &form } else { form.parent().unwrap() };
        if !folder.join("tokenizer.json").is_file() {
            continue;
        }
        for (template, suffix) in
            [(TemplateChoice::Plain, None), (custom(), None), (custom(), Some(" Is it's \\ ok?"))]
        {
            let encoder =
                Encoder::open(&form, &EncoderOptions { template, ..every_layer() }).unwrap();
            if suffix.is_some() && !encoder.spec().causal {
                continue;
            }
            let options = CheckpointOptions {
                suffix: suffix.map(str::to_owned),
                ..whole(&encoder, CheckpointClass::Within)
            };
            let home = tempfile::tempdir().unwrap();
            let texts = conversations();
            let made = encoder.write_checkpoint(home.path(), &options, &texts, &Quiet).unwrap();
            let template = match encoder.spec().causal {
                true => TemplateChoice::Chat,
                false => encoder.template().clone(),
            };
            let read = EncoderOptions { template, ..every_layer() };
            let written = Encoder::open(home.path(), &read).unwrap();
            for text in &texts {
                let ours = encoder.exchange_ids_with(text, suffix).unwrap();
                assert_eq!(
                    written.exchange_ids(text).unwrap(),
                    ours,
                    "{} {text:?}",
                    form.display()
                );
                assert_ne!(ours.last(), Some(&made.pad_token_id), "{}", form.display());
                let bare = encoder.exchange_text_with(text, suffix).unwrap();
                assert_eq!(written.rendered_ids(&bare).unwrap(), ours, "{}", form.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn padding_is_no_end_of_a_text() {
    // This model's padding is its end of text, as Qwen's is.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/qwen2");
    let template = TemplateChoice::Custom("{{ messages[0].content }}<|endoftext|>".to_owned());
    let encoder = Encoder::open(&folder, &EncoderOptions { template, ..every_layer() }).unwrap();
    let home = tempfile::tempdir().unwrap();
    let options = whole(&encoder, CheckpointClass::SequenceClassification);
    let made = encoder.write_checkpoint(home.path(), &options, &conversations(), &Quiet).unwrap();
    let end = encoder.exchange_ids(&conversations()[0]).unwrap().pop().unwrap();
    assert_ne!(made.pad_token_id, end);
    let config: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["pad_token_id"], made.pad_token_id);
    assert_eq!(config["architectures"][0], "Qwen2ForSequenceClassification");
}

#[test]
fn what_transformers_cannot_hold_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    let home = tempfile::tempdir().unwrap();
    let bert = Encoder::open(&folder.join("bert"), &every_layer()).unwrap();
    let options = whole(&bert, CheckpointClass::SequenceClassification);
    let error = bert.write_checkpoint(home.path(), &options, &[], &Quiet).unwrap_err();
    assert!(matches!(error, EncoderError::NotExportable { .. }), "{error}");
    // A folder without a tokenizer takes lists of ids alone.
    let bare = Encoder::open(&folder.join("mistral"), &every_layer()).unwrap();
    let error =
        bare.write_checkpoint(home.path(), &whole(&bare, CheckpointClass::Bare), &[], &Quiet);
    assert!(matches!(error.unwrap_err(), EncoderError::TokenizerFile { .. }));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
