//! Stories of users whose language model is on a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Lens, Running, Said, names, pairs};
use crate::stand_in::embeddings::{MODEL, answer, is_work, texts, vector, well};
use crate::stand_in::{Reply, Server};
use serde_json::json;

const KEY: &str = "sk-verySecretKey";

/// A command of a user who has a key.
fn command(lens: &Lens, words: &str) -> Command {
    let mut command = lens.command(words);
    command.env("LENS_API_KEY", KEY);
    command
}

fn run(lens: &Lens, words: &str) -> Said {
    let said = Said::from(command(lens, words).output().unwrap());
    assert!(!said.out.contains(KEY) && !said.err.contains(KEY), "{}{}", said.out, said.err);
    said
}

fn ok(lens: &Lens, words: &str) -> Said {
    let said = run(lens, words);
    assert_eq!(said.code, 0, "lens {words}\n{}{}", said.out, said.err);
    said
}

/// A server that wants the key.
fn locked(owner: &'static str) -> Server {
    Server::start(move |r| {
        if r.header("authorization") == Some(&format!("Bearer {KEY}")) {
            well(r, owner)
        } else {
            Reply::new(401, r#"{"error": {"message": "no key"}}"#)
        }
    })
}

/// No file below the home holds the key.
fn key_is_nowhere(lens: &Lens) {
    let mut folders = vec![lens.path("")];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(name);
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
}

#[test]
fn from_pairs_to_a_score_through_a_server() {
    let server = locked("vllm");
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.rows("more.jsonl", &pairs(100..110));
    let said = ok(&lens, &format!("run pairs.jsonl --server {} -o rm", server.url));
    let expected = format!("encoder: {MODEL} at {} (openai-embeddings, width 8)", server.url);
    assert!(said.err.contains(&expected), "{}", said.err);
    let record = &lens.json("rm/lens.json")["encoder"];
    assert_eq!(record["model"], MODEL);
    assert_eq!(record["server"]["model"], MODEL);
    assert!(record["server"].get("url").is_none(), "a reward model names no address");
    assert_eq!(record["identity"]["dtype"], "as served");

    // Where texts go is said each time; the bundle knows the model.
    let at = format!("--server {}", server.url);
    let unnamed = run(&lens, "score rm more.jsonl --json");
    assert!(unnamed.code == 1 && unnamed.err.contains("--server URL"), "{}", unnamed.err);
    let first = ok(&lens, &format!("score rm more.jsonl --json {at}")).out;
    assert_eq!(first.lines().count(), 10);
    let before = server.seen().iter().filter(|r| is_work(r)).count();
    assert_eq!(ok(&lens, &format!("score rm more.jsonl --json {at}")).out, first);
    assert_eq!(server.seen().iter().filter(|r| is_work(r)).count(), before, "all in the cache");
    assert!(ok(&lens, &format!("eval rm more.jsonl {at}")).out.contains("accuracy"));
    // The same model elsewhere, in its other API's absence.
    let elsewhere = locked("vllm");
    let words = format!("score rm more.jsonl --json --server {}", elsewhere.url);
    assert_eq!(ok(&lens, &words).out, first);

    let words = format!("embed pairs.jsonl -o x.safetensors --server {} --json", server.url);
    assert_eq!(ok(&lens, &words).json()["computed"], 0);
    ok(&lens, "eval rm x.safetensors");
    key_is_nowhere(&lens);

    // Without the key: what is missing, and where to put it.
    let said = lens.run(&format!("score rm pairs.jsonl {at}"));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no key") && said.err.contains("LENS_API_KEY"), "{}", said.err);
    let mut other =
        lens.command(&format!("score rm pairs.jsonl {at} --set server_key_env=OTHER --json"));
    assert_eq!(other.env("OTHER", KEY).output().unwrap().status.code(), Some(0));
}

#[test]
fn another_model_is_refused() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    let server = locked("vllm");
    ok(&lens, &format!("run pairs.jsonl --server {} -o rm --quiet", server.url));
    // Another API is another identity; so is a server that normalises.
    for (owner, field) in [("tei", "architecture"), ("openai", "dtype")] {
        let other = locked(owner);
        let said = run(&lens, &format!("score rm pairs.jsonl --server {}", other.url));
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains(field), "{}", said.err);
        assert_eq!(said.out, "");
    }
    // Another model that has taken its name.
    let swapped = Server::start(|r| match r.path.as_str() {
        "/v1/embeddings" => {
            let all: Vec<_> = texts(r).iter().map(|t| vector(&format!("other {t}"))).collect();
            Reply::json(&answer(&all))
        }
        _ => well(r, "vllm"),
    });
    let said = run(&lens, &format!("score rm pairs.jsonl --server {}", swapped.url));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("vectors of the probe"), "{}", said.err);
    // A local model is another one, too.
    let local = Lens::with_reward_model();
    let said = run(&local, &format!("score rm pairs.jsonl --server {}", server.url));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("another encoder"), "{}", said.err);
}

