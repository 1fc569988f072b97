//! Stories of users who press Ctrl-C: the program ends soon, with exit code 130; no output is half
//! written, nothing temporary is left, and finished embeddings are not computed again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use crate::common::{Lens, Running, Said, Signal, jsonl, names, pairs};
use serde_json::{Value, json};

/// What every interrupted command owes its user.
fn left_as_it_was(lens: &Lens, before: &[String], said: &Said) {
    assert_eq!(said.code, 130, "{}{}", said.out, said.err);
    assert_eq!(said.out, "");
    assert!(said.err.contains("stopping at the next safe point"), "{}", said.err);
    assert!(said.err.contains("stopped: nothing half-written is left"), "{}", said.err);
    assert_eq!(lens.names(""), before);
    no_leftovers(lens);
}

fn no_leftovers(lens: &Lens) {
    let cache = lens.path(".cache/lens");
    for folder in [cache.join("embeddings"), cache.join("models")] {
        if folder.is_dir() {
            let left = names(&folder);
            assert!(left.iter().all(|n| !n.contains("tmp") && !n.starts_with('.')), "{left:?}");
        }
    }
}

/// Names in the home, the cache being there already.
fn names_before(lens: &Lens) -> Vec<String> {
    std::fs::create_dir_all(lens.path(".cache")).unwrap();
    lens.names("")
}

#[test]
fn while_a_big_file_is_read() {
    let lens = Lens::new();
    let before = names_before(&lens);
    // A pipe that never ends: only the interruption can end the reading.
    for words in [
        "run /dev/stdin --model tiny.gguf -o rm",
        "embed /dev/stdin --model tiny.gguf -o x.safetensors",
    ] {
        let mut run = lens.start(words);
        let block = jsonl(&pairs(0..500));
        for _ in 0..20 {
            assert!(run.feed(&block), "{words} ended early");
        }
        run.interrupt();
        run.until_said("stopping at the next safe point");
        // The next rows are not read, or the pipe would take them for ever.
        let refused = (0..100_000).any(|_| !run.feed(&block));
        assert!(refused, "{words} reads on");
        left_as_it_was(&lens, &before, &run.end());
        assert_eq!(lens.cached_bytes(), 0);
    }
}

#[test]
fn a_big_file_shows_how_far_it_is_read() {
    let lens = Lens::new();
    let mut run = lens.start("info /dev/stdin");
    let block = jsonl(&pairs(0..500));
    run.feed(&block);
    std::thread::sleep(Duration::from_millis(2100));
    run.feed(&block.repeat(4));
    run.until_said("read: ");
    drop(run.stdin.take());
    assert_eq!(run.end().code, 0);
}

/// Texts of equally many tokens, with nothing in common at their beginnings.
fn texts(n: usize) -> Vec<Value> {
    (0..n).map(|i| json!({"text": format!("{i:05}{}", "abcdefgh".repeat(45))})).collect()
}

#[test]
fn while_texts_are_embedded_and_the_next_run_embeds_what_is_missing() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let lens = Lens::new();
        lens.rows("texts.jsonl", &texts(1000));
        let before = names_before(&lens);
        let words = "embed texts.jsonl --model tiny.gguf -o store.safetensors --json";
        let mut run = lens.start(&format!("{words} --set batch_tokens=1000"));
        run.until("the first vectors are kept", || lens.cached_bytes() > 0);
        run.signal(signal);
        let said = run.end();
        if signal == Signal::KILL {
            assert_eq!((said.code, lens.names("")), (128 + 9, before));
        } else {
            left_as_it_was(&lens, &before, &said);
        }

        let kept = lens.cached_bytes();
        let again = lens.ok(words).json();
        let (tokens, computed) =
            (again["tokens"].as_u64().unwrap(), again["computed"].as_u64().unwrap());
        assert!(0 < computed && computed < tokens, "{signal:?}: {again}");
        // All records have one size, and the file's header is smaller than the number of them.
        let record = lens.cached_bytes() / 1000;
        let missing = 1000 - kept / record;
        assert_eq!(computed, missing * (tokens / 1000), "{signal:?}");
        assert!(lens.path("store.safetensors").exists());
        assert_eq!(lens.ok(words).json()["computed"], 0);
    }
}

#[test]
fn while_an_evaluation_embeds() {
    let lens = Lens::with_reward_model();
    let long = |r: &mut Value| r["prompt"] = format!("{} {}", r["prompt"], "ab".repeat(200)).into();
    let mut rows = pairs(100..2100);
    rows.iter_mut().for_each(long);
    lens.rows("many.jsonl", &rows);
    let before = names_before(&lens);
    for command in ["eval", "score"] {
        let kept = lens.cached_bytes();
        let mut run = lens.start(&format!("{command} rm many.jsonl --json --set batch_tokens=500"));
        run.until("more vectors are kept", || lens.cached_bytes() > kept);
        run.interrupt();
        left_as_it_was(&lens, &before, &run.end());
    }
}

