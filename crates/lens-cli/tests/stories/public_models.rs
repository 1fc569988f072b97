//! Stories of users who start from a public reward model: they score with it, evaluate it, and correct it
//! with a few pairs of their own. The models are tiny, with random weights; what transformers computes
//! for them stands beside them (`scripts/reference_rewards.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn reference(name: &str) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../lens-encoder/tests/data/reward-models");
    root.join(name)
}

/// A home with this reward model in the folder `rm`.
fn with_model(name: &str) -> Lens {
    let lens = Lens::new();
    std::fs::create_dir(lens.path("rm")).unwrap();
    for entry in std::fs::read_dir(reference(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, lens.path("rm").join(path.file_name().unwrap())).unwrap();
    }
    lens
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// The texts of the reference and transformers' rewards of them.
fn texts(lens: &Lens) -> Vec<(String, Vec<f64>)> {
    let rewards = lens.json("rm/rewards.json");
    let one = |row: &Value| {
        let logits = row["logits"].as_array().unwrap().iter().map(number).collect();
        (row["text"].as_str().unwrap().to_owned(), logits)
    };
    rewards["texts"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_public_reward_model_scores_rows_as_transformers_does_from_a_folder_and_from_gguf() {
    let lens = with_model("llama3");
    let wanted = texts(&lens);
    let rows: Vec<Value> = wanted.iter().map(|(text, _)| json!({"text": text})).collect();
    lens.rows("rows.jsonl", &rows);
    for words in [
        "score --model rm rows.jsonl",
        "score rm rows.jsonl",
        "score --model rm/model.gguf rows.jsonl",
    ] {
        let said = lens.ok(&format!("{words} --json"));
        let found: Vec<f64> = said.json_lines().iter().map(|row| number(&row["reward"])).collect();
        assert_eq!(found.len(), wanted.len());
        for (found, (text, wanted)) in found.iter().zip(&wanted) {
            assert!((found - wanted[0]).abs() < 1e-5, "{words}: {text}: {found} {wanted:?}");
        }
        assert!(said.err.contains("label 'LABEL_0'"), "{}", said.err);
    }
    // The rows with all that is known, in a file.
    lens.ok("score --model rm rows.jsonl -o scored.jsonl --quiet");
    let first: Value =
        serde_json::from_str(lens.read("scored.jsonl").lines().next().unwrap()).unwrap();
    assert!((number(&first["reward"]) - wanted[0].1[0]).abs() < 1e-5, "{first}");
    assert_eq!((&first["novelty"], number(&first["deviation"])), (&Value::Null, 0.0));
}

#[test]
fn of_several_labels_one_has_to_be_named() {
    let lens = with_model("labels");
    let wanted = texts(&lens);
    lens.rows("rows.jsonl", &[json!({"text": wanted[0].0})]);
    let said = lens.fails(1, "score --model rm rows.jsonl");
    assert!(
        said.contains("scores 3 labels") && said.contains("helpfulness, safety, verbosity"),
        "{said}"
    );
    let said = lens.fails(1, "score --model rm rows.jsonl --label kindness");
    assert!(said.contains("no label 'kindness'"), "{said}");
    for (at, label) in ["safety", "2"].into_iter().enumerate() {
        let said = lens.ok(&format!("score --model rm rows.jsonl --label {label} --json")).json();
        assert!((number(&said["reward"]) - wanted[0].1[at + 1]).abs() < 1e-5, "{said}");
    }
    lens.rows("pairs.jsonl", &pairs(0..40));
    let said = lens.fails(1, "run pairs.jsonl --model rm -o out --quiet");
    assert!(
        said.contains("helpfulness, safety, verbosity") && !lens.path("out").exists(),
        "{said}"
    );
}

#[test]
fn pairs_and_best_of_n_are_judged_by_it_in_one_command() {
    let lens = with_model("llama3");
    lens.rows("pairs.jsonl", &pairs(0..30));
    let scored = lens.ok("score --model rm pairs.jsonl --json --quiet").json_lines();
    let right = scored.iter().filter(|r| number(&r["chosen"]) > number(&r["rejected"])).count();
    for words in ["eval --model rm pairs.jsonl", "eval rm pairs.jsonl"] {
        let found = lens.ok(&format!("{words} --json --quiet")).json();
        assert!((number(&found["accuracy"]) - right as f64 / 30.0).abs() < 1e-9, "{found}");
    }
    // Two files, none of them a reward model.
    assert_eq!(
        lens.ok("eval --model rm pairs.jsonl pairs.jsonl --json --quiet").json_lines().len(),
        2
    );

    // The gold column: every response of a prompt with the public model's reward.
    let rows: Vec<Value> = (0..6)
        .map(|i| json!({"prompt": format!("Question {i}?"), "responses": ["Yes.", "No!", "It may be."]}))
        .collect();
    lens.rows("samples.jsonl", &rows);
    lens.ok("score --model rm samples.jsonl -o gold.jsonl --quiet");
    let gold: Vec<Value> =
        lens.read("gold.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let judged = gold.iter().map(|row| {
        json!({"prompt": row["prompt"], "responses": row["responses"], "scores": row["rewards"]})
    });
    lens.rows("best.jsonl", &judged.collect::<Vec<_>>());
    let found = lens.ok("eval --model rm best.jsonl --json --quiet").json();
    // Judged by itself it picks the best of every prompt.
    let best: Vec<f64> = gold
        .iter()
        .map(|row| row["rewards"].as_array().unwrap().iter().map(number).fold(f64::MIN, f64::max))
        .collect();
    let mean = best.iter().sum::<f64>() / best.len() as f64;
    let text = found.to_string();
    assert_eq!(found["taken_for"], "best-of-n", "{text}");
    let curve = found["evaluation"]["best_of_n"]["curve"].as_array().cloned().unwrap_or_default();
    let last = curve.last().unwrap_or_else(|| panic!("{text}"));
    assert!((number(&last["gold"]) - mean).abs() < 1e-4, "{last} {mean}");

    // The same in one command, and of another reward model.
    let direct = lens.ok("eval --model rm samples.jsonl --gold rm --json --quiet").json();
    assert_eq!(direct["evaluation"]["best_of_n"], found["evaluation"]["best_of_n"]);
    lens.ok("run pairs.jsonl --model tiny.gguf --views fixed -o own --quiet");
    let mine = lens.ok("eval own best.jsonl --json --quiet").json();
    let direct = lens.ok("eval own samples.jsonl --gold rm --json --quiet").json();
    assert_eq!(direct["evaluation"]["best_of_n"], mine["evaluation"]["best_of_n"]);
    let said = lens.fails(1, "eval own pairs.jsonl --gold rm");
    assert!(said.contains("needs a prompt with a list `responses`"), "{said}");
}

#[test]
fn a_few_pairs_correct_it_and_three_lines_say_what_that_is_worth() {
    let lens = with_model("llama3");
    lens.rows("pairs.jsonl", &pairs(0..80));
    let said = lens.ok("run pairs.jsonl --model rm -o out");
    for line in ["public model as it is", "head from nothing", "public model, corrected", "prior"] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert!(said.err.contains("is the prior of a logistic head"), "{}", said.err);
    let manifest = lens.json("out/lens.json");
    let recorded = &manifest["figures"]["public_model"];
    assert_eq!(recorded["label"], "LABEL_0");
    assert!(recorded["prior"]["weight"].is_number(), "{recorded}");
    assert!(recorded["corrected_minus_public"]["ci95"].is_array(), "{recorded}");

    // As it is: the accuracy that `lens eval` finds of it on the same pairs.
    lens.rows("train.jsonl", &pairs(0..60));
    lens.rows("held.jsonl", &pairs(60..100));
    let run = lens.ok("run train.jsonl --eval held.jsonl --model rm -o two --json --quiet").json();
    let eval = lens.ok("eval --model rm held.jsonl --json --quiet").json();
    assert_eq!(run["public_model"]["as_it_is"]["accuracy"], eval["accuracy"]);
    assert_eq!(run["public_model"]["corrected"]["accuracy"], run["heldout"]["none"]["accuracy"]);
    // The bundle is a bundle like any other.
    lens.ok("score two held.jsonl --quiet");
    // As a mere encoder it has no prior.
    let said = lens.ok("run train.jsonl --model rm --label none --views fixed -o three --quiet");
    assert!(!said.out.contains("public model"), "{}", said.out);
}

#[test]
fn what_cannot_be_a_reward_model_says_so_and_writes_nothing() {
    let lens = with_model("llama3");
    lens.rows("rows.jsonl", &[json!({"text": "a"})]);
    let said = lens.fails(1, "score --model tiny.gguf rows.jsonl -o out.jsonl");
    assert!(said.contains("is no reward model: it has no score head"), "{said}");
    lens.write("rm/adapter_config.json", "{}");
    let said = lens.fails(1, "score --model rm rows.jsonl -o out.jsonl");
    assert!(said.contains("adapter (PEFT)") && said.contains("merge them first"), "{said}");
    std::fs::remove_file(lens.path("rm/adapter_config.json")).unwrap();
    let mut config = lens.json("rm/config.json");
    config["quantization_config"] = json!({"quant_method": "gptq"});
    lens.write("rm/config.json", config.to_string());
    let said = lens.fails(1, "score --model rm rows.jsonl -o out.jsonl");
    assert!(said.contains("gptq"), "{said}");
    assert!(!lens.path("out.jsonl").exists());
}

#[test]
fn what_would_change_nothing_is_refused() {
    let lens = Lens::with_reward_model();
    lens.ok("embed pairs.jsonl --like rm -o arrays.safetensors -q");
    let error = lens.fails(2, "eval rm arrays.safetensors --gold rm");
    assert!(error.contains("arrays.safetensors holds embeddings"), "{error}");
    for command in [
        "score rm pairs.jsonl --label reward",
        "run pairs.jsonl --model tiny.gguf --label reward -o other",
    ] {
        let error = lens.fails(2, command);
        assert!(error.contains("`reward` names a score of a public reward model"), "{error}");
    }
    assert!(!lens.path("other").exists());
}