#[test]
fn after_ctrl_c_only_the_rest_is_computed() {
    let slow = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let slow = Arc::clone(&slow);
        move |r| {
            let wait = is_work(r) && slow.load(Ordering::SeqCst);
            let pause = Duration::from_millis(if wait { 150 } else { 0 });
            Reply { pause, ..well(r, "vllm") }
        }
    });
    let lens = Lens::new();
    let rows: Vec<_> = (0..400).map(|i| json!({"text": format!("text {i}")})).collect();
    lens.rows("texts.jsonl", &rows);
    let words = format!(
        "embed texts.jsonl -o x.safetensors --json --server {} --server-batch 10 \
         --server-concurrency 2",
        server.url
    );
    let mut running = Running::start(command(&lens, &words));
    running.until("the first vectors are kept", || lens.cached_bytes() > 0);
    running.interrupt();
    let said = running.end();
    assert_eq!((said.code, &*said.out), (130, ""), "{}", said.err);
    assert!(!lens.path("x.safetensors").exists());
    slow.store(false, Ordering::SeqCst);
    let before = server.seen().len();
    let again = ok(&lens, &words).json();
    let asked: usize =
        server.seen()[before..].iter().filter(|r| is_work(r)).map(|r| texts(r).len()).sum();
    assert!(0 < asked && asked < 400, "{asked}");
    assert_eq!(again["computed"].as_u64().unwrap(), 10 * asked as u64);
    assert_eq!(ok(&lens, &words).json()["computed"], 0);
}

#[test]
fn wrong_addresses_and_limits_are_wrong_settings() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..4));
    for (words, said) in [
        ("--server localhost:8000", "http://"),
        ("--server http://me:pa55word@host", "user or password"),
        ("--server http://host?key=pa55word", "query"),
        ("--server http://host --server-batch 0", "server_batch"),
        ("--server http://host --server-api rest", "possible values: auto, openai, tei"),
    ] {
        let err = lens.fails(2, &format!("run pairs.jsonl {words}"));
        assert!(err.contains(said) && !err.contains("pa55word"), "{err}");
    }
    let err = lens.fails(1, "run pairs.jsonl --server http://127.0.0.1:9");
    assert!(err.contains("cannot reach http://127.0.0.1:9"), "{err}");
}

#[test]
fn a_model_of_the_hub_is_pulled_by_its_name() {
    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    let lens = Lens::new();
    let bytes = std::fs::read(lens.path("tiny.gguf")).unwrap();
    let server = Server::start(move |r| match r.path.split('?').next().unwrap() {
        "/api/models/org/tiny/revision/main" => Reply::json(&json!({"sha": SHA,
            "siblings": [{"rfilename": "tiny.gguf", "size": bytes.len()}]})),
        p if p == format!("/org/tiny/resolve/{SHA}/tiny.gguf") => Reply::file(r, &bytes, "\"x\""),
        _ => Reply::new(404, "nothing"),
    });
    let hub = |words: &str| {
        let mut command = lens.command(words);
        command.env("HF_ENDPOINT", &server.url).env("HF_TOKEN", "hf_secret");
        let said = Said::from(command.output().unwrap());
        assert!(!said.out.contains("hf_secret") && !said.err.contains("hf_secret"));
        said
    };
    let pulled = hub("pull org/tiny/tiny.gguf");
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(pulled.out.trim_end().ends_with("tiny.gguf"), "{}", pulled.out);
    lens.rows("pairs.jsonl", &pairs(0..60));
    let run = hub("run pairs.jsonl --model org/tiny/tiny.gguf -o rm");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(lens.json("rm/lens.json")["encoder"]["model"], "org/tiny/tiny.gguf");
    assert_eq!(hub("score rm pairs.jsonl").code, 0);
    let missing = hub("pull org/tiny");
    assert!(missing.err.contains("org/tiny/tiny.gguf  (1 MB)"), "{}", missing.err);
}
