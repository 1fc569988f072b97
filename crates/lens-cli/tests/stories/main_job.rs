//! Stories of users for whom everything goes right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::Arc;

use crate::common::{Lens, TinyModel, cloud, jsonl, npy, pairs, safetensors};
use lens_data::ArrayFile;
use serde_json::{Value, json};

/// A chat template in the style of Gemma's, which the tiny model's tokenizer knows the marks of.
const CHAT: &str = "{{ bos_token }}{% for m in messages %}<start_of_turn>\
    {{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n\
    {% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";

fn is_accuracy(value: &Value) -> bool {
    let within = |x: &Value| x.as_f64().is_some_and(|x| (0.0..=1.0).contains(&x));
    let [low, high] = &value["ci95"].as_array().unwrap()[..] else { return false };
    within(&value["accuracy"]) && within(low) && within(high)
}

#[test]
fn a_script_reads_the_figures_of_a_run() {
    let lens = Lens::new();
    let mut rows = pairs(0..60);
    rows.push(rows[3].clone());
    rows.push(json!({"prompt": "Blank?", "chosen": "yes", "rejected": " "}));
    lens.rows("pairs.jsonl", &rows);
    lens.rows("heldout.jsonl", &pairs(55..90));
    let run = lens.ok("run pairs.jsonl --eval heldout.jsonl --model tiny.gguf -o rm --json").json();

    assert_eq!((&run["pairs"]["read"], &run["pairs"]["used"]), (&json!(62), &json!(55)));
    let left_out = json!({"empty-side": 1, "duplicate": 1, "overlap": 5});
    assert_eq!(run["pairs"]["left_out"], left_out);
    assert!(is_accuracy(&run["heldout"]["none"]), "{run}");
    assert!(is_accuracy(&run["heldout"]["augmented"]), "{run}");
    // The better answer of these pairs is always the longer one, and easy to see.
    assert_eq!(run["heldout"]["longer_wins"], 1.0);
    assert!(run["heldout"]["none"]["accuracy"].as_f64().unwrap() > 0.9, "{run}");
    let stages = run["stages"].as_array().unwrap();
    assert!(stages.iter().all(|s| s["name"].is_string() && s["seconds"].as_f64().is_some()));
    let embed = stages.iter().find(|s| s["name"] == "embed").unwrap();
    assert!(embed["tokens"].as_u64().unwrap() > 1000, "{embed}");
    assert_eq!(run["bundle"], "rm");
    assert_eq!(
        lens.names("rm"),
        ["curves.jsonl", "lens.json", "model.safetensors", "report.html", "report.md"]
    );
}

#[test]
fn a_person_reads_the_result_table() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    let said = lens.ok("run pairs.jsonl --model tiny.gguf --augment 2 -o rm");
    for part in [
        "48 read, 48 used, left out: none",
        "without augmentation",
        "95% interval",
        "with 2x augmentation",
        "same head",
        "longer answer wins",
        "tokens/s",
        "rm/report.html",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    // What was chosen for the user is said, and nothing else: this took no two seconds.
    assert!(said.err.contains("encoder: tiny.gguf (gemma3, 6 layers, width 32)"), "{}", said.err);
    assert!(said.err.contains("12 of the pairs (20.0% of the prompts) are held out"));
    let report = lens.read("rm/report.md");
    assert!(report.contains("without augmentation") && report.contains("[vae]"), "{report}");
    assert_eq!(lens.ok("run pairs.jsonl --model tiny.gguf -o again --quiet").err, "");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok("run pairs.jsonl --model tiny.gguf -o one --seed 5");
    // How results are shown, and how many threads made them, leaves no trace.
    lens.ok("run pairs.jsonl --model tiny.gguf -o two --seed 5 --json --quiet --threads 1");
    lens.ok("run pairs.jsonl --model tiny.gguf -o three --seed 6");
    let (one, two, three) = (lens.files("one"), lens.files("two"), lens.files("three"));
    assert_eq!(one.len(), 5);
    for (name, bytes) in &one {
        assert!(two[name] == *bytes, "{name} differs");
    }
    assert_ne!(one["model.safetensors"], three["model.safetensors"]);
}

