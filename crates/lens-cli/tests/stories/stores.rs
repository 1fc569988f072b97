//! Stories of stores: in half the size, and with ties and margins beside the embeddings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use crate::common::{Lens, cloud, pairs};
use lens_data::{Array2, ArrayFile, FloatType, Tensor, write_tensors};
use serde_json::json;

/// Two tables of `n` pairs of width 12 in an order that is easy to see.
fn tables(n: usize) -> (Array2, Array2) {
    let side = |centre: f32| Array2::new(n, 12, cloud(n, 12, centre)).unwrap();
    (side(0.2), side(-0.2))
}

#[test]
fn a_store_of_half_the_size_trains_and_is_scored() {
    let lens = Lens::new();
    let (good, bad) = tables(90);
    let write = |name: &str, form: FloatType| {
        let arrays =
            [("chosen", Tensor::Floats(&good, form)), ("rejected", Tensor::Floats(&bad, form))];
        write_tensors(lens.path(name), &arrays, &BTreeMap::new()).unwrap();
    };
    write("half.safetensors", FloatType::F16);
    write("whole.safetensors", FloatType::F32);
    let train = |name: &str| {
        let words = format!("train {name}.safetensors --splits 2 --augment 2 --json -o {name}");
        lens.ok(&words).json()
    };
    let (half, whole) = (train("half"), train("whole"));
    for figures in [&half, &whole] {
        assert!(figures["none"]["accuracy"].as_f64().unwrap() > 0.9, "{figures}");
        assert_eq!(figures["labels"], json!({"ties": 0, "margins": 0}));
    }
    let rewards = lens.ok("score half half.safetensors --key chosen --json").json_lines();
    assert_eq!(rewards.len(), 90);
    let eval = lens.ok("eval half half.safetensors --json").json();
    assert_eq!(eval["trained_on"], true, "{eval}");
    assert_eq!(lens.ok("eval half whole.safetensors --json").json()["trained_on"], false);

    lens.rows("pairs.jsonl", &pairs(0..3));
    let said = lens.ok("embed pairs.jsonl --model tiny.gguf -o e.safetensors --dtype bf16 --json");
    assert_eq!(said.json()["dtype"], "bf16");
    let bytes = std::fs::metadata(lens.path("e.safetensors")).unwrap().len();
    lens.ok("embed pairs.jsonl --model tiny.gguf -o e.safetensors --quiet");
    let more = std::fs::metadata(lens.path("e.safetensors")).unwrap().len() - bytes;
    assert!(more.abs_diff(2 * 3 * 32 * 2) <= 16, "{more}");
}

