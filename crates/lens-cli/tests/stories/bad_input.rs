//! Stories of users whose files, models or disks are not what they think. Each wants to know what
//! is wrong and where, at once, and to lose nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use crate::common::{Lens, TinyModel, cloud, jsonl, npy, pairs, safetensors};
use serde_json::{Value, json};
use test_needs::needs;

/// Nothing but what the user put there: no output, not even a cache, so nothing was embedded.
fn nothing_was_done(lens: &Lens) {
    assert_eq!(lens.cached_bytes(), 0);
    assert!(!lens.path("rm").exists());
    assert!(lens.names("").iter().all(|n| !n.contains(".tmp-")), "{:?}", lens.names(""));
}

#[test]
fn a_missing_file_is_named() {
    let lens = Lens::new();
    for command in ["run gone.jsonl -o rm", "embed gone.jsonl -o x.safetensors"] {
        let error = lens.fails(1, &format!("{command} --model tiny.gguf"));
        assert!(error.starts_with("error: gone.jsonl: no such file"), "{error}");
    }
    let error = lens.fails(1, "info gone.jsonl");
    assert!(error.starts_with("error: gone.jsonl: no such file"), "{error}");
    let error = lens.fails(1, "train gone.safetensors");
    assert!(error.starts_with("error: gone.safetensors: no such file"), "{error}");
    lens.rows("pairs.jsonl", &pairs(0..20));
    let error = lens.fails(1, "score gone pairs.jsonl");
    assert!(error.contains("gone") && error.contains("no such file"), "{error}");
    let error = lens.fails(1, "run pairs.jsonl --eval gone.jsonl --model tiny.gguf -o rm");
    assert!(error.starts_with("error: gone.jsonl: no such file"), "{error}");
    let error = lens.fails(1, "run pairs.jsonl --model gone.gguf -o rm");
    assert!(error.contains("'gone.gguf'") && error.contains("gemma-3-270m"), "{error}");
    std::fs::create_dir(lens.path("empty")).unwrap();
    let error = lens.fails(1, "run empty --model tiny.gguf -o rm");
    assert!(error.contains("empty: no data file is in this folder"), "{error}");
    std::fs::remove_dir(lens.path("empty")).unwrap();
    nothing_was_done(&lens);
}

#[test]
fn an_empty_file_holds_no_rows() {
    let lens = Lens::new();
    for (name, text) in [("empty.jsonl", ""), ("blank.jsonl", "\n \n\n"), ("list.json", "[]")] {
        lens.write(name, text);
        let error = lens.fails(1, &format!("run {name} --model tiny.gguf -o rm"));
        assert!(error.starts_with(&format!("error: {name}: the file holds no rows")), "{error}");
    }
    nothing_was_done(&lens);
}

