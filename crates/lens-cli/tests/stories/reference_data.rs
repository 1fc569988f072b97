//! Accuracy on stored embeddings: on made-up ones whose best accuracy is known, and on those of
//! real human preferences, where `LENS_SHARED` names a folder that has them (docs/testing.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use crate::common::{Lens, safetensors};
use serde_json::Value;
use test_needs::needs;

/// `lens train` with 1,000 seed pairs, on five splits and without augmentation.
fn trained(lens: &Lens, words: &str) -> f64 {
    let words = format!("train {words} --seed-pairs 1000 --splits 5 --augment 1 --json --quiet");
    let result: Value = lens.ok(&words).json();
    assert!(result["augmented"].is_null());
    let accuracy = result["none"]["accuracy"].as_f64().unwrap();
    println!("accuracy without augmentation: {accuracy:.4}");
    accuracy
}

/// Sums of twelve uniform draws, which are near to standard normal; the same every time.
fn normal() -> impl FnMut() -> f32 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}

/// 1,500 pairs of width 64, whose sides are standard normal and differ in their mean along one
/// direction, by so much that no reward model can be right in more than about three of four. Of
/// 1,000 labels most of that is learnt.
#[test]
fn the_head_comes_near_to_the_best_accuracy_that_there_is() {
    const PAIRS: usize = 1500;
    const DIM: usize = 64;
    let mut normal = normal();
    let mut direction: Vec<f32> = (0..DIM).map(|_| normal()).collect();
    let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
    direction.iter_mut().for_each(|x| *x /= length);
    let mut side = |shift: f32| -> Vec<f32> {
        (0..PAIRS * DIM).map(|i| normal() + shift * direction[i % DIM]).collect()
    };
    let (chosen, rejected) = (side(0.5), side(-0.5));
    // The best reward is the share of the embedding along the direction.
    let reward = |row: &[f32]| row.iter().zip(&direction).map(|(x, d)| x * d).sum::<f32>();
    let rows = chosen.chunks_exact(DIM).zip(rejected.chunks_exact(DIM));
    let right = rows.filter(|(a, b)| reward(a) > reward(b)).count();
    let best = right as f64 / PAIRS as f64;
    assert!((0.72..0.80).contains(&best), "{best}");

    let lens = Lens::new();
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [PAIRS, DIM], &chosen), ("rejected", [PAIRS, DIM], &rejected)];
    lens.write("made.safetensors", safetensors(&arrays));
    for head in ["", "--set head.kind=logistic"] {
        let accuracy = trained(&lens, &format!("made.safetensors {head}"));
        assert!(accuracy > best - 0.04 && accuracy < best + 0.01, "{head}: {accuracy} of {best}");
    }
}

/// 1,000 seed pairs of HH-RLHF harmless, ready-made Gemma 3 270M states, 5 splits: the head must
/// reach what a well-tuned one does (0.636 to 0.645), and without augmentation takes no VAE.
#[needs(LENS_SHARED)]
#[test]
fn the_head_reaches_the_reference_accuracy_on_hh_harmless() {
    let folder =
        std::env::var_os("LENS_SHARED").expect("LENS_SHARED names a folder of public data");
    let name = "data/embeddings/hh-harmless-test.gemma-3-270m.safetensors";
    let file = PathBuf::from(folder).join(name);
    assert!(file.exists(), "{} is missing: docs/testing.md says how it was made", file.display());
    let file = file.canonicalize().unwrap();
    let keys = "--chosen-key chosen_last --rejected-key rejected_last";
    let accuracy = trained(&Lens::new(), &format!("{} {keys}", file.display()));
    assert!(accuracy >= 0.635, "{accuracy}");
}
