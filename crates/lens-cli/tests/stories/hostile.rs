//! Stories of users who got a file from somebody they should not have trusted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, Said, pairs};
use crate::stand_in::Server;
use crate::stand_in::embeddings::well;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

const KEY: &str = "sk-victim";

/// Runs a command in a shell, after `before`; the binary is `$LENS`.
fn shell(lens: &Lens, before: &str, words: &str) -> Said {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before}; exec \"$LENS\" {words}"));
    shell.env_clear().env("HOME", lens.path("")).env("LENS", env!("CARGO_BIN_EXE_lens"));
    shell.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(lens.path(""));
    let said = Said::from(shell.output().unwrap());
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

/// Changes the manifest of the reward model `rm`.
fn edit(lens: &Lens, pointer: &str, value: Value) {
    let mut manifest = lens.json("rm/lens.json");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[name] = value;
    lens.write("rm/lens.json", manifest.to_string());
}

#[test]
fn a_reward_model_does_not_decide_where_texts_and_keys_go() {
    let (own, theirs) = (Server::start(|r| well(r, "vllm")), Server::start(|r| well(r, "vllm")));
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    lens.ok(&format!("run pairs.jsonl --server {} -o rm --quiet", own.url));
    // What is trained here names no address, wherever it is given.
    for (name, bytes) in lens.files("rm") {
        let address = own.url.as_bytes();
        assert!(!bytes.windows(address.len()).any(|w| w == address), "{name}");
    }
    edit(&lens, "/encoder/server/url", json!(theirs.url));
    let with_key =
        |words: &str| Said::from(lens.command(words).env("LENS_API_KEY", KEY).output().unwrap());
    lens.rows("rows.jsonl", &[json!({"prompt": "a secret", "response": "of mine"})]);
    for words in [
        "score rm rows.jsonl",
        "eval rm pairs.jsonl",
        "serve rm --bind 127.0.0.1:0",
        "embed rows.jsonl --like rm -o x.safetensors",
    ] {
        let said = with_key(words);
        assert_eq!(said.code, 1, "{words}: {}", said.err);
        assert!(said.err.contains(&theirs.url) && said.err.contains("--server"), "{}", said.err);
    }
    assert_eq!(theirs.seen().len(), 0, "nothing was sent");
    assert!(lens.ok("info rm").out.contains(&theirs.url));
    // Named, it is asked.
    let said = with_key(&format!("score rm rows.jsonl --server {}", theirs.url));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(!theirs.seen().is_empty());
}

#[test]
fn a_key_does_not_cross_a_network_in_the_clear_unasked() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..4));
    let run =
        |words: &str| Said::from(lens.command(words).env("LENS_API_KEY", KEY).output().unwrap());
    let said = run("run pairs.jsonl --server http://192.0.2.1:8000");
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("in the clear") && said.err.contains("server_plain_key"));
    // Allowed, it is tried: this address answers nobody.
    let said = run("run pairs.jsonl --server http://192.0.2.1:8000 --set server_plain_key=true \
        --set server_timeout=1 --set server_retries=0");
    assert_eq!(said.code, 1, "{}", said.err);
}

#[test]
fn reward_models_that_lie_are_refused_by_name_in_little_memory() {
    let lens = Lens::with_reward_model();
    let whole = lens.read("rm/lens.json");
    for (pointer, value) in [
        ("/version", json!(0)),
        ("/version", json!(-1)),
        ("/head/members", json!(1u64 << 63)),
        ("/head/hidden", json!([1u64 << 32, 1u64 << 32])),
        ("/head/hidden", json!([1u64 << 31])),
        ("/head/dim", json!(0)),
        ("/vae/latent", json!(1u64 << 31)),
        ("/vae/dim", json!(1u64 << 62)),
        ("/reward_deviation", json!(-1)),
        ("/reward_mean", json!(null)),
        ("/weights_sha256", json!("0".repeat(64))),
        ("/method/head/dropout", json!(7)),
        ("/trained/folds", json!(0)),
    ] {
        edit(&lens, pointer, value);
        let said = shell(&lens, "ulimit -v 3000000", "score rm pairs.jsonl");
        assert_eq!((said.code, &*said.out), (1, ""), "{pointer}: {}", said.err);
        assert!(said.err.contains("lens.json"), "{pointer}: {}", said.err);
        lens.write("rm/lens.json", &whole);
    }
    // Something that never ends, or never begins, in the place of a file.
    for (file, there) in [("lens.json", "ln -s /dev/zero"), ("model.safetensors", "mkfifo")] {
        let aside = lens.path("aside");
        std::fs::rename(lens.path("rm").join(file), &aside).unwrap();
        let said =
            shell(&lens, &format!("{there} rm/{file}; ulimit -v 3000000"), "score rm pairs.jsonl");
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains("is no regular file"), "{}", said.err);
        std::fs::remove_file(lens.path("rm").join(file)).unwrap();
        std::fs::rename(aside, lens.path("rm").join(file)).unwrap();
    }
    lens.ok("score rm pairs.jsonl");
}