#[test]
fn a_file_that_is_no_json_is_quoted() {
    let lens = Lens::new();
    let diary = "Dear diary,\ntoday I labelled pairs.\n";
    lens.write("notes.txt", diary);
    let error = lens.fails(1, "run notes.txt --model tiny.gguf -o rm");
    assert!(error.contains("notes.txt: expected JSON (lines, "), "{error}");
    assert!(error.contains("begins with \"Dear diary, today"), "{error}");
    lens.write("notes.jsonl", diary);
    let error = lens.fails(1, "run notes.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("notes.jsonl: none of the 2 rows is usable"), "{error}");
    assert!(error.contains("notes.jsonl:1: expected a JSON object"), "{error}");
    assert!(error.contains("Dear diary,"), "{error}");
    assert!(error.contains("hint: each row needs chosen and rejected"), "{error}");

    lens.write("pairs.zip", b"PK\x03\x04 and so on");
    let error = lens.fails(1, "run pairs.zip --model tiny.gguf -o rm");
    assert!(error.contains("found a zip archive"), "{error}");
    nothing_was_done(&lens);
}

#[test]
fn wrong_types_are_named_by_line_and_field() {
    let lens = Lens::new();
    let good = json!({"prompt": "p", "chosen": "c", "rejected": "r"});
    let mut rows = vec![good.clone(); 6];
    rows[0]["chosen"] = json!(7);
    rows[1]["rejected"] = Value::Null;
    rows[2]["prompt"] = json!({"text": "p"});
    rows[3]["chosen"] = json!([{"role": "assistant"}]);
    rows[4]["margin"] = json!("large");
    rows[5].as_object_mut().unwrap().remove("rejected");
    lens.rows("typed.jsonl", &rows);
    let error = lens.fails(1, "run typed.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("none of the 6 rows is usable"), "{error}");
    assert!(error.contains("typed.jsonl:1: `chosen`: expected"), "{error}");
    nothing_was_done(&lens);

    let mut all = pairs(0..20);
    all.extend(rows);
    lens.rows("mixed.jsonl", &all);
    let report = lens.ok("info mixed.jsonl --json").json()["pairs"].clone();
    assert_eq!(report["left_out"], json!({"malformed": 6}));
    let listed = report["lines"]["malformed"].as_array().unwrap();
    let fields = ["chosen", "rejected", "prompt", "chosen[0]", "margin", "rejected"];
    for ((row, line), field) in listed.iter().zip(21..).zip(fields) {
        assert_eq!(row["line"], line);
        assert!(row["detail"].as_str().unwrap().starts_with(field), "{field}: {row}");
    }
}

#[test]
fn one_bad_row_in_a_thousand_is_counted_and_listed_and_the_run_goes_on() {
    let lens = Lens::new();
    let mut lines: Vec<String> = jsonl(&pairs(0..1000)).lines().map(str::to_owned).collect();
    lines[416] = r#"{"prompt": "q", "chosen": "yes", "rejected": 0}"#.to_owned();
    lens.write("pairs.jsonl", lines.join("\n"));
    let words = "run pairs.jsonl --model tiny.gguf --augment 1 --set head.epochs=2 -o rm";
    let said = lens.ok(&format!("{words} --json"));
    let run = said.json();
    assert_eq!(run["pairs"]["left_out"], json!({"malformed": 1}));
    let used =
        run["pairs"]["used"].as_u64().unwrap() + run["heldout_pairs"]["used"].as_u64().unwrap();
    assert_eq!(used, 999);
    let place = "pairs.jsonl:417: `rejected`: expected";
    assert!(said.err.contains(&format!("left out: {place}")), "{}", said.err);
    assert!(lens.read("rm/report.md").contains("| 417 | rejected: expected"));

    let before = lens.cached_bytes();
    let error = lens.fails(1, &format!("{words}2 --strict"));
    assert!(error.starts_with(&format!("error: {place}")), "{error}");
    assert!(error.contains("hint: without --strict"), "{error}");
    assert!(!lens.path("rm2").exists() && lens.cached_bytes() == before);
}

#[test]
fn invalid_utf_8_is_one_malformed_row() {
    let lens = Lens::new();
    let mut bytes = jsonl(&pairs(0..20)).into_bytes();
    bytes.extend(b"{\"prompt\": \"caf\xe9\", \"chosen\": \"a\", \"rejected\": \"b\"}\n");
    bytes.extend(jsonl(&pairs(20..22)).into_bytes());
    lens.write("latin1.jsonl", bytes);
    let said = lens.ok("run latin1.jsonl --model tiny.gguf -o rm --json");
    assert_eq!(said.json()["pairs"]["left_out"], json!({"malformed": 1}));
    assert!(said.err.contains("latin1.jsonl:21: expected UTF-8 text, found a wrong byte at 16"));
}

#[test]
fn a_line_of_five_megabytes_is_shortened_like_any_other() {
    let lens = Lens::new();
    let mut rows = pairs(0..20);
    let long = "many words and then some ".repeat(200_000);
    rows[2]["prompt"] = long.into();
    rows[7]["chosen"] = "x".repeat(5_000_000).into();
    lens.rows("long.jsonl", &rows);
    let start = std::time::Instant::now();
    let said = lens.ok("run long.jsonl --model tiny.gguf -o rm --json");
    assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
    let run = said.json();
    let used = |set: &str| run[set]["used"].as_u64().unwrap();
    assert_eq!(used("pairs") + used("heldout_pairs"), 20, "{run}");
    assert!(said.err.contains("3 of 40 texts are longer than 512 tokens"), "{}", said.err);
}

#[test]
fn pairs_without_a_difference_leave_nothing_to_train_on() {
    let lens = Lens::new();
    let same = |i| json!({"prompt": format!("p{i}"), "chosen": "same", "rejected": " same\n"});
    lens.rows("same.jsonl", &(0..10).map(same).collect::<Vec<_>>());
    let error = lens.fails(1, "run same.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("same.jsonl: no pair is left to train on (10 identical-sides)"));
    assert!(error.contains("hint: `lens info`"), "{error}");
    nothing_was_done(&lens);

    // The same pair again and again is one pair.
    lens.rows("again.jsonl", &vec![pairs(0..1)[0].clone(); 50]);
    let error = lens.fails(1, "run again.jsonl --model tiny.gguf -o rm");
    assert!(
        error.contains("again.jsonl: 1 usable pair") && error.contains("49 duplicate"),
        "{error}"
    );
    nothing_was_done(&lens);

    let (a, b) = (cloud(9, 4, 0.0), cloud(9, 4, 0.0));
    lens.write("a.safetensors", safetensors(&[("chosen", [9, 4], &a), ("rejected", [9, 4], &b)]));
    let error = lens.fails(1, "train a.safetensors -o rm");
    assert!(error.contains("all 9 pairs have equal embeddings on both sides"), "{error}");

    // Nor is there anything to evaluate.
    let lens = Lens::with_reward_model();
    lens.rows("same.jsonl", &(0..10).map(same).collect::<Vec<_>>());
    let error = lens.fails(1, "eval rm same.jsonl --json");
    assert!(error.contains("same.jsonl: no pair is left to evaluate on"), "{error}");
    assert!(error.contains("identical-sides"), "{error}");
}

#[test]
fn too_few_pairs_are_refused_before_they_are_embedded() {
    let lens = Lens::new();
    lens.rows("one.jsonl", &pairs(0..1));
    let error = lens.fails(1, "run one.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("one.jsonl: 1 usable pair"), "{error}");
    assert!(error.contains("at least 2 different prompts"), "{error}");
    lens.rows("heldout.jsonl", &pairs(5..9));
    let error = lens.fails(1, "run one.jsonl --eval heldout.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("at least 2 different prompts"), "{error}");
    // Many pairs on one prompt are no better: folds hold out whole prompts.
    let mut rows = pairs(0..30);
    rows.iter_mut().for_each(|r| r["prompt"] = "Always the same?".into());
    lens.rows("prompt.jsonl", &rows);
    let error = lens.fails(1, "run prompt.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("prompt.jsonl: 30 usable pairs on 1 prompt"), "{error}");
    nothing_was_done(&lens);

    let (a, b) = (cloud(1, 4, 0.1), cloud(1, 4, -0.1));
    lens.write("a.safetensors", safetensors(&[("chosen", [1, 4], &a), ("rejected", [1, 4], &b)]));
    let error = lens.fails(1, "train a.safetensors");
    assert!(error.contains("1 pairs, but at least"), "{error}");

    // Few are enough, if they are enough.
    lens.rows("three.jsonl", &pairs(0..3));
    lens.ok("run three.jsonl --model tiny.gguf -o rm");
}

#[test]
fn a_nan_in_an_imported_array_is_named_by_row_and_column() {
    let lens = Lens::new();
    let (good, mut bad) = (cloud(30, 5, 0.2), cloud(30, 5, -0.2));
    bad[17 * 5 + 3] = f32::NAN;
    lens.write(
        "a.safetensors",
        safetensors(&[("chosen", [30, 5], &good), ("rejected", [30, 5], &bad)]),
    );
    let error = lens.fails(1, "train a.safetensors -o rm");
    let place = "a.safetensors: array `rejected`, row 17, column 3: NaN is not finite";
    assert!(error.contains(place), "{error}");
    lens.write("good.npy", npy([30, 5], &good));
    lens.write("bad.npy", npy([30, 5], &bad));
    let error = lens.fails(1, "train good.npy bad.npy -o rm");
    assert!(error.contains("bad.npy") && error.contains("row 17, column 3"), "{error}");
    nothing_was_done(&lens);
}

#[test]
fn arrays_of_different_widths_are_shown_with_both_shapes() {
    let lens = Lens::new();
    let (wide, narrow) = (cloud(30, 5, 0.2), cloud(30, 4, -0.2));
    let arrays = [("chosen", [30, 5], &wide[..]), ("rejected", [30, 4], &narrow[..])];
    lens.write("a.safetensors", safetensors(&arrays));
    let error = lens.fails(1, "train a.safetensors -o rm");
    assert!(error.contains("`chosen` is [30, 5], but array `rejected` is [30, 4]"), "{error}");
    lens.write("wide.npy", npy([30, 5], &wide));
    lens.write("narrow.npy", npy([30, 4], &narrow));
    let error = lens.fails(1, "train wide.npy narrow.npy -o rm");
    assert!(error.contains("wide.npy") && error.contains("narrow.npy"), "{error}");
    assert!(error.contains("[30, 5]") && error.contains("[30, 4]"), "{error}");

    // A misspelt name is answered with the names that are there.
    let error = lens.fails(1, "train a.safetensors --chosen-key good -o rm");
    assert!(error.contains("no array `good`; the file holds `chosen`, `rejected`"), "{error}");
    assert!(error.contains("hint: name the arrays with --chosen-key"), "{error}");
    nothing_was_done(&lens);

    // A reward model knows how wide its embeddings are.
    let lens = Lens::with_reward_model();
    lens.write("narrow.npy", npy([30, 4], &narrow));
    let error = lens.fails(1, "score rm narrow.npy");
    assert!(error.contains("(30, 32)") && error.contains("(30, 4)"), "{error}");
}

#[test]
fn an_output_that_exists_is_refused_before_the_work() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    lens.rows("more.jsonl", &pairs(0..30));
    let (good, bad) = (cloud(30, 5, 0.2), cloud(30, 5, -0.2));
    lens.write(
        "a.safetensors",
        safetensors(&[("chosen", [30, 5], &good), ("rejected", [30, 5], &bad)]),
    );
    std::fs::create_dir(lens.path("photos")).unwrap();
    lens.write("photos/cat.jpg", "meow");
    for words in ["run pairs.jsonl --model tiny.gguf", "train a.safetensors"] {
        let error = lens.fails(1, &format!("{words} -o photos"));
        assert!(error.starts_with("error: photos: exists already"), "{error}");
        assert!(error.contains("hint: choose another folder with -o"), "{error}");
        let error = lens.fails(1, &format!("{words} -o photos --overwrite"));
        assert!(error.contains("has no `lens.json` in it, so it is not replaced"), "{error}");
        let error = lens.fails(1, &format!("{words} -o pairs.jsonl"));
        assert!(error.contains("pairs.jsonl: is not a folder"), "{error}");
        let error = lens.fails(1, &format!("{words} -o no/such/place"));
        assert!(error.contains("no/such: no such"), "{error}");
    }
    for (output, reason) in [
        ("photos", "photos: is a folder, expected a file"),
        ("no/such/file", "no/such: no such"),
        ("pairs.jsonl", "pairs.jsonl: is the very file that is read"),
    ] {
        let error = lens.fails(1, &format!("embed pairs.jsonl --model tiny.gguf -o {output}"));
        assert!(error.contains(reason), "{error}");
    }
    nothing_was_done(&lens);
    assert_eq!(lens.read("photos/cat.jpg"), "meow");

    // A reward model is replaced where that is asked for.
    lens.ok("run pairs.jsonl --model tiny.gguf -o rm");
    let before = lens.files("rm");
    let error = lens.fails(1, "run more.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("rm: exists already") && error.contains("--overwrite"), "{error}");
    assert_eq!(lens.files("rm"), before);
    lens.ok("run more.jsonl --model tiny.gguf -o rm --overwrite");
    assert_ne!(lens.files("rm"), before);
}

/// A small disk, for as long as it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let words = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let said = Command::new("mount").args(words).arg(at).output().expect("the command mount");
        assert!(
            said.status.success(),
            "a small disk can only be mounted by root (docs/testing.md): {}",
            String::from_utf8_lossy(&said.stderr)
        );
        SmallDisk(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn a_full_disk_leaves_the_old_reward_model_and_no_half_of_a_new_one() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    let disk = lens.path("disk");
    let _disk = SmallDisk::mount(&disk, "400k");
    let words = "run pairs.jsonl --model tiny.gguf --overwrite -o disk/rm";
    lens.ok(&format!("{words} --augment 1 --set head.hidden=[]"));
    let before = lens.files("disk/rm");
    let error = lens.fails(1, &format!("{words} --set head.hidden=[2000] --set head.epochs=1"));
    assert!(error.contains("error: disk/rm: no space left on the disk"), "{error}");
    assert!(error.contains("hint: free some space and run again"), "{error}");
    assert_eq!(lens.names("disk"), ["rm"]);
    assert_eq!(lens.files("disk/rm"), before);

    // A store of embeddings is whole or absent, too.
    lens.rows("many.jsonl", &pairs(0..2000));
    let error = lens.fails(1, "embed many.jsonl --model tiny.gguf -o disk/many.safetensors");
    assert!(error.contains("disk/many.safetensors: no space left on the disk"), "{error}");
    assert_eq!(lens.names("disk"), ["rm"]);

    // And the cache can be moved to where there is room.
    let error = lens.fails(1, "embed many.jsonl --model tiny.gguf -o m.safetensors --cache disk/c");
    assert!(error.contains("disk/c/embeddings") && error.contains("space left"), "{error}");
    assert!(error.contains("hint: ") && error.contains("--cache"), "{error}");
}

#[test]
fn a_full_device_is_a_full_disk() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    let error = lens.fails(1, "embed pairs.jsonl --model tiny.gguf -o /dev/full");
    assert!(
        error.starts_with("encoder: ") && error.contains("/dev/full: no space left"),
        "{error}"
    );
    // Results that cannot be printed are an error as well.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = lens.command("info pairs.jsonl");
    let said = crate::common::Said::from(command.stdout(full).output().unwrap());
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot write to standard output: No space left"), "{}", said.err);
}

#[test]
fn a_corrupted_model_file_is_refused_with_its_reason() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    let whole = std::fs::read(lens.path("tiny.gguf")).unwrap();
    let mut flipped = whole.clone();
    flipped[0] ^= 0xff;
    let mut lying = whole.clone();
    // The number of tensors.
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let page = b"<!DOCTYPE html><html><body>404</body></html>";
    for (name, bytes) in [
        ("half.gguf", &whole[..whole.len() / 2]),
        ("short.gguf", &whole[..whole.len() - 1]),
        ("header.gguf", &whole[..60]),
        ("flipped.gguf", &flipped),
        ("lying.gguf", &lying),
        ("empty.gguf", b""),
        ("page.gguf", page),
    ] {
        lens.write(name, bytes);
        for words in [format!("run pairs.jsonl --model {name} -o rm"), format!("info {name}")] {
            let error = lens.fails(1, &words);
            let part = format!("error: {name} is not a usable model file: ");
            assert!(error.contains(&part), "{error}");
        }
    }
    nothing_was_done(&lens);
}

#[test]
fn a_model_of_an_unknown_architecture_is_refused_with_those_that_work() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    let model = TinyModel { architecture: "mamba9".into(), ..TinyModel::default() };
    lens.model("mamba.gguf", &model);
    let error = lens.fails(1, "run pairs.jsonl --model mamba.gguf -o rm");
    assert!(error.contains("mamba.gguf holds a model of architecture 'mamba9'"), "{error}");
    assert!(error.contains("supported: llama, "), "{error}");
    assert!(error.contains("hint: choose another model with --model"), "{error}");
    nothing_was_done(&lens);
}

#[test]
fn sides_that_become_equal_by_shortening_are_left_out_by_name() {
    let lens = Lens::new();
    let mut rows = pairs(0..20);
    let beginning = "one two three four five six seven eight ".repeat(40);
    for i in [3, 11] {
        rows[i]["chosen"] = format!("{beginning} and a good end").into();
        rows[i]["rejected"] = format!("{beginning} and a bad end").into();
    }
    lens.rows("long.jsonl", &rows);
    let words = "run long.jsonl --model tiny.gguf --max-length 200 --holdout 0 -o rm --json";
    let said = lens.ok(words);
    let run = said.json();
    assert_eq!(run["pairs"]["left_out"], json!({"equal-after-truncation": 2}));
    assert_eq!((&run["pairs"]["read"], &run["pairs"]["used"]), (&json!(20), &json!(18)));
    let lines = run["pairs"]["lines"]["equal-after-truncation"].as_array().unwrap();
    assert_eq!((&lines[0]["line"], &lines[1]["line"]), (&json!(4), &json!(12)));
    assert!(lines[0]["detail"].as_str().unwrap().contains("raise max_length"));
    assert!(said.err.contains("4 of 40 texts are longer than 200 tokens"), "{}", said.err);

    // With room for all of it they are pairs again.
    lens.model("roomy.gguf", &TinyModel { context: 4096, ..TinyModel::default() });
    let run = lens.ok("run long.jsonl --model roomy.gguf --holdout 0 -o all --json").json();
    assert_eq!(run["pairs"]["left_out"], json!({}));

    // Where it happens to every pair, the message says so.
    let only = [rows[3].clone(), rows[11].clone()];
    lens.rows("only.jsonl", &only);
    let error =
        lens.fails(1, "run only.jsonl --model tiny.gguf --max-length 200 --holdout 0 -o none");
    assert!(error.contains("no pair is left to train on (2 equal-after-truncation)"), "{error}");
}

#[test]
fn settings_that_do_not_fit_are_refused_by_name_with_exit_code_2() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..20));
    lens.write("typo.toml", "seed = 3\nagument = 8\n");
    let run = "run pairs.jsonl --model tiny.gguf -o rm";
    let error = lens.fails(2, &format!("{run} --config typo.toml"));
    assert!(error.contains("typo.toml") && error.contains("line 2"), "{error}");
    assert!(error.contains("agument") && error.contains("augment"), "{error}");
    assert!(error.contains("hint: `lens run PAIRS --show-settings`"), "{error}");
    lens.write("inner.toml", "[vae]\nepoch = 8\n");
    let error = lens.fails(2, &format!("{run} --config inner.toml"));
    assert!(error.contains("line 2") && error.contains("epoch"), "{error}");
    for (flags, part) in [
        ("--config gone.toml", "gone.toml"),
        ("--set vae.bta=1", "bta"),
        ("--set vae.beta=-1", "vae.beta"),
        ("--set seed", "expected KEY=VALUE"),
        ("--augment 0", "augment"),
        ("--holdout 1", "holdout"),
        ("--keep both", "'both' for '--keep <WHICH>'\n  [possible values: auto, none, augmented]"),
        ("--pooling cls", "possible values: last, mean, prompt-last, first]"),
        ("--bos maybe", "possible values: auto, always, never]"),
        ("--weights f64", "possible values: auto, f32, bf16, stored]"),
        ("--special-tokens no", "possible values: text, parse]"),
        ("--views chosen", "possible values: fixed, auto, exportable]"),
        ("--set views=chosen", "chosen"),
        ("--set pooling=cls", "cls"),
        ("--set bos=maybe", "maybe"),
        ("--set keep=both", "both"),
        ("--template gone.jinja", "gone.jinja"),
        ("--layer 99", "layer 99 is out of range: the model has hidden states 0 to 6"),
        ("--max-length 1", "max_length"),
        ("--set batch_tokens=0", "batch_tokens"),
        ("--no-such-flag", "--no-such-flag"),
    ] {
        let error = lens.fails(2, &format!("{run} {flags}"));
        assert!(error.contains(part), "{flags}: {error}");
    }
    nothing_was_done(&lens);
}

