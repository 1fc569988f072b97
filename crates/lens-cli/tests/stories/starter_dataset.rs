//! The starter dataset is what its data card says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_data::{ReadOptions, read_pairs, shared_prompts, vet};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets/starter")
}

fn python() -> Command {
    Command::new(std::env::var("LENS_PYTHON").unwrap_or_else(|_| "python3".into()))
}

#[test]
fn it_has_400_seed_and_200_held_out_pairs_with_no_prompt_shared_and_nothing_to_leave_out() {
    let read = |name: &str| vet(read_pairs(folder().join(name), &ReadOptions::default()).unwrap());
    let (train, heldout) = (read("train.jsonl"), read("heldout.jsonl"));
    for (set, pairs) in [(&train, 400), (&heldout, 200)] {
        assert_eq!((set.report.read, set.used.len()), (pairs, pairs), "{:?}", set.report.left_out);
        let mut subjects: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &set.used {
            *subjects.entry(row.metadata["subject"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(subjects.len(), 8);
        assert!(subjects.values().all(|&n| n == pairs / 8), "{subjects:?}");
    }
    assert_eq!(shared_prompts(&train, &heldout), []);
}

#[test]
fn no_shallow_cue_predicts_its_labels() {
    let audit = python()
        .arg(folder().join("audit.py"))
        .args(["--limit", "0.58"])
        .args([folder().join("train.jsonl"), folder().join("heldout.jsonl")])
        .output()
        .expect("python3 runs the audit");
    let report = String::from_utf8_lossy(&audit.stdout);
    assert!(audit.status.success(), "{report}{}", String::from_utf8_lossy(&audit.stderr));
    assert!(report.contains("600 pairs, 600 prompts"), "{report}");
}

/// The audit itself must be able to fail: here the better answer is always the longer one.
#[test]
fn the_audit_finds_a_cue_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let row = |i: usize| {
        format!(
            "{{\"prompt\": \"p{i}\", \"subject\": \"s\", \"chosen\": \"a longer answer {i}\", \
             \"rejected\": \"short {i}\"}}\n"
        )
    };
    std::fs::write(&file, (0..50).map(row).collect::<String>()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets/starter/audit.py");
    let audit = python().arg(script).arg(&file).output().expect("python3 runs the audit");
    assert_eq!(audit.status.code(), Some(1));
    let report = String::from_utf8_lossy(&audit.stdout);
    assert!(report.contains("FAIL length: characters alone predicts the label"), "{report}");
}
