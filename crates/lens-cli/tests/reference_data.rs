//! Accuracy on real human preferences, where the reference data is at hand (`LENS_SHARED`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

fn shared() -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("LENS_SHARED").map_or(default, PathBuf::from)
}

/// 1,000 seed pairs of HH-RLHF harmless, ready-made Gemma 3 270M states, 5 splits: the head must
/// reach what a well-tuned one does (0.636 to 0.645), and without augmentation takes no VAE.
#[test]
fn the_head_reaches_the_reference_accuracy_on_hh_harmless() {
    let file = shared().join("data/embeddings/hh-harmless-test.gemma-3-270m.safetensors");
    if !file.exists() {
        eprintln!("skipped: {} is not there (set LENS_SHARED)", file.display());
        return;
    }
    let done = Command::new(env!("CARGO_BIN_EXE_lens"))
        .arg("train")
        .arg(&file)
        .args(["--chosen-key", "chosen_last", "--rejected-key", "rejected_last"])
        .args(["--seed-pairs", "1000", "--splits", "5", "--augment", "1", "--json"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let result: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let accuracy = result["none"]["accuracy"].as_f64().unwrap();
    println!("accuracy without augmentation: {accuracy:.4}");
    assert!(accuracy >= 0.635, "{accuracy}");
    assert!(result["augmented"].is_null());
}
