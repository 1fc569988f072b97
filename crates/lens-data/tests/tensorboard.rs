//! The event files, read by TensorBoard itself (Python package `tensorboard`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_data::CurveLog;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Every scalar of a folder: tag -> [[step, value], ..], as TensorBoard's own reader has it.
const SCRIPT: &str = "
import json, math, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
shown = lambda v: v if math.isfinite(v) else str(v)
read = lambda tag: [[e.step, shown(e.value)] for e in events.Scalars(tag)]
print(json.dumps({tag: read(tag) for tag in events.Tags()['scalars']}))
";

fn python() -> Option<String> {
    if std::env::var("LENS_MODEL_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: set LENS_MODEL_TESTS=1 to read event files with TensorBoard");
        return None;
    }
    let python = std::env::var("LENS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {python} has no package tensorboard (LENS_PYTHON names another)");
        return None;
    }
    Some(python)
}

fn shown(python: &str, folder: &Path) -> Value {
    let said = Command::new(python).args(["-c", SCRIPT]).arg(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{errors}");
    // A damaged record is only logged there, and ends the reading.
    assert!(!errors.contains("DataLossError") && !errors.contains("orrupt"), "{errors}");
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn tensorboard_shows_every_epoch_as_it_comes() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut log = CurveLog::create(dir, false).unwrap();
    log.write("", "vae", 1, &[("kl", 0.5), ("w2", 2.0)]).unwrap();
    // The log is still open.
    assert_eq!(shown(&python, dir), json!({"vae/kl": [[1, 0.5]], "vae/w2": [[1, 2.0]]}));
    log.write("", "vae", 2, &[("kl", f64::NAN), ("w2", -1.25)]).unwrap();
    log.write("", "augmented head", 1, &[("fold log loss", 0.1)]).unwrap();
    let read = shown(&python, dir);
    assert_eq!(read["vae/kl"], json!([[1, 0.5], [2, "nan"]]));
    assert_eq!(read["vae/w2"], json!([[1, 2.0], [2, -1.25]]));
    assert_eq!(read["augmented_head/fold_log_loss"], json!([[1, f64::from(0.1_f32)]]));
    assert_eq!(read.as_object().unwrap().len(), 3);
}

#[test]
fn tensorboard_shows_splits_apart_and_of_a_repeated_training_the_newest() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut log = CurveLog::create(dir, false).unwrap();
    for epoch in 1..=200 {
        log.write("split-1", "head", epoch, &[("loss", epoch as f64)]).unwrap();
        log.write("split-2", "head", epoch, &[("loss", -(epoch as f64))]).unwrap();
    }
    let line =
        |sign: f64| -> Vec<Value> { (1..=200).map(|e: u64| json!([e, sign * e as f64])).collect() };
    assert_eq!(shown(&python, &dir.join("split-1")), json!({"head/loss": line(1.0)}));
    assert_eq!(shown(&python, &dir.join("split-2")), json!({"head/loss": line(-1.0)}));

    let mut again = CurveLog::create(dir, true).unwrap();
    again.write("split-1", "head", 1, &[("loss", 7.0)]).unwrap();
    assert_eq!(shown(&python, &dir.join("split-1")), json!({"head/loss": [[1, 7.0]]}));
}