/// Weights that are finite, and give rewards that are not.
#[test]
fn a_reward_that_is_no_number_is_an_error() {
    let lens = Lens::with_reward_model();
    let mut weights = std::fs::read(lens.path("rm/model.safetensors")).unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let named: Value = serde_json::from_slice(&weights[8..8 + header]).unwrap();
    let offsets = &named["standardiser.scale"]["data_offsets"];
    let [from, to] = [0, 1].map(|i| 8 + header + offsets[i].as_u64().unwrap() as usize);
    for number in weights[from..to].chunks_exact_mut(4) {
        number.copy_from_slice(&3e38f32.to_le_bytes());
    }
    lens.write("rm/model.safetensors", weights);
    let said = lens.fails(1, "score rm pairs.jsonl");
    assert!(said.contains("not its weights"), "{said}");
    let mut manifest = lens.json("rm/lens.json");
    manifest.as_object_mut().unwrap().remove("weights_sha256").unwrap();
    lens.write("rm/lens.json", manifest.to_string());
    for words in
        ["score rm pairs.jsonl", "score rm pairs.jsonl --json", "score rm pairs.jsonl -o x.jsonl"]
    {
        let said = lens.fails(1, words);
        assert!(
            said.contains("finite") || said.contains("is NaN") || said.contains("is inf"),
            "{said}"
        );
    }
    assert!(!lens.path("x.jsonl").exists());
}

#[test]
fn a_pipe_that_nobody_writes_to_is_an_error_within_seconds() {
    let lens = Lens::with_reward_model();
    shell(&lens, "mkfifo pipe", "--version");
    let since = Instant::now();
    let told: Vec<_> = [
        "info pipe",
        "score rm pipe",
        "run pairs.jsonl --config pipe -o x",
        "embed pairs.jsonl --model tiny.gguf --template pipe -o x.safetensors",
        "train pipe -o x",
        "run pairs.jsonl --model pipe -o x",
    ]
    .map(|words| std::thread::scope(|_| (words, lens.start(words))))
    .into_iter()
    .map(|(words, running)| (words, running.end()))
    .collect();
    for (words, said) in told {
        assert!(said.code == 1 || said.code == 2, "{words}: {}", said.err);
        let named = said.err.contains("nobody writes to") || said.err.contains("no regular file");
        assert!(named, "{words}: {}", said.err);
    }
    assert!(since.elapsed() < Duration::from_secs(60));
    // One that somebody writes to is read.
    let said = shell(&lens, "(sleep 1; cat pairs.jsonl) > pipe & true", "info pipe");
    assert!(said.code == 0 && said.out.contains("60 read"), "{}{}", said.out, said.err);
}

#[test]
fn a_small_file_does_not_unpack_to_more_than_a_reader_can_take() {
    let lens = Lens::new();
    let row = json!({"prompt": "p".repeat(1 << 20), "chosen": "a", "rejected": "b"}).to_string();
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    (0..16).for_each(|_| writeln!(packed, "{row}").unwrap());
    let member = packed.finish().unwrap();
    // A file of several members is as good as one: 1.4 GB of rows.
    lens.write("bomb.jsonl.gz", member.repeat(90));
    lens.rows("rows.jsonl", &pairs(0..2));
    let size = std::fs::metadata(lens.path("bomb.jsonl.gz")).unwrap().len();
    for words in ["info bomb.jsonl.gz", "run bomb.jsonl.gz --model tiny.gguf -o x"] {
        let said = shell(&lens, "ulimit -v 3000000", words);
        assert_eq!(said.code, 1, "{words}: {}", said.err);
        let why = said.err.contains("unpack to more than")
            || said.err.contains("of memory that are free");
        assert!(why, "{words}, {size} bytes: {}", said.err);
    }
}

