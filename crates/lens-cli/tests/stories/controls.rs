//! Stories of users who want to know whether a reward model reads what it should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};
use serde_json::{Value, json};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Credits of the pairs of some rows by the rewards that `lens score` gives them.
fn credits(lens: &Lens, rows: &[Value]) -> Vec<f64> {
    lens.rows("asked.jsonl", rows);
    let lines = lens.ok("score rm asked.jsonl --json --quiet").json_lines();
    let credit = |line: &Value| match (number(&line["chosen"]), number(&line["rejected"])) {
        (a, b) if a == b => 0.5,
        (a, b) => f64::from(u8::from(a > b)),
    };
    lines.iter().map(credit).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Pairs on two prompts, so that there is one way of shuffling them; in every third the shorter
/// response is preferred.
fn on_two_prompts() -> Vec<Value> {
    let mut rows = pairs(200..224);
    for (i, row) in rows.iter_mut().enumerate() {
        row["prompt"] = json!(["What of it?", "Is it so, or not so?"][i % 2]);
        if i % 3 == 0 {
            let (better, worse) = (row["chosen"].clone(), row["rejected"].clone());
            (row["chosen"], row["rejected"]) = (worse, better);
        }
    }
    rows
}

#[test]
fn each_control_has_the_accuracy_of_the_rewards_of_its_texts() {
    let lens = Lens::with_reward_model();
    let rows = on_two_prompts();
    lens.rows("heldout.jsonl", &rows);
    let plain = lens.ok("eval rm heldout.jsonl --json --quiet").json();
    assert_eq!(plain["evaluation"]["controls"], json!({"absent": "they were not asked for"}));

    let eval = lens.ok("eval rm heldout.jsonl --controls --json --quiet").json();
    let controls = &eval["evaluation"]["controls"];
    let real = credits(&lens, &rows);
    assert!(near(number(&eval["accuracy"]), mean(&real)));
    let with_prompt = |prompt: &dyn Fn(usize) -> &'static str| -> Vec<f64> {
        let mut rows = rows.clone();
        for (i, row) in rows.iter_mut().enumerate() {
            row["prompt"] = json!(prompt(i));
        }
        credits(&lens, &rows)
    };
    let shuffled = with_prompt(&|i| ["Is it so, or not so?", "What of it?"][i % 2]);
    let alone = with_prompt(&|_| "");
    let length = |row: &Value, side: &str| row[side].as_str().unwrap().chars().count();
    let longer: Vec<f64> = rows
        .iter()
        .map(|row| match length(row, "chosen").cmp(&length(row, "rejected")) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .collect();
    let mirrored = |all: &[f64]| all.iter().map(|credit| 1.0 - credit).collect::<Vec<_>>();
    for (name, credits) in [
        ("swapped", mirrored(&real)),
        ("shuffled_prompts", shuffled),
        ("responses_alone", alone),
        ("longer_wins", longer.clone()),
        ("shorter_wins", mirrored(&longer)),
    ] {
        let found = &controls[name];
        assert!(near(number(&found["accuracy"]["value"]), mean(&credits)), "{name}: {found}");
        let difference = mean(&credits) - mean(&real);
        assert!(near(number(&found["difference"]["value"]), difference), "{name}: {found}");
        for part in ["accuracy", "difference"] {
            let ends = found[part]["ci95"].as_array().unwrap();
            let (low, high) = (number(&ends[0]), number(&ends[1]));
            let value = number(&found[part]["value"]);
            assert!(low <= value + 1e-9 && value <= high + 1e-9, "{name}: {found}");
        }
    }
    assert_eq!(controls["mirrored"], true);
    assert!(controls["prompts_alone"]["absent"].as_str().unwrap().contains("tie"));
    let few = "a fit to other prompts needs 5 different ones";
    assert_eq!(controls["length_alone"]["absent"], few);
    assert!(near(number(&controls["more_wins"]["characters"]), mean(&longer)));
    // The figures that are there without controls are the same.
    let mut without = eval.clone();
    without["evaluation"]["controls"] = plain["evaluation"]["controls"].clone();
    assert_eq!(without, plain);
}

#[test]
fn what_can_be_told_by_length_alone_is_said_at_once() {
    let lens = Lens::with_reward_model();
    // The preferred response is always the longer one.
    lens.rows("leak.jsonl", &pairs(300..330));
    let said = lens.ok("eval rm leak.jsonl --controls --report page.html").out;
    for part in [
        "controls",
        "sides swapped",
        "prompts shuffled",
        "responses alone",
        "prompts alone",
        "longer answer wins",
        "length alone",
        "simple features alone",
        "preferring the longer answer is not clearly worse than the model",
        "a preference for a length is not clearly worse than the model",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let page = lens.read("page.html");
    for part in
        ["id=\"controls\"", "prompts shuffled", "not clearly worse than the model", "--controls"]
    {
        assert!(page.contains(part), "{part}");
    }
    let cached = lens.cached_bytes();
    // The texts of controls are cached as all others: nothing is computed again.
    let again = lens.ok("eval rm leak.jsonl --controls --json").json();
    assert_eq!(lens.cached_bytes(), cached);
    let fit = &again["evaluation"]["controls"]["length_alone"]["accuracy"]["value"];
    assert_eq!(fit, 1.0);
}

#[test]
fn data_without_texts_prompts_or_pairs_say_why_there_is_no_control() {
    let lens = Lens::with_reward_model();
    lens.rows("heldout.jsonl", &on_two_prompts());
    lens.ok("embed heldout.jsonl --model tiny.gguf -o heldout.safetensors --quiet");
    let controls = |file: &str| {
        let said = lens.ok(&format!("eval rm {file} --controls --json"));
        (said.json()["evaluation"]["controls"].clone(), said.err)
    };
    let (stored, _) = controls("heldout.safetensors");
    assert_eq!(stored["absent"], "embeddings have no texts");

    let mut rows = on_two_prompts();
    rows.iter_mut().for_each(|row| row["prompt"] = json!("What of it?"));
    lens.rows("one.jsonl", &rows);
    let (one, _) = controls("one.jsonl");
    assert_eq!(one["shuffled_prompts"]["absent"], "all pairs have the same prompt");
    assert!(one["responses_alone"]["accuracy"]["value"].is_f64());

    rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("prompt")));
    lens.rows("none.jsonl", &rows);
    let (none, _) = controls("none.jsonl");
    assert!(
        none["responses_alone"]["absent"].as_str().unwrap().starts_with("no pair has a prompt")
    );

    let scored = |i: usize| json!({"prompt": format!("p{i}"), "responses": ["a", "b"], "scores": [i % 2, 1 - i % 2]});
    lens.rows("scored.jsonl", &(0..6).map(scored).collect::<Vec<_>>());
    let (scored, notes) = controls("scored.jsonl");
    assert_eq!(scored["absent"], "the file was taken for best-of-n");
    assert!(notes.contains("--controls are for pairs"), "{notes}");
}
