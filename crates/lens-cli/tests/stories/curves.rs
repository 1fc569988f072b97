//! The story of somebody who watches training: `--log-dir`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, cloud, pairs, safetensors};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const TRAIN: &str = "train a.safetensors --seed-pairs 60 --splits 2 --augment 2 \
                     --set vae.epochs=3 --set head.epochs=4";

fn with_arrays() -> Lens {
    let lens = Lens::new();
    let (good, bad) = (cloud(90, 6, 0.2), cloud(90, 6, -0.2));
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [90, 6], &good), ("rejected", [90, 6], &bad)];
    lens.write("a.safetensors", safetensors(&arrays));
    lens
}

/// Every curve of a folder, by run (empty where there is none) and stage. Epochs must count from 1.
fn curves(lens: &Lens, folder: &str) -> BTreeMap<(String, String), Vec<Value>> {
    let mut curves: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for line in lens.read(&format!("{folder}/curves.jsonl")).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let curve = curves.entry((text("run"), text("stage"))).or_default();
        curve.push(line["values"].clone());
        assert_eq!(line["epoch"], curve.len() as u64, "{line}");
    }
    curves
}

fn event_files(lens: &Lens, folder: &str) -> usize {
    let events = |name: &&String| name.starts_with("events.out.tfevents.");
    lens.names(folder).iter().filter(events).count()
}

#[test]
fn every_epoch_of_every_split_and_of_the_reward_model_is_logged() {
    let lens = with_arrays();
    // The folder above is made as well, and --quiet is about standard error only.
    let words = format!("{TRAIN} -o rm --log-dir logs/first --quiet --json");
    let with = lens.ok(&words);
    assert_eq!(with.err, "");
    let curves = curves(&lens, "logs/first");
    let runs: BTreeSet<&str> = curves.keys().map(|(run, _)| run.as_str()).collect();
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in runs {
        for (stage, epochs, value) in
            [("vae", 3, "kl"), ("head", 4, "fold_log_loss"), ("augmented head", 4, "loss")]
        {
            let curve = &curves[&(run.to_owned(), stage.to_owned())];
            assert_eq!(curve.len(), epochs, "{run} {stage}");
            assert!(curve.iter().all(|values| values[value].as_f64().is_some()), "{curve:?}");
        }
        assert!(run.is_empty() || run.starts_with("split-"), "{run}");
        assert_eq!(event_files(&lens, &format!("logs/first/{run}")), 1);
    }
    // Those without a run are the curves that the reward model holds.
    let stages: Vec<Value> =
        lens.read("rm/curves.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = stages.iter().rfind(|l| l["stage"] == "head").unwrap();
    let logged = curves[&(String::new(), "head".to_owned())].last().unwrap();
    assert_eq!(last["values"]["fold_log_loss"], logged["fold_log_loss"]);

    // Watching changes no byte of the result.
    let without = lens.ok(&format!("{TRAIN} -o rm2 --quiet --json"));
    assert_eq!(with.json()["by_split"], without.json()["by_split"]);
    assert_eq!(lens.files("rm"), lens.files("rm2"));
}

#[test]
fn the_main_job_logs_its_training_too() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..40));
    lens.write("lens.toml", "log_dir = \"logs\"\n");
    lens.ok("run pairs.jsonl --model tiny.gguf --augment 1 --config lens.toml");
    let curves = curves(&lens, "logs");
    let stages: Vec<&(String, String)> = curves.keys().collect();
    assert_eq!(stages, [&(String::new(), "head".to_owned())]);
    assert_eq!(event_files(&lens, "logs"), 1);
    assert!(!lens.read("reward-model/report.md").contains("log_dir"));
}

#[test]
fn curves_of_an_earlier_training_are_not_mixed_with_new_ones() {
    let lens = with_arrays();
    lens.ok(&format!("{TRAIN} --log-dir logs"));
    let before = lens.read("logs/curves.jsonl");
    assert!(!before.is_empty());
    let error = lens.fails(1, &format!("{TRAIN} --log-dir logs"));
    assert!(error.contains("logs/curves.jsonl: holds the curves of an earlier"), "{error}");
    assert!(error.contains("--log-dir") && error.contains("--overwrite"), "{error}");
    assert_eq!(lens.read("logs/curves.jsonl"), before);

    lens.ok(&format!("{TRAIN} --log-dir logs --overwrite --set splits=1"));
    let curves = curves(&lens, "logs");
    assert_eq!(curves.len(), 3, "{:?}", curves.keys());
    let run = &curves.keys().next().unwrap().0;
    assert_eq!(event_files(&lens, &format!("logs/{run}")), 2);
}

#[test]
fn a_place_that_cannot_take_curves_is_refused_before_the_work() {
    let lens = with_arrays();
    lens.write("file", "x");
    let error = lens.fails(1, &format!("{TRAIN} --log-dir file"));
    assert!(error.contains("file: is not a folder"), "{error}");
    // The bundle appears as a whole: it would not go over a folder of logs, or swallow it.
    for dir in ["rm", "rm/logs", "./x/../rm"] {
        let error = lens.fails(2, &format!("{TRAIN} -o rm --log-dir {dir}"));
        assert!(
            error.contains("log_dir: must not be in the folder of the reward model"),
            "{error}"
        );
    }
    assert!(!lens.path("rm").exists());
    lens.ok(&format!("{TRAIN} -o rm --quiet"));
    let before = lens.files("rm");
    let error = lens.fails(1, &format!("{TRAIN} --log-dir rm --overwrite"));
    assert!(error.contains("rm: is a reward model, whose own curves"), "{error}");
    assert_eq!(lens.files("rm"), before);
    // A reward model within the folder of logs is nobody's trouble.
    std::fs::create_dir(lens.path("logs")).unwrap();
    lens.ok(&format!("{TRAIN} -o logs/rm --log-dir logs --overwrite"));
    assert!(lens.path("logs/rm/lens.json").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_the_curves_not_the_reward_model() {
    let lens = with_arrays();
    std::fs::create_dir(lens.path("logs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", lens.path("logs/curves.jsonl")).unwrap();
    for (quiet, said) in [("", 2), ("--quiet", 1)] {
        let words = format!("{TRAIN} -o rm --overwrite --log-dir logs --json {quiet}");
        let full = lens.run(&words);
        assert_eq!(full.code, 1, "{}", full.err);
        // Once when it happens, once at the end.
        let times = full.err.matches("logs/curves.jsonl: no space left on the disk").count();
        assert_eq!(times, said, "{}", full.err);
        assert!(full.err.contains("error: training curves are not complete"), "{}", full.err);
        assert!(full.json()["none"]["accuracy"].as_f64().is_some());
        lens.ok("score rm a.safetensors --key chosen --quiet");
    }
}
