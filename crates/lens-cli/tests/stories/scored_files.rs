//! Stories of users who want their rows back with the rewards beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::Serving;
use crate::common::{Lens, pairs};
use lens_core::Quiet;
use lens_data::{ReadOptions, WholeRow, read_whole_rows_with};
use serde_json::{Map, Value, json};

const ONE: [&str; 5] =
    ["reward", "normalised_reward", "deviation", "novelty", "out_of_distribution"];
const SEVERAL: [&str; 5] =
    ["rewards", "normalised_rewards", "deviations", "novelties", "out_of_distributions"];

/// Rows of every kind, with columns of their own, and two that cannot be scored.
fn rows() -> Vec<Value> {
    let user = json!({"role": "user", "content": "What of it?"});
    let answer = json!({"role": "assistant", "content": "It is so, yes!"});
    vec![
        json!({"id": 1, "prompt": "What of it?", "response": "It is so, yes!", "tags": ["a", "b"]}),
        json!({"id": 2, "prompt": "What of it?", "responses": ["yes", "no"], "source": {"url": "u"}}),
        json!({"id": 3, "prompt": "Why?", "chosen": "It is number 7", "rejected": "no", "margin": 1.5}),
        json!({"id": 4, "messages": [user, answer]}),
        json!({"id": 5, "prompt": "What of it?", "completion": "It is so, yes!", "label": true}),
        json!({"id": 6, "question": "nothing to score here"}),
        json!({"id": 7, "text": "It is so, yes!"}),
    ]
}

