//! Settings, studies, and the log of a study.

use crate::scratch::{files, in_file};
use lens_core::Quiet;
use lens_eval::EvalError;
use lens_eval::study::StudyFile;
use lens_eval::study::plan::{Plan, base_settings};
use lens_eval::study::store::{Identity, Store};
use std::sync::LazyLock;

/// Pairs of the pool that studies are planned for.
const POOL: usize = 100;
/// Cells of a plan that are looked at one by one.
const CELLS: usize = 2000;

/// A settings file and entries of `--set`: `=== file` and `=== set`.
pub fn settings(bytes: &[u8]) {
    let parts = files(bytes);
    let text = |name: &str| {
        let found = parts.iter().find(|(part, _)| *part == name);
        found.and_then(|(_, content)| std::str::from_utf8(content).ok()).unwrap_or_default()
    };
    let set: Vec<&str> = text("set").lines().collect();
    let resolve = |file: &str, set: &[&str]| {
        in_file("lens.toml", file.as_bytes(), |path| lens_cli::testing::settings_of_run(path, set))
    };
    if let Ok(shown) = resolve(text("file"), &set) {
        assert_eq!(resolve(&shown, &[]).as_ref(), Ok(&shown), "settings that were shown");
    }
}

/// A study file, to its plan.
pub fn study(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(plan) = planned(text) else { return };
    let written = plan.to_toml().expect("a plan can be written");
    let again = planned(&written).expect("what a plan wrote is a study");
    assert_eq!(plan.len(), again.len());
    if plan.len() > CELLS {
        return;
    }
    for encoder in 0..plan.encoders.len() {
        for seeds in 0..plan.seeds.len() {
            for split in 0..plan.file.splits {
                let cells = plan.cells(encoder, seeds, split);
                let others = again.cells(encoder, seeds, split);
                let keys = cells.iter().map(|cell| &cell.key);
                assert!(keys.eq(others.iter().map(|cell| &cell.key)));
            }
        }
    }
    plan.families();
}

fn planned(text: &str) -> Result<Plan, EvalError> {
    let file = StudyFile::parse(text, "study.toml")?;
    let encoders = file.encoder_axis(|_| Ok::<_, EvalError>(12))?;
    Plan::new(&file, &base_settings(&file)?, encoders, POOL)
}

/// The study whose log is read.
static PLAN: LazyLock<Plan> = LazyLock::new(|| planned("splits = 2").expect("it is a study"));

/// The log of a study that was interrupted.
pub fn study_log(bytes: &[u8]) {
    in_file("runs.jsonl", bytes, |path| {
        let plan = PLAN.to_toml().expect("a plan can be written");
        std::fs::write(path.with_file_name("study.toml"), plan).expect("the study can be written");
        let Some(Ok(store)) = path.parent().map(|folder| Store::claim(folder, false)) else {
            return;
        };
        let identity = Identity { data: vec![(String::new(), "0".to_owned())] };
        let _ = store.begin(&PLAN, &identity, &Quiet);
    });
}
