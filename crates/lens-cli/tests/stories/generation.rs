//! Stories of users who let a model answer, ask how likely answers are, and measure their machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};
use serde_json::{Value, json};

fn prompts() -> Vec<Value> {
    vec![
        json!({"prompt": "What is the answer?"}),
        json!({"prompt": [{"role": "user", "content": "And in the end?"}], "id": 7}),
        json!({"prompt": "A pair has one too.", "chosen": "yes", "rejected": "no"}),
    ]
}

#[test]
fn answers_of_a_model_are_scored() {
    let lens = Lens::with_reward_model();
    let mut rows = prompts();
    rows.push(json!({"text": "no prompt"}));
    lens.rows("prompts.jsonl", &rows);
    let said = lens.ok("generate prompts.jsonl -o answers.jsonl --model tiny.gguf --samples 3 \
        --max-new-tokens 8 --json");
    assert!(said.err.contains("prompts.jsonl:4"), "{}", said.err);
    let figures = said.json();
    assert_eq!((&figures["prompts"], &figures["malformed"]), (&json!(3), &json!(1)));
    assert_eq!((&figures["responses"], &figures["output"]), (&json!(9), &json!("answers.jsonl")));

    let text = lens.read("answers.jsonl");
    let answers: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), 3);
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(answer["prompt"], row["prompt"]);
        assert!(answer["responses"].as_array().unwrap().iter().all(Value::is_string));
        let likely = answer["log_likelihoods"].as_array().unwrap();
        assert!(likely.len() == 3 && likely.iter().all(|l| l.as_f64().unwrap() < 0.0), "{answer}");
        let ends = answer["finish"].as_array().unwrap();
        assert!(ends.iter().all(|f| *f == "stop" || *f == "length"), "{answer}");
    }
    let scores = lens.ok("score rm answers.jsonl --json").json_lines();
    assert_eq!(scores.len(), 3);
    assert!(scores.iter().all(|s| s["rewards"].as_array().unwrap().len() == 3), "{scores:?}");
    // The pair of the row is not asked for, only its prompt; a person is told in a table.
    let said =
        lens.ok("generate prompts.jsonl -o again.jsonl --model tiny.gguf --max-new-tokens 2");
    assert!(
        said.out.contains("again.jsonl") && said.out.contains("3, 3 of them cut off"),
        "{}",
        said.out
    );
}

#[test]
fn the_same_seed_generates_the_same_bytes() {
    let lens = Lens::new();
    lens.rows("prompts.jsonl", &prompts());
    lens.write("lens.toml", "[generate]\nsamples = 2\nmax_new_tokens = 12\nseed = 5\n");
    let generate = |name: &str, flags: &str| {
        let model = "--model tiny.gguf --config lens.toml --quiet";
        lens.ok(&format!("generate prompts.jsonl -o {name} {model} {flags}"));
        lens.read(name)
    };
    let one = generate("one", "");
    assert_eq!(one, generate("two", "--seed 5 --threads 1"));
    assert_ne!(one, generate("three", "--seed 6"));
    // The likeliest token is no draw.
    assert_eq!(
        generate("four", "--temperature 0 --seed 1"),
        generate("five", "--temperature 0 --seed 2")
    );
    let row: Value = serde_json::from_str(one.lines().next().unwrap()).unwrap();
    assert_eq!(row["responses"].as_array().unwrap().len(), 2);
}

#[test]
fn likelihoods_of_pairs_are_printed_by_row_and_compared() {
    let lens = Lens::new();
    let mut rows = pairs(0..6);
    rows.insert(2, json!({"prompt": "p", "responses": ["one", "two", "three"]}));
    rows.push(json!({"prompt": "p", "response": "one"}));
    rows.push(json!({"text": "not an answer"}));
    lens.rows("rows.jsonl", &rows);
    let said = lens.ok("likelihood rows.jsonl --model tiny.gguf --json");
    let lines = said.json_lines();
    assert_eq!(lines.len(), rows.len());
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["line"], i + 1);
    }
    let likely = |x: &Value| x.as_f64().is_some_and(|x| x < 0.0);
    assert!(likely(&lines[0]["chosen"]) && likely(&lines[0]["rejected"]), "{}", lines[0]);
    assert!(lines[0]["chosen_tokens"].as_u64().unwrap() > 0);
    assert_eq!(lines[2]["tokens"].as_array().unwrap().len(), 3);
    // The same response to the same prompt is as likely among others as alone.
    let (among, alone) = (&lines[2]["log_likelihoods"][0], &lines[7]["log_likelihood"]);
    assert!((among.as_f64().unwrap() - alone.as_f64().unwrap()).abs() < 1e-3);
    assert!(lines[8]["error"].is_string());
    assert!(said.err.contains("of 6 pairs; per token in "), "{}", said.err);
    assert!(said.err.contains("1 of 9 rows have no likelihood"), "{}", said.err);

    // The same lines can go into a file, and a person reads them too.
    let file = lens.ok("likelihood rows.jsonl --model tiny.gguf -o out.jsonl");
    assert_eq!((file.out.as_str(), lens.read("out.jsonl")), ("", said.out));
    let said = lens.ok("likelihood rows.jsonl --model tiny.gguf");
    assert!(said.out.starts_with("1\tchosen -") && said.out.contains(" tokens)"), "{}", said.out);
}

#[test]
fn flags_that_cannot_be_are_refused_by_name() {
    let lens = Lens::new();
    lens.rows("prompts.jsonl", &prompts());
    let generate = "generate prompts.jsonl -o out.jsonl --model tiny.gguf";
    for (flags, name) in [
        ("--samples 0", "samples"),
        ("--max-new-tokens 0", "max_new_tokens"),
        ("--max-new-tokens 4000", "max_new_tokens"),
        ("--temperature -1", "temperature"),
        ("--top-p 1.5", "top_p"),
        ("--stop=", "stop"),
        ("--set generate.sampels=2", "sampels"),
        ("--set server=http://localhost:1", "server"),
    ] {
        let error = lens.fails(2, &format!("{generate} {flags}"));
        assert!(error.contains(name), "{flags}: {error}");
        assert!(!lens.path("out.jsonl").exists(), "{flags}");
    }
    // What is read is not written over.
    let error = lens.fails(1, "generate prompts.jsonl -o prompts.jsonl --model tiny.gguf");
    assert!(error.contains("the very file"), "{error}");
    let error = lens.fails(1, "likelihood prompts.jsonl -o no/such/folder --model tiny.gguf");
    assert!(error.contains("no/such"), "{error}");
}
