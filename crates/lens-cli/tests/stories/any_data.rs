//! Stories of users whose data were not made for this tool: other names of columns, other files, other
//! places; and nothing of them is lost or misread without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, jsonl, pairs};
use crate::stand_in::{Reply, Request, Server};
use serde_json::{Value, json};

const TRAIN: &str = "--model tiny.gguf --views fixed --augment 1 --overwrite -o rm --json";

/// Pairs with their columns under other names.
fn renamed(names: [&str; 3]) -> Vec<Value> {
    let [prompt, chosen, rejected] = names;
    let row = |row: Value| json!({prompt: row["prompt"], chosen: row["chosen"], rejected: row["rejected"]});
    pairs(0..12).into_iter().map(row).collect()
}

fn info(lens: &Lens, words: &str) -> Value {
    lens.ok(&format!("info {words} --json")).json()
}

/// The fingerprint of the twelve pairs, however they were read.
fn fingerprint(lens: &Lens) -> Value {
    lens.rows("plain.jsonl", &pairs(0..12));
    info(lens, "plain.jsonl")["fingerprint"].clone()
}

#[test]
fn a_question_is_a_prompt_and_its_pairs_stay_on_one_side_of_the_hold_out() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    for name in ["question", "instruction", "query", "input"] {
        lens.rows("pairs.jsonl", &renamed([name, "chosen", "rejected"]));
        let said = info(&lens, "pairs.jsonl");
        assert_eq!(said["fingerprint"], same, "{name}");
        assert_eq!(said["columns"][0], json!({"column": name, "used_as": "prompt", "rows": 12}));
    }
    // A second column that may belong to the prompt is named.
    let rows: Vec<Value> = pairs(0..12)
        .into_iter()
        .map(|mut row| {
            row["context"] = json!("Something to read.");
            row
        })
        .collect();
    lens.rows("context.jsonl", &rows);
    let said = lens.ok(&format!("run context.jsonl {TRAIN}"));
    assert!(
        said.err.contains("the column `context`, which may belong to the prompt"),
        "{}",
        said.err
    );
    // Five pairs of each question: with a fifth of the questions, fives are held out.
    let rows: Vec<Value> = (0..60)
        .map(|i| {
            json!({"question": format!("Question {}?", i % 12), "chosen": format!("Yes, {i}."),
                "rejected": format!("No number {i}")})
        })
        .collect();
    lens.rows("repeated.jsonl", &rows);
    let said = lens.ok(&format!("run repeated.jsonl {TRAIN}")).json();
    assert_eq!((&said["pairs"]["used"], &said["heldout_pairs"]["used"]), (&json!(50), &json!(10)));
}

#[test]
fn columns_of_any_name_are_named_and_unread_text_is_not_passed_over() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    lens.rows("pairs.jsonl", &renamed(["ask", "good", "bad"]));
    let named = "--columns prompt=ask,chosen=good,rejected=bad";
    assert_eq!(info(&lens, &format!("pairs.jsonl {named}"))["fingerprint"], same);
    let said = lens.ok(&format!("run pairs.jsonl {named} {TRAIN}")).json();
    assert_eq!(said["pairs"]["used"], 10);
    let settings = lens.read("rm/report.md");
    assert!(settings.contains("columns = \"chosen=good,prompt=ask,rejected=bad\""), "{settings}");

    lens.rows("unread.jsonl", &renamed(["ask", "chosen", "rejected"]));
    let error = lens.fails(1, &format!("run unread.jsonl {TRAIN}"));
    assert!(error.contains("no prompt, and text that nothing reads in `ask`"), "{error}");
    assert!(error.contains("--columns prompt=ask"), "{error}");
    let said = lens.ok(&format!("run unread.jsonl --no-prompt {TRAIN}"));
    assert_eq!(said.json()["pairs"]["used"], 10);
    let error = lens.fails(2, "info pairs.jsonl --columns promt=ask");
    assert!(error.contains("columns") && error.contains("'promt=ask'"), "{error}");
    let error = lens.fails(1, "info pairs.jsonl --columns prompt=nope");
    assert!(error.contains("`nope`"), "{error}");
}

#[test]
fn what_the_system_says_is_part_of_the_conversation() {
    let lens = Lens::new();
    let rows: Vec<Value> = pairs(0..6)
        .into_iter()
        .flat_map(|row| {
            [
                ("Agree with everything.", "chosen", "rejected"),
                ("Deny everything.", "rejected", "chosen"),
            ]
            .map(|(system, better, worse)| {
                json!({"system": system, "prompt": row["prompt"], "chosen": row[better],
                        "rejected": row[worse]})
            })
        })
        .collect();
    lens.rows("pairs.jsonl", &rows);
    let said = info(&lens, "pairs.jsonl");
    assert_eq!((&said["pairs"]["read"], &said["pairs"]["used"]), (&json!(12), &json!(12)));
    assert_eq!(said["columns"][0]["used_as"], "system message");
}