#[test]
fn stored_ties_and_margins_train_and_ties_are_not_judged() {
    let lens = Lens::new();
    let (good, bad) = tables(90);
    let (mut ties, mut margins) = (vec![0; 90], vec![0.0; 90]);
    (0..10).for_each(|i| ties[i * 9] = 1);
    (0..20).for_each(|i| margins[i * 4 + 1] = if ties[i * 4 + 1] == 1 { 0.0 } else { 0.5 });
    let with_margin = margins.iter().filter(|&&m| m != 0.0).count();
    let write = |name: &str, ties: &[i64], margins: &[f32]| {
        let arrays = [
            ("chosen", Tensor::Floats(&good, FloatType::F32)),
            ("rejected", Tensor::Floats(&bad, FloatType::F32)),
            ("tie", Tensor::Integers(ties)),
            ("margin", Tensor::Vector(margins)),
        ];
        write_tensors(lens.path(name), &arrays, &BTreeMap::new()).unwrap();
    };
    write("a.safetensors", &ties, &margins);
    let said = lens.ok("train a.safetensors --splits 2 --augment 2 --json -o rm");
    assert_eq!(said.json()["labels"], json!({"ties": 10, "margins": with_margin}));
    let note = format!(
        "labels of the 90 training pairs: 10 ties, {with_margin} with a margin of 0.5 \
         (head.tie_threshold = 0.5, head.margin_weight = 1)"
    );
    assert!(said.err.contains(&note), "{}", said.err);
    let eval = lens.ok("eval rm a.safetensors --json").json();
    assert_eq!((&eval["pairs"]["read"], &eval["pairs"]["used"]), (&json!(90), &json!(80)));
    assert_eq!(eval["pairs"]["left_out"], json!({"tie": 10}));
    assert_eq!(eval["pairs"]["lines"]["tie"][1]["line"], 10);
    // The labels are part of what was trained on.
    let fingerprint = lens.json("rm/lens.json")["data"]["fingerprint"].clone();
    write("b.safetensors", &[0; 90], &[0.0; 90]);
    lens.ok("train b.safetensors --splits 2 --augment 1 --json -o plain");
    assert_ne!(lens.json("plain/lens.json")["data"]["fingerprint"], fingerprint);

    margins[0] = 0.5;
    write("both.safetensors", &ties, &margins);
    let error = lens.fails(1, "train both.safetensors -o no");
    assert!(error.contains("row 0 is a tie, but `margin` is 0.5 there"), "{error}");
    write("three.safetensors", &[3; 90], &[0.0; 90]);
    let error = lens.fails(1, "train three.safetensors -o no");
    assert!(error.contains("array `tie`, row 0: expected 0 or 1, found 3"), "{error}");
    write("short.safetensors", &[0; 89], &[0.0; 90]);
    let error = lens.fails(1, "train short.safetensors -o no");
    assert!(error.contains("array `tie` has 89 values for 90 pairs"), "{error}");
    write("ties.safetensors", &[1; 90], &[0.0; 90]);
    let error = lens.fails(1, "train ties.safetensors -o no");
    assert!(!lens.path("no").exists(), "{error}");
}

#[test]
fn ties_and_margins_of_pairs_are_said_kept_and_not_judged() {
    let lens = Lens::new();
    let mut rows = pairs(0..60);
    (0..12).for_each(|i| rows[i * 5]["tie"] = json!(true));
    (0..12).for_each(|i| rows[i * 5 + 1]["margin"] = json!(0.25 * (i % 3) as f64));
    rows[7]["tie"] = json!("perhaps");
    lens.rows("pairs.jsonl", &rows);
    let mut heldout = pairs(60..90);
    heldout[4]["tie"] = json!(1);
    lens.rows("heldout.jsonl", &heldout);
    let said = lens.ok("run pairs.jsonl --eval heldout.jsonl --model tiny.gguf -o rm --json");
    let run = said.json();
    assert_eq!(run["labels"], json!({"ties": 12, "margins": 8}));
    assert_eq!(run["pairs"]["left_out"], json!({"malformed": 1}));
    assert_eq!(run["heldout_pairs"]["left_out"], json!({"tie": 1}));
    assert_eq!(run["heldout"]["pairs"], 29);
    for part in ["12 ties, 8 with a margin of 0.25 to 0.5", "1 of the held-out pairs are ties"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(lens.read("rm/report.md").contains("12 ties"));
    let eval = lens.ok("eval rm heldout.jsonl --json").json();
    assert_eq!(eval["pairs"]["left_out"], json!({"tie": 1}));

    // A store says the same as its text.
    lens.ok("embed pairs.jsonl --model tiny.gguf -o store.safetensors --quiet");
    let train = lens.ok("train store.safetensors --splits 2 --augment 1 --json").json();
    assert_eq!(train["labels"], run["labels"]);
    lens.rows("plain.jsonl", &pairs(0..5));
    lens.ok("embed plain.jsonl --model tiny.gguf -o plain.safetensors --quiet");
    let keys = ArrayFile::open(lens.path("plain.safetensors")).unwrap().keys();
    assert_eq!(keys, ["prompt", "row", "chosen", "rejected"]);

    rows.iter_mut().for_each(|row| row["tie"] = json!(true));
    rows.iter_mut().for_each(|row| row["margin"] = json!(null));
    lens.rows("ties.jsonl", &rows);
    let error = lens.fails(1, "run ties.jsonl --model tiny.gguf -o no");
    assert!(error.contains("every pair to train on is a tie"), "{error}");
}