#[test]
fn a_second_run_embeds_nothing_anew() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    let embed = |name: &str| {
        let run = lens.ok(&format!("run pairs.jsonl --model tiny.gguf -o {name} --json")).json();
        let stages = run["stages"].as_array().unwrap();
        stages.iter().find(|s| s["name"] == "embed").unwrap().clone()
    };
    assert!(embed("one")["computed"].as_u64().unwrap() > 0);
    let second = embed("two");
    assert_eq!(second["computed"], 0);
    assert!(second["tokens"].as_u64().unwrap() > 0);

    // Ten more pairs cost ten more pairs; another layer is another embedding.
    lens.rows("more.jsonl", &pairs(0..50));
    let embed = |flags: &str| {
        let words =
            format!("embed more.jsonl --model tiny.gguf -o more.safetensors --json {flags}");
        lens.ok(&words).json()
    };
    let more = embed("");
    let (tokens, computed) = (more["tokens"].as_u64().unwrap(), more["computed"].as_u64().unwrap());
    assert!(0 < computed && computed < tokens / 3, "{more}");
    assert!(embed("--layer 3")["computed"].as_u64().unwrap() > tokens / 3);
}

#[test]
fn texts_and_pairs_become_arrays_with_their_lines() {
    let lens = Lens::new();
    lens.write(
        "texts.jsonl",
        "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n[]\n{\"text\": \"one\"}\n",
    );
    let said = lens.ok("embed texts.jsonl --model tiny.gguf -o texts.safetensors --pooling mean");
    assert!(said.err.contains("texts.jsonl:4: expected a JSON object"), "{}", said.err);
    let file = ArrayFile::open(lens.path("texts.safetensors")).unwrap();
    let text = file.floats(Some("text")).unwrap();
    assert_eq!(text.shape(), [3, 32]);
    assert_eq!(file.integers(Some("row")).unwrap(), [1, 3, 5]);
    assert_eq!(text.data[..32], text.data[64..]);
    assert_ne!(text.data[..32], text.data[32..64]);
    let encoder: Value = serde_json::from_str(&file.metadata()["encoder"]).unwrap();
    assert_eq!(encoder["identity"]["views"][0]["pooling"], "mean");
    assert_eq!(encoder["identity"]["dim"], 32);

    lens.rows("pairs.jsonl", &pairs(0..5));
    let said = lens.ok("embed pairs.jsonl --model tiny.gguf -o pairs.safetensors --json").json();
    assert_eq!(said["tensors"], json!({"chosen": [5, 32], "rejected": [5, 32]}));
    let file = ArrayFile::open(lens.path("pairs.safetensors")).unwrap();
    assert_eq!(file.shape(Some("chosen")).unwrap(), [5, 32]);
    assert_eq!(file.shape(Some("rejected")).unwrap(), [5, 32]);
    assert_eq!(file.integers(Some("row")).unwrap(), [1, 2, 3, 4, 5]);
}

#[test]
fn views_lie_side_by_side_from_file_to_score() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    let views = "--view layer=3,pooling=mean --view pooling=last,suffix=Good?";
    lens.ok(&format!("embed pairs.jsonl --model tiny.gguf {views} -o v.safetensors"));
    let file = ArrayFile::open(lens.path("v.safetensors")).unwrap();
    assert_eq!(file.shape(Some("chosen")).unwrap(), [60, 64]);
    let listed: Value = serde_json::from_str(&file.metadata()["views"]).unwrap();
    assert_eq!(listed[0], json!({"columns": [0, 32], "view": {"layer": 3, "pooling": "mean"}}));
    assert_eq!(listed[1]["view"]["suffix"], "Good?");
    // A bundle remembers its views, and scores with them.
    lens.ok(&format!("run pairs.jsonl --model tiny.gguf {views} --holdout 0 -o rm"));
    let scored = lens.ok("score rm pairs.jsonl");
    assert_eq!(scored.out.lines().count(), 60);
    // Every layer in one pass.
    lens.ok("embed pairs.jsonl --model tiny.gguf --layers all -o all.safetensors");
    let file = ArrayFile::open(lens.path("all.safetensors")).unwrap();
    assert_eq!(file.shape(Some("rejected")).unwrap(), [60, 7 * 32]);
    let error = lens.fails(2, "embed pairs.jsonl --model tiny.gguf --layers 1,x -o x.safetensors");
    assert!(error.contains("expected a number or 'all', found 'x'"), "{error}");
    let both = "embed pairs.jsonl --model tiny.gguf --layers 1 --view layer=2 -o x.safetensors";
    assert!(lens.fails(2, both).contains("exclude each other"));
}