#[test]
fn a_missing_prompt_is_listed_by_line() {
    let lens = Lens::new();
    let mut rows = pairs(0..12);
    rows[2]["prompt"] = Value::Null;
    rows[5]["prompt"] = json!("  ");
    rows[9].as_object_mut().unwrap().remove("prompt");
    lens.rows("pairs.jsonl", &rows);
    let said = lens.ok(&format!("run pairs.jsonl {TRAIN} --holdout 0"));
    assert!(said.err.contains("left out: 3 pairs have no prompt"), "{}", said.err);
    let lines: Vec<Value> = said.json()["pairs"]["lines"]["no-prompt"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["line"].clone())
        .collect();
    assert_eq!(lines, [json!(3), json!(6), json!(10)]);
    assert_eq!(info(&lens, "pairs.jsonl --no-prompt")["pairs"]["used"], 12);
    // A file without any prompt is trained on, and says so.
    let bare: Vec<Value> = pairs(0..12)
        .into_iter()
        .map(|row| json!({"chosen": row["chosen"], "rejected": row["rejected"]}))
        .collect();
    lens.rows("bare.jsonl", &bare);
    let said = lens.ok(&format!("run bare.jsonl {TRAIN}"));
    assert!(said.err.contains("warning: 12 of 12 pairs have no prompt"), "{}", said.err);
}

#[test]
fn a_prompt_that_the_responses_repeat_is_read_once() {
    let lens = Lens::new();
    let rows: Vec<Value> = pairs(0..12)
        .into_iter()
        .map(|row| {
            let turn = format!("\n\nHuman: {}\n\nAssistant:", row["prompt"].as_str().unwrap());
            let side = |name: &str| format!("{turn} {}", row[name].as_str().unwrap());
            json!({"prompt": turn, "chosen": side("chosen"), "rejected": side("rejected")})
        })
        .collect();
    lens.rows("both.jsonl", &rows);
    let alone: Vec<Value> = rows
        .iter()
        .map(|row| json!({"chosen": row["chosen"], "rejected": row["rejected"]}))
        .collect();
    lens.rows("alone.jsonl", &alone);
    for name in ["both", "alone"] {
        let words =
            format!("embed {name}.jsonl --model tiny.gguf --template plain -o {name}.safetensors");
        lens.ok(&words);
    }
    assert_eq!(
        std::fs::read(lens.path("both.safetensors")).unwrap(),
        std::fs::read(lens.path("alone.safetensors")).unwrap()
    );
    // Other text that every row repeats is taken out as well, and it is said.
    let rows: Vec<Value> = pairs(0..12)
        .into_iter()
        .map(|row| {
            let prompt = row["prompt"].as_str().unwrap();
            let side = |name: &str| format!("{prompt}{}", row[name].as_str().unwrap());
            json!({"prompt": prompt, "chosen": side("chosen"), "rejected": side("rejected")})
        })
        .collect();
    lens.rows("repeated.jsonl", &rows);
    let said = lens.ok(&format!("run repeated.jsonl {TRAIN}"));
    assert!(said.err.contains("the responses of 12 pairs repeat their prompts"), "{}", said.err);
    assert_eq!(info(&lens, "repeated.jsonl")["fingerprint"], fingerprint(&lens));
}