/// The rows of a file as the program itself reads them.
fn read(lens: &Lens, name: &str) -> Vec<Map<String, Value>> {
    let rows = read_whole_rows_with(lens.path(name), &ReadOptions::default(), &Quiet).unwrap();
    rows.into_iter().map(|WholeRow { columns, .. }| columns).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn every_row_comes_back_with_its_columns_and_what_is_said_of_it() {
    let lens = Lens::with_reward_model();
    lens.rows("rows.jsonl", &rows());
    let text = lens.read("rows.jsonl") + "no object\n";
    lens.write("rows.jsonl", &text);
    let printed = lens.ok("score rm rows.jsonl --json --quiet").json_lines();
    let normalised = lens.ok("score rm rows.jsonl --json --quiet --normalise").json_lines();
    let said = lens.ok("score rm rows.jsonl -o out.jsonl --json");
    let (said, notes) = (said.json(), said.err);
    assert!(notes.contains("2 of 8 rows are malformed"), "{notes}");
    assert_eq!(
        (&said["rows"], &said["malformed"], &said["responses"]),
        (&json!(8), &json!(2), &json!(8))
    );
    assert_eq!(said["output"], "out.jsonl");
    let added: Vec<&str> =
        said["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let sides = ["chosen", "rejected"].map(|side| ONE.map(|figure| format!("{side}_{figure}")));
    let expected: Vec<&str> = ONE
        .into_iter()
        .chain(SEVERAL)
        .chain(sides.iter().flatten().map(String::as_str))
        .chain(["probability", "error"])
        .collect();
    assert_eq!(added, expected);

    let scored = read(&lens, "out.jsonl");
    assert_eq!(scored.len(), 8);
    for (i, (row, own)) in scored.iter().zip(&rows()).enumerate() {
        // What was there stands first, unchanged and in its order; what is new stands behind it.
        let columns: Vec<(&String, &Value)> = row.iter().collect();
        let own: Vec<(&String, &Value)> = own.as_object().unwrap().iter().collect();
        assert_eq!(columns[..own.len()], own, "row {i}");
        let names: Vec<&String> = columns[own.len()..].iter().map(|(name, _)| *name).collect();
        assert_eq!(names, added, "row {i}");
    }
    for i in [0, 3, 4, 6] {
        assert_eq!(scored[i]["reward"], printed[i]["reward"], "row {i}");
        assert_eq!(scored[i]["normalised_reward"], normalised[i]["reward"], "row {i}");
        let far = scored[i]["out_of_distribution"].as_bool().unwrap();
        assert!(number(&scored[i]["novelty"]) > 0.0 && number(&scored[i]["deviation"]) > 0.0);
        assert!(scored[i]["rewards"].is_null() && scored[i]["error"].is_null(), "row {i}, {far}");
    }
    // One answer to one prompt, in three shapes.
    assert!((number(&scored[0]["reward"]) - number(&scored[4]["reward"])).abs() < 1e-6);
    assert_eq!(scored[1]["rewards"], printed[1]["rewards"]);
    for figure in SEVERAL {
        assert_eq!(scored[1][figure].as_array().unwrap().len(), 2, "{figure}");
    }
    let pair = &scored[2];
    assert_eq!(
        (&pair["chosen_reward"], &pair["rejected_reward"]),
        (&printed[2]["chosen"], &printed[2]["rejected"])
    );
    let difference = number(&pair["chosen_reward"]) - number(&pair["rejected_reward"]);
    let probability = 1.0 / (1.0 + (-difference).exp());
    assert!((number(&pair["probability"]) - probability).abs() < 1e-12, "{pair:?}");
    assert!(scored.iter().enumerate().all(|(i, row)| i == 2 || row["probability"].is_null()));
    for i in [5, 7] {
        assert_eq!(scored[i]["error"], printed[i]["error"], "row {i}");
        let figures = added.iter().filter(|name| **name != "error");
        assert!(figures.into_iter().all(|name| scored[i][*name].is_null()), "row {i}");
    }

    // The same in every format, but for what CSV has no types for.
    for name in ["out.parquet", "out.jsonl.gz", "out.jsonl.zst", "out.csv", "out.tsv.gz"] {
        lens.ok(&format!("score rm rows.jsonl -o {name} --quiet"));
        let other = read(&lens, name);
        assert_eq!(other.len(), 8, "{name}");
        for (i, (row, other)) in scored.iter().zip(&other).enumerate() {
            for (column, value) in row {
                let expected = match (name.contains("sv"), value) {
                    (false, value) => value.clone(),
                    (true, Value::Null) => json!(""),
                    (true, Value::String(text)) => json!(text),
                    (true, value) => json!(value.to_string()),
                };
                assert_eq!(other[column], expected, "{name}, row {i}, {column}");
            }
        }
    }
    assert_eq!(read(&lens, "out.parquet")[0]["tags"], json!(["a", "b"]));
    // A person reads what became of the file.
    let said = lens.ok("score rm rows.jsonl -o again.jsonl").out;
    assert!(said.contains("8, 2 of them malformed") && said.contains("again.jsonl"), "{said}");
}

#[test]
fn a_column_that_is_there_already_is_named_before_any_work() {
    let lens = Lens::with_reward_model();
    lens.rows("rows.jsonl", &[json!({"text": "a"}), json!({"text": "b", "reward": 7})]);
    // No model is opened: the one that is named is not there.
    let error = lens.fails(2, "score rm rows.jsonl -o out.jsonl --model nonesuch");
    assert!(error.contains("rows.jsonl has a column `reward` already"), "{error}");
    assert!(error.contains("--prefix"), "{error}");
    lens.ok("score rm rows.jsonl -o out.parquet --prefix lens_ --quiet");
    let scored = read(&lens, "out.parquet");
    assert_eq!((&scored[0]["reward"], &scored[1]["reward"]), (&Value::Null, &json!(7)));
    assert!(scored[0]["lens_reward"].is_f64() && scored[0]["lens_error"].is_null());
    // A scored file can be scored again, under other names.
    let error = lens.fails(2, "score rm out.parquet -o again.csv --prefix lens_");
    assert!(error.contains("a column `lens_reward` already"), "{error}");
    lens.ok("score rm out.parquet -o again.jsonl --prefix second_ --quiet");
    for row in read(&lens, "again.jsonl") {
        assert_eq!(row["second_reward"], row["lens_reward"]);
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_half_written_is_left() {
    let lens = Lens::with_reward_model();
    lens.rows("rows.jsonl", &[json!({"text": "a"}), json!({"nothing": 1})]);
    for (words, code, said) in [
        ("-o out.json", 2, ".parquet, found 'out.json'"),
        ("-o rows.jsonl --overwrite", 1, "is the very file that is read"),
        ("-o no/such/folder/out.csv", 1, "no/such/folder"),
        ("-o out.jsonl --normalise", 2, "normalise: must not be set with -o"),
        ("-o out.jsonl --strict", 1, "rows.jsonl:2"),
        ("--prefix a_", 2, "--output"),
    ] {
        let error = lens.fails(code, &format!("score rm rows.jsonl {words}"));
        assert!(error.contains(said), "{words}: {error}");
    }
    let before = lens.names(".");
    lens.write("out.jsonl", "mine");
    let error = lens.fails(1, "score rm rows.jsonl -o out.jsonl");
    assert!(error.contains("out.jsonl: exists already"), "{error}");
    assert_eq!(lens.read("out.jsonl"), "mine");
    lens.ok("score rm rows.jsonl -o out.jsonl --overwrite --quiet");
    assert_eq!(read(&lens, "out.jsonl").len(), 2);
    let after = lens.names(".");
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
}

#[test]
fn embeddings_have_their_figures_in_a_file_too() {
    let lens = Lens::with_reward_model();
    lens.rows("rows.jsonl", &pairs(300..306));
    lens.ok("embed rows.jsonl --model tiny.gguf -o rows.safetensors --quiet");
    lens.ok("score rm rows.jsonl -o text.jsonl --quiet");
    lens.ok("score rm rows.safetensors --key rejected -o stored.csv --quiet");
    let text = read(&lens, "text.jsonl");
    // Of embeddings there is nothing to score again: the file is looked at as text.
    let stored = lens.read("stored.csv");
    let mut lines = stored.lines();
    let header = lines.next().unwrap();
    assert_eq!(header, format!("line,{},error", ONE.join(",")));
    assert_eq!(stored.lines().count(), 7);
    for (i, (text, line)) in text.iter().zip(lines).enumerate() {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields[0], fields[6]), (&*(i + 1).to_string(), ""));
        for (at, figure) in [(1, "reward"), (4, "novelty")] {
            let stored: f64 = fields[at].parse().unwrap();
            assert!((stored - number(&text[&format!("rejected_{figure}")])).abs() < 1e-6);
        }
    }
}

#[test]
fn a_model_without_novelty_says_so_and_leaves_its_columns_empty() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok("run pairs.jsonl --model tiny.gguf --views fixed --augment 1 -o rm --quiet");
    lens.rows("rows.jsonl", &[json!({"text": "a"})]);
    let said = lens.ok("score rm rows.jsonl -o out.parquet --json");
    assert!(said.err.contains("does not measure novelty"), "{}", said.err);
    assert_eq!(said.json()["out_of_distribution"], Value::Null);
    let row = &read(&lens, "out.parquet")[0];
    assert!(row["reward"].is_f64());
    assert!(row["novelty"].is_null() && row["out_of_distribution"].is_null());
}

#[test]
fn the_server_says_the_same_of_a_text_as_the_file_does() {
    let lens = Lens::with_reward_model();
    let texts: Vec<String> =
        ["It is number 7, so yes!", "Number 7 is no", "zq ".repeat(40).as_str(), "\u{4e2d}", "!"]
            .map(str::to_owned)
            .to_vec();
    lens.rows("rows.jsonl", &texts.iter().map(|t| json!({"text": t})).collect::<Vec<_>>());
    lens.ok("score rm rows.jsonl -o out.jsonl --quiet");
    let rows = read(&lens, "out.jsonl");
    let far: Vec<f64> =
        rows.iter().map(|r| if r["out_of_distribution"] == true { 1.0 } else { 0.0 }).collect();
    // Of both kinds, or the test would tell nothing.
    assert!(far.contains(&1.0) && far.contains(&0.0), "{rows:?}");
    let count = far.iter().sum::<f64>().to_string();

    let server = Serving::start(&lens, "rm");
    let answer = server.post("/get_reward", &json!({"query": texts}));
    assert_eq!(answer.header("x-lens-out-of-distribution"), Some(&*count));
    let logs = answer.ok()["extra_logs"].clone();
    assert_eq!(logs["out_of_distribution"], json!(far));
    for (i, row) in rows.iter().enumerate() {
        for (log, column) in
            [("reward_normalised", "normalised_reward"), ("reward_deviation", "deviation")]
        {
            let (log, column) = (number(&logs[log][i]), number(&row[column]));
            assert!((log - column).abs() < 1e-5, "row {i}: {log} {column}");
        }
    }
    // Where an answer has no place for it, its header tells.
    let known = texts.iter().zip(&far).find(|(_, far)| **far == 0.0).unwrap().0;
    for (route, body) in [
        ("/classify", json!({"input": texts})),
        ("/v1/embeddings", json!({"input": texts})),
        ("/v1/score/evaluation", json!({"model": "model", "messages": texts})),
        ("/predict", json!({"inputs": texts.iter().map(|t| [t]).collect::<Vec<_>>()})),
    ] {
        let answer = server.post(route, &body);
        assert_eq!(answer.header("x-lens-out-of-distribution"), Some(&*count), "{route}");
    }
    let answer = server.post("/classify", &json!({"input": known}));
    assert_eq!(answer.header("x-lens-out-of-distribution"), None);
    server.stop();
}