#[test]
fn a_file_of_nothing_but_bad_rows_is_counted_and_described_up_to_a_thousand() {
    let lens = Lens::with_reward_model();
    let bad = "x\n".repeat(3000);
    lens.write("bad.jsonl", format!("{}{bad}", lens.read("pairs.jsonl")));
    let info = lens.ok("info bad.jsonl --json").json();
    let report = &info["pairs"];
    assert_eq!((&report["read"], &report["used"]), (&json!(3060), &json!(60)));
    assert_eq!(report["left_out"]["malformed"], 3000);
    assert_eq!(report["lines"]["malformed"].as_array().unwrap().len(), 1000);
    let said = lens.ok("info bad.jsonl").out;
    assert!(said.contains("and 2988 more (1000 in all with --json)"), "{said}");
    // Lines never shift: each row that is not described is answered, too.
    let answers = lens.ok("score rm bad.jsonl --json").json_lines();
    assert_eq!(answers.len(), 3060);
    assert_eq!((&answers[3059]["line"], answers[3059]["error"].is_string()), (&json!(3060), true));
}

#[test]
fn what_a_file_says_does_not_command_the_terminal() {
    let lens = Lens::with_reward_model();
    let name = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
    lens.rows(
        "odd.jsonl",
        &[
            json!({"prompt": "a", "chosen": "b", "rejected": "c", name: 1}),
            json!({"prompt": name, "chosen": 3, "rejected": "c"}),
        ],
    );
    edit(&lens, "/encoder/model", json!(name));
    edit(&lens, "/data/file", json!(name));
    for words in [
        "info odd.jsonl",
        "info odd.jsonl --json",
        "info rm",
        "info rm --json",
        "score rm odd.jsonl",
        "run odd.jsonl --model tiny.gguf -o x",
        "eval rm odd.jsonl",
    ] {
        let said = lens.run(words);
        for text in [&said.out, &said.err] {
            let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
            assert!(!text.contains(obeyed), "{words}: {text:?}");
        }
    }
}

#[test]
fn overwriting_costs_nobody_a_file_of_theirs() {
    let lens = Lens::with_reward_model();
    let run =
        "run pairs.jsonl --model tiny.gguf --views fixed --augment 1 -o rm --overwrite --quiet";
    // Their notes, in the folder of the reward model.
    lens.write("rm/notes.txt", "mine");
    let said = lens.fails(1, run);
    assert!(said.contains("holds `notes.txt`, which is none of its files"), "{said}");
    assert_eq!(lens.read("rm/notes.txt"), "mine");
    std::fs::remove_file(lens.path("rm/notes.txt")).unwrap();
    lens.ok(run);
    // A name that was mistyped.
    lens.write("mine.txt", "mine");
    for words in [
        "eval rm pairs.jsonl --report mine.txt --overwrite",
        "embed pairs.jsonl --model tiny.gguf -o mine.txt",
        "score rm pairs.jsonl -o pairs.jsonl --overwrite",
        "run pairs.jsonl --overwrite -o mine.txt",
    ] {
        lens.fails(1, words);
        assert_eq!(lens.read("mine.txt"), "mine", "{words}");
    }
    assert_eq!(lens.read("pairs.jsonl").lines().count(), 60);
    // A study that they wrote, in a folder of its name.
    std::fs::create_dir(lens.path("gamma")).unwrap();
    lens.write("gamma/study.toml", "seeds = [20]\nfactors = [4]\nsplits = 1\n");
    lens.ok("embed pairs.jsonl --model tiny.gguf -o e.safetensors --quiet");
    lens.fails(1, "study gamma/study.toml e.safetensors -o gamma --overwrite");
    assert!(lens.read("gamma/study.toml").starts_with("seeds"));
}

/// Whoever hands over a folder chooses the names in it.
#[test]
fn a_planted_temporary_name_becomes_no_output() {
    let lens = Lens::with_reward_model();
    std::fs::rename(lens.path("rm"), lens.path(".new.old-77-0123456789abcdef")).unwrap();
    let said = lens.fails(1, "run pairs.jsonl --model tiny.gguf --views fixed -o new --quiet");
    assert!(said.contains("an earlier write was cut short"), "{said}");
    assert!(!lens.path("new").exists());
}

#[test]
fn few_open_files_and_little_memory_are_errors_in_words() {
    let lens = Lens::with_reward_model();
    for files in 4..12 {
        let said = shell(&lens, &format!("ulimit -n {files}"), "score rm pairs.jsonl");
        let told =
            said.code == 0 || said.err.contains("error") || said.err.contains("shared libraries");
        assert!(told && said.code < 128, "{files} files: {} {}", said.code, said.err);
    }
}