#[test]
fn what_python_writes_is_read() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    let with = |extra: &str| {
        let line =
            |row: Value| row.to_string().replace("\"rejected\"", &format!("{extra}, \"rejected\""));
        pairs(0..12).into_iter().map(line).collect::<Vec<_>>()
    };
    // A missing number, half of an emoji in one row, and a list of all.
    lens.write("nan.jsonl", with("\"gap\": NaN, \"margin\": NaN").join("\n"));
    assert_eq!(info(&lens, "nan.jsonl")["fingerprint"], same);
    lens.write("nan.json", format!("[{}]", with("\"gap\": NaN").join(",\n")));
    assert_eq!(info(&lens, "nan.json")["fingerprint"], same);
    let mut half = with("\"note\": \"x\"");
    half[4] = half[4].replace("\"x\"", "\"\\ud83d\"");
    lens.write("half.json", format!("[{}]", half.join(",")));
    let said = info(&lens, "half.json");
    assert_eq!(said["pairs"]["left_out"], json!({"malformed": 1}));
    assert_eq!(said["pairs"]["lines"]["malformed"][0]["line"], 5);
    let infinite = with("\"margin\": Infinity").join("\n");
    lens.write("infinite.jsonl", infinite);
    let error = lens.fails(1, "info infinite.jsonl");
    assert!(error.contains("`margin`"), "{error}");

    // Objects over several lines, and a list inside an object.
    let pretty: Vec<String> =
        pairs(0..12).iter().map(|row| serde_json::to_string_pretty(row).unwrap()).collect();
    lens.write("pretty.jsonl", pretty.join("\n"));
    let said = info(&lens, "pretty.jsonl");
    assert_eq!((&said["fingerprint"], &said["pairs"]["used"]), (&same, &json!(12)));
    let whole = json!({"version": "1.0", "data": pairs(0..12)});
    lens.write("data.json", serde_json::to_string_pretty(&whole).unwrap());
    assert_eq!(info(&lens, "data.json")["fingerprint"], same);
    lens.write("compact.json", whole.to_string());
    assert_eq!(info(&lens, "compact.json")["fingerprint"], same);
    // A data frame by columns, as pandas writes it unless it is told otherwise.
    let column = |name: &str| -> Value {
        let rows = pairs(0..12).into_iter().enumerate();
        rows.map(|(i, row)| (i.to_string(), row[name].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let frame = json!({"prompt": column("prompt"), "chosen": column("chosen"),
        "rejected": column("rejected")});
    lens.write("frame.json", frame.to_string());
    assert_eq!(info(&lens, "frame.json")["fingerprint"], same);
    // Messages in a column of text.
    let said_by = |role: &str, text: &Value| json!([{"role": role, "content": text}]);
    let quoted = |row: Value| {
        json!({"prompt": said_by("user", &row["prompt"]).to_string(),
            "chosen": said_by("assistant", &row["chosen"]).to_string(),
            "rejected": said_by("assistant", &row["rejected"]).to_string()})
    };
    let messages = |row: Value| {
        json!({"prompt": said_by("user", &row["prompt"]), "chosen": said_by("assistant", &row["chosen"]),
            "rejected": said_by("assistant", &row["rejected"])})
    };
    lens.rows("quoted.jsonl", &pairs(0..12).into_iter().map(quoted).collect::<Vec<_>>());
    lens.rows("messages.jsonl", &pairs(0..12).into_iter().map(messages).collect::<Vec<_>>());
    let fingerprint = |name: &str| info(&lens, name)["fingerprint"].clone();
    assert_eq!(fingerprint("quoted.jsonl"), fingerprint("messages.jsonl"));
    lens.write(
        "printed.jsonl",
        r#"{"chosen": "[{'role': 'user', 'content': 'x'}]", "rejected": "y"}"#,
    );
    let error = lens.fails(1, "info printed.jsonl");
    assert!(error.contains("as Python prints them"), "{error}");
}

#[test]
fn several_files_are_one_dataset() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    std::fs::create_dir(lens.path("shards")).unwrap();
    lens.rows("shards/train-00000-of-00002.jsonl", &pairs(0..7));
    let mut second = pairs(7..12);
    second.push(pairs(3..4).remove(0));
    lens.rows("shards/train-00001-of-00002.jsonl", &second);
    let (a, b) = ("shards/train-00000-of-00002.jsonl", "shards/train-00001-of-00002.jsonl");
    for words in ["shards".to_owned(), "shards/*.jsonl".to_owned(), format!("{a} {b}")] {
        let said = info(&lens, &words);
        assert_eq!(said["fingerprint"], same, "{words}");
        let left_out =
            json!([{"line": 6, "file": b, "detail": format!("as line 4 of {}", &a[7..])}]);
        assert_eq!(said["pairs"]["lines"]["duplicate"], left_out, "{words}");
    }
    let said = lens.ok(&format!("run shards {TRAIN}")).json();
    assert_eq!(said["pairs"]["left_out"], json!({"duplicate": 1}));
    // Rows are answered file by file, with the name of their file.
    lens.write(b, lens.read(b) + "no object\n");
    let answers = lens.ok("score rm shards --json --quiet").json_lines();
    let places: Vec<Value> = answers.iter().map(|row| json!([row["file"], row["line"]])).collect();
    let line = |file: &str, line: u64| json!([file, line]);
    let expected: Vec<Value> =
        (1..=7).map(|i| line(a, i)).chain((1..=7).map(|i| line(b, i))).collect();
    assert_eq!(places, expected);
    assert!(answers[13]["error"].is_string(), "{}", answers[13]);
    lens.rows("shards/test.jsonl", &pairs(20..22));
    let error = lens.fails(1, "info shards");
    assert!(error.contains("several splits (test, train)"), "{error}");
    let error = lens.fails(1, "run shards/none*.jsonl");
    assert!(error.contains("no file is named so"), "{error}");
}

#[test]
fn a_pipe_is_read_as_a_file_is() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    for path in ["-", "/dev/stdin"] {
        let mut running = lens.start(&format!("info {path} --json"));
        assert!(running.feed(&jsonl(&pairs(0..12))));
        drop(running.stdin.take());
        assert_eq!(running.end().json()["fingerprint"], same, "{path}");
    }
}