#[test]
fn a_damaged_reward_model_is_refused_by_the_file_at_fault() {
    let lens = Lens::with_reward_model();
    let weights = std::fs::read(lens.path("rm/model.safetensors")).unwrap();
    lens.write("rm/model.safetensors", &weights[..weights.len() / 2]);
    let error = lens.fails(1, "eval rm pairs.jsonl");
    assert!(
        error.contains("model.safetensors has") && error.contains("not its weights"),
        "{error}"
    );
    lens.write("rm/model.safetensors", &weights);
    let manifest = lens.read("rm/lens.json");
    lens.write("rm/lens.json", manifest.replace("\"version\": 1", "\"version\": 99"));
    let error = lens.fails(1, "score rm pairs.jsonl");
    assert!(error.contains("rm/lens.json") && error.contains("reads 1 to 1"), "{error}");
    std::fs::remove_file(lens.path("rm/lens.json")).unwrap();
    let error = lens.fails(1, "score rm pairs.jsonl");
    assert!(error.contains("rm: is not a reward model"), "{error}");
    let error = lens.fails(1, "info rm");
    assert!(error.contains("rm: is not a reward model"), "{error}");
}

#[test]
fn best_of_n_rows_and_mixed_rows_are_explained() {
    let lens = Lens::new();
    let row = json!({"prompt": "p", "chosen": ["a"], "rejected": ["b", "c", "d"],
        "num_correct": 1, "total_completions": 4, "subset": "s", "id": "0"});
    lens.rows("rb2.jsonl", &[row]);
    let error = lens.fails(1, "run rb2.jsonl --model tiny.gguf -o rm");
    assert!(error.contains("rb2.jsonl:1: a RewardBench 2 row holds several responses"), "{error}");
    lens.rows("mixed.jsonl", &[json!({"text": "a"}), json!({"prompt": "p", "response": "r"})]);
    let error = lens.fails(1, "embed mixed.jsonl --model tiny.gguf -o m.safetensors");
    assert!(error.contains("line 1 is a row with `text`, line 2 one with `response`"), "{error}");
    assert!(!lens.path("m.safetensors").exists());
}