#[test]
fn training_from_a_store_is_training_from_text() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..80));
    lens.ok("embed pairs.jsonl --model tiny.gguf -o store.safetensors");
    let words = "train store.safetensors --seed-pairs 50 --splits 3 --augment 4 -o rm --json";
    let train = lens.ok(words).json();
    assert!(is_accuracy(&train["none"]) && is_accuracy(&train["augmented"]), "{train}");
    assert_eq!((&train["factor"], &train["splits"]), (&json!(4), &json!(3)));
    assert!(train["seconds"].as_f64().is_some());
    assert!(train["none"]["accuracy"].as_f64().unwrap() > 0.9, "{train}");

    // The store says which encoder made it: the reward model can score text.
    lens.rows("new.jsonl", &pairs(100..103));
    for row in lens.ok("score rm new.jsonl --json").json_lines() {
        assert!(row["chosen"].as_f64() > row["rejected"].as_f64(), "{row}");
    }
}

#[test]
fn arrays_from_elsewhere_train_a_reward_model_for_arrays() {
    let lens = Lens::new();
    let (good, bad) = (cloud(90, 12, 0.2), cloud(90, 12, -0.2));
    lens.write("a.safetensors", safetensors(&[("w", [90, 12], &good), ("l", [90, 12], &bad)]));
    let flags = "--seed-pairs 60 --splits 2 --augment 2 --json";
    let named = format!("train a.safetensors --chosen-key w --rejected-key l {flags} -o rm");
    let named = lens.ok(&named).json();
    assert!(named["none"]["accuracy"].as_f64().unwrap() > 0.9, "{named}");

    lens.write("w.npy", npy([90, 12], &good));
    lens.write("l.npy", npy([90, 12], &bad));
    let two = lens.ok(&format!("train w.npy l.npy {flags}")).json();
    assert_eq!((&named["none"], &named["augmented"]), (&two["none"], &two["augmented"]));

    let rewards = lens.ok("score rm w.npy --json").json_lines();
    assert_eq!(rewards.len(), 90);
    lens.write("text.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    assert!(lens.fails(1, "score rm text.jsonl").contains("it scores arrays, not text"));
}

#[test]
fn every_row_gets_its_rewards_in_its_place() {
    let lens = Lens::with_reward_model();
    let rows = [
        json!({"prompt": "What?", "response": "This."}),
        json!({"prompt": "What?", "responses": ["This.", "That.", "No"]}),
        json!({"prompt": "What?", "chosen": "This.", "rejected": "No"}),
        json!({"prompt": "What?"}),
        json!({"text": "This."}),
        json!({"prompt": "What?", "response": 3}),
    ];
    lens.rows("rows.jsonl", &rows);
    let said = lens.ok("score rm rows.jsonl --json");
    let answers = said.json_lines();
    assert_eq!(answers.len(), rows.len());
    let this = answers[0]["reward"].as_f64().unwrap();
    assert_eq!(answers[1]["rewards"].as_array().unwrap().len(), 3);
    // The same response has the same reward in whatever company.
    let near = |a: &Value, b: f64| (a.as_f64().unwrap() - b).abs() < 1e-4;
    assert!(near(&answers[1]["rewards"][0], this), "{}", said.out);
    assert!(near(&answers[2]["chosen"], this), "{}", said.out);
    assert_eq!(answers[1]["rewards"][2], answers[2]["rejected"]);
    let error = answers[3]["error"].as_str().unwrap();
    assert!(error.contains("rows.jsonl:4") && error.contains("response"), "{error}");
    assert!(answers[4]["reward"].is_number());
    let error = answers[5]["error"].as_str().unwrap();
    assert!(error.contains("rows.jsonl:6: `response`"), "{error}");
    assert!(said.err.contains("2 of 6 rows are malformed"), "{}", said.err);

    // The same for people, and in units of the training responses' rewards.
    let plain = lens.ok("score rm rows.jsonl --quiet");
    assert_eq!(plain.out.lines().count(), rows.len());
    assert!(plain.out.starts_with(&format!("1\t{this:.4}\n")), "{}", plain.out);
    let manifest = lens.json("rm/lens.json");
    let [mean, deviation] = ["reward_mean", "reward_deviation"].map(|k| manifest[k].as_f64());
    let normal = &lens.ok("score rm rows.jsonl --json --normalise").json_lines()[0]["reward"];
    assert!(near(normal, (this - mean.unwrap()) / deviation.unwrap()), "{normal}");
}

#[test]
fn evaluation_is_the_share_of_pairs_that_scoring_orders_as_labelled() {
    let lens = Lens::with_reward_model();
    let mut rows = pairs(200..230);
    for row in rows.iter_mut().step_by(3) {
        let row = row.as_object_mut().unwrap();
        let (better, worse) = (row["chosen"].clone(), row["rejected"].clone());
        (row["chosen"], row["rejected"]) = (worse, better);
    }
    lens.rows("mixed.jsonl", &rows);
    let scores = lens.ok("score rm mixed.jsonl --json").json_lines();
    let right = scores.iter().filter(|r| r["chosen"].as_f64() > r["rejected"].as_f64()).count();
    let eval = lens.ok("eval rm mixed.jsonl --json").json();
    assert_eq!(eval["accuracy"].as_f64().unwrap(), right as f64 / 30.0);
    assert!(is_accuracy(&eval) && right < 30, "{eval}");
    assert_eq!(eval["pairs"]["used"], 30);

    // Embedded first, the figures are the same.
    lens.ok("embed mixed.jsonl --model tiny.gguf -o mixed.safetensors");
    let stored = lens.ok("eval rm mixed.safetensors --json").json();
    assert_eq!(stored["accuracy"], eval["accuracy"]);
    assert_eq!(stored["log_loss"], eval["log_loss"]);

    // Pairs that were trained on say nothing, and that is said.
    lens.ok("run pairs.jsonl --model tiny.gguf --holdout 0 -o all");
    let said = lens.ok("eval all pairs.jsonl");
    assert!(said.err.contains("holds the pairs that this model was trained on"), "{}", said.err);
}

#[test]
fn another_encoder_is_refused_by_the_field_that_differs() {
    let lens = Lens::with_reward_model();
    lens.model("other.gguf", &TinyModel { seed: 2, ..TinyModel::default() });
    lens.rows("new.jsonl", &pairs(100..110));
    for command in ["eval", "score"] {
        let error = lens.fails(1, &format!("{command} rm new.jsonl --model other.gguf"));
        assert!(error.contains("rm was trained with another encoder: model_sha256 is"), "{error}");
        assert!(error.contains("hint: give the model it was trained with by --model"), "{error}");
    }
    // Embeddings of another encoder, or of another layer of the same, are refused as well.
    lens.ok("embed new.jsonl --model tiny.gguf --layer 2 --pooling mean -o new.safetensors");
    for command in ["eval rm new.safetensors", "score rm new.safetensors --key chosen"] {
        let error = lens.fails(1, command);
        assert!(error.contains("layer=6,pooling=last in"), "{error}");
        assert!(!error.contains("model_sha256"), "{error}");
    }
    // The same model by another name is the same model.
    std::fs::copy(lens.path("tiny.gguf"), lens.path("renamed.gguf")).unwrap();
    lens.ok("eval rm new.jsonl --model renamed.gguf");
    lens.ok("embed new.jsonl --model renamed.gguf -o new.safetensors");
    lens.ok("eval rm new.safetensors");
    lens.ok("score rm new.safetensors --key rejected");
}

#[test]
fn info_tells_what_a_thing_is() {
    let lens = Lens::with_reward_model();
    lens.ok("embed pairs.jsonl --model tiny.gguf -o store.safetensors");
    lens.write("rows.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    for (path, kind, part) in [
        ("rm", "reward model", "held out, without"),
        ("pairs.jsonl", "preference pairs", "60 read, 60 usable"),
        ("store.safetensors", "arrays", "[60, 32]"),
        ("tiny.gguf", "language model", "gemma3"),
        ("rows.jsonl", "rows to score or embed", "1, 0 malformed"),
    ] {
        let said = lens.ok(&format!("info {path}"));
        assert!(said.out.starts_with(&format!("{path}: {kind}\n")), "{}", said.out);
        assert!(said.out.contains(part), "{part}: {}", said.out);
        assert_eq!(lens.ok(&format!("info {path} --json")).json()["kind"], kind);
    }
}

#[test]
fn every_flag_can_live_in_a_settings_file() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    lens.rows("heldout.jsonl", &pairs(50..60));
    lens.write(
        "lens.toml",
        r#"
model = "tiny.gguf"
layer = 4
pooling = "mean"
template = "plain"
max_length = 300
bos = "always"
strict = true
eval = "heldout.jsonl"
output = "rm"
overwrite = true
keep = "augmented"
augment = 2
seed = 9
json = true
quiet = true
threads = 1
cache = "kept"

[vae]
epochs = 7
[head]
hidden = [8]
"#,
    );
    let said = lens.ok("run pairs.jsonl --config lens.toml --set vae.beta=0.5 --seed 3");
    assert_eq!((said.json()["kept"].as_str(), said.err.as_str()), (Some("augmented"), ""));
    let manifest = lens.json("rm/lens.json");
    let method = &manifest["method"];
    assert_eq!((&method["seed"], &method["augment"]), (&json!(3), &json!(2)));
    assert_eq!((&method["vae"]["epochs"], &method["vae"]["beta"]), (&json!(7), &json!(0.5)));
    assert_eq!(method["head"]["hidden"], json!([8]));
    let identity = &manifest["encoder"]["identity"];
    assert_eq!(identity["views"], json!([{"layer": 4, "pooling": "mean"}]));
    assert_eq!(identity["max_length"], 300);
    assert!(lens.path("kept/embeddings").is_dir());

    // The settings in force are a settings file again.
    let shown = lens.ok("run pairs.jsonl --config lens.toml --show-settings").out;
    lens.write("shown.toml", &shown);
    assert_eq!(lens.ok("run pairs.jsonl --config shown.toml --show-settings").out, shown);
}

