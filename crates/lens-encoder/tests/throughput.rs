//! How fast preference pairs of the starter dataset are embedded, and that it matters to no vector
//! what else is in its batch. Prints figures; runs with `LENS_MODEL_TESTS=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Instant;

use lens_core::{Content, Exchange, PreferencePair, Quiet};
use lens_encoder::{Encoder, EncoderOptions};
use test_needs::needs;

fn pairs(n: usize) -> Vec<Exchange> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/starter/train.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .take(n)
        .map(|line| serde_json::from_str::<PreferencePair>(line).unwrap())
        .flat_map(|pair| [pair.chosen_exchange(), pair.rejected_exchange()])
        .collect()
}

/// Peak of this process's memory in MB, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn sixty_pairs() {
    let model = common::model();
    let all = pairs(60);
    let dir = tempfile::tempdir().unwrap();
    let options = EncoderOptions { cache_dir: Some(dir.path().into()), ..Default::default() };
    let start = Instant::now();
    let encoder = Encoder::open(&model, &options).unwrap();
    println!("open {:.2} s; {:?}", start.elapsed().as_secs_f64(), encoder.memory_estimate());
    let start = Instant::now();
    encoder.token_ids("warm").unwrap();
    println!("load {:.2} s", start.elapsed().as_secs_f64());
    let together = encoder.encode_exchanges(&all, &Quiet).unwrap();
    let s = encoder.stats();
    println!("{s:?}");
    println!(
        "{:.0} tokens/s of all, {:.0} computed tokens/s; forward pass alone {:.0}; peak {:?} MB",
        s.tokens as f64 / s.seconds,
        s.computed as f64 / s.seconds,
        s.computed as f64 / s.forward_seconds,
        peak_mb(),
    );
    let start = Instant::now();
    let again = Encoder::open(&model, &options).unwrap();
    again.encode_exchanges(&all, &Quiet).unwrap();
    println!("second run {:.3} s", start.elapsed().as_secs_f64());
    assert_eq!(again.stats().computed, 0);

    let alone = EncoderOptions { share_prefixes: false, batch_tokens: 1, ..Default::default() };
    let alone = Encoder::open(&model, &alone).unwrap();
    let mut worst = 0.0f32;
    for i in (0..all.len()).step_by(9) {
        let one = &alone.encode_exchanges(&all[i..=i], &Quiet).unwrap()[0];
        let size = one.vector.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let pairs = one.vector.iter().zip(together[i].vector.iter());
        worst = worst.max(pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / size);
    }
    println!("alone against together: worst relative difference {worst:.1e}");
    assert!(worst < 1e-5);
    let long: String = all.iter().flat_map(|e| [&e.prompt, &e.response]).map(text).collect();
    let before = alone.stats();
    alone.encode_texts(&[long], &Quiet).unwrap();
    let after = alone.stats();
    let (tokens, seconds) =
        (after.computed - before.computed, after.forward_seconds - before.forward_seconds);
    println!("one text of {tokens} tokens: {:.0} tokens/s", tokens as f64 / seconds);
}

fn text(content: &Content) -> &str {
    match content {
        Content::Text(text) => text,
        Content::Messages(_) => "",
    }
}
