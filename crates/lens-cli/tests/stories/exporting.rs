//! Stories of reward models that leave as a checkpoint of another library.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};
use serde_json::{Value, json};

/// A home with a tiny model, pairs, and reward models of several kinds.
fn home(trained: &[(&str, &str)]) -> Lens {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    for (name, options) in trained {
        lens.ok(&format!("run pairs.jsonl --model tiny.gguf --holdout 0 {options} -o {name}"));
    }
    lens
}

const LINEAR: &str = "--views fixed --set head.kind=logistic";

#[test]
fn a_linear_head_becomes_a_sequence_classifier() {
    let lens = home(&[("linear", LINEAR)]);
    let said = lens.ok("export linear --to transformers -o exported --json").json();
    assert_eq!(said["target"], "transformers");
    assert_eq!(said["texts"], 20);
    let far = said["largest_difference"].as_f64().unwrap();
    assert!(far < 1e-4 * said["reward_deviation"].as_f64().unwrap().max(1.0), "{said}");
    let names = lens.names("exported");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "verify.jsonl", "README.md"]
    {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    let config = lens.json("exported/config.json");
    assert_eq!(config["num_labels"], 1);
    assert_eq!(config["problem_type"], "regression");
    assert!(config["mean"].is_number() && config["std"] == 1.0, "{config}");
    // The rewards that the folder promises are those of `lens score`.
    let rows = lens.read("exported/verify.jsonl");
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let texts: Vec<Value> = rows.iter().map(|row| json!({"messages": row["messages"]})).collect();
    lens.rows("texts.jsonl", &texts);
    let scored = lens.ok("score linear texts.jsonl --json").json_lines();
    for (row, scored) in rows.iter().zip(&scored) {
        let (promised, reward) =
            (row["reward"].as_f64().unwrap(), scored["reward"].as_f64().unwrap());
        assert!((promised - reward).abs() < 1e-5, "{row} {scored}");
    }
}

#[test]
fn other_heads_and_views_go_elsewhere() {
    let lens = home(&[
        ("mlp", "--view layer=-1,pooling=mean --view layer=-1,pooling=last --views fixed"),
        ("layers", "--view layer=1,pooling=mean --view layer=-1 --views fixed"),
    ]);
    let error = lens.fails(1, "export mlp --to transformers -o exported");
    assert!(error.contains("reads 2 views of a text"), "{error}");
    lens.ok("export mlp --to sentence-transformers -o exported -q");
    assert_eq!(lens.json("exported/modules.json").as_array().unwrap().len(), 4);
    assert_eq!(lens.json("exported/1_Pooling/config.json")["pooling_mode_mean_tokens"], true);

    let error = lens.fails(1, "export layers --to sentence-transformers -o other");
    assert!(error.contains("only the last layer is the same"), "{error}");
    assert!(error.contains("nearest is `--to remote-code`"), "{error}");
    lens.ok("export layers --to remote-code -o other -q");
    assert_eq!(lens.json("other/config.json")["views"][0]["pooling"], "mean");
    assert!(lens.read("other/modeling_lens.py").contains("class LensForSequenceClassification"));
}

#[test]
fn what_is_chosen_among_exportable_views_can_be_exported() {
    let lens = home(&[("chosen", "--views exportable")]);
    let record = lens.json("chosen/lens.json");
    let views = record["encoder"]["identity"]["views"].as_array().unwrap();
    let last = &record["encoder"]["identity"]["layers"];
    assert!(views.iter().all(|view| view["layer"] == *last), "{views:?}");
    lens.ok("export chosen --to sentence-transformers -o exported -q");
    let error = lens.fails(
        2,
        "run pairs.jsonl --model tiny.gguf --views exportable --layer 1 -o other --holdout 0",
    );
    assert!(error.contains("exportable selects among poolings of the last layer"), "{error}");
}

#[test]
fn half_precision_says_how_far_off_it_is() {
    let lens = home(&[("linear", LINEAR)]);
    let said = lens.ok("export linear --to transformers --dtype bf16 -o exported --json").json();
    assert_eq!(said["dtype"], "bfloat16");
    assert!(said["largest_difference"].as_f64().unwrap() > 0.0);
    assert!(lens.read("exported/README.md").contains("rounded to bfloat16"));
}

#[test]
fn nothing_of_others_is_replaced_and_nothing_half_written_is_left() {
    let lens = home(&[("linear", LINEAR)]);
    let to = "export linear --to transformers -o exported";
    lens.ok(&format!("{to} -q"));
    let error = lens.fails(1, to);
    assert!(error.contains("exists"), "{error}");
    lens.ok(&format!("{to} --overwrite -q"));
    lens.write("exported/notes.txt", "mine");
    let error = lens.fails(1, &format!("{to} --overwrite"));
    assert!(error.contains("`notes.txt`, which is none of its files"), "{error}");
    assert_eq!(lens.read("exported/notes.txt"), "mine");
    // A reward model is no export, so it is not replaced by one.
    let error = lens.fails(1, "export linear --to transformers -o linear --overwrite");
    assert!(error.contains("has no `lens_export.json` in it"), "{error}");

    let error = lens.fails(1, "export missing --to transformers -o other");
    assert!(error.contains("missing"), "{error}");
    std::fs::remove_file(lens.path("tiny.gguf")).unwrap();
    let error = lens.fails(1, "export linear --to transformers -o other");
    assert!(error.contains("tiny.gguf"), "{error}");
    let error = lens.fails(2, "export linear --to onnx -o other");
    assert!(error.contains("sentence-transformers"), "{error}");
    assert!(!lens.path("other").exists());
    assert!(lens.names(".").iter().all(|name| !name.contains(".tmp-")), "{:?}", lens.names("."));
}
