//! Stories of users who type what they know from other trainers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, Said, pairs};
use crate::stand_in::{Reply, Server};
use serde_json::json;

#[test]
fn a_flag_of_another_trainer_names_the_setting_that_does_it() {
    let lens = Lens::new();
    for (words, said) in [
        ("run pairs.jsonl --lr 1e-4", "--set head.learning_rate=0.0003"),
        ("run pairs.jsonl --per_device_train_batch_size=8", "--set head.batch=128"),
        ("train pairs.safetensors --num_train_epochs 3", "--set head.epochs=60"),
        ("score rm rows.jsonl --max-length 4096", "keeps the length that it was trained with"),
        ("eval rm pairs.jsonl --seed 1", "--set seed=0"),
        ("serve rm --port 8000", "--bind"),
    ] {
        let error = lens.fails(2, words);
        assert!(error.contains("unexpected argument") && error.contains(said), "{words}: {error}");
    }
    // What is advised is taken.
    lens.rows("pairs.jsonl", &pairs(0..30));
    lens.ok(
        "run pairs.jsonl --model tiny.gguf --views fixed --augment 1 --set head.learning_rate=0.0003 \
         --set head.batch=128 --set head.epochs=60 --set batch_tokens=2048 -o rm --quiet",
    );
}

#[test]
fn text_where_embeddings_are_expected_is_called_that_and_what_takes_it_is_named() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.rows("rows.jsonl", &[json!({"text": "a"})]);
    let csv = "prompt,chosen,rejected\nq,a,b\n";
    lens.write("pairs.csv", csv);
    for file in ["pairs.jsonl", "pairs.csv"] {
        let error = lens.fails(1, &format!("train {file}"));
        assert!(error.contains(&format!("{file}: holds preference pairs as text")), "{error}");
        assert!(error.contains("lens run") && error.contains("lens embed"), "{error}");
    }
    let error = lens.fails(1, "train rows.jsonl");
    assert!(error.contains("rows.jsonl: holds rows as text"), "{error}");
    assert!(error.contains("lens embed"), "{error}");
    // What is neither is called what it is, as before.
    lens.write("broken.safetensors", "not an array");
    let error = lens.fails(1, "train broken.safetensors");
    assert!(error.contains("broken.safetensors") && !error.contains("as text"), "{error}");

    // What is advised works.
    lens.ok("embed pairs.jsonl --model tiny.gguf -o pairs.safetensors --quiet");
    lens.ok("train pairs.safetensors --splits 1 --augment 1 --quiet");
    let error = lens.fails(1, "train pairs.jsonl pairs.jsonl");
    assert!(error.contains("holds preference pairs as text"), "{error}");
}

#[test]
fn a_layer_that_is_not_there_costs_no_download() {
    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..30));
    // The model that is used where none is named: pip, which would fetch it, is not asked.
    let error = lens.fails(2, "run pairs.jsonl --layer 99");
    assert!(
        error.contains("layer 99 is out of range: the model has hidden states 0 to 18"),
        "{error}"
    );

    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let siblings = files.map(|name| json!({"rfilename": name}));
    let server = Server::start(move |r| match r.path.split('?').next().unwrap() {
        "/api/models/org/tiny/revision/main" => {
            Reply::json(&json!({"sha": SHA, "siblings": siblings}))
        }
        p if p.ends_with("/config.json") => {
            Reply::file(r, br#"{"model_type":"llama","num_hidden_layers":6}"#, "\"x\"")
        }
        _ => Reply::new(404, "nothing"),
    });
    for views in ["--layer 99", "--layers 0,99", "--view layer=99"] {
        let mut command = lens.command(&format!("run pairs.jsonl --model org/tiny {views}"));
        let said = Said::from(command.env("HF_ENDPOINT", &server.url).output().unwrap());
        assert_eq!(said.code, 2, "{}", said.err);
        assert!(said.err.contains("hidden states 0 to 6"), "{}", said.err);
    }
    assert!(!server.seen().iter().any(|r| r.path.ends_with(".safetensors")));
}