#[test]
fn pairs_of_any_shape_become_those_of_trl() {
    let lens = Lens::new();
    let rows: Vec<Value> = pairs(0..4)
        .into_iter()
        .map(|row| {
            json!({"conversations": [{"from": "human", "value": row["prompt"]}],
                "chosen": {"from": "gpt", "value": row["chosen"]},
                "rejected": {"from": "gpt", "value": row["rejected"]}, "topic": "numbers"})
        })
        .collect();
    lens.rows("sharegpt.jsonl", &[rows.clone(), rows[..1].to_vec()].concat());
    let before = info(&lens, "sharegpt.jsonl");
    for output in ["trl.jsonl", "trl.parquet"] {
        let said = lens.ok(&format!("convert sharegpt.jsonl -o {output} --json")).json();
        assert_eq!(
            (&said["written"], &said["pairs"]["left_out"]),
            (&json!(4), &json!({"duplicate": 1}))
        );
        let after = info(&lens, output);
        assert_eq!(after["fingerprint"], before["fingerprint"], "{output}");
        assert_eq!(
            after["columns"][3],
            json!({"column": "topic", "used_as": "not read", "rows": 4})
        );
    }
    let first: Value =
        serde_json::from_str(lens.read("trl.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(first["prompt"], json!([{"role": "user", "content": "Question 0: what of it?"}]));
    assert!(lens.fails(1, "convert sharegpt.jsonl -o trl.jsonl").contains("--overwrite"));
    assert!(
        lens.fails(1, "convert sharegpt.jsonl -o sharegpt.jsonl --overwrite").contains("very file")
    );
    assert!(lens.fails(2, "convert sharegpt.jsonl -o trl.xml").contains(".parquet"));
}

/// A Hub with one dataset of two splits.
fn hub(request: &Request) -> Reply {
    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    let files = [
        ("README.md", String::new()),
        ("data/train-00000-of-00002.jsonl", jsonl(&pairs(0..7))),
        ("data/train-00001-of-00002.jsonl", jsonl(&pairs(7..12))),
        ("data/test-00000-of-00001.jsonl", jsonl(&pairs(20..24))),
    ];
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/api/datasets/org/prefs/revision/main" {
        let entry = |(name, text): &(&str, String)| json!({"rfilename": name, "size": text.len()});
        let siblings: Vec<Value> = files.iter().map(entry).collect();
        return Reply::json(&json!({"id": "org/prefs", "sha": SHA, "siblings": siblings}));
    }
    let file = path.strip_prefix(&format!("/datasets/org/prefs/resolve/{SHA}/"));
    match file.and_then(|file| files.iter().find(|(name, _)| *name == file)) {
        Some((_, text)) => Reply::file(request, text.as_bytes(), "\"abc\""),
        None => Reply::new(404, r#"{"error":"Repository not found"}"#),
    }
}

#[test]
fn a_dataset_of_the_hub_is_named_and_fetched_once() {
    let lens = Lens::new();
    let same = fingerprint(&lens);
    let server = Server::start(hub);
    let run = |words: &str, offline: bool| {
        let mut command = lens.command(words);
        command.env("HF_ENDPOINT", &server.url);
        if offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        crate::common::Said::from(command.output().unwrap())
    };
    for name in ["org/prefs", "hf://datasets/org/prefs", "org/prefs/train"] {
        let said = run(&format!("info {name} --json"), false);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(said.json()["fingerprint"], same, "{name}");
        assert_eq!(said.err.contains("fetching org/prefs"), name == "org/prefs", "{}", said.err);
    }
    let said = run(&format!("run org/prefs --eval org/prefs/test {TRAIN}"), false);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.json()["heldout_pairs"]["used"], 4);
    let said = run("info org/prefs --json", true);
    assert_eq!(said.json()["fingerprint"], same, "{}", said.err);
    let said = run("info org/prefs/validation", false);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("the splits test, train: name one"), "{}", said.err);
    let said = run("info org/none", false);
    assert!(said.err.contains("there is no org/none"), "{}", said.err);
}