#[test]
fn every_format_of_the_same_pairs_has_one_fingerprint() {
    let lens = Lens::new();
    let rows = pairs(0..30);
    let text = jsonl(&rows);
    lens.write("pairs.jsonl", &text);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    lens.write("pairs.jsonl.gz", gzip.finish().unwrap());
    lens.write("pairs.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap());
    lens.write("pairs.csv", csv(&rows));
    lens.write("pairs.csv.gz", {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(csv(&rows).as_bytes()).unwrap();
        gzip.finish().unwrap()
    });
    lens.write("pairs.json", Value::Array(rows.clone()).to_string());
    lens.write("pairs.parquet", parquet(&rows));
    let fingerprint =
        |name: &str| lens.ok(&format!("info {name} --json")).json()["fingerprint"].clone();
    let expected = fingerprint("pairs.jsonl");
    assert_eq!(expected.as_str().unwrap().len(), 64);
    for name in [
        "pairs.jsonl.gz",
        "pairs.jsonl.zst",
        "pairs.csv",
        "pairs.csv.gz",
        "pairs.json",
        "pairs.parquet",
    ] {
        assert_eq!(fingerprint(name), expected, "{name}");
    }
    // And they are the same to a run.
    lens.ok("run pairs.jsonl --model tiny.gguf -o one");
    lens.ok("run pairs.parquet --model tiny.gguf -o two");
    assert_eq!(lens.files("one")["model.safetensors"], lens.files("two")["model.safetensors"]);
}

fn csv(rows: &[Value]) -> String {
    let mut text = "prompt,chosen,rejected\n".to_owned();
    for row in rows {
        let field = |name: &str| format!("\"{}\"", row[name].as_str().unwrap());
        let line = ["prompt", "chosen", "rejected"].map(field).join(",");
        text.push_str(&(line + "\n"));
    }
    text
}

fn parquet(rows: &[Value]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message m { required binary prompt (UTF8);
        required binary chosen (UTF8); required binary rejected (UTF8); }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for name in ["prompt", "chosen", "rejected"] {
        let values: Vec<ByteArray> =
            rows.iter().map(|r| ByteArray::from(r[name].as_str().unwrap())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.into_inner().unwrap()
}

#[test]
fn a_chat_model_is_asked_in_its_own_template() {
    let lens = Lens::new();
    let chat = TinyModel { chat_template: Some(CHAT.into()), ..TinyModel::default() };
    lens.model("chat.gguf", &chat);
    let message = |role: &str, content: &Value| json!({"role": role, "content": content});
    let rows: Vec<Value> = pairs(0..40)
        .iter()
        .map(|p| {
            json!({
                "prompt": [message("user", &p["prompt"])],
                "chosen": [message("assistant", &p["chosen"])],
                "rejected": [message("assistant", &p["rejected"])],
            })
        })
        .collect();
    lens.rows("chat.jsonl", &rows);
    let said = lens.ok("run chat.jsonl --model chat.gguf -o rm");
    assert!(said.err.contains("chat template, BOS"), "{}", said.err);
    let identity = &lens.json("rm/lens.json")["encoder"]["identity"];
    assert_eq!(identity["template"], "chat");

    // The template can be set, and then it is another encoder.
    let said = lens.ok("run chat.jsonl --model chat.gguf --template plain -o plain");
    assert!(said.err.contains("plain template"), "{}", said.err);
    lens.write("mine.jinja", "{% for m in messages %}{{ m.content }}|{% endfor %}");
    lens.ok("run chat.jsonl --model tiny.gguf --template mine.jinja -o mine");
    assert_eq!(lens.json("mine/lens.json")["encoder"]["identity"]["template"], "custom");
    // The bundle has the template in it: the file is no longer needed.
    std::fs::remove_file(lens.path("mine.jinja")).unwrap();
    lens.ok("score mine chat.jsonl");

    let error = lens.fails(1, "score rm chat.jsonl --model tiny.gguf");
    assert!(error.contains("template"), "{error}");
    let error = lens.fails(1, "run chat.jsonl --model tiny.gguf --template chat -o no");
    assert!(error.contains("tiny.gguf has no chat template; use the plain template"), "{error}");
}

#[test]
fn the_reader_of_the_output_may_leave() {
    let lens = Lens::with_reward_model();
    lens.write("many.jsonl", jsonl(&pairs(0..60)).repeat(100));
    let words = "score rm many.jsonl --json --quiet";
    let binary = env!("CARGO_BIN_EXE_lens");
    let script = format!("{binary} {words} | head -n 1; echo ${{PIPESTATUS[0]}}");
    let mut shell = std::process::Command::new("bash");
    let said = shell.args(["-c", &script]).current_dir(lens.path("")).env("HOME", lens.path(""));
    let said = crate::common::Said::from(said.output().unwrap());
    assert_eq!(said.out.lines().count(), 2, "{}{}", said.out, said.err);
    assert!(said.out.ends_with("\n0\n") && said.err.is_empty(), "{}{}", said.out, said.err);
    // Nor does it matter that nobody can read what is said beside the results.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let said = lens.command("run pairs.jsonl --model tiny.gguf -o again").stderr(full).output();
    assert_eq!(crate::common::Said::from(said.unwrap()).code, 0);
}