#[test]
fn while_the_head_is_trained() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    let before = names_before(&lens);
    let endless = "--set head.epochs=100000000 --set head.patience=100000000";
    let mut run = lens.start(&format!("run pairs.jsonl --model tiny.gguf -o rm {endless}"));
    run.until_said("train head: ");
    run.interrupt();
    left_as_it_was(&lens, &before, &run.end());
    // The embeddings of the interrupted run serve the next one.
    let run = lens.ok("run pairs.jsonl --model tiny.gguf --views fixed -o rm --json").json();
    assert_eq!(run["stages"][0]["computed"], 0);
}

#[test]
fn while_the_vae_is_trained() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok("run pairs.jsonl --model tiny.gguf -o rm");
    let (before, old) = (names_before(&lens), lens.files("rm"));
    let endless = "--set vae.epochs=100000000";
    let words = format!("run pairs.jsonl --model tiny.gguf -o rm --overwrite {endless}");
    let mut run = lens.start(&words);
    run.until_said("train VAE: ");
    run.interrupt();
    left_as_it_was(&lens, &before, &run.end());
    assert_eq!(lens.files("rm"), old, "the old reward model stays");
}

#[test]
fn while_splits_are_trained() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok("embed pairs.jsonl --model tiny.gguf -o store.safetensors");
    let before = names_before(&lens);
    let mut run = lens.start("train store.safetensors --set vae.epochs=100000000 -o rm");
    run.until_said("training on 5 splits");
    run.interrupt();
    left_as_it_was(&lens, &before, &run.end());
}

/// Saving is over too soon to be waited for; so the signal comes at many moments of a run, and what
/// holds at each is that the reward model is whole or absent.
#[test]
fn at_any_moment_the_reward_model_is_whole_or_absent() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    let before = names_before(&lens);
    let words = "run pairs.jsonl --model tiny.gguf -o rm --set head.hidden=[256] --json";
    lens.ok(words);
    let complete = lens.files("rm");
    let start = std::time::Instant::now();
    lens.ok(&format!("{words} --overwrite"));
    let whole = start.elapsed();
    let mut stopped = 0;
    for hundredth in (15..110).step_by(5) {
        if lens.path("rm").exists() {
            std::fs::remove_dir_all(lens.path("rm")).unwrap();
        }
        let run = lens.start(words);
        std::thread::sleep(whole * hundredth / 100);
        run.interrupt();
        let said = run.end();
        match said.code {
            0 => assert!(lens.files("rm") == complete, "at {hundredth}% of the time"),
            // Before the program listens, Ctrl-C ends it without a word, as it does any other.
            130 if said.err.is_empty() => assert_eq!(lens.names(""), before),
            130 => {
                left_as_it_was(&lens, &before, &said);
                stopped += 1;
            }
            code => panic!("exit code {code}: {}", said.err),
        }
        no_leftovers(&lens);
    }
    assert!(stopped > 0);
    lens.ok(&format!("{words} --overwrite"));
    assert!(lens.files("rm") == complete);
}

#[test]
fn while_a_model_is_fetched() {
    let lens = Lens::new();
    // A pip that takes for ever.
    lens.write("slow-python", "#!/bin/sh\ntouch \"$HOME/.cache/asked\"\nexec sleep 600\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(lens.path("slow-python"), executable).unwrap();
    let before = names_before(&lens);
    let mut command = lens.command("pull gemma-3-270m");
    command.env("LENS_PYTHON", lens.path("slow-python"));
    let mut run = Running::start(command);
    run.until("pip is asked", || lens.path(".cache/asked").exists());
    run.interrupt();
    left_as_it_was(&lens, &before, &run.end());
    assert_eq!(names(&lens.path(".cache/lens/models")), [""; 0]);
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let lens = Lens::new();
    let before = names_before(&lens);
    let mut run = lens.start("run /dev/stdin --model tiny.gguf -o rm");
    // A row that does not end, longer than a pipe holds: the reading has begun, and there is no
    // safe point to stop at before the row is whole.
    assert!(run.feed(&format!("{{\"prompt\": \"{}", "x".repeat(1 << 20))));
    run.interrupt();
    run.until_said("stopping at the next safe point");
    run.interrupt();
    let said = run.end();
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(!said.err.contains("stopped:"), "{}", said.err);
    assert_eq!(lens.names(""), before);
}
